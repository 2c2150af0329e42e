//! A segment's last form and its name: the `.part` as an ordinary MP4, in place or as a copy of what is whole.

use super::{FinishError, Job, Stage, media_error};
use crate::names::SegmentPaths;
use media::{MediaError, Rational, Salvaged};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use ticket_queue::durable::{commit_new, remove_durable};
use tracing::{debug, info, warn};

/// Gives the segment its final form and name, durably. True if the `.part` became it.
pub(super) fn name_segment(job: &Job, in_place: bool) -> Result<bool, FinishError> {
    let paths = &job.paths;
    let (part, temp, finished) = (paths.part(), paths.temp(), paths.finished());
    let named_before = finished.symlink_metadata().is_ok();
    if !named_before {
        let name = |made: &Path| {
            let file = File::open(made).map_err(|source| FinishError::Io {
                action: "open the final form of",
                path: part.display().to_string(),
                source,
            })?;
            Ok::<_, FinishError>(commit_new(&file, made, &finished)?)
        };
        if in_place && is_made_in_place(job)? {
            // Nothing is left beside it.
            name(&part)?;
            return Ok(true);
        }
        remux(job)?;
        name(&temp)?;
    }
    remove_durable(&temp)?;
    remove_durable(&part)?;
    Ok(false)
}

/// Makes the `.part` an ordinary MP4, if that can be done.
fn is_made_in_place(job: &Job) -> Result<bool, FinishError> {
    let part = job.paths.part();
    let end = job.facts.hidden_key.map(|end| (end, Rational::MPEG));
    match media::finalise_in_place(&part, end) {
        Err(error @ MediaError::Io { .. }) => {
            Err(media_error("finish", &part.display().to_string())(error))
        }
        Err(error) => {
            debug!(segment = %job.paths.name, %error, "its index cannot be written in place; it is copied");
            Ok(false)
        }
        Ok(made) => Ok(made),
    }
}

/// Writes the ordinary MP4 to the temporary name.
fn remux(job: &Job) -> Result<(), FinishError> {
    let paths = &job.paths;
    let (part, temp) = (paths.part(), paths.temp());
    let shown = part.display().to_string();
    remove_durable(&temp)?;
    let whole = job.stage == Stage::Complete
        && match media::finalise(&part, &temp) {
            Ok(_) => true,
            Err(error) if error.is_damaged() => {
                warn!(segment = %job.paths.name, %error, "segment is not as it was written; saving what is whole");
                false
            }
            Err(error) => return Err(media_error("remux", &shown)(error)),
        };
    if let (true, Some(end)) = (whole, job.facts.hidden_key)
        && !media::show_until(&temp, end, Rational::MPEG).map_err(media_error("end", &shown))?
    {
        warn!(segment = %job.paths.name, "its last frame is the first of the next segment, too");
    }
    if !whole {
        match media::salvage(&part, &temp).map_err(media_error("salvage", &shown))? {
            Salvaged::Saved(saved) => info!(
                segment = %job.paths.name,
                frames = saved.file.frames,
                frames_left_out = saved.file.frames_left_out,
                bytes_cut = saved.bytes_cut,
                "saved an unfinished segment"
            ),
            Salvaged::NothingInIt => {
                remove_durable(&part)?;
                return Err(FinishError::Empty(shown));
            }
            Salvaged::Unreadable { why } => {
                let kept = set_aside(paths)?;
                return Err(FinishError::Damaged { kept, why });
            }
        }
    }
    Ok(())
}

/// Gives a `.part` of which nothing can be made a name under which nobody here touches it, and under which it counts as
/// footage that is not processed, durably.
fn set_aside(paths: &SegmentPaths) -> Result<PathBuf, FinishError> {
    let part = paths.part();
    let file = File::open(&part).map_err(|source| FinishError::Io {
        action: "open",
        path: part.display().to_string(),
        source,
    })?;
    let mut number = 1;
    loop {
        let kept = paths.damaged(number);
        match commit_new(&file, &part, &kept) {
            Err(error) if error.is_already_there() => number += 1,
            result => return Ok(result.map(|()| kept)?),
        }
    }
}

/// Gives a segment that has its final name the next free one, durably.
pub(super) fn renamed(paths: &SegmentPaths) -> Result<SegmentPaths, FinishError> {
    let from = paths.finished();
    let failed = |source| FinishError::Io {
        action: "rename",
        path: from.display().to_string(),
        source,
    };
    let file = File::open(&from).map_err(failed)?;
    let mut free = paths.clone();
    loop {
        free = free
            .with_next_number()
            .ok_or_else(|| failed(io::Error::other("it has no name of a segment")))?;
        if free.part().exists() {
            continue;
        }
        match commit_new(&file, &from, &free.finished()) {
            Err(error) if error.is_already_there() => {}
            result => return Ok(result.map(|()| free)?),
        }
    }
}
