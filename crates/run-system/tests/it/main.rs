//! run-system with real processes: small shell scripts play the daemons.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod dashboard;
mod notifications;
mod program;
mod secrets;
mod stage;
mod supervise;
