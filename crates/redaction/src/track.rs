//! Tracks that look both ways.

use std::collections::VecDeque;

use crate::detection::Detection;
use crate::geometry::{PictureSize, Rect};
use crate::mask::{Certainty, FrameMasks, Mask, MaskRules, Shape, TrackId};
use crate::motion::LumaPicture;
use crate::zones::Zones;

/// What the detector says about a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// It looked; these are all regions it saw (possibly none).
    Detected(Vec<Detection>),
    /// It did not look at this frame.
    NotDetected,
}

/// One frame, in display order.
#[derive(Clone, Debug)]
pub struct FrameInput {
    /// Seconds since the segment's first frame, not falling; need not be evenly spaced.
    pub time: f64,
    /// What the detector says.
    pub observation: Observation,
    /// A small grey picture of the frame for image matching; the same size for all frames. Without
    /// it boxes are carried by their speed alone.
    pub picture: Option<LumaPicture>,
    /// The frame was decoded with errors: the whole picture is masked.
    pub damaged: bool,
}

/// When a static false sighting may lose its mask. All conditions must hold, over the whole life
/// of the track: always on one spot, never a score above the limit, no motion of the picture
/// inside its box in any frame, and all that for the whole time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StaticRules {
    /// Seconds without any motion before the mask is dropped (counted over segment borders);
    /// default 30.
    pub seconds: f64,
    /// A single score above it keeps the mask for good; default 0.4.
    pub max_score: f32,
}

impl Default for StaticRules {
    fn default() -> Self {
        Self {
            seconds: 30.0,
            max_score: 0.4,
        }
    }
}

/// Settings of a tracker. Times in seconds, scores 0..=1.
#[derive(Clone, Debug, PartialEq)]
pub struct TrackerSettings {
    /// A detection starts a track from this score on; default 0.25.
    pub start_score: f32,
    /// A detection extends a track from this score on; default 0.1.
    pub extend_score: f32,
    /// Frames of look-ahead before a frame's masks are final; bounds the memory; default 60.
    pub look_ahead: usize,
    /// A track is masked at least this long before its first and after its last sighting (or to
    /// the picture's edge); default 0.4.
    pub pad: f64,
    /// ... and up to this long while image matching still finds it; default 2.
    pub pad_while_matched: f64,
    /// A lost track may be joined again for this long; default 2.
    pub rejoin: f64,
    /// How a head box becomes a mask.
    pub mask: MaskRules,
    /// Static zones.
    pub zones: Zones,
    /// Drops the masks of static false sightings; default `None` (off).
    pub static_rules: Option<StaticRules>,
}

impl Default for TrackerSettings {
    fn default() -> Self {
        Self {
            start_score: 0.25,
            extend_score: 0.1,
            look_ahead: 60,
            pad: 0.4,
            pad_while_matched: 2.0,
            rejoin: 2.0,
            mask: MaskRules::default(),
            zones: Zones::default(),
            static_rules: None,
        }
    }
}

/// A track that was alive when its segment ended; plain fields for any text form.
#[derive(Clone, Debug, PartialEq)]
pub struct CarriedTrack {
    /// Its number.
    pub track: u64,
    /// Its box on the segment's last frame.
    pub rect: Rect,
    /// Speed of its centre in pixels per second (x, y).
    pub speed: (f32, f32),
    /// Best score so far.
    pub score: f32,
    /// Seconds since its last sighting.
    pub unseen: f64,
    /// Seconds it has stood still without any motion; see [`StaticRules`].
    pub still: f64,
}

/// What the next segment's tracker needs to know of the one before. The default is the beginning
/// of a recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrackCarry {
    /// The first number not yet used for a track.
    pub next_track: u64,
    /// Tracks alive at the end.
    pub tracks: Vec<CarriedTrack>,
}

/// Turns detections into masks for every frame. See the crate's head for the way through.
#[derive(Debug)]
pub struct Tracker {
    settings: TrackerSettings,
    size: PictureSize,
    slots: VecDeque<FrameInput>,
    next_out: u64,
    finished: bool,
}

impl Tracker {
    /// A tracker for one segment of pictures of `size`. `carry` is the previous segment's
    /// [`Tracker::carry`], or the default.
    pub fn new(settings: TrackerSettings, size: PictureSize, carry: TrackCarry) -> Self {
        let _ = carry;
        Self {
            settings,
            size,
            slots: VecDeque::new(),
            next_out: 0,
            finished: false,
        }
    }

    /// Takes the next frame in display order; returns its number, counting from 0.
    pub fn push(&mut self, frame: FrameInput) -> u64 {
        self.slots.push_back(frame);
        self.next_out + self.slots.len() as u64 - 1
    }

    /// Up to `budget` frames, most urgent first, that the detector did not look at yet and should:
    /// where a track starts, ends or jumps. Answer with [`Tracker::amend`]; a frame is asked for
    /// once only. The frames lie within the look-ahead, so the host must keep their pictures as
    /// long as their masks are not out.
    pub fn wanted(&mut self, budget: usize) -> Vec<u64> {
        let _ = budget;
        Vec::new()
    }

    /// Adds what the detector saw in a frame pushed as `NotDetected`. Ignored for frames whose
    /// masks are already out, or that were detected before.
    pub fn amend(&mut self, frame: u64, detections: Vec<Detection>) {
        let at = frame
            .checked_sub(self.next_out)
            .and_then(|at| self.slots.get_mut(at as usize));
        if let Some(slot) = at {
            slot.observation = Observation::Detected(detections);
        }
    }

    /// No more frames will come: everything left may be pulled.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// The next frame's final masks, in order, once its look-ahead is there or after
    /// [`Tracker::finish`].
    pub fn pull(&mut self) -> Option<FrameMasks> {
        if !self.finished && self.slots.len() <= self.settings.look_ahead {
            return None;
        }
        let slot = self.slots.pop_front()?;
        let frame = self.next_out;
        self.next_out += 1;
        let seen = match slot.observation {
            Observation::Detected(seen) => seen,
            Observation::NotDetected => Vec::new(),
        };
        let heads = seen.into_iter().zip(0..).map(|(seen, at)| Mask {
            track: TrackId(at),
            head: seen.rect,
            shape: self.settings.mask.shape(&seen.rect),
            certainty: Certainty::Seen,
            score: seen.score,
        });
        let zones = self
            .settings
            .zones
            .always
            .iter()
            .zip(0..)
            .filter_map(|(zone, at)| {
                let shape = Shape::of_zone(zone, self.size)?;
                Some(Mask {
                    track: TrackId(u64::MAX - at),
                    head: shape.bounds(),
                    shape,
                    certainty: Certainty::Seen,
                    score: 1.0,
                })
            });
        Some(FrameMasks {
            frame,
            time: slot.time,
            whole_frame: slot.damaged,
            masks: heads.chain(zones).collect(),
        })
    }

    /// What the next segment needs to know; call it after the last [`Tracker::pull`].
    pub fn carry(&self) -> TrackCarry {
        TrackCarry::default()
    }
}
