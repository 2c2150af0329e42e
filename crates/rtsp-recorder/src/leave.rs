//! When a session is left though the source is well: shutdown, schedule, turns; and what all sources share for it.

use crate::hosts::Hosts;
use crate::slots::Slots;
use daemon::{Clock, Shutdown};
use jiff::tz::TimeZone;
use settings::Schedule;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The wall clock may be set while a schedule is waited for; it is looked at this often.
const SCHEDULE_CHECK: Duration = Duration::from_secs(30);

/// What all sources share.
#[derive(Clone)]
pub struct Shared {
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// Zone of schedules and of the alignment of segments.
    pub zone: TimeZone,
    /// The wish to stop.
    pub shutdown: Shutdown,
    /// `max_concurrent_recordings`.
    pub slots: Slots,
    /// Connection attempts per host.
    pub hosts: Hosts,
    /// Set while the disk has no room.
    pub disk_full: Arc<AtomicBool>,
    /// First wait before reconnecting.
    pub reconnect_interval: Duration,
}

/// Why a session ended without a fault of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The recorder stops.
    Shutdown,
    /// The recording schedule closed.
    ScheduleClosed,
    /// Another source waits for the slot.
    TurnOver,
    /// The source's limit is reached.
    LimitReached,
}

impl Leave {
    /// In words, for the record of gaps.
    pub fn reason(self) -> &'static str {
        match self {
            Leave::Shutdown => "the recorder was stopped",
            Leave::ScheduleClosed => "outside of the recording schedule",
            Leave::TurnOver => "another source had its turn (max_concurrent_recordings)",
            Leave::LimitReached => "its limit was reached",
        }
    }
}

/// Resolves when the recorder stops or the schedule closes.
pub async fn leave(shared: Shared, schedule: Option<Schedule>) -> Leave {
    let closed = async {
        match &schedule {
            Some(schedule) => until_schedule(schedule, false, &shared).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = shared.shutdown.requested() => Leave::Shutdown,
        () = closed => Leave::ScheduleClosed,
    }
}

/// Resolves when the session had its turn and another source waits for the slot.
pub async fn turn_over(slots: Slots, segment: Duration) {
    tokio::time::sleep(segment).await;
    slots.wanted().await;
}

/// Waits until the schedule is open (or closed). The wall clock may be set meanwhile, so it is asked again.
pub async fn until_schedule(schedule: &Schedule, open: bool, shared: &Shared) {
    loop {
        let now = shared.clock.now();
        if schedule.is_open(now, &shared.zone) == open {
            return;
        }
        let change = schedule.next_change(now, &shared.zone);
        let wait = change
            .and_then(|at| Duration::try_from(at.duration_since(now)).ok())
            .unwrap_or(SCHEDULE_CHECK);
        shared.clock.sleep(wait.min(SCHEDULE_CHECK)).await;
    }
}
