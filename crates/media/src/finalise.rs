//! An ordinary MP4 with its index first, made of a finished (or cut) fragmented recording.
//!
//! Frames are copied bit for bit; the first video frame's pts becomes 0 and every other time keeps its
//! distance to it exactly. Cost: 0.06 s for 53 s of 1080p.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use crate::error::MediaError;
use crate::fragments::usable::Usable;
use crate::fragments::{Stored, stored_samples};
use crate::h26x;
use crate::packet::Packet;
use crate::reader::{Reader, ReaderOptions};
use crate::track::{Rational, Track, VideoTrack};
use crate::write::{FileWriter, WriterOptions};

/// What a finished file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Finalised {
    /// The video track.
    pub track: VideoTrack,
    /// Video frames.
    pub frames: u64,
    /// Audio packets.
    pub audio_packets: u64,
    /// From the first frame to the end of the last, in the video track's ticks.
    pub duration: i64,
    /// Video frames left out because they were torn, or because they needed a torn one.
    pub frames_left_out: u64,
}

impl Finalised {
    /// Duration in seconds.
    pub fn seconds(&self) -> f64 {
        self.track.time_base.seconds(self.duration)
    }
}

/// Makes `dst` out of a recording that was finished in order. `dst` must not exist; it is removed again
/// after a failure. Syncing and renaming it, and removing `part`, are the caller's.
///
/// # Errors
/// [`MediaError::Io`], also if `dst` exists; [`MediaError::Damaged`] if `part` is torn: [`crate::salvage()`] it.
pub fn finalise(part: impl AsRef<Path>, dst: impl AsRef<Path>) -> Result<Finalised, MediaError> {
    let source = open(part.as_ref())?;
    create_or_remove(dst.as_ref(), |target| {
        let done = remux(source, None, target)?;
        done.ok_or_else(|| MediaError::damaged("finalise", "the recording holds no frame"))
    })
}

/// [`finalise`] on files that are already open; `dst` readable, writable and empty.
///
/// # Errors
/// As [`finalise`]; `dst` is useless after one.
pub fn finalise_file(part: File, dst: File) -> Result<Finalised, MediaError> {
    let done = remux(Arc::new(part), None, dst)?;
    done.ok_or_else(|| MediaError::damaged("finalise", "the recording holds no frame"))
}

pub(crate) fn open(path: &Path) -> Result<Arc<File>, MediaError> {
    let opened = File::open(path);
    opened
        .map(Arc::new)
        .map_err(|error| MediaError::io(format!("open {}", path.display()), error))
}

/// Runs `body` on a new file and removes the file if it fails.
pub(crate) fn create_or_remove<T>(
    path: &Path,
    body: impl FnOnce(File) -> Result<T, MediaError>,
) -> Result<T, MediaError> {
    let created = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path);
    let file =
        created.map_err(|error| MediaError::io(format!("create {}", path.display()), error))?;
    body(file).inspect_err(|_| remove(path))
}

pub(crate) fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "unfinished file not removed");
    }
}

/// What to do about damage in the source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Torn {
    IsAnError,
    IsLeftOut,
}

/// Copies `part` into an MP4, or of a torn one what of it is usable; `None` if that holds no frame.
pub(crate) fn remux(
    part: Arc<File>,
    usable: Option<&Usable>,
    dst: File,
) -> Result<Option<Finalised>, MediaError> {
    let stored = match usable {
        Some(usable) => (!usable.samples.is_empty()).then(|| usable.samples.clone()),
        None => stored_samples(&*part).map_err(|error| MediaError::io("read recording", error))?,
    };
    let torn = match usable {
        Some(_) => Torn::IsLeftOut,
        None => Torn::IsAnError,
    };
    let room = stored.as_ref().map(|samples| samples.len() as u64);
    let limit = usable.map(|usable| usable.end);
    let open = |options: &_| {
        let veils = usable.map(|usable| usable.veils.clone());
        let (file, veils) = (Arc::clone(&part), veils.unwrap_or_default());
        Reader::open_veiled(file, limit, veils, "recording".into(), options)
    };
    let mut reader = open(&ReaderOptions::as_stored())?;
    let (video_index, video) = reader.require_video()?;
    let mut video = video.clone();
    // FFmpeg leaves the size of MPEG-4 part 2 and H.263 to their decoders, whatever the file says.
    if video.width == 0 || video.height == 0 {
        let analysed = open(&ReaderOptions {
            analyse: true,
            ..ReaderOptions::as_stored()
        })?;
        let (_, known) = analysed.require_video()?;
        (video.width, video.height) = (known.width, known.height);
    }
    let audio = reader.audio().map(|(index, track)| (index, track.clone()));
    let mut tracks = vec![Track::Video(video.clone())];
    tracks.extend(audio.iter().map(|(_, track)| Track::Audio(track.clone())));
    let mut copy = Copy {
        writer: FileWriter::create_with_room(dst, &tracks, &WriterOptions::default(), room)?,
        length_size: h26x::length_size(video.codec, &video.extradata),
        audio_base: audio.as_ref().map(|(_, track)| track.time_base),
        origin: None,
        early_audio: Vec::new(),
        audio_duration: stored.map_or(0, |samples| last_audio_duration(&samples)),
        waiting_for_key: true,
        needs_key: usable.is_some_and(Usable::may_have_keys),
        is_whole: true,
        behind_holes: usable.map_or(Vec::new(), |usable| usable.behind_holes.clone()),
        done: Finalised {
            track: video,
            frames: 0,
            audio_packets: 0,
            duration: 0,
            frames_left_out: 0,
        },
    };
    while let Some(packet) = next(&mut reader, torn)? {
        if packet.track() == video_index {
            copy.video(packet, torn)?;
        } else if audio
            .as_ref()
            .is_some_and(|(index, _)| *index == packet.track())
        {
            copy.audio(packet)?;
        }
    }
    if copy.done.frames == 0 {
        return Ok(None);
    }
    copy.writer.finish()?;
    Ok(Some(copy.done))
}

