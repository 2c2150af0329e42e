//! When a segment should end: on multiples of its length by the wall clock, local time.
//!
//! The end is fixed when the segment begins, as a length by the monotonic clock, so that a wall clock that is set
//! while the segment is open makes it neither longer nor shorter. The first segment of a session is longer than the
//! others, never shorter (Moonfire NVR): a camera that reconnects often must not leave splinters.

use jiff::{Timestamp, tz::TimeZone};
use std::collections::VecDeque;
use std::time::Duration;

/// Where a segment stands in its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first one: between one and two lengths.
    First,
    /// Any other: to the boundary nearest to one length away.
    Later,
}

/// How long a segment that begins at `wall` should become, in the time zone whose hours count.
pub fn target_length(wall: Timestamp, zone: &TimeZone, length: Duration, place: Place) -> Duration {
    let remaining = until_boundary(wall, zone, length);
    let wait_for_next = match place {
        Place::First => remaining < length,
        Place::Later => remaining < length / 2,
    };
    if wait_for_next {
        remaining + length
    } else {
        remaining
    }
}

/// Time from `wall` to the next boundary: more than zero, at most `length`.
fn until_boundary(wall: Timestamp, zone: &TimeZone, length: Duration) -> Duration {
    let length = i128::try_from(length.as_nanos())
        .unwrap_or(i128::MAX)
        .max(1);
    let offset = i128::from(zone.to_offset(wall).seconds()) * 1_000_000_000;
    let past = (wall.as_nanosecond() + offset).rem_euclid(length);
    Duration::from_nanos(u64::try_from(length - past).unwrap_or(u64::MAX))
}

/// Arrival times without the delay of the network: the least delayed frame tells when the others were sent.
///
/// Works on the minimum of `arrival - pts` in each of the last [`BUCKETS`] buckets of [`BUCKET`], so that the drift of the
/// camera's clock against ours is followed. (Idea: Moonfire NVR's `design/time.md`.) A minimum that grows from each bucket to
/// the next is no delay but a clock that is slow: cameras that count 25 frames a second and send 15 at night.
#[derive(Debug, Default)]
pub struct ArrivalSmoother {
    current: Option<Bucket>,
    /// Complete ones, the oldest first.
    before: VecDeque<Bucket>,
    /// The minimum of all complete ones.
    least_before: Option<i128>,
    /// By how much the minimum grows from bucket to bucket, in ns per ns of the camera's time, if it grows always.
    growth: Option<f64>,
    latest: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    began: Duration,
    /// Smallest `arrival - pts`, in ns.
    least: i128,
    /// Of the frame that has it, in ns.
    pts: i128,
}

/// Length of a bucket.
const BUCKET: Duration = Duration::from_secs(2);

/// So many complete ones count.
const BUCKETS: usize = 8;

impl ArrivalSmoother {
    /// Takes note of a frame and returns when it would have arrived without delay: never later than `arrival`,
    /// never earlier than for the frame before.
    pub fn observe(&mut self, pts: Duration, arrival: Duration) -> Duration {
        let pts_ns = pts.as_nanos() as i128;
        let own = Bucket {
            began: arrival,
            least: arrival.as_nanos() as i128 - pts_ns,
            pts: pts_ns,
        };
        match &mut self.current {
            Some(bucket) if arrival.saturating_sub(bucket.began) < BUCKET => {
                if own.least < bucket.least {
                    (bucket.least, bucket.pts) = (own.least, own.pts);
                }
            }
            current => {
                let complete = current.replace(own);
                self.before.extend(complete);
                if self.before.len() > BUCKETS {
                    self.before.pop_front();
                }
                self.growth = growth(&self.before);
                self.least_before = self.before.iter().map(|bucket| bucket.least).min();
            }
        }
        let smooth = self.undelayed(pts).min(arrival);
        self.latest = self.latest.max(smooth);
        self.latest
    }

    /// When a frame of time `pts` would have arrived without delay, as far as is known now.
    pub fn undelayed(&self, pts: Duration) -> Duration {
        let pts = pts.as_nanos() as i128;
        let current = self.current.as_ref();
        let least = match self.growth {
            Some(growth) => {
                let grown =
                    |bucket: &Bucket| bucket.least + ((pts - bucket.pts) as f64 * growth) as i128;
                self.before.iter().chain(current).map(grown).min()
            }
            // Nearly always: there is no need to go through all of them for each frame.
            None => self
                .least_before
                .into_iter()
                .chain(current.map(|bucket| bucket.least))
                .min(),
        };
        let nanos = pts + least.unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos.max(0)).unwrap_or(u64::MAX))
    }
}

