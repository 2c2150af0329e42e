//! Sound, as far as recordings need it: G.711 and the like as cameras send them, made AAC so that MP4 can hold it.

use std::ptr::addr_of_mut;

use ffmpeg_next::ffi;

use crate::error::MediaError;
use crate::ff::codec::{Answer, Codec};
use crate::ff::output::{Output, Setup};
use crate::ff::{self, int};
use crate::frame::Frame;
use crate::packet::Packet;
use crate::track::{AudioCodec, AudioTrack, Rational, Track};

/// Encodes sound to AAC-LC with FFmpeg's own encoder. `Send`.
pub struct AacEncoder {
    codec: Codec,
    track: AudioTrack,
    /// Samples not yet encoded, interleaved.
    waiting: Vec<f32>,
    /// Time of the first waiting sample, in samples; `None` before the first push.
    next_pts: Option<i64>,
}

impl AacEncoder {
    /// An encoder for `sample_rate` samples per second, 1 or 2 channels, at about `bit_rate` bits per second.
    ///
    /// # Errors
    /// [`MediaError::EncoderMissing`]; [`MediaError::Unsupported`] for a rate AAC does not have.
    pub fn new(sample_rate: u32, channels: u32, bit_rate: u64) -> Result<Self, MediaError> {
        let mut codec = Codec::encoder("aac")?;
        let rates = codec.sample_rates();
        if !rates.contains(&int(sample_rate)) || !(1..=2).contains(&channels) {
            let what = format!("AAC of {sample_rate} Hz, {channels} channels");
            return Err(MediaError::unsupported(what, format!("rates: {rates:?}")));
        }
        let raw = codec.raw_mut();
        raw.sample_rate = int(sample_rate);
        raw.sample_fmt = ffi::AVSampleFormat::AV_SAMPLE_FMT_FLTP;
        raw.bit_rate = i64::try_from(bit_rate).unwrap_or(32_000);
        raw.time_base = Rational::new(1, int(sample_rate)).into();
        // Bit-exact also means: without FFmpeg's name and version in the data.
        raw.flags |= (ffi::AV_CODEC_FLAG_GLOBAL_HEADER | ffi::AV_CODEC_FLAG_BITEXACT) as i32;
        // SAFETY: initialises the layout in place; the encoder is not open yet.
        unsafe { ffi::av_channel_layout_default(addr_of_mut!(raw.ch_layout), int(channels)) };
        codec.open(&[])?;
        let mut track = AudioTrack::new(AudioCodec::Aac, sample_rate, channels);
        track.extradata = codec.extradata();
        track.frame_size = u32::try_from(codec.raw().frame_size).ok();
        track.initial_padding = u32::try_from(codec.raw().initial_padding).unwrap_or(0);
        track.bit_rate = Some(bit_rate);
        Ok(Self {
            codec,
            track,
            waiting: Vec::new(),
            next_pts: None,
        })
    }

    /// What comes out; its time base is one sample.
    pub fn track(&self) -> &AudioTrack {
        &self.track
    }

    /// Encodes interleaved samples (-1..1), the first of which is to be heard at `pts` (in samples). After a
    /// hole or a jump of more than 0.1 s the new time is taken over; smaller differences are jitter. Packets
    /// come in blocks of 1024 samples.
    ///
    /// # Errors
    /// [`MediaError::Codec`] from the encoder.
    pub fn push(
        &mut self,
        samples: &[f32],
        pts: i64,
        packets: &mut Vec<Packet>,
    ) -> Result<(), MediaError> {
        let channels = self.channels();
        let held = (self.waiting.len() / channels) as i64;
        let tolerance = i64::from(self.track.sample_rate / 10);
        match self.next_pts {
            Some(next) if (next + held - pts).abs() <= tolerance => {}
            // Time never runs backwards in the output.
            Some(next) => self.next_pts = Some(next.max(pts - held)),
            None => self.next_pts = Some(pts),
        }
        self.waiting.extend_from_slice(samples);
        let block = self.block() * channels;
        while self.waiting.len() >= block {
            let rest = self.waiting.split_off(block);
            let ready = std::mem::replace(&mut self.waiting, rest);
            self.encode(&ready, packets)?;
        }
        Ok(())
    }

    /// Encodes what is left, filled up with silence.
    ///
    /// # Errors
    /// [`MediaError::Codec`] from the encoder.
    pub fn finish(&mut self, packets: &mut Vec<Packet>) -> Result<(), MediaError> {
        let mut last = std::mem::take(&mut self.waiting);
        if !last.is_empty() {
            last.resize(self.block() * self.channels(), 0.0);
            self.encode(&last, packets)?;
        }
        self.codec.send_frame(None)?;
        self.collect(packets)
    }

