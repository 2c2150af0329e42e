//! The way of a ticket that meets no trouble.

use std::fs;

use media::synth::TestVideo;
use serde_json::{Value, json};

use crate::support::{Site, look, two_days_old};

fn numbers_are_hidden(numbers: &[Option<u32>]) -> bool {
    !numbers.is_empty() && numbers.iter().all(Option::is_none)
}

#[test]
fn a_ticket_becomes_a_blurred_video_and_the_original_goes() {
    let mut site = Site::new(json!({}));
    let stem = site.add(
        "a",
        &TestVideo {
            audio: true,
            ..TestVideo::default()
        },
    );
    let before = look(&site.raw("a"));
    assert!(
        before.numbers.iter().all(Option::is_some),
        "the test video must be readable"
    );
    site.run_until(|site| site.is_done(&stem));

    let after = look(&site.published("a"));
    assert_eq!(after.pts, before.pts);
    assert_eq!(after.size, before.size);
    assert!(numbers_are_hidden(&after.numbers), "{:?}", after.numbers);
    assert_eq!(
        after.verified.audio, None,
        "sound is dropped unless asked for"
    );
    assert!(!site.raw("a").exists());
    assert_eq!(site.names("processed_videos/.tmp"), Vec::<String>::new());
    assert_eq!(site.names("processing_queue/active"), Vec::<String>::new());
    let report = site.report("a");
    assert_eq!(report.video.frames, 30);
    assert_eq!(report.video.heads, 1, "one head, on every frame");
    assert_eq!(report.video.plugin.name, "fixed-box");
    let receipt: Value = serde_json::from_slice(
        &fs::read(site.path(&format!("processing_queue/done/{stem}.json"))).unwrap(),
    )
    .unwrap();
    assert_eq!(receipt["output"]["path"], "cam/blurred_a.mp4");
    assert_eq!(receipt["plugin"]["model_blake3"], "00ff");
    let status: Value =
        serde_json::from_slice(&fs::read(site.path("logs/blur_processor.status.json")).unwrap())
            .unwrap();
    assert_eq!(
        (status["state"].as_str(), status["published"].as_u64()),
        (Some("stopped"), Some(1))
    );
}

#[test]
fn without_a_plugin_the_whole_picture_is_blurred_with_caption_and_sound_kept() {
    let mut site = Site::new(json!({
        "blur_module_path": null,
        "mask": "solid",
        "add_overlay": true,
        "keep_audio": true,
        "max_concurrent_processes": 2,
        "delete_original": false,
    }));
    let video = TestVideo {
        audio: true,
        rotation: Some(90.0),
        full_range: true,
        ..TestVideo::default()
    };
    let stems = [site.add("a", &video), site.add("b", &video)];
    site.run_until(|site| stems.iter().all(|stem| site.is_done(stem)));
    let (before, after) = (look(&site.raw("a")), look(&site.published("b")));
    assert!(numbers_are_hidden(&after.numbers));
    assert_eq!(after.pts, before.pts);
    assert_eq!(after.verified.audio_packets, before.verified.audio_packets);
    assert_eq!(after.verified.audio_pts, before.verified.audio_pts);
    assert_eq!(
        after.verified.track.display_matrix,
        before.verified.track.display_matrix
    );
    assert_eq!(after.verified.track.colour, before.verified.track.colour);
    assert!(site.raw("a").exists() && site.raw("b").exists());
}

#[test]
fn a_frame_filter_changes_frames_and_originals_are_backed_up() {
    let mut site = Site::new(json!({
        "plugin": { "filter": 1 },
        "backup_original": true,
        "backup_dir": "backup",
        "resize_before_blur": true,
        "resize_width": 160,
        "resize_height": 120,
    }));
    let stem = site.add("a", &TestVideo::default());
    let bytes = fs::read(site.raw("a")).unwrap();
    site.run_until(|site| site.is_done(&stem));
    let after = look(&site.published("a"));
    assert_eq!(after.size, (160, 120));
    assert!(numbers_are_hidden(&after.numbers));
    assert_eq!(fs::read(site.path("backup/cam/a.mp4")).unwrap(), bytes);
    assert!(!site.raw("a").exists());
    assert_eq!(site.report("a").video.frames_seen_by_plugin, 30);
}

