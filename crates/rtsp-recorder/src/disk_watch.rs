//! When the disk is looked at, and what all sources and the status are told of it.
//!
//! Two looks, each in its own rhythm. The floor of free space is one question to the file system that is recorded to, and must
//! be answered in time. What all videos take, and what may go for it, means to walk all directories: it takes the longer the more
//! videos there are, and for ever where one of them lies on a share that hangs.

use crate::disk::{DiskKeeper, DiskReport, Floor};
use crate::finisher::FinisherHandle;
use daemon::disk::Moment;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Shortest time between two looks of a kind.
const INTERVAL: Duration = Duration::from_secs(5);

/// Walking takes at most this part of the time.
const PART_FOR_WALKING: u32 = 50;

/// What is known of the disk, for those who record and for the status.
#[derive(Debug, Clone, Default)]
pub struct DiskWatch {
    /// Recording must wait.
    pub is_full: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Less is free than the floor; with what to say of it.
    short: Option<String>,
    /// What the last walk found.
    walked: DiskReport,
    /// Both together.
    report: DiskReport,
}

impl DiskWatch {
    /// What a person should know.
    pub fn report(&self) -> DiskReport {
        self.lock().report.clone()
    }

    /// Looks until the task is aborted.
    pub async fn run(self, keeper: DiskKeeper, finisher: FinisherHandle) {
        let floor = keeper.floor().clone();
        tokio::join!(self.watch_floor(floor), self.walk(keeper, finisher));
    }

    async fn watch_floor(&self, floor: Floor) {
        loop {
            let (floor, was_short) = (floor.clone(), self.lock().short.is_some());
            match blocking(move || floor.alarm(was_short)).await {
                Some(Ok(short)) => self.change(|state| state.short = short),
                Some(Err(error)) => warn!(%error, "cannot tell how full the disk is"),
                None => return,
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    async fn walk(&self, mut keeper: DiskKeeper, finisher: FinisherHandle) {
        loop {
            let (began, queue) = (Instant::now(), finisher.clone());
            let walked = blocking(move || {
                let walked = keeper.look(queue.queue(), Moment::now());
                (keeper, walked)
            });
            let Some((back, walked)) = walked.await else {
                return;
            };
            keeper = back;
            match walked {
                Ok(walked) => self.change(|state| state.walked = walked),
                Err(error) => warn!(%error, "cannot tell how much the videos take"),
            }
            tokio::time::sleep(INTERVAL.max(began.elapsed() * PART_FOR_WALKING)).await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let mut report = state.walked.clone();
        if let Some(alarm) = &state.short {
            report.is_full = true;
            report.alarms.insert(0, alarm.clone());
        }
        report.status.recording_waits = report.is_full;
        let before = &state.report;
        if report.alarms.len() != before.alarms.len() || report.is_full != before.is_full {
            report.alarms.iter().for_each(|alarm| warn!("{alarm}"));
            if report.alarms.is_empty() {
                info!("the disk has room again");
            }
        }
        self.is_full.store(report.is_full, Ordering::Relaxed);
        state.report = report;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// None when it panicked, which is in the log, or the program ends.
async fn blocking<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(look).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_told_also_while_nobody_can_walk() {
        let watch = DiskWatch::default();
        let is_full = || watch.is_full.load(Ordering::Relaxed);
        watch.change(|state| state.short = Some("less than 2 GB free".to_owned()));
        assert!(is_full());
        let report = watch.report();
        assert_eq!(report.alarms, ["less than 2 GB free"]);
        assert!(report.status.recording_waits);
        watch.change(|state| state.walked.alarms.push("over budget".to_owned()));
        assert_eq!(watch.report().alarms.len(), 2);
        watch.change(|state| state.short = None);
        assert!(!is_full());
        assert_eq!(watch.report().alarms, ["over budget"]);
        watch.change(|state| state.walked.is_full = true);
        assert!(is_full() && watch.report().status.recording_waits);
    }
}
