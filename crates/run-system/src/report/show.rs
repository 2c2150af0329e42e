//! A report as text: a table for `--status`, a few lines for the log.

use super::{DiskReport, Outlook, ProcessReport, QueueReport, Report, Throughput};
use crate::plain::{columns, span};
use daemon::disk::bytes_text;
use daemon::status::SourceStatus;
use jiff::Timestamp;

/// More sources than this are summed up in the log.
const SOURCES_IN_LOG: usize = 8;

impl Report {
    /// A few lines for the log: processes, sources, queue and disk.
    pub fn lines(&self) -> Vec<String> {
        let processes: Vec<String> = self.processes.iter().map(process_in_line).collect();
        let mut lines = vec![processes.join(" | ")];
        if !self.sources.is_empty() {
            lines.push(self.sources_in_line());
        }
        let mut parts: Vec<String> = Vec::new();
        parts.extend(self.queue.as_ref().map(queue_in_line));
        parts.extend(self.throughput.as_ref().map(throughput_in_line));
        parts.extend(
            self.disk
                .as_ref()
                .map(|disk| format!("disk: {} free", bytes_text(disk.free_bytes))),
        );
        lines.push(parts.join(" | "));
        lines
    }

    fn sources_in_line(&self) -> String {
        if self.sources.len() <= SOURCES_IN_LOG {
            return self
                .sources
                .iter()
                .map(|source| source_in_line(source, self.time))
                .collect::<Vec<_>>()
                .join(" | ");
        }
        let (good, other): (Vec<_>, Vec<_>) = self
            .sources
            .iter()
            .partition(|source| source.state == "recording");
        let bits: u64 = self.sources.iter().map(|source| source.bitrate_bps).sum();
        let mut line = format!(
            "{} of {} sources recording, {:.1} Mbit/s",
            good.len(),
            self.sources.len(),
            mbit(bits)
        );
        let others: Vec<String> = other
            .iter()
            .take(SOURCES_IN_LOG)
            .map(|source| format!("{} {}", source.name, source.state))
            .collect();
        if !others.is_empty() {
            line.push_str(&format!(" | not recording: {}", others.join(", ")));
        }
        if other.len() > others.len() {
            line.push_str(&format!(" and {} more", other.len() - others.len()));
        }
        line
    }

    /// The table of `--status`.
    pub fn table(&self) -> String {
        let mut out = columns(&self.process_rows());
        if !self.sources.is_empty() {
            out.push('\n');
            out.push_str(&columns(&self.source_rows()));
        }
        out.push('\n');
        if let Some(queue) = &self.queue {
            out.push_str(&format!("{}\n", queue_in_line(queue)));
        }
        if let Some(throughput) = &self.throughput {
            out.push_str(&format!("{}\n", throughput_in_line(throughput)));
        }
        for worker in self.workers.iter() {
            let Some(ticket) = &worker.ticket else {
                continue;
            };
            out.push_str(&format!(
                "worker {}: {ticket}, {:.0} %\n",
                worker.slot,
                worker.progress * 100.0
            ));
        }
        if let Some(disk) = &self.disk {
            out.push_str(&disk_in_line(disk));
        }
        self.add_held_back(&mut out);
        for hook in &self.hooks {
            out.push_str(&format!("{}\n", hook.line()));
        }
        for alarm in &self.alarms {
            out.push_str(&format!("ALARM {alarm}\n"));
        }
        out
    }

    fn add_held_back(&self, out: &mut String) {
        for it in &self.held_back {
            let name = it.original.as_deref().unwrap_or(&it.stem);
            let name = name.rsplit('/').next().unwrap_or(name);
            out.push_str(&format!("held back {name}: {}\n", it.reason));
        }
        let all = self.queue.as_ref().map_or(0, |it| it.failed + it.corrupt);
        let more = all.saturating_sub(self.held_back.len() as u64);
        if more > 0 {
            out.push_str(&format!(
                "held back: {more} more, see `blur-processor queue`\n"
            ));
        }
    }

    fn process_rows(&self) -> Vec<Vec<String>> {
        let head = [
            "PROCESS", "STATE", "PID", "UPTIME", "RESTARTS", "CPU", "MEMORY", "LAST END",
        ];
        let rows = self.processes.iter().map(|process| {
            vec![
                process.name.clone(),
                process.state.clone(),
                or_dash(process.pid),
                or_dash(process.uptime_s.map(span)),
                or_dash(process.restarts),
                or_dash(process.cpu_percent.map(|percent| format!("{percent:.1} %"))),
                or_dash(process.memory_bytes.map(bytes_text)),
                or_dash(process.last_exit.as_deref()),
            ]
        });
        std::iter::once(head.map(str::to_owned).to_vec())
            .chain(rows)
            .collect()
    }

