//! An output under a name of its own until it is verified.
//!
//! The name ends in chance, so that no run is kept out by what an earlier one left. Whoever writes a draft has the lock on
//! it, which the kernel drops when he dies: drafts of this output without a lock are swept by the next run.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::OFlags;
use ticket_queue::durable;

/// A draft that is swept between its making and its locking is made again this often.
const MOST_TRIES: u32 = 100;
/// Of an output's name its draft's has so many bytes at most, so that file systems take it.
const MOST_BYTES: usize = 200;
const ENDING: &str = "part";

/// The file; removed if it is never committed.
pub(super) struct Draft {
    file: File,
    path: PathBuf,
}

impl Draft {
    /// A new file beside `output`, whose folder is made where it is missing.
    pub(super) fn create(output: &Path) -> anyhow::Result<Self> {
        let name = output
            .file_name()
            .context("the output has no file name")?
            .to_string_lossy();
        let folder = match output.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let start = format!(".{}", &name[..name.floor_char_boundary(MOST_BYTES)]);
        sweep(folder, &start);
        for _ in 0..MOST_TRIES {
            let mut path = durable::temp_in(folder, &start);
            path.add_extension(ENDING);
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path)
                .with_context(|| format!("create {}", path.display()))?;
            // A sweep that was faster has the lock, or has removed it. Where there are no locks there is no sweep.
            let is_swept = matches!(file.try_lock(), Err(TryLockError::WouldBlock));
            if !is_swept && path.exists() {
                return Ok(Self { file, path });
            }
        }
        bail!("no draft stays in {}", folder.display())
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name; what has that name is replaced only if `replace`.
    pub(super) fn commit(self, output: &Path, replace: bool) -> anyhow::Result<()> {
        match replace {
            true => durable::commit_over(&self.file, &self.path, output)?,
            false => durable::commit_new(&self.file, &self.path, output)?,
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a commit the name is gone.
        fs::remove_file(&self.path).ok();
    }
}

/// Removes drafts of the same output whose writers are gone. What cannot be removed is in nobody's way.
fn sweep(folder: &Path, start: &str) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if !is_draft(&entry.file_name(), start) {
            continue;
        }
        let path = entry.path();
        // No link, and no pipe that would have to be waited for.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits() as i32)
            .open(&path);
        // The lock is held until the name is gone.
        if opened.is_ok_and(|file| file.try_lock().is_ok() && fs::remove_file(&path).is_ok()) {
            tracing::warn!(path = %path.display(), "removed what an earlier run left");
        }
    }
}

/// `<start>.<16 hexadecimal digits>.part`.
fn is_draft(name: &OsStr, start: &str) -> bool {
    let chance = name
        .to_str()
        .and_then(|name| name.strip_prefix(start))
        .and_then(|rest| rest.strip_prefix('.'))
        .and_then(|rest| rest.strip_suffix(".part"));
    chance.is_some_and(|chance| chance.len() == 16 && chance.bytes().all(|c| c.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("the folder can be read");
        entries
            .map(|entry| {
                let name = entry.expect("the folder can be read").file_name();
                name.to_string_lossy().into_owned()
            })
            .collect()
    }

    #[test]
    fn drafts_of_the_dead_are_swept_and_those_of_the_living_stay() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("o.mp4");
        let others = [
            ".o.mp4.1.part",
            ".p.mp4.0123456789abcdef.part",
            "o.mp4.part",
        ];
        for name in others {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let first = Draft::create(&output).unwrap();
        let left = dir.path().join(".o.mp4.0123456789abcdef.part");
        fs::write(&left, "left").unwrap();
        let second = Draft::create(&output).unwrap();
        assert!(!left.exists());
        assert!(first.path.exists() && second.path.exists());
        drop((first, second));
        let mut left = names(dir.path());
        left.sort();
        assert_eq!(left, others);
    }

    /// As process 1 of a container every run has the same process id.
    #[test]
    fn what_an_earlier_run_left_keeps_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("o.mp4");
        let left = format!(".o.mp4.{}.part", std::process::id());
        fs::write(dir.path().join(left), "").unwrap();
        let draft = Draft::create(&output).unwrap();
        draft.commit(&output, false).unwrap();
        assert!(output.exists());
    }

    #[test]
    fn an_output_is_replaced_only_if_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("o.mp4");
        for (content, replace, expected) in [
            ("first", false, "first"),
            ("second", false, "first"),
            ("third", true, "third"),
        ] {
            let draft = Draft::create(&output).unwrap();
            draft.file().write_all(content.as_bytes()).unwrap();
            let committed = draft.commit(&output, replace);
            assert_eq!(committed.is_ok(), expected == content);
            assert_eq!(fs::read_to_string(&output).unwrap(), expected);
            assert_eq!(names(dir.path()), ["o.mp4"]);
        }
    }

    #[test]
    fn the_old_output_stays_until_the_new_one_has_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("o.mp4");
        fs::write(&output, "old").unwrap();
        let draft = Draft::create(&output).unwrap();
        fs::remove_file(&draft.path).unwrap();
        assert!(draft.commit(&output, true).is_err());
        assert_eq!(fs::read_to_string(&output).unwrap(), "old");
    }

    #[test]
    fn a_long_name_has_a_draft() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("é".repeat(125) + ".mp4");
        Draft::create(&output)
            .unwrap()
            .commit(&output, false)
            .unwrap();
        assert!(output.exists());
    }
}
