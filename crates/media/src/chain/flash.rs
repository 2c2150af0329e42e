//! FLV: tags, each followed by its size (Adobe Flash Video File Format Specification 10.1, annex E.3 and E.4).

use std::io;

use super::{break_at, take};
use crate::boxes::{Bytes, fill};

/// Type, size, time and stream of a tag.
const HEADER: u64 = 11;
/// The size behind a tag.
const BEHIND: u64 = 4;

/// Where the chain of tags breaks.
pub(super) fn broken_at(data: &(impl Bytes + ?Sized)) -> io::Result<Option<u64>> {
    let length = data.length()?;
    let (head, _) = take::<9>(data, 0)?;
    let mut at = u64::from(u32::from_be_bytes([head[5], head[6], head[7], head[8]])) + BEHIND;
    while at < length {
        let (bytes, have) = take::<{ HEADER as usize }>(data, at)?;
        if have < bytes.len() {
            return Ok(None);
        }
        let Some(size) = size_of(bytes) else {
            return break_at(data, at);
        };
        let end = at + HEADER + size;
        if end > length {
            return Ok(goes_on_behind(data, at, length)?.then_some(at));
        }
        let (behind, have) = take::<{ BEHIND as usize }>(data, end)?;
        if have == behind.len() && !fits(u32::from_be_bytes(behind), size) {
            // FFmpeg does not take such a tag either.
            return Ok(break_at(data, end)?.map(|_| at));
        }
        at = end + BEHIND;
    }
    Ok(None)
}

/// Bytes of what a tag holds, if it is one: sound, video or data, of the only stream that there is.
fn size_of(header: [u8; HEADER as usize]) -> Option<u64> {
    let [kind, size @ ..] = header;
    let is_tag = [8, 9, 18].contains(&(kind & 0x1f)) && kind < 0x40 && header[8..] == [0; 3];
    let size = size[..3]
        .iter()
        .fold(0, |size, &byte| size << 8 | u64::from(byte));
    is_tag.then_some(size)
}

/// Whether the size behind a tag is its own. Some writers leave out the header, or a byte of it.
fn fits(behind: u32, size: u64) -> bool {
    let behind = u64::from(behind);
    behind == size + HEADER || behind == size + HEADER - 1 || (behind == size && size > 0)
}

/// Whether a tag that is to end behind the end of the file has a wrong size: there is a whole one after it has begun.
fn goes_on_behind(data: &(impl Bytes + ?Sized), tag: u64, length: u64) -> io::Result<bool> {
    // A tag has 16 MiB at most, and so has the rest of the file.
    let from = tag + HEADER;
    let mut rest = vec![0; length.saturating_sub(from) as usize];
    let have = fill(data, &mut rest, from)?;
    rest.truncate(have);
    let is_tag = |bytes: &[u8]| -> Option<bool> {
        let size = size_of(*bytes.first_chunk()?)?;
        let behind = bytes.get((HEADER + size) as usize..)?;
        Some(u64::from(u32::from_be_bytes(*behind.first_chunk()?)) == size + HEADER)
    };
    Ok((0..rest.len()).any(|at| is_tag(&rest[at..]) == Some(true)))
}

#[cfg(test)]
mod tests {
    use super::super::with_byte;
    use super::*;

    fn tag(kind: u8, body: &[u8]) -> Vec<u8> {
        let size = body.len() as u32;
        let header = [&[kind], &size.to_be_bytes()[1..], &[0; 7], body].concat();
        [&header[..], &(size + 11).to_be_bytes()].concat()
    }

    fn file() -> Vec<u8> {
        let mut file = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        for kind in [18, 8, 9, 9, 8] {
            file.extend(tag(kind, &[kind; 40]));
        }
        file
    }

    fn check(bytes: &[u8]) -> Option<u64> {
        broken_at(bytes).expect("memory can be read")
    }

    const TAG: usize = 55;

    #[test]
    fn a_chain_is_followed_to_the_end() {
        let file = file();
        for cut in 13..=file.len() {
            assert_eq!(check(&file[..cut]), None, "cut short at {cut}");
        }
        assert_eq!(check(&[&file[..], &[0; 100_000]].concat()), None);
    }

    #[test]
    fn a_chain_that_breaks_is_noticed() {
        let file = file();
        let with = |at, byte| check(&with_byte(&file, at, byte));
        let second = 13 + TAG;
        assert_eq!(with(second, 7), Some(second as u64), "no such tag");
        assert_eq!(with(second + 10, 1), Some(second as u64), "no such stream");
        assert_eq!(with(second + 3, 41), Some(second as u64), "another size");
        assert_eq!(with(second + 1, 1), Some(second as u64), "beyond the end");
        assert_eq!(
            with(second + TAG - 1, 0),
            Some(second as u64),
            "size behind"
        );
        assert_eq!(with(second + 20, 0), None, "what a tag holds");
    }

    #[test]
    fn sizes_behind_tags_may_leave_out_the_header() {
        assert!([51, 50, 40].into_iter().all(|behind| fits(behind, 40)));
        assert!(![0, 39, 49, 52].into_iter().any(|behind| fits(behind, 40)));
        assert!(!fits(0, 0));
    }
}
