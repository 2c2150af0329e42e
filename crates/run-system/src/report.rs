//! How the whole system is, gathered from status files, locks, the queue and the machine.

mod gather;
mod show;

pub use gather::Gatherer;
pub(crate) use gather::free_bytes;

use crate::notify::HookStatus;
use daemon::status::{SourceStatus, WorkerStatus};
use jiff::Timestamp;
use serde::Serialize;
use std::path::PathBuf;

/// The state of everything at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// When it was gathered.
    pub time: Timestamp,
    /// run-system itself and the daemons.
    pub processes: Vec<ProcessReport>,
    /// The sources, as the recorder tells.
    pub sources: Vec<SourceStatus>,
    /// The workers, as the blur processor tells.
    pub workers: Vec<WorkerStatus>,
    /// What the blur processor gets done; none when it does not run.
    pub throughput: Option<Throughput>,
    /// The queue; none when it could not be read.
    pub queue: Option<QueueReport>,
    /// What was given up last, the newest first; a few of all.
    pub held_back: Vec<HeldBack>,
    /// The disk; none when it could not be asked.
    pub disk: Option<DiskReport>,
    /// Where notifications go, and whether they arrive; empty when there are no hooks.
    pub hooks: Vec<HookStatus>,
    /// What a person should know now.
    pub alarms: Vec<String>,
}

/// One process and its workers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessReport {
    /// `system`, `rtsp_recorder` or `blur_processor`.
    pub name: String,
    /// Its phase, or `not running`.
    pub state: String,
    /// Its process id while it runs.
    pub pid: Option<u32>,
    /// Seconds since it started.
    pub uptime_s: Option<u64>,
    /// Starts after the first, by the run-system that runs now.
    pub restarts: Option<u64>,
    /// How it ended the last time.
    pub last_exit: Option<String>,
    /// Percent of one core, workers included.
    pub cpu_percent: Option<f64>,
    /// Resident memory in bytes, workers included.
    pub memory_bytes: Option<u64>,
    /// Why it does not do its work, although it should.
    pub trouble: Option<String>,
}

/// What the blur processor gets done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Throughput {
    /// Videos published since it started.
    pub published: u64,
    /// Attempts that failed since it started.
    pub failed: u64,
    /// Frames per second of all workers together.
    pub frames_per_second: f64,
    /// Seconds of video done per second.
    pub realtime_factor: f64,
}

/// Tickets by state.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct QueueReport {
    /// Waiting, never tried.
    pub ready: u64,
    /// Being worked on.
    pub active: u64,
    /// Waiting to be tried again.
    pub deferred: u64,
    /// Given up.
    pub failed: u64,
    /// Unreadable or refused.
    pub corrupt: u64,
    /// Receipts.
    pub done: u64,
    /// Age of the oldest waiting ticket in seconds.
    pub oldest_s: Option<u64>,
    /// More waiting tickets than this are an alarm.
    pub limit: Option<u64>,
    /// Seconds of video that wait or are worked on, estimated from some of the tickets.
    pub footage_s: Option<u64>,
    /// What becomes of them; none while the speed of blurring is not known.
    pub outlook: Option<Outlook>,
}

/// What becomes of the queue at the present speeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outlook {
    /// It is worked off in so many seconds.
    EmptyInSeconds(u64),
    /// As much comes in as goes out, or more.
    Grows,
}

impl Outlook {
    /// Of so many seconds of footage when `done` seconds of it are blurred and `recorded` come in each second. None when
    /// nothing waits, or nothing is known of the speed.
    fn of(footage_s: u64, done: f64, recorded: f64) -> Option<Self> {
        /// Slower than this it does not count as shrinking.
        const LEAST: f64 = 0.02;
        let shrinks = done - recorded;
        match footage_s {
            0 => None,
            _ if done <= 0.0 => None,
            _ if shrinks < LEAST => Some(Self::Grows),
            _ => Some(Self::EmptyInSeconds((footage_s as f64 / shrinks) as u64)),
        }
    }
}

/// A ticket that was given up or refused.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeldBack {
    /// Its name, which `blur-processor retry` takes.
    pub stem: String,
    /// The original as the ticket names it; none when it cannot be read.
    pub original: Option<String>,
    /// Why, without credentials.
    pub reason: String,
}

impl QueueReport {
    /// Whether nothing waits or is worked on.
    pub fn is_empty(&self) -> bool {
        self.ready + self.active + self.deferred == 0
    }

    /// Whether more waits than should.
    pub fn is_long(&self) -> bool {
        self.limit.is_some_and(|limit| self.ready > limit)
    }
}

/// The file system that holds the raw videos.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DiskReport {
    /// Bytes that can still be written.
    pub free_bytes: u64,
    /// Bytes that stay free by the settings.
    pub min_free_bytes: u64,
    /// Bytes that each directory with videos takes; not measured for the log.
    pub used: Vec<DirectoryReport>,
    /// Hours until the disk is full at the present bitrates if nothing is deleted.
    pub hours_left: Option<f64>,
    /// What is wrong with the disk, the first thing of several.
    pub alarm: Option<String>,
    /// Why nothing is recorded, or not everything, where that is the disk's fault.
    pub stops_recording: Option<String>,
    /// Whether the daemon that looks after the disk tells how it is. Without, no alarm does not mean that all is well.
    pub is_told: bool,
}

/// One directory with videos.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DirectoryReport {
    /// `raw`, `processed` or `backup`.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Bytes of all files in it.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outlook_of_the_queue_counts_what_comes_in_meanwhile() {
        let minutes = |m: u64| Some(Outlook::EmptyInSeconds(m * 60));
        assert_eq!(Outlook::of(600, 1.0, 0.0), minutes(10));
        assert_eq!(Outlook::of(600, 3.0, 2.0), minutes(10));
        assert_eq!(Outlook::of(600, 1.0, 2.0), Some(Outlook::Grows));
        assert_eq!(Outlook::of(600, 0.0, 2.0), None, "the first is under way");
        assert_eq!(Outlook::of(0, 3.0, 2.0), None);
    }
}
