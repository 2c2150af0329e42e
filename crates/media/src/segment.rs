//! A recording in progress: a fragmented MP4 that survives a kill.
//!
//! Every finished fragment (half a second by default, and always at a key frame) is pushed to the kernel at
//! once, so `kill -9` loses at most one fragment (measured: 204 of 207 frames survived, a plain MP4 kept 0).
//! Whether data also survives a power cut is up to the caller's `fsync`.
//! When the recording ends, [`crate::in_place`] or [`crate::finalise()`] makes an ordinary MP4 of it; after a
//! crash, [`crate::salvage()`] does.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use crate::error::MediaError;
use crate::ff::output::{Output, Setup};
use crate::ff::{self, NO_TIME};
use crate::in_place;
use crate::packet::Packet;
use crate::track::{AudioTrack, Rational, Track, VideoTrack};

/// One compressed frame as it came from the network.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// H.264 and H.265: NAL units with 4-byte lengths, parameter sets in the extradata. Others: as they are.
    pub data: &'a [u8],
    /// Presentation time in the track's ticks.
    pub pts: i64,
    /// Decoding time in the track's ticks; must grow from sample to sample.
    pub dts: i64,
    /// Duration in ticks; only that of the last sample of the file matters, others follow from the times.
    pub duration: i64,
    /// Whether decoding can start here.
    pub key: bool,
}

/// Half a second at 32 Mbit/s.
const LARGEST_FRAGMENT: u32 = 2 << 20;

/// Room for the index of some hours; what is longer is copied when it is finished.
const LARGEST_ROOM: u32 = 4 << 20;

/// How a segment is written.
#[derive(Clone, Copy, Debug)]
pub struct SegmentOptions {
    /// Longest fragment: what a kill may cost.
    pub fragment: Duration,
    /// Bytes kept free at the front for the index of the finished file; 0 for none. See [`crate::in_place`].
    pub room: u32,
}

/// For a process that does nothing but write segments, once at its start: the buffer that FFmpeg's muxer makes for each
/// fragment, grows and frees is kept for the next one. Mapping it anew and copying it while it grew was a fifth of what
/// recording cost.
pub fn keep_fragment_memory() {
    ff::keep_freed_memory(LARGEST_FRAGMENT);
}

impl SegmentOptions {
    /// With room for the index of a recording that is about `length` long.
    pub fn for_length(length: Duration) -> Self {
        let seconds = u32::try_from(length.as_secs()).unwrap_or(u32::MAX);
        Self {
            room: seconds
                .saturating_mul(1024)
                .saturating_add(8192)
                .min(LARGEST_ROOM),
            ..Self::default()
        }
    }
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self {
            fragment: Duration::from_millis(500),
            room: 0,
        }
    }
}

/// What a finished segment holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentStats {
    /// Video frames written.
    pub frames: u64,
    /// Key frames among them.
    pub key_frames: u64,
    /// Audio packets written.
    pub audio_packets: u64,
    /// Audio packets left out because they came before the first video frame.
    pub audio_left_out: u64,
    /// From the first frame's pts to the end of the last frame, in the video track's ticks.
    pub duration: i64,
    /// Bytes of frames and audio handed in (the file is 0.04 % larger).
    pub bytes: u64,
}

/// Writes a fragmented MP4. `Send`; blocking, one thread at a time.
///
/// The first video frame's pts becomes 0; everything after keeps its distance to it exactly. Audio
/// that begins before it is left out. (Inside the `.part` all times are shifted by the first frame's
/// reordering delay, since fragments cannot hold negative times; finalising takes that out again.)
pub struct SegmentWriter {
    output: Output,
    file: Arc<File>,
    packet: Packet,
    video: Lane,
    audio: Option<Lane>,
    stats: SegmentStats,
    end: i64,
}

/// One track's times.
struct Lane {
    time_base: Rational,
    /// Subtracted from all times; known with the first video frame.
    base: i64,
    first_pts: i64,
    last_dts: i64,
}

impl Lane {
    fn new(time_base: Rational) -> Self {
        Self {
            time_base,
            base: 0,
            first_pts: NO_TIME,
            last_dts: NO_TIME,
        }
    }
}

