//! Recordings: written, finished, killed, salvaged.

use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use media::boxes::{broken_at, top_boxes, whole_part};
use media::fragments::stored_samples;
use media::h26x::{self, ParameterSets};
use media::salvage::SalvageReport;
use media::segment::{SegmentOptions, SegmentStats};
use media::synth::{Encoded, TestVideo, read_number};
use media::verify::{VerifyOptions, verify_frames};
use media::{
    MediaError, Packet, Salvaged, Sample, SegmentWriter, VideoCodec, finalise, finalise_in_place,
    salvage, verify,
};
use tempfile::{TempDir, tempdir};

use crate::frames_by_cli;

fn sample(packet: &Packet, shift: i64) -> Sample {
    Sample {
        data: packet.data().to_vec(),
        pts: packet.pts().unwrap() + shift,
        dts: packet.dts().unwrap() + shift,
        duration: packet.duration(),
        key: packet.is_key(),
    }
}

fn create(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .unwrap()
}

/// Records a test video, whose times begin somewhere in the middle of a camera's life, into a `.part`.
fn record(path: &Path, made: &Encoded, shift: i64) -> SegmentWriter {
    record_with(path, made, shift, &SegmentOptions::default())
}

fn record_with(path: &Path, made: &Encoded, shift: i64, options: &SegmentOptions) -> SegmentWriter {
    let audio = made.audio.as_ref();
    let mut writer = SegmentWriter::create(
        create(path),
        &made.track,
        audio.map(|(track, _)| track),
        options,
    )
    .unwrap();
    let mut sound = audio
        .map(|(_, packets)| packets.iter())
        .into_iter()
        .flatten()
        .peekable();
    for packet in &made.packets {
        writer.write_video(sample(packet, shift)).unwrap();
        let until = packet.pts().unwrap();
        while let Some(next) = sound.next_if(|p| p.pts().unwrap() * 90_000 / 16_000 <= until) {
            writer
                .write_audio(sample(next, shift * 16_000 / 90_000))
                .unwrap();
        }
    }
    writer
}

struct Recorded {
    _dir: TempDir,
    part: PathBuf,
    dst: PathBuf,
    made: Encoded,
}

fn recorded(video: &TestVideo, shift: i64) -> Recorded {
    let dir = tempdir().unwrap();
    let (part, dst) = (dir.path().join(".a.part"), dir.path().join("a.mp4"));
    let made = video.encode().unwrap();
    let stats = record(&part, &made, shift).finish().unwrap();
    assert_eq!(stats.frames, u64::from(video.frames));
    Recorded {
        _dir: dir,
        part,
        dst,
        made,
    }
}

fn saved(part: &Path, dst: &Path) -> SalvageReport {
    match salvage(part, dst).expect("a readable file") {
        Salvaged::Saved(report) => *report,
        other => panic!("{other:?}"),
    }
}

fn numbers(path: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    let options = VerifyOptions::default();
    let result = verify_frames(File::open(path).unwrap(), &options, &mut |frame| {
        found.extend(read_number(frame));
        Ok(())
    })
    .unwrap();
    assert_eq!(result.errors, Vec::<String>::new());
    found
}

#[test]
fn a_finished_recording_is_an_ordinary_exact_mp4() {
    for (encoder, b_frames, shift) in [
        ("libx264", 0, 0),
        ("libx264", 2, 123_457),
        ("libx265", 2, 9_000_000_000),
        ("mjpeg", 0, 77),
        // Through FFmpeg's muxer.
        ("mpeg4", 0, 77),
    ] {
        if !media::encode::is_available(encoder) {
            continue;
        }
        let pts: Vec<i64> = (0..45).map(|i| i * 6_000 + (i * 31) % 97).collect();
        let video = TestVideo {
            encoder: encoder.into(),
            b_frames,
            frames: 45,
            pts: Some(pts.clone()),
            ..TestVideo::default()
        };
        let made = recorded(&video, shift);
        let done = finalise(&made.part, &made.dst).unwrap();
        assert_eq!((done.frames, done.frames_left_out), (45, 0));

        let kinds: Vec<[u8; 4]> = top_boxes(&File::open(&made.dst).unwrap())
            .unwrap()
            .iter()
            .map(|b| b.kind)
            .collect();
        let place = |kind: &[u8; 4]| kinds.iter().position(|k| k == kind);
        assert!(
            place(b"moov") < place(b"mdat") && place(b"moof").is_none(),
            "{kinds:?}"
        );

        let found = verify(&made.dst, &VerifyOptions::default()).unwrap();
        let first = pts[0];
        assert_eq!(
            found.pts(),
            pts.iter().map(|t| t - first).collect::<Vec<_>>(),
            "{encoder}"
        );
        assert_eq!(found.track.frame_count, Some(45));
        assert_eq!(numbers(&made.dst), (0..45).collect::<Vec<_>>());
        if let Some(frames) = frames_by_cli(&made.dst) {
            assert_eq!(frames, 45, "{encoder}");
        }
        // Every byte of every frame is the camera's.
        let back = media::probe::load(&made.dst).unwrap();
        assert!(
            back.packets
                .iter()
                .map(Packet::data)
                .eq(made.made.packets.iter().map(Packet::data))
        );
    }
}

