//! What waits for one hook: a file for each notification, written durably, in the order of the events.

use super::notification::Notification;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use ticket_queue::durable;
use tokio::sync::Notify;

/// More than this does not wait; the oldest go.
const MOST: usize = 1_000;
const ENDING: &str = "json";

/// What waits for one hook.
pub(super) struct Outbox {
    hook: String,
    dir: PathBuf,
    waiting: Mutex<VecDeque<Waiting>>,
    news: Notify,
}

/// A notification, and the file it is kept in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Waiting {
    path: PathBuf,
    pub(super) notification: Notification,
}

impl Outbox {
    /// With what waits since before. What cannot be read is logged and left out.
    pub(super) fn open(dir: &Path, hook: &str) -> Self {
        let outbox = Self {
            hook: hook.to_owned(),
            dir: dir.to_owned(),
            waiting: Mutex::new(VecDeque::new()),
            news: Notify::new(),
        };
        if let Err(error) = durable::create_dir_all_durable(dir) {
            tracing::warn!(hook, %error, "notifications are kept in memory only");
        }
        outbox.all().extend(outbox.read());
        outbox.shorten();
        outbox
    }

    fn read(&self) -> Vec<Waiting> {
        let entries = std::fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        let mut found = Vec::new();
        for path in paths {
            // What a kill in the midst of writing left behind has another ending.
            let is_whole = path.extension().is_some_and(|ending| ending == ENDING);
            let read = || -> io::Result<Notification> {
                Ok(serde_json::from_slice(&std::fs::read(&path)?)?)
            };
            match is_whole.then(read) {
                Some(Ok(notification)) => found.push(Waiting { path, notification }),
                Some(Err(error)) => {
                    let file = path.display().to_string();
                    tracing::warn!(hook = self.hook, file, %error, "a notification cannot be read; it is dropped");
                    remove(&path);
                }
                None => remove(&path),
            }
        }
        found
    }

    /// Puts one in, durably if that can be; a full disk is no reason to tell nothing.
    pub(super) fn put(&self, notification: Notification) {
        let millisecond = notification.time.as_millisecond();
        let name = format!("{millisecond:015}_{}.{ENDING}", notification.id);
        let path = self.dir.join(name);
        let written = serde_json::to_vec_pretty(&notification)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                match durable::write_new_durable(&path, &path.with_extension("part"), &bytes) {
                    Err(error) if !error.is_already_there() => Err(error.to_string()),
                    _ => Ok(()),
                }
            });
        if let Err(error) = written {
            tracing::warn!(hook = self.hook, %error, "a notification is kept in memory only");
        }
        self.all().push_back(Waiting { path, notification });
        self.shorten();
        self.news.notify_one();
    }

    /// The oldest, as soon as there is one.
    pub(super) async fn oldest(&self) -> Waiting {
        loop {
            let oldest = self.all().front().cloned();
            match oldest {
                Some(waiting) => return waiting,
                None => self.news.notified().await,
            }
        }
    }

    /// Takes one out that is sent or given up.
    pub(super) fn remove(&self, waiting: &Waiting) {
        self.all().retain(|other| other.path != waiting.path);
        remove(&waiting.path);
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.all().len()
    }

    fn shorten(&self) {
        let mut dropped = 0_u64;
        let mut all = self.all();
        while all.len() > MOST
            && let Some(oldest) = all.pop_front()
        {
            remove(&oldest.path);
            dropped += 1;
        }
        drop(all);
        if dropped > 0 {
            tracing::warn!(
                hook = self.hook,
                dropped,
                "more than {MOST} notifications wait; the oldest are dropped"
            );
        }
    }

    fn all(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        // A list of what is on the disk is never half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes back after a power cut is sent twice, which its receiver can tell by the id.
fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        let file = path.display().to_string();
        tracing::warn!(file, %error, "a notification cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    fn told(second: i64) -> Notification {
        Notification::test(Timestamp::from_second(second).unwrap())
    }

    fn times(outbox: &Outbox) -> Vec<i64> {
        let all = outbox.all();
        all.iter()
            .map(|waiting| waiting.notification.time.as_second())
            .collect()
    }

    #[tokio::test]
    async fn what_waits_outlives_the_process_in_its_order() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path(), "a");
        for second in [5, 900, 77_000] {
            outbox.put(told(second));
        }
        let outbox = Outbox::open(dir.path(), "a");
        assert_eq!(times(&outbox), [5, 900, 77_000]);
        let first = outbox.oldest().await;
        assert_eq!(first.notification, told(5));
        outbox.remove(&first);
        assert_eq!(times(&Outbox::open(dir.path(), "a")), [900, 77_000]);
    }

    #[test]
    fn leftovers_and_garbage_are_no_notifications() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path(), "a");
        outbox.put(told(5));
        for name in ["000000000000001_x.json", ".000000000000009_x.json.0011"] {
            std::fs::write(dir.path().join(name), "{half").unwrap();
        }
        assert_eq!(times(&Outbox::open(dir.path(), "a")), [5]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_oldest_are_dropped_when_too_many_wait() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(dir.path(), "a");
        let most = i64::try_from(MOST).unwrap();
        for second in 0..most + 3 {
            outbox.put(told(second));
        }
        assert_eq!(outbox.len(), MOST);
        assert_eq!(times(&outbox)[0], 3);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), MOST);
    }

    #[tokio::test]
    async fn without_a_disk_they_are_kept_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let in_the_way = dir.path().join("file");
        std::fs::write(&in_the_way, "").unwrap();
        let outbox = Outbox::open(&in_the_way, "a");
        outbox.put(told(5));
        assert_eq!(outbox.oldest().await.notification, told(5));
    }
}
