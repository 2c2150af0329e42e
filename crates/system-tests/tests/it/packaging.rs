//! The systemd units, as systemd judges them, and the program that asks them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Exposure in tenths, of at most 100.
const MOST_EXPOSED: u32 = 15;

#[test]
fn no_service_is_given_up_for_dying_often() {
    for unit in units() {
        // Systemd gives up after five starts in ten seconds unless it is told otherwise.
        let text = std::fs::read_to_string(&unit).expect("it can be read");
        let (head, _) = text.split_once("[Service]").expect("it is a service");
        assert!(
            head.contains("\nStartLimitIntervalSec=0\n"),
            "{}",
            unit.display()
        );
    }
}

#[test]
fn no_service_is_exposed_more_than_it_must_be() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("SKIPPED: the services were not judged, since systemd-analyze is missing");
        return;
    }
    for unit in units() {
        let judged = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(format!("--threshold={MOST_EXPOSED}"))
            .arg(&unit)
            .output()
            .expect("systemd-analyze runs");
        let told = String::from_utf8_lossy(&judged.stdout);
        assert!(
            judged.status.success(),
            "{}: {}",
            unit.display(),
            told.lines().last().unwrap_or_default()
        );
    }
}

fn units() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd");
    let units = std::fs::read_dir(dir).expect("the units are there");
    let units: Vec<_> = units
        .map(|unit| unit.expect("it can be listed").path())
        .collect();
    assert_eq!(units.len(), 3);
    units
}

#[test]
fn services_are_asked_with_their_settings_in_their_folder_and_with_their_passwords() {
    let dir = tempfile::tempdir().expect("a folder");
    let script = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("it can be written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("it can be made executable");
    };
    let asking = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/rtsp-recorder-ctl");
    let asking = std::fs::read_to_string(asking).expect("it is there");
    script("rtsp-recorder-ctl", &asking);
    script(
        "run-system",
        "pwd; echo \"$#: $*\"; echo \"$CAMERA_PASSWORD|$TOKEN\"",
    );
    script("blur-processor", "echo \"$#: $*\"");
    // The user of the services is not there on every machine.
    script("setpriv", "shift 5; exec \"$@\"");
    let etc = dir.path().join("etc");
    std::fs::create_dir(&etc).expect("a folder");
    std::fs::write(etc.join("rtsp_recorder_config.json"), "{}").expect("it can be written");
    let environment = "# of cameras\nCAMERA_PASSWORD=a$b & 'c'\nTOKEN=\"quoted\"\n";
    std::fs::write(etc.join("environment"), environment).expect("it can be written");
    let ask = |arguments: &[&str]| {
        let path = std::env::var("PATH").unwrap_or_default();
        let asked = Command::new(dir.path().join("rtsp-recorder-ctl"))
            .args(arguments)
            .env("PATH", format!("{}:{path}", dir.path().display()))
            .env("RTSP_RECORDER_ETC", &etc)
            .env("RTSP_RECORDER_HOME", dir.path())
            .output()
            .expect("it runs");
        let told = String::from_utf8_lossy(&asked.stdout).into_owned();
        let told = told.replace(&dir.path().display().to_string(), "DIR");
        (asked.status.code(), told)
    };
    let status = "DIR\n8: --status --recorder-config DIR/etc/rtsp_recorder_config.json --blur-config \
        DIR/etc/blur_processor_config.json --system-config DIR/etc/run_system_config.json --watch\na$b & 'c'|quoted\n";
    assert_eq!(ask(&["status", "--watch"]), (Some(0), status.to_owned()));
    let retry = "4: --config DIR/etc/blur_processor_config.json retry --all\n";
    assert_eq!(ask(&["retry", "--all"]), (Some(0), retry.to_owned()));
    let (code, told) = ask(&["dashboard"]);
    assert!(
        code == Some(0) && told.contains(": --dashboard --recorder-config"),
        "{told}"
    );
    assert_eq!(ask(&["restart"]).0, Some(2));

    // What systemd leaves out keeps nothing from being asked, and blanks count here as they do there.
    let slips = "CAMERA-PASSWORD=x\nCAMERA_PASSWORD = a$b & 'c' \r\n  TOKEN=\"quoted\"\r\n";
    std::fs::write(etc.join("environment"), slips).expect("it can be written");
    assert_eq!(ask(&["status", "--watch"]), (Some(0), status.to_owned()));
}
