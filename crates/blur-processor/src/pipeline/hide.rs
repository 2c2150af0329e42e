//! Hiding: pictures go in, pictures in which nobody can be recognised come out, in order.
//!
//! For a detector there is a window of pictures in between: masks are final only when the tracker
//! has looked ahead, and it may ask the detector for pictures it passed over. The window is the
//! pipeline's memory; it is bounded in bytes, whatever the length of video or groups of pictures.
//! A plugin's error ends the attempt: no picture is ever passed on that a plugin did not answer for.

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::{Duration, Instant};

use media::{ColourRange, Frame, Quality, Scaler};
use plugin_host::Instance;
use plugin_host::abi::{Change, FrameInfo};
use redaction::{Certainty, Effect, EffectSettings, FrameMasks, Mask, PictureSize, Redactor};

use super::carry::Carry;
use super::detect::Detecting;
use super::doubts::Doubts;
use super::index::Index;
use super::job::{Failure, Look, Recipe, VideoJob};
use super::planes;
use super::second_look::Drawn;
use super::source::Picture;
use crate::plugin::Hider;

/// Seconds that are counted apart; a file may claim any time.
const LONGEST_COUNT: usize = 1_000_000;

/// From this score on a track counts as a head in reports; it is masked in any case.
const CLEARLY: f32 = 0.4;

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
    /// Tracks that the detector clearly saw.
    pub(crate) heads: BTreeSet<u64>,
    /// All tracks that were masked.
    pub(crate) tracks: BTreeSet<u64>,
    /// Masks per whole second of video.
    pub(crate) per_second: Vec<u32>,
    pub(crate) doubts: Doubts,
    /// Where masks were drawn, when there is to be a second look.
    pub(crate) drawn: Option<Drawn>,
    pub(crate) plugin_time: Duration,
    pub(crate) track_time: Duration,
    pub(crate) mask_time: Duration,
}

/// The hiding of one video.
pub(crate) struct Hiding<'a> {
    index: &'a Index,
    camera: u32,
    /// Masks of the zones that are always hidden; a detector's tracker adds them by itself.
    zones: Vec<Mask>,
    way: Way<'a>,
    redactor: Redactor,
    pub(crate) counts: Counts,
}

enum Way<'a> {
    WholeFrame,
    Filter {
        instance: &'a mut Instance,
        there: Option<(Scaler, ColourRange)>,
        back: Option<(Scaler, ColourRange)>,
    },
    Detector(Box<Detecting<'a>>),
}

impl<'a> Hiding<'a> {
    /// `size` is that of the pictures to come.
    pub(crate) fn new(
        hider: &'a mut Hider,
        recipe: &Recipe,
        job: &VideoJob,
        index: &'a Index,
        size: (u32, u32),
    ) -> Self {
        let picture = PictureSize {
            width: size.0,
            height: size.1,
        };
        let way = match hider {
            Hider::WholeFrame => Way::WholeFrame,
            Hider::Filter(instance) => Way::Filter {
                instance,
                there: None,
                back: None,
            },
            Hider::Detector(instance) => Way::Detector(Box::new(Detecting::new(
                instance, recipe, job, index, picture,
            ))),
        };
        Self {
            index,
            camera: job.camera,
            zones: job.zones.zones().always_masks(picture).collect(),
            way,
            redactor: Redactor::new(effect(recipe)),
            counts: Counts {
                drawn: recipe.second_look.then(Drawn::default),
                ..Counts::default()
            },
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
            detecting.finish(self.index, &mut self.counts)?;
            self.pull(done)?;
            let left = match &self.way {
                Way::Detector(detecting) => detecting.waiting(),
                _ => 0,
            };
            if left > 0 {
                return Err(Failure::attempt(format!("{left} pictures got no masks")));
            }
        }
        Ok(())
    }

    /// What was followed up to the last picture; call it at the end.
    pub(crate) fn carry(&self) -> Option<Carry> {
        match &self.way {
            Way::Detector(detecting) => detecting.carry(),
            Way::WholeFrame | Way::Filter { .. } => None,
        }
    }

