//! Names of segments: `<source>_YYYYmmdd_HHMMSS[_loopNNN]_segNNNN.mp4`, local time, never used twice.
//!
//! While a segment is written it is `.<name>.part`; while it is being finished, `.<name>.tmp` beside that.
//! One that was left behind and cannot be read is `<name>.damaged`, and left to people. A clock
//! set back, or the hour that daylight saving repeats, may lead to a name that was taken before: by a file that lies
//! there, or by one that was processed and deleted since, which the queue's tickets and receipts still know. Then a
//! number is added: when the segment is begun, or when the queue does not take its ticket.
//!
//! Whoever writes or finishes a `.part` has the lock on it, so that another recorder with the same directory does not take
//! it for one that was left behind. The kernel drops the lock with the last descriptor of the file.

use jiff::Zoned;
use settings::SourceName;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A numbered name is tried this often; more means that the directory does not behave.
const MOST_TRIES: u32 = 10_000;

/// Ending of what was put aside because it cannot be read.
pub(crate) const DAMAGED: &str = "damaged";

/// What a segment's name is made of.
#[derive(Debug, Clone)]
pub struct NameParts<'a> {
    /// The source.
    pub source: &'a SourceName,
    /// Wall clock of the first frame, in the zone whose hours are to be read.
    pub start: Zoned,
    /// Round of an endlessly repeated file.
    pub round: Option<u32>,
    /// Number of the segment.
    pub number: u32,
    /// Such as `mp4`.
    pub extension: &'static str,
}

impl NameParts<'_> {
    /// The file name, with `_N` before the extension from the second try on.
    fn file_name(&self, attempt: u32) -> String {
        let round = self
            .round
            .map(|round| format!("_loop{round:03}"))
            .unwrap_or_default();
        let again = if attempt == 0 {
            String::new()
        } else {
            format!("_{}", attempt + 1)
        };
        format!(
            "{}_{}{round}_seg{:04}{again}.{}",
            self.source,
            self.start.strftime("%Y%m%d_%H%M%S"),
            self.number,
            self.extension
        )
    }
}

/// The files of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentPaths {
    /// Directory of the source.
    pub dir: PathBuf,
    /// Final file name.
    pub name: String,
}

impl SegmentPaths {
    /// From the path of a final file.
    pub fn of_final(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_owned();
        Some(SegmentPaths {
            dir: path.parent()?.to_owned(),
            name,
        })
    }

    /// From the path of a `.part` file.
    pub fn of_part(path: &Path) -> Option<Self> {
        let name = path
            .file_name()?
            .to_str()?
            .strip_prefix('.')?
            .strip_suffix(".part")?
            .to_owned();
        Some(SegmentPaths {
            dir: path.parent()?.to_owned(),
            name,
        })
    }

