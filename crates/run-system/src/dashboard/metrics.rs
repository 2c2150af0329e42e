//! `/metrics`: the same facts for Prometheus, in its text format (version 0.0.4).

use super::{Refusal, Report, State, live};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use daemon::status::SourceStatus;
use std::fmt::Write as _;

const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn show(state: State) -> Result<impl IntoResponse, Refusal> {
    let report = live::report(state.0).await?;
    Ok(([(CONTENT_TYPE, TYPE)], text(&report)))
}

/// The lines of one report.
fn text(report: &Report) -> String {
    let mut out = Lines(String::new());
    cameras(report, &mut out);
    processes(report, &mut out);
    queue(report, &mut out);
    disk(report, &mut out);
    out.family("alarms", "gauge", "Alarms that stand.");
    out.line("alarms", &[], report.alarms.len() as f64);
    out.0
}

fn cameras(report: &Report, out: &mut Lines) {
    type Value = fn(&SourceStatus) -> Option<f64>;
    let families: [(&str, &str, &str, Value); 9] = [
        (
            "camera_recording",
            "gauge",
            "1 while the camera is recorded.",
            |s| Some(f64::from(s.state == "recording")),
        ),
        (
            "camera_down",
            "gauge",
            "1 while a camera that should be recorded sends nothing.",
            |s| Some(f64::from(s.down_since.is_some())),
        ),
        (
            "camera_frames_per_second",
            "gauge",
            "Frames received lately.",
            |s| Some(s.fps),
        ),
        (
            "camera_declared_frames_per_second",
            "gauge",
            "What the stream declares.",
            |s| s.declared_fps,
        ),
        (
            "camera_bits_per_second",
            "gauge",
            "Bits received lately.",
            |s| Some(s.bitrate_bps as f64),
        ),
        (
            "camera_packets_lost_total",
            "counter",
            "RTP packets lost since the recorder started.",
            |s| Some(s.packets_lost as f64),
        ),
        (
            "camera_gaps_total",
            "counter",
            "Interruptions since the recorder started.",
            |s| Some(s.gaps as f64),
        ),
        (
            "camera_reconnects_total",
            "counter",
            "Connections made after the first.",
            |s| Some(s.reconnects as f64),
        ),
        (
            "camera_segments_total",
            "counter",
            "Segments finished since the recorder started.",
            |s| Some(s.segments as f64),
        ),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        for source in &report.sources {
            if let Some(value) = value(source) {
                out.line(name, &[("source", &source.name)], value);
            }
        }
    }
    out.family(
        "camera_state",
        "gauge",
        "1 for the state that the recorder tells.",
    );
    for source in &report.sources {
        let labels = [("source", source.name.as_str()), ("state", &source.state)];
        out.line("camera_state", &labels, 1.0);
    }
}

fn processes(report: &Report, out: &mut Lines) {
    type Value = fn(&crate::report::ProcessReport) -> Option<f64>;
    let families: [(&str, &str, &str, Value); 5] = [
        ("process_up", "gauge", "1 while the process runs.", |p| {
            Some(f64::from(p.pid.is_some()))
        }),
        (
            "process_restarts_total",
            "counter",
            "Starts after the first.",
            |p| p.restarts.map(|n| n as f64),
        ),
        (
            "process_uptime_seconds",
            "gauge",
            "Time since the process started.",
            |p| p.uptime_s.map(|n| n as f64),
        ),
        (
            "process_cpu_percent",
            "gauge",
            "Percent of one core, workers included.",
            |p| p.cpu_percent,
        ),
        (
            "process_memory_bytes",
            "gauge",
            "Resident memory, workers included.",
            |p| p.memory_bytes.map(|n| n as f64),
        ),
    ];
    for (name, kind, help, value) in families {
        out.family(name, kind, help);
        for process in &report.processes {
            if let Some(value) = value(process) {
                out.line(name, &[("process", &process.name)], value);
            }
        }
    }
}

fn queue(report: &Report, out: &mut Lines) {
    if let Some(queue) = &report.queue {
        out.family(
            "tickets",
            "gauge",
            "Segments by what is to be done with them.",
        );
        for (state, count) in [
            ("waiting", queue.ready),
            ("active", queue.active),
            ("deferred", queue.deferred),
            ("failed", queue.failed),
            ("corrupt", queue.corrupt),
        ] {
            out.line("tickets", &[("state", state)], count as f64);
        }
        out.family(
            "oldest_ticket_age_seconds",
            "gauge",
            "Age of the oldest waiting segment.",
        );
        let age = queue.oldest_s.unwrap_or(0) as f64;
        out.line("oldest_ticket_age_seconds", &[], age);
    }
    if let Some(throughput) = &report.throughput {
        for (name, kind, help, value) in [
            (
                "published_total",
                "counter",
                "Videos published since the blur processor started.",
                throughput.published as f64,
            ),
            (
                "failed_attempts_total",
                "counter",
                "Attempts that failed since the blur processor started.",
                throughput.failed as f64,
            ),
            (
                "realtime_factor",
                "gauge",
                "Seconds of video done per second.",
                throughput.realtime_factor,
            ),
        ] {
            out.family(name, kind, help);
            out.line(name, &[], value);
        }
    }
}

fn disk(report: &Report, out: &mut Lines) {
    let Some(disk) = &report.disk else { return };
    out.family(
        "disk_free_bytes",
        "gauge",
        "Bytes that can still be written.",
    );
    out.line("disk_free_bytes", &[], disk.free_bytes as f64);
    out.family("disk_min_free_bytes", "gauge", "Bytes that stay free.");
    out.line("disk_min_free_bytes", &[], disk.min_free_bytes as f64);
    out.family(
        "directory_bytes",
        "gauge",
        "Bytes of all files in a directory.",
    );
    for directory in &disk.used {
        let labels = [("directory", directory.name.as_str())];
        out.line("directory_bytes", &labels, directory.bytes as f64);
    }
    if let Some(hours) = disk.hours_left {
        out.family(
            "disk_hours_left",
            "gauge",
            "Hours until the disk is full if nothing is deleted.",
        );
        out.line("disk_hours_left", &[], hours);
    }
}

struct Lines(String);

impl Lines {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.add(format_args!(
            "# HELP rtsp_blur_{name} {help}\n# TYPE rtsp_blur_{name} {kind}\n"
        ));
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.add(format_args!("rtsp_blur_{name}"));
        for (i, (label, text)) in labels.iter().enumerate() {
            let before = if i == 0 { '{' } else { ',' };
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            self.add(format_args!("{before}{label}=\"{text}\""));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.add(format_args!("{after} {value}\n"));
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("text can always grow");
    }
}
