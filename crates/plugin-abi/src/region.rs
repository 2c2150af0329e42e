//! What a detector found, in safe types.

use crate::raw;

/// What a region shows. The host grows a face to a head and masks a person as
/// its settings say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegionKind {
    /// A whole head, seen from any side.
    Head,
    /// A face only.
    Face,
    /// A whole body.
    Person,
    /// Something to be masked as it is.
    Other,
}

impl RegionKind {
    /// The number that stands for it in the C interface.
    pub const fn to_raw(self) -> u32 {
        match self {
            Self::Head => raw::REGION_HEAD,
            Self::Face => raw::REGION_FACE,
            Self::Person => raw::REGION_PERSON,
            Self::Other => raw::REGION_OTHER,
        }
    }

    /// The kind a number stands for; `None` for unknown numbers.
    pub const fn from_raw(number: u32) -> Option<Self> {
        match number {
            raw::REGION_HEAD => Some(Self::Head),
            raw::REGION_FACE => Some(Self::Face),
            raw::REGION_PERSON => Some(Self::Person),
            raw::REGION_OTHER => Some(Self::Other),
            _ => None,
        }
    }
}

/// A box around something, in pixels of the picture the detector was given
/// (f32; origin at the top left, x to the right, y down).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Region {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
    /// How sure the detector is, 0..1.
    pub score: f32,
    /// What it shows.
    pub kind: RegionKind,
    /// The detector's own track number; 0 when it does not track.
    pub track: u64,
}

impl From<Region> for raw::Region {
    fn from(region: Region) -> Self {
        Self {
            x: region.x,
            y: region.y,
            width: region.width,
            height: region.height,
            score: region.score,
            kind: region.kind.to_raw(),
            track: region.track,
        }
    }
}
