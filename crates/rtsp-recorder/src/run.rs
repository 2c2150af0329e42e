//! The whole recorder: recovery, one task per source, disk and status, and an orderly end.

use crate::board::Board;
use crate::disk::{DiskKeeper, DiskReport};
use crate::disk_watch::DiskWatch;
use crate::finisher::{Finisher, FinisherHandle, Origin};
use crate::guard::{self, Watched};
use crate::hosts::Hosts;
use crate::input::Stamps;
use crate::leave::Shared;
use crate::ledger::Ledger;
use crate::opener::Opener;
use crate::outage::Event;
use crate::recover::{self, Earlier};
use crate::slots::Slots;
use crate::source::{SourceEnd, SourceTask};
use crate::writer::{Feeder, WriterSetup};
use anyhow::Context as _;
use daemon::place::{self, unusable};
use daemon::status::{RECORDER, RecorderStatus, lock_file};
use daemon::{Clock, Shutdown, Singleton, StatusFile, SystemClock};
use jiff::tz::TimeZone;
use settings::{RecorderSettings, SourceName};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ticket_queue::durable::create_dir_all_durable;
use ticket_queue::{DirectoryQueue, Options};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tracing::{error, info, warn};

/// How often it is looked whether a source is down.
const OUTAGE_INTERVAL: Duration = Duration::from_secs(1);

/// How the recorder ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop.
    Stopped,
    /// All sources reached their limits.
    Finished,
}

/// Records until all limits are reached or `shutdown` is requested. Every segment that was open is then finished and
/// has its ticket.
///
/// # Errors
/// It could not begin (a lock, a directory), the disk can no longer be trusted, or a part of it died.
pub async fn run(settings: RecorderSettings, shutdown: Shutdown) -> anyhow::Result<End> {
    let lock = lock_file(&settings.places.status_dir, RECORDER);
    let _singleton = Singleton::acquire(&lock)?;
    media::init();
    // What `guard` sees is what is held.
    media::give_back_freed_memory();
    let recorder = Recorder::prepare(settings, shutdown)?;
    recorder.run().await
}

/// The tasks of the sources, and which is whose.
#[derive(Default)]
struct Tasks {
    set: JoinSet<(SourceEnd, Feeder)>,
    names: HashMap<tokio::task::Id, SourceName>,
}

struct Recorder {
    settings: Arc<RecorderSettings>,
    clock: Arc<dyn Clock>,
    zone: TimeZone,
    shutdown: Shutdown,
    boards: Vec<Arc<Board>>,
    finisher: Finisher,
    disk: DiskWatch,
    ledger: Ledger,
    fatal: Arc<AtomicBool>,
    /// What an earlier process tells of each source.
    earlier: HashMap<String, Earlier>,
}

impl Recorder {
    fn prepare(settings: RecorderSettings, shutdown: Shutdown) -> anyhow::Result<Self> {
        create_dir_all_durable(&settings.output_dir)
            .map_err(|error| unusable("output_dir", error))?;
        create_dir_all_durable(&settings.places.log_dir)
            .map_err(|error| unusable("log_dir", error))?;
        let queue = DirectoryQueue::open(&settings.queue_dir, Options::default())
            .map_err(|error| unusable("queue_dir", error))?;
        let fatal = Arc::new(AtomicBool::new(false));
        let (stop, is_fatal) = (shutdown.clone(), fatal.clone());
        let finisher = Finisher::start(queue, move || {
            is_fatal.store(true, Ordering::Relaxed);
            stop.request();
        })
        .context("start the finishing threads")?;
        let found = recover::look(&settings.output_dir);
        let earlier = recover::earlier(&found, &settings.places.status_dir);
        let boards = settings
            .sources
            .iter()
            .map(|source| {
                let earlier = earlier.get(source.name.as_str());
                Arc::new(Board::new(source, earlier.map(|it| it.last_frame)))
            })
            .collect();
        let recorder = Recorder {
            ledger: Ledger::new(&settings.places.log_dir),
            settings: Arc::new(settings),
            clock: Arc::new(SystemClock::new()),
            zone: TimeZone::system(),
            shutdown,
            boards,
            finisher,
            disk: DiskWatch::default(),
            fatal,
            earlier,
        };
        recorder.recover(found)?;
        Ok(recorder)
    }

    /// Hands segments of an earlier run over to be finished. Asking the queue about each of them takes time when
    /// there are many; that is done beside recording.
    fn recover(&self, found: recover::Found) -> anyhow::Result<()> {
        let names = self
            .settings
            .sources
            .iter()
            .map(|source| source.name.as_str());
        let sources: Vec<Origin> = names.map(|name| self.origin(name)).collect();
        let (zone, handle) = (self.zone.clone(), self.finisher.handle());
        let ledger = self.ledger.clone();
        std::thread::Builder::new()
            .name("recover".to_owned())
            .spawn(move || recover::hand_over(found, &handle, &zone, &sources, &ledger))
            .context("start the recovery")?;
        Ok(())
    }

