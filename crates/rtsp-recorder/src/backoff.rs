//! How long to wait before a camera is tried again.
//!
//! Exponential from the configured base to 30 s with jitter, so that the cameras behind one switch do not all come
//! back in the same instant; reset once a session delivered video for a while. A refused password is different:
//! many cameras lock the account after a handful of tries, so the wait is long from the start.

use std::time::Duration;

/// The longest wait between two attempts at a camera that is merely away.
pub const LONGEST: Duration = Duration::from_secs(30);

/// The first wait after a refused password.
const REFUSED_FIRST: Duration = Duration::from_secs(60);

/// The longest wait after a refused password.
const REFUSED_LONGEST: Duration = Duration::from_secs(600);

/// A session that lived this long starts the series of waits anew.
pub const PROVEN_AFTER: Duration = Duration::from_secs(30);

/// What kind of failure is waited out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The camera is away, slow, or closed the connection.
    Away,
    /// It refused name and password (401) or access (403).
    Refused,
}

/// The waits of one source.
#[derive(Debug)]
pub struct Backoff {
    base: Duration,
    longest: Duration,
    failures: u32,
    refusals: u32,
}

impl Backoff {
    /// Waits that start at `base` (never below 100 ms, which would be a busy loop) and grow to [`LONGEST`], or to
    /// `base` where that is longer.
    pub fn new(base: Duration) -> Self {
        let base = base.max(Duration::from_millis(100));
        Backoff {
            base,
            longest: LONGEST.max(base),
            failures: 0,
            refusals: 0,
        }
    }

    /// Forgets all failures: the source delivers.
    pub fn reset(&mut self) {
        self.failures = 0;
        self.refusals = 0;
    }

    /// Attempts that failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures.saturating_add(self.refusals)
    }

    /// The next wait. `jitter` in 0..=1 spreads it over 80 % to 120 %.
    pub fn next(&mut self, failure: Failure, jitter: f64) -> Duration {
        let (first, longest, count) = match failure {
            Failure::Away => (self.base, self.longest, &mut self.failures),
            Failure::Refused => (
                REFUSED_FIRST.max(self.base),
                REFUSED_LONGEST.max(self.base),
                &mut self.refusals,
            ),
        };
        let doubled = first.saturating_mul(1 << (*count).min(16));
        *count = count.saturating_add(1);
        doubled
            .min(longest)
            .mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_from_the_base_to_thirty_seconds() {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        let waits: Vec<u64> = (0..8)
            .map(|_| backoff.next(Failure::Away, 0.5).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        backoff.reset();
        assert_eq!(backoff.next(Failure::Away, 0.5).as_secs(), 1);
    }

    #[test]
    fn a_refused_password_waits_long_and_never_gives_up() {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        let waits: Vec<u64> = (0..6)
            .map(|_| backoff.next(Failure::Refused, 0.5).as_secs())
            .collect();
        assert_eq!(waits, [60, 120, 240, 480, 600, 600]);
        for _ in 0..10_000 {
            assert!(backoff.next(Failure::Refused, 1.0) <= REFUSED_LONGEST.mul_f64(1.2));
        }
    }

    #[test]
    fn jitter_spreads_by_a_fifth() {
        let wait = |jitter| Backoff::new(Duration::from_secs(10)).next(Failure::Away, jitter);
        assert_eq!(wait(0.0), Duration::from_secs(8));
        assert_eq!(wait(1.0), Duration::from_secs(12));
    }
}
