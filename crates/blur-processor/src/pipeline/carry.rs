//! Over the border between two videos of one camera: what was followed at the end of one is hidden
//! from the first frame of the next on. Plain values that travel as JSON, in reports and jobs.

use redaction::{CarriedTrack, PictureSize, Polygon, Rect, TrackCarry, Zones};
use serde::{Deserialize, Serialize};
use settings::CameraZones;

/// Most heads that are carried; more of them are not told apart anyway.
const MOST_HEADS: usize = 200;

/// What was followed up to the last frame of a video.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Carry {
    /// Width of the pictures, pixels.
    pub width: u32,
    /// Height of the pictures, pixels.
    pub height: u32,
    /// The first number not yet used for a track.
    pub next_track: u64,
    /// What was there on the last frame.
    pub heads: Vec<CarriedHead>,
}

/// One head on the last frame of a video.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CarriedHead {
    /// Number of its track.
    pub track: u64,
    /// Left, top, width, height in pixels.
    pub rect: [f32; 4],
    /// Pixels per second to the right and down.
    pub speed: [f32; 2],
    /// Best score so far.
    pub score: f32,
    /// Seconds since it was last seen.
    pub unseen: f64,
    /// Seconds it has stood still; none once it moved.
    pub still: Option<f64>,
    /// It was seen outside the zones that are never masked.
    pub outside_never: bool,
}

impl Carry {
    /// What a tracker knows at the end; none when nothing was there.
    pub(super) fn of(carry: TrackCarry, size: PictureSize) -> Option<Self> {
        let mut heads: Vec<CarriedHead> = carry.tracks.iter().map(CarriedHead::of).collect();
        heads.sort_by(|a, b| b.score.total_cmp(&a.score));
        heads.truncate(MOST_HEADS);
        (!heads.is_empty()).then_some(Self {
            width: size.width,
            height: size.height,
            next_track: carry.next_track,
            heads,
        })
    }

    /// What the next tracker is told, in pictures of `size`.
    pub(super) fn scaled_to(&self, size: PictureSize) -> TrackCarry {
        if self.width == 0 || self.height == 0 {
            return TrackCarry::default();
        }
        let scale = (
            size.width as f32 / self.width as f32,
            size.height as f32 / self.height as f32,
        );
        TrackCarry {
            next_track: self.next_track,
            tracks: self.heads.iter().map(|head| head.scaled(scale)).collect(),
        }
    }
}

impl CarriedHead {
    fn of(track: &CarriedTrack) -> Self {
        let rect = track.rect;
        Self {
            track: track.track,
            rect: [rect.x, rect.y, rect.width, rect.height],
            speed: track.speed.into(),
            score: track.score,
            unseen: track.unseen,
            still: track.still,
            outside_never: track.outside_never,
        }
    }

    fn scaled(&self, (x, y): (f32, f32)) -> CarriedTrack {
        let [left, top, width, height] = self.rect;
        CarriedTrack {
            track: self.track,
            rect: Rect::new(left * x, top * y, width * x, height * y),
            speed: (self.speed[0] * x, self.speed[1] * y),
            score: self.score,
            unseen: self.unseen,
            still: self.still,
            outside_never: self.outside_never,
        }
    }
}

/// Static zones of one camera; points are shares of the picture's width and height.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StaticZones {
    /// Masked in every frame.
    pub always: Vec<Vec<(f32, f32)>>,
    /// What is only ever seen inside one of these is not masked.
    pub never: Vec<Vec<(f32, f32)>>,
}

impl From<&CameraZones> for StaticZones {
    fn from(zones: &CameraZones) -> Self {
        Self {
            always: zones.always.clone(),
            never: zones.never.clone(),
        }
    }
}

impl StaticZones {
    pub(super) fn zones(&self) -> Zones {
        let polygons = |list: &[Vec<(f32, f32)>]| {
            let polygon = |points: &Vec<(f32, f32)>| Polygon {
                points: points.clone(),
            };
            list.iter().map(polygon).collect()
        };
        Zones {
            always: polygons(&self.always),
            never: polygons(&self.never),
        }
    }
}
