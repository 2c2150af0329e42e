//! What the daemons tell about themselves, in small JSON files that others may read at any time.
//!
//! Every field has a default and unknown ones are ignored, so that programs of different versions
//! understand each other.

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Name of the recorder in the names of its status, lock and log files.
pub const RECORDER: &str = "rtsp_recorder";
/// Name of the blur processor there.
pub const PROCESSOR: &str = "blur_processor";
/// Name of run-system there.
pub const SYSTEM: &str = "system";

/// The blur processor's alarm when nothing more can be written where its outputs go.
pub const NO_SPACE: &str = "no space left for outputs; tickets wait";

/// How the blur processor's alarm about tickets that were given up ends; their number comes before.
pub const GIVEN_UP: &str = " tickets were given up; see `blur-processor queue`";

/// How its alarm about a long queue ends.
pub const TOO_MANY_WAIT: &str = " tickets wait; processing does not keep up";

/// The state of a daemon that ended because it cannot do its work; its alarm says why.
pub const CANNOT_START: &str = "cannot start";

/// The status file of the daemon of that name.
pub fn file(status_dir: &Path, name: &str) -> PathBuf {
    status_dir.join(format!("{name}.status.json"))
}

/// The lock file of the daemon of that name.
pub fn lock_file(status_dir: &Path, name: &str) -> PathBuf {
    status_dir.join(format!("{name}.lock"))
}

/// Writes a status file, whole or not at all.
#[derive(Debug, Clone)]
pub struct StatusFile {
    path: PathBuf,
}

impl StatusFile {
    /// For the daemon of that name. Nothing is written yet; what a killed one left half written is removed.
    pub fn new(status_dir: &Path, name: &str) -> Self {
        let path = file(status_dir, name);
        crate::atomic::sweep(&path);
        Self { path }
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// Of making the directory or writing; the old file is then untouched.
    pub fn write(&self, status: &impl Serialize) -> io::Result<()> {
        if let Some(dir) = self.path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let mut bytes = serde_json::to_vec_pretty(status)?;
        bytes.push(b'\n');
        crate::atomic::write(&self.path, &bytes)
    }
}

/// Reads a status file.
///
/// # Errors
/// When it is missing or not of that form.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// Why the daemon with that process id could not start; none when it did, or does not say.
pub fn why_not_started(path: &Path, pid: u32) -> Option<String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Last {
        pid: u32,
        state: String,
        alarms: Vec<String>,
    }
    let last: Last = read(path).ok()?;
    let is_meant = last.pid == pid && last.state == CANNOT_START;
    last.alarms.into_iter().next().filter(|_| is_meant)
}

/// Status of `rtsp-recorder`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecorderStatus {
    /// Process id.
    pub pid: u32,
    /// When the process started.
    pub started: Timestamp,
    /// When this was written.
    pub updated: Timestamp,
    /// `running`, `stopping`, `stopped`, or what else the daemon says of itself.
    pub state: String,
    /// One for each source of the settings, in their order.
    pub sources: Vec<SourceStatus>,
    /// Room on the disk as last looked at.
    pub disk: Option<DiskStatus>,
    /// What a person should know of the disk now.
    pub alarms: Vec<String>,
}

/// Room on the disk for videos, raw, processed and backed up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DiskStatus {
    /// Bytes that all videos together take.
    pub used_bytes: u64,
    /// Bytes of them that wait to be processed.
    pub waiting_bytes: u64,
    /// Bytes still free.
    pub free_bytes: u64,
    /// Bytes above the budget that nothing could be deleted for.
    pub over_bytes: u64,
    /// Recording waits until there is space; told by the recorder only.
    pub recording_waits: bool,
    /// Hours until footage that waits fills the budget or the disk, at the rate of the last hour; none while it does not
    /// grow.
    pub hours_left: Option<f64>,
}

impl From<crate::disk::Room> for DiskStatus {
    fn from(room: crate::disk::Room) -> Self {
        Self {
            used_bytes: room.used_bytes,
            waiting_bytes: room.waiting_bytes,
            free_bytes: room.free_bytes,
            over_bytes: room.over_bytes,
            recording_waits: false,
            hours_left: room.hours_left,
        }
    }
}

/// Status of one source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceStatus {
    /// Name of the source.
    pub name: String,
    /// `connecting`, `recording`, `waiting`, `off_schedule`, `finished` and the like.
    pub state: String,
    /// Frames per second received lately.
    pub fps: f64,
    /// Frames per second that the stream declares.
    pub declared_fps: Option<f64>,
    /// Bits per second received lately.
    pub bitrate_bps: u64,
    /// Picture width in pixels.
    pub width: Option<u32>,
    /// Picture height in pixels.
    pub height: Option<u32>,
    /// Codec, such as `h264`.
    pub codec: Option<String>,
    /// Segments finished since the start.
    pub segments: u64,
    /// File name of the last finished one.
    pub last_segment: Option<String>,
    /// File name of the one being written.
    pub current_segment: Option<String>,
    /// When the last frame came that was recorded.
    pub last_frame: Option<Timestamp>,
    /// Interruptions since the start.
    pub gaps: u64,
    /// The last interruption and its reason, in words.
    pub last_gap: Option<String>,
    /// Connections made after the first.
    pub reconnects: u64,
    /// RTP packets lost since the start.
    pub packets_lost: u64,
    /// What is wrong now, without credentials.
    pub error: Option<String>,
    /// Since when the source has sent nothing although it should be recorded; set once that is longer than
    /// `camera_down_after`, and taken away by the next frame or the end of the source's schedule.
    pub down_since: Option<Timestamp>,
    /// Why, as far as it is known; set together with `down_since`.
    pub down_reason: Option<String>,
}

/// Status of `blur-processor`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessorStatus {
    /// Process id.
    pub pid: u32,
    /// When the process started.
    pub started: Timestamp,
    /// When this was written.
    pub updated: Timestamp,
    /// `running`, `stopping`, `stopped`, or what else the daemon says of itself.
    pub state: String,
    /// One for each worker slot.
    pub workers: Vec<WorkerStatus>,
    /// Videos published since the start.
    pub published: u64,
    /// Attempts that failed since the start.
    pub failed: u64,
    /// Frames per second of all workers together, lately.
    pub frames_per_second: f64,
    /// Seconds of video done per second, lately.
    pub realtime_factor: f64,
    /// Room on the disk as last looked at.
    pub disk: Option<DiskStatus>,
    /// What a person should know now, such as tickets given up.
    pub alarms: Vec<String>,
}

/// Status of one worker slot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerStatus {
    /// Number of the slot, from 0.
    pub slot: u32,
    /// Process id of the worker; none while the slot is empty.
    pub pid: Option<u32>,
    /// Stem of the ticket it works on.
    pub ticket: Option<String>,
    /// Part done, 0..=1.
    pub progress: f64,
}
