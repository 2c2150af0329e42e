//! The outermost boxes of an MP4 file, just well enough to find where a torn recording is still whole.
//!
//! Reads headers only; never panics and never trusts a length. Source: ISO/IEC 14496-12, 4.2 and 8.8.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// One outermost box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopBox {
    /// Its four letters, such as `moov`.
    pub kind: [u8; 4],
    /// Offset of its first byte.
    pub start: u64,
    /// Its whole size in bytes, header included.
    pub size: u64,
}

impl TopBox {
    /// Offset of the first byte behind it.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.size)
    }
}

/// How far a recording is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WholePart {
    /// Everything before this offset can be used.
    pub end: u64,
    /// Whether there is an index (`moov`); without it nothing can be read.
    pub has_index: bool,
    /// Number of whole fragments (`moof` with its `mdat`).
    pub fragments: u64,
    /// Number of bytes behind `end`.
    pub torn: u64,
}

/// Something boxes can be read from.
pub trait Bytes {
    /// Reads up to `into.len()` bytes at `offset`; 0 at the end.
    ///
    /// # Errors
    /// The operating system's.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Number of bytes.
    ///
    /// # Errors
    /// The operating system's.
    fn length(&self) -> io::Result<u64>;
}

impl Bytes for File {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, into, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl Bytes for [u8] {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|at| self.get(at..))
            .unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// The outermost boxes that lie wholly inside the data; ends at the first that does not.
///
/// # Errors
/// The operating system's; damage is not an error here.
pub fn top_boxes(data: &(impl Bytes + ?Sized)) -> io::Result<Vec<TopBox>> {
    let length = data.length()?;
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = header(data, at, length)? {
        if next.end() > length {
            break;
        }
        at = next.end();
        found.push(next);
    }
    Ok(found)
}

/// How far a recording is whole: up to the last index or whole fragment.
///
/// # Errors
/// The operating system's; damage is not an error here.
pub fn whole_part(data: &(impl Bytes + ?Sized)) -> io::Result<WholePart> {
    let mut whole = WholePart::default();
    let mut before = *b"    ";
    for next in top_boxes(data)? {
        match &next.kind {
            b"moov" => {
                whole.has_index = true;
                whole.end = next.end();
            }
            b"mdat" if &before == b"moof" => {
                whole.fragments += 1;
                whole.end = next.end();
            }
            b"mdat" | b"mfra" if whole.has_index => whole.end = next.end(),
            _ => {}
        }
        before = next.kind;
    }
    whole.torn = data.length()?.saturating_sub(whole.end);
    Ok(whole)
}

/// All that may lie outermost in a file of fragments (ISO/IEC 14496-12, table 1; QuickTime).
pub(crate) const OUTERMOST: [[u8; 4]; 17] = [
    *b"ftyp", *b"styp", *b"pdin", *b"moov", *b"moof", *b"mdat", *b"mfra", *b"sidx", *b"ssix",
    *b"prft", *b"emsg", *b"meta", *b"udta", *b"uuid", *b"free", *b"skip", *b"wide",
];

/// Where the chain of a fragmented file's boxes breaks, bytes from its beginning: FFmpeg stops there without a word, or goes on where
/// it finds a box. None where it reaches the end of the file, be it within a box or with nothing but zeros before it, and in a
/// file without fragments, where the index leads to all frames. A second index is that of another file, which was put behind the
/// first; FFmpeg leaves it out.
///
/// # Errors
/// The operating system's.
pub fn broken_at(data: &(impl Bytes + ?Sized)) -> io::Result<Option<u64>> {
    let length = data.length()?;
    let (mut at, mut has_fragments, mut has_index) = (0, false, false);
    while at < length {
        let next = header(data, at, length)?.filter(|next| OUTERMOST.contains(&next.kind));
        let Some(next) = next else {
            let is_cut_short = length - at < 8 || is_zero_from(data, at)?;
            return Ok((has_fragments && !is_cut_short).then_some(at));
        };
        if &next.kind == b"moov" && std::mem::replace(&mut has_index, true) {
            return Ok(Some(at));
        }
        has_fragments |= match &next.kind {
            b"moof" => true,
            b"moov" => announces_fragments(data, &next)?,
            _ => false,
        };
        let is_too_long = next.end() > length && has_fragments;
        if is_too_long && fragment_behind(data, at + 8)?.is_some() {
            return Ok(Some(at));
        }
        at = next.end();
    }
    Ok(None)
}

/// Where there is a fragment at or behind `from`, with something of its media. Then a box that reaches over it, and to behind the
/// end of the file, has a wrong size.
pub(crate) fn fragment_behind(data: &(impl Bytes + ?Sized), from: u64) -> io::Result<Option<u64>> {
    let length = data.length()?;
    let (mut block, mut at) = (vec![0; 1 << 16], from);
    loop {
        let have = fill(data, &mut block, at)?;
        let found = block[..have].windows(8).enumerate();
        for (offset, _) in found.filter(|(_, window)| &window[4..] == b"moof") {
            let index = header(data, at + offset as u64, length)?;
            if let Some(index) = index.filter(|index| index.end() < length)
                && header(data, index.end(), length)?.is_some_and(|next| &next.kind == b"mdat")
            {
                return Ok(Some(at + offset as u64));
            }
        }
        if have < block.len() {
            return Ok(None);
        }
        // What begins at the end of a block is seen in the next one.
        at += have as u64 - 7;
    }
}

fn announces_fragments(data: &(impl Bytes + ?Sized), index: &TopBox) -> io::Result<bool> {
    let mut at = index.start + 8;
    while at < index.end()
        && let Some(next) = header(data, at, index.end())?
    {
        if &next.kind == b"mvex" {
            return Ok(true);
        }
        at = next.end();
    }
    Ok(false)
}

/// Whether only zeros follow.
pub(crate) fn is_zero_from(data: &(impl Bytes + ?Sized), at: u64) -> io::Result<bool> {
    is_zero_between(data, at, u64::MAX)
}

/// Whether there is nothing but zeros from `at` to `end`, or to the end of the data.
pub(crate) fn is_zero_between(
    data: &(impl Bytes + ?Sized),
    mut at: u64,
    end: u64,
) -> io::Result<bool> {
    let mut block = vec![0; 1 << 16];
    loop {
        let rest = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        block.truncate(rest);
        let have = fill(data, &mut block, at)?;
        if block[..have].iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        if have < block.len() || have == 0 {
            return Ok(true);
        }
        at += have as u64;
    }
}

/// Where in a plain container box the box lies that `path` leads to, each name the first of its kind; header included.
pub(crate) fn inside(parent: &[u8], path: &[[u8; 4]]) -> Option<Range<usize>> {
    let mut found = 0..parent.len();
    for name in path {
        let (_, child) = children(&parent[found])?
            .into_iter()
            .find(|(kind, _)| kind == name)?;
        let start = child.as_ptr() as usize - parent.as_ptr() as usize;
        found = start..start + child.len();
    }
    // Room for version and flags, which every box with content has.
    (found.len() >= 16).then_some(found)
}

/// The boxes inside a plain container box, each whole.
pub(crate) fn children(parent: &[u8]) -> Option<Vec<([u8; 4], &[u8])>> {
    let body = parent.get(8..)?;
    let mut at = 0u64;
    let mut found = Vec::new();
    while let Some(next) = header(body, at, body.len() as u64).ok()? {
        let bytes =
            body.get(usize::try_from(next.start).ok()?..usize::try_from(next.end()).ok()?)?;
        found.push((next.kind, bytes));
        at = next.end();
    }
    Some(found)
}

/// Reads until `into` is full or the data ends; how many bytes there were.
pub(crate) fn fill(
    data: &(impl Bytes + ?Sized),
    into: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut have = 0;
    while have < into.len() {
        match data.read_at(&mut into[have..], offset.saturating_add(have as u64)) {
            Ok(0) => break,
            Ok(count) => have += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

pub(crate) fn header(
    data: &(impl Bytes + ?Sized),
    at: u64,
    length: u64,
) -> io::Result<Option<TopBox>> {
    let mut bytes = [0; 16];
    let have = fill(data, &mut bytes, at)?;
    if have < 8 {
        return Ok(None);
    }
    let kind = [bytes[4], bytes[5], bytes[6], bytes[7]];
    let short = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let long = bytes[8..]
        .iter()
        .fold(0u64, |value, byte| (value << 8) | u64::from(*byte));
    let (size, smallest) = match short {
        0 => (length.saturating_sub(at), 8),
        1 if have == 16 => (long, 16),
        1 => return Ok(None),
        size => (u64::from(size), 8),
    };
    // Zeros behind a power cut look like a box of no kind that goes on to the end.
    let named = kind
        .iter()
        .all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    Ok((size >= smallest && named).then_some(TopBox {
        kind,
        start: at,
        size,
    }))
}
