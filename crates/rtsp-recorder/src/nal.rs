//! Where a stream may be cut: a look at the NAL units of a frame.
//!
//! retina only calls an IDR a random access point. H.265 cameras with open GOPs send one IDR and then CRA pictures
//! for ever, H.264 ones an I picture with a recovery point message; without a test of our own such a stream would
//! never be cut. Input is foreign: every length is checked, nothing is assumed.

/// How a frame's payload is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// H.264, each NAL unit behind its length in four bytes, big endian.
    H264,
    /// H.265, likewise.
    H265,
    /// Every frame stands for itself (MJPEG), or the key flag of the container is all there is.
    Other,
}

/// Whether decoding can start at a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Entry {
    /// No: the frame needs earlier ones.
    None,
    /// Yes, but frames that follow it and are shown before it may need earlier ones, and orders to forget earlier ones,
    /// which B-frames come with, are errors there (recovery point of H.264).
    Recovery,
    /// Yes, but frames that follow it and are shown before it may need earlier ones (CRA).
    Open,
    /// Yes, and nothing after it needs anything before it (IDR, BLA without leading pictures).
    Clean,
}

/// Classifies a frame with length-prefixed NAL units. `flagged_key` is what the source of the frame says, which holds where
/// the frame does not say more: FFmpeg flags all of these.
pub fn entry(coding: Coding, data: &[u8], flagged_key: bool) -> Entry {
    let found = match coding {
        Coding::H264 => NalUnits(data).map(h264_entry).max(),
        Coding::H265 => NalUnits(data).map(h265_entry).max(),
        Coding::Other => None,
    };
    match found {
        None | Some(Entry::None) if flagged_key => Entry::Clean,
        found => found.unwrap_or(Entry::None),
    }
}

/// Whether a frame follows an entry point and is shown before it, as H.265 marks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leading {
    /// Not marked.
    No,
    /// It needs nothing from before the entry point (RADL).
    Decodable,
    /// It needs pictures from before the entry point; a decoder that begins there drops it (RASL).
    Dropped,
}

/// Table 7-1 of H.265: 6 and 7 are RADL, 8 and 9 RASL. H.264 has no such mark.
pub fn leading(coding: Coding, data: &[u8]) -> Leading {
    if coding != Coding::H265 {
        return Leading::No;
    }
    let of_nal = |nal: &[u8]| match nal.first().map(|header| (header >> 1) & 0x3f) {
        Some(6 | 7) => Leading::Decodable,
        Some(8 | 9) => Leading::Dropped,
        _ => Leading::No,
    };
    NalUnits(data).map(of_nal).max().unwrap_or(Leading::No)
}

/// Table 7-1 of H.264: 5 is an IDR slice, 6 an SEI message.
fn h264_entry(nal: &[u8]) -> Entry {
    match nal.first().map(|header| header & 0x1f) {
        Some(5) => Entry::Clean,
        Some(6) if has_recovery_point(&nal[1..]) => Entry::Recovery,
        _ => Entry::None,
    }
}

/// Table 7-1 of H.265: 16..=18 BLA, 19 and 20 IDR, 21 CRA.
fn h265_entry(nal: &[u8]) -> Entry {
    match nal.first().map(|header| (header >> 1) & 0x3f) {
        Some(18..=20) => Entry::Clean,
        Some(16 | 17 | 21) => Entry::Open,
        _ => Entry::None,
    }
}

/// True when the SEI payload (after the NAL header) holds a recovery point whose recovery takes no frames.
///
/// H.264 D.1.8: payload type 6, first `ue(v)` is `recovery_frame_cnt`; a leading one bit means 0.
fn has_recovery_point(mut sei: &[u8]) -> bool {
    while let Some((kind, rest)) = sei_number(sei) {
        let Some((size, rest)) = sei_number(rest) else {
            return false;
        };
        if kind == 6 {
            return rest.first().is_some_and(|byte| byte & 0x80 != 0);
        }
        let Some(next) = rest.get(size..) else {
            return false;
        };
        sei = next;
    }
    false
}

