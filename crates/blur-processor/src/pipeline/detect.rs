//! A detector's way: look at pictures, keep them until their masks are final.
//!
//! The detector looks at every n-th picture, the first and the last, and wherever the tracker asks.
//! Most looks are glances where thorough ones are close by, and so is every answer to the
//! tracker: on the development clips that hides as many heads in less than half of the time. Where nothing in
//! the picture has changed since the last look the detector is spared, for a while ([`Rest`]).

use std::collections::VecDeque;
use std::time::Instant;

use media::{Quality, Scaler};
use plugin_host::Instance;
use plugin_host::abi::{FrameInfo, Region};
use redaction::{
    Detection, FrameInput, FrameMasks, LumaPicture, Observation, PictureSize, TrackCarry, Tracker,
    TrackerSettings,
};

use super::carry::Carry;
use super::hide::{Counts, frame_info, timed};
use super::index::Index;
use super::job::{Failure, Recipe, VideoJob};
use super::planes;
use super::source::Picture;

/// Bytes of pictures that wait for their masks: as a rule, and at most where the tracker's look-ahead
/// needs more pictures because they follow one another fast.
const WINDOW_BYTES: (usize, usize) = (112 << 20, 160 << 20);
/// Pictures in the window, within these bounds.
const WINDOW_FRAMES: (usize, usize) = (24, 60);
/// Width of the small picture the tracker matches on, pixels.
const MATCH_WIDTH: u32 = 320;
/// Looks that earn the tracker a question of its own: the detector is by far the dearest part, and
/// may cost a quarter more than the looks at every n-th picture.
const LOOKS_PER_QUESTION: usize = 4;
/// Questions saved up at most, for when many heads come at once.
const QUESTIONS_SAVED: usize = 3;

/// Longest time without a look while the picture stands still, seconds.
struct Rest;

impl Rest {
    /// Something was seen: whatever is seen beside it only now and then gets its chance. The tracker
    /// follows a head back for twice that.
    const WITH_HEADS: f64 = 1.0;
    /// Nothing was seen in the same picture. What comes in changes it, however slowly: pictures are
    /// held against the one that was looked at.
    const WITHOUT: f64 = 4.0;
}

/// So many looks after a thorough one, no later than so many seconds, may be glances. Of the
/// 5,994 sightings that all networks make in every fourth picture of three clips full of people, masks missed 20 so
/// and 19 with every other look thorough, for 17 % less work of the networks; with three glances 31, and little less
/// work.
const GLANCES: (u32, f64) = (2, 0.45);
/// Change of the mean grey of a spot, 12 by 12 pixels of a 1080p picture, from which on something
/// moves. Sensor noise and coding leave less than that in the mean of so many pixels.
const MOTION: i32 = 8;

/// Pictures at the beginning that the detector sees all of when nothing is known of the time before:
/// what was there already has no earlier frame to be found in.
const FIRST_LOOKS: usize = 5;

/// Detector, tracker and the pictures in between.
pub(super) struct Detecting<'a> {
    eye: Eye<'a>,
    every: usize,
    /// The video continues one whose end is known.
    continues: bool,
    size: PictureSize,
    /// Looks since the last question.
    looks_unspent: usize,
    /// From this score on something was seen.
    start_score: f32,
    tracker: Tracker,
    window: VecDeque<Picture>,
    /// When the detector last looked by itself, at what and how.
    last_look: Option<LastLook>,
}

/// How closely the detector looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// With all it has.
    Thorough,
    /// As cheaply as it can.
    Glance,
}

struct LastLook {
    time: f64,
    picture: LumaPicture,
    saw_something: bool,
    /// When the last thorough look was, and how many glances followed it up to this look.
    thorough_at: f64,
    glances: u32,
}

impl<'a> Detecting<'a> {
    pub(super) fn new(
        instance: &'a mut Instance,
        recipe: &Recipe,
        job: &VideoJob,
        index: &Index,
        size: PictureSize,
    ) -> Self {
        let settings = TrackerSettings::default();
        let interval = index.track.time_base.seconds(index.usual_interval());
        let look_ahead = window(size, interval, settings.pad_while_matched, recipe);
        let settings = TrackerSettings {
            look_ahead,
            zones: job.zones.zones(),
            ..settings
        };
        let carry = job.carry.as_ref();
        let known = carry.map_or_else(TrackCarry::default, |carry| carry.scaled_to(size));
        Self {
            eye: Eye::new(instance, job.camera),
            every: recipe.detect_every.max(1) as usize,
            continues: carry.is_some(),
            size,
            looks_unspent: LOOKS_PER_QUESTION,
            start_score: settings.start_score,
            tracker: Tracker::new(settings, size, known),
            window: VecDeque::new(),
            last_look: None,
        }
    }

