//! Keeps finished videos within the disk budget and the age limit: the oldest published and backed-up videos go first.
//!
//! Invariants:
//! - Only what lies in the output and backup directories is ever deleted: videos that were published, and originals whose
//!   blurred videos were. Footage that waits to be processed is counted, never touched.
//! - A video's report goes after the video, so that no video is left without one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::statvfs;
use settings::{BlurSettings, DiskBudget};
use ticket_queue::DirectoryQueue;
use tracing::{info, warn};

use crate::report::FileReport;

/// How often the disk is looked at.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);
/// How often old receipts are looked for, which reads the whole queue.
pub(super) const PRUNE_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Files younger than this may still be part of a ticket that is being finished.
const GRACE: Duration = Duration::from_secs(60);
/// Receipts are kept at least this long.
const RECEIPT_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What one look came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tidied {
    /// Videos deleted.
    pub(super) deleted: u64,
    /// Bytes above the budget that could not be freed, since the rest is not processed yet.
    pub(super) over: u64,
}

/// Looks after three directories.
#[derive(Debug)]
pub(super) struct Janitor {
    raw: PathBuf,
    output: PathBuf,
    backup: Option<PathBuf>,
    budget: DiskBudget,
}

#[derive(Debug)]
struct Stored {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

impl Janitor {
    pub(super) fn new(settings: &BlurSettings) -> Self {
        Self {
            raw: settings.raw_dir.clone(),
            output: settings.output_dir.clone(),
            backup: settings.backup_dir.clone(),
            budget: settings.disk,
        }
    }

    /// Deletes what is too old or too much, oldest first.
    pub(super) fn tidy(&self, now: SystemTime) -> Tidied {
        let mut finished = files_below(&self.output);
        if let Some(backup) = &self.backup {
            finished.extend(files_below(backup));
        }
        let waiting: u64 = files_below(&self.raw).iter().map(|file| file.bytes).sum();
        let mut total = waiting + finished.iter().map(|file| file.bytes).sum::<u64>();
        let mut tidied = Tidied::default();
        if self.budget.cleanup_old_files {
            finished.retain(|file| is_video(&file.path));
            finished.sort_by_key(|file| file.modified);
            for file in finished {
                let age = now.duration_since(file.modified).unwrap_or_default();
                let Some(reason) = self.reason(age, total) else {
                    break;
                };
                if let Some(freed) = delete(&file, reason) {
                    total = total.saturating_sub(freed);
                    tidied.deleted += 1;
                }
            }
        }
        tidied.over = total.saturating_sub(self.budget.max_usage_bytes);
        tidied
    }

    /// Why a video of this age has to go while so many bytes are taken; `None` when it may stay.
    fn reason(&self, age: Duration, total: u64) -> Option<&'static str> {
        if age < GRACE {
            return None;
        }
        if age > self.budget.max_file_age {
            return Some("older than max_file_age_hours");
        }
        if total > self.budget.max_usage_bytes {
            return Some("more than max_disk_usage_gb taken");
        }
        let free = free_bytes(&self.output).ok()?;
        (free < self.budget.min_free_bytes).then_some("less than min_free_disk_gb free")
    }

    /// Removes old receipts of videos of which nothing is left.
    pub(super) fn prune(&self, queue: &DirectoryQueue) {
        let nothing_left = |receipt: &ticket_queue::Receipt| {
            !self.raw.join(&receipt.input.path).exists()
                && !self.output.join(&receipt.output.path).exists()
        };
        match queue.prune_receipts(RECEIPT_AGE.max(self.budget.max_file_age), &nothing_left) {
            Ok(0) => {}
            Ok(receipts) => info!(receipts, "old receipts removed"),
            Err(error) => warn!(%error, "old receipts cannot be removed"),
        }
    }
}

/// Deletes a video and then its report; the bytes freed, or `None` when it is still there.
fn delete(file: &Stored, reason: &'static str) -> Option<u64> {
    match fs::remove_file(&file.path) {
        Ok(()) => {}
        // Another instance was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(file.bytes),
        Err(error) => {
            warn!(%error, path = %file.path.display(), "an old video cannot be deleted");
            return None;
        }
    }
    info!(path = %file.path.display(), bytes = file.bytes, reason, "old video deleted");
    let report = FileReport::path_beside(&file.path);
    match fs::remove_file(&report) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(%error, path = %report.display(), "the report of a deleted video cannot be deleted");
        }
        _ => {}
    }
    Some(file.bytes)
}

