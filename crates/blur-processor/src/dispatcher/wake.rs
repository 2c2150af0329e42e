//! Wakes idle slots when a file comes into the queue directory. Only a hint: events get lost.

use std::sync::{Arc, Weak};

use notify::{RecursiveMode, Watcher as _};
use tracing::debug;

use super::Shared;

/// Watches as long as the answer lives; without a watcher polling does it alone.
pub(super) fn watch(shared: &Arc<Shared>) -> Option<notify::RecommendedWatcher> {
    let weak: Weak<Shared> = Arc::downgrade(shared);
    let ring = move |_event| {
        if let Some(shared) = weak.upgrade() {
            shared.wake.notify_waiters();
        }
    };
    let dir = &shared.settings.queue_dir;
    let watcher = notify::recommended_watcher(ring).and_then(|mut watcher| {
        watcher
            .watch(dir, RecursiveMode::NonRecursive)
            .map(|()| watcher)
    });
    watcher
        .inspect_err(|error| debug!(%error, "no file notifications; polling only"))
        .ok()
}