    /// Takes final masks out of the tracker and applies them.
    fn pull(&mut self, done: &mut Vec<Hidden>) -> Result<(), Failure> {
        let Way::Detector(detecting) = &mut self.way else {
            return Ok(());
        };
        while let Some((picture, masks)) = detecting.pull(&mut self.counts)? {
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
        let info = frame_info(&picture, self.index, self.camera);
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
            let before = frame.clone();
            let change = planes::lend_mut(&mut frame, info, call)??;
            check_answer(change, &before, &frame)?;
            change
        } else {
            let range = frame.colour().range;
            let mut other = convert(there, &frame, (wanted, range))?;
            let before = other.clone();
            let change = planes::lend_mut(&mut other, info, call)??;
            check_answer(change, &before, &other)?;
            if change == Change::Changed {
                frame = convert(back, &other, (own, range))?;
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
        } else if !self.zones.is_empty() {
            self.hide_zones(&mut hidden)?;
        }
        Ok(hidden)
    }
}

impl Hiding<'_> {
    fn hide_zones(&mut self, hidden: &mut Hidden) -> Result<(), Failure> {
        let masks = FrameMasks {
            frame: hidden.number as u64,
            time: self.index.seconds_at(hidden.number),
            whole_frame: false,
            masks: self.zones.clone(),
        };
        let redactor = &mut self.redactor;
        hidden.touched = true;
        timed(&mut self.counts.mask_time, || {
            planes::with_planes(&mut hidden.frame, |planes| redactor.apply(planes, &masks))
        })
    }
}

impl Counts {
    fn note(&mut self, masks: usize, seconds: f64) {
        let second = (seconds.max(0.0) as usize).min(LONGEST_COUNT);
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
    let seen = masks
        .masks
        .iter()
        .filter(|mask| mask.certainty == Certainty::Seen && mask.score >= CLEARLY);
    counts.heads.extend(seen.map(|mask| mask.track.0));
    counts
        .tracks
        .extend(masks.masks.iter().map(|mask| mask.track.0));
    let seconds = index.seconds_at(number);
    counts.note(masks.masks.len(), seconds);
    counts.doubts.note(number as u64, seconds, masks);
    if let Some(drawn) = &mut counts.drawn {
        drawn.note(number, masks, whole_frame);
    }
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

/// A filter that changes a picture and says that it did not would have the original's packets published.
fn check_answer(answer: Change, before: &Frame, after: &Frame) -> Result<(), Failure> {
    match answer == Change::Unchanged && !before.shows_the_same(after) {
        true => Err(Failure::attempt(
            "the plugin changed a picture and said that it did not",
        )),
        false => Ok(()),
    }
}

/// `range` is that of the video, also where `frame` is RGB.
fn convert(
    slot: &mut Option<(Scaler, ColourRange)>,
    frame: &Frame,
    (format, range): (media::PixelFormat, ColourRange),
) -> Result<Frame, Failure> {
    let target = (frame.width(), frame.height(), format);
    let (scaler, _) = match slot {
        Some(made) if made.0.target() == target && made.1 == range => made,
        slot => {
            let scaler = Scaler::new(target.0, target.1, format, Quality::Bilinear);
            slot.insert((scaler.with_range(range), range))
        }
    };
    scaler.scale(frame).map_err(Failure::of_output)
}

pub(super) fn frame_info(picture: &Picture, index: &Index, camera: u32) -> FrameInfo {
    let (width, height) = (picture.frame.width(), picture.frame.height());
    FrameInfo {
        camera,
        index: picture.number as u64,
        pts_ns: (index.seconds_at(picture.number) * 1e9) as i64,
        ..FrameInfo::new(plugin_host::abi::PixelFormat::I420, width, height)
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

pub(super) fn timed<T>(sum: &mut Duration, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    *sum += began.elapsed();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::{ColourTags, PixelFormat};

    #[test]
    fn what_a_filter_gives_back_in_another_format_keeps_its_range() {
        for format in [PixelFormat::I420, PixelFormat::GRAY8] {
            for (range, levels) in [
                (ColourRange::Full, 0..=255),
                (ColourRange::Limited, 16..=235),
            ] {
                let mut frame = Frame::new(format, 256, 64).unwrap();
                frame.set_colour(ColourTags {
                    range,
                    ..frame.colour()
                });
                let mut planes = frame.planes_mut().unwrap();
                let stride = planes[0].stride;
                for row in planes[0].data.chunks_mut(stride) {
                    for (x, luma) in (0..=255_u8).zip(row.iter_mut()) {
                        *luma = x.clamp(*levels.start(), *levels.end());
                    }
                }
                for chroma in &mut planes[1..] {
                    chroma.data.fill(128);
                }
                let bgr = convert(&mut None, &frame, (PixelFormat::BGR24, range)).unwrap();
                let back = convert(&mut None, &bgr, (format, range)).unwrap();
                for (before, after) in frame.plane(0).data.iter().zip(back.plane(0).data) {
                    assert!(
                        before.abs_diff(*after) <= 2,
                        "{format:?} {range:?}: {before} {after}"
                    );
                }
            }
        }
    }
}
