//! One daemon of a kind at a time, by a kernel lock on a file.
//!
//! The kernel drops the lock when its owner dies, however it dies, so nothing can be stale. The pid
//! inside the file is for people and for [`holder`]; it is believed only when that process has the
//! very file open.

use crate::place;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// [`holder`] holds the lock for a moment when it is free; this long is tried before giving up.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);
/// How often the list of what a process has open is read before a file is not in it.
const READINGS: usize = 40;

/// Why the lock was not obtained.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("already running: {} is locked{}; stop that one first, or give this one another status_dir", .path.display(), .pid.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// The process that holds it, when that could be found out.
        pid: Option<u32>,
    },
    /// The file could not be opened or written.
    #[error("lock file {} cannot be used: {cause}; {}", .path.display(), place::advice("status_dir", .cause))]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What happened.
        cause: io::Error,
    },
}

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// A process that could not be identified.
    Unknown,
    /// The process of that id.
    Process(u32),
}

/// The lock, held until dropped.
#[derive(Debug)]
pub struct Singleton {
    _file: File,
}

impl Singleton {
    /// Takes the lock on the file, which is made when missing, and writes this process' id into it.
    ///
    /// # Errors
    /// [`LockError::Held`] when another process has it.
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let failed = |cause| LockError::Io {
            path: path.to_owned(),
            cause,
        };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(failed)?;
        }
        let mut file = open(path, true).map_err(failed)?;
        let mut tries = PATIENCE.as_millis() / PAUSE.as_millis();
        while let Err(error) = file.try_lock() {
            match error {
                TryLockError::Error(source) => return Err(failed(source)),
                TryLockError::WouldBlock if tries > 0 => std::thread::sleep(PAUSE),
                TryLockError::WouldBlock => {
                    let pid = pid_within(&mut file).filter(|pid| has_open(*pid, &file));
                    return Err(LockError::Held {
                        path: path.to_owned(),
                        pid,
                    });
                }
            }
            tries -= 1;
        }
        write_pid(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// Who holds the lock on that file.
///
/// # Errors
/// When the file is there but cannot be opened.
pub fn holder(path: &Path) -> io::Result<Holder> {
    let mut file = match open(path, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Holder::Nobody),
        Err(TryLockError::Error(error)) => Err(error),
        Err(TryLockError::WouldBlock) => Ok(match pid_within(&mut file) {
            Some(pid) if has_open(pid, &file) => Holder::Process(pid),
            _ => Holder::Unknown,
        }),
    }
}

/// Sends a signal to the process that holds the lock on that file. None when nobody does, or when the
/// process cannot be identified; else its id.
///
/// # Errors
/// When the file cannot be read or the signal not sent.
pub fn signal_holder(path: &Path, signal: Signal) -> io::Result<Option<u32>> {
    let Holder::Process(id) = holder(path)? else {
        return Ok(None);
    };
    let Some(pid) = i32::try_from(id).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    // Asked again with the process pinned, so that no stranger with the same id is hit.
    if holder(path)? != Holder::Process(id) {
        return Ok(None);
    }
    pidfd_send_signal(&process, signal)?;
    Ok(Some(id))
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .open(path)
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

fn pid_within(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Whether that process has this very file open, as the lock's owner must. Its list is read more than once where it seems not to:
/// a shell moves a descriptor out of the way of each command that it closes it for, past whoever reads the list just then.
fn has_open(pid: u32, file: &File) -> bool {
    let Ok(ours) = file.metadata() else {
        return false;
    };
    let is_listed = || {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd"));
        entries
            .into_iter()
            .flatten()
            .filter_map(|entry| std::fs::metadata(entry.ok()?.path()).ok())
            .any(|theirs| (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()))
    };
    (0..READINGS).any(|_| is_listed())
}
