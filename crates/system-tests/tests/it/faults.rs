//! Faults by system call: the real programs, with each write, `fsync`, rename, link, unlink and creation of a file
//! refused by the kernel in turn, and the same with `kill -9` in its place. Whatever fails: no original goes without a
//! whole published video, no half file has a final name, no ticket is lost, and the next run does what is left.
//!
//! The short form tries every few calls; `LONG_TESTS=1` tries all of them with every error.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use media::synth::TestVideo;
use media::verify::{VerifyOptions, verify_frames};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::site::{programs, send};

const RECORDER: &str = "rtsp-recorder";
const PROCESSOR: &str = "blur-processor";
const FRAMES: usize = 6;
/// A run that has not ended by itself then is killed: that, too, is a fault to recover from.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is refused, and which program's protocol it is tried on.
#[derive(Clone, Copy, Debug)]
struct Sweep {
    program: &'static str,
    kinds: &'static str,
    action: &'static str,
    /// From the first refused call on, all are.
    lasting: bool,
    /// The original goes to the backup directory instead of being deleted.
    backup: bool,
}

/// Compiled once a run of the tests.
fn faults() -> &'static Path {
    static BUILT: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, program) = BUILT.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("faults");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/faults.c");
        let built = Command::new("cc")
            .args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&program)
            .arg(source)
            .status()
            .expect("a C compiler");
        assert!(built.success());
        (folder, program)
    });
    program
}

fn is_long() -> bool {
    std::env::var_os("LONG_TESTS").is_some()
}

/// A working directory: `data/` is what faults strike; logs and configs lie beside it.
struct Place {
    folder: tempfile::TempDir,
}

/// How a run under faults ended.
struct Run {
    /// The refused calls, one a line.
    refused: Vec<String>,
    /// Calls of the kinds asked for, beneath `data/`.
    calls: usize,
    /// The exit code; none after a signal.
    code: Option<i32>,
}

