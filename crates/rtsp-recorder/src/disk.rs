//! Room on the disk: how much is taken, what may go, and when recording has to wait.
//!
//! Invariants:
//! - Only segments are deleted whose receipt says that they are processed; footage that is not is never touched.
//! - Recording pauses while less than the floor is free, so that the processor can still publish what it has and
//!   thereby make room.

use crate::names::SegmentPaths;
use rustix::fs::statvfs;
use settings::DiskBudget;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use ticket_queue::DirectoryQueue;
use ticket_queue::durable::remove_durable;
use tracing::{info, warn};

/// What a look at the disk found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskReport {
    /// Recording must wait for space.
    pub is_full: bool,
    /// What a person should know.
    pub alarms: Vec<String>,
}

/// Keeps the raw directory within its budget.
#[derive(Debug)]
pub struct DiskKeeper {
    raw_dir: PathBuf,
    budget: DiskBudget,
}

#[derive(Debug, Clone)]
struct StoredFile {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

impl DiskKeeper {
    /// For that raw directory.
    pub fn new(raw_dir: &Path, budget: DiskBudget) -> Self {
        DiskKeeper {
            raw_dir: raw_dir.to_owned(),
            budget,
        }
    }

    /// Looks at the disk and deletes what may go. Blocks.
    ///
    /// # Errors
    /// The disk cannot be asked, which says nothing about how full it is.
    pub fn look(&self, queue: &DirectoryQueue, now: SystemTime) -> std::io::Result<DiskReport> {
        let files = self.files();
        let total: u64 = files.iter().map(|file| file.bytes).sum();
        let mut over = total.saturating_sub(self.budget.max_usage_bytes);
        let short = self
            .budget
            .min_free_bytes
            .saturating_sub(free_bytes(&self.raw_dir)?);
        let mut wanted = over.max(short);
        if self.budget.cleanup_old_files {
            let freed = self.evict(files, queue, wanted, now);
            over = over.saturating_sub(freed);
            wanted = wanted.saturating_sub(freed);
        }
        let mut report = DiskReport::default();
        if wanted > 0 && free_bytes(&self.raw_dir)? < self.budget.min_free_bytes {
            report.is_full = true;
            report.alarms.push(format!(
                "less than {} free where {} lies; recording waits until there is space",
                gib(self.budget.min_free_bytes),
                self.raw_dir.display()
            ));
        }
        if over > 0 {
            report.alarms.push(format!(
                "raw videos take {}, more than max_disk_usage_gb allows, and are not yet processed; nothing of them is deleted",
                gib(total)
            ));
        }
        Ok(report)
    }

    /// All files below the raw directory's source directories, oldest first; sources no longer configured too.
    fn files(&self) -> Vec<StoredFile> {
        let mut files: Vec<StoredFile> = segments_below(&self.raw_dir)
            .into_iter()
            .filter_map(|path| {
                let meta = path.symlink_metadata().ok()?;
                Some(StoredFile {
                    bytes: meta.len(),
                    modified: meta.modified().ok()?,
                    path,
                })
            })
            .collect();
        files.sort_by_key(|file| file.modified);
        files
    }

    /// Deletes processed segments that are too old, and the oldest of the others until `wanted` bytes are free.
    fn evict(
        &self,
        files: Vec<StoredFile>,
        queue: &DirectoryQueue,
        wanted: u64,
        now: SystemTime,
    ) -> u64 {
        let mut freed = 0;
        for file in files {
            let age = now.duration_since(file.modified).unwrap_or(Duration::ZERO);
            let too_old = age > self.budget.max_file_age;
            if !too_old && freed >= wanted {
                break;
            }
            if !is_processed(&file.path, queue) {
                continue;
            }
            match remove_durable(&file.path) {
                Ok(_) => {
                    freed += file.bytes;
                    let why = if too_old {
                        "older than max_file_age_hours"
                    } else {
                        "space is needed"
                    };
                    info!(file = %file.path.display(), bytes = file.bytes, why, "deleted a processed original");
                }
                Err(error) => {
                    warn!(file = %file.path.display(), %error, "a processed original could not be deleted")
                }
            }
        }
        freed
    }
}

/// True when the queue holds a receipt for the segment.
fn is_processed(path: &Path, queue: &DirectoryQueue) -> bool {
    let Some(paths) = SegmentPaths::of_final(path) else {
        return false;
    };
    match crate::recover::standing(queue, &paths.id()) {
        Ok(standing) => standing == crate::recover::Standing::Processed,
        Err(error) => {
            warn!(file = %path.display(), %error, "cannot tell whether a segment is processed; it is kept");
            false
        }
    }
}

/// Finished segments in the directories of sources.
pub fn segments_below(raw_dir: &Path) -> Vec<PathBuf> {
    files_below(raw_dir)
        .filter(|path| crate::recover::SegmentName::parse(path).is_some())
        .collect()
}

/// All entries of the directories below `raw_dir`; what cannot be read is left out.
pub fn files_below(raw_dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries(raw_dir)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .flat_map(move |dir| entries(&dir.path()))
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .map(|entry| entry.path())
}

/// Space that an ordinary user may still take.
fn free_bytes(dir: &Path) -> std::io::Result<u64> {
    let stat = statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn gib(bytes: u64) -> String {
    format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30))
}
