//! One track: its sightings, and where its head is on the frames between, before and after.

use std::collections::VecDeque;

use crate::geometry::Rect;
use crate::mask::Certainty;
use crate::track::WELL_KNOWN;
use crate::track::follow::{Follower, Step};

/// Two paths that end this many head units off the next sighting have lost the head.
const LOST_THE_HEAD: f32 = 1.0;
/// ... and this many: may have been astray for a while.
const ASTRAY: f32 = 0.3;
/// A straight line longer than this many head units is not to be trusted alone.
const LONG_LINE: f32 = 0.7;

/// One sighting with the box carried away from it in both directions.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) frame: i64,
    pub(super) time: f64,
    pub(super) rect: Rect,
    /// Frames `frame + 1`, `frame + 2`, ... at least to the next sighting.
    pub(super) ahead: Vec<Step>,
    /// Frames `frame - 1`, `frame - 2`, ... down to the sighting before, or as far as it goes.
    pub(super) behind: Vec<Step>,
}

/// A head through time.
#[derive(Clone, Debug)]
pub(super) struct Track {
    pub(super) id: u64,
    /// By frame, never empty; those no frame to come lies between are dropped.
    pub(super) keys: VecDeque<Key>,
    /// Carries the last sighting's box on to the newest frame.
    pub(super) live: Follower,
    /// Best score so far.
    pub(super) score: f32,
    /// True if the first key is where the track begins.
    pub(super) begins: bool,
    /// It was seen outside every never-zone.
    pub(super) outside_never: bool,
    /// Seconds without motion; `None` once it moved or scored high.
    pub(super) still: Option<f64>,
    /// Its first sighting.
    pub(super) anchor: Rect,
    /// How often it was seen.
    pub(super) sightings: u32,
}

impl Key {
    fn step_at(&self, frame: i64) -> Option<&Step> {
        let (steps, away) = if frame > self.frame {
            (&self.ahead, frame - self.frame)
        } else {
            (&self.behind, self.frame - frame)
        };
        away.checked_sub(1)
            .and_then(|at| steps.get(usize::try_from(at).ok()?))
    }
}

/// How long a track of this best score and number of sightings is believed without another one, as a multiple of
/// `pad_while_matched`: the longer, the better and the oftener it was seen.
pub(super) fn belief(score: f32, sightings: u32) -> f64 {
    let known = if sightings < WELL_KNOWN { 1.0 } else { 2.0 };
    let clear = match score {
        score if score >= 0.5 => 1.0,
        score if score >= 0.35 => 0.5,
        _ => 0.25,
    };
    known * clear
}

/// Where a track is expected on a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    pub(super) rect: Rect,
    /// Image matching agrees.
    pub(super) sure: bool,
    /// Seconds to the nearest sighting.
    pub(super) unseen: f64,
}

impl Track {
    pub(super) fn first(&self) -> &Key {
        self.keys
            .front()
            .expect("a track has a key from its beginning on")
    }

    pub(super) fn last(&self) -> &Key {
        self.keys
            .back()
            .expect("a track has a key from its beginning on")
    }

    /// The keys around a frame: the last one at or before it, the first one at or after it.
    pub(super) fn around(&self, frame: i64) -> (Option<&Key>, Option<&Key>) {
        let after = self.keys.partition_point(|key| key.frame < frame);
        let at = self.keys.get(after).filter(|key| key.frame == frame);
        let before = after
            .checked_sub(1)
            .and_then(|before| self.keys.get(before));
        (at.or(before), self.keys.get(after))
    }

    pub(super) fn is_seen_at(&self, frame: i64) -> bool {
        self.sighting_at(frame).is_some()
    }

    /// The box of the sighting on this very frame.
    pub(super) fn sighting_at(&self, frame: i64) -> Option<Rect> {
        self.around(frame)
            .1
            .filter(|key| key.frame == frame)
            .map(|key| key.rect)
    }

    /// See [`belief`].
    pub(super) fn belief(&self) -> f64 {
        belief(self.score, self.sightings)
    }

    /// How many looks in a row may miss it before it is no longer believed to be there: detectors
    /// miss a head that was clearly seen for a second or two, and see what is none once or twice.
    pub(super) fn patience(&self) -> usize {
        match (self.sightings >= WELL_KNOWN, self.score >= 0.5) {
            (true, true) => 6,
            (false, false) => 1,
            _ => 3,
        }
    }

