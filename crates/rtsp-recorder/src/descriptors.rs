//! How many files and sockets this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::debug;

/// Raises the limit as far as it may be raised. The usual one, 1024, is for programs that use `select`; a camera over UDP takes
/// five sockets and a file, and as many for a moment while it is set up.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        debug!(%error, limit = ?limit.current, "the limit of open files stays as it is");
    }
}
