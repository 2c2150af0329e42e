//! Finished files: MP4 or Matroska, from an encoder's packets, from copied ones, or both in one track.
//!
//! Times, rotation, pixel shape and colour tags are kept; titles, places, dates and chapters are not.

use std::fs::File;
use std::sync::Arc;

use crate::error::MediaError;
use crate::ff::NO_TIME;
use crate::ff::output::{Output, Setup};
use crate::packet::Packet;
use crate::track::{Rational, Track};

/// A file format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Container {
    /// MP4: exact times; cannot hold G.711.
    #[default]
    Mp4,
    /// QuickTime: as MP4, and holds G.711.
    Mov,
    /// Matroska: holds everything; times are whole milliseconds.
    Mkv,
}

impl Container {
    /// The container for a file name's ending (`mp4`, `mov`, `mkv`), if it is one of these.
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "mp4" | "m4v" => Some(Self::Mp4),
            "mov" => Some(Self::Mov),
            "mkv" => Some(Self::Mkv),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Mov => "mov",
            Self::Mkv => "matroska",
        }
    }
}

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// The format.
    pub container: Container,
    /// Put the index before the data, so that playing over a network can begin at once (MP4 and MOV). The
    /// data is moved once more at the end for it.
    pub index_first: bool,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            container: Container::Mp4,
            index_first: true,
        }
    }
}

/// Writes one file through a descriptor that the caller opened (readable and writable, empty). Durability,
/// naming and removal after a failure are the caller's. `Send`; blocking, one thread at a time.
pub struct FileWriter {
    output: Output,
    file: Arc<File>,
    lanes: Vec<(Rational, i64)>,
}

impl FileWriter {
    /// Starts a file with these tracks. To mix copied and re-encoded GOPs, give the track an extradata that
    /// holds both parameter sets ([`crate::h26x::ParameterSets::merge`]).
    ///
    /// # Errors
    /// [`MediaError::Io`] from the disk; [`MediaError::Unsupported`] or [`MediaError::Codec`] for a codec this
    /// container cannot hold.
    pub fn create(
        file: File,
        tracks: &[Track],
        options: &WriterOptions,
    ) -> Result<Self, MediaError> {
        Self::create_with_room(file, tracks, options, None)
    }

    /// [`Self::create`], keeping room at the front for the index of at most `packets` packets: then nothing
    /// has to be moved at the end, but more packets than that make [`Self::finish`] fail.
    pub(crate) fn create_with_room(
        file: File,
        tracks: &[Track],
        options: &WriterOptions,
        packets: Option<u64>,
    ) -> Result<Self, MediaError> {
        let file = Arc::new(file);
        let settings = muxer_options(tracks, options, packets);
        let output = Output::open(
            Arc::clone(&file),
            0,
            &Setup {
                format: options.container.name(),
                tracks,
                options: &settings,
                flush: false,
                name: format!("{} file", options.container.name()),
            },
        )?;
        let lanes = tracks
            .iter()
            .map(|track| (track.time_base(), NO_TIME))
            .collect();
        Ok(Self {
            output,
            file,
            lanes,
        })
    }

    /// Writes a packet to track `track`; its times are in the packet's own time base. A packet without dts
    /// gets its pts as dts.
    ///
    /// # Errors
    /// [`MediaError::Timestamps`] if its dts does not follow the last one of the track (nothing was written);
    /// [`MediaError::Io`] from the disk.
    pub fn write(&mut self, track: usize, packet: &Packet) -> Result<(), MediaError> {
        self.put(track, packet, 0)
    }

    /// As [`Self::write`], of sound: a packet that begins before the last one does, but by less than its own length, is
    /// written right behind the beginning of that. Where a recording was put together from others, sound overlaps a
    /// little.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_sound(&mut self, track: usize, packet: &Packet) -> Result<(), MediaError> {
        self.put(track, packet, packet.duration().max(1))
    }

    /// `overlap`: by so many of its ticks a packet may begin too early.
    fn put(&mut self, track: usize, packet: &Packet, overlap: i64) -> Result<(), MediaError> {
        let (pts, dts) = (packet.pts().or(packet.dts()), packet.dts().or(packet.pts()));
        let (Some(pts), Some(dts)) = (pts, dts) else {
            let what = format!("write a packet without times to track {track}");
            return Err(MediaError::Timestamps {
                what,
                dts: 0,
                previous: 0,
            });
        };
        let mut packet = packet.try_clone()?;
        let from = packet.time_base();
        let to = self.output.time_base(track);
        let (mut new_dts, previous) = (from.rescale(dts, to), self.lanes[track].1);
        let overlap = match overlap {
            0 => 0,
            overlap => from.rescale(overlap, to).max(1),
        };
        if previous != NO_TIME && new_dts <= previous && previous - new_dts < overlap {
            new_dts = previous + 1;
        }
        if previous != NO_TIME && new_dts <= previous {
            let what = format!("write track {track}");
            return Err(MediaError::Timestamps {
                what,
                dts: new_dts,
                previous,
            });
        }
        let new_pts = match overlap {
            0 => from.rescale(pts, to),
            // Of sound the two are the same.
            _ => from.rescale(pts, to).max(new_dts),
        };
        packet.set_times(
            Some(new_pts),
            Some(new_dts),
            from.rescale(packet.duration().max(0), to),
        );
        packet.set_time_base(to);
        packet.set_track(track);
        self.output.write(&mut packet, self.lanes.len() > 1)?;
        self.lanes[track].1 = new_dts;
        Ok(())
    }

    /// Writes the index and gives the file back, complete but not synced.
    ///
    /// # Errors
    /// [`MediaError::Io`] from the disk: the file is useless then.
    pub fn finish(self) -> Result<File, MediaError> {
        let Self { output, file, .. } = self;
        output.finish()?;
        Arc::try_unwrap(file)
            .or_else(|shared| shared.try_clone())
            .map_err(|error| MediaError::io("finish file", error))
    }
}

/// Bytes that an MP4 index takes at most: each packet an entry of its own in stts, ctts, stss, stsz, stsc
/// and co64.
fn index_room(tracks: &[Track], packets: u64) -> u64 {
    let extradata = tracks.iter().map(|track| match track {
        Track::Video(video) => video.extradata.len(),
        Track::Audio(audio) => audio.extradata.len(),
        Track::Other { .. } => 0,
    });
    4_096 + 2 * extradata.sum::<usize>() as u64 + packets * (8 + 8 + 4 + 4 + 12 + 8)
}

pub(crate) fn muxer_options(
    tracks: &[Track],
    options: &WriterOptions,
    packets: Option<u64>,
) -> Vec<(&'static str, String)> {
    if options.container == Container::Mkv {
        return Vec::new();
    }
    let mut settings = Vec::new();
    if let Some(packets) = packets.filter(|_| options.index_first) {
        settings.push(("moov_size", index_room(tracks, packets).to_string()));
    } else if options.index_first {
        settings.push(("movflags", "+faststart".to_owned()));
    }
    let video = tracks.iter().find_map(|track| match track {
        Track::Video(video) => Some(video.time_base.den),
        _ => None,
    });
    if let Some(scale) = video.filter(|scale| *scale > 0) {
        // The movie's clock too: start offsets are written in it, and its default of 1/1000 s would round.
        settings.push(("video_track_timescale", scale.to_string()));
        settings.push(("movie_timescale", scale.to_string()));
    }
    settings
}
