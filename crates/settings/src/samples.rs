//! The settings files that `--create-configs` and `--create-config` write: every key with its default and its meaning,
//! and beside each its JSON Schema.

use crate::{BLUR_FILE, RECORDER_FILE, SYSTEM_FILE, schema};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Text of a new `rtsp_recorder_config.json`.
pub fn recorder() -> &'static str {
    include_str!("samples/rtsp_recorder_config.json")
}

/// Text of a new `blur_processor_config.json`.
pub fn blur() -> &'static str {
    include_str!("samples/blur_processor_config.json")
}

/// Text of a new `run_system_config.json`.
pub fn system() -> &'static str {
    include_str!("samples/run_system_config.json")
}

/// A settings file to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// Of `rtsp-recorder`.
    Recorder,
    /// Of `blur-processor`.
    Blur,
    /// Of `run-system` itself.
    System,
}

/// What becomes of a file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays as it is.
    Stays,
    /// The new one takes its place.
    IsReplaced,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// False: there was a file, and it is as it was.
    pub is_new: bool,
    /// The schema, which was written in either case.
    pub schema: PathBuf,
}

/// A settings file, or its schema, that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be written: {cause}", .path.display())]
pub struct NotWritten {
    path: PathBuf,
    cause: io::Error,
}

impl Sample {
    /// The name that the file usually has.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Recorder => RECORDER_FILE,
            Self::Blur => BLUR_FILE,
            Self::System => SYSTEM_FILE,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Recorder => recorder(),
            Self::Blur => blur(),
            Self::System => system(),
        }
    }

    fn schema(self) -> String {
        match self {
            Self::Recorder => schema::recorder(),
            Self::Blur => schema::blur(),
            Self::System => schema::system(),
        }
    }

    /// Writes the file, its directory and its schema. The schema is made anew each time: nobody edits it, and one of an
    /// earlier version would find fault with new keys. It has the name that the sample refers to, whatever the file's is.
    ///
    /// # Errors
    /// What cannot be written, and why.
    pub fn create(self, path: &Path, existing: Existing) -> Result<Created, NotWritten> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |cause| NotWritten { path, cause }
        };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(failed(dir))?;
        }
        let is_new = match existing {
            Existing::Stays => write_new(path, self.text()),
            Existing::IsReplaced => replace(path, self.text()).map(|()| true),
        }
        .map_err(failed(path))?;
        let schema = path.with_file_name(schema::file_name(self.file_name()));
        replace(&schema, &self.schema()).map_err(failed(&schema))?;
        Ok(Created { is_new, schema })
    }
}

/// False when there is such a file.
fn write_new(path: &Path, text: &str) -> io::Result<bool> {
    match fs::File::create_new(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// A reader sees the old text or the new one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut scratch = path.as_os_str().to_owned();
    scratch.push(format!(".{}.tmp", std::process::id()));
    let replaced = fs::write(&scratch, text).and_then(|()| fs::rename(&scratch, path));
    if replaced.is_err() {
        // The error that matters is the one returned.
        fs::remove_file(&scratch).ok();
    }
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_once_and_its_schema_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/mine.json");
        let created = Sample::Blur.create(&path, Existing::Stays).unwrap();
        assert!(created.is_new);
        assert_eq!(
            created.schema,
            dir.path().join("new/blur_processor_config.schema.json")
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), blur());
        fs::write(&path, "mine").unwrap();
        fs::write(&created.schema, "of an earlier version").unwrap();
        let kept = Sample::Blur.create(&path, Existing::Stays).unwrap();
        assert!(!kept.is_new);
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        assert_eq!(fs::read_to_string(&created.schema).unwrap(), schema::blur());
        Sample::Blur.create(&path, Existing::IsReplaced).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), blur());
        assert_eq!(fs::read_dir(dir.path().join("new")).unwrap().count(), 2);
        let error = Sample::Blur.create(&path.join("under a file"), Existing::Stays);
        assert!(error.unwrap_err().to_string().contains("mine.json"));
    }
}
