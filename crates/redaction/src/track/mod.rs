//! Tracks that look both ways.
//!
//! In the spirit of SORT and ByteTrack (Bewley 2016; Zhang 2022), but on a window of frames rather
//! than on the newest one: a sighting may be added to any frame whose masks are not out, its box
//! is carried in both directions, and a frame's masks are made when it leaves the window, from all
//! that is known by then.
//!
//! - Confident detections are matched first, weak ones can only extend a track; a new track takes
//!   the weak sightings it would explain, before and after it.
//! - Between two sightings the head is where image matching from either side says; where both
//!   lose it, around the straight line and wherever either went ([`path`]).
//! - Before the first and after the last sighting the box is carried on: for `pad` in any case,
//!   up to `pad_while_matched` as long as it is seen, to the picture's edge, growing while it is
//!   not found ([`follow`]).
//!
//! Confusing two heads that cross is harmless here: both places are masked either way.

mod ask;
mod associate;
mod follow;
mod path;
mod settings;
mod window;

use std::collections::VecDeque;

use crate::detection::Detection;
use crate::geometry::{PictureSize, Rect};
use crate::mask::{Certainty, FrameMasks, Mask, Shape, TrackId};
use crate::motion::LumaPicture;
use associate::{Gate, pairs};
use follow::{Follower, Step};
use path::{Expected, Key, Track};
pub use settings::{
    CarriedTrack, FrameInput, Observation, StaticRules, TrackCarry, TrackerSettings,
};
use window::{Slot, Window};

/// Boxes that overlap more than this (intersection over union) are one and the same.
const SAME: f32 = 0.75;
/// Weak sightings closer to a track than this (head units) are masked with it.
const BESIDE: f32 = 0.8;
/// Heads whose boxes overlap by this much (intersection over union) may be taken for each other.
const CROSSING: f32 = 0.15;
/// From this many sightings on, a track is believed twice as long without one.
const WELL_KNOWN: u32 = 3;
/// Speeds are measured over at least this many seconds, or the boxes' jitter would drown them.
const SPEED_SPAN: f64 = 0.25;
/// ... and at most this many.
const SPEED_MOST: f64 = 1.0;
/// When a carried track's last frame was, before the segment's first one.
const FRAME_BEFORE: f64 = -0.05;
/// Grey levels between two small pictures that count as motion.
const MOTION: u8 = 12;
/// Head units off the first sighting that count as motion.
const ELSEWHERE: f32 = 0.25;

/// Turns detections into masks for every frame. See the crate's head for the way through.
#[derive(Debug)]
pub struct Tracker {
    settings: TrackerSettings,
    window: Window,
    tracks: Vec<Track>,
    next_track: u64,
    now: f64,
    finished: bool,
}

impl Tracker {
    /// A tracker for one segment of pictures of `size`. `carry` is the previous segment's
    /// [`Tracker::carry`], or the default.
    pub fn new(settings: TrackerSettings, size: PictureSize, carry: TrackCarry) -> Self {
        let sound = carry.tracks.iter().filter(|track| track.rect.is_sound());
        let tracks: Vec<Track> = sound.map(|track| revived(track, &settings)).collect();
        let past = tracks
            .iter()
            .map(|track| track.id.saturating_add(1))
            .max()
            .unwrap_or(0);
        let next_track = carry.next_track.max(past);
        let window = Window::new(size);
        Self {
            settings,
            window,
            tracks,
            next_track,
            now: 0.0,
            finished: false,
        }
    }

    /// Takes the next frame in display order; returns its number, counting from 0.
    pub fn push(&mut self, frame: FrameInput) -> u64 {
        let number = self.window.end();
        // A time that is no number or falls counts as "no later than the one before".
        self.now = if frame.time > self.now {
            frame.time
        } else {
            self.now
        };
        let picture = frame.picture.filter(|_| !frame.damaged);
        let slot = Slot {
            time: self.now,
            picture,
            damaged: frame.damaged,
            unclaimed: None,
            asked: false,
        };
        self.window.push(slot);
        for track in &mut self.tracks {
            carry_on(track, &self.window, &self.settings, number);
        }
        if self.settings.static_rules.is_some() {
            self.watch_for_motion(number);
        }
        if let Observation::Detected(seen) = frame.observation {
            self.observe(number, seen);
        }
        number as u64
    }

