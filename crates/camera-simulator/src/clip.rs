//! A video file as it lies in memory: access units already cut into RTP payloads, with times in
//! nanoseconds from the clip's start, ready to be sent again and again.

use crate::nal::{self, Framing, ParameterSets, VideoCodec};
use crate::rtp;
use bytes::Bytes;
use thiserror::Error;

/// RTP clock of every video format, Hz (RFC 6184 section 8.2.1, RFC 7798 section 7.1).
pub(crate) const VIDEO_CLOCK: u32 = 90_000;
/// Samples in one AAC-LC frame (ISO/IEC 14496-3).
pub(crate) const AAC_FRAME: i64 = 1024;

/// Largest AAC frame that AAC-hbr can announce, bytes (13 bits, RFC 3640 section 3.3.6).
const MAX_AAC_BYTES: usize = (1 << 13) - 1;

/// Which of a clip's streams a unit belongs to; also its index in the SDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// The picture, `trackID=0`.
    Video,
    /// AAC sound, `trackID=1`.
    Audio,
}

/// What the SDP says of the picture.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct VideoFormat {
    pub(crate) codec: VideoCodec,
    pub(crate) sets: ParameterSets,
    /// Pixels.
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Mean frames per second over the clip.
    pub(crate) fps: f64,
    /// Parameter sets are not sent with the key frames.
    pub(crate) sets_out_of_band: bool,
}

/// What the SDP says of the sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AudioFormat {
    /// Samples per second, also the RTP clock.
    pub(crate) rate: u32,
    pub(crate) channels: u16,
    /// `AudioSpecificConfig` (ISO/IEC 14496-3).
    pub(crate) config: Bytes,
}

/// One access unit.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) track: Track,
    /// Nanoseconds from the clip's start; the first video unit is sent at 0.
    pub(crate) dts_ns: i64,
    pub(crate) pts_ns: i64,
    /// Decoding can start here.
    pub(crate) key: bool,
    /// Position among the units of its track; for sound, gaps count.
    pub(crate) index: u32,
    pub(crate) payloads: Vec<Bytes>,
    /// Encoded size, bytes.
    pub(crate) size: usize,
    /// MD5 over slices (video) or the frame (audio).
    pub(crate) md5: String,
}

/// A whole clip. Units are in the order in which they are sent.
#[derive(Debug)]
pub(crate) struct Clip {
    pub(crate) video: VideoFormat,
    pub(crate) audio: Option<AudioFormat>,
    pub(crate) units: Vec<Unit>,
    /// From one loop's start to the next.
    pub(crate) length_ns: i64,
}

/// A packet as a demuxer or encoder hands it out; times in nanoseconds, any origin.
#[derive(Debug, Clone)]
pub(crate) struct RawPacket {
    pub(crate) dts_ns: i64,
    pub(crate) pts_ns: i64,
    pub(crate) data: Vec<u8>,
}

/// Everything a clip is made from.
#[derive(Debug)]
pub(crate) struct RawClip {
    pub(crate) codec: VideoCodec,
    pub(crate) extradata: Vec<u8>,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) video: Vec<RawPacket>,
    pub(crate) audio: Option<(AudioFormat, Vec<RawPacket>)>,
    /// See [`crate::LoadOptions::sets_out_of_band`].
    pub(crate) sets_out_of_band: bool,
}

impl RawClip {
    /// Bytes of each video packet.
    pub(crate) fn iter_sizes(&self) -> impl Iterator<Item = usize> {
        self.video.iter().map(|p| p.data.len())
    }
}

/// Why packets do not make a clip.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum BadClip {
    #[error("no key frame in the video")]
    NoKeyFrame,
    #[error("no parameter sets (SPS, PPS) in the video")]
    NoParameterSets,
}

impl Clip {
    /// The same clip without its sound.
    pub(crate) fn muted(mut self) -> Self {
        self.audio = None;
        self.units.retain(|u| u.track == Track::Video);
        self
    }

    /// The RTP clock of a track, Hz.
    pub(crate) fn rate(&self, track: Track) -> u32 {
        match (track, &self.audio) {
            (Track::Audio, Some(audio)) => audio.rate,
            _ => VIDEO_CLOCK,
        }
    }