    /// The source of that name, as tickets name it.
    fn origin(&self, name: &str) -> Origin {
        let mut sources = self.settings.sources.iter().zip(&self.boards);
        let found = sources.find(|(source, _)| source.name.as_str() == name);
        found.map_or_else(
            || Origin::unknown(name),
            |(source, board)| Origin {
                url: source.url.without_credentials(),
                name: name.to_owned(),
                index: i64::try_from(source.index).unwrap_or(-1),
                board: Some(board.clone()),
            },
        )
    }

    async fn run(self) -> anyhow::Result<End> {
        let status = StatusFile::new(&self.settings.places.status_dir, RECORDER);
        let begun = self.clock.now();
        self.warn_of_rotation();
        let mut tasks = self.start_sources()?;
        let recorded = Arc::new(Notify::new());
        let reporter = tokio::spawn(report(Reporter {
            settings: self.settings.clone(),
            boards: self.boards.clone(),
            clock: self.clock.clone(),
            status: status.clone(),
            begun,
            disk: self.disk.clone(),
            finisher: self.finisher.handle(),
            shutdown: self.shutdown.clone(),
            recorded: recorded.clone(),
        }));
        let keeper = DiskKeeper::new(&self.settings);
        let keeper = tokio::spawn(self.disk.clone().run(keeper, self.finisher.handle()));
        let watcher = tokio::spawn(watch_outages(
            self.boards.clone(),
            self.clock.clone(),
            self.settings.camera_down_after,
        ));
        let sources = self.settings.sources.iter().zip(&self.boards);
        let watched = sources.map(|(source, board)| Watched {
            url: source.url.clone(),
            board: board.clone(),
        });
        guard::start(watched.collect()).context("start the guard against hostile servers")?;
        let end = self.wait_for(&mut tasks).await;
        watcher.abort();
        recorded.notify_one();
        keeper.abort();
        info!(
            segments = self.finisher.handle().backlog(),
            "finishing the last segments"
        );
        let finisher = self.finisher;
        tokio::task::spawn_blocking(move || finisher.close())
            .await
            .context("finish the last segments")?;
        // What it still writes must not come after the last word. If it panicked, that is in the log.
        reporter.await.ok();
        let sources = self
            .boards
            .iter()
            .map(|board| board.snapshot(self.clock.monotonic()))
            .collect();
        let state = if end == End::Finished {
            "finished"
        } else {
            "stopped"
        };
        let last = status_of(
            begun,
            self.clock.now(),
            state,
            sources,
            DiskReport::default(),
        );
        write_status(&status, last).await;
        if self.fatal.load(Ordering::Relaxed) {
            anyhow::bail!(
                "the disk can no longer be trusted, or a part of the recorder died; see the log"
            );
        }
        Ok(end)
    }

    fn warn_of_rotation(&self) {
        let (sources, slots) = (
            self.settings.sources.len(),
            self.settings.max_concurrent_recordings,
        );
        if sources > slots {
            warn!(
                sources,
                max_concurrent_recordings = slots,
                "more sources than may be recorded at once: they take turns, each is recorded part of the time only"
            );
        }
    }

    fn start_sources(&self) -> anyhow::Result<Tasks> {
        let shared = Shared {
            clock: self.clock.clone(),
            zone: self.zone.clone(),
            shutdown: self.shutdown.clone(),
            slots: Slots::new(self.settings.max_concurrent_recordings),
            hosts: Hosts::default(),
            disk_full: self.disk.is_full.clone(),
            reconnect_interval: self.settings.reconnect_interval,
        };
        let mut tasks = Tasks::default();
        for (source, board) in self.settings.sources.iter().zip(&self.boards) {
            let source = Arc::new(source.clone());
            let feeder = Feeder::start(WriterSetup {
                name: source.name.clone(),
                origin: self.origin(source.name.as_str()),
                dir: self.settings.output_dir.join(source.name.as_str()),
                extension: self.settings.container.extension(),
                zone: self.zone.clone(),
                finisher: self.finisher.handle(),
                board: board.clone(),
                ledger: self.ledger.clone(),
            })
            .with_context(|| format!("start the writer of {}", source.name))?;
            let opener = Opener::new(source.clone(), Stamps(self.clock.clone()));
            let earlier = self.earlier.get(source.name.as_str()).cloned();
            let earlier = earlier.filter(|_| opener.is_live());
            let (shared, board) = (shared.clone(), board.clone());
            let name = source.name.clone();
            let task = SourceTask::new(source, shared, board, opener, feeder, earlier);
            let id = tasks.set.spawn(task.run()).id();
            tasks.names.insert(id, name);
        }
        Ok(tasks)
    }

