//! Makes an ordinary MP4 of a finished recording where it lies, without copying a frame.
//!
//! A recording with room for its index ([`crate::segment::SegmentOptions::room`]) begins with
//!
//! ```text
//! ftyp | free ............................ | moov | moof mdat | moof mdat | ...
//! ```
//!
//! and becomes
//!
//! ```text
//! ftyp | moov (the whole index) | free | mdat ..................................
//! ```
//!
//! All of the new front is first written into the body of the `free` box, where no reader looks, and synced. Then the
//! eight bytes of that box's header are overwritten with those of the new `moov`. They lie in one sector and are written
//! in one call, which the kernel does whole or not at all, so that the file is the old recording or the whole MP4 at any
//! moment, after a kill or a power cut too. What headers the fragments had are dead bytes in the new `mdat` (0.04 %).
//!
//! Copying instead ([`crate::finalise()`]) writes every frame twice and needs room for both files.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::boxes::{TopBox, top_boxes};
use crate::error::MediaError;
use crate::ff::output::{Output, Setup};
use crate::fragments::{Stored, is_stored_as_it_is, samples_in};
use crate::packet::Packet;
use crate::reader::{Reader, ReaderOptions};
use crate::shown;
use crate::track::{Rational, Track};
use crate::write::{WriterOptions, muxer_options};

/// What is written at once stays whole.
const SECTOR: u64 = 512;

/// Header of an `mdat` with a length of 64 bits.
const DATA_HEADER: usize = 16;

/// Puts a `free` box of `room` bytes behind the `ftyp` box that `header` begins with.
pub(crate) fn with_room(header: &[u8], room: u32) -> Option<Vec<u8>> {
    let first = top_boxes(header).ok()?.first().copied()?;
    let size = usize::try_from(first.size).ok()?;
    if room < 64 || size > 256 || &first.kind != b"ftyp" {
        return None;
    }
    let mut front = Vec::with_capacity(header.len() + room as usize);
    front.extend_from_slice(&header[..size]);
    front.extend_from_slice(&room.to_be_bytes());
    front.extend_from_slice(b"free");
    front.resize(size + room as usize, 0);
    front.extend_from_slice(&header[size..]);
    Some(front)
}

/// Makes an ordinary MP4 of the complete recording `part`, synced. `end`, in ticks of the time base beside it after the
/// first frame, is where it stops being shown, as [`crate::show_until`] does it. True also if it had been done before;
/// false, and nothing is changed, if it cannot be done this way: then [`crate::finalise()`] can.
///
/// # Errors
/// [`MediaError::Io`]: the recording is still whole.
pub fn finalise_in_place(
    part: impl AsRef<Path>,
    end: Option<(i64, Rational)>,
) -> Result<bool, MediaError> {
    let part = part.as_ref();
    let failed = |error| MediaError::io(format!("write the index of {}", part.display()), error);
    let file = OpenOptions::new().read(true).write(true).open(part);
    let file = Arc::new(file.map_err(failed)?);
    let boxes = top_boxes(&*file).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if is_ordinary(&boxes, length) {
        return Ok(true);
    }
    let Some(room) = room(&boxes, length) else {
        return Ok(false);
    };
    let Some(samples) = samples_in(&*file, &boxes).map_err(failed)? else {
        return Ok(false);
    };
    let Some(mut index) = index_of(&file, &samples)? else {
        return Ok(false);
    };
    if let Some((end, time_base)) = end
        && shown::shorten(&mut index, end, time_base).is_none()
    {
        return Ok(false);
    }
    let Some(front) = front(&index, room, length) else {
        return Ok(false);
    };
    let (header, body) = front.split_at(8);
    file.write_all_at(body, room.start + 8).map_err(failed)?;
    // The frames and the index before what makes them the file's content.
    file.sync_all().map_err(failed)?;
    file.write_all_at(header, room.start).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    Ok(true)
}

/// Whether these are the boxes of an MP4 whose index is first, and nothing is cut off.
fn is_ordinary(boxes: &[TopBox], length: u64) -> bool {
    let index_first = boxes.get(1).is_some_and(|second| &second.kind == b"moov");
    let known = |found: &TopBox| [*b"ftyp", *b"moov", *b"free", *b"mdat"].contains(&found.kind);
    let last = boxes.last();
    let data_last = last.is_some_and(|last| &last.kind == b"mdat" && last.end() == length);
    index_first && data_last && boxes.iter().all(known)
}

