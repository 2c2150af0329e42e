//! Taking H.264 and H.265 access units apart into NAL units, and the few header bits needed.
//!
//! Sources: ITU-T H.264 annex B and table 7-1, H.265 annex B and table 7-1, ISO/IEC 14496-15 (`avcC`, `hvcC`).

use bytes::Bytes;
use md5::{Digest as _, Md5};

/// The two codecs the cameras speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VideoCodec {
    /// H.264 / AVC.
    H264,
    /// H.265 / HEVC.
    H265,
}

impl VideoCodec {
    /// The NAL unit type in the first header byte.
    pub(crate) fn nal_type(self, nal: &[u8]) -> u8 {
        let first = nal.first().copied().unwrap_or_default();
        match self {
            Self::H264 => first & 0x1f,
            Self::H265 => (first >> 1) & 0x3f,
        }
    }

    /// Whether the NAL unit carries picture samples (a slice).
    pub(crate) fn is_slice(self, nal: &[u8]) -> bool {
        match self {
            Self::H264 => matches!(self.nal_type(nal), 1..=5),
            Self::H265 => self.nal_type(nal) < 32,
        }
    }

    /// Whether the slice is of a picture that a decoder can start with (IDR; for H.265 any IRAP).
    pub(crate) fn is_random_access(self, nal: &[u8]) -> bool {
        match self {
            Self::H264 => self.nal_type(nal) == 5,
            Self::H265 => matches!(self.nal_type(nal), 16..=23),
        }
    }

    /// The slot of a parameter set: VPS 0 (H.265 only), SPS 1, PPS 2.
    pub(crate) fn parameter_slot(self, nal: &[u8]) -> Option<usize> {
        match (self, self.nal_type(nal)) {
            (Self::H264, 7) | (Self::H265, 33) => Some(1),
            (Self::H264, 8) | (Self::H265, 34) => Some(2),
            (Self::H265, 32) => Some(0),
            _ => None,
        }
    }

    /// Access unit delimiters and filler: noise that cameras do not put on the wire.
    pub(crate) fn is_padding(self, nal: &[u8]) -> bool {
        match self {
            Self::H264 => matches!(self.nal_type(nal), 9..=12),
            Self::H265 => matches!(self.nal_type(nal), 35..=38),
        }
    }
}

/// The parameter sets in force, each slot a list since a stream may have several PPS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ParameterSets {
    slots: [Vec<Bytes>; 3],
}

impl ParameterSets {
    /// VPS (H.265), then SPS, then PPS: the order in which they must be sent.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &Bytes> {
        self.slots.iter().flatten()
    }

    pub(crate) fn vps(&self) -> &[Bytes] {
        &self.slots[0]
    }

    pub(crate) fn sps(&self) -> &[Bytes] {
        &self.slots[1]
    }

    pub(crate) fn pps(&self) -> &[Bytes] {
        &self.slots[2]
    }

    /// Takes in the sets among `nals`. A slot that appears anew replaces the old sets of that slot.
    pub(crate) fn update(&mut self, codec: VideoCodec, nals: &[Bytes]) {
        let mut fresh: [Vec<Bytes>; 3] = Default::default();
        for nal in nals {
            if let Some(slot) = codec.parameter_slot(nal)
                && !fresh[slot].contains(nal)
            {
                fresh[slot].push(nal.clone());
            }
        }
        for (old, new) in self.slots.iter_mut().zip(fresh) {
            if !new.is_empty() {
                *old = new;
            }
        }
    }
}

/// How NAL units are delimited in a container's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    StartCodes,
    /// Big-endian length prefix of that many bytes (1..=4).
    Lengths(usize),
}

/// Reads codec extradata (`avcC`, `hvcC` or start codes): the framing and the parameter sets' NAL units.
/// Truncated data yields what could be read.
pub(crate) fn parse_extradata(codec: VideoCodec, extradata: &[u8]) -> (Framing, Vec<Bytes>) {
    if extradata.first() != Some(&1) {
        return (Framing::StartCodes, split_start_codes(extradata));
    }
    let size_at = match codec {
        VideoCodec::H264 => 4,
        VideoCodec::H265 => 21,
    };
    let size = extradata.get(size_at).map_or(4, |b| usize::from(b & 3) + 1);
    let sets = match codec {
        VideoCodec::H264 => avcc_sets(extradata),
        VideoCodec::H265 => hvcc_sets(extradata),
    };
    (Framing::Lengths(size), sets.unwrap_or_default())
}

fn avcc_sets(data: &[u8]) -> Option<Vec<Bytes>> {
    let mut sets = Vec::new();
    let sps_count = data.get(5)? & 0x1f;
    let mut rest = data.get(6..)?;
    for _ in 0..sps_count {
        sets.push(take_u16_prefixed(&mut rest)?);
    }
    let (pps_count, mut rest) = rest.split_first()?;
    for _ in 0..*pps_count {
        sets.push(take_u16_prefixed(&mut rest)?);
    }
    Some(sets)
}

