//! Static zones of a camera: always masked, never masked.
//!
//! *Always*: every pixel of the polygon is masked in every frame, whatever was detected.
//!
//! *Never*: meant for a poster, a television, a mannequin. A never-zone can drop a **track**, and
//! only one that was seen wholly inside one such polygon at every single sighting. It never cuts a
//! piece out of a mask, and a head that was ever seen outside or across the border keeps its mask
//! all the way through the zone, also before it left it (within the look-ahead). Scores play no
//! part: a poster scores as high as a visitor, so what is wholly inside was excluded by the user.

use crate::geometry::{PictureSize, Rect};
use crate::mask::{Certainty, Mask, Shape, TrackId};

/// A closed polygon; points are (x, y) as shares of the picture's width and height, 0..=1.
/// Fewer than three points enclose nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Polygon {
    /// Corners in order; the last is joined to the first.
    pub points: Vec<(f32, f32)>,
}

/// The static zones of one camera.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Zones {
    /// Masked in every frame.
    pub always: Vec<Polygon>,
    /// Tracks wholly inside are not masked.
    pub never: Vec<Polygon>,
}

impl Zones {
    /// The masks of the always-zones in a picture of `size`, the same for every frame. Their track
    /// numbers count down from the highest one.
    pub fn always_masks(&self, size: PictureSize) -> impl Iterator<Item = Mask> + '_ {
        self.always
            .iter()
            .zip(0u64..)
            .filter_map(move |(zone, number)| {
                let shape = Shape::of_zone(zone, size)?;
                Some(Mask {
                    track: TrackId(u64::MAX - 1 - number),
                    head: shape.bounds(),
                    shape,
                    certainty: Certainty::Seen,
                    score: 1.0,
                })
            })
    }

    /// True if `rect` lies wholly inside one of the never-zones.
    pub fn never_covers(&self, rect: &Rect, size: PictureSize) -> bool {
        self.never.iter().any(|zone| zone.contains_rect(rect, size))
    }
}

impl Polygon {
    /// The corners in pixels of the full picture.
    pub fn in_pixels(&self, size: PictureSize) -> Vec<(f32, f32)> {
        let scale = |&(x, y): &(f32, f32)| (x * size.width as f32, y * size.height as f32);
        self.points.iter().map(scale).collect()
    }

    /// True if every corner of `rect` is inside and no edge of the polygon crosses it.
    pub fn contains_rect(&self, rect: &Rect, size: PictureSize) -> bool {
        if self.points.len() < 3 {
            return false;
        }
        let corners = self.in_pixels(size);
        let [left, top, right, bottom] = [rect.x, rect.y, rect.right(), rect.bottom()];
        let all_inside = [(left, top), (right, top), (left, bottom), (right, bottom)]
            .iter()
            .all(|&point| inside(&corners, point));
        all_inside && !edges(&corners).any(|(a, b)| touches(a, b, rect))
    }
}

type Point = (f32, f32);

/// The polygon's edges in order.
pub(crate) fn edges(corners: &[Point]) -> impl Iterator<Item = (Point, Point)> + '_ {
    let next = corners.iter().cycle().skip(1);
    corners.iter().copied().zip(next.copied())
}

/// Even-odd rule.
fn inside(corners: &[Point], (x, y): Point) -> bool {
    let crossings = edges(corners).filter(|&(a, b)| {
        (a.1 > y) != (b.1 > y) && x < a.0 + (y - a.1) * (b.0 - a.0) / (b.1 - a.1)
    });
    crossings.count() % 2 == 1
}

/// True if the segment has a point strictly inside the box (Liang-Barsky clipping).
fn touches(a: Point, b: Point, rect: &Rect) -> bool {
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let (mut from, mut to) = (0.0f32, 1.0f32);
    let limits = [
        (-dx, a.0 - rect.x),
        (dx, rect.right() - a.0),
        (-dy, a.1 - rect.y),
        (dy, rect.bottom() - a.1),
    ];
    for (p, q) in limits {
        if p == 0.0 {
            if q <= 0.0 {
                return false;
            }
        } else if p < 0.0 {
            from = from.max(q / p);
        } else {
            to = to.min(q / p);
        }
    }
    from < to
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: PictureSize = PictureSize {
        width: 100,
        height: 100,
    };

    fn notched() -> Polygon {
        // A square with a notch cut in from the top, down to y = 0.5.
        let points = vec![
            (0.1, 0.1),
            (0.45, 0.1),
            (0.45, 0.5),
            (0.55, 0.5),
            (0.55, 0.1),
            (0.9, 0.1),
            (0.9, 0.9),
            (0.1, 0.9),
        ];
        Polygon { points }
    }

    #[test]
    fn only_boxes_wholly_inside_are_covered() {
        let zone = notched();
        assert!(zone.contains_rect(&Rect::new(15.0, 15.0, 20.0, 20.0), SIZE));
        assert!(zone.contains_rect(&Rect::new(20.0, 60.0, 60.0, 20.0), SIZE));
        assert!(!zone.contains_rect(&Rect::new(5.0, 15.0, 20.0, 20.0), SIZE));
    }

    #[test]
    fn a_notch_between_the_corners_counts_as_outside() {
        assert!(!notched().contains_rect(&Rect::new(20.0, 20.0, 60.0, 20.0), SIZE));
    }

    #[test]
    fn two_points_enclose_nothing() {
        let line = Polygon {
            points: vec![(0.0, 0.0), (1.0, 1.0)],
        };
        assert!(!line.contains_rect(&Rect::new(40.0, 40.0, 5.0, 5.0), SIZE));
    }
}
