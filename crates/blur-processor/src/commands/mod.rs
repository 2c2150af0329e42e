//! Commands for people.

pub mod blur;
pub mod check_plugin;
pub mod queue;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use daemon::exit;

/// Writes the commented sample settings to a new file.
///
/// # Errors
/// The file cannot be written.
pub fn create_config(path: &Path) -> anyhow::Result<ExitCode> {
    let created = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path);
    let mut file = match created {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            eprintln!(
                "{} exists; move it away or name another with --config",
                path.display()
            );
            return Ok(ExitCode::from(exit::SETTINGS));
        }
        Err(error) => return Err(error).with_context(|| format!("create {}", path.display())),
    };
    file.write_all(settings::samples::blur().as_bytes())
        .with_context(|| format!("write {}", path.display()))?;
    let schema = path.with_file_name(settings::schema::file_name(settings::BLUR_FILE));
    daemon::atomic::write(&schema, settings::schema::blur().as_bytes())
        .with_context(|| format!("write {}", schema.display()))?;
    println!("wrote {}", path.display());
    Ok(ExitCode::SUCCESS)
}
