//! Videos of all kinds: each is published whole and hidden, or given up with a reason.

use std::fs;

use media::Container;
use media::synth::TestVideo;
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

/// What becomes of packets 20 and 21 of a video of 60 frames and groups of 15.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Harm {
    /// The bytes from the slice header on are turned over.
    Header,
    /// Bytes in the middle of the slice are.
    Middle,
    /// They never came: the network lost them.
    Lost,
}

fn write_harmed(site: &Site, name: &str, harm: Harm) {
    let video = TestVideo {
        frames: 60,
        ..TestVideo::default()
    };
    let encoded = video.encode().unwrap();
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
        if (20..22).contains(&number) {
            let mut bytes = packet.data().to_vec();
            let span = match harm {
                Harm::Header => 6..bytes.len(),
                Harm::Middle => bytes.len() / 3..bytes.len() / 2,
                Harm::Lost => continue,
            };
            bytes[span].iter_mut().for_each(|byte| *byte = !*byte);
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
    let harms = [Harm::Header, Harm::Middle, Harm::Lost];
    let names = harms.map(|harm| format!("{harm:?}"));
    let stems: Vec<String> = harms
        .iter()
        .zip(&names)
        .map(|(harm, name)| {
            write_harmed(&site, name, *harm);
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
