//! An opened decoder or encoder.

use std::ffi::{CStr, c_int};
use std::ptr::{self, addr_of_mut};

use ffmpeg_next::ffi;

use super::dict::Dict;
use super::params::{self, Params};
use super::{AGAIN, c_string, int, no_memory, pixels};
use crate::error::MediaError;
use crate::frame::Frame;
use crate::packet::Packet;
use crate::track::{AudioTrack, ColourTags, PixelFormat, Rational, VideoTrack};

/// What a codec answers when asked for output.
pub(crate) enum Answer<T> {
    Here(T),
    /// Nothing until it gets more input.
    Hungry,
    /// Nothing ever again.
    Ended,
}

/// An owned `AVCodecContext`.
pub(crate) struct Codec {
    pub(crate) context: *mut ffi::AVCodecContext,
    name: String,
}

// SAFETY: everything the context points to belongs to this value; its own threads are joined on free.
unsafe impl Send for Codec {}

impl Codec {
    fn new(codec: *const ffi::AVCodec, name: String) -> Result<Self, MediaError> {
        // SAFETY: `codec` is a static description.
        let context = unsafe { ffi::avcodec_alloc_context3(codec) };
        if context.is_null() {
            Err(no_memory(&name))
        } else {
            Ok(Self { context, name })
        }
    }

    /// A decoder that is not yet opened, for `configure` to change.
    pub(crate) fn video_decoder(track: &VideoTrack) -> Result<Self, MediaError> {
        Self::decoder(track.codec.id(), &Params::video(track)?, track.time_base)
    }

    /// The same for sound.
    pub(crate) fn audio_decoder(track: &AudioTrack) -> Result<Self, MediaError> {
        Self::decoder(track.codec.id(), &Params::audio(track)?, track.time_base)
    }

    fn decoder(id: ffi::AVCodecID, par: &Params, time_base: Rational) -> Result<Self, MediaError> {
        crate::init();
        let name = format!("{} decoder", params::codec_name(id));
        // SAFETY: returns null or a static description.
        let codec = unsafe { ffi::avcodec_find_decoder(id) };
        if codec.is_null() {
            return Err(MediaError::unsupported(name, "not in the installed FFmpeg"));
        }
        let made = Self::new(codec, name)?;
        // SAFETY: a fresh context; the parameters are copied.
        unsafe {
            let code = ffi::avcodec_parameters_to_context(made.context, par.as_ptr());
            super::check(code, || made.name.clone())?;
            (*made.context).pkt_timebase = time_base.into();
        }
        Ok(made)
    }

    /// An encoder that is not yet opened.
    pub(crate) fn encoder(name: &str) -> Result<Self, MediaError> {
        crate::init();
        let c_name = c_string(name);
        // SAFETY: a zero-ended name; returns null or a static description.
        let codec = unsafe { ffi::avcodec_find_encoder_by_name(c_name.as_ptr()) };
        if codec.is_null() {
            return Err(MediaError::EncoderMissing {
                name: name.into(),
                available: video_encoders()
                    .into_iter()
                    .filter(|name| super::output::holds("mp4", codec_id(name)))
                    .collect(),
            });
        }
        Self::new(codec, format!("{name} encoder"))
    }

    pub(crate) fn codec(&self) -> &ffi::AVCodec {
        // SAFETY: every context made here has its static description.
        unsafe { &*(*self.context).codec }
    }

    pub(crate) fn raw(&self) -> &ffi::AVCodecContext {
        // SAFETY: never null, and live as long as self.
        unsafe { &*self.context }
    }

    pub(crate) fn raw_mut(&mut self) -> &mut ffi::AVCodecContext {
        // SAFETY: as above, and exclusive.
        unsafe { &mut *self.context }
    }

    pub(crate) fn set_colour(&mut self, colour: ColourTags) {
        let context = self.context;
        // SAFETY: live and ours; the enums are written as the integers they are.
        unsafe {
            addr_of_mut!((*context).color_range)
                .cast::<i32>()
                .write(params::range_number(colour.range));
            addr_of_mut!((*context).color_primaries)
                .cast::<i32>()
                .write(colour.primaries.into());
            addr_of_mut!((*context).color_trc)
                .cast::<i32>()
                .write(colour.transfer.into());
            addr_of_mut!((*context).colorspace)
                .cast::<i32>()
                .write(colour.matrix.into());
            addr_of_mut!((*context).chroma_sample_location)
                .cast::<i32>()
                .write(colour.chroma_location.into());
        }
    }

