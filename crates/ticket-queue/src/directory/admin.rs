//! For humans: counting, listing, putting back, and pruning receipts.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use super::enqueue::is_settled;
use super::lock::{Hold, Locked};
use super::{DirectoryQueue, READY};
use crate::durable;
use crate::error::Error;
use crate::names::Stem;
use crate::queue::{Entry, RetryWhich, State, Stats, Why};
use crate::receipt::Receipt;

/// States whose tickets carry an attempt in their names, and their directories.
const NUMBERED: [(State, &str); 3] = [
    (State::Active, "active"),
    (State::Deferred, "deferred"),
    (State::Failed, "failed"),
];
/// States whose tickets are called `<stem>.json`, and their directories.
const PLAIN: [(State, &str); 2] = [(State::Ready, READY), (State::Corrupt, "corrupt")];

/// How many receipts there were when `done/` had last changed.
#[derive(Debug)]
pub(super) struct ReceiptCount {
    changed: SystemTime,
    count: u64,
}

impl DirectoryQueue {
    /// Removes receipts older than `age` that `is_settled` agrees to, and whose tickets are gone.
    /// A receipt is what tells that an original was processed already, so `is_settled` should say
    /// no while the original still exists. Returns how many were removed. One that cannot be read is left where it is, and
    /// `on_damaged` is told why.
    ///
    /// # Errors
    /// The queue cannot be read or written.
    pub fn prune_receipts(
        &self,
        age: Duration,
        is_settled: &dyn Fn(&Receipt) -> bool,
        on_damaged: &mut dyn FnMut(Error),
    ) -> Result<u64, Error> {
        let live: HashSet<Stem> = self
            .live_stems()?
            .into_iter()
            .map(|(stem, _)| stem)
            .collect();
        let mut removed = 0;
        for (stem, path) in self.stems("done")? {
            let old = fs::symlink_metadata(&path)
                .and_then(|meta| meta.modified())
                .is_ok_and(|time| self.distance(time) > age);
            if !old || live.contains(&stem) {
                continue;
            }
            let receipt = self.read_receipt(&stem).unwrap_or_else(|error| {
                on_damaged(error);
                None
            });
            if receipt.is_some_and(|receipt| is_settled(&receipt)) {
                durable::remove_if_there(&path).map_err(Error::io("prune", &path))?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The tickets in `failed/` and `corrupt/`, by name only: for whoever looks again and again whether there are others.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub fn held_back(&self) -> Result<HashSet<Stem>, Error> {
        let failed = self.attempts("failed")?.into_iter();
        let corrupt = self.stems("corrupt")?.into_iter();
        let stems = failed.map(|(name, _)| name.stem);
        Ok(stems.chain(corrupt.map(|(stem, _)| stem)).collect())
    }

    /// The receipts of tickets that are still to be finished: their originals, which only go while the outputs are there, may
    /// not be dealt with yet. One that is damaged belongs to a ticket that is held back when it is met.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub fn unfinished(&self) -> Result<Vec<Receipt>, Error> {
        let mut stems: HashSet<Stem> = HashSet::new();
        // Tickets move while they are listed: from the first of these to the second and third, and back.
        for _ in 0..2 {
            stems.extend(self.stems(READY)?.into_iter().map(|(stem, _)| stem));
            for dir in ["active", "deferred"] {
                stems.extend(self.attempts(dir)?.into_iter().map(|(name, _)| name.stem));
            }
        }
        let mut receipts = Vec::new();
        for stem in &stems {
            match self.read_receipt(stem) {
                Ok(receipt) => receipts.extend(receipt),
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::InvalidData => {}
                Err(error) => return Err(error),
            }
        }
        Ok(receipts)
    }

    /// The tickets that have a receipt, by name only.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub fn finished(&self) -> Result<HashSet<Stem>, Error> {
        Ok(self
            .stems("done")?
            .into_iter()
            .map(|(stem, _)| stem)
            .collect())
    }

    /// When the receipt of a ticket was written; none when it has none.
    pub fn finished_at(&self, stem: &Stem) -> Option<SystemTime> {
        modified(&self.receipt_path(stem))
    }

    pub(super) fn count(&self) -> Result<Stats, Error> {
        let ready = self.stems(READY)?;
        let oldest = ready.iter().filter_map(|(_, path)| modified(path)).min();
        Ok(Stats {
            ready: ready.len() as u64,
            active: self.attempts("active")?.len() as u64,
            deferred: self.attempts("deferred")?.len() as u64,
            failed: self.attempts("failed")?.len() as u64,
            corrupt: self.stems("corrupt")?.len() as u64,
            done: self.count_receipts()?,
            oldest_age: oldest.map(|time| self.now().duration_since(time).unwrap_or_default()),
        })
    }

    /// There are as many as segments in a month, and whoever counts does so every few seconds: they are listed only when
    /// `done/` has changed.
    fn count_receipts(&self) -> Result<u64, Error> {
        let changed = self.dir_changed("done")?;
        let mut known = self.receipts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.as_ref().filter(|known| known.changed == changed) {
            return Ok(known.count);
        }
        let done = self.dir("done");
        let mut count = 0;
        for entry in fs::read_dir(&done).map_err(Error::io("list", &done))? {
            let name = entry.map_err(Error::io("list", &done))?.file_name();
            count += u64::from(name.to_str().and_then(Stem::text_of_ready).is_some());
        }
        *known = is_settled(&changed).then_some(ReceiptCount { changed, count });
        Ok(count)
    }

    pub(super) fn list_all(&self) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        for (state, dir) in PLAIN {
            for (stem, path) in self.stems(dir)? {
                entries.extend(self.entry(state, dir, stem, 0, path));
            }
        }
        for (state, dir) in NUMBERED {
            for (name, path) in self.attempts(dir)? {
                entries.extend(self.entry(state, dir, name.stem, name.attempt, path));
            }
        }
        entries.sort_by(|a, b| (a.state, &a.stem).cmp(&(b.state, &b.stem)));
        Ok(entries)
    }