    fn channels(&self) -> usize {
        self.track.channels.max(1) as usize
    }

    fn block(&self) -> usize {
        self.track.frame_size.unwrap_or(1024) as usize
    }

    fn encode(&mut self, samples: &[f32], packets: &mut Vec<Packet>) -> Result<(), MediaError> {
        let pts = self.next_pts.unwrap_or(0);
        let count = samples.len() / self.channels();
        self.next_pts = Some(pts + count as i64);
        let frame = self.frame(samples, count, pts)?;
        while !self.codec.send_frame(Some(&frame))? {
            self.collect(packets)?;
        }
        self.collect(packets)
    }

    fn frame(&self, samples: &[f32], count: usize, pts: i64) -> Result<Frame, MediaError> {
        let channels = self.channels();
        let mut frame = Frame::empty()?;
        let raw = frame.as_mut_ptr();
        // SAFETY: a fresh frame; get_buffer gives each of the (1 or 2) channels room for `count` floats.
        unsafe {
            (*raw).format = ffi::AVSampleFormat::AV_SAMPLE_FMT_FLTP as i32;
            (*raw).nb_samples = int(count);
            (*raw).sample_rate = int(self.track.sample_rate);
            (*raw).pts = pts;
            ffi::av_channel_layout_default(addr_of_mut!((*raw).ch_layout), int(channels));
            ff::check(ffi::av_frame_get_buffer(raw, 0), || "audio frame".into())?;
            for channel in 0..channels {
                let plane = (*raw).data[channel].cast::<f32>();
                for (index, block) in samples.chunks_exact(channels).enumerate() {
                    plane.add(index).write(block[channel]);
                }
            }
        }
        Ok(frame)
    }

    fn collect(&mut self, packets: &mut Vec<Packet>) -> Result<(), MediaError> {
        while let Answer::Here(mut packet) = self.codec.receive_packet()? {
            packet.set_time_base(self.track.time_base);
            packet.set_key(true);
            packets.push(packet);
        }
        Ok(())
    }
}

/// Whether an MP4 file can hold sound of this kind as it is.
///
/// # Errors
/// [`MediaError::Unsupported`] where it cannot.
pub fn require_mp4(track: &AudioTrack) -> Result<(), MediaError> {
    let what = format!("{} sound in an MP4 file", track.codec.name());
    let setup = Setup {
        format: "mp4",
        tracks: &[Track::Audio(track.clone())],
        options: &[],
        flush: false,
        name: what.clone(),
    };
    // The muxer itself knows best: it refuses some that the standard has.
    Output::header(&setup)
        .map(drop)
        .map_err(|_| MediaError::unsupported(what, ""))
}

/// Decodes sound of any kind that FFmpeg knows. `Send`.
pub struct AudioDecoder {
    codec: Codec,
    sample_rate: u32,
    channels: u32,
}

impl AudioDecoder {
    /// A decoder for the packets of a track.
    ///
    /// # Errors
    /// [`MediaError::Unsupported`] where FFmpeg has none.
    pub fn new(track: &AudioTrack) -> Result<Self, MediaError> {
        let mut codec = Codec::audio_decoder(track)?;
        codec.open(&[])?;
        let (sample_rate, channels) = (track.sample_rate, track.channels);
        Ok(Self {
            codec,
            sample_rate,
            channels,
        })
    }

    /// The interleaved samples (-1..1) of a packet. Of a damaged one there are none.
    ///
    /// # Errors
    /// [`MediaError::Unsupported`] if the sound turns out to be of another kind than its track says.
    pub fn decode(&mut self, packet: &Packet) -> Result<Vec<f32>, MediaError> {
        let mut samples = Vec::new();
        match self.codec.send_packet(Some(packet)) {
            Err(error) if error.is_damaged() => return Ok(samples),
            sent => sent?,
        };
        loop {
            match self.codec.receive_frame() {
                Err(error) if error.is_damaged() => {}
                Ok(Answer::Here(frame)) => samples.extend(self.samples_of(&frame)?),
                Ok(Answer::Hungry | Answer::Ended) => return Ok(samples),
                Err(error) => return Err(error),
            }
        }
    }

    fn samples_of(&self, frame: &Frame) -> Result<Vec<f32>, MediaError> {
        let raw = frame.raw();
        let (rate, channels) = (raw.sample_rate, raw.ch_layout.nb_channels);
        if (rate, channels) != (int(self.sample_rate), int(self.channels)) {
            let what = format!("sound of {rate} Hz with {channels} channels");
            return Err(MediaError::unsupported(what, "it was announced otherwise"));
        }
        interleaved(raw)
    }
}

