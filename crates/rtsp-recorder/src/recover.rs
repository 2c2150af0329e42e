//! At start: segments that a dead recorder left behind get what they are missing.
//!
//! - `.<name>.part`: finished or salvaged, and a ticket with the cut reason `recovered`. When `<name>` lies beside it,
//!   the recorder died after naming it; only the `.part` is removed. One that is locked is not left behind: another
//!   recorder, with the same raw directory, has it open.
//! - A segment that no ticket and no receipt knows gets its ticket.
//! - A `.tmp` without its `.part` is removed.
//! - A `.damaged` is left alone: nothing could be made of it, and only people may say that it is of no use.

use crate::disk::files_below;
use crate::finisher::{FinisherHandle, Job, Origin, SegmentFacts, Stage};
use crate::ledger::Ledger;
use crate::names::{DAMAGED, SegmentPaths};
use daemon::status::{self, RecorderStatus};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
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

/// What the queue knows of the segment with that identity and size. A receipt for another size is of an earlier segment of
/// the same name.
///
/// # Errors
/// The queue cannot be read.
pub fn standing(
    queue: &DirectoryQueue,
    id: &str,
    bytes: u64,
) -> Result<Standing, ticket_queue::Error> {
    let Some(stem) = queue.find(id)? else {
        return Ok(Standing::Unknown);
    };
    Ok(match queue.receipt(&stem)? {
        Some(receipt) if receipt.input.bytes == bytes => Standing::Processed,
        Some(_) => Standing::Unknown,
        None => Standing::Waiting,
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
        if path.extension().is_some_and(|ending| ending == DAMAGED) {
            return None;
        }
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

/// What an earlier run left in the raw directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Segments that were being written.
    pub parts: Vec<SegmentPaths>,
    /// Finished segments, with ticket or without.
    pub segments: Vec<SegmentPaths>,
}

/// Looks through the raw directory. Call it before recording begins, so that nothing of this run is among it.
pub fn look(raw_dir: &Path) -> Found {
    let mut found = Found::default();
    let mut open_elsewhere = 0;
    for path in files_below(raw_dir) {
        if let Some(paths) = SegmentPaths::of_part(&path) {
            if paths.is_part_locked() {
                open_elsewhere += 1;
            } else {
                found.parts.push(paths);
            }
        } else if let Some(temp) = stray_temp(&path) {
            remove(&temp);
        } else if SegmentName::parse(&path).is_some() {
            found
                .segments
                .extend(SegmentPaths::of_final(&path).filter(|paths| !paths.part().exists()));
        }
    }
    if open_elsewhere > 0 {
        warn!(segments = open_elsewhere, output_dir = %raw_dir.display(), "another recorder records here, too; its open segments are left to it");
    }
    found
}

/// What an earlier process tells of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// When it had the last frame.
    pub last_frame: Timestamp,
    /// Why it recorded nothing any more after that, if that was its end.
    pub trouble: Option<String>,
}

/// What an earlier process tells of each source, by the source's name: what its last status says, or for the last frame the
/// age of the segments it left, which is nearer to the truth after a kill. Call it before those are finished.
pub fn earlier(found: &Found, status_dir: &Path) -> HashMap<String, Earlier> {
    let told: RecorderStatus =
        status::read(&status::file(status_dir, status::RECORDER)).unwrap_or_default();
    let mut earlier: HashMap<String, Earlier> = told
        .sources
        .into_iter()
        .filter_map(|source| {
            let earlier = Earlier {
                last_frame: source.last_frame?,
                trouble: source.error,
            };
            Some((source.name, earlier))
        })
        .collect();
    let parts = found.parts.iter().map(|paths| (paths, paths.part()));
    let segments = found.segments.iter().map(|paths| (paths, paths.finished()));
    for (paths, file) in parts.chain(segments) {
        let written = file.metadata().and_then(|meta| meta.modified());
        let written = written.ok().and_then(|time| Timestamp::try_from(time).ok());
        if let (Some(name), Some(written)) = (SegmentName::parse(&paths.finished()), written) {
            let of_source = earlier.entry(name.source).or_insert(Earlier {
                last_frame: written,
                trouble: None,
            });
            of_source.last_frame = written.max(of_source.last_frame);
            if written > told.updated {
                // Recorded since.
                of_source.trouble = None;
            }
        }
    }
    earlier
}

/// Hands what was found over to be finished: every `.part`, and every segment that the queue knows nothing of. `ledger` tells
/// of gaps before them.
pub fn hand_over(
    found: Found,
    finisher: &FinisherHandle,
    zone: &TimeZone,
    sources: &[Origin],
    ledger: &Ledger,
) {
    let gaps = ledger.read();
    let origin = |name: &str| {
        let known = sources.iter().find(|origin| origin.name == name);
        known.cloned().unwrap_or_else(|| Origin::unknown(name))
    };
    for paths in found.parts {
        info!(segment = %paths.name, "finishing a segment of an earlier run");
        job(paths, Stage::Torn, zone, &origin, &gaps)
            .into_iter()
            .for_each(|job| finisher.push(job));
    }
    for paths in found.segments {
        let Ok(meta) = paths.finished().metadata() else {
            continue;
        };
        match standing(finisher.queue(), &paths.id(), meta.len()) {
            Ok(Standing::Unknown) => {
                info!(segment = %paths.name, "a segment of an earlier run has no ticket; it gets one");
                job(paths, Stage::Named, zone, &origin, &gaps)
                    .into_iter()
                    .for_each(|job| finisher.push(job));
            }
            Ok(_) => {}
            Err(error) => {
                warn!(segment = %paths.name, %error, "cannot tell whether a segment has a ticket; asked again at the next start");
            }
        }
    }
}

fn job(
    paths: SegmentPaths,
    stage: Stage,
    zone: &TimeZone,
    origin: &dyn Fn(&str) -> Origin,
    gaps: &HashMap<(String, i64), Duration>,
) -> Option<Job> {
    let Some(name) = SegmentName::parse(&paths.finished()) else {
        warn!(file = %paths.part().display(), "not a segment of this recorder; left alone");
        return None;
    };
    let file = match stage {
        Stage::Named => paths.finished(),
        Stage::Complete | Stage::Torn => paths.part(),
    };
    let written = file.metadata().and_then(|meta| meta.modified()).ok();
    let written = written.and_then(|time| Timestamp::try_from(time).ok());
    let start = begun_at(name.start, zone, written);
    let second = start.timestamp().as_second();
    let facts = SegmentFacts {
        reason: CutReason::Recovered,
        gap_before: gaps.get(&(name.source.clone(), second)).copied(),
        start,
        wall_duration: None,
        packets_lost: 0,
        hidden_key: None,
    };
    Some(Job {
        paths,
        origin: origin(&name.source),
        facts,
        stage,
        hash: None,
    })
}

/// When a segment began whose name says `start`, and whose file was last written at `written`. In the hour that the end of
/// daylight saving repeats it is the last time of that name at which it can have begun.
fn begun_at(start: DateTime, zone: &TimeZone, written: Option<Timestamp>) -> Zoned {
    let times = zone.to_ambiguous_zoned(start);
    let later = times.clone().later().ok();
    let fits = |later: &Zoned| written.is_some_and(|written| later.timestamp() <= written);
    later
        .filter(fits)
        .or_else(|| times.compatible().ok())
        .unwrap_or_else(|| Zoned::new(Timestamp::UNIX_EPOCH, zone.clone()))
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
        let damaged = "raw/cam_1/cam_1_20250718_033129_seg0001.mp4.damaged";
        assert_eq!(parse(damaged), None);
        assert_eq!(parse("raw/media1.mp4"), None);
        assert_eq!(parse("raw/cam_1/cam_1_2025071_033129_seg0001.mp4"), None);
        assert_eq!(parse("raw/cam_1/cam_1_20250718_033129_seg0001é.mp4"), start);
    }

    #[test]
    fn in_the_hour_that_comes_twice_the_age_of_the_file_decides() {
        let dir = tempfile::tempdir().expect("a directory");
        let cam = dir.path().join("cam");
        std::fs::create_dir(&cam).expect("a directory");
        let zone = TimeZone::get("Europe/Berlin").expect("a zone");
        let start = |written: &str, hour: &str, stage: Stage| {
            let name = format!("cam_20251026_{hour}3000_seg0001.mp4");
            let paths = SegmentPaths::of_final(&cam.join(name)).expect("a path");
            let path = match stage {
                Stage::Named => paths.finished(),
                _ => paths.part(),
            };
            let written: Timestamp = written.parse().expect("a time");
            let file = std::fs::File::create(path).expect("a file");
            file.set_modified(written.into()).expect("a time");
            let job = job(paths, stage, &zone, &Origin::unknown, &HashMap::new());
            job.expect("a job").facts.start.timestamp().to_string()
        };
        for stage in [Stage::Torn, Stage::Named] {
            let first = start("2025-10-26T00:35:00Z", "02", stage);
            assert_eq!(first, "2025-10-26T00:30:00Z");
            let second = start("2025-10-26T01:35:00Z", "02", stage);
            assert_eq!(second, "2025-10-26T01:30:00Z");
            let after = start("2025-10-26T05:35:00Z", "03", stage);
            assert_eq!(after, "2025-10-26T02:30:00Z");
        }
    }

    #[test]
    fn trouble_that_an_earlier_process_told_of_counts_unless_it_recorded_since() {
        let dir = tempfile::tempdir().unwrap();
        let raw = dir.path().join("raw");
        std::fs::create_dir_all(raw.join("cam")).unwrap();
        let segment = raw.join("cam/cam_20250718_033129_seg0001.mp4");
        std::fs::File::create(&segment).unwrap();
        let written = Timestamp::try_from(segment.metadata().unwrap().modified().unwrap()).unwrap();
        let trouble_told = |after: jiff::SignedDuration| {
            let source = daemon::status::SourceStatus {
                name: "cam".to_owned(),
                last_frame: Some(Timestamp::UNIX_EPOCH),
                error: Some("the disk refused a write".to_owned()),
                ..Default::default()
            };
            let status = RecorderStatus {
                updated: written + after,
                sources: vec![source],
                ..RecorderStatus::default()
            };
            let file = daemon::StatusFile::new(dir.path(), status::RECORDER);
            file.write(&status).unwrap();
            let mut earlier = earlier(&look(&raw), dir.path());
            let of_source = earlier.remove("cam").unwrap();
            assert_eq!(of_source.last_frame, written);
            of_source.trouble
        };
        let second = jiff::SignedDuration::from_secs(1);
        let trouble = Some("the disk refused a write".to_owned());
        assert_eq!(trouble_told(second), trouble);
        assert_eq!(trouble_told(-second), None);
    }

    proptest::proptest! {
        #[test]
        fn no_name_makes_it_panic(name in "cam(_[0-9]{0,9}){0,3}(_seg|é|\\PC){0,4}", dir in "cam|\\PC{0,4}") {
            let path = Path::new("raw").join(dir).join(name);
            if let Some(parsed) = SegmentName::parse(&path) {
                proptest::prop_assert!(path.starts_with(Path::new("raw").join(parsed.source)));
            }
        }
    }
}
