//! Hidden pictures into the output file: everything encoded, or copied where nothing was touched.

use std::collections::VecDeque;
use std::fs::File;
use std::time::{Duration, Instant};

use media::audio::G711ToAac;
use media::encode::{Key, has_option};
use media::h26x::{self, ParameterSets};
use media::{
    AudioCodec, AudioTrack, Encoder, EncoderSettings, FileWriter, Frame, MediaError, Packet, Rate,
    Rational, Track, VideoCodec, VideoTrack, WriterOptions,
};

use super::hide::Hidden;
use super::index::Index;
use super::job::{Failure, Recipe};
use super::splice::Plan;

/// Constant quality where no bitrate is asked for.
const CRF: f32 = 23.0;
/// The same for encoders that only know a quantiser.
const QUANTISER: u8 = 4;
/// Longest time between key frames, seconds: what a player may have to decode to seek.
const KEY_INTERVAL_SECONDS: f64 = 4.0;
const VIDEO: usize = 0;
const SOUND: usize = 1;

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) gops_copied: u64,
    pub(crate) gops_encoded: u64,
    pub(crate) frames_encoded: u64,
    pub(crate) sound_packets: u64,
    pub(crate) encode_time: Duration,
    pub(crate) write_time: Duration,
}

/// Writes one output.
pub(crate) struct Sink<'a> {
    index: &'a Index,
    out: Out,
    sound: Sound,
    way: Way,
    settings: EncoderSettings,
}

/// The file, and where the time goes.
struct Out {
    writer: FileWriter,
    written: Written,
}

enum Sound {
    Left,
    Copied,
    Converted(Box<G711ToAac>),
}

enum Way {
    /// One encoder for everything.
    Whole(Box<Run>),
    /// By the plan.
    Spliced(Box<Splicing>),
}

/// An encoder at work from some picture on.
struct Run {
    encoder: Encoder,
    /// The picture whose packet comes next.
    next: usize,
    packets: Vec<Packet>,
}

struct Splicing {
    plan: Plan,
    /// Number of the block being collected.
    block: usize,
    collected: Vec<Hidden>,
    run: Option<Run>,
    /// The encoder's parameter sets, which must never change.
    encoder_sets: Vec<u8>,
    /// The group under way has a copied beginning, an encoded rest.
    group: Option<bool>,
}

impl<'a> Sink<'a> {
    /// Starts the file. `first` tells size, format and colour of all pictures.
    pub(crate) fn open(
        file: File,
        index: &'a Index,
        recipe: &Recipe,
        first: &Frame,
        plan: Option<Plan>,
    ) -> Result<Self, Failure> {
        let settings = encoder_settings(recipe, index, first);
        let (way, video) = match plan {
            None => whole(&settings, index)?,
            Some(plan) => spliced(&settings, index, plan)?,
        };
        let (sound, audio) = match &index.audio {
            Some((_, track)) if recipe.keep_audio => sound(track)?,
            _ => (Sound::Left, None),
        };
        let mut tracks = vec![Track::Video(video)];
        tracks.extend(audio.map(Track::Audio));
        let writer = FileWriter::create(file, &tracks, &WriterOptions::default())
            .map_err(Failure::of_output)?;
        let settings = match &way {
            Way::Whole(_) => settings,
            Way::Spliced(splicing) => with_free_id(settings, splicing.plan.free_id),
        };
        Ok(Self {
            index,
            out: Out {
                writer,
                written: Written::default(),
            },
            sound,
            way,
            settings,
        })
    }

    /// Takes the next picture. `packets` are the original's, from the first not yet written on.
    pub(crate) fn push(
        &mut self,
        hidden: Hidden,
        packets: &mut VecDeque<Packet>,
    ) -> Result<(), Failure> {
        match &mut self.way {
            Way::Whole(run) => {
                let key = if hidden.number == 0 {
                    Key::Forced
                } else {
                    Key::Auto
                };
                run.encode(&hidden.frame, key, &mut self.out)?;
                run.write(&mut self.out, None)
            }
            Way::Spliced(splicing) => {
                splicing.collected.push(hidden);
                let block = splicing.plan.blocks[splicing.block];
                if splicing.collected.len() == block.end - block.start {
                    splicing.write_block(self.index, &self.settings, packets, &mut self.out)?;
                }
                Ok(())
            }
        }
    }

    /// Takes sound as it comes.
    pub(crate) fn push_sound(&mut self, packets: &mut VecDeque<Packet>) -> Result<(), Failure> {
        for packet in packets.drain(..) {
            match &mut self.sound {
                Sound::Left => {}
                Sound::Copied => self.out.write(SOUND, &packet)?,
                Sound::Converted(converter) => {
                    let mut made = Vec::new();
                    let at = packet.pts().unwrap_or_default();
                    let at = packet.time_base().rescale(at, converter.track().time_base);
                    converter
                        .push(packet.data(), at, &mut made)
                        .map_err(Failure::of_output)?;
                    made.iter()
                        .try_for_each(|packet| self.out.write(SOUND, packet))?;
                }
            }
        }
        Ok(())
    }

