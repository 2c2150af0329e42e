//! Room on the disk: when recording has to wait. What may be deleted is decided in [`daemon::disk`].
//!
//! Invariants:
//! - Only segments are deleted whose receipt says that they are processed; footage that is not is never touched.
//! - Recording pauses while less than the floor is free, so that the processor can still publish what it has and
//!   thereby make room.

use daemon::disk::{Budget, Deletes, Kind, Moment, Room, StoredFile, VideoDirs, bytes_text};
use daemon::status::DiskStatus;
use settings::{RecorderSettings, WhenFull};
use std::path::{Path, PathBuf};
use ticket_queue::DirectoryQueue;
use tracing::warn;

/// A backlog that fills the disk in less than this is an alarm.
const ALARM_HOURS: f64 = 24.0;

/// What a look at the disk found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DiskReport {
    /// Recording must wait for space.
    pub is_full: bool,
    /// What a person should know.
    pub alarms: Vec<String>,
    /// The figures.
    pub status: DiskStatus,
}

/// Keeps all videos within their budget, as far as that is the recorder's part.
#[derive(Debug)]
pub struct DiskKeeper {
    floor: Floor,
    max_usage_bytes: u64,
    when_full: WhenFull,
    keeper: daemon::disk::DiskKeeper,
}

/// The free space below which recording waits, of the file system that is recorded to.
#[derive(Debug, Clone)]
pub struct Floor {
    raw_dir: PathBuf,
    min_free_bytes: u64,
}

/// So much of the floor must be free above it before recording goes on, at most [`MOST_MARGIN`] bytes.
const MARGIN: u64 = 20;
const MOST_MARGIN: u64 = 256 << 20;

impl Floor {
    /// What to say while less is free; `was_short` tells whether that was so before. Then a little more must be free until it
    /// is over: else each segment that is published and removed would let all cameras record for some seconds.
    ///
    /// # Errors
    /// The disk cannot be asked, which says nothing about how full it is.
    pub fn alarm(&self, was_short: bool) -> std::io::Result<Option<String>> {
        let free = daemon::disk::free_bytes(&self.raw_dir)?;
        Ok(self.is_short(free, was_short).then(|| {
            format!(
                "less than {} free where {} lies; recording waits until there is space",
                bytes_text(self.min_free_bytes),
                self.raw_dir.display()
            )
        }))
    }

    fn is_short(&self, free_bytes: u64, was_short: bool) -> bool {
        let margin = match was_short {
            true => (self.min_free_bytes / MARGIN).min(MOST_MARGIN),
            false => 0,
        };
        free_bytes < self.min_free_bytes.saturating_add(margin)
    }
}

impl DiskKeeper {
    /// For these directories.
    pub fn new(settings: &RecorderSettings) -> Self {
        let dirs = VideoDirs {
            raw: settings.output_dir.clone(),
            published: settings.processed_dir.clone(),
            backup: Some(settings.backup_dir.clone()),
        };
        let budget = Budget {
            max_usage_bytes: settings.disk.max_usage_bytes,
            min_free_bytes: settings.disk.min_free_bytes,
            deletes: match settings.disk.cleanup_old_files {
                true => Deletes::Segments,
                false => Deletes::Nothing,
            },
            max_file_age: settings.disk.max_file_age,
        };
        DiskKeeper {
            floor: Floor {
                raw_dir: settings.output_dir.clone(),
                min_free_bytes: settings.disk.min_free_bytes,
            },
            max_usage_bytes: settings.disk.max_usage_bytes,
            when_full: settings.when_full,
            keeper: daemon::disk::DiskKeeper::new(dirs, budget),
        }
    }

    /// The free space that it keeps; whether it is there is asked for elsewhere.
    pub fn floor(&self) -> &Floor {
        &self.floor
    }

