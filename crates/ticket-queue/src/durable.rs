//! Files that survive a power cut: written aside, synced, renamed without replacing, directory
//! synced. For tickets, receipts, segments and outputs alike.
//!
//! Why each part is needed was measured on ext4, XFS and btrfs: a rename without the sync of its
//! directory is undone by a power cut; a rename of a file that was not synced leaves 0 bytes under
//! the final name. After a failed sync the file is given up: a second sync would say 0 for data
//! that is gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::error::Error;
use crate::protocol::{CommitSteps, Disk, NewFileSteps, RealDisk, Step};

/// Longest wait for a descriptor.
const PATIENCE_FOR_DESCRIPTORS: Duration = Duration::from_secs(10);

/// Makes the names in `dir` durable.
///
/// # Errors
/// [`Error::DirectorySync`]: stop the process.
pub fn fsync_dir(dir: &Path) -> Result<(), Error> {
    sync_dir(dir).map_err(Error::dir_sync(dir))
}

/// Renames within one file system and never replaces: `renameat2`, or a hard link and an unlink
/// where the file system lacks that. Not durable by itself.
///
/// # Errors
/// [`Error::is_already_there`] tells a taken name apart.
pub fn rename_noreplace(from: &Path, to: &Path) -> Result<(), Error> {
    rename_new(from, to).map_err(Error::io("rename to new name", to))
}

/// Brings a finished file from its temporary name to its final one: `fsync`, rename without
/// replacing, `fsync` of the directories. `temp` and `path` lie on one file system.
///
/// # Errors
/// The file is not under its final name, except for [`Error::DirectorySync`]. Its temporary name
/// is left to the caller.
pub fn commit_new(file: &File, temp: &Path, path: &Path) -> Result<(), Error> {
    commit_new_on(&RealDisk, CommitSteps::SEGMENT, file, temp, path)
}

/// [`commit_new`] over whatever lies there: a crash leaves the old file or the new one.
///
/// # Errors
/// The old file may still be there, except for [`Error::DirectorySync`].
pub fn commit_over(file: &File, temp: &Path, path: &Path) -> Result<(), Error> {
    commit_over_on(&RealDisk, CommitSteps::SEGMENT, file, temp, path)
}

/// [`commit_new`] by named steps on a given disk.
///
/// # Errors
/// As [`commit_new`].
pub fn commit_new_on(
    disk: &dyn Disk,
    steps: CommitSteps,
    file: &File,
    temp: &Path,
    path: &Path,
) -> Result<(), Error> {
    let rename = &|| rename_new(temp, path);
    commit_by(
        disk,
        steps,
        file,
        (temp, path),
        ("rename to new name", rename),
    )
}

/// Writes a new file whole or not at all, durably, through `temp`: a name on the same file system
/// that is free, and that somebody sweeps after a crash.
///
/// # Errors
/// [`Error::is_already_there`] if `path` exists; otherwise the disk.
pub fn write_new_durable(path: &Path, temp: &Path, bytes: &[u8]) -> Result<(), Error> {
    write_new_on(&RealDisk, NewFileSteps::TICKET, temp, path, bytes)
}

/// Writes a file whole, durably, over whatever lies there: a reader sees the old one or the new one.
///
/// # Errors
/// The disk; the old file may still be there.
pub fn replace_durable(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temp = temp_beside(path);
    replace_on(&RealDisk, NewFileSteps::TICKET, &temp, path, bytes)
}

/// [`write_new_durable`] by named steps on a given disk, through a given temporary name.
pub(crate) fn write_new_on(
    disk: &dyn Disk,
    steps: NewFileSteps,
    temp: &Path,
    path: &Path,
    bytes: &[u8],
) -> Result<(), Error> {
    let guard = TempGuard(temp);
    let file = write_temp(disk, steps.write, temp, bytes)?;
    commit_new_on(disk, steps.into(), &file, temp, path)?;
    std::mem::forget(guard);
    Ok(())
}

