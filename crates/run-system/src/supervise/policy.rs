//! When a daemon that died is started again.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The numbers; the default ones are those of a running system, tests use smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// First pause after a death; it doubles with each further one.
    pub first_pause: Duration,
    /// Longest such pause.
    pub longest_pause: Duration,
    /// A daemon that was up this long starts with the first pause again.
    pub stable_after: Duration,
    /// More deaths than this within `window` are a degraded state.
    pub deaths_allowed: usize,
    /// Time in which deaths are counted.
    pub window: Duration,
    /// Pause in degraded state. It is never given up.
    pub degraded_pause: Duration,
    /// Time for a daemon to stop before it is killed.
    pub patience: Duration,
    /// How often files are looked at: locks of daemons that are not our children, settings after bad
    /// ones.
    pub poll: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            stable_after: Duration::from_secs(60),
            deaths_allowed: 5,
            window: Duration::from_secs(60),
            degraded_pause: Duration::from_secs(60),
            patience: Duration::from_secs(30),
            poll: Duration::from_millis(500),
        }
    }
}

/// What to do after a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Time until the next start.
    pub length: Duration,
    /// Whether it dies so often that a person should look.
    pub degraded: bool,
}

/// The deaths of one daemon.
#[derive(Debug, Default)]
pub struct History {
    deaths: VecDeque<Duration>,
    failures: u32,
    /// Once degraded it stays so until the daemon has been stable: the long pauses themselves would
    /// empty the window.
    degraded: bool,
}

impl History {
    /// A death after `uptime`, at the monotonic time `now`.
    pub fn died(&mut self, policy: &Policy, now: Duration, uptime: Duration) -> Pause {
        if uptime >= policy.stable_after {
            *self = Self::default();
        }
        self.deaths.push_back(now);
        while self
            .deaths
            .front()
            .is_some_and(|death| now.saturating_sub(*death) > policy.window)
        {
            self.deaths.pop_front();
        }
        let doubled = policy
            .first_pause
            .saturating_mul(2_u32.saturating_pow(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.degraded |= self.deaths.len() > policy.deaths_allowed;
        let length = if self.degraded {
            policy.degraded_pause
        } else {
            doubled.min(policy.longest_pause)
        };
        Pause {
            length: spread(length),
            degraded: self.degraded,
        }
    }
}

/// The time, 20 % more or less, so that many systems do not hit one server in step.
fn spread(time: Duration) -> Duration {
    // The standard library seeds its hashers at random, which is random enough here.
    let random = RandomState::new().hash_one(0) % 1_001;
    time.mul_f64(0.8 + 0.4 * random as f64 / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(pause: Pause, seconds: f64, degraded: bool) {
        let length = pause.length.as_secs_f64();
        assert!(
            (seconds * 0.79..=seconds * 1.21).contains(&length),
            "{length} s is not near {seconds} s"
        );
        assert_eq!(pause.degraded, degraded);
    }

    #[test]
    fn pauses_double_then_the_daemon_counts_as_degraded() {
        let (policy, mut history) = (Policy::default(), History::default());
        let mut now = Duration::ZERO;
        for seconds in [0.5, 1.0, 2.0, 4.0, 8.0] {
            let pause = history.died(&policy, now, Duration::ZERO);
            near(pause, seconds, false);
            now += pause.length;
        }
        near(history.died(&policy, now, Duration::ZERO), 60.0, true);
        near(
            history.died(&policy, now + Duration::from_secs(50), Duration::ZERO),
            60.0,
            true,
        );
    }

    #[test]
    fn slow_deaths_are_not_degraded_but_pause_up_to_the_limit() {
        let (policy, mut history) = (Policy::default(), History::default());
        for i in 0..20 {
            let now = Duration::from_secs(50 * i);
            let pause = history.died(&policy, now, Duration::from_secs(20));
            assert!(!pause.degraded);
            assert!(pause.length <= Duration::from_secs(36));
        }
        near(
            history.died(&policy, Duration::from_secs(2_000), Duration::from_secs(20)),
            30.0,
            false,
        );
    }

    #[test]
    fn a_minute_up_forgets_all() {
        let (policy, mut history) = (Policy::default(), History::default());
        for _ in 0..9 {
            history.died(&policy, Duration::ZERO, Duration::ZERO);
        }
        near(
            history.died(&policy, Duration::from_secs(61), Duration::from_secs(61)),
            0.5,
            false,
        );
    }
}
