//! Commands for people.

use std::fs;

use media::synth::TestVideo;
use serde_json::json;

use crate::support::{Site, look, look_at_sheet, plugin};

#[test]
fn blur_treats_one_file_and_never_replaces() {
    let site = Site::new(json!({}));
    TestVideo::default().write(site.path("in.mp4")).unwrap();
    let arguments = ["blur", "in.mp4", "out.mp4", "--report", "report.json"];
    let output = site.command(&arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        look(&site.path("out.mp4"))
            .numbers
            .iter()
            .all(Option::is_none)
    );
    assert!(site.path("in.mp4").exists() && site.path("report.json").exists());
    let again = site.command(&arguments).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("out.mp4 exists"));
}

#[test]
fn blur_refuses_a_source_that_has_no_zones_where_others_have() {
    let zones = json!({ "gate": { "always": [[[0, 0], [1, 0], [1, 1]]] } });
    let mut site = Site::new(json!({ "zones": zones }));
    TestVideo::default()
        .write(site.path("in.mp4"))
        .expect("a video");
    let arguments = ["blur", "in.mp4", "out.mp4", "--source", "gatee"];
    let refused = site.command(&arguments).output().expect("it runs");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(
        told.contains("--source gatee") && told.contains("those of gate;"),
        "{told}"
    );
    assert!(!site.path("out.mp4").exists());
    site.change("zones", json!({}));
    let done = site.command(&arguments).output().expect("it runs");
    assert!(
        done.status.success(),
        "there is nothing to mistake: {done:?}"
    );
}

