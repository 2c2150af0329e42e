//! Where the fragments of a recording say that its frames lie (ISO/IEC 14496-12, 8.8.4 to 8.8.12).
//!
//! For fragments as [`crate::segment`] writes them, with our own writer or FFmpeg's; what looks otherwise is not guessed
//! at. Never panics and never trusts a length.

use std::io;

pub(crate) mod usable;
pub(crate) mod write;

use crate::boxes::{Bytes, TopBox, children, fill, top_boxes};
use crate::track::{AudioCodec, Track, VideoCodec};

/// A recording that declares more is damaged; memory for its index is not worth trusting it.
const MOST_SAMPLES: usize = 1 << 20;

/// A fragment of half a second takes a few hundred bytes.
const LARGEST_FRAGMENT: u64 = 1 << 24;

/// `sample_is_non_sync_sample` of the sample flags.
const NOT_KEY: u32 = 1 << 16;

/// One frame or audio packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Counts the tracks from 0.
    pub track: usize,
    /// Offset of its first byte in the file.
    pub position: u64,
    /// In bytes.
    pub size: u32,
    /// Decoding time in the track's ticks.
    pub dts: i64,
    /// Presentation time in the track's ticks.
    pub pts: i64,
    /// In the track's ticks.
    pub duration: u32,
    /// Whether decoding can start here.
    pub key: bool,
}

/// Whether an MP4 holds a track's packets as they are. Others FFmpeg's muxer looks into.
pub(crate) fn is_stored_as_it_is(track: &Track) -> bool {
    match track {
        Track::Video(video) => match video.codec {
            // With start codes they would be rewritten.
            VideoCodec::H264 | VideoCodec::H265 => video.extradata.first() == Some(&1),
            VideoCodec::Mjpeg => true,
            _ => false,
        },
        Track::Audio(audio) => audio.codec == AudioCodec::Aac,
        Track::Other { .. } => false,
    }
}

/// All frames and audio packets of the whole fragments, in the order of the file, up to the first that is not followed
/// by its data; `None` if there are none, or a fragment makes no sense.
///
/// # Errors
/// The operating system's.
pub fn stored_samples(data: &(impl Bytes + ?Sized)) -> io::Result<Option<Vec<Stored>>> {
    samples_in(data, &top_boxes(data)?)
}

/// [`stored_samples`] of data whose outermost boxes are known.
pub(crate) fn samples_in(
    data: &(impl Bytes + ?Sized),
    boxes: &[TopBox],
) -> io::Result<Option<Vec<Stored>>> {
    let mut all = Vec::new();
    for (at, fragment) in boxes.iter().enumerate() {
        if &fragment.kind != b"moof" {
            continue;
        }
        let Some(payload) = boxes.get(at + 1).filter(|next| &next.kind == b"mdat") else {
            break;
        };
        let Some(samples) = samples_of_fragment(data, fragment, payload)? else {
            return Ok(None);
        };
        if all.len() + samples.len() > MOST_SAMPLES {
            return Ok(None);
        }
        all.extend(samples);
    }
    Ok((!all.is_empty()).then_some(all))
}

/// What the `moof` box `fragment` says of the `mdat` box `payload`; `None` if that makes no sense, or is not all of it.
fn samples_of_fragment(
    data: &(impl Bytes + ?Sized),
    fragment: &TopBox,
    payload: &TopBox,
) -> io::Result<Option<Vec<Stored>>> {
    let mut samples = Vec::new();
    let Some(body) = read_whole(data, fragment)? else {
        return Ok(None);
    };
    if samples_of(&body, fragment.start, &mut samples).is_none() {
        return Ok(None);
    }
    let inside = |sample: &Stored| {
        sample.position >= payload.start + 8
            && sample.position + u64::from(sample.size) <= payload.end()
    };
    let bytes: u64 = samples.iter().map(|sample| u64::from(sample.size)).sum();
    let is_all = !samples.is_empty() && bytes + 8 == payload.size;
    Ok((is_all && samples.iter().all(inside)).then_some(samples))
}

fn read_whole(data: &(impl Bytes + ?Sized), found: &TopBox) -> io::Result<Option<Vec<u8>>> {
    if found.size > LARGEST_FRAGMENT {
        return Ok(None);
    }
    let mut body = vec![0; usize::try_from(found.size).unwrap_or(0)];
    let have = fill(data, &mut body, found.start)?;
    Ok((have == body.len()).then_some(body))
}

