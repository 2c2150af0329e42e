//! How many connections are opened to one host at a time: video servers with many channels stumble over more.

use settings::SourceUrl;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Attempts under way at the same time, per host and port.
const AT_ONCE: usize = 4;

/// The attempts under way.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    by_host: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

impl Hosts {
    /// Waits until the host of that address may be connected to. Keep what is returned until the attempt is over.
    pub async fn turn(&self, url: &SourceUrl) -> Option<OwnedSemaphorePermit> {
        let (host, port) = url.endpoint()?;
        let semaphore = {
            let mut hosts = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
            hosts
                .entry(format!("{host}:{port}"))
                .or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE)))
                .clone()
        };
        semaphore.acquire_owned().await.ok()
    }
}
