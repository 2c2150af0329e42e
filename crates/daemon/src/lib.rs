//! What every long-running program of this system needs and none should write twice: signals and
//! shutdown, clock, logs, status files, exit codes, singleton locks and child processes.
//!
//! Knows nothing of video, tickets or settings. The only `unsafe` here is the hook between `fork`
//! and `exec` in [`child`].

pub mod atomic;
pub mod child;
pub mod clock;
pub mod disk;
pub mod exit;
pub mod lock;
pub mod logs;
pub mod place;
pub mod redact;
mod rotate;
pub mod say;
pub mod shutdown;
pub mod status;
pub mod systemd;

pub use clock::{Clock, SimulatedClock, SystemClock};
pub use lock::Singleton;
pub use shutdown::Shutdown;
pub use status::StatusFile;
