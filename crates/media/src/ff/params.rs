//! Our tracks to and from `AVCodecParameters` and `AVStream`.
//!
//! C enums are read and written as plain integers: a file may carry a number that the Rust enum made
//! from FFmpeg's header does not have, and such a value must never exist as that enum.

use std::ffi::CStr;
use std::ptr::{self, addr_of, addr_of_mut};

use ffmpeg_next::ffi;

use super::{int, known, no_memory, pixels, positive, time};
use crate::error::MediaError;
use crate::track::{
    AudioCodec, AudioTrack, ColourRange, ColourTags, DisplayMatrix, PixelFormat, Rational, Track,
    VideoCodec, VideoTrack,
};

const PROFILE_UNKNOWN: i32 = -99;

pub(crate) fn codec_name(id: ffi::AVCodecID) -> String {
    // SAFETY: always returns a static, zero-ended name.
    unsafe { CStr::from_ptr(ffi::avcodec_get_name(id)) }
        .to_string_lossy()
        .into_owned()
}

/// Clockwise.
pub(crate) fn rotation_matrix(degrees: f64) -> [i32; 9] {
    let mut matrix = [0; 9];
    // SAFETY: writes nine integers.
    unsafe { ffi::av_display_rotation_set(matrix.as_mut_ptr(), degrees) };
    matrix
}

/// Counter-clockwise: FFmpeg's setter and getter count in opposite directions.
pub(crate) fn rotation_degrees(matrix: &[i32; 9]) -> f64 {
    // SAFETY: reads nine integers.
    let degrees = unsafe { ffi::av_display_rotation_get(matrix.as_ptr()) };
    if degrees.is_nan() { 0.0 } else { degrees }
}

/// Reads one stream of an opened input.
///
/// # Safety
/// `stream` is a stream of a live format context.
pub(crate) unsafe fn read_stream(stream: *mut ffi::AVStream) -> Track {
    // SAFETY: the caller's promise; codecpar is always there.
    unsafe {
        let par = (*stream).codecpar;
        let kind = addr_of!((*par).codec_type).cast::<i32>().read();
        let picture = (*stream).disposition & ffi::AV_DISPOSITION_ATTACHED_PIC != 0;
        let time_base = Rational::from((*stream).time_base);
        if kind == ffi::AVMediaType::AVMEDIA_TYPE_VIDEO as i32 && !picture {
            Track::Video(read_video(stream, par, time_base))
        } else if kind == ffi::AVMediaType::AVMEDIA_TYPE_AUDIO as i32 {
            Track::Audio(read_audio(stream, par, time_base))
        } else {
            Track::Other { time_base }
        }
    }
}

/// # Safety
/// Both pointers are live and belong together.
unsafe fn read_video(
    stream: *mut ffi::AVStream,
    par: *const ffi::AVCodecParameters,
    time_base: Rational,
) -> VideoTrack {
    // SAFETY: the caller's promise.
    unsafe {
        let (pixel_format, implied) = pixels::without_range((*par).format);
        let mut colour = read_colour(par);
        if implied == ColourRange::Full {
            colour.range = implied;
        }
        VideoTrack {
            codec: VideoCodec::from_id((*par).codec_id),
            width: u32::try_from((*par).width).unwrap_or(0),
            height: u32::try_from((*par).height).unwrap_or(0),
            extradata: read_extradata(par),
            time_base,
            average_fps: known((*stream).avg_frame_rate),
            sample_aspect_ratio: known((*stream).sample_aspect_ratio)
                .or_else(|| known((*par).sample_aspect_ratio)),
            display_matrix: read_matrix(stream),
            colour,
            pixel_format: (pixel_format.0 >= 0).then_some(pixel_format),
            profile: ((*par).profile != PROFILE_UNKNOWN).then_some((*par).profile),
            level: ((*par).level != PROFILE_UNKNOWN).then_some((*par).level),
            bit_rate: positive((*par).bit_rate),
            reorder_delay: u32::try_from((*par).video_delay).unwrap_or(0),
            start: time((*stream).start_time),
            duration: time((*stream).duration).filter(|d| *d > 0),
            frame_count: positive((*stream).nb_frames),
        }
    }
}

/// # Safety
/// Both pointers are live and belong together.
unsafe fn read_audio(
    stream: *const ffi::AVStream,
    par: *const ffi::AVCodecParameters,
    time_base: Rational,
) -> AudioTrack {
    // SAFETY: the caller's promise.
    unsafe {
        AudioTrack {
            codec: AudioCodec::from_id((*par).codec_id),
            sample_rate: u32::try_from((*par).sample_rate).unwrap_or(0),
            channels: u32::try_from((*par).ch_layout.nb_channels).unwrap_or(0),
            extradata: read_extradata(par),
            time_base,
            frame_size: u32::try_from((*par).frame_size).ok().filter(|s| *s > 0),
            initial_padding: u32::try_from((*par).initial_padding).unwrap_or(0),
            bit_rate: positive((*par).bit_rate),
            duration: time((*stream).duration).filter(|d| *d > 0),
        }
    }
}

