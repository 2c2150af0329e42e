//! The queue in a directory of one local file system.

mod admin;
mod claim;
mod enqueue;
mod lock;
mod settle;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::durable::{create_dir_all_durable, sync_dirs_on, temp_in};
use crate::error::Error;
use crate::local::refuse_network;
use crate::names::Stem;
use crate::protocol::{Disk, NewFileSteps, RealDisk, Step};
use crate::queue::{
    Enqueued, Entry, Failed, Failure, Held, Lease, Queue, Reaped, RetryWhich, Stats, Why,
};
use crate::receipt::Receipt;
use crate::ticket::Ticket;
use crate::{durable, names};

pub(crate) use lock::Hold;

/// Scratch files older than this belong to nobody alive.
const SCRATCH_MAX_AGE: Duration = Duration::from_secs(3600);

/// Where the queue reads the wall clock: for names, for not-before times, for ages.
pub trait WallClock: fmt::Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> SystemTime;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemWallClock;

impl WallClock for SystemWallClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// How a [`DirectoryQueue`] behaves. The defaults are right for everything but tests and the
/// attempts, which are a setting.
#[derive(Clone, Debug)]
pub struct Options {
    /// Attempts before a ticket is given up, at least 1.
    pub max_attempts: u32,
    /// Delay before the first retry is twice this; it doubles with each attempt.
    pub backoff_base: Duration,
    /// Longest delay, before the spread of 20 %.
    pub backoff_cap: Duration,
    /// An unreadable ticket younger than this may still be being written, and is left alone.
    pub foreign_write_time: Duration,
    /// The disk that steps are made on.
    pub disk: Arc<dyn Disk>,
    /// The wall clock.
    pub clock: Arc<dyn WallClock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            backoff_base: Duration::from_secs(15),
            backoff_cap: Duration::from_secs(900),
            foreign_write_time: Duration::from_secs(5),
            disk: Arc::new(RealDisk),
            clock: Arc::new(SystemWallClock),
        }
    }
}

/// A queue in a directory. Several of them, in several processes, may work on one directory.
#[derive(Debug)]
pub struct DirectoryQueue {
    root: PathBuf,
    options: Options,
    /// Whether the next claim looks at `deferred/` first.
    deferred_first: AtomicBool,
    index: Mutex<enqueue::Index>,
    receipts: Mutex<Option<admin::ReceiptCount>>,
}

impl DirectoryQueue {
    /// Opens the queue in `dir`, making it if it is not there, and sweeps scratch files that a
    /// dead process left.
    ///
    /// # Errors
    /// [`Error::NetworkFileSystem`], or the directory cannot be made or read.
    pub fn open(dir: &Path, options: Options) -> Result<Self, Error> {
        create_dir_all_durable(dir)?;
        refuse_network(dir)?;
        let queue = Self {
            root: dir.to_owned(),
            options,
            deferred_first: AtomicBool::new(false),
            index: Mutex::default(),
            receipts: Mutex::default(),
        };
        for name in [".tmp", "active", "deferred", "failed", "corrupt", "done"] {
            create_dir_all_durable(&dir.join(name))?;
        }
        durable::sweep(
            &dir.join(".tmp"),
            enqueue::LOCK_NAME,
            SCRATCH_MAX_AGE,
            queue.now(),
        )?;
        Ok(queue)
    }

