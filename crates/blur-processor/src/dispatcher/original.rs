//! The original as its ticket describes it: is it that file, and what is its output called?
//!
//! Nothing in a ticket is believed here. May touch: the opened original, read only.

use std::fs::{File, TryLockError};
use std::io::{self, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Once;

use rustix::fs::{Advice, fadvise};
use serde_json::Value;
use ticket_queue::beneath::{Opened, RelPath};
use ticket_queue::{CutReason, Error, Failure, FileFacts, Ticket};
use tracing::warn;

use crate::pipeline::{Pace, VideoJob};

/// Cameras beyond are one and the same to a plugin: the number in a ticket is not to be trusted.
const MOST_CAMERAS: u32 = 1024;

/// Why a ticket is not worked on.
pub(crate) enum Refusal {
    /// The disk failed.
    Disk(Error),
    /// What the queue is to do with the ticket.
    Ticket(Failure),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Disk(error)
    }
}

pub(super) fn dead(reason: String) -> Refusal {
    Refusal::Ticket(Failure::Dead { reason })
}

/// For a file below the output directory.
pub(super) fn output_io(action: &'static str, path: &Path, source: io::Error) -> Refusal {
    Refusal::Disk(Error::Io {
        action,
        path: path.to_owned(),
        source,
    })
}

/// Locks the original, and compares with its ticket what can be told without reading it.
pub(super) fn lock_original(ticket: &Ticket, opened: &Opened) -> Result<(), Refusal> {
    if is_busy(opened.file.try_lock()) {
        let reason = format!("another ticket's work on {} is under way", opened.path);
        return Err(Refusal::Ticket(Failure::NotNow { reason }));
    }
    if opened.id.size == 0 {
        return Err(dead(format!("the video {} is empty", opened.path)));
    }
    if ticket.file_size != 0 && ticket.file_size != opened.id.size {
        return Err(dead(format!(
            "the video {} has {} bytes, its ticket says {}; it is not the file that was recorded",
            opened.path, opened.id.size, ticket.file_size
        )));
    }
    Ok(())
}

/// Whether another ticket's work has the lock. Where a file cannot be locked at all (some network file systems lock only
/// what is open for writing) nobody can, and to wait would be to wait for ever.
fn is_busy(lock: Result<(), TryLockError>) -> bool {
    static TOLD: Once = Once::new();
    match lock {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => {
            TOLD.call_once(|| {
                warn!(%error, "originals cannot be locked here; two tickets of one file may be worked on at once");
            });
            false
        }
    }
}

/// Compares the hash of an original's content with its ticket.
pub(super) fn facts_of(
    ticket: &Ticket,
    opened: &Opened,
    blake3: String,
) -> Result<FileFacts, Refusal> {
    match &ticket.blake3 {
        Some(wanted) if *wanted != blake3 => Err(dead(format!(
            "the content of {} does not have the hash in its ticket; it was changed or damaged after it was recorded",
            opened.path
        ))),
        _ => Ok(FileFacts {
            path: opened.path.to_string(),
            bytes: opened.id.size,
            blake3,
        }),
    }
}

/// Whether a file of which some part could not be read can be read elsewhere: then the disk as a whole is well.
pub(super) fn answers(file: &File) -> bool {
    const PLACES: u64 = 16;
    let Ok(meta) = file.metadata() else {
        return false;
    };
    // Not from memory. Where that is refused, the file has no disk that could fail.
    fadvise(file, 0, None, Advice::DontNeed).ok();
    (0..PLACES).any(|place| {
        let at = meta.len() / PLACES * place;
        file.read_exact_at(&mut [0], at).is_ok()
    })
}

/// Whether a report's original is what a ticket speaks of, when the original is gone.
pub(super) fn is_origin(ticket: &Ticket, input: &FileFacts) -> bool {
    match &ticket.blake3 {
        Some(wanted) => *wanted == input.blake3,
        None => {
            let same_name =
                Path::new(&ticket.filepath).file_name() == Path::new(&input.path).file_name();
            same_name && ticket.file_size == input.bytes
        }
    }
}