#[test]
fn blur_says_of_an_empty_file_that_it_is() {
    let site = Site::new(json!({}));
    fs::write(site.path("in.mp4"), "").expect("a file");
    let output = site.command(&["blur", "in.mp4", "out.mp4"]).output();
    let output = output.expect("the program runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("in.mp4: the file is empty"), "{told}");
}

#[test]
fn blur_tells_of_damage() {
    let site = Site::new(json!({}));
    TestVideo::default().write(site.path("in.mp4")).unwrap();
    let blurred = |output: &str| {
        let output = site.command(&["blur", "in.mp4", output]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(!blurred("whole.mp4").contains("damaged"));
    let mut bytes = fs::read(site.path("in.mp4")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 200].fill(0);
    fs::write(site.path("in.mp4"), bytes).unwrap();
    let told = blurred("out.mp4");
    assert!(
        told.contains("of them as a whole: the input is damaged there)"),
        "{told}"
    );
}

#[test]
fn blur_never_writes_over_what_it_reads() {
    let site = Site::new(json!({}));
    fs::create_dir_all(site.path("in")).unwrap();
    fs::create_dir_all(site.path("out")).unwrap();
    TestVideo::default().write(site.path("in/a.mp4")).unwrap();
    let bytes = fs::read(site.path("in/a.mp4")).unwrap();
    fs::hard_link(site.path("in/a.mp4"), site.path("hard.mp4")).unwrap();
    let link = std::os::unix::fs::symlink::<&str, _>;
    link("in/a.mp4", site.path("soft.mp4")).unwrap();
    link("../in/a.mp4", site.path("out/a.mp4")).unwrap();
    for arguments in [
        ["in/a.mp4", "in/a.mp4", "--force"].as_slice(),
        &["in/a.mp4", "./in/../in/a.mp4", "--force"],
        &["in/a.mp4", "hard.mp4", "--force"],
        &["in/a.mp4", "soft.mp4", "--force"],
        &["soft.mp4", "in/a.mp4", "--force"],
        &["in", "out", "--force"],
        &["in", "elsewhere", "--report", "in/a.mp4"],
        &["in/a.mp4", "b.mp4", "--preview", "in/a.mp4"],
        &["in/a.mp4", "in/a.mp4"],
    ] {
        let output = site.command(&[&["blur"], arguments].concat()).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        assert!(text.contains("are the same file"), "{arguments:?}: {text}");
        assert!(
            fs::read(site.path("in/a.mp4")).unwrap() == bytes,
            "{arguments:?}"
        );
    }
    assert_eq!(site.names("in"), ["a.mp4"]);
}

#[test]
fn blur_leaves_nothing_behind_when_it_fails() {
    let site = Site::new(json!({ "plugin": { "fail_at": 3 } }));
    TestVideo::default().write(site.path("in.mp4")).unwrap();
    let output = site
        .command(&["blur", "in.mp4", "out.mp4"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!site.names(".").iter().any(|name| name.contains("out.mp4")));
}

#[test]
fn blur_treats_a_folder_and_goes_on_where_it_was() {
    let site = Site::new(json!({}));
    fs::create_dir_all(site.path("in/b")).unwrap();
    for name in ["in/a.mp4", "in/b/c.mp4"] {
        TestVideo::default().write(site.path(name)).unwrap();
    }
    fs::write(site.path("in/broken.mp4"), "no video").unwrap();
    let arguments = ["blur", "in", "out", "--report", "report.json", "--preview"];
    let run = |more: &[&str]| {
        let output = site.command(&[&arguments, more].concat()).output().unwrap();
        let report = fs::read(site.path("report.json"))
            .unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        (output, report)
    };
    let (output, report) = run(&[]);
    assert_eq!(output.status.code(), Some(1), "one of them is broken");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("in/broken.mp4"), "{errors}");
    for name in ["out/a.mp4", "out/b/c.mp4"] {
        let hidden = look(&site.path(name)).numbers;
        assert!(hidden.iter().all(Option::is_none), "{name}: {hidden:?}");
    }
    assert_eq!(site.names("out"), ["a.jpg", "a.mp4", "b"]);
    assert_eq!(report[0]["report"]["frames"], 30);
    assert_eq!(report[1]["output"], "out/b/c.mp4");
    assert!(report[2]["error"].is_string(), "{report}");

    fs::remove_file(site.path("in/broken.mp4")).unwrap();
    let before = fs::metadata(site.path("out/a.mp4"))
        .unwrap()
        .modified()
        .unwrap();
    let (output, report) = run(&[]);
    assert!(output.status.success());
    assert_eq!(report[0]["skipped"], true);
    let changed = || {
        fs::metadata(site.path("out/a.mp4"))
            .unwrap()
            .modified()
            .unwrap()
    };
    assert_eq!(changed(), before);
    let (output, report) = run(&["--force"]);
    assert!(output.status.success());
    assert_eq!(report[0]["report"]["frames"], 30);
    assert!(changed() > before);
}

#[test]
fn a_preview_shows_the_blurred_video_only() {
    let site = Site::new(json!({}));
    TestVideo::default().write(site.path("in.mp4")).unwrap();
    for name in ["sheet.png", "sheet.jpg"] {
        let output = site
            .command(&["blur", "in.mp4", "out.mp4", "--force", "--preview", name])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let (size, number) = look_at_sheet(&site.path(name));
        // Two seconds give two pictures at most, 640 pixels wide each, with a gap between.
        assert!(size == (1284, 480) || size == (640, 480), "{size:?}");
        assert_eq!(number, None, "{name}");
    }
    let output = site
        .command(&["blur", "in.mp4", "other.mp4", "--preview", "sheet.gif"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));

    // Where nothing is hidden there are frames at even distances, and they can be read.
    let site = Site::new(json!({ "plugin": { "from": 1000 } }));
    TestVideo::default().write(site.path("in.mp4")).unwrap();
    let output = site
        .command(&["blur", "in.mp4", "out.mp4", "--preview", "sheet.jpg"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let shown = look_at_sheet(&site.path("sheet.jpg"));
    assert_eq!(shown, ((3 * 640 + 8, 4 * 480 + 12), Some(0)));
}

#[test]
fn outputs_that_cannot_be_meant_are_refused_at_once() {
    let site = Site::new(json!({}));
    TestVideo::default().write(site.path("in.mp4")).unwrap();
    fs::create_dir(site.path("folder")).unwrap();
    fs::copy(site.path("in.mp4"), site.path("folder/a.mp4")).unwrap();
    for (input, output, words) in [
        (
            "in.mp4",
            "folder",
            "name the file to write, such as folder/in.mp4",
        ),
        ("in.mp4", "out.avi", "give a name that ends in .mp4"),
        ("in.mp4", "out.MKV", "give a name that ends in .mp4"),
        ("folder", "in.mp4", "in.mp4 is a file; name a folder"),
    ] {
        let output = site
            .command(&["blur", input, output, "--force"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(words), "{text}");
    }
    for output in ["out.mov", "out.m4v", "no_ending"] {
        let output = site.command(&["blur", "in.mp4", output]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn the_queue_tells_how_to_put_back_what_needs_it() {
    let site = Site::new(json!({}));
    fs::create_dir_all(site.path("processing_queue/corrupt")).unwrap();
    fs::create_dir_all(site.path("processing_queue/failed")).unwrap();
    let shown = || {
        let output = site.command(&["queue"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().last().unwrap_or_default().to_owned()
    };
    let put = |path: &str| fs::write(site.path(path), "{}").unwrap();
    put("processing_queue/corrupt/queue_20260101_000000_000001.json");
    assert_eq!(shown(), "put back with: blur-processor retry NAME");
    put("processing_queue/failed/queue_20260101_000000_000002.a1.json");
    assert!(shown().ends_with("retry --all (all but those that were refused)"));
    fs::remove_file(site.path("processing_queue/corrupt/queue_20260101_000000_000001.json"))
        .unwrap();
    assert!(shown().ends_with("retry NAME, or retry --all"));
}

/// As behind `| head`.
#[test]
fn who_stops_reading_ends_no_work() {
    let site = Site::new(json!({}));
    fs::create_dir(site.path("in")).unwrap();
    for name in ["a.mp4", "b.mp4"] {
        TestVideo::default()
            .write(site.path(&format!("in/{name}")))
            .unwrap();
    }
    for arguments in [&["queue", "--json"][..], &["blur", "in", "out"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = site.command(arguments);
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        assert_eq!(command.status().unwrap().code(), Some(0), "{arguments:?}");
    }
    assert!(site.path("out/a.mp4").is_file() && site.path("out/b.mp4").is_file());
}

#[test]
fn check_plugin_says_what_it_is() {
    let site = Site::new(json!({}));
    let output = site
        .command(&["check-plugin", plugin().to_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success());
    assert!(
        text.contains("fixed-box 1.0") && text.contains("detector"),
        "{text}"
    );
    let output = site
        .command(&["check-plugin", "config.json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn check_plugin_finds_what_is_wrong() {
    let site = Site::new(json!({}));
    for (settings, words) in [
        (json!({ "fail_at": 7 }), "the test asked for a failure"),
        (json!({ "crash_at": 7 }), "crashed its process"),
        (json!({ "hang_at": 7 }), "hangs"),
        (json!({ "garbage_at": 7 }), "region"),
        (json!({ "leak_at": 0, "leak_mb": 2 }), "it leaks about "),
        (
            json!({ "filter": 1, "lie": 1 }),
            "it changed 40 pictures and said that it did not",
        ),
    ] {
        let output = site
            .command(&["check-plugin", plugin().to_str().unwrap(), "--frames", "40"])
            .args(["--timeout", "5", "--settings", &settings.to_string()])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{settings}: {text}");
        assert!(
            text.contains("wrong: ") && text.contains(words),
            "{settings}: {text}"
        );
    }
}

/// Pools and caches fill in the first frames, as the bridge's memory for frames does.
#[test]
fn check_plugin_calls_nothing_a_leak_after_a_few_frames() {
    let site = Site::new(json!({}));
    let output = site
        .command(&["check-plugin", plugin().to_str().unwrap(), "--frames", "12"])
        .args(["--settings", r#"{ "leak_at": 0, "leak_mb": 3 }"#])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("a leak shows from --frames 40 on"), "{text}");
}

#[test]
fn check_plugin_tells_times_and_changes_on_a_video() {
    let site = Site::new(json!({}));
    TestVideo::default().write(site.path("in.mp4")).unwrap();
    let check = |settings: &str, video: &str| {
        let output = site
            .command(&["check-plugin", plugin().to_str().unwrap(), "--frames", "20"])
            .args(["--video", video, "--settings", settings])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (
            output.status.code(),
            text + &String::from_utf8_lossy(&output.stderr),
        )
    };
    let (code, text) = check(r#"{"filter": 1, "to": 5}"#, "in.mp4");
    assert_eq!(code, Some(0), "{text}");
    for words in [
        "ms median",
        "at 95 %",
        "changes  10 of 20 pictures",
        "memory ",
        "threads  ",
    ] {
        assert!(text.contains(words), "{words:?} is missing in {text}");
    }
    let (code, text) = check("{}", "in.mp4");
    assert!(
        code == Some(0) && text.contains("finds    20 regions, best score 0.90"),
        "{text}"
    );
    let (code, text) = check("{}", "config.json");
    assert!(code == Some(1) && text.contains("config.json"), "{text}");
}

#[test]
fn settings_are_created_and_validated() {
    let site = Site::new(json!({}));
    let output = site.command(&["--validate"]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    fs::write(
        site.path("config.json"),
        r#"{"max_conc": 1, "polling_interval": -1}"#,
    )
    .unwrap();
    let output = site.command(&["--validate"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text.contains("max_conc") && text.contains("polling_interval"),
        "{text}"
    );
    assert_eq!(
        site.command(&["--create-config"])
            .output()
            .unwrap()
            .status
            .code(),
        Some(2)
    );
    fs::remove_file(site.path("config.json")).unwrap();
    assert!(
        site.command(&["--create-config"])
            .output()
            .unwrap()
            .status
            .success()
    );
    assert!(
        fs::read_to_string(site.path("config.json"))
            .unwrap()
            .contains("blur_module_path")
    );
}

#[test]
fn directories_that_cannot_be_used_are_told_with_their_keys_and_what_to_do() {
    let keys = [
        "queue_dir",
        "raw_dir",
        "output_dir",
        "backup_dir",
        "log_dir",
        "status_dir",
    ];
    let mut settings = json!({ "backup_original": true });
    for key in keys {
        settings[key] = json!(format!("file/{key}"));
    }
    let site = Site::new(settings);
    fs::write(site.path("file"), "").unwrap();
    let output = site.command(&["--validate"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for key in keys {
        let advice = format!("a file is in the way; give another {key}");
        assert!(said.contains(&advice), "{key}: {said}");
    }
}

#[test]
fn an_encoder_that_cannot_be_used_is_found_before_the_start() {
    let told = |encoder: &str| {
        let site = Site::new(json!({ "video_codec": encoder, "encoder_preset": "auto" }));
        let output = site.command(&["--validate"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text)
    };
    let (code, text) = told("h264_magic");
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("video_codec") && text.contains("no video encoder named 'h264_magic'"),
        "{text}"
    );
    let (code, text) = told("ffv1");
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("ffv1 in an MP4 file: not supported"),
        "{text}"
    );
    if !media::encode::is_available("h264_nvenc") || fs::exists("/dev/nvidia0").unwrap_or(false) {
        eprintln!("SKIPPED: no hardware encoder without its hardware is here");
        return;
    }
    let (code, text) = told("h264_nvenc");
    assert_eq!(code, Some(2), "{text}");
    // Not only the misleading code of FFmpeg.
    assert!(
        text.contains("open h264_nvenc encoder ([h264_nvenc] "),
        "{text}"
    );
}

#[test]
fn given_up_tickets_are_shown_and_put_back() {
    let mut site = Site::new(json!({ "plugin": { "fail_at": 3 }, "max_attempts": 1 }));
    let stem = site.add("a", &TestVideo::default());
    site.run_until(|site| site.why(&stem).is_some());
    let shown = site.command(&["queue"]).output().unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        text.contains(&stem) && text.contains("the test asked for a failure"),
        "{text}"
    );
    assert_eq!(
        site.command(&["retry", "queue_nothing"])
            .output()
            .unwrap()
            .status
            .code(),
        Some(1)
    );
    assert!(
        site.command(&["retry", &stem])
            .output()
            .unwrap()
            .status
            .success()
    );
    site.change("plugin", json!({}));
    site.run_until(|site| site.is_done(&stem));
    assert!(site.published("a").exists() && !site.raw("a").exists());
}
