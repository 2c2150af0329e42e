//! One uncompressed picture.
//!
//! Memory is counted and shared: a decoder goes on predicting from the very frames it handed out. So
//! pixels can be changed only through [`Frame::planes_mut`], which first makes the memory exclusive
//! (0.3 ms per 1080p frame when it has to copy).

use std::fmt;
use std::ptr::{addr_of, addr_of_mut};

use ffmpeg_next::ffi;

use crate::error::MediaError;
use crate::ff::{self, NO_TIME, int, known, params, pixels, time};
use crate::track::{ColourTags, PixelFormat, Rational};

/// A picture in memory with its time. `Clone` takes another reference, it copies no pixels.
pub struct Frame(*mut ffi::AVFrame);

// SAFETY: frames own counted references to memory; the counts are atomic, nothing is tied to a thread.
unsafe impl Send for Frame {}
// SAFETY: through a shared reference everything is only read, and nobody writes to shared memory.
unsafe impl Sync for Frame {}

/// Which of an interlaced picture's fields is shown first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldOrder {
    /// The even rows, counted from 0.
    TopFirst,
    /// The odd rows.
    BottomFirst,
}

/// One plane for reading.
#[derive(Clone, Copy)]
pub struct Plane<'a> {
    /// `stride * (rows - 1) + row_bytes` bytes: the last row has no padding behind it.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Bytes of one row that hold pixels.
    pub row_bytes: usize,
    /// Number of rows.
    pub rows: usize,
}

impl<'a> Plane<'a> {
    /// The rows without the padding between them.
    fn pixel_rows(self) -> impl Iterator<Item = &'a [u8]> {
        let rows = self.data.chunks(self.stride);
        rows.map(move |row| &row[..self.row_bytes])
    }
}

/// One plane for changing.
pub struct PlaneMut<'a> {
    /// `stride * (rows - 1) + row_bytes` bytes: the last row has no padding behind it.
    pub data: &'a mut [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Bytes of one row that hold pixels.
    pub row_bytes: usize,
    /// Number of rows.
    pub rows: usize,
}

#[derive(Clone, Copy)]
struct Layout {
    row_bytes: usize,
    rows: usize,
}

impl Frame {
    pub(crate) fn empty() -> Result<Self, MediaError> {
        // SAFETY: returns null or a frame that is ours.
        let frame = unsafe { ffi::av_frame_alloc() };
        if frame.is_null() {
            Err(ff::no_memory("frame"))
        } else {
            Ok(Self(frame))
        }
    }

    /// A black picture (all planes: luma 16 or 0, chroma 128, RGB 0) without time.
    ///
    /// # Errors
    /// [`MediaError::Unsupported`] for formats without plain planes or sizes beyond 16384; memory.
    pub fn new(format: PixelFormat, width: u32, height: u32) -> Result<Self, MediaError> {
        let mut frame = Self::uninitialised(format, width, height)?;
        let rgb = format.is_rgb();
        for (index, plane) in frame.planes_mut()?.into_iter().enumerate() {
            let value = match index {
                _ if rgb => 0,
                0 => {
                    if format == PixelFormat::GRAY8 {
                        0
                    } else {
                        16
                    }
                }
                _ => 128,
            };
            plane.data.fill(value);
        }
        Ok(frame)
    }

    /// A picture with memory but no defined content (the memory is zeroed).
    pub(crate) fn uninitialised(
        format: PixelFormat,
        width: u32,
        height: u32,
    ) -> Result<Self, MediaError> {
        let what = || format!("{width}x{height} {} frame", format.name());
        if width == 0 || height == 0 || width > 16_384 || height > 16_384 {
            return Err(MediaError::unsupported(what(), "sizes are 1 to 16384"));
        }
        if !pixels::describe(format).is_some_and(|d| d.plain && d.planes <= 4) {
            return Err(MediaError::unsupported(what(), "no plain planes"));
        }
        let mut frame = Self::empty()?;
        // SAFETY: a fresh frame of ours; get_buffer allocates for the three fields set before. The
        // buffers are filled so that no uninitialised byte is ever visible through a slice.
        unsafe {
            (*frame.0).format = format.0;
            (*frame.0).width = int(width);
            (*frame.0).height = int(height);
            ff::check(ffi::av_frame_get_buffer(frame.0, 0), what)?;
            for buffer in (*frame.0).buf {
                if !buffer.is_null() {
                    std::ptr::write_bytes((*buffer).data, 0, (*buffer).size);
                }
            }
        }
        frame.set_pts(None);
        Ok(frame)
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        u32::try_from(self.raw().width).unwrap_or(0)
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        u32::try_from(self.raw().height).unwrap_or(0)
    }

    /// How the pixels lie in memory.
    pub fn format(&self) -> PixelFormat {
        pixels::without_range(self.raw().format).0
    }

    /// Presentation time in ticks of [`Self::time_base`].
    pub fn pts(&self) -> Option<i64> {
        time(self.raw().pts)
    }

