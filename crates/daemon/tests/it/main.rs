//! Processes, signals, locks and files as they really behave.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod child;
mod clock;
mod lock;
mod logs;
mod redact;
mod shutdown;
mod status;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Names the part a process plays when this binary starts itself again.
const ROLE: &str = "DAEMON_TEST_ROLE";

/// This test binary again, running only the test of that name, which then sees `role`.
fn again(test: &str, role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ROLE, role);
    command
}

/// The role this process was started in, if it was by [`again`].
fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Waits until the condition holds, at most ten seconds.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "waited too long until {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process of that id is there and not a zombie.
fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status
        .rsplit(')')
        .next()
        .and_then(|rest| rest.trim().chars().next());
    state.is_some_and(|state| state != 'Z')
}

fn read_pid(path: &Path) -> u32 {
    let read = || std::fs::read_to_string(path).ok()?.trim().parse().ok();
    wait_until("the pid is written", || read().is_some());
    read().unwrap()
}