#[test]
fn sound_keeps_its_distance_to_the_picture() {
    let made = recorded(
        &TestVideo {
            audio: true,
            b_frames: 2,
            ..TestVideo::default()
        },
        5_400_000,
    );
    finalise(&made.part, &made.dst).unwrap();
    let found = verify(&made.dst, &VerifyOptions::default()).unwrap();
    let audio = found.audio.clone().unwrap();
    let (track, packets) = made.made.audio.as_ref().unwrap();
    // The encoder's priming packet lies before the first frame and is left out.
    let expected: Vec<i64> = packets
        .iter()
        .filter_map(Packet::pts)
        .filter(|t| *t >= 0)
        .collect();
    let back: Vec<i64> = found
        .audio_pts
        .iter()
        .map(|t| audio.time_base.rescale(*t, track.time_base))
        .collect();
    assert_eq!(back[..20], expected[..20]);
    assert_eq!(found.pts()[0], 0);
}

#[test]
fn a_key_frame_can_be_there_for_its_leading_pictures_alone() {
    for (encoder, parameters) in [("libx264", "x264-params"), ("libx265", "x265-params")] {
        let value =
            "keyint=8:min-keyint=8:open-gop=1:bframes=2:b-adapt=0:scenecut=0:log-level=error";
        let value = value.replace(
            ":log-level=error",
            if encoder == "libx264" {
                ""
            } else {
                ":log-level=error"
            },
        );
        let made = TestVideo {
            encoder: encoder.into(),
            frames: 40,
            gop: 1000,
            b_frames: 2,
            options: vec![(parameters.into(), value)],
            ..TestVideo::default()
        }
        .encode()
        .unwrap();
        let pts = |packet: &Packet| packet.pts().unwrap();
        let is_open = |pair: &[Packet]| pair[0].is_key() && pts(&pair[1]) < pts(&pair[0]);
        let key = 1 + made.packets[1..]
            .windows(2)
            .position(is_open)
            .expect("an open GOP");
        let leads = |packet: &&Packet| pts(packet) < pts(&made.packets[key]);
        let end = key + 1 + made.packets[key + 1..].iter().take_while(leads).count();
        let dir = tempdir().unwrap();
        let (part, dst) = (dir.path().join(".a.part"), dir.path().join("a.mp4"));
        let begun = Encoded {
            packets: made.packets[..end]
                .iter()
                .map(|p| p.try_clone().unwrap())
                .collect(),
            ..made
        };
        record(&part, &begun, 700_000).finish().unwrap();
        finalise(&part, &dst).unwrap();
        let shown_before = pts(&begun.packets[key]) - pts(&begun.packets[0]);
        assert!(media::show_until(&dst, shown_before, begun.track.time_base).unwrap());
        let wanted: Vec<u32> = (0..end as u32 - 1).collect();
        assert_eq!(numbers(&dst), wanted, "{encoder}");
        if let Some(frames) = frames_by_cli(&dst) {
            assert_eq!(frames, wanted.len() as u64, "{encoder}");
        }
        let stored = media::probe::load(&dst).unwrap();
        assert_eq!(stored.packets.len(), end);
        assert!(
            stored
                .packets
                .iter()
                .enumerate()
                .all(|(number, packet)| packet.is_discarded() == (number == key))
        );
    }
}

/// A recording with room for its index, beside a plain copy of it.
fn recorded_with_room(
    made: &Encoded,
    room: u32,
    shift: i64,
) -> (TempDir, PathBuf, PathBuf, SegmentStats) {
    let dir = tempdir().unwrap();
    let (part, copy) = (dir.path().join(".a.part"), dir.path().join(".b.part"));
    let options = SegmentOptions {
        room,
        ..SegmentOptions::default()
    };
    let stats = record_with(&part, made, shift, &options).finish().unwrap();
    std::fs::copy(&part, &copy).unwrap();
    (dir, part, copy, stats)
}

fn kinds(path: &Path) -> Vec<[u8; 4]> {
    let boxes = top_boxes(&File::open(path).unwrap()).unwrap();
    boxes.iter().map(|found| found.kind).collect()
}