    /// Up to `budget` frames, most urgent first, that the detector did not look at yet and should:
    /// where a track starts, ends or jumps. Answer with [`Tracker::amend`]; a frame is asked for
    /// once only. The frames lie within the look-ahead, so the host must keep their pictures as
    /// long as their masks are not out.
    pub fn wanted(&mut self, budget: usize) -> Vec<u64> {
        let frames = ask::most_urgent(&self.tracks, &self.window, budget);
        for &frame in &frames {
            if let Some(slot) = self.window.get_mut(frame) {
                slot.asked = true;
            }
        }
        frames.into_iter().map(|frame| frame as u64).collect()
    }

    /// Adds what the detector saw in a frame pushed as `NotDetected`. Ignored for frames whose
    /// masks are already out, and for those that were detected before.
    pub fn amend(&mut self, frame: u64, detections: Vec<Detection>) {
        let Ok(frame) = i64::try_from(frame) else {
            return;
        };
        if self
            .window
            .get(frame)
            .is_some_and(|slot| slot.unclaimed.is_none())
        {
            self.observe(frame, detections);
        }
    }

    /// No more frames will come: everything left may be pulled.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// The next frame's final masks, in order, once its look-ahead is there or after
    /// [`Tracker::finish`].
    pub fn pull(&mut self) -> Option<FrameMasks> {
        if !self.finished && self.window.len() <= self.settings.look_ahead.max(1) {
            return None;
        }
        let frame = self.window.start();
        let slot = self.window.pop()?;
        let weak = slot.unclaimed.unwrap_or_default();
        let heads = self.tracks.iter().filter(|track| !self.is_dropped(track));
        let places: Vec<(&Track, Vec<(Rect, Certainty)>)> = heads
            .map(|track| (track, track.places(frame, slot.time)))
            .collect();
        let mut masks = Vec::new();
        for (track, own) in &places {
            let others = places
                .iter()
                .filter(|(other, _)| other.id != track.id)
                .flat_map(|(_, places)| places);
            let extra = doubtful(track, (frame, slot.time), own, others, &weak);
            masks.extend(
                own.iter()
                    .copied()
                    .chain(extra)
                    .filter_map(|place| self.mask_of(track, place)),
            );
        }
        masks.extend(self.zone_masks());
        self.prune();
        Some(FrameMasks {
            frame: frame as u64,
            time: slot.time,
            whole_frame: slot.damaged,
            masks,
        })
    }

    /// What the next segment needs to know; call it after the last [`Tracker::pull`].
    pub fn carry(&self) -> TrackCarry {
        let last_frame = self.window.end() - 1;
        let tracks = self
            .tracks
            .iter()
            .filter_map(|track| self.carried(track, last_frame))
            .collect();
        TrackCarry {
            next_track: self.next_track,
            tracks,
        }
    }

    fn carried(&self, track: &Track, last_frame: i64) -> Option<CarriedTrack> {
        let key = track.last();
        let rect = if key.frame == last_frame {
            key.rect
        } else {
            let step = key.ahead.last().filter(|step| step.covered)?;
            (key.frame + key.ahead.len() as i64 == last_frame).then_some(step.rect)?
        };
        Some(CarriedTrack {
            track: track.id,
            rect,
            speed: track.live.speed().unwrap_or((0.0, 0.0)),
            score: track.score,
            unseen: track.live.unseen(self.now),
            still: track.still,
            outside_never: track.outside_never,
        })
    }

