//! Splitting, joining and naming NAL units.

use std::borrow::Cow;

use crate::track::VideoCodec;

/// What a NAL unit carries, as far as this project cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NalKind {
    /// VPS, SPS, PPS (and H.264's SPS extension).
    ParameterSet,
    /// A slice of a picture; `key` if the picture is intra random access (IDR, or CRA and BLA of H.265).
    Slice {
        /// Intra random access point.
        key: bool,
    },
    /// Supplemental enhancement information.
    Sei,
    /// Access unit delimiter, end of sequence, filler.
    Marker,
    /// Anything else.
    Other,
}

/// Whether and how decoding can start at an access unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessPoint {
    /// IDR: nothing behind it refers to anything before it.
    Idr,
    /// CRA, BLA: decodable from here on, but leading pictures behind it may refer to before (open GOP).
    Open,
    /// Not a random access point.
    No,
}

/// What a NAL unit (without length or start code) carries. An empty one is [`NalKind::Other`].
pub fn nal_kind(codec: VideoCodec, unit: &[u8]) -> NalKind {
    let Some(&first) = unit.first() else {
        return NalKind::Other;
    };
    if codec == VideoCodec::H265 {
        return match (first >> 1) & 0x3f {
            0..=9 => NalKind::Slice { key: false },
            16..=21 => NalKind::Slice { key: true },
            32..=34 => NalKind::ParameterSet,
            39 | 40 => NalKind::Sei,
            35..=38 => NalKind::Marker,
            _ => NalKind::Other,
        };
    }
    match first & 0x1f {
        1..=4 => NalKind::Slice { key: false },
        5 => NalKind::Slice { key: true },
        6 => NalKind::Sei,
        7 | 8 | 13 | 15 => NalKind::ParameterSet,
        9..=12 => NalKind::Marker,
        _ => NalKind::Other,
    }
}

/// Whether an H.264 access unit holds the slices of one picture, with what every decoder knows beside them, and nothing
/// else: no second or redundant picture, no auxiliary one, no further layer or view, nothing private. A decoder that passes over
/// those says nothing of them.
pub fn is_one_plain_picture<'a>(units: impl Iterator<Item = &'a [u8]>) -> bool {
    let mut begins = 0;
    for unit in units {
        match unit.first().map(|first| first & 0x1f) {
            // A slice's header begins with the number of its first macroblock; 0 is the bit 1 (H.264, 7.3.3 and 9.1).
            Some(1 | 5) => begins += u32::from(unit.get(1).is_some_and(|bits| bits & 0x80 != 0)),
            Some(6..=12) => {}
            _ => return false,
        }
    }
    begins == 1
}

/// Whether a slice of an H.264 access unit may refer to pictures shown later (B).
pub fn is_bidirectional<'a>(mut units: impl Iterator<Item = &'a [u8]>) -> bool {
    units.any(|unit| {
        let slice = matches!(
            nal_kind(VideoCodec::H264, unit),
            NalKind::Slice { key: false }
        );
        // Two numbers of at most five bytes each: the first macroblock and the type (H.264, 7.3.3, 7.4.3).
        let header = super::bits::unescape(&unit[1.min(unit.len())..unit.len().min(16)]);
        let mut bits = super::bits::Bits::new(&header);
        slice
            && bits
                .ue()
                .and_then(|_| bits.ue())
                .is_some_and(|kind| kind % 5 == 1)
    })
}

/// Whether and how decoding can start at this access unit.
pub fn access_point<'a>(codec: VideoCodec, units: impl Iterator<Item = &'a [u8]>) -> AccessPoint {
    for unit in units {
        match nal_kind(codec, unit) {
            NalKind::Slice { key: false } => return AccessPoint::No,
            NalKind::Slice { key: true } if codec == VideoCodec::H265 => {
                let idr = matches!((unit[0] >> 1) & 0x3f, 19 | 20);
                return if idr {
                    AccessPoint::Idr
                } else {
                    AccessPoint::Open
                };
            }
            NalKind::Slice { key: true } => return AccessPoint::Idr,
            _ => {}
        }
    }
    AccessPoint::No
}

/// The NAL units of length-prefixed data. Ends at the first length that does not fit.
pub fn length_prefixed_units(length_size: usize, data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (unit, behind) = split_first(length_size, rest)?;
        rest = behind;
        Some(unit)
    })
}

fn split_first(length_size: usize, data: &[u8]) -> Option<(&[u8], &[u8])> {
    if length_size == 0 || length_size > 4 {
        return None;
    }
    let (length, rest) = data.split_at_checked(length_size)?;
    let length = length
        .iter()
        .fold(0usize, |value, byte| (value << 8) | usize::from(*byte));
    rest.split_at_checked(length)
}