fn hash(data: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    hasher.finish()
}

/// Track, pts, dts, duration, whether it is a key frame, whether it is not shown, a hash of its bytes.
type Facts = (usize, Option<i64>, Option<i64>, i64, bool, bool, u64);

/// Everything that a player sees of each packet. (FFmpeg takes the duration of the last audio packet from the edit list, whose
/// rounding decides between one tick and all.)
fn facts(path: &Path) -> Vec<Facts> {
    let mut reader = media::Reader::open_path(path, &media::ReaderOptions::default()).unwrap();
    let mut found = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        assert!(!packet.is_corrupt());
        found.push((
            packet.track(),
            packet.pts(),
            packet.dts(),
            if packet.track() == 0 {
                packet.duration()
            } else {
                0
            },
            packet.is_key(),
            packet.is_discarded(),
            hash(packet.data()),
        ));
    }
    found.sort();
    found
}

#[test]
fn finished_in_place_it_is_what_a_copy_would_be() {
    for (encoder, b_frames, audio, shift) in [
        ("libx264", 0, false, 0),
        ("libx264", 2, true, 123_457),
        ("libx265", 2, false, 9_000_000_000),
        ("mjpeg", 0, true, 77),
    ] {
        if !media::encode::is_available(encoder) {
            continue;
        }
        let pts: Vec<i64> = (0..45).map(|i| i * 6_000 + (i * 31) % 97).collect();
        let made = TestVideo {
            encoder: encoder.into(),
            b_frames,
            audio,
            frames: 45,
            pts: Some(pts),
            ..TestVideo::default()
        }
        .encode()
        .unwrap();
        // One tick before the last frame it ends to be shown.
        for end in [None, Some(44 * 6_000)] {
            let (dir, part, copy, stats) = recorded_with_room(&made, 32 << 10, shift);
            assert_eq!(kinds(&part)[..3], [*b"ftyp", *b"free", *b"moov"]);
            let dst = dir.path().join("b.mp4");
            finalise(&copy, &dst).unwrap();
            let base = made.track.time_base;
            if let Some(end) = end {
                assert!(media::show_until(&dst, end, base).unwrap());
            }
            let end = end.map(|end| (end, base));
            assert!(finalise_in_place(&part, end).unwrap(), "{encoder}");
            assert_eq!(broken_at(&File::open(&part).unwrap()).unwrap(), None);
            assert_eq!(
                kinds(&part),
                [*b"ftyp", *b"moov", *b"free", *b"mdat"],
                "{encoder}"
            );
            let (one, other) = (facts(&part), facts(&dst));
            for (one, other) in one.iter().zip(&other) {
                assert_eq!(one, other, "{encoder} {end:?}");
            }
            let rest = |longer: &[_], shorter: &[_]| longer.get(shorter.len()).cloned();
            assert_eq!(
                rest(&one, &other).or(rest(&other, &one)),
                None,
                "{encoder} {end:?}"
            );
            assert_eq!(numbers(&part), numbers(&dst), "{encoder} {end:?}");
            assert_eq!(frames_by_cli(&part), frames_by_cli(&dst), "{encoder}");
            let probed = |path: &Path| media::probe_index(path).unwrap().video().unwrap().clone();
            let (one, other) = (probed(&part), probed(&dst));
            assert_eq!(one.extradata, other.extradata);
            assert_eq!(one.frame_count, Some(45));
            let shown = end.map_or(stats.duration, |(end, _)| end - 1);
            let seconds = one.duration_seconds().unwrap();
            // The last frame's duration is that of the one decoded last.
            assert!(
                (seconds - base.seconds(shown)).abs() < 0.001,
                "{encoder} {end:?}"
            );
            // After a failed sync it is copied although it is finished already.
            let again = dir.path().join("again.mp4");
            finalise(&part, &again).unwrap();
            if let Some((end, base)) = end {
                assert!(media::show_until(&again, end, base).unwrap());
            }
            assert!(facts(&again) == facts(&part), "{encoder} {end:?}");
            // Done twice it stays what it is.
            let before = std::fs::read(&part).unwrap();
            assert!(finalise_in_place(&part, end).unwrap());
            assert_eq!(std::fs::read(&part).unwrap(), before);
        }
    }
}

