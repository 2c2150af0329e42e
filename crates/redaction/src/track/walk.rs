//! Carrying a track's boxes through the window.

use std::collections::VecDeque;

use crate::geometry::Rect;
use crate::track::TrackerSettings;
use crate::track::follow::{Follower, Step};
use crate::track::path::{Key, Track};
use crate::track::window::Window;

/// Speeds are measured over at least this many seconds, or the boxes' jitter would drown them.
const SPEED_SPAN: f64 = 0.25;
/// ... and at most this many.
const SPEED_MOST: f64 = 1.0;

/// Frames along a matched path over which its speed is measured.
const PATH_SPAN: i64 = 4;

/// Carries a track's last box on to the newest frame.
pub(super) fn carry_on(track: &mut Track, window: &Window, settings: &TrackerSettings, frame: i64) {
    let last = track.last();
    let known = last.frame + last.ahead.len() as i64;
    let time = last.time;
    let given_up = window
        .newest_time()
        .is_none_or(|now| now - time > settings.rejoin.max(2.0 * settings.pad_while_matched));
    if known + 1 != frame || given_up {
        return;
    }
    let Some(between) = window.between((known, time), frame) else {
        return;
    };
    let step = track.live.step(&between, settings);
    if frame == 0 {
        // Nothing of the previous segment's pictures is left: what is there now is followed.
        track.live.look(between.to, window.size());
    }
    if let Some(key) = track.keys.back_mut() {
        key.ahead.push(step);
    }
}

/// Carries the first sighting's box back again, now that its speed is known (and, well known, it is
/// believed for longer).
pub(super) fn reach_back(
    track: &mut Track,
    matched_for: f64,
    window: &Window,
    settings: &TrackerSettings,
) {
    let (frame, time, rect) = {
        let first = track.first();
        (first.frame, first.time, first.rect)
    };
    let Some(slot) = window.get(frame) else {
        return;
    };
    let speed = speed_after(track, window).or_else(|| speed_about(&track.keys, 0, time, &rect));
    let speed = speed.map(|(x, y)| (-x, -y));
    let mut follower = Follower::new(rect, speed, (time, time), matched_for);
    follower.look(slot.picture.as_ref(), window.size());
    let frames = &mut (window.start()..frame).rev();
    let behind = walk(
        &mut follower,
        window,
        settings,
        (frame, time),
        frames,
        false,
    );
    if let Some(first) = track.keys.front_mut() {
        first.behind = behind;
    }
}

/// Speed right after the first sighting, along the path to the second one.
fn speed_after(track: &Track, window: &Window) -> Option<(f32, f32)> {
    let first = track.first();
    let next = track.keys.get(1)?;
    let frame = (first.frame + PATH_SPAN).min(next.frame - 1);
    let time = window
        .get(frame)
        .map(|slot| slot.time)
        .filter(|&time| time > first.time)?;
    let there = track
        .expected(frame, time)
        .filter(|there| there.sure)?
        .rect
        .centre();
    let here = first.rect.centre();
    let seconds = (time - first.time) as f32;
    Some(((there.0 - here.0) / seconds, (there.1 - here.1) / seconds))
}

/// Steps through `frames`, neighbours in either direction; unless `all` are wanted, only as far as
/// they are to be masked.
pub(super) fn walk(
    follower: &mut Follower,
    window: &Window,
    settings: &TrackerSettings,
    start: (i64, f64),
    frames: &mut dyn Iterator<Item = i64>,
    all: bool,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut here = start;
    for frame in frames {
        let Some(between) = window.between(here, frame) else {
            break;
        };
        here = (frame, between.times.1);
        let step = follower.step(&between, settings);
        if !all && !step.covered {
            break;
        }
        steps.push(step);
    }
    steps
}

/// Speed of the centre in pixels per second around a place in the list of sightings.
pub(super) fn speed_about(
    keys: &VecDeque<Key>,
    position: usize,
    time: f64,
    rect: &Rect,
) -> Option<(f32, f32)> {
    let away = |key: &Key| (key.time - time).abs();
    let far_enough = |key: &&Key| (SPEED_SPAN..=SPEED_MOST).contains(&away(key));
    let near = |key: &&Key| away(key) > 0.0 && away(key) <= SPEED_MOST;
    let before = || keys.range(..position).rev();
    let after = || keys.range(position..);
    let other = before()
        .find(far_enough)
        .or_else(|| after().find(far_enough))
        .or_else(|| before().find(near))
        .or_else(|| after().find(near))?;
    let seconds = (time - other.time) as f32;
    let (here, there) = (rect.centre(), other.rect.centre());
    Some(((here.0 - there.0) / seconds, (here.1 - there.1) / seconds))
}
