//! From what a camera says about time to a timeline that can be stored.
//!
//! RTP timestamps are promised to be monotonic (RFC 3550 section 5.1). Cameras send constant ones, jump back at a
//! clock step, and leap by an hour after an NTP set. A muxer refuses the first two and stores the third as an hour of
//! nothing. This module keeps every frame and mends only its time: a believable step is taken as it is (so that a
//! good camera's timestamps reach the file to the tick), any other is replaced by the time that passed between
//! arrivals.
//!
//! Invariants: a frame is never refused; without reordering the output is strictly increasing; a single wild value
//! moves nothing but its own frame.

use std::time::Duration;

/// Ticks per second of every time in this crate that is called `_90k`.
pub const TICKS_PER_SECOND: i64 = 90_000;

/// How far a timestamp may run ahead of the time that passed on arrival and still be believed.
///
/// MediaMTX restamps jumps above 5 s (its PR #6255) after cameras stored frames hours away.
const BELIEVABLE_LEAD_90K: i64 = 5 * TICKS_PER_SECOND;

/// The most a timeline may gain on the time that passed, in all: room for a burst after a stall, and a bound for
/// cameras that jump to and fro between two clocks. It refills at half the pace of time, so that a camera whose clock
/// runs up to half too fast is still believed.
const MOST_CREDIT_90K: i64 = 35 * TICKS_PER_SECOND;

/// How far back a frame may be shown before one that was decoded earlier (B-frames).
const REORDER_WINDOW_90K: i64 = 2 * TICKS_PER_SECOND;

/// The longest step that is made up from arrival times alone.
const LONGEST_SUBSTITUTE_90K: i64 = 60 * TICKS_PER_SECOND;

/// Frame distance assumed until two frames were seen: 15 per second.
const ASSUMED_INTERVAL_90K: i64 = 6_000;

/// Converts a duration to ticks of 1/90000 s, rounded to the nearest.
pub fn to_90k(duration: Duration) -> i64 {
    i64::try_from((duration.as_nanos() * 9 + 50_000) / 100_000).unwrap_or(i64::MAX)
}

/// Converts ticks of 1/90000 s to a duration; negative ticks give zero.
pub fn from_90k(ticks: i64) -> Duration {
    let ticks = u64::try_from(ticks).unwrap_or(0);
    Duration::from_nanos((u128::from(ticks) * 100_000 / 9).min(u128::from(u64::MAX)) as u64)
}

/// Rescales `value` from a clock of `rate` Hz to 90 kHz.
pub fn rescale_to_90k(value: i64, rate: u32) -> i64 {
    if i64::from(rate) == TICKS_PER_SECOND {
        return value;
    }
    let scaled = i128::from(value) * i128::from(TICKS_PER_SECOND) / i128::from(rate.max(1));
    i64::try_from(scaled).unwrap_or(if scaled < 0 {
        i64::MIN / 4
    } else {
        i64::MAX / 4
    })
}

/// Why a timestamp was not taken as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anomaly {
    /// The same timestamp as the frame before.
    Repeated,
    /// It went back, by more than frame reordering explains.
    Backward,
    /// It leapt ahead of the time that passed.
    Leap,
}

/// A mended timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Presentation time in ticks of 1/90000 s; the first frame of a timeline has 0.
    pub pts_90k: i64,
    /// Set when the camera's own value was not usable.
    pub anomaly: Option<Anomaly>,
}

/// The mended timeline of one track in one session.
#[derive(Debug, Default)]
pub struct Timeline {
    reordering: bool,
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    raw: i64,
    /// Added to a raw value to give an output value.
    offset: i64,
    out: i64,
    /// The highest output so far and when it arrived.
    high: i64,
    high_arrival: Duration,
    arrival: Duration,
    /// What the timeline may still gain on the time that passed.
    credit: i64,
    /// Typical distance of two frames.
    interval: i64,
}

impl Timeline {
    /// An empty timeline. With `reordering` frames may be shown in another order than they are decoded in.
    pub fn new(reordering: bool) -> Self {
        Timeline {
            reordering,
            last: None,
        }
    }

    /// Typical distance of two frames in ticks of 1/90000 s.
    pub fn interval_90k(&self) -> i64 {
        self.last.map_or(ASSUMED_INTERVAL_90K, |last| last.interval)
    }

    /// Gives the frame with the camera's timestamp `raw_90k` (wraps already undone), which arrived at the monotonic
    /// time `arrival`, its place.
    pub fn stamp(&mut self, raw_90k: i64, arrival: Duration) -> Stamp {
        let Some(last) = self.last else {
            self.last = Some(Last {
                raw: raw_90k,
                offset: raw_90k.saturating_neg(),
                out: 0,
                high: 0,
                high_arrival: arrival,
                arrival,
                credit: BELIEVABLE_LEAD_90K,
                interval: ASSUMED_INTERVAL_90K,
            });
            return Stamp {
                pts_90k: 0,
                anomaly: None,
            };
        };
        let candidate = raw_90k.saturating_add(last.offset);
        let anomaly = self.judge(&last, raw_90k, candidate, arrival);
        let (out, offset) = match anomaly {
            None => (candidate, last.offset),
            Some(anomaly) => mend(&last, anomaly, raw_90k, arrival),
        };
        self.remember(last, raw_90k, out, offset, arrival);
        Stamp {
            pts_90k: out,
            anomaly,
        }
    }

