//! Hidden pictures into the output file: everything encoded, or copied where nothing was touched.

use std::collections::VecDeque;
use std::fs::File;
use std::time::{Duration, Instant};

use media::audio::{ToAac, require_mp4};
use media::encode::{Key, has_option};
use media::{
    AudioCodec, AudioTrack, Encoder, EncoderSettings, FileWriter, Frame, MediaError, Packet, Rate,
    Rational, Track, VideoCodec, VideoTrack, WriterOptions,
};

use super::copied::Copied;
use super::hide::Hidden;
use super::index::Index;
use super::job::{Failure, Pace, Recipe};
use super::splice::Plan;
use super::splicing::Splicing;

/// Constant quality where no bitrate is asked for.
const CRF: f32 = 23.0;
/// The same for encoders that only know a quantiser.
const QUANTISER: u8 = 4;
/// Bits that encoding may spend for each bit of the original, in H.264's terms: the caption and the masks'
/// edges cost some, but what the camera left out cannot come back, and the disk was bought for the camera's
/// bitrate. Without it constant quality spends half as much again on a camera's noise.
const GROWTH: f64 = 1.25;
/// Bits per pixel that constant quality may always spend: a still scene hardly costs the camera anything, but
/// the caption on it changes with every frame.
const BITS_PER_PIXEL: f64 = 0.03;
/// Bits by which a picture's stream may be ahead of its rate: players that take 1080p (level 4.1) take so many.
const LARGEST_BURST: f64 = 6e7;
/// The presets for those in a hurry. They write their coefficients with CAVLC: for about a tenth more bits
/// encoding takes 2 ms less of a busy 1080p picture's 15, and reading it again 2 ms less of 6.
const HURRIED: [&str; 2] = ["ultrafast", "superfast"];
/// Longest time between key frames, seconds: what a player may have to decode to seek.
const KEY_INTERVAL_SECONDS: f64 = 4.0;
pub(super) const VIDEO: usize = 0;
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
    pub(crate) copied: Copied,
}

/// Writes one output.
pub(crate) struct Sink<'a> {
    index: &'a Index,
    out: Out,
    sound: Sound,
    way: Way,
}

/// The file, and where the time goes.
pub(super) struct Out {
    writer: FileWriter,
    pub(super) written: Written,
}

enum Sound {
    Left,
    Copied,
    Converted(Box<ToAac>),
}

enum Way {
    /// One encoder for everything.
    Whole(Box<Run>),
    /// By the plan.
    Spliced(Box<Splicing>),
}

/// An encoder at work from some picture on.
pub(super) struct Run {
    pub(super) encoder: Encoder,
    /// The picture whose packet comes next.
    next: usize,
    packets: Vec<Packet>,
}

