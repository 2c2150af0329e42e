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

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use crate::beneath::{FileId, Opened, RawDir, Reason, RelPath, Unlinked};
use crate::durable::{
    commit_new_on, create_dir_all_durable, parent, remove_if_there, sweep, sync_dirs_on, temp_in,
};
use crate::error::Error;
use crate::names::{AttemptName, Stem};
use crate::protocol::{CommitSteps, Disk, NewFileSteps, Step};
use crate::queue::{Lease, Queue};
use crate::receipt::{OriginalFate, Receipt};

const DRAFTS: &str = ".tmp";
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

/// An output while it is written, in the output's own file system. Dropping it removes it.
#[derive(Debug)]
pub struct Draft {
    file: File,
    temp: PathBuf,
    target: PathBuf,
    disk: Arc<dyn Disk>,
}

/// What [`Draft::commit`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The draft is durable under this name.
    New(PathBuf),
    /// An earlier attempt's output already is, durably; the draft is dropped. A receipt must
    /// describe the file that is there.
    AlreadyThere(PathBuf),
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
        for dir in [Some(output_dir), backup_dir].into_iter().flatten() {
            let drafts = dir.join(DRAFTS);
            create_dir_all_durable(&drafts)?;
            sweep(&drafts, "", DRAFT_MAX_AGE, SystemTime::now())?;
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

    /// Starts an output that is to be `output`, relative to the output directory. Drafts of this
    /// ticket's earlier attempts are dropped.
    ///
    /// # Errors
    /// The disk.
    pub fn draft(&self, lease: &Lease, output: &RelPath) -> Result<Draft, Error> {
        let target = self.output_dir.join(output.as_path());
        create_dir_all_durable(parent(&target))?;
        let dir = self.output_dir.join(DRAFTS);
        drop_drafts(&dir, lease.stem())?;
        let (file, temp) = create_draft(&dir, lease, target.extension())?;
        Ok(Draft {
            file,
            temp,
            target,
            disk: Arc::clone(&self.disk),
        })
    }

    /// Finishes a ticket whose output is published: receipt, original, ticket. Calling it again
    /// after a crash at any point brings it to the same end; a receipt that is already there then
    /// counts, not the one given.
    ///
    /// `seen` is the original as the caller read it. `None`, after a restart, means that it is
    /// compared by content with the receipt before it goes.
    ///
    /// # Errors
    /// [`Error::OriginalChanged`], [`Error::OutputMissing`] and [`Error::BackupDiffers`] need a
    /// human; others may pass. The ticket stays in `active/`, unlocked, for the reaper.
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
        let drafts = self.output_dir.join(DRAFTS);
        sync_dirs_on(&*self.disk, Step::SyncOutputDir, parent(target), &drafts)
    }

    fn delete(&self, original: &Original<'_>) -> Result<(), Error> {
        if let Some(opened) = original.find()? {
            self.require_output(original.receipt)?;
            self.unlink(original, opened.id)?;
        }
        self.sync_original_dir(original)
    }

    /// The last look before the original goes: whatever the receipt says, something must be there.
    fn require_output(&self, receipt: &Receipt) -> Result<(), Error> {
        let path = self.output_dir.join(&receipt.output.path);
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() && meta.len() == receipt.output.bytes => Ok(()),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("stat output", &path)(error))
            }
            _ => Err(Error::OutputMissing { path }),
        }
    }

    fn unlink(&self, original: &Original<'_>, id: FileId) -> Result<(), Error> {
        let mut found = Unlinked::Gone;
        self.disk
            .perform(Step::UnlinkOriginal, &mut || {
                found = original.raw.try_unlink_if_same(&original.path, id)?;
                Ok(())
            })
            .map_err(Error::io("remove original", original.path.as_path()))?;
        original.expect_same(found)
    }

    /// Also where the original was gone before: a killed process may not have synced, and the
    /// original must not come back after its ticket is gone.
    fn sync_original_dir(&self, original: &Original<'_>) -> Result<(), Error> {
        self.disk
            .perform(Step::SyncOriginalDir, &mut || {
                original.raw.try_sync_dir_of(&original.path)
            })
            .map_err(Error::dir_sync(
                &original.raw.path().join(original.path.as_path()),
            ))
    }

    fn back_up(&self, lease: &Lease, original: &Original<'_>, dir: &Path) -> Result<(), Error> {
        let target = dir.join(original.path.as_path());
        create_dir_all_durable(parent(&target))?;
        if let Some(opened) = original.find()? {
            self.require_output(original.receipt)?;
            if fs::symlink_metadata(&target).is_ok() {
                require_equal(&opened.file, &target)?;
                self.sync_backup_dir(&target)?;
                self.unlink(original, opened.id)?;
            } else if !self.move_within(original, opened.id, &target)? {
                self.copy(lease, &opened, dir, &target)?;
                self.unlink(original, opened.id)?;
            }
        }
        self.sync_backup_dir(&target)?;
        self.sync_original_dir(original)
    }

    /// Renames the original into the backup directory; `false` if that is another file system.
    fn move_within(
        &self,
        original: &Original<'_>,
        id: FileId,
        target: &Path,
    ) -> Result<bool, Error> {
        let mut found = None;
        self.disk
            .perform(Step::RenameBackup, &mut || {
                match original.raw.rename_if_same(&original.path, id, target) {
                    Err(error) if cannot_rename(&error) => {}
                    result => found = Some(result?),
                }
                Ok(())
            })
            .map_err(Error::io("move original to", target))?;
        match found {
            Some(found) => original.expect_same(found).map(|()| true),
            None => Ok(false),
        }
    }

    /// Copies the original under the backup's name, durably.
    fn copy(&self, lease: &Lease, from: &Opened, dir: &Path, target: &Path) -> Result<(), Error> {
        let drafts = dir.join(DRAFTS);
        drop_drafts(&drafts, lease.stem())?;
        let (mut file, temp) = create_draft(&drafts, lease, None)?;
        let steps = NewFileSteps::BACKUP;
        let copied = self
            .disk
            .perform(steps.write, &mut || {
                (&from.file).rewind()?;
                io::copy(&mut &from.file, &mut file).map(drop)
            })
            .map_err(Error::io("copy original to", &temp))
            .and_then(|()| commit_new_on(&*self.disk, steps.into(), &file, &temp, target));
        if copied.is_err() {
            // Dropped by the next attempt if it cannot be removed now.
            fs::remove_file(&temp).ok();
        }
        copied
    }

    fn sync_backup_dir(&self, target: &Path) -> Result<(), Error> {
        sync_dirs_on(
            &*self.disk,
            Step::SyncBackupDir,
            parent(target),
            parent(target),
        )
    }
}

