//! Broken data is noticed, never guessed over in silence, never a crash.

use media::encode::Key;
use media::h26x;
use media::synth::{Encoded, TestVideo, cut_last_unit};
use media::verify::VerifyOptions;
use media::{
    Decoder, DecoderOptions, Encoder, EncoderSettings, PixelFormat, Rational, Reader,
    ReaderOptions, VideoTrack, verify,
};
use std::path::Path;
use tempfile::tempdir;

/// Whether decoding the file, as far as it goes, tells that something is wrong with it.
fn decoder_notices(path: &Path, track: &VideoTrack, threads: u32) -> bool {
    let mut reader = Reader::open_path(path, &ReaderOptions::default()).expect("a file");
    let options = DecoderOptions {
        threads,
        ..DecoderOptions::default()
    };
    let mut decoder = Decoder::new(track, &options).expect("a decoder");
    let mut frames = Vec::new();
    let mut errors = 0;
    while let Some(packet) = reader.next_packet().expect("a packet") {
        errors += usize::from(decoder.decode(Some(&packet), &mut frames).is_err());
    }
    errors += usize::from(decoder.decode(None, &mut frames).is_err());
    errors > 0 || frames.iter().any(media::Frame::is_damaged)
}

#[test]
fn a_flipped_byte_is_noticed() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    let made = TestVideo {
        frames: 30,
        ..TestVideo::default()
    }
    .write(&path)
    .unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let data = made.packets[5].data();
    let at = bytes.windows(data.len()).position(|w| w == data).unwrap();
    for byte in &mut bytes[at + 20..at + data.len() - 4] {
        *byte ^= 0x5a;
    }
    std::fs::write(&path, bytes).unwrap();
    let found = verify(&path, &VerifyOptions::default()).unwrap();
    assert!(!found.errors.is_empty() && !found.is_sound());

    assert!(decoder_notices(&path, &made.track, 1));
}

#[test]
fn a_picture_that_ends_too_early_is_noticed() {
    for encoder in ["libx264", "libx265"] {
        for b_frames in [0, 2] {
            let dir = tempdir().unwrap();
            let path = dir.path().join("a.mp4");
            let made = TestVideo {
                encoder: encoder.into(),
                b_frames,
                ..TestVideo::default()
            }
            .write(&path)
            .unwrap();
            let mut bytes = std::fs::read(&path).unwrap();
            let data = made.packets[15].data();
            let at = bytes.windows(data.len()).position(|w| w == data).unwrap();
            cut_last_unit(&mut bytes[at..at + data.len()], made.track.codec);
            std::fs::write(&path, bytes).unwrap();
            let name = format!("{encoder}, {b_frames} B-frames");
            let found = verify(&path, &VerifyOptions::default()).unwrap();
            assert!(!found.errors.is_empty() && !found.is_sound(), "{name}");

            for threads in [1, 2, 4] {
                let noticed = decoder_notices(&path, &made.track, threads);
                assert!(noticed, "{name}, {threads} threads");
            }
        }
    }
}

/// A motion JPEG of 30 pictures, changed by `change`, as the tolerant decoder sees it: errors, frames that are not marked.
fn decoded_jpegs(change: impl Fn(usize, Vec<u8>) -> Vec<u8>) -> (usize, usize) {
    let video = TestVideo {
        encoder: "mjpeg".into(),
        // The tables of the standard, as most cameras use them.
        options: vec![("huffman".into(), "default".into())],
        ..TestVideo::default()
    };
    let made = video.encode().expect("motion JPEG");
    let mut decoder =
        Decoder::new(&made.track, &DecoderOptions::default()).expect("a decoder of motion JPEG");
    let (mut frames, mut errors) = (Vec::new(), 0);
    for (number, packet) in made.packets.iter().enumerate() {
        let mut packet = packet.try_clone().expect("a packet");
        let changed = change(number, packet.data().to_vec());
        packet.replace_data(&changed).expect("memory");
        errors += usize::from(decoder.decode(Some(&packet), &mut frames).is_err());
    }
    errors += usize::from(decoder.decode(None, &mut frames).is_err());
    let unmarked = frames.iter().filter(|frame| !frame.is_damaged()).count();
    (errors, unmarked)
}

#[test]
fn bytes_missing_from_a_jpeg_are_noticed() {
    let cut = |number: usize, mut data: Vec<u8>| {
        if number == 12 {
            let middle = data.len() / 2;
            data.drain(middle..middle + 200);
        }
        data
    };
    assert_eq!(decoded_jpegs(cut), (1, 29));
}

