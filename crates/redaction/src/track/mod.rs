//! Tracks that look both ways.
//!
//! In the spirit of SORT and ByteTrack (Bewley 2016; Zhang 2022), but on a window of frames rather
//! than on the newest one: a sighting may be added to any frame whose masks are not out, its box
//! is carried in both directions, and a frame's masks are made when it leaves the window, from all
//! that is known by then.
//!
//! - Detections of one head in one frame are joined first ([`crowd`]).
//! - Confident detections are matched first, weak ones can only extend a track that was clearly
//!   seen once; it takes the weak sightings it would explain, before and after it.
//! - What was weakly seen on a spot before somebody came, and looks as it did, is not him
//!   ([`clutter`]).
//! - Between two sightings the head is where image matching from either side says; where both
//!   lose it, around the straight line and wherever either went ([`path`]).
//! - Before the first and after the last sighting the box is carried on: for `pad` in any case,
//!   up to `pad_while_matched` as long as it is seen, to the picture's edge, growing while it is
//!   not found ([`follow`]).
//!
//! Confusing two heads that cross is harmless here: both places are masked either way.

mod ask;
mod associate;
mod border;
mod clutter;
mod crowd;
mod follow;
mod path;
mod settings;
mod still;
mod walk;
mod window;

use std::collections::VecDeque;

use crate::detection::Detection;
use crate::geometry::{PictureSize, Rect};
use crate::mask::{Certainty, FrameMasks, Mask, TrackId, without_hidden};
use associate::{Gate, pairs};
use clutter::Clutter;
use crowd::{Placed, distinct, is_twin, settle};
use follow::Follower;
use path::{Expected, Key, Track};
pub use settings::{
    CarriedTrack, FrameInput, Observation, StaticRules, TrackCarry, TrackerSettings,
};
use walk::{carry_on, reach_back, speed_about, walk};
use window::{Slot, Window};

/// From this many sightings on, a track is believed twice as long without one.
const WELL_KNOWN: u32 = 3;
/// Only a track that scored this much once is extended by weak sightings and over jumps: what never
/// did is more often no head, and would gather the clutter around it.
const TRUSTED: f32 = 0.4;
/// Head units off the first sighting that count as motion.
const ELSEWHERE: f32 = 0.25;

/// Turns detections into masks for every frame. See the crate's head for the way through.
#[derive(Debug)]
pub struct Tracker {
    settings: TrackerSettings,
    window: Window,
    tracks: Vec<Track>,
    clutter: Clutter,
    next_track: u64,
    now: f64,
    finished: bool,
}

