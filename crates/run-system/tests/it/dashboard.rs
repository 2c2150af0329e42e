//! The dashboard over real sockets, served by the real program.

use crate::program::{FILES, command, installed, output, text};
use crate::stage::{GOOD, Stage, kill};
use serde_json::{Value, json};
use std::io::{BufRead, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use ticket_queue::{DirectoryQueue, Failure, Options, Queue, Ticket};
use tokio_rustls::rustls;

const VIDEO: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const NAME: &str = "blurred_gate_20260301_080000_seg0001.mp4";
/// Of the video, beneath the raw directory.
const ORIGINAL: &str = "gate/gate_20260301_080000_seg0001.mp4";
const TOKEN: &str = "0123456789abcdef0123";

/// A system with something to show, and its dashboard.
struct Site {
    stage: Stage,
    run: Child,
    address: String,
}

impl Drop for Site {
    fn drop(&mut self) {
        kill(self.run.id(), "-INT");
        self.run.wait().ok();
    }
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let at = bytes
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..at].to_vec()).unwrap();
        Self {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head: head.to_ascii_lowercase(),
            body: bytes[at + 4..].to_vec(),
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", self.text()))
    }
}

impl Site {
    fn new() -> Self {
        Self::with("")
    }

    fn with(settings: &str) -> Self {
        Self::on(installed(GOOD, GOOD), settings)
    }

    fn on(stage: Stage, settings: &str) -> Self {
        furnish(&stage);
        let system = format!(r#"{{"dashboard_listen": "127.0.0.1:0", {settings}}}"#);
        std::fs::write(stage.path("run_system_config.json"), system).unwrap();
        let run = command(&stage, &FILES)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let told = |stage: &Stage| {
            let log = std::fs::read_to_string(stage.path("logs/system.log")).unwrap_or_default();
            let (_, rest) = log.split_once("dashboard on http")?;
            let (_, rest) = rest.split_once("://")?;
            let (address, _) = rest.split_once(|c: char| c.is_whitespace())?;
            Some(address.to_owned())
        };
        stage.wait_for("the dashboard", |stage| told(stage).is_some());
        let address = told(&stage).unwrap();
        Self {
            stage,
            run,
            address,
        }
    }

    fn ask(&self, line: &str, headers: &str) -> Answer {
        self.ask_with_host(line, &format!("Host: {}\r\n{headers}", self.address), "")
    }

    fn ask_with_host(&self, line: &str, headers: &str, body: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let length = body.len();
        write!(
            stream,
            "{line} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Answer::of(&bytes)
    }

    fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path}"), "")
    }

    fn own(&self) -> String {
        format!("Origin: http://{}\r\n", self.address)
    }
}