#[test]
fn what_cameras_do_to_jpegs_is_no_damage() {
    type Habit = fn(Vec<u8>) -> Vec<u8>;
    let habits: [(&str, Habit); 7] = [
        ("no end", |data| data[..data.len() - 2].to_vec()),
        ("zeros instead of an end", |data| {
            [&data[..data.len() - 2], &[0; 40]].concat()
        }),
        ("zeros behind the end", |data| {
            [&data[..], &[0; 40]].concat()
        }),
        ("two ends", |data| [&data[..], &[0xff, 0xd9]].concat()),
        ("bits set behind the end", |data| {
            [&data[..], &[0xff; 40]].concat()
        }),
        ("no Huffman tables", without_huffman_tables),
        ("a header of AVI", |data| {
            let header = b"\xff\xd8\xff\xe0\x00\x10AVI1\0\0\0\0\0\0\0\0\0\0";
            [&header[..], &without_huffman_tables(data)[2..]].concat()
        }),
    ];
    for (name, habit) in habits {
        assert_eq!(decoded_jpegs(|_, data| habit(data)), (0, 30), "{name}");
    }
}

/// A JPEG whose tables the decoder must know by itself.
fn without_huffman_tables(data: Vec<u8>) -> Vec<u8> {
    let (start, mut rest) = data.split_at(2);
    let mut kept = start.to_vec();
    loop {
        let length = 2 + usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        match rest[1] {
            0xc4 => {}
            0xda => return [&kept[..], rest].concat(),
            _ => kept.extend_from_slice(&rest[..length]),
        }
        rest = &rest[length..];
    }
}

#[test]
fn a_truncated_file_is_noticed() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    TestVideo {
        frames: 60,
        ..TestVideo::default()
    }
    .write(&path)
    .unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for share in [3, 5, 7, 9] {
        std::fs::write(&path, &bytes[..bytes.len() * share / 10]).unwrap();
        if let Ok(found) = verify(&path, &VerifyOptions::default()) {
            let declared = found.track.frame_count.unwrap_or(0);
            assert!(
                !found.is_sound() || found.packets < declared,
                "{share}/10 looked sound"
            );
        }
    }
}

#[test]
fn noise_is_survived() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    TestVideo {
        frames: 30,
        ..TestVideo::default()
    }
    .write(&path)
    .unwrap();
    let clean = std::fs::read(&path).unwrap();
    let mut seed = 12_345u64;
    for _ in 0..60 {
        let mut bytes = clean.clone();
        for _ in 0..20 {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let at = (seed >> 33) as usize % bytes.len();
            bytes[at] = (seed >> 24) as u8;
        }
        std::fs::write(&path, &bytes).unwrap();
        // Only that it comes back; what it says depends on the noise.
        drop(verify(&path, &VerifyOptions::default()));
    }
}

/// Makes an MPEG transport stream of a test video, or gives `None` where no ffmpeg is installed.
fn transport_stream(dir: &Path) -> Option<Vec<u8>> {
    let (file, stream) = (dir.join("a.mp4"), dir.join("a.ts"));
    let video = TestVideo {
        frames: 60,
        ..TestVideo::default()
    };
    video.write(&file).expect("a test video");
    let made = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&file)
        .args(["-c", "copy"])
        .arg(&stream)
        .status()
        .ok()?;
    assert!(made.success(), "ffmpeg makes no transport stream");
    Some(std::fs::read(&stream).expect("a transport stream"))
}

#[test]
fn packets_that_a_transport_stream_is_missing_are_told() {
    let dir = tempdir().unwrap();
    let Some(bytes) = transport_stream(dir.path()) else {
        eprintln!("skipped: no ffmpeg");
        return;
    };
    let path = dir.path().join("b.ts");
    let lost_in = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let mut reader = Reader::open_path(&path, &ReaderOptions::default()).unwrap();
        let (video, _) = reader.require_video().unwrap();
        let mut lost = reader.take_lost(video);
        while reader.next_packet().unwrap().is_some() {
            lost += reader.take_lost(video);
        }
        lost
    };
    assert_eq!(lost_in(&bytes), 0);
    const CELL: usize = 188;
    let middle = bytes.len() / CELL * 3 / 4 * CELL;
    let holed = [&bytes[..middle], &bytes[middle + 2 * CELL..]].concat();
    assert!(lost_in(&holed) > 0);
}

/// H.265 in four slices, with blocks of 16 where they may be; none where it cannot be made.
fn sliced(options: &str, b_frames: u32, format: PixelFormat, size: (u32, u32)) -> Option<Encoded> {
    let wanted = format!("log-level=error:slices=4:ctu=16:open-gop=0{options}");
    let settings = EncoderSettings {
        gop: Some(15),
        b_frames,
        preset: Some("ultrafast".into()),
        fps: Some(Rational::new(15, 1)),
        pixel_format: format,
        options: vec![("x265-params".into(), wanted)],
        ..EncoderSettings::new("libx265", size.0, size.1, Rational::MPEG)
    };
    let mut encoder = Encoder::open(settings).ok()?;
    let video = TestVideo {
        width: size.0,
        height: size.1,
        ..TestVideo::default()
    };
    let mut packets = Vec::new();
    for number in 0..video.frames {
        let key = if number % 15 == 0 {
            Key::Forced
        } else {
            Key::Auto
        };
        let frame = video.frame(number).expect("a picture");
        encoder.encode(&frame, key, &mut packets).expect("H.265");
    }
    encoder.finish(&mut packets).expect("H.265");
    let track = encoder.track().clone();
    Some(Encoded {
        track,
        packets,
        audio: None,
    })
}

