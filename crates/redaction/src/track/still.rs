//! Whether anything moves in a box.

use crate::geometry::{PictureSize, Rect};
use crate::motion::LumaPicture;

/// Grey levels between two small pictures that count as motion.
const MOTION: u8 = 12;

/// True if any pixel of two small pictures differs visibly inside a box, or none lies inside.
pub(super) fn differs(
    before: &LumaPicture,
    now: &LumaPicture,
    rect: &Rect,
    size: PictureSize,
) -> bool {
    let around = rect.grown(0.25);
    let mut pairs = before
        .part(&around, size)
        .zip(now.part(&around, size))
        .peekable();
    before.pixels().len() != now.pixels().len()
        || pairs.peek().is_none()
        || pairs.any(|(grey, later)| grey.abs_diff(later) > MOTION)
}
