//! A directory in which scripts play the daemons, and what they did there.

use run_system::setup::{Program, Setup};
use settings::{DiskBudget, Monitoring, Places, SystemSettings};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The beginning of every daemon: it says that it started, and holds its lock as real ones do.
const BEGIN: &str = r#"#!/bin/sh
dir=$(dirname "$2")
say() { echo "$name $*" >> "$dir/events"; }
take_lock() {
  exec 9>>"$dir/logs/$name.lock"
  flock -n 9 || exit 100
  echo $$ > "$dir/logs/$name.lock"
}
if [ "$3" = --validate ]; then echo "$REPLY_TO_VALIDATE"; [ -z "$REPLY_TO_VALIDATE" ]; exit; fi
if [ "$3" = probe ]; then cat "$dir/probes"; exit; fi
wait_forever() { while :; do sleep 0.02 9>&-; done; }
"#;

/// Runs until it is asked to stop, and takes a moment for that.
pub(crate) const GOOD: &str = "trap 'say asked; sleep 0.2 9>&-; say ended; exit 0' TERM; take_lock; say started; wait_forever";

pub(crate) struct Stage {
    dir: TempDir,
}

impl Stage {
    /// With these scripts for recorder and processor.
    pub(crate) fn new(recorder: &str, processor: &str) -> Self {
        let stage = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(stage.path("logs")).unwrap();
        stage.script("rtsp-recorder", "rtsp_recorder", recorder);
        stage.script("blur-processor", "blur_processor", processor);
        for file in ["recorder.json", "blur.json"] {
            std::fs::write(stage.path(file), "").unwrap();
        }
        stage
    }

    fn script(&self, file: &str, name: &str, body: &str) {
        let path = self.path(file);
        // Written under another name first: a file still open for writing cannot be executed.
        let scratch = self.path("script");
        std::fs::write(&scratch, format!("{BEGIN}\nname={name}\n{body}\n")).unwrap();
        std::fs::set_permissions(&scratch, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::rename(scratch, path).unwrap();
    }

    /// Settings that name secrets which the environment lacks.
    pub(crate) fn want_missing_secrets(&self) {
        let recorder = r#"{"sources": ["rtsp://admin:${NO_SUCH_CAMERA_PASSWORD}@127.0.0.1:1/x"]}"#;
        std::fs::write(self.path("recorder.json"), recorder).unwrap();
        let system = r#"{"dashboard_token": "${NO_SUCH_DASHBOARD_TOKEN}"}"#;
        std::fs::write(self.path("run_system_config.json"), system).unwrap();
    }

    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What the daemons said so far.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("events")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn count(&self, event: &str) -> usize {
        self.events().iter().filter(|line| *line == event).count()
    }

    pub(crate) fn wait_for(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(
                start.elapsed() < Duration::from_secs(15),
                "waited too long for {what}; so far: {:?}",
                self.events()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The pid in the lock file of a daemon.
    pub(crate) fn pid(&self, name: &str) -> Option<u32> {
        let text = std::fs::read_to_string(self.path(&format!("logs/{name}.lock"))).ok()?;
        text.trim().parse().ok()
    }

    pub(crate) fn setup(&self) -> Setup {
        let program = |name, executable: &str, file: &str| Program {
            name,
            executable: self.path(executable),
            settings_file: self.path(file),
            status_dir: self.path("logs"),
        };
        Setup {
            programs: vec![
                program("rtsp_recorder", "rtsp-recorder", "recorder.json"),
                program("blur_processor", "blur-processor", "blur.json"),
            ],
            queue_dir: self.path("processing_queue"),
            max_queue_size: Some(100),
            video_dirs: vec![("raw", self.path("raw_videos"))],
            disk: DiskBudget {
                max_usage_bytes: 1 << 30,
                min_free_bytes: 0,
                cleanup_old_files: true,
                max_file_age: Duration::from_secs(86_400),
            },
            monitoring: Monitoring {
                enabled: true,
                interval: Duration::from_millis(100),
            },
            places: Places {
                log_dir: self.path("logs"),
                status_dir: self.path("logs"),
            },
            system: SystemSettings {
                dashboard: None,
                hooks: Vec::new(),
            },
        }
    }
}

pub(crate) fn kill(pid: u32, signal: &str) {
    let status = std::process::Command::new("kill")
        .args([signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}
