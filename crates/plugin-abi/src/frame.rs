//! Pictures in safe types: checked once where they are made, then plain slices.
//!
//! [`FrameView`] is for reading (detectors), [`FrameViewMut`] for changing in
//! place (filters). Host and plugin use the same types; [`crate::raw::Frame`]
//! carries them over the border.

use std::fmt;
use std::mem::MaybeUninit;
use std::ptr;

use crate::raw;

/// How pixels are stored, 8 bits a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// Planes Y, U, V; chroma halved both ways, rounded up.
    I420,
    /// Planes Y and interleaved UV; chroma halved both ways, rounded up.
    Nv12,
    /// One plane, three bytes a pixel: blue, green, red.
    Bgr24,
}

impl PixelFormat {
    /// The number that stands for it in the C interface.
    pub const fn to_raw(self) -> u32 {
        match self {
            Self::I420 => raw::FORMAT_I420,
            Self::Nv12 => raw::FORMAT_NV12,
            Self::Bgr24 => raw::FORMAT_BGR24,
        }
    }

    /// The format a number stands for; `None` for unknown numbers.
    pub const fn from_raw(number: u32) -> Option<Self> {
        match number {
            raw::FORMAT_I420 => Some(Self::I420),
            raw::FORMAT_NV12 => Some(Self::Nv12),
            raw::FORMAT_BGR24 => Some(Self::Bgr24),
            _ => None,
        }
    }

    /// Number of planes.
    pub const fn planes(self) -> usize {
        match self {
            Self::I420 => 3,
            Self::Nv12 => 2,
            Self::Bgr24 => 1,
        }
    }

    /// Bytes in a row and number of rows of one plane.
    pub const fn plane_size(self, plane: usize, width: u32, height: u32) -> (usize, usize) {
        let (w, h) = (width as usize, height as usize);
        match (self, plane) {
            (Self::Bgr24, _) => (w * 3, h),
            (_, 0) => (w, h),
            (Self::I420, _) => (w.div_ceil(2), h.div_ceil(2)),
            (Self::Nv12, _) => (w.div_ceil(2) * 2, h.div_ceil(2)),
        }
    }
}

/// All about a picture but its pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    /// How pixels are stored.
    pub format: PixelFormat,
    /// Width of this picture, pixels.
    pub width: u32,
    /// Height of this picture, pixels.
    pub height: u32,
    /// Width of the video it was scaled from, pixels.
    pub source_width: u32,
    /// Height of the video it was scaled from, pixels.
    pub source_height: u32,
    /// Camera, from 0.
    pub camera: u32,
    /// Frame number in its segment, from 0.
    pub index: u64,
    /// Presentation time in its segment, nanoseconds.
    pub pts_ns: i64,
    /// For detectors: a glance will do, since pictures close before and after it get a thorough look.
    pub glance: bool,
}

impl FrameInfo {
    /// A picture at its own size, camera 0, frame 0, time 0.
    pub const fn new(format: PixelFormat, width: u32, height: u32) -> Self {
        Self {
            format,
            width,
            height,
            source_width: width,
            source_height: height,
            camera: 0,
            index: 0,
            pts_ns: 0,
            glance: false,
        }
    }

    fn check(&self) -> Result<(), FrameError> {
        let sane = |n: u32| (1..=MAX_SIDE).contains(&n);
        if sane(self.width)
            && sane(self.height)
            && sane(self.source_width)
            && sane(self.source_height)
        {
            Ok(())
        } else {
            Err(FrameError::Size(self.width, self.height))
        }
    }

    /// Bytes plane `plane` must have with this stride.
    fn plane_len(&self, plane: usize, stride: usize) -> Result<usize, FrameError> {
        let (row, rows) = self.format.plane_size(plane, self.width, self.height);
        if stride < row {
            return Err(FrameError::Stride { plane, stride, row });
        }
        stride
            .checked_mul(rows - 1)
            .and_then(|bytes| bytes.checked_add(row))
            .ok_or(FrameError::Stride { plane, stride, row })
    }
}

