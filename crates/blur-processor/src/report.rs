//! The report beside each published video: what it is, where it comes from, what was done.
//!
//! It is written durably before the video gets its name, and after a crash it is the proof that a
//! video under the final name is this ticket's verified output. May touch: that one file.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ticket_queue::{Error, FileFacts, durable};

use crate::pipeline::VideoReport;

/// Content of `blurred_x.json` beside `blurred_x.mp4`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FileReport {
    /// Stem of the ticket.
    pub ticket: String,
    /// The attempt that made it.
    pub attempt: u32,
    /// Name of the source.
    pub source: String,
    /// When the first frame was recorded.
    pub recorded: Option<Timestamp>,
    /// The original; path relative to the raw directory.
    pub input: FileFacts,
    /// The video; path relative to the output directory.
    pub output: FileFacts,
    /// When work began.
    pub started: Timestamp,
    /// When the output was verified.
    pub finished: Timestamp,
    /// What was done.
    #[serde(flatten)]
    pub video: VideoReport,
}

impl FileReport {
    /// The report's place for a video: the same name, ending in `.json`.
    pub fn path_beside(video: &Path) -> PathBuf {
        video.with_extension("json")
    }

    /// Reads a report.
    ///
    /// # Errors
    /// In words: it is missing or not a report.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    /// Writes the report durably in place of one that an earlier attempt left. The caller holds
    /// the ticket, and no video lies beside it yet. What a crash leaves is `temp`.
    ///
    /// # Errors
    /// Of the disk; there is then an old report, none, or the new one.
    pub fn write_durably(&self, path: &Path, temp: &Path) -> Result<(), Error> {
        durable::remove_durable(path)?;
        let mut bytes = serde_json::to_vec_pretty(self).expect("a report has text keys only");
        bytes.push(b'\n');
        durable::write_new_durable(path, temp, &bytes)
    }
}