/// # Safety
/// `par` is live.
unsafe fn read_extradata(par: *const ffi::AVCodecParameters) -> Vec<u8> {
    // SAFETY: extradata is null or holds extradata_size bytes.
    unsafe { bytes((*par).extradata, (*par).extradata_size) }
}

/// A copy of C bytes.
///
/// # Safety
/// `data` is null or readable for `size` bytes.
pub(crate) unsafe fn bytes(data: *const u8, size: i32) -> Vec<u8> {
    match usize::try_from(size) {
        // SAFETY: the caller's promise.
        Ok(size) if size > 0 && !data.is_null() => unsafe {
            std::slice::from_raw_parts(data, size).to_vec()
        },
        _ => Vec::new(),
    }
}

/// # Safety
/// `stream` is live.
unsafe fn read_matrix(stream: *mut ffi::AVStream) -> Option<DisplayMatrix> {
    let kind = ffi::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX;
    // SAFETY: the caller's promise; the answer is null or `size` bytes owned by the stream.
    unsafe {
        let mut size = 0usize;
        let data = ffi::av_stream_get_side_data(stream, kind, &mut size);
        if data.is_null() || size < size_of::<[i32; 9]>() {
            return None;
        }
        Some(DisplayMatrix(data.cast::<[i32; 9]>().read_unaligned()))
    }
}

/// # Safety
/// `par` is live.
unsafe fn read_colour(par: *const ffi::AVCodecParameters) -> ColourTags {
    // SAFETY: the caller's promise; the enums are read as the integers they are.
    unsafe {
        tags(
            addr_of!((*par).color_range).cast(),
            addr_of!((*par).color_primaries).cast(),
            addr_of!((*par).color_trc).cast(),
            addr_of!((*par).color_space).cast(),
            addr_of!((*par).chroma_location).cast(),
        )
    }
}

/// Colour tags from five C integers.
///
/// # Safety
/// All five are readable.
pub(crate) unsafe fn tags(
    range: *const i32,
    primaries: *const i32,
    transfer: *const i32,
    matrix: *const i32,
    location: *const i32,
) -> ColourTags {
    // SAFETY: the caller's promise.
    unsafe {
        ColourTags {
            range: match range.read() {
                1 => ColourRange::Limited,
                2 => ColourRange::Full,
                _ => ColourRange::Unspecified,
            },
            primaries: u8::try_from(primaries.read()).unwrap_or(2),
            transfer: u8::try_from(transfer.read()).unwrap_or(2),
            matrix: u8::try_from(matrix.read()).unwrap_or(2),
            chroma_location: u8::try_from(location.read()).unwrap_or(0),
        }
    }
}

/// The C number of a range.
pub(crate) fn range_number(range: ColourRange) -> i32 {
    match range {
        ColourRange::Unspecified => 0,
        ColourRange::Limited => 1,
        ColourRange::Full => 2,
    }
}

/// An owned `AVCodecParameters`.
pub(crate) struct Params(*mut ffi::AVCodecParameters);

impl Params {
    fn empty() -> Result<Self, MediaError> {
        // SAFETY: returns null or an object that we own from here on.
        let par = unsafe { ffi::avcodec_parameters_alloc() };
        if par.is_null() {
            Err(no_memory("codec parameters"))
        } else {
            Ok(Self(par))
        }
    }

    pub(crate) fn video(track: &VideoTrack) -> Result<Self, MediaError> {
        let made = Self::empty()?;
        let par = made.0;
        // SAFETY: a fresh object that is ours; enums are written as the integers they are.
        unsafe {
            (*par).codec_type = ffi::AVMediaType::AVMEDIA_TYPE_VIDEO;
            (*par).codec_id = track.codec.id();
            (*par).width = int(track.width);
            (*par).height = int(track.height);
            (*par).format = track
                .pixel_format
                .map_or(-1, |f| declared(f, track.colour.range).0);
            (*par).profile = track.profile.unwrap_or(PROFILE_UNKNOWN);
            (*par).level = track.level.unwrap_or(PROFILE_UNKNOWN);
            (*par).bit_rate = track.bit_rate.map_or(0, |b| i64::try_from(b).unwrap_or(0));
            (*par).video_delay = int(track.reorder_delay);
            (*par).sample_aspect_ratio = track
                .sample_aspect_ratio
                .unwrap_or(Rational::new(0, 1))
                .into();
            let colour = track.colour;
            addr_of_mut!((*par).color_range)
                .cast::<i32>()
                .write(range_number(colour.range));
            addr_of_mut!((*par).color_primaries)
                .cast::<i32>()
                .write(colour.primaries.into());
            addr_of_mut!((*par).color_trc)
                .cast::<i32>()
                .write(colour.transfer.into());
            addr_of_mut!((*par).color_space)
                .cast::<i32>()
                .write(colour.matrix.into());
            addr_of_mut!((*par).chroma_location)
                .cast::<i32>()
                .write(colour.chroma_location.into());
        }
        made.set_extradata(&track.extradata)?;
        Ok(made)
    }

