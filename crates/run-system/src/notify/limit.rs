//! How often the same thing is told: a camera that comes and goes gives one notification in a while, and what happened
//! meanwhile comes as one, with a count. The last state is always told.

use super::notification::Notification;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What one hook was told lately, by topic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Limit {
    topics: BTreeMap<String, Quiet>,
}

/// A time in which nothing is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Quiet {
    since: Timestamp,
    /// Events held back in it.
    held: u64,
    last: Option<Notification>,
}

impl Limit {
    /// What of it is to be told now.
    pub(super) fn admit(
        &mut self,
        told: Notification,
        min_interval: Duration,
        now: Timestamp,
    ) -> Option<Notification> {
        let Some(topic) = told.topic().filter(|_| !min_interval.is_zero()) else {
            return Some(told);
        };
        match self.topics.get_mut(&topic) {
            Some(quiet) => {
                quiet.held += 1;
                quiet.last = Some(told);
                None
            }
            None => {
                self.topics.insert(topic, Quiet::since(now));
                Some(told)
            }
        }
    }

    /// What was held back and is to be told now.
    pub(super) fn due(&mut self, min_interval: Duration, now: Timestamp) -> Vec<Notification> {
        let length = SignedDuration::try_from(min_interval).unwrap_or(SignedDuration::MAX);
        let mut due = Vec::new();
        self.topics.retain(|_, quiet| {
            // A clock that was set back must not make it quiet for longer.
            let over = now.duration_since(quiet.since).abs() >= length;
            if over && let Some(last) = quiet.last.take() {
                due.push(last.for_all(quiet.held));
                *quiet = Quiet::since(now);
                return true;
            }
            !over
        });
        due
    }
}

impl Quiet {
    fn since(now: Timestamp) -> Self {
        Self {
            since: now,
            held: 0,
            last: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::notification::Subject;
    use settings::HookEvent;

    const MINUTE: Duration = Duration::from_secs(60);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn camera(event: HookEvent, name: &str, second: i64) -> Notification {
        let subject = Subject {
            camera: Some(name.to_owned()),
            ..Subject::default()
        };
        Notification::new(event, subject, at(second), name)
    }

    /// The events told, with their counts.
    fn told(list: Vec<Notification>) -> Vec<(String, u64)> {
        list.into_iter()
            .map(|told| (told.event, told.count))
            .collect()
    }

    #[test]
    fn a_camera_that_comes_and_goes_gives_one_notification_a_minute_and_a_count() {
        let mut limit = Limit::default();
        let mut sent = Vec::new();
        for second in 0..=130 {
            sent.extend(limit.due(MINUTE, at(second)));
            // Down at 0, 10, 20 ... 120, up in between; the last that happens is up.
            let event = match second % 10 {
                0 => HookEvent::CameraDown,
                5 => HookEvent::CameraUp,
                _ => continue,
            };
            if second <= 125 {
                let told = camera(event, "yard", second);
                sent.extend(limit.admit(told, MINUTE, at(second)));
            }
        }
        let words = |text: &str| text.to_owned();
        assert_eq!(
            told(sent),
            [
                (words("camera_down"), 1),
                (words("camera_up"), 11),
                (words("camera_up"), 12)
            ]
        );
        // The last minute's events, and then silence.
        let rest = told(limit.due(MINUTE, at(180)));
        assert_eq!(rest, [(words("camera_up"), 2)]);
        assert!(limit.due(MINUTE, at(240)).is_empty());
        assert_eq!(limit, Limit::default());
    }

    #[test]
    fn others_are_not_held_back_and_published_videos_never() {
        let mut limit = Limit::default();
        for name in ["yard", "gate"] {
            let told = camera(HookEvent::CameraDown, name, 0);
            assert!(limit.admit(told, MINUTE, at(0)).is_some());
        }
        for _ in 0..3 {
            let told = camera(HookEvent::SegmentPublished, "yard", 0);
            assert!(limit.admit(told, MINUTE, at(0)).is_some());
            let told = camera(HookEvent::TicketFailed, "yard", 0);
            assert!(limit.admit(told, Duration::ZERO, at(0)).is_some());
        }
    }
}
