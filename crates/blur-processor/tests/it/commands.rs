//! Commands for people.

use std::fs;

use media::synth::TestVideo;
use serde_json::json;

use crate::support::{Site, look, plugin};

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
