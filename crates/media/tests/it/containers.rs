//! Times, tracks and tags through files.

use std::fs::File;

use media::boxes::top_boxes;
use media::h26x::{self, ParameterSets};
use media::synth::TestVideo;
use media::verify::VerifyOptions;
use media::{
    Container, MediaError, Rational, Reader, ReaderOptions, Track, VideoCodec, probe, verify,
};
use tempfile::tempdir;

use crate::frames_by_cli;

#[test]
fn uneven_times_come_back_exactly() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("vfr.mp4");
    let pts: Vec<i64> = (0..40)
        .map(|i| 3_003 + i * 6_000 + (i * i * 37) % 1_999)
        .collect();
    let video = TestVideo {
        frames: 40,
        pts: Some(pts.clone()),
        b_frames: 2,
        ..TestVideo::default()
    };
    video.write(&path).unwrap();

    let found = verify(&path, &VerifyOptions::default()).unwrap();
    assert_eq!(found.errors, Vec::<String>::new());
    assert_eq!(found.track.time_base, Rational::MPEG);
    assert_eq!(found.pts(), pts);
    assert!(found.is_sound());
    if let Some(frames) = frames_by_cli(&path) {
        assert_eq!(frames, 40);
    }
}

#[test]
fn odd_time_bases_are_kept() {
    let dir = tempdir().unwrap();
    for timescale in [15, 1_000, 30_000, 1_000_000] {
        let path = dir.path().join(format!("{timescale}.mp4"));
        let pts: Vec<i64> = (0..30)
            .map(|i| i64::from(timescale) * i / 15 + i64::from(timescale > 15 && i == 7))
            .collect();
        let video = TestVideo {
            timescale,
            pts: Some(pts.clone()),
            ..TestVideo::default()
        };
        video.write(&path).unwrap();
        let found = verify(&path, &VerifyOptions::default()).unwrap();
        let to = Rational::new(1, timescale);
        let back: Vec<i64> = found
            .pts()
            .iter()
            .map(|t| found.track.time_base.rescale(*t, to))
            .collect();
        assert_eq!(back, pts, "timescale {timescale}");
    }
}

#[test]
fn the_index_comes_first() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    TestVideo::default().write(&path).unwrap();
    let kinds: Vec<[u8; 4]> = top_boxes(&File::open(&path).unwrap())
        .unwrap()
        .iter()
        .map(|b| b.kind)
        .collect();
    let place = |kind: &[u8; 4]| kinds.iter().position(|k| k == kind).unwrap();
    assert!(place(b"moov") < place(b"mdat"), "{kinds:?}");
}

#[test]
fn geometry_and_colour_are_kept() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    let shape = Rational::new(4, 3);
    TestVideo {
        rotation: Some(90.0),
        sample_aspect_ratio: Some(shape),
        full_range: true,
        audio: true,
        ..TestVideo::default()
    }
    .write(&path)
    .unwrap();
    let found = probe(&path).unwrap();
    let video = found.video().unwrap();
    assert_eq!(video.codec, VideoCodec::H264);
    assert_eq!((video.width, video.height), (320, 240));
    assert_eq!(video.sample_aspect_ratio, Some(shape));
    assert_eq!(video.colour.range, media::ColourRange::Full);
    assert_eq!(video.pixel_format, Some(media::PixelFormat::I420));
    assert!((video.display_matrix.unwrap().clockwise_degrees() - 90.0).abs() < 0.01);
    assert_eq!(video.frame_count, Some(30));
    assert!((video.duration_seconds().unwrap() - 2.0).abs() < 1e-6);
    let audio = found.audio().unwrap();
    assert_eq!((audio.sample_rate, audio.channels), (16_000, 1));
}

#[test]
fn audio_stays_in_step() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    let made = TestVideo {
        audio: true,
        ..TestVideo::default()
    }
    .write(&path)
    .unwrap();
    let found = verify(&path, &VerifyOptions::default()).unwrap();
    let (track, packets) = made.audio.unwrap();
    let expected: Vec<i64> = packets.iter().filter_map(|p| p.pts()).collect();
    let audio = found.audio.unwrap();
    let back: Vec<i64> = found
        .audio_pts
        .iter()
        .map(|t| audio.time_base.rescale(*t, track.time_base))
        .collect();
    assert_eq!(back, expected);
}

#[test]
fn nothing_of_the_maker_is_written() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    TestVideo {
        audio: true,
        ..TestVideo::default()
    }
    .write(&path)
    .unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for text in [&b"Lavf"[..], b"x264", b"Lavc"] {
        assert!(
            !bytes.windows(text.len()).any(|w| w == text),
            "{}",
            String::from_utf8_lossy(text)
        );
    }
}

#[test]
fn matroska_and_quicktime_work_too() {
    let dir = tempdir().unwrap();
    for (container, name) in [(Container::Mkv, "a.mkv"), (Container::Mov, "a.mov")] {
        let path = dir.path().join(name);
        TestVideo {
            container,
            audio: true,
            timescale: 1_000,
            ..TestVideo::default()
        }
        .write(&path)
        .unwrap();
        let found = verify(&path, &VerifyOptions::default()).unwrap();
        assert_eq!((found.frames.len(), found.errors.len()), (30, 0), "{name}");
    }
}