/// One number of an SEI header: 255s are added up, the first other byte ends it.
fn sei_number(data: &[u8]) -> Option<(usize, &[u8])> {
    let run = data.iter().take_while(|byte| **byte == 0xff).count();
    let last = data.get(run)?;
    Some((run * 255 + usize::from(*last), &data[run + 1..]))
}

/// The NAL units of a frame; stops at the first length that does not fit.
struct NalUnits<'a>(&'a [u8]);

impl<'a> Iterator for NalUnits<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let nal = rest.get(..length)?;
        self.0 = &rest[length..];
        Some(nal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(nals: &[&[u8]]) -> Vec<u8> {
        let with_length = |nal: &&[u8]| [&(nal.len() as u32).to_be_bytes()[..], nal].concat();
        nals.iter().flat_map(with_length).collect()
    }

    #[test]
    fn h264_idr_recovery_point_and_the_rest() {
        let check = |nals: &[&[u8]]| entry(Coding::H264, &frame(nals), false);
        assert_eq!(check(&[&[0x09, 0xf0], &[0x65, 1, 2]]), Entry::Clean);
        assert_eq!(check(&[&[0x41, 1]]), Entry::None);
        let recovery = [0x06, 6, 1, 0xc4, 0x80];
        assert_eq!(check(&[&recovery, &[0x41, 1]]), Entry::Recovery);
        let behind_another = [0x06, 5, 2, 9, 9, 6, 1, 0xc4, 0x80];
        assert_eq!(check(&[&behind_another, &[0x41, 1]]), Entry::Recovery);
        let flagged = entry(Coding::H264, &frame(&[&recovery, &[0x41, 1]]), true);
        assert_eq!(flagged, Entry::Recovery);
        assert_eq!(
            entry(Coding::H264, &frame(&[&[0x41, 1]]), true),
            Entry::Clean
        );
        // Gradual refresh over several frames is no place to start.
        assert_eq!(check(&[&[0x06, 6, 1, 0x24, 0x80], &[0x41, 1]]), Entry::None);
    }

    #[test]
    fn h265_cra_counts_and_idr_is_clean() {
        let check = |kind: u8| entry(Coding::H265, &frame(&[&[kind << 1, 1, 7]]), false);
        assert_eq!(
            (check(19), check(20), check(21)),
            (Entry::Clean, Entry::Clean, Entry::Open)
        );
        let flagged = |kind: u8| entry(Coding::H265, &frame(&[&[kind << 1, 1, 7]]), true);
        assert_eq!((flagged(19), flagged(21)), (Entry::Clean, Entry::Open));
        assert_eq!(entry(Coding::Other, b"jpeg", true), Entry::Clean);
        assert_eq!(
            (check(1), check(9), check(16)),
            (Entry::None, Entry::None, Entry::Open)
        );
    }

    #[test]
    fn leading_pictures_are_marked_in_h265_only() {
        let rasl = frame(&[&[35 << 1, 1], &[8 << 1, 1, 7]]);
        assert_eq!(leading(Coding::H265, &rasl), Leading::Dropped);
        let radl = frame(&[&[6 << 1, 1, 7]]);
        assert_eq!(leading(Coding::H265, &radl), Leading::Decodable);
        let trailing = frame(&[&[1 << 1, 1, 7]]);
        assert_eq!(leading(Coding::H265, &trailing), Leading::No);
        assert_eq!(leading(Coding::H264, &rasl), Leading::No);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            entry(Coding::H264, &data, false);
            entry(Coding::H265, &data, false);
            leading(Coding::H265, &data);
            has_recovery_point(&data);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), key: bool) {
            for coding in [Coding::H264, Coding::H265, Coding::Other] {
                entry(coding, &data, key);
                leading(coding, &data);
            }
        }
    }
}
