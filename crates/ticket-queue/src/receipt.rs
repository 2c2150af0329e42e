//! The receipt: proof that a ticket's work is done, and what was done.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::beneath::DirId;
use crate::names::Stem;

/// The version written into new receipts.
pub const RECEIPT_VERSION: u32 = 1;

/// What was made of one ticket. It is durable before the original is touched, and from then on
/// the ticket is only finished, never worked on again. Unknown fields are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// [`RECEIPT_VERSION`].
    pub version: u32,
    /// [`crate::Ticket::id`] of the ticket.
    pub id: String,
    /// The ticket's stem.
    pub stem: Stem,
    /// The attempt that published the output.
    pub attempt: u32,
    /// The original; its path is relative to the raw directory.
    pub input: FileFacts,
    /// The published file; its path is relative to the output directory.
    pub output: FileFacts,
    /// What becomes of the original.
    pub original: OriginalFate,
    /// The directory that the original lay in when the receipt was written, which [`crate::publish::Publisher::settle`] fills
    /// in. It tells later whether an original that is not found is gone, or its disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original_dir: Option<DirId>,
    /// Which plugin saw the frames; `None` for the built-in whole-frame blur.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginFacts>,
    /// Frames in the output.
    pub frames: u64,
    /// Distinct heads: tracks that the detector clearly saw at least once.
    #[serde(default)]
    pub heads: u64,
    /// Distinct tracks masked.
    #[serde(default)]
    pub tracks: u64,
    /// When work on the ticket began.
    pub started: Timestamp,
    /// When the output was published.
    pub finished: Timestamp,
    /// More of the caller's facts, and fields of other versions.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Receipt {
    /// Whether it proves nothing any more, and its ticket can be done again: the output is gone, the original is not.
    pub(crate) fn is_void(&self, raw_dir: &Path, output_dir: &Path) -> bool {
        let output = fs::symlink_metadata(output_dir.join(&self.output.path));
        let original = fs::symlink_metadata(raw_dir.join(&self.input.path));
        output.is_err_and(|error| error.kind() == ErrorKind::NotFound)
            && original.is_ok_and(|meta| meta.is_file() && meta.len() == self.input.bytes)
    }
}

/// A file as it was read or written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Relative path.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// BLAKE3, 64 lower-case hexadecimal digits.
    pub blake3: String,
}

/// The plugin that processed the frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginFacts {
    /// Its own name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// BLAKE3 of its file.
    pub blake3: String,
    /// BLAKE3 of its model file, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_blake3: Option<String>,
}

/// What becomes of the original after its output is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginalFate {
    /// It is removed.
    Deleted,
    /// It is moved to the backup directory.
    BackedUp,
    /// It stays where it is.
    Kept,
}
