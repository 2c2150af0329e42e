//! What a queue promises, whichever engine stands behind it.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::directory::Hold;
use crate::error::Error;
use crate::names::Stem;
use crate::receipt::Receipt;
use crate::ticket::Ticket;

/// A durable queue. All calls block on the disk; an async caller wraps them. Any number of
/// threads and processes may use one queue at the same time.
pub trait Queue: Send + Sync {
    /// Puts a ticket in, durably, unless one with the same [`Ticket::id`] is anywhere in the queue
    /// or was finished before.
    ///
    /// # Errors
    /// The ticket could not be made durable. It may be tried again.
    fn enqueue(&self, ticket: &Ticket) -> Result<Enqueued, Error>;

    /// Takes one ticket that is ready or due, or `None` when there is none. Unreadable tickets met
    /// on the way go to `corrupt/`. The attempt is counted at once. A ticket that went through
    /// work before may have a [`Lease::receipt`] and then only needs finishing.
    ///
    /// # Errors
    /// The queue cannot be read or written.
    fn claim(&self) -> Result<Option<Lease>, Error>;

    /// Tells whether the lease still holds, and renews it where the engine needs that.
    ///
    /// # Errors
    /// The queue cannot be read.
    fn extend(&self, lease: &Lease) -> Result<Held, Error>;

    /// Makes the receipt durable. To be called after the output is published and before the
    /// original is touched. Calling it again for the same ticket changes nothing.
    ///
    /// # Errors
    /// The receipt is not durable: the original must not be touched.
    fn write_receipt(&self, lease: &Lease, receipt: &Receipt) -> Result<(), Error>;

    /// The receipt of a ticket, if its work is done.
    ///
    /// # Errors
    /// The receipt cannot be read.
    fn receipt(&self, stem: &Stem) -> Result<Option<Receipt>, Error>;

    /// Removes a ticket whose receipt is written and whose original is dealt with.
    ///
    /// # Errors
    /// [`Error::NoReceipt`], [`Error::LeaseLost`], or the disk. The ticket then stays and is
    /// finished by whoever reaps it.
    fn complete(&self, lease: Lease) -> Result<(), Error>;

    /// Gives a ticket back that could not be processed; says where it went.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] or the disk. The ticket stays in `active/` for the reaper.
    fn fail(&self, lease: Lease, failure: Failure) -> Result<Failed, Error>;

    /// Gives a ticket back untouched, without counting the attempt: at shutdown.
    ///
    /// # Errors
    /// As [`Queue::fail`].
    fn release(&self, lease: Lease) -> Result<(), Error>;

    /// Takes over the tickets whose owners died. `finishable` is asked for each: where it says
    /// yes, the lease is handed back for finishing; the others go through [`Failure::Retry`]. One that fails is among
    /// what is returned, and keeps no other from being recovered.
    ///
    /// # Errors
    /// The queue cannot be read.
    fn reap_with(&self, finishable: &dyn Fn(&Lease) -> bool) -> Result<Vec<Reaped>, Error>;

    /// [`Queue::reap_with`], finishable being what has a receipt.
    ///
    /// # Errors
    /// As [`Queue::reap_with`].
    fn reap(&self) -> Result<Vec<Reaped>, Error> {
        self.reap_with(&|lease| lease.receipt().is_some())
    }

    /// Puts tickets from `failed/` (and, by name, from `corrupt/`) back; attempts start again.
    /// Returns what was put back.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a name that is not there; [`Error::NotAllBack`] where only some could be put back; the disk.
    fn retry(&self, which: &RetryWhich) -> Result<Vec<Stem>, Error>;

    /// Counts by state.
    ///
    /// # Errors
    /// The queue cannot be read.
    fn stats(&self) -> Result<Stats, Error>;

    /// Every ticket in the queue except finished ones, by state and name.
    ///
    /// # Errors
    /// The queue cannot be read.
    fn list(&self) -> Result<Vec<Entry>, Error>;
}

