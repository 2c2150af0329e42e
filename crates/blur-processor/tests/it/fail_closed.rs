//! Whatever the plugin does: no unblurred frame is published, no original is lost, others go on.

use media::synth::TestVideo;
use serde_json::{Value, json};

use crate::support::{Site, look};

/// Runs one video with a misbehaving plugin and one attempt; returns why it was given up.
fn given_up(plugin: Value, change: Value) -> String {
    let mut settings = json!({ "plugin": plugin, "max_attempts": 1 });
    for (key, value) in change.as_object().unwrap() {
        settings[key] = value.clone();
    }
    let mut site = Site::new(settings);
    let stem = site.add(
        "a",
        &TestVideo {
            frames: 40,
            ..TestVideo::default()
        },
    );
    site.run_until(|site| site.why(&stem).is_some());
    assert!(site.raw("a").exists(), "the original must be kept");
    assert!(!site.published("a").exists(), "nothing may be published");
    assert_eq!(site.names("processed_videos/.tmp"), Vec::<String>::new());
    site.why(&stem).unwrap()
}

#[test]
fn an_error_on_one_frame_fails_the_attempt() {
    for filter in [0, 1] {
        let why = given_up(json!({ "fail_at": 17, "filter": filter }), json!({}));
        assert!(why.contains("the test asked for a failure"), "{why}");
    }
}

#[test]
fn what_a_second_look_finds_is_not_published() {
    // Reset after its self-test, before the first pass, and before the second look, when it sees a head.
    let plugin = json!({ "late": 3 });
    let why = given_up(plugin.clone(), json!({ "second_look": true }));
    assert!(why.contains("not hidden: frame 3, 320x"), "{why}");

    // What it saw in the first pass is hidden, so it may see it again.
    let mut site = Site::new(json!({ "second_look": true, "plugin": {} }));
    let seen = site.add("a", &TestVideo::default());
    site.run_until(|site| site.is_done(&seen) || site.why(&seen).is_some());
    assert_eq!(site.why(&seen), None);
}

#[test]
fn a_second_look_needs_a_detector() {
    let site = Site::new(json!({ "second_look": true, "plugin": { "filter": 1 } }));
    let output = site.command(&["--until-empty"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("second_look"), "{text}");
    // For whoever looks after it, and does not see its standard error.
    let status = site.path("logs/blur_processor.status.json");
    let status: daemon::status::ProcessorStatus = daemon::status::read(&status).expect("a status");
    assert_eq!(status.state, daemon::status::CANNOT_START);
    assert!(status.alarms[0].contains("second_look"), "{status:?}");
}

#[test]
fn a_crash_costs_the_attempt() {
    let why = given_up(json!({ "crash_at": 17 }), json!({}));
    assert!(why.contains("SIGABRT"), "{why}");
}

#[test]
fn garbage_is_refused() {
    let why = given_up(json!({ "garbage_at": 17 }), json!({}));
    assert!(why.contains("no number"), "{why}");
    let why = given_up(json!({ "garbage_at": 17, "filter": 1 }), json!({}));
    assert!(why.contains("changed = 77"), "{why}");
}

#[test]
fn a_filter_that_denies_its_changes_is_refused() {
    let why = given_up(json!({ "lie": 1, "filter": 1 }), json!({}));
    assert!(why.contains("said that it did not"), "{why}");
}

#[test]
fn whatever_a_detector_reports_is_hidden() {
    let mut site = Site::new(json!({ "plugin": { "percent": 0 } }));
    let stem = site.add("a", &TestVideo::default());
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    assert_eq!(site.why(&stem), None);
    let numbers = look(&site.published("a")).numbers;
    assert!(numbers.iter().all(Option::is_none), "{numbers:?}");
}

#[test]
fn a_hanging_plugin_is_killed() {
    let why = given_up(json!({ "hang_at": 17 }), json!({ "process_timeout": 3 }));
    assert!(why.contains("process_timeout"), "{why}");
}

#[test]
fn a_plugin_that_eats_memory_is_killed() {
    let why = given_up(
        json!({ "leak_at": 2, "sleep_ms": 50 }),
        json!({ "worker_memory_limit_mb": 600 }),
    );
    assert!(why.contains("worker_memory_limit_mb"), "{why}");
}

#[test]
fn a_poison_ticket_does_not_stop_the_others() {
    // Only the long video reaches frame 35.
    let mut site = Site::new(json!({ "plugin": { "crash_at": 35 } }));
    let poison = site.add(
        "a",
        &TestVideo {
            frames: 40,
            ..TestVideo::default()
        },
    );
    let good = [
        site.add("b", &TestVideo::default()),
        site.add("c", &TestVideo::default()),
    ];
    site.run_until(|site| {
        good.iter().all(|stem| site.is_done(stem))
            && !site.names("processing_queue/deferred").is_empty()
    });
    assert_eq!(
        site.names("processing_queue/deferred"),
        [format!("{poison}.a1.json")]
    );
    assert!(site.raw("a").exists() && !site.published("a").exists());
    assert!(
        look(&site.published("b"))
            .numbers
            .iter()
            .all(Option::is_none)
    );
}

#[test]
fn a_worker_that_hangs_is_killed_and_the_others_go_on() {
    // Only the long video reaches frame 35.
    let mut site = Site::new(json!({ "plugin": { "hang_at": 35 }, "stall_timeout": 1 }));
    let video = TestVideo {
        frames: 40,
        ..TestVideo::default()
    };
    let hangs = site.add("a", &video);
    let good = site.add("b", &TestVideo::default());
    let mut daemon = site.start();
    let log = daemon.log_file();
    daemon.wait_for(&site, |site| {
        site.is_done(&good)
            && !site.names("processing_queue/deferred").is_empty()
            && std::fs::read_to_string(&log)
                .is_ok_and(|log| log.contains("no frame finished for 1 s"))
    });
    daemon.stop();
    assert_eq!(
        site.names("processing_queue/deferred"),
        [format!("{hangs}.a1.json")]
    );
    assert!(site.raw("a").exists() && !site.published("a").exists());
}

#[test]
fn without_its_plugin_the_daemon_refuses_to_start() {
    for (path, says) in [("gone.so", "gone.so"), ("module.py", "module.py")] {
        let mut site = Site::new(json!({ "blur_module_path": path }));
        let stem = site.add("a", &TestVideo::default());
        let output = site.command(&[]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.contains(says) && text.contains("refusing to start"),
            "{text}"
        );
        assert!(site.path(&format!("processing_queue/{stem}.json")).exists());
        assert!(site.raw("a").exists());
    }
}

#[test]
fn a_plugin_that_fails_its_self_test_keeps_the_daemon_from_starting() {
    for plugin in [json!({ "fail_at": 0 }), json!({ "crash_at": 1 })] {
        let site = Site::new(json!({ "plugin": plugin }));
        let output = site.command(&[]).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn an_encoder_that_is_not_there_is_told_at_start() {
    let site = Site::new(json!({ "video_codec": "libnothing" }));
    let output = site.command(&[]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("libnothing"), "{text}");
}

#[test]
fn a_place_that_is_a_file_is_told_with_its_key_and_what_to_do() {
    for key in ["queue_dir", "raw_dir", "output_dir"] {
        let mut settings = json!({ "blur_module_path": null });
        settings[key] = json!("./file");
        let site = Site::new(settings);
        std::fs::write(site.path("file"), "").unwrap();
        let output = site.command(&["--until-empty"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        let advice = format!("a file is in the way; give another {key}");
        assert!(text.contains(&advice), "{text}");
    }
}
