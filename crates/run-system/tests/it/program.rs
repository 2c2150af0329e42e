//! The program as users run it.

use crate::stage::{GOOD, Stage, kill};
use std::io::{BufRead, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use ticket_queue::{DirectoryQueue, Failure, Options, Queue as _, Ticket};

/// A stage with the real program in it, beside the scripts.
pub(crate) fn installed(recorder: &str, processor: &str) -> Stage {
    let stage = Stage::new(recorder, processor);
    let own = Path::new(env!("CARGO_BIN_EXE_run-system"));
    let there = stage.path("run-system");
    if std::fs::hard_link(own, &there).is_err() {
        std::fs::copy(own, &there).unwrap();
    }
    std::fs::write(
        stage.path("recorder.json"),
        r#"{"sources": ["rtsp://admin:geheim@127.0.0.1:1/x"], "monitoring_interval": 0.5}"#,
    )
    .unwrap();
    std::fs::write(stage.path("blur.json"), "{}").unwrap();
    stage
}

pub(crate) fn command(stage: &Stage, arguments: &[&str]) -> Command {
    let mut command = Command::new(stage.path("run-system"));
    command
        .current_dir(stage.root())
        .args(arguments)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

pub(crate) const FILES: [&str; 4] = [
    "--recorder-config",
    "recorder.json",
    "--blur-config",
    "blur.json",
];

pub(crate) fn output(stage: &Stage, arguments: &[&str]) -> Output {
    command(stage, arguments).output().unwrap()
}

pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn configs_are_created_once_and_can_be_loaded() {
    let stage = installed(GOOD, GOOD);
    let first = output(&stage, &["--create-configs"]);
    assert!(
        first.status.success() && text(&first).contains("sources"),
        "{}",
        text(&first)
    );
    let path = stage.path("configs/rtsp_recorder_config.json");
    settings::RecorderSettings::load(&path).unwrap();
    settings::BlurSettings::load(&stage.path("configs/blur_processor_config.json")).unwrap();
    for name in ["rtsp_recorder", "blur_processor", "run_system"] {
        let schema = stage.path(&format!("configs/{name}_config.schema.json"));
        let schema = std::fs::read(schema).unwrap();
        let schema: serde_json::Value = serde_json::from_slice(&schema).unwrap();
        assert!(schema["properties"].is_object(), "{schema}");
    }
    let system = stage.path("configs/run_system_config.json");
    settings::SystemSettings::load_in(&system, &settings::Environment::empty()).unwrap();

    std::fs::write(&path, "mine").unwrap();
    let second = output(&stage, &["--create-configs"]);
    assert!(
        second.status.success() && text(&second).contains("--force"),
        "{}",
        text(&second)
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    assert!(
        output(&stage, &["--create-configs", "--force"])
            .status
            .success()
    );
    assert_ne!(std::fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn a_config_in_the_old_place_is_not_shadowed() {
    let stage = installed(GOOD, GOOD);
    std::fs::write(stage.path("rtsp_recorder_config.json"), "{}").unwrap();
    let created = output(&stage, &["--create-configs"]);
    assert!(
        text(&created).contains("kept     ./rtsp_recorder_config.json"),
        "{}",
        text(&created)
    );
    assert!(!stage.path("configs/rtsp_recorder_config.json").exists());
    assert!(stage.path("configs/blur_processor_config.json").exists());
}

#[test]
fn without_settings_it_says_what_to_do() {
    let stage = installed(GOOD, GOOD);
    let output = output(&stage, &[]);
    assert_eq!(output.status.code(), Some(2));
    let text = text(&output);
    assert!(
        text.contains("configs/rtsp_recorder_config.json not found")
            && text.contains("--create-configs"),
        "{text}"
    );
    assert!(
        text.contains("blur_processor_config.json not found"),
        "all problems at once: {text}"
    );
}

#[test]
fn wrong_settings_are_all_told() {
    let stage = installed(GOOD, GOOD);
    std::fs::write(
        stage.path("recorder.json"),
        r#"{"sources": [], "segment_duraton": 3}"#,
    )
    .unwrap();
    std::fs::write(stage.path("blur.json"), r#"{"mask": "none"}"#).unwrap();
    let output = output(&stage, &FILES);
    assert_eq!(output.status.code(), Some(2));
    let text = text(&output);
    for part in [
        "2 problems in recorder.json",
        "did you mean `segment_duration`",
        "1 problem in blur.json",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!(stage.events(), [] as [String; 0], "nothing was started");
}

#[test]
fn a_dashboard_for_strangers_without_token_and_tls_is_refused() {
    let stage = installed(GOOD, GOOD);
    std::fs::write(
        stage.path("run_system_config.json"),
        r#"{"dashboard_listen": "0.0.0.0:0"}"#,
    )
    .unwrap();
    let output = output(&stage, &FILES);
    assert_eq!(output.status.code(), Some(2));
    let text = text(&output);
    assert!(
        text.contains("dashboard_token, dashboard_tls_cert and dashboard_tls_key"),
        "{text}"
    );
    assert_eq!(stage.events(), [] as [String; 0], "nothing was started");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let stage = installed(GOOD, GOOD);
    std::fs::write(stage.path("blur.json"), r#"{"queue_dir": "elsewhere"}"#).unwrap();
    let output = output(&stage, &FILES);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("no ticket would reach the blur processor"),
        "{}",
        text(&output)
    );
}

#[test]
fn an_age_limit_in_the_recorders_file_alone_is_refused_before_anything_is_deleted() {
    let stage = installed(GOOD, GOOD);
    let config = r#"{"sources": ["rtsp://127.0.0.1:1/x"], "max_file_age_hours": 720}"#;
    std::fs::write(stage.path("recorder.json"), config).expect("settings");
    for task in [&["--duration", "1"][..], &["--validate"]] {
        let arguments = &[task, &FILES[..]].concat();
        let output = output(&stage, arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let told = text(&output).contains("\"max_file_age_hours\": 720 into blur.json");
        assert!(told, "{}", text(&output));
    }
    assert_eq!(stage.events(), [] as [String; 0], "nothing was started");
}

#[test]
fn zones_of_a_mistyped_camera_are_refused_before_anything_is_published() {
    let stage = installed(GOOD, GOOD);
    let config = r#"{"sources": [{"name": "gate", "url": "rtsp://127.0.0.1:1/x"}]}"#;
    std::fs::write(stage.path("recorder.json"), config).expect("settings");
    let config = r#"{"zones": {"gaet": {"always": [[[0, 0], [1, 0], [1, 1]]]}}}"#;
    std::fs::write(stage.path("blur.json"), config).expect("settings");
    for task in [&["--duration", "1"][..], &["--validate"]] {
        let output = output(&stage, &[task, &FILES[..]].concat());
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        let told = text(&output)
            .contains("zones.gaet: there is no source of that name; did you mean \"gate\"?");
        assert!(told, "{}", text(&output));
    }
    assert_eq!(stage.events(), [] as [String; 0], "nothing was started");
}

#[test]
fn directories_that_links_make_one_are_refused() {
    let stage = installed(GOOD, GOOD);
    std::fs::create_dir(stage.path("raw_videos")).unwrap();
    std::os::unix::fs::symlink("raw_videos", stage.path("videos")).unwrap();
    let config = r#"{"output_dir": "videos/processed"}"#;
    std::fs::write(stage.path("blur.json"), config).unwrap();
    let output = output(&stage, &[&["--validate"], &FILES[..]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    let told = text(&output).contains("lie within each other");
    assert!(told, "{}", text(&output));
}

#[test]
fn a_preflight_finds_what_is_wrong() {
    let stage = installed(GOOD, GOOD);
    let (good, web) = (
        camera("RTSP/1.0 200 OK\r\n"),
        camera("HTTP/1.1 400 Bad Request\r\n"),
    );
    let config = format!(
        r#"{{"sources": [
            {{"name": "good", "url": "rtsp://admin:$geheim@{good}/x"}},
            {{"name": "web", "url": "rtsp://{web}/x"}},
            {{"name": "shut", "url": "rtsp://admin:geheim@127.0.0.1:1/x"}},
            "missing.mp4"
        ], "log_dir": "recorder.json/logs"}}"#
    );
    std::fs::write(stage.path("recorder.json"), config).unwrap();
    std::fs::write(
        stage.path("blur.json"),
        r#"{"blur_module_path": "head-blur"}"#,
    )
    .unwrap();
    let output = output(&stage, &[&["--validate"], &FILES[..]].concat());
    let text = text(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in [
        "note   camera good                   the password begins with `$`",
        "ok     camera good",
        "WRONG  camera web",
        "answers, but not in RTSP",
        "WRONG  camera shut",
        "nothing listens on that port",
        "WRONG  camera missing",
        "begin the address of a camera with rtsp://",
        "WRONG  plugin",
        "WRONG  model",
        "run scripts/setup",
        "WRONG  directory of logs",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("geheim"), "{text}");
}

#[test]
fn a_preflight_of_a_good_system_succeeds() {
    let stage = installed(GOOD, GOOD);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    std::fs::write(
        stage.path("run_system_config.json"),
        format!(r#"{{"dashboard_listen": "{address}"}}"#),
    )
    .unwrap();
    let camera = camera("RTSP/1.0 200 OK\r\n\r\n");
    let config = format!(r#"{{"sources": ["rtsp://{camera}/x"]}}"#);
    std::fs::write(stage.path("recorder.json"), config).unwrap();
    let output = output(&stage, &[&["--validate"], &FILES[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("speaks RTSP"), "{}", text(&output));
    assert!(
        text(&output).contains("note   port of the dashboard"),
        "{}",
        text(&output)
    );
    assert!(
        !stage.path("raw_videos").exists(),
        "looking changes nothing"
    );
}

#[test]
fn a_plugin_that_cannot_be_loaded_is_found_before_the_start() {
    let stage = installed(GOOD, GOOD);
    let camera = camera("RTSP/1.0 401 Unauthorized\r\n\r\n");
    let config = format!(r#"{{"sources": ["rtsp://{camera}/x"]}}"#);
    std::fs::write(stage.path("recorder.json"), config).unwrap();
    let arguments = [&["--validate"], &FILES[..]].concat();
    let told = || {
        command(&stage, &arguments)
            .env("REPLY_TO_VALIDATE", "model is damaged")
            .output()
            .unwrap()
    };
    let output = told();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(
        text(&output).contains("WRONG  plugin and encoder"),
        "{}",
        text(&output)
    );
    assert!(
        text(&output).contains("model is damaged"),
        "{}",
        text(&output)
    );
    // The blur processor looks at its directories as well, which is no matter of the plugin.
    std::fs::write(stage.path("processed_videos"), "").unwrap();
    let said = text(&told());
    assert!(said.contains("WRONG  directory of processed"), "{said}");
    assert!(!said.contains("plugin and encoder"), "{said}");
}

#[test]
fn a_preflight_shows_what_the_recorder_saw_and_what_to_do() {
    let stage = installed(GOOD, GOOD);
    let config = r#"{"sources": [
        {"name": "good", "url": "rtsp://127.0.0.1:1/a"},
        {"name": "smart", "url": "rtsp://127.0.0.1:1/b"},
        {"name": "locked", "url": "rtsp://admin:geheim@127.0.0.1:1/c"},
        {"name": "gone", "url": "rtsp://127.0.0.1:1/d"}
    ]}"#;
    std::fs::write(stage.path("recorder.json"), config).unwrap();
    let video = |fps: f64, key: &str| {
        format!(
            r#"{{"codec": "hevc", "width": 1920, "height": 1080, "declared_fps": 15.0, "fps": {fps}, "bitrate": 2000000,
            "key_frame_seconds": {key}, "looked_seconds": 9.5, "packets_lost": 0}}"#
        )
    };
    let probe = |name: &str, trouble: &str, message: &str, video: &str| {
        format!(
            r#"{{"name": "{name}", "address": "x", "trouble": {trouble}, "message": {message}, "missing_encoder": null,
            "video": {video}}}"#
        )
    };
    let refusal = r#""the camera refuses user name and password""#;
    let probes = [
        probe("good", "null", "null", &video(15.0, "2.0")),
        probe("smart", "null", "null", &video(6.0, "null")),
        probe("locked", r#""refused""#, refusal, "null"),
        probe("gone", r#""away""#, r#""no answer""#, "null"),
    ];
    std::fs::write(stage.path("probes"), format!("[{}]", probes.join(","))).unwrap();
    let output = output(&stage, &[&["--validate"], &FILES[..]].concat());
    let text = text(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in [
        "ok     camera good",
        "note   camera smart",
        "no second key frame",
        "6.0 frames per second arrive of 15.0 declared",
        "WRONG  camera locked",
        "refuses user name and password",
        "WRONG  camera gone",
        "nothing listens on that port",
        "1920x1080",
        "2.0 Mbit/s",
        "disk forecast",
        "ok     clock",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("geheim"), "{text}");
}

/// A server on this machine that answers the first connection with that text.
fn camera(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream.write_all(answer.as_bytes()).unwrap();
        // Held open until the other side has read and closed.
        stream.read_to_end(&mut Vec::new()).ok();
    });
    address
}

#[test]
fn it_runs_for_the_time_asked_and_tells_how_it_goes() {
    let stage = installed(GOOD, GOOD);
    let output = output(&stage, &[&["--duration", "4"], &FILES[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(stage.events().last().unwrap(), "blur_processor ended");
    let log = std::fs::read_to_string(stage.path("logs/system.log")).unwrap();
    for part in [
        "rtsp_recorder running (pid ",
        "queue: 0 waiting",
        "disk: ",
        "everything is stopped",
    ] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    assert!(
        text(&output).contains("queue: 0 waiting"),
        "the console shows the same"
    );
}

#[test]
fn killed_and_started_again_it_finds_its_daemons() {
    let stage = installed(GOOD, GOOD);
    let start = || {
        command(&stage, &FILES)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut first = start();
    stage.wait_for("both to start", |stage| stage.events().len() == 2);
    let pids = [stage.pid("rtsp_recorder"), stage.pid("blur_processor")];

    let refused = output(&stage, &FILES);
    assert_eq!(refused.status.code(), Some(100), "{}", text(&refused));

    first.kill().unwrap();
    first.wait().unwrap();
    let mut second = start();
    stage.wait_for("adoption", |stage| {
        let told =
            std::fs::read_to_string(stage.path("logs/system.status.json")).unwrap_or_default();
        told.matches("adopted").count() == 2
    });
    assert_eq!(
        [stage.pid("rtsp_recorder"), stage.pid("blur_processor")],
        pids,
        "they lived on"
    );

    let seen = output(&stage, &[&["--status", "--json"], &FILES[..]].concat());
    let report: serde_json::Value = serde_json::from_slice(&seen.stdout).unwrap();
    assert_eq!(
        report["processes"][1]["state"], "running, adopted",
        "{report}"
    );
    assert_eq!(report["processes"][1]["pid"], pids[0].unwrap());
    assert!(report["processes"][1]["memory_bytes"].as_u64().unwrap() > 0);
    assert_eq!(report["queue"]["ready"], 0);

    kill(second.id(), "-INT");
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!(
        stage.events()[2..],
        [
            "rtsp_recorder asked",
            "rtsp_recorder ended",
            "blur_processor asked",
            "blur_processor ended"
        ]
    );
    let seen = output(&stage, &[&["--status"], &FILES[..]].concat());
    assert!(text(&seen).contains("not running"), "{}", text(&seen));
}

#[test]
fn a_watched_status_goes_on_in_lines_until_it_is_interrupted() {
    let stage = installed(GOOD, GOOD);
    for (arguments, sign) in [
        (&["--status", "--watch"][..], " queue: 0 waiting"),
        (&["--status", "--watch", "--json"][..], "\"alarms\":["),
    ] {
        let mut watching = command(&stage, &[arguments, &FILES[..]].concat())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reader = std::io::BufReader::new(watching.stdout.take().unwrap());
        let mut seen = 0;
        while seen < 2 {
            let mut line = String::new();
            assert!(
                reader.read_line(&mut line).unwrap() > 0,
                "it ended by itself"
            );
            assert!(!line.contains('\x1b'), "{line:?}");
            seen += usize::from(line.contains(sign));
        }
        kill(watching.id(), "-INT");
        assert_eq!(watching.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn only_one_daemon_when_asked_so() {
    let stage = installed(GOOD, GOOD);
    let output = output(
        &stage,
        &[
            "--recorder-only",
            "--recorder-config",
            "recorder.json",
            "--duration",
            "1",
        ],
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(stage.count("rtsp_recorder ended"), 1);
    assert_eq!(stage.count("blur_processor started"), 0);
}

#[test]
fn the_status_can_be_asked_for_without_the_daemons_passwords() {
    let stage = installed(GOOD, GOOD);
    stage.want_missing_secrets();
    let asked = output(&stage, &[&["--status"], &FILES[..]].concat());
    assert!(asked.status.success(), "{}", text(&asked));
    assert!(text(&asked).contains("rtsp_recorder"), "{}", text(&asked));
    let checked = output(&stage, &[&["--validate"], &FILES[..]].concat());
    assert_eq!(checked.status.code(), Some(2));
    assert!(
        text(&checked).contains("NO_SUCH_CAMERA_PASSWORD"),
        "{}",
        text(&checked)
    );
}

#[test]
fn the_status_says_why_something_was_held_back_and_when_the_queue_is_empty() {
    let stage = installed(GOOD, GOOD);
    let queue = DirectoryQueue::open(&stage.path("processing_queue"), Options::default()).unwrap();
    for i in 0..6 {
        let ticket = Ticket {
            filepath: format!("gate/{i}.mp4"),
            source_name: "gate".to_owned(),
            duration: 60.0,
            ..Ticket::default()
        };
        queue.enqueue(&ticket).unwrap();
    }
    let lease = queue.claim().unwrap().unwrap();
    let reason = "cannot be decoded, from rtsp://admin:geheim@10.0.0.1/x".to_owned();
    queue.fail(lease, Failure::Dead { reason }).unwrap();
    let _runs = daemon::Singleton::acquire(&stage.path("logs/blur_processor.lock")).unwrap();
    let told = daemon::status::ProcessorStatus {
        updated: jiff::Timestamp::now(),
        realtime_factor: 2.0,
        alarms: vec![format!("1{}", daemon::status::GIVEN_UP)],
        ..daemon::status::ProcessorStatus::default()
    };
    daemon::StatusFile::new(&stage.path("logs"), "blur_processor")
        .write(&told)
        .unwrap();
    let shown = text(&output(&stage, &[&["--status"], &FILES[..]].concat()));
    for part in [
        "worked off in about 2 min 30 s",
        ".mp4: cannot be decoded, from rtsp://***@10.0.0.1",
        "ALARM tickets in ./processing_queue/failed",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert_eq!(shown.matches("ALARM").count(), 1, "told once: {shown}");
}
