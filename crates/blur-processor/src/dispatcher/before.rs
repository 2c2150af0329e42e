//! The video that a video continues: was it done already, and what was followed at its end?
//!
//! Its report says so. Videos may be done in any order and by several instances; where the report is
//! not there yet, the video is treated as the beginning of a recording, which looks closer at its
//! first frames. A wrong guess masks more for a moment, never less, but for one thing: who already stands in a `never` zone
//! was not seen outside. May touch: reports, read only.

use std::path::{Path, PathBuf};

use ticket_queue::Ticket;

use crate::pipeline::Carry;
use crate::report::FileReport;

/// Seconds between the end of a video and the start of the one that continues it, at most.
const LONGEST_GAP: f64 = 1.0;

/// What was followed at the end of the video before the ticket's one, whose output is to be
/// `output`; none when that is not known.
pub(super) fn carry(ticket: &Ticket, output: &Path) -> Option<Carry> {
    let start = ticket.start()?.timestamp();
    let report = FileReport::read(&predecessor(output)?).ok()?;
    let ended = report.recorded?.as_second() as f64
        + f64::from(report.recorded?.subsec_nanosecond()) / 1e9
        + report.video.seconds;
    let start = start.as_second() as f64 + f64::from(start.subsec_nanosecond()) / 1e9;
    let follows = (start - ended).abs() <= LONGEST_GAP && report.source == ticket.source_name;
    report.video.carry.filter(|_| follows)
}

/// The report whose name comes just before the output's: names hold the time of recording.
fn predecessor(output: &Path) -> Option<PathBuf> {
    let own = FileReport::path_beside(output);
    let entries = std::fs::read_dir(own.parent()?).ok()?;
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name()));
    let reports = names.filter(|name| {
        Path::new(name).extension() == own.extension() && own.file_name() > Some(name)
    });
    Some(own.with_file_name(reports.max()?))
}
