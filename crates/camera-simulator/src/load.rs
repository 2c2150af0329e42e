//! Reading a video file into a [`Clip`]: copied when a camera could send it as it is, else encoded anew.

use crate::clip::{AudioFormat, BadClip, Clip, RawClip, RawPacket};
use crate::nal::VideoCodec;
use crate::transcode;
use bytes::Bytes;
use media::{AudioCodec, MediaError, Packet, Rational, Reader, ReaderOptions};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Most encoded bytes of one clip: it is kept in memory.
const MAX_BYTES: usize = 1 << 30;

/// What is changed on load. Anything but the defaults makes the video be encoded anew, as does a codec that
/// is neither H.264 nor H.265.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoadOptions {
    /// Width and height in pixels, even; the source's if `None`.
    pub size: Option<(u32, u32)>,
    /// Constant frame rate; the source's times if `None`.
    pub fps: Option<f64>,
    /// Key frame distance in frames; about two seconds if `None`.
    pub gop: Option<u32>,
    /// Codec; the source's if that is one of the two, else H.264.
    pub codec: Option<VideoCodec>,
    /// Leave out the sound.
    pub mute: bool,
    /// Parameter sets stand in the description alone, which for H.265 ends as VLC's does, in a way that strict readers refuse.
    pub sets_out_of_band: bool,
}

/// Why a file cannot be served.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It cannot be read, decoded or encoded.
    #[error("cannot serve {}", path.display())]
    Media {
        /// The file.
        path: PathBuf,
        /// What FFmpeg says.
        #[source]
        source: MediaError,
    },
    /// It can be read, but not sent.
    #[error("cannot serve {}: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// What went wrong before the file's name is put to it.
#[derive(Debug, Error)]
pub(crate) enum Problem {
    #[error(transparent)]
    Media(#[from] MediaError),
    #[error(transparent)]
    Clip(#[from] BadClip),
    #[error("more than {} MiB; cut it or load it at a smaller --size or --fps", MAX_BYTES >> 20)]
    TooLarge,
    #[error("the frame rate must be between 0.1 and 240")]
    Fps,
}

/// Reads the whole file; takes as long as that (and encoding, if need be) takes.
pub(crate) fn load(path: &Path, options: &LoadOptions) -> Result<Clip, LoadError> {
    media::init();
    match read(path, options).and_then(|raw| Ok(Clip::build(raw)?)) {
        Ok(clip) => Ok(clip),
        Err(Problem::Media(source)) => Err(LoadError::Media {
            path: path.to_owned(),
            source,
        }),
        Err(other) => Err(LoadError::Unusable {
            path: path.to_owned(),
            reason: other.to_string(),
        }),
    }
}

fn read(path: &Path, options: &LoadOptions) -> Result<RawClip, Problem> {
    if options.fps.is_some_and(|fps| !(0.1..=240.0).contains(&fps)) {
        return Err(Problem::Fps);
    }
    let mut reader = Reader::open_path(path, &ReaderOptions::default())?;
    let (video_index, track) = reader.require_video()?;
    let track = track.clone();
    let audio = if options.mute {
        None
    } else {
        audio_format(&reader)
    };
    let mut packets = Packets::default();
    read_packets(
        &mut reader,
        video_index,
        audio.as_ref().map(|(i, _)| *i),
        &mut packets,
    )?;
    let source_codec = known_codec(track.codec);
    let plain = *options
        == LoadOptions {
            codec: options.codec,
            mute: options.mute,
            sets_out_of_band: options.sets_out_of_band,
            ..LoadOptions::default()
        };
    let wanted = options.codec.or(source_codec).unwrap_or(VideoCodec::H264);
    let raw = if plain && source_codec == Some(wanted) {
        RawClip {
            codec: wanted,
            extradata: track.extradata,
            width: track.width,
            height: track.height,
            video: packets
                .video
                .iter()
                .map(|p| raw_packet(p, p.time_base()))
                .collect(),
            audio: None,
            sets_out_of_band: false,
        }
    } else {
        let encoded = transcode::encode(&track, &packets.video, wanted, options)?;
        check_size(encoded.iter_sizes())?;
        encoded
    };
    Ok(RawClip {
        audio: audio.map(|(_, format)| (format, packets.audio)),
        sets_out_of_band: options.sets_out_of_band,
        ..raw
    })
}

fn known_codec(codec: media::VideoCodec) -> Option<VideoCodec> {
    match codec {
        media::VideoCodec::H264 => Some(VideoCodec::H264),
        media::VideoCodec::H265 => Some(VideoCodec::H265),
        _ => None,
    }
}

/// The first sound track, if it is AAC that can be described; other sound is left out.
fn audio_format(reader: &Reader) -> Option<(usize, AudioFormat)> {
    let (index, track) = reader.audio()?;
    if track.codec != AudioCodec::Aac || track.extradata.len() < 2 || track.sample_rate == 0 {
        tracing::warn!(
            codec = track.codec.name(),
            "sound left out: only AAC with a configuration is served"
        );
        return None;
    }
    let format = AudioFormat {
        rate: track.sample_rate,
        channels: track.channels as u16,
        config: Bytes::copy_from_slice(&track.extradata),
    };
    Some((index, format))
}

#[derive(Default)]
struct Packets {
    video: Vec<Packet>,
    audio: Vec<RawPacket>,
}

/// Reads to the end; damaged packets are left out, as a camera's own would not be damaged.
fn read_packets(
    reader: &mut Reader,
    video: usize,
    audio: Option<usize>,
    packets: &mut Packets,
) -> Result<(), Problem> {
    let mut bytes = 0;
    loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => return Ok(()),
            Err(error) if error.is_damaged() => {
                tracing::warn!(%error, "damaged packet left out");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if packet.is_corrupt() {
            continue;
        }
        bytes += packet.data().len();
        check_size([bytes])?;
        if packet.track() == video {
            packets.video.push(packet);
        } else if Some(packet.track()) == audio {
            packets.audio.push(raw_packet(&packet, packet.time_base()));
        }
    }
}

fn check_size(sizes: impl IntoIterator<Item = usize>) -> Result<(), Problem> {
    match sizes.into_iter().sum::<usize>() > MAX_BYTES {
        true => Err(Problem::TooLarge),
        false => Ok(()),
    }
}

/// The packet with its times in nanoseconds; where the container gives one time only (AVI), it is both.
pub(crate) fn raw_packet(packet: &Packet, time_base: Rational) -> RawPacket {
    let ns = |ticks: i64| time_base.rescale(ticks, Rational::NANOSECONDS);
    let pts = packet.pts().or(packet.dts()).unwrap_or_default();
    RawPacket {
        dts_ns: ns(packet.dts().unwrap_or(pts)),
        pts_ns: ns(pts),
        data: packet.data().to_vec(),
    }
}