    /// Orders, cuts and hashes the packets. Video before the first key frame and sound outside the
    /// picture's time are left out.
    pub(crate) fn build(raw: RawClip) -> Result<Self, BadClip> {
        let (framing, header_sets) = nal::parse_extradata(raw.codec, &raw.extradata);
        let mut sets = ParameterSets::default();
        sets.update(raw.codec, &header_sets);
        let (mut units, first_sets) = video_units(&raw, framing, sets)?;
        let origin = units[0].dts_ns;
        let length_ns = loop_length(&units);
        for unit in &mut units {
            unit.dts_ns -= origin;
            unit.pts_ns -= origin;
        }
        let frames = units.len();
        let audio = raw.audio.map(|(format, packets)| {
            units.extend(audio_units(format.rate, &packets, origin, length_ns));
            format
        });
        units.sort_by_key(|u| u.dts_ns);
        Ok(Self {
            video: VideoFormat {
                codec: raw.codec,
                sets: first_sets,
                width: raw.width,
                height: raw.height,
                fps: frames as f64 * 1e9 / length_ns as f64,
                sets_out_of_band: raw.sets_out_of_band,
            },
            audio,
            units,
            length_ns,
        })
    }
}

/// The units from the first key frame on, and the parameter sets in force there.
fn video_units(
    raw: &RawClip,
    framing: Framing,
    mut sets: ParameterSets,
) -> Result<(Vec<Unit>, ParameterSets), BadClip> {
    let codec = raw.codec;
    let mut units = Vec::with_capacity(raw.video.len());
    let mut first_sets = None;
    let mut last_dts = i64::MIN;
    for packet in &raw.video {
        let nals = nal::split(framing, &packet.data);
        sets.update(codec, &nals);
        let key = nals.iter().any(|n| codec.is_random_access(n));
        if units.is_empty() && !key {
            continue;
        }
        if first_sets.is_none() {
            first_sets = Some(sets.clone());
        }
        let in_band = (key && !raw.sets_out_of_band).then_some(&sets);
        let mut unit = video_unit(codec, in_band, &nals, key, packet, units.len());
        // Decoding order is the file's order, whatever a broken muxer wrote as time.
        unit.dts_ns = unit.dts_ns.max(last_dts);
        last_dts = unit.dts_ns;
        units.push(unit);
    }
    let first_sets = first_sets.ok_or(BadClip::NoKeyFrame)?;
    if first_sets.sps().is_empty() || first_sets.pps().is_empty() {
        return Err(BadClip::NoParameterSets);
    }
    Ok((units, first_sets))
}

/// Key frames carry their parameter sets in band, so that a client may join at any of them, unless they are not to.
fn video_unit(
    codec: VideoCodec,
    sets: Option<&ParameterSets>,
    nals: &[Bytes],
    key: bool,
    packet: &RawPacket,
    index: usize,
) -> Unit {
    let mut out: Vec<Bytes> = Vec::with_capacity(nals.len() + 3);
    out.extend(sets.into_iter().flat_map(ParameterSets::in_order).cloned());
    out.extend(
        nals.iter()
            .filter(|n| !codec.is_padding(n) && codec.parameter_slot(n).is_none())
            .cloned(),
    );
    Unit {
        track: Track::Video,
        dts_ns: packet.dts_ns,
        pts_ns: packet.pts_ns,
        key,
        index: index as u32,
        size: out.iter().map(Bytes::len).sum(),
        md5: nal::slices_md5(codec, out.iter().map(|n| &n[..])),
        payloads: rtp::packetise_video(codec, &out),
    }
}

/// Time from the first frame to where it comes again: the last frame is given the mean distance.
fn loop_length(units: &[Unit]) -> i64 {
    let times = || units.iter().map(|u| u.pts_ns);
    let span = times().max().unwrap_or_default() - times().min().unwrap_or_default();
    match units.len() as i64 - 1 {
        0 => 1_000_000_000,
        steps => (span + (span + steps / 2) / steps).max(1_000_000),
    }
}

