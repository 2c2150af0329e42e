//! Following one box from frame to frame, in either direction, by image matching and speed.

use crate::geometry::{PictureSize, Rect};
use crate::motion::{Found, LumaPicture, Patch};
use crate::track::TrackerSettings;

/// From this similarity on, the thing itself is still there.
const PRESENT: f32 = 0.55;
/// From this similarity on, the sighting's own patch says where it is.
const SURE: f32 = 0.75;
/// A head that turns looks less like the sighting; then the frame before has to agree.
const TURNED: f32 = 0.4;
/// This many frames in a row without it: it is gone.
const GONE_AFTER: u32 = 3;

/// A box carried one frame further.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    /// Where the box is believed to be.
    pub(super) rect: Rect,
    /// Image matching found it there.
    pub(super) matched: bool,
    /// Part of the box lies outside the picture.
    pub(super) at_edge: bool,
    /// Seconds since it was last matched (0 if `matched`).
    pub(super) unmatched_for: f64,
    /// To be masked if no sighting follows.
    pub(super) covered: bool,
}

/// Carries the box of one sighting away from its frame.
#[derive(Clone, Debug)]
pub(super) struct Follower {
    patch: Option<Patch>,
    rect: Rect,
    /// Pixels per second in the direction of walking (backwards: the negated speed).
    speed: Option<(f32, f32)>,
    since: f64,
    /// Seconds after `since` that it is believed while it is found.
    matched_for: f64,
    matched_at: f64,
    lost: u32,
    covered: bool,
    /// Comes from the previous segment, of whose pictures nothing is left: there was nothing to look at yet.
    carried: bool,
}

/// What a step needs to know of the two frames it goes between.
pub(super) struct Between<'a> {
    pub(super) from: Option<&'a LumaPicture>,
    pub(super) to: Option<&'a LumaPicture>,
    /// The times of both frames.
    pub(super) times: (f64, f64),
    pub(super) size: PictureSize,
}

impl Follower {
    /// Starts at a sighting at `time`; `since` is when the thing was last really seen (earlier
    /// than `time` only for tracks carried over a segment border). It is believed for
    /// `matched_for` seconds from then as long as it is found.
    pub(super) fn new(
        rect: Rect,
        speed: Option<(f32, f32)>,
        (time, since): (f64, f64),
        matched_for: f64,
    ) -> Self {
        Self {
            patch: None,
            rect,
            speed,
            since,
            matched_for,
            matched_at: time,
            lost: 0,
            covered: true,
            carried: false,
        }
    }

    /// Starts at the end of the previous segment, at `time`; not being able to look back is no reason to doubt it.
    pub(super) fn carried(
        rect: Rect,
        speed: (f32, f32),
        times: (f64, f64),
        matched_for: f64,
    ) -> Self {
        Self {
            carried: true,
            ..Self::new(rect, Some(speed), times, matched_for)
        }
    }

    /// Cuts what is to be found again; call it with the sighting's own picture.
    pub(super) fn look(&mut self, picture: Option<&LumaPicture>, size: PictureSize) {
        self.carried = false;
        self.patch =
            picture.and_then(|picture| Patch::cut(picture, &picture.to_small(&self.rect, size)));
    }

    /// Pixels per second in the direction of walking, if it was ever measured.
    pub(super) fn speed(&self) -> Option<(f32, f32)> {
        self.speed
    }

    /// Seconds since the thing was last really seen.
    pub(super) fn unseen(&self, now: f64) -> f64 {
        (now - self.since).abs()
    }

    /// One frame further.
    pub(super) fn step(&mut self, between: &Between<'_>, settings: &TrackerSettings) -> Step {
        let (before, now) = between.times;
        let seconds = (now - before).abs() as f32;
        let speed = self.speed.unwrap_or((0.0, 0.0));
        let expected = self.rect.moved(speed.0 * seconds, speed.1 * seconds);
        let found = self.find(between, &expected);
        match found {
            Some(centre) => {
                self.learn_speed(centre, seconds);
                self.rect = Rect::centred(centre, self.rect.width, self.rect.height);
                self.matched_at = now;
                self.lost = 0;
            }
            None => {
                self.rect = expected;
                self.lost += 1;
            }
        }
        self.covered = self.covered && self.still_covered(now, between, settings);
        Step {
            rect: self.rect,
            at_edge: self.rect.share_inside(&Rect::from(between.size)) < 0.99,
            matched: found.is_some(),
            unmatched_for: (now - self.matched_at).abs(),
            covered: self.covered,
        }
    }