    /// Gives detections of one frame to tracks, new ones where needed.
    fn observe(&mut self, frame: i64, seen: Vec<Detection>) {
        let seen = self.worth_a_look(seen);
        let (mut strong, mut weak): (Vec<_>, Vec<_>) = seen
            .into_iter()
            .enumerate()
            .partition(|(_, seen)| seen.score >= self.settings.start_score);
        let mut open = self.expected_at(frame);
        for (gate, list) in [(Gate::Confident, 0), (Gate::Weak, 1), (Gate::Jump, 0)] {
            let list = if list == 0 { &mut strong } else { &mut weak };
            for (track, at) in pairs(&open, list, gate) {
                if let Some((_, seen)) = list.iter().find(|(number, _)| *number == at).copied() {
                    self.sight(track, frame, &seen);
                }
                list.retain(|(number, _)| *number != at);
                open.retain(|(number, _)| *number != track);
            }
        }
        if let Some(slot) = self.window.get_mut(frame) {
            slot.unclaimed = Some(weak.into_iter().map(|(_, seen)| seen).collect());
        }
        for (_, seen) in strong {
            // A twin of what has a track by now needs none of its own.
            let known = |track: &Track| {
                track
                    .sighting_at(frame)
                    .is_some_and(|rect| is_twin(&seen.rect, &rect))
            };
            if !self.tracks.iter().any(known) {
                self.start(frame, &seen);
            }
        }
    }

    /// Sound detections of enough score, best first.
    fn worth_a_look(&self, mut seen: Vec<Detection>) -> Vec<Detection> {
        let picture = Rect::from(self.window.size());
        seen.retain(|seen| {
            seen.rect.is_sound()
                && seen.score >= self.settings.extend_score
                && seen.rect.intersection(&picture).area() > 0.0
        });
        seen.sort_by(|a, b| b.score.total_cmp(&a.score));
        seen
    }

    fn expected_at(&self, frame: i64) -> Vec<(usize, Expected)> {
        let Some(time) = self.window.get(frame).map(|slot| slot.time) else {
            return Vec::new();
        };
        let unseen = self
            .tracks
            .iter()
            .enumerate()
            .filter(|(_, track)| !track.is_seen_at(frame));
        unseen
            .filter_map(|(at, track)| Some((at, track.expected(frame, time)?)))
            .collect()
    }

    /// A new track from one sighting, together with the weak ones that belong to it.
    fn start(&mut self, frame: i64, seen: &Detection) {
        let Some(time) = self.window.get(frame).map(|slot| slot.time) else {
            return;
        };
        let (id, at) = (self.next_track, self.tracks.len());
        self.next_track += 1;
        self.tracks.push(Track {
            id,
            keys: VecDeque::new(),
            live: Follower::new(
                seen.rect,
                None,
                (time, time),
                self.settings.pad_while_matched,
            ),
            score: 0.0,
            begins: true,
            outside_never: false,
            still: Some(0.0),
            anchor: seen.rect,
            sightings: 0,
        });
        self.sight(at, frame, seen);
        self.claim_weak(at, (self.window.start()..frame).rev());
        self.claim_weak(at, frame + 1..self.window.end());
    }

    fn claim_weak(&mut self, track: usize, frames: impl Iterator<Item = i64>) {
        for frame in frames {
            let Some(slot) = self.window.get(frame) else {
                return;
            };
            let Some(expected) = self.tracks[track].expected(frame, slot.time) else {
                return;
            };
            let Some(unclaimed) = &slot.unclaimed else {
                continue;
            };
            let weak: Vec<(usize, Detection)> = unclaimed.iter().copied().enumerate().collect();
            let Some(&(_, at)) = pairs(&[(track, expected)], &weak, Gate::Weak).first() else {
                continue;
            };
            self.sight(track, frame, &weak[at].1);
            if let Some(unclaimed) = self
                .window
                .get_mut(frame)
                .and_then(|slot| slot.unclaimed.as_mut())
            {
                unclaimed.remove(at);
            }
        }
    }

