//! Masks: which samples of which rows are replaced.
//!
//! An ellipse is **circumscribed** about the head box (it runs through the box's corners), never
//! inscribed: inscribed ones leave hair, ears and chin. Spans are rounded outwards to even pixels
//! and row pairs, so that no chroma sample mixes masked and open pixels, and reach the last row
//! and column.

use crate::geometry::{PictureSize, Rect};
use crate::zones::{Polygon, edges};

/// A head in another head's mask needs none of its own if it would fit in at this size.
const ROOM: f32 = 1.25;

/// A track's number; the same head keeps it while the track lives, also over a segment's border.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId(pub u64);

/// How the box of a mask is known, from best to worst; for reports and contact sheets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Certainty {
    /// A detector saw it in this very frame, or a static zone.
    Seen,
    /// Between two sightings.
    Bridged,
    /// Before the first or after the last sighting, found again by image matching.
    Carried,
    /// Before the first or after the last sighting, guessed from the motion.
    Guessed,
}

/// Outline of a head's mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outline {
    /// The ellipse through the corners of the head box with its margin.
    #[default]
    Ellipse,
    /// The head box with its margin.
    Rectangle,
}

/// How a head box becomes a mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskRules {
    /// Outline; default ellipse.
    pub outline: Outline,
    /// Share of the head's width and height added on every side before the outline is drawn about
    /// it; at least 0; default 0.08.
    pub margin: f32,
}

impl Default for MaskRules {
    fn default() -> Self {
        Self {
            outline: Outline::Ellipse,
            margin: 0.08,
        }
    }
}

/// The exact form of a mask, in pixels of the full picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// The ellipse inscribed in this box (which itself goes round the head's box).
    Ellipse(Rect),
    /// This box.
    Rectangle(Rect),
    /// The inside of a closed polygon.
    Polygon(Vec<(f32, f32)>),
}

/// One thing to hide in one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    /// Whose mask; the frozen cells hang on it.
    pub track: TrackId,
    /// The head's box without margin, as the tracker knows it (a zone: its bounding box).
    pub head: Rect,
    /// What is replaced.
    pub shape: Shape,
    /// How the box is known.
    pub certainty: Certainty,
    /// Best score of the track's sightings so far, 0..=1.
    pub score: f32,
}

/// All that is to be hidden in one frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameMasks {
    /// Number of the frame as pushed, from 0.
    pub frame: u64,
    /// The frame's time as pushed, in seconds.
    pub time: f64,
    /// The doubt state: hide the whole picture (the masks are given all the same).
    pub whole_frame: bool,
    /// The masks.
    pub masks: Vec<Mask>,
}

impl FrameMasks {
    /// True if nothing in the frame needs changing.
    pub fn is_clear(&self) -> bool {
        !self.whole_frame && self.masks.is_empty()
    }
}

impl MaskRules {
    /// The mask's form about a head box.
    pub fn shape(&self, head: &Rect) -> Shape {
        let roomy = head.grown(self.margin.max(0.0));
        match self.outline {
            Outline::Rectangle => Shape::Rectangle(roomy),
            Outline::Ellipse => {
                let about = std::f32::consts::SQRT_2;
                Shape::Ellipse(Rect::centred(
                    roomy.centre(),
                    roomy.width * about,
                    roomy.height * about,
                ))
            }
        }
    }
}

/// Leaves out masks whose heads others hide with room to spare: several tracks on one head.
/// Better known ones stay, and of equals the larger.
pub(crate) fn without_hidden(mut masks: Vec<Mask>) -> Vec<Mask> {
    masks.sort_by(|a, b| {
        let larger = b.head.area().total_cmp(&a.head.area());
        a.certainty
            .cmp(&b.certainty)
            .then(larger)
            .then(a.track.cmp(&b.track))
    });
    let mut kept: Vec<Mask> = Vec::with_capacity(masks.len());
    for mask in masks {
        if !kept.iter().any(|other| other.shape.hides(&mask.head)) {
            kept.push(mask);
        }
    }
    kept.sort_by_key(|mask| mask.track);
    kept
}