/// A claimed ticket. It is held until it is handed back to the queue; dropping it is the same as
/// dying with it: the ticket stays in `active/` until somebody reaps it.
///
/// Never hand its file descriptor to a child: the lock would live on in it. It is close-on-exec.
#[derive(Debug)]
pub struct Lease {
    pub(crate) stem: Stem,
    pub(crate) attempt: u32,
    pub(crate) ticket: Ticket,
    pub(crate) receipt: Option<Receipt>,
    pub(crate) hold: Hold,
}

impl Lease {
    /// Which ticket.
    pub fn stem(&self) -> &Stem {
        &self.stem
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Its content, as it was when claimed. It never changes.
    pub fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// The receipt, if the work was done before and only finishing is left.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.receipt.as_ref()
    }
}

/// What [`Queue::enqueue`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// The ticket is durable under this name.
    New(Stem),
    /// A ticket with this id is already there, or was finished.
    Duplicate(Stem),
}

/// Whether a lease still holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Go on.
    Held,
    /// Somebody took the ticket away: drop the work, publish nothing.
    Lost,
}

/// Why a ticket was not processed, by what is to become of it. The original is kept in each case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// May go better next time: a crash, a time-out, an I/O error. Counts as an attempt.
    Retry {
        /// For the log and, after the last attempt, for the why file.
        reason: String,
    },
    /// Not the ticket's fault: no space, a disk that is away. Deferred without counting the attempt.
    NotNow {
        /// For the log.
        reason: String,
    },
    /// Will never go better: undecodable, hash mismatch, refused path, missing file.
    Dead {
        /// For the why file.
        reason: String,
    },
    /// The ticket itself is no good.
    Corrupt {
        /// For the why file.
        reason: String,
    },
}

/// Where [`Queue::fail`] put the ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// In `deferred/`, to be tried again no sooner than after this time.
    Deferred(Duration),
    /// In `failed/`, with a why file. Somebody should look.
    GivenUp,
    /// In `corrupt/`, with a why file. Somebody should look.
    Corrupt,
}

/// What [`Queue::reap_with`] did with a ticket whose owner died.
#[derive(Debug)]
pub enum Reaped {
    /// Its work is done; finish it with this lease.
    Finish(Box<Lease>),
    /// Given back; the attempt counts.
    Failed {
        /// Which ticket.
        stem: Stem,
        /// The attempt that died.
        attempt: u32,
        /// Where it is now.
        now: Failed,
    },
    /// Neither taken over nor given back: it stays in `active/`, for whoever reaps next.
    Stuck {
        /// Which ticket.
        stem: Stem,
        /// The attempt that died.
        attempt: u32,
        /// Why. After one that says [`Error::must_stop`] no other ticket was looked at.
        error: Error,
    },
}

/// Which tickets to put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryWhich {
    /// This one, from `failed/` or `corrupt/`.
    One(Stem),
    /// All in `failed/`.
    All,
}

/// A ticket's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waiting, never tried.
    Ready,
    /// Claimed.
    Active,
    /// Waiting to be tried again.
    Deferred,
    /// Given up.
    Failed,
    /// Unreadable or refused.
    Corrupt,
}

/// Tickets by state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Waiting, never tried.
    pub ready: u64,
    /// Claimed.
    pub active: u64,
    /// Waiting to be tried again.
    pub deferred: u64,
    /// Given up; need a human.
    pub failed: u64,
    /// Unreadable or refused; need a human.
    pub corrupt: u64,
    /// Receipts.
    pub done: u64,
    /// Time since the oldest ready ticket was written.
    pub oldest_age: Option<Duration>,
}

/// One ticket as [`Queue::list`] shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Its state.
    pub state: State,
    /// Its name.
    pub stem: Stem,
    /// The attempt under way when active, else the attempts used up.
    pub attempt: u32,
    /// Its file.
    pub path: PathBuf,
    /// Modification time: when written; for deferred tickets, not before.
    pub modified: SystemTime,
    /// Why it failed or was refused.
    pub why: Option<Why>,
}

/// The content of a why file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// One line, for humans.
    pub reason: String,
    /// Attempts used up.
    pub attempt: u32,
    /// When it was given up.
    pub time: Timestamp,
    /// The original's path as the ticket has it; `None` if the ticket is unreadable.
    pub original: Option<String>,
}
