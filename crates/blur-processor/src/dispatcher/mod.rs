//! The daemon: claims tickets, has workers do them, publishes, and keeps going.
//!
//! One task per worker slot runs the same loop: a ready worker first, then a ticket, so that no
//! ticket is claimed that nobody can do. Tickets of dead owners are reaped by a task of their own.
//! File-system notifications only shorten the wait; polling is what finds tickets.
//! The lock of a claimed ticket stays in this process; workers get the two files of a job.
//! May touch: everything the settings name; it decodes nothing and loads no plugin.

mod before;
mod health;
mod janitor;
pub(crate) mod memory;
mod original;
mod slot;
mod status;
mod ticket;
mod wake;
mod worker_process;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use daemon::Shutdown;
use daemon::disk::Moment;
use daemon::logs::OncePerMinute;
use settings::{BlurSettings, keys};
use ticket_queue::{Failure, Queue as _, Reaped, Stem};
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use crate::pipeline::Recipe;
use crate::plugin::PluginChoice;
use crate::sandbox::{Profile, Sandbox};
use janitor::Janitor;
use status::Board;
use ticket::{Next, Places, Settled};
use worker_process::{Limits, Setup, StartError, WorkerProcess};

/// After a request to stop, videos under way may take this long; then their tickets go back.
const DRAIN: Duration = Duration::from_secs(20);
/// Tickets wait for so long for a disk of originals that is not mounted.
const MOUNT_PATIENCE: Duration = Duration::from_secs(3600);

/// How long the daemon runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// It is asked to stop.
    Asked,
    /// Nothing is left that it could do, or it is asked to stop.
    Empty,
}

/// How the daemon ended.
#[derive(Debug)]
pub enum Ended {
    /// As asked.
    Stopped,
    /// Plugin or model cannot be used; a person must act.
    Unfit(String),
    /// Something broke; a restart may help.
    Failed(anyhow::Error),
}

/// Something that is tried again and again, and whether it fails now.
#[derive(Debug, Default)]
struct Repeated {
    failing: Option<String>,
    limit: OncePerMinute,
}

/// What the tasks share.
#[derive(Debug)]
struct Shared {
    began: Instant,
    settings: BlurSettings,
    places: Places,
    setup: Setup,
    limits: Limits,
    shutdown: Shutdown,
    /// True: workers are killed and their tickets released.
    drop_work: watch::Sender<bool>,
    /// Rings when a ticket may have come.
    wake: Notify,
    board: Board,
    /// Tickets in `active/` that could not be taken over when last tried, and why.
    stuck: Mutex<BTreeMap<Stem, String>>,
    claiming: Mutex<Repeated>,
    reaping: Mutex<Repeated>,
    /// Why the program must stop, if it must.
    broken: watch::Sender<Option<String>>,
}

/// Runs until `shutdown` asks to stop, or as `until` says. Status goes into the file of the name
/// `status_name`.
pub async fn run(
    settings: BlurSettings,
    status_name: &str,
    shutdown: Shutdown,
    until: Until,
) -> Ended {
    let shared = match Shared::new(settings, status_name, shutdown, until) {
        Ok(shared) => Arc::new(shared),
        Err(Start::Unfit(reason)) => return Ended::Unfit(reason),
        Err(Start::Failed(error)) => return Ended::Failed(error),
    };
    info!(queue = %shared.settings.queue_dir.display(), "trying the plugin");
    let started = tokio::select! {
        started = WorkerProcess::start(0, &shared.setup) => started,
        () = shared.shutdown.requested() => return Ended::Stopped,
    };
    let first = match started {
        Ok(worker) => worker,
        Err(StartError::Unfit(reason)) => return Ended::Unfit(reason),
        Err(StartError::Failed(reason)) => return Ended::Failed(anyhow::anyhow!(reason)),
    };
    let facts = first.facts();
    info!(
        plugin = facts.name,
        version = facts.version,
        kind = facts.kind,
        workers = shared.settings.max_concurrent_processes,
        "blur processor runs"
    );
    if shared.setup.sandbox.profile == Profile::Off {
        warn!(
            "the sandbox is off: plugins, and videos that attack a decoder, can do all that this user can"
        );
    }
    shared.warn_of_zones();
    shared.reap().await;
    shared.work(first, until).await;
    shared.board.write("stopped", None);
    shared.board.retire();
    match shared.broken.borrow().clone() {
        None => Ended::Stopped,
        Some(reason) => Ended::Failed(anyhow::anyhow!(reason)),
    }
}

enum Start {
    Unfit(String),
    Failed(anyhow::Error),
}

