//! Which frames the detector should look at again.

use std::collections::BTreeMap;

use crate::track::path::{Key, Track};
use crate::track::window::Window;

/// How much a look at a frame is worth.
const JUMP: f32 = 4.0;
const BORDER: f32 = 2.0;
/// A track's begin or end along which image matching still finds the head.
const MATCHED_BORDER: f32 = 0.5;

/// Up to `budget` undetected frames in the window, the most urgent first.
pub(super) fn most_urgent(tracks: &[Track], window: &Window, budget: usize) -> Vec<i64> {
    let mut worth: BTreeMap<i64, f32> = BTreeMap::new();
    for track in tracks {
        for (frame, weight) in questions(track, window) {
            let open = window
                .get(frame)
                .is_some_and(|slot| slot.unclaimed.is_none() && !slot.asked);
            if open {
                *worth.entry(frame).or_default() += weight * stake(track, window);
            }
        }
    }
    let mut frames: Vec<(i64, f32)> = worth.into_iter().collect();
    frames.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    frames.truncate(budget);
    frames.into_iter().map(|(frame, _)| frame).collect()
}

/// Larger heads show more: 1 for the smallest, 2 for one of a fifth of the picture's height.
fn stake(track: &Track, window: &Window) -> f32 {
    1.0 + (5.0 * track.last().rect.unit() / window.size().height.max(1) as f32).min(1.0)
}

fn questions(track: &Track, window: &Window) -> Vec<(i64, f32)> {
    let mut all: Vec<(i64, f32)> = track
        .jumps()
        .map(|(a, b)| ((a.frame + b.frame) / 2, JUMP))
        .collect();
    let first = track.first();
    if track.begins {
        let looked = (window.start()..first.frame)
            .rev()
            .find(|&frame| window.is_detected(frame));
        all.extend(looked.and_then(|looked| halfway(track, first, looked)));
    }
    let last = track.last();
    let looked = (last.frame + 1..window.end()).find(|&frame| window.is_detected(frame));
    all.extend(looked.and_then(|looked| halfway(track, last, looked)));
    all
}

/// The frame halfway between a sighting and a frame on which the head was not seen any more.
fn halfway(track: &Track, key: &Key, looked: i64) -> Option<(i64, f32)> {
    let frame = (key.frame + looked).div_euclid(2);
    if (key.frame - looked).abs() < 2 || frame == key.frame {
        return None;
    }
    let matched = track
        .expected(frame, key.time)
        .is_some_and(|expected| expected.sure);
    Some((frame, if matched { MATCHED_BORDER } else { BORDER }))
}