    /// `None` for a ticket that has moved on meanwhile.
    fn entry(
        &self,
        state: State,
        dir: &str,
        stem: Stem,
        attempt: u32,
        path: PathBuf,
    ) -> Option<Entry> {
        let modified = modified(&path)?;
        let why: Option<Why> = match state {
            State::Failed | State::Corrupt => read_why(&self.dir(dir).join(stem.why_name())),
            _ => None,
        };
        let attempt = why.as_ref().map_or(attempt, |why| why.attempt);
        Some(Entry {
            state,
            stem,
            attempt,
            path,
            modified,
            why,
        })
    }

    /// [`crate::Queue::retry`], after which what has a receipt is done again, rather than finished, where that is all that
    /// can be done: its output is gone from `output_dir`, and its original is still in `raw_dir`.
    ///
    /// # Errors
    /// As [`crate::Queue::retry`].
    pub fn retry_in(
        &self,
        which: &RetryWhich,
        raw_dir: &Path,
        output_dir: &Path,
    ) -> Result<Vec<Stem>, Error> {
        self.put_back(which, &|receipt| receipt.is_void(raw_dir, output_dir))
    }

    pub(super) fn put_back(
        &self,
        which: &RetryWhich,
        is_void: &dyn Fn(&Receipt) -> bool,
    ) -> Result<Vec<Stem>, Error> {
        let failed: Vec<_> = self
            .attempts("failed")?
            .into_iter()
            .map(|(name, path)| (name.stem, path))
            .collect();
        let chosen = match which {
            RetryWhich::All => failed,
            RetryWhich::One(stem) => {
                let mut all = failed;
                all.extend(self.stems("corrupt")?);
                all.retain(|(found, _)| found == stem);
                all.truncate(1);
                all
            }
        };
        let mut back = Vec::new();
        let mut first = None;
        for (stem, path) in chosen {
            match self.put_back_one(&stem, &path, is_void) {
                Ok(true) => back.push(stem),
                Ok(false) => {}
                Err(error) if error.must_stop() => return Err(error),
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        match (which, first) {
            (RetryWhich::One(_), Some(error)) => Err(error),
            (RetryWhich::All, Some(error)) => Err(Error::NotAllBack {
                back,
                source: Box::new(error),
            }),
            (RetryWhich::One(stem), None) if back.is_empty() => {
                Err(Error::NotFound { stem: stem.clone() })
            }
            _ => Ok(back),
        }
    }

    /// `false` if somebody else is at this ticket.
    fn put_back_one(
        &self,
        stem: &Stem,
        path: &Path,
        is_void: &dyn Fn(&Receipt) -> bool,
    ) -> Result<bool, Error> {
        let Locked::Held(mut hold) = Hold::try_lock(path)? else {
            return Ok(false);
        };
        // Before the ticket moves: whoever claims it goes by its receipt.
        if let Ok(ticket) = hold.read()?
            && let Ok(Some(receipt)) = self.receipt_of(stem, &ticket)?
            && is_void(&receipt)
        {
            durable::remove_durable(&self.receipt_path(stem))?;
        }
        self.move_held(&mut hold, &self.root.join(stem.file_name()))?;
        let why = durable::parent(path).join(stem.why_name());
        durable::remove_durable(&why)?;
        Ok(true)
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::symlink_metadata(path)
        .and_then(|meta| meta.modified())
        .ok()
}

fn read_why(path: &Path) -> Option<Why> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