impl<'a> Sink<'a> {
    /// Starts the file. `first` tells size, format and colour of all pictures.
    pub(crate) fn open(
        file: File,
        index: &'a Index,
        (recipe, pace): (&Recipe, Pace),
        first: &Frame,
        plan: Option<Plan>,
    ) -> Result<Self, Failure> {
        let settings = encoder_settings((recipe, pace), index, first);
        let (way, video) = match plan {
            None => whole(&settings, index)?,
            Some(plan) => {
                let (splicing, track) = Splicing::open(settings, index, plan)?;
                (Way::Spliced(Box::new(splicing)), track)
            }
        };
        let (sound, audio) = match &index.audio {
            Some((_, track)) if recipe.keep_audio => sound(track)?,
            _ => (Sound::Left, None),
        };
        let mut tracks = vec![Track::Video(video)];
        tracks.extend(audio.map(Track::Audio));
        let writer = FileWriter::create(file, &tracks, &WriterOptions::default())
            .map_err(Failure::of_output)?;
        Ok(Self {
            index,
            out: Out {
                writer,
                written: Written::default(),
            },
            sound,
            way,
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
            Way::Spliced(splicing) => splicing.push(hidden, packets, self.index, &mut self.out),
        }
    }

    /// Takes sound as it comes.
    pub(crate) fn push_sound(&mut self, packets: &mut VecDeque<Packet>) -> Result<(), Failure> {
        for packet in packets.drain(..) {
            match &mut self.sound {
                Sound::Left => {}
                Sound::Copied => self.out.write_sound(&packet)?,
                Sound::Converted(converter) => {
                    let mut made = Vec::new();
                    let at = packet.pts().unwrap_or_default();
                    let at = packet.time_base().rescale(at, converter.track().time_base);
                    converter
                        .push(&packet, at, &mut made)
                        .map_err(|error| match error {
                            MediaError::Unsupported { .. } => no_sound(error),
                            error => Failure::of_output(error),
                        })?;
                    made.iter()
                        .try_for_each(|packet| self.out.write_sound(packet))?;
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
                .try_for_each(|packet| self.out.write_sound(packet))?;
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
    pub(super) fn write(&mut self, track: usize, packet: &Packet) -> Result<(), Failure> {
        let began = Instant::now();
        self.writer
            .write(track, packet)
            .map_err(Failure::of_output)?;
        self.written.write_time += began.elapsed();
        Ok(())
    }

    fn write_sound(&mut self, packet: &Packet) -> Result<(), Failure> {
        let began = Instant::now();
        let written = self.writer.write_sound(SOUND, packet);
        written.map_err(|error| match error {
            MediaError::Timestamps { .. } => no_sound(error),
            error => Failure::of_output(error),
        })?;
        self.written.write_time += began.elapsed();
        self.written.sound_packets += 1;
        Ok(())
    }
}

impl Run {
    pub(super) fn open(settings: &EncoderSettings, next: usize) -> Result<Self, Failure> {
        let encoder = Encoder::open(settings.clone()).map_err(Failure::of_output)?;
        Ok(Self {
            encoder,
            next,
            packets: Vec::new(),
        })
    }

    pub(super) fn encode(&mut self, frame: &Frame, key: Key, out: &mut Out) -> Result<(), Failure> {
        let began = Instant::now();
        let result = self.encoder.encode(frame, key, &mut self.packets);
        out.written.encode_time += began.elapsed();
        result.map_err(Failure::of_output)
    }

    /// Writes finished packets, at the original's decoding times where `index` is given.
    pub(super) fn write(&mut self, out: &mut Out, index: Option<&Index>) -> Result<(), Failure> {
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

    pub(super) fn finish(&mut self, out: &mut Out, index: Option<&Index>) -> Result<(), Failure> {
        let began = Instant::now();
        let result = self.encoder.finish(&mut self.packets);
        out.written.encode_time += began.elapsed();
        result.map_err(Failure::of_output)?;
        self.write(out, index)
    }
}

fn whole(settings: &EncoderSettings, index: &Index) -> Result<(Way, VideoTrack), Failure> {
    let run = Run::open(settings, 0)?;
    let mut track = run.encoder.track().clone();
    track.display_matrix = index.track.display_matrix;
    Ok((Way::Whole(Box::new(run)), track))
}

/// Sound as it is where MP4 can hold it, and players play it.
fn sound(track: &AudioTrack) -> Result<(Sound, Option<AudioTrack>), Failure> {
    let is_g711 = matches!(track.codec, AudioCodec::PcmAlaw | AudioCodec::PcmMulaw);
    if !is_g711 && require_mp4(track).is_ok() {
        return Ok((Sound::Copied, Some(track.clone())));
    }
    let converter = ToAac::new(track).map_err(no_sound)?;
    let made = converter.track().clone();
    Ok((Sound::Converted(Box::new(converter)), Some(made)))
}

/// Sound that cannot be kept: no other attempt goes better.
fn no_sound(error: MediaError) -> Failure {
    Failure::unusable(format!(
        "the sound of the video cannot be kept: {error}; with keep_audio: false it is processed without"
    ))
}

/// Settings that keep the pictures' size, times, colour and shape.
fn encoder_settings(
    (recipe, pace): (&Recipe, Pace),
    index: &Index,
    first: &Frame,
) -> EncoderSettings {
    let mut settings = named(
        (recipe, pace),
        first.width(),
        first.height(),
        index.track.time_base,
    );
    settings.pixel_format = first.format();
    settings.fps = index.track.average_fps;
    settings.colour = first.colour();
    if recipe.resize.is_none() {
        settings.sample_aspect_ratio = index.track.sample_aspect_ratio;
        settings.fields = first.fields();
    }
    let fps = index.times.len() as f64 / index.seconds().max(0.001);
    if let Some((bits, ahead)) = most_bits(recipe, index, first) {
        settings.max_bitrate = Some(bits);
        settings.max_burst = ahead;
    }
    settings.gop = Some((fps * KEY_INTERVAL_SECONDS).clamp(12.0, 250.0) as u32);
    settings
}

fn named(
    (recipe, pace): (&Recipe, Pace),
    width: u32,
    height: u32,
    time_base: Rational,
) -> EncoderSettings {
    let has = |option| has_option(&recipe.encoder, option);
    let preset = preset(recipe, pace).filter(|_| has("preset"));
    let hurried = preset.as_deref().is_some_and(|p| HURRIED.contains(&p));
    let mut options = Vec::new();
    if hurried && recipe.encoder == "libx264" {
        options.push(("coder".to_owned(), "cavlc".to_owned()));
    }
    EncoderSettings {
        rate: match recipe.bitrate {
            Some(bits) => Rate::Bitrate(bits),
            None if has("crf") => Rate::Crf(CRF),
            None if matches!(recipe.encoder.as_str(), "mpeg4" | "mjpeg") => {
                Rate::Quantiser(QUANTISER)
            }
            None => Rate::Default,
        },
        preset,
        threads: recipe.threads,
        options,
        ..EncoderSettings::new(&recipe.encoder, width, height, time_base)
    }
}

/// What constant quality is held to: bits per second, and by how many it may be ahead of them; none where the original tells
/// nothing about it.
fn most_bits(recipe: &Recipe, index: &Index, first: &Frame) -> Option<(u64, u64)> {
    let holds = recipe.encoder == "libx264" && recipe.bitrate.is_none() && recipe.resize.is_none();
    let worth = match index.track.codec {
        VideoCodec::H264 => 1.0,
        // Half the bits for the same picture.
        VideoCodec::H265 => 2.0,
        _ => return None,
    };
    let seconds = index.seconds_without_holes().max(1.0);
    let pixels = f64::from(first.width()) * f64::from(first.height()) * index.times.len() as f64;
    let theirs = index.bits() / seconds;
    let ahead = (index.most_ahead(theirs) * worth * GROWTH).min(LARGEST_BURST);
    let all = (theirs * worth * GROWTH).max(pixels * BITS_PER_PIXEL / seconds);
    holds.then_some((all as u64, ahead as u64))
}

/// The preset by name; `auto` is known for x264 and x265 only.
fn preset(recipe: &Recipe, pace: Pace) -> Option<String> {
    match recipe.preset.as_str() {
        "" => None,
        "auto" if matches!(recipe.encoder.as_str(), "libx264" | "libx265") => {
            Some(pace.preset().to_owned())
        }
        "auto" => None,
        named => Some(named.to_owned()),
    }
}

/// Whether the encoder of a recipe can be opened, and what it makes be stored, at all.
///
/// # Errors
/// Why not: no such encoder, no such device, no such preset, nothing for MP4.
pub(crate) fn try_encoder(recipe: &Recipe) -> Result<(), MediaError> {
    media::encode::require_mp4(&recipe.encoder)?;
    let mut settings = named((recipe, Pace::Calm), 640, 360, Rational::MPEG);
    settings.fps = Some(Rational::new(25, 1));
    Encoder::open(settings).map(drop)
}
