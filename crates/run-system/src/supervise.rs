//! Keeps the daemons running, and stops them in the order in which the data flows.

mod monitor;
mod policy;
mod unit;

pub use policy::{History, Pause, Policy};
pub use unit::{Phase, UnitState};

use crate::setup::{Program, Setup};
use daemon::Shutdown;
use daemon::systemd::{self, News};
use jiff::Timestamp;
use monitor::Monitor;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use unit::Unit;

/// How often the status file of run-system is written.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);

/// What run-system tells about itself in `system.status.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemStatus {
    /// Process id of run-system.
    pub pid: u32,
    /// When it started.
    pub started: Timestamp,
    /// When this was written.
    pub updated: Timestamp,
    /// The daemons it looks after, in stop order.
    pub units: Vec<UnitState>,
}

/// One daemon and the task that looks after it.
struct Keeper {
    state: watch::Receiver<UnitState>,
    stop: Shutdown,
    task: JoinHandle<()>,
}

/// Runs until shutdown is requested, or until nothing is left to do, and stops everything then.
pub async fn run(setup: &Setup, policy: Policy, shutdown: Shutdown) {
    let mut keepers: Vec<Keeper> = setup
        .programs
        .iter()
        .map(|program| Keeper::start(program.clone(), policy))
        .collect();
    let mut monitor = Monitor::new(setup);
    monitor.write_status(&states(&keepers));
    let mut status = every(STATUS_INTERVAL.min(setup.monitoring.interval));
    let mut report = every(setup.monitoring.interval);
    tell(News::Ready);
    loop {
        tokio::select! {
            () = shutdown.requested() => break,
            _ = report.tick() => monitor.report(&states(&keepers)),
            _ = status.tick() => monitor.write_status(&states(&keepers)),
        }
        tell(News::Alive);
        if monitor.is_all_done(&states(&keepers)) {
            tracing::info!("recording is finished and everything is processed; stopping");
            break;
        }
    }
    tell(News::Stopping);
    for i in 0..keepers.len() {
        keepers[i].stop(&shutdown).await;
        monitor.write_status(&states(&keepers));
    }
    tracing::info!("everything is stopped");
}

/// Ticks after each such time, not at once.
fn every(time: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + time, time);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn tell(news: News) {
    if let Err(error) = systemd::tell(news) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}

fn states(keepers: &[Keeper]) -> Vec<UnitState> {
    keepers
        .iter()
        .map(|keeper| keeper.state.borrow().clone())
        .collect()
}

impl Keeper {
    fn start(program: Program, policy: Policy) -> Self {
        let stop = Shutdown::manual();
        let (unit, state) = Unit::new(program, policy, stop.clone());
        Self {
            state,
            stop,
            task: tokio::spawn(unit.run()),
        }
    }

    async fn stop(&mut self, shutdown: &Shutdown) {
        self.stop.request();
        tokio::select! {
            _ = &mut self.task => return,
            () = shutdown.at_once() => self.stop.request_at_once(),
        }
        // A task that panicked has nothing left to stop.
        (&mut self.task).await.ok();
    }
}