    /// Writes what is held back and the file's index.
    pub(crate) fn finish(mut self) -> Result<Written, Failure> {
        match &mut self.way {
            Way::Whole(run) => run.finish(&mut self.out, None)?,
            Way::Spliced(splicing) => splicing.finish(self.index, &mut self.out)?,
        }
        if let Sound::Converted(converter) = &mut self.sound {
            let mut made = Vec::new();
            converter.finish(&mut made).map_err(Failure::of_output)?;
            made.iter()
                .try_for_each(|packet| self.out.write(SOUND, packet))?;
        }
        if let Way::Whole(run) = &self.way {
            self.out.written.frames_encoded = run.next as u64;
        }
        let began = Instant::now();
        self.out.writer.finish().map_err(Failure::of_output)?;
        self.out.written.write_time += began.elapsed();
        Ok(self.out.written)
    }
}

impl Out {
    fn write(&mut self, track: usize, packet: &Packet) -> Result<(), Failure> {
        let began = Instant::now();
        self.writer
            .write(track, packet)
            .map_err(Failure::of_output)?;
        self.written.write_time += began.elapsed();
        self.written.sound_packets += u64::from(track == SOUND);
        Ok(())
    }
}

impl Run {
    fn open(settings: &EncoderSettings, next: usize) -> Result<Self, Failure> {
        let encoder = Encoder::open(settings.clone()).map_err(Failure::of_output)?;
        Ok(Self {
            encoder,
            next,
            packets: Vec::new(),
        })
    }

    fn encode(&mut self, frame: &Frame, key: Key, out: &mut Out) -> Result<(), Failure> {
        let began = Instant::now();
        let result = self.encoder.encode(frame, key, &mut self.packets);
        out.written.encode_time += began.elapsed();
        result.map_err(Failure::of_output)
    }

    /// Writes finished packets, at the original's decoding times where `index` is given.
    fn write(&mut self, out: &mut Out, index: Option<&Index>) -> Result<(), Failure> {
        for mut packet in self.packets.drain(..) {
            out.written.gops_encoded += u64::from(index.is_none() && packet.is_key());
            if let Some(index) = index {
                let time = index.times[self.next];
                if packet.pts() != Some(time) {
                    return Err(Failure::attempt(
                        "the encoder changed the order of pictures",
                    ));
                }
                let dts = index.entries[self.next].dts;
                packet.set_times(Some(time), Some(dts), index.duration_of(self.next));
                out.written.frames_encoded += 1;
            }
            self.next += 1;
            out.write(VIDEO, &packet)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Out, index: Option<&Index>) -> Result<(), Failure> {
        let began = Instant::now();
        let result = self.encoder.finish(&mut self.packets);
        out.written.encode_time += began.elapsed();
        result.map_err(Failure::of_output)?;
        self.write(out, index)
    }
}

impl Splicing {
    /// Copies or encodes the block whose pictures are collected.
    fn write_block(
        &mut self,
        index: &Index,
        settings: &EncoderSettings,
        packets: &mut VecDeque<Packet>,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let block = self.plan.blocks[self.block];
        if block.idr {
            self.end_group(index, out)?;
            self.group = Some(false);
        }
        let pictures = std::mem::take(&mut self.collected);
        let count = pictures.len();
        if packets.len() < count {
            return Err(Failure::attempt("a picture came before its packet"));
        }
        let originals = packets.drain(..count);
        let touched = pictures.iter().any(|picture| picture.touched);
        if self.run.is_none() && !touched {
            for (packet, at) in originals.zip(block.start..) {
                copy(packet, index, at, out)?;
            }
        } else {
            drop(originals);
            self.encode(&pictures, block.start, index, settings, out)?;
        }
        self.block += 1;
        Ok(())
    }

    fn encode(
        &mut self,
        pictures: &[Hidden],
        start: usize,
        index: &Index,
        settings: &EncoderSettings,
        out: &mut Out,
    ) -> Result<(), Failure> {
        let mut key = Key::Auto;
        if self.run.is_none() {
            let run = Run::open(settings, start)?;
            if run.encoder.track().extradata != self.encoder_sets {
                return Err(Failure::attempt("the encoder changed its parameter sets"));
            }
            self.run = Some(run);
            self.group = Some(true);
            key = Key::Forced;
        }
        if let Some(run) = &mut self.run {
            for picture in pictures {
                run.encode(&picture.frame, key, out)?;
                key = Key::Auto;
            }
            run.write(out, Some(index))?;
        }
        Ok(())
    }

    fn end_group(&mut self, index: &Index, out: &mut Out) -> Result<(), Failure> {
        if let Some(mut run) = self.run.take() {
            run.finish(out, Some(index))?;
        }
        match self.group.take() {
            Some(true) => out.written.gops_encoded += 1,
            Some(false) => out.written.gops_copied += 1,
            None => {}
        }
        Ok(())
    }

