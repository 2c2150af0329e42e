//! What a detector saw in one frame.

use crate::geometry::Rect;

/// What kind of thing a detection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A head from any side.
    Head,
    /// A face.
    Face,
    /// A whole person (`target: "person"`); gets the same treatment with a bigger box.
    Person,
    /// Anything else the plugin wants hidden.
    Other,
}

/// One region a detector reported, in pixels of the **full** picture (the host scales boxes of a
/// scaled-down picture back before).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// The box to be hidden; may reach beyond the picture. Unsound boxes (NaN, empty) are dropped.
    pub rect: Rect,
    /// 0..=1.
    pub score: f32,
    /// What it is.
    pub kind: Kind,
}