/// Longest side of a picture, pixels (the limit of H.264 level 6.2).
pub const MAX_SIDE: u32 = 16_384;

/// Why a picture was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A side is 0 or above [`MAX_SIDE`].
    Size(u32, u32),
    /// A stride is shorter than a row, or absurd.
    Stride {
        /// Which plane.
        plane: usize,
        /// Its stride, bytes.
        stride: usize,
        /// Bytes a row needs.
        row: usize,
    },
    /// A plane has too few bytes.
    Short {
        /// Which plane.
        plane: usize,
        /// Bytes there are.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// The number of planes does not fit the format.
    Planes(usize),
    /// The raw frame cannot be read: what is wrong with it.
    Raw(&'static str),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(w, h) => write!(f, "picture of {w}x{h} pixels, 1 to {MAX_SIDE} allowed"),
            Self::Stride { plane, stride, row } => {
                write!(f, "plane {plane}: stride of {stride} bytes, row of {row}")
            }
            Self::Short { plane, have, need } => {
                write!(f, "plane {plane}: {have} bytes, {need} needed")
            }
            Self::Planes(n) => write!(f, "{n} planes do not fit the pixel format"),
            Self::Raw(what) => write!(f, "bad frame from the host: {what}"),
        }
    }
}

impl std::error::Error for FrameError {}

/// A picture to read.
#[derive(Clone, Copy, Debug)]
pub struct FrameView<'a> {
    info: FrameInfo,
    planes: [&'a [u8]; 3],
    strides: [usize; 3],
}

impl<'a> FrameView<'a> {
    /// Checks `planes` (bytes, stride in bytes) against `info`.
    ///
    /// # Errors
    /// A side, stride, length or the number of planes does not fit.
    pub fn new(info: FrameInfo, planes: &[(&'a [u8], usize)]) -> Result<Self, FrameError> {
        info.check()?;
        if planes.len() != info.format.planes() {
            return Err(FrameError::Planes(planes.len()));
        }
        let mut view = Self {
            info,
            planes: [&[]; 3],
            strides: [0; 3],
        };
        for (plane, &(data, stride)) in planes.iter().enumerate() {
            let need = info.plane_len(plane, stride)?;
            view.planes[plane] = data.get(..need).ok_or(FrameError::Short {
                plane,
                have: data.len(),
                need,
            })?;
            view.strides[plane] = stride;
        }
        Ok(view)
    }

    /// All but the pixels.
    pub const fn info(&self) -> &FrameInfo {
        &self.info
    }

    /// Bytes of a plane, from its first pixel to its last; empty if there is no
    /// such plane.
    pub fn plane(&self, plane: usize) -> &'a [u8] {
        self.planes.get(plane).copied().unwrap_or_default()
    }

    /// Bytes from row to row of a plane; 0 if there is no such plane.
    pub fn stride(&self, plane: usize) -> usize {
        self.strides.get(plane).copied().unwrap_or_default()
    }

    /// Row `y` of a plane, without the padding behind it.
    ///
    /// # Panics
    /// `y` is not a row of that plane.
    pub fn row(&self, plane: usize, y: usize) -> &'a [u8] {
        let (row, _) = self
            .info
            .format
            .plane_size(plane, self.info.width, self.info.height);
        &self.plane(plane)[y * self.stride(plane)..][..row]
    }

    /// The C view of this picture; a plugin may only read through it.
    pub fn to_raw(&self) -> raw::Frame {
        let planes = self.planes.map(|plane| plane.as_ptr().cast_mut());
        raw_frame(&self.info, planes, self.strides)
    }

