//! Time as something that is handed in, so that tests can run days of it.

use jiff::{SignedDuration, Timestamp};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Reads and waits for time.
pub trait Clock: Send + Sync + 'static {
    /// The time of day. May jump either way when someone sets the clock.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment. Never goes back.
    fn monotonic(&self) -> Duration;

    /// Waits until [`Self::monotonic`] has grown by `duration`.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// Its monotonic time starts at zero now.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Clocks that stand still until told otherwise. Clones share the same time.
#[derive(Debug, Clone)]
pub struct SimulatedClock {
    wall: Arc<Mutex<Timestamp>>,
    monotonic: Arc<watch::Sender<Duration>>,
}

impl SimulatedClock {
    /// Stands at that time of day, with a monotonic time of zero.
    pub fn new(wall: Timestamp) -> Self {
        Self {
            wall: Arc::new(Mutex::new(wall)),
            monotonic: Arc::new(watch::channel(Duration::ZERO).0),
        }
    }

    /// Lets time pass on both clocks and wakes those whose sleep is over.
    pub fn advance(&self, duration: Duration) {
        let step = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        self.set_back_or_forth(step);
        self.monotonic.send_modify(|time| *time += duration);
    }

    /// Sets the time of day only, as an administrator or a time server does.
    pub fn set_back_or_forth(&self, step: SignedDuration) {
        let mut wall = self.wall.lock().unwrap_or_else(PoisonError::into_inner);
        *wall = wall.saturating_add(step).unwrap_or(*wall);
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        *self.wall.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn monotonic(&self) -> Duration {
        *self.monotonic.borrow()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let mut time = self.monotonic.subscribe();
        let until = self.monotonic() + duration;
        Box::pin(async move {
            // The sender lives as long as the clock this future borrows.
            time.wait_for(|now| *now >= until).await.ok();
        })
    }
}
