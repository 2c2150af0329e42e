//! Publishing an output and finishing its ticket, so that a crash between any two steps loses
//! nothing and publishes nothing twice.
//!
//! The order, after the claim: the caller writes a [`Draft`] and verifies it; [`Draft::commit`]
//! syncs it, renames it without replacing and syncs the directory; [`Publisher::finish`] makes the
//! receipt durable, removes the original (only if it is the file that was read) or moves it to the
//! backup directory, syncs, unlinks the ticket and syncs.
//!
//! | found at claim or reap | [`Stage`] | to do |
//! |---|---|---|
//! | no final file, perhaps a draft | [`Stage::Work`] | process ([`Publisher::draft`] drops old drafts) |
//! | final file, no receipt | [`Stage::Published`] | make a receipt from the final file, finish |
//! | receipt; original there, gone or back | [`Stage::Receipted`] | finish with that receipt |
//!
//! An original that is not found is gone for certain only where its directory is the one that the receipt says it lay in, or
//! where its backup is there. Otherwise its disk may be away, and to complete the ticket would be to forget it.

mod draft;
mod original;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::beneath::{FileId, RawDir, RelPath};
use crate::durable::{
    create_dir_all_durable, create_private_dir_all_durable, parent, remove_if_there, sweep,
    sync_dirs_on, temp_in,
};
use crate::error::Error;
use crate::protocol::{Disk, Step};
use crate::queue::{Lease, Queue};
use crate::receipt::{OriginalFate, Receipt};

pub use draft::{Committed, Draft, Turn};

use draft::{DRAFTS, Readers};
use original::Original;

/// Drafts last written longer ago are of tickets that were given up. No video takes so long.
const DRAFT_MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Publishes into one output directory, and keeps originals in a backup directory if asked to.
#[derive(Clone, Debug)]
pub struct Publisher {
    output_dir: PathBuf,
    backup_dir: Option<PathBuf>,
    disk: Arc<dyn Disk>,
}

/// How far a claimed ticket has come.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// Nothing is published: do the work.
    Work,
    /// The verified output is under its final name, durably; the receipt is missing.
    Published(PathBuf),
    /// The receipt is written; only finishing is left.
    Receipted(Box<Receipt>),
}

impl Publisher {
    /// Publishes into `output_dir`; moves originals into `backup_dir` where a receipt says
    /// [`OriginalFate::BackedUp`]. The backup may lie on another file system. Both are made, and
    /// drafts that nobody has touched for a day are removed.
    ///
    /// # Errors
    /// A directory cannot be made.
    pub fn open(
        output_dir: &Path,
        backup_dir: Option<&Path>,
        disk: Arc<dyn Disk>,
    ) -> Result<Self, Error> {
        create_dir_all_durable(&output_dir.join(DRAFTS))?;
        if let Some(backup_dir) = backup_dir {
            // What lies above belongs to others as well.
            create_dir_all_durable(parent(backup_dir))?;
            create_private_dir_all_durable(&backup_dir.join(DRAFTS))?;
        }
        for dir in [Some(output_dir), backup_dir].into_iter().flatten() {
            sweep(&dir.join(DRAFTS), "", DRAFT_MAX_AGE, SystemTime::now())?;
        }
        Ok(Self {
            output_dir: output_dir.to_owned(),
            backup_dir: backup_dir.map(Path::to_owned),
            disk,
        })
    }

    /// The directory that outputs are published into.
    pub fn output_dir(&self) -> &Path {
        &self.output_dir
    }

    /// Tells what is left to do for a claimed ticket whose output is to be `output`, relative to
    /// the output directory.
    ///
    /// # Errors
    /// The disk.
    pub fn stage(&self, lease: &Lease, output: &RelPath) -> Result<Stage, Error> {
        if let Some(receipt) = lease.receipt() {
            return Ok(Stage::Receipted(Box::new(receipt.clone())));
        }
        let target = self.output_dir.join(output.as_path());
        match fs::symlink_metadata(&target) {
            Ok(_) => {
                self.sync_published(&target)?;
                Ok(Stage::Published(target))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Stage::Work),
            Err(error) => Err(Error::io("stat", &target)(error)),
        }
    }