    /// Sets the presentation time.
    pub fn set_pts(&mut self, pts: Option<i64>) {
        self.raw_mut().pts = pts.unwrap_or(NO_TIME);
    }

    /// How long it is shown, in ticks; 0 if not known.
    pub fn duration(&self) -> i64 {
        self.raw().pkt_duration
    }

    /// Sets how long it is shown, in ticks.
    pub fn set_duration(&mut self, ticks: i64) {
        self.raw_mut().pkt_duration = ticks;
    }

    /// Seconds per tick of this frame's times.
    pub fn time_base(&self) -> Rational {
        self.raw().time_base.into()
    }

    /// Says in which time base the times are; does not convert them.
    pub fn set_time_base(&mut self, time_base: Rational) {
        self.raw_mut().time_base = time_base.into();
    }

    /// Whether it came from a key frame.
    pub fn is_key(&self) -> bool {
        self.raw().key_frame != 0
    }

    /// Whether the decoder had to guess parts of it: the pixels are not the camera's.
    pub fn is_damaged(&self) -> bool {
        self.raw().flags & ffi::AV_FRAME_FLAG_CORRUPT != 0 || self.raw().decode_error_flags != 0
    }

    /// Says that parts of it are not the camera's.
    pub(crate) fn mark_damaged(&mut self) {
        self.raw_mut().flags |= ffi::AV_FRAME_FLAG_CORRUPT;
    }

    /// Colour tags.
    pub fn colour(&self) -> ColourTags {
        let frame = self.0;
        // SAFETY: live; the enums are read as the integers they are.
        unsafe {
            params::tags(
                addr_of!((*frame).color_range).cast(),
                addr_of!((*frame).color_primaries).cast(),
                addr_of!((*frame).color_trc).cast(),
                addr_of!((*frame).colorspace).cast(),
                addr_of!((*frame).chroma_location).cast(),
            )
        }
    }

    /// Sets the colour tags; does not convert pixels.
    pub fn set_colour(&mut self, colour: ColourTags) {
        let frame = self.0;
        // SAFETY: live and ours; the enums are written as the integers they are.
        unsafe {
            addr_of_mut!((*frame).color_range)
                .cast::<i32>()
                .write(params::range_number(colour.range));
            addr_of_mut!((*frame).color_primaries)
                .cast::<i32>()
                .write(colour.primaries.into());
            addr_of_mut!((*frame).color_trc)
                .cast::<i32>()
                .write(colour.transfer.into());
            addr_of_mut!((*frame).colorspace)
                .cast::<i32>()
                .write(colour.matrix.into());
            addr_of_mut!((*frame).chroma_location)
                .cast::<i32>()
                .write(colour.chroma_location.into());
        }
    }

    /// Width to height of one pixel, if known.
    pub fn sample_aspect_ratio(&self) -> Option<Rational> {
        known(self.raw().sample_aspect_ratio)
    }

    /// Which field is shown first, of an interlaced picture.
    pub fn fields(&self) -> Option<FieldOrder> {
        let raw = self.raw();
        (raw.interlaced_frame != 0).then_some(match raw.top_field_first {
            0 => FieldOrder::BottomFirst,
            _ => FieldOrder::TopFirst,
        })
    }

    /// Number of planes.
    pub fn plane_count(&self) -> usize {
        self.format().plane_count()
    }