/// Writes a file whole, durably, over whatever lies there.
pub(crate) fn replace_on(
    disk: &dyn Disk,
    steps: NewFileSteps,
    temp: &Path,
    path: &Path,
    bytes: &[u8],
) -> Result<(), Error> {
    let guard = TempGuard(temp);
    let file = write_temp(disk, steps.write, temp, bytes)?;
    commit_over_on(disk, steps.into(), &file, temp, path)?;
    std::mem::forget(guard);
    Ok(())
}

/// [`commit_over`] by named steps on a given disk.
fn commit_over_on(
    disk: &dyn Disk,
    steps: CommitSteps,
    file: &File,
    temp: &Path,
    path: &Path,
) -> Result<(), Error> {
    let rename = &|| fs::rename(temp, path);
    commit_by(disk, steps, file, (temp, path), ("rename to", rename))
}

/// What both kinds of commit do around their `rename`, which errors call `action`.
fn commit_by(
    disk: &dyn Disk,
    steps: CommitSteps,
    file: &File,
    (temp, path): (&Path, &Path),
    (action, rename): (&'static str, &dyn Fn() -> io::Result<()>),
) -> Result<(), Error> {
    disk.perform(steps.sync, &mut || file.sync_all())
        .map_err(Error::io("sync", temp))?;
    disk.perform(steps.rename, &mut || rename())
        .map_err(Error::io(action, path))?;
    sync_dirs_on(disk, steps.sync_dir, parent(path), parent(temp))
}

/// Removes a file for good. `Ok(false)` if it was not there; the directory is synced all the same, if there is one.
///
/// # Errors
/// The file is still there, or may come back.
pub fn remove_durable(path: &Path) -> Result<bool, Error> {
    let removed = remove_if_there(path).map_err(Error::io("remove", path))?;
    match sync_dir(parent(path)) {
        // Somebody removed the directory, which says nothing of the disk.
        Err(error) if !removed && error.kind() == io::ErrorKind::NotFound => Ok(false),
        synced => synced
            .map(|()| removed)
            .map_err(Error::dir_sync(parent(path))),
    }
}

/// Makes a directory and what is missing above it, each made durable in its parent.
///
/// # Errors
/// The disk, or something else than a directory in the way.
pub fn create_dir_all_durable(dir: &Path) -> Result<(), Error> {
    create_dirs(dir, 0o777)
}

/// [`create_dir_all_durable`], but what it makes is open to this user only.
pub(crate) fn create_private_dir_all_durable(dir: &Path) -> Result<(), Error> {
    create_dirs(dir, 0o700)
}

/// With this mode, less what the process masks.
fn create_dirs(dir: &Path, mode: u32) -> Result<(), Error> {
    if dir.as_os_str().is_empty() || dir.is_dir() {
        return Ok(());
    }
    create_dirs(parent(dir), mode)?;
    match fs::DirBuilder::new().mode(mode).create(dir) {
        Ok(()) => fsync_dir(parent(dir)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(Error::io("create directory", dir)(error)),
    }
}

/// Syncs the directory a name went to, and the one it came from if that is another.
pub(crate) fn sync_dirs_on(
    disk: &dyn Disk,
    step: Step,
    to: &Path,
    from: &Path,
) -> Result<(), Error> {
    disk.perform(step, &mut || {
        sync_dir(to)?;
        if from == to { Ok(()) } else { sync_dir(from) }
    })
    .map_err(Error::dir_sync(to))
}

/// Removes the files in `dir` that were last written longer than `age` from now, except `keep`:
/// what dead processes left.
pub(crate) fn sweep(dir: &Path, keep: &str, age: Duration, now: SystemTime) -> Result<(), Error> {
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        // One that is gone by now was somebody's, and is no more.
        let Ok(written) = entry.metadata().and_then(|meta| meta.modified()) else {
            continue;
        };
        if distance(written, now) > age && entry.file_name() != keep {
            remove_if_there(&entry.path()).map_err(Error::io("sweep", &entry.path()))?;
        }
    }
    Ok(())
}

/// How far two times are apart, in either direction: a clock set back must not make anything young
/// for ever.
pub(crate) fn distance(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other)
        .unwrap_or_else(|error| error.duration())
}