    pub(crate) fn audio(track: &AudioTrack) -> Result<Self, MediaError> {
        let made = Self::empty()?;
        let par = made.0;
        // SAFETY: a fresh object that is ours.
        unsafe {
            (*par).codec_type = ffi::AVMediaType::AVMEDIA_TYPE_AUDIO;
            (*par).codec_id = track.codec.id();
            (*par).sample_rate = int(track.sample_rate);
            (*par).frame_size = track.frame_size.map_or(0, int);
            (*par).initial_padding = int(track.initial_padding);
            (*par).bit_rate = track.bit_rate.map_or(0, |b| i64::try_from(b).unwrap_or(0));
            ffi::av_channel_layout_default(addr_of_mut!((*par).ch_layout), int(track.channels));
            // Others know it.
            if is_g726(track.codec) {
                let bits = track.bit_rate.unwrap_or(0) / u64::from(track.sample_rate.max(1));
                (*par).bits_per_coded_sample = int(bits.min(64));
            }
        }
        made.set_extradata(&track.extradata)?;
        Ok(made)
    }

    fn set_extradata(&self, data: &[u8]) -> Result<(), MediaError> {
        if data.is_empty() {
            return Ok(());
        }
        // SAFETY: FFmpeg wants av_malloc'ed memory with zeroed padding behind it, and frees it itself.
        unsafe {
            let room = data.len() + ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize;
            let copy = ffi::av_mallocz(room).cast::<u8>();
            if copy.is_null() {
                return Err(no_memory("extradata"));
            }
            ptr::copy_nonoverlapping(data.as_ptr(), copy, data.len());
            (*self.0).extradata = copy;
            (*self.0).extradata_size = int(data.len());
        }
        Ok(())
    }

    pub(crate) fn set_tag(&self, tag: [u8; 4]) {
        // SAFETY: ours.
        unsafe { (*self.0).codec_tag = u32::from_le_bytes(tag) };
    }

    pub(crate) fn as_ptr(&self) -> *const ffi::AVCodecParameters {
        self.0
    }
}

fn is_g726(codec: AudioCodec) -> bool {
    use ffi::AVCodecID::{AV_CODEC_ID_ADPCM_G726, AV_CODEC_ID_ADPCM_G726LE};
    [AV_CODEC_ID_ADPCM_G726, AV_CODEC_ID_ADPCM_G726LE].contains(&codec.id())
}

/// How the container and codec want the format named: mjpeg still speaks `yuvj`.
fn declared(format: PixelFormat, range: ColourRange) -> PixelFormat {
    match range {
        ColourRange::Full => pixels::full_range_twin(format).unwrap_or(format),
        _ => format,
    }
}

impl Drop for Params {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { ffi::avcodec_parameters_free(&mut self.0) };
    }
}

/// Copies rotation and pixel shape to an output stream.
///
/// # Safety
/// `stream` is a stream of a live format context whose header is not yet written.
pub(crate) unsafe fn write_geometry(
    stream: *mut ffi::AVStream,
    track: &VideoTrack,
) -> Result<(), MediaError> {
    // SAFETY: the caller's promise; side data must be av_malloc'ed and then belongs to the stream.
    unsafe {
        if let Some(shape) = track.sample_aspect_ratio {
            (*stream).sample_aspect_ratio = shape.into();
        }
        if let Some(fps) = track.average_fps {
            (*stream).avg_frame_rate = fps.into();
        }
        let Some(DisplayMatrix(matrix)) = track.display_matrix else {
            return Ok(());
        };
        let size = size_of::<[i32; 9]>();
        let data = ffi::av_mallocz(size).cast::<u8>();
        if data.is_null() {
            return Err(no_memory("display matrix"));
        }
        data.cast::<[i32; 9]>().write_unaligned(matrix);
        let kind = ffi::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX;
        let code = ffi::av_stream_add_side_data(stream, kind, data, size);
        if code < 0 {
            ffi::av_free(data.cast());
        }
        super::check(code, || "display matrix".into()).map(drop)
    }
}
