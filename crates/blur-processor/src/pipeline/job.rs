//! What a worker is told and what it tells: plain values that travel as JSON.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use settings::{BlurSettings, MaskStyle};

use super::carry::{Carry, StaticZones};
use crate::plugin::PluginFacts;

/// How every video is to be treated: the part of the settings that the pipeline needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    /// What masks look like.
    pub look: Look,
    /// `blur_strength`.
    pub strength: u32,
    /// `blur_kernel_size`, pixels.
    pub kernel_size: u32,
    /// A detector looks at every n-th frame at least, 1 or more; none: four times a second.
    pub detect_every: Option<u32>,
    /// Size of the output in pixels; none: that of the input.
    pub resize: Option<(u32, u32)>,
    /// First line of the caption burned in; none: no caption.
    pub overlay_text: Option<String>,
    /// FFmpeg's name of the encoder.
    pub encoder: String,
    /// Its preset; empty: its own default; `auto`: by the [`Pace`] of each job.
    pub preset: String,
    /// Bits per second; none: constant quality.
    pub bitrate: Option<u64>,
    /// Threads of decoder and encoder each.
    pub threads: u32,
    /// Whether sound is carried over.
    pub keep_audio: bool,
    /// Whether the detector looks at the output before it is published.
    pub second_look: bool,
}

/// What stands in a mask's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// Coarse cells, smoothed.
    Blur,
    /// Coarse cells.
    Mosaic,
    /// One colour.
    Solid,
}

/// How much there is to do; decides the preset where it is `auto`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Nobody waits: small files.
    #[default]
    Calm,
    /// Some wait.
    Brisk,
    /// The queue grows: as fast as it goes.
    Hasty,
}

/// One video to be treated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VideoJob {
    /// What the log calls it.
    pub name: String,
    /// When its first frame was recorded; none: not known, the caption has no time then.
    pub start: Option<Timestamp>,
    /// Offset from UTC of the place of recording, seconds.
    pub utc_offset_seconds: i32,
    /// Packets of it were lost on the way from the camera.
    #[serde(default)]
    pub lossy: bool,
    /// The video is there afterwards as well, whatever becomes of it: one of which nobody can tell whether it is whole may be
    /// done.
    #[serde(default)]
    pub input_stays: bool,
    /// How much waits behind it.
    #[serde(default)]
    pub pace: Pace,
    /// Number of its camera, for plugins that remember something about each.
    #[serde(default)]
    pub camera: u32,
    /// The camera's static zones.
    #[serde(default)]
    pub zones: StaticZones,
    /// What was followed at the end of the video that this one continues, where that is known.
    #[serde(default)]
    pub carry: Option<Carry>,
}

/// A sign of life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub phase: Phase,
    /// Frames done in this phase.
    pub frames: u64,
    /// Frames there are.
    pub total: u64,
}

/// The two passes over a video.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Decode, detect, mask, encode.
    #[default]
    Masking,
    /// Decode the output again.
    Verifying,
}

impl Progress {
    /// Part of the whole work done, 0..=1; verifying is a quarter of it or less.
    pub fn share(&self) -> f64 {
        let part = self.frames as f64 / self.total.max(1) as f64;
        match self.phase {
            Phase::Masking => 0.8 * part,
            Phase::Verifying => 0.8 + 0.2 * part,
        }
        .clamp(0.0, 1.0)
    }
}

/// Why there is no output. The original is kept in each case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The video itself is no good; no other attempt will go better.
    #[error("{reason}")]
    Unusable {
        /// For a person.
        reason: String,
    },
    /// Something went wrong this time: the plugin, the encoder, the machine.
    #[error("{reason}")]
    Attempt {
        /// For a person.
        reason: String,
    },
    /// The disk would not give what the video holds.
    #[error("{reason}")]
    Unreadable {
        /// For a person.
        reason: String,
    },
    /// The plugin went wrong and must be loaded anew in a new process.
    #[error("{reason}")]
    Plugin {
        /// For a person.
        reason: String,
    },
    /// The disk is full.
    #[error("{reason}")]
    NoSpace {
        /// For a person.
        reason: String,
    },
}

