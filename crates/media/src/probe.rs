//! What a file is, without decoding it.

use std::path::Path;
use std::time::Duration;

use crate::error::MediaError;
use crate::packet::Packet;
use crate::reader::{Reader, ReaderOptions};
use crate::track::{AudioTrack, Track, VideoTrack};

/// What a file is.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// FFmpeg's name of the container.
    pub container: String,
    /// Declared or estimated duration.
    pub duration: Option<Duration>,
    /// All tracks.
    pub tracks: Vec<Track>,
}

impl Probe {
    /// The first video track.
    pub fn video(&self) -> Option<&VideoTrack> {
        self.tracks.iter().find_map(|track| match track {
            Track::Video(video) => Some(video),
            _ => None,
        })
    }

    /// The first audio track.
    pub fn audio(&self) -> Option<&AudioTrack> {
        self.tracks.iter().find_map(|track| match track {
            Track::Audio(audio) => Some(audio),
            _ => None,
        })
    }
}

/// What a file is, from its headers and first frames.
///
/// # Errors
/// As [`Reader::open_path`].
pub fn probe(path: impl AsRef<Path>) -> Result<Probe, MediaError> {
    Ok(of(&Reader::open_path(path, &ReaderOptions::default())?))
}

/// What an MP4 of our own making is, from its index alone: codec, size, durations and frame counts, but neither pixel
/// format nor colours. [`probe`] decodes frames for those, which was more than half of what recording cost.
///
/// # Errors
/// As [`Reader::open_path`].
pub fn probe_index(path: impl AsRef<Path>) -> Result<Probe, MediaError> {
    Ok(of(&Reader::open_path(path, &ReaderOptions::as_stored())?))
}

fn of(reader: &Reader) -> Probe {
    Probe {
        container: reader.format_name(),
        duration: reader.duration(),
        tracks: reader.tracks().to_vec(),
    }
}

/// A whole file's compressed frames in memory.
#[derive(Debug)]
pub struct Contents {
    /// All tracks; [`Packet::track`] is an index into this.
    pub tracks: Vec<Track>,
    /// All packets in the file's order.
    pub packets: Vec<Packet>,
}

impl Contents {
    /// The packets of one track, in decoding order.
    pub fn of_track(&self, track: usize) -> impl Iterator<Item = &Packet> {
        self.packets
            .iter()
            .filter(move |packet| packet.track() == track)
    }
}

/// Reads a whole file's compressed frames into memory.
///
/// # Errors
/// As [`Reader::open_path`] and [`Reader::next_packet`].
pub fn load(path: impl AsRef<Path>) -> Result<Contents, MediaError> {
    let mut reader = Reader::open_path(path, &ReaderOptions::default())?;
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet()? {
        packets.push(packet);
    }
    Ok(Contents {
        tracks: reader.tracks().to_vec(),
        packets,
    })
}
