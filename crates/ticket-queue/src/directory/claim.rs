//! Claiming: lock, look, rename into `active/`.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use rand::seq::SliceRandom as _;

use super::lock::{Hold, Locked};
use super::{DirectoryQueue, READY};
use crate::durable::{self, sync_dirs_on};
use crate::error::Error;
use crate::names::{AttemptName, Stem};
use crate::protocol::Step;
use crate::queue::Lease;
use crate::receipt::Receipt;
use crate::ticket::Ticket;

/// Claimers choose at random among so many of the first tickets, so that they do not all run for
/// the same one.
const CHOICE: usize = 8;

/// A ticket that may be claimed.
struct Candidate {
    stem: Stem,
    /// Attempts used up.
    used: u32,
    path: PathBuf,
}

impl DirectoryQueue {
    /// Takes from ready and deferred in turn, so that neither starves the other.
    pub(super) fn take_next(&self) -> Result<Option<Lease>, Error> {
        let deferred_first = self.deferred_first.fetch_xor(true, Ordering::Relaxed);
        let first = self.take_any(self.candidates(deferred_first)?)?;
        match first {
            Some(lease) => Ok(Some(lease)),
            None => self.take_any(self.candidates(!deferred_first)?),
        }
    }

    fn candidates(&self, deferred: bool) -> Result<Vec<Candidate>, Error> {
        if deferred {
            return self.due();
        }
        let ready = self.stems(READY)?;
        Ok(ready
            .into_iter()
            .map(|(stem, path)| Candidate {
                stem,
                used: 0,
                path,
            })
            .collect())
    }

    /// Deferred tickets whose time has come, longest due first.
    fn due(&self) -> Result<Vec<Candidate>, Error> {
        let mut due = Vec::new();
        for (name, path) in self.attempts("deferred")? {
            let Ok(not_before) = path.symlink_metadata().and_then(|meta| meta.modified()) else {
                continue;
            };
            if self.is_due(not_before) {
                due.push((
                    not_before,
                    Candidate {
                        stem: name.stem,
                        used: name.attempt,
                        path,
                    },
                ));
            }
        }
        due.sort_by_key(|(not_before, _)| *not_before);
        Ok(due.into_iter().map(|(_, candidate)| candidate).collect())
    }

    /// A time further ahead than any back-off can be comes from a clock that was set back since.
    fn is_due(&self, not_before: SystemTime) -> bool {
        let ahead = not_before
            .duration_since(self.now())
            .unwrap_or(Duration::ZERO);
        ahead.is_zero() || ahead > self.longest_delay()
    }

    /// # Errors
    /// A ticket that this user may not open, or give back, does not keep the others from being taken, and is not
    /// moved: the owners of the files are to be put right. It is an error when nothing else is
    /// left.
    fn take_any(&self, mut candidates: Vec<Candidate>) -> Result<Option<Lease>, Error> {
        let mut denied = None;
        for window in candidates.chunks_mut(CHOICE) {
            window.shuffle(&mut rand::rng());
            for candidate in window {
                match self.take(candidate) {
                    Ok(None) => {}
                    Err(error) if error.is_denied() => denied = Some(error),
                    taken => return taken,
                }
            }
        }
        denied.map_or(Ok(None), Err)
    }

    /// Takes one ticket, unless somebody else has it or it is no good.
    fn take(&self, candidate: &Candidate) -> Result<Option<Lease>, Error> {
        let stem = &candidate.stem;
        let mut hold = match Hold::try_lock(&candidate.path)? {
            Locked::Held(hold) => hold,
            Locked::Busy => return Ok(None),
            Locked::Refused(reason) => {
                self.refuse_unlockable(&candidate.path, stem, &reason)?;
                return Ok(None);
            }
        };
        let ticket = match hold.read()? {
            Ok(ticket) => ticket,
            Err(_) if self.is_fresh(&hold, candidate) => return Ok(None),
            Err(error) => {
                self.refuse(&mut hold, stem, candidate.used, &error.to_string(), None)?;
                return Ok(None);
            }
        };
        let receipt = match self.receipt_of(stem, &ticket)? {
            Ok(receipt) => receipt,
            Err(reason) => {
                self.refuse(&mut hold, stem, candidate.used, &reason, Some(&ticket))?;
                return Ok(None);
            }
        };
        if receipt.is_none() && candidate.used >= self.options.max_attempts {
            self.give_up(&mut hold, stem, candidate.used, "attempts used up", &ticket)?;
            return Ok(None);
        }
        self.activate(hold, candidate, ticket, receipt)
    }