impl SegmentWriter {
    /// Starts a segment in an open, empty file (readable and writable).
    ///
    /// # Errors
    /// [`MediaError::Io`] from the disk; [`MediaError::Unsupported`] or [`MediaError::Codec`] for a codec
    /// MP4 cannot hold (G.711: see [`crate::audio`]).
    pub fn create(
        file: File,
        video: &VideoTrack,
        audio: Option<&AudioTrack>,
        options: &SegmentOptions,
    ) -> Result<Self, MediaError> {
        let file = Arc::new(file);
        let mut tracks = vec![Track::Video(video.clone())];
        tracks.extend(audio.cloned().map(Track::Audio));
        let flags = "frag_keyframe+empty_moov+default_base_moof+frag_discont+skip_trailer";
        let mut output = Output::open(
            Arc::clone(&file),
            options.room.into(),
            &Setup {
                format: "mp4",
                tracks: &tracks,
                options: &[
                    ("movflags", flags.into()),
                    ("frag_duration", options.fragment.as_micros().to_string()),
                    ("use_editlist", "0".into()),
                    ("video_track_timescale", video.time_base.den.to_string()),
                ],
                flush: true,
                name: "segment".into(),
            },
        )?;
        if options.room > 0 {
            output.flush()?;
            in_place::keep_room(&file, options.room)
                .map_err(|error| MediaError::io("start segment", error))?;
        }
        Ok(Self {
            output,
            file,
            packet: Packet::empty()?,
            video: Lane::new(video.time_base),
            audio: audio.map(|track| Lane::new(track.time_base)),
            stats: SegmentStats::default(),
            end: 0,
        })
    }

    /// Writes a video frame. The first one should be a key frame.
    ///
    /// # Errors
    /// [`MediaError::Timestamps`]: not written, the segment goes on. [`MediaError::Io`]: the disk; what was
    /// written before can be salvaged.
    pub fn write_video(&mut self, sample: &Sample<'_>) -> Result<(), MediaError> {
        if self.video.first_pts == NO_TIME {
            self.begin(sample);
        }
        Self::write(
            &mut self.output,
            &mut self.packet,
            0,
            &mut self.video,
            sample,
        )?;
        self.stats.frames += 1;
        self.stats.key_frames += u64::from(sample.key);
        self.stats.bytes += sample.data.len() as u64;
        self.end = self.end.max(sample.pts + sample.duration);
        self.stats.duration = self.end - self.video.first_pts;
        Ok(())
    }

    /// Writes an audio packet; `key` is not looked at. Left out (and counted) before the first video frame.
    ///
    /// # Errors
    /// As [`Self::write_video`]; [`MediaError::Unsupported`] if the segment has no audio track.
    pub fn write_audio(&mut self, sample: &Sample<'_>) -> Result<(), MediaError> {
        let Some(lane) = &mut self.audio else {
            return Err(MediaError::unsupported(
                "write audio",
                "this segment has no audio track",
            ));
        };
        if self.video.first_pts == NO_TIME || sample.pts < lane.first_pts {
            self.stats.audio_left_out += 1;
            return Ok(());
        }
        Self::write(
            &mut self.output,
            &mut self.packet,
            1,
            lane,
            &Sample {
                key: true,
                ..*sample
            },
        )?;
        self.stats.audio_packets += 1;
        self.stats.bytes += sample.data.len() as u64;
        Ok(())
    }

    /// What was written so far.
    pub fn stats(&self) -> SegmentStats {
        self.stats
    }

    /// The file, for `fsync` while the segment goes on.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Writes the last fragment. The file stays as it is, a `.part` for [`crate::finalise()`].
    ///
    /// # Errors
    /// [`MediaError::Io`]: the disk; what was written before can be salvaged.
    pub fn finish(self) -> Result<SegmentStats, MediaError> {
        self.output.finish()?;
        Ok(self.stats)
    }

    fn begin(&mut self, sample: &Sample<'_>) {
        self.video.base = sample.dts.min(sample.pts);
        self.video.first_pts = sample.pts;
        self.end = sample.pts;
        if let Some(audio) = &mut self.audio {
            audio.base = self
                .video
                .time_base
                .rescale(self.video.base, audio.time_base);
            audio.first_pts = self.video.time_base.rescale(sample.pts, audio.time_base);
        }
    }

    fn write(
        output: &mut Output,
        packet: &mut Packet,
        track: usize,
        lane: &mut Lane,
        sample: &Sample<'_>,
    ) -> Result<(), MediaError> {
        if (lane.last_dts != NO_TIME && sample.dts <= lane.last_dts) || sample.dts < lane.base {
            let what = format!("write track {track} of a segment");
            return Err(MediaError::Timestamps {
                what,
                dts: sample.dts,
                previous: lane.last_dts.max(lane.base),
            });
        }
        let to = output.time_base(track);
        let ticks = |value: i64| lane.time_base.rescale(value, to);
        packet.set_times(
            Some(ticks(sample.pts - lane.base)),
            Some(ticks(sample.dts - lane.base)),
            ticks(sample.duration.max(0)),
        );
        packet.set_track(track);
        packet.set_key(sample.key);
        output.write_borrowed(sample.data, packet)?;
        lane.last_dts = sample.dts;
        Ok(())
    }
}
