//! The record of gaps: one JSON line in `gaps.jsonl` beside the log for every interruption of a source: when, how
//! long, why. The log shows at most one a minute of a flapping camera; this shows all.

use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Above this size the file is set aside as `gaps.jsonl.1`.
const MOST_BYTES: u64 = 16 << 20;

/// Where gaps are written down.
#[derive(Debug, Clone)]
pub struct Ledger {
    path: PathBuf,
    /// Of those who write, since one of them sets the file aside.
    turn: Arc<Mutex<()>>,
}

/// A time in which a source was not recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Gap {
    /// When recording went on.
    pub until: Timestamp,
    /// How long nothing was recorded.
    pub length: Duration,
    /// In words, without credentials.
    pub why: String,
}

impl Ledger {
    /// In that directory.
    pub fn new(log_dir: &Path) -> Self {
        Ledger {
            path: log_dir.join("gaps.jsonl"),
            turn: Arc::default(),
        }
    }

    /// How long nothing was recorded before each recording that is on record, by the source's name and the second in which
    /// recording went on. What cannot be read is left out.
    pub fn read(&self) -> HashMap<(String, i64), Duration> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let gap = |line: &str| {
            let line: Value = serde_json::from_str(line).ok()?;
            let until: Timestamp = line["until"].as_str()?.parse().ok()?;
            let length = Duration::try_from_secs_f64(line["seconds"].as_f64()?).ok()?;
            Some((
                (line["source"].as_str()?.to_owned(), until.as_second()),
                length,
            ))
        };
        text.lines().filter_map(gap).collect()
    }

    /// Writes a gap down. Clones may do so at once.
    ///
    /// # Errors
    /// Of the disk.
    pub fn append(&self, source: &str, gap: &Gap) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self
            .path
            .metadata()
            .is_ok_and(|meta| meta.len() > MOST_BYTES)
        {
            std::fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
        }
        let from = gap.until.checked_sub(gap.length).unwrap_or(gap.until);
        let seconds = (gap.length.as_secs_f64() * 1000.0).round() / 1000.0;
        let until = gap.until;
        let line = json!({"source": source, "from": from, "until": until, "seconds": seconds, "why": gap.why});
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)?;
        file.write_all(format!("{line}\n").as_bytes())
    }
}