    fn judge(&self, last: &Last, raw: i64, candidate: i64, arrival: Duration) -> Option<Anomaly> {
        let passed = to_90k(arrival.saturating_sub(last.high_arrival));
        let gain = candidate.saturating_sub(last.high).saturating_sub(passed);
        if gain > BELIEVABLE_LEAD_90K.min(last.credit_after(passed)) {
            Some(Anomaly::Leap)
        } else if raw == last.raw {
            Some(Anomaly::Repeated)
        } else if self.reordering {
            (candidate < last.high - REORDER_WINDOW_90K || candidate < 0)
                .then_some(Anomaly::Backward)
        } else {
            (candidate <= last.out).then_some(Anomaly::Backward)
        }
    }

    fn remember(&mut self, last: Last, raw: i64, out: i64, offset: i64, arrival: Duration) {
        let rose = out > last.high;
        let step = out - last.high;
        let plausible = rose && step <= TICKS_PER_SECOND;
        let passed = to_90k(arrival.saturating_sub(last.high_arrival));
        self.last = Some(Last {
            raw,
            offset,
            out,
            high: out.max(last.high),
            high_arrival: if rose { arrival } else { last.high_arrival },
            arrival,
            credit: if rose {
                last.credit_after(passed) - (step - passed)
            } else {
                last.credit
            },
            interval: if !plausible {
                last.interval
            } else if last.high == 0 {
                step
            } else {
                (last.interval * 7 + step) / 8
            }
            .max(1),
        });
    }
}

impl Last {
    fn credit_after(&self, passed: i64) -> i64 {
        self.credit.saturating_add(passed / 2).min(MOST_CREDIT_90K)
    }
}

/// Where a frame goes whose own timestamp is no use, and the offset for those after it.
fn mend(last: &Last, anomaly: Anomaly, raw: i64, arrival: Duration) -> (i64, i64) {
    let passed = to_90k(arrival.saturating_sub(last.arrival));
    let guess = passed.clamp((last.interval / 4).max(1), LONGEST_SUBSTITUTE_90K);
    if anomaly == Anomaly::Repeated {
        // The camera may go on from here as if nothing had happened: its offset stays.
        return (last.high + guess, last.offset);
    }
    // A small step forward from the last raw value, though the timeline is ahead of it (it stood still before):
    // the camera's own steps are good again.
    let own_step = raw.saturating_sub(last.raw);
    let step = if own_step > 0 && own_step <= passed.saturating_add(TICKS_PER_SECOND) {
        own_step
    } else {
        guess
    };
    let out = last.high + step;
    (out, out.saturating_sub(raw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds frames 1/15 s apart on arrival with the given camera timestamps.
    fn run(raws: &[i64]) -> Vec<i64> {
        let mut timeline = Timeline::new(false);
        raws.iter()
            .enumerate()
            .map(|(i, raw)| timeline.stamp(*raw, from_90k(6_000 * i as i64)).pts_90k)
            .collect()
    }

    #[test]
    fn a_good_camera_is_stored_to_the_tick() {
        assert_eq!(
            run(&[1000, 7003, 12_999, 19_000]),
            [0, 6003, 11_999, 18_000]
        );
    }

    #[test]
    fn constant_timestamps_become_arrival_times() {
        assert_eq!(run(&[5, 5, 5, 5]), [0, 6000, 12_000, 18_000]);
    }

    #[test]
    fn a_repeated_one_moves_nothing_after_it() {
        assert_eq!(
            run(&[0, 6000, 6000, 18_000, 24_000]),
            [0, 6000, 12_000, 18_000, 24_000]
        );
    }

    #[test]
    fn a_step_back_goes_on_from_where_it_was() {
        assert_eq!(
            run(&[900_000, 906_000, 6_000, 12_000, 18_000]),
            [0, 6000, 12_000, 18_000, 24_000]
        );
    }

    #[test]
    fn a_leap_of_an_hour_and_back_is_one_frame() {
        let hour = 3600 * TICKS_PER_SECOND;
        assert_eq!(
            run(&[0, 6000, hour, 18_000, 24_000]),
            [0, 6000, 12_000, 18_000, 24_000]
        );
        assert_eq!(
            run(&[0, 6000, hour + 12_000, hour + 18_000]),
            [0, 6000, 12_000, 18_000]
        );
    }

    #[test]
    fn b_frames_keep_their_order() {
        let mut timeline = Timeline::new(true);
        let out: Vec<i64> = [0, 18_000, 6_000, 12_000, 36_000, 24_000, 30_000]
            .iter()
            .enumerate()
            .map(|(i, raw)| timeline.stamp(*raw, from_90k(6_000 * i as i64)).pts_90k)
            .collect();
        assert_eq!(out, [0, 18_000, 6_000, 12_000, 36_000, 24_000, 30_000]);
    }

    #[test]
    fn a_real_gap_stays_a_gap() {
        let mut timeline = Timeline::new(false);
        timeline.stamp(0, Duration::ZERO);
        let stamp = timeline.stamp(20 * TICKS_PER_SECOND, Duration::from_secs(20));
        assert_eq!(
            stamp,
            Stamp {
                pts_90k: 20 * TICKS_PER_SECOND,
                anomaly: None
            }
        );
    }

    proptest! {
        /// Whatever a camera sends, time goes up and stays near the time that passed.
        #[test]
        fn any_camera_gives_a_rising_timeline(
            raws in proptest::collection::vec(prop_oneof![
                3 => (0i64..400_000).boxed(),
                1 => any::<i64>().boxed(),
            ], 2..200),
        ) {
            let out = run(&raws);
            prop_assert!(out.windows(2).all(|pair| pair[0] < pair[1]));
            let end = *out.last().expect("not empty");
            prop_assert!(end <= 9_000 * raws.len() as i64 + MOST_CREDIT_90K, "end {end}");
        }
    }
}