    pub(crate) fn set_pixel_format(&mut self, format: PixelFormat) {
        self.raw_mut().pix_fmt = pixels::raw(format);
    }

    /// The pixel formats an encoder takes; empty if it does not say.
    pub(crate) fn pixel_formats(&self) -> Vec<PixelFormat> {
        let mut next = self.codec().pix_fmts.cast::<i32>();
        let mut found = Vec::new();
        // SAFETY: a static list that ends with -1, read as the integers its elements are.
        unsafe {
            while !next.is_null() && next.read() != -1 {
                found.push(PixelFormat(next.read()));
                next = next.add(1);
            }
        }
        found
    }

    pub(crate) fn sample_rates(&self) -> Vec<i32> {
        let mut next = self.codec().supported_samplerates;
        let mut found = Vec::new();
        // SAFETY: a static list that ends with 0.
        unsafe {
            while !next.is_null() && next.read() != 0 {
                found.push(next.read());
                next = next.add(1);
            }
        }
        found
    }

    /// Whether it has a private option of this name, such as `crf`.
    pub(crate) fn has_option(&self, name: &str) -> bool {
        let name = c_string(name);
        let private = self.raw().priv_data;
        // SAFETY: only contexts with a private class have options in `priv_data`.
        unsafe {
            !private.is_null()
                && !self.codec().priv_class.is_null()
                && !ffi::av_opt_find(private, name.as_ptr(), ptr::null(), 0, 0).is_null()
        }
    }

    /// Opens it; options it does not know are an error.
    pub(crate) fn open(&mut self, options: &[(String, String)]) -> Result<(), MediaError> {
        let mut dict = Dict::new();
        for (name, value) in options {
            dict.set(name, value);
        }
        crate::log::take_last_line();
        // SAFETY: a configured context that was not opened before.
        let code = unsafe { ffi::avcodec_open2(self.context, ptr::null(), dict.as_mut_ptr()) };
        let what = || format!("open {}", self.name);
        let unknown = dict.left_over();
        if !unknown.is_empty() {
            let option = unknown.join(", ");
            return Err(MediaError::InvalidOption {
                what: what(),
                option,
                detail: String::new(),
            });
        }
        if code == super::EINVAL
            || code == ffi::AVERROR_OPTION_NOT_FOUND
            || code == ffi::AVERROR_EXTERNAL
        {
            let option = options
                .iter()
                .map(|(n, v)| format!("{n}={v}"))
                .collect::<Vec<_>>()
                .join(", ");
            let (what, detail) = (what(), crate::log::take_last_line());
            return Err(if options.is_empty() {
                let reason = "it cannot be used here".to_owned();
                MediaError::Codec {
                    what,
                    reason,
                    detail,
                }
            } else {
                MediaError::InvalidOption {
                    what,
                    option,
                    detail,
                }
            });
        }
        // The code alone may mislead: a missing driver is "operation not permitted".
        let line = crate::log::take_last_line();
        let what = || match line.as_str() {
            "" => what(),
            line => format!("{} ({line})", what()),
        };
        super::check(code, what).map(drop)
    }

    /// Gives a decoder a packet, `None` at the end. `Ok(false)`: take its output first.
    pub(crate) fn send_packet(&mut self, packet: Option<&Packet>) -> Result<bool, MediaError> {
        let raw = packet.map_or(ptr::null(), Packet::as_ptr);
        // SAFETY: an opened decoder; the packet is null or live and only read.
        let code = unsafe { ffi::avcodec_send_packet(self.context, raw) };
        self.accepted(code)
    }

    /// Gives an encoder a frame, `None` at the end. `Ok(false)`: take its output first.
    pub(crate) fn send_frame(&mut self, frame: Option<&Frame>) -> Result<bool, MediaError> {
        let raw = frame.map_or(ptr::null(), Frame::as_ptr);
        // SAFETY: an opened encoder; the frame is null or live and only read (references are taken).
        let code = unsafe { ffi::avcodec_send_frame(self.context, raw) };
        self.accepted(code)
    }

