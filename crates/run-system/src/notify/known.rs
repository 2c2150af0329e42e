//! What was noticed so far: compared with a report it gives what is new.

use super::notification::{Notification, Subject};
use crate::plain::span;
use crate::report::{DiskReport, ProcessReport, QueueReport, Report};
use daemon::disk::bytes_text;
use daemon::status::SourceStatus;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use settings::HookEvent;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use ticket_queue::{Receipt, Stem, Why};

/// A daemon that works for so long is well again: one that dies again and again runs in between.
const STABLE_S: u64 = 60;
/// Receipts are written by several workers at once, so one may appear a little after a younger one.
const OVERLAP: SignedDuration = SignedDuration::from_secs(120);
/// What was published longer ago is no news any more.
const NEWS: SignedDuration = SignedDuration::from_hours(24);

/// What was noticed so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Known {
    /// Cameras that are down, and since when.
    down: BTreeMap<String, Timestamp>,
    /// Daemons that do not do their work.
    troubled: BTreeSet<String>,
    backlog: bool,
    disk: bool,
    /// The disk keeps something from being recorded.
    recording_stopped: bool,
    /// Tickets held back; none: nobody has looked yet, and what lies there is no news.
    pub(super) held_back: Option<BTreeSet<Stem>>,
    /// None: nobody wants to know, or nobody has looked yet.
    pub(super) published: Option<Published>,
}

/// Which published videos were noticed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Published {
    /// The youngest receipt.
    until: Timestamp,
    /// Those that are hardly older.
    recent: BTreeMap<Stem, Timestamp>,
}

impl Known {
    /// What a report has that is new.
    pub(super) fn compare(&mut self, report: &Report) -> Vec<Notification> {
        let now = report.time;
        let mut news = self.cameras(&report.sources, now);
        for process in &report.processes {
            news.extend(self.daemon(process, now));
        }
        if let Some(queue) = &report.queue {
            news.extend(self.backlog(queue, now));
        }
        if let Some(disk) = &report.disk {
            news.extend(self.disk(disk, now));
        }
        news
    }

    /// A camera is up again only when it sends; one whose recorder was started anew is neither.
    fn cameras(&mut self, sources: &[SourceStatus], now: Timestamp) -> Vec<Notification> {
        if !sources.is_empty() {
            let is_there = |name: &String| sources.iter().any(|source| source.name == *name);
            self.down.retain(|name, _| is_there(name));
        }
        let one = |source: &SourceStatus| {
            let camera = &source.name;
            let mut subject = Subject {
                camera: Some(camera.clone()),
                ..Subject::default()
            };
            if let Some(since) = source.down_since {
                if self.down.contains_key(camera) {
                    return None;
                }
                self.down.insert(camera.clone(), since);
                let reason = source.down_reason.clone().or_else(|| source.error.clone());
                let why = reason.as_deref().unwrap_or("it sends nothing");
                let words = format!("camera {camera} is down since {}: {why}", clock(since));
                (subject.since, subject.reason) = (Some(since), reason);
                return Some(Notification::new(
                    HookEvent::CameraDown,
                    subject,
                    now,
                    &words,
                ));
            }
            if source.state != "recording" {
                return None;
            }
            let since = self.down.remove(camera)?;
            let words = format!(
                "camera {camera} is back; it was down since {}",
                clock(since)
            );
            subject.since = Some(since);
            Some(Notification::new(HookEvent::CameraUp, subject, now, &words))
        };
        sources.iter().filter_map(one).collect()
    }

    fn daemon(&mut self, process: &ProcessReport, now: Timestamp) -> Option<Notification> {
        let program = &process.name;
        let subject = |reason| Subject {
            program: Some(program.clone()),
            reason,
            ..Subject::default()
        };
        if let Some(trouble) = &process.trouble {
            let is_new = self.troubled.insert(program.clone());
            let told = subject(Some(trouble.clone()));
            return is_new
                .then(|| Notification::new(HookEvent::DaemonDegraded, told, now, trouble));
        }
        let is_stable = process.pid.is_some() && process.uptime_s >= Some(STABLE_S);
        (is_stable && self.troubled.remove(program)).then(|| {
            let words = format!("{program} works again");
            Notification::new(HookEvent::DaemonRecovered, subject(None), now, &words)
        })
    }