    /// The queue's directory, as given to [`DirectoryQueue::open`].
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The disk that steps are made on, for the caller's own steps.
    pub fn disk(&self) -> &dyn Disk {
        &*self.options.disk
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn receipt_path(&self, stem: &Stem) -> PathBuf {
        self.dir("done").join(stem.file_name())
    }

    fn scratch(&self, name: &str) -> PathBuf {
        temp_in(&self.dir(".tmp"), name)
    }

    fn now(&self) -> SystemTime {
        self.options.clock.now()
    }

    /// How far a file's time is from now, in either direction: a clock set back must not make
    /// anything young for ever.
    fn distance(&self, time: SystemTime) -> Duration {
        self.now()
            .duration_since(time)
            .unwrap_or_else(|error| error.duration())
    }

    /// Moves a held ticket, durably. One rename: the ticket is in the one place or the other.
    fn move_held(&self, hold: &mut Hold, target: &Path) -> Result<(), Error> {
        let from = hold.path.clone();
        self.disk()
            .perform(Step::MoveTicket, &mut || durable::rename_new(&from, target))
            .map_err(Error::io("move ticket to", target))?;
        hold.path = target.to_owned();
        let (to_dir, from_dir) = (durable::parent(target), durable::parent(&from));
        sync_dirs_on(self.disk(), Step::SyncMove, to_dir, from_dir)
    }

    /// Says durably why a ticket is about to be moved to `dir`. Before the move, so that no ticket
    /// lies there without a reason.
    fn write_why(
        &self,
        dir: &str,
        stem: &Stem,
        attempt: u32,
        reason: &str,
        ticket: Option<&Ticket>,
    ) -> Result<(), Error> {
        let why = Why {
            reason: reason.to_owned(),
            attempt,
            time: enqueue::timestamp(self.now()),
            original: ticket.map(|ticket| ticket.filepath.clone()),
        };
        let path = self.dir(dir).join(stem.why_name());
        let bytes = serde_json::to_vec_pretty(&why)
            .map_err(|error| Error::io("encode", &path)(error.into()))?;
        let temp = self.scratch(&stem.why_name());
        durable::replace_on(self.disk(), NewFileSteps::WHY, &temp, &path, &bytes)
    }

    /// The paths in one of the queue's directories, in no order.
    fn files(&self, dir: &str) -> Result<Vec<PathBuf>, Error> {
        let path = self.dir(dir);
        let read = || -> io::Result<Vec<PathBuf>> {
            fs::read_dir(&path)?
                .map(|entry| Ok(entry?.path()))
                .collect()
        };
        read().map_err(Error::io("list", &path))
    }

    /// The tickets with an attempt in their names in one directory, by name.
    fn attempts(&self, dir: &str) -> Result<Vec<(names::AttemptName, PathBuf)>, Error> {
        let mut found: Vec<_> = self
            .files(dir)?
            .into_iter()
            .filter_map(|path| {
                let name = names::AttemptName::parse(path.file_name()?.to_str()?)?;
                Some((name, path))
            })
            .collect();
        found.sort();
        Ok(found)
    }

    /// The files in one directory that are called `<stem>.json`, by name: tickets that are ready
    /// or corrupt, or receipts.
    fn stems(&self, dir: &str) -> Result<Vec<(Stem, PathBuf)>, Error> {
        let mut found: Vec<_> = self
            .files(dir)?
            .into_iter()
            .filter_map(|path| Some((Stem::of_ready(path.file_name()?.to_str()?)?, path)))
            .collect();
        found.sort();
        Ok(found)
    }
}

/// The queue directory itself, which holds the ready tickets.
const READY: &str = "";

impl Queue for DirectoryQueue {
    fn enqueue(&self, ticket: &Ticket) -> Result<Enqueued, Error> {
        self.put(ticket)
    }

    fn claim(&self) -> Result<Option<Lease>, Error> {
        self.take_next()
    }

    fn extend(&self, lease: &Lease) -> Result<Held, Error> {
        Ok(if lease.hold.leads_to_path()? {
            Held::Held
        } else {
            Held::Lost
        })
    }

    fn write_receipt(&self, lease: &Lease, receipt: &Receipt) -> Result<(), Error> {
        self.make_receipt(lease, receipt)
    }

    fn receipt(&self, stem: &Stem) -> Result<Option<Receipt>, Error> {
        self.read_receipt(stem)
    }

    fn complete(&self, lease: Lease) -> Result<(), Error> {
        self.remove_done(lease)
    }

    fn fail(&self, lease: Lease, failure: Failure) -> Result<Failed, Error> {
        self.settle_failure(lease, failure)
    }

    fn release(&self, lease: Lease) -> Result<(), Error> {
        self.put_down(lease)
    }

    fn reap_with(&self, finishable: &dyn Fn(&Lease) -> bool) -> Result<Vec<Reaped>, Error> {
        self.reap_dead(finishable)
    }

    fn retry(&self, which: &RetryWhich) -> Result<Vec<Stem>, Error> {
        self.put_back(which, &|_| false)
    }

    fn stats(&self) -> Result<Stats, Error> {
        self.count()
    }

    fn list(&self) -> Result<Vec<Entry>, Error> {
        self.list_all()
    }
}