    /// Reads a frame that came over the border.
    ///
    /// # Safety
    /// `frame` must be null or point to a frame as the header promises, whose
    /// planes stay valid and unchanged for `'a`.
    ///
    /// # Errors
    /// Null, too short, unknown format or memory, or sizes that do not fit.
    pub unsafe fn from_raw(frame: *const raw::Frame) -> Result<Self, FrameError> {
        // SAFETY: passed on from the caller.
        let (frame, info) = unsafe { read_raw(frame)? };
        let mut planes: Vec<(&[u8], usize)> = Vec::with_capacity(3);
        for plane in 0..info.format.planes() {
            let (data, stride, len) = raw_plane(&frame, &info, plane)?;
            // SAFETY: the host promises `len` readable bytes: rows at this stride.
            planes.push((unsafe { std::slice::from_raw_parts(data, len) }, stride));
        }
        Self::new(info, &planes)
    }
}

/// A picture to change in place.
#[derive(Debug)]
pub struct FrameViewMut<'a> {
    info: FrameInfo,
    planes: [&'a mut [u8]; 3],
    strides: [usize; 3],
}

impl<'a> FrameViewMut<'a> {
    /// Checks `planes` (bytes, stride in bytes) against `info`.
    ///
    /// # Errors
    /// A side, stride, length or the number of planes does not fit.
    pub fn new(info: FrameInfo, planes: Vec<(&'a mut [u8], usize)>) -> Result<Self, FrameError> {
        info.check()?;
        if planes.len() != info.format.planes() {
            return Err(FrameError::Planes(planes.len()));
        }
        let mut view = Self {
            info,
            planes: [&mut [], &mut [], &mut []],
            strides: [0; 3],
        };
        for (plane, (data, stride)) in planes.into_iter().enumerate() {
            let need = info.plane_len(plane, stride)?;
            let have = data.len();
            view.planes[plane] =
                data.get_mut(..need)
                    .ok_or(FrameError::Short { plane, have, need })?;
            view.strides[plane] = stride;
        }
        Ok(view)
    }

    /// All but the pixels.
    pub const fn info(&self) -> &FrameInfo {
        &self.info
    }

    /// Bytes of a plane; empty if there is no such plane.
    pub fn plane(&self, plane: usize) -> &[u8] {
        self.planes
            .get(plane)
            .map_or(&[], |plane: &&'a mut [u8]| &**plane)
    }

    /// Bytes of a plane, to change; empty if there is no such plane.
    pub fn plane_mut(&mut self, plane: usize) -> &mut [u8] {
        match self.planes.get_mut(plane) {
            Some(plane) => plane,
            None => &mut [],
        }
    }

    /// All planes at once, to change; unused ones are empty.
    pub fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        let [a, b, c] = &mut self.planes;
        [a, b, c]
    }

    /// Bytes from row to row of a plane; 0 if there is no such plane.
    pub fn stride(&self, plane: usize) -> usize {
        self.strides.get(plane).copied().unwrap_or_default()
    }

    /// Row `y` of a plane, without the padding behind it.
    ///
    /// # Panics
    /// `y` is not a row of that plane.
    pub fn row_mut(&mut self, plane: usize, y: usize) -> &mut [u8] {
        let FrameInfo { width, height, .. } = self.info;
        let (row, _) = self.info.format.plane_size(plane, width, height);
        let start = y * self.stride(plane);
        &mut self.plane_mut(plane)[start..][..row]
    }

    /// The same picture for reading.
    pub fn as_view(&self) -> FrameView<'_> {
        let [a, b, c] = &self.planes;
        FrameView {
            info: self.info,
            planes: [a, b, c],
            strides: self.strides,
        }
    }

    /// The C view of this picture.
    pub fn to_raw(&mut self) -> raw::Frame {
        let planes = self.planes_mut().map(<[u8]>::as_mut_ptr);
        raw_frame(&self.info, planes, self.strides)
    }

