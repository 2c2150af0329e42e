//! A clock for tests: the time of the runtime, which stands still while somebody works.

use daemon::Clock;
use jiff::Timestamp;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Instant;

/// Counts from that moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RuntimeClock(pub(crate) Instant);

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + self.0.elapsed()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(duration))
    }
}
