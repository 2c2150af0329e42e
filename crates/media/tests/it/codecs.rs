//! Encoders and decoders.

use std::fs::File;

use media::audio::{AudioDecoder, ToAac};
use media::encode::{Key, has_option, is_available};
use media::synth::{TestVideo, draw, read_number};
use media::verify::{VerifyOptions, verify_frames};
use media::{
    ColourRange, Decoder, DecoderOptions, Encoder, EncoderSettings, FieldOrder, Frame, MediaError,
    Packet, PixelFormat, Rate, Rational, Reader, ReaderOptions, VideoCodec, probe,
};
use tempfile::tempdir;

use crate::frames_by_cli;

/// Writes a video, decodes it strictly and checks that every frame is the one it should be, at its time.
fn round_trip(video: &TestVideo) -> Result<(), MediaError> {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    video.write(&path)?;
    let mut numbers = Vec::new();
    let mut sizes = Vec::new();
    let found = verify_frames(
        File::open(&path).unwrap(),
        &VerifyOptions::default(),
        &mut |frame| {
            numbers.push(read_number(frame));
            sizes.push((frame.width(), frame.height()));
            Ok(())
        },
    )?;
    let expected: Vec<Option<u32>> = (0..video.frames).map(Some).collect();
    assert_eq!(found.errors, Vec::<String>::new());
    assert_eq!(numbers, expected, "{}", video.encoder);
    assert!(
        sizes
            .iter()
            .all(|size| *size == (video.width, video.height)),
        "{:?}",
        sizes[0]
    );
    let times: Vec<i64> = (0..video.frames).map(|i| video.pts_of(i)).collect();
    assert_eq!(found.pts(), times, "{}", video.encoder);
    Ok(())
}

#[test]
fn every_codec_keeps_every_frame() {
    for (encoder, codec, b_frames) in [
        ("libx264", VideoCodec::H264, 0),
        ("libx264", VideoCodec::H264, 3),
        ("libx265", VideoCodec::H265, 0),
        ("libx265", VideoCodec::H265, 2),
        ("mjpeg", VideoCodec::Mjpeg, 0),
        ("mpeg4", VideoCodec::Mpeg4, 0),
    ] {
        if !is_available(encoder) {
            continue;
        }
        let video = TestVideo {
            encoder: encoder.into(),
            b_frames,
            ..TestVideo::default()
        };
        assert_eq!(video.encode().unwrap().track.codec, codec);
        round_trip(&video).unwrap();
    }
}

#[test]
fn odd_sizes_stay_odd() {
    for (encoder, width, height) in [
        ("libx264", 321, 241),
        ("libx264", 320, 241),
        ("libx265", 321, 239),
        ("mjpeg", 321, 241),
        ("mpeg4", 321, 241),
    ] {
        if is_available(encoder) {
            round_trip(&TestVideo {
                encoder: encoder.into(),
                width,
                height,
                ..TestVideo::default()
            })
            .unwrap();
        }
    }
}

/// x264 refuses interlaced pictures whose fields have no whole rows of chroma, such as those of 486 lines.
#[test]
fn pictures_are_interlaced_where_their_height_allows() {
    for (height, interlaced) in [(240, true), (242, false), (241, false)] {
        let settings = EncoderSettings {
            fields: Some(FieldOrder::TopFirst),
            ..EncoderSettings::new("libx264", 320, height, Rational::MPEG)
        };
        let mut encoder = Encoder::open(settings).unwrap();
        let mut frame = draw(320, height, 0).unwrap();
        frame.set_pts(Some(0));
        let mut packets = Vec::new();
        encoder.encode(&frame, Key::Auto, &mut packets).unwrap();
        encoder.finish(&mut packets).unwrap();
        let mut decoder = Decoder::new(encoder.track(), &DecoderOptions::default()).unwrap();
        decoder.send(&packets[0]).unwrap();
        decoder.finish().unwrap();
        let shown = decoder.receive().unwrap().expect("a picture");
        assert_eq!(shown.height(), height);
        assert_eq!(shown.fields().is_some(), interlaced, "{height}");
    }
}

