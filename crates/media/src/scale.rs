//! Other sizes and other pixel formats.

use std::ptr;

use ffmpeg_next::ffi;

use crate::error::MediaError;
use crate::ff::{self, int, pixels};
use crate::frame::Frame;
use crate::track::{ColourRange, ColourTags, PixelFormat};

/// How carefully pixels are interpolated. Milliseconds: 1080p I420 to 640x360 RGB24 on one x86 core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quality {
    /// Fast bilinear, 0.7 ms: aliases when shrinking much.
    Fast,
    /// Area average, 1.2 ms: the right one for shrinking.
    #[default]
    Area,
    /// Bilinear, 1.8 ms.
    Bilinear,
    /// Bicubic, 2.3 ms: for enlarging.
    Bicubic,
}

/// Scales and converts frames to one size and format. It follows the frames it gets: when their size,
/// format or colour changes it sets itself up again. `Send`; one thread at a time.
///
/// RGB and GRAY8 come out in full range, using the source's matrix (BT.601 below 720 lines and BT.709 from
/// there on, if the source does not say). YUV to YUV keeps range and matrix; RGB to YUV is limited range, and says which matrix.
pub struct Scaler {
    context: *mut ffi::SwsContext,
    colour: Option<ColourTags>,
    source: (u32, u32, PixelFormat),
    target: (u32, u32, PixelFormat),
    quality: Quality,
    range: Option<ColourRange>,
}

// SAFETY: the context belongs to this value alone and has no tie to a thread.
unsafe impl Send for Scaler {}

impl Scaler {
    /// A scaler to `width` x `height` pixels of `format`.
    pub fn new(width: u32, height: u32, format: PixelFormat, quality: Quality) -> Self {
        Self {
            context: ptr::null_mut(),
            colour: None,
            source: (0, 0, PixelFormat(-1)),
            target: (width, height, format),
            quality,
            range: None,
        }
    }

    /// Makes YUV of this range instead of keeping the source's.
    #[must_use]
    pub fn with_range(mut self, range: ColourRange) -> Self {
        self.range = Some(range);
        self
    }

    /// Width, height and format it makes.
    pub fn target(&self) -> (u32, u32, PixelFormat) {
        self.target
    }

    /// A new frame with the scaled picture and the source's times.
    ///
    /// # Errors
    /// [`MediaError::Unsupported`] for a conversion swscale cannot do; memory.
    pub fn scale(&mut self, source: &Frame) -> Result<Frame, MediaError> {
        let (width, height, format) = self.target;
        let mut target = Frame::uninitialised(format, width, height)?;
        self.scale_into(source, &mut target)?;
        Ok(target)
    }

    /// Scales into a frame of the right size and format, which saves making a new one each time.
    ///
    /// # Errors
    /// As [`Self::scale`]; [`MediaError::Unsupported`] if `target` has another size or format.
    pub fn scale_into(&mut self, source: &Frame, target: &mut Frame) -> Result<(), MediaError> {
        let (width, height, format) = self.target;
        if (target.width(), target.height(), target.format()) != self.target {
            let what = format!("scale into {target:?}");
            return Err(MediaError::unsupported(
                what,
                format!("made for {width}x{height} {format:?}"),
            ));
        }
        self.prepare(source)?;
        // Exclusive before it is written to, and each row wide enough: as for any other change.
        drop(target.planes_mut()?);
        target.copy_properties(source);
        let range = self.target_range(source.colour().range, source.format());
        let matrix = match source.format().is_rgb() && !format.is_rgb() {
            true => self.matrix(source.colour()).0,
            false => source.colour().matrix,
        };
        target.set_colour(ColourTags {
            range,
            matrix,
            ..source.colour()
        });
        let (from, to) = (source.raw(), target.as_mut_ptr());
        // SAFETY: the context was made for exactly these sizes and formats; both frames own planes of
        // those, the target's are exclusive.
        let rows = unsafe {
            ffi::sws_scale(
                self.context,
                from.data.as_ptr().cast::<*const u8>(),
                from.linesize.as_ptr(),
                0,
                from.height,
                (*to).data.as_ptr(),
                (*to).linesize.as_ptr(),
            )
        };
        ff::check(rows, || "scale".into()).map(drop)
    }

