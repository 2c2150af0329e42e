//! AVI: chunks in lists (Multimedia Programming Interface and Data Specifications 1.0; OpenDML AVI File Format Extensions 1.02).

use std::io;

use super::{break_at, take};
use crate::boxes::Bytes;

/// Where no chunk follows.
pub(super) fn broken_at(data: &(impl Bytes + ?Sized)) -> io::Result<Option<u64>> {
    let length = data.length()?;
    let mut at = 0;
    while at < length {
        let (bytes, have) = take::<12>(data, at)?;
        if have < bytes.len() {
            break;
        }
        let (name, size, kind) = (&bytes[..4], &bytes[4..8], &bytes[8..]);
        if !name
            .iter()
            .all(|byte| byte.is_ascii_graphic() || *byte == b' ')
        {
            return break_at(data, at);
        }
        let is_opened = match name {
            b"RIFF" => true,
            b"LIST" => kind == b"movi" || kind == b"rec ",
            _ => false,
        };
        at += match is_opened {
            true => 12,
            false => {
                let size = u64::from(u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
                8 + size + size % 2
            }
        };
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::with_byte;
    use super::*;

    fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let size = (body.len() as u32).to_le_bytes();
        let padding: &[u8] = if body.len() % 2 == 1 { &[0] } else { &[] };
        [&name[..], &size, body, padding].concat()
    }

    /// A file whose writer was stopped: the lists' sizes are missing.
    fn file() -> Vec<u8> {
        let header = chunk(b"LIST", b"hdrl...");
        let open = |name: &[u8], kind: &[u8]| [name, &[0; 4], kind].concat();
        let pictures = [chunk(b"00dc", &[5; 31]), chunk(b"01wb", &[6; 20])].concat();
        let parts = [
            open(b"RIFF", b"AVI "),
            header,
            open(b"LIST", b"movi"),
            open(b"LIST", b"rec "),
            pictures.clone(),
            pictures,
        ];
        parts.concat()
    }

    fn check(bytes: &[u8]) -> Option<u64> {
        broken_at(bytes).expect("memory can be read")
    }

    #[test]
    fn chunks_are_followed_to_the_end() {
        let file = file();
        for cut in 0..=file.len() {
            assert_eq!(check(&file[..cut]), None, "cut short at {cut}");
        }
        assert_eq!(check(&[&file[..], &[0; 9000]].concat()), None);
    }

    #[test]
    fn what_is_no_chunk_is_noticed() {
        let file = file();
        let with = |at, byte| check(&with_byte(&file, at, byte));
        assert_eq!(with(52, 1), Some(52), "no name");
        assert_eq!(with(56, 40), Some(100), "another size");
        assert_eq!(with(70, 1), None, "what a chunk holds");
    }
}