impl Shape {
    /// True if the ellipse in a head's box, and some room about it, lies inside.
    fn hides(&self, head: &Rect) -> bool {
        match self {
            Self::Rectangle(rect) => head.share_inside(rect) >= 1.0,
            Self::Ellipse(rect) => {
                let (centre, at) = (rect.centre(), head.centre());
                let (a, b) = (rect.width / 2.0, rect.height / 2.0);
                let about = std::f32::consts::FRAC_1_SQRT_2;
                let (w, h) = (head.width / 2.0, head.height / 2.0);
                let dots = [
                    (w, 0.0),
                    (-w, 0.0),
                    (0.0, h),
                    (0.0, -h),
                    (about * w, about * h),
                    (-about * w, about * h),
                    (about * w, -about * h),
                    (-about * w, -about * h),
                ];
                dots.iter().all(|(x, y)| {
                    let (x, y) = (
                        (at.0 + ROOM * x - centre.0) / a,
                        (at.1 + ROOM * y - centre.1) / b,
                    );
                    x * x + y * y <= 1.0
                })
            }
            Self::Polygon(_) => false,
        }
    }

    /// The mask of an always-zone; `None` if the polygon encloses nothing.
    pub(crate) fn of_zone(zone: &Polygon, size: PictureSize) -> Option<Self> {
        (zone.points.len() >= 3).then(|| Self::Polygon(zone.in_pixels(size)))
    }

    /// The smallest box around the form; may reach beyond the picture.
    pub fn bounds(&self) -> Rect {
        match self {
            Self::Ellipse(rect) | Self::Rectangle(rect) => *rect,
            Self::Polygon(points) => {
                let dot = |&(x, y): &(f32, f32)| Rect::new(x, y, 0.0, 0.0);
                let all = points.iter().map(dot).reduce(|a, b| a.union(&b));
                all.unwrap_or_default()
            }
        }
    }

    /// The masked columns of each pair of luma rows, clipped to the picture.
    pub(crate) fn spans(&self, size: PictureSize) -> RowPairs {
        let bounds = self.bounds();
        let sound = [bounds.x, bounds.y, bounds.width, bounds.height]
            .iter()
            .all(|v| v.is_finite());
        let first = pair_of(bounds.y, size.height);
        let end = (pair_of(bounds.bottom(), size.height) + 1).min(size.height.div_ceil(2));
        let outside = bounds.bottom() <= 0.0
            || bounds.right() <= 0.0
            || bounds.y >= size.height as f32
            || bounds.x >= size.width as f32;
        if !sound || outside {
            return RowPairs {
                first: 0,
                spans: Vec::new(),
            };
        }
        let spans = (first..end).map(|pair| {
            let (top, bottom) = (2.0 * pair as f32, 2.0 * pair as f32 + 2.0);
            self.columns_between(top, bottom)
                .map_or((0, 0), |ends| even_columns(ends, size.width))
        });
        RowPairs {
            first: first as usize,
            spans: spans.collect(),
        }
    }

    /// Leftmost and rightmost x the form reaches anywhere between two heights.
    fn columns_between(&self, top: f32, bottom: f32) -> Option<(f32, f32)> {
        match self {
            Self::Rectangle(rect) => {
                (top < rect.bottom() && bottom > rect.y).then(|| (rect.x, rect.right()))
            }
            Self::Ellipse(rect) => ellipse_columns(rect, top, bottom),
            Self::Polygon(points) => polygon_columns(points, top, bottom),
        }
    }
}

/// Masked columns `[from, to)` per pair of luma rows; a polygon's row is masked from its leftmost
/// to its rightmost point (notches are filled: more, never less).
#[derive(Debug)]
pub(crate) struct RowPairs {
    /// Number of the first pair: luma rows `2 * first` and `2 * first + 1`.
    pub(crate) first: usize,
    /// From and to, both even or the picture's width; equal where nothing is masked.
    pub(crate) spans: Vec<(usize, usize)>,
}

impl RowPairs {
    /// True if nothing is masked.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.iter().all(|&(from, to)| from == to)
    }

    /// The rows of a plane that may be masked.
    pub(crate) fn rows(&self, shift_y: u8, height: usize) -> std::ops::Range<usize> {
        let from = (2 * self.first) >> shift_y;
        let to = (2 * (self.first + self.spans.len())).div_ceil(1 << shift_y);
        from..to.min(height)
    }

    /// The masked samples `[from, to)` of a plane's row, rounded outwards.
    pub(crate) fn columns(
        &self,
        y: usize,
        shift_x: u8,
        shift_y: u8,
        width: usize,
    ) -> Option<(usize, usize)> {
        let (top, bottom) = ((y << shift_y) / 2, ((y + 1) << shift_y).div_ceil(2));
        let pairs = top.max(self.first)..bottom.min(self.first + self.spans.len());
        let spans = pairs
            .map(|pair| self.spans[pair - self.first])
            .filter(|(from, to)| from < to);
        let (from, to) = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))?;
        Some((from >> shift_x, to.div_ceil(1 << shift_x).min(width)))
    }
}