impl Tracker {
    /// A tracker for one segment of pictures of `size`. `carry` is the previous segment's
    /// [`Tracker::carry`], or the default.
    pub fn new(settings: TrackerSettings, size: PictureSize, carry: TrackCarry) -> Self {
        let sound = carry.tracks.iter().filter(|track| track.rect.is_sound());
        let tracks: Vec<Track> = sound
            .map(|track| border::revived(track, &settings))
            .collect();
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
            clutter: Clutter::default(),
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

    /// True while somebody is masked up to the newest frame, seen there or not, if no sighting follows.
    pub fn follows_somebody(&self) -> bool {
        let (newest, now) = (self.window.end() - 1, self.now);
        self.tracks.iter().any(|track| {
            !track.places(newest, now).is_empty()
                && !self.is_dropped(track)
                && !self.is_disproved(track, newest, now)
        })
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
        let heads = self
            .tracks
            .iter()
            .filter(|track| !self.is_dropped(track) && !self.is_disproved(track, frame, slot.time));
        let placed: Vec<Placed<'_>> = heads
            .map(|track| Placed::new(track, frame, slot.time))
            .collect();
        let places = settle(&placed, (frame, slot.time), &weak);
        let masks = places
            .into_iter()
            .filter_map(|(track, place)| self.mask_of(track, place));
        let mut masks = without_hidden(masks.collect());
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
            .filter_map(|track| border::carried(track, last_frame, self.now))
            .collect();
        TrackCarry {
            next_track: self.next_track,
            tracks,
        }
    }

    /// Gives detections of one frame to tracks, new ones where needed.
    fn observe(&mut self, frame: i64, seen: Vec<Detection>) {
        self.window.note_look(frame);
        let seen = self.worth_a_look(seen);
        let size = self.window.size();
        if let Some((picture, time)) = self.window.picture(frame) {
            let clear = seen.iter().filter(|seen| seen.score >= TRUSTED);
            let heads: Vec<Rect> = clear.map(|seen| seen.rect).collect();
            self.clutter.clear(&heads, picture, size, time);
        }
        let (things, heads): (Vec<_>, Vec<_>) = seen
            .into_iter()
            .enumerate()
            .partition(|(_, seen)| self.is_thing(frame, seen));
        let is_strong = |(_, seen): &(usize, Detection)| seen.score >= self.settings.start_score;
        let (mut strong, mut weak): (Vec<_>, Vec<_>) = heads.into_iter().partition(is_strong);
        let (mut strong_things, weak_things): (Vec<_>, Vec<_>) =
            things.into_iter().partition(is_strong);
        let mut open = self.expected_at(frame);
        let (any, trusted) = (|_: &Track| true, |track: &Track| track.score >= TRUSTED);
        if !self.settings.zones.never.is_empty() {
            // Who came into a never-zone goes before what was only ever there: without a sighting his mask would end.
            let came = |track: &Track| track.outside_never;
            self.share_out(frame, Gate::Confident, &mut strong, &mut open, came);
        }
        self.share_out(frame, Gate::Confident, &mut strong, &mut open, any);
        // What is a thing never belongs to somebody who walks past, only to its own mistaken track.
        self.share_out(
            frame,
            Gate::Confident,
            &mut strong_things,
            &mut open,
            |track| !trusted(track),
        );
        self.share_out(frame, Gate::Weak, &mut weak, &mut open, trusted);
        self.share_out(frame, Gate::Jump, &mut strong, &mut open, trusted);
        if let Some((picture, time)) = self.window.picture(frame) {
            let nobodys = weak.iter().chain(&strong_things).chain(&weak_things);
            let nobodys = nobodys.map(|(_, seen)| seen);
            self.clutter.note(nobodys, picture, size, time);
        }
        if let Some(slot) = self.window.get_mut(frame) {
            slot.unclaimed = Some(weak.into_iter().map(|(_, seen)| seen).collect());
        }
        for (_, seen) in strong.into_iter().chain(strong_things) {
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

    /// Gives detections to tracks that fit and `may` have them, and takes both off the lists.
    fn share_out(
        &mut self,
        frame: i64,
        gate: Gate,
        seen: &mut Vec<(usize, Detection)>,
        open: &mut Vec<(usize, Expected)>,
        may: impl Fn(&Track) -> bool,
    ) {
        let fit: Vec<_> = open
            .iter()
            .copied()
            .filter(|(at, _)| may(&self.tracks[*at]))
            .collect();
        for (track, at) in pairs(&fit, seen, gate) {
            if let Some((_, seen)) = seen.iter().find(|(number, _)| *number == at).copied() {
                self.sight(track, frame, &seen);
            }
            seen.retain(|(number, _)| *number != at);
            open.retain(|(number, _)| *number != track);
        }
    }

    /// Whether a sighting is of a thing that stood there before and looks a little like a head.
    fn is_thing(&self, frame: i64, seen: &Detection) -> bool {
        let size = self.window.size();
        let known = |(picture, _)| self.clutter.holds(seen, picture, size);
        seen.score < TRUSTED && self.window.picture(frame).is_some_and(known)
    }

    /// Sound detections of enough score, best first, each head once.
    fn worth_a_look(&self, mut seen: Vec<Detection>) -> Vec<Detection> {
        let picture = Rect::from(self.window.size());
        seen.retain(|seen| {
            seen.rect.is_sound()
                && seen.score >= self.settings.extend_score
                && seen.rect.intersection(&picture).area() > 0.0
        });
        seen.sort_by(|a, b| b.score.total_cmp(&a.score));
        distinct(seen, self.settings.start_score)
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

    /// A new track from one sighting; once it is trusted it takes the weak ones that belong to it.
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
        let trusted = track.score >= TRUSTED;
        track.score = track.score.max(seen.score);
        let matched_for = self.settings.pad_while_matched * track.belief();
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
        track.outside_never |= !self.settings.zones.never_covers(&rect, size);
        let limit = self
            .settings
            .static_rules
            .map_or(0.0, |rules| rules.max_score);
        if seen.score > limit || track.anchor.distance_in_units(&rect) > ELSEWHERE {
            track.still = None;
        }
        if !trusted && track.score >= TRUSTED {
            self.claim_weak(at, (self.window.start()..frame).rev());
            self.claim_weak(at, frame + 1..self.window.end());
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
                (Some(before), Some(now)) => still::differs(before, now, &track.anchor, size),
                _ => true,
            };
            track.still = track.still.filter(|_| !moved).map(|still| still + seconds);
        }
    }

    /// True if a track is carried to a frame past so many looks that did not see it that it is more
    /// likely gone, or never was.
    fn is_disproved(&self, track: &Track, frame: i64, time: f64) -> bool {
        let nearest = match track {
            track if frame < track.first().frame => track.first(),
            track if frame > track.last().frame => track.last(),
            _ => return false,
        };
        (time - nearest.time).abs() > self.settings.pad
            && self.window.looks_between(nearest.frame, frame) > track.patience()
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

    fn zone_masks(&self) -> impl Iterator<Item = Mask> + '_ {
        self.settings.zones.always_masks(self.window.size())
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