fn is_video(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension != "json")
}

/// Regular files below a directory. Hidden ones in it are work in progress: counted nowhere. What cannot be read now is
/// met the next time.
fn files_below(folder: &Path) -> Vec<Stored> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let Ok(meta) = fs::symlink_metadata(&path) else {
            continue;
        };
        if meta.is_dir() {
            found.extend(files_below(&path));
        } else if let (true, Ok(modified)) = (meta.is_file(), meta.modified()) {
            found.push(Stored {
                path,
                bytes: meta.len(),
                modified,
            });
        }
    }
    found
}

/// Bytes that a user without privileges may still write in the file system of `folder`.
pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    struct Disk {
        folder: tempfile::TempDir,
        now: SystemTime,
    }

    impl Disk {
        fn new() -> Self {
            Self {
                folder: tempfile::tempdir().unwrap(),
                now: SystemTime::now(),
            }
        }

        fn file(&self, path: &str, bytes: usize, hours_old: u64) {
            let path = self.folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, vec![0; bytes]).unwrap();
            let time = self.now - Duration::from_secs(hours_old * 3600);
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }

        fn janitor(&self, max_usage_bytes: u64, cleanup_old_files: bool) -> Janitor {
            Janitor {
                raw: self.folder.path().join("raw"),
                output: self.folder.path().join("out"),
                backup: Some(self.folder.path().join("backup")),
                budget: DiskBudget {
                    max_usage_bytes,
                    min_free_bytes: 0,
                    cleanup_old_files,
                    max_file_age: Duration::from_secs(24 * 3600),
                },
            }
        }

        fn left(&self) -> Vec<String> {
            let mut names: Vec<String> = files_below(self.folder.path())
                .iter()
                .map(|file| {
                    file.path
                        .strip_prefix(self.folder.path())
                        .unwrap()
                        .display()
                        .to_string()
                })
                .collect();
            names.sort();
            names
        }
    }

    #[test]
    fn the_oldest_finished_videos_go_and_unprocessed_footage_never() {
        let disk = Disk::new();
        disk.file("raw/cam/old.mp4", 500, 100);
        disk.file("out/cam/blurred_a.mp4", 100, 3);
        disk.file("out/cam/blurred_a.json", 10, 3);
        disk.file("out/cam/blurred_b.mp4", 100, 1);
        disk.file("backup/cam/c.mp4", 100, 2);
        let tidied = disk.janitor(700, true).tidy(disk.now);
        assert_eq!(
            tidied,
            Tidied {
                deleted: 2,
                over: 0
            }
        );
        assert_eq!(disk.left(), ["out/cam/blurred_b.mp4", "raw/cam/old.mp4"]);
        let tidied = disk.janitor(100, true).tidy(disk.now);
        assert_eq!(
            tidied,
            Tidied {
                deleted: 1,
                over: 400
            }
        );
        assert_eq!(disk.left(), ["raw/cam/old.mp4"]);
    }

    #[test]
    fn age_alone_is_a_reason_and_youth_protects() {
        let disk = Disk::new();
        disk.file("out/cam/blurred_old.mp4", 10, 25);
        disk.file("out/cam/blurred_day.mp4", 10, 23);
        disk.file("out/cam/blurred_new.mp4", 10, 0);
        assert_eq!(disk.janitor(1000, true).tidy(disk.now).deleted, 1);
        assert_eq!(
            disk.left(),
            ["out/cam/blurred_day.mp4", "out/cam/blurred_new.mp4"]
        );
        assert_eq!(
            disk.janitor(0, true).tidy(disk.now),
            Tidied {
                deleted: 1,
                over: 10
            }
        );
        assert_eq!(disk.left(), ["out/cam/blurred_new.mp4"]);
    }

    #[test]
    fn nothing_is_deleted_when_that_is_forbidden_and_work_in_progress_is_left_alone() {
        let disk = Disk::new();
        disk.file("out/cam/blurred_old.mp4", 10, 25);
        disk.file("out/.tmp/draft.mp4", 10, 25);
        assert_eq!(
            disk.janitor(0, false).tidy(disk.now),
            Tidied {
                deleted: 0,
                over: 10
            }
        );
        assert_eq!(disk.janitor(0, true).tidy(disk.now).deleted, 1);
        assert!(disk.folder.path().join("out/.tmp/draft.mp4").exists());
    }
}
