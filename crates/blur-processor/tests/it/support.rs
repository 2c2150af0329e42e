//! A place with directories, settings, videos and tickets, and the real program run in it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use blur_processor::report::FileReport;
use media::synth::{TestVideo, read_number};
use media::verify::{VerifyOptions, verify_frames};
use media::{Decoder, DecoderOptions, Frame, PixelFormat, Quality, Reader, ReaderOptions, Scaler};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_blur-processor");
/// Long enough for a busy machine; a test that passes never waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A working directory with everything in it.
pub(crate) struct Site {
    dir: TempDir,
    settings: Value,
    tickets: u32,
}

/// A running daemon, killed when dropped.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    log: PathBuf,
}

/// What a published file shows.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) pts: Vec<i64>,
    /// Per frame, the number that can still be read in it.
    pub(crate) numbers: Vec<Option<u32>>,
    pub(crate) size: (u32, u32),
    pub(crate) verified: media::verify::Verified,
}

/// The test plugin, built once per test run.
pub(crate) fn plugin() -> &'static Path {
    static BUILT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("libfixed_box.so");
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-O0", "-o"])
            .arg(&path)
            .arg(here.join("tests/it/plugin/fixed_box.c"))
            .arg("-I")
            .arg(here.join("../plugin-abi/include"))
            .status()
            .expect("a C compiler is installed");
        assert!(status.success());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (dir, path)
    });
    path
}

impl Site {
    /// Settings with the test plugin, without caption, quick to poll; `change` is laid over them.
    pub(crate) fn new(change: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = json!({
            "blur_module_path": plugin(),
            "add_overlay": false,
            "max_concurrent_processes": 1,
            "polling_interval": 0.1,
            "detect_every": 1,
            "encoder_preset": "ultrafast",
            "log_dir": "logs",
            "status_dir": "logs",
            "min_free_disk_gb": 0,
        });
        for (key, value) in change.as_object().unwrap() {
            settings[key] = value.clone();
        }
        fs::create_dir_all(dir.path().join("raw_videos/cam")).unwrap();
        fs::create_dir_all(dir.path().join("processing_queue")).unwrap();
        let site = Self {
            dir,
            settings,
            tickets: 0,
        };
        site.write_settings();
        site
    }

    pub(crate) fn change(&mut self, key: &str, value: Value) {
        self.settings[key] = value;
        self.write_settings();
    }

    fn write_settings(&self) {
        fs::write(self.path("config.json"), self.settings.to_string()).unwrap();
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// A segment with its ticket; returns the ticket's stem.
    pub(crate) fn add(&mut self, name: &str, video: &TestVideo) -> String {
        let raw = self.path(&format!("raw_videos/cam/{name}.mp4"));
        video.write(&raw).unwrap();
        self.add_ticket(name)
    }

    /// The ticket of a segment that is there.
    pub(crate) fn add_ticket(&mut self, name: &str) -> String {
        self.add_ticket_with(name, &json!({}))
    }

    /// As [`Site::add_ticket`], with `change` laid over the ticket.
    pub(crate) fn add_ticket_with(&mut self, name: &str, change: &Value) -> String {
        let raw = self.path(&format!("raw_videos/cam/{name}.mp4"));
        let bytes = fs::read(&raw).unwrap_or_default();
        let mut ticket = json!({
            "filepath": format!("raw_videos/cam/{name}.mp4"),
            "source": "rtsp://127.0.0.1/cam",
            "source_name": "cam",
            "recorder_id": 0,
            "frame_count": 30,
            "duration": 2.0,
            "timestamp": "2026-01-31T12:00:02",
            "file_size": bytes.len(),
            "packets_lost": u32::from(name == "Lost"),
            "version": 1,
            "id": format!("cam/{name}"),
            "blake3": blake3::hash(&bytes).to_hex().to_string(),
            "start_time": "2026-01-31T12:00:00+01:00",
        });
        for (key, value) in change.as_object().unwrap() {
            ticket[key] = value.clone();
        }
        self.add_raw_ticket(&ticket)
    }

    /// Any ticket.
    pub(crate) fn add_raw_ticket(&mut self, ticket: &Value) -> String {
        self.tickets += 1;
        let stem = format!("queue_20260131_120000_{:06}", self.tickets);
        let temp = self.path(&format!("{stem}.writing"));
        fs::write(&temp, ticket.to_string()).unwrap();
        fs::rename(temp, self.path(&format!("processing_queue/{stem}.json"))).unwrap();
        stem
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .args(["--config", "config.json"])
            .current_dir(self.dir.path());
        command.env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&self) -> Daemon {
        self.start_with(&[])
    }

    /// As [`Site::start`], with these variables in its environment.
    pub(crate) fn start_with(&self, variables: &[(&str, &str)]) -> Daemon {
        let log = self.path("stderr.log");
        let stderr = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = self
            .command(&[])
            .envs(variables.iter().copied())
            .stderr(stderr)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Daemon { child, log }
    }

    /// Runs the daemon until `done`, then stops it and expects a clean end.
    pub(crate) fn run_until(&self, done: impl Fn(&Site) -> bool) {
        let mut daemon = self.start();
        daemon.wait_for(self, done);
        daemon.stop();
    }

    pub(crate) fn published(&self, name: &str) -> PathBuf {
        self.path(&format!("processed_videos/cam/blurred_{name}.mp4"))
    }

    pub(crate) fn raw(&self, name: &str) -> PathBuf {
        self.path(&format!("raw_videos/cam/{name}.mp4"))
    }

    pub(crate) fn is_done(&self, stem: &str) -> bool {
        self.path(&format!("processing_queue/done/{stem}.json"))
            .exists()
            && !self.is_active(stem)
    }

    pub(crate) fn is_active(&self, stem: &str) -> bool {
        self.names("processing_queue/active")
            .iter()
            .any(|name| name.starts_with(stem))
    }

    /// Names in a directory, sorted; none when it is not there.
    pub(crate) fn names(&self, relative: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(relative)) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Why a ticket was given up; none when it was not.
    pub(crate) fn why(&self, stem: &str) -> Option<String> {
        let read =
            |dir| fs::read_to_string(self.path(&format!("processing_queue/{dir}/{stem}.why.json")));
        let text = read("failed").or_else(|_| read("corrupt")).ok()?;
        let why: Value = serde_json::from_str(&text).unwrap();
        Some(why["reason"].as_str().unwrap().to_owned())
    }

    pub(crate) fn report(&self, name: &str) -> FileReport {
        FileReport::read(&FileReport::path_beside(&self.published(name))).unwrap()
    }

    /// Makes deferred tickets due.
    pub(crate) fn end_waiting(&self) {
        for name in self.names("processing_queue/deferred") {
            let file = File::options()
                .write(true)
                .open(self.path(&format!("processing_queue/deferred/{name}")));
            file.unwrap()
                .set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1))
                .unwrap();
        }
    }
}