    /// One plane for reading: 0 is luma (or packed RGB), then chroma.
    ///
    /// # Panics
    /// When there is no such plane.
    pub fn plane(&self, index: usize) -> Plane<'_> {
        assert!(
            index < self.plane_count(),
            "{} has no plane {index}",
            self.format().name()
        );
        let layout = self.layout(index);
        let stride = self.stride(index);
        let length = stride * layout.rows.saturating_sub(1) + layout.row_bytes;
        // SAFETY: every frame of this type has planes of `rows` rows, `stride` bytes apart (frames with
        // other layouts are refused where they enter), and they live as long as self.
        let data = unsafe { std::slice::from_raw_parts(self.raw().data[index], length) };
        Plane {
            data,
            stride,
            row_bytes: layout.row_bytes,
            rows: layout.rows,
        }
    }

    /// All planes for reading.
    pub fn planes(&self) -> Vec<Plane<'_>> {
        (0..self.plane_count())
            .map(|index| self.plane(index))
            .collect()
    }

    /// All planes for changing. Memory that anybody else still holds (the decoder, a clone) is copied
    /// first, so nobody else sees the change.
    ///
    /// # Errors
    /// When memory is short.
    pub fn planes_mut(&mut self) -> Result<Vec<PlaneMut<'_>>, MediaError> {
        // SAFETY: a live frame; afterwards its buffers belong to it alone.
        unsafe { ff::check(ffi::av_frame_make_writable(self.0), || "frame copy".into())? };
        let mut planes = Vec::with_capacity(self.plane_count());
        for index in 0..self.plane_count() {
            let (layout, stride) = (self.layout(index), self.stride(index));
            let length = stride * layout.rows.saturating_sub(1) + layout.row_bytes;
            // SAFETY: as in `plane`; planes do not overlap, and the memory was made exclusive.
            let data = unsafe { std::slice::from_raw_parts_mut(self.raw().data[index], length) };
            planes.push(PlaneMut {
                data,
                stride,
                row_bytes: layout.row_bytes,
                rows: layout.rows,
            });
        }
        Ok(planes)
    }

    /// Whether both have the same pixels, format and size.
    pub fn shows_the_same(&self, other: &Self) -> bool {
        let shape = |frame: &Self| (frame.format(), frame.width(), frame.height());
        shape(self) == shape(other)
            && (self.planes().into_iter().zip(other.planes()))
                .all(|(ours, theirs)| ours.pixel_rows().eq(theirs.pixel_rows()))
    }

    /// The pixels of all planes one after the other, without padding between rows.
    pub fn to_packed(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for plane in self.planes() {
            for row in 0..plane.rows {
                let start = row * plane.stride;
                bytes.extend_from_slice(&plane.data[start..start + plane.row_bytes]);
            }
        }
        bytes
    }

    fn stride(&self, index: usize) -> usize {
        usize::try_from(self.raw().linesize[index]).unwrap_or(0)
    }

    fn layout(&self, index: usize) -> Layout {
        plane_layout(self.format(), self.width(), self.height(), index)
    }

    /// Whether planes can be seen as rows going downwards; what a decoder returns is asked this once.
    pub(crate) fn has_plain_planes(&self) -> bool {
        pixels::describe(self.format()).is_some_and(|d| d.plain)
            && (0..self.plane_count()).all(|i| {
                !self.raw().data[i].is_null() && self.stride(i) >= self.layout(i).row_bytes
            })
    }

    /// Calls FFmpeg's `yuvj` formats by their plain name and puts the range into the colour tags.
    pub(crate) fn normalise_format(&mut self) {
        let (format, range) = pixels::without_range(self.raw().format);
        if format.0 != self.raw().format {
            self.raw_mut().format = format.0;
            let colour = self.colour();
            self.set_colour(ColourTags { range, ..colour });
        }
    }

    /// Drops everything that is not pixels, time or geometry: captions, user data, motion vectors, tags.
    pub(crate) fn drop_side_data(&mut self) {
        // SAFETY: live and ours; each call removes the first entry and all others of its kind.
        unsafe {
            for _ in 0..(*self.0).nb_side_data {
                if (*self.0).nb_side_data > 0 {
                    let first = *(*self.0).side_data;
                    ffi::av_frame_remove_side_data(self.0, (*first).type_);
                }
            }
            ffi::av_dict_free(&raw mut (*self.0).metadata);
        }
    }

    /// Copies time, colour and shape from another frame, not its pixels.
    pub(crate) fn copy_properties(&mut self, from: &Self) {
        self.set_pts(from.pts());
        self.set_duration(from.duration());
        self.set_time_base(from.time_base());
        self.set_colour(from.colour());
        let (source, frame) = (from.raw(), self.0);
        // SAFETY: live and ours.
        unsafe {
            (*frame).sample_aspect_ratio = source.sample_aspect_ratio;
            (*frame).key_frame = source.key_frame;
            if (*frame).height == source.height {
                (*frame).interlaced_frame = source.interlaced_frame;
                (*frame).top_field_first = source.top_field_first;
            }
            (*frame).flags |= source.flags & ffi::AV_FRAME_FLAG_CORRUPT;
            (*frame).decode_error_flags = source.decode_error_flags;
        }
    }

    pub(crate) fn as_ptr(&self) -> *const ffi::AVFrame {
        self.0
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut ffi::AVFrame {
        self.0
    }

    pub(crate) fn raw(&self) -> &ffi::AVFrame {
        // SAFETY: never null, and live as long as self.
        unsafe { &*self.0 }
    }

    fn raw_mut(&mut self) -> &mut ffi::AVFrame {
        // SAFETY: as above, and exclusive.
        unsafe { &mut *self.0 }
    }
}

fn plane_layout(format: PixelFormat, width: u32, height: u32, index: usize) -> Layout {
    let (_, shift_down) = format.chroma_shift();
    let chroma = (index == 1 || index == 2) && !format.is_rgb();
    let rows = if chroma {
        height.div_ceil(1 << shift_down)
    } else {
        height
    };
    // SAFETY: only computes; refuses nonsense with a negative number.
    let row_bytes =
        unsafe { ffi::av_image_get_linesize(pixels::raw(format), int(width), int(index)) };
    Layout {
        row_bytes: usize::try_from(row_bytes).unwrap_or(0),
        rows: rows as usize,
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        // SAFETY: a live frame is only read; the answer is null or ours.
        let copy = unsafe { ffi::av_frame_clone(self.0) };
        assert!(!copy.is_null(), "out of memory for a frame reference");
        Self(copy)
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { ffi::av_frame_free(&mut self.0) };
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("size", &(self.width(), self.height()))
            .field("format", &self.format())
            .field("pts", &self.pts())
            .field("damaged", &self.is_damaged())
            .finish()
    }
}