    /// Takes a picture and has the detector look at it if it is its turn.
    pub(super) fn push(
        &mut self,
        picture: Picture,
        index: &Index,
        counts: &mut Counts,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        let time = index.seconds_at(picture.number);
        let small = small(&picture);
        let looks = !picture.damaged && self.is_its_turn(picture.number, time, &small, index);
        counts.track_time += began.elapsed();
        let observation = match looks {
            true => {
                let how = self.how_to_look(picture.number, time, index);
                let seen = self.eye.look(&picture, how, index, counts)?;
                let (thorough_at, glances) = match (how, &self.last_look) {
                    (Effort::Glance, Some(last)) => (last.thorough_at, last.glances + 1),
                    _ => (time, 0),
                };
                self.last_look = Some(LastLook {
                    time,
                    picture: small.clone(),
                    saw_something: seen.iter().any(|seen| seen.score >= self.start_score),
                    thorough_at,
                    glances,
                });
                Observation::Detected(seen)
            }
            false => Observation::NotDetected,
        };
        let began = Instant::now();
        let input = FrameInput {
            time,
            observation,
            picture: Some(small),
            damaged: picture.damaged,
        };
        self.tracker.push(input);
        counts.track_time += began.elapsed();
        self.window.push_back(picture);
        match looks {
            true => {
                let most = LOOKS_PER_QUESTION * QUESTIONS_SAVED;
                self.looks_unspent = (self.looks_unspent + 1).min(most);
                self.answer_questions(index, counts)
            }
            false => Ok(()),
        }
    }

    /// Whether the detector looks at a picture without being asked.
    fn is_its_turn(&self, number: usize, time: f64, small: &LumaPicture, index: &Index) -> bool {
        if self.is_at_an_end(number, index) {
            return true;
        }
        let rested = self.last_look.as_ref().is_some_and(|last| {
            let longest = match last.saw_something {
                true => Rest::WITH_HEADS,
                false => Rest::WITHOUT,
            };
            time - last.time < longest && is_still(&last.picture, small)
        });
        number.is_multiple_of(self.every) && !rested
    }

    /// The last picture (nothing behind it would tell of a head that came after the last look), or one of the first when nothing is known of the time before.
    fn is_at_an_end(&self, number: usize, index: &Index) -> bool {
        number + 1 == index.times.len() || !self.continues && number < FIRST_LOOKS
    }

    /// A glance, unless the last thorough look is too many glances or too long ago.
    fn how_to_look(&self, number: usize, time: f64, index: &Index) -> Effort {
        let just_now = self
            .last_look
            .as_ref()
            .is_some_and(|last| last.glances < GLANCES.0 && time - last.thorough_at <= GLANCES.1);
        match just_now && !self.is_at_an_end(number, index) {
            true => Effort::Glance,
            false => Effort::Thorough,
        }
    }

    /// No picture follows.
    pub(super) fn finish(&mut self, index: &Index, counts: &mut Counts) -> Result<(), Failure> {
        self.answer_questions(index, counts)?;
        self.tracker.finish();
        Ok(())
    }

    /// The next picture whose masks are final, with them.
    pub(super) fn pull(
        &mut self,
        counts: &mut Counts,
    ) -> Result<Option<(Picture, FrameMasks)>, Failure> {
        let Some(masks) = timed(&mut counts.track_time, || self.tracker.pull()) else {
            return Ok(None);
        };
        let picture = self
            .window
            .pop_front()
            .filter(|picture| picture.number as u64 == masks.frame);
        match picture {
            Some(picture) => Ok(Some((picture, masks))),
            None => Err(Failure::attempt("masks came for another picture")),
        }
    }

    /// What was followed up to the last picture.
    pub(super) fn carry(&self) -> Option<Carry> {
        Carry::of(self.tracker.carry(), self.size)
    }

    /// Pictures still without masks.
    pub(super) fn waiting(&self) -> usize {
        self.window.len()
    }

    /// Has the detector look at pictures the tracker wants to know more about.
    fn answer_questions(&mut self, index: &Index, counts: &mut Counts) -> Result<(), Failure> {
        let budget = self.looks_unspent / LOOKS_PER_QUESTION;
        if budget == 0 {
            return Ok(());
        }
        for wanted in timed(&mut counts.track_time, || self.tracker.wanted(budget)) {
            let picture = self
                .window
                .iter()
                .find(|picture| picture.number as u64 == wanted);
            if let Some(picture) = picture {
                let found = self.eye.look(picture, Effort::Glance, index, counts)?;
                self.looks_unspent -= LOOKS_PER_QUESTION;
                self.tracker.amend(wanted, found);
            }
        }
        Ok(())
    }
}

/// The detector with its way of seeing pictures.
pub(super) struct Eye<'a> {
    instance: &'a mut Instance,
    camera: u32,
    scaler: Option<Scaler>,
    regions: Vec<Region>,
}

impl<'a> Eye<'a> {
    pub(super) fn new(instance: &'a mut Instance, camera: u32) -> Self {
        Self {
            instance,
            camera,
            scaler: None,
            regions: Vec::new(),
        }
    }