    /// Where the track should be seen on a frame it was not seen on; `None` if it is not around.
    pub(super) fn expected(&self, frame: i64, time: f64) -> Option<Expected> {
        match self.around(frame) {
            (Some(a), Some(b)) => {
                let unseen = (time - a.time).min(b.time - time);
                let (rect, _) = bridge(a, b, frame, time).into_iter().next()?;
                let sure = !is_jump(a, b);
                Some(Expected { rect, sure, unseen })
            }
            (Some(key), None) | (None, Some(key)) => {
                let step = key.step_at(frame)?;
                let unseen = (time - key.time).abs();
                Some(Expected {
                    rect: step.rect,
                    sure: step.matched,
                    unseen,
                })
            }
            (None, None) => None,
        }
    }

    /// What is to be masked on a frame: usually one box or none; several where the sightings
    /// around it do not agree.
    pub(super) fn places(&self, frame: i64, time: f64) -> Vec<(Rect, Certainty)> {
        let mut places = match self.around(frame) {
            (Some(a), Some(b)) if a.frame == b.frame => vec![(self.seen(a), Certainty::Seen)],
            (Some(a), Some(b)) => bridge(a, b, frame, time),
            (Some(key), None) | (None, Some(key)) => {
                return key.step_at(frame).and_then(extended).into_iter().collect();
            }
            (None, None) => return Vec::new(),
        };
        places.extend(self.others_say(frame));
        places
    }

    /// Where the sightings before and after a frame see the head when each is followed on its own:
    /// a detector's boxes jump about a head that keeps still, and any of them may be the right one.
    fn others_say(&self, frame: i64) -> impl Iterator<Item = (Rect, Certainty)> {
        let (before, after) = self.neighbours(frame);
        let keys = [before, after].into_iter().flatten();
        keys.filter_map(move |key| key.step_at(frame))
            .filter(|step| step.matched)
            .map(|step| (step.rect, Certainty::Carried))
    }

    /// The last key before a frame and the first one after it, without one at the frame itself.
    fn neighbours(&self, frame: i64) -> (Option<&Key>, Option<&Key>) {
        let at = self.keys.partition_point(|key| key.frame < frame);
        let after = self.keys.partition_point(|key| key.frame <= frame);
        let before = at.checked_sub(1).and_then(|before| self.keys.get(before));
        (before, self.keys.get(after))
    }

    /// True before the first and after the last sighting.
    pub(super) fn is_outside(&self, frame: i64) -> bool {
        frame < self.first().frame || frame > self.last().frame
    }

    /// The straight line between the sightings around a frame without one.
    pub(super) fn line(&self, frame: i64, time: f64) -> Option<Rect> {
        let (a, b) = self.around(frame);
        let (a, b) = a.zip(b).filter(|(a, b)| a.frame != b.frame)?;
        Some(a.rect.towards(&b.rect, way_between(a, b, time)).grown(0.05))
    }

    /// A sighting's box, not smaller than its neighbours' mean: detectors clip heads now and then.
    fn seen(&self, at: &Key) -> Rect {
        let here = at.rect;
        let (before, after) = self.neighbours(at.frame);
        let Some((before, after)) = before.zip(after) else {
            return here;
        };
        let width = here.width.max((before.rect.width + after.rect.width) / 2.0);
        let height = here
            .height
            .max((before.rect.height + after.rect.height) / 2.0);
        Rect::centred(here.centre(), width, height)
    }

    /// True if the track is to be masked somewhere at or after `frame`, as far as is known.
    pub(super) fn reaches(&self, frame: i64) -> bool {
        let last = self.last();
        let covered = last.ahead.iter().take_while(|step| step.covered).count() as i64;
        last.frame + covered >= frame
    }

    /// Pairs of neighbouring sightings between which the head jumps.
    pub(super) fn jumps(&self) -> impl Iterator<Item = (&Key, &Key)> {
        self.keys
            .iter()
            .zip(self.keys.iter().skip(1))
            .filter(|(a, b)| is_jump(a, b))
    }
}