    /// Where the finished segment lies.
    pub fn finished(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// Where it lies while it is written.
    pub fn part(&self) -> PathBuf {
        self.dir.join(format!(".{}.part", self.name))
    }

    /// Where its final form is put together.
    pub fn temp(&self) -> PathBuf {
        self.dir.join(format!(".{}.tmp", self.name))
    }

    /// Where a `.part` is put that cannot be read; `number` tells those of one name apart. It is not hidden, so that it
    /// counts in the budget of the disk.
    pub fn damaged(&self, number: u32) -> PathBuf {
        let again = match number {
            0 | 1 => String::new(),
            number => format!("_{number}"),
        };
        self.dir.join(format!("{}{again}.{DAMAGED}", self.name))
    }

    /// The same with the next number behind the name; `None` for a name that is not made by [`NameParts`].
    pub fn with_next_number(&self) -> Option<Self> {
        let (stem, extension) = self.name.rsplit_once('.')?;
        let (start, counted) = stem.rsplit_once("_seg")?;
        let (number, again) = match counted.split_once('_') {
            Some((number, again)) => (number, again.parse::<u32>().ok()?),
            None => (counted, 1),
        };
        let again = again.checked_add(1)?;
        Some(SegmentPaths {
            dir: self.dir.clone(),
            name: format!("{start}_seg{number}_{again}.{extension}"),
        })
    }

    /// Takes the lock on the `.part`, which lasts until what is returned is dropped; `None` when there is no `.part`.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: somebody writes or finishes it.
    pub fn lock_part(&self) -> io::Result<Option<File>> {
        let opened = OpenOptions::new().read(true).write(true).open(self.part());
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        if is_held(file.try_lock()) {
            let message = "another recorder writes or finishes it";
            return Err(io::Error::new(io::ErrorKind::WouldBlock, message));
        }
        Ok(Some(file))
    }

    /// True while somebody writes or finishes the `.part`.
    pub fn is_part_locked(&self) -> bool {
        // Shared, so that those who only ask are not in each other's way.
        File::open(self.part()).is_ok_and(|file| is_held(file.try_lock_shared()))
    }

    /// The segment's identity: its path within the raw directory, where it lies in the directory of its source.
    pub fn id(&self) -> String {
        let dir = self.dir.file_name().unwrap_or_default().to_string_lossy();
        format!("{dir}/{}", self.name)
    }
}

/// True when somebody else has the lock. A file system without locks tells of nobody.
fn is_held(lock: Result<(), TryLockError>) -> bool {
    match lock {
        Ok(()) => false,
        Err(TryLockError::WouldBlock) => true,
        Err(TryLockError::Error(error)) => {
            tracing::debug!(%error, "segments cannot be locked here");
            false
        }
    }
}

/// Creates the `.part` file of a new segment under a name that was never used, and locks it for as long as the file is
/// open.
///
/// `is_taken` tells whether a segment with that identity was recorded before, though it may be gone from the disk.
///
/// # Errors
/// Of the directory: missing, full, read-only.
pub fn create_part(
    dir: &Path,
    parts: &NameParts<'_>,
    is_taken: &dyn Fn(&str) -> bool,
) -> io::Result<(SegmentPaths, File)> {
    for attempt in 0..MOST_TRIES {
        let paths = SegmentPaths {
            dir: dir.to_owned(),
            name: parts.file_name(attempt),
        };
        if is_taken(&paths.id()) || paths.finished().symlink_metadata().is_ok() {
            continue;
        }
        match OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(paths.part())
        {
            // One that starts just now and found it empty will remove it.
            Ok(file) if is_held(file.try_lock()) => {}
            Ok(file) => return Ok((paths, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!(
        "no free name like {} in {}",
        parts.file_name(0),
        dir.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(name: &str) -> SourceName {
        let text = format!(r#"{{"sources": [{{"name": "{name}", "url": "rtsp://127.0.0.1/x"}}]}}"#);
        let settings =
            settings::RecorderSettings::from_text(&text, &settings::Environment::of_process());
        settings.unwrap().sources[0].name.clone()
    }

    #[test]
    fn names_are_never_used_twice() {
        let dir = tempfile::tempdir().unwrap();
        let yard = dir.path().join("yard");
        std::fs::create_dir(&yard).unwrap();
        let name = source("yard");
        let parts = NameParts {
            source: &name,
            start: "2025-10-26T02:30:00+02:00[Europe/Berlin]".parse().unwrap(),
            round: None,
            number: 7,
            extension: "mp4",
        };
        let is_taken = |id: &str| id == "yard/yard_20251026_023000_seg0007.mp4";
        let create = || create_part(&yard, &parts, &is_taken).unwrap().0;
        let first = create();
        assert!(daemon::disk::is_segment_name("yard", &first.name));
        assert_eq!(first.name, "yard_20251026_023000_seg0007_2.mp4");
        assert_eq!(create().name, "yard_20251026_023000_seg0007_3.mp4");
        std::fs::rename(first.part(), first.finished()).unwrap();
        assert_eq!(create().name, "yard_20251026_023000_seg0007_4.mp4");
        assert_eq!(SegmentPaths::of_part(&first.part()), Some(first.clone()));
        assert_eq!(first.id(), "yard/yard_20251026_023000_seg0007_2.mp4");
        let next = first.with_next_number().unwrap();
        assert_eq!(next.name, "yard_20251026_023000_seg0007_3.mp4");
        let foreign = |name: &str| {
            SegmentPaths::of_final(&yard.join(name))
                .unwrap()
                .with_next_number()
        };
        assert_eq!(foreign("yard_20251026_023000_seg0007_x.mp4"), None);
        assert_eq!(foreign("yard.mp4"), None);
    }

    #[test]
    fn a_segment_is_locked_until_its_file_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let name = source("yard");
        let parts = NameParts {
            source: &name,
            start: "2025-07-18T03:31:29[UTC]".parse().unwrap(),
            round: None,
            number: 1,
            extension: "mp4",
        };
        let (paths, file) = create_part(dir.path(), &parts, &|_| false).unwrap();
        assert!(paths.is_part_locked());
        let refused = paths.lock_part().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(file);
        assert!(!paths.is_part_locked());
        let lock = paths.lock_part().unwrap().expect("there is a part");
        assert!(paths.is_part_locked());
        drop(lock);
        std::fs::remove_file(paths.part()).unwrap();
        assert!(!paths.is_part_locked() && paths.lock_part().unwrap().is_none());
    }

    #[test]
    fn rounds_of_a_file_are_in_its_name() {
        let name = source("media2");
        let parts = NameParts {
            source: &name,
            start: "2025-07-18T03:31:29[UTC]".parse().unwrap(),
            round: Some(1),
            number: 2,
            extension: "mp4",
        };
        assert_eq!(
            parts.file_name(0),
            "media2_20250718_033129_loop001_seg0002.mp4"
        );
        assert!(daemon::disk::is_segment_name("media2", &parts.file_name(1)));
    }
}
