//! One video in, one verified video out: index, decode, hide, encode or copy, verify.
//!
//! A single thread goes through the video once; what waits in memory is the detector's window
//! ([`hide`]), a block of pictures ([`splice`]) and the encoder's own look-ahead, none of which
//! grows with the video. Everything is fail-closed: the answer is a report about a verified output,
//! or a [`Failure`]; there is no way through that skips the plugin, and a picture that is not
//! certain is hidden as a whole.
//! May touch: the two files it is given and the plugin. It opens nothing.

mod cadence;
mod caption;
mod carry;
mod check;
mod copied;
mod detect;
mod doubts;
mod failure;
mod hide;
mod index;
mod job;
pub(crate) mod planes;
mod second_look;
mod sink;
mod source;
mod splice;
mod splicing;
mod trust;
mod upright;

use std::fs::File;
use std::io::Seek as _;
use std::time::{Duration, Instant};

use crate::plugin::{Hider, PluginFacts, Unfit};
use caption::Caption;
use hide::{Counts, Hidden, Hiding};
use index::Index;
use sink::{Sink, Written};
use source::{Reading, Source};
use splice::Plan;

pub use carry::{CarriedHead, Carry, StaticZones};
pub(crate) use detect::fitted;
pub use job::{Failure, Look, Pace, Phase, Progress, Recipe, StageTimes, VideoJob, VideoReport};

/// Most entries in a report's list of masks; longer videos get coarser stretches.
const MOST_BUCKETS: usize = 3600;

/// A plugin and a recipe, ready for one video after the other.
#[derive(Debug)]
pub struct Engine {
    recipe: Recipe,
    hider: Hider,
    plugin: PluginFacts,
}

/// What one pass over a video gave.
struct Pass {
    written: Written,
    counts: Counts,
    carry: Option<Carry>,
    size: (u32, u32),
    decode_ms: u64,
    not_copied_because: Option<String>,
}

impl Engine {
    /// An engine that treats every video by `recipe` with a loaded plugin.
    ///
    /// # Errors
    /// The encoder is not there or does not take the preset.
    pub fn new(recipe: Recipe, hider: Hider, plugin: PluginFacts) -> Result<Self, Unfit> {
        if recipe.second_look && !matches!(hider, Hider::Detector(_)) {
            return Err(Unfit {
                reason: format!(
                    "second_look needs a plugin that says where heads are; {} does not: set second_look to false",
                    plugin.name
                ),
            });
        }
        sink::try_encoder(&recipe).map_err(|error| Unfit {
            reason: format!("video_codec or encoder_preset cannot be used: {error}"),
        })?;
        Ok(Self {
            recipe,
            hider,
            plugin,
        })
    }

    /// The plugin.
    pub fn plugin(&self) -> &PluginFacts {
        &self.plugin
    }

