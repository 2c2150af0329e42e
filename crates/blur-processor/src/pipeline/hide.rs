//! Hiding: pictures go in, pictures in which nobody can be recognised come out, in order.
//!
//! For a detector there is a window of pictures in between: masks are final only when the tracker
//! has looked ahead, and it may ask the detector for pictures it passed over. The window is the
//! pipeline's memory; it is bounded in bytes, whatever the length of video or groups of pictures.
//! A plugin's error ends the attempt: no picture is ever passed on that a plugin did not answer for.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::{Duration, Instant};

use media::{Frame, Quality, Scaler};
use plugin_host::Instance;
use plugin_host::abi::{Change, FrameInfo, Region, RegionKind};
use redaction::{
    Detection, Effect, EffectSettings, FrameInput, FrameMasks, Kind, LumaPicture, Observation,
    PictureSize, Rect, Redactor, TrackCarry, Tracker, TrackerSettings,
};

use super::index::Index;
use super::job::{Failure, Look, Recipe};
use super::planes;
use super::source::Picture;
use crate::plugin::Hider;

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

/// A picture that may be shown.
#[derive(Debug)]
pub(crate) struct Hidden {
    /// Its number in presentation order.
    pub(crate) number: usize,
    /// The pixels.
    pub(crate) frame: Frame,
    /// Pixels differ from the original's.
    pub(crate) touched: bool,
}

/// Counts for the report.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) seen_by_plugin: u64,
    pub(crate) masked: u64,
    pub(crate) damaged: u64,
    pub(crate) heads: u64,
    pub(crate) tracks: BTreeSet<u64>,
    /// Masks per whole second of video.
    pub(crate) per_second: Vec<u32>,
    pub(crate) plugin_time: Duration,
    pub(crate) track_time: Duration,
    pub(crate) mask_time: Duration,
}

/// The hiding of one video.
pub(crate) struct Hiding<'a> {
    index: &'a Index,
    way: Way<'a>,
    redactor: Redactor,
    pub(crate) counts: Counts,
}

enum Way<'a> {
    WholeFrame,
    Filter {
        instance: &'a mut Instance,
        there: Option<Scaler>,
        back: Option<Scaler>,
    },
    Detector(Box<Detecting<'a>>),
}

struct Detecting<'a> {
    eye: Eye<'a>,
    every: usize,
    tracker: Tracker,
    window: VecDeque<Picture>,
}

impl<'a> Hiding<'a> {
    /// `size` is that of the pictures to come.
    pub(crate) fn new(
        hider: &'a mut Hider,
        recipe: &Recipe,
        index: &'a Index,
        size: (u32, u32),
    ) -> Self {
        let way = match hider {
            Hider::WholeFrame => Way::WholeFrame,
            Hider::Filter(instance) => Way::Filter {
                instance,
                there: None,
                back: None,
            },
            Hider::Detector(instance) => {
                Way::Detector(Box::new(Detecting::new(instance, recipe, size)))
            }
        };
        Self {
            index,
            way,
            redactor: Redactor::new(effect(recipe)),
            counts: Counts::default(),
        }
    }

    /// Takes a picture; those that are done by now are appended to `done`.
    ///
    /// # Errors
    /// The plugin failed.
    pub(crate) fn push(&mut self, picture: Picture, done: &mut Vec<Hidden>) -> Result<(), Failure> {
        match &mut self.way {
            Way::WholeFrame => {
                done.push(whole(
                    &mut self.redactor,
                    &mut self.counts,
                    picture,
                    self.index,
                )?);
                Ok(())
            }
            Way::Filter { .. } => {
                let hidden = self.filter(picture)?;
                done.push(hidden);
                Ok(())
            }
            Way::Detector(detecting) => {
                detecting.push(picture, self.index, &mut self.counts)?;
                self.pull(done)
            }
        }
    }

    /// No picture follows; the rest is appended to `done`.
    ///
    /// # Errors
    /// The plugin failed.
    pub(crate) fn finish(&mut self, done: &mut Vec<Hidden>) -> Result<(), Failure> {
        if let Way::Detector(detecting) = &mut self.way {
            detecting.answer_questions(ASKED_AT_END, self.index, &mut self.counts)?;
            detecting.tracker.finish();
            self.pull(done)?;
            let left = match &self.way {
                Way::Detector(detecting) => detecting.window.len(),
                _ => 0,
            };
            if left > 0 {
                return Err(Failure::attempt(format!("{left} pictures got no masks")));
            }
        }
        Ok(())
    }

    /// Takes final masks out of the tracker and applies them.
    fn pull(&mut self, done: &mut Vec<Hidden>) -> Result<(), Failure> {
        let Way::Detector(detecting) = &mut self.way else {
            return Ok(());
        };
        while let Some(masks) = timed(&mut self.counts.track_time, || detecting.tracker.pull()) {
            let picture = detecting
                .window
                .pop_front()
                .filter(|picture| picture.number as u64 == masks.frame)
                .ok_or_else(|| Failure::attempt("masks came for another picture"))?;
            done.push(apply(
                &mut self.redactor,
                &mut self.counts,
                picture,
                &masks,
                self.index,
            )?);
        }
        Ok(())
    }