/// Dates a file by a time that is longer ago than videos are kept.
pub(crate) fn two_days_old(path: &Path) {
    File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_modified(SystemTime::now() - Duration::from_secs(48 * 3600)))
        .expect("the file can be dated");
}

/// Decodes a file and reads its frame numbers.
pub(crate) fn look(path: &Path) -> Shown {
    let mut numbers = Vec::new();
    let mut size = (0, 0);
    let verified = verify_frames(
        File::open(path).unwrap(),
        &VerifyOptions::default(),
        &mut |frame| {
            numbers.push(read_number(frame));
            size = (frame.width(), frame.height());
            Ok(())
        },
    )
    .unwrap();
    assert!(verified.is_sound(), "{:?}", verified.errors);
    Shown {
        pts: verified.pts(),
        numbers,
        size,
        verified,
    }
}

impl Daemon {
    pub(crate) fn wait_for(&mut self, site: &Site, done: impl Fn(&Site) -> bool) {
        let began = Instant::now();
        while !done(site) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the daemon ended with {status}\n{}", self.log());
            }
            assert!(
                began.elapsed() < PATIENCE,
                "waited too long\nqueue: {:?}\nfailed: {:?}\nlog:\n{}",
                site.names("processing_queue"),
                site.names("processing_queue/failed"),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it as a person would and expects code 0.
    pub(crate) fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.log());
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.log.clone()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already gone in a test that passed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Decodes a picture file; its size, and the number in the first of the pictures of 640x480 on it.
pub(crate) fn look_at_sheet(path: &Path) -> ((u32, u32), Option<u32>) {
    let mut reader = Reader::open_path(path, &ReaderOptions::default()).unwrap();
    let track = reader.video().expect("a picture").1.clone();
    let mut decoder = Decoder::new(&track, &DecoderOptions::default()).unwrap();
    decoder
        .send(&reader.next_packet().unwrap().unwrap())
        .unwrap();
    decoder.finish().unwrap();
    let sheet = decoder.receive().unwrap().unwrap();
    let (width, height) = (sheet.width(), sheet.height());
    let sheet = Scaler::new(width, height, PixelFormat::GRAY8, Quality::Bilinear)
        .scale(&sheet)
        .unwrap();
    let mut first = Frame::new(PixelFormat::I420, 640, 480).unwrap();
    let from = sheet.plane(0);
    let luma = first.planes_mut().unwrap().remove(0);
    for (y, row) in luma.data.chunks_mut(luma.stride).take(480).enumerate() {
        row[..640].copy_from_slice(&from.data[y * from.stride..][..640]);
    }
    ((width, height), read_number(&first))
}
