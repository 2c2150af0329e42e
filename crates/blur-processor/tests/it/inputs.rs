//! Videos of all kinds: each is published whole and hidden, or given up with a reason.

use std::fs;
use std::ops::Range;

use media::synth::{Encoded, TestVideo, cut_last_unit};
use media::verify::{VerifyOptions, verify_frames};
use media::{AudioCodec, Container, FieldOrder, PixelFormat, Quality, Scaler};
use serde_json::json;

use crate::support::{Site, look};

#[test]
fn unusual_videos_keep_times_and_geometry() {
    let irregular: Vec<i64> = (0..30)
        .map(|frame| frame * 6000 + frame % 3 * 1111)
        .collect();
    let videos = [
        (
            "variable",
            TestVideo {
                pts: Some(irregular),
                ..TestVideo::default()
            },
        ),
        (
            "odd",
            TestVideo {
                width: 321,
                height: 241,
                ..TestVideo::default()
            },
        ),
        (
            "bframes",
            TestVideo {
                b_frames: 2,
                ..TestVideo::default()
            },
        ),
        (
            "hevc",
            TestVideo {
                encoder: "libx265".into(),
                ..TestVideo::default()
            },
        ),
        (
            "mjpeg",
            TestVideo {
                encoder: "mjpeg".into(),
                full_range: true,
                ..TestVideo::default()
            },
        ),
        (
            "anamorphic",
            TestVideo {
                sample_aspect_ratio: Some(media::Rational::new(4, 3)),
                ..TestVideo::default()
            },
        ),
    ];
    are_published_whole(Site::new(json!({ "max_concurrent_processes": 2 })), &videos);
}

#[test]
fn a_turned_video_is_seen_as_it_is_shown() {
    let upside_down = TestVideo {
        rotation: Some(180.0),
        ..TestVideo::default()
    };
    // The numbers of the frames, in their top rows as they are stored, are shown at the bottom.
    let site = Site::new(json!({ "plugin": { "top": 80 } }));
    are_published_whole(site, &[("rotated", upside_down)]);
}

/// Has the videos processed; nothing but the numbers of their frames may be missing afterwards.
fn are_published_whole(mut site: Site, videos: &[(&str, TestVideo)]) {
    let stems: Vec<String> = videos
        .iter()
        .map(|(name, video)| site.add(name, video))
        .collect();
    let before: Vec<_> = videos
        .iter()
        .map(|(name, _)| look(&site.raw(name)))
        .collect();
    site.run_until(|site| {
        stems
            .iter()
            .all(|stem| site.is_done(stem) || site.why(stem).is_some())
    });
    for ((name, _), (stem, before)) in videos.iter().zip(stems.iter().zip(before)) {
        assert_eq!(site.why(stem), None, "{name}");
        let after = look(&site.published(name));
        let seconds = |shown: &crate::support::Shown| -> Vec<i64> {
            let base = shown.verified.track.time_base;
            shown
                .pts
                .iter()
                .map(|&pts| (base.seconds(pts) * 1e5).round() as i64)
                .collect()
        };
        assert_eq!(seconds(&after), seconds(&before), "{name}");
        assert_eq!(after.size, before.size, "{name}");
        assert!(
            after.numbers.iter().all(Option::is_none),
            "{name}: {:?}",
            after.numbers
        );
        let (old, new) = (&before.verified.track, &after.verified.track);
        assert_eq!(new.sample_aspect_ratio, old.sample_aspect_ratio, "{name}");
        assert_eq!(new.display_matrix, old.display_matrix, "{name}");
        // "Limited" is what not saying anything means.
        let full = |track: &media::VideoTrack| track.colour.range == media::ColourRange::Full;
        assert_eq!(full(new), full(old), "{name}");
        assert!(!site.raw(name).exists(), "{name}");
    }
}