    fn still_covered(&self, now: f64, between: &Between<'_>, settings: &TrackerSettings) -> bool {
        let elapsed = (now - self.since).abs();
        let picture = Rect::from(between.size);
        // What is half outside is soon lost to the eye, so the edge gets the benefit of the doubt.
        let inside = self.rect.grown(0.5).intersection(&picture).area() > 0.0;
        let blind = self.patch.is_none();
        let kept = if elapsed <= settings.pad || self.carried {
            true
        } else if blind {
            self.leaves_within(self.matched_for - elapsed, &picture)
        } else {
            self.lost < GONE_AFTER
        };
        inside && kept && elapsed <= self.matched_for.max(settings.pad)
    }

    /// True if the speed takes the box out of the picture in time: it is on its way from or to
    /// the edge.
    fn leaves_within(&self, seconds: f64, picture: &Rect) -> bool {
        let speed = self.speed.unwrap_or((0.0, 0.0));
        let seconds = seconds.max(0.0) as f32;
        let there = self.rect.moved(speed.0 * seconds, speed.1 * seconds);
        there.intersection(picture).area() <= 0.0
    }

    /// Where the box went; `None` if it is not to be seen or there is nothing to look at.
    fn find(&self, between: &Between<'_>, expected: &Rect) -> Option<(f32, f32)> {
        let to = between.to?;
        let patch = self.patch.as_ref()?;
        let small = |rect: &Rect| to.to_small(rect, between.size);
        let (here, there) = (small(&self.rect), small(expected));
        // A box that was just seen for the first time may move by its own size in a frame.
        let reach = if self.speed.is_some() { 0.4 } else { 1.0 };
        let radius = 2.0 + reach * here.unit() * (1.0 + 0.5 * self.lost.min(2) as f32);
        let own = patch.find(to, there.centre(), radius)?;
        let best = if own.similarity >= SURE {
            own
        } else {
            self.recent(between, &here, &there, radius, own)
        };
        // A small patch finds something like itself anywhere: the further off, the more alike it
        // has to be.
        let surprise = (apart(best.centre, there.centre()) / radius).min(1.0);
        let present = own.similarity >= PRESENT + 0.25 * surprise
            || (own.similarity >= TURNED && best.similarity >= SURE + 0.15 * surprise);
        present.then(|| full(best.centre, to, between.size))
    }

    /// The look changes when a head turns: the patch of the frame before may know better where it
    /// is, if it ends up where the sighting's own patch sees something too.
    fn recent(
        &self,
        between: &Between<'_>,
        here: &Rect,
        there: &Rect,
        radius: f32,
        own: Found,
    ) -> Found {
        let Some((from, to)) = between.from.zip(between.to) else {
            return own;
        };
        let again = Patch::cut(from, here).and_then(|patch| patch.find(to, there.centre(), radius));
        let Some(again) = again else { return own };
        let agree = apart(again.centre, own.centre) < 0.5 * here.unit() + 1.0;
        if self.lost == 0 && agree && again.similarity > own.similarity {
            again
        } else {
            own
        }
    }

    fn learn_speed(&mut self, centre: (f32, f32), seconds: f32) {
        if seconds <= 0.0 {
            return;
        }
        let old = self.rect.centre();
        let now = ((centre.0 - old.0) / seconds, (centre.1 - old.1) / seconds);
        let mix = |old: f32, new: f32| 0.5 * old + 0.5 * new;
        self.speed = Some(
            self.speed
                .map_or(now, |speed| (mix(speed.0, now.0), mix(speed.1, now.1))),
        );
    }
}

fn apart(a: (f32, f32), b: (f32, f32)) -> f32 {
    (a.0 - b.0).hypot(a.1 - b.1)
}

/// A place in the small picture in pixels of the full one.
fn full(centre: (f32, f32), picture: &LumaPicture, size: PictureSize) -> (f32, f32) {
    (
        centre.0 * size.width as f32 / picture.width() as f32,
        centre.1 * size.height as f32 / picture.height() as f32,
    )
}
