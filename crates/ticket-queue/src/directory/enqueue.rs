//! Putting tickets in, each id once.
//!
//! To know the ids that are there, the tickets' files are read, but each only once in a process'
//! life: their content never changes, and a stem is never used twice. Receipts, of which there are
//! hundreds of thousands after some weeks, are listed now and then only: what is finished was a ticket
//! before. Enqueuers of all processes take turns by a lock, so that two cannot both find an id missing.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::{DirectoryQueue, READY};
use crate::durable::{self, sync_dirs_on};
use crate::error::Error;
use crate::names::{Stem, stem_at};
use crate::protocol::{NewFileSteps, Step};
use crate::queue::Enqueued;
use crate::ticket::{MAX_TICKET_BYTES, Ticket};

/// The lock file of enqueuers, in `.tmp/`.
pub(super) const LOCK_NAME: &str = "enqueue.lock";

/// Which ids are in the queue or were finished. Ids stand as the first half of their hash.
#[derive(Debug, Default)]
pub(super) struct Index {
    stems: HashMap<Stem, Known>,
    ids: HashMap<IdHash, Stem>,
    /// Tickets that are not finished, with or without a receipt.
    live: HashSet<Stem>,
    /// When the directories had last changed as they were read, by [`DIRS`].
    changed: Option<[SystemTime; DIRS.len()]>,
    /// When all receipts were last listed, and how often they were.
    listed: Option<Instant>,
    listings: u32,
}

/// What is known of a ticket or receipt.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// None where its file does not tell.
    id: Option<IdHash>,
    /// The listing of receipts that last met it.
    listing: u32,
}

/// Where tickets lie.
const DIRS: [&str; 5] = [READY, "active", "deferred", "failed", "corrupt"];

/// Receipts are listed again after this. In between, only those are missed whose tickets came and went between two looks at the
/// directories of tickets.
const LIST_AGAIN: Duration = Duration::from_secs(600);

/// Coarsest step of a file system's clock. A change that is younger may have a sibling that is
/// not seen yet and has the same time.
const CLOCK_STEP: Duration = Duration::from_millis(20);

type IdHash = [u8; 16];

/// What a ticket and a receipt have in common.
#[derive(Deserialize)]
struct Identified {
    id: Option<String>,
    filepath: Option<String>,
}

impl Index {
    fn insert(&mut self, stem: Stem, id: Option<IdHash>) {
        if let Some(id) = id {
            // The newest counts.
            let newest = self.ids.entry(id).or_insert_with(|| stem.clone());
            if *newest < stem {
                newest.clone_from(&stem);
            }
        }
        let listing = self.listings;
        self.stems.insert(stem, Known { id, listing });
    }

    /// Whether the id of that name is known; it is then noted as met.
    fn meets(&mut self, stem: &str) -> bool {
        let Some(known) = self.stems.get_mut(stem) else {
            return false;
        };
        known.listing = self.listings;
        known.id.is_some()
    }

    /// Forgets what is neither a ticket nor was met by this listing.
    fn forget_others(&mut self) {
        let (live, listings) = (&self.live, self.listings);
        self.stems
            .retain(|stem, known| known.listing == listings || live.contains(stem));
        let stems = &self.stems;
        self.ids.retain(|_, stem| stems.contains_key(stem));
    }
}