fn last_audio_duration(samples: &[Stored]) -> i64 {
    let last = samples.iter().rev().find(|sample| sample.track == 1);
    last.map_or(0, |sample| sample.duration.into())
}

fn next(reader: &mut Reader, torn: Torn) -> Result<Option<Packet>, MediaError> {
    match reader.next_packet() {
        // What is behind the damage is not trusted.
        Err(error) if error.is_damaged() && torn == Torn::IsLeftOut => Ok(None),
        other => other,
    }
}

/// A copy under way.
struct Copy {
    writer: FileWriter,
    length_size: Option<usize>,
    audio_base: Option<Rational>,
    /// The first video frame's pts.
    origin: Option<i64>,
    early_audio: Vec<Packet>,
    /// AAC frames are all of one length, and FFmpeg's demuxer does not tell it in a fragmented file.
    audio_duration: i64,
    waiting_for_key: bool,
    /// Behind a hole nothing but a key frame will do. Where there is none at all, a camera with intra refresh sends none.
    needs_key: bool,
    /// Nothing torn was met yet.
    is_whole: bool,
    /// Decoding times of the first frames behind holes.
    behind_holes: Vec<i64>,
    done: Finalised,
}

impl Copy {
    fn video(&mut self, mut packet: Packet, torn: Torn) -> Result<(), MediaError> {
        let time = packet.dts().unwrap_or(i64::MIN);
        if self.behind_holes.iter().any(|first| *first <= time) {
            self.behind_holes.retain(|first| *first > time);
            (self.waiting_for_key, self.is_whole) = (true, false);
        }
        let is_torn = self.is_torn(&packet, torn);
        if is_torn {
            if torn == Torn::IsAnError {
                return Err(MediaError::damaged(
                    "finalise",
                    format!("frame {} is torn", self.done.frames),
                ));
            }
            (self.waiting_for_key, self.is_whole) = (true, false);
        }
        // A recording may begin without a key frame; a hole may not be followed by anything else.
        let may_begin = !self.needs_key || (self.origin.is_none() && self.is_whole);
        let begins = packet.is_key() || may_begin;
        if self.waiting_for_key && (!begins || is_torn) {
            self.done.frames_left_out += 1;
            return Ok(());
        }
        self.waiting_for_key = false;
        let pts = packet.pts().or(packet.dts()).unwrap_or(0);
        let origin = *self.origin.get_or_insert(pts);
        let shifted = |time: Option<i64>| time.map(|t| t - origin);
        packet.set_times(Some(pts - origin), shifted(packet.dts()), packet.duration());
        self.writer.write(0, &packet)?;
        self.done.frames += 1;
        self.done.duration = self.done.duration.max(pts - origin + packet.duration());
        for early in std::mem::take(&mut self.early_audio) {
            self.audio(early)?;
        }
        Ok(())
    }

    fn audio(&mut self, mut packet: Packet) -> Result<(), MediaError> {
        let Some(origin) = self.origin else {
            self.early_audio.push(packet);
            return Ok(());
        };
        let base = self.audio_base.unwrap_or(self.done.track.time_base);
        let shift = self.done.track.time_base.rescale(origin, base);
        let shifted = |time: Option<i64>| time.map(|t| t - shift);
        packet.set_times(
            shifted(packet.pts()),
            shifted(packet.dts()),
            packet.duration().max(self.audio_duration),
        );
        if packet.is_corrupt() {
            return Ok(());
        }
        self.writer.write(1, &packet)?;
        self.done.audio_packets += 1;
        Ok(())
    }

    fn is_torn(&self, packet: &Packet, torn: Torn) -> bool {
        if packet.is_corrupt() || packet.data().is_empty() {
            return true;
        }
        // A recording that was finished in order is not second-guessed: cameras take liberties.
        let broken =
            |size| !h26x::is_well_formed(size, packet.data()) || ends_in_zeros(packet.data());
        torn == Torn::IsLeftOut && self.length_size.is_some_and(broken)
    }
}

/// A NAL unit never ends with a zero byte (H.264 7.4.1), cameras append a few at most; pages that never
/// reached the disk are whole blocks of zeros.
fn ends_in_zeros(data: &[u8]) -> bool {
    data.len() >= 16 && data[data.len() - 16..].iter().all(|byte| *byte == 0)
}
