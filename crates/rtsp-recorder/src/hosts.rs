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

#[cfg(test)]
mod tests {
    use super::*;
    use settings::{Environment, RecorderSettings};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_host_is_asked_a_few_times_at_once_and_others_do_not_wait_for_it() {
        let hosts = Hosts::default();
        let camera = |host: &str, number: usize| {
            let sources = serde_json::json!({"sources": [format!("rtsp://{host}/{number}")]});
            let settings = RecorderSettings::from_text(&sources.to_string(), &Environment::empty());
            settings.unwrap().sources.remove(0).url
        };
        let mut turns = Vec::new();
        for number in 0..AT_ONCE {
            turns.push(hosts.turn(&camera("recorder", number)).await.unwrap());
        }
        let next = camera("recorder", AT_ONCE);
        let wait = || tokio::time::timeout(Duration::from_secs(60), hosts.turn(&next));
        assert!(wait().await.is_err(), "too many at once");
        assert!(hosts.turn(&camera("other", 0)).await.is_some());
        turns.pop();
        assert!(wait().await.unwrap().is_some());
    }
}
