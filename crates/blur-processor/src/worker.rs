//! The worker process: one plugin for life, one video at a time, files that others opened.
//!
//! It trusts nobody with its end: a thread of its own watches the socket, and when the dispatcher
//! is gone the worker kills its whole process group, so that neither a hanging plugin nor a
//! plugin's own children outlive it. May touch: the socket (standard input), the files that come
//! over it, and, before the first job, whatever the plugin loads.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, Signal};
use tracing::{error, info, warn};

use crate::pipeline::{Engine, Failure, Progress, Recipe, VideoJob};
use crate::plugin::{Hider, PluginChoice};
use crate::protocol::{Channel, FromWorker, ToWorker};
use crate::sandbox::Confined;

/// Frames of the self-test: the second one shows whether the first left anything behind.
const TRIAL_FRAMES: u32 = 2;
/// Processes that record come first.
const NICENESS: i32 = 5;
/// Least time between two signs of life.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Runs the worker on its standard input until the dispatcher closes the other end.
pub fn run() -> ExitCode {
    media::init();
    media::share_one_heap();
    forbid_core_dumps();
    // Recording must not lose packets to blurring; a failure only means usual priority.
    rustix::process::nice(NICENESS).ok();
    match serve() {
        Ok(code) => code,
        Err(error) => {
            error!("worker stopped: {error:#}");
            ExitCode::from(daemon::exit::FAILED)
        }
    }
}

fn serve() -> anyhow::Result<ExitCode> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
        .context("standard input cannot be used; this command is for the program itself")?;
    // What a plugin starts must not hold the socket open after this process.
    rustix::stdio::dup2_stdin(File::open("/dev/null").context("open /dev/null")?)
        .context("give up standard input")?;
    let channel = Arc::new(Channel::from_socket(socket));
    let first = channel.receive::<ToWorker>();
    let Ok(Some((
        ToWorker::Setup {
            recipe,
            plugin,
            sandbox,
        },
        _,
    ))) = first
    else {
        anyhow::bail!("the first message is not a set-up; this command is for the program itself");
    };
    // Before there is any other thread, and before anything of the plugin's or a camera's is touched.
    let confined = sandbox.enter();
    if !confined.missing.is_empty() {
        warn!(
            missing = confined.missing.join("; "),
            "this worker is not wholly confined"
        );
    }
    let inbox = listen(Arc::clone(&channel))?;
    let Some(mut engine) = set_up(&channel, *recipe, &plugin, &confined)? else {
        return Ok(ExitCode::from(daemon::exit::SETTINGS));
    };
    while let Ok((message, files)) = inbox.recv() {
        let ToWorker::Job(job) = message else {
            anyhow::bail!("a second set-up came");
        };
        let plugin_failed = work(&channel, &mut engine, &job, files)?;
        if plugin_failed {
            // A plugin that failed once is not trusted with another video in the same memory.
            return Ok(ExitCode::from(daemon::exit::FAILED));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads the plugin; `None` when it is unfit, which was told.
fn set_up(
    channel: &Channel,
    recipe: Recipe,
    plugin: &PluginChoice,
    confined: &Confined,
) -> anyhow::Result<Option<Engine>> {
    let loaded = Hider::load(plugin, TRIAL_FRAMES).and_then(|(hider, mut facts, trial)| {
        facts.sandbox = confined.to_string();
        info!(plugin = facts.name, version = facts.version, load = ?trial.load, frame = ?trial.later_frames, "plugin loaded and tried");
        Engine::new(recipe, hider, facts)
    });
    match loaded {
        Ok(engine) => {
            let ready = FromWorker::Ready(Box::new(engine.plugin().clone()));
            channel.send(&ready, &[]).context("answer the dispatcher")?;
            Ok(Some(engine))
        }
        Err(unfit) => {
            let message = FromWorker::Unfit {
                reason: unfit.reason,
            };
            channel
                .send(&message, &[])
                .context("answer the dispatcher")?;
            Ok(None)
        }
    }
}

/// Does one job and reports; says whether the plugin failed.
fn work(
    channel: &Channel,
    engine: &mut Engine,
    job: &VideoJob,
    files: Vec<OwnedFd>,
) -> anyhow::Result<bool> {
    let mut files = files.into_iter().map(File::from);
    let (Some(raw), Some(output)) = (files.next(), files.next()) else {
        anyhow::bail!("a job came without its files");
    };
    let mut last_sent: Option<Instant> = None;
    let mut report_progress = |progress: Progress| {
        if last_sent.is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL) {
            last_sent = Some(Instant::now());
            // When the dispatcher is gone, the listening thread ends this process.
            channel.send(&FromWorker::Progress(progress), &[]).ok();
        }
    };
    let outcome = engine.run(job, raw, output, &mut report_progress);
    let plugin_failed = matches!(outcome, Err(Failure::Plugin { .. }));
    let message = match outcome {
        Ok(report) => FromWorker::Done(Box::new(report)),
        Err(failure) => FromWorker::Failed(failure),
    };
    channel
        .send(&message, &[])
        .context("report the job's end")?;
    Ok(plugin_failed)
}

/// Reads messages in a thread of its own, so that the end of the dispatcher is noticed at once,
/// whatever the plugin is doing.
fn listen(channel: Arc<Channel>) -> anyhow::Result<Receiver<(ToWorker, Vec<OwnedFd>)>> {
    let (sender, inbox) = mpsc::channel();
    std::thread::Builder::new()
        .name("listen".to_owned())
        .spawn(move || {
            loop {
                match channel.receive::<ToWorker>() {
                    Ok(Some(message)) => {
                        if sender.send(message).is_err() {
                            // The worker has come to its end by itself.
                            return;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(None) | Err(_) => die(),
                }
            }
        })
        .context("start the listening thread")?;
    Ok(inbox)
}

/// Ends this process and, if it leads a group, whatever the plugin started in it.
#[expect(
    clippy::exit,
    reason = "the dispatcher is gone; nobody is left to unwind for"
)]
fn die() -> ! {
    let own = rustix::process::getpid();
    if rustix::process::getpgrp() == own {
        rustix::process::kill_process_group(own, Signal::KILL).ok();
    }
    std::process::exit(i32::from(daemon::exit::FAILED))
}

/// A core file would hold unblurred footage.
fn forbid_core_dumps() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // It cannot be refused: lowering is always allowed.
    rustix::process::setrlimit(Resource::Core, none).ok();
}