    /// The end is told when the queue is half as long as the alarm: around the limit it comes and goes.
    fn backlog(&mut self, queue: &QueueReport, now: Timestamp) -> Option<Notification> {
        let (ready, limit) = (queue.ready, queue.limit?);
        let (event, words) = if !self.backlog && queue.is_long() {
            let oldest = queue
                .oldest_s
                .map(|seconds| format!(", the oldest for {}", span(seconds)))
                .unwrap_or_default();
            let words = format!(
                "{ready} videos wait to be blurred{oldest}; more than max_queue_size ({limit}), blurring does not keep up"
            );
            (HookEvent::BacklogAlarm, words)
        } else if self.backlog && ready <= limit / 2 {
            let words = format!("blurring has caught up; {ready} videos wait");
            (HookEvent::BacklogOver, words)
        } else {
            return None;
        };
        self.backlog = !self.backlog;
        let subject = Subject::default();
        Some(Notification::new(event, subject, now, &words))
    }

    /// That recording has stopped is told also where another alarm stands: it is what costs footage. While nobody tells how
    /// the disk is, as while the recorder is started anew, no alarm is over.
    fn disk(&mut self, disk: &DiskReport, now: Timestamp) -> Option<Notification> {
        let was_alarmed = self.disk;
        let had_stopped = self.recording_stopped;
        if disk.is_told || disk.alarm.is_some() {
            self.disk = disk.alarm.is_some();
        }
        if disk.is_told {
            self.recording_stopped = disk.stops_recording.is_some();
        }
        let free = bytes_text(disk.free_bytes);
        let has_stopped = !had_stopped && self.recording_stopped;
        let (event, words) = match (&disk.alarm, &disk.stops_recording) {
            (Some(_), Some(why)) if has_stopped => {
                (HookEvent::DiskAlarm, format!("{why}; {free} free"))
            }
            (Some(alarm), _) if !was_alarmed => {
                (HookEvent::DiskAlarm, format!("{alarm}; {free} free"))
            }
            (None, _) if was_alarmed && !self.disk => (
                HookEvent::DiskOver,
                format!("there is room on the disk again; {free} free"),
            ),
            _ => return None,
        };
        let reason = match has_stopped {
            true => disk.stops_recording.clone(),
            false => disk.alarm.clone(),
        };
        let subject = Subject {
            reason,
            ..Subject::default()
        };
        Some(Notification::new(event, subject, now, &words))
    }

    /// Which of the tickets held back are new; those that are gone may come again.
    pub(super) fn newly_held_back(&mut self, stems: BTreeSet<Stem>) -> Vec<Stem> {
        let known = self.held_back.replace(stems.clone());
        match known {
            Some(known) => stems.difference(&known).cloned().collect(),
            None => Vec::new(),
        }
    }

    /// Whether a receipt of that time is to be read; it is noted as such. The first look only sets the mark.
    pub(super) fn is_news(&mut self, stem: &Stem, written: Timestamp, now: Timestamp) -> bool {
        let Some(published) = &mut self.published else {
            return false;
        };
        // After a clock was set back, all that comes would seem late.
        published.until = published.until.min(now);
        let is_late = published.until.duration_since(written) > OVERLAP;
        if is_late || published.recent.insert(stem.clone(), written).is_some() {
            return false;
        }
        published.until = published.until.max(written);
        let until = published.until;
        published
            .recent
            .retain(|_, written| until.duration_since(*written) <= OVERLAP);
        now.duration_since(written) <= NEWS
    }
}

impl Published {
    /// All that has a receipt now is known.
    pub(super) fn all(receipts: impl Iterator<Item = (Stem, Timestamp)>, now: Timestamp) -> Self {
        let mut recent: BTreeMap<Stem, Timestamp> = receipts.collect();
        let until = recent.values().copied().max().unwrap_or(now);
        recent.retain(|_, written| until.duration_since(*written) <= OVERLAP);
        Self { until, recent }
    }
}

pub(super) fn ticket_failed(
    stem: &Stem,
    camera: Option<String>,
    why: Option<&Why>,
    now: Timestamp,
) -> Notification {
    let reason = why.map(|why| why.reason.clone());
    let of = camera
        .as_ref()
        .map(|camera| format!(" of camera {camera}"))
        .unwrap_or_default();
    let words = format!(
        "a video{of} could not be blurred and is held back, its original is kept: {}",
        reason.as_deref().unwrap_or("no reason is known")
    );
    let subject = Subject {
        camera,
        ticket: Some(stem.to_string()),
        since: why.map(|why| why.time),
        reason,
        ..Subject::default()
    };
    Notification::new(HookEvent::TicketFailed, subject, now, &words)
}

/// `dir`: where published videos go.
pub(super) fn segment_published(receipt: &Receipt, dir: &Path, now: Timestamp) -> Notification {
    let path = Path::new(&receipt.output.path);
    let camera = path.parent().and_then(Path::to_str).map(str::to_owned);
    let video = std::path::absolute(dir.join(path)).unwrap_or_else(|_| dir.join(path));
    let words = format!(
        "a blurred video of camera {} is published: {}",
        camera.as_deref().unwrap_or_default(),
        video.display()
    );
    let subject = Subject {
        camera,
        ticket: Some(receipt.stem.to_string()),
        video: Some(video.display().to_string()),
        since: Some(receipt.finished),
        ..Subject::default()
    };
    Notification::new(HookEvent::SegmentPublished, subject, now, &words)
}

