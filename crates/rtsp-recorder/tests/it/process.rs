//! The real program: killed, stopped, misconfigured.

use crate::rig::{Rig, clip, expect_run, frames, sent, simulator};
use camera_simulator::{AuthScheme, CameraConfig, Config, Credentials, Fault, Simulator};
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

pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(15);
    while !condition() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_low_limit_of_open_files_is_raised() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]));
    let config = rig.path("config.json");
    std::fs::write(&config, Value::Object(rig.settings.clone()).to_string()).unwrap();
    let recorder = Command::new("sh")
        .args(["-c", "ulimit -S -n 256; exec \"$0\" --config \"$1\""])
        .args([Path::new(env!("CARGO_BIN_EXE_rtsp-recorder")), &config])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let limits = format!("/proc/{}/limits", recorder.id());
    let soft_and_hard = || -> Option<(String, String)> {
        let limits = std::fs::read_to_string(&limits).ok()?;
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"))?;
        let mut words = line.split_whitespace().skip(3).map(str::to_owned);
        words.next().zip(words.next())
    };
    wait_until("a ticket", || {
        rig.path("queue").exists() && !rig.tickets().is_empty()
    });
    let limits = soft_and_hard();
    end(recorder);
    let (soft, hard) = limits.unwrap();
    assert_eq!(soft, hard);
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

/// A camera on a port of its own, so that faults can close it, and a rig that records it.
fn one_camera(clips: &Path) -> (Simulator, Rig) {
    let config = Config {
        separate_ports: true,
        ..Config::new([CameraConfig::new("cam", clip(clips, "a.mp4"))])
    };
    let simulator = Simulator::start(config).unwrap();
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]));
    (simulator, rig)
}

