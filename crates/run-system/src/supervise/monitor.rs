//! Reports how everything is: at intervals in the log, and in the status file of run-system.

use super::SystemStatus;
use super::unit::{Phase, UnitState};
use crate::report::{Gatherer, QueueReport, Report};
use crate::setup::Setup;
use daemon::{StatusFile, status};
use jiff::Timestamp;
use std::collections::BTreeSet;

pub(super) struct Monitor {
    gatherer: Gatherer,
    /// Whether more than alarms is logged.
    logs_state: bool,
    file: StatusFile,
    started: Timestamp,
    /// Alarms that stand; each is logged when it comes and when it goes.
    alarms: BTreeSet<String>,
    write_failed: bool,
}

impl Monitor {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            gatherer: Gatherer::new(setup),
            logs_state: setup.monitoring.enabled,
            file: StatusFile::new(&setup.places.status_dir, status::SYSTEM),
            started: Timestamp::now(),
            alarms: BTreeSet::new(),
            write_failed: false,
        }
    }

    /// Logs how everything is.
    pub(super) fn report(&mut self, states: &[UnitState]) {
        let report = self.gatherer.gather(states);
        if self.logs_state {
            report
                .lines()
                .iter()
                .for_each(|line| tracing::info!("{line}"));
        }
        self.log_alarms(&report);
    }

    fn log_alarms(&mut self, report: &Report) {
        let now: BTreeSet<String> = report.alarms.iter().cloned().collect();
        now.difference(&self.alarms)
            .for_each(|alarm| tracing::warn!("alarm: {alarm}"));
        self.alarms
            .difference(&now)
            .for_each(|alarm| tracing::info!("no longer: {alarm}"));
        self.alarms = now;
    }

    pub(super) fn write_status(&mut self, states: &[UnitState]) {
        let status = SystemStatus {
            pid: std::process::id(),
            started: self.started,
            updated: Timestamp::now(),
            units: states.to_vec(),
        };
        let written = self.file.write(&status);
        if let Err(error) = &written
            && !self.write_failed
        {
            tracing::error!(%error, "status file cannot be written");
        }
        self.write_failed = written.is_err();
    }

    /// Whether nothing is left to do: the recorder has finished for good and so has the processor, or
    /// its queue is empty.
    pub(super) fn is_all_done(&mut self, states: &[UnitState]) -> bool {
        let finished = |state: &&UnitState| state.phase == Phase::Finished;
        let mut processor_done =
            || match states.iter().find(|state| state.name == status::PROCESSOR) {
                Some(state) => {
                    finished(&state)
                        || self
                            .gatherer
                            .queue()
                            .is_ok_and(|queue| QueueReport::is_empty(&queue))
                }
                None => true,
            };
        match states.iter().find(|state| state.name == status::RECORDER) {
            Some(state) => finished(&state) && processor_done(),
            None => states.iter().all(|state| finished(&state)),
        }
    }
}
