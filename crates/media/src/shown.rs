//! The end of what a finished MP4 shows, where its last frames are only there for others to be decoded.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::boxes::{inside, top_boxes};
use crate::error::MediaError;
use crate::track::Rational;

/// An index of hours takes a few hundred kilobytes.
const LARGEST_INDEX: u64 = 1 << 26;

/// Lets the first track of an MP4 that [`crate::finalise()`] made end `end` ticks of `time_base` after its first frame:
/// frames from there on are decoded, since others may need them, but not shown. False, and nothing is changed, when the
/// file has no edit list; only recordings in progress have none.
///
/// # Errors
/// [`MediaError::Io`] of the disk.
pub fn show_until(
    path: impl AsRef<Path>,
    end: i64,
    time_base: Rational,
) -> Result<bool, MediaError> {
    let path = path.as_ref();
    let failed =
        |error| MediaError::io(format!("change the edit list of {}", path.display()), error);
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.map_err(failed)?;
    let boxes = top_boxes(&file).map_err(failed)?;
    let index = boxes
        .iter()
        .find(|found| &found.kind == b"moov" && found.size <= LARGEST_INDEX);
    let Some(index) = index else {
        return Ok(false);
    };
    let mut moov = vec![0; usize::try_from(index.size).unwrap_or(0)];
    file.read_exact_at(&mut moov, index.start).map_err(failed)?;
    if shorten(&mut moov, end, time_base).is_none() {
        return Ok(false);
    }
    file.write_all_at(&moov, index.start).map_err(failed)?;
    Ok(true)
}

/// Sets the durations of the last edit and of the track (ISO/IEC 14496-12, 8.6.6 and 8.3.2) of the first track.
pub(crate) fn shorten(moov: &mut [u8], end: i64, time_base: Rational) -> Option<()> {
    let movie = inside(moov, &[*b"mvhd"])?;
    let track = inside(moov, &[*b"trak", *b"tkhd"])?;
    let edits = inside(moov, &[*b"trak", *b"edts", *b"elst"])?;
    let scale = number(
        moov,
        movie.start + if moov[movie.start + 8] == 1 { 28 } else { 20 },
    )?;
    let scale = i32::try_from(scale).ok().filter(|scale| *scale > 0)?;
    // Rounded to a tick before the next frame, which must not be shown.
    let end = time_base.rescale(end, Rational::new(1, scale)) - 1;
    let end = u32::try_from(end).ok().filter(|end| *end > 0)?;
    let count = usize::try_from(number(moov, edits.start + 12)?).ok()?;
    // FFmpeg writes 64 bits only for films of 49 days.
    if moov[edits.start + 8] != 0 || moov[track.start + 8] != 0 {
        return None;
    }
    let last = edits.start + 16 + 12 * count.checked_sub(1)?;
    if last + 12 > edits.end || track.start + 32 > track.end {
        return None;
    }
    for at in [last, track.start + 28] {
        moov[at..at + 4].copy_from_slice(&end.to_be_bytes());
    }
    Some(())
}

fn number(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}
