//! The kernel lock on a ticket's inode, and the check that the path still leads there.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::error::Error;
use crate::ticket::{MAX_TICKET_BYTES, Ticket, TicketError};

/// A locked ticket. The kernel frees the lock when its owner dies.
#[derive(Debug)]
pub(crate) struct Hold {
    file: File,
    /// Where the ticket lies now.
    pub(super) path: PathBuf,
    identity: (u64, u64),
    /// When the file was last written.
    pub(super) modified: SystemTime,
}

/// What trying to lock a ticket came to.
#[derive(Debug)]
pub(super) enum Locked {
    /// It is ours.
    Held(Hold),
    /// It is somebody else's, or has moved meanwhile.
    Busy,
    /// It is nothing that can be a ticket.
    Refused(String),
}

impl Hold {
    /// Locks the ticket at `path` without waiting. Lock first; whoever has the lock may rename.
    ///
    /// # Errors
    /// The kernel's, where another ticket would fare no better.
    pub(super) fn try_lock(path: &Path) -> Result<Locked, Error> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) => return unopened(path, error),
        };
        let meta = file.metadata().map_err(Error::io("stat", path))?;
        if !meta.is_file() {
            return Ok(Locked::Refused("it is not a regular file".to_owned()));
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Locked::Busy),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
        }
        let hold = Self {
            file,
            path: path.to_owned(),
            identity: (meta.dev(), meta.ino()),
            modified: meta.modified().map_err(Error::io("stat", path))?,
        };
        // The previous owner may have moved or removed it between our open and our lock.
        Ok(if hold.leads_to_path()? {
            Locked::Held(hold)
        } else {
            Locked::Busy
        })
    }

    /// Whether the path still leads to the inode that is locked.
    pub(super) fn leads_to_path(&self) -> Result<bool, Error> {
        match fs::symlink_metadata(&self.path) {
            Ok(meta) => Ok((meta.dev(), meta.ino()) == self.identity),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("stat", &self.path)(error)),
        }
    }

    /// Reads the ticket.
    ///
    /// # Errors
    /// The outer: it cannot be read. The inner: what was read is no ticket.
    pub(super) fn read(&self) -> Result<Result<Ticket, TicketError>, Error> {
        let mut bytes = Vec::new();
        (&self.file)
            .take(MAX_TICKET_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io("read", &self.path))?;
        Ok(Ticket::parse(&bytes))
    }

    /// Sets the modification time, which in `deferred/` means not before.
    pub(super) fn set_modified(&self, time: SystemTime) -> Result<(), Error> {
        self.file
            .set_modified(time)
            .map_err(Error::io("set the time of", &self.path))
    }
}

impl Drop for Hold {
    /// Closing alone would not do: a child that another thread is just starting has a copy of the
    /// descriptor until it calls `exec`, and the lock would live on in it.
    fn drop(&mut self) {
        // If it fails, closing the last copy frees the lock all the same.
        self.file.unlock().ok();
    }
}

fn unopened(path: &Path, error: io::Error) -> Result<Locked, Error> {
    let errno = Errno::from_io_error(&error);
    match errno {
        Some(Errno::NOENT) => Ok(Locked::Busy),
        Some(Errno::LOOP) => Ok(Locked::Refused("it is a symbolic link".to_owned())),
        Some(Errno::ISDIR | Errno::NXIO | Errno::NODEV) => {
            Ok(Locked::Refused("it is not a regular file".to_owned()))
        }
        _ => Err(Error::io("open ticket", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_hold_is_free_although_a_copy_of_the_descriptor_lives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue_1.json");
        fs::write(&path, "{}").unwrap();
        let Locked::Held(hold) = Hold::try_lock(&path).unwrap() else {
            panic!("it is free")
        };
        // As a child has that another thread has forked but that has not called exec yet.
        let _copy = hold.file.try_clone().unwrap();
        assert!(matches!(Hold::try_lock(&path).unwrap(), Locked::Busy));
        drop(hold);
        assert!(matches!(Hold::try_lock(&path).unwrap(), Locked::Held(_)));
    }
}
