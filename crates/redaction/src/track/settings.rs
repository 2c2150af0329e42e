//! What goes into a tracker and over a segment's border.

use crate::detection::Detection;
use crate::geometry::Rect;
use crate::mask::MaskRules;
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
    /// A small grey picture of the whole frame for image matching, 320 to 480 columns wide, the
    /// same size for all frames. Without it boxes are carried by their speed alone.
    pub picture: Option<LumaPicture>,
    /// The frame was decoded with errors: the whole picture is masked.
    pub damaged: bool,
}

/// When a static false sighting may lose its mask. All conditions must hold, over the whole life
/// of the track: always on one spot, never a score above the limit, no motion of the picture
/// inside its box in any frame, and all that for the whole time. Without small pictures nothing
/// is ever dropped.
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
    /// A detection extends a track from this score on; default 0.15.
    pub extend_score: f32,
    /// Frames of look-ahead before a frame's masks are final; bounds the memory; at least 1,
    /// default 60. Should span `pad_while_matched` and two detected frames.
    pub look_ahead: usize,
    /// A track is masked at least this long before its first and after its last sighting (or to
    /// the picture's edge); default 0.4.
    pub pad: f64,
    /// ... and up to this long while image matching still finds it, or, without pictures, while
    /// its speed takes it to the edge; default 2.
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
            extend_score: 0.15,
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
    /// Seconds it has stood still; `None` once it moved or scored high. See [`StaticRules`].
    pub still: Option<f64>,
    /// It was seen outside the never-zones.
    pub outside_never: bool,
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