    /// What the detector sees in a picture, in the picture's own pixels.
    pub(super) fn look(
        &mut self,
        picture: &Picture,
        how: Effort,
        index: &Index,
        counts: &mut Counts,
    ) -> Result<Vec<Detection>, Failure> {
        let began = Instant::now();
        let wants = self.instance.wants();
        let full = (picture.frame.width(), picture.frame.height());
        let (width, height) = fitted(full, wants.max_size);
        let own = picture.frame.format();
        let format = match wants.format {
            Some(format) => planes::for_plugin(format),
            None if planes::named_for_plugin(own).is_some() => own,
            None => media::PixelFormat::I420,
        };
        let named = planes::named_for_plugin(format).expect("chosen among the plugin's formats");
        let info = FrameInfo {
            format: named,
            width,
            height,
            glance: how == Effort::Glance,
            ..frame_info(picture, index, self.camera)
        };
        let (instance, regions) = (&mut *self.instance, &mut self.regions);
        let call = |view: &plugin_host::abi::FrameView<'_>| instance.detect(view, regions);
        if (width, height) == full && format == own {
            planes::lend(&picture.frame, info, call)??;
        } else {
            let scaler = match &mut self.scaler {
                Some(scaler) if scaler.target() == (width, height, format) => scaler,
                slot => slot.insert(Scaler::new(width, height, format, Quality::Area)),
            };
            let small = scaler.scale(&picture.frame).map_err(Failure::of_output)?;
            planes::lend(&small, info, call)??;
        }
        counts.seen_by_plugin += 1;
        counts.plugin_time += began.elapsed();
        let scale = (full.0 as f32 / width as f32, full.1 as f32 / height as f32);
        Ok(self
            .regions
            .iter()
            .map(|region| Detection::from_region(region, scale))
            .collect())
    }
}

/// Pictures that wait for their masks: `seconds` of video and two looks, as far as memory goes.
fn window(size: PictureSize, interval: f64, seconds: f64, recipe: &Recipe) -> usize {
    // 4:2:0; other formats are rare and at most twice as large.
    let bytes = (size.width as usize * size.height as usize * 3 / 2).max(1);
    let (usual, most) = (WINDOW_BYTES.0 / bytes, WINDOW_BYTES.1 / bytes);
    // A video of one picture has no interval; the division saturates.
    let needed = (seconds / interval).ceil() as usize;
    let needed = needed.saturating_add(2 * recipe.detect_every as usize);
    usual
        .max(needed)
        .min(most)
        .clamp(WINDOW_FRAMES.0, WINDOW_FRAMES.1)
}

/// The small grey picture the tracker matches on.
fn small(picture: &Picture) -> LumaPicture {
    let luma = picture.frame.plane(0);
    let size = PictureSize {
        width: picture.frame.width(),
        height: picture.frame.height(),
    };
    LumaPicture::scaled_down(luma.data, luma.stride, size, MATCH_WIDTH)
}

/// Whether no spot of two by two cells has become brighter or darker beyond noise.
fn is_still(before: &LumaPicture, now: &LumaPicture) -> bool {
    let width = now.width();
    let pairs = before
        .pixels()
        .chunks(2 * width)
        .zip(now.pixels().chunks(2 * width));
    let change = |row: &[u8], other: &[u8], x: usize| -> i32 {
        let end = (x + 2).min(row.len());
        let sum = |row: &[u8]| row[x..end].iter().map(|&cell| i32::from(cell)).sum::<i32>();
        sum(row) - sum(other)
    };
    before.width() == width
        && before.height() == now.height()
        && pairs.into_iter().all(|(before, now)| {
            let (upper, lower) = before.split_at(width.min(before.len()));
            let (upper_now, lower_now) = now.split_at(width.min(now.len()));
            (0..width).step_by(2).all(|x| {
                let below = if lower.is_empty() {
                    0
                } else {
                    change(lower, lower_now, x)
                };
                (change(upper, upper_now, x) + below).abs() < 4 * MOTION
            })
        })
}

/// The largest size of the picture's shape within `most`; even sides, since chroma is halved.
pub(crate) fn fitted((width, height): (u32, u32), most: Option<(u32, u32)>) -> (u32, u32) {
    let Some((most_wide, most_high)) = most else {
        return (width, height);
    };
    let shrink =
        (f64::from(most_wide) / f64::from(width)).min(f64::from(most_high) / f64::from(height));
    if shrink >= 1.0 {
        return (width, height);
    }
    let side = |length: u32, most: u32| {
        let scaled = (f64::from(length) * shrink / 2.0).round() as u32 * 2;
        scaled.clamp(2.min(most), most)
    };
    (side(width, most_wide), side(height, most_high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_still_and_a_small_dark_thing_moves() {
        let grey = |left: usize, side: usize, by: u8| {
            let mut pixels = vec![100; 321 * 181];
            for y in 180 - side..180 {
                pixels[y * 321 + left..][..side].fill(100 - by);
            }
            LumaPicture::new(321, 181, pixels).unwrap()
        };
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
    fn pictures_are_scaled_once_to_what_the_detector_wants() {
        assert_eq!(fitted((1920, 1080), Some((640, 640))), (640, 360));
        assert_eq!(fitted((1080, 1920), Some((640, 640))), (360, 640));
        assert_eq!(fitted((320, 240), Some((640, 640))), (320, 240));
        assert_eq!(fitted((1920, 1080), None), (1920, 1080));
        assert_eq!(fitted((1000, 3), Some((100, 100))), (100, 2));
    }
}