/// With the day, since a message may be read much later.
fn clock(time: Timestamp) -> String {
    let there = time.to_zoned(TimeZone::system());
    there.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn report(second: i64) -> Report {
        Report {
            time: at(second),
            processes: Vec::new(),
            sources: Vec::new(),
            workers: Vec::new(),
            throughput: None,
            queue: None,
            held_back: Vec::new(),
            disk: None,
            hooks: Vec::new(),
            alarms: Vec::new(),
        }
    }

    fn with_camera(second: i64, state: &str, down: Option<i64>) -> Report {
        Report {
            sources: vec![SourceStatus {
                name: "yard".to_owned(),
                state: state.to_owned(),
                down_since: down.map(at),
                down_reason: down.map(|_| "refused".to_owned()),
                ..SourceStatus::default()
            }],
            ..report(second)
        }
    }

    fn names(news: &[Notification]) -> Vec<&str> {
        news.iter().map(|told| told.event.as_str()).collect()
    }

    /// As after a restart of run-system.
    fn restarted(known: &Known) -> Known {
        serde_json::from_str(&serde_json::to_string(known).unwrap()).unwrap()
    }

    #[test]
    fn a_camera_is_told_down_once_and_up_once_over_restarts_of_everything() {
        let mut known = Known::default();
        let steps: [(&str, Option<i64>, &[&str]); 8] = [
            ("recording", None, &[]),
            ("waiting", None, &[]),
            ("waiting", Some(100), &["camera_down"]),
            ("waiting", Some(100), &[]),
            // The recorder was started anew and does not know yet that the camera is down.
            ("not running", None, &[]),
            ("connecting", None, &[]),
            ("waiting", Some(300), &[]),
            ("recording", None, &["camera_up"]),
        ];
        for (i, (state, down, expected)) in (0..).zip(steps) {
            let news = known.compare(&with_camera(100 + i * 10, state, down));
            assert_eq!(names(&news), expected, "step {i}");
            if let [told] = &news[..] {
                assert_eq!(told.subject.since, Some(at(100)));
                assert!(told.text.contains("camera yard is"), "{}", told.text);
            }
            known = restarted(&known);
        }
        assert_eq!(known, Known::default());
    }

    #[test]
    fn a_camera_that_is_no_longer_configured_is_forgotten() {
        let mut known = Known::default();
        known.compare(&with_camera(0, "waiting", Some(0)));
        known.compare(&report(10));
        assert_ne!(known, Known::default(), "the recorder has told nothing yet");
        let mut other = with_camera(20, "recording", None);
        other.sources[0].name = "gate".to_owned();
        assert!(known.compare(&other).is_empty());
        assert_eq!(known, Known::default());
    }

    #[test]
    fn a_daemon_is_well_only_after_it_ran_for_a_while() {
        let mut known = Known::default();
        let with = |trouble: Option<&str>, uptime_s: Option<u64>| Report {
            processes: vec![ProcessReport {
                name: "rtsp_recorder".to_owned(),
                state: String::new(),
                pid: uptime_s.map(|_| 7),
                uptime_s,
                restarts: None,
                last_exit: None,
                cpu_percent: None,
                memory_bytes: None,
                trouble: trouble.map(str::to_owned),
            }],
            ..report(0)
        };
        let steps: [(Option<&str>, Option<u64>, &[&str]); 7] = [
            (None, Some(100), &[]),
            (Some("dies again and again"), None, &["daemon_degraded"]),
            (None, Some(1), &[]),
            (Some("dies again and again"), None, &[]),
            (None, None, &[]),
            (None, Some(60), &["daemon_recovered"]),
            (None, Some(70), &[]),
        ];
        for (trouble, uptime, expected) in steps {
            let news = known.compare(&with(trouble, uptime));
            assert_eq!(names(&news), expected, "{trouble:?} {uptime:?}");
        }
    }

    #[test]
    fn backlog_and_disk_have_a_beginning_and_an_end() {
        let mut known = Known::default();
        let with = |ready, alarm: Option<&str>| Report {
            queue: Some(QueueReport {
                ready,
                limit: Some(100),
                oldest_s: Some(75),
                ..QueueReport::default()
            }),
            disk: Some(DiskReport {
                free_bytes: 5 << 30,
                min_free_bytes: 0,
                used: Vec::new(),
                hours_left: None,
                alarm: alarm.map(str::to_owned),
                stops_recording: None,
                is_told: true,
            }),
            ..report(0)
        };
        let steps: [(u64, Option<&str>, &[&str]); 6] = [
            (100, None, &[]),
            (101, None, &["backlog_alarm"]),
            (99, Some("full"), &["disk_alarm"]),
            (110, Some("fuller"), &[]),
            (50, Some("full"), &["backlog_over"]),
            (60, None, &["disk_over"]),
        ];
        for (ready, alarm, expected) in steps {
            let news = known.compare(&with(ready, alarm));
            assert_eq!(names(&news), expected, "{ready} {alarm:?}");
        }
        let told = &known.compare(&with(101, None))[0].text;
        assert!(
            told.contains("101 videos wait to be blurred, the oldest for 1 min 15 s"),
            "{told}"
        );
    }

    fn with_disk(alarm: Option<&str>, stops: Option<&str>, is_told: bool) -> Report {
        Report {
            disk: Some(DiskReport {
                free_bytes: 5 << 30,
                min_free_bytes: 0,
                used: Vec::new(),
                hours_left: None,
                alarm: alarm.map(str::to_owned),
                stops_recording: stops.map(str::to_owned),
                is_told,
            }),
            ..report(0)
        }
    }

    #[test]
    fn that_recording_stops_is_told_also_while_another_alarm_of_the_disk_stands() {
        let mut known = Known::default();
        let (soon, waits) = (Some("does not keep up"), Some("recording waits"));
        let steps: [(Option<&str>, Option<&str>, &[&str]); 6] = [
            (soon, None, &["disk_alarm"]),
            (soon, waits, &["disk_alarm"]),
            (soon, waits, &[]),
            (soon, None, &[]),
            (soon, waits, &["disk_alarm"]),
            (None, None, &["disk_over"]),
        ];
        for (alarm, stops, expected) in steps {
            let news = known.compare(&with_disk(alarm, stops, true));
            assert_eq!(names(&news), expected, "{alarm:?} {stops:?}");
            if stops.is_some()
                && let [told] = &news[..]
            {
                assert!(told.text.contains("recording waits; "), "{}", told.text);
            }
            known = restarted(&known);
        }
        assert_eq!(known, Known::default());
    }

    #[test]
    fn no_alarm_of_the_disk_is_over_while_nobody_tells_how_it_is() {
        let mut known = Known::default();
        let (full, waits) = (Some("full"), Some("recording waits"));
        assert_eq!(known.compare(&with_disk(full, waits, true)).len(), 1);
        // The recorder stops, and is started again.
        assert!(known.compare(&with_disk(None, None, false)).is_empty());
        assert!(known.compare(&with_disk(full, None, false)).is_empty());
        assert!(known.compare(&with_disk(full, waits, true)).is_empty());
        assert_eq!(
            names(&known.compare(&with_disk(None, None, true))),
            ["disk_over"]
        );
        assert_eq!(
            names(&known.compare(&with_disk(full, None, false))),
            ["disk_alarm"]
        );
    }

    #[test]
    fn what_is_held_back_is_told_again_when_it_comes_again() {
        let stem = |name: &str| name.parse::<Stem>().unwrap();
        let (a, b) = (stem("queue_a"), stem("queue_b"));
        let mut known = Known::default();
        assert!(known.newly_held_back([a.clone()].into()).is_empty());
        assert_eq!(known.newly_held_back([a.clone(), b.clone()].into()), [b]);
        assert!(known.newly_held_back([].into()).is_empty());
        assert_eq!(known.newly_held_back([a.clone()].into()), [a]);
    }

    #[test]
    fn a_receipt_is_news_once_and_not_when_it_is_old() {
        let stem = |name: &str| name.parse::<Stem>().unwrap();
        let mut known = Known {
            published: Some(Published::all(
                [(stem("queue_a"), at(0)), (stem("queue_old"), at(-500))].into_iter(),
                at(0),
            )),
            ..Known::default()
        };
        assert!(!known.is_news(&stem("queue_a"), at(0), at(10)));
        assert!(!known.is_news(&stem("queue_old"), at(-500), at(10)));
        assert!(known.is_news(&stem("queue_c"), at(20), at(30)));
        // Written a moment before another worker's, and seen after it.
        assert!(known.is_news(&stem("queue_b"), at(19), at(30)));
        known = restarted(&known);
        assert!(!known.is_news(&stem("queue_b"), at(19), at(30)));
        // The clock goes back by an hour.
        assert!(known.is_news(&stem("queue_back"), at(-3_570), at(-3_570)));
        assert!(!known.is_news(&stem("queue_back"), at(-3_570), at(-3_570)));
        let late = 30 * 3_600;
        assert!(!known.is_news(&stem("queue_d"), at(40), at(late)));
        assert!(known.is_news(&stem("queue_e"), at(late), at(late)));
    }
}