/// A published video, an unpublished one, a raw one, a gap, a camera and a failed ticket.
fn furnish(stage: &Stage) {
    let write = |name: &str, bytes: &[u8]| {
        let path = stage.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let recorded = jiff::civil::datetime(2026, 3, 1, 8, 0, 0, 0)
        .to_zoned(jiff::tz::TimeZone::system())
        .unwrap()
        .timestamp();
    let report = json!({
        "ticket": "queue_1", "source": "gate", "recorded": recorded, "finished": recorded, "seconds": 30.0, "heads": 2,
        "output": {"path": format!("gate/{NAME}"), "bytes": VIDEO.len(), "blake3": ""},
        "input": {"path": ORIGINAL, "bytes": 14, "blake3": ""},
    });
    write(&format!("raw_videos/{ORIGINAL}"), b"secret0123face");
    let beside = NAME.replace(".mp4", ".json");
    write(&format!("processed_videos/gate/{NAME}"), VIDEO);
    write(
        &format!("processed_videos/gate/{beside}"),
        report.to_string().as_bytes(),
    );
    write("processed_videos/gate/without_report.mp4", b"secret");
    write("raw_videos/gate/raw.mp4", b"secret");
    let gap = json!({"source": "gate", "from": recorded + jiff::SignedDuration::from_secs(60),
        "until": recorded + jiff::SignedDuration::from_secs(360), "seconds": 300.0, "why": "connection lost"});
    write("logs/gaps.jsonl", format!("{gap}\n{{\"cut").as_bytes());
    let now = jiff::Timestamp::now();
    let status = json!({"updated": now, "state": "running", "sources": [
        {"name": "gate", "state": "recording", "fps": 14.9, "bitrate_bps": 2_100_000, "width": 1920, "height": 1080,
         "codec": "h264", "packets_lost": 3, "gaps": 1},
        {"name": "yard", "state": "connecting", "error": "the camera refuses the password"}]});
    write(
        "logs/rtsp_recorder.status.json",
        status.to_string().as_bytes(),
    );
    let queue = DirectoryQueue::open(&stage.path("processing_queue"), Options::default()).unwrap();
    let ticket = Ticket {
        filepath: "gate/gate_20260301_090000_seg0002.mp4".to_owned(),
        source_name: "gate".to_owned(),
        duration: 30.0,
        start_time: Some((recorded + jiff::SignedDuration::from_hours(1)).to_string()),
        ..Ticket::default()
    };
    queue.enqueue(&ticket).unwrap();
    let lease = queue.claim().unwrap().unwrap();
    let reason = "cannot be decoded, from rtsp://admin:geheim@10.0.0.1/x".to_owned();
    queue.fail(lease, Failure::Dead { reason }).unwrap();
}

#[test]
fn it_shows_the_state() {
    let site = Site::new();
    assert_eq!(site.get("/healthz").text(), "ok\n");
    let page = site.get("/");
    assert_eq!(page.status, 200);
    assert!(
        page.head
            .contains("content-security-policy: default-src 'none'")
    );
    assert!(page.text().contains("<script src=\"/app.js\" defer>"));
    site.stage.wait_for("both to run", |_| {
        let status = site.get("/api/status").json();
        status["processes"][1]["state"] == "running" && status["processes"][2]["state"] == "running"
    });
    let status = site.get("/api/status").json();
    assert_eq!(status["sources"][0]["name"], "gate");
    assert_eq!(status["queue"]["failed"], 1);

    let mut stream = TcpStream::connect(&site.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let address = &site.address;
    write!(
        stream,
        "GET /api/events HTTP/1.1\r\nHost: {address}\r\n\r\n"
    )
    .unwrap();
    let mut told = String::new();
    while told.matches("\"processes\"").count() < 2 {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).unwrap();
        assert!(read > 0, "{told}");
        told.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert!(told.contains("text/event-stream"), "{told}");
}

#[test]
fn slow_visitors_do_not_keep_others_out() {
    let site = Site::new();
    let connect = |said: &str| {
        let mut stream = TcpStream::connect(&site.address).expect("it is reached");
        let time = Some(Duration::from_secs(60));
        stream.set_read_timeout(time).expect("it has a timeout");
        write!(stream, "{said}").expect("it takes what is said");
        stream
    };
    let host = format!("Host: {}\r\n", site.address);
    let mut page = connect(&format!("GET /api/events HTTP/1.1\r\n{host}\r\n"));
    let mut slow: Vec<TcpStream> = (0..64)
        .map(|_| connect("GET /healthz HTTP/1.1\r\n"))
        .collect();
    let (send, answered) = std::sync::mpsc::channel();
    let mut fast = connect(&format!(
        "GET /healthz HTTP/1.1\r\n{host}Connection: close\r\n\r\n"
    ));
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        fast.read_to_end(&mut bytes).ok();
        send.send(bytes).ok();
    });
    let bytes = (0..60).find_map(|_| {
        slow.retain_mut(|stream| stream.write_all(b"X: y\r\n").is_ok());
        answered.recv_timeout(Duration::from_secs(1)).ok()
    });
    let bytes = bytes.expect("somebody else is answered");
    assert_eq!(Answer::of(&bytes).text(), "ok\n");
    // Whoever reads what is told may go on.
    let mut told = vec![0; 1 << 20];
    for _ in 0..3 {
        assert!(page.read(&mut told).unwrap() > 0, "the page was cut off");
    }
}