/// Sound that FFmpeg can decode, to AAC. `Send`.
pub struct ToAac {
    decoder: AudioDecoder,
    encoder: AacEncoder,
}

impl ToAac {
    /// A converter for one or two channels at a rate that AAC has.
    ///
    /// # Errors
    /// As [`AudioDecoder::new`] and [`AacEncoder::new`].
    pub fn new(track: &AudioTrack) -> Result<Self, MediaError> {
        // From 24 kbit/s a channel for speech of 8 kHz to FFmpeg's default for 48 kHz.
        let bit_rate = (u64::from(track.sample_rate) * 3).clamp(24_000, 64_000);
        Ok(Self {
            decoder: AudioDecoder::new(track)?,
            encoder: AacEncoder::new(
                track.sample_rate,
                track.channels,
                bit_rate * u64::from(track.channels),
            )?,
        })
    }

    /// The AAC track; its time base is one sample.
    pub fn track(&self) -> &AudioTrack {
        self.encoder.track()
    }

    /// Converts one packet, whose first sample is to be heard at `pts` (in samples).
    ///
    /// # Errors
    /// As [`AudioDecoder::decode`] and [`AacEncoder::push`].
    pub fn push(
        &mut self,
        packet: &Packet,
        pts: i64,
        packets: &mut Vec<Packet>,
    ) -> Result<(), MediaError> {
        let samples = self.decoder.decode(packet)?;
        self.encoder.push(&samples, pts, packets)
    }

    /// Encodes what is left.
    ///
    /// # Errors
    /// As [`AacEncoder::finish`].
    pub fn finish(&mut self, packets: &mut Vec<Packet>) -> Result<(), MediaError> {
        self.encoder.finish(packets)
    }
}

/// What one decoded sample is.
#[derive(Clone, Copy)]
enum Kind {
    U8,
    S16,
    S32,
    F32,
    F64,
}

/// FFmpeg's names for it, interleaved and in planes.
const SAMPLES: [(Kind, ffi::AVSampleFormat, ffi::AVSampleFormat); 5] = {
    use ffi::AVSampleFormat::*;
    [
        (Kind::U8, AV_SAMPLE_FMT_U8, AV_SAMPLE_FMT_U8P),
        (Kind::S16, AV_SAMPLE_FMT_S16, AV_SAMPLE_FMT_S16P),
        (Kind::S32, AV_SAMPLE_FMT_S32, AV_SAMPLE_FMT_S32P),
        (Kind::F32, AV_SAMPLE_FMT_FLT, AV_SAMPLE_FMT_FLTP),
        (Kind::F64, AV_SAMPLE_FMT_DBL, AV_SAMPLE_FMT_DBLP),
    ]
};

/// The samples of a frame of sound, -1..1.
fn interleaved(raw: &ffi::AVFrame) -> Result<Vec<f32>, MediaError> {
    let channels = raw.ch_layout.nb_channels.clamp(0, raw.data.len() as i32) as usize;
    let count = raw.nb_samples.max(0) as usize;
    let (kind, planar) = SAMPLES
        .iter()
        .find_map(|(kind, packed, planar)| match raw.format {
            format if format == *packed as i32 => Some((*kind, false)),
            format if format == *planar as i32 => Some((*kind, true)),
            _ => None,
        })
        .ok_or_else(|| MediaError::unsupported("the sound's sample format", "8 to 32 bit"))?;
    let at = |index: usize, channel: usize| {
        let (plane, place) = match planar {
            true => (channel, index),
            false => (0, index * channels + channel),
        };
        let data = raw.data[plane];
        // SAFETY: each plane holds `count` samples of its channel, or of all where they are interleaved, aligned for their kind;
        // `channels` is no more than there are planes.
        unsafe {
            match kind {
                Kind::U8 => (f32::from(*data.add(place)) - 128.0) / 128.0,
                Kind::S16 => f32::from(*data.cast::<i16>().add(place)) / 32_768.0,
                Kind::S32 => *data.cast::<i32>().add(place) as f32 / 2_147_483_648.0,
                Kind::F32 => *data.cast::<f32>().add(place),
                Kind::F64 => *data.cast::<f64>().add(place) as f32,
            }
        }
    };
    Ok((0..count)
        .flat_map(|index| (0..channels).map(move |channel| (index, channel)))
        .map(|(index, channel)| at(index, channel))
        .collect())
}