/// Adds the samples of one `moof` that begins at offset `start` of the file.
fn samples_of(moof: &[u8], start: u64, all: &mut Vec<Stored>) -> Option<()> {
    for (_, traf) in children(moof)?.iter().filter(|(kind, _)| kind == b"traf") {
        let boxes = children(traf)?;
        let one = |name: &[u8; 4]| boxes.iter().find(|(kind, _)| kind == name);
        let defaults = Defaults::read(one(b"tfhd")?.1)?;
        let mut dts = decode_time(one(b"tfdt")?.1)?;
        for (_, run) in boxes.iter().filter(|(kind, _)| kind == b"trun") {
            dts = run_samples(run, start, &defaults, dts, all)?;
        }
    }
    Some(())
}

/// `tfhd`: what the samples of a track have unless they say otherwise.
struct Defaults {
    track: usize,
    duration: u32,
    size: u32,
    flags: u32,
}

impl Defaults {
    fn read(tfhd: &[u8]) -> Option<Self> {
        let mut fields = Fields::behind_header(tfhd);
        let present = fields.number()? & 0xff_ffff;
        let track = usize::try_from(fields.number()?.checked_sub(1)?).ok()?;
        // Offsets must count from the `moof` (default-base-is-moof), with no base of their own.
        if present & 0x02_0001 != 0x02_0000 {
            return None;
        }
        fields.number_if(present & 0x2 != 0)?;
        Some(Self {
            track,
            duration: fields.number_if(present & 0x8 != 0)?.unwrap_or(0),
            size: fields.number_if(present & 0x10 != 0)?.unwrap_or(0),
            flags: fields.number_if(present & 0x20 != 0)?.unwrap_or(0),
        })
    }
}

fn decode_time(tfdt: &[u8]) -> Option<i64> {
    let mut fields = Fields::behind_header(tfdt);
    let is_long = fields.number()? >> 24 == 1;
    let high = fields.number_if(is_long)?.unwrap_or(0);
    let time = (u64::from(high) << 32) | u64::from(fields.number()?);
    // So far from the end that no sum below overflows.
    i64::try_from(time).ok().filter(|time| *time < 1 << 62)
}

/// `trun`; returns the decoding time behind its last sample.
fn run_samples(
    trun: &[u8],
    start: u64,
    defaults: &Defaults,
    mut dts: i64,
    all: &mut Vec<Stored>,
) -> Option<i64> {
    let mut fields = Fields::behind_header(trun);
    let present = fields.number()? & 0xff_ffff;
    let count = usize::try_from(fields.number()?).ok()?;
    if present & 0x1 == 0 || all.len().saturating_add(count) > MOST_SAMPLES {
        return None;
    }
    let offset = u64::try_from(fields.number()?.cast_signed()).ok()?;
    let mut position = start.checked_add(offset)?;
    let mut first_flags = fields.number_if(present & 0x4 != 0)?;
    for _ in 0..count {
        let duration = fields.number_if(present & 0x100 != 0)?;
        let size = fields.number_if(present & 0x200 != 0)?;
        let flags = fields.number_if(present & 0x400 != 0)?;
        // Signed in version 1, and FFmpeg writes and reads it so in version 0, too.
        let delay = fields
            .number_if(present & 0x800 != 0)?
            .unwrap_or(0)
            .cast_signed();
        let flags = first_flags.take().or(flags).unwrap_or(defaults.flags);
        let sample = Stored {
            track: defaults.track,
            position,
            size: size.unwrap_or(defaults.size),
            dts,
            pts: dts + i64::from(delay),
            duration: duration.unwrap_or(defaults.duration),
            key: flags & NOT_KEY == 0,
        };
        position = position.checked_add(sample.size.into())?;
        dts += i64::from(sample.duration);
        all.push(sample);
    }
    Some(dts)
}

/// Big-endian numbers, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Behind length and name of a box.
    fn behind_header(data: &'a [u8]) -> Self {
        Self(data.get(8..).unwrap_or_default())
    }

    fn number(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*first))
    }

    /// `Some(None)` for a field that is not there, `None` for one that should be.
    fn number_if(&mut self, present: bool) -> Option<Option<u32>> {
        if present {
            self.number().map(Some)
        } else {
            Some(None)
        }
    }
}