#[test]
fn what_has_no_room_for_its_index_is_left_as_it_is() {
    let made = TestVideo::default().encode().unwrap();
    for room in [0, 64, 500] {
        let (_dir, part, copy, _) = recorded_with_room(&made, room, 0);
        assert!(!finalise_in_place(&part, None).unwrap(), "{room}");
        assert_eq!(std::fs::read(&part).unwrap(), std::fs::read(&copy).unwrap());
    }
    // Cut off anywhere behind the first fragment it is none of its business either.
    let (_dir, part, copy, _) = recorded_with_room(&made, 32 << 10, 0);
    let bytes = std::fs::read(&copy).unwrap();
    for cut in [bytes.len() - 1, bytes.len() - 5_000, bytes.len() / 2] {
        std::fs::write(&part, &bytes[..cut]).unwrap();
        assert!(!finalise_in_place(&part, None).unwrap(), "{cut}");
        assert_eq!(std::fs::read(&part).unwrap(), &bytes[..cut]);
    }
}

#[test]
fn a_power_cut_while_it_is_finished_in_place_costs_no_frame() {
    let made = TestVideo {
        frames: 60,
        gop: 15,
        ..TestVideo::default()
    }
    .encode()
    .unwrap();
    let (dir, part, copy, _) = recorded_with_room(&made, 8 << 10, 0);
    let before = std::fs::read(&copy).unwrap();
    assert!(finalise_in_place(&part, None).unwrap());
    let after = std::fs::read(&part).unwrap();
    assert_eq!(before.len(), after.len());
    let changed: Vec<usize> = (0..before.len())
        .filter(|at| before[*at] != after[*at])
        .collect();
    // The eight bytes that turn one into the other; all else is in the body of the `free` box.
    let header = top_boxes(&before[..]).unwrap()[1].start as usize;
    let room = top_boxes(&before[..]).unwrap()[1].end() as usize;
    assert!(changed.iter().all(|at| (header..room).contains(at)));
    assert_eq!(header / 512, (header + 7) / 512);
    let torn = dir.path().join("torn.part");
    let dst = dir.path().join("torn.mp4");
    let frames_of = |bytes: &[u8]| {
        std::fs::write(&torn, bytes).unwrap();
        let report = saved(&torn, &dst);
        std::fs::remove_file(&dst).unwrap();
        report.file.frames
    };
    // Until the sync before the last write, any of the pages may have reached the disk, in any order.
    for pattern in 0u32..1 << (room.div_ceil(512)).min(5) {
        let mut bytes = before.clone();
        for (sector, chunk) in (0..room).collect::<Vec<_>>().chunks(512).enumerate() {
            if pattern >> (sector % 5) & 1 == 1 {
                for at in chunk.iter().filter(|at| **at >= header + 8) {
                    bytes[*at] = after[*at];
                }
            }
        }
        assert_eq!(frames_of(&bytes), 60, "{pattern:b}");
    }
    assert_eq!(frames_of(&after), 60);
}

#[test]
fn without_an_edit_list_nothing_is_hidden() {
    let made = recorded(&TestVideo::default(), 0);
    let base = made.made.track.time_base;
    let before = std::fs::read(&made.part).unwrap();
    assert!(!media::show_until(&made.part, 6000, base).unwrap());
    assert_eq!(std::fs::read(&made.part).unwrap(), before);
    assert!(media::show_until(&made.dst, 6000, base).is_err());
}

#[test]
fn a_killed_recording_keeps_all_but_the_last_half_second() {
    let dir = tempdir().unwrap();
    let part = dir.path().join(".a.part");
    let made = TestVideo {
        frames: 150,
        gop: 60,
        ..TestVideo::default()
    }
    .encode()
    .unwrap();
    let writer = record(&part, &made, 0);
    // As a kill leaves it: nothing is finished, nothing flushed.
    let copy = dir.path().join(".copy.part");
    std::fs::copy(&part, &copy).unwrap();
    drop(writer);
    let report = saved(&copy, &dir.path().join("a.mp4"));
    assert!(report.file.frames >= 150 - 8, "{report:?}");
    assert_eq!(report.bytes_cut, 0);
}

#[test]
fn what_was_flushed_survives_a_kill() {
    for encoder in ["libx264", "mpeg4"] {
        let video = TestVideo {
            encoder: encoder.into(),
            ..TestVideo::default()
        };
        let made = video.encode().unwrap();
        let dir = tempdir().unwrap();
        let part = dir.path().join(".a.part");
        let options = SegmentOptions {
            fragment: Duration::from_secs(3600),
            ..SegmentOptions::default()
        };
        let mut writer = SegmentWriter::create(create(&part), &made.track, None, &options).unwrap();
        for (number, packet) in made.packets.iter().enumerate() {
            writer.write_video(sample(packet, 0)).unwrap();
            if [4, 12].contains(&number) {
                writer.flush().unwrap();
                writer.flush().unwrap();
                let file = File::open(&part).unwrap();
                let stored = stored_samples(&file).unwrap().unwrap();
                assert_eq!(stored.len(), number + 1, "{encoder}");
            }
        }
        let copy = dir.path().join(".copy.part");
        std::fs::copy(&part, &copy).unwrap();
        drop(writer);
        let report = saved(&copy, &dir.path().join("a.mp4"));
        assert!(report.file.frames >= 13, "{encoder} {report:?}");
    }
}

