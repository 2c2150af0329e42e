//! Looks after one daemon.
//!
//! ```text
//!            lock free                    exit code 3
//!  (start) ------------> Running ---------------------------> Finished
//!     |                   |   |  exit code 2
//!     | lock held         |   +------------> BadSettings -- the file changes, time -> (start)
//!     v                   |  any other end
//!  Adopted -- lock free --+----------------> BackingOff or Degraded --- time ----> (start)
//!
//!  a request to stop leads from anywhere by way of Stopping to Stopped
//! ```

use super::policy::{History, Policy};
use crate::setup::Program;
use daemon::child::{Child, Exit, Orphan, Signal};
use daemon::lock::{self, Holder};
use daemon::{Clock, Shutdown, SystemClock, exit, status};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// After SIGTERM was sent again, this long until SIGKILL.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where a daemon is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// About to be started.
    #[default]
    Starting,
    /// Runs as a child.
    Running,
    /// Runs, started by somebody else.
    Adopted,
    /// Died, is started again after a pause.
    BackingOff,
    /// Dies again and again, is started now and then.
    Degraded,
    /// Refuses its settings, or lacks what they name; is started again when the file changes, and now and then, since what
    /// is missing may come.
    BadSettings,
    /// Has done all it was asked for.
    Finished,
    /// Was asked to stop.
    Stopping,
    /// Is stopped.
    Stopped,
}

/// What is known of one daemon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct UnitState {
    /// `rtsp_recorder` or `blur_processor`.
    pub name: String,
    /// Where it is in its life.
    pub phase: Phase,
    /// Its process id while it runs.
    pub pid: Option<u32>,
    /// Since when it is in this phase.
    pub since: Timestamp,
    /// Starts after the first.
    pub restarts: u64,
    /// How it ended the last time.
    pub last_exit: Option<String>,
    /// Why it does not start, as far as it says.
    pub reason: Option<String>,
}

/// What follows from a daemon's end.
enum Next {
    StartAgain { uptime: Duration },
    AwaitSettings { unlike: Option<SystemTime> },
    Finished,
    Stopped,
}

/// The one that looks after one daemon.
pub(super) struct Unit {
    program: Program,
    policy: Policy,
    stop: Shutdown,
    state: watch::Sender<UnitState>,
    clock: SystemClock,
    history: History,
    starts: u64,
    /// Why it refused to run the last time; none when it did not.
    refused: Option<Option<String>>,
}

impl Unit {
    pub(super) fn new(
        program: Program,
        policy: Policy,
        stop: Shutdown,
    ) -> (Self, watch::Receiver<UnitState>) {
        let first = UnitState {
            name: program.name.to_owned(),
            since: Timestamp::now(),
            ..UnitState::default()
        };
        let (state, receiver) = watch::channel(first);
        let unit = Self {
            program,
            policy,
            stop,
            state,
            clock: SystemClock::new(),
            history: History::default(),
            starts: 0,
            refused: None,
        };
        (unit, receiver)
    }

    /// Runs until the daemon has finished or is stopped.
    pub(super) async fn run(mut self) {
        while !self.stop.is_requested() {
            let next = match lock::holder(&self.program.lock_file()) {
                Ok(Holder::Nobody) => self.run_own().await,
                Ok(holder) => self.watch_other(holder).await,
                Err(error) => {
                    tracing::error!(program = self.program.name, %error, "lock file cannot be read");
                    Next::StartAgain {
                        uptime: Duration::ZERO,
                    }
                }
            };
            match next {
                Next::StartAgain { uptime } => self.pause(uptime).await,
                Next::AwaitSettings { unlike } => self.await_settings(unlike).await,
                Next::Finished => return self.enter(Phase::Finished, None),
                Next::Stopped => break,
            }
        }
        self.enter(Phase::Stopped, None);
    }

    fn enter(&self, phase: Phase, pid: Option<u32>) {
        self.state.send_modify(|state| {
            state.phase = phase;
            state.pid = pid;
            state.since = Timestamp::now();
            state.restarts = self.starts.saturating_sub(1);
        });
    }

