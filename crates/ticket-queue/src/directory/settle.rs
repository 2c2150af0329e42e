//! What becomes of a claimed ticket: receipt, completion, failure, release; and reaping.

use std::fs;
use std::io;
use std::time::Duration;

use super::lock::{Hold, Locked};
use super::{DirectoryQueue, READY};
use crate::durable::{self, sync_dirs_on};
use crate::error::Error;
use crate::names::{AttemptName, Stem};
use crate::protocol::{NewFileSteps, Step};
use crate::queue::{Failed, Failure, Lease, Reaped};
use crate::receipt::Receipt;
use crate::ticket::Ticket;

/// Retries are spread over 80 to 120 % of the delay, so that tickets that failed together do not
/// come back together.
const SPREAD_PERCENT: u32 = 20;

const OWNER_DIED: &str = "the process that worked on it died";

impl DirectoryQueue {
    /// `min(base * 2^used, cap)`, before the spread.
    fn delay(&self, used: u32) -> Duration {
        let factor = 2_u32.saturating_pow(used);
        self.options
            .backoff_base
            .saturating_mul(factor)
            .min(self.options.backoff_cap)
    }

    fn spread_delay(&self, used: u32) -> Duration {
        let percent = rand::random_range(100 - SPREAD_PERCENT..=100 + SPREAD_PERCENT);
        self.delay(used) * percent / 100
    }

    /// The longest time a deferred ticket can be told to wait.
    pub(super) fn longest_delay(&self) -> Duration {
        self.options.backoff_cap * (100 + SPREAD_PERCENT) / 100
    }

    pub(super) fn make_receipt(&self, lease: &Lease, receipt: &Receipt) -> Result<(), Error> {
        if receipt.stem != lease.stem || receipt.id != lease.ticket.id() {
            let (stem, receipt) = (lease.stem.clone(), receipt.id.clone());
            return Err(Error::ForeignReceipt { stem, receipt });
        }
        self.require_held(lease)?;
        let path = self.receipt_path(&lease.stem);
        let bytes = serde_json::to_vec_pretty(receipt)
            .map_err(|error| Error::io("encode", &path)(error.into()))?;
        let temp = self.scratch(&format!("receipt.{}", lease.stem));
        let steps = NewFileSteps::RECEIPT;
        match durable::write_new_on(self.disk(), steps, &temp, &path, &bytes) {
            // Written by an attempt that may have died before it synced the directory.
            Err(error) if error.is_already_there() => {
                let done = self.dir("done");
                sync_dirs_on(self.disk(), Step::SyncReceiptDir, &done, &done)
            }
            result => result,
        }
    }

