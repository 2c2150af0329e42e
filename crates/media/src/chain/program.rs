//! MPEG program stream, as DVDs and many video recorders write it: packs, and packets with their lengths (ISO/IEC 13818-1, 2.5.3;
//! ISO/IEC 11172-1, 2.4.3).

use std::io;

use super::{break_at, take};
use crate::boxes::{Bytes, fill};

const END: u8 = 0xb9;
const PACK: u8 = 0xba;
/// Zeros that may lie between two packets: Video CDs fill up their sectors of sound.
const LONGEST_FILLING: usize = 32;
/// The first pack lies before this; some recorders put a header of their own before it.
const LONGEST_LEAD: usize = 1 << 16;

/// Where neither a pack nor a packet follows.
pub(super) fn broken_at(data: &(impl Bytes + ?Sized)) -> io::Result<Option<u64>> {
    let length = data.length()?;
    let Some(mut at) = first_pack(data, 0)? else {
        return break_at(data, 0);
    };
    while at < length {
        let (bytes, have) = take::<14>(data, at)?;
        if have < 4 {
            break;
        }
        let size = match (bytes[..3] == [0, 0, 1], bytes[3]) {
            (true, END) => 4,
            (true, PACK) if have < bytes.len() => break,
            (true, PACK) if bytes[4] >> 6 == 1 => 14 + u64::from(bytes[13] & 7),
            (true, PACK) if bytes[4] >> 4 == 2 => 12,
            (true, PACK..) => 6 + u64::from(u16::from_be_bytes([bytes[4], bytes[5]])),
            _ => match filling(data, at)? {
                0 => return break_at(data, at),
                filling => filling,
            },
        };
        if at + size > length && first_pack(data, at + 4)?.is_some() {
            return Ok(Some(at));
        }
        at += size;
    }
    Ok(None)
}

/// How many zeros lie at an offset before the next pack or packet; none where there is none.
fn filling(data: &(impl Bytes + ?Sized), at: u64) -> io::Result<u64> {
    let (bytes, have) = take::<{ LONGEST_FILLING + 4 }>(data, at)?;
    // The beginning of a packet's code are two zeros more.
    let zeros = bytes[..have].iter().take_while(|byte| **byte == 0).count();
    let next = zeros.saturating_sub(2);
    let is_packet = matches!(&bytes[next..have], [0, 0, 1, kind, ..] if *kind >= END);
    Ok(if is_packet { next as u64 } else { 0 })
}

/// Where the first pack at or behind `from` begins.
fn first_pack(data: &(impl Bytes + ?Sized), from: u64) -> io::Result<Option<u64>> {
    let mut head = vec![0; LONGEST_LEAD];
    let have = fill(data, &mut head, from)?;
    let at = head[..have]
        .windows(4)
        .position(|window| window == [0, 0, 1, PACK]);
    Ok(at.map(|at| from + at as u64))
}

#[cfg(test)]
mod tests {
    use super::super::with_byte;
    use super::*;

    fn check(bytes: &[u8]) -> Option<u64> {
        broken_at(bytes).expect("memory can be read")
    }

    /// One pack of MPEG-2 with stuffing, one of MPEG-1, and packets.
    fn stream() -> Vec<u8> {
        let packet = |kind: u8| [&[0, 0, 1, kind, 0, 20], &[kind; 20][..]].concat();
        let second = [&[0, 0, 1, PACK, 0x44], &[0; 8][..], &[0xf9, 0xff]].concat();
        let first = [&[0, 0, 1, PACK, 0x21], &[0; 7][..]].concat();
        let system = packet(0xbb);
        [
            second,
            system,
            packet(0xe0),
            first,
            packet(0xc0),
            packet(0xe0),
        ]
        .concat()
    }

    #[test]
    fn packets_are_followed_to_the_end() {
        let stream = stream();
        for cut in 4..=stream.len() {
            assert_eq!(check(&stream[..cut]), None, "cut short at {cut}");
        }
        let end = [0, 0, 1, END];
        assert_eq!(check(&[&stream[..], &end, &stream].concat()), None);
        let filled = [&stream[..], &[0; 20], &stream].concat();
        assert_eq!(check(&filled), None);
        assert_eq!(
            check(&[b"IMKH and more", &stream[..], &[0; 9000]].concat()),
            None
        );
    }

    #[test]
    fn what_is_no_packet_is_noticed() {
        let stream = stream();
        let with = |at, byte| check(&with_byte(&stream, at, byte));
        assert_eq!(with(41, 1), Some(41), "no start code");
        assert_eq!(with(44, 0xb3), Some(41), "no packet");
        assert_eq!(with(20, 21), Some(42), "another length");
        assert_eq!(with(20, 255), Some(15), "beyond the end");
        assert_eq!(with(50, 7), None, "what a packet holds");
        assert_eq!(
            check(&[&stream[..], &[0; 40], &stream].concat()),
            Some(stream.len() as u64),
            "more zeros than are usual"
        );
        assert_eq!(check(&[1; 5000]), Some(0));
    }
}
