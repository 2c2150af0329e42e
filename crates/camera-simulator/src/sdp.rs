//! The session description of a camera (RFC 4566; `fmtp` per RFC 6184, RFC 7798, RFC 3640).

use crate::clip::{AudioFormat, Clip, Track, VIDEO_CLOCK, VideoFormat};
use crate::nal::VideoCodec;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::net::IpAddr;

/// RTP payload type of a track (dynamic range).
pub(crate) fn payload_type(track: Track) -> u8 {
    match track {
        Track::Video => 96,
        Track::Audio => 97,
    }
}

/// The control attribute of a track, relative to `Content-Base`.
pub(crate) fn control(track: Track) -> &'static str {
    match track {
        Track::Video => "trackID=0",
        Track::Audio => "trackID=1",
    }
}

/// Describes `clip` as served by camera `name` at `address`.
pub(crate) fn describe(name: &str, clip: &Clip, address: IpAddr) -> String {
    let family = if address.is_ipv4() { "IP4" } else { "IP6" };
    let any = if address.is_ipv4() { "0.0.0.0" } else { "::" };
    let mut lines = vec![
        "v=0".to_owned(),
        format!("o=- 1 1 IN {family} {address}"),
        format!("s={name}"),
        format!("c=IN {family} {any}"),
        "t=0 0".to_owned(),
        "a=control:*".to_owned(),
        "a=range:npt=now-".to_owned(),
    ];
    lines.extend(video_lines(&clip.video));
    lines.extend(clip.audio.iter().flat_map(audio_lines));
    lines.join("\r\n") + "\r\n"
}

fn video_lines(video: &VideoFormat) -> [String; 6] {
    let pt = payload_type(Track::Video);
    let (encoding, parameters) = match video.codec {
        VideoCodec::H264 => ("H264", h264_parameters(video)),
        VideoCodec::H265 => ("H265", h265_parameters(video)),
    };
    [
        format!("m=video 0 RTP/AVP {pt}"),
        format!("a=rtpmap:{pt} {encoding}/{VIDEO_CLOCK}"),
        format!("a=fmtp:{pt} {parameters}"),
        format!("a=framerate:{:.3}", video.fps),
        format!("a=x-dimensions:{},{}", video.width, video.height),
        format!("a=control:{}", control(Track::Video)),
    ]
}

fn h264_parameters(video: &VideoFormat) -> String {
    let sets: Vec<_> = video.sets.in_order().map(|s| STANDARD.encode(s)).collect();
    let level = video.sets.sps()[0]
        .get(1..4)
        .map(crate::hex)
        .unwrap_or_default();
    format!(
        "packetization-mode=1;profile-level-id={level};sprop-parameter-sets={}",
        sets.join(",")
    )
}

fn h265_parameters(video: &VideoFormat) -> String {
    let list = |sets: &[Bytes]| {
        let encoded: Vec<_> = sets.iter().map(|s| STANDARD.encode(s)).collect();
        encoded.join(",")
    };
    let sets = &video.sets;
    let end = if video.sets_out_of_band { ";" } else { "" };
    format!(
        "sprop-vps={};sprop-sps={};sprop-pps={}{end}",
        list(sets.vps()),
        list(sets.sps()),
        list(sets.pps())
    )
}

fn audio_lines(audio: &AudioFormat) -> [String; 4] {
    let pt = payload_type(Track::Audio);
    [
        format!("m=audio 0 RTP/AVP {pt}"),
        format!(
            "a=rtpmap:{pt} mpeg4-generic/{}/{}",
            audio.rate, audio.channels
        ),
        format!(
            "a=fmtp:{pt} streamtype=5;profile-level-id=1;mode=AAC-hbr;config={};sizelength=13;indexlength=3;indexdeltalength=3",
            crate::hex(&audio.config)
        ),
        format!("a=control:{}", control(Track::Audio)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::tests::small_clip;

    #[test]
    fn the_description_names_both_streams() {
        let text = describe("cam0", &small_clip(true), IpAddr::from([127, 0, 0, 1]));
        for line in [
            "a=rtpmap:96 H264/90000",
            "a=fmtp:96 packetization-mode=1;profile-level-id=42001e;sprop-parameter-sets=Z0IAHgE=,aAE=",
            "a=framerate:10.000",
            "a=rtpmap:97 mpeg4-generic/8000/1",
            "a=control:trackID=1",
        ] {
            assert!(
                text.contains(&format!("{line}\r\n")),
                "{line} not in\n{text}"
            );
        }
    }
}
