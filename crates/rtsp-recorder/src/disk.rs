//! Room on the disk: how much is taken, what may go, and when recording has to wait.
//!
//! Invariants:
//! - Only segments are deleted whose receipt says that they are processed; footage that is not is never touched.
//! - Recording pauses while less than the floor is free, so that the processor can still publish what it has and
//!   thereby make room.

use crate::names::SegmentPaths;
use crate::recover::{SegmentName, Standing, standing};
use rustix::fs::statvfs;
use settings::DiskBudget;
use std::collections::{HashMap, HashSet};
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
    /// Segments that were not processed when last asked, and when that was: asking reads the whole queue.
    waiting: HashMap<PathBuf, SystemTime>,
}

/// A segment that was not processed is asked about again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(300);

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
            waiting: HashMap::new(),
        }
    }

    /// Looks at the disk and deletes what may go. Blocks.
    ///
    /// # Errors
    /// The disk cannot be asked, which says nothing about how full it is.
    pub fn look(&mut self, queue: &DirectoryQueue, now: SystemTime) -> std::io::Result<DiskReport> {
        let files = self.files();
        self.forget_gone(&files);
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
        &mut self,
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
            if !self.is_processed(&file.path, queue, now) {
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

    fn forget_gone(&mut self, files: &[StoredFile]) {
        if !self.waiting.is_empty() {
            let there: HashSet<&Path> = files.iter().map(|file| file.path.as_path()).collect();
            self.waiting
                .retain(|path, _| there.contains(path.as_path()));
        }
    }

    /// True when the queue holds a receipt for the segment.
    fn is_processed(&mut self, path: &Path, queue: &DirectoryQueue, now: SystemTime) -> bool {
        let asked = self
            .waiting
            .get(path)
            .and_then(|asked| now.duration_since(*asked).ok());
        if asked.is_some_and(|ago| ago < ASK_AGAIN) {
            return false;
        }
        let Some(paths) = SegmentPaths::of_final(path) else {
            return false;
        };
        match standing(queue, &paths.id()) {
            Ok(Standing::Processed) => return true,
            Ok(_) => {}
            Err(error) => {
                warn!(file = %path.display(), %error, "cannot tell whether a segment is processed; it is kept");
            }
        }
        self.waiting.insert(path.to_owned(), now);
        false
    }
}

/// Finished segments in the directories of sources.
pub fn segments_below(raw_dir: &Path) -> Vec<PathBuf> {
    files_below(raw_dir)
        .filter(|path| SegmentName::parse(path).is_some())
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

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use ticket_queue::{FileFacts, Options, OriginalFate, Queue, RECEIPT_VERSION, Receipt, Ticket};

    /// A raw directory with three segments, the first two of them processed, and its queue.
    fn place() -> (tempfile::TempDir, DirectoryQueue, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let queue = DirectoryQueue::open(&dir.path().join("queue"), Options::default()).unwrap();
        let cam = dir.path().join("raw/cam");
        std::fs::create_dir_all(&cam).unwrap();
        let mut paths = Vec::new();
        for number in 1..=3u64 {
            let path = cam.join(format!("cam_20260101_00000{number}_seg000{number}.mp4"));
            std::fs::write(&path, vec![0; 1000]).unwrap();
            let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + number * 3600);
            std::fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(modified)
                .unwrap();
            let id = SegmentPaths::of_final(&path).unwrap().id();
            queue
                .enqueue(&Ticket {
                    filepath: id.clone(),
                    id: Some(id.clone()),
                    ..Ticket::default()
                })
                .unwrap();
            if number < 3 {
                process(&queue, &id);
            }
            paths.push(path);
        }
        (dir, queue, paths)
    }

    fn process(queue: &DirectoryQueue, id: &str) {
        let lease = queue.claim().unwrap().unwrap();
        let facts = |path: &str| FileFacts {
            path: path.to_owned(),
            bytes: 1000,
            blake3: "0".repeat(64),
        };
        let receipt = Receipt {
            version: RECEIPT_VERSION,
            id: id.to_owned(),
            stem: lease.stem().clone(),
            attempt: lease.attempt(),
            input: facts(id),
            output: facts("out.mp4"),
            original: OriginalFate::Kept,
            plugin: None,
            frames: 1,
            heads: 0,
            tracks: 0,
            started: Timestamp::UNIX_EPOCH,
            finished: Timestamp::UNIX_EPOCH,
            extra: serde_json::Map::new(),
        };
        queue.write_receipt(&lease, &receipt).unwrap();
        queue.complete(lease).unwrap();
    }

    fn keeper(dir: &Path, max_usage_bytes: u64, max_age_hours: u64) -> DiskKeeper {
        let budget = DiskBudget {
            max_usage_bytes,
            min_free_bytes: 0,
            cleanup_old_files: true,
            max_file_age: Duration::from_secs(max_age_hours * 3600),
        };
        DiskKeeper::new(&dir.join("raw"), budget)
    }

    fn there(paths: &[PathBuf]) -> Vec<bool> {
        paths.iter().map(|path| path.exists()).collect()
    }

    const NOW: u64 = 1_000_000 + 4 * 3600;

    #[test]
    fn the_oldest_processed_goes_first_and_what_waits_never_goes() {
        let (dir, queue, paths) = place();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        let report = keeper(dir.path(), 2500, 1000).look(&queue, now).unwrap();
        assert_eq!(there(&paths), [false, true, true]);
        assert_eq!(report, DiskReport::default());
        let report = keeper(dir.path(), 10, 1000).look(&queue, now).unwrap();
        assert_eq!(there(&paths), [false, false, true]);
        assert!(report.alarms[0].contains("not yet processed"), "{report:?}");
        assert!(!report.is_full);
    }

    #[test]
    fn processed_segments_grow_too_old() {
        let (dir, queue, paths) = place();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        keeper(dir.path(), 1 << 40, 2).look(&queue, now).unwrap();
        assert_eq!(there(&paths), [false, true, true]);
    }

    #[test]
    fn below_the_floor_recording_waits() {
        let (dir, queue, paths) = place();
        let mut keeper = keeper(dir.path(), 1 << 40, 1000);
        keeper.budget.cleanup_old_files = false;
        keeper.budget.min_free_bytes = u64::MAX;
        assert!(keeper.look(&queue, SystemTime::now()).unwrap().is_full);
        assert_eq!(there(&paths), [true, true, true]);
    }
}
