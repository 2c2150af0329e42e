//! Where a stream that FFmpeg's demuxer reads becomes another one: a camera that is set to another size goes on in the same
//! session, and its segments must not hold both.

use media::h26x::{
    NalKind, ParameterSets, length_prefixed_units, length_size, nal_kind, sps_info, without,
};
use media::{Packet, VideoCodec, VideoTrack};
use std::borrow::Cow;

/// Follows what a stream is.
pub struct Changes {
    video: VideoTrack,
    /// Of H.264 and H.265 as MP4 stores them: their sets and the length of their lengths.
    sets: Option<(ParameterSets, usize)>,
    has_changed: bool,
}

impl Changes {
    /// Of a stream that begins as this.
    pub fn new(video: &VideoTrack) -> Self {
        let length = length_size(video.codec, &video.extradata);
        let sets = ParameterSets::from_extradata(video.codec, &video.extradata).ok();
        Changes {
            video: video.clone(),
            sets: sets.zip(length),
            has_changed: false,
        }
    }

    /// What the stream is from this packet on, where that is new.
    pub fn look(&mut self, packet: &Packet) -> Option<VideoTrack> {
        let changed = match (self.video.codec, &self.sets) {
            (VideoCodec::Mjpeg, _) => self.has_other_size(packet.data()),
            (_, Some(_)) if packet.is_key() => self.has_other_sets(packet.data()).is_some(),
            _ => false,
        };
        changed.then(|| self.video.clone())
    }

    /// What is stored of a packet that was looked at: sets that the track has are not repeated after a change.
    pub fn stored<'a>(&self, packet: &'a Packet) -> Cow<'a, [u8]> {
        match &self.sets {
            Some((sets, length)) if self.has_changed => {
                without(sets.codec, *length, packet.data(), |_, unit| {
                    sets.units().any(|known| known == unit)
                })
            }
            _ => Cow::Borrowed(packet.data()),
        }
    }

    fn has_other_size(&mut self, data: &[u8]) -> bool {
        let Some(size) = jpeg_size(data) else {
            return false;
        };
        let before = (self.video.width, self.video.height);
        (self.video.width, self.video.height) = size;
        size != before
    }

    /// `None` for a key frame that brings no sequence parameter set of its own, or none that can be read.
    fn has_other_sets(&mut self, data: &[u8]) -> Option<()> {
        let (sets, length) = self.sets.as_mut()?;
        let codec = sets.codec;
        let units = || {
            length_prefixed_units(*length, data)
                .filter(|unit| nal_kind(codec, unit) == NalKind::ParameterSet)
        };
        if units().all(|unit| sets.units().any(|known| known == unit)) {
            return None;
        }
        let mut new = ParameterSets::from_units(codec, units());
        if new.vps.is_empty() {
            new.vps.clone_from(&sets.vps);
        }
        if new.pps.is_empty() {
            new.pps.clone_from(&sets.pps);
        }
        let info = sps_info(codec, new.sps.first()?)?;
        self.video.extradata = new.to_extradata().ok()?;
        (self.video.width, self.video.height) = (info.width, info.height);
        // Of the stream as it was.
        (
            self.video.pixel_format,
            self.video.profile,
            self.video.level,
        ) = (None, None, None);
        // The track that is made of them says how long lengths are, and the reader puts out no others.
        *length = length_size(codec, &self.video.extradata)?;
        *sets = new;
        self.has_changed = true;
        Some(())
    }
}

/// Width and height that a JPEG says (ITU-T T.81, B.2.2).
fn jpeg_size(data: &[u8]) -> Option<(u32, u32)> {
    let mut rest = data.strip_prefix(&[0xff, 0xd8])?;
    loop {
        let start = rest.iter().position(|byte| *byte != 0xff)?;
        // Without a marker this is no header any more.
        let (marker, segment) = rest.get(start..).filter(|_| start > 0)?.split_first()?;
        let length = usize::from(number(segment.get(..2)?)?);
        match marker {
            0xc0..=0xcf if ![0xc4, 0xc8, 0xcc].contains(marker) => {
                let (height, width) = (number(segment.get(3..5)?)?, number(segment.get(5..7)?)?);
                // A height of zero is told behind the picture.
                return (height > 0 && width > 0).then(|| (width.into(), height.into()));
            }
            0xda => return None,
            _ => rest = segment.get(length..)?,
        }
    }
}

fn number(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::synth::{Encoded, TestVideo};

    fn made(encoder: &str, width: u32) -> Encoded {
        let video = TestVideo {
            encoder: encoder.to_owned(),
            width,
            frames: 4,
            gop: 2,
            ..TestVideo::default()
        };
        video.encode().expect("a video")
    }

    /// A packet with the sets of its track before it, as a camera sends it.
    fn with_sets(track: &VideoTrack, packet: &Packet) -> Packet {
        let sets = ParameterSets::from_extradata(track.codec, &track.extradata).expect("sets");
        let mut packet = packet.try_clone().expect("a packet");
        let sets = media::h26x::to_length_prefixed(sets.units());
        let data = [&sets, packet.data()].concat();
        packet.replace_data(&data).expect("memory");
        packet
    }

    #[test]
    fn other_parameter_sets_are_another_stream() {
        for encoder in ["libx264", "libx265"] {
            let (small, large) = (made(encoder, 160), made(encoder, 320));
            let mut changes = Changes::new(&small.track);
            let own = with_sets(&small.track, &small.packets[0]);
            assert_eq!(changes.look(&own), None, "{encoder}");
            assert_eq!(changes.stored(&own), own.data());
            // They count from a key frame on.
            let other = with_sets(&large.track, &large.packets[1]);
            assert_eq!(changes.look(&other), None, "{encoder}");
            let other = with_sets(&large.track, &large.packets[2]);
            let track = changes.look(&other).expect("another stream");
            assert_eq!((track.width, track.height), (320, 240), "{encoder}");
            assert_eq!(track.extradata, large.track.extradata, "{encoder}");
            assert_eq!(changes.stored(&other), large.packets[2].data());
            assert_eq!(changes.look(&other), None, "{encoder}");
            let back = changes.look(&own).expect("another stream");
            assert_eq!((back.width, back.extradata), (160, small.track.extradata));
        }
    }

    #[test]
    fn a_picture_of_another_size_is_another_stream() {
        let (small, large) = (made("mjpeg", 160), made("mjpeg", 320));
        let mut changes = Changes::new(&small.track);
        let sizes = [&small, &small, &large, &large, &small].map(|made| {
            let track = changes.look(&made.packets[0]);
            track.map(|track| (track.width, track.height))
        });
        let expected = [None, None, Some((320, 240)), None, Some((160, 240))];
        assert_eq!(sizes, expected);
    }

    proptest::proptest! {
        #[test]
        fn no_jpeg_makes_it_panic(data: Vec<u8>) {
            jpeg_size(&[&[0xff, 0xd8, 0xff], &data[..]].concat());
        }
    }
}