/// The least growth of the minimum from one bucket to the next, if it grows at all.
fn growth(buckets: &VecDeque<Bucket>) -> Option<f64> {
    buckets
        .iter()
        .zip(buckets.iter().skip(1))
        .map(|(a, b)| (b.least - a.least) as f64 / (b.pts - a.pts).max(1) as f64)
        .min_by(f64::total_cmp)
        .filter(|growth| *growth > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(time: &str, zone: &str, seconds: u64, place: Place) -> f64 {
        let zone = TimeZone::get(zone).unwrap();
        let wall: Timestamp = time.parse().unwrap();
        target_length(wall, &zone, Duration::from_secs(seconds), place).as_secs_f64()
    }

    #[test]
    fn the_first_is_longer_never_shorter() {
        assert_eq!(
            target("2026-03-01T12:00:05Z", "UTC", 30, Place::First),
            55.0
        );
        assert_eq!(
            target("2026-03-01T12:00:30Z", "UTC", 30, Place::First),
            30.0
        );
        assert_eq!(
            target("2026-03-01T12:00:29.5Z", "UTC", 30, Place::First),
            30.5
        );
    }

    #[test]
    fn later_ones_end_on_the_nearest_boundary() {
        assert_eq!(
            target("2026-03-01T12:00:31.5Z", "UTC", 30, Place::Later),
            28.5
        );
        assert_eq!(
            target("2026-03-01T12:00:50Z", "UTC", 30, Place::Later),
            40.0
        );
    }

    #[test]
    fn hours_are_those_on_the_wall() {
        assert_eq!(
            target("2026-03-01T12:10:00Z", "Asia/Kolkata", 3600, Place::Later),
            3000.0 - 1800.0 + 3600.0
        );
        assert_eq!(
            target("2026-03-01T12:10:00Z", "Asia/Seoul", 3600, Place::Later),
            3000.0
        );
    }

    #[test]
    fn the_least_delayed_frame_counts() {
        let mut smoother = ArrivalSmoother::default();
        let ms = Duration::from_millis;
        assert_eq!(smoother.observe(ms(0), ms(1000)), ms(1000));
        assert_eq!(smoother.observe(ms(100), ms(1040)), ms(1040));
        // A delayed frame is placed where it belongs.
        assert_eq!(smoother.observe(ms(200), ms(1900)), ms(1140));
        // The first frame itself was late by 60 ms.
        assert_eq!(smoother.undelayed(ms(0)), ms(940));
    }

    #[test]
    fn drift_is_followed() {
        let mut smoother = ArrivalSmoother::default();
        let mut worst = 0.0f64;
        for i in 0..15 * 3600 * 24u64 {
            // The camera's clock is 200 ppm slow.
            let arrival = Duration::from_micros(i * 66_667);
            let pts = Duration::from_secs_f64(arrival.as_secs_f64() * (1.0 - 200e-6));
            let smooth = smoother.observe(pts, arrival);
            worst = worst.max(arrival.as_secs_f64() - smooth.as_secs_f64());
        }
        assert!(worst < 0.005, "{worst} s off after a day");
    }

    #[test]
    fn a_slow_clock_is_no_delay() {
        let mut smoother = ArrivalSmoother::default();
        for i in 0..15 * 60u64 {
            // 15 frames a second that the camera counts as 25, every fifth one late.
            let sent = Duration::from_micros(1_000_000 + i * 66_667);
            let late = Duration::from_millis(if i % 5 == 4 { 40 } else { 0 });
            let smooth = smoother.observe(Duration::from_millis(i * 40), sent + late);
            let off = sent.abs_diff(smooth).as_secs_f64();
            let most = if i < 15 * 5 { 2.0 } else { 0.1 };
            assert!(off < most, "frame {i} is {off} s off");
        }
    }

    #[test]
    fn what_the_network_held_up_is_delayed() {
        let mut smoother = ArrivalSmoother::default();
        for i in 0..15 * 60u64 {
            let sent = Duration::from_micros(1_000_000 + i * 66_667);
            // Nothing comes through for three seconds of each twenty, then all at once.
            let second = i / 15 % 20;
            let held = Duration::from_secs(if (10..13).contains(&second) {
                13 - second
            } else {
                0
            });
            let pts = Duration::from_micros(i * 66_667);
            let arrival = sent + held;
            let off = smoother.observe(pts, arrival).abs_diff(sent);
            assert!(off < Duration::from_millis(10), "frame {i} is {off:?} off");
        }
    }
}