/// Whether the lengths fit the data exactly and every unit has a header: what a torn or zeroed sample fails.
pub fn is_well_formed(length_size: usize, data: &[u8]) -> bool {
    let mut rest = data;
    while let Some((unit, behind)) = split_first(length_size, rest) {
        // forbidden_zero_bit must be 0 in both codecs.
        if unit.first().is_none_or(|byte| byte & 0x80 != 0) {
            return false;
        }
        rest = behind;
    }
    rest.is_empty() && !data.is_empty()
}

/// The NAL units between start codes (`00 00 01`), without trailing zeros. Bytes before the first start
/// code are not part of any.
pub fn annex_b_units(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = find_start_code(data, 0).map(|at| at + 3);
    std::iter::from_fn(move || {
        loop {
            let from = start?;
            let next = find_start_code(data, from);
            start = next.map(|at| at + 3);
            let unit = &data[from..next.unwrap_or(data.len())];
            let end = unit
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1);
            if end > 0 {
                return Some(&unit[..end]);
            }
        }
    })
}

fn find_start_code(data: &[u8], from: usize) -> Option<usize> {
    data.get(from..)?
        .windows(3)
        .position(|three| three == [0, 0, 1])
        .map(|at| from + at)
}

/// NAL units with a 4-byte length before each.
pub fn to_length_prefixed<'a>(units: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut data = Vec::new();
    for unit in units {
        data.extend_from_slice(&u32::try_from(unit.len()).unwrap_or(u32::MAX).to_be_bytes());
        data.extend_from_slice(unit);
    }
    data
}

/// NAL units with a start code (`00 00 00 01`) before each.
pub fn to_annex_b<'a>(units: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut data = Vec::new();
    for unit in units {
        data.extend_from_slice(&[0, 0, 0, 1]);
        data.extend_from_slice(unit);
    }
    data
}

/// A length-prefixed access unit without the units that `drop` picks; its own length size is kept.
/// Borrowed if there was nothing to drop.
pub fn without(
    codec: VideoCodec,
    length_size: usize,
    data: &[u8],
    drop: impl Fn(NalKind, &[u8]) -> bool,
) -> Cow<'_, [u8]> {
    if !length_prefixed_units(length_size, data).any(|unit| drop(nal_kind(codec, unit), unit)) {
        return Cow::Borrowed(data);
    }
    let mut kept = Vec::with_capacity(data.len());
    for unit in length_prefixed_units(length_size, data) {
        if !drop(nal_kind(codec, unit), unit) {
            let length = (unit.len() as u64).to_be_bytes();
            kept.extend_from_slice(&length[8 - length_size..]);
            kept.extend_from_slice(unit);
        }
    }
    Cow::Owned(kept)
}

/// Whether a SEI unit holds a user data message (payload type 4, registered, or 5, unregistered). What
/// cannot be read counts as user data.
pub(super) fn has_user_data(codec: VideoCodec, unit: &[u8]) -> bool {
    has_message(codec, unit, |kind| kind == 4 || kind == 5)
}

/// Whether a SEI unit of H.264 tells decoders when to show pictures and where to begin, and nothing else: buffering period (0),
/// picture timing (1), recovery point (6).
pub(super) fn is_timing(unit: &[u8]) -> bool {
    !has_message(VideoCodec::H264, unit, |kind| !matches!(kind, 0 | 1 | 6))
}

/// Whether an H.264 access unit tells players to turn its picture (SEI message 47, display orientation). What cannot be read
/// counts as that.
pub fn is_turned<'a>(mut units: impl Iterator<Item = &'a [u8]>) -> bool {
    let codec = VideoCodec::H264;
    units.any(|unit| {
        nal_kind(codec, unit) == NalKind::Sei && has_message(codec, unit, |kind| kind == 47)
    })
}

/// Whether a SEI unit holds a message that `is` says yes to by its payload type, or one that cannot be read.
fn has_message(codec: VideoCodec, unit: &[u8], is: impl Fn(usize) -> bool) -> bool {
    let header = if codec == VideoCodec::H265 { 2 } else { 1 };
    let payload = super::bits::unescape(unit.get(header..).unwrap_or_default());
    let mut rest = payload.as_slice();
    // The last byte is the stop bit; a message takes at least two bytes.
    while rest.len() > 2 {
        let Some((kind, behind)) = sei_number(rest) else {
            return true;
        };
        let Some((size, behind)) = sei_number(behind) else {
            return true;
        };
        if is(kind) {
            return true;
        }
        let Some(behind) = behind.get(size..) else {
            return true;
        };
        rest = behind;
    }
    false
}

fn sei_number(data: &[u8]) -> Option<(usize, &[u8])> {
    let full = data.iter().take_while(|byte| **byte == 0xff).count();
    let last = data.get(full)?;
    Some((full * 255 + usize::from(*last), &data[full + 1..]))
}
