//! The raw directory, from which a ticket must not lead out.
//!
//! A ticket is foreign text. Its path is resolved by the kernel (`openat2`) beneath the raw
//! directory and without symbolic links, must end at a regular file, and that file is unlinked
//! only through its directory's descriptor and only while the name still leads to the inode that
//! was read. Where the kernel or a container's filter lacks `openat2`, the path is walked one
//! component at a time with `O_NOFOLLOW`.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, fstat, fsync,
    openat, openat2, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use crate::error::{Error, is_away};
use crate::queue::Failure;

mod absence;

pub use absence::{Absence, DirId};

/// A relative path of plain names only: no `..`, no root, at least one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelPath(PathBuf);

impl RelPath {
    /// Takes `path` if it is relative and has no `..`; `.` and doubled slashes are dropped.
    pub fn new(path: impl AsRef<Path>) -> Option<Self> {
        let mut plain = PathBuf::new();
        for component in path.as_ref().components() {
            match component {
                Component::Normal(name) => plain.push(name),
                Component::CurDir => {}
                _ => return None,
            }
        }
        (!plain.as_os_str().is_empty()).then_some(Self(plain))
    }

    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    fn file_name(&self) -> &Path {
        Path::new(self.0.file_name().expect("a RelPath has at least one name"))
    }

    fn dir(&self) -> Option<&Path> {
        self.0.parent().filter(|dir| !dir.as_os_str().is_empty())
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Which file a descriptor led to, and that nobody has written to it since. Holds as long as the file exists and the machine
/// runs. Links, renames and locks change nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// When it was last written: seconds since 1970, and nanoseconds.
    pub modified: (i64, u32),
}

impl FileId {
    /// That of an open file, as it is now.
    pub(crate) fn of_file(file: &File) -> io::Result<Self> {
        Ok(Self::of(&fstat(file)?))
    }

    fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, stat.st_mtime_nsec as u32),
        }
    }
}

/// A file named by a ticket, opened.
#[derive(Debug)]
pub struct Opened {
    /// Where it lies beneath the raw directory.
    pub path: RelPath,
    /// Open for reading, close-on-exec.
    pub file: File,
    /// Which file it is.
    pub id: FileId,
}

/// Why a path was refused.
#[derive(Debug, thiserror::Error)]
#[error("{path:?} {reason}")]
pub struct Refused {
    /// The path as the ticket has it.
    pub path: String,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// It leads out of the raw directory.
    #[error("does not lie beneath the raw directory")]
    Outside,
    /// A symbolic link is in it.
    #[error("goes through a symbolic link")]
    Symlink,
    /// A directory, device or pipe.
    #[error("is not a regular file")]
    NotAFile,
    /// Nothing is there.
    #[error("does not exist in the raw directory")]
    Missing,
    /// The kernel would not open it.
    #[error("cannot be opened: {0}")]
    Unreadable(io::Error),
    /// The raw directory itself is not where it was.
    #[error("cannot be looked for, the raw directory is away: {0}")]
    Away(io::Error),
}

impl From<Refused> for Failure {
    /// A missing file is [`Failure::Dead`], an unreadable one may become readable
    /// ([`Failure::Retry`], or [`Failure::NotNow`] where its disk is away), and a ticket that points elsewhere is
    /// [`Failure::Corrupt`].
    fn from(refused: Refused) -> Self {
        let reason = refused.to_string();
        match refused.reason {
            Reason::Missing => Self::Dead { reason },
            Reason::Away(_) => Self::NotNow { reason },
            Reason::Unreadable(error) if is_away(&error) => Self::NotNow { reason },
            Reason::Unreadable(_) => Self::Retry { reason },
            Reason::Outside | Reason::Symlink | Reason::NotAFile => Self::Corrupt { reason },
        }
    }
}

/// What [`RawDir::unlink_if_same`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlinked {
    /// The file, and removed it. Not durable before [`RawDir::sync_dir_of`].
    Removed,
    /// Nothing.
    Gone,
    /// Another file, and left it alone.
    Different,
}

/// The directory beneath which all originals lie.
#[derive(Debug)]
pub struct RawDir {
    /// What [`RawDir::path`] led to when it was last looked at.
    fd: RwLock<Arc<OwnedFd>>,
    /// Device and inode numbers of the directories in which files of tickets were found.
    known: RwLock<BTreeSet<(u64, u64)>>,
    /// As configured, without a leading `./`.
    configured: PathBuf,
    absolute: PathBuf,
    canonical: PathBuf,
}