/// Outside the sightings: as carried, grown the longer nothing was found; more at the picture's
/// edge, where there is little left to be found.
fn extended(step: &Step) -> Option<(Rect, Certainty)> {
    if !step.covered {
        return None;
    }
    let edge = if step.at_edge { 0.2 } else { 0.0 };
    if step.matched {
        return Some((step.rect.grown(0.04 + edge / 2.0), Certainty::Carried));
    }
    let share = (0.1 + edge + 0.6 * step.unmatched_for as f32).min(0.4);
    Some((step.rect.grown(share), Certainty::Guessed))
}

fn offset(from: &Rect, to: &Rect) -> (f32, f32) {
    let (a, b) = (from.centre(), to.centre());
    (b.0 - a.0, b.1 - a.1)
}

/// A place on a path from one sighting to another.
struct OnPath {
    centre: (f32, f32),
    /// How far off the path ended, in head units; it was bent by that much.
    error: f32,
}

/// Where a path from one sighting says the head is, bent so that it ends at the other one; `None`
/// if it lost the head on the way.
fn anchored(from: &Key, to: &Key, frame: i64, share_of_way: f32) -> Option<OnPath> {
    let step = from.step_at(frame).filter(|step| step.matched)?;
    let (x, y) = step.rect.centre();
    // The far end is missing only where its frame left the window; then the path stands alone.
    let Some(end) = from.step_at(to.frame) else {
        return Some(OnPath {
            centre: (x, y),
            error: 0.0,
        });
    };
    let off = offset(&end.rect, &to.rect);
    let error = off.0.hypot(off.1) / to.rect.unit().max(1.0);
    let centre = (x + share_of_way * off.0, y + share_of_way * off.1);
    (error <= LOST_THE_HEAD).then_some(OnPath { centre, error })
}

fn is_jump(a: &Key, b: &Key) -> bool {
    let ends_at = |from: &Key, to: &Key| {
        from.step_at(to.frame)
            .is_some_and(|end| end.matched && end.rect.distance_in_units(&to.rect) <= LOST_THE_HEAD)
    };
    b.frame - a.frame > 1
        && a.rect.distance_in_units(&b.rect) > LONG_LINE
        && !ends_at(a, b)
        && !ends_at(b, a)
}

/// Between two sightings: along the matched paths from both; where they part, around both; where
/// one went astray (onto another head, say), on the straight line as well; where neither holds,
/// around the straight line and, if that is long, wherever either path went.
fn bridge(a: &Key, b: &Key, frame: i64, time: f64) -> Vec<(Rect, Certainty)> {
    let way = way_between(a, b, time);
    let line = a.rect.towards(&b.rect, way);
    let nearest = (time - a.time).min(b.time - time) as f32;
    let on_line = |share: f32| {
        (
            line.grown(0.05 + (0.5 * nearest).min(share)),
            Certainty::Guessed,
        )
    };
    let (centre, doubt, error) =
        match (anchored(a, b, frame, way), anchored(b, a, frame, 1.0 - way)) {
            (Some(there), Some(back)) => {
                let apart = offset_of(there.centre, back.centre);
                let mix = |a: f32, b: f32| a + (b - a) * way;
                let mean = (
                    mix(there.centre.0, back.centre.0),
                    mix(there.centre.1, back.centre.1),
                );
                (
                    mean,
                    0.02 + (0.5 * apart / line.unit().max(1.0)).min(0.5),
                    there.error.max(back.error),
                )
            }
            (Some(one), None) | (None, Some(one)) => {
                (one.centre, 0.04 + (0.2 * nearest).min(0.2), one.error)
            }
            (None, None) => {
                let mut places = vec![on_line(0.35)];
                if is_jump(a, b) {
                    let raw = [a.step_at(frame), b.step_at(frame)];
                    places.extend(raw.into_iter().flatten().filter_map(extended));
                }
                return places;
            }
        };
    let matched = Rect::centred(centre, line.width, line.height).grown(doubt);
    let mut places = vec![(matched, Certainty::Bridged)];
    if error > ASTRAY && matched.distance_in_units(&line) > ASTRAY / 2.0 {
        places.push(on_line(0.1));
    }
    places
}

/// Share of the time between two sightings that has gone by.
fn way_between(a: &Key, b: &Key, time: f64) -> f32 {
    ((time - a.time) / (b.time - a.time).max(1e-6)).clamp(0.0, 1.0) as f32
}

fn offset_of(a: (f32, f32), b: (f32, f32)) -> f32 {
    (a.0 - b.0).hypot(a.1 - b.1)
}
