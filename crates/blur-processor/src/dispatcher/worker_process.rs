//! One worker process, seen from the dispatcher: start it, give it a job, watch it, end it.
//!
//! A worker is believed only in what it says over the socket; its death, its silence and its
//! memory are watched here. May touch: the process, its socket, its standard error, `/proc`.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon::child::{Child, Exit, Orphan, Signal};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::ChildStderr;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::{debug, error, info, warn};

use super::memory;
use crate::pipeline::{Failure, Progress, Recipe, VideoJob, VideoReport};
use crate::plugin::{PluginChoice, PluginFacts};
use crate::protocol::{Channel, FromWorker, ToWorker};
use crate::sandbox::Sandbox;

/// Loading a plugin and its models may take this long; Python modules are loaded a second time after their self-test.
const SETUP_LIMIT: Duration = Duration::from_secs(1200);
/// How often a busy worker is looked at.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Lines of standard error kept for the reason of a death.
const LAST_LINES: usize = 4;
/// A longer line of standard error is cut, bytes.
const LINE_LIMIT: u64 = 4096;
/// After the end of the socket a worker is given this long to die before its group is killed.
const DYING_TIME: Duration = Duration::from_secs(2);

/// What a worker is started with.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) recipe: Recipe,
    pub(crate) plugin: PluginChoice,
    pub(crate) sandbox: Sandbox,
}

/// What a job may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// All of the job, `process_timeout`.
    pub(crate) time: Duration,
    /// Longest silence.
    pub(crate) stall: Duration,
    /// Bytes of the worker and its children; none: no limit.
    pub(crate) memory: Option<u64>,
}

/// Seconds of video that `process_timeout` is for: a segment of the default length.
const USUAL_SECONDS: f64 = 30.0;
/// Bytes of a second of video at least, where a ticket does not tell how long it is: 1 Mbit/s.
const LEAST_BYTE_RATE: f64 = 125e3;
/// Bytes a second that any disk can read: files are read through before the first frame, and an output is moved at its end.
const SLOWEST_DISK: f64 = 1e7;

impl Limits {
    /// The limits for a video of so many seconds, as its ticket says, and of so many bytes: longer and larger ones than usual get
    /// more time.
    pub(crate) fn for_video(self, seconds: f64, bytes: u64) -> Self {
        let seconds = match seconds > 0.0 {
            true => seconds,
            false => bytes as f64 / LEAST_BYTE_RATE,
        };
        let longer = (seconds / USUAL_SECONDS).clamp(1.0, 86_400.0 / USUAL_SECONDS);
        Self {
            time: self.time.mul_f64(longer),
            stall: self.stall + Duration::from_secs((bytes as f64 / SLOWEST_DISK) as u64),
            ..self
        }
    }
}

/// Why no worker came up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// Plugin or model cannot be used: a person must act.
    #[error("{0}")]
    Unfit(String),
    /// The process did not start or ended; it may go better later.
    #[error("{0}")]
    Failed(String),
}

/// How a job ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Written and verified; the worker waits for the next job.
    Done(Box<VideoReport>),
    /// Told by the worker.
    Failed(Failure),
    /// The worker died or had to be killed; the reason is for a person. It is gone.
    Lost(String),
    /// Killed because the program stops at once. It is gone.
    Stopped,
}

/// A worker that is ready or busy. Dropping it kills its process group.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    child: Child,
    channel: Arc<Channel>,
    /// What it says; ends with it.
    inbox: mpsc::UnboundedReceiver<FromWorker>,
    facts: PluginFacts,
    last_lines: Arc<Mutex<VecDeque<String>>>,
}

impl WorkerProcess {
    /// Starts a worker and waits until its plugin is loaded and tried; given up, it is killed.
    pub(crate) async fn start(slot: u32, setup: &Setup) -> Result<Self, StartError> {
        let failed = |error: io::Error| StartError::Failed(format!("worker not started: {error}"));
        let (ours, theirs) = Channel::pair().map_err(failed)?;
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("worker")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let (child, pipes) = Child::spawn(command, Orphan::IsKilled).map_err(failed)?;
        let last_lines = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(stderr) = pipes.stderr {
            let stderr = ChildStderr::from_std(stderr).map_err(failed)?;
            tokio::spawn(forward(slot, stderr, Arc::clone(&last_lines)));
        }
        let channel = Arc::new(ours);
        let mut worker = Self {
            child,
            inbox: listen(slot, Arc::clone(&channel)).map_err(failed)?,
            channel,
            facts: PluginFacts::default(),
            last_lines,
        };
        let message = ToWorker::Setup {
            recipe: Box::new(setup.recipe.clone()),
            plugin: setup.plugin.clone(),
            sandbox: setup.sandbox.clone(),
        };
        worker.channel.send(&message, &[]).map_err(failed)?;
        worker.facts = worker.await_ready().await?;
        debug!(slot, pid = worker.pid(), "worker ready");
        Ok(worker)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        self.child.exit().is_none()
    }