impl Draft {
    /// The file to write the output into. Empty at first.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its temporary name, for what must open it by path. It keeps the final name's extension.
    pub fn path(&self) -> &Path {
        &self.temp
    }

    /// Publishes a verified output durably. It never replaces a file.
    ///
    /// # Errors
    /// The output is not published, except for [`Error::DirectorySync`]: then it is unknown, and
    /// the process should stop.
    pub fn commit(self) -> Result<Committed, Error> {
        let steps = CommitSteps::OUTPUT;
        match commit_new_on(&*self.disk, steps, &self.file, &self.temp, &self.target) {
            Ok(()) => Ok(Committed::New(self.target.clone())),
            Err(error) if error.is_already_there() => {
                let dir = parent(&self.target);
                sync_dirs_on(&*self.disk, Step::SyncOutputDir, dir, dir)?;
                Ok(Committed::AlreadyThere(self.target.clone()))
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a commit the name is gone; a leftover is dropped by the next attempt.
        fs::remove_file(&self.temp).ok();
    }
}

/// The file that a receipt is about.
struct Original<'a> {
    raw: &'a RawDir,
    path: RelPath,
    seen: Option<FileId>,
    receipt: &'a Receipt,
}

impl Original<'_> {
    /// Opens it if it is there and still the one that was processed.
    fn find(&self) -> Result<Option<Opened>, Error> {
        let (file, id) = match self.raw.open_file(&self.path) {
            Ok(opened) => opened,
            Err(refused) if matches!(refused.reason, Reason::Missing) => return Ok(None),
            Err(refused) => return Err(refused.into()),
        };
        match self.seen {
            Some(seen) if seen == id => {}
            Some(_) => return Err(self.changed("another file has its name")),
            None => self.compare(&file, id)?,
        }
        Ok(Some(Opened {
            path: self.path.clone(),
            file,
            id,
        }))
    }

    fn compare(&self, file: &File, id: FileId) -> Result<(), Error> {
        if id.size != self.receipt.input.bytes {
            return Err(self.changed("its size differs from the receipt"));
        }
        let mut hasher = blake3::Hasher::new();
        hasher
            .update_reader(file)
            .map_err(Error::io("read original", self.path.as_path()))?;
        if hasher.finalize().to_hex().as_str() != self.receipt.input.blake3 {
            return Err(self.changed("its hash differs from the receipt"));
        }
        Ok(())
    }

    fn expect_same(&self, found: Unlinked) -> Result<(), Error> {
        match found {
            Unlinked::Removed | Unlinked::Gone => Ok(()),
            Unlinked::Different => Err(self.changed("another file has its name")),
        }
    }

    fn changed(&self, why: &'static str) -> Error {
        Error::OriginalChanged {
            path: self.path.as_path().to_owned(),
            why,
        }
    }
}

/// A fresh draft, named by stem and attempt, so that it can be found, and by chance, so that no
/// two attempts share one.
fn create_draft(
    dir: &Path,
    lease: &Lease,
    extension: Option<&OsStr>,
) -> Result<(File, PathBuf), Error> {
    let name = AttemptName {
        stem: lease.stem().clone(),
        attempt: lease.attempt(),
    };
    let mut temp = temp_in(dir, &name.to_string());
    if let Some(extension) = extension {
        temp.add_extension(extension);
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&temp)
        .map_err(Error::io("create", &temp))?;
    Ok((file, temp))
}

/// Removes what earlier attempts at a ticket left. Only the ticket's owner may call it.
fn drop_drafts(dir: &Path, stem: &Stem) -> Result<(), Error> {
    let prefix = format!("{stem}.a");
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        if entry
            .file_name()
            .to_str()
            .is_some_and(|name| name.starts_with(&prefix))
        {
            remove_if_there(&entry.path()).map_err(Error::io("remove", &entry.path()))?;
        }
    }
    Ok(())
}

/// The backup may be there from before a crash. Any other file of its name must not be lost.
fn require_equal(original: &File, backup: &Path) -> Result<(), Error> {
    let hash = |file: &File| -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        let mut reader = file;
        reader.rewind()?;
        Ok(hasher.update_reader(reader)?.finalize())
    };
    let there = File::open(backup).map_err(Error::io("open", backup))?;
    let same = hash(original).and_then(|ours| Ok(ours == hash(&there)?));
    match same.map_err(Error::io("compare with the original", backup))? {
        true => Ok(()),
        false => Err(Error::BackupDiffers {
            path: backup.to_owned(),
        }),
    }
}

/// Another file system, or one that cannot rename without replacing.
fn cannot_rename(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
    )
}
