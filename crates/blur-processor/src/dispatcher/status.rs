//! What the daemon tells about itself: the status file, the periodic log line, the alarms.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use daemon::StatusFile;
use daemon::disk::Room;
use daemon::status::{self, DiskStatus, ProcessorStatus, WorkerStatus};
use jiff::Timestamp;
use settings::BlurSettings;
use ticket_queue::Stats;
use tracing::{error, info, warn};

use super::ticket::Settled;
use crate::pipeline::{Phase, Progress, VideoReport};

/// How often the status file is written.
pub(super) const INTERVAL: Duration = Duration::from_secs(2);
/// Speeds are means over this time.
const WINDOW: Duration = Duration::from_secs(60);

/// Collects what the tasks do.
#[derive(Debug)]
pub(super) struct Board {
    file: StatusFile,
    path: PathBuf,
    /// Only a further instance's file is removed at the end.
    is_extra: bool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    status: ProcessorStatus,
    /// Frames masked in the job under way, per slot.
    frames: Vec<u64>,
    /// What was done when: frames and seconds of video.
    recent: VecDeque<(Instant, u64, f64)>,
    began: Instant,
    worker_alarms: Vec<Option<String>>,
    disk_full: bool,
    /// Why no output can be written.
    trouble: Option<String>,
    /// Bytes above the disk budget that only processing can free.
    room: Room,
    /// Tickets ready, when last counted.
    waiting: u64,
}

