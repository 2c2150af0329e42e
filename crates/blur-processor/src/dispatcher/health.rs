//! How the places are that tickets depend on: what is wrong with them now, what is told of it, and how long tickets wait.
//!
//! A fault is told once, when it begins, and stands in the alarm until it is over. Nothing here touches a ticket; what becomes
//! of one is for [`super::ticket`].

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ticket_queue::beneath::RawDir;
use ticket_queue::publish::Publisher;
use ticket_queue::{DirectoryQueue, Error, Failure, Queue as _};
use tracing::{error, info};

use super::original::chain;

/// What is wrong with a place now, if anything is.
#[derive(Debug)]
struct Fault<T = String>(Mutex<Option<T>>);

impl<T> Default for Fault<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Fault<T> {
    fn get(&self) -> Option<T> {
        self.lock().clone()
    }

    /// Notes what is wrong now, and returns what was before.
    fn set(&self, now: Option<T>) -> Option<T> {
        std::mem::replace(&mut self.lock(), now)
    }

    /// Notes what is wrong unless something was before, which stays, or each ticket that waits would be news. True if it is
    /// new.
    fn begin(&self, now: T) -> bool {
        let mut noted = self.lock();
        let is_new = noted.is_none();
        noted.get_or_insert(now);
        is_new
    }

    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An original that is not there, and nothing else either.
#[derive(Clone, Debug)]
struct Missed {
    /// As its ticket calls it.
    filepath: String,
    since: Instant,
}

/// What is wrong with the places now.
#[derive(Debug)]
pub(super) struct Health {
    /// Why nothing can be written to the output directory, while that is so.
    trouble: Fault,
    /// Why the originals of published videos stay, while that is so.
    leftover: Fault,
    /// The first original that was missed, while its disk may not be mounted.
    unmounted: Fault<Missed>,
    /// How long such tickets wait.
    mount_patience: Duration,
    /// Why originals cannot be read, while their disk fails.
    unreadable: Fault,
}

impl Health {
    /// Nothing is wrong yet. Tickets wait for so long for a disk of originals that is not mounted.
    pub(super) fn new(mount_patience: Duration) -> Self {
        Self {
            trouble: Fault::default(),
            leftover: Fault::default(),
            unmounted: Fault::default(),
            mount_patience,
            unreadable: Fault::default(),
        }
    }

    /// Whether outputs can be written; tried only after that has failed.
    pub(super) fn is_writable(&self, publisher: &Publisher) -> bool {
        if self.trouble.get().is_none() {
            return true;
        }
        let is_well = publisher.try_output().is_ok();
        if is_well && self.trouble.set(None).is_some() {
            info!("outputs can be written again; going on");
        }
        is_well
    }

    /// After a fault of a place: if it is the output directory's, says so once.
    pub(super) fn look_for_trouble(&self, publisher: &Publisher) {
        let Err(error) = publisher.try_output() else {
            return;
        };
        let trouble = format!("no output can be written, tickets wait: {}", chain(&error));
        if self.trouble.set(Some(trouble.clone())).is_none() {
            error!(
                reason = trouble,
                "put the disk or the permissions of output_dir right; no attempt is counted"
            );
        }
    }

    /// Why no output can be written, originals are not found, cannot be read, or stay though their videos are published: for
    /// whoever looks after the machine.
    pub(super) fn alarm(&self, queue: &DirectoryQueue, raw: &RawDir) -> Option<String> {
        (self.trouble.get())
            .or_else(|| self.no_originals(queue, raw))
            .or_else(|| self.unreadable.get())
            .or_else(|| self.leftover.get())
    }

    /// Whether there may be originals: not where the whole raw directory is as bare as when one was last missed.
    pub(super) fn has_originals(&self, raw: &RawDir) -> bool {
        self.unmounted.get().is_none() || !raw.is_all_bare() || self.has_waited_enough()
    }

    /// Which originals are not there, while that is so and a ticket wants them.
    fn no_originals(&self, queue: &DirectoryQueue, raw: &RawDir) -> Option<String> {
        let Missed { filepath, .. } = self.unmounted.get()?;
        let waiting = queue.stats().ok();
        let is_wanted = waiting.is_none_or(|stats| stats.ready + stats.active + stats.deferred > 0);
        if !is_wanted || !raw.is_bare_at(&filepath) {
            info!(filepath, "originals are looked for again");
            self.unmounted.set(None);
            return None;
        }
        Some(unmounted_text(&filepath, queue, raw))
    }

    /// Notes that an original is missed, whose ticket waits for its disk.
    pub(super) fn unmounted(
        &self,
        filepath: &str,
        queue: &DirectoryQueue,
        raw: &RawDir,
    ) -> Failure {
        let reason = unmounted_text(filepath, queue, raw);
        let missed = Missed {
            filepath: filepath.to_owned(),
            since: Instant::now(),
        };
        if self.unmounted.begin(missed) {
            error!(reason, "no attempt is counted");
        }
        Failure::NotNow { reason }
    }

    /// Whether the disk that tickets wait for had its time to come back.
    pub(super) fn has_waited_enough(&self) -> bool {
        let waited = |missed: Missed| missed.since.elapsed() >= self.mount_patience;
        self.mount_patience.is_zero() || self.unmounted.get().is_some_and(waited)
    }

    /// Notes that the disk of originals gives nothing; the ticket that met it waits.
    pub(super) fn unreadable(&self, reason: String, raw: &RawDir) -> Failure {
        let alarm = format!(
            "originals cannot be read, their tickets wait: {reason}; see to the disk of {}",
            raw.path().display()
        );
        if self.unreadable.begin(alarm.clone()) {
            error!(reason = alarm, "no attempt is counted");
        }
        Failure::NotNow { reason }
    }

    /// Notes that an original could be read.
    pub(super) fn readable(&self) {
        self.unreadable.set(None);
    }

    /// Notes why the original of a published video stays, if that is the fault of a place.
    pub(super) fn left(&self, error: &Error) {
        if error.is_of_place() {
            self.leftover.set(Some(format!(
                "videos are published, but their originals cannot be removed or backed up: {}",
                chain(error)
            )));
        }
    }

    /// Notes that the original of a published video was dealt with.
    pub(super) fn dealt_with(&self) {
        self.leftover.set(None);
    }

    /// Whether the alarm tells of originals that tickets wait for.
    pub(super) fn lacks_originals(&self) -> bool {
        self.unmounted.get().is_some() || self.unreadable.get().is_some()
    }
}

fn unmounted_text(filepath: &str, queue: &DirectoryQueue, raw: &RawDir) -> String {
    format!(
        "originals are not there, their tickets wait: nothing lies where {filepath} should, in {}; mount its disk, or, \
         if these recordings are gone for good, remove their tickets from {}/deferred; after an hour they are held back, and \
         `blur-processor retry --all` brings them back",
        raw.path().display(),
        queue.path().display()
    )
}