    /// Takes a frame that came over the border.
    ///
    /// # Safety
    /// `frame` must be null or point to a frame as the header promises, whose
    /// planes stay valid, distinct, and nobody else's for `'a`.
    ///
    /// # Errors
    /// Null, too short, unknown format or memory, or sizes that do not fit.
    pub unsafe fn from_raw(frame: *mut raw::Frame) -> Result<Self, FrameError> {
        // SAFETY: passed on from the caller.
        let (frame, info) = unsafe { read_raw(frame)? };
        let mut planes: Vec<(&mut [u8], usize)> = Vec::with_capacity(3);
        for plane in 0..info.format.planes() {
            let (data, stride, len) = raw_plane(&frame, &info, plane)?;
            // SAFETY: the host promises `len` bytes of its own for each plane.
            planes.push((unsafe { std::slice::from_raw_parts_mut(data, len) }, stride));
        }
        Self::new(info, planes)
    }
}

fn raw_frame(info: &FrameInfo, planes: [*mut u8; 3], strides: [usize; 3]) -> raw::Frame {
    let mut frame = raw::Frame {
        struct_size: size_of::<raw::Frame>() as u32,
        format: info.format.to_raw(),
        memory: raw::MEMORY_HOST,
        width: info.width,
        height: info.height,
        source_width: info.source_width,
        source_height: info.source_height,
        camera: info.camera,
        index: info.index,
        pts_ns: info.pts_ns,
        planes: [std::ptr::null_mut(); 4],
        strides: [0; 4],
        flags: if info.glance { raw::FRAME_GLANCE } else { 0 },
        reserved: 0,
    };
    for plane in 0..info.format.planes() {
        frame.planes[plane] = planes[plane];
        frame.strides[plane] = strides[plane] as u64;
    }
    frame
}

/// # Safety
/// `frame` must be null or point to `struct_size` readable bytes.
unsafe fn read_raw(frame: *const raw::Frame) -> Result<(raw::Frame, FrameInfo), FrameError> {
    if frame.is_null() {
        return Err(FrameError::Raw("null"));
    }
    // SAFETY: not null; `struct_size` is the first field of every version.
    let size = unsafe { frame.cast::<u32>().read() };
    let size = size as usize;
    if size < raw::FRAME_SIZE_1_0 {
        return Err(FrameError::Raw("struct_size too small"));
    }
    let mut whole = MaybeUninit::<raw::Frame>::zeroed();
    // SAFETY: so many bytes exist on both sides. What a host of an earlier version does not know
    // stays zero, which is a valid value of every field.
    let frame = unsafe {
        let known = size.min(size_of::<raw::Frame>());
        ptr::copy_nonoverlapping(frame.cast::<u8>(), whole.as_mut_ptr().cast(), known);
        whole.assume_init()
    };
    if frame.memory != raw::MEMORY_HOST {
        return Err(FrameError::Raw("not in host memory"));
    }
    let info = FrameInfo {
        format: PixelFormat::from_raw(frame.format)
            .ok_or(FrameError::Raw("unknown pixel format"))?,
        width: frame.width,
        height: frame.height,
        source_width: frame.source_width,
        source_height: frame.source_height,
        camera: frame.camera,
        index: frame.index,
        pts_ns: frame.pts_ns,
        glance: frame.flags & raw::FRAME_GLANCE != 0,
    };
    info.check()?;
    Ok((frame, info))
}