    /// Adds a sighting to a track and carries its box both ways.
    fn sight(&mut self, at: usize, frame: i64, seen: &Detection) {
        let Some(slot) = self.window.get(frame) else {
            return;
        };
        let (time, rect, size) = (slot.time, seen.rect, self.window.size());
        let track = &mut self.tracks[at];
        let position = track.keys.partition_point(|key| key.frame < frame);
        let speed = speed_about(&track.keys, position, time, &rect);
        track.sightings += 1;
        let matched_for = self.settings.pad_while_matched
            * if track.sightings < WELL_KNOWN {
                1.0
            } else {
                2.0
            };
        let mut backward = Follower::new(
            rect,
            speed.map(|(x, y)| (-x, -y)),
            (time, time),
            matched_for,
        );
        let mut forward = Follower::new(rect, speed, (time, time), matched_for);
        backward.look(slot.picture.as_ref(), size);
        forward.look(slot.picture.as_ref(), size);
        let before = position
            .checked_sub(1)
            .map(|before| track.keys[before].frame);
        let after = track.keys.get(position).map(|key| key.frame);
        let down_to = before.unwrap_or(i64::MIN).max(self.window.start());
        let walk = |follower: &mut Follower, frames: &mut dyn Iterator<Item = i64>, all: bool| {
            walk(
                follower,
                &self.window,
                &self.settings,
                (frame, time),
                frames,
                all,
            )
        };
        let behind = walk(&mut backward, &mut (down_to..frame).rev(), before.is_some());
        let up_to = after.map_or(self.window.end(), |after| after + 1);
        let ahead = walk(&mut forward, &mut (frame + 1..up_to), true);
        track.keys.insert(
            position,
            Key {
                frame,
                time,
                rect,
                ahead,
                behind,
            },
        );
        if after.is_none() {
            track.live = forward;
        }
        if track.begins && position > 0 && (2..=WELL_KNOWN).contains(&track.sightings) {
            reach_back(track, matched_for, &self.window, &self.settings);
        }
        track.score = track.score.max(seen.score);
        track.outside_never |= !self.settings.zones.never_covers(&rect, size);
        let limit = self
            .settings
            .static_rules
            .map_or(0.0, |rules| rules.max_score);
        if seen.score > limit || track.anchor.distance_in_units(&rect) > ELSEWHERE {
            track.still = None;
        }
    }

    fn watch_for_motion(&mut self, frame: i64) {
        let size = self.window.size();
        let (before, now) = (self.window.get(frame - 1), self.window.get(frame));
        let Some((before, now)) = before.zip(now) else {
            return;
        };
        let seconds = now.time - before.time;
        for track in &mut self.tracks {
            let moved = match (&before.picture, &now.picture) {
                (Some(before), Some(now)) => differs(before, now, &track.anchor, size),
                _ => true,
            };
            track.still = track.still.filter(|_| !moved).map(|still| still + seconds);
        }
    }

    /// True for what the user excluded and for static false sightings.
    fn is_dropped(&self, track: &Track) -> bool {
        let excluded = !self.settings.zones.never.is_empty() && !track.outside_never;
        let rules = self.settings.static_rules.as_ref();
        let lifeless = rules
            .zip(track.still)
            .is_some_and(|(rules, still)| still >= rules.seconds);
        excluded || lifeless
    }

    fn mask_of(&self, track: &Track, (head, certainty): (Rect, Certainty)) -> Option<Mask> {
        let shape = self.settings.mask.shape(&head);
        let picture = Rect::from(self.window.size());
        let visible = shape.bounds().intersection(&picture).area() > 0.0;
        let score = track.score;
        visible.then_some(Mask {
            track: TrackId(track.id),
            head,
            shape,
            certainty,
            score,
        })
    }

