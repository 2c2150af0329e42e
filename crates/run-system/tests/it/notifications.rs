//! Notifications by the real program: to servers on real sockets, and to real programs.

use crate::program::{FILES, command, installed, output, text};
use crate::stage::{GOOD, Stage, kill};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use ticket_queue::{
    DirectoryQueue, Failure, FileFacts, Options, OriginalFate, Queue, RECEIPT_VERSION, Receipt,
    Ticket,
};
use tokio_rustls::rustls;

const SECRET: &str = "geheim-0123456789";

/// What a server does with a request.
#[derive(Clone, Copy)]
enum Reply {
    Status(&'static str),
    /// Closes the connection without a word.
    Vanish,
    /// Says nothing and holds the connection open.
    Hang,
}

const OK: Reply = Reply::Status("200 OK");

/// A webhook. It replies as told, and then OK for ever.
struct Webhook {
    address: SocketAddr,
    /// Heads and bodies, in the order in which they came.
    requests: Arc<Mutex<Vec<(String, Value)>>>,
    replies: Arc<Mutex<Vec<Reply>>>,
}

impl Webhook {
    fn start(replies: &[Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let webhook = Self {
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            replies: Arc::new(Mutex::new(replies.to_vec())),
        };
        let (requests, replies) = (webhook.requests.clone(), webhook.replies.clone());
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                requests.lock().unwrap().push(request(&mut stream));
                let mut replies = replies.lock().unwrap();
                let reply = if replies.is_empty() {
                    OK
                } else {
                    replies.remove(0)
                };
                match reply {
                    Reply::Status(status) => answer(&mut stream, status),
                    Reply::Vanish => drop(stream),
                    Reply::Hang => held.push(stream),
                }
            }
        });
        webhook
    }

    fn url(&self) -> String {
        format!("http://{}/hooks/{SECRET}?key={SECRET}", self.address)
    }

    fn heads(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|(head, _)| head.clone()).collect()
    }

    fn bodies(&self) -> Vec<Value> {
        let requests = self.requests.lock().unwrap();
        requests.iter().map(|(_, body)| body.clone()).collect()
    }

    fn events(&self) -> Vec<String> {
        let name = |body: &Value| body["event"].as_str().unwrap().to_owned();
        self.bodies().iter().map(name).collect()
    }
}

/// Head and body of a request.
fn request(stream: &mut impl Read) -> (String, Value) {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            if body.len() >= length.unwrap_or(usize::MAX) {
                return (head.to_owned(), serde_json::from_str(body).unwrap());
            }
        }
        let read = stream.read(&mut part).unwrap();
        assert!(read > 0, "half a request: {text}");
        bytes.extend_from_slice(&part[..read]);
    }
}

fn answer(stream: &mut impl Write, status: &str) {
    let said = format!("no hook {SECRET} here");
    let length = said.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{said}"
    )
    .unwrap();
}

/// run-system with these hooks; killed by what ends the test.
struct Running {
    stage: Stage,
    run: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.run.kill().ok();
        self.run.wait().ok();
        for name in ["rtsp_recorder", "blur_processor"] {
            if let Some(pid) = self.stage.pid(name) {
                std::process::Command::new("kill")
                    .args(["-KILL", &pid.to_string()])
                    .stderr(Stdio::null())
                    .status()
                    .unwrap();
            }
        }
    }
}

fn start(stage: &Stage) -> Child {
    let run = command(stage, &FILES)
        .env("HOOK_SECRET", SECRET)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = format!("\"pid\": {},", run.id());
    stage.wait_for("run-system", |stage| {
        let status = std::fs::read_to_string(stage.path("logs/system.status.json"));
        status.is_ok_and(|status| status.contains(&told))
    });
    run
}

impl Running {
    fn with(hooks: &Value) -> Self {
        Self::on(installed(GOOD, GOOD), hooks)
    }