    fn prepare(&mut self, source: &Frame) -> Result<(), MediaError> {
        let wanted = (source.width(), source.height(), source.format());
        let colour = source.colour();
        if !self.context.is_null() && self.source == wanted && self.colour == Some(colour) {
            return Ok(());
        }
        let flags = match self.quality {
            Quality::Fast => ffi::SWS_FAST_BILINEAR,
            Quality::Area => ffi::SWS_AREA,
            Quality::Bilinear => ffi::SWS_BILINEAR,
            Quality::Bicubic => ffi::SWS_BICUBIC,
        };
        let (width, height, format) = self.target;
        // swscale's short cut from RGB to YUV of the same size knows limited range only, and rounds down.
        let flags = match wanted.2.is_rgb() && !format.is_rgb() {
            true => flags | ffi::SWS_ACCURATE_RND,
            false => flags,
        };
        // SAFETY: null or ours; a new context for checked sizes, null on failure.
        self.context = unsafe {
            ffi::sws_freeContext(self.context);
            ffi::sws_getContext(
                int(wanted.0),
                int(wanted.1),
                pixels::raw(wanted.2),
                int(width),
                int(height),
                pixels::raw(format),
                flags,
                ptr::null_mut(),
                ptr::null_mut(),
                ptr::null(),
            )
        };
        if self.context.is_null() {
            let what = format!("scale {wanted:?} to {:?}", self.target);
            return Err(MediaError::unsupported(what, crate::log::take_last_line()));
        }
        (self.source, self.colour) = (wanted, Some(colour));
        self.set_colour(colour);
        Ok(())
    }

    fn target_range(&self, source: ColourRange, format: PixelFormat) -> ColourRange {
        // swscale takes grey for full range, whatever it is told.
        if self.target.2.is_rgb() || self.target.2 == PixelFormat::GRAY8 {
            return ColourRange::Full;
        }
        let kept = if format.is_rgb() {
            ColourRange::Limited
        } else {
            source
        };
        self.range.unwrap_or(kept)
    }

    /// The matrix between RGB and YUV, by its code and by swscale's name.
    fn matrix(&self, colour: ColourTags) -> (u8, i32) {
        let code = match colour.matrix {
            named @ (1 | 4..=7 | 9 | 10) => named,
            _ if self.source.1 >= 720 => 1,
            _ => 6,
        };
        let name = match code {
            1 => ffi::SWS_CS_ITU709,
            4 => ffi::SWS_CS_FCC,
            7 => ffi::SWS_CS_SMPTE240M,
            9 | 10 => ffi::SWS_CS_BT2020,
            _ => ffi::SWS_CS_ITU601,
        };
        (code, name)
    }

    fn set_colour(&mut self, colour: ColourTags) {
        let (_, matrix) = self.matrix(colour);
        let is_full = |range: ColourRange| i32::from(range == ColourRange::Full);
        let from = if self.source.2.is_rgb() {
            1
        } else {
            is_full(colour.range)
        };
        let to = is_full(self.target_range(colour.range, self.source.2));
        // SAFETY: a live context and static coefficient tables; conversions that know no range say so
        // and go on with their default.
        unsafe {
            let table = ffi::sws_getCoefficients(matrix);
            let unity = 1 << 16;
            ffi::sws_setColorspaceDetails(self.context, table, from, table, to, 0, unity, unity);
        }
    }
}

impl Drop for Scaler {
    fn drop(&mut self) {
        // SAFETY: null or ours, freed once.
        unsafe { ffi::sws_freeContext(self.context) };
    }
}