    /// Whether anything can be written where outputs are begun.
    ///
    /// # Errors
    /// Why not.
    pub fn try_output(&self) -> Result<(), Error> {
        let probe = temp_in(&self.drafts()?, "probe");
        File::create_new(&probe).map_err(Error::io("create", &probe))?;
        remove_if_there(&probe).map_err(Error::io("remove", &probe))?;
        Ok(())
    }

    /// Starts an output that is to be `output`, relative to the output directory. Drafts of this
    /// ticket's earlier attempts are dropped.
    ///
    /// # Errors
    /// The disk.
    pub fn draft(&self, lease: &Lease, output: &RelPath) -> Result<Draft, Error> {
        let target = self.output_dir.join(output.as_path());
        create_dir_all_durable(parent(&target))?;
        let dir = self.drafts()?;
        draft::drop_drafts(&dir, lease.stem())?;
        let (file, temp) = draft::create_draft(&dir, lease, target.extension(), Readers::Any)?;
        Ok(Draft {
            file,
            temp,
            target,
            disk: Arc::clone(&self.disk),
        })
    }

    /// Where outputs are begun. Somebody may have emptied the output directory, or mounted a disk there, since it was opened.
    fn drafts(&self) -> Result<PathBuf, Error> {
        let dir = self.output_dir.join(DRAFTS);
        create_dir_all_durable(&dir)?;
        Ok(dir)
    }

    /// Finishes a ticket whose output is published: receipt, original, ticket. Calling it again
    /// after a crash at any point brings it to the same end; a receipt that is already there then
    /// counts, not the one given.
    ///
    /// `seen` is the original as the caller read it. `None`, after a restart, means that it is
    /// compared by content with the receipt before it goes.
    ///
    /// # Errors
    /// [`Error::OriginalChanged`], [`Error::OriginalLost`], [`Error::OutputMissing`] and
    /// [`Error::BackupDiffers`] need a human; others may pass. The ticket stays in `active/`, unlocked, for the reaper.
    pub fn finish(
        &self,
        queue: &dyn Queue,
        lease: Lease,
        receipt: &Receipt,
        raw: &RawDir,
        seen: Option<FileId>,
    ) -> Result<(), Error> {
        self.settle(queue, &lease, receipt, raw, seen)?;
        queue.complete(lease)
    }

    /// [`Publisher::finish`] up to the ticket, which the caller then completes, or fails where
    /// this failed.
    ///
    /// # Errors
    /// As [`Publisher::finish`].
    pub fn settle(
        &self,
        queue: &dyn Queue,
        lease: &Lease,
        receipt: &Receipt,
        raw: &RawDir,
        seen: Option<FileId>,
    ) -> Result<(), Error> {
        let original_dir =
            RelPath::new(&receipt.input.path).and_then(|original| raw.home_of(&original));
        let receipt = &Receipt {
            original_dir,
            ..receipt.clone()
        };
        queue.write_receipt(lease, receipt)?;
        let stored = queue.receipt(lease.stem())?;
        let receipt = stored.as_ref().unwrap_or(receipt);
        let Some(path) = RelPath::new(&receipt.input.path) else {
            let path = PathBuf::from(&receipt.input.path);
            return Err(Error::OriginalChanged {
                path,
                why: "its path is not a plain one",
            });
        };
        let original = Original {
            raw,
            path,
            seen,
            receipt,
        };
        match (receipt.original, &self.backup_dir) {
            (OriginalFate::Kept, _) => Ok(()),
            (OriginalFate::Deleted, _) => self.delete(&original),
            (OriginalFate::BackedUp, Some(dir)) => self.back_up(lease, &original, dir),
            (OriginalFate::BackedUp, None) => Err(Error::NoBackupDir),
        }
    }

    /// Makes a final file durable that a killed process may have renamed without syncing.
    fn sync_published(&self, target: &Path) -> Result<(), Error> {
        let drafts = self.drafts()?;
        sync_dirs_on(&*self.disk, Step::SyncOutputDir, parent(target), &drafts)
    }
}