    fn on(stage: Stage, hooks: &Value) -> Self {
        configure(&stage, hooks);
        // The queue is there from an earlier day, and so is the recorder's status.
        DirectoryQueue::open(&stage.path("processing_queue"), Options::default()).unwrap();
        camera(&stage, false);
        let run = start(&stage);
        Self { stage, run }
    }

    fn wait_for(&self, what: &str, holds: impl Fn() -> bool) {
        self.stage.wait_for(what, |_| holds());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.stage.path("logs/system.log")).unwrap()
    }

    /// Everything below the logs that run-system writes, in which nobody may find a secret.
    fn files(&self) -> String {
        let mut dirs = vec![self.stage.path("logs")];
        let mut all = String::new();
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else if !path.ends_with("rtsp_recorder.status.json") {
                    all.push_str(&format!("{}\n", path.display()));
                    all.push_str(&String::from_utf8_lossy(
                        &std::fs::read(path).unwrap_or_default(),
                    ));
                }
            }
        }
        all
    }

    fn end(&mut self) {
        kill(self.run.id(), "-INT");
        assert_eq!(self.run.wait().unwrap().code(), Some(0));
    }
}

fn configure(stage: &Stage, hooks: &Value) {
    let settings = json!({"dashboard": false, "notifications": hooks});
    std::fs::write(stage.path("run_system_config.json"), settings.to_string()).unwrap();
}

/// What the recorder tells about its camera.
fn camera(stage: &Stage, is_down: bool) {
    let since = "2026-03-01T08:00:00Z";
    let source = match is_down {
        true => json!({"name": "yard", "state": "waiting", "down_since": since,
            "down_reason": "rtsp://admin:geheim-0123456789@10.0.0.7/x: refused"}),
        false => json!({"name": "yard", "state": "recording"}),
    };
    let status =
        json!({"updated": jiff::Timestamp::now(), "state": "running", "sources": [source]});
    let scratch = stage.path("scratch");
    std::fs::write(&scratch, status.to_string()).unwrap();
    std::fs::rename(scratch, stage.path("logs/rtsp_recorder.status.json")).unwrap();
}

/// What the recorder tells about the disk.
fn disk(stage: &Stage, alarm: &str, recording_waits: bool) {
    let status = json!({
        "updated": jiff::Timestamp::now(),
        "disk": {"recording_waits": recording_waits, "free_bytes": 5},
        "alarms": [alarm],
    });
    let scratch = stage.path("scratch");
    std::fs::write(&scratch, status.to_string()).expect("a status");
    std::fs::rename(scratch, stage.path("logs/rtsp_recorder.status.json")).expect("a status");
}