#[test]
fn hevc_is_tagged_for_safari() {
    if !is_available("libx265") {
        return;
    }
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    TestVideo {
        encoder: "libx265".into(),
        ..TestVideo::default()
    }
    .write(&path)
    .unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes.windows(4).any(|w| w == b"hvc1"));
    assert!(!bytes.windows(4).any(|w| w == b"hev1"));
    assert_eq!(frames_by_cli(&path).unwrap_or(30), 30);
}

#[test]
fn mjpeg_comes_out_as_full_range() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    TestVideo {
        encoder: "mjpeg".into(),
        full_range: true,
        ..TestVideo::default()
    }
    .write(&path)
    .unwrap();
    let track = probe(&path).unwrap().video().unwrap().clone();
    assert_eq!(
        (track.pixel_format, track.colour.range),
        (Some(PixelFormat::I420), ColourRange::Full)
    );

    let mut reader = Reader::open_path(&path, &ReaderOptions::default()).unwrap();
    let mut decoder = Decoder::new(&track, &DecoderOptions::default()).unwrap();
    let mut frames = Vec::new();
    decoder
        .decode(Some(&reader.next_packet().unwrap().unwrap()), &mut frames)
        .unwrap();
    decoder.decode(None, &mut frames).unwrap();
    assert_eq!(frames[0].format(), PixelFormat::I420);
    assert_eq!(frames[0].colour().range, ColourRange::Full);

    // Encoded again as H.264 the values stay what they are.
    let mut encoder = Encoder::open(EncoderSettings {
        rate: Rate::Crf(10.0),
        ..EncoderSettings::like("libx264", &track)
    })
    .unwrap();
    let mut packets = Vec::new();
    encoder
        .encode(&frames[0], Key::Forced, &mut packets)
        .unwrap();
    encoder.finish(&mut packets).unwrap();
    let mut decoder = Decoder::new(encoder.track(), &DecoderOptions::default()).unwrap();
    let mut again = Vec::new();
    decoder.decode(Some(&packets[0]), &mut again).unwrap();
    decoder.decode(None, &mut again).unwrap();
    assert_eq!(again[0].colour().range, ColourRange::Full);
    let (a, b) = (mean(&frames[0]), mean(&again[0]));
    assert!((a - b).abs() < 1.5, "{a} became {b}");
}

fn mean(frame: &Frame) -> f64 {
    let plane = frame.plane(0);
    let rows = plane
        .data
        .chunks(plane.stride)
        .map(|row| &row[..plane.row_bytes]);
    let sum: u64 = rows.flatten().map(|value| u64::from(*value)).sum();
    sum as f64 / (plane.row_bytes * plane.rows) as f64
}

#[test]
fn ten_bit_video_is_reduced() {
    let settings = EncoderSettings {
        pixel_format: PixelFormat::I420_10,
        preset: Some("ultrafast".into()),
        ..EncoderSettings::new("libx264", 320, 240, Rational::MPEG)
    };
    let mut encoder = Encoder::open(settings).unwrap();
    if encoder.track().pixel_format != Some(PixelFormat::I420_10) {
        return;
    }
    let video = TestVideo::default();
    let mut packets = Vec::new();
    for index in 0..3 {
        encoder
            .encode(&video.frame(index).unwrap(), Key::Auto, &mut packets)
            .unwrap();
    }
    encoder.finish(&mut packets).unwrap();
    let mut decoder = Decoder::new(encoder.track(), &DecoderOptions::default()).unwrap();
    let mut frames = Vec::new();
    for packet in &packets {
        decoder.decode(Some(packet), &mut frames).unwrap();
    }
    decoder.decode(None, &mut frames).unwrap();
    assert!(
        frames
            .iter()
            .all(|frame| frame.format() == PixelFormat::I420)
    );
    assert_eq!(
        frames.iter().map(read_number).collect::<Vec<_>>(),
        [Some(0), Some(1), Some(2)]
    );
    assert_eq!(frames[2].pts(), Some(12_000));
}

#[test]
fn forced_key_frames_are_key_frames() {
    let video = TestVideo {
        frames: 20,
        gop: 250,
        ..TestVideo::default()
    };
    let settings = EncoderSettings {
        preset: Some("ultrafast".into()),
        gop: Some(250),
        ..EncoderSettings::new("libx264", 320, 240, Rational::MPEG)
    };
    let mut encoder = Encoder::open(settings).unwrap();
    let mut packets = Vec::new();
    for index in 0..20 {
        let key = if index == 7 { Key::Forced } else { Key::Auto };
        encoder
            .encode(&video.frame(index).unwrap(), key, &mut packets)
            .unwrap();
    }
    encoder.finish(&mut packets).unwrap();
    let keys: Vec<usize> = (0..20).filter(|i| packets[*i].is_key()).collect();
    assert_eq!(keys, [0, 7]);
    assert!(packets.iter().all(|packet| packet.duration() == 6_000));
}

