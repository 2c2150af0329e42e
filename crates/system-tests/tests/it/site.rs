//! A place of its own for one test: working directory, configs, the built programs as real processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// The directory that cargo builds programs and plugins into.
pub(crate) fn programs() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let built = test
        .ancestors()
        .nth(2)
        .expect("tests lie in deps/")
        .to_owned();
    assert!(
        built.join("run-system").is_file(),
        "{} is not built; run scripts/test, or first: cargo build --workspace",
        built.join("run-system").display()
    );
    built
}

/// A working directory with both configs.
pub(crate) struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    /// `sources` as in the recorder's config; `blur` is merged into the processor's.
    pub(crate) fn new(sources: Value, segment_s: f64, blur: Value) -> Self {
        let site = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        fs::create_dir(site.path("configs")).expect("configs/");
        site.write(
            "configs/rtsp_recorder_config.json",
            &json!({
                "sources": sources, "segment_duration": segment_s, "monitoring_interval": 1,
                "reconnect_interval": 0.5, "max_concurrent_recordings": 16, "min_free_disk_gb": 0.0,
            }),
        );
        let mut processor = json!({
            "blur_module_path": null, "polling_interval": 0.2, "monitoring_interval": 1,
            "encoder_preset": "ultrafast", "min_free_disk_gb": 0.0,
        });
        let keys = processor.as_object_mut().expect("an object");
        keys.extend(blur.as_object().expect("an object").clone());
        site.write("configs/blur_processor_config.json", &processor);
        site
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, value: &Value) {
        fs::write(self.path(relative), value.to_string()).expect("written");
    }

    /// Starts a program in this directory; its output goes to `<program>.out`.
    pub(crate) fn start(&self, program: &str, arguments: &[&str]) -> Process {
        let out = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(&format!("{program}.out")))
            .expect("an output file");
        let child = Command::new(programs().join(program))
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second descriptor"))
            .stderr(out)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        Process {
            child,
            name: program.to_owned(),
        }
    }

    /// Runs a program to its end.
    pub(crate) fn run(&self, program: &str, arguments: &[&str], limit: Duration) -> ExitStatus {
        self.start(program, arguments).wait(limit)
    }

    /// Files below a directory whose names end in `suffix`, sorted; hidden ones and directories are left out.
    pub(crate) fn files(&self, below: &str, suffix: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect(&self.path(below), suffix, &mut found);
        found.sort();
        found
    }

    /// Waits for something to become true.
    pub(crate) fn wait_for(&self, what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
        let started = Instant::now();
        while !done() {
            assert!(
                started.elapsed() < limit,
                "waited {limit:?} in vain: {what}\n{}",
                self.story()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What the programs said, for a failing test's message.
    pub(crate) fn story(&self) -> String {
        let mut story = String::new();
        for file in self.files("", ".out") {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(60).collect();
            story.push_str(&format!("--- {}\n", file.display()));
            for line in tail.into_iter().rev() {
                story.push_str(line);
                story.push('\n');
            }
        }
        let output = Command::new("find")
            .arg(self.folder.path())
            .arg("-type")
            .arg("f")
            .output();
        if let Ok(output) = output {
            story.push_str(&String::from_utf8_lossy(&output.stdout));
        }
        story
    }

    /// Pid of a daemon, as its status file tells.
    pub(crate) fn pid_of(&self, daemon: &str) -> Option<u32> {
        let text = fs::read(self.path(&format!("logs/{daemon}.status.json"))).ok()?;
        let status: Value = serde_json::from_slice(&text).ok()?;
        u32::try_from(status["pid"].as_u64()?).ok()
    }
}

fn collect(folder: &Path, suffix: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            collect(&path, suffix, found);
        } else if name.ends_with(suffix) {
            found.push(path);
        }
    }
}

/// A started program; killed when dropped.
pub(crate) struct Process {
    child: Child,
    name: String,
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Its exit status; panics when it does not end in time.
    pub(crate) fn wait(mut self, limit: Duration) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                return status;
            }
            assert!(
                started.elapsed() < limit,
                "{} did not end within {limit:?}",
                self.name
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// Sends a signal to a process that may be gone already.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("not 0");
    kill_process(pid, signal).ok();
}