fn script(stage: &Stage, name: &str, body: &str) -> String {
    let path = stage.path(name);
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn what_does_not_arrive_is_sent_again_and_no_secret_is_shown() {
    let failing = Webhook::start(&[Reply::Status("500 Oops"), Reply::Status("503 Oops")]);
    let vanishing = Webhook::start(&[Reply::Vanish, Reply::Vanish]);
    let mut running = Running::with(&json!([
        {"name": "failing", "url": failing.url(), "headers": {"Authorization": "Bearer ${HOOK_SECRET}"}},
        {"name": "vanishing", "url": vanishing.url(), "body": {"content": "{event}: {text}", "event": "x"}},
    ]));
    camera(&running.stage, true);
    running.wait_for("three attempts each", || {
        failing.heads().len() == 3 && vanishing.heads().len() == 3
    });
    let head = &failing.heads()[2];
    for part in [
        &format!("POST /hooks/{SECRET}?key={SECRET} HTTP/1.1"),
        &format!("authorization: Bearer {SECRET}"),
        "content-type: application/json",
        &format!("host: {}", failing.address),
    ] {
        let fits = |line: &str| line.eq_ignore_ascii_case(part);
        assert!(head.lines().any(fits), "{part} is not in {head}");
    }
    let bodies = failing.bodies();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    assert_eq!(bodies[0]["version"], 1);
    assert_eq!(bodies[0]["event"], "camera_down");
    assert_eq!(bodies[0]["camera"], "yard");
    assert_eq!(bodies[0]["since"], "2026-03-01T08:00:00Z");
    assert_eq!(bodies[0]["reason"], "rtsp://***@10.0.0.7/x: refused");
    let told = bodies[0]["text"].as_str().unwrap();
    assert!(told.contains(": camera yard is down since "), "{told}");
    assert_eq!(
        vanishing.bodies()[2],
        json!({"content": format!("camera_down: {told}"), "event": "x"})
    );

    running.wait_for("the end of the trouble", || {
        running.log().matches("notifications arrive again").count() == 2
    });
    let show = || {
        text(&output(
            &running.stage,
            &[&["--status"], &FILES[..]].concat(),
        ))
    };
    let place = format!(
        "notifications to failing (http://{}/***): 1 sent, 0 waiting",
        failing.address
    );
    running.wait_for("the status", || show().contains(&place));
    let shown = show();
    assert!(shown.contains("yard    DOWN "), "{shown}");
    running.end();
    assert!(
        running
            .log()
            .contains("the answer is 500 Internal Server Error: no hook ***"),
        "{}",
        running.log()
    );
    for all in [running.files(), shown] {
        assert!(!all.contains(SECRET), "{all}");
    }
}

#[test]
fn a_webhook_that_hangs_holds_nothing_up() {
    let hanging = Webhook::start(&[Reply::Hang; 100]);
    let working = Webhook::start(&[]);
    let mut running = Running::with(&json!([
        {"name": "hanging", "url": hanging.url(), "timeout": 600},
        {"name": "working", "url": working.url(), "min_interval": 0},
    ]));
    camera(&running.stage, true);
    running.wait_for("both", || {
        hanging.heads().len() == 1 && working.events() == ["camera_down"]
    });
    camera(&running.stage, false);
    running.wait_for("the next one", || {
        working.events() == ["camera_down", "camera_up"]
    });
    kill(running.stage.pid("rtsp_recorder").unwrap(), "-KILL");
    running.wait_for("the recorder to be started again", || {
        running.stage.count("rtsp_recorder started") == 2
    });
    let start = Instant::now();
    running.end();
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(hanging.heads().len(), 1);
}

#[test]
fn a_kill_neither_loses_nor_repeats_anything() {
    let webhook = Webhook::start(&[Reply::Hang]);
    let hooks = json!([{"name": "hook", "url": webhook.url(), "min_interval": 0, "timeout": 600}]);
    let mut running = Running::with(&hooks);
    camera(&running.stage, true);
    running.wait_for("the first attempt", || webhook.events() == ["camera_down"]);
    kill(running.run.id(), "-KILL");
    running.run.wait().unwrap();

    running.run = start(&running.stage);
    running.wait_for("what was not delivered", || webhook.events().len() == 2);
    let bodies = webhook.bodies();
    assert_eq!(bodies[0], bodies[1], "the same, with the same id");
    let left = |running: &Running| {
        let outbox = running.stage.path("logs/notifications/hook");
        std::fs::read_dir(outbox).unwrap().count()
    };
    running.wait_for("the answer to arrive", || left(&running) == 0);
    // The camera is still down, which was told.
    kill(running.run.id(), "-KILL");
    running.run.wait().unwrap();
    running.run = start(&running.stage);
    camera(&running.stage, false);
    running.wait_for("the end", || {
        webhook.events().last().unwrap() == "camera_up"
    });
    running.end();
    assert_eq!(
        webhook.events(),
        ["camera_down", "camera_down", "camera_up"]
    );
    assert_eq!(left(&running), 0);
}

#[test]
fn a_camera_that_comes_and_goes_is_told_now_and_then() {
    let webhook = Webhook::start(&[]);
    let hooks = json!([{"name": "hook", "url": webhook.url(), "min_interval": 6}]);
    let mut running = Running::with(&hooks);
    let start = Instant::now();
    let mut is_down = false;
    while start.elapsed() < Duration::from_secs(4) {
        is_down = !is_down;
        camera(&running.stage, is_down);
        std::thread::sleep(Duration::from_millis(700));
    }
    assert_eq!(webhook.events(), ["camera_down"]);
    camera(&running.stage, true);
    running.wait_for("the rest", || webhook.events().len() == 2);
    running.end();
    let last = webhook.bodies().pop().unwrap();
    assert_eq!(last["event"], "camera_down", "the last state is told");
    assert!(last["count"].as_u64().unwrap() >= 4, "{last}");
    assert!(
        last["text"]
            .as_str()
            .unwrap()
            .contains("events since the last message"),
        "{last}"
    );
}

#[test]
fn a_program_is_told_by_its_standard_input() {
    let stage = installed(GOOD, GOOD);
    let dir = stage.root().display().to_string();
    let good = script(
        &stage,
        "good",
        r#"cat > "$1/told.$NOTIFICATION_EVENT"; echo "$2" > "$1/argument""#,
    );
    let bad = script(
        &stage,
        "bad",
        "echo first >&2; echo \"cannot mail with $1\" >&2; exit 3",
    );
    let slow = script(
        &stage,
        "slow",
        r#"sleep 60 & echo $! > "$1/helper"; echo $$ > "$1/leader"; wait"#,
    );
    let mut running = Running::on(
        stage,
        &json!([
            {"name": "good", "command": [good, dir, "a 'b' \"c\" $d"]},
            {"name": "bad", "command": [bad, SECRET], "retries": 1},
            {"name": "slow", "command": [slow, dir], "timeout": 1, "retries": 0},
            {"name": "missing", "command": ["/nowhere/program"], "retries": 0},
        ]),
    );
    camera(&running.stage, true);
    let stage = &running.stage;
    let told = || std::fs::read(stage.path("told.camera_down")).unwrap_or_default();
    running.wait_for("all", || {
        !told().is_empty() && running.log().matches("a notification is given up").count() == 3
    });
    let told: Value = serde_json::from_slice(&told()).unwrap();
    assert_eq!(told["camera"], "yard");
    let argument = std::fs::read_to_string(stage.path("argument")).unwrap();
    assert_eq!(argument, "a 'b' \"c\" $d\n", "no shell is between");
    for name in ["leader", "helper"] {
        let pid = std::fs::read_to_string(stage.path(name)).unwrap();
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        assert!(
            stat.is_empty() || stat.contains(") Z "),
            "{name} is still there: {stat}"
        );
    }
    running.end();
    let log = running.log();
    for part in [
        "exit code 3: cannot mail with ***",
        "no answer within 1 s (timeout)",
        "/nowhere/program cannot be started",
    ] {
        assert!(log.contains(part), "{part} is not in {log}");
    }
    assert!(!running.files().contains(SECRET));
}

fn receipt(stem: &ticket_queue::Stem, id: &str) -> Receipt {
    let facts = |path: &str| FileFacts {
        path: path.to_owned(),
        bytes: 1,
        blake3: "0".repeat(64),
    };
    Receipt {
        version: RECEIPT_VERSION,
        id: id.to_owned(),
        stem: stem.clone(),
        attempt: 1,
        input: facts(id),
        output: facts(&format!("yard/blurred_{id}")),
        original: OriginalFate::Deleted,
        original_dir: None,
        plugin: None,
        frames: 1,
        heads: 0,
        tracks: 0,
        started: jiff::Timestamp::now(),
        finished: jiff::Timestamp::now(),
        extra: serde_json::Map::new(),
    }
}

/// Publishes or gives up a ticket, as the blur processor does.
fn process(queue: &DirectoryQueue, id: &str, is_good: bool) {
    let ticket = Ticket {
        id: Some(id.to_owned()),
        filepath: format!("raw_videos/yard/{id}"),
        source_name: "yard".to_owned(),
        ..Ticket::default()
    };
    queue.enqueue(&ticket).unwrap();
    let lease = queue.claim().unwrap().unwrap();
    if is_good {
        let receipt = receipt(lease.stem(), id);
        queue.write_receipt(&lease, &receipt).unwrap();
        queue.complete(lease).unwrap();
    } else {
        let reason = "cannot be decoded".to_owned();
        queue.fail(lease, Failure::Dead { reason }).unwrap();
    }
}

#[test]
fn videos_and_failures_are_told_each_once_and_only_what_is_new() {
    let all = Webhook::start(&[]);
    let usual = Webhook::start(&[]);
    let stage = installed(GOOD, GOOD);
    let queue = DirectoryQueue::open(&stage.path("processing_queue"), Options::default()).unwrap();
    process(&queue, "old.mp4", true);
    process(&queue, "old_bad.mp4", false);
    let mut running = Running::on(
        stage,
        &json!([
            {"name": "all", "url": all.url(), "events": ["segment_published", "ticket_failed"]},
            {"name": "usual", "url": usual.url()},
        ]),
    );
    let noticed = |running: &Running| {
        let state = running.stage.path("logs/notifications/state.json");
        std::fs::read_to_string(state).is_ok_and(|state| state.contains("published\": {"))
    };
    running.wait_for("a first look", || noticed(&running));
    for id in ["a.mp4", "b.mp4", "c.mp4"] {
        process(&queue, id, true);
    }
    running.wait_for("the videos", || all.events().len() == 3);
    process(&queue, "bad.mp4", false);
    running.wait_for("the failure", || usual.events() == ["ticket_failed"]);
    running.end();

    // What was published while run-system was away is told, too.
    process(&queue, "d.mp4", true);
    running.run = start(&running.stage);
    running.wait_for("the rest", || all.events().len() == 5);
    running.end();
    let told: Vec<String> = all
        .bodies()
        .iter()
        .map(|body| body["video"].as_str().unwrap_or("failed").to_owned())
        .map(|video| video.rsplit('/').next().unwrap().to_owned())
        .collect();
    let expected = ["a.mp4", "b.mp4", "c.mp4"].map(|id| format!("blurred_{id}"));
    assert_eq!(told[..3], expected);
    assert_eq!(told[3..], ["failed", "blurred_d.mp4"]);
    let video = &all.bodies()[0]["video"];
    let path = running.stage.path("processed_videos/yard/blurred_a.mp4");
    assert_eq!(
        video.as_str().unwrap(),
        path.canonicalize().unwrap_or(path).display().to_string()
    );
    let failed = &usual.bodies()[0];
    assert_eq!(failed["reason"], "cannot be decoded");
    assert_eq!(failed["camera"], "yard");
    assert!(failed["ticket"].as_str().unwrap().starts_with("queue_"));
}

#[test]
fn that_recording_waits_is_told_also_after_another_alarm_and_a_stop_ends_neither() {
    let webhook = Webhook::start(&[]);
    let hooks = json!([{"name": "hook", "url": webhook.url(), "min_interval": 0}]);
    let mut running = Running::on(installed(GOOD, GOOD), &hooks);
    running.wait_for("the recorder", || {
        running.stage.count("rtsp_recorder started") == 1
    });
    disk(&running.stage, "processing does not keep up", false);
    running.wait_for("the first alarm", || webhook.events().len() == 1);
    disk(
        &running.stage,
        "less than 1 GiB free; recording waits",
        true,
    );
    running.wait_for("the second one", || webhook.events().len() == 2);
    running.end();
    assert_eq!(webhook.events(), ["disk_alarm", "disk_alarm"]);
    let told = &webhook.bodies()[1]["reason"];
    assert_eq!(*told, "less than 1 GiB free; recording waits");
}

#[test]
fn a_backlog_a_full_disk_and_a_daemon_that_refuses_its_settings_are_told() {
    let webhook = Webhook::start(&[]);
    let stage = installed("take_lock; exit 2", GOOD);
    std::fs::write(
        stage.path("recorder.json"),
        r#"{"sources": ["rtsp://127.0.0.1:1/x"], "monitoring_interval": 0.5, "min_free_disk_gb": 1000000}"#,
    )
    .unwrap();
    let blur = r#"{"max_queue_size": 2, "min_free_disk_gb": 1000000}"#;
    std::fs::write(stage.path("blur.json"), blur).unwrap();
    let queue = DirectoryQueue::open(&stage.path("processing_queue"), Options::default()).unwrap();
    for id in ["a.mp4", "b.mp4", "c.mp4"] {
        let ticket = Ticket {
            id: Some(id.to_owned()),
            filepath: format!("raw_videos/yard/{id}"),
            ..Ticket::default()
        };
        queue.enqueue(&ticket).unwrap();
    }
    let mut running = Running::on(
        stage,
        &json!([{"name": "hook", "url": webhook.url(), "min_interval": 0}]),
    );
    running.wait_for("three alarms", || webhook.events().len() == 3);
    for _ in 0..2 {
        let lease = queue.claim().unwrap().unwrap();
        let id = lease.ticket().id.clone().unwrap();
        queue
            .write_receipt(&lease, &receipt(lease.stem(), &id))
            .unwrap();
        queue.complete(lease).unwrap();
    }
    running.wait_for("the end of one", || webhook.events().len() == 4);
    running.end();
    let mut events = webhook.events();
    assert_eq!(events.pop().unwrap(), "backlog_over");
    events.sort();
    assert_eq!(events, ["backlog_alarm", "daemon_degraded", "disk_alarm"]);
    let bodies = webhook.bodies();
    let degraded = bodies
        .iter()
        .find(|body| body["event"] == "daemon_degraded")
        .unwrap();
    assert_eq!(degraded["program"], "rtsp_recorder");
    assert!(
        degraded["text"]
            .as_str()
            .unwrap()
            .ends_with("rtsp_recorder refuses its settings, see its log")
    );
}

#[test]
fn a_trial_shows_what_became_of_it() {
    let stage = installed(GOOD, GOOD);
    let good = Webhook::start(&[]);
    let refusing = Webhook::start(&[Reply::Status("404 Not Found")]);
    let moved = Webhook::start(&[Reply::Status("302 Found")]);
    let program = script(&stage, "good", "cat > told");
    configure(
        &stage,
        &json!([
            {"name": "good", "url": good.url()},
            {"name": "refusing", "url": refusing.url()},
            {"name": "moved", "url": moved.url()},
            {"name": "shut", "url": format!("http://127.0.0.1:1/{SECRET}")},
            {"name": "mail", "command": [program]},
        ]),
    );
    let tried = output(&stage, &["--test-notification"]);
    let shown = text(&tried);
    assert_eq!(tried.status.code(), Some(1), "{shown}");
    for (name, result) in [
        ("good", "arrived"),
        (
            "refusing",
            "FAILED: the answer is 404 Not Found: no hook ***",
        ),
        (
            "moved",
            "FAILED: the answer is 302 Found: give the address that it leads to",
        ),
        ("shut", "FAILED: 127.0.0.1:1: Connection refused"),
        ("mail", "arrived"),
    ] {
        let line = shown.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains(result), "{line}");
    }
    assert!(!shown.contains(SECRET), "{shown}");
    assert_eq!(good.events(), ["test"]);
    let told = std::fs::read(stage.path("told")).unwrap();
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["event"], "test");

    configure(&stage, &json!([{"name": "good", "url": good.url()}]));
    let tried = output(&stage, &["--test-notification"]);
    assert_eq!(tried.status.code(), Some(0), "{}", text(&tried));
    configure(&stage, &json!([]));
    let tried = output(&stage, &["--test-notification"]);
    assert_eq!(tried.status.code(), Some(2));
    assert!(
        text(&tried).contains("there are no hooks"),
        "{}",
        text(&tried)
    );
}