impl DirectoryQueue {
    /// The stem of the ticket or receipt with this id, wherever it is in the queue. For a
    /// recorder's start-up sweep: cheaper than making a ticket to be told that it is a duplicate.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub fn find(&self, id: &str) -> Result<Option<Stem>, Error> {
        Ok(self.look_up(id)?.map(|(stem, _)| stem))
    }

    /// The stem that belongs to an id, and whether it has a ticket rather than a receipt alone.
    fn look_up(&self, id: &str) -> Result<Option<(Stem, bool)>, Error> {
        let mut index = self.lock_index();
        let stem = self.search(&mut index, &hash(id))?;
        Ok(stem.map(|stem| {
            let is_live = index.live.contains(&stem);
            (stem, is_live)
        }))
    }

    /// The newest ticket or receipt of this id.
    fn search(&self, index: &mut Index, id: &IdHash) -> Result<Option<Stem>, Error> {
        self.refresh(index)?;
        if let Some(stem) = index.ids.get(id)
            && !index.live.contains(stem)
            && !self.has_receipt(stem)?
        {
            // Removed since the receipts were listed.
            self.list_receipts(index)?;
        }
        Ok(index.ids.get(id).cloned())
    }

    fn has_receipt(&self, stem: &Stem) -> Result<bool, Error> {
        let path = self.receipt_path(stem);
        path.try_exists().map_err(Error::io("look for", &path))
    }

    /// Whether nothing is left to do for the video of this size at `id`, its path below the raw directory: there is a
    /// receipt about it and no ticket any more. A ticket beside its receipt, one that failed included, may still need the
    /// original; and a receipt for another size is of an earlier video of the same name.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub fn is_finished(&self, id: &str, bytes: u64) -> Result<bool, Error> {
        let Some((stem, false)) = self.look_up(id)? else {
            return Ok(false);
        };
        let input = self.read_receipt(&stem)?.map(|receipt| receipt.input);
        Ok(input.is_some_and(|input| input.path == id && input.bytes == bytes))
    }

    pub(super) fn put(&self, ticket: &Ticket) -> Result<Enqueued, Error> {
        let bytes = ticket.to_json().map_err(|error| {
            let error = io::Error::new(io::ErrorKind::InvalidInput, error);
            Error::io("write a ticket into", &self.root)(error)
        })?;
        let _turn = self.wait_for_turn()?;
        let mut index = self.lock_index();
        let id = hash(ticket.id());
        if let Some(stem) = self.search(&mut index, &id)? {
            return Ok(Enqueued::Duplicate(stem));
        }
        let stem = self.write_ticket(&index, &bytes)?;
        index.insert(stem.clone(), Some(id));
        index.live.insert(stem.clone());
        Ok(Enqueued::New(stem))
    }

    /// The write protocol: scratch, sync, rename that never replaces, sync of the directory.
    fn write_ticket(&self, index: &Index, bytes: &[u8]) -> Result<Stem, Error> {
        let temp = self.scratch("ticket");
        let written = self
            .write_scratch(&temp, bytes)
            .and_then(|()| self.name_ticket(index, &temp));
        if written.is_err() {
            // Swept later if it cannot be removed now.
            fs::remove_file(&temp).ok();
        }
        written
    }

    fn write_scratch(&self, temp: &Path, bytes: &[u8]) -> Result<(), Error> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(temp)
            .map_err(Error::io("create", temp))?;
        let steps = NewFileSteps::TICKET;
        self.disk()
            .perform(steps.write, &mut || file.write_all(bytes))
            .map_err(Error::io("write", temp))?;
        self.disk()
            .perform(steps.sync, &mut || file.sync_all())
            .map_err(Error::io("sync", temp))
    }

    /// Gives the ticket the first free microsecond from now on.
    fn name_ticket(&self, index: &Index, temp: &Path) -> Result<Stem, Error> {
        let mut time = timestamp(self.now());
        loop {
            let stem = stem_at(time);
            time += SignedDuration::from_micros(1);
            if index.stems.contains_key(&stem) || self.has_receipt(&stem)? {
                continue;
            }
            let path = self.root.join(stem.file_name());
            let renamed = self
                .disk()
                .perform(Step::RenameTicket, &mut || durable::rename_new(temp, &path));
            match renamed.map_err(Error::io("rename ticket to", &path)) {
                Ok(()) => {
                    sync_dirs_on(self.disk(), Step::SyncQueueDir, &self.root, &self.root)?;
                    return Ok(stem);
                }
                Err(error) if error.is_already_there() => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn wait_for_turn(&self) -> Result<File, Error> {
        let path = self.dir(".tmp").join(LOCK_NAME);
        let open = || {
            OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
        };
        let file = open().map_err(Error::io("open", &path))?;
        file.lock().map_err(Error::io("lock", &path))?;
        Ok(file)
    }

    fn lock_index(&self) -> MutexGuard<'_, Index> {
        // A panic in the middle leaves at worst an id unknown, which the next refresh reads again.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns the tickets that others put in since, and forgets what is gone. Twice over the
    /// directories, since tickets move while they are listed.
    fn refresh(&self, index: &mut Index) -> Result<(), Error> {
        let changed = self.changed()?;
        if index.changed == Some(changed) {
            return Ok(());
        }
        index.live.clear();
        for _ in 0..2 {
            for (stem, path) in self.live_stems()? {
                learn(index, &stem, &path)?;
                index.live.insert(stem);
            }
        }
        // After the tickets: what was finished meanwhile is met here.
        if index.listed.is_none_or(|at| at.elapsed() >= LIST_AGAIN) {
            self.list_receipts(index)?;
        }
        index.changed = changed.iter().all(is_settled).then_some(changed);
        Ok(())
    }

    /// Learns all receipts, and forgets those that are gone.
    fn list_receipts(&self, index: &mut Index) -> Result<(), Error> {
        let done = self.dir("done");
        index.listings = index.listings.wrapping_add(1);
        for entry in fs::read_dir(&done).map_err(Error::io("list", &done))? {
            let entry = entry.map_err(Error::io("list", &done))?;
            let name = entry.file_name();
            let Some(stem) = name.to_str().and_then(Stem::text_of_ready) else {
                continue;
            };
            if !index.meets(stem)
                && let Ok(stem) = stem.parse()
            {
                learn(index, &stem, &entry.path())?;
            }
        }
        index.forget_others();
        index.listed = Some(Instant::now());
        Ok(())
    }

    /// When each directory last changed.
    fn changed(&self) -> Result<[SystemTime; DIRS.len()], Error> {
        let mut times = [SystemTime::UNIX_EPOCH; DIRS.len()];
        for (time, name) in times.iter_mut().zip(DIRS) {
            *time = self.dir_changed(name)?;
        }
        Ok(times)
    }

    /// When one of the queue's directories last changed.
    pub(super) fn dir_changed(&self, name: &str) -> Result<SystemTime, Error> {
        let dir = self.dir(name);
        let meta = fs::metadata(&dir).and_then(|meta| meta.modified());
        meta.map_err(Error::io("stat", &dir))
    }

    /// Every ticket that is not finished.
    pub(super) fn live_stems(&self) -> Result<Vec<(Stem, PathBuf)>, Error> {
        let mut found = self.stems(READY)?;
        for dir in ["active", "deferred", "active", "failed"] {
            let names = self.attempts(dir)?.into_iter();
            found.extend(names.map(|(name, path)| (name.stem, path)));
        }
        found.extend(self.stems("corrupt")?);
        Ok(found)
    }
}

/// Reads a ticket's or receipt's id, unless it is known. One that has just moved on is read where
/// it is met next.
fn learn(index: &mut Index, stem: &Stem, path: &Path) -> Result<(), Error> {
    if index.meets(stem.as_str()) {
        return Ok(());
    }
    let id = match read_id(path) {
        Ok(id) => id,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A link, a directory or a file of another user: it is no ticket of ours, but has a name.
        Err(_) => None,
    };
    index.insert(stem.clone(), id);
    Ok(())
}

/// Whether what was read of a directory is all that it was changed to at that time.
pub(super) fn is_settled(changed: &SystemTime) -> bool {
    SystemTime::now()
        .duration_since(*changed)
        .is_ok_and(|age| age > CLOCK_STEP)
}

fn read_id(path: &Path) -> io::Result<Option<IdHash>> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_file() || meta.len() > MAX_TICKET_BYTES as u64 {
        return Ok(None);
    }
    let bytes = fs::read(path)?;
    let identified = serde_json::from_slice::<Identified>(&bytes).ok();
    Ok(identified
        .and_then(|found| found.id.or(found.filepath))
        .map(|id| hash(&id)))
}

fn hash(id: &str) -> IdHash {
    let mut half = IdHash::default();
    half.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..16]);
    half
}

/// The wall clock as a [`Timestamp`]; a clock beyond year 9999 reads as 1970.
pub(super) fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}