impl Shared {
    fn new(
        settings: BlurSettings,
        status_name: &str,
        shutdown: Shutdown,
        until: Until,
    ) -> Result<Self, Start> {
        let plugin =
            PluginChoice::from_settings(&settings).map_err(|unfit| Start::Unfit(unfit.reason))?;
        // Who has it end by itself is not there to mount a disk.
        let patience = match until {
            Until::Asked => MOUNT_PATIENCE,
            Until::Empty => Duration::ZERO,
        };
        let places = Places::open(&settings, patience).map_err(Start::Failed)?;
        let slots = settings.max_concurrent_processes;
        Ok(Self {
            setup: Setup {
                recipe: Recipe::from_settings(&settings),
                sandbox: Sandbox::from_settings(&settings, &plugin),
                plugin,
            },
            limits: Limits {
                time: settings.process_timeout,
                stall: settings.stall_timeout,
                memory: settings.worker_memory_limit,
            },
            board: Board::new(&settings.places.status_dir, status_name, slots),
            drop_work: watch::channel(false).0,
            stuck: Mutex::default(),
            claiming: Mutex::default(),
            reaping: Mutex::default(),
            broken: watch::channel(None).0,
            wake: Notify::new(),
            began: Instant::now(),
            places,
            settings,
            shutdown,
        })
    }

    /// Zones under a mistyped name hide nothing. Which sources there are only the recorder knows; here it shows in their
    /// directories, once there are any.
    fn warn_of_zones(&self) {
        let dirs = [&self.settings.raw_dir, &self.settings.output_dir];
        let sources = daemon::place::sources_in(&dirs.map(|dir| dir.as_path()));
        let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
        if sources.is_empty() {
            return;
        }
        for name in self.settings.zones.of_others(&sources) {
            let hint = match keys::nearest(name, sources.iter().copied()) {
                Some(source) => format!("did you mean {source:?}?"),
                None => "write the name of the source as the recorder does".to_owned(),
            };
            warn!(
                "zones.{name}: there is no video of a source of that name, so nothing is hidden by these zones; {hint}"
            );
        }
    }

    /// All tasks until the end.
    async fn work(self: &Arc<Self>, first: WorkerProcess, until: Until) {
        let _watcher = wake::watch(self);
        let mut first = Some(first);
        let mut slots = tokio::task::JoinSet::new();
        for number in 0..self.settings.max_concurrent_processes {
            slots.spawn(slot::run(Arc::clone(self), number as u32, first.take()));
        }
        let reaper = tokio::spawn(Arc::clone(self).reap_always());
        let reporter = tokio::spawn(Arc::clone(self).report_always());
        let drain = tokio::spawn(Arc::clone(self).end_of_patience());
        let emptied = tokio::spawn(Arc::clone(self).stop_when_empty(until));
        let janitor = tokio::spawn(Arc::clone(self).tidy_always());
        while let Some(ended) = slots.join_next().await {
            if let Err(panic) = ended {
                self.must_stop(format!("a worker slot broke: {panic}"));
            }
        }
        for task in [reaper, reporter, drain, emptied, janitor] {
            task.abort();
        }
    }

    /// Asks everything to stop because the state of the disk, or our own, is unknown.
    fn must_stop(&self, reason: String) {
        error!(reason, "cannot go on");
        self.broken.send_replace(Some(reason));
        self.shutdown.request();
    }

    /// Tells of an error of the queue, and stops where nobody knows any more what is on the disk.
    fn queue_fails(&self, error: &ticket_queue::Error, what: &str) {
        match error.must_stop() {
            true => self.must_stop(format!("{what}: {}", original::chain(error))),
            false => warn!(error = original::chain(error), "{what}"),
        }
    }