#[test]
fn a_preflight_looks_at_the_hooks() {
    let stage = installed(GOOD, GOOD);
    let unable = stage.path("unable");
    std::fs::write(&unable, "").unwrap();
    configure(
        &stage,
        &json!([
            {"name": "near", "url": format!("http://127.0.0.1:1/{SECRET}")},
            {"name": "open", "url": format!("http://chat.example/{SECRET}")},
            {"name": "safe", "url": format!("https://chat.example/{SECRET}")},
            {"name": "shell", "command": ["sh", "-c", SECRET]},
            {"name": "lost", "command": ["no-such-program"]},
            {"name": "gone", "command": ["/nowhere/program"]},
            {"name": "unable", "command": [unable]},
        ]),
    );
    let checked = output(&stage, &[&["--validate"], &FILES[..]].concat());
    let shown = text(&checked);
    for part in [
        "ok     notifications to near         http://127.0.0.1:1/***",
        "note   notifications to open         http://chat.example/***: anyone on the way can read along",
        "notifications to safe         https://chat.example/***",
        "ok     notifications to shell",
        "WRONG  notifications to lost         there is no program no-such-program in PATH",
        "WRONG  notifications to gone         /nowhere/program is missing",
        "chmod +x",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert!(!shown.contains(SECRET), "{shown}");

    configure(
        &stage,
        &json!([{"name": "x", "url": format!("gopher://{SECRET}")}]),
    );
    let refused = output(&stage, &FILES);
    assert_eq!(refused.status.code(), Some(2));
    let shown = text(&refused);
    assert!(
        shown.contains("notifications[0].url: the address") && !shown.contains(SECRET),
        "{shown}"
    );
}

#[test]
fn a_webhook_over_tls_is_trusted_only_when_the_machine_trusts_it() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let stage = installed(GOOD, GOOD);
    std::fs::write(stage.path("authority.pem"), made.cert.pem()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let bodies: Arc<Mutex<Vec<Value>>> = Arc::default();
    let seen = bodies.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            let mut session = rustls::ServerConnection::new(config.clone()).unwrap();
            // A client that does not trust us goes away.
            if session.complete_io(&mut stream).is_ok() {
                let mut stream = rustls::Stream::new(&mut session, &mut stream);
                seen.lock().unwrap().push(request(&mut stream).1);
                answer(&mut stream, "204 No Content");
            }
        }
    });
    configure(
        &stage,
        &json!([{"name": "safe", "url": format!("https://localhost:{port}/{SECRET}")}]),
    );
    let strange = output(&stage, &["--test-notification"]);
    assert_eq!(strange.status.code(), Some(1));
    let shown = text(&strange);
    assert!(
        shown.contains("TLS: invalid peer certificate") || shown.contains("ca-certificates"),
        "{shown}"
    );
    assert!(bodies.lock().unwrap().is_empty());

    let trusted = command(&stage, &["--test-notification"])
        .env("SSL_CERT_FILE", stage.path("authority.pem"))
        .output()
        .unwrap();
    assert_eq!(trusted.status.code(), Some(0), "{}", text(&trusted));
    assert_eq!(bodies.lock().unwrap()[0]["event"], "test");
}

#[test]
fn what_waited_for_a_hook_that_is_gone_is_dropped_with_a_line() {
    let stage = installed(GOOD, GOOD);
    let left = stage.path("logs/notifications/former");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("000000000000001_x.json"), "{}").unwrap();
    let webhook = Webhook::start(&[]);
    let mut running = Running::on(stage, &json!([{"name": "hook", "url": webhook.url()}]));
    running.wait_for("a first look", || !left.exists());
    running.end();
    assert!(
        running
            .log()
            .contains("this hook is no longer in the settings"),
        "{}",
        running.log()
    );
    assert!(webhook.events().is_empty());
}