#[test]
fn errors_say_which_kind_they_are() {
    let dir = tempdir().unwrap();
    let missing = Reader::open_path(dir.path().join("none.mp4"), &ReaderOptions::default())
        .err()
        .unwrap();
    assert!(
        matches!(&missing, MediaError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
    );

    let text = dir.path().join("text.mp4");
    std::fs::write(&text, "this is no video").unwrap();
    let error = Reader::open_path(&text, &ReaderOptions::default())
        .err()
        .unwrap();
    assert!(
        matches!(
            error,
            MediaError::Damaged { .. } | MediaError::Unsupported { .. }
        ),
        "{error:?}"
    );

    let list = dir.path().join("list.mp4");
    std::fs::write(
        &list,
        format!(
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n",
            text.display()
        ),
    )
    .unwrap();
    assert!(Reader::open_path(&list, &ReaderOptions::default()).is_err());

    let directory = Reader::open_path(dir.path(), &ReaderOptions::default())
        .err()
        .unwrap();
    assert!(matches!(directory, MediaError::Io { .. }), "{directory:?}");

    let local = Reader::open_url("file:///etc/passwd", &ReaderOptions::default())
        .err()
        .unwrap();
    assert!(matches!(local, MediaError::Unsupported { .. }), "{local:?}");
}

#[test]
fn a_full_disk_is_recognised() {
    let full = File::options()
        .read(true)
        .write(true)
        .open("/dev/full")
        .unwrap();
    let made = TestVideo::default().encode().unwrap();
    let tracks = [Track::Video(made.track.clone())];
    let result = media::FileWriter::create(full, &tracks, &media::WriterOptions::default())
        .and_then(|mut writer| {
            made.packets
                .iter()
                .try_for_each(|packet| writer.write(0, packet))?;
            writer.finish()
        });
    let error = result.err().unwrap();
    assert!(error.is_storage_full(), "{error:?}");
}

#[test]
fn a_silent_server_times_out_and_stops() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("http://user:secret@127.0.0.1:{port}/x.mp4");
    let limit = std::time::Duration::from_millis(300);
    let options = ReaderOptions {
        open_timeout: Some(limit),
        ..ReaderOptions::default()
    };
    let error = Reader::open_url(&url, &options).err().unwrap();
    assert!(matches!(error, MediaError::TimedOut { .. }), "{error:?}");
    assert!(!error.to_string().contains("secret"), "{error}");

    let options = ReaderOptions::default();
    options.stop.stop();
    let error = Reader::open_url(&url, &options).err().unwrap();
    assert!(matches!(error, MediaError::Stopped { .. }), "{error:?}");
}

#[test]
fn seeking_lands_on_a_key_frame() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    TestVideo {
        frames: 60,
        ..TestVideo::default()
    }
    .write(&path)
    .unwrap();
    let mut reader = Reader::open_path(&path, &ReaderOptions::default()).unwrap();
    reader.seek(0, 35 * 6_000).unwrap();
    let packet = reader.next_packet().unwrap().unwrap();
    assert!(packet.is_key());
    assert_eq!(packet.pts(), Some(30 * 6_000));
}

#[test]
fn streams_with_start_codes_come_out_as_mp4_stores_them() {
    for (encoder, codec, name) in [
        ("libx264", VideoCodec::H264, "a.h264"),
        ("libx265", VideoCodec::H265, "a.hevc"),
    ] {
        if !media::encode::is_available(encoder) {
            continue;
        }
        let dir = tempdir().unwrap();
        let path = dir.path().join(name);
        let video = TestVideo {
            encoder: encoder.into(),
            ..TestVideo::default()
        };
        let made = video.encode().unwrap();
        let sets = ParameterSets::from_extradata(codec, &made.track.extradata).unwrap();
        let mut stream = Vec::new();
        for packet in &made.packets {
            if packet.is_key() {
                stream.extend(sets.to_annex_b());
            }
            stream.extend(h26x::to_annex_b(h26x::length_prefixed_units(
                4,
                packet.data(),
            )));
        }
        std::fs::write(&path, stream).unwrap();
        let back = media::probe::load(&path).unwrap();
        let Track::Video(track) = &back.tracks[0] else {
            panic!("no video")
        };
        assert_eq!(
            (track.codec, &track.extradata),
            (codec, &made.track.extradata)
        );
        assert!(
            back.packets
                .iter()
                .map(media::Packet::data)
                .eq(made.packets.iter().map(media::Packet::data))
        );
        assert!(verify(&path, &VerifyOptions::default()).unwrap().is_sound());
    }
}

#[test]
fn parameter_sets_that_change_and_change_back_are_kept() {
    for (encoder, codec, option, [here, there], name) in [
        (
            "libx264",
            VideoCodec::H264,
            "x264-params",
            ["cabac=0", "cabac=1"],
            "a.h264",
        ),
        (
            "libx265",
            VideoCodec::H265,
            "x265-params",
            ["log-level=error:signhide=0", "log-level=error:signhide=1"],
            "a.hevc",
        ),
    ] {
        if !media::encode::is_available(encoder) {
            continue;
        }
        let dir = tempdir().unwrap();
        let path = dir.path().join(name);
        let mut stream = Vec::new();
        for value in [here, there, here] {
            let video = TestVideo {
                encoder: encoder.into(),
                options: vec![(option.into(), value.into())],
                ..TestVideo::default()
            };
            let made = video.encode().unwrap();
            let sets = ParameterSets::from_extradata(codec, &made.track.extradata).unwrap();
            stream.extend(sets.to_annex_b());
            for packet in &made.packets {
                let units = h26x::length_prefixed_units(4, packet.data());
                stream.extend(h26x::to_annex_b(units));
            }
        }
        std::fs::write(&path, stream).unwrap();
        let found = verify(&path, &VerifyOptions::default()).unwrap();
        assert_eq!(found.errors, Vec::<String>::new(), "{name}");
        assert_eq!(found.frames.len(), 90, "{name}");
    }
}
