//! One JSON file in, checked and typed settings out.
//!
//! Two layers: the file as the user wrote it ([`json`] nodes that remember their line, described by
//! the tables of [`keys`]) and the settings a daemon works with ([`RecorderSettings`],
//! [`BlurSettings`], [`SystemSettings`]), in which nothing is optional that has a default. All problems of a file are
//! reported at once, each with its line, its key, the value found and what would be allowed.
//!
//! What a file may contain beyond JSON: `//` and `/* */` comments, commas after the last element,
//! and `${NAME}` in any text, which is replaced from the environment (`$${` stands for `${`).
//!
//! Besides reading that one file, writing a sample of it and asking whether a plugin file exists, this crate does no
//! input or output. Relative paths are left as they are: they count from the working directory.

mod blur;
mod environment;
mod hooks;
mod json;
pub mod keys;
mod locate;
mod module;
mod naming;
mod problem;
mod read;
mod recorder;
pub mod samples;
mod schedule;
pub mod schema;
mod size;
mod source;
mod system;
mod url;
mod zones;

pub use blur::{BlurSettings, KeptApart, MaskStyle, Overlay, SandboxLevel, Size};
pub use environment::Environment;
pub use hooks::{Hook, HookEvent, HookTarget, HookUrl};
pub use locate::{BLUR_FILE, NotFound, RECORDER_FILE, SYSTEM_FILE, locate, locate_if_there};
pub use module::BlurModule;
pub use naming::SourceName;
pub use problem::{Problem, Problems};
pub use recorder::{Container, RecorderSettings, WhenFull};
pub use schedule::Schedule;
pub use source::{Source, Transport, VideoCodec};
pub use system::{DashboardSettings, SystemSettings, TlsFiles};
pub use url::{Credentials, SourceKind, SourceUrl};
pub use zones::{CameraZones, ZonePolygon, Zones};

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a daemon reports its state, and whether it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Monitoring {
    /// False: no periodic lines in the log. The status file is written all the same.
    pub enabled: bool,
    /// Time between two reports.
    pub interval: Duration,
}

/// The disk budget over raw, processed and backup videos.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskBudget {
    /// Bytes that all videos together may take.
    pub max_usage_bytes: u64,
    /// Bytes that stay free on the file system, whatever else is configured.
    pub min_free_bytes: u64,
    /// False: nothing is ever deleted to make room.
    pub cleanup_old_files: bool,
    /// Finished videos older than this are deleted.
    pub max_file_age: Duration,
}

/// Where a daemon keeps its log and its status file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Directory of the log files.
    pub log_dir: PathBuf,
    /// Directory of the status files and of the singleton locks.
    pub status_dir: PathBuf,
}

fn read_file(path: &Path) -> Result<String, Problems> {
    let bytes = std::fs::read(path).map_err(|error| Problems::one(None, unreadable(&error)))?;
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let message = "the file is not UTF-8; save it as UTF-8".to_owned();
        Problems::one(u32::try_from(line).ok(), message)
    })
}

fn unreadable(error: &std::io::Error) -> String {
    let advice = match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "; let the user who runs this read it and enter its folder"
        }
        std::io::ErrorKind::IsADirectory => "; name a file",
        _ => "",
    };
    format!("the file cannot be read: {error}{advice}")
}

/// Parses, replaces variables, reads by the table, and gives the settings only if nothing is wrong.
fn read_object<S>(
    text: &str,
    env: &Environment<'_>,
    keys: &'static [keys::Key],
    read: impl FnOnce(read::Reader<'_>) -> S,
) -> Result<S, Problems> {
    let mut root =
        json::parse(text).map_err(|error| Problems::one(Some(error.line), error.message))?;
    let mut list = Vec::new();
    environment::substitute(&mut root, env, "", &mut list);
    let json::Value::Object(members) = &root.value else {
        let message = format!(
            "{} is not allowed here; the file must be an object in {{ }}",
            root.shown()
        );
        return Err(Problems::one(Some(root.line), message));
    };
    let settings = read(read::Reader::new(keys, members, String::new(), &mut list));
    list.sort_by_key(|problem| problem.line.unwrap_or(u32::MAX));
    if list.is_empty() {
        Ok(settings)
    } else {
        Err(Problems { file: None, list })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn a_file_that_cannot_be_read_is_told_with_what_to_do() {
        let denied = unreadable(&ErrorKind::PermissionDenied.into());
        assert!(
            denied.contains("let the user who runs this read it"),
            "{denied}"
        );
        let told = read_file(Path::new("/")).unwrap_err().to_string();
        assert!(told.ends_with("; name a file"), "{told}");
    }
}