impl RawDir {
    /// Opens the directory. It may itself be, or lie behind, a symbolic link: the settings are
    /// trusted, tickets are not.
    ///
    /// # Errors
    /// It is missing, not a directory, or not accessible.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let fail = || Error::io("open raw directory", dir);
        let fd = open_dir(dir).map_err(|e| fail()(e.into()))?;
        Ok(Self {
            fd: RwLock::new(Arc::new(fd)),
            known: RwLock::default(),
            configured: dir
                .components()
                .filter(|c| *c != Component::CurDir)
                .collect(),
            absolute: std::path::absolute(dir).map_err(fail())?,
            canonical: dir.canonicalize().map_err(fail())?,
        })
    }

    /// The directory's absolute path, free of symbolic links.
    pub fn path(&self) -> &Path {
        &self.canonical
    }

    /// The places beneath the raw directory that a ticket's `filepath` can mean, likeliest first:
    /// relative to the working directory, relative to the raw directory, or absolute. Purely by
    /// name; nothing is opened.
    ///
    /// # Errors
    /// [`Reason::Outside`] if there is no such place.
    pub fn resolve(&self, filepath: &str) -> Result<Vec<RelPath>, Refused> {
        let path: PathBuf = Path::new(filepath)
            .components()
            .filter(|c| *c != Component::CurDir)
            .collect();
        let from_root = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        let mut texts = vec![
            path.strip_prefix(&self.configured)
                .ok()
                .filter(|_| !self.configured.as_os_str().is_empty()),
            from_root.strip_prefix(&self.absolute).ok(),
            from_root.strip_prefix(&self.canonical).ok(),
        ];
        if path.is_relative() {
            texts.push(Some(&path));
            // Written where the raw directory was `raw_videos`, read from another directory.
            texts.push(
                self.canonical
                    .file_name()
                    .and_then(|name| path.strip_prefix(name).ok()),
            );
        }
        let mut places: Vec<RelPath> = Vec::new();
        for place in texts.into_iter().flatten().filter_map(RelPath::new) {
            if !places.contains(&place) {
                places.push(place);
            }
        }
        if places.is_empty() {
            Err(refused(filepath, Reason::Outside))
        } else {
            Ok(places)
        }
    }

    /// Opens the file that a ticket names.
    ///
    /// # Errors
    /// Why it is refused. `Refused` converts into the [`Failure`] to hand to the queue.
    pub fn open_ticket_file(&self, filepath: &str) -> Result<Opened, Refused> {
        let places = self.resolve(filepath)?;
        self.looking_twice(|| {
            for path in &places {
                match self.open_beneath(path) {
                    Ok((file, id)) => {
                        let path = path.clone();
                        if let Ok(dir) = self.open_dir_of(&path).and_then(identity) {
                            let mut known =
                                self.known.write().unwrap_or_else(PoisonError::into_inner);
                            known.insert(dir);
                        }
                        return Ok(Opened { path, file, id });
                    }
                    Err(Reason::Missing) => {}
                    Err(reason) => return Err(reason),
                }
            }
            Err(Reason::Missing)
        })
        .map_err(|reason| refused(filepath, reason))
    }

    /// Opens a file beneath the raw directory for reading.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn open_file(&self, path: &RelPath) -> Result<(File, FileId), Refused> {
        self.looking_twice(|| self.open_beneath(path))
            .map_err(|reason| refused(&path.to_string(), reason))
    }

    /// Whether the directory in which a ticket's file should lie is missing or holds nothing, as the mount point of a disk that
    /// is away. Hidden files do not count: a recorder that runs begins with one. One in which a file of a ticket was found before
    /// is only empty.
    pub fn is_bare_at(&self, filepath: &str) -> bool {
        let is_renewed = self.renew().is_ok();
        let places = self.resolve(filepath).unwrap_or_default();
        !is_renewed || places.iter().all(|path| self.is_bare(path.dir()))
    }

    /// Whether the raw directory itself is missing or holds nothing.
    pub fn is_all_bare(&self) -> bool {
        self.renew().is_err() || self.is_bare(None)
    }

    fn is_bare(&self, dir: Option<&Path>) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = self.open_at(dir.unwrap_or(Path::new(".")), flags);
        let dir = match opened {
            Err(Errno::NOENT) => return true,
            Ok(dir) if self.is_known(&dir) => return false,
            opened => opened.and_then(Dir::new),
        };
        // What ext4 makes in every file system.
        let is_content = |name: &[u8]| !name.starts_with(b".") && name != b"lost+found";
        dir.is_ok_and(|dir| {
            dir.flatten()
                .all(|entry| !is_content(entry.file_name().to_bytes()))
        })
    }

    fn is_known(&self, dir: &OwnedFd) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        identity(dir).is_ok_and(|dir| known.contains(&dir))
    }

    /// A file that is not found may lie on a disk that was mounted over the directory since it was opened: before it counts
    /// as missing, it is looked for where the path leads now.
    fn looking_twice<T>(&self, look: impl Fn() -> Result<T, Reason>) -> Result<T, Reason> {
        match look() {
            Err(Reason::Missing | Reason::Unreadable(_)) if self.renew()? => look(),
            result => result,
        }
    }

    /// Opens the directory anew where its path leads to another one; says whether it did.
    fn renew(&self) -> Result<bool, Reason> {
        let away = |errno: Errno| Reason::Away(errno.into());
        let now = open_dir(&self.absolute).map_err(away)?;
        let new = identity(&now).map_err(away)?;
        if identity(&*self.fd()).is_ok_and(|old| old == new) {
            return Ok(false);
        }
        *self.fd.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
        Ok(true)
    }

    fn fd(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.fd.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Unlinks `path` if it still leads to the file that was read.
    ///
    /// # Errors
    /// The path is refused by now, or the unlink fails.
    pub fn unlink_if_same(&self, path: &RelPath, id: FileId) -> Result<Unlinked, Error> {
        self.try_unlink_if_same(path, id)
            .map_err(Error::io("unlink original", &self.canonical.join(&path.0)))
    }

    pub(crate) fn try_unlink_if_same(&self, path: &RelPath, id: FileId) -> io::Result<Unlinked> {
        self.if_same(path, id, |dir| {
            unlinkat(dir, path.file_name(), AtFlags::empty())
        })
    }

    /// Renames `path` to `target`, which may lie outside but on the same file system, if it still
    /// leads to the file that was read. Never replaces.
    pub(crate) fn rename_if_same(
        &self,
        path: &RelPath,
        id: FileId,
        target: &Path,
    ) -> io::Result<Unlinked> {
        self.if_same(path, id, |dir| {
            renameat_with(dir, path.file_name(), CWD, target, RenameFlags::NOREPLACE)
        })
    }

    /// Makes the removal of a file durable. A directory that is gone needs no sync.
    ///
    /// # Errors
    /// [`Error::DirectorySync`].
    pub fn sync_dir_of(&self, path: &RelPath) -> Result<(), Error> {
        self.try_sync_dir_of(path)
            .map_err(Error::dir_sync(&self.canonical.join(&path.0)))
    }

    pub(crate) fn try_sync_dir_of(&self, path: &RelPath) -> io::Result<()> {
        match self.open_dir_of(path) {
            Ok(dir) => Ok(fsync(dir)?),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn if_same(
        &self,
        path: &RelPath,
        id: FileId,
        action: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<()>,
    ) -> io::Result<Unlinked> {
        let dir = match self.open_dir_of(path) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(Unlinked::Gone),
            Err(errno) => return Err(errno.into()),
        };
        match statat(&dir, path.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(Unlinked::Gone),
            Err(errno) => Err(errno.into()),
            Ok(stat) if FileId::of(&stat) != id => Ok(Unlinked::Different),
            Ok(_) => Ok(action(dir.as_fd()).map(|()| Unlinked::Removed)?),
        }
    }

    fn open_beneath(&self, path: &RelPath) -> Result<(File, FileId), Reason> {
        // O_NONBLOCK: opening a pipe that was put there must not hang.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = self.open_at(&path.0, flags).map_err(reason)?;
        let stat = fstat(&fd).map_err(reason)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Reason::NotAFile);
        }
        Ok((File::from(fd), FileId::of(&stat)))
    }

    fn open_dir_of(&self, path: &RelPath) -> rustix::io::Result<OwnedFd> {
        self.open_at(
            path.dir().unwrap_or(Path::new(".")),
            OFlags::RDONLY | OFlags::DIRECTORY,
        )
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let root = self.fd();
        match openat2(&*root, path, flags, Mode::empty(), resolve) {
            // Older container filters answer EPERM for calls they do not know.
            Err(Errno::NOSYS | Errno::PERM) => walk(root.as_fd(), path, flags),
            result => result,
        }
    }
}