#[test]
fn a_fragment_holds_more_packets_than_one_system_call_takes() {
    let made = TestVideo {
        width: 80,
        height: 32,
        frames: 1_300,
        gop: 100,
        audio: true,
        ..TestVideo::default()
    }
    .encode()
    .unwrap();
    let dir = tempdir().unwrap();
    let (part, dst) = (dir.path().join(".a.part"), dir.path().join("a.mp4"));
    let options = SegmentOptions {
        fragment: Duration::from_secs(3600),
        ..SegmentOptions::default()
    };
    record_with(&part, &made, 0, &options).finish().unwrap();
    let whole = whole_part(&File::open(&part).unwrap()).unwrap();
    assert_eq!((whole.fragments, whole.torn), (1, 0));
    let done = finalise(&part, &dst).unwrap();
    assert_eq!((done.frames, done.frames_left_out), (1_300, 0));
    let back = media::probe::load(&dst).unwrap();
    let hashes = |packets: &mut dyn Iterator<Item = &Packet>| -> Vec<u64> {
        packets.map(|packet| hash(packet.data())).collect()
    };
    let of = |track| hashes(&mut back.packets.iter().filter(|p| p.track() == track));
    assert!(of(0) == hashes(&mut made.packets.iter()));
    // All but the encoder's priming packet and what comes behind the last frame.
    let (_, sound) = made.audio.as_ref().unwrap();
    let recorded = of(1);
    assert!(recorded.len() > 1_300);
    assert!(recorded == hashes(&mut sound[1..=recorded.len()].iter()));
}

#[test]
fn every_torn_recording_is_survived() {
    let made = recorded(
        &TestVideo {
            frames: 60,
            gop: 15,
            audio: true,
            ..TestVideo::default()
        },
        0,
    );
    let bytes = std::fs::read(&made.part).unwrap();
    let dir = tempdir().unwrap();
    let (torn, dst) = (dir.path().join(".t.part"), dir.path().join("t.mp4"));
    let ends: Vec<u64> = fragment_ends(&bytes);
    let cuts = (0..bytes.len())
        .step_by(bytes.len() / 60 + 1)
        .chain(ends.iter().map(|e| *e as usize));
    let mut saved = 0;
    for cut in cuts {
        std::fs::write(&torn, &bytes[..cut]).unwrap();
        let report = salvage(&torn, &dst).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut as u64).count();
        match report {
            Salvaged::Saved(report) => {
                assert_eq!(report.fragments, whole as u64, "cut at {cut}");
                let frames = numbers(&dst);
                assert_eq!(
                    frames,
                    (0..report.file.frames as u32).collect::<Vec<_>>(),
                    "cut at {cut}"
                );
                saved = saved.max(frames.len());
                std::fs::remove_file(&dst).unwrap();
            }
            Salvaged::Unreadable { why } => panic!("cut at {cut}: {why}"),
            Salvaged::NothingInIt => {
                assert_eq!(whole, 0, "cut at {cut}");
                assert!(!dst.exists());
            }
        }
    }
    assert_eq!(saved, 60);
}

fn fragment_ends(bytes: &[u8]) -> Vec<u64> {
    let mut before = *b"    ";
    let mut ends = Vec::new();
    for found in top_boxes(bytes).unwrap() {
        if &found.kind == b"mdat" && &before == b"moof" {
            ends.push(found.end());
        }
        before = found.kind;
    }
    ends
}

#[test]
fn zeros_behind_a_power_cut_are_left_out() {
    let made = recorded(
        &TestVideo {
            frames: 60,
            gop: 15,
            ..TestVideo::default()
        },
        0,
    );
    let mut bytes = std::fs::read(&made.part).unwrap();
    let ends = fragment_ends(&bytes);
    // The last two fragments' pages never reached the disk, nor did half of one in the middle.
    let last = ends[ends.len() - 3] as usize;
    bytes[last..].fill(0);
    let (from, to) = (ends[1] as usize, ends[2] as usize);
    let middle = (from + to) / 2;
    bytes[middle..to].fill(0);
    std::fs::write(&made.part, &bytes).unwrap();
    let report = saved(&made.part, &made.dst);
    assert!(report.file.frames_left_out > 0, "{report:?}");
    assert!(report.bytes_cut > 0);
    let frames = numbers(&made.dst);
    assert!(frames.len() >= 30 && frames[0] == 0, "{frames:?}");
    assert!(frames.contains(&45) || frames.contains(&30), "{frames:?}");
}