/// When frame `index` of a sound of `rate` Hz starts, nanoseconds from its first frame.
pub(crate) fn aac_ns(index: u32, rate: u32) -> i64 {
    (i128::from(index) * i128::from(AAC_FRAME) * 1_000_000_000 / i128::from(rate)) as i64
}

/// The frames within the picture's time, each at its place on the grid of frames that the first one starts:
/// containers round, and a gap is a whole number of frames.
fn audio_units(rate: u32, packets: &[RawPacket], origin: i64, length_ns: i64) -> Vec<Unit> {
    let inside = |p: &&RawPacket| (0..length_ns).contains(&(p.pts_ns - origin));
    let mut units: Vec<Unit> = Vec::new();
    let mut first = None;
    for packet in packets
        .iter()
        .filter(inside)
        .filter(|p| p.data.len() <= MAX_AAC_BYTES)
    {
        let start = *first.get_or_insert(packet.pts_ns - origin);
        let elapsed = i128::from(packet.pts_ns - origin - start);
        let frame_ns = i128::from(aac_ns(1, rate));
        let place = ((elapsed + frame_ns / 2) / frame_ns) as u32;
        let index = units.last().map_or(0, |last| place.max(last.index + 1));
        let pts_ns = start + aac_ns(index, rate);
        units.push(Unit {
            track: Track::Audio,
            dts_ns: pts_ns,
            pts_ns,
            key: true,
            index,
            payloads: rtp::packetise_aac(&packet.data),
            size: packet.data.len(),
            md5: crate::md5_of(&packet.data),
        });
    }
    units
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const FRAME_NS: i64 = 100_000_000;

    /// Ten frames at 10 fps with a key frame at 0 and 5, optionally with AAC frames of 8 kHz (128 ms each).
    pub(crate) fn small_clip(with_audio: bool) -> Clip {
        let annex_b = |key: bool, i: u8| match key {
            true => vec![
                0, 0, 1, 0x67, 66, 0, 30, 1, 0, 0, 1, 0x68, 1, 0, 0, 1, 0x65, i, 1,
            ],
            false => vec![0, 0, 1, 0x41, i, 1],
        };
        let packet = |i: i64| RawPacket {
            dts_ns: 7 + i * FRAME_NS,
            pts_ns: 7 + i * FRAME_NS,
            data: annex_b(i % 5 == 0, i as u8),
        };
        let sound = |i: i64| RawPacket {
            dts_ns: 7 + i * 128_000_000,
            pts_ns: 7 + i * 128_000_000,
            data: vec![i as u8; 20],
        };
        let format = AudioFormat {
            rate: 8000,
            channels: 1,
            config: Bytes::from_static(&[0x15, 0x88]),
        };
        Clip::build(RawClip {
            codec: VideoCodec::H264,
            extradata: Vec::new(),
            width: 64,
            height: 48,
            video: (0..10).map(packet).collect(),
            audio: with_audio.then(|| (format, (0..12).map(sound).collect())),
            sets_out_of_band: false,
        })
        .unwrap()
    }

    #[test]
    fn a_clip_starts_at_zero_and_knows_its_length() {
        let clip = small_clip(true);
        assert_eq!((clip.units[0].dts_ns, clip.length_ns), (0, 1_000_000_000));
        assert_eq!(clip.video.fps, 10.0);
        let audio = clip.units.iter().filter(|u| u.track == Track::Audio);
        assert_eq!(audio.count(), 8);
        assert_eq!(clip.video.sets.sps()[0][..], [0x67, 66, 0, 30, 1]);
    }

    #[test]
    fn video_without_a_key_frame_is_refused() {
        let raw = RawClip {
            codec: VideoCodec::H264,
            extradata: Vec::new(),
            width: 1,
            height: 1,
            video: vec![RawPacket {
                dts_ns: 0,
                pts_ns: 0,
                data: vec![0, 0, 1, 0x41, 1],
            }],
            audio: None,
            sets_out_of_band: false,
        };
        assert_eq!(Clip::build(raw).unwrap_err(), BadClip::NoKeyFrame);
    }
}