    fn filter(&mut self, picture: Picture) -> Result<Hidden, Failure> {
        let Way::Filter {
            instance,
            there,
            back,
        } = &mut self.way
        else {
            return Err(Failure::attempt("no frame filter"));
        };
        let info = frame_info(&picture, self.index);
        let damaged = picture.damaged;
        let (number, mut frame) = (picture.number, picture.frame);
        let own = frame.format();
        let wanted = match instance.wants().format {
            Some(format) => planes::for_plugin(format),
            None if planes::named_for_plugin(own).is_some() => own,
            None => media::PixelFormat::BGR24,
        };
        let named = planes::named_for_plugin(wanted).expect("chosen among the plugin's formats");
        let info = FrameInfo {
            format: named,
            ..info
        };
        let call = |view: &mut plugin_host::abi::FrameViewMut<'_>| instance.process(view);
        let began = Instant::now();
        let change = if wanted == own {
            planes::lend_mut(&mut frame, info, call)??
        } else {
            let mut other = convert(there, &frame, wanted)?;
            let change = planes::lend_mut(&mut other, info, call)??;
            if change == Change::Changed {
                frame = convert(back, &other, own)?;
                frame.set_time_base(other.time_base());
            }
            change
        };
        self.counts.plugin_time += began.elapsed();
        self.counts.seen_by_plugin += 1;
        let changed = change == Change::Changed;
        self.counts.masked += u64::from(changed || damaged);
        self.counts
            .note(usize::from(changed), self.index.seconds_at(number));
        let mut hidden = Hidden {
            number,
            frame,
            touched: changed,
        };
        if damaged {
            self.counts.damaged += 1;
            hide_whole(&mut self.redactor, &mut self.counts, &mut hidden)?;
        }
        Ok(hidden)
    }
}

impl<'a> Detecting<'a> {
    fn new(instance: &'a mut Instance, recipe: &Recipe, size: (u32, u32)) -> Self {
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

    fn push(
        &mut self,
        picture: Picture,
        index: &Index,
        counts: &mut Counts,
    ) -> Result<(), Failure> {
        let looked = picture.number.is_multiple_of(self.every) && !picture.damaged;
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

impl Counts {
    fn note(&mut self, masks: usize, seconds: f64) {
        let second = seconds.max(0.0) as usize;
        if self.per_second.len() <= second {
            self.per_second.resize(second + 1, 0);
        }
        self.per_second[second] += masks as u32;
    }
}

fn apply(
    redactor: &mut Redactor,
    counts: &mut Counts,
    picture: Picture,
    masks: &FrameMasks,
    index: &Index,
) -> Result<Hidden, Failure> {
    let Picture {
        number,
        mut frame,
        damaged,
    } = picture;
    // Two sources of the same doubt; the picture's own word is enough.
    let whole_frame = masks.whole_frame || damaged;
    counts.heads += masks.masks.len() as u64;
    counts
        .tracks
        .extend(masks.masks.iter().map(|mask| mask.track.0));
    counts.note(masks.masks.len(), index.seconds_at(number));
    let touched = whole_frame || !masks.is_clear();
    if touched {
        let began = Instant::now();
        counts.masked += 1;
        counts.damaged += u64::from(whole_frame);
        planes::with_planes(&mut frame, |planes| match whole_frame {
            true => redactor.whole_frame(planes),
            false => redactor.apply(planes, masks),
        })?;
        counts.mask_time += began.elapsed();
    }
    Ok(Hidden {
        number,
        frame,
        touched,
    })
}

fn whole(
    redactor: &mut Redactor,
    counts: &mut Counts,
    picture: Picture,
    index: &Index,
) -> Result<Hidden, Failure> {
    counts.note(1, index.seconds_at(picture.number));
    counts.masked += 1;
    counts.seen_by_plugin += 1;
    counts.damaged += u64::from(picture.damaged);
    let mut hidden = Hidden {
        number: picture.number,
        frame: picture.frame,
        touched: true,
    };
    hide_whole(redactor, counts, &mut hidden)?;
    Ok(hidden)
}

fn hide_whole(
    redactor: &mut Redactor,
    counts: &mut Counts,
    hidden: &mut Hidden,
) -> Result<(), Failure> {
    let began = Instant::now();
    planes::with_planes(&mut hidden.frame, |planes| redactor.whole_frame(planes))?;
    hidden.touched = true;
    counts.mask_time += began.elapsed();
    Ok(())
}

fn convert(
    slot: &mut Option<Scaler>,
    frame: &Frame,
    format: media::PixelFormat,
) -> Result<Frame, Failure> {
    let target = (frame.width(), frame.height(), format);
    let scaler = match slot {
        Some(scaler) if scaler.target() == target => scaler,
        slot => slot.insert(Scaler::new(target.0, target.1, format, Quality::Bilinear)),
    };
    scaler.scale(frame).map_err(Failure::of_output)
}

fn frame_info(picture: &Picture, index: &Index) -> FrameInfo {
    let (width, height) = (picture.frame.width(), picture.frame.height());
    FrameInfo {
        index: picture.number as u64,
        pts_ns: (index.seconds_at(picture.number) * 1e9) as i64,
        ..FrameInfo::new(plugin_host::abi::PixelFormat::I420, width, height)
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

fn effect(recipe: &Recipe) -> EffectSettings {
    EffectSettings {
        effect: match recipe.look {
            Look::Blur => Effect::Blur,
            Look::Mosaic => Effect::Mosaic,
            Look::Solid => Effect::Solid,
        },
        strength: recipe.strength,
        kernel_size: recipe.kernel_size,
        // Random keys of the standard library: not to be guessed, another one for each video.
        seed: std::hash::RandomState::new().build_hasher().finish(),
        ..EffectSettings::default()
    }
}

fn timed<T>(sum: &mut Duration, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    *sum += began.elapsed();
    result
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
