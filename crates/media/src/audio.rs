//! Sound, as far as recordings need it: G.711 as cameras send it, made AAC so that MP4 can hold it.

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

/// G.711 to AAC. `Send`.
pub struct G711ToAac {
    encoder: AacEncoder,
    law: AudioCodec,
}

impl G711ToAac {
    /// A converter for [`AudioCodec::PcmAlaw`] or [`AudioCodec::PcmMulaw`].
    ///
    /// # Errors
    /// [`MediaError::Unsupported`] for another codec, and as [`AacEncoder::new`].
    pub fn new(track: &AudioTrack) -> Result<Self, MediaError> {
        if !matches!(track.codec, AudioCodec::PcmAlaw | AudioCodec::PcmMulaw) {
            return Err(MediaError::unsupported(
                track.codec.name(),
                "only G.711 is converted to AAC",
            ));
        }
        let bit_rate = 24_000 * u64::from(track.channels.max(1));
        let encoder = AacEncoder::new(track.sample_rate, track.channels, bit_rate)?;
        Ok(Self {
            encoder,
            law: track.codec,
        })
    }

    /// The AAC track; its time base is one sample.
    pub fn track(&self) -> &AudioTrack {
        self.encoder.track()
    }

    /// Converts one packet, whose first sample is to be heard at `pts` (in samples).
    ///
    /// # Errors
    /// As [`AacEncoder::push`].
    pub fn push(
        &mut self,
        data: &[u8],
        pts: i64,
        packets: &mut Vec<Packet>,
    ) -> Result<(), MediaError> {
        let expand = if self.law == AudioCodec::PcmAlaw {
            alaw
        } else {
            mulaw
        };
        let samples: Vec<f32> = data
            .iter()
            .map(|code| f32::from(expand(*code)) / 32_768.0)
            .collect();
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

/// One A-law code as a linear 16-bit sample (ITU-T G.711, table 1).
pub fn alaw(code: u8) -> i16 {
    let code = code ^ 0x55;
    let (exponent, mantissa) = ((code >> 4) & 7, i16::from(code & 15) << 4);
    let magnitude = match exponent {
        0 => mantissa + 8,
        _ => (mantissa + 0x108) << (exponent - 1),
    };
    if code & 0x80 != 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// One µ-law code as a linear 16-bit sample (ITU-T G.711, table 2).
pub fn mulaw(code: u8) -> i16 {
    let code = !code;
    let magnitude = (((i16::from(code & 15) << 3) + 0x84) << ((code >> 4) & 7)) - 0x84;
    if code & 0x80 != 0 {
        -magnitude
    } else {
        magnitude
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g711_extremes() {
        assert_eq!(
            (alaw(0xd5), alaw(0x55), alaw(0xaa), alaw(0x2a)),
            (8, -8, 32_256, -32_256)
        );
        assert_eq!(
            (mulaw(0xff), mulaw(0x7f), mulaw(0x80), mulaw(0x00)),
            (0, 0, 32_124, -32_124)
        );
    }
}