fn hvcc_sets(data: &[u8]) -> Option<Vec<Bytes>> {
    let mut sets = Vec::new();
    let arrays = *data.get(22)?;
    let mut rest = data.get(23..)?;
    for _ in 0..arrays {
        let (head, tail) = rest.split_at_checked(3)?;
        rest = tail;
        for _ in 0..u16::from_be_bytes([head[1], head[2]]) {
            sets.push(take_u16_prefixed(&mut rest)?);
        }
    }
    Some(sets)
}

fn take_u16_prefixed(rest: &mut &[u8]) -> Option<Bytes> {
    let (length, tail) = rest.split_first_chunk::<2>()?;
    let (value, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    *rest = tail;
    Some(Bytes::copy_from_slice(value))
}

/// The NAL units of one packet; empty ones are left out, a truncated last one too.
pub(crate) fn split(framing: Framing, data: &[u8]) -> Vec<Bytes> {
    match framing {
        Framing::StartCodes => split_start_codes(data),
        Framing::Lengths(size) => split_lengths(data, size),
    }
}

fn split_lengths(mut data: &[u8], size: usize) -> Vec<Bytes> {
    let mut nals = Vec::new();
    while let Some((prefix, tail)) = data.split_at_checked(size) {
        let length = prefix
            .iter()
            .fold(0usize, |n, b| (n << 8) | usize::from(*b));
        let Some((nal, tail)) = tail.split_at_checked(length) else {
            break;
        };
        if !nal.is_empty() {
            nals.push(Bytes::copy_from_slice(nal));
        }
        data = tail;
    }
    nals
}

fn split_start_codes(data: &[u8]) -> Vec<Bytes> {
    let mut nals = Vec::new();
    let mut start = None;
    let mut i = 0;
    while i + 3 <= data.len() {
        if data[i..i + 3] == [0, 0, 1] {
            push_trimmed(&mut nals, start.map(|s| &data[s..i]));
            start = Some(i + 3);
            i += 3;
        } else {
            i += 1;
        }
    }
    push_trimmed(&mut nals, start.map(|s| &data[s..]));
    nals
}

/// Zeros before the next start code are not part of the NAL unit (`trailing_zero_8bits`).
fn push_trimmed(nals: &mut Vec<Bytes>, nal: Option<&[u8]>) {
    let Some(nal) = nal else { return };
    let end = nal.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    if end > 0 {
        nals.push(Bytes::copy_from_slice(&nal[..end]));
    }
}

/// Lower-case hex MD5 over the slices of one access unit, in order and without framing. Parameter sets,
/// delimiters and SEI may be added or dropped on the way; slices may not, so this identifies a frame.
#[must_use]
pub fn slices_md5<'a>(codec: VideoCodec, nals: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Md5::new();
    for nal in nals {
        if codec.is_slice(nal) {
            hash.update(nal);
        }
    }
    crate::hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_codes_and_lengths_give_the_same_nals() {
        let a = split(
            Framing::StartCodes,
            &[0, 0, 0, 1, 0x67, 1, 0, 0, 1, 0x65, 0, 2, 0, 0],
        );
        let b = split(
            Framing::Lengths(2),
            &[0, 2, 0x67, 1, 0, 3, 0x65, 0, 2, 0, 9, 1],
        );
        assert_eq!(a, b);
        assert_eq!(a.len(), 2);
    }

    #[test]
    fn truncated_extradata_is_no_panic() {
        let avcc = [1, 66, 0, 30, 0xff, 0xe1, 0, 2, 0x67, 66, 1, 0, 1, 0x68];
        let (framing, sets) = parse_extradata(VideoCodec::H264, &avcc);
        assert_eq!((framing, sets.len()), (Framing::Lengths(4), 2));
        for end in 0..avcc.len() {
            parse_extradata(VideoCodec::H264, &avcc[..end]);
            parse_extradata(VideoCodec::H265, &avcc[..end]);
        }
    }

    #[test]
    fn a_new_sps_replaces_the_old_and_leaves_the_pps() {
        let nal = |b: &'static [u8]| Bytes::from_static(b);
        let mut sets = ParameterSets::default();
        sets.update(
            VideoCodec::H264,
            &[nal(&[0x67, 1]), nal(&[0x68, 1]), nal(&[0x68, 2])],
        );
        sets.update(VideoCodec::H264, &[nal(&[0x67, 2]), nal(&[0x65, 2])]);
        let all: Vec<_> = sets.in_order().cloned().collect();
        assert_eq!(all, [nal(&[0x67, 2]), nal(&[0x68, 1]), nal(&[0x68, 2])]);
    }

    proptest::proptest! {
        #[test]
        fn no_packet_makes_it_panic(mut data: Vec<u8>, size in 1usize..5) {
            split(Framing::StartCodes, &data);
            split(Framing::Lengths(size), &data);
            data.insert(0, 1);
            parse_extradata(VideoCodec::H264, &data);
            parse_extradata(VideoCodec::H265, &data);
        }
    }
}
