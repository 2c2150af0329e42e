//! One compressed frame (an access unit) with its times.

use std::fmt;
use std::ptr;

use ffmpeg_next::ffi;

use crate::error::MediaError;
use crate::ff::{self, NO_TIME, int, time};
use crate::track::Rational;

/// A compressed frame. Its bytes are counted references: taking one from a file copies nothing.
pub struct Packet(*mut ffi::AVPacket);

// SAFETY: packets own counted references to memory; the counts are atomic, nothing is tied to a thread.
unsafe impl Send for Packet {}
// SAFETY: through a shared reference everything is only read.
unsafe impl Sync for Packet {}

impl Packet {
    pub(crate) fn empty() -> Result<Self, MediaError> {
        // SAFETY: returns null or a packet that is ours.
        let packet = unsafe { ffi::av_packet_alloc() };
        if packet.is_null() {
            Err(ff::no_memory("packet"))
        } else {
            Ok(Self(packet))
        }
    }

    /// A packet with a copy of `data`, without times, of track 0.
    ///
    /// # Errors
    /// When memory is short.
    pub fn new(data: &[u8], time_base: Rational) -> Result<Self, MediaError> {
        let mut packet = Self::empty()?;
        // SAFETY: av_new_packet gives `data.len()` writable bytes (and padding) on success.
        unsafe {
            ff::check(ffi::av_new_packet(packet.0, int(data.len())), || {
                "packet".into()
            })?;
            ptr::copy_nonoverlapping(data.as_ptr(), (*packet.0).data, data.len());
        }
        packet.set_time_base(time_base);
        Ok(packet)
    }

    /// The compressed bytes.
    pub fn data(&self) -> &[u8] {
        let packet = self.raw();
        match usize::try_from(packet.size) {
            // SAFETY: a packet's data is readable for `size` bytes while the packet lives.
            Ok(size) if size > 0 && !packet.data.is_null() => unsafe {
                std::slice::from_raw_parts(packet.data, size)
            },
            _ => &[],
        }
    }

    /// Puts other bytes in place of the present ones; times and flags stay.
    ///
    /// # Errors
    /// When memory is short.
    pub fn replace_data(&mut self, data: &[u8]) -> Result<(), MediaError> {
        let other = Self::new(data, self.time_base())?;
        // SAFETY: both are live packets of ours; swapping buffer, pointer and size together keeps each
        // packet's three in step.
        unsafe {
            ptr::swap(&raw mut (*self.0).buf, &raw mut (*other.0).buf);
            ptr::swap(&raw mut (*self.0).data, &raw mut (*other.0).data);
            ptr::swap(&raw mut (*self.0).size, &raw mut (*other.0).size);
        }
        Ok(())
    }

    /// Presentation time in ticks of [`Self::time_base`].
    pub fn pts(&self) -> Option<i64> {
        time(self.raw().pts)
    }

    /// Decoding time in ticks of [`Self::time_base`].
    pub fn dts(&self) -> Option<i64> {
        time(self.raw().dts)
    }

    /// Duration in ticks; 0 if not known.
    pub fn duration(&self) -> i64 {
        self.raw().duration
    }

    /// Seconds per tick of this packet's times.
    pub fn time_base(&self) -> Rational {
        self.raw().time_base.into()
    }

    /// Index of the track it belongs to.
    pub fn track(&self) -> usize {
        usize::try_from(self.raw().stream_index).unwrap_or(0)
    }

    /// Whether decoding can start here, as the container or encoder says. In H.265 that includes CRA,
    /// after which frames of the GOP before may be missing: see [`crate::h26x`] for the strict test.
    pub fn is_key(&self) -> bool {
        self.raw().flags & ffi::AV_PKT_FLAG_KEY != 0
    }

    /// Whether the demuxer marked it as damaged.
    pub fn is_corrupt(&self) -> bool {
        self.raw().flags & ffi::AV_PKT_FLAG_CORRUPT != 0
    }

    /// Whether it must be decoded but its frame not be shown (outside the container's edit list).
    pub fn is_discarded(&self) -> bool {
        self.raw().flags & ffi::AV_PKT_FLAG_DISCARD != 0
    }

    /// New parameter sets that take effect with this packet, if the stream changes here.
    pub fn new_extradata(&self) -> Option<&[u8]> {
        let kind = ffi::AVPacketSideDataType::AV_PKT_DATA_NEW_EXTRADATA;
        // SAFETY: the answer is null or `size` bytes owned by the packet.
        unsafe {
            let mut size = 0usize;
            let data = ffi::av_packet_get_side_data(self.0, kind, &mut size);
            (!data.is_null() && size > 0).then(|| std::slice::from_raw_parts(data, size))
        }
    }

    /// Sets presentation time, decoding time and duration, in ticks of [`Self::time_base`].
    pub fn set_times(&mut self, pts: Option<i64>, dts: Option<i64>, duration: i64) {
        let packet = self.raw_mut();
        packet.pts = pts.unwrap_or(NO_TIME);
        packet.dts = dts.unwrap_or(NO_TIME);
        packet.duration = duration;
    }

    /// Says in which time base the times are; does not convert them.
    pub fn set_time_base(&mut self, time_base: Rational) {
        self.raw_mut().time_base = time_base.into();
    }

    /// Sets the index of the track.
    pub fn set_track(&mut self, track: usize) {
        self.raw_mut().stream_index = int(track);
    }

    /// Sets or clears the key mark.
    pub fn set_key(&mut self, key: bool) {
        let packet = self.raw_mut();
        packet.flags =
            (packet.flags & !ffi::AV_PKT_FLAG_KEY) | (i32::from(key) * ffi::AV_PKT_FLAG_KEY);
    }

    /// Another reference to the same bytes.
    ///
    /// # Errors
    /// When memory is short.
    pub fn try_clone(&self) -> Result<Self, MediaError> {
        let copy = Self::empty()?;
        // SAFETY: both are live packets; the source is only read.
        unsafe { ff::check(ffi::av_packet_ref(copy.0, self.0), || "packet".into())? };
        Ok(copy)
    }

    pub(crate) fn as_ptr(&self) -> *const ffi::AVPacket {
        self.0
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut ffi::AVPacket {
        self.0
    }

    fn raw(&self) -> &ffi::AVPacket {
        // SAFETY: never null, and live as long as self.
        unsafe { &*self.0 }
    }

    fn raw_mut(&mut self) -> &mut ffi::AVPacket {
        // SAFETY: as above, and exclusive.
        unsafe { &mut *self.0 }
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { ffi::av_packet_free(&mut self.0) };
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packet")
            .field("track", &self.track())
            .field("pts", &self.pts())
            .field("dts", &self.dts())
            .field("duration", &self.duration())
            .field("key", &self.is_key())
            .field("bytes", &self.data().len())
            .finish()
    }
}