    /// # Errors
    /// With [`io::ErrorKind::InvalidData`] if the file is no receipt.
    pub(super) fn read_receipt(&self, stem: &Stem) -> Result<Option<Receipt>, Error> {
        let path = self.receipt_path(stem);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read receipt", &path)(error)),
        };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            Error::io("understand receipt", &path)(io::Error::new(
                io::ErrorKind::InvalidData,
                error,
            ))
        })
    }

    pub(super) fn remove_done(&self, lease: Lease) -> Result<(), Error> {
        self.require_held(&lease)?;
        if self.read_receipt(&lease.stem)?.is_none() {
            return Err(Error::NoReceipt { stem: lease.stem });
        }
        let path = &lease.hold.path;
        self.disk()
            .perform(Step::UnlinkTicket, &mut || fs::remove_file(path))
            .map_err(Error::io("remove ticket", path))?;
        let active = self.dir("active");
        sync_dirs_on(self.disk(), Step::SyncActiveDir, &active, &active)
    }

    pub(super) fn settle_failure(&self, lease: Lease, failure: Failure) -> Result<Failed, Error> {
        self.require_held(&lease)?;
        let Lease {
            stem,
            attempt,
            ticket,
            mut hold,
            ..
        } = lease;
        match failure {
            Failure::Retry { .. } if attempt < self.options.max_attempts => {
                self.defer(&mut hold, &stem, attempt, self.spread_delay(attempt))
            }
            Failure::NotNow { .. } => self.defer(
                &mut hold,
                &stem,
                attempt - 1,
                self.spread_delay(attempt - 1),
            ),
            Failure::Retry { reason } | Failure::Dead { reason } => {
                self.give_up(&mut hold, &stem, attempt, &reason, &ticket)?;
                Ok(Failed::GivenUp)
            }
            Failure::Corrupt { reason } => {
                self.refuse(&mut hold, &stem, attempt, &reason, Some(&ticket))?;
                Ok(Failed::Corrupt)
            }
        }
    }

    pub(super) fn put_down(&self, lease: Lease) -> Result<(), Error> {
        self.require_held(&lease)?;
        let Lease {
            stem,
            attempt,
            mut hold,
            ..
        } = lease;
        if attempt == 1 {
            let ready = self.dir(READY).join(stem.file_name());
            return self.move_held(&mut hold, &ready);
        }
        hold.set_modified(self.now())?;
        let name = AttemptName {
            stem,
            attempt: attempt - 1,
        };
        self.move_held(&mut hold, &self.dir("deferred").join(name.file_name()))
    }

    /// The time is set before the rename, so that nobody sees the ticket deferred but due.
    fn defer(
        &self,
        hold: &mut Hold,
        stem: &Stem,
        used: u32,
        delay: Duration,
    ) -> Result<Failed, Error> {
        hold.set_modified(self.now() + delay)?;
        let name = AttemptName {
            stem: stem.clone(),
            attempt: used,
        };
        self.move_held(hold, &self.dir("deferred").join(name.file_name()))?;
        Ok(Failed::Deferred(delay))
    }

    /// Moves a ticket to `failed/`, its reason beside it.
    pub(super) fn give_up(
        &self,
        hold: &mut Hold,
        stem: &Stem,
        attempt: u32,
        reason: &str,
        ticket: &Ticket,
    ) -> Result<(), Error> {
        self.write_why("failed", stem, attempt, reason, Some(ticket))?;
        let name = AttemptName {
            stem: stem.clone(),
            attempt,
        };
        self.move_held(hold, &self.dir("failed").join(name.file_name()))
    }

    /// A ticket that cannot be reaped does not keep the others from it.
    pub(super) fn reap_dead(
        &self,
        finishable: &dyn Fn(&Lease) -> bool,
    ) -> Result<Vec<Reaped>, Error> {
        let mut reaped = Vec::new();
        for (name, path) in self.attempts("active")? {
            let AttemptName { stem, attempt } = name.clone();
            let one = match Hold::try_lock(&path) {
                Ok(Locked::Held(hold)) => self.reap_one(name, hold, finishable),
                // Locked means that its owner is alive.
                Ok(_) => continue,
                Err(error) => Err(error),
            };
            let must_stop = one.as_ref().is_err_and(Error::must_stop);
            reaped.push(one.unwrap_or_else(|error| Reaped::Stuck {
                stem,
                attempt,
                error,
            }));
            if must_stop {
                break;
            }
        }
        Ok(reaped)
    }

    fn reap_one(
        &self,
        name: AttemptName,
        mut hold: Hold,
        finishable: &dyn Fn(&Lease) -> bool,
    ) -> Result<Reaped, Error> {
        let AttemptName { stem, attempt } = name;
        let read = match hold.read()? {
            Ok(ticket) => self
                .receipt_of(&stem, &ticket)?
                .map(|receipt| (ticket, receipt)),
            Err(error) => Err(error.to_string()),
        };
        let (ticket, receipt) = match read {
            Ok(read) => read,
            Err(reason) => {
                self.refuse(&mut hold, &stem, attempt, &reason, None)?;
                return Ok(Reaped::Failed {
                    stem,
                    attempt,
                    now: Failed::Corrupt,
                });
            }
        };
        let lease = Lease {
            stem: stem.clone(),
            attempt,
            ticket,
            receipt,
            hold,
        };
        if finishable(&lease) {
            return Ok(Reaped::Finish(Box::new(lease)));
        }
        let now = self.settle_death(lease)?;
        Ok(Reaped::Failed { stem, attempt, now })
    }

    /// The first death is taken for an accident of the owner (a restart, a power cut): there is nothing to wait for. From
    /// the second on the ticket itself is suspected, and waits as after any failure. Each death counts as an attempt.
    fn settle_death(&self, lease: Lease) -> Result<Failed, Error> {
        if lease.attempt > 1 || self.options.max_attempts == 1 {
            let reason = OWNER_DIED.to_owned();
            return self.settle_failure(lease, Failure::Retry { reason });
        }
        let Lease {
            stem,
            attempt,
            mut hold,
            ..
        } = lease;
        self.defer(&mut hold, &stem, attempt, Duration::ZERO)
    }

    fn require_held(&self, lease: &Lease) -> Result<(), Error> {
        if lease.hold.leads_to_path()? {
            return Ok(());
        }
        Err(Error::LeaseLost {
            stem: lease.stem.clone(),
            attempt: lease.attempt,
        })
    }
}