#[test]
fn metrics_can_be_read_by_prometheus() {
    let site = Site::new();
    let answer = site.get("/metrics");
    assert!(answer.head.contains("text/plain; version=0.0.4"));
    let text = answer.text();
    let mut families = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let new = families.insert(rest.split(' ').next().unwrap().to_owned());
            assert!(new, "twice: {line}");
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            assert!(families.contains(name.split('{').next().unwrap()), "{line}");
        }
    }
    for part in [
        "rtsp_blur_camera_recording{source=\"yard\"} 0",
        "rtsp_blur_camera_state{source=\"yard\",state=",
        "rtsp_blur_camera_packets_lost_total{source=\"gate\"} 3",
        "rtsp_blur_process_up{process=\"system\"} 1",
        "rtsp_blur_tickets{state=\"failed\"} 1",
        "rtsp_blur_disk_free_bytes ",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn a_day_is_shown_with_what_is_blurred_held_back_and_missing() {
    let site = Site::new();
    let day = site.get("/api/timeline?date=2026-03-01").json();
    let gate = &day["sources"][0];
    assert_eq!(gate["name"], "gate");
    let spans: Vec<_> = gate["spans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|span| {
            let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", text("kind"), text("from"), text("to"))
        })
        .collect();
    assert_eq!(
        spans,
        [
            "blurred 08:00:00 08:00:30",
            "failed 09:00:00 09:00:30",
            "gap 08:01:00 08:06:00"
        ]
    );
    let left = gate["spans"][0]["left"].as_f64().unwrap();
    assert!((left - 1.0 / 3.0).abs() < 0.05, "{left}");
    assert!(!day.to_string().contains("geheim"), "{day}");
    let other = site.get("/api/timeline?date=2026-03-03").json();
    assert_eq!(other["sources"][0]["spans"], json!([]));
    assert_eq!(site.get("/api/timeline?date=tomorrow").status, 400);

    let videos = site.get("/api/videos?date=2026-03-01&source=gate").json();
    assert_eq!(videos["videos"][0]["file"], NAME);
    assert_eq!(videos["videos"][0]["clock"], "08:00:00");
    assert_eq!(videos["videos"].as_array().unwrap().len(), 1, "{videos}");
    let next = site.get("/api/videos?date=2026-03-01&offset=1").json();
    assert_eq!(
        (&next["videos"], &next["more"]),
        (&json!([]), &json!(false))
    );
    let yard = site.get("/api/videos?date=2026-03-01&source=yard").json();
    assert_eq!(yard["videos"], json!([]));
}

#[test]
fn what_is_left_empty_in_a_query_is_not_asked_for() {
    let site = Site::new();
    for path in ["/api/videos?date=&source=&offset=", "/api/timeline?date="] {
        let answer = site.get(path);
        assert_eq!(answer.status, 200, "{path}");
    }
    for path in ["/api/timeline?date=31.12.2026", "/api/videos?date=x"] {
        let answer = site.get(path);
        assert_eq!(answer.status, 400, "{path}");
        let said = answer.text();
        assert!(said.contains("give it as date=2026-12-31"), "{said}");
    }
    assert_eq!(site.get("/api/videos?offset=-1").status, 400);
}