#[test]
fn what_is_no_whole_video_is_given_up_and_kept() {
    let mut site = Site::new(json!({}));
    TestVideo::default().write(site.path("whole.mp4")).unwrap();
    let whole = fs::read(site.path("whole.mp4")).unwrap();
    let raw = |name: &str| site.raw(name);
    fs::write(raw("cut"), &whole[..whole.len() * 2 / 3]).unwrap();
    fs::write(raw("empty"), b"").unwrap();
    fs::write(
        raw("text"),
        b"no video at all, but long enough to look at twice",
    )
    .unwrap();
    write_sound_only(&site);
    let names = ["cut", "empty", "text", "sound"];
    let stems: Vec<String> = names.iter().map(|name| site.add_ticket(name)).collect();
    site.run_until(|site| stems.iter().all(|stem| site.why(stem).is_some()));
    let whys: Vec<String> = stems.iter().map(|stem| site.why(stem).unwrap()).collect();
    for (why, says) in whys
        .iter()
        .zip(["cut short", "empty", "not a video", "no video track"])
    {
        assert!(why.contains(says), "{why:?} should say {says:?}");
    }
    for name in names {
        assert!(
            site.raw(name).exists() && !site.published(name).exists(),
            "{name}"
        );
    }
}

fn write_sound_only(site: &Site) {
    let encoded = TestVideo {
        audio: true,
        ..TestVideo::default()
    }
    .encode()
    .unwrap();
    let (track, packets) = encoded.audio.unwrap();
    let file = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(site.raw("sound"))
        .unwrap();
    let options = media::WriterOptions {
        container: Container::Mp4,
        index_first: true,
    };
    let mut writer = media::FileWriter::create(file, &[track.into()], &options).unwrap();
    for packet in &packets {
        writer.write(0, packet).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn a_trimmed_video_is_whole_and_a_truncated_one_is_not() {
    let mut site = Site::new(json!({}));
    let video = TestVideo {
        frames: 60,
        ..TestVideo::default()
    };
    // Two groups and a half are shown.
    let end = video.pts_of(37);
    for name in ["trimmed", "cut"] {
        let made = video.write(site.raw(name)).unwrap();
        assert!(media::show_until(site.raw(name), end, made.track.time_base).unwrap());
    }
    let bytes = fs::read(site.raw("cut")).unwrap();
    fs::write(site.raw("cut"), &bytes[..bytes.len() - 1000]).unwrap();
    let (trimmed, cut) = (site.add_ticket("trimmed"), site.add_ticket("cut"));
    site.run_until(|site| {
        [&trimmed, &cut]
            .iter()
            .all(|stem| site.is_done(stem) || site.why(stem).is_some())
    });
    assert_eq!(site.why(&trimmed), None);
    let shown = look(&site.published("trimmed"));
    let wanted: Vec<i64> = (0..37).map(|frame| video.pts_of(frame)).collect();
    assert_eq!(shown.pts, wanted);
    let why = site.why(&cut).expect("a reason");
    assert!(why.contains("cut short"), "{why}");
    assert!(site.raw("cut").exists() && !site.published("cut").exists());
}

#[test]
fn a_video_that_begins_after_a_day_is_shown_at_once() {
    let day = 25 * 3600 * 90_000;
    let times: Vec<i64> = (0..30).map(|frame| day + frame * 6000).collect();
    let video = TestVideo {
        pts: Some(times.clone()),
        b_frames: 2,
        ..TestVideo::default()
    };
    // Encoded, and copied.
    for from in [0, 1_000_000] {
        let mut site = Site::new(json!({ "plugin": { "from": from } }));
        let stem = site.add("a", &video);
        assert_eq!(look(&site.raw("a")).pts, times);
        site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
        assert_eq!(site.why(&stem), None);
        let shown = look(&site.published("a")).pts;
        let wanted: Vec<i64> = times.iter().map(|time| time - day).collect();
        assert_eq!(shown, wanted);
        let copied = site.report("a").video.gops_copied;
        assert_eq!(copied, if from == 0 { 0 } else { 2 });
    }
}

/// Bytes of some frames of a published video.
fn bytes_of(site: &Site, name: &str, frames: Range<usize>) -> usize {
    let file = fs::File::open(site.published(name)).expect("a video");
    let options = media::ReaderOptions::default();
    let mut reader = media::Reader::open_file(file, &options).expect("a video");
    let mut sizes = Vec::new();
    while let Some(packet) = reader.next_packet().expect("a packet") {
        sizes.push(packet.data().len());
    }
    sizes[frames].iter().sum()
}

#[test]
fn pictures_are_as_good_beside_a_hole_or_a_quiet_time_as_without() {
    let mut site = Site::new(json!({ "delete_original": false }));
    let encoder = "-vsync vfr -c:v libx264 -crf 28 -bf 0 -f mp4";
    let noise = "noise=alls=20:allf=t";
    let mut sizes = Vec::new();
    for (name, filter, frames, of) in [
        ("without", noise.to_owned(), 30, 0..30),
        (
            "hole",
            format!("{noise},setpts=PTS+gte(N\\,15)*30/TB"),
            30,
            0..30,
        ),
        // Ten seconds of a picture that stands still.
        (
            "quiet",
            format!("loop=150:1:0,{noise}:enable=gte(t\\,10)"),
            180,
            150..180,
        ),
    ] {
        if !made_by_ffmpeg(&site, name, &format!("-vf {filter} {encoder}")) {
            return;
        }
        let stem = site.add_ticket(name);
        site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
        assert_eq!(site.why(&stem), None);
        let [before, after] = [site.raw(name), site.published(name)].map(|path| look(&path).pts);
        assert_eq!((before.len(), after.len()), (frames, frames));
        let length = |pts: &[i64]| pts[frames - 1] - pts[0];
        assert_eq!(length(&before), length(&after));
        sizes.push(bytes_of(&site, name, of));
    }
    // Alone, two seconds may take twice what they may within a longer video.
    assert!(sizes[1] * 5 > sizes[0] * 4, "{sizes:?}");
    assert!(sizes[2] * 2 > sizes[0], "{sizes:?}");
}

#[test]
fn interlaced_video_stays_interlaced() {
    let video = TestVideo {
        options: vec![("flags".into(), "+ildct".into())],
        ..TestVideo::default()
    };
    let mut site = Site::new(json!({}));
    let stem = site.add("a", &video);
    let fields = |path| {
        let mut fields = Vec::new();
        let file = fs::File::open(path).unwrap();
        verify_frames(file, &VerifyOptions::default(), &mut |frame| {
            fields.push(frame.fields());
            Ok(())
        })
        .unwrap();
        fields
    };
    let before = fields(site.raw("a"));
    assert_eq!(before, [Some(FieldOrder::BottomFirst); 30]);
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    assert_eq!(site.why(&stem), None);
    assert_eq!(fields(site.published("a")), before);
    let shown = look(&site.published("a"));
    assert!(shown.numbers.iter().all(Option::is_none));
}

/// Has FFmpeg make a video; false where it is not installed.
fn made_by_ffmpeg(site: &Site, name: &str, options: &str) -> bool {
    let made = std::process::Command::new("ffmpeg")
        .args([
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=320x240:r=15:d=2",
        ])
        .args(options.split_whitespace())
        .arg(site.raw(name))
        .status();
    let Ok(status) = made else {
        eprintln!("skipped: no ffmpeg");
        return false;
    };
    assert!(status.success(), "ffmpeg {options}");
    true
}

#[test]
fn what_is_cropped_away_is_not_copied() {
    let mut site = Site::new(json!({ "plugin": { "from": 1_000_000 }, "delete_original": false }));
    for (name, crop) in [("a", "crop_bottom=120"), ("b", "crop_left=16")] {
        let options = format!("-c:v libx264 -bf 0 -bsf:v h264_metadata={crop}");
        if !made_by_ffmpeg(&site, name, &options) {
            return;
        }
        let stem = site.add_ticket(name);
        site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
        assert_eq!(site.why(&stem), None);
        let report = site.report(name).video;
        assert_eq!(report.gops_copied, 0, "{crop}");
        let why = report.not_copied_because.expect("a reason");
        assert!(why.contains("cropped"), "{crop}: {why}");
    }
}

#[test]
fn what_no_attempt_can_do_is_told_with_a_way_out() {
    let mut site = Site::new(json!({ "keep_audio": true }));
    let tone = "-f lavfi -i sine=d=2 -c:v libx264 -c:a";
    for (name, options, says) in [
        (
            "round",
            format!("{tone} pcm_s16le -ac 6 -f mov"),
            ["6 channels", "keep_audio: false"],
        ),
        (
            "languages",
            "-f lavfi -i sine=d=2 -map 0 -map 1 -map 1 -c:v libx264 -c:a aac -f mp4".into(),
            ["2 tracks of sound", "keep_audio: false"],
        ),
        // AVI has no times of its own, and pictures do not come in order.
        (
            "avi",
            "-c:v mpeg4 -bf 2 -f avi".into(),
            ["when its pictures are shown", "remux"],
        ),
    ] {
        if !made_by_ffmpeg(&site, name, &options) {
            return;
        }
        let stem = site.add_ticket(name);
        // At once, not after some attempts.
        site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
        let why = site.why(&stem).expect("a reason");
        assert!(says.iter().all(|says| why.contains(says)), "{why}");
        assert!(site.raw(name).exists());
    }
}

#[test]
fn sound_that_mp4_cannot_hold_is_kept_as_aac() {
    let mut site = Site::new(json!({ "keep_audio": true }));
    for (name, options) in [
        ("pcm", "pcm_s16le -ac 2 -f mov"),
        ("flac", "flac -f matroska"),
        ("alaw", "pcm_alaw -ar 8000 -f matroska"),
    ] {
        let options = format!("-f lavfi -i sine=d=2 -c:v libx264 -c:a {options}");
        if !made_by_ffmpeg(&site, name, &options) {
            return;
        }
        let stem = site.add_ticket(name);
        site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
        assert_eq!(site.why(&stem), None);
        let shown = look(&site.published(name)).verified;
        let sound = shown.audio.expect("sound");
        assert_eq!(sound.codec, AudioCodec::Aac);
        let seconds = shown.audio_packets as f64 * 1024.0 / f64::from(sound.sample_rate);
        assert!((1.9..2.3).contains(&seconds), "{name}: {seconds}");
    }
}

#[test]
fn sound_that_overlaps_where_a_recording_was_put_together_is_kept() {
    let mut site = Site::new(json!({ "keep_audio": true, "max_attempts": 1 }));
    let options = "-f lavfi -i sine=d=2 -c:v libx264 -bf 0 -c:a aac -f mpegts";
    if !made_by_ffmpeg(&site, "half", options) {
        return;
    }
    let half = fs::read(site.raw("half")).expect("a video");
    fs::write(site.path("both.ts"), [&half[..], &half].concat()).expect("a video");
    let status = std::process::Command::new("ffmpeg")
        .args(["-v", "fatal", "-fflags", "+genpts", "-i"])
        .arg(site.path("both.ts"))
        .args(["-c", "copy", "-f", "matroska"])
        .arg(site.raw("both"))
        .status()
        .expect("ffmpeg runs");
    assert!(status.success());
    let stem = site.add_ticket("both");
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    assert_eq!(site.why(&stem), None);
    let shown = look(&site.published("both")).verified;
    assert_eq!(shown.frames.len(), 60);
    assert!(shown.audio_packets > 170, "{}", shown.audio_packets);
}

#[test]
fn an_avi_with_repeated_frames_is_whole_and_one_cut_short_is_not() {
    let mut site = Site::new(json!({ "delete_original": false }));
    let options = "-vf select=mod(n\\,5) -vsync vfr -c:v mjpeg -f avi";
    if !made_by_ffmpeg(&site, "whole", options) {
        return;
    }
    let bytes = fs::read(site.raw("whole")).unwrap();
    fs::write(site.raw("cut"), &bytes[..bytes.len() / 2]).unwrap();
    let (whole, cut) = (site.add_ticket("whole"), site.add_ticket("cut"));
    site.run_until(|site| {
        let ended = |stem| site.is_done(stem) || site.why(stem).is_some();
        ended(&whole) && ended(&cut)
    });
    assert_eq!(site.why(&whole), None);
    let [before, after] = [site.raw("whole"), site.published("whole")].map(|path| look(&path).pts);
    assert_eq!((before.len(), after.len()), (24, 24));
    let why = site.why(&cut).expect("a reason");
    assert!(why.contains("cut short"), "{why}");
}

/// What becomes of some packets of a video.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Harm {
    /// The bytes from the slice header on are turned over.
    Header,
    /// Bytes in the middle of the slice are.
    Middle,
    /// The second half of the slice is missing.
    Cut,
    /// Bytes in the middle are missing.
    Holed,
    /// They never came: the network lost them.
    Lost,
}

fn write_harmed(site: &Site, name: &str, encoded: &Encoded, packets: Range<usize>, harm: Harm) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(site.raw(name))
        .unwrap();
    let tracks = [encoded.track.clone().into()];
    let mut writer =
        media::FileWriter::create(file, &tracks, &media::WriterOptions::default()).unwrap();
    for (number, packet) in encoded.packets.iter().enumerate() {
        let mut packet = packet.try_clone().unwrap();
        if packets.contains(&number) {
            let mut bytes = packet.data().to_vec();
            let middle = bytes.len() / 3..bytes.len() / 2;
            let invert = |bytes: &mut [u8]| bytes.iter_mut().for_each(|byte| *byte = !*byte);
            match harm {
                Harm::Header => invert(&mut bytes[6..]),
                Harm::Middle => invert(&mut bytes[middle]),
                Harm::Cut => cut_last_unit(&mut bytes, encoded.track.codec),
                Harm::Holed => drop(bytes.drain(middle)),
                Harm::Lost => continue,
            }
            packet.replace_data(&bytes).unwrap();
        }
        writer.write(0, &packet).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
fn damaged_pictures_are_hidden_whole_and_none_is_missing() {
    // The detector sees nothing: only doubt hides anything. Solid, since the numbers are painted
    // larger than the cells of a blurred picture.
    let mut site = Site::new(json!({ "plugin": { "from": 1_000_000 }, "mask": "solid" }));
    let video = TestVideo {
        frames: 60,
        ..TestVideo::default()
    };
    let encoded = video.encode().unwrap();
    let harms = [Harm::Header, Harm::Middle, Harm::Lost];
    let names = harms.map(|harm| format!("{harm:?}"));
    let stems: Vec<String> = harms
        .iter()
        .zip(&names)
        .map(|(harm, name)| {
            write_harmed(&site, name, &encoded, 20..22, *harm);
            site.add_ticket(name)
        })
        .collect();
    site.run_until(|site| {
        stems
            .iter()
            .all(|stem| site.is_done(stem) || site.why(stem).is_some())
    });
    for ((harm, name), stem) in harms.iter().zip(&names).zip(&stems) {
        assert_eq!(site.why(stem), None);
        let numbers = look(&site.published(name)).numbers;
        let lost = if *harm == Harm::Lost { 2 } else { 0 };
        assert_eq!(numbers.len(), 60 - lost);
        assert_eq!(numbers[10], Some(10), "{harm:?}");
        let hidden = &numbers[20..30 - lost];
        assert!(hidden.iter().all(Option::is_none), "{harm:?}: {numbers:?}");
        assert_eq!(numbers[45 - lost], Some(45), "{harm:?}");
    }
}

#[test]
fn pictures_shown_before_a_damaged_one_and_built_upon_it_are_hidden() {
    // One process has all cores: its decoder is given more than one thread.
    let mut site = Site::new(json!({
        "plugin": { "from": 1_000_000 }, "mask": "solid", "max_concurrent_processes": 1
    }));
    for (encoder, harm) in [
        ("libx264", Harm::Middle),
        ("libx264", Harm::Cut),
        ("libx265", Harm::Header),
        ("libx265", Harm::Cut),
    ] {
        let mut options = Vec::new();
        if encoder == "libx265" {
            let wanted = "log-level=error:bframes=3:open-gop=0";
            options.push(("x265-params".to_owned(), wanted.to_owned()));
        }
        let video = TestVideo {
            encoder: encoder.into(),
            frames: 60,
            b_frames: 3,
            options,
            ..TestVideo::default()
        };
        let encoded = video.encode().unwrap();
        let times: Vec<i64> = (encoded.packets.iter())
            .filter_map(media::Packet::pts)
            .collect();
        // The first after the second key frame that is decoded before it is shown: the whole group is built upon it.
        let harmed = 16;
        assert!(times[harmed + 1] < times[harmed], "{times:?}");
        let name = format!("{encoder}_{harm:?}");
        write_harmed(&site, &name, &encoded, harmed..harmed + 1, harm);
        let stem = site.add_ticket(&name);
        site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
        assert_eq!(site.why(&stem), None);
        let numbers = look(&site.published(&name)).numbers;
        assert_eq!(numbers.len(), 60);
        assert_eq!(numbers[10], Some(10), "{name}: {numbers:?}");
        assert_eq!(numbers[16..30], [None; 14], "{name}: {numbers:?}");
        assert_eq!(numbers[45], Some(45), "{name}: {numbers:?}");
    }
}

#[test]
fn pictures_with_the_times_of_their_decoding_are_shown_in_order() {
    // As FFmpeg writes them that remuxes a raw stream with B-frames.
    let mut site = Site::new(json!({ "plugin": { "from": 1_000_000 } }));
    for encoder in ["libx264", "libx265"] {
        let video = TestVideo {
            encoder: encoder.into(),
            frames: 60,
            b_frames: 2,
            ..TestVideo::default()
        };
        let mut encoded = video.encode().unwrap();
        let times = |encoded: &Encoded| -> Vec<i64> {
            let all = encoded.packets.iter();
            all.filter_map(media::Packet::pts).collect()
        };
        let mut rising = times(&encoded);
        assert!(!rising.is_sorted(), "{rising:?}");
        rising.sort_unstable();
        for (packet, &time) in encoded.packets.iter_mut().zip(&rising) {
            packet.set_times(Some(time), Some(time), packet.duration());
        }
        write_harmed(&site, encoder, &encoded, 0..0, Harm::Middle);
        let stem = site.add_ticket(encoder);
        site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
        assert_eq!(site.why(&stem), None);
        let shown = look(&site.published(encoder));
        let wanted: Vec<_> = (0..60).map(Some).collect();
        assert_eq!(shown.numbers, wanted, "{encoder}");
        let report = site.report(encoder).video;
        assert_eq!(report.frames_damaged, 0, "{encoder}");
        assert_eq!(report.gops_copied, 0, "{encoder}");
        let why = report.not_copied_because.expect("a reason");
        assert!(!why.contains("decode cleanly"), "{why}");
    }
}

#[test]
fn a_jpeg_with_a_hole_is_hidden_whole() {
    let mut site = Site::new(json!({ "plugin": { "from": 1_000_000 }, "mask": "solid" }));
    let video = TestVideo {
        encoder: "mjpeg".into(),
        ..TestVideo::default()
    };
    write_harmed(&site, "a", &video.encode().unwrap(), 12..13, Harm::Holed);
    let stem = site.add_ticket("a");
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    assert_eq!(site.why(&stem), None);
    let numbers = look(&site.published("a")).numbers;
    let wanted: Vec<Option<u32>> = (0..30)
        .map(|number| Some(number).filter(|&number| number != 12))
        .collect();
    assert_eq!(numbers, wanted);
}

#[test]
fn the_detector_sees_the_pictures_next_to_damaged_ones() {
    let video = TestVideo {
        frames: 60,
        ..TestVideo::default()
    };
    let encoded = video.encode().unwrap();
    // Pictures 23 to 29 are damaged; the detector would look at 21 and 35.
    for only_there in [22, 30] {
        let mut site = Site::new(json!({
            "plugin": { "from": only_there, "to": only_there + 1 }, "detect_every": 7, "mask": "solid"
        }));
        write_harmed(&site, "a", &encoded, 23..24, Harm::Header);
        let stem = site.add_ticket("a");
        site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
        assert_eq!(site.why(&stem), None);
        let numbers = look(&site.published("a")).numbers;
        assert_eq!(numbers[only_there], None, "{numbers:?}");
        assert_eq!(numbers[23..30], [None; 7], "{numbers:?}");
        assert_eq!(numbers[50], Some(50), "{numbers:?}");
    }
}

/// A video's pictures as RGB, by what it says of its colours.
fn pictures_in_rgb(path: &std::path::Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut scaler = Scaler::new(320, 240, PixelFormat::RGB24, Quality::Bicubic);
    let options = media::verify::VerifyOptions::default();
    let file = fs::File::open(path).expect("a video");
    media::verify::verify_frames(file, &options, &mut |frame| {
        found.push(scaler.scale(frame)?.to_packed());
        Ok(())
    })
    .expect("a video");
    found
}

#[test]
fn video_in_rgb_keeps_its_colours() {
    let settings = media::EncoderSettings {
        pixel_format: PixelFormat::from_name("gbrp").unwrap(),
        fps: Some(media::Rational::new(15, 1)),
        options: vec![("x265-params".into(), "log-level=error".into())],
        ..media::EncoderSettings::new("libx265", 320, 240, media::Rational::MPEG)
    };
    let mut encoder = media::Encoder::open(settings).unwrap();
    let mut packets = Vec::new();
    for number in 0..15 {
        let frame = TestVideo::default().frame(number).unwrap();
        let key = media::encode::Key::Auto;
        encoder.encode(&frame, key, &mut packets).unwrap();
    }
    encoder.finish(&mut packets).unwrap();
    let encoded = Encoded {
        track: encoder.track().clone(),
        packets,
        audio: None,
    };
    let mut site = Site::new(json!({ "plugin": { "from": 1_000_000 }, "delete_original": false }));
    write_harmed(&site, "a", &encoded, 0..0, Harm::Lost);
    let stem = site.add_ticket("a");
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    assert_eq!(site.why(&stem), None);
    let [before, after] = [site.raw("a"), site.published("a")].map(|path| pictures_in_rgb(&path));
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        let pairs = before.iter().zip(after);
        let squares: f64 = pairs.map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
        let noise = 10.0 * (65_025.0 * before.len() as f64 / squares).log10();
        assert!(noise > 35.0, "{noise} dB");
    }
}

#[test]
fn a_matroska_file_that_is_damaged_within_is_held_back() {
    let mut site = Site::new(json!({ "delete_original": false }));
    let whole = site.add(
        "whole",
        &TestVideo {
            container: Container::Mkv,
            ..TestVideo::default()
        },
    );
    let mut bytes = fs::read(site.raw("whole")).unwrap();
    let half = bytes.len() / 2;
    fs::write(site.raw("cut"), &bytes[..half]).unwrap();
    bytes.drain(half..half + 50);
    fs::write(site.raw("damaged"), bytes).unwrap();
    let [cut, damaged] = ["cut", "damaged"].map(|name| site.add_ticket(name));
    site.run_until(|site| {
        let ended = |stem: &String| site.is_done(stem) || site.why(stem).is_some();
        [&whole, &cut, &damaged].into_iter().all(ended)
    });
    assert_eq!((site.why(&whole), site.why(&cut)), (None, None));
    let why = site.why(&damaged).expect("a reason");
    assert!(why.contains("the file is damaged at byte"), "{why}");
    assert!(site.raw("damaged").exists() && !site.published("damaged").exists());
}

#[test]
fn a_file_that_is_damaged_within_is_held_back() {
    let mut site = Site::new(json!({ "delete_original": false }));
    let h264 = "-c:v libx264 -g 5";
    for (name, options) in [
        (
            "fragmented",
            format!("{h264} -movflags frag_keyframe+empty_moov -f mp4"),
        ),
        ("flv", format!("{h264} -f flv")),
        ("transport", format!("{h264} -f mpegts")),
        ("blu-ray", format!("{h264} -f mpegts -mpegts_m2ts_mode 1")),
        (
            "program",
            "-r 25 -c:v mpeg2video -b:v 400k -bf 0 -f vob".to_owned(),
        ),
        // It does not say how many pictures it has.
        ("uncounted", "-c:v mjpeg -f avi".to_owned()),
    ] {
        if !made_by_ffmpeg(&site, name, &options) {
            return;
        }
        let mut bytes = fs::read(site.raw(name)).expect("a video");
        if name == "uncounted" {
            for list in ["avih", "strh"] {
                let at = bytes.windows(4).position(|found| found == list.as_bytes());
                let at = at.expect("a header") + if list == "avih" { 24 } else { 40 };
                bytes[at..at + 4].fill(0);
            }
            let index = bytes.windows(4).rposition(|found| found == b"idx1");
            bytes.truncate(index.expect("an index"));
            fs::write(site.raw(name), &bytes).expect("a video");
        }
        let half = bytes.len() / 2;
        for (damage, length) in [("gone", 50), ("zeros", 16 * 192)] {
            let mut damaged = bytes.clone();
            match damage {
                "gone" => drop(damaged.drain(half..half + length)),
                _ => damaged[half..half + length].fill(0),
            }
            fs::write(site.raw(&format!("{name}_{damage}")), damaged).expect("a video");
        }
        let names = ["", "_gone", "_zeros"].map(|end| format!("{name}{end}"));
        let [whole, gone, zeros] = names.each_ref().map(|name| site.add_ticket(name));
        site.run_until(|site| {
            let ended = |stem: &String| site.is_done(stem) || site.why(stem).is_some();
            [&whole, &gone, &zeros].into_iter().all(ended)
        });
        assert_eq!(site.why(&whole), None, "{name}");
        for (stem, name) in [gone, zeros].iter().zip(&names[1..]) {
            let why = site.why(stem).unwrap_or_default();
            assert!(why.contains("the file is damaged at byte"), "{name}: {why}");
            assert!(site.raw(name).exists() && !site.published(name).exists());
        }
    }
}

#[test]
fn a_file_with_another_behind_it_is_held_back() {
    let mut site = Site::new(json!({}));
    TestVideo::default()
        .write(site.path("one.mp4"))
        .expect("a video");
    let one = fs::read(site.path("one.mp4")).expect("a video");
    fs::write(site.raw("two"), [&one[..], &one].concat()).expect("a video");
    let stem = site.add_ticket("two");
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    let why = site.why(&stem).unwrap_or_default();
    assert!(why.contains("the file is damaged at byte"), "{why}");
    assert!(site.raw("two").exists() && !site.published("two").exists());
}

#[test]
fn a_file_of_which_nobody_can_tell_whether_it_is_whole_is_held_back() {
    let mut site = Site::new(json!({}));
    if !made_by_ffmpeg(&site, "nut", "-c:v libx264 -f nut") {
        return;
    }
    let stem = site.add_ticket("nut");
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    let why = site.why(&stem).unwrap_or_default();
    assert!(why.contains("(nut)") && why.contains("NEW.mkv"), "{why}");
    assert!(site.raw("nut").exists() && !site.published("nut").exists());
    // By hand it is done, since the original stays.
    let arguments = ["blur", "raw_videos/cam/nut.mp4", "out.mp4"];
    let output = site.command(&arguments).output().expect("the program runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("(nut)"), "{told}");
    assert_eq!(look(&site.path("out.mp4")).pts.len(), 30);
}

#[test]
fn a_file_with_two_videos_is_held_back_whole() {
    let mut site = Site::new(json!({}));
    let encoded = TestVideo::default().encode().unwrap();
    let file = fs::File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(site.raw("two"))
        .unwrap();
    let tracks = [encoded.track.clone().into(), encoded.track.clone().into()];
    let mut writer =
        media::FileWriter::create(file, &tracks, &media::WriterOptions::default()).unwrap();
    for packet in &encoded.packets {
        writer.write(0, packet).unwrap();
        writer.write(1, packet).unwrap();
    }
    writer.finish().unwrap();
    let stem = site.add_ticket("two");
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    let why = site.why(&stem).expect("a reason");
    assert!(why.contains("2 video tracks"), "{why}");
    assert!(site.raw("two").exists() && !site.published("two").exists());
}

#[test]
fn tickets_that_point_elsewhere_are_refused() {
    let mut site = Site::new(json!({}));
    TestVideo::default().write(site.path("secret.mp4")).unwrap();
    let video = TestVideo::default();
    let changed = site.add("changed", &video);
    let mut bytes = fs::read(site.raw("changed")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(site.raw("changed"), bytes).unwrap();
    let ticket = |path: &str, source: &str| json!({ "filepath": path, "source_name": source });
    let outside = site.add_raw_ticket(&ticket("raw_videos/../secret.mp4", "cam"));
    let absolute = site.add_raw_ticket(&ticket("/etc/passwd", "cam"));
    site.add("b", &video);
    let source = site.add_raw_ticket(&ticket("raw_videos/cam/b.mp4", "../../evil"));
    let all = [&changed, &outside, &absolute, &source];
    site.run_until(|site| all.iter().all(|stem| site.why(stem).is_some()));
    assert!(site.why(&changed).unwrap().contains("hash"));
    assert!(site.path("secret.mp4").exists() && site.raw("changed").exists());
    assert!(!site.path("evil").exists());
}
