//! Matroska and WebM: elements in clusters in a segment (RFC 8794, RFC 9559).

use std::io;

use super::{break_at, take};
use crate::boxes::Bytes;

/// What holds the others: segment and cluster.
const SEGMENT: u32 = 0x1853_8067;
const CLUSTER: u32 = 0x1f43_b675;
/// All that may lie in them (RFC 9559, sections 5.1.1 to 5.1.8), and the EBML header.
const OTHERS: [u32; 17] = [
    0x1a45_dfa3, // EBML header
    0x114d_9b74, // SeekHead
    0x1549_a966, // Info
    0x1654_ae6b, // Tracks
    0x1c53_bb6b, // Cues
    0x1941_a469, // Attachments
    0x1043_a770, // Chapters
    0x1254_c367, // Tags
    0xec,        // Void
    0xbf,        // CRC-32
    0xe7,        // Timestamp
    0x5854,      // SilentTracks
    0xa7,        // Position
    0xab,        // PrevSize
    0xa3,        // SimpleBlock
    0xa0,        // BlockGroup
    0xaf,        // EncryptedBlock
];
/// Longest identifier and longest size together, bytes.
const LONGEST_HEADER: usize = 12;

/// Where the chain of elements breaks before the end of the segment.
pub(super) fn broken_at(data: &(impl Bytes + ?Sized)) -> io::Result<Option<u64>> {
    let length = data.length()?;
    let (mut at, mut segment_end, mut cluster_end) = (0, length, u64::MAX);
    while at < segment_end.min(length) {
        if at == cluster_end {
            cluster_end = u64::MAX;
        }
        let (bytes, have) = take::<LONGEST_HEADER>(data, at)?;
        let Some(element) = Element::of(&bytes[..have]) else {
            return match have < LONGEST_HEADER {
                true => Ok(None),
                false => break_at(data, at),
            };
        };
        let body = at + element.header;
        let end = element.size.map(|size| body.saturating_add(size));
        let in_cluster = cluster_end != u64::MAX;
        at = match (element.id, end) {
            (SEGMENT, end) => {
                segment_end = end.unwrap_or(length);
                body
            }
            (CLUSTER, end) if !in_cluster => {
                cluster_end = end.unwrap_or(u64::MAX);
                body
            }
            (id, Some(end)) if OTHERS.contains(&id) && end <= cluster_end => end,
            _ => return Ok(Some(at)),
        };
    }
    Ok(None)
}

/// The beginning of an element.
struct Element {
    id: u32,
    /// Bytes of identifier and size.
    header: u64,
    /// Bytes of what it holds; none where that is not known.
    size: Option<u64>,
}

impl Element {
    fn of(bytes: &[u8]) -> Option<Self> {
        let (id, id_length) = number(bytes, 4)?;
        let (marked, size_length) = number(&bytes[id_length..], 8)?;
        let unknown = (1_u64 << (7 * size_length)) - 1;
        let size = marked & unknown;
        Some(Self {
            id: u32::try_from(id).ok()?,
            header: (id_length + size_length) as u64,
            size: (size != unknown).then_some(size),
        })
    }
}

/// A number of variable length, its length marker included, and that length in bytes.
fn number(bytes: &[u8], longest: usize) -> Option<(u64, usize)> {
    let length = bytes.first()?.leading_zeros() as usize + 1;
    let bytes = bytes.get(..length).filter(|_| length <= longest)?;
    let value = bytes
        .iter()
        .fold(0, |value, &byte| value << 8 | u64::from(byte));
    Some((value, length))
}

#[cfg(test)]
mod tests {
    use super::super::with_byte;
    use super::*;

    fn check(bytes: &[u8]) -> Option<u64> {
        broken_at(bytes).expect("memory can be read")
    }

    /// A segment of unknown size with a cluster of five bytes and one of unknown size.
    const FILE: [u8; 36] = [
        0x1a, 0x45, 0xdf, 0xa3, 0x80, // EBML header
        0x18, 0x53, 0x80, 0x67, 0xff, // segment
        0x1f, 0x43, 0xb6, 0x75, 0x85, // cluster
        0xe7, 0x81, 7, 0xa3, 0x80, // its time, a block
        0x1f, 0x43, 0xb6, 0x75, 0x01, 255, 255, 255, 255, 255, 255, 255, // cluster
        0xa3, 0x82, 0, 0, // a block
    ];

    #[test]
    fn a_chain_is_followed_to_the_end() {
        assert_eq!(check(&FILE), None);
        for cut in 0..FILE.len() {
            assert_eq!(check(&FILE[..cut]), None, "cut short at {cut}");
        }
        assert_eq!(check(&[&FILE[..], &[0; 100_000]].concat()), None);
    }

    #[test]
    fn a_chain_that_breaks_is_noticed() {
        let file = [&FILE[..], &[0xa3, 0x8a], &[1; 10]].concat();
        let with = |at, byte| check(&with_byte(&file, at, byte));
        assert_eq!(with(0, 0x1a), None);
        assert_eq!(with(15, 0xe5), Some(15), "nothing that there is");
        assert_eq!(with(16, 0x8f), Some(15), "more than its cluster");
        assert_eq!(with(14, 0x8f), Some(20), "a cluster in a cluster");
        assert_eq!(with(33, 0x81), Some(35), "zeros, and something behind");
    }
}
