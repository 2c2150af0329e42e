//! What it tells that a file is not found: that it is gone, or that its disk is not mounted.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;

use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, fstatvfs, statat};
use serde::{Deserialize, Serialize};

use super::{RawDir, RelPath};

/// Which directory a file lay in. That is still told when the machine was started again, when devices may have other numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirId {
    /// Inode number.
    pub ino: u64,
    /// When it was made, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<Timestamp>,
    /// Where not, the number of the file system, which many make from its UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fsid: Option<u64>,
}

impl DirId {
    fn of(dir: OwnedFd) -> io::Result<Self> {
        let dir = File::from(dir);
        let meta = dir.metadata()?;
        let made = meta.created().ok().and_then(|made| made.try_into().ok());
        let fsid = match made {
            Some(_) => None,
            None => Some(fstatvfs(&dir)?.f_fsid),
        };
        let ino = meta.ino();
        Ok(Self { ino, made, fsid })
    }
}

/// What the place tells where a file is not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The directory is the one that the file lay in, which has it no more.
    Gone,
    /// The directory is missing or bare, as the mount point of a disk that is away; see [`RawDir::is_bare_at`].
    Away,
    /// Other files are there. They may be what is left, or lie in a directory in the place of one that is away.
    Unknown,
}

impl RawDir {
    /// The directory that a file lies in; `None` where there is no such file.
    pub fn home_of(&self, path: &RelPath) -> Option<DirId> {
        let dir = self.open_dir_of(path).ok()?;
        let stat = statat(&dir, path.file_name(), AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        DirId::of(dir).ok().filter(|_| is_file)
    }

    /// What it tells that [`RawDir::open_file`] found nothing at `path`, of a file that lay in `home` if that is known.
    pub fn absence_of(&self, path: &RelPath, home: Option<DirId>) -> Absence {
        if self.renew().is_err() {
            return Absence::Away;
        }
        let now = (self.open_dir_of(path).ok()).and_then(|dir| DirId::of(dir).ok());
        match now {
            Some(_) if now == home => Absence::Gone,
            _ if self.is_bare(path.dir()) => Absence::Away,
            _ => Absence::Unknown,
        }
    }
}
