//! A detector's way: look at pictures, keep them until their masks are final.
//!
//! The detector looks when the [`Cadence`] says so, right before and right behind damaged pictures, and wherever the
//! tracker asks; what it answers the tracker are glances.

use std::collections::VecDeque;
use std::time::Instant;

use media::{Frame, Quality, Scaler};
use plugin_host::Instance;
use plugin_host::abi::{FrameInfo, Region};
use redaction::{
    Detection, FrameInput, FrameMasks, LumaPicture, Observation, PictureSize, TrackCarry, Tracker,
    TrackerSettings,
};

use super::cadence::{Cadence, Effort, Rhythm};
use super::carry::Carry;
use super::hide::{Counts, frame_info, timed};
use super::index::Index;
use super::job::{Failure, Recipe, VideoJob};
use super::planes;
use super::source::Picture;
use super::upright::Upright;

/// Bytes of pictures that wait for their masks: as a rule, and at most where the tracker's look-ahead
/// needs more pictures because they follow one another fast.
const WINDOW_BYTES: (usize, usize) = (112 << 20, 160 << 20);
/// Pictures in the window, within these bounds.
const WINDOW_FRAMES: (usize, usize) = (24, 60);
/// Width of the small picture the tracker matches on, pixels.
const MATCH_WIDTH: u32 = 320;
/// Looks that earn the tracker a question of its own: the detector is by far the dearest part, and
/// may cost a quarter more than the looks of the [`Cadence`].
const LOOKS_PER_QUESTION: usize = 4;
/// Questions saved up at most, for when many heads come at once.
const QUESTIONS_SAVED: usize = 3;

