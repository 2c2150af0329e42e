//! Gathers a [`Report`].

use super::{
    DirectoryReport, DiskReport, HeldBack, Outlook, ProcessReport, QueueReport, Report, Throughput,
};
use crate::notify::{self, HookStatus};
use crate::processes::Processes;
use crate::setup::{Program, Setup};
use crate::supervise::{Phase, SystemStatus, UnitState};
use daemon::lock::{self, Holder};
use daemon::status::{self, ProcessorStatus, RecorderStatus, SourceStatus};
use jiff::Timestamp;
use std::path::Path;
use std::time::{Duration, Instant};
use ticket_queue::{DirectoryQueue, Entry, Options, Queue, State, Stats, Ticket};

/// A daemon that runs and has not written its status for so long does not seem to work.
const SILENCE_S: i64 = 60;
/// Time over which processor time is measured for a single report.
const SAMPLE: Duration = Duration::from_millis(300);
/// Listing all tickets is no work for every second.
const LISTING_HOLDS: Duration = Duration::from_secs(10);
/// So many waiting tickets tell how long one is.
const TICKETS_READ: usize = 50;
/// The state of a source whose frames the disk does not take.
const DROPPING: &str = "disk_full";
/// So many of those that were given up are shown.
const HELD_BACK_SHOWN: usize = 5;

/// Gathers reports. Processor time is measured from one to the next.
pub struct Gatherer {
    setup: Setup,
    processes: Processes,
    /// Opened once it is there: opening makes directories and syncs them.
    queue: Option<DirectoryQueue>,
    listing: Option<Listing>,
}

/// What only a look at the single tickets tells.
struct Listing {
    /// As they were then.
    stats: Stats,
    time: Instant,
    /// Mean length of waiting videos in seconds; none when nothing waits.
    seconds_each: Option<f64>,
    held_back: Vec<HeldBack>,
}

/// What is known of a daemon from its lock.
struct Seen {
    runs: bool,
    pid: Option<u32>,
}

impl Gatherer {
    /// For that system. Processor time is measured from now on.
    pub fn new(setup: &Setup) -> Self {
        let mut processes = Processes::new();
        processes.refresh();
        Self {
            setup: setup.clone(),
            processes,
            queue: None,
            listing: None,
        }
    }

    /// A report from outside, with everything measured; takes a moment.
    pub fn gather_from_outside(&mut self) -> Report {
        std::thread::sleep(SAMPLE);
        let mut report = self.glance();
        if let Some(disk) = &mut report.disk {
            disk.used = self.measure();
        }
        report
    }

    /// A report from outside, without the sizes of the directories. Processor time is since the one before.
    pub fn glance(&mut self) -> Report {
        let dir = &self.setup.places.status_dir;
        let system_runs = seen(&status::lock_file(dir, status::SYSTEM)).runs;
        let told: SystemStatus =
            status::read(&status::file(dir, status::SYSTEM)).unwrap_or_default();
        self.gather_as(system_runs.then_some(&told))
    }

    /// What the directories with videos take; looks at every file.
    pub fn measure(&self) -> Vec<DirectoryReport> {
        let dirs = self.setup.video_dirs.iter();
        dirs.map(|(name, path)| measured(name, path)).collect()
    }

    /// A report by the run-system that looks after the daemons itself.
    pub fn gather(&mut self, units: &[UnitState]) -> Report {
        let own = SystemStatus {
            pid: std::process::id(),
            units: units.to_vec(),
            ..SystemStatus::default()
        };
        self.gather_as(Some(&own))
    }

    /// The tickets by state.
    ///
    /// # Errors
    /// When the queue is there but cannot be read.
    pub fn queue(&mut self) -> Result<QueueReport, ticket_queue::Error> {
        match self.stats()? {
            Some(stats) => Ok(self.counted(&stats)),
            None => Ok(QueueReport::default()),
        }
    }

    /// None as long as nobody made a queue.
    fn stats(&mut self) -> Result<Option<Stats>, ticket_queue::Error> {
        let queue = match &self.queue {
            Some(queue) => queue,
            None if !self.setup.queue_dir.exists() => return Ok(None),
            None => self.queue.insert(DirectoryQueue::open(
                &self.setup.queue_dir,
                Options::default(),
            )?),
        };
        queue.stats().map(Some)
    }

    /// Looks at the single tickets, if that was not done lately or if others were given up since.
    fn list(&mut self, stats: &Stats) -> Result<Option<&Listing>, ticket_queue::Error> {
        let holds = self.listing.as_ref().is_some_and(|known| {
            known.time.elapsed() < LISTING_HOLDS
                && (known.stats.failed, known.stats.corrupt) == (stats.failed, stats.corrupt)
        });
        if !holds && let Some(queue) = &self.queue {
            let entries = queue.list()?;
            self.listing = Some(Listing {
                stats: stats.clone(),
                time: Instant::now(),
                seconds_each: seconds_each(&entries),
                held_back: held_back(entries),
            });
        }
        Ok(self.listing.as_ref())
    }

