//! Pictures out of compressed frames.

use crate::error::MediaError;
use crate::ff::NO_TIME;
use crate::ff::codec::{Answer, Codec, one_picture_at_a_time, set_threads};
use crate::ff::holes;
use crate::frame::Frame;
use crate::h26x::{self, NalKind};
use crate::packet::Packet;
use crate::scale::{Quality, Scaler};
use crate::track::{Rational, VideoCodec, VideoTrack};
use ffmpeg_next::ffi;

/// Which frames are decoded at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Skip {
    /// Every frame.
    #[default]
    Nothing,
    /// Leave out frames no other frame needs (non-reference B-frames).
    NonReference,
    /// Key frames only: about a fifth of the cost on a 30-frame GOP.
    NonKey,
}

/// How to decode.
#[derive(Clone, Copy, Debug)]
pub struct DecoderOptions {
    /// Threads of the codec; 1 adds no delay and costs least CPU, 0 lets FFmpeg decide. Where damage is not an error
    /// (`strict`) they share the slices of a picture, and there is no delay either: an error is about the packet sent last.
    pub threads: u32,
    /// Damage is an error instead of a guessed picture. Without it, guessed pictures come out with
    /// [`Frame::is_damaged`] set.
    pub strict: bool,
    /// Leave out the in-loop filter (about a fifth faster, slightly wrong pixels): good enough to detect
    /// on, never for pictures that are encoded again.
    pub skip_loop_filter: bool,
    /// Which frames are decoded at all.
    pub skip: Skip,
    /// Reduce deeper video to 8 bit. Everything behind the decoder works on 8 bit; without this, 10 bit
    /// frames come out as they are.
    pub eight_bit: bool,
}

impl Default for DecoderOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            strict: false,
            skip_loop_filter: false,
            skip: Skip::Nothing,
            eight_bit: true,
        }
    }
}

/// Whether FFmpeg's decoder goes on where data is damaged, and marks the pictures that it had to guess parts of.
fn marks_what_it_guesses(codec: VideoCodec) -> bool {
    use ffi::AVCodecID::{AV_CODEC_ID_H264, AV_CODEC_ID_MPEG2VIDEO, AV_CODEC_ID_MPEG4};
    let marked = [AV_CODEC_ID_H264, AV_CODEC_ID_MPEG4, AV_CODEC_ID_MPEG2VIDEO];
    marked.contains(&codec.id())
}

/// A packet of H.265 with bits set behind the end of each slice. No decoder gets there when all is well: a slice says itself where it
/// ends. FFmpeg's goes on reading when it does not, into zeros, by which the rest of the picture is like the one before.
/// Set bits end the slice, after some dozens of bytes, and what it left out is a hole.
fn run_on(packet: &Packet, length_size: usize) -> Result<Packet, MediaError> {
    const MORE: [u8; 2048] = [0xff; 2048];
    let mut longer = packet.try_clone()?;
    if length_size == 4 && h26x::is_well_formed(length_size, packet.data()) {
        let mut data = Vec::with_capacity(packet.data().len() + 4 * MORE.len());
        for unit in h26x::length_prefixed_units(length_size, packet.data()) {
            let slice = matches!(
                h26x::nal_kind(VideoCodec::H265, unit),
                NalKind::Slice { .. }
            );
            let more = if slice { &MORE[..] } else { &[] };
            let length = u32::try_from(unit.len() + more.len()).unwrap_or(u32::MAX);
            data.extend_from_slice(&length.to_be_bytes());
            data.extend_from_slice(unit);
            data.extend_from_slice(more);
        }
        longer.replace_data(&data)?;
    }
    Ok(longer)
}

/// A video decoder. `Send`; one thread at a time. Dropping it joins its threads.
///
/// Frames come in presentation order, with the packets' time base and times, without any side data
/// (captions, user data), with `yuvj` formats called by their plain name and
/// [`ColourRange::Full`](crate::ColourRange).
pub struct Decoder {
    codec: Codec,
    time_base: Rational,
    reduce: Option<Scaler>,
    eight_bit: bool,
    /// What was never decoded can be told by its pixels.
    shows_holes: bool,
    /// Slices are made longer (see [`run_on`]); the length of length fields.
    runs_on: Option<usize>,
}