    /// Looks at what the videos take and deletes what may go. Blocks.
    ///
    /// # Errors
    /// The disk cannot be asked, which says nothing about how full it is.
    pub fn look(&mut self, queue: &DirectoryQueue, now: Moment) -> std::io::Result<DiskReport> {
        let raw_dir = &self.floor.raw_dir;
        let room = self.keeper.look(now, &mut |file, kind| {
            kind == Kind::Segment && is_processed(queue, raw_dir, file)
        })?;
        let alarms = [self.budget_alarm(&room), forecast_alarm(&room)];
        Ok(DiskReport {
            is_full: room.over_bytes > 0 && self.when_full == WhenFull::StopRecording,
            alarms: alarms.into_iter().flatten().collect(),
            status: DiskStatus::from(room),
        })
    }

    /// Without figures that change: it would be another alarm with each look.
    fn budget_alarm(&self, room: &Room) -> Option<String> {
        let then = match self.when_full {
            WhenFull::RecordToFloor => "recording goes on until min_free_disk_gb is reached",
            WhenFull::StopRecording => "recording waits until there is room, as when_full says",
        };
        (room.over_bytes > 0).then(|| {
            format!(
                "videos take more than the {} of max_disk_usage_gb; those that are not yet processed are never deleted; \
                 {then}",
                bytes_text(self.max_usage_bytes)
            )
        })
    }
}

fn forecast_alarm(room: &Room) -> Option<String> {
    let hours = room.hours_left.filter(|hours| *hours < ALARM_HOURS)?;
    // In steps, so that the alarm does not change with every look.
    let about = hours.ceil();
    Some(format!(
        "processing does not keep up: at the rate of the last hour, unprocessed videos fill the disk within {about:.0} h"
    ))
}