    /// What its plugin says of itself.
    pub(crate) fn facts(&self) -> &PluginFacts {
        &self.facts
    }

    async fn await_ready(&mut self) -> Result<PluginFacts, StartError> {
        match timeout(SETUP_LIMIT, self.inbox.recv()).await {
            Ok(Some(FromWorker::Ready(facts))) => Ok(*facts),
            Ok(Some(FromWorker::Unfit { reason })) => Err(StartError::Unfit(reason)),
            Ok(Some(other)) => {
                let text = format!("worker answered its set-up with {other:?}");
                Err(StartError::Failed(text))
            }
            Ok(None) => {
                let (exit, words) = self.death().await;
                let reason = format!(
                    "the plugin's process died while the plugin was loaded and tried: {words}"
                );
                Err(match exit.signal().and_then(Signal::from_named_raw) {
                    // Killed from outside, most likely because memory was short.
                    Some(Signal::KILL | Signal::TERM) => StartError::Failed(reason),
                    // A plugin that crashes on one grey picture will do so again.
                    _ => StartError::Unfit(reason),
                })
            }
            Err(_) => Err(StartError::Unfit(format!(
                "the plugin did not load and pass its self-test within {} s",
                SETUP_LIMIT.as_secs()
            ))),
        }
    }

    /// Has one video done. `seen` is called with each sign of life; when `stop` comes true, the
    /// worker is killed.
    pub(crate) async fn run(
        &mut self,
        job: VideoJob,
        (raw, output): (&File, &File),
        limits: Limits,
        stop: impl Future<Output = ()>,
        mut seen: impl FnMut(Progress),
    ) -> Ending {
        let mut stop = std::pin::pin!(stop);
        let message = ToWorker::Job(Box::new(job));
        if self
            .channel
            .send(&message, &[raw.as_fd(), output.as_fd()])
            .is_err()
        {
            return self.lost("worker died while idle").await;
        }
        let began = Instant::now();
        let mut last_sign = began;
        let mut check = tokio::time::interval(CHECK_INTERVAL);
        loop {
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(FromWorker::Progress(progress)) => {
                        last_sign = Instant::now();
                        seen(progress);
                    }
                    Some(FromWorker::Done(report)) => return Ending::Done(report),
                    Some(FromWorker::Failed(failure)) => return Ending::Failed(failure),
                    Some(other) => {
                        let text = format!("worker broke the protocol: {other:?}");
                        return self.killed(text).await;
                    }
                    None => return self.lost("worker process died").await,
                },
                () = &mut stop => {
                    self.child.kill_group();
                    return Ending::Stopped;
                }
                _ = check.tick() => {
                    if let Some(reason) = self.overrun(began, last_sign, limits) {
                        return self.killed(reason).await;
                    }
                }
            }
        }
    }

    fn overrun(&self, began: Instant, last_sign: Instant, limits: Limits) -> Option<String> {
        if began.elapsed() > limits.time {
            return Some(format!(
                "not done after {} s (process_timeout); killed",
                limits.time.as_secs_f64()
            ));
        }
        if last_sign.elapsed() > limits.stall {
            return Some(format!(
                "no frame finished for {} s, the plugin, a codec or a disk hangs; killed",
                limits.stall.as_secs_f64()
            ));
        }
        let used = memory::of_process_and_children(self.pid());
        let limit = limits.memory.filter(|limit| used > *limit)?;
        Some(format!(
            "used {} MiB of memory, {} are allowed (worker_memory_limit_mb); killed",
            used >> 20,
            limit >> 20
        ))
    }

    async fn killed(&self, reason: String) -> Ending {
        self.child.kill_group();
        self.child.exited().await;
        Ending::Lost(reason)
    }

    async fn lost(&self, what: &str) -> Ending {
        let (_, words) = self.death().await;
        Ending::Lost(format!("{what}: {words}"))
    }

    /// How it ended, also in words, with its last ones; kills it if it only closed its socket.
    async fn death(&self) -> (Exit, String) {
        if timeout(DYING_TIME, self.child.exited()).await.is_err() {
            self.child.kill_group();
        }
        let exit = self.child.exited().await;
        // Its standard error ends with it; let the reading task come to the end.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let lines = self
            .last_lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let words: Vec<&str> = lines.iter().map(String::as_str).collect();
        let words = match words.is_empty() {
            true => exit.to_string(),
            false => format!("{exit}; its last words: {}", words.join(" | ")),
        };
        (exit, words)
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.child.kill_group();
    }
}

