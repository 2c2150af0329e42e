//! What can go wrong, by what the caller should do about it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::beneath::Reason;
use crate::names::Stem;

/// Why a queue or publish operation did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file operation failed. Try again later; [`Error::is_no_space`] tells a full disk apart.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb: `rename`, `open`.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A directory could not be synced, so it is unknown what a power cut would leave. Stop the
    /// process: after a restart the recovery reads what is really on disk.
    #[error("cannot sync directory {} to disk; stop and check this disk", path.display())]
    DirectorySync {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The queue lies where locks can be lost. Choose another directory.
    #[error(
        "queue directory {} is on a network file system ({kind}), where a lock can be lost and a \
         ticket be worked on twice; set queue_dir to a directory on a local disk",
        path.display()
    )]
    NetworkFileSystem {
        /// The queue directory.
        path: PathBuf,
        /// The file system's name, such as `nfs`.
        kind: String,
    },
    /// The ticket is no longer where its owner put it: somebody moved it by hand. Drop the work.
    #[error("ticket {stem} (attempt {attempt}) was taken away from its owner")]
    LeaseLost {
        /// The ticket.
        stem: Stem,
        /// The attempt that was held.
        attempt: u32,
    },
    /// A ticket was to be removed without proof that its work is done: a bug in the caller.
    #[error("ticket {stem} has no receipt yet; write it before completing")]
    NoReceipt {
        /// The ticket.
        stem: Stem,
    },
    /// A receipt was to be written that is about another ticket: a bug in the caller.
    #[error("receipt for {receipt} does not belong to ticket {stem}")]
    ForeignReceipt {
        /// The ticket.
        stem: Stem,
        /// What the receipt names.
        receipt: String,
    },
    /// A ticket to be put back is not in `failed/` or `corrupt/`.
    #[error("no ticket {stem} in failed/ or corrupt/; list the queue to see what is there")]
    NotFound {
        /// What was asked for.
        stem: Stem,
    },
    /// Of the tickets to be put back only some were; the first error of the others.
    #[error("{} tickets are back in the queue, the others are not", back.len())]
    NotAllBack {
        /// Which were.
        back: Vec<Stem>,
        /// Why one was not.
        #[source]
        source: Box<Error>,
    },
    /// The original is not the file that the receipt is about. It is kept.
    #[error("original {} is not the file that was processed ({why}); it is kept", path.display())]
    OriginalChanged {
        /// The original, relative to the raw directory.
        path: PathBuf,
        /// The difference.
        why: &'static str,
    },
    /// The original is not there, and neither is the directory that it lay in, as while its disk is not mounted.
    #[error("original {} is not there, and its disk seems to be away; mount it", path.display())]
    OriginalAway {
        /// The original, relative to the raw directory.
        path: PathBuf,
    },
    /// The original was to be backed up. It is not there, and no backup of it is.
    #[error(
        "neither original {} of this published video is there nor a backup of it, {}; if the disk of one of them is away, \
         mount it and put the ticket back",
        path.display(),
        backup.display()
    )]
    OriginalLost {
        /// The original, relative to the raw directory.
        path: PathBuf,
        /// Where the backup should be.
        backup: PathBuf,
        /// Whether the original was removed for certain, so that there is nothing to wait for.
        is_gone: bool,
    },
    /// The output that the receipt is about is gone or not whole. The original is kept.
    #[error(
        "output {} of this ticket is missing or not whole; its original is kept; to process it \
         again remove what is left of the output and put the ticket back",
        path.display()
    )]
    OutputMissing {
        /// The output.
        path: PathBuf,
    },
    /// The backup's name is taken by a different file. The original is kept.
    #[error("backup {} exists and differs from the original, which is kept; move it away", path.display())]
    BackupDiffers {
        /// The backup's path.
        path: PathBuf,
    },
    /// The backup's name leads to the original itself, which would be gone with it.
    #[error("backup {} is the original itself, which is kept; let backup_dir be another directory than raw_dir", path.display())]
    BackupIsOriginal {
        /// The backup's path.
        path: PathBuf,
    },
    /// A receipt asks for a backup, but the publisher has no backup directory.
    #[error("the receipt asks for a backup of the original; set backup_dir to finish this ticket")]
    NoBackupDir,
    /// The path in a ticket was refused; see [`crate::beneath::Refused`].
    #[error(transparent)]
    Refused(#[from] crate::beneath::Refused),
}

impl Error {
    /// Wraps `source` with the verb and the path it happened on.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// As [`Error::io`], for the sync of a directory.
    pub(crate) fn dir_sync(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::DirectorySync { path, source }
    }

    /// Whether the disk (or the quota) is full: a failure that must not count as an attempt.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::DirectorySync { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
    }

    /// Whether a name that was to be new is taken.
    pub fn is_already_there(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }

    /// Whether this user lacks a permission.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether the file system takes no writes at all, as after an error of its disk. What is on it is known again once it
    /// takes them: it was mounted anew, or synced before it became read-only.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::Io { source, .. } | Self::DirectorySync { source, .. }
            if source.kind() == io::ErrorKind::ReadOnlyFilesystem)
    }

    /// Whether a place is out of order rather than a file: full, read-only, without permission, with a failing disk, or no
    /// longer reached. It is the fault of no ticket, and must not count as an attempt of one.
    pub fn is_of_place(&self) -> bool {
        match self {
            Self::Io { source, .. } | Self::DirectorySync { source, .. } => {
                self.is_no_space() || place_refuses(source)
            }
            Self::Refused(refused) => match &refused.reason {
                Reason::Away(_) => true,
                Reason::Unreadable(error) => place_refuses(error),
                _ => false,
            },
            Self::OriginalAway { .. } => true,
            _ => false,
        }
    }

    /// Whether the process should stop, because the state of the disk is unknown; not where it only takes no writes, see
    /// [`Error::is_read_only`].
    pub fn must_stop(&self) -> bool {
        matches!(self, Self::DirectorySync { .. }) && !self.is_read_only()
    }
}

/// Whether the kernel refuses because of a whole file system, directory or disk.
fn place_refuses(error: &io::Error) -> bool {
    is_away(error)
        || matches!(
            Errno::from_io_error(error),
            Some(Errno::ACCESS | Errno::PERM)
        )
}

/// [`place_refuses`], but for permissions, which a single file may lack as well.
pub(crate) fn is_away(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::ROFS
                | Errno::IO
                | Errno::STALE
                | Errno::NOTCONN
                | Errno::HOSTDOWN
                | Errno::TIMEDOUT
                | Errno::NODEV
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_out_of_order_is_told_from_a_fault_of_one_file() {
        let error = |errno: Errno| Error::io("create", Path::new("x"))(errno.into());
        for errno in [
            Errno::ROFS,
            Errno::ACCESS,
            Errno::IO,
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::STALE,
            Errno::HOSTDOWN,
        ] {
            assert!(error(errno).is_of_place(), "{errno}");
        }
        for errno in [Errno::EXIST, Errno::NOENT, Errno::INVAL] {
            assert!(!error(errno).is_of_place(), "{errno}");
        }
        let sync = |errno: Errno| Error::dir_sync(Path::new("x"))(errno.into());
        assert!(sync(Errno::IO).must_stop() && !sync(Errno::ROFS).must_stop());
    }
}