/// Detector, tracker and the pictures in between.
pub(super) struct Detecting<'a> {
    eye: Eye<'a>,
    cadence: Cadence,
    size: PictureSize,
    /// Looks since the last question.
    looks_unspent: usize,
    tracker: Tracker,
    window: VecDeque<Picture>,
    /// The detector has seen the last picture of the window.
    saw_last: bool,
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
        let carry = job.carry.as_ref();
        let mut rhythm = Rhythm {
            every: recipe.detect_every.map(|every| every as usize),
            interval: index.track.time_base.seconds(index.usual_interval()),
            pictures: index.times.len(),
            look_back: 0.0,
            continues: carry.is_some(),
        };
        let look_ahead = window(size, settings.pad_while_matched, &rhythm);
        rhythm.look_back = look_ahead as f64 * rhythm.interval;
        let settings = TrackerSettings {
            look_ahead,
            zones: job.zones.zones(),
            // The pictures next to a sighting are masked however far they are apart.
            pad: settings.pad.max(1.2 * rhythm.interval),
            ..settings
        };
        let known = carry.map_or_else(TrackCarry::default, |carry| carry.scaled_to(size));
        Self {
            eye: Eye::new(instance, job.camera),
            cadence: Cadence::new(rhythm),
            size,
            looks_unspent: LOOKS_PER_QUESTION,
            tracker: Tracker::new(settings, size, known),
            window: VecDeque::new(),
            saw_last: false,
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
        let follows_damage = self.window.back().is_some_and(|last| last.damaged);
        let turn = match (picture.damaged, follows_damage) {
            (true, _) => None,
            (false, true) => Some(Effort::Thorough),
            (false, false) => self.cadence.turn(picture.number, time, &small),
        };
        counts.track_time += began.elapsed();
        if picture.damaged {
            self.look_before_damage(index, counts)?;
        }
        let observation = match turn {
            Some(how) => {
                let seen = self.eye.look(&picture, how, index, counts)?;
                Observation::Detected(seen)
            }
            None => Observation::NotDetected,
        };
        let began = Instant::now();
        let looked = turn.map(|how| (how, small.clone()));
        let input = FrameInput {
            time,
            observation,
            picture: Some(small),
            damaged: picture.damaged,
        };
        self.tracker.push(input);
        counts.track_time += began.elapsed();
        self.window.push_back(picture);
        self.saw_last = turn.is_some();
        match looked {
            Some((how, small)) => {
                // One look that misses somebody who is followed is no reason to look away.
                let sees_somebody = self.tracker.follows_somebody();
                self.cadence.looked(how, time, small, sees_somebody);
                let most = LOOKS_PER_QUESTION * QUESTIONS_SAVED;
                self.looks_unspent = (self.looks_unspent + 1).min(most);
                self.answer_questions(index, counts)
            }
            None => Ok(()),
        }
    }

    /// Nobody who came since the last look can be followed back from behind pictures that are damaged.
    fn look_before_damage(&mut self, index: &Index, counts: &mut Counts) -> Result<(), Failure> {
        if let Some(last) = self.window.back()
            && !last.damaged
            && !self.saw_last
        {
            let found = self.eye.look(last, Effort::Thorough, index, counts)?;
            self.tracker.amend(last.number as u64, found);
        }
        Ok(())
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
        let upright = Upright::of(&index.track);
        let most = wants.max_size.map(|most| upright.turned(most));
        let (width, height) = fitted(upright.square(full), most);
        let own = picture.frame.format();
        let format = match wants.format {
            Some(format) => planes::for_plugin(format),
            None if planes::named_for_plugin(own).is_some() => own,
            None => media::PixelFormat::I420,
        };
        let named = planes::named_for_plugin(format).expect("chosen among the plugin's formats");
        let shown = upright.turned((width, height));
        let source = upright.turned(full);
        let info = FrameInfo {
            format: named,
            width: shown.0,
            height: shown.1,
            source_width: source.0,
            source_height: source.1,
            glance: how == Effort::Glance,
            ..frame_info(picture, index, self.camera)
        };
        let (instance, regions) = (&mut *self.instance, &mut self.regions);
        let mut call = |view: &plugin_host::abi::FrameView<'_>| instance.detect(view, regions);
        let mut lend = |stored: &Frame| -> Result<(), Failure> {
            let turned = upright.picture(stored)?;
            planes::lend(turned.as_ref().unwrap_or(stored), info, &mut call)??;
            Ok(())
        };
        if (width, height) == full && format == own {
            lend(&picture.frame)?;
        } else {
            let scaler = match &mut self.scaler {
                Some(scaler) if scaler.target() == (width, height, format) => scaler,
                slot => slot.insert(Scaler::new(width, height, format, Quality::Area)),
            };
            let small = scaler.scale(&picture.frame).map_err(Failure::of_output)?;
            lend(&small)?;
        }
        counts.seen_by_plugin += 1;
        counts.plugin_time += began.elapsed();
        let scale = (full.0 as f32 / width as f32, full.1 as f32 / height as f32);
        Ok(self
            .regions
            .iter()
            .map(|region| Detection::from_region(&upright.stored(region, shown), scale))
            .collect())
    }
}

/// Pictures that wait for their masks: `seconds` of video and two looks, as far as memory goes.
fn window(size: PictureSize, seconds: f64, rhythm: &Rhythm) -> usize {
    // 4:2:0; other formats are rare and at most twice as large.
    let bytes = (size.width as usize * size.height as usize * 3 / 2).max(1);
    let (usual, most) = (WINDOW_BYTES.0 / bytes, WINDOW_BYTES.1 / bytes);
    // A video of one picture has no interval; the division saturates.
    let needed = (seconds / rhythm.interval).ceil() as usize;
    let needed = needed.saturating_add(rhythm.longest().saturating_mul(2));
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
    fn pictures_are_scaled_once_to_what_the_detector_wants() {
        assert_eq!(fitted((1920, 1080), Some((640, 640))), (640, 360));
        assert_eq!(fitted((1080, 1920), Some((640, 640))), (360, 640));
        assert_eq!(fitted((320, 240), Some((640, 640))), (320, 240));
        assert_eq!(fitted((1920, 1080), None), (1920, 1080));
        assert_eq!(fitted((1000, 3), Some((100, 100))), (100, 2));
    }
}
