//! When the detector looks, and how closely.
//!
//! It looks at the first pictures and the last one, and between them four times a second, or at every
//! n-th picture. Most looks are glances where a thorough one is close by: on the development clips
//! that hides as many heads in less than half of the time. Where nothing in the picture has changed
//! since the last look the detector is spared, for a while ([`Rest`]).
//! May touch: nothing.

use redaction::LumaPicture;

/// How closely the detector looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// With all it has.
    Thorough,
    /// As cheaply as it can.
    Glance,
}

/// Longest time without a look while the picture stands still, seconds.
struct Rest;

impl Rest {
    /// Somebody is followed: whatever is seen beside him only now and then gets its chance. The tracker
    /// follows a head back for twice that, as far as pictures are still there.
    const WITH_HEADS: f64 = 1.0;
    /// Nobody is, in the same picture. What comes in changes it, however slowly: pictures are
    /// held against the one that was looked at.
    const WITHOUT: f64 = 4.0;
}

/// Time from look to look, seconds, where it is not given in pictures: the picture closest to it is
/// looked at. Of 39,189 sightings of 0.35 and more that a thorough look at every picture of three clips
/// full of people at 15 a second makes, masks missed 326 with a look at every third picture, 321 at every fourth,
/// 485 at every fifth.
const USUAL: f64 = 0.24;

/// So many looks after a thorough one, no later than so many seconds, may be glances. Of the
/// 5,994 sightings that all networks make in every fourth picture of three clips full of people, masks missed 20 so
/// and 19 with every other look thorough, for 17 % less work of the networks; with three glances 31, and little less
/// work.
const GLANCES: (u32, f64) = (2, 0.55);
/// Change of the mean grey of a spot, 12 by 12 pixels of a 1080p picture, from which on something
/// moves. Sensor noise and coding leave less than that in the mean of so many pixels.
const MOTION: i32 = 8;
/// Change of the whole picture's mean grey from which on it is another picture: somebody switched the light.
const MOST_EXPOSURE: f64 = 16.0;

/// Pictures at the beginning that the detector sees all of when nothing is known of the time before:
/// what was there already has no earlier frame to be found in.
const FIRST_LOOKS: usize = 5;

/// The video, as far as it decides when to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rhythm {
    /// Every so many pictures; none: four times a second.
    pub(super) every: Option<usize>,
    /// Seconds from picture to picture.
    pub(super) interval: f64,
    /// Pictures in all.
    pub(super) pictures: usize,
    /// Seconds back from a picture in which masks may still be added.
    pub(super) look_back: f64,
    /// It continues a video whose end is known.
    pub(super) continues: bool,
}

impl Rhythm {
    /// Most pictures from look to look.
    pub(super) fn longest(&self) -> usize {
        // A video of one picture has no interval; the division and the cast saturate.
        self.every
            .unwrap_or_else(|| ((USUAL / self.interval).ceil() as usize).max(1))
    }
}

/// Decides picture by picture.
#[derive(Debug)]
pub(super) struct Cadence {
    rhythm: Rhythm,
    last: Option<LastLook>,
}

#[derive(Debug)]
struct LastLook {
    time: f64,
    picture: LumaPicture,
    somebody: bool,
    /// When the last thorough look was, and how many glances followed it up to this look.
    thorough_at: f64,
    glances: u32,
}

impl Cadence {
    pub(super) fn new(rhythm: Rhythm) -> Self {
        Self { rhythm, last: None }
    }

    /// How to look at a picture at `time` without being asked to; `None`: not at all.
    pub(super) fn turn(&self, number: usize, time: f64, small: &LumaPicture) -> Option<Effort> {
        let is_at_an_end = self.is_at_an_end(number);
        let last = self.last.as_ref();
        let elapsed = last.map_or(f64::INFINITY, |last| time - last.time);
        if !is_at_an_end && !self.is_due(number, elapsed) {
            return None;
        }
        let Some(last) = last else {
            return Some(Effort::Thorough);
        };
        let rest = match last.somebody {
            true => Rest::WITH_HEADS.min(self.rhythm.look_back),
            false => Rest::WITHOUT,
        };
        // What was seen at an end is to be seen again, or not, and that nobody is there is not for a glance to say.
        let may_rest = match last.somebody {
            true => !is_at_an_end,
            false => last.glances == 0,
        };
        if may_rest && elapsed < rest && is_still(&last.picture, small) {
            return None;
        }
        let may_glance = last.glances < GLANCES.0 && time - last.thorough_at <= GLANCES.1;
        Some(match may_glance && !is_at_an_end {
            true => Effort::Glance,
            false => Effort::Thorough,
        })
    }

