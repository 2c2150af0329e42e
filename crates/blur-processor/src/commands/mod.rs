//! Commands for people.

pub mod blur;
pub mod check_plugin;
pub mod queue;

use std::path::Path;
use std::process::ExitCode;

use daemon::exit;
use settings::samples::{Existing, Sample};

/// Writes the commented sample settings to a new file.
///
/// # Errors
/// The file cannot be written.
pub fn create_config(path: &Path) -> anyhow::Result<ExitCode> {
    if !Sample::Blur.create(path, Existing::Stays)?.is_new {
        daemon::complain!(
            "{} exists; move it away or name another with --config",
            path.display()
        );
        return Ok(ExitCode::from(exit::SETTINGS));
    }
    daemon::say!("wrote {}", path.display());
    Ok(ExitCode::SUCCESS)
}
