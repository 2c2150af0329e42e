//! Keeps all videos within the disk budget and the age limit, by the rules of [`daemon::disk`], and removes old receipts.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use daemon::disk::{Budget, Deletes, DiskKeeper, Moment, Room, VideoDirs};
use settings::BlurSettings;
use ticket_queue::DirectoryQueue;
use tracing::{info, warn};

use super::original::chain;

/// How often the disk is looked at.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);
/// How often old receipts are looked for, which reads the whole queue.
pub(super) const PRUNE_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Receipts are kept at least this long.
const RECEIPT_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Looks after three directories and the receipts.
#[derive(Debug)]
pub(super) struct Janitor {
    raw: PathBuf,
    output: PathBuf,
    max_file_age: Duration,
    keeper: Mutex<DiskKeeper>,
}

impl Janitor {
    pub(super) fn new(settings: &BlurSettings) -> Self {
        let dirs = VideoDirs {
            raw: settings.raw_dir.clone(),
            published: settings.output_dir.clone(),
            backup: settings.backup_dir.clone(),
        };
        let budget = Budget {
            max_usage_bytes: settings.disk.max_usage_bytes,
            min_free_bytes: settings.disk.min_free_bytes,
            deletes: match settings.disk.cleanup_old_files {
                true => Deletes::All,
                false => Deletes::Nothing,
            },
            max_file_age: settings.disk.max_file_age,
        };
        Self {
            raw: settings.raw_dir.clone(),
            output: settings.output_dir.clone(),
            max_file_age: settings.disk.max_file_age,
            keeper: Mutex::new(DiskKeeper::new(dirs, budget)),
        }
    }

    /// Deletes what is too old or too much, oldest first; `None` when the disk cannot be asked.
    pub(super) fn tidy(&self, queue: &DirectoryQueue, now: Moment) -> Option<Room> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let looked = keeper.look(now, &mut |path| self.is_processed(queue, path));
        looked
            .inspect_err(|error| warn!(%error, "cannot tell how full the disk is"))
            .ok()
    }

    fn is_processed(&self, queue: &DirectoryQueue, path: &Path) -> bool {
        let Some(id) = path.strip_prefix(&self.raw).ok().and_then(Path::to_str) else {
            return false;
        };
        let Ok(meta) = path.metadata() else {
            return false;
        };
        queue.is_finished(id, meta.len()).unwrap_or_else(|error| {
            warn!(file = %path.display(), %error, "cannot tell whether a video is processed; it is kept");
            false
        })
    }

    /// Removes old receipts of videos of which nothing is left.
    pub(super) fn prune(&self, queue: &DirectoryQueue) {
        let nothing_left = |receipt: &ticket_queue::Receipt| {
            !self.raw.join(&receipt.input.path).exists()
                && !self.output.join(&receipt.output.path).exists()
        };
        let mut on_damaged = |error: ticket_queue::Error| {
            warn!(
                error = chain(&error),
                "a damaged receipt is left where it is"
            );
        };
        let age = RECEIPT_AGE.max(self.max_file_age);
        match queue.prune_receipts(age, &nothing_left, &mut on_damaged) {
            Ok(0) => {}
            Ok(receipts) => info!(receipts, "old receipts removed"),
            Err(error) => warn!(%error, "old receipts cannot be removed"),
        }
    }
}
