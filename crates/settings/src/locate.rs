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
pub enum NotFound {
    /// It was named on the command line.
    #[error("settings file {} not found; mend the path on the command line", .0.display())]
    Named(PathBuf),
    /// It is in none of the usual places.
    #[error("settings file {} not found in {}; start in the folder where it is, or run `run-system --create-configs` to make one", .file.display(), .directory.display())]
    Usual {
        /// Where it was looked for first.
        file: PathBuf,
        /// The working directory.
        directory: PathBuf,
    },
}

/// The file named on the command line, else `configs/<file_name>`, else `<file_name>`, where the
/// system before this one kept it.
///
/// # Errors
/// When none of them exists.
pub fn locate(named: Option<&Path>, file_name: &str) -> Result<PathBuf, NotFound> {
    if let Some(path) = named {
        return match path.exists() {
            true => Ok(path.to_owned()),
            false => Err(NotFound::Named(path.to_owned())),
        };
    }
    let usual = Path::new("configs").join(file_name);
    let places = [usual.clone(), PathBuf::from(file_name)];
    let found = places.into_iter().find(|path| path.exists());
    found.ok_or_else(|| NotFound::Usual {
        file: usual,
        directory: std::env::current_dir().unwrap_or_default(),
    })
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