/// `<source>/blurred_<name>.mp4`, relative to the output directory.
pub(super) fn output_path(ticket: &Ticket) -> Result<RelPath, Failure> {
    let raw = Path::new(&ticket.filepath);
    let source = match ticket.source_name.as_str() {
        "" => raw
            .parent()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str())
            .unwrap_or("unnamed"),
        name => name,
    };
    let plain = !source.starts_with('.')
        && source.len() <= 200
        && !source.chars().any(|c| c == '/' || c.is_control());
    let stem = raw.file_stem().and_then(|stem| stem.to_str());
    if stem.is_some_and(|stem| stem.starts_with('.')) {
        return Err(Failure::Corrupt {
            reason: format!(
                "{} is hidden: a recorder may still write to it",
                ticket.filepath
            ),
        });
    }
    match (plain, stem) {
        (true, Some(stem)) => RelPath::new(Path::new(source).join(format!("blurred_{stem}.mp4"))),
        _ => None,
    }
    .ok_or_else(|| Failure::Corrupt {
        reason: format!(
            "source_name {:?} and filepath {:?} give no name for the output",
            ticket.source_name, ticket.filepath
        ),
    })
}

/// What a worker is told about a ticket's video.
pub(super) fn job_of(ticket: &Ticket, output: &RelPath) -> VideoJob {
    let start = ticket.start();
    VideoJob {
        name: output.to_string(),
        utc_offset_seconds: start.as_ref().map_or(0, |start| start.offset().seconds()),
        start: start.map(|start| start.timestamp()),
        // Of a segment that was recovered nobody counted.
        lossy: ticket.packets_lost.unwrap_or(0) > 0
            || ticket.cut_reason == Some(CutReason::Recovered),
        pace: Pace::Calm,
        camera: u32::try_from(ticket.recorder_id)
            .ok()
            .filter(|camera| *camera < MOST_CAMERAS)
            .unwrap_or(0),
        ..VideoJob::default()
    }
}

/// BLAKE3 of a whole file, hexadecimal.
pub(super) fn hash(file: &File) -> io::Result<String> {
    let mut reader = file;
    reader.rewind()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(reader)?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// The hash of the plugin's model, where it names one; of the first, where it names several.
pub(super) fn model_hash(info: &Value) -> Option<String> {
    let first = info
        .get("models")
        .and_then(|models| models.get(0))
        .unwrap_or(info);
    let hash = ["blake3", "model_blake3", "sha256", "model_sha256"]
        .iter()
        .find_map(|key| first.get(key));
    hash.and_then(Value::as_str).map(str::to_owned)
}

/// An error with all its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(filepath: &str, source_name: &str) -> Ticket {
        Ticket {
            filepath: filepath.to_owned(),
            source_name: source_name.to_owned(),
            ..Ticket::default()
        }
    }

    #[test]
    fn outputs_are_named_by_source_and_segment() {
        let name = |path, source| {
            output_path(&ticket(path, source))
                .map(|path| path.to_string())
                .ok()
        };
        assert_eq!(
            name("raw_videos/cam/x.mp4", "cam").as_deref(),
            Some("cam/blurred_x.mp4")
        );
        assert_eq!(
            name("raw_videos/cam/x.mkv", "").as_deref(),
            Some("cam/blurred_x.mp4")
        );
        assert_eq!(name("x.mp4", "").as_deref(), Some("unnamed/blurred_x.mp4"));
        // As recorders name what they have open.
        assert_eq!(name("raw_videos/cam/.x.mp4.part", "cam"), None);
    }

    #[test]
    fn only_a_lock_that_somebody_has_makes_an_original_busy() {
        assert!(!is_busy(Ok(())));
        assert!(is_busy(Err(TryLockError::WouldBlock)));
        // As NFS answers for a descriptor that is open for reading only.
        let refused = io::Error::from(rustix::io::Errno::BADF);
        assert!(!is_busy(Err(TryLockError::Error(refused))));
    }

    #[test]
    fn outputs_never_leave_the_output_directory() {
        for source in ["..", "../etc", ".tmp", "a/b", "a\nb"] {
            assert!(
                output_path(&ticket("raw_videos/cam/x.mp4", source)).is_err(),
                "{source:?}"
            );
        }
    }

    #[test]
    fn of_a_recovered_segment_it_is_not_known_what_was_lost() {
        let lossy = |packets_lost, cut_reason| {
            let ticket = Ticket {
                packets_lost,
                cut_reason,
                ..ticket("raw_videos/cam/x.mp4", "cam")
            };
            let output = output_path(&ticket).expect("a name");
            job_of(&ticket, &output).lossy
        };
        assert!(!lossy(None, None));
        assert!(!lossy(Some(0), Some(CutReason::Duration)));
        assert!(lossy(Some(3), Some(CutReason::Duration)));
        assert!(lossy(Some(0), Some(CutReason::Recovered)));
    }
}