    /// The rename that makes the claim and counts the attempt, durable before any work: else a
    /// segment that takes the whole machine down would be tried for ever.
    fn activate(
        &self,
        mut hold: Hold,
        candidate: &Candidate,
        ticket: Ticket,
        receipt: Option<Receipt>,
    ) -> Result<Option<Lease>, Error> {
        // Who may write to a file need not be able to date it, which giving it back takes: that is for its owner. It is found
        // out before there is a claim that nobody could end.
        hold.set_modified(hold.modified)?;
        let name = AttemptName {
            stem: candidate.stem.clone(),
            attempt: candidate.used + 1,
        };
        let active = self.dir("active").join(name.file_name());
        let renamed = self.disk().perform(Step::ClaimTicket, &mut || {
            durable::rename_new(&candidate.path, &active)
        });
        match renamed.map_err(Error::io("claim ticket as", &active)) {
            Ok(()) => {}
            // A foreign writer used a name again; this one waits for the other to be done.
            Err(error) if error.is_already_there() => return Ok(None),
            Err(error) => return Err(error),
        }
        let (to, from) = (durable::parent(&active), durable::parent(&candidate.path));
        sync_dirs_on(self.disk(), Step::SyncClaim, to, from)
            .inspect_err(|_| self.take_back(&active, &candidate.path))?;
        hold.path = active;
        let AttemptName { stem, attempt } = name;
        Ok(Some(Lease {
            stem,
            attempt,
            ticket,
            receipt,
            hold,
        }))
    }

    /// After a claim that may not be durable: no work was begun, so no attempt is to be counted, however often a program
    /// that is started again and again meets the same disk.
    fn take_back(&self, active: &Path, from: &Path) {
        let back = self
            .disk()
            .perform(Step::MoveTicket, &mut || durable::rename_new(active, from));
        // Else it counts, as for an owner that died.
        back.ok();
    }

    /// Whether a slow foreign writer may still be at it.
    fn is_fresh(&self, hold: &Hold, candidate: &Candidate) -> bool {
        candidate.used == 0 && self.distance(hold.modified) <= self.options.foreign_write_time
    }

    /// The receipt for this very ticket.
    ///
    /// # Errors
    /// The inner: why the ticket cannot be processed under its name.
    pub(super) fn receipt_of(
        &self,
        stem: &Stem,
        ticket: &Ticket,
    ) -> Result<Result<Option<Receipt>, String>, Error> {
        Ok(match self.read_receipt(stem) {
            Ok(Some(receipt)) if receipt.id != ticket.id() => Err(format!(
                "its name was used before, for {:?}; give the ticket another name",
                receipt.id
            )),
            Ok(receipt) => Ok(receipt),
            Err(Error::Io { source, path, .. })
                if source.kind() == std::io::ErrorKind::InvalidData =>
            {
                Err(format!(
                    "its receipt {} is damaged: {source}",
                    path.display()
                ))
            }
            Err(error) => return Err(error),
        })
    }

    /// Moves a ticket that is no good to `corrupt/`.
    pub(super) fn refuse(
        &self,
        hold: &mut Hold,
        stem: &Stem,
        attempt: u32,
        reason: &str,
        ticket: Option<&Ticket>,
    ) -> Result<(), Error> {
        self.move_to_corrupt(stem, |name, target| {
            self.write_why("corrupt", name, attempt, reason, ticket)?;
            self.move_held(hold, target)
        })
    }

    /// As [`Self::refuse`] for what cannot be locked: a link, a directory, a pipe. Nobody can have
    /// claimed it, and the rename itself is atomic.
    fn refuse_unlockable(&self, path: &Path, stem: &Stem, reason: &str) -> Result<(), Error> {
        let moved = self.move_to_corrupt(stem, |name, target| {
            self.write_why("corrupt", name, 0, reason, None)?;
            durable::rename_noreplace(path, target)
        });
        match moved {
            // Another process was faster.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            other => other?,
        }
        sync_dirs_on(
            self.disk(),
            Step::SyncMove,
            &self.dir("corrupt"),
            &self.root,
        )
    }

    /// Runs `act` with a name that is free in `corrupt/`: the ticket's own, or with a number where
    /// one of that name was refused before.
    fn move_to_corrupt(
        &self,
        stem: &Stem,
        mut act: impl FnMut(&Stem, &Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut name = stem.clone();
        for number in 1.. {
            let target = self.dir("corrupt").join(name.file_name());
            if target.symlink_metadata().is_err() {
                return act(&name, &target);
            }
            name = stem.numbered(number);
        }
        unreachable!("there are more numbers than files")
    }
}
