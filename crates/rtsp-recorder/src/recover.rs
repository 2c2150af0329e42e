//! At start: segments that a dead recorder left behind get what they are missing.
//!
//! - `.<name>.part`: finished or salvaged, and a ticket with the cut reason `recovered`. When `<name>` lies beside it,
//!   the recorder died after naming it; only the `.part` is removed.
//! - A segment that no ticket and no receipt knows gets its ticket.
//! - A `.tmp` without its `.part` is removed.

use crate::disk::files_below;
use crate::finisher::{Job, Origin, SegmentFacts, Stage};
use crate::names::SegmentPaths;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use std::path::Path;
use ticket_queue::{CutReason, DirectoryQueue, Queue};
use tracing::{info, warn};

/// What the queue knows of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing: it has no ticket.
    Unknown,
    /// It has a ticket that is not done.
    Waiting,
    /// It has a receipt.
    Processed,
}

/// What the queue knows of the segment with that identity.
///
/// # Errors
/// The queue cannot be read.
pub fn standing(queue: &DirectoryQueue, id: &str) -> Result<Standing, ticket_queue::Error> {
    let Some(stem) = queue.find(id)? else {
        return Ok(Standing::Unknown);
    };
    Ok(if queue.receipt(&stem)?.is_some() {
        Standing::Processed
    } else {
        Standing::Waiting
    })
}

/// What a segment's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentName {
    /// The source's name.
    pub source: String,
    /// Start of the segment, local time.
    pub start: DateTime,
}

impl SegmentName {
    /// Reads the name of `<source>/<source>_YYYYmmdd_HHMMSS[_loopNNN]_segNNNN[_N].<ext>`; other files give `None`.
    pub fn parse(path: &Path) -> Option<Self> {
        let source = path.parent()?.file_name()?.to_str()?;
        let name = path.file_name()?.to_str()?;
        let rest = name.strip_prefix(source)?.strip_prefix('_')?;
        let time = rest.get(..15)?;
        rest.get(15..)?.starts_with('_').then_some(())?;
        rest.contains("_seg").then_some(())?;
        let start = DateTime::strptime("%Y%m%d_%H%M%S", time).ok()?;
        Some(SegmentName {
            source: source.to_owned(),
            start,
        })
    }
}

/// Looks through the raw directory for segments to be finished. `origin` tells about the source of a name. Call it
/// before recording begins.
///
/// # Errors
/// The queue cannot be read.
pub fn look(
    raw_dir: &Path,
    queue: &DirectoryQueue,
    zone: &TimeZone,
    origin: &dyn Fn(&str) -> Origin,
) -> Result<Vec<Job>, ticket_queue::Error> {
    let mut jobs = Vec::new();
    for path in files_below(raw_dir) {
        if let Some(paths) = SegmentPaths::of_part(&path) {
            jobs.extend(job(paths, Stage::Torn, zone, origin));
        } else if let Some(temp) = stray_temp(&path) {
            remove(&temp);
        } else if let Some(name) = SegmentName::parse(&path) {
            let Some(paths) = SegmentPaths::of_final(&path) else {
                continue;
            };
            if paths.part().exists() {
                continue;
            }
            if standing(queue, &paths.id())? == Standing::Unknown {
                info!(segment = %paths.name, "segment without a ticket; it gets one for {}", name.source);
                jobs.extend(job(paths, Stage::Named, zone, origin));
            }
        }
    }
    Ok(jobs)
}

fn job(
    paths: SegmentPaths,
    stage: Stage,
    zone: &TimeZone,
    origin: &dyn Fn(&str) -> Origin,
) -> Option<Job> {
    let Some(name) = SegmentName::parse(&paths.finished()) else {
        warn!(file = %paths.part().display(), "not a segment of this recorder; left alone");
        return None;
    };
    let facts = SegmentFacts {
        reason: CutReason::Recovered,
        start: name
            .start
            .to_zoned(zone.clone())
            .unwrap_or_else(|_| Zoned::new(Timestamp::UNIX_EPOCH, zone.clone())),
        wall_duration: None,
        packets_lost: 0,
        gap_before: None,
    };
    Some(Job {
        paths,
        origin: origin(&name.source),
        facts,
        stage,
    })
}

/// A `.tmp` whose `.part` is gone.
fn stray_temp(path: &Path) -> Option<std::path::PathBuf> {
    let name = path
        .file_name()?
        .to_str()?
        .strip_prefix('.')?
        .strip_suffix(".tmp")?;
    let part = path.with_file_name(format!(".{name}.part"));
    (!part.exists() && SegmentName::parse(&path.with_file_name(name)).is_some())
        .then(|| path.to_owned())
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Ok(()) => info!(file = %path.display(), "removed the leftover of an interrupted finish"),
        Err(error) => warn!(file = %path.display(), %error, "a leftover could not be removed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_segments() {
        let parse =
            |path: &str| SegmentName::parse(Path::new(path)).map(|name| name.start.to_string());
        let start = Some("2025-07-18T03:31:29".to_owned());
        assert_eq!(parse("raw/cam_1/cam_1_20250718_033129_seg0001.mp4"), start);
        assert_eq!(
            parse("raw/cam_1/cam_1_20250718_033129_loop000_seg0001_2.mp4"),
            start
        );
        assert_eq!(parse("raw/cam_1/cam_2_20250718_033129_seg0001.mp4"), None);
        assert_eq!(parse("raw/media1.mp4"), None);
        assert_eq!(parse("raw/cam_1/cam_1_2025071_033129_seg0001.mp4"), None);
        assert_eq!(parse("raw/cam_1/cam_1_20250718_033129_seg0001é.mp4"), start);
    }
}
