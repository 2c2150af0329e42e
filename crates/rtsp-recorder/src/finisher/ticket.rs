//! What the ticket says of a segment that lies under its final name.

use super::{FinishError, Job, media_error};
use crate::names::SegmentPaths;
use crate::tail_hash::TailHash;
use jiff::Timestamp;
use media::Rational;
use std::fs::File;
use ticket_queue::{TICKET_VERSION, Ticket};

/// The ticket of a segment that lies under its final name, and the size of the file. Without `written` the file is read.
pub(super) fn ticket_for(
    job: &Job,
    written: Option<&TailHash>,
) -> Result<(Ticket, u64), FinishError> {
    let path = job.paths.finished();
    let shown = path.display().to_string();
    let failed = |source| FinishError::Io {
        action: "read",
        path: shown.clone(),
        source,
    };
    let file = File::open(&path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let known = written.map(|hash| hash.of(&file)).transpose();
    let hash = match known.map_err(failed)?.flatten() {
        Some(hash) => hash,
        None => {
            // In pieces of 64 KiB, for which BLAKE3 has its fastest code; `io::copy` moves 8 KiB.
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(&file).map_err(failed)?.finalize()
        }
    };
    let probed = media::probe_index(&path).map_err(media_error("probe", &shown))?;
    let video = probed
        .video()
        .ok_or_else(|| FinishError::Empty(shown.clone()))?;
    let facts = &job.facts;
    let hidden_from = facts.hidden_key.map(|end| Rational::MPEG.seconds(end));
    let media_duration = hidden_from.or(video.duration_seconds()).unwrap_or_default();
    let stored = video.frame_count.unwrap_or_default();
    let frames = stored.saturating_sub(u64::from(hidden_from.is_some()));
    let now = Timestamp::now().to_zoned(facts.start.time_zone().clone());
    let ticket = Ticket {
        filepath: filepath(&job.paths),
        source: job.origin.url.clone(),
        source_name: job.origin.name.clone(),
        recorder_id: job.origin.index,
        frame_count: frames,
        duration: facts
            .wall_duration
            .map_or(media_duration, |duration| duration.as_secs_f64()),
        timestamp: now.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
        file_size: bytes,
        version: Some(TICKET_VERSION),
        id: Some(job.paths.id()),
        blake3: Some(hash.to_hex().to_string()),
        start_time: Some(facts.start.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string()),
        media_duration: Some(media_duration),
        codec: Some(video.codec.name()),
        // An index need not tell the size (MPEG-4 part 2).
        width: (video.width > 0).then_some(video.width),
        height: (video.height > 0).then_some(video.height),
        fps: (media_duration > 0.0).then(|| frames as f64 / media_duration),
        cut_reason: Some(facts.reason),
        packets_lost: Some(facts.packets_lost),
        gap_before: facts.gap_before.map(|gap| gap.as_secs_f64()),
        extra: serde_json::Map::new(),
    };
    Ok((ticket, bytes))
}

/// The path of the finished segment as tickets tell it.
pub(super) fn filepath(paths: &SegmentPaths) -> String {
    let shown = paths.finished().display().to_string();
    // As the old system wrote it: without a leading `./`.
    shown.strip_prefix("./").unwrap_or(&shown).to_owned()
}