impl Decoder {
    /// Opens a decoder for a track.
    ///
    /// # Errors
    /// [`MediaError::Unsupported`] if FFmpeg has no decoder for it.
    pub fn new(track: &VideoTrack, options: &DecoderOptions) -> Result<Self, MediaError> {
        let mut codec = Codec::video_decoder(track)?;
        set_threads(&mut codec, options.threads);
        let shows_holes = track.codec == VideoCodec::H265 && !options.strict;
        if options.strict {
            let raw = codec.raw_mut();
            raw.err_recognition |= ffi::AV_EF_EXPLODE | ffi::AV_EF_CRCCHECK | ffi::AV_EF_BITSTREAM;
        } else {
            one_picture_at_a_time(&mut codec);
            let raw = codec.raw_mut();
            raw.flags |= ffi::AV_CODEC_FLAG_OUTPUT_CORRUPT as i32;
            // Most of FFmpeg's decoders conceal nothing and mark nothing: what they cannot decode keeps the pixels of an older
            // picture, or shows parts at the wrong place, and only so is there a word of it.
            if !marks_what_it_guesses(track.codec) {
                raw.err_recognition |= ffi::AV_EF_EXPLODE;
            }
            if shows_holes {
                holes::fill_before_decoding(&mut codec);
            }
        }
        let raw = codec.raw_mut();
        if options.skip_loop_filter {
            raw.skip_loop_filter = ffi::AVDiscard::AVDISCARD_ALL;
        }
        raw.skip_frame = match options.skip {
            Skip::Nothing => ffi::AVDiscard::AVDISCARD_DEFAULT,
            Skip::NonReference => ffi::AVDiscard::AVDISCARD_NONREF,
            Skip::NonKey => ffi::AVDiscard::AVDISCARD_NONKEY,
        };
        codec.open(&[])?;
        Ok(Self {
            codec,
            time_base: track.time_base,
            reduce: None,
            eight_bit: options.eight_bit,
            shows_holes,
            runs_on: h26x::length_size(track.codec, &track.extradata).filter(|_| shows_holes),
        })
    }

    /// Gives it the next packet. Take everything from [`Self::receive`] before the next call.
    ///
    /// # Errors
    /// [`MediaError::Damaged`] for a packet it cannot use; decoding can go on behind it.
    pub fn send(&mut self, packet: &Packet) -> Result<(), MediaError> {
        let longer = match self.runs_on {
            Some(length_size) => Some(run_on(packet, length_size)?),
            None => None,
        };
        match self.codec.send_packet(longer.as_ref().or(Some(packet)))? {
            true => Ok(()),
            false => Err(self.misuse()),
        }
    }

    /// Says that no packet follows: the rest comes out of [`Self::receive`].
    ///
    /// # Errors
    /// Frames held back may turn out damaged.
    pub fn finish(&mut self) -> Result<(), MediaError> {
        match self.codec.send_packet(None)? {
            true => Ok(()),
            false => Err(self.misuse()),
        }
    }

    fn misuse(&self) -> MediaError {
        MediaError::Codec {
            what: "decode".into(),
            reason: "frames were not taken before the next packet".into(),
            detail: String::new(),
        }
    }

    /// The next picture; `None` when it needs another packet (or, after [`Self::finish`], at the end).
    ///
    /// # Errors
    /// [`MediaError::Damaged`] if `strict`; decoding can go on.
    pub fn receive(&mut self) -> Result<Option<Frame>, MediaError> {
        match self.codec.receive_frame()? {
            Answer::Here(frame) => self.polish(frame).map(Some),
            Answer::Hungry | Answer::Ended => Ok(None),
        }
    }

    /// [`Self::send`] and all of [`Self::receive`]; `None` as packet finishes.
    ///
    /// # Errors
    /// As those; frames that came before the error are in `frames`.
    pub fn decode(
        &mut self,
        packet: Option<&Packet>,
        frames: &mut Vec<Frame>,
    ) -> Result<(), MediaError> {
        match packet {
            Some(packet) => self.send(packet)?,
            None => self.finish()?,
        }
        while let Some(frame) = self.receive()? {
            frames.push(frame);
        }
        Ok(())
    }

    /// Forgets everything sent so far (after a seek, or to decode again after the end).
    pub fn reset(&mut self) {
        self.codec.flush();
    }

    fn polish(&mut self, mut frame: Frame) -> Result<Frame, MediaError> {
        let raw = frame.raw();
        let best = if raw.pts == NO_TIME {
            raw.best_effort_timestamp
        } else {
            raw.pts
        };
        frame.set_pts((best != NO_TIME).then_some(best));
        frame.set_time_base(self.time_base);
        frame.normalise_format();
        frame.drop_side_data();
        if !frame.has_plain_planes() {
            let what = format!("decoded pixel format {}", frame.format().name());
            return Err(MediaError::unsupported(what, "no plain planes"));
        }
        if self.shows_holes && holes::has_hole(&frame) {
            frame.mark_damaged();
        }
        if self.eight_bit && frame.format().bit_depth() > 8 {
            let target = frame.format().eight_bit();
            let size = (frame.width(), frame.height());
            let reduce = match &mut self.reduce {
                Some(scaler) if scaler.target() == (size.0, size.1, target) => scaler,
                slot => slot.insert(Scaler::new(size.0, size.1, target, Quality::Fast)),
            };
            frame = reduce.scale(&frame)?;
        }
        Ok(frame)
    }
}
