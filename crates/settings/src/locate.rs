//! Where a settings file is looked for.

use std::path::{Path, PathBuf};

/// The recorder's file.
pub const RECORDER_FILE: &str = "rtsp_recorder_config.json";
/// The blur processor's file.
pub const BLUR_FILE: &str = "blur_processor_config.json";
/// The file of run-system itself, which may be missing.
pub const SYSTEM_FILE: &str = "run_system_config.json";

/// No settings file where they are looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("settings file {} not found; run `run-system --create-configs` to make one, or name another with --config", .tried.first().map(|path| path.display().to_string()).unwrap_or_default())]
pub struct NotFound {
    /// Where it was looked for.
    pub tried: Vec<PathBuf>,
}

/// The file named on the command line, else `configs/<file_name>`, else `<file_name>`, where the
/// system before this one kept it.
///
/// # Errors
/// When none of them exists.
pub fn locate(named: Option<&Path>, file_name: &str) -> Result<PathBuf, NotFound> {
    let tried = match named {
        Some(path) => vec![path.to_owned()],
        None => vec![
            Path::new("configs").join(file_name),
            PathBuf::from(file_name),
        ],
    };
    match tried.iter().find(|path| path.exists()) {
        Some(found) => Ok(found.clone()),
        None => Err(NotFound { tried }),
    }
}

/// As [`locate`], for a file that may be missing: none when it is in neither place.
///
/// # Errors
/// When the file named on the command line does not exist.
pub fn locate_if_there(named: Option<&Path>, file_name: &str) -> Result<Option<PathBuf>, NotFound> {
    match locate(named, file_name) {
        Ok(path) => Ok(Some(path)),
        Err(_) if named.is_none() => Ok(None),
        Err(error) => Err(error),
    }
}