fn raw_plane(
    frame: &raw::Frame,
    info: &FrameInfo,
    plane: usize,
) -> Result<(*mut u8, usize, usize), FrameError> {
    if frame.planes[plane].is_null() {
        return Err(FrameError::Raw("a plane is null"));
    }
    let stride = usize::try_from(frame.strides[plane])
        .map_err(|_| FrameError::Raw("a stride does not fit"))?;
    Ok((frame.planes[plane], stride, info.plane_len(plane, stride)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sizes_round_chroma_up() {
        assert_eq!(PixelFormat::I420.plane_size(1, 5, 3), (3, 2));
        assert_eq!(PixelFormat::Nv12.plane_size(1, 5, 3), (6, 2));
        assert_eq!(PixelFormat::Bgr24.plane_size(0, 5, 3), (15, 3));
    }

    #[test]
    fn the_last_row_needs_no_padding() {
        let info = FrameInfo::new(PixelFormat::Bgr24, 2, 2);
        let data = [0u8; 14];
        let view = FrameView::new(info, &[(&data, 8)]).expect("8 + 6 bytes are enough");
        assert_eq!(view.row(0, 1).len(), 6);
        let short = FrameView::new(info, &[(&data[..13], 8)]);
        assert_eq!(
            short.unwrap_err(),
            FrameError::Short {
                plane: 0,
                have: 13,
                need: 14
            }
        );
    }

    #[test]
    fn bad_sizes_are_refused() {
        let data = [0u8; 64];
        for (w, h) in [(0, 4), (4, 0), (MAX_SIDE + 1, 1)] {
            let info = FrameInfo::new(PixelFormat::Bgr24, w, h);
            assert_eq!(
                FrameView::new(info, &[(&data, 64)]).unwrap_err(),
                FrameError::Size(w, h)
            );
        }
        let info = FrameInfo::new(PixelFormat::Bgr24, 4, 1);
        assert!(
            FrameView::new(info, &[(&data, 11)]).is_err(),
            "stride < row"
        );
        assert!(FrameView::new(info, &[]).is_err(), "no plane");
    }

    #[test]
    fn raw_and_back_is_the_same() {
        let info = FrameInfo {
            camera: 3,
            index: 7,
            pts_ns: -5,
            glance: true,
            ..FrameInfo::new(PixelFormat::I420, 5, 3)
        };
        let (y, u, v) = ([1u8; 24], [2u8; 8], [3u8; 8]);
        let view = FrameView::new(info, &[(&y, 8), (&u, 4), (&v, 4)]).expect("fits");
        let frame = view.to_raw();
        // SAFETY: made from a live view just above.
        let back = unsafe { FrameView::from_raw(&raw const frame) }.expect("valid");
        assert_eq!(back.info(), &info);
        assert_eq!(back.row(2, 1), &[3, 3, 3]);
    }

    #[test]
    fn frames_of_an_earlier_host_are_read() {
        let data = [0u8; 12];
        let info = FrameInfo {
            glance: true,
            ..FrameInfo::new(PixelFormat::Bgr24, 2, 2)
        };
        let mut frame = FrameView::new(info, &[(&data, 6)]).expect("fits").to_raw();
        frame.struct_size = raw::FRAME_SIZE_1_0 as u32;
        // SAFETY: made from a live view just above.
        let back = unsafe { FrameView::from_raw(&raw const frame) }.expect("valid");
        assert!(!back.info().glance, "beyond struct_size");
    }

    #[test]
    fn raw_frames_are_checked() {
        let data = [0u8; 12];
        let view = FrameView::new(FrameInfo::new(PixelFormat::Bgr24, 2, 2), &[(&data, 6)]);
        let good = view.expect("fits").to_raw();
        let check = |change: fn(&mut raw::Frame)| {
            let mut frame = good;
            change(&mut frame);
            // SAFETY: pointers are live or null; sizes are checked before use.
            unsafe { FrameView::from_raw(&raw const frame) }
                .expect_err("refused")
                .to_string()
        };
        assert!(check(|f| f.struct_size = 4).contains("struct_size"));
        assert!(check(|f| f.format = 9).contains("pixel format"));
        assert!(check(|f| f.memory = 2).contains("host memory"));
        assert!(check(|f| f.planes[0] = std::ptr::null_mut()).contains("null"));
        assert!(check(|f| f.strides[0] = 5).contains("stride"));
        assert!(check(|f| f.strides[0] = u64::MAX).contains("stride"));
        assert!(check(|f| f.height = 0).contains("picture"));
    }
}