/// The directory a path lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Path::new("."),
        Some(dir) => dir,
        None => Path::new("/"),
    }
}

/// Unlinks; `false` if there was nothing.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A name that no other process uses, for a temporary file in `dir`.
pub fn temp_in(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.{:016x}", rand::random::<u64>()))
}

pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_then_unlink(from, to),
        result => Ok(result?),
    }
}

/// The fallback: `link` refuses a taken name as atomically as `renameat2` does. A crash in between
/// leaves both names of one file.
fn link_then_unlink(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    open_dir(dir)?.sync_all()
}

/// Waits for a descriptor where there is none: what this process or another has too many open of says nothing of the disk, and
/// a directory that is not synced stops the program.
fn open_dir(dir: &Path) -> io::Result<File> {
    let deadline = Instant::now() + PATIENCE_FOR_DESCRIPTORS;
    loop {
        match File::open(dir) {
            Err(error) if is_short_of_descriptors(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            opened => return opened,
        }
    }
}

fn is_short_of_descriptors(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

fn write_temp(disk: &dyn Disk, step: Step, temp: &Path, bytes: &[u8]) -> Result<File, Error> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(temp)
        .map_err(Error::io("create", temp))?;
    disk.perform(step, &mut || file.write_all(bytes))
        .map_err(Error::io("write", temp))?;
    Ok(file)
}

fn temp_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    temp_in(parent(path), &format!(".{name}"))
}

/// Removes the temporary file of a write that failed.
struct TempGuard<'a>(&'a Path);

impl Drop for TempGuard<'_> {
    fn drop(&mut self) {
        // A leftover that cannot be removed is harmless: its name is random and swept later.
        fs::remove_file(self.0).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_file_never_replaces_and_leaves_no_temp() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let temp = dir.path().join("temp");
        write_new_durable(&path, &temp, b"first").unwrap();
        let error = write_new_durable(&path, &temp, b"second").unwrap_err();
        assert!(error.is_already_there(), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn a_file_that_went_with_its_directory_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!remove_durable(&dir.path().join("a")).unwrap());
        assert!(!remove_durable(&dir.path().join("gone/a")).unwrap());
    }

    #[test]
    fn a_file_is_replaced_and_leaves_no_temp() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for text in ["first", "second"] {
            replace_durable(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn both_ways_of_renaming_refuse_a_taken_name() {
        for rename in [rename_new, link_then_unlink] {
            let dir = tempfile::tempdir().unwrap();
            let (a, b) = (dir.path().join("a"), dir.path().join("b"));
            fs::write(&a, "a").unwrap();
            fs::write(&b, "b").unwrap();
            let error = rename(&a, &b).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&b).unwrap(), b"b");
            fs::remove_file(&b).unwrap();
            rename(&a, &b).unwrap();
            assert_eq!(names(dir.path()), ["b"]);
        }
    }

    #[test]
    fn directories_are_made_and_removal_is_idempotent() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("x/y/z");
        create_dir_all_durable(&deep).unwrap();
        create_dir_all_durable(&deep).unwrap();
        let path = deep.join("f");
        fs::write(&path, "").unwrap();
        assert!(remove_durable(&path).unwrap());
        assert!(!remove_durable(&path).unwrap());
        fs::write(&path, "").unwrap();
        assert!(create_dir_all_durable(&path.join("under a file")).is_err());
    }

    #[test]
    fn only_old_files_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["young", "old", "lock"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let hour = Duration::from_secs(3600);
        let long_ago = SystemTime::now() - 2 * hour;
        for name in ["old", "lock"] {
            let file = File::options()
                .write(true)
                .open(dir.path().join(name))
                .unwrap();
            file.set_modified(long_ago).unwrap();
        }
        sweep(dir.path(), "lock", hour, SystemTime::now()).unwrap();
        assert_eq!(names(dir.path()), ["lock", "young"]);
    }
}