    fn counted(&self, stats: &Stats) -> QueueReport {
        QueueReport {
            ready: stats.ready,
            active: stats.active,
            deferred: stats.deferred,
            failed: stats.failed,
            corrupt: stats.corrupt,
            done: stats.done,
            oldest_s: stats.oldest_age.map(|age| age.as_secs()),
            limit: self.setup.max_queue_size.map(|limit| limit as u64),
            footage_s: None,
            outlook: None,
        }
    }

    /// With what the single tickets tell.
    fn add_queue(&mut self, report: &mut Report) -> Result<(), ticket_queue::Error> {
        let Some(stats) = self.stats()? else {
            report.queue = Some(QueueReport::default());
            return Ok(());
        };
        let mut queue = self.counted(&stats);
        if let Some(listing) = self.list(&stats)? {
            report.held_back.clone_from(&listing.held_back);
            let waiting = queue.ready + queue.active + queue.deferred;
            let footage = listing.seconds_each.map(|each| each * waiting as f64);
            queue.footage_s = footage.map(|seconds| seconds as u64);
        }
        let recording = report.sources.iter().filter(|it| it.state == "recording");
        let recorded = recording.count() as f64;
        let done = report.throughput.as_ref().map(|it| it.realtime_factor);
        queue.outlook = done
            .zip(queue.footage_s)
            .and_then(|(done, footage)| Outlook::of(footage, done, recorded));
        report.queue = Some(queue);
        Ok(())
    }

    fn gather_as(&mut self, system: Option<&SystemStatus>) -> Report {
        self.processes.refresh();
        let mut alarms = Vec::new();
        let mut report = Report {
            time: Timestamp::now(),
            processes: vec![self.own_process(system)],
            sources: Vec::new(),
            workers: Vec::new(),
            throughput: None,
            queue: None,
            held_back: Vec::new(),
            disk: None,
            hooks: notify::status(&self.setup),
            alarms: Vec::new(),
        };
        let mut of_disk = ToldOfDisk::default();
        for program in &self.setup.programs {
            let unit = system
                .and_then(|system| system.units.iter().find(|unit| unit.name == program.name));
            let seen = seen(&program.lock_file());
            let told = match program.name {
                status::RECORDER => add_recorder(program, &seen, &mut report),
                _ => add_processor(program, &seen, &mut report),
            };
            of_disk = of_disk.or(told.disk);
            let trouble = told.silence.or_else(|| unit.and_then(unit_alarm));
            alarms.extend(trouble.clone());
            alarms.extend(told.alarms);
            report.processes.push(ProcessReport {
                trouble,
                ..self.process(program, &seen, unit)
            });
        }
        if let Err(error) = self.add_queue(&mut report) {
            alarms.push(format!("the queue cannot be read: {error}"));
        }
        alarms.extend(
            report
                .queue
                .iter()
                .flat_map(|queue| self.queue_alarms(queue)),
        );
        report.disk = self.disk(&report, of_disk, &mut alarms);
        alarms.extend(report.hooks.iter().filter_map(HookStatus::alarm));
        let uptime_s = report.processes.first().and_then(|own| own.uptime_s);
        alarms.extend(uptime_s.and_then(|uptime_s| notify::silence(&self.setup, uptime_s)));
        report.alarms = alarms;
        report
    }

    fn own_process(&self, system: Option<&SystemStatus>) -> ProcessReport {
        let pid = system.map(|system| system.pid);
        let usage = pid.and_then(|pid| self.processes.usage_alone(pid));
        ProcessReport {
            name: status::SYSTEM.to_owned(),
            state: if pid.is_some() {
                "running"
            } else {
                "not running"
            }
            .to_owned(),
            pid,
            uptime_s: pid.and_then(|pid| self.processes.uptime_s(pid)),
            restarts: None,
            last_exit: None,
            cpu_percent: usage.and_then(|usage| usage.cpu_percent),
            memory_bytes: usage.map(|usage| usage.memory_bytes),
            trouble: None,
        }
    }

    fn process(&self, program: &Program, seen: &Seen, unit: Option<&UnitState>) -> ProcessReport {
        let usage = seen.pid.and_then(|pid| self.processes.usage(pid));
        let state = match unit.map(|unit| unit.phase) {
            // The daemon has not taken its lock yet, or has just given it back.
            Some(phase) if seen.runs || !matches!(phase, Phase::Running | Phase::Adopted) => {
                phase_in_words(phase)
            }
            Some(_) => "starting",
            None if seen.runs => "running alone",
            None => "not running",
        };
        ProcessReport {
            name: program.name.to_owned(),
            state: state.to_owned(),
            pid: seen.pid,
            uptime_s: seen.pid.and_then(|pid| self.processes.uptime_s(pid)),
            restarts: unit.map(|unit| unit.restarts),
            last_exit: unit.and_then(|unit| unit.last_exit.clone()),
            cpu_percent: usage.and_then(|usage| usage.cpu_percent),
            memory_bytes: usage.map(|usage| usage.memory_bytes),
            trouble: None,
        }
    }

