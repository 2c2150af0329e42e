//! The settings of `rtsp-recorder`.

use crate::environment::Environment;
use crate::problem::Problems;
use crate::read::{self, Reader};
use crate::source::{self, Defaults, Source, VideoCodec};
use crate::{DiskBudget, Monitoring, Places, keys, size};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Container of finished segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// MP4 with the index first.
    Mp4,
}

impl Container {
    /// File extension without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
        }
    }
}

/// What happens when videos that are not yet processed, and are never deleted, exceed the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Recording goes on until the floor of free space is reached.
    RecordToFloor,
    /// Recording waits until there is room in the budget again.
    StopRecording,
}

/// Checked settings of the recorder.
#[derive(Debug, Clone, PartialEq)]
pub struct RecorderSettings {
    /// At least one; names are distinct.
    pub sources: Vec<Source>,
    /// Raw segments, one directory per source.
    pub output_dir: PathBuf,
    /// The ticket queue.
    pub queue_dir: PathBuf,
    /// Where published videos are: counted in the disk budget.
    pub processed_dir: PathBuf,
    /// Where originals are backed up, if they are: counted in the disk budget.
    pub backup_dir: PathBuf,
    /// What happens when the budget is used up by what may not be deleted.
    pub when_full: WhenFull,
    /// Container of finished segments.
    pub container: Container,
    /// Recording ends for good after this time. Also part of every source's `duration_limit`.
    pub max_recording_duration: Option<Duration>,
    /// First wait before connecting again.
    pub reconnect_interval: Duration,
    /// A source that should be recorded and sends nothing for this long counts as down.
    pub camera_down_after: Duration,
    /// Sources recorded at the same time.
    pub max_concurrent_recordings: usize,
    /// Reports in the log.
    pub monitoring: Monitoring,
    /// The disk budget.
    pub disk: DiskBudget,
    /// Logs and status files.
    pub places: Places,
}

impl RecorderSettings {
    /// Reads and checks a file, with the environment of this process.
    ///
    /// # Errors
    /// Everything that is wrong with it, or that it cannot be read.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        Self::load_in(path, &Environment::of_process())
    }

    /// Reads and checks a file, with the environment given.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_in(path: &Path, env: &Environment<'_>) -> Result<Self, Problems> {
        crate::read_file(path)
            .and_then(|text| Self::from_text(&text, env))
            .map_err(|problems| problems.in_file(path))
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_text(text: &str, env: &Environment<'_>) -> Result<Self, Problems> {
        crate::read_object(text, env, keys::RECORDER, Self::read)
    }

    fn read(mut reader: Reader<'_>) -> Self {
        let reader = &mut reader;
        let max_recording_duration = reader.nullable("max_recording_duration", read::seconds);
        let defaults = Defaults {
            transport: source::transport(&reader.choice("transport")),
            record_audio: reader.flag("record_audio"),
            video_codec: source::video_codec(reader).unwrap_or(VideoCodec::Copy),
            input_fps: reader.number("input_fps"),
            bitrate: reader.bitrate("bitrate"),
            segment_duration: reader.seconds("segment_duration"),
            schedule: source::schedule(reader),
            duration_limit: max_recording_duration,
            max_segments: reader.nullable("max_segments_per_source", read::whole),
            connection_timeout: reader.milliseconds("connection_timeout"),
            read_timeout: reader.milliseconds("read_timeout"),
        };
        let sources = source::read_all(reader, &defaults);
        reader.choice("container_format");
        Self {
            sources,
            output_dir: reader.path("output_dir"),
            queue_dir: reader.path("queue_dir"),
            processed_dir: reader.path("processed_dir"),
            backup_dir: reader.path("backup_dir"),
            when_full: match reader.choice("when_full").as_str() {
                "stop_recording" => WhenFull::StopRecording,
                _ => WhenFull::RecordToFloor,
            },
            container: Container::Mp4,
            max_recording_duration,
            reconnect_interval: reader.seconds("reconnect_interval"),
            camera_down_after: reader.seconds("camera_down_after"),
            max_concurrent_recordings: usize::try_from(reader.whole("max_concurrent_recordings"))
                .unwrap_or(usize::MAX),
            monitoring: monitoring(reader),
            disk: disk(reader),
            places: places(reader),
        }
    }
}

pub(crate) fn monitoring(reader: &mut Reader<'_>) -> Monitoring {
    Monitoring {
        enabled: reader.flag("enable_monitoring"),
        interval: reader.seconds("monitoring_interval"),
    }
}

pub(crate) fn disk(reader: &mut Reader<'_>) -> DiskBudget {
    DiskBudget {
        max_usage_bytes: size::gib(reader.number("max_disk_usage_gb")),
        min_free_bytes: size::gib(reader.number("min_free_disk_gb")),
        cleanup_old_files: reader.flag("cleanup_old_files"),
        max_file_age: Duration::from_secs_f64(reader.number("max_file_age_hours") * 3600.0),
    }
}

pub(crate) fn places(reader: &mut Reader<'_>) -> Places {
    Places {
        log_dir: reader.path("log_dir"),
        status_dir: reader.path("status_dir"),
    }
}
