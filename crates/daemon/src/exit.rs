//! Exit codes: what a daemon's end asks of its supervisor.

/// Stopped as asked.
pub const STOPPED: u8 = 0;
/// Failed; to be restarted.
pub const FAILED: u8 = 1;
/// Bad settings or usage; not to be restarted until the settings file changes.
pub const SETTINGS: u8 = 2;
/// Everything asked for is done (limits reached); not to be restarted.
pub const FINISHED: u8 = 3;
/// Another one runs already and holds the lock.
pub const ALREADY_RUNNING: u8 = 100;