    fn queue_alarms(&self, queue: &QueueReport) -> Vec<String> {
        let mut alarms = Vec::new();
        if queue.is_long() {
            alarms.push(
                "the queue is longer than max_queue_size: the blur processor does not keep up"
                    .to_owned(),
            );
        }
        for (count, dir) in [(queue.failed, "failed"), (queue.corrupt, "corrupt")] {
            if count > 0 {
                let place = self.setup.queue_dir.join(dir);
                alarms.push(format!(
                    "tickets in {}: each has its reason in a file beside it; mend it, then `blur-processor retry --all`",
                    place.display()
                ));
            }
        }
        alarms
    }

    /// `told`: what the daemons say is wrong with it.
    fn disk(
        &self,
        report: &Report,
        told: ToldOfDisk,
        alarms: &mut Vec<String>,
    ) -> Option<DiskReport> {
        let (_, dir) = self.setup.video_dirs.first()?;
        let free_bytes = free_bytes(dir)?;
        let min_free_bytes = self.setup.disk.min_free_bytes;
        let is_short = free_bytes < min_free_bytes;
        let short =
            is_short.then(|| "less disk space is free than min_free_disk_gb asks for".to_owned());
        alarms.extend(short.clone());
        let bits: u64 = report.sources.iter().map(|source| source.bitrate_bps).sum();
        let room = free_bytes.saturating_sub(min_free_bytes) as f64;
        let hours_left = (bits > 0).then(|| room * 8.0 / bits as f64 / 3_600.0);
        Some(DiskReport {
            free_bytes,
            min_free_bytes,
            used: Vec::new(),
            hours_left,
            alarm: short.or(told.alarm).or(told.stops_recording.clone()),
            stops_recording: told.stops_recording,
            is_told: told.is_known == Some(true),
        })
    }
}

fn seen(lock_file: &Path) -> Seen {
    match lock::holder(lock_file) {
        Ok(Holder::Process(pid)) => Seen {
            runs: true,
            pid: Some(pid),
        },
        Ok(Holder::Unknown) => Seen {
            runs: true,
            pid: None,
        },
        Ok(Holder::Nobody) | Err(_) => Seen {
            runs: false,
            pid: None,
        },
    }
}

/// What a daemon tells that a person should know.
#[derive(Default)]
struct Told {
    alarms: Vec<String>,
    disk: ToldOfDisk,
    silence: Option<String>,
}

/// What a daemon tells of the disk.
#[derive(Default)]
struct ToldOfDisk {
    /// The first of the alarms that is about it.
    alarm: Option<String>,
    stops_recording: Option<String>,
    /// Whether it says how the disk is; none: there is no such daemon.
    is_known: Option<bool>,
}

impl ToldOfDisk {
    fn or(self, other: Self) -> Self {
        Self {
            alarm: self.alarm.or(other.alarm),
            stops_recording: self.stops_recording.or(other.stops_recording),
            is_known: self.is_known.or(other.is_known),
        }
    }

    fn unknown() -> Self {
        Self {
            is_known: Some(false),
            ..Self::default()
        }
    }
}

impl Told {
    fn nothing() -> Self {
        Self {
            disk: ToldOfDisk::unknown(),
            ..Self::default()
        }
    }
}

fn add_recorder(program: &Program, seen: &Seen, report: &mut Report) -> Told {
    let Ok(told) = status::read::<RecorderStatus>(&program.status_file()) else {
        return Told::nothing();
    };
    report.sources = told.sources;
    if !seen.runs {
        for source in &mut report.sources {
            source.state = "not running".to_owned();
            source.fps = 0.0;
            source.bitrate_bps = 0;
        }
        return Told::nothing();
    }
    let waits = told.disk.as_ref().is_some_and(|disk| disk.recording_waits);
    let waits = told.alarms.first().filter(|_| waits).cloned();
    Told {
        silence: silence(program, told.updated),
        disk: ToldOfDisk {
            alarm: told.alarms.first().cloned(),
            stops_recording: waits.or_else(|| dropped(&report.sources)),
            // It has not looked at the disk before it tells of it, and does no more when it stops.
            is_known: Some(told.disk.is_some()),
        },
        alarms: told.alarms,
    }
}