/// Where the fragments of a recording begin, and where the boxes with their frames do.
fn fragment_starts(bytes: &[u8]) -> Vec<(usize, usize)> {
    let boxes = top_boxes(bytes).expect("memory can be read");
    let pairs = boxes.windows(2).filter(|pair| &pair[0].kind == b"moof");
    pairs
        .map(|pair| (pair[0].start as usize, pair[1].start as usize))
        .collect()
}

#[test]
fn one_damaged_fragment_costs_no_other() {
    type Hurt = fn(&mut [u8], usize, usize);
    let ways: [(&str, Hurt); 6] = [
        ("the second half of its header", |bytes, start, data| {
            bytes[(start + data) / 2..data].fill(0);
        }),
        ("all but the size of its header", |bytes, start, data| {
            bytes[start + 8..data].fill(0);
        }),
        ("its time", |bytes, start, _| {
            bytes[start + 60..start + 68].fill(0);
        }),
        ("its whole header", |bytes, start, data| {
            bytes[start..data].fill(0);
        }),
        ("the size of its header", |bytes, start, _| {
            bytes[start + 1] = 1;
        }),
        ("the size of its data", |bytes, _, data| {
            bytes[data + 2] ^= 1;
        }),
    ];
    for audio in [false, true] {
        let video = TestVideo {
            frames: 90,
            gop: 5,
            audio,
            ..TestVideo::default()
        };
        let made = recorded(&video, 0);
        let bytes = std::fs::read(&made.part).expect("a recording");
        let fragments = fragment_starts(&bytes);
        for (name, hurt) in ways {
            for number in [0, fragments.len() / 2, fragments.len() - 1] {
                let mut damaged = bytes.clone();
                let (start, data) = fragments[number];
                if (name, number) == ("its time", 0) {
                    // That is zero.
                    continue;
                }
                hurt(&mut damaged, start, data);
                std::fs::write(&made.part, &damaged).expect("written");
                let report = saved(&made.part, &made.dst);
                let what = format!("{name}, fragment {number}, {report:?}");
                assert_eq!(report.fragments as usize, fragments.len() - 1, "{what}");
                let found = numbers(&made.dst);
                let missing: Vec<u32> = (0..90).filter(|it| !found.contains(it)).collect();
                // The fragment, and what follows it up to a key frame.
                assert!((1..=13).contains(&missing.len()), "{missing:?}, {what}");
                let hole = missing.windows(2).all(|pair| pair[0] + 1 == pair[1]);
                assert!(hole && found.is_sorted(), "{missing:?}, {what}");
                assert!(report.bytes_cut > 0, "{what}");
                assert_eq!(std::fs::read(&made.part).expect("it"), damaged, "{what}");
                std::fs::remove_file(&made.dst).expect("removed");
            }
        }
    }
}

#[test]
fn a_recording_without_a_key_frame_is_saved_whole() {
    let video = TestVideo {
        frames: 60,
        gop: 1000,
        ..TestVideo::default()
    };
    let mut made = video.encode().expect("a video");
    made.packets.drain(..20);
    let dir = tempdir().expect("a directory");
    let (part, dst) = (dir.path().join(".a.part"), dir.path().join("a.mp4"));
    record(&part, &made, 0).finish().expect("a recording");
    assert_eq!(saved(&part, &dst).file.frames, 40);
    std::fs::remove_file(&dst).expect("removed");
    // Also where it is torn.
    let mut bytes = std::fs::read(&part).expect("a recording");
    let (_, data) = fragment_starts(&bytes)[2];
    bytes[data + 8..data + 400].fill(0);
    std::fs::write(&part, &bytes).expect("written");
    let report = saved(&part, &dst);
    let left_out = report.file.frames_left_out;
    assert!((1..5).contains(&left_out), "{report:?}");
    assert_eq!(report.file.frames + left_out, 40);
}

#[test]
fn a_recording_that_begins_without_a_key_frame_is_saved_whole() {
    let video = TestVideo {
        frames: 60,
        gop: 30,
        ..TestVideo::default()
    };
    let mut made = video.encode().expect("a video");
    made.packets.drain(..10);
    let dir = tempdir().expect("a directory");
    let (part, dst) = (dir.path().join(".a.part"), dir.path().join("a.mp4"));
    record(&part, &made, 0).finish().expect("a recording");
    assert_eq!(saved(&part, &dst).file.frames, 50);
    std::fs::remove_file(&dst).expect("removed");
    // Where its beginning is torn it begins with the key frame.
    let mut bytes = std::fs::read(&part).expect("a recording");
    let (start, data) = fragment_starts(&bytes)[0];
    bytes[start..data].fill(0);
    std::fs::write(&part, &bytes).expect("written");
    assert_eq!(saved(&part, &dst).file.frames, 30);
}

