//! Which detection belongs to which track: cheapest pairs first, distances in head units.

use crate::detection::Detection;
use crate::geometry::Rect;
use crate::track::path::Expected;

/// How far a detection may lie from where a track is expected.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gate {
    /// Detections that may start a track of their own.
    Confident,
    /// Detections that can only extend one.
    Weak,
    /// Confident ones left over, for tracks whose head moves by more than its size from one
    /// detected frame to the next. A wrong pair costs area, not coverage: both ends keep their
    /// own paths where the line between them is not to be trusted.
    Jump,
}

impl Gate {
    /// Cost of a pair; `None` if they cannot be the same.
    pub(super) fn cost(self, expected: &Expected, seen: &Rect) -> Option<f32> {
        let away = expected.rect.distance_in_units(seen);
        let ratio = (seen.area() / expected.rect.area().max(1.0)).sqrt();
        let unsure = if expected.sure {
            0.0
        } else {
            expected.unseen as f32
        };
        let (reach, most_ratio) = match self {
            Self::Confident => ((0.8 + 2.5 * unsure).min(2.0), 2.0),
            Self::Weak => ((0.5 + unsure).min(1.0), 1.6),
            Self::Jump if expected.sure => return None,
            Self::Jump => ((1.0 + 12.0 * unsure).min(4.0), 1.6),
        };
        let fits = (1.0 / most_ratio..most_ratio).contains(&ratio) && away <= reach;
        fits.then(|| away + 0.5 * ratio.ln().abs())
    }
}

/// Pairs (track, detection), each used once, cheapest first. Ties go to the lower numbers.
pub(super) fn pairs(
    expected: &[(usize, Expected)],
    seen: &[(usize, Detection)],
    gate: Gate,
) -> Vec<(usize, usize)> {
    let mut all: Vec<(f32, usize, usize)> = Vec::new();
    for (track, expected) in expected {
        let fitting = seen
            .iter()
            .filter_map(|(at, seen)| Some((gate.cost(expected, &seen.rect)?, *track, *at)));
        all.extend(fitting);
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut chosen: Vec<(usize, usize)> = Vec::new();
    for (_, track, at) in all {
        if chosen.iter().all(|&(t, s)| t != track && s != at) {
            chosen.push((track, at));
        }
    }
    chosen
}
