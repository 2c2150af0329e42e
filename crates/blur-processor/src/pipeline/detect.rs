//! A detector's way: look at pictures, keep them until their masks are final.

use std::collections::VecDeque;
use std::time::Instant;

use media::{Quality, Scaler};
use plugin_host::Instance;
use plugin_host::abi::{FrameInfo, Region, RegionKind};
use redaction::{
    Detection, FrameInput, FrameMasks, Kind, LumaPicture, Observation, PictureSize, Rect,
    TrackCarry, Tracker, TrackerSettings,
};

use super::hide::{Counts, frame_info, timed};
use super::index::Index;
use super::job::{Failure, Recipe};
use super::planes;
use super::source::Picture;

/// Bytes of pictures that wait for their masks.
const WINDOW_BYTES: usize = 160 << 20;
/// Pictures in the window, within these bounds.
const WINDOW_FRAMES: (usize, usize) = (24, 60);
/// Width of the small picture the tracker matches on, pixels.
const MATCH_WIDTH: u32 = 320;
/// Pictures the tracker may ask for per picture the detector looked at anyway: its cost at most
/// doubles.
const ASKED_PER_LOOK: usize = 1;
/// Pictures the tracker may ask for in all at the end.
const ASKED_AT_END: usize = 8;

/// Detector, tracker and the pictures in between.
pub(super) struct Detecting<'a> {
    eye: Eye<'a>,
    every: usize,
    tracker: Tracker,
    window: VecDeque<Picture>,
}

impl<'a> Detecting<'a> {
    pub(super) fn new(instance: &'a mut Instance, recipe: &Recipe, size: (u32, u32)) -> Self {
        // 4:2:0; other formats are rare and at most twice as large.
        let bytes = size.0 as usize * size.1 as usize * 3 / 2;
        let look_ahead = (WINDOW_BYTES / bytes.max(1)).clamp(WINDOW_FRAMES.0, WINDOW_FRAMES.1);
        let settings = TrackerSettings {
            look_ahead,
            ..TrackerSettings::default()
        };
        let picture_size = PictureSize {
            width: size.0,
            height: size.1,
        };
        Self {
            eye: Eye {
                instance,
                scaler: None,
                regions: Vec::new(),
            },
            every: recipe.detect_every.max(1) as usize,
            tracker: Tracker::new(settings, picture_size, TrackCarry::default()),
            window: VecDeque::new(),
        }
    }

    /// Takes a picture and has the detector look at it if it is its turn.
    pub(super) fn push(
        &mut self,
        picture: Picture,
        index: &Index,
        counts: &mut Counts,
    ) -> Result<(), Failure> {
        // The last one too: nothing behind it would tell of a head that came after the last look.
        let turn =
            picture.number.is_multiple_of(self.every) || picture.number + 1 == index.times.len();
        let looked = turn && !picture.damaged;
        let observation = match looked {
            true => Observation::Detected(self.eye.look(&picture, index, counts)?),
            false => Observation::NotDetected,
        };
        let began = Instant::now();
        let luma = picture.frame.plane(0);
        let size = PictureSize {
            width: picture.frame.width(),
            height: picture.frame.height(),
        };
        let input = FrameInput {
            time: index.seconds_at(picture.number),
            observation,
            picture: Some(LumaPicture::scaled_down(
                luma.data,
                luma.stride,
                size,
                MATCH_WIDTH,
            )),
            damaged: picture.damaged,
        };
        self.tracker.push(input);
        counts.track_time += began.elapsed();
        self.window.push_back(picture);
        match looked {
            true => self.answer_questions(ASKED_PER_LOOK, index, counts),
            false => Ok(()),
        }
    }

    /// No picture follows.
    pub(super) fn finish(&mut self, index: &Index, counts: &mut Counts) -> Result<(), Failure> {
        self.answer_questions(ASKED_AT_END, index, counts)?;
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

    /// Pictures still without masks.
    pub(super) fn waiting(&self) -> usize {
        self.window.len()
    }

    /// Has the detector look at pictures the tracker wants to know more about.
    fn answer_questions(
        &mut self,
        budget: usize,
        index: &Index,
        counts: &mut Counts,
    ) -> Result<(), Failure> {
        for wanted in timed(&mut counts.track_time, || self.tracker.wanted(budget)) {
            let picture = self
                .window
                .iter()
                .find(|picture| picture.number as u64 == wanted);
            if let Some(picture) = picture {
                let found = self.eye.look(picture, index, counts)?;
                self.tracker.amend(wanted, found);
            }
        }
        Ok(())
    }
}

/// The detector with its way of seeing pictures.
struct Eye<'a> {
    instance: &'a mut Instance,
    scaler: Option<Scaler>,
    regions: Vec<Region>,
}

impl Eye<'_> {
    /// What the detector sees in a picture, in the picture's own pixels.
    fn look(
        &mut self,
        picture: &Picture,
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
            ..frame_info(picture, index)
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
        let (x, y) = (full.0 as f32 / width as f32, full.1 as f32 / height as f32);
        Ok(self
            .regions
            .iter()
            .map(|region| in_full_picture(region, x, y))
            .collect())
    }
}

/// The largest size of the picture's shape within `most`; even sides, since chroma is halved.
fn fitted((width, height): (u32, u32), most: Option<(u32, u32)>) -> (u32, u32) {
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

fn in_full_picture(region: &Region, x: f32, y: f32) -> Detection {
    Detection {
        rect: Rect::new(
            region.x * x,
            region.y * y,
            region.width * x,
            region.height * y,
        ),
        score: region.score,
        kind: match region.kind {
            RegionKind::Head => Kind::Head,
            RegionKind::Face => Kind::Face,
            RegionKind::Person => Kind::Person,
            RegionKind::Other => Kind::Other,
        },
    }
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