/// Reads a worker's messages in a thread of its own, which ends with the worker.
fn listen(slot: u32, channel: Arc<Channel>) -> io::Result<mpsc::UnboundedReceiver<FromWorker>> {
    let (sender, inbox) = mpsc::unbounded_channel();
    std::thread::Builder::new()
        .name(format!("worker-{slot}"))
        .spawn(move || {
            loop {
                match channel.receive::<FromWorker>() {
                    Ok(Some((message, _))) => {
                        if sender.send(message).is_err() {
                            return;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(None) | Err(_) => return,
                }
            }
        })?;
    Ok(inbox)
}

/// Brings a worker's standard error into this program's log: its own lines (JSON) at their level,
/// whatever a plugin prints as information.
async fn forward(slot: u32, stderr: ChildStderr, last_lines: Arc<Mutex<VecDeque<String>>>) {
    let mut reader = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader)
            .take(LINE_LIMIT)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if text.is_empty() {
            continue;
        }
        let (level, message) = understood(text);
        match level.as_str() {
            "ERROR" => error!(worker = slot, "{message}"),
            "WARN" => warn!(worker = slot, "{message}"),
            "DEBUG" | "TRACE" => debug!(worker = slot, "{message}"),
            _ => info!(worker = slot, "{message}"),
        }
        if matches!(level.as_str(), "ERROR" | "WARN" | "PLUGIN") {
            let mut lines = last_lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines.push_back(message);
            while lines.len() > LAST_LINES {
                lines.pop_front();
            }
        }
    }
}

/// Level and text of a line; level `PLUGIN` for what is not a log line of ours.
fn understood(line: &str) -> (String, String) {
    let Ok(serde_json::Value::Object(mut event)) = serde_json::from_str(line) else {
        return ("PLUGIN".to_owned(), line.to_owned());
    };
    let mut text = |key: &str| match event.remove(key) {
        Some(serde_json::Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let (level, mut message) = (text("level"), text("message"));
    text("timestamp");
    text("target");
    for (key, value) in &event {
        message.push_str(&format!(" {key}={value}"));
    }
    (level, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_lines_keep_their_level_and_fields() {
        let line =
            r#"{"timestamp":"x","level":"WARN","message":"odd frame","target":"t","frame":7}"#;
        assert_eq!(
            understood(line),
            ("WARN".to_owned(), "odd frame frame=7".to_owned())
        );
        assert_eq!(understood("hello").0, "PLUGIN");
    }

    #[test]
    fn a_long_video_may_take_long() {
        let limits = Limits {
            time: Duration::from_secs(300),
            stall: Duration::from_secs(60),
            memory: None,
        };
        let seconds = |video| limits.for_video(video, 0).time.as_secs();
        assert_eq!(
            (seconds(5.0), seconds(30.0), seconds(600.0)),
            (300, 300, 6000)
        );
        // A ticket may say anything.
        let odd = [f64::NAN, -1.0, 0.0].map(seconds);
        assert_eq!((odd, seconds(f64::INFINITY)), ([300; 3], 864_000));
    }

    #[test]
    fn a_large_video_may_take_long_until_its_first_frame() {
        let limits = Limits {
            time: Duration::from_secs(300),
            stall: Duration::from_secs(60),
            memory: None,
        };
        let stall = |bytes| limits.for_video(3600.0, bytes).stall.as_secs();
        assert_eq!((stall(15_000_000), stall(3_600_000_000)), (61, 420));
        // Of one that does not say how long it is.
        let time = |bytes| limits.for_video(0.0, bytes).time.as_secs();
        assert_eq!((time(1_000_000), time(450_000_000)), (300, 36_000));
        let endless = limits.for_video(f64::NAN, u64::MAX);
        assert_eq!(endless.time.as_secs(), 864_000);
    }
}
