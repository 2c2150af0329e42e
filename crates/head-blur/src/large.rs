//! Whoever is close is clearly seen: what is large and only weakly like a person is doubted.
//!
//! Fences, shelves and parked cars are taken for persons of half the picture's height with scores just above the
//! threshold, most often where the picture's border cuts them off, and each such mask hides as much of the picture as a
//! hundred heads far away.

use crate::boxes::Scored;
use crate::detector::FOUND;
use crate::heads;

/// Heads (mean of width and height) of this share of the picture's shorter side begin to be large; from the other one on
/// they are.
const LARGE: (f32, f32) = (0.06, 0.12);
/// Score from which on large ones count as found. Of the 44 labelled heads of still pictures that are so large all have
/// more but one, of whom 20 columns are to be seen; with 0.4 a face in haze was visible.
const NEEDED: f32 = 0.35;
/// From this score on nobody is doubted.
const UNDOUBTED: f32 = 0.5;

/// Lowers the scores (on the host's scale) of large weak persons, in a picture of `size`: those below what they need
/// become hints, which may still extend the track of somebody who was clearly seen.
pub(crate) fn doubt(persons: &mut [Scored], (width, height): (u32, u32)) {
    let side = width.min(height).max(1) as f32;
    for person in persons {
        let head = heads::head_of_person(person);
        let share = (head.width() + head.height()) / 2.0 / side;
        person.score = doubted(person.score, needed(share));
    }
}

fn needed(share: f32) -> f32 {
    let large = ((share - LARGE.0) / (LARGE.1 - LARGE.0)).clamp(0.0, 1.0);
    FOUND + large * (NEEDED - FOUND)
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

    /// A standing body of `height` in a picture of 640 by 360.
    fn score_of(height: f32, score: f32) -> f32 {
        let mut person = [Scored {
            left: 100.0,
            top: 20.0,
            right: 100.0 + 0.4 * height,
            bottom: 20.0 + height,
            score,
            class: 0,
        }];
        doubt(&mut person, (640, 360));
        person[0].score
    }

    #[test]
    fn only_large_weak_ones_are_doubted() {
        assert_eq!(score_of(60.0, 0.27), 0.27, "far away");
        assert!(score_of(330.0, 0.3) < FOUND, "close, but hardly seen");
        assert!(score_of(330.0, 0.36) >= FOUND);
        assert_eq!(score_of(330.0, 0.6), 0.6);
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