    /// What came of a step that is tried with each poll: its errors are told once a minute, and stand in the status for as long
    /// as it fails.
    fn note_repeated<T>(
        &self,
        step: &Mutex<Repeated>,
        what: &str,
        result: Result<T, ticket_queue::Error>,
    ) -> Option<T> {
        let mut step = step.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(found) => {
                step.failing = None;
                Some(found)
            }
            Err(error) => {
                step.failing = Some(format!("{what}: {}", original::chain(&error)));
                let told = step.limit.allow(self.began.elapsed());
                if told.is_some() || error.must_stop() {
                    self.queue_fails(&error, what);
                }
                None
            }
        }
    }

    /// What keeps tickets waiting, for whoever looks after the machine.
    fn trouble(&self) -> Option<String> {
        let failing = |step: &Mutex<Repeated>| {
            let step = step.lock().unwrap_or_else(PoisonError::into_inner);
            step.failing.clone()
        };
        (self.places.alarm())
            .or_else(|| failing(&self.claiming))
            .or_else(|| failing(&self.reaping))
            .or_else(|| self.first_stuck())
    }

    fn stuck(&self) -> MutexGuard<'_, BTreeMap<Stem, String>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first of the tickets that nobody can take over.
    fn first_stuck(&self) -> Option<String> {
        let stuck = self.stuck();
        let (stem, why) = stuck.first_key_value()?;
        let others = match stuck.len() - 1 {
            0 => String::new(),
            others => format!(", and so with {others} more"),
        };
        Some(format!(
            "the owner of {stem} died, and it cannot be taken over: {why}{others}; see to its file in {}/active, which the user \
             of blur-processor must own",
            self.settings.queue_dir.display()
        ))
    }

    /// Drops work under way when asked twice, or when draining takes too long.
    async fn end_of_patience(self: Arc<Self>) {
        self.shutdown.requested().await;
        tokio::select! {
            () = self.shutdown.at_once() => {}
            () = tokio::time::sleep(DRAIN) => {
                warn!(seconds = DRAIN.as_secs(), "videos under way take too long; their tickets go back");
            }
        }
        self.drop_work.send_replace(true);
    }

    /// Keeps finished videos within the disk budget, and removes old receipts once a day.
    async fn tidy_always(self: Arc<Self>) {
        let janitor = Arc::new(Janitor::new(&self.settings));
        let mut pruned: Option<tokio::time::Instant> = None;
        loop {
            let prunes = pruned.is_none_or(|at| at.elapsed() >= janitor::PRUNE_INTERVAL);
            if prunes {
                pruned = Some(tokio::time::Instant::now());
            }
            let (shared, janitor) = (Arc::clone(&self), Arc::clone(&janitor));
            let tidied = tokio::task::spawn_blocking(move || {
                if prunes {
                    janitor.prune(&shared.places.queue);
                }
                janitor.tidy(&shared.places.queue, Moment::now())
            });
            match tidied.await {
                Ok(Some(room)) => self.board.set_room(room),
                Ok(None) => {}
                Err(panic) => error!(%panic, "the disk cannot be tidied"),
            }
            tokio::time::sleep(janitor::INTERVAL).await;
        }
    }

    /// With [`Until::Empty`]: asks to stop once no ticket is ready, in work or waiting to be tried
    /// again. Seen twice, since a ticket may change its place while they are counted.
    async fn stop_when_empty(self: Arc<Self>, until: Until) {
        let mut seen_empty = 0;
        while until == Until::Empty && seen_empty < 2 {
            tokio::time::sleep(self.settings.polling_interval).await;
            let shared = Arc::clone(&self);
            let stats = tokio::task::spawn_blocking(move || shared.places.queue.stats().ok());
            let empty = stats
                .await
                .ok()
                .flatten()
                .is_some_and(|stats| stats.ready + stats.active + stats.deferred == 0);
            seen_empty = if empty { seen_empty + 1 } else { 0 };
        }
        if until == Until::Empty {
            info!("the queue is empty");
            self.shutdown.request();
        }
    }

    async fn reap_always(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.settings.polling_interval.max(Duration::from_secs(1))).await;
            self.reap().await;
        }
    }

    /// Takes over tickets of owners that died: finishes what only needs finishing.
    async fn reap(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        let reaped = tokio::task::spawn_blocking(move || shared.reap_now()).await;
        if let Err(panic) = reaped {
            self.must_stop(format!("recovery broke: {panic}"));
        }
    }

    fn reap_now(&self) {
        let reaped = (self.places.queue).reap_with(&|lease| self.places.is_finishable(lease));
        let what = "the queue cannot be looked through";
        let Some(found) = self.note_repeated(&self.reaping, what, reaped) else {
            return;
        };
        // Finishing what is found can take long, and whoever reports wants to know of them meanwhile.
        let told = self.stuck().clone();
        let mut stuck = BTreeMap::new();
        for reaped in found {
            match reaped {
                Reaped::Finish(lease) => {
                    let stem = lease.stem().clone();
                    info!(ticket = %stem, "its owner died after publishing; finishing");
                    let settled = match self.places.prepare(*lease) {
                        Next::Settled(settled) => settled,
                        Next::Work(work) => {
                            let reason = "the published video is gone".to_owned();
                            self.places
                                .give_back(work.abandon(), Failure::Retry { reason })
                        }
                    };
                    self.note(&settled);
                }
                Reaped::Failed { stem, attempt, now } => {
                    warn!(ticket = %stem, attempt, ?now, "its owner died at work");
                }
                Reaped::Stuck {
                    stem,
                    attempt,
                    error,
                } => {
                    // It is met each second for as long as this lasts.
                    if error.must_stop() || !told.contains_key(&stem) {
                        self.queue_fails(
                            &error,
                            &format!("the owner of {stem}, attempt {attempt}, died, and it cannot be taken over"),
                        );
                    }
                    stuck.insert(stem, original::chain(&error));
                }
            }
        }
        *self.stuck() = stuck;
    }

    /// Counts how a ticket ended, and stops everything where it must.
    fn note(&self, settled: &Settled) {
        self.board.count(settled);
        if let Settled::Stop(reason) = settled {
            self.must_stop(reason.clone());
        }
    }

    async fn report_always(self: Arc<Self>) {
        let mut tick = tokio::time::interval(status::INTERVAL);
        let mut reported = tokio::time::Instant::now();
        loop {
            tick.tick().await;
            let shared = Arc::clone(&self);
            let stats = tokio::task::spawn_blocking(move || shared.places.queue.stats().ok());
            let stats = stats.await.ok().flatten();
            let state = if self.shutdown.is_requested() {
                "stopping"
            } else {
                "running"
            };
            self.board.set_trouble(self.trouble());
            self.board
                .write(state, stats.as_ref().map(|stats| (stats, &self.settings)));
            let monitoring = self.settings.monitoring;
            if monitoring.enabled && reported.elapsed() >= monitoring.interval {
                reported = tokio::time::Instant::now();
                self.board.log(stats.as_ref(), self.settings.max_queue_size);
            }
        }
    }
}