/// What is said of the cameras whose frames the disk does not take.
fn dropped(sources: &[SourceStatus]) -> Option<String> {
    let mut dropping = sources.iter().filter(|source| source.state == DROPPING);
    let first = dropping.next()?;
    let why = first
        .error
        .as_deref()
        .unwrap_or("the disk does not take them");
    let more = match dropping.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!(
        "frames of camera {}{more} are dropped: {why}",
        first.name
    ))
}

fn add_processor(program: &Program, seen: &Seen, report: &mut Report) -> Told {
    let Ok(told) = status::read::<ProcessorStatus>(&program.status_file()) else {
        return Told::nothing();
    };
    if !seen.runs {
        return Told::nothing();
    }
    report.workers = told.workers;
    report.throughput = Some(Throughput {
        published: told.published,
        failed: told.failed,
        frames_per_second: told.frames_per_second,
        realtime_factor: told.realtime_factor,
    });
    let is_full = told.alarms.iter().find(|alarm| *alarm == status::NO_SPACE);
    Told {
        silence: silence(program, told.updated),
        disk: ToldOfDisk {
            alarm: is_full.cloned(),
            stops_recording: None,
            is_known: Some(told.disk.is_some()),
        },
        alarms: told
            .alarms
            .into_iter()
            .filter(|it| !is_of_queue(it))
            .collect(),
    }
}

/// Whether an alarm of the blur processor tells what the queue itself tells here.
fn is_of_queue(alarm: &str) -> bool {
    alarm.ends_with(status::GIVEN_UP) || alarm.ends_with(status::TOO_MANY_WAIT)
}

/// Mean length of the videos that wait, from some of their tickets.
fn seconds_each(entries: &[Entry]) -> Option<f64> {
    let waiting = entries
        .iter()
        .filter(|it| matches!(it.state, State::Ready | State::Active | State::Deferred));
    let read = |entry: &Entry| Ticket::parse(&std::fs::read(&entry.path).ok()?).ok();
    // One that is gone by now, or cannot be read, tells nothing.
    let lengths: Vec<f64> = waiting
        .take(TICKETS_READ)
        .filter_map(|entry| Some(read(entry)?.duration))
        .collect();
    (!lengths.is_empty()).then(|| lengths.iter().sum::<f64>() / lengths.len() as f64)
}

/// The newest of what was given up.
fn held_back(mut entries: Vec<Entry>) -> Vec<HeldBack> {
    let hidden = |text: &str| daemon::redact::text(text).into_owned();
    entries.retain(|it| matches!(it.state, State::Failed | State::Corrupt));
    entries.sort_by_key(|it| std::cmp::Reverse(it.why.as_ref().map(|why| why.time)));
    let shown = entries.into_iter().take(HELD_BACK_SHOWN);
    shown
        .map(|entry| HeldBack {
            stem: entry.stem.to_string(),
            original: entry
                .why
                .as_ref()
                .and_then(|it| it.original.as_deref().map(hidden)),
            reason: entry
                .why
                .as_ref()
                .map(|it| hidden(&it.reason))
                .unwrap_or_default(),
        })
        .collect()
}

fn silence(program: &Program, updated: Timestamp) -> Option<String> {
    let silent = Timestamp::now().as_second() - updated.as_second();
    (silent > SILENCE_S).then(|| {
        format!(
            "{} runs but has not told its state for over a minute",
            program.name
        )
    })
}

fn unit_alarm(unit: &UnitState) -> Option<String> {
    match unit.phase {
        Phase::Degraded => Some(format!("{} dies again and again, see its log", unit.name)),
        Phase::BadSettings => Some(match &unit.reason {
            Some(reason) => format!("{} cannot start: {reason}", unit.name),
            None => format!("{} refuses its settings, see its log", unit.name),
        }),
        _ => None,
    }
}

fn phase_in_words(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Adopted => "running, adopted",
        Phase::BackingOff => "died, pausing",
        Phase::Degraded => "degraded",
        Phase::BadSettings => "bad settings",
        Phase::Finished => "finished",
        Phase::Stopping => "stopping",
        Phase::Stopped => "stopped",
    }
}

/// Bytes that an ordinary user may still write where `path` is or will be.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    daemon::disk::free_bytes(path).ok()
}

fn measured(name: &str, path: &Path) -> DirectoryReport {
    DirectoryReport {
        name: name.to_owned(),
        path: path.to_owned(),
        bytes: daemon::disk::bytes_below(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_says_why_a_daemon_does_not_start() {
        let mut unit = UnitState {
            name: "blur_processor".to_owned(),
            phase: Phase::BadSettings,
            reason: Some("no model".to_owned()),
            ..UnitState::default()
        };
        let told = unit_alarm(&unit);
        assert_eq!(
            told.as_deref(),
            Some("blur_processor cannot start: no model")
        );
        unit.reason = None;
        let told = unit_alarm(&unit);
        assert_eq!(
            told.as_deref(),
            Some("blur_processor refuses its settings, see its log")
        );
    }
}
