//! What becomes of the original once its output is published: deleted or backed up, and only if it
//! is the file that was processed and its output is there.

use std::fs::{self, File};
use std::io::{self, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
use rustix::io::Errno;

use super::Publisher;
use super::draft::{DRAFTS, Readers, create_draft, drop_drafts};
use crate::beneath::{Absence, FileId, Opened, RawDir, Reason, RelPath, Unlinked};
use crate::durable::{commit_new_on, create_private_dir_all_durable, parent, sync_dirs_on};
use crate::error::Error;
use crate::protocol::{NewFileSteps, Step};
use crate::queue::Lease;
use crate::receipt::Receipt;

/// The file that a receipt is about.
pub(super) struct Original<'a> {
    pub(super) raw: &'a RawDir,
    pub(super) path: RelPath,
    pub(super) seen: Option<FileId>,
    pub(super) receipt: &'a Receipt,
}

/// Where an original is.
enum Found {
    There(Opened),
    Not(Absence),
}

impl Original<'_> {
    /// Opens it if it is there and still the one that was processed.
    fn find(&self) -> Result<Found, Error> {
        let (file, id) = match self.raw.open_file(&self.path) {
            Ok(opened) => opened,
            Err(refused) if matches!(refused.reason, Reason::Missing) => {
                let home = self.receipt.original_dir;
                return Ok(Found::Not(self.raw.absence_of(&self.path, home)));
            }
            Err(refused) => return Err(refused.into()),
        };
        match self.seen {
            Some(seen) if seen == id => {}
            // Written to since, or only touched: its content tells.
            Some(seen) if (seen.dev, seen.ino) == (id.dev, id.ino) => self.compare(&file, id)?,
            Some(_) => return Err(self.changed("another file has its name")),
            None => self.compare(&file, id)?,
        }
        Ok(Found::There(Opened {
            path: self.path.clone(),
            file,
            id,
        }))
    }

    fn compare(&self, file: &File, id: FileId) -> Result<(), Error> {
        if id.size != self.receipt.input.bytes {
            return Err(self.changed("its size differs from the receipt"));
        }
        let same = self.is_content(file);
        match same.map_err(Error::io("read original", self.path.as_path()))? {
            true => Ok(()),
            false => Err(self.changed("its hash differs from the receipt")),
        }
    }

    /// Whether this is what the receipt says that the original held.
    fn is_content(&self, file: &File) -> io::Result<bool> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(file)?;
        Ok(hasher.finalize().to_hex().as_str() == self.receipt.input.blake3)
    }

    /// It is not there: its backup must be, or there is no saying that it was backed up.
    fn require_backup(&self, absence: Absence, backup: &Path) -> Result<(), Error> {
        let is_there = match File::open(backup) {
            Ok(file) => self.is_content(&file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        };
        match (is_there.map_err(Error::io("read", backup))?, absence) {
            (true, _) => Ok(()),
            (false, Absence::Away) => Err(self.away()),
            (false, Absence::Gone | Absence::Unknown) => Err(Error::OriginalLost {
                path: self.path.as_path().to_owned(),
                backup: backup.to_owned(),
                is_gone: absence == Absence::Gone,
            }),
        }
    }

    fn away(&self) -> Error {
        Error::OriginalAway {
            path: self.path.as_path().to_owned(),
        }
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

impl Publisher {
    pub(super) fn delete(&self, original: &Original<'_>) -> Result<(), Error> {
        match original.find()? {
            Found::There(opened) => {
                self.require_output(original.receipt)?;
                self.unlink(original, opened.id)?;
            }
            Found::Not(Absence::Gone) => {}
            // Of one that was processed before receipts told of directories nobody knows more.
            Found::Not(Absence::Unknown) if original.receipt.original_dir.is_none() => {}
            Found::Not(Absence::Away | Absence::Unknown) => return Err(original.away()),
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

    pub(super) fn back_up(
        &self,
        lease: &Lease,
        original: &Original<'_>,
        dir: &Path,
    ) -> Result<(), Error> {
        let target = dir.join(original.path.as_path());
        create_private_dir_all_durable(parent(&target))?;
        match original.find()? {
            Found::Not(absence) => original.require_backup(absence, &target)?,
            Found::There(mut opened) => {
                self.require_output(original.receipt)?;
                if fs::symlink_metadata(&target).is_ok() {
                    require_equal(&opened.file, &target)?;
                    self.sync_backup_dir(&target)?;
                    self.unlink(original, opened.id)?;
                } else if !self.move_within(original, &mut opened, &target)? {
                    self.copy(lease, &opened, dir, &target)?;
                    self.unlink(original, opened.id)?;
                }
            }
        }
        self.sync_backup_dir(&target)?;
        self.sync_original_dir(original)
    }

    /// Dates the original by now and renames it into the backup directory; `false` if it has to be copied, since that is
    /// another file system, or since only the file's owner may date it.
    fn move_within(
        &self,
        original: &Original<'_>,
        opened: &mut Opened,
        target: &Path,
    ) -> Result<bool, Error> {
        let mut found = None;
        self.disk
            .perform(Step::RenameBackup, &mut || {
                match date_by_now(&opened.file) {
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
                    dated => dated?,
                }
                opened.id = FileId::of_file(&opened.file)?;
                match original
                    .raw
                    .rename_if_same(&original.path, opened.id, target)
                {
                    Err(error) if cannot_rename(&error) => {}
                    result => found = Some(result?),
                }
                Ok(())
            })
            .map_err(Error::io("move original to", target))?;
        match found {
            // It was there a moment ago. The next attempt finds out what became of it.
            Some(Unlinked::Gone) => Err(original.away()),
            Some(found) => original.expect_same(found).map(|()| true),
            None => Ok(false),
        }
    }

    /// Copies the original under the backup's name, durably.
    fn copy(&self, lease: &Lease, from: &Opened, dir: &Path, target: &Path) -> Result<(), Error> {
        let drafts = dir.join(DRAFTS);
        create_private_dir_all_durable(&drafts)?;
        drop_drafts(&drafts, lease.stem())?;
        let (mut file, temp) = create_draft(&drafts, lease, None, Readers::Own)?;
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

/// The backup may be there from before a crash. Any other file of its name must not be lost.
fn require_equal(original: &File, backup: &Path) -> Result<(), Error> {
    let hash = |file: &File| -> io::Result<blake3::Hash> {
        let mut hasher = blake3::Hasher::new();
        let mut reader = file;
        reader.rewind()?;
        Ok(hasher.update_reader(reader)?.finalize())
    };
    let there = File::open(backup).map_err(Error::io("open", backup))?;
    if is_same_file(original, &there).map_err(Error::io("compare with the original", backup))? {
        return Err(Error::BackupIsOriginal {
            path: backup.to_owned(),
        });
    }
    let same = hash(original).and_then(|ours| Ok(ours == hash(&there)?));
    match same.map_err(Error::io("compare with the original", backup))? {
        true => Ok(()),
        false => Err(Error::BackupDiffers {
            path: backup.to_owned(),
        }),
    }
}

/// By a link, or because both directories are one. What is compared with itself is equal.
fn is_same_file(one: &File, other: &File) -> io::Result<bool> {
    let (one, other) = (one.metadata()?, other.metadata()?);
    Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
}

/// The age of a backup counts from when it was made: else one of footage that had to wait would be older than
/// `max_file_age_hours` at once. Durable before the rename is.
fn date_by_now(file: &File) -> io::Result<()> {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: UTIME_NOW,
    };
    let times = Timestamps {
        last_access: now,
        last_modification: now,
    };
    futimens(file, &times)?;
    file.sync_all()
}

/// Another file system, or one that cannot rename without replacing.
fn cannot_rename(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
    )
}