/// The pictures, one of the packets being changed, and the numbers of the packets about which the decoder complained.
fn decode_harmed(
    made: &Encoded,
    harmed: Option<usize>,
    change: &dyn Fn(&[u8]) -> Vec<u8>,
) -> (Vec<media::Frame>, Vec<usize>) {
    let mut decoder = Decoder::new(&made.track, &DecoderOptions::default()).expect("H.265");
    let (mut frames, mut complaints) = (Vec::new(), Vec::new());
    for (number, packet) in made.packets.iter().enumerate() {
        let mut packet = packet.try_clone().expect("a packet");
        if harmed == Some(number) {
            let changed = change(packet.data());
            packet.replace_data(&changed).expect("memory");
        }
        let told = decoder.decode(Some(&packet), &mut frames).is_err();
        complaints.extend(told.then_some(number));
    }
    let told = decoder.decode(None, &mut frames).is_err();
    complaints.extend(told.then_some(made.packets.len()));
    (frames, complaints)
}

fn decode_clean(made: &Encoded) -> Vec<media::Frame> {
    let (clean, complaints) = decode_harmed(made, None, &|_| Vec::new());
    assert!(complaints.is_empty() && !clean.iter().any(media::Frame::is_damaged));
    clean
}

/// Damages one packet and decodes all. Where its picture passes for a good one: how many blocks of it are not what they must be.
fn passes_for_good(
    made: &Encoded,
    clean: &[media::Frame],
    harmed: usize,
    change: &dyn Fn(&[u8]) -> Vec<u8>,
) -> usize {
    let (frames, complaints) = decode_harmed(made, Some(harmed), change);
    let at = made.packets[harmed].pts();
    let of = |frames: &[media::Frame]| frames.iter().find(|frame| frame.pts() == at).cloned();
    let wanted = of(clean).expect("a picture");
    match of(&frames) {
        Some(found) if !complaints.contains(&harmed) && !found.is_damaged() => {
            different_blocks(&found, &wanted)
        }
        // One that is missing is noticed, too.
        _ => 0,
    }
}

/// How many blocks of 16 luma samples differ between pictures of the same size.
fn different_blocks(ours: &media::Frame, theirs: &media::Frame) -> usize {
    let (width, luma) = (
        ours.width() as usize,
        ours.plane(0).row_bytes * ours.plane(0).rows,
    );
    let pairs = ours.to_packed().into_iter().zip(theirs.to_packed());
    let different = pairs.take(luma).enumerate().filter(|(_, (a, b))| a != b);
    let blocks = different.map(|(at, _)| (at % width / 16, at / width / 16));
    blocks.collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn slices_of_h265_that_are_missing_are_noticed() {
    let (plain, deep) = (PixelFormat::I420, PixelFormat::I420_10);
    for (options, b_frames, format, size) in [
        ("", 0, plain, (320, 240)),
        ("", 3, plain, (320, 240)),
        (":no-sao=1", 0, plain, (320, 240)),
        (":no-deblock=1", 0, plain, (320, 240)),
        // Cropped: coded are 328x248.
        ("", 0, plain, (322, 242)),
        ("", 0, deep, (320, 240)),
    ] {
        let name = format!("{options}, {b_frames} B-frames, {format:?}, {size:?}");
        let Some(made) = sliced(options, b_frames, format, size) else {
            eprintln!("skipped: {name}");
            continue;
        };
        let clean = decode_clean(&made);
        for packet in [0, 7, 15, 16, 21] {
            let units = || h26x::length_prefixed_units(4, made.packets[packet].data());
            assert_eq!(units().count(), 4, "slices: {name}");
            for missing in 0..4 {
                let passed = passes_for_good(&made, &clean, packet, &|_| {
                    let kept = units().enumerate().filter(|(at, _)| *at != missing);
                    h26x::to_length_prefixed(kept.map(|(_, unit)| unit))
                });
                assert_eq!(passed, 0, "slice {missing} of packet {packet}: {name}");
            }
        }
    }
}

#[test]
fn slices_of_h265_that_end_too_early_are_noticed() {
    // What lies behind the end decodes to something for a while. No more than that passes, of 300 blocks.
    const MOST: usize = 30;
    for b_frames in [0, 3] {
        let Some(made) = sliced("", b_frames, PixelFormat::I420, (320, 240)) else {
            eprintln!("skipped: no libx265");
            return;
        };
        let clean = decode_clean(&made);
        for packet in 0..made.packets.len() {
            for share in [1, 4, 6, 7] {
                let passed = passes_for_good(&made, &clean, packet, &|data| {
                    let mut units: Vec<&[u8]> = h26x::length_prefixed_units(4, data).collect();
                    let cut = units[packet % 4];
                    units[packet % 4] = &cut[..(cut.len() * share / 8).max(3)];
                    h26x::to_length_prefixed(units)
                });
                let name = format!("{share} eighths of a slice of packet {packet}, {b_frames}");
                assert!(passed <= MOST, "{passed} blocks: {name}");
            }
        }
    }
}
