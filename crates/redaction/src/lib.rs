//! Who is hidden where, and how: tracks over detections, masks over tracks, effects on planes.
//!
//! Pure functions and state: no files, no clock, no threads, no codec. The host hands in what a
//! detector saw, small grey pictures and borrowed planes; it gets masks back and changed pixels.
//!
//! The way through:
//! 1. [`Tracker`] takes one [`FrameInput`] per frame in display order and gives [`FrameMasks`]
//!    back once enough look-ahead is there (or at the end);
//! 2. [`Redactor`] applies [`FrameMasks`] to [`YuvPlanes`] in place;
//! 3. [`Overlay`] burns the caption in, after the masks.
//!
//! Invariants:
//! - **Doubt masks more.** A gap, a lost track or a damaged frame grows what is hidden.
//! - Every pixel of a masked head's box that lies inside the picture is replaced; every pixel
//!   outside the mask's spans stays bit for bit what it was.
//! - What replaces a head holds at most [`effect::MAX_COLUMNS`] x [`effect::MAX_ROWS`] cells of
//!   quantised, noised mean colour; settings can only make that coarser.
//! - Same input, same settings, same seed: same output.
//!
//! Units: picture coordinates are pixels of the full picture, x to the right, y down, (0, 0) the
//! top left corner of the top left pixel.

mod detection;
pub mod effect;
mod geometry;
mod mask;
pub mod motion;
pub mod overlay;
mod planes;
mod track;
mod zones;

pub use detection::{Detection, Kind};
pub use effect::{Effect, EffectSettings, Redactor};
pub use geometry::{PictureSize, Rect};
pub use mask::{Certainty, FrameMasks, Mask, MaskRules, Outline, Shape, TrackId};
pub use motion::LumaPicture;
pub use overlay::{Overlay, OverlayLine};
pub use planes::{Chroma, Plane, PlaneError, Subsampling, YuvPlanes};
pub use track::{
    CarriedTrack, FrameInput, Observation, StaticRules, TrackCarry, Tracker, TrackerSettings,
};
pub use zones::{Polygon, Zones};