#[test]
fn a_backup_of_old_footage_is_kept_as_long_as_any_and_other_files_stay() {
    let mut site = Site::new(json!({ "backup_original": true, "backup_dir": "backup" }));
    let name = "cam_20260131_120000_seg0001";
    let others =
        ["backup/family/wedding.jpg", "processed_videos/notes.txt"].map(|at| site.path(at));
    for path in &others {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "not ours").unwrap();
        two_days_old(path);
    }
    let stem = site.add(name, &TestVideo::default());
    two_days_old(&site.raw(name));
    site.run_until(|site| site.is_done(&stem));
    let backup = site.path(&format!("backup/cam/{name}.mp4"));
    assert!(backup.exists());
    // The keeper of the next run has looked once what is too old is gone.
    two_days_old(&site.published(name));
    site.run_until(|site| !site.published(name).exists());
    assert!(backup.exists());
    assert!(others.iter().all(|path| path.exists()));
}

#[test]
fn directories_that_links_make_one_are_refused() {
    let mut site = Site::new(json!({ "backup_original": true, "backup_dir": "backup" }));
    site.add("a", &TestVideo::default());
    std::os::unix::fs::symlink("raw_videos", site.path("backup")).unwrap();
    for arguments in [&["--until-empty"], &["--validate"]] {
        let output = site.command(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        let raw = fs::canonicalize(site.path("raw_videos")).unwrap();
        let same = format!("backup_dir is {0}, and raw_dir is {0}", raw.display());
        assert!(text.contains(&same), "{arguments:?}: {text}");
    }
    assert!(site.raw("a").exists() && !site.published("a").exists());
}

#[test]
fn a_head_that_comes_with_the_last_frame_is_hidden() {
    let mut site = Site::new(json!({ "plugin": { "from": 59 }, "detect_every": 7 }));
    let stem = site.add(
        "a",
        &TestVideo {
            frames: 60,
            ..TestVideo::default()
        },
    );
    site.run_until(|site| site.is_done(&stem));
    let numbers = look(&site.published("a")).numbers;
    assert_eq!((numbers[0], numbers[59]), (Some(0), None));
}

#[test]
fn tickets_of_the_old_system_are_processed_or_explained() {
    let mut site = Site::new(json!({}));
    TestVideo::default()
        .write(site.path("raw_videos/cam/old.mp4"))
        .unwrap();
    let size = fs::metadata(site.path("raw_videos/cam/old.mp4"))
        .unwrap()
        .len();
    let old = |name: &str, size: u64| {
        json!({
            "filepath": format!("raw_videos/cam/{name}.mp4"),
            "source": "./raw_videos/cam.mp4",
            "source_name": "cam",
            "recorder_id": 1,
            "frame_count": 452,
            "duration": 30.058901071548462,
            "timestamp": "2025-07-18T03:31:59.357723",
            "file_size": size,
        })
    };
    let there = site.add_raw_ticket(&old("old", size));
    let missing = site.add_raw_ticket(&old("missing", 5));
    site.run_until(|site| site.is_done(&there) && site.why(&missing).is_some());
    assert!(site.published("old").exists());
    let why = site.why(&missing).unwrap();
    assert!(why.contains("missing.mp4 does not exist"), "{why}");
}

#[test]
fn of_a_face_the_whole_head_is_hidden() {
    // The box lies below the frame's number: only the head about a face reaches up to it.
    for (face, hidden) in [(0, false), (1, true)] {
        let mut site = Site::new(json!({ "plugin": { "top": 15, "face": face } }));
        let stem = site.add("a", &TestVideo::default());
        site.run_until(|site| site.is_done(&stem));
        let numbers = look(&site.published("a")).numbers;
        assert_eq!(numbers_are_hidden(&numbers), hidden, "{numbers:?}");
        assert_eq!(numbers.iter().all(Option::is_some), !hidden, "{numbers:?}");
    }
}

#[test]
fn two_of_three_looks_are_glances_but_at_the_ends() {
    for every in [1, 3] {
        let mut site = Site::new(json!({ "plugin": { "glances": 1 }, "detect_every": every }));
        let stem = site.add("a", &TestVideo::default());
        site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
        assert_eq!(site.why(&stem), None, "a look at every {every}th frame");
        assert!(numbers_are_hidden(&look(&site.published("a")).numbers));
    }
}