    /// The detector looked, as [`Self::turn`] said; `somebody` is followed.
    pub(super) fn looked(&mut self, how: Effort, time: f64, small: LumaPicture, somebody: bool) {
        let (thorough_at, glances) = match (how, &self.last) {
            (Effort::Glance, Some(last)) => (last.thorough_at, last.glances + 1),
            _ => (time, 0),
        };
        self.last = Some(LastLook {
            time,
            picture: small,
            somebody,
            thorough_at,
            glances,
        });
    }

    fn is_due(&self, number: usize, elapsed: f64) -> bool {
        match self.rhythm.every {
            Some(every) => number.is_multiple_of(every.max(1)),
            None => elapsed >= USUAL - self.rhythm.interval / 2.0,
        }
    }

    /// The last picture (nothing behind it would tell of a head that came after the last look), or one
    /// of the first when nothing is known of the time before.
    fn is_at_an_end(&self, number: usize) -> bool {
        number + 1 == self.rhythm.pictures || !self.rhythm.continues && number < FIRST_LOOKS
    }
}

/// Whether no spot of two by two cells has become brighter or darker beyond noise, apart from the
/// exposure, which cameras adjust all the time: what the whole picture's mean has changed by.
fn is_still(before: &LumaPicture, now: &LumaPicture) -> bool {
    let width = now.width();
    if before.width() != width || before.height() != now.height() {
        return false;
    }
    let mean = |picture: &LumaPicture| {
        let pixels = picture.pixels();
        let sum: u32 = pixels.iter().map(|&cell| u32::from(cell)).sum();
        f64::from(sum) / pixels.len().max(1) as f64
    };
    let exposure = mean(now) - mean(before);
    if exposure.abs() > MOST_EXPOSURE {
        return false;
    }
    // In quarters of a grey level, as the changes below.
    let exposure = (4.0 * exposure).round() as i32;
    let rows = before.pixels().chunks(2 * width);
    rows.zip(now.pixels().chunks(2 * width))
        .all(|(before, now)| {
            let (upper, lower) = before.split_at(width);
            let (upper_now, lower_now) = now.split_at(width);
            (0..width).step_by(2).all(|x| {
                let cells = x..(x + 2).min(width);
                let change = |row: &[u8], row_now: &[u8]| -> i32 {
                    let pairs = row.get(cells.clone()).zip(row_now.get(cells.clone()));
                    let (row, row_now) = pairs.unwrap_or_default();
                    let pairs = row.iter().zip(row_now);
                    pairs
                        .map(|(&cell, &now)| 4 * (i32::from(now) - i32::from(cell)) - exposure)
                        .sum()
                };
                (change(upper, upper_now) + change(lower, lower_now)).abs() < 16 * MOTION
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A grey picture with a darker square at the bottom.
    fn grey(left: usize, side: usize, by: u8) -> LumaPicture {
        let mut pixels = vec![100; 321 * 181];
        for y in 181 - side.min(181)..181 {
            pixels[y * 321 + left..][..side].fill(100 - by);
        }
        LumaPicture::new(321, 181, pixels).unwrap()
    }

    fn rhythm(every: Option<usize>, rate: f64, pictures: usize) -> Rhythm {
        Rhythm {
            every,
            interval: 1.0 / rate,
            pictures,
            look_back: 2.0,
            continues: true,
        }
    }

    /// The looks at pictures that show what `show` says, if each look saw something or none did.
    fn run(rhythm: Rhythm, show: fn(usize) -> LumaPicture, saw: bool) -> Vec<(usize, Effort)> {
        let mut cadence = Cadence::new(rhythm);
        let mut looks = Vec::new();
        for number in 0..rhythm.pictures {
            let (time, small) = (number as f64 * rhythm.interval, show(number));
            if let Some(how) = cadence.turn(number, time, &small) {
                cadence.looked(how, time, small, saw);
                looks.push((number, how));
            }
        }
        looks
    }

    fn looks(rhythm: Rhythm, show: fn(usize) -> LumaPicture, saw: bool) -> Vec<usize> {
        let looks = run(rhythm, show, saw);
        looks.into_iter().map(|(number, _)| number).collect()
    }

    #[test]
    fn noise_is_still_and_a_small_dark_thing_moves() {
        let empty = grey(0, 1, 0);
        assert!(is_still(&empty, &grey(50, 1, 30)), "one noisy cell");
        assert!(is_still(&empty, &grey(0, 100, 7)), "a little darker");
        for left in [50, 51, 319] {
            assert!(
                !is_still(&empty, &grey(left, 2, 40)),
                "a head of two by two cells"
            );
        }
    }

    #[test]
    fn a_camera_that_adjusts_its_exposure_is_still_and_a_head_in_it_is_not() {
        let brighter = |by: u8, head: u8| {
            let mut pixels: Vec<u8> = grey(0, 1, 0).pixels().iter().map(|p| p + by).collect();
            for y in 50..52 {
                pixels[y * 321 + 100..][..2].fill(100 + by - head);
            }
            LumaPicture::new(321, 181, pixels).unwrap()
        };
        let before = brighter(0, 0);
        for by in [0, 7, 15] {
            assert!(is_still(&before, &brighter(by, 0)), "{by} brighter");
            assert!(!is_still(&before, &brighter(by, 12)), "and a head");
            assert!(!is_still(&brighter(by, 12), &before), "and no head");
        }
        assert!(!is_still(&before, &brighter(17, 0)), "the light went on");
    }

    #[test]
    fn somebody_who_walks_is_looked_at_four_times_a_second_at_any_rate() {
        let walker = |number: usize| grey(number % 140 * 2, 30, 60);
        for rate in [8.0, 10.0, 12.5, 15.0, 20.0, 25.0, 30.0, 60.0] {
            let looks = looks(rhythm(None, rate, (3.0 * rate) as usize), walker, false).len();
            assert!((11..=16).contains(&looks), "{looks} at {rate} a second");
        }
        let few = looks(rhythm(None, 4.0, 12), walker, false).len();
        assert_eq!(few, 12, "every picture of few");
    }

    #[test]
    fn a_given_number_is_kept_to() {
        let walker = |number: usize| grey(number, 30, 60);
        let all: Vec<usize> = (0..45).step_by(5).chain([44]).collect();
        assert_eq!(looks(rhythm(Some(5), 15.0, 45), walker, false), all);
    }

    #[test]
    fn a_still_picture_is_left_alone() {
        for every in [None, Some(3)] {
            let rhythm = |continues| Rhythm {
                continues,
                ..rhythm(every, 15.0, 45)
            };
            let looks = |saw, continues| looks(rhythm(continues), |_| grey(0, 30, 60), saw);
            assert_eq!(looks(false, true), [0]);
            assert_eq!(looks(false, false), [0]);
            assert_eq!(looks(true, true)[0], 0);
            assert_eq!(looks(true, true).last(), Some(&44), "somebody at the end");
            assert_eq!(
                looks(true, false)[..5],
                [0, 1, 2, 3, 4],
                "and at the beginning"
            );
            assert!(looks(true, true).len() < 6, "seen again now and then");
        }
    }

    #[test]
    fn beside_somebody_still_the_rest_is_no_longer_than_masks_can_be_added() {
        let looks = |look_back| {
            let rhythm = Rhythm {
                look_back,
                ..rhythm(None, 30.0, 91)
            };
            looks(rhythm, |_| grey(0, 30, 60), true)
        };
        let apart = |looks: &[usize]| looks.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert_eq!(apart(&looks(2.0)), Some(30));
        assert!(apart(&looks(0.5)) <= Some(15));
    }

    #[test]
    fn the_last_word_is_no_glance() {
        let rhythm = |pictures| rhythm(None, 15.0, pictures);
        let halts_at_a_glance = looks(rhythm(43), |n| grey(n.min(40), 30, 60), false);
        assert_eq!(halts_at_a_glance.last(), Some(&42));
        let halts_at_a_look = looks(rhythm(39), |n| grey(n.min(36), 30, 60), false);
        assert_eq!(halts_at_a_look.last(), Some(&36));
    }

    #[test]
    fn a_picture_that_comes_to_a_halt_gets_a_thorough_look() {
        for halt in 20..40 {
            let show = |number: usize| grey(number.min(halt), 30, 60);
            let mut cadence = Cadence::new(rhythm(None, 15.0, 120));
            let thorough = (0..120).filter(|&number| {
                let (time, small) = (number as f64 / 15.0, show(number));
                let turn = cadence.turn(number, time, &small);
                if let Some(how) = turn {
                    cadence.looked(how, time, small, false);
                }
                turn == Some(Effort::Thorough)
            });
            let looks: Vec<usize> = thorough.collect();
            assert!(
                looks.iter().any(|look| (halt..=halt + 12).contains(look)),
                "{halt}: {looks:?}"
            );
        }
    }

    #[test]
    fn two_glances_follow_a_thorough_look_where_looks_are_close() {
        let efforts = |every, rate: f64| -> Vec<Effort> {
            let looks = run(
                rhythm(every, rate, 100),
                |number| grey(number, 30, 60),
                true,
            );
            looks[..4].iter().map(|&(_, how)| how).collect()
        };
        use Effort::{Glance, Thorough};
        assert_eq!(efforts(None, 15.0), [Thorough, Glance, Glance, Thorough]);
        assert_eq!(efforts(Some(3), 10.0), [Thorough, Glance, Thorough, Glance]);
        assert_eq!(efforts(None, 1.0), [Thorough; 4]);
    }
}
