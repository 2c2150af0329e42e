//! Whoever is close is clearly seen: what is large and only weakly like a person is doubted.
//!
//! Fences, shelves and parked cars are taken for persons of half the picture's height with scores just above the
//! threshold, most often where the picture's border cuts them off, and each such mask hides as much of the picture as a
//! hundred heads far away.

use crate::boxes::Scored;
use crate::detector::FOUND;
use crate::heads;

/// Of somebody whom the picture's border cuts off a head (mean of width and height) of this share of the picture's shorter
/// side begins to be large; from the other one on it is.
const LARGE_AT_BORDER: (f32, f32) = (0.06, 0.12);
/// The same of somebody within: the head of a standing body that fits into the picture is hardly larger, however close.
const LARGE_WITHIN: (f32, f32) = (0.15, 0.2);
/// Score from which on large ones count as found. Of 37 labelled heads in still pictures with boxes of 0.12 and more 36 have 0.59 and more, one has
/// no more than a hint in any case; with 0.4 a face in haze was visible. It takes the masked share of three clips with
/// many such mistakes from 42, 24 and 9 % of the picture to 18, 15 and 8 %.
const NEEDED: f32 = 0.35;
/// From this score on nobody is doubted.
const UNDOUBTED: f32 = 0.5;
/// What ends closer to the picture's border than this share of its shorter side is cut off by it.
const AT_BORDER: f32 = 0.015;

/// Lowers the scores (on the host's scale) of large weak persons, in a picture of `size`: those below what they need
/// become hints, which may still extend the track of somebody who was clearly seen.
pub(crate) fn doubt(persons: &mut [Scored], size: (u32, u32)) {
    let side = size.0.min(size.1).max(1) as f32;
    let border = (AT_BORDER * side, AT_BORDER * side);
    for person in persons {
        let large = match person.is_within(size, border) {
            true => LARGE_WITHIN,
            false => LARGE_AT_BORDER,
        };
        let head = heads::head_of_person(person);
        let share = (head.width() + head.height()) / 2.0 / side;
        person.score = doubted(person.score, needed(share, large));
    }
}

fn needed(share: f32, (from, to): (f32, f32)) -> f32 {
    FOUND + ((share - from) / (to - from)).clamp(0.0, 1.0) * (NEEDED - FOUND)
}

/// `needed` becomes [`FOUND`]; steady and rising.
fn doubted(score: f32, needed: f32) -> f32 {
    if score >= UNDOUBTED {
        score
    } else if score < needed {
        score * FOUND / needed
    } else {
        FOUND + (score - needed) * (UNDOUBTED - FOUND) / (UNDOUBTED - needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a body of `width` by `height` pixels, `top` below the upper border of a picture of 640 by 360.
    fn score_of((width, height): (f32, f32), top: f32, score: f32) -> f32 {
        let mut person = [Scored {
            left: 100.0,
            top,
            right: 100.0 + width,
            bottom: top + height,
            score,
            class: 0,
        }];
        doubt(&mut person, (640, 360));
        person[0].score
    }

    #[test]
    fn only_large_weak_ones_are_doubted() {
        let (far, standing, half) = ((25.0, 60.0), (100.0, 300.0), (200.0, 200.0));
        let is_kept = |size, top, score: f32| (score_of(size, top, score) - score).abs() < 1e-6;
        assert!(is_kept(far, 300.0, 0.27), "far away");
        assert!(is_kept(standing, 20.0, 0.3), "fits in");
        assert!(score_of(half, 160.0, 0.3) < FOUND, "close, hardly seen");
        assert!(score_of(half, 100.0, 0.3) < FOUND, "the same within");
        assert!(score_of(half, 160.0, 0.36) >= FOUND);
        assert!(is_kept(half, 160.0, 0.6));
    }

    #[test]
    fn who_is_seen_better_scores_higher() {
        for needed in [FOUND, 0.3, NEEDED] {
            let scores: Vec<f32> = (0..=100)
                .map(|score| doubted(score as f32 / 100.0, needed))
                .collect();
            assert!(scores.is_sorted_by(|a, b| a < b), "{scores:?}");
        }
    }
}