#[test]
fn a_misspelt_option_is_an_error() {
    let settings = EncoderSettings {
        options: vec![("crff".into(), "23".into())],
        ..EncoderSettings::new("libx264", 320, 240, Rational::MPEG)
    };
    let error = Encoder::open(settings).err().unwrap();
    assert_eq!(
        error.to_string(),
        "open libx264 encoder: option crff=23 is not accepted"
    );

    let settings = EncoderSettings {
        preset: Some("fast".into()),
        ..EncoderSettings::new("mpeg4", 320, 240, Rational::MPEG)
    };
    let error = Encoder::open(settings).err().unwrap();
    assert!(
        matches!(&error, MediaError::InvalidOption { option, .. } if option == "preset=fast"),
        "{error}"
    );
    assert!(has_option("libx264", "crf") && !has_option("mpeg4", "crf"));

    let settings = EncoderSettings {
        preset: Some("quickest".into()),
        ..EncoderSettings::new("libx264", 320, 240, Rational::MPEG)
    };
    let error = Encoder::open(settings).err().unwrap();
    assert!(
        matches!(&error, MediaError::InvalidOption { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("quickest"), "{error}");
}

#[test]
fn a_missing_encoder_names_those_there() {
    let error = Encoder::open(EncoderSettings::new("h264_magic", 320, 240, Rational::MPEG))
        .err()
        .unwrap();
    let text = error.to_string();
    assert!(matches!(error, MediaError::EncoderMissing { .. }));
    assert!(
        text.starts_with(
            "no video encoder named 'h264_magic' in the installed FFmpeg; for MP4 it has: "
        ),
        "{text}"
    );
    assert!(text.contains("mpeg4") && !text.contains("ffv1"), "{text}");
}

#[test]
fn what_mp4_cannot_hold_is_known() {
    for good in ["libx264", "mpeg4", "h264_magic"] {
        media::encode::require_mp4(good).unwrap();
    }
    for bad in ["ffv1", "gif", "rawvideo"] {
        let error = media::encode::require_mp4(bad).unwrap_err();
        assert!(
            error.to_string().contains("in an MP4 file: not supported"),
            "{error}"
        );
    }
}

#[test]
fn sound_that_overlaps_a_little_is_written_behind() {
    let dir = tempdir().expect("a directory");
    let made = TestVideo {
        audio: true,
        ..TestVideo::default()
    };
    let (track, mut packets) = made.encode().expect("a video").audio.expect("sound");
    let length = packets[0].duration();
    let times = |packets: &[media::Packet]| -> Vec<i64> {
        packets.iter().filter_map(media::Packet::pts).collect()
    };
    let mut wanted = times(&packets);
    // From one packet on: as early as the one before, and some more.
    for (number, early) in [(4, length), (7, length + length / 2), (9, 3 * length)] {
        let at = wanted[number] - early;
        packets[number].set_times(Some(at), Some(at), length);
        wanted[number] = wanted[number - 1] + 1;
    }
    let path = dir.path().join("a.mp4");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .expect("a file");
    let options = media::WriterOptions::default();
    let mut writer =
        media::FileWriter::create(file, &[track.clone().into()], &options).expect("a file");
    for packet in &packets[..9] {
        writer.write_sound(0, packet).expect("it is written");
    }
    let error = writer.write_sound(0, &packets[9]);
    assert!(
        matches!(error, Err(MediaError::Timestamps { .. })),
        "{error:?}"
    );
    for packet in &packets[10..] {
        writer.write_sound(0, packet).expect("it is written");
    }
    writer.finish().expect("it is finished");
    wanted.remove(9);
    let mut reader =
        media::Reader::open_path(&path, &media::ReaderOptions::default()).expect("a file");
    let mut found = Vec::new();
    while let Some(packet) = reader.next_packet().expect("a packet") {
        let pts = packet.pts().expect("a time");
        found.push(packet.time_base().rescale(pts, track.time_base));
    }
    assert_eq!(found, wanted);
}

#[test]
fn repeated_times_are_refused() {
    let made = TestVideo {
        frames: 3,
        ..TestVideo::default()
    }
    .encode()
    .unwrap();
    let file = tempfile::tempfile().unwrap();
    let tracks = [made.track.clone().into()];
    let mut writer =
        media::FileWriter::create(file, &tracks, &media::WriterOptions::default()).unwrap();
    writer.write(0, &made.packets[1]).unwrap();
    let error = writer.write(0, &made.packets[1]).unwrap_err();
    assert!(
        matches!(
            error,
            MediaError::Timestamps {
                dts: 6_000,
                previous: 6_000,
                ..
            }
        ),
        "{error}"
    );
    writer.write(0, &made.packets[2]).unwrap();
}

#[test]
fn g711_becomes_aac() {
    let track = media::AudioTrack::new(media::AudioCodec::PcmMulaw, 8_000, 1);
    let mut converter = ToAac::new(&track).unwrap();
    let mut packets = Vec::new();
    for block in 0..50 {
        // A camera's clock jitters; 20 ms blocks of silence and a click.
        let jitter = if block % 2 == 0 { 0 } else { 7 };
        let packet = Packet::new(&[0xff; 160], track.time_base).unwrap();
        converter
            .push(&packet, block * 160 + jitter, &mut packets)
            .unwrap();
    }
    converter.finish(&mut packets).unwrap();
    assert_eq!(
        (converter.track().sample_rate, converter.track().channels),
        (8_000, 1)
    );
    assert!(!converter.track().extradata.is_empty());
    let times: Vec<i64> = packets.iter().filter_map(Packet::pts).collect();
    assert!(
        times.windows(2).all(|pair| pair[1] - pair[0] == 1_024),
        "{times:?}"
    );
    assert_eq!(packets.len(), 9);
}

/// A tone stays that tone, in whichever way it was stored.
#[test]
fn sound_of_any_kind_becomes_aac() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.mov");
    for (codec, rate, tolerance) in [
        ("pcm_u8", 8_000, 0.001),
        ("pcm_mulaw", 8_000, 0.001),
        ("pcm_s16be", 16_000, 0.001),
        ("pcm_s32le", 48_000, 0.001),
        ("pcm_f64le", 44_100, 0.001),
        ("adpcm_ima_qt", 16_000, 0.001),
    ] {
        let made = std::process::Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-f", "lavfi", "-i"])
            .arg(format!("sine=f=440:r={rate}:d=2"))
            .args(["-c:a", codec])
            .arg(&path)
            .status();
        let Ok(status) = made else {
            eprintln!("SKIPPED: no ffmpeg");
            return;
        };
        assert!(status.success());
        let mut reader = Reader::open_path(&path, &ReaderOptions::default()).unwrap();
        let track = reader.audio().expect("sound").1.clone();
        let mut converter = ToAac::new(&track).unwrap();
        let mut packets = Vec::new();
        while let Some(packet) = reader.next_packet().unwrap() {
            let at = packet
                .time_base()
                .rescale(packet.pts().unwrap(), converter.track().time_base);
            converter.push(&packet, at, &mut packets).unwrap();
        }
        converter.finish(&mut packets).unwrap();
        // And back, which tells what was encoded.
        let mut decoder = AudioDecoder::new(converter.track()).unwrap();
        let mut heard = Vec::new();
        for packet in &packets {
            heard.extend(decoder.decode(packet).unwrap());
        }
        let seconds = heard.len() as f64 / f64::from(rate);
        assert!((1.9..2.3).contains(&seconds), "{codec}: {seconds} s");
        let middle = &heard[rate as usize / 2..][..rate as usize];
        let crossings = middle
            .windows(2)
            .filter(|pair| pair[0] < 0.0 && pair[1] >= 0.0)
            .count();
        assert!((438..=442).contains(&crossings), "{codec}: {crossings} Hz");
        let power = middle.iter().map(|sample| sample * sample).sum::<f32>() / rate as f32;
        // FFmpeg's tone has an amplitude of an eighth.
        assert!((power - 1.0 / 128.0).abs() < tolerance, "{codec}: {power}");
    }
}
