//! Facts about pixel formats.

use std::ffi::CStr;

use ffi::AVPixelFormat as Raw;
use ffmpeg_next::ffi;

use crate::track::{ColourRange, PixelFormat};

/// What the crate needs to know of a format.
pub(crate) struct Description {
    pub(crate) depth: u32,
    pub(crate) planes: usize,
    pub(crate) chroma_shift: (u32, u32),
    pub(crate) rgb: bool,
    /// Hardware surfaces, palettes and bit streams have no planes that could be read as bytes.
    pub(crate) plain: bool,
}

/// The C enum value, `NONE` for a number it does not have.
pub(crate) fn raw(format: PixelFormat) -> Raw {
    raw_number(format.0)
}

pub(crate) fn raw_number(number: i32) -> Raw {
    if (0..Raw::AV_PIX_FMT_NB as i32).contains(&number) {
        // SAFETY: AVPixelFormat is `repr(i32)` and has a variant for each number from -1 to NB.
        unsafe { std::mem::transmute::<i32, Raw>(number) }
    } else {
        Raw::AV_PIX_FMT_NONE
    }
}

pub(crate) fn describe(format: PixelFormat) -> Option<Description> {
    // SAFETY: returns null or a static description.
    let found = unsafe { ffi::av_pix_fmt_desc_get(raw(format)).as_ref() }?;
    let components = &found.comp[..usize::from(found.nb_components.min(4))];
    let flag = |bit: u32| found.flags & u64::from(bit) != 0;
    Some(Description {
        depth: components
            .iter()
            .map(|c| c.depth)
            .max()
            .map_or(8, |d| u32::try_from(d).unwrap_or(8)),
        planes: components
            .iter()
            .map(|c| c.plane)
            .max()
            .map_or(0, |p| usize::try_from(p).unwrap_or(0) + 1),
        chroma_shift: (
            u32::from(found.log2_chroma_w),
            u32::from(found.log2_chroma_h),
        ),
        rgb: flag(ffi::AV_PIX_FMT_FLAG_RGB as u32),
        plain: !flag(ffi::AV_PIX_FMT_FLAG_HWACCEL as u32)
            && !flag(ffi::AV_PIX_FMT_FLAG_PAL as u32)
            && !flag(ffi::AV_PIX_FMT_FLAG_BITSTREAM as u32),
    })
}

pub(crate) fn name(format: PixelFormat) -> String {
    // SAFETY: returns null or a static, zero-ended name.
    let name = unsafe { ffi::av_get_pix_fmt_name(raw(format)) };
    if name.is_null() {
        return format!("unknown pixel format {}", format.0);
    }
    // SAFETY: as above, and not null.
    unsafe { CStr::from_ptr(name) }
        .to_string_lossy()
        .into_owned()
}

pub(crate) fn from_name(name: &str) -> Option<PixelFormat> {
    let name = super::c_string(name);
    // SAFETY: a zero-ended string.
    let found = unsafe { ffi::av_get_pix_fmt(name.as_ptr()) };
    (found != Raw::AV_PIX_FMT_NONE).then(|| without_range(found as i32).0)
}

/// FFmpeg's deprecated `yuvj` formats as the plain format and a range.
pub(crate) fn without_range(number: i32) -> (PixelFormat, ColourRange) {
    let plain = match raw_number(number) {
        Raw::AV_PIX_FMT_YUVJ420P => Raw::AV_PIX_FMT_YUV420P,
        Raw::AV_PIX_FMT_YUVJ422P => Raw::AV_PIX_FMT_YUV422P,
        Raw::AV_PIX_FMT_YUVJ444P => Raw::AV_PIX_FMT_YUV444P,
        Raw::AV_PIX_FMT_YUVJ440P => Raw::AV_PIX_FMT_YUV440P,
        Raw::AV_PIX_FMT_YUVJ411P => Raw::AV_PIX_FMT_YUV411P,
        other => return (PixelFormat(other as i32), ColourRange::Unspecified),
    };
    (PixelFormat(plain as i32), ColourRange::Full)
}

/// The `yuvj` twin of a format, if there is one.
pub(crate) fn full_range_twin(format: PixelFormat) -> Option<PixelFormat> {
    let twin = match raw(format) {
        Raw::AV_PIX_FMT_YUV420P => Raw::AV_PIX_FMT_YUVJ420P,
        Raw::AV_PIX_FMT_YUV422P => Raw::AV_PIX_FMT_YUVJ422P,
        Raw::AV_PIX_FMT_YUV444P => Raw::AV_PIX_FMT_YUVJ444P,
        _ => return None,
    };
    Some(PixelFormat(twin as i32))
}
