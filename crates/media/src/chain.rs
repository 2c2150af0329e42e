//! Whether a file hangs together from its beginning to its end.
//!
//! FFmpeg finds its way behind damage and does not say so: it goes on where it next finds something that it knows, whatever pictures
//! lie before that. So what the file is made of (boxes, elements, tags, packets) is followed here, whatever it holds.
//! Nothing here panics, and no length is trusted.

mod avi;
mod flash;
mod matroska;
mod program;
mod transport;

use std::io;

use crate::boxes::{self, Bytes};

/// What following the parts of a file gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// They lead to the end of the file, be it within one of them or with nothing but zeros before it: a file that is cut
    /// short hides nothing. Or an index leads to all of them.
    Whole,
    /// They do not: from this byte on something else lies there, and not all behind it can be found.
    BrokenAt(u64),
    /// Files of this kind cannot be followed.
    Unknown,
}

/// Follows the parts of a file of the kind that [`Reader::format_name`](crate::Reader::format_name) calls `format`. `is_counted`: the
/// file says how many pictures it has, which tells better than the parts of an AVI file, of which many are
/// careless with what is no picture.
///
/// # Errors
/// The disk.
pub fn follow(data: &(impl Bytes + ?Sized), format: &str, is_counted: bool) -> io::Result<Chain> {
    let broken = match format {
        "avi" if is_counted => None,
        "avi" => avi::broken_at(data)?,
        "flv" => flash::broken_at(data)?,
        "mpeg" => program::broken_at(data)?,
        "mpegts" => transport::broken_at(data)?,
        names if names.contains("matroska") => matroska::broken_at(data)?,
        names if names.contains("mp4") => boxes::broken_at(data)?,
        _ => return Ok(Chain::Unknown),
    };
    Ok(broken.map_or(Chain::Whole, Chain::BrokenAt))
}

/// The bytes at an offset; fewer at the end of the file.
fn take<const N: usize>(data: &(impl Bytes + ?Sized), at: u64) -> io::Result<([u8; N], usize)> {
    let mut bytes = [0; N];
    let have = boxes::fill(data, &mut bytes, at)?;
    Ok((bytes, have))
}

/// For tests: the bytes with another one at an offset.
#[cfg(test)]
fn with_byte(bytes: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] = byte;
    bytes
}

/// Where the chain breaks, if what lies at `at` is no part of it.
fn break_at(data: &(impl Bytes + ?Sized), at: u64) -> io::Result<Option<u64>> {
    Ok((!boxes::is_zero_from(data, at)?).then_some(at))
}