/// What is on record of gaps.
fn gaps(rig: &Rig) -> Vec<Value> {
    let text = std::fs::read_to_string(rig.path("logs/gaps.jsonl")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_gap_across_a_kill_between_two_segments_is_on_record() {
    let clips = tempfile::tempdir().unwrap();
    let (simulator, rig) = one_camera(clips.path());
    // The status file knows of no frame: it was written at the start and is not again.
    let rig = rig.set("monitoring_interval", json!(3600));
    let mut recorder = start(&rig);
    wait_until("a segment", || {
        rig.path("queue").exists() && rig.tickets().len() > 1
    });
    simulator
        .fault("cam", &Fault::Reboot(Duration::from_secs(3)))
        .unwrap();
    let is_open = || {
        let files = std::fs::read_dir(rig.path("raw/cam")).unwrap();
        files
            .flatten()
            .any(|file| file.file_name().to_str().unwrap().starts_with('.'))
    };
    wait_until("the end of the segment", || !is_open());
    recorder.kill().unwrap();
    recorder.wait().unwrap();
    let before = rig.segments("cam");
    let last = &before.last().unwrap().ticket;
    let end = last
        .start()
        .unwrap()
        .timestamp()
        .as_duration()
        .as_secs_f64()
        + last.duration;
    let mut recorder = start(&rig);
    wait_until("recording", || rig.tickets().len() > before.len());
    signal(&recorder, rustix::process::Signal::TERM);
    assert_eq!(wait(&mut recorder).code(), Some(0));
    let next = &rig.segments("cam")[before.len()].ticket;
    let missing = next
        .start()
        .unwrap()
        .timestamp()
        .as_duration()
        .as_secs_f64()
        - end;
    let gap = next.gap_before.expect("a gap");
    assert!(
        missing > 1.0 && (gap - missing).abs() < 0.6,
        "{gap} s, not {missing} s"
    );
    let gaps = gaps(&rig);
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(
        gaps[0]["why"]
            .as_str()
            .unwrap()
            .contains("the recorder was not running"),
        "{gaps:?}"
    );
}

#[test]
fn a_recovered_segment_keeps_the_gap_before_it() {
    let clips = tempfile::tempdir().unwrap();
    let (simulator, rig) = one_camera(clips.path());
    let rig = rig.set("segment_duration", json!(60));
    let mut recorder = start(&rig);
    let is_recording = || !sent(&simulator, "cam").is_empty();
    wait_until("recording", is_recording);
    std::thread::sleep(Duration::from_millis(1500));
    simulator
        .fault("cam", &Fault::Reboot(Duration::from_secs(1)))
        .unwrap();
    wait_until("the gap", || !gaps(&rig).is_empty());
    std::thread::sleep(Duration::from_millis(1500));
    recorder.kill().unwrap();
    recorder.wait().unwrap();
    let known = gaps(&rig)[0]["seconds"].as_f64().unwrap();
    let mut recorder = start(&rig);
    wait_until("recovery", || rig.tickets().len() > 1);
    signal(&recorder, rustix::process::Signal::TERM);
    assert_eq!(wait(&mut recorder).code(), Some(0));
    let segments = rig.segments("cam");
    let recovered = segments
        .iter()
        .find(|s| s.ticket.cut_reason == Some(CutReason::Recovered));
    let gap = recovered.unwrap().ticket.gap_before.expect("a gap");
    assert!((gap - known).abs() < 0.001, "{gap} s, not {known} s");
    assert_eq!(segments[0].ticket.gap_before, None);
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

#[test]
fn a_second_recorder_leaves_the_open_segments_of_the_first_alone() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([
        CameraConfig::new("cam", &file),
        CameraConfig::new("other", &file),
    ]);
    let source = |name: &str| json!([{"name": name, "url": simulator.url(name).unwrap()}]);
    let first = Rig::new(source("cam")).set("segment_duration", json!(60));
    let mut second = Rig::new(source("other"));
    for place in ["output_dir", "queue_dir"] {
        let same = first.settings[place].clone();
        second = second.set(place, same);
    }
    let part = || {
        let files = std::fs::read_dir(first.path("raw/cam"));
        let names = files.into_iter().flatten().flatten();
        let mut names = names.map(|file| file.file_name().into_string().unwrap());
        names.find(|name| name.ends_with(".part"))
    };
    let recorder = start(&first);
    wait_until("an open segment", || part().is_some());
    std::thread::sleep(Duration::from_millis(1500));
    let open = part();
    // Its recovery is done long before its own first segment.
    let another = start(&second);
    wait_until("a segment of the second", || {
        first.tickets().iter().any(|t| t.source_name == "other")
    });
    end(another);
    assert_eq!(part(), open);
    end(recorder);
    let segments = first.segments("cam");
    assert_eq!(segments.len(), 1);
    assert_eq!(segments[0].ticket.cut_reason, Some(CutReason::Shutdown));
    let sent = sent(&simulator, "cam");
    let missing = expect_run(&sent, &frames(&segments));
    assert!(missing < 15, "{missing} frames missing at the end");
    let log = std::fs::read_to_string(second.path("logs/rtsp_recorder.log")).unwrap();
    let said = log.matches("another recorder records here").count();
    assert_eq!(said, 1, "{log}");
}

#[test]
fn the_log_says_of_which_source_it_speaks() {
    let clips = tempfile::tempdir().unwrap();
    let (simulator, rig) = one_camera(clips.path());
    let recorder = start(&rig);
    wait_until("a segment", || {
        rig.path("queue").exists() && !rig.tickets().is_empty()
    });
    simulator
        .fault("cam", &Fault::Reboot(Duration::from_secs(1)))
        .unwrap();
    let log = || std::fs::read_to_string(rig.path("logs/rtsp_recorder.log")).unwrap_or_default();
    let said = ["source failed", "recording again after a gap"];
    wait_until("what is said of a gap", || {
        said.iter().all(|words| log().contains(words))
    });
    end(recorder);
    let log = log();
    for words in said {
        let line = log.lines().find(|line| line.contains(words)).unwrap();
        assert!(line.contains("source{name=cam}"), "{line}");
    }
}

#[test]
fn a_place_that_is_a_file_is_told_with_its_key_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    for key in ["output_dir", "queue_dir", "log_dir", "status_dir"] {
        let config = dir.path().join("config.json");
        let settings = json!({ "sources": ["a.mp4"], (key): "file" });
        std::fs::write(&config, settings.to_string()).unwrap();
        let told = |code: i32, more: &[&str]| {
            let output = command(&config)
                .args(more)
                .current_dir(dir.path())
                .stderr(Stdio::piped())
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(code));
            String::from_utf8_lossy(&output.stderr).into_owned()
        };
        let advice = format!("a file is in the way; give another {key}");
        // A disk may come later; the settings are what they are.
        let said = told(1, &[]);
        assert!(said.contains(&advice), "{said}");
        let said = told(2, &["--validate"]);
        assert!(
            said.contains(&advice) && !said.contains("ermission"),
            "{said}"
        );
    }
}

#[test]
fn a_password_that_looks_like_a_variable_is_told_when_settings_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.json");
    let settings = r#"{"sources": [{"name": "gate", "url": "rtsp://viewer:$GEHEIM@127.0.0.1/1"}]}"#;
    std::fs::write(&config, settings).unwrap();
    let output = command(&config)
        .arg("--validate")
        .current_dir(dir.path())
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("note: gate: the password begins with `$`"),
        "{said}"
    );
    assert!(!said.contains("GEHEIM"), "{said}");
}

#[test]
fn an_encoder_that_does_not_exist_is_found_before_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("config.json");
    for (encoder, code) in [("libx256", 2), ("mp4v", 2), ("libx264", 0), ("copy", 0)] {
        let gate = json!({ "name": "gate", "url": "a.mp4", "video_codec": encoder });
        let settings = json!({ "sources": [gate, "b.mp4"] });
        std::fs::write(&config, settings.to_string()).expect("settings");
        let output = command(&config)
            .arg("--validate")
            .current_dir(dir.path())
            .stderr(Stdio::piped())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{encoder}: {said}");
        let told =
            format!("gate: video_codec {encoder}: the FFmpeg of this machine has no such encoder");
        assert_eq!(said.contains(&told), code == 2, "{encoder}: {said}");
    }
}