/// What was done with a video whose output is written and verified.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VideoReport {
    /// The plugin that saw every frame.
    pub plugin: PluginFacts,
    /// Frames of the original and of the output.
    pub frames: u64,
    /// Seconds from the first frame to the end of the last.
    pub seconds: f64,
    /// Width of the output, pixels.
    pub width: u32,
    /// Height of the output, pixels.
    pub height: u32,
    /// Codec of the original.
    pub input_codec: String,
    /// Kind of the original's file, where nobody can tell whether all of it was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unproven: Option<String>,
    /// Encoder of the output.
    pub encoder: String,
    /// Frames a detector looked at, or a filter was given.
    pub frames_seen_by_plugin: u64,
    /// Frames with at least one mask, or changed by a filter.
    pub frames_masked: u64,
    /// Frames hidden as a whole because they were damaged or missing in the original.
    pub frames_damaged: u64,
    /// Distinct heads: tracks that the detector clearly saw at least once.
    pub heads: u64,
    /// Distinct tracks masked, those of what was hardly seen included.
    pub tracks: u64,
    /// Seconds of video that one entry of `masks` stands for.
    pub masks_bucket_seconds: u32,
    /// Masks per stretch of video, in order.
    pub masks: Vec<u32>,
    /// Groups of pictures copied bit for bit.
    pub gops_copied: u64,
    /// Groups of pictures encoded anew, as a whole or from some picture on.
    pub gops_encoded: u64,
    /// Frames encoded anew.
    pub frames_encoded: u64,
    /// Why nothing was copied; none where copying was possible.
    pub not_copied_because: Option<String>,
    /// What was followed up to the last frame, for the video that continues this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carry: Option<Carry>,
    /// Frames whose masks are least certain, in order; for a person to look at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub least_certain: Vec<u64>,
    /// Where the time went.
    pub time: StageTimes,
}

/// Wall-clock time per stage, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTimes {
    /// Reading and decoding the original.
    pub decode_ms: u64,
    /// Scaling for and running the plugin.
    pub plugin_ms: u64,
    /// Tracking.
    pub track_ms: u64,
    /// Changing pixels, caption included.
    pub mask_ms: u64,
    /// Encoding.
    pub encode_ms: u64,
    /// Writing the file.
    pub write_ms: u64,
    /// Decoding the output again.
    pub verify_ms: u64,
    /// All of it.
    pub total_ms: u64,
}

impl Recipe {
    /// What the settings ask for, with the encoder's threads fitted to the machine: the workers
    /// share its cores.
    pub fn from_settings(settings: &BlurSettings) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / settings.max_concurrent_processes.max(1)).clamp(1, 16);
        Self {
            look: match settings.mask {
                MaskStyle::Blur => Look::Blur,
                MaskStyle::Mosaic => Look::Mosaic,
                MaskStyle::Solid => Look::Solid,
            },
            strength: settings.blur_strength,
            kernel_size: settings.blur_kernel_size,
            detect_every: settings.detect_every,
            resize: settings.resize.map(|size| (size.width, size.height)),
            overlay_text: settings
                .overlay
                .as_ref()
                .map(|overlay| overlay.text.clone()),
            encoder: settings.video_codec.clone(),
            preset: settings.encoder_preset.clone(),
            bitrate: settings.bitrate,
            threads: threads as u32,
            keep_audio: settings.keep_audio,
            second_look: settings.second_look,
        }
    }
}

impl Pace {
    /// For so many waiting tickets and so many workers.
    pub(crate) fn of(waiting: u64, workers: usize) -> Self {
        match waiting / workers.max(1) as u64 {
            0..=1 => Self::Calm,
            2..=4 => Self::Brisk,
            _ => Self::Hasty,
        }
    }

    /// The preset of x264 and x265 for it.
    pub(crate) fn preset(self) -> &'static str {
        match self {
            Self::Calm => "veryfast",
            Self::Brisk => "superfast",
            Self::Hasty => "ultrafast",
        }
    }
}

impl StageTimes {
    /// The share of the running time of a stage that `since` measures, in milliseconds.
    pub(crate) fn millis(time: Duration) -> u64 {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_follows_the_backlog_both_ways() {
        let presets =
            [0, 1, 3, 4, 7, 10, 40, 10, 9, 4, 3, 0].map(|waiting| Pace::of(waiting, 2).preset());
        assert_eq!(
            presets,
            [
                "veryfast",
                "veryfast",
                "veryfast",
                "superfast",
                "superfast",
                "ultrafast",
                "ultrafast",
                "ultrafast",
                "superfast",
                "superfast",
                "veryfast",
                "veryfast"
            ]
        );
    }

    #[test]
    fn progress_only_grows() {
        let at = |phase, frames| {
            Progress {
                phase,
                frames,
                total: 10,
            }
            .share()
        };
        assert_eq!(at(Phase::Masking, 0), 0.0);
        assert_eq!(at(Phase::Masking, 10), at(Phase::Verifying, 0));
        assert_eq!(at(Phase::Verifying, 10), 1.0);
        assert_eq!(at(Phase::Verifying, 99), 1.0);
    }
}