fn pair_of(y: f32, height: u32) -> u32 {
    (y.clamp(0.0, height as f32 - 1.0) / 2.0) as u32
}

fn even_columns((left, right): (f32, f32), width: u32) -> (usize, usize) {
    let width = width as f32;
    let from = (left.clamp(0.0, width) / 2.0).floor() * 2.0;
    let to = ((right.clamp(0.0, width) / 2.0).ceil() * 2.0).min(width);
    (from as usize, (to as usize).max(from as usize))
}

fn ellipse_columns(rect: &Rect, top: f32, bottom: f32) -> Option<(f32, f32)> {
    let ((cx, cy), half_w, half_h) = (rect.centre(), rect.width / 2.0, rect.height / 2.0);
    if half_h <= 0.0 || half_w <= 0.0 {
        return None;
    }
    // The widest line of the strip is the one nearest to the centre.
    let nearest = cy.clamp(top, bottom);
    let rise = (nearest - cy) / half_h;
    let reach = 1.0 - rise * rise;
    (reach > 0.0).then(|| {
        let half = half_w * reach.sqrt();
        (cx - half, cx + half)
    })
}

fn polygon_columns(points: &[(f32, f32)], top: f32, bottom: f32) -> Option<(f32, f32)> {
    let mut ends: Option<(f32, f32)> = None;
    for (a, b) in edges(points) {
        let (upper, lower) = if a.1 <= b.1 { (a, b) } else { (b, a) };
        if upper.1 > bottom || lower.1 < top {
            continue;
        }
        for y in [upper.1.max(top), lower.1.min(bottom)] {
            let height = lower.1 - upper.1;
            let xs = if height > 0.0 {
                let x = upper.0 + (y - upper.1) / height * (lower.0 - upper.0);
                [x, x]
            } else {
                [upper.0, lower.0]
            };
            for x in xs {
                ends = Some(ends.map_or((x, x), |(l, r)| (l.min(x), r.max(x))));
            }
        }
    }
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: PictureSize = PictureSize {
        width: 101,
        height: 51,
    };

    fn masked(shape: &Shape, x: usize, y: usize) -> bool {
        let pairs = shape.spans(SIZE);
        (y / 2)
            .checked_sub(pairs.first)
            .and_then(|row| pairs.spans.get(row))
            .is_some_and(|&(from, to)| (from..to).contains(&x))
    }

    #[test]
    fn an_ellipse_covers_the_corners_of_its_head() {
        let head = Rect::new(30.0, 10.0, 20.0, 26.0);
        let shape = MaskRules {
            margin: 0.0,
            ..MaskRules::default()
        }
        .shape(&head);
        for (x, y) in [(30, 10), (49, 10), (30, 35), (49, 35)] {
            assert!(masked(&shape, x, y), "corner {x},{y}");
        }
        assert!(!masked(&shape, 26, 10));
    }

    #[test]
    fn the_last_row_and_column_of_an_odd_picture_are_reached() {
        let head = Rect::new(90.0, 40.0, 30.0, 30.0);
        for outline in [Outline::Ellipse, Outline::Rectangle] {
            let shape = MaskRules {
                outline,
                margin: 0.0,
            }
            .shape(&head);
            assert!(masked(&shape, 100, 50));
        }
    }

    #[test]
    fn a_form_outside_the_picture_masks_nothing() {
        for rect in [
            Rect::new(-50.0, 5.0, 49.0, 10.0),
            Rect::new(102.0, 5.0, 9.0, 9.0),
            Rect::new(5.0, 51.0, 9.0, 9.0),
        ] {
            let pairs = Shape::Rectangle(rect).spans(SIZE);
            assert!(pairs.spans.iter().all(|&(from, to)| from == to), "{rect:?}");
        }
    }

    #[test]
    fn a_triangle_is_filled() {
        let shape = Shape::Polygon(vec![(10.0, 10.0), (60.0, 10.0), (10.0, 40.0)]);
        assert!(masked(&shape, 12, 30));
        assert!(masked(&shape, 50, 11));
        assert!(!masked(&shape, 50, 35));
        assert!(!masked(&shape, 5, 20));
    }
}