    /// Waits until every source has ended and all its packets are written.
    async fn wait_for(&self, tasks: &mut Tasks) -> End {
        let mut end = End::Finished;
        let mut writers = JoinSet::new();
        while let Some(result) = tasks.set.join_next().await {
            match result {
                Ok((source_end, feeder)) => {
                    if source_end == SourceEnd::Stopped {
                        end = End::Stopped;
                    }
                    writers.spawn_blocking(move || feeder.close());
                }
                Err(error) => {
                    let source = tasks.names.get(&error.id()).map(SourceName::as_str);
                    error!(source, %error, "a source died; stopping, so that all of them begin anew");
                    self.fatal.store(true, Ordering::Relaxed);
                    self.shutdown.request();
                }
            }
        }
        while writers.join_next().await.is_some() {}
        end
    }
}

struct Reporter {
    settings: Arc<RecorderSettings>,
    boards: Vec<Arc<Board>>,
    clock: Arc<dyn Clock>,
    status: StatusFile,
    begun: jiff::Timestamp,
    disk: DiskWatch,
    finisher: FinisherHandle,
    shutdown: Shutdown,
    /// Told when there is nothing more to report.
    recorded: Arc<Notify>,
}

/// Writes the status file and a line in the log, every interval; while the disk still has the last one, nothing.
async fn report(reporter: Reporter) {
    let monitoring = reporter.settings.monitoring;
    let mut ticks = tokio::time::interval(monitoring.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = reporter.recorded.notified() => return,
        }
        let now = reporter.clock.monotonic();
        let sources: Vec<_> = reporter
            .boards
            .iter()
            .map(|board| board.snapshot(now))
            .collect();
        let recording = sources
            .iter()
            .filter(|source| source.state == "recording")
            .count();
        let megabits = sources.iter().map(|source| source.bitrate_bps).sum::<u64>() as f64 / 1e6;
        let disk = reporter.disk.report();
        if monitoring.enabled {
            info!(
                recording,
                sources = sources.len(),
                megabits_per_second = format!("{megabits:.1}"),
                unfinished = reporter.finisher.backlog(),
                "state"
            );
        }
        let state = if reporter.shutdown.is_requested() {
            "stopping"
        } else {
            "running"
        };
        let status = status_of(reporter.begun, reporter.clock.now(), state, sources, disk);
        write_status(&reporter.status, status).await;
    }
}

fn status_of(
    started: jiff::Timestamp,
    updated: jiff::Timestamp,
    state: &str,
    sources: Vec<daemon::status::SourceStatus>,
    disk: DiskReport,
) -> RecorderStatus {
    RecorderStatus {
        pid: std::process::id(),
        started,
        updated,
        state: state.to_owned(),
        sources,
        disk: (disk != DiskReport::default()).then_some(disk.status),
        alarms: disk.alarms,
    }
}

/// Off the thread that all sources share: a disk that hangs would keep them from their frames.
async fn write_status(file: &StatusFile, status: RecorderStatus) {
    let file = file.clone();
    let written = tokio::task::spawn_blocking(move || file.write(&status)).await;
    if let Err(error) = written.unwrap_or_else(|died| Err(died.into())) {
        warn!(%error, "the status file could not be written");
    }
}

/// Says once when a source goes down, and once when it is back.
async fn watch_outages(boards: Vec<Arc<Board>>, clock: Arc<dyn Clock>, after: Duration) {
    let mut ticks = tokio::time::interval(OUTAGE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for board in &boards {
            match board.look_for_outage(clock.monotonic(), clock.now(), after) {
                Some(Event::Down { silent, why }) => {
                    error!(
                        source = board.name(),
                        silent_seconds = silent.as_secs(),
                        why,
                        "camera is down"
                    );
                }
                Some(Event::Up { silent }) => {
                    warn!(
                        source = board.name(),
                        silent_seconds = silent.as_secs(),
                        "camera is up again"
                    );
                }
                None => {}
            }
        }
    }
}

/// Tells which places of the settings cannot be used; true when all can. Looking changes nothing.
pub fn are_places_usable(settings: &RecorderSettings) -> bool {
    let places = [
        ("output_dir", &settings.output_dir),
        ("queue_dir", &settings.queue_dir),
        ("log_dir", &settings.places.log_dir),
        ("status_dir", &settings.places.status_dir),
    ];
    place::all_usable(
        "rtsp-recorder",
        places.map(|(key, dir)| (key, dir.as_path())),
    )
}
