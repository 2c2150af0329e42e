//! Things of the place that look a little like heads: posts, corners, cones.
//!
//! A detector sees them again and again, weakly, and somebody who walks past would hand his track on to
//! them. What was seen on a spot for a while before, belonged to nobody and still looks the same to the
//! last pixel is none of him. A still head is told from a thing by being clearly seen, more than for a moment,
//! while the spot looks as it does all the time: two people who pass one after the other make no head of a wall.

use crate::detection::Detection;
use crate::geometry::{PictureSize, Rect};
use crate::motion::LumaPicture;

/// Boxes that overlap by this much (intersection over union) are on one spot.
const ONE_SPOT: f32 = 0.6;
/// ... and by this much, one may be about the other.
const ABOUT: f32 = 0.3;
/// Grey levels between two small pictures that count as a change.
const CHANGE: u8 = 8;
/// Share of a spot that may have changed while it looks the same: noise and coding.
const NOISE: f32 = 0.05;
/// A head that moved a little has changed less of a spot than this; one that came into it more.
const NEWCOMER: f32 = 0.15;
/// Seconds between two clear sightings that make a spot a head's: where somebody is half out of the picture, a
/// detector takes the wall beside him for his head in a picture or two.
const TWICE: f64 = 0.5;
/// Seconds and looks until a spot is known.
const KNOWN_AFTER: (f64, u32) = (3.0, 4);
/// A spot is forgotten when nothing was seen there for so many seconds.
const REMEMBERED: f64 = 30.0;
/// Most spots; the oldest is forgotten.
const MOST: usize = 128;

/// The spots of one camera.
#[derive(Debug, Default)]
pub(super) struct Clutter(Vec<Spot>);

#[derive(Debug)]
struct Spot {
    rect: Rect,
    /// The small picture's part in `rect`, row by row.
    look: Vec<u8>,
    since: f64,
    last: f64,
    looks: u32,
    /// When it was first clearly seen since it last looked otherwise.
    clear_at: Option<f64>,
    /// It was so again: it is no thing.
    head: bool,
}

impl Clutter {
    /// Whether a sighting is of a thing that was there before.
    pub(super) fn holds(&self, seen: &Detection, picture: &LumaPicture, size: PictureSize) -> bool {
        self.0.iter().any(|spot| {
            spot.is_known()
                && spot.rect.iou(&seen.rect) >= ONE_SPOT
                && spot.change(picture, size) <= NOISE
        })
    }

    /// Takes the weak sightings that belonged to nobody at `time`.
    pub(super) fn note<'a>(
        &mut self,
        seen: impl Iterator<Item = &'a Detection>,
        picture: &LumaPicture,
        size: PictureSize,
        time: f64,
    ) {
        for seen in seen {
            let spot = self
                .0
                .iter_mut()
                .find(|spot| spot.rect.iou(&seen.rect) >= ONE_SPOT);
            match spot {
                Some(spot) if spot.change(picture, size) <= NOISE => {
                    spot.looks += 1;
                    spot.last = spot.last.max(time);
                }
                // A known spot is not lost to what passes in front of it.
                Some(spot) if spot.is_known() => {}
                Some(spot) => *spot = Spot::new(seen.rect, picture, size, time),
                None => self.0.push(Spot::new(seen.rect, picture, size, time)),
            }
        }
        self.0.retain(|spot| time - spot.last <= REMEMBERED);
        let surplus = self.0.len().saturating_sub(MOST);
        self.0.drain(..surplus);
    }

    /// `heads` are clearly seen at `time`: spots about them that look as they did may never have been things.
    pub(super) fn clear(
        &mut self,
        heads: &[Rect],
        picture: &LumaPicture,
        size: PictureSize,
        time: f64,
    ) {
        for spot in &mut self.0 {
            let is_seen = heads.iter().any(|head| spot.rect.iou(head) >= ABOUT);
            if !is_seen && spot.clear_at.is_none() {
                continue;
            }
            if spot.change(picture, size) >= NEWCOMER {
                spot.clear_at = None;
            } else if is_seen {
                let first = *spot.clear_at.get_or_insert(time);
                spot.head |= (time - first).abs() >= TWICE;
            }
        }
    }
}

impl Spot {
    fn new(rect: Rect, picture: &LumaPicture, size: PictureSize, time: f64) -> Self {
        Self {
            rect,
            look: picture.part(&rect, size).collect(),
            since: time,
            last: time,
            looks: 1,
            clear_at: None,
            head: false,
        }
    }

    fn is_known(&self) -> bool {
        !self.head && self.looks >= KNOWN_AFTER.1 && self.last - self.since >= KNOWN_AFTER.0
    }

    /// Share of it that does not look as it did; all of it where nothing can be compared.
    fn change(&self, picture: &LumaPicture, size: PictureSize) -> f32 {
        let now = picture.part(&self.rect, size);
        let pairs = self.look.iter().zip(now);
        let (same, compared) = pairs.fold((0, 0), |(same, compared), (&before, now)| {
            (
                same + u32::from(before.abs_diff(now) <= CHANGE),
                compared + 1,
            )
        });
        match compared {
            0 => 1.0,
            compared => 1.0 - same as f32 / compared as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::Kind;

    const SIZE: PictureSize = PictureSize {
        width: 1600,
        height: 800,
    };
    const SPOT: Rect = Rect {
        x: 600.0,
        y: 200.0,
        width: 200.0,
        height: 200.0,
    };

    /// A grey wall, with a dark thing that fills a part of the spot.
    fn wall(dark: usize) -> LumaPicture {
        let mut pixels = vec![150; 320 * 160];
        for row in pixels.chunks_mut(320).skip(40).take(40) {
            row[120..120 + dark].fill(30);
        }
        LumaPicture::new(320, 160, pixels).expect("as many pixels")
    }

    fn weak() -> Detection {
        Detection {
            rect: SPOT,
            score: 0.2,
            kind: Kind::Other,
        }
    }

    /// What was weakly seen there for six seconds.
    fn known() -> Clutter {
        let mut clutter = Clutter::default();
        for second in 0..7 {
            clutter.note([weak()].iter(), &wall(0), SIZE, f64::from(second));
        }
        assert!(clutter.holds(&weak(), &wall(0), SIZE));
        clutter
    }

    #[test]
    fn two_who_pass_one_after_the_other_make_no_head_of_a_wall() {
        let mut clutter = known();
        for passes in [10.0, 20.0] {
            clutter.clear(&[SPOT], &wall(1), SIZE, passes);
            clutter.clear(&[], &wall(30), SIZE, passes + 0.2);
        }
        assert!(clutter.holds(&weak(), &wall(0), SIZE));
    }

    #[test]
    fn a_still_head_is_one_however_seldom_it_is_clearly_seen() {
        let mut clutter = known();
        for second in 10..30 {
            let seen = [SPOT];
            let seen = if second % 10 == 0 { &seen[..] } else { &[] };
            clutter.clear(seen, &wall(1), SIZE, f64::from(second));
        }
        assert!(!clutter.holds(&weak(), &wall(0), SIZE));
    }
}
