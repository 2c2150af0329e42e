//! What all tracks together say about one frame.

use crate::detection::Detection;
use crate::geometry::Rect;
use crate::mask::Certainty;
use crate::track::path::Track;

/// Boxes that overlap more than this (intersection over union) are one and the same.
const SAME: f32 = 0.75;
/// Detections of one frame that overlap more than this (intersection over union) are one head: the
/// mask about either hides both.
const SAME_HEAD: f32 = 0.75;
/// ... or of which one holds the other, as long as that is at least so large a share of it.
const NOT_MUCH_SMALLER: f32 = 0.5;
/// Weak detections that overlap a better one by this much say nothing new.
const ECHO: f32 = 0.5;
/// Weak sightings closer to a track than this (head units) are masked with it.
const BESIDE: f32 = 1.1;
/// ... beside a head that is seen only from this score on: somebody half hidden by that head.
const NOT_SO_WEAK: f32 = 0.18;
/// Heads whose boxes overlap by this much (intersection over union) may be taken for each other.
const CROSSING: f32 = 0.15;

/// A little earlier or later: frames, and about as many seconds.
const ASIDE: (i64, f64) = (4, 0.25);

/// A box and how it is known.
pub(super) type Place = (Rect, Certainty);

/// A track with where it says its head is.
pub(super) struct Placed<'a> {
    track: &'a Track,
    /// True before its first and after its last sighting.
    outside: bool,
    places: Vec<Place>,
}

impl<'a> Placed<'a> {
    pub(super) fn new(track: &'a Track, frame: i64, time: f64) -> Self {
        Self {
            track,
            outside: track.is_outside(frame),
            places: track.places(frame, time),
        }
    }
}

/// The distinct ones of one frame's detections (best first): what a better one's mask hides anyway
/// is a second look at the same head, and a weak one that overlaps a better one is its echo.
pub(super) fn distinct(seen: Vec<Detection>, start_score: f32) -> Vec<Detection> {
    let mut kept: Vec<Detection> = Vec::with_capacity(seen.len());
    for one in seen {
        let echoes = |better: &Detection| {
            is_hidden_by(&one.rect, &better.rect)
                || (one.score < start_score && is_echo(&one.rect, &better.rect))
        };
        if !kept.iter().any(echoes) {
            kept.push(one);
        }
    }
    kept
}

/// True if the mask about `better` hides nearly all of `rect`, which is not much smaller: the mask is an ellipse, and what
/// is small may lie in a corner that it does not reach.
fn is_hidden_by(rect: &Rect, better: &Rect) -> bool {
    rect.iou(better) > SAME_HEAD
        || rect.area() > NOT_MUCH_SMALLER * better.area()
            && rect.share_inside(&better.grown(0.15)) > 0.95
}

fn is_echo(weak: &Rect, better: &Rect) -> bool {
    weak.iou(better) > ECHO
}

/// All boxes to be masked on a frame. `weak` are its sightings that no track took.
pub(super) fn settle<'a>(
    placed: &[Placed<'a>],
    at: (i64, f64),
    weak: &[Detection],
) -> Vec<(&'a Track, Place)> {
    let mut all = Vec::new();
    for (number, own) in placed.iter().enumerate() {
        if own.outside && is_followed_twice(placed, number, at) {
            continue;
        }
        let others = placed.iter().filter(|other| other.track.id != own.track.id);
        let extra = doubtful(own, at, others.flat_map(|other| &other.places), weak);
        all.extend(
            own.places
                .iter()
                .copied()
                .chain(extra)
                .map(|place| (own.track, place)),
        );
    }
    all
}

/// True if another track hides what this one is carried over: one that is between its own
/// sightings, or else an older one. Heads that cross come together for a moment only, so it has to
/// be so a little earlier and later as well.
fn is_followed_twice(placed: &[Placed<'_>], number: usize, (frame, time): (i64, f64)) -> bool {
    let own = placed[number].track;
    let always_beside = |other: &Track| {
        [(0, 0.0), (-ASIDE.0, -ASIDE.1), (ASIDE.0, ASIDE.1)]
            .iter()
            .all(|(frames, seconds)| {
                let at = (frame + frames, time + seconds);
                let others = other.places(at.0, at.1);
                let hidden =
                    |(rect, _): &Place| others.iter().any(|(other, _)| is_twin(rect, other));
                own.places(at.0, at.1).iter().all(hidden)
            })
    };
    placed.iter().enumerate().any(|(at, other)| {
        at != number && (!other.outside || at < number) && always_beside(other.track)
    })
}

/// Where a track's head may be as well, when heads cross and are taken for each other: on the
/// straight line between its sightings, wider around it before the first and after the last one,
/// and at weak sightings beside it that no track took.
fn doubtful<'a>(
    placed: &Placed<'_>,
    (frame, time): (i64, f64),
    mut others: impl Iterator<Item = &'a Place>,
    weak: &[Detection],
) -> Vec<Place> {
    let own = &placed.places;
    let is_known = |rect: &Rect| own.iter().any(|(own, _)| is_twin(rect, own));
    let crosses = others.any(|(other, _)| own.iter().any(|(own, _)| own.iou(other) > CROSSING));
    let is_beside = |weak: &Detection| {
        own.iter().any(|(own, certainty)| {
            let doubted = crosses || *certainty != Certainty::Seen || weak.score >= NOT_SO_WEAK;
            doubted && weak.rect.distance_in_units(own) < BESIDE && alike(&weak.rect, own)
        })
    };
    let line = placed.track.line(frame, time).filter(|_| crosses);
    let line = line.map(|rect| (rect, Certainty::Guessed));
    let wide = own.iter().filter(|_| crosses && placed.outside);
    let wide = wide.map(|(rect, certainty)| (rect.grown(0.25), *certainty));
    let weak = weak
        .iter()
        .filter(|weak| is_beside(weak))
        .map(|weak| (weak.rect, Certainty::Seen));
    line.into_iter()
        .chain(weak)
        .chain(wide)
        .filter(|(rect, _)| !is_known(rect))
        .collect()
}

/// True if two boxes may be of the same head by their size.
fn alike(a: &Rect, b: &Rect) -> bool {
    (0.5..2.0).contains(&(a.unit() / b.unit().max(1.0)))
}

/// True if hiding `box_of_track` hides `seen` as well.
pub(super) fn is_twin(seen: &Rect, box_of_track: &Rect) -> bool {
    seen.iou(box_of_track) > SAME || seen.share_inside(&box_of_track.grown(0.1)) > 0.97
}