    /// Treats one video. `output` is open for reading and writing and empty; `progress` is called
    /// after every frame.
    ///
    /// # Errors
    /// Why there is no output; what is in the file then is worthless.
    pub fn run(
        &mut self,
        job: &VideoJob,
        input: File,
        output: File,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<VideoReport, Failure> {
        let began = Instant::now();
        self.hider.make_room(job.camera)?;
        let index = Index::read(&input)?;
        if let Some(format) = &index.unproven
            && !job.input_stays
        {
            return Err(Failure::unusable(format!(
                "whether all of the file is there cannot be told of its kind ({format}); make a copy of another kind, and see that \
                 nothing is missing in it: {}",
                index::COPY
            )));
        }
        if self.recipe.keep_audio && index.sounds > 1 {
            // Only one would be published, and the others would go with the original.
            return Err(Failure::unusable(format!(
                "the file has {} tracks of sound, and only one can be kept; make a file with that (ffmpeg -i FILE -map 0:v -map 0:a:0 \
                 -c copy NEW.mkv); with keep_audio: false it is processed without",
                index.sounds
            )));
        }
        let files = (&input, &output);
        let mut pass = self.pass_and_check(job, files, &index, true, progress);
        if let Err(Spoiled {
            failure: Failure::Attempt { reason },
            spliced: true,
        }) = &pass
        {
            tracing::warn!(
                video = job.name,
                reason,
                "spliced output refused; encoding it whole"
            );
            empty(&output)?;
            pass = self.pass_and_check(job, files, &index, false, progress);
        }
        let (pass, mut verify_ms) = pass.map_err(|spoiled| spoiled.failure)?;
        if let (Hider::Detector(instance), Some(drawn)) = (&mut self.hider, &pass.counts.drawn) {
            let began = Instant::now();
            instance.reset(job.camera)?;
            let eye = detect::Eye::new(instance, job.camera);
            second_look::look(eye, &output, &index, (drawn, job), progress)?;
            verify_ms += StageTimes::millis(began.elapsed());
        }
        let mut report = self.report(&index, pass);
        report.time.verify_ms = verify_ms;
        report.time.total_ms = StageTimes::millis(began.elapsed());
        Ok(report)
    }

    fn pass_and_check(
        &mut self,
        job: &VideoJob,
        (input, output): (&File, &File),
        index: &Index,
        may_splice: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Pass, u64), Spoiled> {
        let mut spliced = false;
        let result = self.pass(
            job,
            (input, output),
            index,
            may_splice,
            &mut spliced,
            progress,
        );
        let checked = result.and_then(|pass| {
            let began = Instant::now();
            let expected = check::Expected {
                index,
                size: pass.size,
                sound_packets: pass.written.sound_packets,
                copied: &pass.written.copied,
                threads: self.recipe.threads,
            };
            check::check(output, &expected, progress)?;
            Ok((pass, StageTimes::millis(began.elapsed())))
        });
        checked.map_err(|failure| Spoiled { failure, spliced })
    }

    fn pass(
        &mut self,
        job: &VideoJob,
        (input, output): (&File, &File),
        index: &Index,
        may_splice: bool,
        spliced: &mut bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Pass, Failure> {
        let Self { recipe, hider, .. } = self;
        hider.reset(job.camera)?;
        let touches_all = matches!(hider, Hider::WholeFrame) || !job.zones.always.is_empty();
        let audio = index
            .audio
            .as_ref()
            .filter(|_| recipe.keep_audio)
            .map(|(number, _)| *number);
        let how = Reading {
            resize: recipe.resize,
            threads: recipe.threads,
            lossy: job.lossy,
            packets: may_splice && index.unfit_for_splicing.is_none(),
            audio,
        };
        *spliced = how.packets;
        let mut source = Source::open(input, index, how)?;
        let mut decode = Duration::ZERO;
        let mut next = timed_next(&mut source, &mut decode)?;
        let Some(first) = next.as_ref().map(|picture| picture.frame.clone()) else {
            return Err(Failure::unusable("the video has no frames"));
        };
        let size = (first.width(), first.height());
        let plan = match may_splice {
            true => Plan::make(index, recipe, &first, touches_all),
            false => Err("the spliced output did not decode cleanly"),
        };
        *spliced = plan.is_ok();
        let not_copied_because = plan.as_ref().err().map(|why| (*why).to_owned());
        if !*spliced {
            source.forget_packets();
        }
        let file = output
            .try_clone()
            .map_err(|error| Failure::attempt(error.to_string()))?;
        let mut sink = Sink::open(file, index, (recipe, job.pace), &first, plan.ok())?;
        drop(first);
        let mut caption = recipe
            .overlay_text
            .as_deref()
            .map(|text| Caption::new(text, job, index, size));
        let mut hiding = Hiding::new(hider, recipe, job, index, size);
        let mut done: Vec<Hidden> = Vec::new();
        let (mut shown, total) = (0, index.times.len() as u64);
        loop {
            let ended = next.is_none();
            match next.take() {
                Some(picture) => hiding.push(picture, &mut done)?,
                None => hiding.finish(&mut done)?,
            }
            for mut hidden in done.drain(..) {
                if let Some(caption) = &mut caption {
                    let began = Instant::now();
                    caption.draw(&mut hidden.frame, hidden.number)?;
                    hidden.touched = true;
                    hiding.counts.mask_time += began.elapsed();
                }
                sink.push(hidden, &mut source.packets)?;
                shown += 1;
            }
            sink.push_sound(&mut source.sound)?;
            progress(Progress {
                phase: Phase::Masking,
                frames: shown,
                total,
            });
            if ended {
                break;
            }
            next = timed_next(&mut source, &mut decode)?;
        }
        if shown != total {
            return Err(Failure::attempt(format!(
                "{shown} of {total} frames came out"
            )));
        }
        let decode_ms = StageTimes::millis(decode);
        let carry = hiding.carry();
        let counts = hiding.counts;
        Ok(Pass {
            written: sink.finish()?,
            counts,
            carry,
            size,
            decode_ms,
            not_copied_because,
        })
    }

    fn report(&self, index: &Index, pass: Pass) -> VideoReport {
        let Pass {
            written,
            counts,
            carry,
            size,
            decode_ms,
            not_copied_because,
        } = pass;
        let (masks_bucket_seconds, masks) = bucketed(&counts.per_second);
        VideoReport {
            plugin: self.plugin.clone(),
            frames: index.times.len() as u64,
            seconds: index.seconds(),
            width: size.0,
            height: size.1,
            input_codec: index.track.codec.name(),
            unproven: index.unproven.clone(),
            encoder: self.recipe.encoder.clone(),
            frames_seen_by_plugin: counts.seen_by_plugin,
            frames_masked: counts.masked,
            frames_damaged: counts.damaged,
            heads: counts.heads.len() as u64,
            tracks: counts.tracks.len() as u64,
            masks_bucket_seconds,
            masks,
            gops_copied: written.gops_copied,
            gops_encoded: written.gops_encoded,
            frames_encoded: written.frames_encoded,
            not_copied_because,
            carry,
            least_certain: counts.doubts.frames(),
            time: StageTimes {
                decode_ms,
                plugin_ms: StageTimes::millis(counts.plugin_time),
                track_ms: StageTimes::millis(counts.track_time),
                mask_ms: StageTimes::millis(counts.mask_time),
                encode_ms: StageTimes::millis(written.encode_time),
                write_ms: StageTimes::millis(written.write_time),
                ..StageTimes::default()
            },
        }
    }
}

/// A pass without a usable output.
struct Spoiled {
    failure: Failure,
    /// Whether copied and encoded pictures were mixed.
    spliced: bool,
}

fn timed_next(
    source: &mut Source<'_>,
    sum: &mut Duration,
) -> Result<Option<source::Picture>, Failure> {
    let began = Instant::now();
    let picture = source.next();
    *sum += began.elapsed();
    picture
}

/// Masks per second, or per longer stretch for videos of more than [`MOST_BUCKETS`] seconds.
fn bucketed(per_second: &[u32]) -> (u32, Vec<u32>) {
    let width = per_second.len().div_ceil(MOST_BUCKETS).max(1);
    let buckets = per_second.chunks(width).map(|chunk| chunk.iter().sum());
    (width as u32, buckets.collect())
}

fn empty(mut output: &File) -> Result<(), Failure> {
    output
        .set_len(0)
        .and_then(|()| output.rewind())
        .map_err(|error| Failure::attempt(format!("the output cannot be emptied: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_videos_get_coarser_stretches() {
        assert_eq!(bucketed(&[1, 2, 3]), (1, vec![1, 2, 3]));
        let (width, masks) = bucketed(&vec![1; 2 * MOST_BUCKETS + 1]);
        assert_eq!((width, masks.len()), (3, 2401));
        assert_eq!(masks.iter().sum::<u32>() as usize, 2 * MOST_BUCKETS + 1);
    }
}