impl Place {
    fn new(video: &Path, backup: bool) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = tempfile::tempdir_in(memory)
            .or_else(|_| tempfile::tempdir())
            .expect("a folder");
        let place = Self { folder };
        fs::create_dir_all(place.path("data")).expect("a folder");
        place.write(
            "rtsp-recorder.json",
            &json!({
                "sources": [{"name": "cam", "url": video.to_str().expect("a plain path")}],
                "max_segments_per_source": 1, "segment_duration": 60, "min_free_disk_gb": 0.0,
                "output_dir": "data/raw_videos", "queue_dir": "data/processing_queue",
                "log_dir": "logs", "status_dir": "logs",
            }),
        );
        let mut processor = json!({
            "blur_module_path": null, "add_overlay": false, "encoder_preset": "ultrafast",
            "polling_interval": 0.05, "max_concurrent_processes": 1, "min_free_disk_gb": 0.0,
            "raw_dir": "data/raw_videos", "queue_dir": "data/processing_queue",
            "output_dir": "data/processed_videos", "log_dir": "logs", "status_dir": "logs",
        });
        if backup {
            processor["backup_original"] = json!(true);
            processor["backup_dir"] = json!("data/backup");
        }
        place.write("blur-processor.json", &processor);
        place
    }

    /// Another place with the same files.
    fn copy(&self, video: &Path, backup: bool) -> Self {
        let copy = Self::new(video, backup);
        let copied = Command::new("cp")
            .args(["-a", "--"])
            .arg(self.path("data/."))
            .arg(copy.path("data"))
            .status()
            .expect("cp");
        assert!(copied.success());
        copy
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    fn write(&self, relative: &str, value: &Value) {
        fs::write(self.path(relative), value.to_string()).expect("written");
    }

    /// Runs a program while the n-th call fails, until it ends, or until all that is left waits to be tried again.
    fn run(&self, sweep: Sweep, nth: usize) -> Run {
        self.run_beneath("data/", sweep, nth)
    }

    /// As [`Place::run`], where only calls beneath `folder` count.
    fn run_beneath(&self, folder: &str, sweep: Sweep, nth: usize) -> Run {
        let report = self.path("faults.report");
        let nth = format!("{nth}{}", if sweep.lasting { "+" } else { "" });
        let mut command = Command::new(faults());
        command
            .arg(self.path(folder))
            .args([sweep.kinds, &nth, sweep.action])
            .arg(&report)
            .arg("--")
            .arg(programs().join(sweep.program))
            .arg("--config")
            .arg(format!("{}.json", sweep.program));
        if sweep.program == PROCESSOR {
            command.arg("--until-empty");
        }
        let out = File::options()
            .create(true)
            .append(true)
            .open(self.path("out"))
            .expect("an output file");
        let mut child = command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second descriptor"))
            .stderr(out)
            .process_group(0)
            .spawn()
            .expect("faults runs");
        let began = Instant::now();
        let mut asked = false;
        let code = loop {
            if let Some(status) = child.try_wait().expect("waited") {
                break status.code();
            }
            if !asked
                && (began.elapsed() > PATIENCE
                    || !self.names("processing_queue/deferred").is_empty())
            {
                send(child.id(), Signal::TERM);
                asked = true;
            }
            if began.elapsed() > 2 * PATIENCE {
                send(child.id(), Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        assert_ne!(code, Some(125), "{}", self.story());
        let report = fs::read_to_string(report).unwrap_or_default();
        let mut refused: Vec<String> = report.lines().map(str::to_owned).collect();
        let calls = refused
            .pop()
            .and_then(|line| line.strip_prefix("calls ")?.parse().ok())
            .unwrap_or(0);
        Run {
            refused,
            calls,
            code,
        }
    }

    /// The same program without faults, started anew, must end well.
    fn recover(&self, program: &'static str) {
        // Long after: what is deferred is due, and what was left half written in the queue is swept.
        for folder in ["processing_queue/deferred", "processing_queue/.tmp"] {
            for name in self.names(folder) {
                File::options()
                    .write(true)
                    .open(self.path(&format!("data/{folder}/{name}")))
                    .and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH))
                    .expect("made old");
            }
        }
        let mut command = Command::new(programs().join(program));
        command.args(["--config", &format!("{program}.json")]);
        if program == PROCESSOR {
            command.arg("--until-empty");
        }
        let out = File::options()
            .create(true)
            .append(true)
            .open(self.path("out"))
            .expect("an output file");
        let mut child = command
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second descriptor"))
            .stderr(out)
            .spawn()
            .expect("it starts");
        let began = Instant::now();
        let code = loop {
            if let Some(status) = child.try_wait().expect("waited") {
                break status.code();
            }
            if began.elapsed() > 6 * PATIENCE {
                child.kill().expect("killed");
                child.wait().expect("waited");
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let well = if program == RECORDER { 3 } else { 0 };
        assert_eq!(
            code,
            Some(well),
            "{program} does not finish what is left\n{}",
            self.story()
        );
    }

    /// Names in a directory of `data/`, sorted; also hidden ones, not directories.
    fn names(&self, relative: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path("data").join(relative))
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| !entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn videos(&self, relative: &str) -> Vec<String> {
        let mut names = self.names(relative);
        names.retain(|name| name.ends_with(".mp4") && !name.starts_with('.'));
        names
    }

    /// Segments, finished or not.
    fn segments_begun(&self) -> usize {
        let mut names = self.names("raw_videos/cam");
        for name in &mut names {
            let stem = name.trim_start_matches('.').split('.').next();
            *name = stem.unwrap_or_default().to_owned();
        }
        names.sort();
        names.dedup();
        names.len()
    }

    /// What is wrong with what lies under final names now, whatever just failed. Segments have so many frames at least.
    fn half_done(&self, least: usize) -> Result<(), String> {
        let published = self.videos("processed_videos/cam");
        for name in &published {
            whole(&self.path("data/processed_videos/cam").join(name))?;
        }
        let originals = self.videos("raw_videos/cam");
        for name in &originals {
            whole_of(&self.path("data/raw_videos/cam").join(name), least)?;
        }
        for name in self.names("processing_queue") {
            let text = fs::read(self.path("data/processing_queue").join(&name)).expect("a ticket");
            let ticket: Result<Value, _> = serde_json::from_slice(&text);
            ticket.map_err(|error| format!("half a ticket {name}: {error}"))?;
        }
        Ok(())
    }

    /// What is wrong at rest after a recorder: segments, tickets, scratch.
    fn recorded(&self, at_least: usize, least: usize) -> Result<(), String> {
        let segments = self.videos("raw_videos/cam");
        if segments.len() < at_least {
            return Err(format!("segments: {segments:?}"));
        }
        let tickets = self.names("processing_queue");
        if tickets.len() != segments.len() {
            return Err(format!("{segments:?}, but tickets {tickets:?}"));
        }
        let left: Vec<String> = self
            .names("raw_videos/cam")
            .into_iter()
            .filter(|name| name.starts_with('.'))
            .collect();
        if left.is_empty() {
            self.half_done(least)
        } else {
            Err(format!("left behind: {left:?}"))
        }
    }

    /// What is wrong at rest after a processor: published once, receipt, original dealt with, nothing else.
    fn processed(&self, segment: &str, backup: bool) -> Result<(), String> {
        let expect = |what: &str, found: Vec<String>, expected: &[String]| {
            if found == expected {
                Ok(())
            } else {
                Err(format!("{what}: {found:?} instead of {expected:?}"))
            }
        };
        let name = segment.trim_end_matches(".mp4");
        let published = [
            format!("blurred_{name}.json"),
            format!("blurred_{name}.mp4"),
        ];
        expect("published", self.names("processed_videos/cam"), &published)?;
        expect("drafts", self.names("processed_videos/.tmp"), &[])?;
        expect("originals", self.names("raw_videos/cam"), &[])?;
        let backed_up = backup.then(|| segment.to_owned());
        let backed_up: Vec<String> = backed_up.into_iter().collect();
        expect("backup", self.names("backup/cam"), &backed_up)?;
        expect("ready", self.names("processing_queue"), &[])?;
        for state in ["active", "deferred", "failed", "corrupt"] {
            expect(state, self.names(&format!("processing_queue/{state}")), &[])?;
        }
        let done = self.names("processing_queue/done").len();
        if done != 1 {
            return Err(format!("{done} receipts"));
        }
        let scratch = self.names("processing_queue/.tmp");
        if scratch.len() > 1 {
            return Err(format!("scratch: {scratch:?}"));
        }
        whole(&self.path("data/processed_videos/cam").join(&published[1]))
    }

    fn story(&self) -> String {
        let text = fs::read_to_string(self.path("out")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(60)..].join("\n");
        let tree = Command::new("find").arg(self.path("data")).output();
        let tree = tree.map(|tree| String::from_utf8_lossy(&tree.stdout).into_owned());
        format!("{tail}\n{}", tree.unwrap_or_default())
    }
}

/// Whether a video is whole: every frame decodes.
fn whole(video: &Path) -> Result<(), String> {
    whole_of(video, FRAMES)
}

/// Whether a video is sound and has so many frames, or more up to all that were recorded.
fn whole_of(video: &Path, least: usize) -> Result<(), String> {
    let wrong = |what: String| format!("{}: {what}", video.display());
    let file = File::open(video).map_err(|error| wrong(error.to_string()))?;
    let verified = verify_frames(file, &VerifyOptions::default(), &mut |_| Ok(()))
        .map_err(|error| wrong(error.to_string()))?;
    let frames = verified.pts().len();
    if verified.is_sound() && (least..=FRAMES).contains(&frames) {
        Ok(())
    } else {
        Err(wrong(format!("{frames} frames, {:?}", verified.errors)))
    }
}

fn clip(folder: &Path) -> PathBuf {
    let path = folder.join("clip.mp4");
    let video = TestVideo {
        width: 160,
        height: 120,
        frames: u32::try_from(FRAMES).expect("few"),
        fps: 30,
        gop: 3,
        options: vec![("preset".to_owned(), "ultrafast".to_owned())],
        ..TestVideo::default()
    };
    video.write(&path).expect("a test video");
    path
}

/// Tries the n-th call for each n that `is_tried`, until the program ends without meeting it. Returns how many were.
fn sweep(plan: Sweep, stride: usize) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    let video = clip(folder.path());
    let template = Place::new(&video, plan.backup);
    // One segment for the processor, and the directories for the recorder.
    template.recover(RECORDER);
    template.recorded(1, FRAMES).expect("one segment");
    let first = template.copy(&video, plan.backup);
    let all = first.run(plan, 0).calls;
    if plan.kinds == "fsync" {
        assert!(all > 0, "{plan:?} meets no call at all\n{}", first.story());
    }
    let mut tried = 0;
    for nth in (1..).step_by(stride) {
        let place = template.copy(&video, plan.backup);
        let run = place.run(plan, nth);
        let (begun, least) = if loses_footage(plan) {
            (1, 1)
        } else {
            (place.segments_begun(), FRAMES)
        };
        let judged = place.half_done(least).and_then(|()| {
            place.recover(plan.program);
            match plan.program {
                RECORDER => place.recorded(begun + 1, least),
                _ => place.processed(&template.videos("raw_videos/cam")[0], plan.backup),
            }
        });
        if let Err(problem) = judged {
            panic!(
                "{plan:?}, call {nth} ({:?}): {problem}\n{}",
                run.refused,
                place.story()
            );
        }
        if run.refused.is_empty() {
            break;
        }
        tried += 1;
        assert!(nth < 20 * all + 100, "{plan:?} never ends without a fault");
    }
    tried
}

/// Whether the fault may strike while footage is still being written, so that a segment may be missing.
fn loses_footage(plan: Sweep) -> bool {
    plan.lasting
        || plan.action == "kill"
        || ["write", "create", "mkdir", "truncate"]
            .iter()
            .any(|kind| plan.kinds.contains(kind))
}

fn sweeps(program: &'static str) {
    let once = |kinds, action| Sweep {
        program,
        kinds,
        action,
        lasting: false,
        backup: false,
    };
    let mut plans = vec![
        (once("fsync", "EIO"), 3),
        (once("rename,link", "EIO"), 2),
        (once("unlink", "EIO"), 2),
        (once("create,mkdir", "ENOSPC"), 3),
        (once("write,truncate", "ENOSPC"), 19),
        (once("write", "short"), 29),
        (
            Sweep {
                lasting: true,
                ..once("write,create,mkdir,truncate,rename,link", "ENOSPC")
            },
            31,
        ),
        (
            once(
                "write,fsync,rename,link,unlink,create,mkdir,truncate",
                "kill",
            ),
            19,
        ),
    ];
    if is_long() {
        plans = long_plans(program);
    }
    for (plan, stride) in plans {
        let began = Instant::now();
        let tried = sweep(plan, stride);
        eprintln!(
            "{plan:?}: {tried} faults, none lost, {:.1?}",
            began.elapsed()
        );
    }
}

/// Every call with every error, alone and lasting, also with a backup directory.
fn long_plans(program: &'static str) -> Vec<(Sweep, usize)> {
    let mut plans = Vec::new();
    for backup in [false, true] {
        if backup && program == RECORDER {
            continue;
        }
        let kinds = "write,fsync,rename,link,unlink,create,mkdir,truncate";
        plans.push((
            Sweep {
                program,
                kinds,
                action: "kill",
                lasting: false,
                backup,
            },
            1,
        ));
        for action in ["ENOSPC", "EIO", "EDQUOT"] {
            for kinds in [
                "write", "fsync", "rename", "link", "unlink", "create", "mkdir", "truncate",
            ] {
                plans.push((
                    Sweep {
                        program,
                        kinds,
                        action,
                        lasting: false,
                        backup,
                    },
                    1,
                ));
            }
            let kinds = "write,fsync,rename,link,create,mkdir,truncate";
            plans.push((
                Sweep {
                    program,
                    kinds,
                    action,
                    lasting: true,
                    backup,
                },
                3,
            ));
        }
        plans.push((
            Sweep {
                program,
                kinds: "write",
                action: "short",
                lasting: false,
                backup,
            },
            1,
        ));
    }
    plans
}

#[test]
fn no_refused_call_of_the_recorder_loses_a_segment() {
    sweeps(RECORDER);
}

#[test]
fn claims_that_cannot_be_made_durable_stop_the_processor_and_cost_no_attempt() {
    let folder = tempfile::tempdir().expect("a folder");
    let video = clip(folder.path());
    let place = Place::new(&video, false);
    place.recover(RECORDER);
    let plan = Sweep {
        program: PROCESSOR,
        kinds: "fsync",
        action: "EIO",
        lasting: true,
        backup: false,
    };
    // More often than a ticket has attempts.
    for _ in 0..6 {
        let run = place.run_beneath("data/processing_queue/active", plan, 1);
        assert!(!run.refused.is_empty(), "{}", place.story());
        assert_eq!(run.code, Some(1), "{}", place.story());
    }
    assert_eq!(
        place.names("processing_queue").len(),
        1,
        "{}",
        place.story()
    );
    place.recover(PROCESSOR);
    let segment = place.videos("processed_videos/cam");
    assert_eq!(segment.len(), 1, "{}", place.story());
}

#[test]
fn no_refused_call_of_the_processor_loses_a_video() {
    sweeps(PROCESSOR);
}