/// True when nothing is left to do for the segment. It goes by its whole path within the raw directory: one that lies
/// deeper, put aside by somebody, has the name of the segment that a receipt speaks of, and is not that one.
fn is_processed(queue: &DirectoryQueue, raw_dir: &Path, file: &StoredFile) -> bool {
    let path = &file.path;
    let Some(id) = path.strip_prefix(raw_dir).ok().and_then(Path::to_str) else {
        return false;
    };
    queue
        .is_finished(id, file.bytes)
        .unwrap_or_else(|error| {
            warn!(file = %path.display(), %error, "cannot tell whether a segment is processed; it is kept");
            false
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::SegmentPaths;
    use crate::processed::process;
    use std::time::{Duration, Instant, SystemTime};
    use ticket_queue::{Options, Queue, Ticket};

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
                process(&queue, 1000);
            }
            paths.push(path);
        }
        (dir, queue, paths)
    }

    fn settings(dir: &Path, change: &str) -> RecorderSettings {
        let text = format!(
            r#"{{"sources": ["rtsp://127.0.0.1/a"], "output_dir": "{0}/raw", "processed_dir": "{0}/out",
                "backup_dir": "{0}/backup", "min_free_disk_gb": 0, "max_file_age_hours": 1000 {change}}}"#,
            dir.display()
        );
        RecorderSettings::from_text(&text, &settings::Environment::empty()).unwrap()
    }

    fn there(paths: &[PathBuf]) -> Vec<bool> {
        paths.iter().map(|path| path.exists()).collect()
    }

    const NOW: u64 = 1_000_000 + 4 * 3600;

    fn moment(seconds: u64) -> Moment {
        Moment {
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            monotonic: Instant::now(),
        }
    }

    /// What is found when space is short for long enough.
    fn look(dir: &Path, queue: &DirectoryQueue, change: &str, max_usage_bytes: u64) -> DiskReport {
        let mut settings = settings(dir, change);
        settings.disk.max_usage_bytes = max_usage_bytes;
        let mut keeper = DiskKeeper::new(&settings);
        let now = moment(NOW);
        keeper.look(queue, now).unwrap();
        keeper.look(queue, now + Duration::from_secs(100)).unwrap()
    }

    #[test]
    fn the_oldest_processed_goes_first_and_what_waits_never_goes() {
        let (dir, queue, paths) = place();
        let report = look(dir.path(), &queue, "", 2500);
        assert_eq!(there(&paths), [false, true, true]);
        assert!(report.alarms.is_empty(), "{report:?}");
        let report = look(dir.path(), &queue, "", 10);
        assert_eq!(there(&paths), [false, false, true]);
        assert!(report.alarms[0].contains("not yet processed"), "{report:?}");
        assert!(
            !report.is_full && report.status.over_bytes > 0,
            "{report:?}"
        );
    }

    #[test]
    fn an_alarm_stays_the_same_while_the_backlog_grows() {
        let (dir, queue, _) = place();
        let alarm = || look(dir.path(), &queue, "", 1500).alarms;
        std::fs::write(dir.path().join("raw/cam/more.mp4"), vec![0; 3000]).expect("a file");
        let before = alarm();
        std::fs::write(dir.path().join("raw/cam/most.mp4"), vec![0; 300_000]).expect("a file");
        assert_eq!((before.len(), alarm()), (1, before));
    }

    #[test]
    fn a_receipt_for_an_earlier_segment_of_the_same_name_lets_nothing_go() {
        let (dir, queue, paths) = place();
        let file = std::fs::File::options()
            .write(true)
            .open(&paths[0])
            .unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_len(1001).unwrap();
        file.set_modified(modified).unwrap();
        look(dir.path(), &queue, "", 10);
        assert_eq!(there(&paths), [true, false, true]);
    }

    #[test]
    fn a_receipt_lets_no_copy_go_that_was_put_aside() {
        let (dir, queue, mut paths) = place();
        let aside = dir.path().join("raw/archive/cam");
        std::fs::create_dir_all(&aside).unwrap();
        let copy = aside.join(paths[0].file_name().unwrap());
        std::fs::copy(&paths[0], &copy).unwrap();
        std::fs::File::options()
            .write(true)
            .open(&copy)
            .and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH))
            .unwrap();
        paths.push(copy);
        look(dir.path(), &queue, "", 10);
        assert_eq!(there(&paths), [false, false, true, true]);
    }

    #[test]
    fn published_videos_count() {
        let (dir, queue, paths) = place();
        std::fs::create_dir_all(dir.path().join("out/cam")).unwrap();
        std::fs::write(
            dir.path()
                .join("out/cam/blurred_cam_20260101_000009_seg0009.mp4"),
            vec![0; 1000],
        )
        .unwrap();
        look(dir.path(), &queue, "", 3500);
        assert_eq!(there(&paths), [false, true, true]);
    }

    #[test]
    fn over_budget_recording_waits_only_if_that_is_wanted() {
        let (dir, queue, paths) = place();
        let stop = r#", "when_full": "stop_recording""#;
        let report = look(dir.path(), &queue, stop, 10);
        assert!(report.is_full, "{report:?}");
        assert_eq!(there(&paths), [false, false, true]);
        assert!(
            !look(dir.path(), &queue, stop, 1000).is_full,
            "there is room again"
        );
    }

    #[test]
    fn below_the_floor_recording_waits_until_there_is_a_little_more() {
        let floor = Floor {
            raw_dir: PathBuf::new(),
            min_free_bytes: 2 << 30,
        };
        let is_short = |mib: u64, was_short| floor.is_short(mib << 20, was_short);
        assert!(is_short(2047, false) && !is_short(2048, false));
        assert!(is_short(2048, true) && is_short(2149, true) && !is_short(2151, true));
        let large = Floor {
            min_free_bytes: 100 << 30,
            ..floor
        };
        assert!(!large.is_short((100 << 30) + (256 << 20), true));
    }

    #[test]
    fn a_backlog_that_fills_the_disk_is_told_in_time() {
        let (dir, queue, _) = place();
        let mut settings = settings(dir.path(), "");
        settings.disk.max_usage_bytes = 1 << 20;
        let mut keeper = DiskKeeper::new(&settings);
        let mut now = moment(NOW);
        keeper.look(&queue, now).unwrap();
        now = now + Duration::from_secs(600);
        std::fs::write(dir.path().join("raw/cam/more.mp4"), vec![0; 1 << 19]).unwrap();
        let report = keeper.look(&queue, now).unwrap();
        assert!(
            report.status.hours_left.is_some_and(|hours| hours < 1.0),
            "{report:?}"
        );
        assert!(report.alarms[0].contains("does not keep up"), "{report:?}");
    }
}