    fn finish(&mut self, index: &Index, out: &mut Out) -> Result<(), Failure> {
        self.end_group(index, out)?;
        if self.block != self.plan.blocks.len() {
            return Err(Failure::attempt("pictures are missing at the end"));
        }
        Ok(())
    }
}

/// Writes an original packet: slices bit for bit, without parameter sets (the track holds them) and
/// without user data.
fn copy(mut packet: Packet, index: &Index, at: usize, out: &mut Out) -> Result<(), Failure> {
    let entry = index.entries[at];
    let bare = h26x::without_parameter_sets(VideoCodec::H264, 4, packet.data());
    let clean = h26x::without_user_data(VideoCodec::H264, 4, &bare);
    if clean.len() != packet.data().len() {
        let clean = clean.into_owned();
        packet.replace_data(&clean).map_err(Failure::of_output)?;
    }
    packet.set_times(Some(entry.pts), Some(entry.dts), entry.duration);
    packet.set_key(entry.idr);
    out.write(VIDEO, &packet)
}

fn whole(settings: &EncoderSettings, index: &Index) -> Result<(Way, VideoTrack), Failure> {
    let run = Run::open(settings, 0)?;
    let mut track = run.encoder.track().clone();
    track.display_matrix = index.track.display_matrix;
    Ok((Way::Whole(Box::new(run)), track))
}

/// The original's track with both parameter sets; an encoder is opened only to learn its own.
fn spliced(
    settings: &EncoderSettings,
    index: &Index,
    plan: Plan,
) -> Result<(Way, VideoTrack), Failure> {
    let encoder =
        Encoder::open(with_free_id(settings.clone(), plan.free_id)).map_err(Failure::of_output)?;
    let encoder_sets = encoder.track().extradata.clone();
    let theirs = ParameterSets::from_extradata(VideoCodec::H264, &encoder_sets)
        .map_err(Failure::of_output)?;
    let mut both = plan.sets.clone();
    both.merge(&theirs);
    let mut track = index.track.clone();
    track.extradata = both.to_extradata().map_err(Failure::of_output)?;
    let splicing = Splicing {
        plan,
        block: 0,
        collected: Vec::new(),
        run: None,
        encoder_sets,
        group: None,
    };
    Ok((Way::Spliced(Box::new(splicing)), track))
}

fn sound(track: &AudioTrack) -> Result<(Sound, Option<AudioTrack>), Failure> {
    match track.codec {
        AudioCodec::PcmAlaw | AudioCodec::PcmMulaw => {
            let converter = G711ToAac::new(track).map_err(Failure::of_output)?;
            let made = converter.track().clone();
            Ok((Sound::Converted(Box::new(converter)), Some(made)))
        }
        _ => Ok((Sound::Copied, Some(track.clone()))),
    }
}

fn with_free_id(mut settings: EncoderSettings, id: u32) -> EncoderSettings {
    settings
        .options
        .push(("x264-params".to_owned(), format!("sps-id={id}")));
    settings
}

/// Settings that keep the pictures' size, times, colour and shape.
fn encoder_settings(recipe: &Recipe, index: &Index, first: &Frame) -> EncoderSettings {
    let mut settings = named(recipe, first.width(), first.height(), index.track.time_base);
    settings.pixel_format = first.format();
    settings.fps = index.track.average_fps;
    settings.colour = first.colour();
    settings.sample_aspect_ratio = match recipe.resize {
        Some(_) => None,
        None => index.track.sample_aspect_ratio,
    };
    let fps = index.times.len() as f64 / index.seconds().max(0.001);
    settings.gop = Some((fps * KEY_INTERVAL_SECONDS).clamp(12.0, 250.0) as u32);
    settings
}

fn named(recipe: &Recipe, width: u32, height: u32, time_base: Rational) -> EncoderSettings {
    let has = |option| has_option(&recipe.encoder, option);
    EncoderSettings {
        rate: match recipe.bitrate {
            Some(bits) => Rate::Bitrate(bits),
            None if has("crf") => Rate::Crf(CRF),
            None if matches!(recipe.encoder.as_str(), "mpeg4" | "mjpeg") => {
                Rate::Quantiser(QUANTISER)
            }
            None => Rate::Default,
        },
        preset: (!recipe.preset.is_empty() && has("preset")).then(|| recipe.preset.clone()),
        threads: recipe.threads,
        ..EncoderSettings::new(&recipe.encoder, width, height, time_base)
    }
}

/// Whether the encoder of a recipe can be opened at all.
///
/// # Errors
/// Why not: no such encoder, no such preset.
pub(crate) fn try_encoder(recipe: &Recipe) -> Result<(), MediaError> {
    let mut settings = named(recipe, 640, 360, Rational::MPEG);
    settings.fps = Some(Rational::new(25, 1));
    Encoder::open(settings).map(drop)
}