    async fn run_own(&mut self) -> Next {
        let name = self.program.name;
        let settings_were = modified(&self.program.settings_file);
        self.starts += 1;
        let started = self.clock.monotonic();
        let child = match Child::spawn(self.command(), Orphan::LivesOn) {
            Ok((child, _)) => child,
            Err(error) => {
                let executable = self.program.executable.display().to_string();
                tracing::error!(program = name, executable, %error, "cannot be started; is everything built and installed?");
                self.remember(format!("cannot be started: {error}"));
                return Next::StartAgain {
                    uptime: Duration::ZERO,
                };
            }
        };
        tracing::info!(program = name, pid = child.pid(), "started");
        self.enter(Phase::Running, Some(child.pid()));
        let ended = tokio::select! {
            ended = child.exited() => ended,
            () = self.stop.requested() => {
                self.stop_own(&child).await;
                return Next::Stopped;
            }
        };
        let uptime = self.clock.monotonic().saturating_sub(started);
        self.remember(ended.to_string());
        let reason = status::why_not_started(&self.program.status_file(), child.pid());
        self.state.send_modify(|state| state.reason = reason);
        self.judge(ended, uptime, settings_were)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program.executable);
        command
            .arg("--config")
            .arg(&self.program.settings_file)
            .stdin(Stdio::null());
        command
    }

    fn remember(&self, how: String) {
        self.state.send_modify(|state| state.last_exit = Some(how));
    }

    fn judge(&mut self, ended: Exit, uptime: Duration, settings_were: Option<SystemTime>) -> Next {
        let program = self.program.name;
        if ended.code() != Some(i32::from(exit::SETTINGS)) {
            self.refused = None;
        }
        match ended.code().and_then(|code| u8::try_from(code).ok()) {
            Some(exit::FINISHED) => {
                tracing::info!(
                    program,
                    "has done all it was asked for; it is not started again"
                );
                Next::Finished
            }
            Some(exit::SETTINGS) => {
                self.tell_refusal();
                Next::AwaitSettings {
                    unlike: settings_were,
                }
            }
            Some(exit::ALREADY_RUNNING) => {
                tracing::info!(program, "one runs already");
                Next::StartAgain { uptime }
            }
            _ => {
                tracing::warn!(program, how = %ended, uptime = uptime.as_secs(), "ended without being asked");
                Next::StartAgain { uptime }
            }
        }
    }

    /// Once, however often it is tried.
    fn tell_refusal(&mut self) {
        let reason = self.state.borrow().reason.clone();
        if self.refused.as_ref() == Some(&reason) {
            return;
        }
        let (program, file) = (
            self.program.name,
            self.program.settings_file.display().to_string(),
        );
        tracing::error!(
            program,
            file,
            reason = reason.as_deref().unwrap_or("see its log"),
            "refuses to run; it is tried again when its settings file changes, and now and then"
        );
        self.refused = Some(reason);
    }

    /// Asks the child to stop and makes sure that it does.
    async fn stop_own(&self, child: &Child) {
        let program = self.program.name;
        self.enter(Phase::Stopping, Some(child.pid()));
        tracing::info!(program, pid = child.pid(), "stopping");
        let ended = tokio::select! {
            ended = child.stop(self.policy.patience) => ended,
            () = self.stop.at_once() => child.stop(LAST_WORDS).await,
        };
        self.remember(ended.to_string());
        tracing::info!(program, how = %ended, "stopped");
    }

    /// Watches a daemon that is not our child until it is gone.
    async fn watch_other(&mut self, holder: Holder) -> Next {
        let program = self.program.name;
        let pid = match holder {
            Holder::Process(pid) => Some(pid),
            Holder::Nobody | Holder::Unknown => None,
        };
        tracing::info!(program, pid, "runs already; watching it");
        self.enter(Phase::Adopted, pid);
        let started = self.clock.monotonic();
        loop {
            tokio::select! {
                () = self.clock.sleep(self.policy.poll) => {}
                () = self.stop.requested() => {
                    self.stop_other(pid).await;
                    return Next::Stopped;
                }
            }
            if self.is_free() {
                tracing::warn!(program, pid, "ended without being asked");
                self.remember("unknown, it was not started here".to_owned());
                return Next::StartAgain {
                    uptime: self.clock.monotonic().saturating_sub(started),
                };
            }
        }
    }

    async fn stop_other(&self, pid: Option<u32>) {
        let program = self.program.name;
        self.enter(Phase::Stopping, pid);
        tracing::info!(program, pid, "stopping");
        self.signal_other(Signal::TERM);
        tokio::select! {
            freed = self.freed_within(self.policy.patience) => if freed { return },
            () = self.stop.at_once() => {
                self.signal_other(Signal::TERM);
                if self.freed_within(LAST_WORDS).await { return }
            }
        }
        tracing::warn!(program, pid, "did not stop in time; killing it");
        self.signal_other(Signal::KILL);
        self.freed_within(LAST_WORDS).await;
    }

    fn signal_other(&self, signal: Signal) {
        let file = self.program.lock_file();
        match lock::signal_holder(&file, signal) {
            Ok(Some(_)) => {}
            Ok(None) if self.is_free() => {}
            Ok(None) => {
                let file = file.display().to_string();
                tracing::error!(
                    program = self.program.name,
                    file,
                    "the process that holds this lock cannot be found; stop it yourself"
                );
            }
            Err(error) => {
                tracing::error!(program = self.program.name, %error, "cannot be signalled")
            }
        }
    }

    async fn freed_within(&self, time: Duration) -> bool {
        let freed = async {
            while !self.is_free() {
                self.clock
                    .sleep(self.policy.poll.min(Duration::from_millis(100)))
                    .await;
            }
        };
        tokio::time::timeout(time, freed).await.is_ok()
    }

    fn is_free(&self) -> bool {
        matches!(lock::holder(&self.program.lock_file()), Ok(Holder::Nobody))
    }

    /// Waits before the next start, or until asked to stop.
    async fn pause(&mut self, uptime: Duration) {
        let pause = self
            .history
            .died(&self.policy, self.clock.monotonic(), uptime);
        let (program, seconds) = (self.program.name, pause.length.as_secs_f64());
        if pause.degraded {
            tracing::error!(
                program,
                seconds,
                "dies again and again, see its log; trying again now and then"
            );
            self.enter(Phase::Degraded, None);
        } else {
            tracing::info!(program, seconds, "starting it again after a pause");
            self.enter(Phase::BackingOff, None);
        }
        tokio::select! {
            () = self.clock.sleep(pause.length) => {}
            () = self.stop.requested() => {}
        }
    }

    /// Waits until the settings file is no longer of that time, until it may be tried again, or until asked to stop. What
    /// the settings name may be what is missing: a model, a module.
    async fn await_settings(&mut self, unlike: Option<SystemTime>) {
        self.enter(Phase::BadSettings, None);
        let again = self.clock.monotonic() + self.policy.degraded_pause;
        while modified(&self.program.settings_file) == unlike {
            if self.clock.monotonic() >= again {
                return;
            }
            tokio::select! {
                () = self.clock.sleep(self.policy.poll) => {}
                () = self.stop.requested() => return,
            }
        }
        tracing::info!(
            program = self.program.name,
            "its settings file has changed; starting it again"
        );
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
}