    fn accepted(&self, code: c_int) -> Result<bool, MediaError> {
        match code {
            AGAIN => Ok(false),
            ffi::AVERROR_EOF => Ok(true),
            _ => super::check(code, || self.name.clone()).map(|_| true),
        }
    }

    pub(crate) fn receive_frame(&mut self) -> Result<Answer<Frame>, MediaError> {
        let mut frame = Frame::empty()?;
        // SAFETY: an opened decoder and an empty frame.
        let code = unsafe { ffi::avcodec_receive_frame(self.context, frame.as_mut_ptr()) };
        self.answer(code, frame)
    }

    pub(crate) fn receive_packet(&mut self) -> Result<Answer<Packet>, MediaError> {
        let mut packet = Packet::empty()?;
        // SAFETY: an opened encoder and an empty packet.
        let code = unsafe { ffi::avcodec_receive_packet(self.context, packet.as_mut_ptr()) };
        self.answer(code, packet)
    }

    fn answer<T>(&self, code: c_int, value: T) -> Result<Answer<T>, MediaError> {
        match code {
            AGAIN => Ok(Answer::Hungry),
            ffi::AVERROR_EOF => Ok(Answer::Ended),
            _ => super::check(code, || self.name.clone()).map(|_| Answer::Here(value)),
        }
    }

    /// Forgets everything sent so far, for decoding from another place.
    pub(crate) fn flush(&mut self) {
        // SAFETY: an opened decoder.
        unsafe { ffi::avcodec_flush_buffers(self.context) };
    }

    pub(crate) fn extradata(&self) -> Vec<u8> {
        let raw = self.raw();
        // SAFETY: extradata is null or holds extradata_size bytes.
        unsafe { params::bytes(raw.extradata, raw.extradata_size) }
    }
}

impl Drop for Codec {
    fn drop(&mut self) {
        // SAFETY: ours, freed once; joins the codec's threads.
        unsafe { ffi::avcodec_free_context(&mut self.context) };
    }
}

/// What an encoder of that name makes; none when there is no such encoder.
pub(crate) fn codec_id(encoder: &str) -> ffi::AVCodecID {
    let name = c_string(encoder);
    // SAFETY: a zero-ended name; returns null or a static description.
    let codec = unsafe { ffi::avcodec_find_encoder_by_name(name.as_ptr()).as_ref() };
    codec.map_or(ffi::AVCodecID::AV_CODEC_ID_NONE, |codec| codec.id)
}

/// The names of all video encoders in the installed FFmpeg.
pub(crate) fn video_encoders() -> Vec<String> {
    let mut state = ptr::null_mut();
    let mut found = Vec::new();
    loop {
        // SAFETY: FFmpeg keeps its place in `state`; returns static descriptions, then null.
        let Some(codec) = (unsafe { ffi::av_codec_iterate(&mut state).as_ref() }) else {
            found.sort();
            return found;
        };
        // SAFETY: a static description with a static name.
        let is_encoder = unsafe { ffi::av_codec_is_encoder(codec) } != 0;
        if is_encoder && codec.type_ == ffi::AVMediaType::AVMEDIA_TYPE_VIDEO {
            // SAFETY: as above.
            found.push(
                unsafe { CStr::from_ptr(codec.name) }
                    .to_string_lossy()
                    .into_owned(),
            );
        }
    }
}

/// Sets how many threads a codec may use; 0 lets FFmpeg decide.
pub(crate) fn set_threads(codec: &mut Codec, threads: u32) {
    codec.raw_mut().thread_count = int(threads);
}

/// Has a decoder use its threads for the slices of one picture, not for several pictures at once: there FFmpeg hands out
/// pictures before they are done, and that parts of them were guessed reaches nobody when they are shown later than they
/// are decoded (seen with FFmpeg 5.1 and H.264 with B-frames).
pub(crate) fn one_picture_at_a_time(codec: &mut Codec) {
    codec.raw_mut().thread_type = ffi::FF_THREAD_SLICE;
}
