//! Drafts: outputs and backups while they are written, under names that nobody else uses.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::durable::{commit_new_on, parent, remove_if_there, sync_dirs_on, temp_in};
use crate::error::Error;
use crate::names::{AttemptName, Stem};
use crate::protocol::{CommitSteps, Disk, Step};
use crate::queue::Lease;

/// Where drafts lie, in the directory that they are to be published into: the same file system.
pub(super) const DRAFTS: &str = ".tmp";

/// An output while it is written, in the output's own file system. Dropping it removes it.
#[derive(Debug)]
pub struct Draft {
    pub(super) file: File,
    pub(super) temp: PathBuf,
    pub(super) target: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
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

/// While it lives nobody else's [`Draft::wait_for_turn`] returns for the same directory, in whichever process. The kernel frees
/// it when its owner dies.
#[derive(Debug)]
#[must_use = "another's turn begins when it is dropped"]
pub struct Turn(Option<File>);

impl Drop for Turn {
    /// Closing alone would not do, as for a ticket's lock: a child that is just being started has a copy of the descriptor.
    fn drop(&mut self) {
        if let Some(dir) = &self.0 {
            // If it fails, closing the last copy frees it all the same.
            dir.unlock().ok();
        }
    }
}

impl Draft {
    /// Waits until nobody publishes into the output's directory. For what is written beside the output: two drafts can have one
    /// target, and only the file that is committed is to be described. Where a directory cannot be opened or locked, as on
    /// some network file systems, nobody waits.
    pub fn wait_for_turn(&self) -> Turn {
        let dir = File::open(parent(&self.target));
        Turn(dir.and_then(|dir| dir.lock().map(|()| dir)).ok())
    }

    /// The file to write the output into. Empty at first.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Its temporary name, for what must open it by path. It keeps the final name's extension.
    pub fn path(&self) -> &Path {
        &self.temp
    }

    /// A temporary name for another file of this attempt, which goes as the draft goes when the
    /// attempt dies. `extension` must not be the draft's.
    pub fn companion(&self, extension: &str) -> PathBuf {
        self.temp.with_extension(extension)
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

/// Whom a draft, and the file that it becomes, is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Whom the process's umask lets: what is blurred may be shown.
    Any,
    /// This user: what is not.
    Own,
}

/// A fresh draft, named by stem and attempt, so that it can be found, and by chance, so that no
/// two attempts share one.
pub(super) fn create_draft(
    dir: &Path,
    lease: &Lease,
    extension: Option<&OsStr>,
    readers: Readers,
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
        .mode(match readers {
            Readers::Any => 0o666,
            Readers::Own => 0o600,
        })
        .open(&temp)
        .map_err(Error::io("create", &temp))?;
    Ok((file, temp))
}

/// Removes what earlier attempts at a ticket left. Only the ticket's owner may call it.
pub(super) fn drop_drafts(dir: &Path, stem: &Stem) -> Result<(), Error> {
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