#[test]
fn what_cannot_be_read_is_told_from_what_holds_nothing() {
    let made = recorded(&TestVideo::default(), 0);
    let bytes = std::fs::read(&made.part).expect("a recording");
    let fragments = fragment_starts(&bytes);
    let (first, data) = fragments[0];
    let after = |bytes: &[u8]| {
        std::fs::write(&made.part, bytes).expect("written");
        let found = salvage(&made.part, &made.dst).expect("a readable file");
        assert!(!made.dst.exists());
        found
    };
    let mut no_index = bytes.clone();
    no_index[..first].fill(0);
    let found = after(&no_index);
    assert!(
        matches!(&found, Salvaged::Unreadable { why } if why.contains("index")),
        "{found:?}"
    );
    let mut torn_frames = bytes.clone();
    for (number, (_, data)) in fragments.iter().enumerate() {
        let end = fragments.get(number + 1).map_or(bytes.len(), |next| next.0);
        torn_frames[data + 8..end].fill(0xff);
    }
    let found = after(&torn_frames);
    assert!(matches!(found, Salvaged::Unreadable { .. }), "{found:?}");
    // The pages of its only fragment never reached the disk.
    let mut zeros = bytes[..fragments[1].0].to_vec();
    zeros[data + 8..].fill(0);
    assert_eq!(after(&zeros), Salvaged::NothingInIt);
    assert_eq!(after(&bytes[..data + 9]), Salvaged::NothingInIt);
}

#[test]
fn an_interrupted_rename_is_salvaged_too() {
    // The finished MP4 was left under its part name.
    let dir = tempdir().unwrap();
    let part = dir.path().join(".a.part");
    TestVideo::default().write(&part).unwrap();
    let report = saved(&part, &dir.path().join("a.mp4"));
    assert_eq!((report.file.frames, report.fragments), (30, 0));
}

#[test]
fn nothing_usable_gives_nothing() {
    let dir = tempdir().unwrap();
    let dst = dir.path().join("a.mp4");
    for (name, bytes) in [
        ("empty", vec![]),
        ("zeros", vec![0; 5_000]),
        ("text", b"hello, camera".repeat(99)),
    ] {
        let part = dir.path().join(name);
        std::fs::write(&part, bytes).unwrap();
        let found = salvage(&part, &dst).unwrap();
        assert_eq!(found, Salvaged::NothingInIt, "{name}");
        assert!(!dst.exists());
    }
}

#[test]
fn nothing_is_overwritten() {
    let made = recorded(
        &TestVideo {
            frames: 5,
            ..TestVideo::default()
        },
        0,
    );
    std::fs::write(&made.dst, "precious").unwrap();
    let error = finalise(&made.part, &made.dst).unwrap_err();
    assert!(
        matches!(&error, MediaError::Io { source, .. }
        if source.kind() == std::io::ErrorKind::AlreadyExists),
        "{error}"
    );
    assert!(salvage(&made.part, &made.dst).is_err());
    assert_eq!(std::fs::read(&made.dst).unwrap(), b"precious");
}

#[test]
fn a_backward_step_is_refused_and_the_segment_goes_on() {
    let dir = tempdir().unwrap();
    let made = TestVideo {
        frames: 20,
        ..TestVideo::default()
    }
    .encode()
    .unwrap();
    let part = dir.path().join(".a.part");
    let mut writer =
        SegmentWriter::create(create(&part), &made.track, None, &SegmentOptions::default())
            .unwrap();
    for packet in &made.packets[..10] {
        writer.write_video(sample(packet, 900_000)).unwrap();
    }
    let error = writer
        .write_video(sample(&made.packets[10], 0))
        .unwrap_err();
    assert!(matches!(error, MediaError::Timestamps { .. }), "{error}");
    for packet in &made.packets[10..] {
        writer.write_video(sample(packet, 900_000)).unwrap();
    }
    let stats = writer.finish().unwrap();
    assert_eq!(
        (stats.frames, stats.key_frames, stats.duration),
        (20, 2, 120_000)
    );
    finalise(&part, dir.path().join("a.mp4")).unwrap();
    assert_eq!(numbers(&dir.path().join("a.mp4")).len(), 20);
}

#[test]
fn a_full_disk_is_an_io_error_at_once() {
    let full = File::options()
        .read(true)
        .write(true)
        .open("/dev/full")
        .unwrap();
    let made = TestVideo::default().encode().unwrap();
    let result = SegmentWriter::create(full, &made.track, None, &SegmentOptions::default())
        .and_then(|mut writer| {
            made.packets
                .iter()
                .try_for_each(|p| writer.write_video(sample(p, 0)))
        });
    let error = result.unwrap_err();
    assert!(error.is_storage_full(), "{error:?}");
}