    /// Zones count their numbers down from the highest one.
    fn zone_masks(&self) -> impl Iterator<Item = Mask> + '_ {
        self.settings
            .zones
            .always
            .iter()
            .zip(0u64..)
            .filter_map(|(zone, number)| {
                let shape = Shape::of_zone(zone, self.window.size())?;
                let head = shape.bounds();
                let track = TrackId(u64::MAX - 1 - number);
                Some(Mask {
                    track,
                    head,
                    shape,
                    certainty: Certainty::Seen,
                    score: 1.0,
                })
            })
    }

    /// Forgets what no frame to come needs.
    fn prune(&mut self) {
        let start = self.window.start();
        let (now, rejoin) = (self.now, self.settings.rejoin);
        self.tracks
            .retain(|track| track.reaches(start) || now - track.last().time <= rejoin);
        for track in &mut self.tracks {
            while track.keys.get(1).is_some_and(|key| key.frame < start) {
                track.keys.pop_front();
                track.begins = false;
            }
        }
    }
}

/// Where a track's head may be as well, when heads cross and are taken for each other: on the
/// straight line between its sightings, wider around it before the first and after the last one,
/// and at weak sightings beside it that no track took.
fn doubtful<'a>(
    track: &Track,
    (frame, time): (i64, f64),
    own: &[(Rect, Certainty)],
    mut others: impl Iterator<Item = &'a (Rect, Certainty)>,
    weak: &[Detection],
) -> Vec<(Rect, Certainty)> {
    let is_known = |rect: &Rect| own.iter().any(|(own, _)| is_twin(rect, own));
    let is_beside = |rect: &Rect| {
        own.iter()
            .any(|(own, _)| rect.distance_in_units(own) < BESIDE)
    };
    let crosses = others.any(|(other, _)| own.iter().any(|(own, _)| own.iou(other) > CROSSING));
    let line = track.line(frame, time).filter(|_| crosses);
    let line = line.map(|rect| (rect, Certainty::Guessed));
    let wide = own.iter().filter(|_| crosses && track.is_outside(frame));
    let wide = wide.map(|(rect, certainty)| (rect.grown(0.25), *certainty));
    let weak = weak
        .iter()
        .filter(|weak| is_beside(&weak.rect))
        .map(|weak| (weak.rect, Certainty::Seen));
    line.into_iter()
        .chain(weak)
        .chain(wide)
        .filter(|(rect, _)| !is_known(rect))
        .collect()
}

/// A track of the previous segment.
fn revived(carried: &CarriedTrack, settings: &TrackerSettings) -> Track {
    let since = FRAME_BEFORE - carried.unseen.max(0.0);
    let key = Key {
        frame: -1,
        time: FRAME_BEFORE,
        rect: carried.rect,
        ahead: Vec::new(),
        behind: Vec::new(),
    };
    Track {
        id: carried.track,
        keys: VecDeque::from([key]),
        live: Follower::new(
            carried.rect,
            Some(carried.speed),
            (FRAME_BEFORE, since),
            settings.pad_while_matched,
        ),
        score: carried.score,
        begins: false,
        outside_never: carried.outside_never,
        still: carried.still,
        anchor: carried.rect,
        sightings: WELL_KNOWN,
    }
}

/// Carries a track's last box on to the newest frame.
fn carry_on(track: &mut Track, window: &Window, settings: &TrackerSettings, frame: i64) {
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
fn reach_back(track: &mut Track, matched_for: f64, window: &Window, settings: &TrackerSettings) {
    let (frame, time, rect) = {
        let first = track.first();
        (first.frame, first.time, first.rect)
    };
    let Some(slot) = window.get(frame) else {
        return;
    };
    let speed = speed_about(&track.keys, 0, time, &rect).map(|(x, y)| (-x, -y));
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

/// Steps through `frames`, neighbours in either direction; unless `all` are wanted, only as far as
/// they are to be masked.
fn walk(
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
fn speed_about(
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

/// True if hiding `box_of_track` hides `seen` as well.
fn is_twin(seen: &Rect, box_of_track: &Rect) -> bool {
    seen.iou(box_of_track) > SAME || seen.share_inside(&box_of_track.grown(0.1)) > 0.97
}

/// True if any pixel of two small pictures differs visibly inside a box, or none lies inside.
fn differs(before: &LumaPicture, now: &LumaPicture, rect: &Rect, size: PictureSize) -> bool {
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
