//! The real program: killed, stopped, misconfigured.

use crate::rig::{Rig, clip, expect_run, frames, sent, simulator};
use camera_simulator::{AuthScheme, CameraConfig, Config, Credentials, Simulator};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use ticket_queue::CutReason;

/// The real program with the settings of the rig.
pub(crate) fn start(rig: &Rig) -> Child {
    let config = rig.path("config.json");
    std::fs::write(&config, Value::Object(rig.settings.clone()).to_string()).unwrap();
    command(&config).spawn().unwrap()
}

/// Stops the program in an orderly way.
pub(crate) fn end(mut recorder: Child) {
    signal(&recorder, rustix::process::Signal::TERM);
    assert_eq!(wait(&mut recorder).code(), Some(0));
}

/// The most memory that the program ever had in RAM.
pub(crate) fn peak_memory_mib(recorder: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", recorder.id())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        / 1024
}

fn command(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rtsp-recorder"));
    command
        .arg("--config")
        .arg(config)
        .env_remove("RUST_LOG")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

fn wait(child: &mut Child) -> ExitStatus {
    let until = Instant::now() + Duration::from_secs(15);
    while Instant::now() < until {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    panic!("the recorder did not end");
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(15);
    while !condition() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn after_a_kill_less_than_a_second_is_missing_and_every_segment_has_its_ticket() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]))
        .set("segment_duration", json!(3));
    let mut recorder = start(&rig);
    wait_until("a whole segment", || {
        rig.path("queue").exists() && !rig.tickets().is_empty()
    });
    std::thread::sleep(Duration::from_millis(1700));
    let sent_before = sent(&simulator, "cam").len();
    recorder.kill().unwrap();
    recorder.wait().unwrap();
    // A leftover that a kill between renaming and cleaning up leaves.
    let before = rig.tickets().len();
    let lost_ticket = std::fs::read_dir(rig.path("queue"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "json"))
        .unwrap();
    std::fs::remove_file(lost_ticket).unwrap();

    let mut recorder = start(&rig);
    wait_until("recovery", || rig.tickets().len() > before);
    signal(&recorder, rustix::process::Signal::INT);
    assert_eq!(wait(&mut recorder).code(), Some(0));
    let segments = rig.segments("cam");
    let recovered: Vec<_> = segments
        .iter()
        .filter(|s| s.ticket.cut_reason == Some(CutReason::Recovered))
        .collect();
    assert_eq!(
        recovered.len(),
        2,
        "the torn segment and the one without a ticket"
    );
    let sent = sent(&simulator, "cam");
    let up_to_kill: Vec<_> = segments
        .into_iter()
        .take_while(|s| {
            s.ticket.cut_reason != Some(CutReason::Shutdown) && s.ticket.gap_before.is_none()
        })
        .collect();
    let after = expect_run(&sent, &frames(&up_to_kill));
    let missing = sent_before as i64 - (sent.len() - after) as i64;
    assert!(
        (-3..15).contains(&missing),
        "{missing} frames missing at the kill"
    );
}

#[test]
fn credentials_are_nowhere_and_a_refused_password_waits_long() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let credentials = Credentials {
        user: "admin".into(),
        password: "s3cret".into(),
    };
    let config = Config {
        credentials: Some(credentials),
        scheme: AuthScheme::Digest,
        ..Config::new([CameraConfig::new("cam", &file)])
    };
    let simulator = Simulator::start(config).unwrap();
    let address = simulator.url("cam").unwrap();
    let address = address
        .rsplit('@')
        .next()
        .unwrap()
        .trim_start_matches("rtsp://")
        .to_owned();
    let rig = Rig::new(json!([
        {"name": "good", "url": format!("rtsp://admin:s3cret@{address}")},
        {"name": "bad", "url": format!("rtsp://admin:n0t%40right@{address}")},
    ]));
    let mut recorder = start(&rig);
    wait_until("a segment", || {
        rig.path("queue").exists() && !rig.tickets().is_empty()
    });
    signal(&recorder, rustix::process::Signal::TERM);
    assert_eq!(wait(&mut recorder).code(), Some(0));
    assert!(!rig.segments("good").is_empty());
    let mut seen = String::new();
    for dir in ["logs", "queue"] {
        for entry in std::fs::read_dir(rig.path(dir)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                seen.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    assert!(seen.contains("refuses user name and password"), "{seen}");
    for secret in ["s3cret", "n0t%40right", "n0t@right"] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
    let refusals = seen.matches("refuses user name").count();
    assert!(
        refusals <= 3,
        "a locked account: {refusals} attempts in a few seconds"
    );
}

#[test]
fn bad_settings_and_a_second_recorder_have_their_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c.json");
    assert_eq!(command(&config).status().unwrap().code(), Some(2));
    std::fs::write(
        &config,
        r#"{"sources": ["rtsp://127.0.0.1/a"], "segment_durration": 3}"#,
    )
    .unwrap();
    let output = command(&config).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("segment_duration"), "{text}");

    let rig = Rig::new(json!([{"name": "gone", "url": "rtsp://127.0.0.1:9/a"}]));
    let mut first = start(&rig);
    wait_until("the lock", || {
        rig.path("logs/rtsp_recorder.status.json").exists()
    });
    let second = command(&rig.path("config.json")).status().unwrap();
    assert_eq!(second.code(), Some(100));
    signal(&first, rustix::process::Signal::INT);
    assert_eq!(wait(&mut first).code(), Some(0));
}