    fn source_rows(&self) -> Vec<Vec<String>> {
        let head = [
            "SOURCE",
            "STATE",
            "FPS",
            "MBIT/S",
            "SEGMENTS",
            "GAPS",
            "RECONNECTS",
            "LOST",
            "LAST SEGMENT OR ERROR",
        ];
        let rows = self.sources.iter().map(|source| {
            vec![
                source.name.clone(),
                state_in_words(source, self.time),
                format!("{:.1}", source.fps),
                format!("{:.1}", mbit(source.bitrate_bps)),
                source.segments.to_string(),
                source.gaps.to_string(),
                source.reconnects.to_string(),
                source.packets_lost.to_string(),
                or_dash(source.error.as_deref().or(source.last_segment.as_deref())),
            ]
        });
        std::iter::once(head.map(str::to_owned).to_vec())
            .chain(rows)
            .collect()
    }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn mbit(bits_per_second: u64) -> f64 {
    bits_per_second as f64 / 1e6
}

fn process_in_line(process: &ProcessReport) -> String {
    let mut out = format!("{} {}", process.name, process.state);
    let details: Vec<String> = [
        process.pid.map(|pid| format!("pid {pid}")),
        process
            .uptime_s
            .map(|seconds| format!("up {}", span(seconds))),
        process
            .restarts
            .map(|restarts| format!("{restarts} restarts")),
        process
            .cpu_percent
            .map(|percent| format!("{percent:.1} % CPU")),
        process.memory_bytes.map(bytes_text),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !details.is_empty() {
        out.push_str(&format!(" ({})", details.join(", ")));
    }
    out
}

/// A camera that is down says since when: what it is doing about that is only half of it.
fn state_in_words(source: &SourceStatus, now: Timestamp) -> String {
    match source.down_since {
        Some(since) => {
            let seconds = now.duration_since(since).as_secs().max(0).unsigned_abs();
            format!("DOWN {}, {}", span(seconds), source.state)
        }
        None => source.state.clone(),
    }
}

fn source_in_line(source: &SourceStatus, now: Timestamp) -> String {
    let mut out = format!("{} {}", source.name, state_in_words(source, now));
    if source.bitrate_bps > 0 {
        out.push_str(&format!(
            " {:.1} fps {:.1} Mbit/s",
            source.fps,
            mbit(source.bitrate_bps)
        ));
    }
    out.push_str(&format!(", {} segments", source.segments));
    for (count, what) in [(source.gaps, "gaps"), (source.packets_lost, "packets lost")] {
        if count > 0 {
            out.push_str(&format!(", {count} {what}"));
        }
    }
    if let Some(error) = &source.error {
        // The recorder's log has the rest, and what to do.
        let gist = error.split(';').next().unwrap_or(error);
        out.push_str(&format!(" ({gist})"));
    }
    out
}

fn queue_in_line(queue: &QueueReport) -> String {
    let oldest = queue
        .oldest_s
        .map(|age| format!(" (oldest {})", span(age)))
        .unwrap_or_default();
    let outlook = match queue.outlook {
        Some(Outlook::EmptyInSeconds(seconds)) => {
            format!("; worked off in about {}", span(seconds))
        }
        Some(Outlook::Grows) => "; it grows, more is recorded than blurred".to_owned(),
        None => String::new(),
    };
    format!(
        "queue: {} waiting{oldest}, {} active, {} deferred, {} failed, {} corrupt, {} done{outlook}",
        queue.ready, queue.active, queue.deferred, queue.failed, queue.corrupt, queue.done
    )
}

fn throughput_in_line(throughput: &Throughput) -> String {
    // Of videos that are under way only their frames are known.
    let speed = match throughput.realtime_factor {
        none if none <= 0.0 => String::new(),
        factor => format!(", {factor:.1} x real time"),
    };
    format!(
        "blurring: {} published, {} failed attempts, {:.1} frames/s{speed}",
        throughput.published, throughput.failed, throughput.frames_per_second,
    )
}

fn disk_in_line(disk: &DiskReport) -> String {
    let used: Vec<String> = disk
        .used
        .iter()
        .map(|dir| format!("{} {}", dir.name, bytes_text(dir.bytes)))
        .collect();
    let mut out = format!("disk: {}", used.join(", "));
    if !used.is_empty() {
        out.push_str("; ");
    }
    out.push_str(&format!(
        "{} free, {} kept free",
        bytes_text(disk.free_bytes),
        bytes_text(disk.min_free_bytes)
    ));
    if let Some(hours) = disk.hours_left {
        out.push_str(&format!(
            "; full in {} at the present bitrates if nothing is deleted",
            span((hours * 3_600.0) as u64)
        ));
    }
    out.push('\n');
    out
}