impl Board {
    pub(super) fn new(status_dir: &Path, name: &str, slots: usize) -> Self {
        let now = Timestamp::now();
        let workers = (0..slots as u32).map(|slot| WorkerStatus {
            slot,
            ..WorkerStatus::default()
        });
        let status = ProcessorStatus {
            pid: std::process::id(),
            started: now,
            updated: now,
            workers: workers.collect(),
            ..ProcessorStatus::default()
        };
        Self {
            file: StatusFile::new(status_dir, name),
            path: status::file(status_dir, name),
            is_extra: name != status::PROCESSOR,
            inner: Mutex::new(Inner {
                status,
                frames: vec![0; slots],
                recent: VecDeque::new(),
                began: Instant::now(),
                worker_alarms: vec![None; slots],
                disk_full: false,
                trouble: None,
                room: Room::default(),
                waiting: 0,
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_worker(&self, slot: u32, pid: Option<u32>) {
        let mut inner = self.inner();
        inner.status.workers[slot as usize].pid = pid;
        if pid.is_some() {
            inner.worker_alarms[slot as usize] = None;
        }
    }

    pub(super) fn alarm(&self, slot: u32, text: String) {
        self.inner().worker_alarms[slot as usize] = Some(text);
    }

    /// Notes whether claiming is paused for want of space; logs the change only.
    pub(super) fn set_disk_full(&self, full: bool) {
        let before = std::mem::replace(&mut self.inner().disk_full, full);
        match (before, full) {
            (false, true) => error!("no space left above min_free; tickets wait until there is"),
            (true, false) => info!("there is space again; going on"),
            _ => {}
        }
    }

    /// Notes why no output can be written, if none can.
    pub(super) fn set_trouble(&self, trouble: Option<String>) {
        self.inner().trouble = trouble;
    }

    /// Notes how full the disk is; logs only when the budget begins to be exceeded.
    pub(super) fn set_room(&self, room: Room) {
        let mut inner = self.inner();
        inner.status.disk = Some(DiskStatus::from(room));
        let before = std::mem::replace(&mut inner.room, room);
        if before.over_bytes == 0 && room.over_bytes > 0 {
            warn!(
                bytes = room.over_bytes,
                "more than max_disk_usage_gb is taken by videos that are not yet processed, which are never deleted"
            );
        }
    }

    pub(super) fn begin(&self, slot: u32, stem: &str) {
        let mut inner = self.inner();
        inner.frames[slot as usize] = 0;
        let worker = &mut inner.status.workers[slot as usize];
        worker.ticket = Some(stem.to_owned());
        worker.progress = 0.0;
    }

    pub(super) fn progress(&self, slot: u32, progress: Progress) {
        let mut inner = self.inner();
        inner.status.workers[slot as usize].progress = progress.share();
        if progress.phase == Phase::Masking {
            let before = std::mem::replace(&mut inner.frames[slot as usize], progress.frames);
            inner
                .recent
                .push_back((Instant::now(), progress.frames.saturating_sub(before), 0.0));
        }
    }

    /// A worker's video is verified.
    pub(super) fn done(&self, slot: u32, report: &VideoReport) {
        let mut inner = self.inner();
        let before = std::mem::replace(&mut inner.frames[slot as usize], report.frames);
        let rest = report.frames.saturating_sub(before);
        inner
            .recent
            .push_back((Instant::now(), rest, report.seconds));
    }

    pub(super) fn end(&self, slot: u32) {
        let mut inner = self.inner();
        let worker = &mut inner.status.workers[slot as usize];
        worker.ticket = None;
        worker.progress = 0.0;
    }

    pub(super) fn count(&self, settled: &Settled) {
        let mut inner = self.inner();
        match settled {
            Settled::Published => inner.status.published += 1,
            Settled::GivenUp(_) | Settled::Deferred(_) | Settled::Stop(_) => {
                inner.status.failed += 1
            }
        }
    }

    /// Tickets waiting, as counted within the last seconds.
    pub(super) fn waiting(&self) -> u64 {
        self.inner().waiting
    }

    /// Writes the status file. Without the queue's figures the alarms about it are left out.
    pub(super) fn write(&self, state: &str, queue: Option<(&Stats, &BlurSettings)>) {
        let status = {
            let mut inner = self.inner();
            inner.refresh_speed();
            inner.status.updated = Timestamp::now();
            inner.status.state = state.to_owned();
            inner.status.alarms = inner.alarms(queue);
            inner.waiting = queue.map_or(0, |(stats, _)| stats.ready);
            inner.status.clone()
        };
        if let Err(error) = self.file.write(&status) {
            warn!(%error, path = %self.path.display(), "status file not written");
        }
    }

    /// One line about the state of things.
    pub(super) fn log(&self, stats: Option<&Stats>, max_queue_size: usize) {
        let status = self.inner().status.clone();
        let Some(stats) = stats else { return };
        let busy = status
            .workers
            .iter()
            .filter(|worker| worker.ticket.is_some())
            .count();
        info!(
            waiting = stats.ready + stats.deferred,
            busy,
            published = status.published,
            failed = stats.failed + stats.corrupt,
            fps = format!("{:.1}", status.frames_per_second),
            realtime = format!("{:.2}", status.realtime_factor),
            "state"
        );
        if stats.ready > max_queue_size as u64 {
            warn!(
                waiting = stats.ready,
                max_queue_size, "the queue is long; processing does not keep up"
            );
        }
    }

    /// Removes the status file of an instance that shares the queue with the first one.
    pub(super) fn retire(&self) {
        if self.is_extra {
            // A stale file says that it is stale by its time.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

impl Inner {
    fn refresh_speed(&mut self) {
        while self
            .recent
            .front()
            .is_some_and(|(at, ..)| at.elapsed() > WINDOW)
        {
            self.recent.pop_front();
        }
        let span = self.began.elapsed().min(WINDOW).as_secs_f64().max(1.0);
        let frames: u64 = self.recent.iter().map(|(_, frames, _)| frames).sum();
        // Not `sum`: of nothing that is -0.0, which is printed with its sign.
        let seconds = self
            .recent
            .iter()
            .fold(0.0, |sum, (.., seconds)| sum + seconds);
        self.status.frames_per_second = frames as f64 / span;
        self.status.realtime_factor = seconds / span;
    }

    fn alarms(&self, queue: Option<(&Stats, &BlurSettings)>) -> Vec<String> {
        let mut alarms: Vec<String> = self.worker_alarms.iter().flatten().cloned().collect();
        if self.disk_full {
            alarms.push(daemon::status::NO_SPACE.to_owned());
        }
        alarms.extend(self.trouble.clone());
        if self.room.over_bytes > 0 {
            alarms.push("unprocessed videos take more than max_disk_usage_gb".to_owned());
        }
        if let Some((stats, settings)) = queue {
            if stats.failed + stats.corrupt > 0 {
                alarms.push(format!(
                    "{}{}",
                    stats.failed + stats.corrupt,
                    daemon::status::GIVEN_UP
                ));
            }
            if stats.ready > settings.max_queue_size as u64 {
                alarms.push(format!("{}{}", stats.ready, daemon::status::TOO_MANY_WAIT));
            }
        }
        alarms
    }
}