#[test]
fn g711_is_refused_with_a_reason() {
    let dir = tempdir().unwrap();
    let made = TestVideo {
        frames: 1,
        ..TestVideo::default()
    }
    .encode()
    .unwrap();
    let audio = media::AudioTrack::new(media::AudioCodec::PcmAlaw, 8_000, 1);
    let file = create(&dir.path().join("a"));
    let error = SegmentWriter::create(file, &made.track, Some(&audio), &SegmentOptions::default())
        .err()
        .unwrap();
    assert!(!matches!(error, MediaError::Io { .. }), "{error:?}");
}

#[test]
fn the_whole_part_is_found() {
    let made = recorded(
        &TestVideo {
            frames: 30,
            ..TestVideo::default()
        },
        0,
    );
    let file = File::open(&made.part).unwrap();
    let whole = whole_part(&file).unwrap();
    assert!(whole.has_index && whole.fragments >= 4, "{whole:?}");
    assert_eq!(whole.torn, 0);
    assert_eq!(stored_samples(&file).unwrap().unwrap().len(), 30);
}

#[test]
fn a_fragmented_file_whose_chain_breaks_is_told_from_one_that_is_cut_short() {
    let made = recorded(
        &TestVideo {
            frames: 30,
            ..TestVideo::default()
        },
        0,
    );
    let bytes = std::fs::read(&made.part).unwrap();
    let broken = |bytes: &[u8]| broken_at(bytes).unwrap();
    let length = bytes.len();
    for end in (0..8).map(|eighth| length - eighth * length / 8) {
        assert_eq!(broken(&bytes[..end]), None);
        assert_eq!(broken(&[&bytes[..end], &[0; 70_000]].concat()), None);
    }
    let moofs: Vec<u64> = top_boxes(&bytes[..])
        .unwrap()
        .iter()
        .filter(|found| &found.kind == b"moof")
        .map(|found| found.start)
        .collect();
    for at in [moofs[0], moofs[2]] {
        let mut renamed = bytes.clone();
        renamed[at as usize + 4] = b'x';
        assert_eq!(broken(&renamed), Some(at));
        let mut long = bytes.clone();
        // The box before it: more than the file has.
        let before = top_boxes(&bytes[..])
            .expect("memory can be read")
            .into_iter()
            .find(|found| found.end() == at)
            .expect("a box");
        long[before.start as usize] = 0x7f;
        assert_eq!(broken(&long), Some(before.start));
        let mut short = bytes.clone();
        short.drain(at as usize - 40..at as usize - 10);
        assert!(broken(&short).is_some_and(|found| found <= at + 8));
    }
}

#[test]
fn a_stream_with_start_codes_is_recorded_too() {
    // As FFmpeg's own RTSP demuxer hands it out.
    for (encoder, codec) in [("libx264", VideoCodec::H264), ("libx265", VideoCodec::H265)] {
        if !media::encode::is_available(encoder) {
            continue;
        }
        let dir = tempdir().unwrap();
        let (part, dst) = (dir.path().join(".a.part"), dir.path().join("a.mp4"));
        let video = TestVideo {
            encoder: encoder.into(),
            ..TestVideo::default()
        };
        let made = video.encode().unwrap();
        let sets = ParameterSets::from_extradata(codec, &made.track.extradata).unwrap();
        let streamed: Vec<Vec<u8>> = made
            .packets
            .iter()
            .map(|packet| {
                let mut data = if packet.is_key() {
                    sets.to_annex_b()
                } else {
                    Vec::new()
                };
                data.extend(h26x::to_annex_b(h26x::length_prefixed_units(
                    4,
                    packet.data(),
                )));
                data
            })
            .collect();
        let found = ParameterSets::from_annex_b(codec, &streamed[0]);
        assert_eq!(found, sets);
        let track = made
            .track
            .clone()
            .with_extradata(found.to_extradata().unwrap());
        let mut writer =
            SegmentWriter::create(create(&part), &track, None, &SegmentOptions::default()).unwrap();
        for (packet, data) in made.packets.iter().zip(&streamed) {
            let data = h26x::annex_b_to_stored(codec, data);
            assert_eq!(data, packet.data());
            writer
                .write_video(Sample {
                    data,
                    ..sample(packet, 0)
                })
                .unwrap();
        }
        writer.finish().unwrap();
        finalise(&part, &dst).unwrap();
        assert_eq!(numbers(&dst).len(), 30);
    }
}