/// The `free` box of a recording of nothing but whole fragments.
fn room(boxes: &[TopBox], length: u64) -> Option<TopBox> {
    let [first, room, index, fragments @ ..] = boxes else {
        return None;
    };
    let begins = [first.kind, room.kind, index.kind] == [*b"ftyp", *b"free", *b"moov"];
    let pairs = fragments.chunks(2);
    let whole = pairs
        .clone()
        .all(|pair| matches!(pair, [one, two] if one.kind == *b"moof" && two.kind == *b"mdat"));
    let is_whole = whole && boxes.last()?.end() == length;
    let in_one_sector = room.start / SECTOR == (room.start + 7) / SECTOR;
    (begins && is_whole && in_one_sector).then_some(*room)
}

/// Index, filling and the header of an `mdat` that reaches to the end of the file: as long as `room`.
fn front(index: &[u8], room: TopBox, length: u64) -> Option<Vec<u8>> {
    let size = usize::try_from(room.size).ok()?;
    let filling = size.checked_sub(index.len() + DATA_HEADER)?;
    if filling > 0 && filling < 8 {
        return None;
    }
    let mut front = Vec::with_capacity(size);
    front.extend_from_slice(index);
    if filling > 0 {
        front.extend_from_slice(&u32::try_from(filling).ok()?.to_be_bytes());
        front.extend_from_slice(b"free");
        front.resize(size - DATA_HEADER, 0);
    }
    let data = length.checked_sub(room.end())? + DATA_HEADER as u64;
    front.extend_from_slice(&1u32.to_be_bytes());
    front.extend_from_slice(b"mdat");
    front.extend_from_slice(&data.to_be_bytes());
    Some(front)
}

/// The `moov` of an ordinary MP4 whose samples lie where they lie; `None` for tracks that FFmpeg's muxer looks into.
///
/// The first video frame's pts becomes 0 and every other time keeps its distance to it, as in [`crate::finalise()`].
fn index_of(file: &Arc<File>, samples: &[Stored]) -> Result<Option<Vec<u8>>, MediaError> {
    let as_stored = ReaderOptions::as_stored();
    let reader = Reader::open_part(Arc::clone(file), None, "recording".into(), &as_stored)?;
    let tracks = reader.tracks();
    let first = samples.iter().find(|sample| sample.track == 0);
    let (Some(Track::Video(video)), Some(first), true) =
        (tracks.first(), first, tracks.iter().all(is_stored_as_it_is))
    else {
        return Ok(None);
    };
    if samples.iter().any(|sample| sample.track >= tracks.len()) {
        return Ok(None);
    }
    let mut output = Output::open_index(&Setup {
        format: "mp4",
        tracks,
        options: &muxer_options(
            tracks,
            &WriterOptions {
                index_first: false,
                ..WriterOptions::default()
            },
            None,
        ),
        flush: false,
        name: "index".into(),
    })?;
    // The muxer hands over as many bytes as the frame has; nobody looks at them.
    let largest = samples.iter().map(|sample| sample.size).max().unwrap_or(0);
    let blank = vec![0; largest as usize];
    let mut packet = Packet::empty()?;
    for sample in samples {
        let from = tracks[sample.track].time_base();
        let to = output.time_base(sample.track);
        let origin = video.time_base.rescale(first.pts, from);
        packet.set_times(
            Some(from.rescale(sample.pts - origin, to)),
            Some(from.rescale(sample.dts - origin, to)),
            from.rescale(sample.duration.into(), to),
        );
        packet.set_track(sample.track);
        packet.set_key(sample.key);
        output.seek(sample.position)?;
        output.write_borrowed(&blank[..sample.size as usize], &mut packet)?;
    }
    let index = output.finish_index()?;
    let is_index = matches!(top_boxes(&index[..]).as_deref(),
        Ok([one]) if &one.kind == b"moov" && one.end() == index.len() as u64);
    Ok(is_index.then_some(index))
}