#[test]
fn a_video_is_sent_whole_and_in_parts() {
    let site = Site::new();
    let path = format!("GET /videos/gate/{NAME}");
    let whole = site.ask(&path, "");
    assert_eq!((whole.status, &whole.body[..]), (200, VIDEO));
    assert!(whole.head.contains("content-type: video/mp4"));
    assert!(whole.head.contains("accept-ranges: bytes"));
    let part = site.ask(&path, "Range: bytes=10-12\r\n");
    assert_eq!((part.status, &part.body[..]), (206, &b"abc"[..]));
    assert!(part.head.contains("content-range: bytes 10-12/36"));
    let end = site.ask(&path, "Range: bytes=-1\r\n");
    assert_eq!((end.status, &end.body[..]), (206, &b"z"[..]));
    let beyond = site.ask(&path, "Range: bytes=36-\r\n");
    assert_eq!(beyond.status, 416);
    assert!(beyond.head.contains("content-range: bytes */36"));
    let file = site.ask(&format!("{path}?download=1"), "");
    assert!(file.head.contains("content-disposition: attachment"));
    let head = site.ask(&path.replace("GET", "HEAD"), "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(head.head.contains("content-length: 36"));
}

#[test]
fn nothing_but_published_videos_is_sent() {
    let site = Site::new();
    let link = |target: &str, name: &str| {
        let from = site.stage.path(&format!("processed_videos/{name}"));
        std::os::unix::fs::symlink(site.stage.path(target), from).unwrap();
    };
    let beside = |name: &str| {
        let report = site.stage.path("processed_videos/gate");
        let text = std::fs::read_to_string(report.join(NAME.replace(".mp4", ".json"))).unwrap();
        let text = text.replace(NAME, &format!("{name}.mp4"));
        std::fs::write(report.join(format!("{name}.json")), text).unwrap();
    };
    link("raw_videos/gate/raw.mp4", "gate/link.mp4");
    beside("link");
    link("raw_videos/gate", "raw");
    link("processed_videos/gate", "again");
    std::fs::write(
        site.stage.path("processed_videos/gate/.blurred.mp4"),
        "secret",
    )
    .unwrap();
    beside(".blurred");
    std::fs::write(
        site.stage.path("processed_videos/gate/longer.mp4"),
        "of another size than its report says",
    )
    .unwrap();
    beside("longer");
    let cut = site.stage.path("processed_videos/gate/longer.mp4");
    std::fs::write(cut, "secret").unwrap();
    for path in [
        "/videos/gate/without_report.mp4",
        "/videos/gate/link.mp4",
        "/videos/gate/.blurred.mp4",
        "/videos/gate/longer.mp4",
        "/videos/raw/raw.mp4",
        &format!("/videos/again/{NAME}"),
        "/videos/gate/raw.mp4",
        "/videos/../raw_videos/gate/raw.mp4",
        "/videos/..%2Fraw_videos%2Fgate/raw.mp4",
        "/videos/gate/..%2F..%2Fraw_videos%2Fgate%2Fraw.mp4",
        "/videos/%2Fetc/passwd",
        "/videos/gate/%2Fetc%2Fpasswd",
        "/videos/.../raw.mp4",
        "/raw_videos/gate/raw.mp4",
        &format!("/videos/gate/{}", NAME.replace(".mp4", ".json")),
        &format!("/videos/gate/{NAME}%00"),
    ] {
        let answer = site.get(path);
        assert!(
            (400..500).contains(&answer.status),
            "{path}: {}",
            answer.status
        );
        assert!(!answer.text().contains("secret"), "{path}");
    }
    let listed = site.get("/api/videos?date=2026-03-01").json();
    assert_eq!(listed["videos"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(site.get(&format!("/videos/gate/{NAME}")).status, 200);
}

/// Ways to an original that lead nowhere, whatever the settings say.
fn detours() -> Vec<String> {
    let original = &ORIGINAL["gate/".len()..];
    let mut paths = vec![
        format!("/videos/{ORIGINAL}"),
        format!("/originals/{ORIGINAL}"),
        format!("/raw_videos/{ORIGINAL}"),
    ];
    for root in ["videos", "originals"] {
        paths.extend([
            format!("/{root}/gate/raw.mp4"),
            format!("/{root}/gate/without_report.mp4"),
            format!("/{root}/gate/.{NAME}"),
            format!("/{root}/../raw_videos/{ORIGINAL}"),
            format!("/{root}/..%2Fraw_videos%2Fgate/{original}"),
            format!("/{root}/gate/..%2F..%2Fraw_videos%2Fgate%2F{original}"),
            format!("/{root}/gate%2F{NAME}"),
            format!("/{root}/gate/{NAME}%00"),
            format!("/{root}/gate/{NAME}/"),
            format!("/{root}/GATE/{NAME}"),
            format!("/{root}/again/{NAME}"),
            format!("/{root}/gate/outside.mp4"),
            format!("/{root}/gate/linked.mp4"),
            format!("/{root}/gate/longer.mp4"),
            format!("/{root}/gate/no_video.mp4"),
            format!("/{root}/%2Fetc/passwd"),
            format!("/{root}/gate/%2Fetc%2Fpasswd"),
            format!("/{root}/.../{NAME}"),
        ]);
    }
    // Published videos whose originals are outside, a link, another file, or no video are shown themselves.
    paths.retain(|path| {
        let names = ["outside", "linked", "longer", "no_video"];
        !(path.starts_with("/videos/") && names.iter().any(|name| path.contains(name)))
    });
    paths
}

/// Published videos whose reports name something else than their original.
fn furnish_detours(stage: &Stage) {
    let dir = stage.path("processed_videos/gate");
    let report = std::fs::read_to_string(dir.join(NAME.replace(".mp4", ".json"))).unwrap();
    for (name, original) in [
        ("outside", "../secret.mp4"),
        ("linked", "gate/linked.mp4"),
        ("longer", "gate/longer.mp4"),
        ("no_video", "gate/secret.txt"),
    ] {
        let report = report
            .replace(NAME, &format!("{name}.mp4"))
            .replace(ORIGINAL, original);
        std::fs::write(dir.join(format!("{name}.json")), report).unwrap();
        std::fs::write(dir.join(format!("{name}.mp4")), VIDEO).unwrap();
    }
    for name in ["secret.mp4", "raw_videos/gate/secret.txt"] {
        std::fs::write(stage.path(name), b"secret0123face").unwrap();
    }
    std::fs::write(stage.path("raw_videos/gate/longer.mp4"), b"secret0123faces").unwrap();
    let link = std::os::unix::fs::symlink::<std::path::PathBuf, _>;
    link(
        stage.path("secret.mp4"),
        stage.path("raw_videos/gate/linked.mp4"),
    )
    .unwrap();
    link(dir, stage.path("processed_videos/again")).unwrap();
}

#[test]
fn originals_cannot_be_reached_unless_the_settings_say_so() {
    let site = Site::with(&format!(r#""dashboard_token": "{TOKEN}""#));
    furnish_detours(&site.stage);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let direct = [
        format!("/originals/gate/{NAME}"),
        format!("/originals/{ORIGINAL}"),
        "/originals/gate/".to_owned(),
        "/originals".to_owned(),
    ];
    for path in direct.into_iter().chain(detours()) {
        let answer = site.ask(&format!("GET {path}"), &bearer);
        assert!(
            (400..500).contains(&answer.status),
            "{path}: {}",
            answer.status
        );
        assert!(!answer.text().contains("secret"), "{path}");
    }
    let listed = site.ask("GET /api/videos?date=2026-03-01", &bearer).json();
    assert_eq!(listed["originals"], false);
    let videos = listed["videos"].as_array().unwrap();
    assert!(videos.len() == 5 && videos.iter().all(|video| video["original"] == false));
}

#[test]
fn an_original_is_shown_beside_its_video_where_that_is_allowed() {
    let allowed = format!(r#""dashboard_token": "{TOKEN}", "dashboard_show_originals": true"#);
    let stage = installed(GOOD, GOOD);
    std::fs::write(stage.path("blur.json"), r#"{"backup_original": true}"#).unwrap();
    let site = Site::on(stage, &allowed);
    furnish_detours(&site.stage);
    let path = format!("GET /originals/gate/{NAME}");
    assert_eq!(site.ask(&path, "").status, 401);
    let foreign = format!("Host: evil.example\r\nAuthorization: Bearer {TOKEN}\r\n");
    assert_eq!(site.ask_with_host(&path, &foreign, "").status, 403);
    let log = || std::fs::read_to_string(site.stage.path("logs/system.log")).unwrap();
    assert!(
        !log().contains("was looked at"),
        "nobody has seen anything yet"
    );

    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let whole = site.ask(&path, &bearer);
    assert_eq!(
        (whole.status, &whole.body[..]),
        (200, &b"secret0123face"[..])
    );
    assert!(
        whole.head.contains("cache-control: no-store"),
        "{}",
        whole.head
    );
    let part = site.ask(&path, &format!("{bearer}Range: bytes=6-9\r\n"));
    assert_eq!((part.status, &part.body[..]), (206, &b"0123"[..]));
    let looked = format!(
        "visitor=127.0.0.1 way=\"bearer\" source=\"gate\" video=\"{NAME}\" range=\"bytes=6-9\""
    );
    site.stage.wait_for("the log", |_| log().contains(&looked));
    assert!(
        log().contains("also shows unblurred originals"),
        "{}",
        log()
    );

    for path in detours() {
        let answer = site.ask(&format!("GET {path}"), &bearer);
        assert!(
            (400..500).contains(&answer.status),
            "{path}: {}",
            answer.status
        );
        assert!(!answer.text().contains("secret"), "{path}");
    }
    let list = || site.ask("GET /api/videos?date=2026-03-01", &bearer).json();
    let with_original = |listed: &Value| -> Vec<String> {
        let videos = listed["videos"].as_array().unwrap().iter();
        let seen = videos.filter(|video| video["original"] == true);
        seen.map(|video| video["file"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(list()["originals"], true);
    assert_eq!(with_original(&list()), [NAME]);

    // It is moved to the backups, and deleted there.
    let backup = site.stage.path(&format!("backup_videos/{ORIGINAL}"));
    std::fs::create_dir_all(backup.parent().unwrap()).unwrap();
    std::fs::rename(site.stage.path(&format!("raw_videos/{ORIGINAL}")), &backup).unwrap();
    assert_eq!(site.ask(&path, &bearer).status, 200);
    std::fs::remove_file(&backup).unwrap();
    assert_eq!(site.ask(&path, &bearer).status, 404);
    assert_eq!(with_original(&list()), [] as [String; 0]);
}

#[test]
fn a_preflight_tells_that_originals_are_shown() {
    let stage = installed(GOOD, GOOD);
    let settings = format!(
        r#"{{"dashboard_listen": "127.0.0.1:0", "dashboard_token": "{TOKEN}", "dashboard_show_originals": true}}"#
    );
    std::fs::write(stage.path("run_system_config.json"), settings).unwrap();
    let checked = output(&stage, &[&["--validate"], &FILES[..]].concat());
    let told = "note   originals in the dashboard    everyone with the token sees people unblurred";
    assert!(text(&checked).contains(told), "{}", text(&checked));
}

#[test]
fn a_failed_ticket_is_put_back_by_the_own_page_only() {
    let site = Site::new();
    let listed = site.get("/api/failed");
    assert!(!listed.text().contains("geheim"), "{}", listed.text());
    let listed = listed.json();
    assert!(
        listed[0]["reason"]
            .as_str()
            .unwrap()
            .starts_with("cannot be decoded"),
        "{listed}"
    );
    let stem = listed[0]["stem"].as_str().unwrap();
    let retry = format!("POST /api/failed/{stem}/retry");
    for foreign in [
        "",
        "Origin: http://evil.example\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Origin: null\r\n",
    ] {
        assert_eq!(site.ask(&retry, foreign).status, 403, "{foreign}");
    }
    assert_eq!(site.get(&retry[5..]).status, 405);
    assert_eq!(site.get("/api/failed").json().as_array().unwrap().len(), 1);
    let unknown = site.ask("POST /api/failed/queue_none/retry", &site.own());
    assert_eq!(unknown.status, 404);
    let outside = site.ask("POST /api/failed/..%2Fx/retry", &site.own());
    assert_eq!(outside.status, 404);

    let done = site.ask(&retry, &site.own());
    assert_eq!(done.json(), json!([stem]), "{}", done.text());
    assert_eq!(site.get("/api/failed").json(), json!([]));
    let ready = site.stage.path(&format!("processing_queue/{stem}.json"));
    assert!(ready.exists());
}

#[test]
fn foreign_names_of_this_machine_are_not_answered() {
    let site = Site::new();
    for host in ["Host: evil.example\r\n", "Host: 10.0.0.1:8780\r\n", ""] {
        let answer = site.ask_with_host("GET /api/status", host, "");
        assert!(matches!(answer.status, 400 | 403), "{host}");
        assert!(!answer.text().contains("processes"));
    }
    let local = site.ask_with_host("GET /api/status", "Host: localhost:1\r\n", "");
    assert_eq!(local.status, 200);
}

#[test]
fn with_a_token_only_who_knows_it_sees_anything() {
    let site = Site::with(&format!(r#""dashboard_token": "{TOKEN}""#));
    let login = site.get("/");
    assert_eq!(login.status, 303);
    assert!(login.head.contains("location: /login"));
    for path in [
        "/api/status",
        "/api/events",
        "/api/timeline",
        "/api/videos",
        "/api/failed",
        "/metrics",
        "/app.js",
        &format!("/videos/gate/{NAME}"),
    ] {
        assert_eq!(site.get(path).status, 401, "{path}");
        let wrong = site.ask(
            &format!("GET {path}"),
            "Authorization: Bearer 0123456789abcdef0124\r\nCookie: dashboard=0123456789abcdef0123\r\n",
        );
        assert_eq!(wrong.status, 401, "{path}");
    }
    assert_eq!(site.get("/healthz").status, 200);
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(site.ask("GET /metrics", &bearer).status, 200);

    let form = |token: &str| {
        let headers = format!(
            "Host: {}\r\n{}Content-Type: application/x-www-form-urlencoded\r\n",
            site.address,
            site.own()
        );
        site.ask_with_host("POST /login", &headers, &format!("token={token}"))
    };
    let wrong = form("wrong");
    assert_eq!(wrong.status, 401);
    assert!(!wrong.head.contains("set-cookie"));
    assert!(wrong.text().contains("<p id=\"wrong\" class"));
    let right = form(TOKEN);
    assert_eq!(right.status, 303, "{}", right.text());
    let (_, cookie) = right.head.split_once("set-cookie: ").unwrap();
    let (cookie, attributes) = cookie.split_once(';').unwrap();
    assert!(attributes.contains("httponly") && attributes.contains("samesite=strict"));
    assert!(!cookie.contains(TOKEN));
    let cookie = format!("Cookie: other=1; {cookie}\r\n");
    assert_eq!(site.ask("GET /api/status", &cookie).status, 200);
    let log = std::fs::read_to_string(site.stage.path("logs/system.log")).unwrap();
    assert!(!log.contains(TOKEN));
}

#[test]
fn with_a_certificate_it_speaks_tls() {
    let stage = installed(GOOD, GOOD);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(stage.path("dashboard.crt"), made.cert.pem()).unwrap();
    std::fs::write(
        stage.path("dashboard.key"),
        made.signing_key.serialize_pem(),
    )
    .unwrap();
    let files = r#""dashboard_tls_cert": "dashboard.crt", "dashboard_tls_key": "dashboard.key""#;
    let site = Site::on(stage, files);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "localhost".try_into().unwrap();
    let client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    // One that says nothing keeps nobody out.
    let _silent = TcpStream::connect(&site.address).unwrap();
    let socket = TcpStream::connect(&site.address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut stream = rustls::StreamOwned::new(client, socket);
    write!(
        stream,
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut bytes = Vec::new();
    // A server may close without a farewell.
    stream.read_to_end(&mut bytes).ok();
    assert_eq!(Answer::of(&bytes).text(), "ok\n");
}

#[test]
fn a_taken_port_or_a_bad_certificate_stops_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    for settings in [
        format!(r#"{{"dashboard_listen": "{port}"}}"#),
        r#"{"dashboard_listen": "127.0.0.1:0", "dashboard_tls_cert": "none.pem", "dashboard_tls_key": "none.pem"}"#
            .to_owned(),
    ] {
        let stage = installed(GOOD, GOOD);
        std::fs::write(stage.path("run_system_config.json"), settings).unwrap();
        let output = output(&stage, &[&["--duration", "1"], &FILES[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        assert!(text(&output).contains("no dashboard: "), "{}", text(&output));
        assert_eq!(stage.events().last().unwrap(), "blur_processor ended");
    }
}

#[test]
fn a_certificate_that_cannot_be_read_is_found_before_the_start_and_no_matter_of_the_port() {
    let stage = installed(GOOD, GOOD);
    let settings = r#"{"dashboard_listen": "127.0.0.1:0", "dashboard_tls_cert": "none.pem", "dashboard_tls_key": "none.pem"}"#;
    std::fs::write(stage.path("run_system_config.json"), settings).expect("settings");
    let validated = text(&output(&stage, &[&["--validate"], &FILES[..]].concat()));
    assert!(
        validated.contains("WRONG  TLS of the dashboard"),
        "{validated}"
    );
    assert!(
        validated.contains("dashboard_tls_cert none.pem: "),
        "{validated}"
    );
    let started = text(&output(
        &stage,
        &[&["--duration", "1"], &FILES[..]].concat(),
    ));
    assert!(
        started.contains("no dashboard: dashboard_tls_cert none.pem: "),
        "{started}"
    );
    assert!(!started.contains("another port"), "{started}");
}

#[test]
fn it_can_be_served_alone() {
    let stage = installed(GOOD, GOOD);
    let serve = [&["--dashboard"], &FILES[..]].concat();
    stage.want_missing_secrets();
    let refused = output(&stage, &serve);
    assert_eq!(refused.status.code(), Some(2), "a token is not made up");
    std::fs::write(
        stage.path("run_system_config.json"),
        r#"{"dashboard_listen": "127.0.0.1:0"}"#,
    )
    .unwrap();
    let alone = command(&stage, &serve)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut alone = Running(alone.unwrap());
    let streams: [Box<dyn Read + Send>; 2] = [
        Box::new(alone.0.stdout.take().unwrap()),
        Box::new(alone.0.stderr.take().unwrap()),
    ];
    let (send, lines) = std::sync::mpsc::channel();
    for stream in streams {
        let send = send.clone();
        std::thread::spawn(move || {
            let lines = std::io::BufReader::new(stream).lines();
            lines.map_while(Result::ok).for_each(|line| {
                send.send(line).ok();
            });
        });
    }
    let line = lines.recv_timeout(Duration::from_secs(20)).unwrap();
    let (_, address) = line.split_once("dashboard on http://").unwrap();
    let mut stream = TcpStream::connect(address.trim()).unwrap();
    write!(
        stream,
        "GET /api/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let status = Answer::of(&bytes).json();
    assert_eq!(status["processes"][1]["state"], "not running");
    kill(alone.0.id(), "-INT");
    assert_eq!(alone.0.wait().unwrap().code(), Some(0));
    assert_eq!(stage.events(), [] as [String; 0], "nothing was started");
}

#[test]
fn the_page_works_in_a_browser() {
    let Some(mut browser) = Browser::start() else {
        eprintln!("SKIPPED: the page was not looked at in a browser, since {CHROMIUM} is missing");
        return;
    };
    let site = Site::new();
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        json!({"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": true}),
    );
    let url = format!("http://{}/", site.address);
    browser.call("Page.navigate", json!({"url": url}));
    browser.wait_for("document.querySelectorAll('.card').length == 2");
    browser.wait_for("document.querySelectorAll('.lane').length == 2");
    browser.run("language.set('en')");
    browser.wait_for("document.body.innerText.includes('Please look at this:')");
    browser.wait_for("document.body.innerText.includes('Recording')");
    browser.run("language.set('ko')");
    browser.wait_for("document.body.innerText.includes('확인이 필요합니다:')");
    browser.wait_for("document.body.innerText.includes('녹화 중')");
    browser.wait_for("document.documentElement.scrollWidth <= 360");

    browser.run("$('date').value = '2026-03-01'; $('date').dispatchEvent(new Event('change'))");
    browser.wait_for("document.querySelectorAll('rect.gap').length == 1");
    browser.wait_for("document.querySelectorAll('#videos button').length == 1");
    browser.run("document.querySelector('#failed button').click()");
    browser.wait_for("document.querySelectorAll('#failed li').length == 0");
    assert_eq!(site.get("/api/failed").json(), json!([]));
    assert_eq!(browser.complaints, [] as [Value; 0]);
}

const CHROMIUM: &str = "/usr/bin/chromium";

/// A headless browser, told what to do through two pipes.
struct Browser {
    process: Child,
    profile: tempfile::TempDir,
    calls: u64,
    session: Option<String>,
    unread: Vec<u8>,
    /// Errors of scripts, and what the page's policy refused.
    complaints: Vec<Value>,
}

impl Browser {
    fn start() -> Option<Self> {
        if !Path::new(CHROMIUM).exists() {
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        // It speaks on the descriptors 3 and 4.
        let line = "exec \"$0\" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --remote-debugging-pipe \
             --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync \
             --user-data-dir=\"$1\" about:blank 3<&0 4>&1 1>/dev/null 2>&1";
        let process = Command::new("sh")
            .args(["-c", line, CHROMIUM])
            .arg(profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut browser = Self {
            process,
            profile,
            calls: 0,
            session: None,
            unread: Vec::new(),
            complaints: Vec::new(),
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        browser.call("Runtime.enable", json!({}));
        browser.call("Log.enable", json!({}));
        Some(browser)
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let input = self.process.stdin.as_mut().unwrap();
        input.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let message = self.next();
            let told = message["method"].as_str().unwrap_or_default();
            if matches!(told, "Runtime.exceptionThrown" | "Log.entryAdded") {
                self.complaints.push(message["params"].clone());
            }
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    fn next(&mut self) -> Value {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == 0) {
                let message: Vec<u8> = self.unread.drain(..=end).collect();
                return serde_json::from_slice(&message[..end]).unwrap();
            }
            let mut bytes = [0; 65_536];
            let read = self.process.stdout.as_mut().unwrap().read(&mut bytes);
            let read = read.unwrap();
            assert!(read > 0, "the browser has ended");
            self.unread.extend_from_slice(&bytes[..read]);
        }
    }

    fn run(&mut self, script: &str) -> Value {
        let result = self.call("Runtime.evaluate", json!({"expression": script}));
        result["result"]["value"].clone()
    }

    fn wait_for(&mut self, condition: &str) {
        let start = std::time::Instant::now();
        while self.run(condition) != json!(true) {
            if start.elapsed() > Duration::from_secs(30) {
                let page = self.run("document.body.innerText");
                panic!(
                    "{condition} did not come true; {:?}; {page}",
                    self.complaints
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        kill(self.process.id(), "-TERM");
        self.process.wait().ok();
        // Its helpers may still be writing into the profile.
        std::fs::remove_dir_all(self.profile.path()).ok();
    }
}
