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
    let whole = Rect::new(0.0, 0.0, now.width() as f32, now.height() as f32);
    let part = now.to_small(rect, size).grown(0.25).intersection(&whole);
    let columns = part.x as usize..(part.right().ceil() as usize).min(now.width());
    let rows = part.y as usize..(part.bottom().ceil() as usize).min(now.height());
    if columns.is_empty() || rows.is_empty() || before.pixels().len() != now.pixels().len() {
        return true;
    }
    rows.into_iter().any(|y| {
        let row =
            |picture: &LumaPicture| picture.pixels()[y * now.width()..][columns.clone()].to_vec();
        row(before)
            .iter()
            .zip(row(now))
            .any(|(&a, b)| a.abs_diff(b) > MOTION)
    })
}