/// Which directory it is, as long as the machine runs.
fn identity(dir: impl AsFd) -> rustix::io::Result<(u64, u64)> {
    fstat(dir).map(|stat| (stat.st_dev, stat.st_ino))
}

fn open_dir(dir: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, dir, flags, Mode::empty())
}

/// Opens `path` (plain names only) one component at a time, following no symbolic link.
fn walk(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let dir_flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir: Option<OwnedFd> = None;
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let at = dir.as_ref().map_or(root, AsFd::as_fd);
        let last = components.peek().is_none();
        let name: &Path = component.as_ref();
        let opened = openat(
            at,
            name,
            if last { flags } else { dir_flags },
            Mode::empty(),
        );
        dir = Some(opened.map_err(|errno| symlink_or(errno, at, name))?);
    }
    dir.ok_or(Errno::NOENT)
}

/// Tells a symbolic link, where a directory was wanted, from a file: both give `ENOTDIR`.
fn symlink_or(errno: Errno, dir: BorrowedFd<'_>, name: &Path) -> Errno {
    let is_symlink = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
    if is_symlink { Errno::LOOP } else { errno }
}

fn reason(errno: Errno) -> Reason {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Reason::Missing,
        Errno::LOOP => Reason::Symlink,
        Errno::XDEV => Reason::Outside,
        // A socket, or a device without a driver.
        Errno::NXIO | Errno::NODEV => Reason::NotAFile,
        other => Reason::Unreadable(other.into()),
    }
}

fn refused(path: &str, reason: Reason) -> Refused {
    Refused {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests;
