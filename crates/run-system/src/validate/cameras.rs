//! What each camera sends: the recorder is asked to look at all of them, since this program links no FFmpeg.
//!
//! A camera that the recorder could not reach is asked for a TCP connection and, over `rtsp://`, for one harmless
//! request, which tells better what is wrong with its address.

use super::{Finding, Verdict};
use crate::plain;
use crate::setup::program_dir;
use serde::Deserialize;
use settings::{RecorderSettings, Source, SourceKind};
use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

/// The recorder looks at all cameras for ten seconds; a machine at work may take longer to begin.
const PATIENCE: Duration = Duration::from_secs(40);

/// Segments are cut on key frames, and what is lost at a reconnection goes up to the next one.
const LONG_KEY_FRAME_DISTANCE: f64 = 10.0;

/// Less than this share of the declared frame rate is worth a note.
const LOW_RATE: f64 = 0.8;

/// What `rtsp-recorder probe --json` says of one source.
#[derive(Deserialize)]
struct Probe {
    name: String,
    trouble: Option<String>,
    message: Option<String>,
    missing_encoder: Option<String>,
    video: Option<Video>,
}

#[derive(Deserialize)]
struct Video {
    codec: String,
    width: u32,
    height: u32,
    declared_fps: Option<f64>,
    fps: Option<f64>,
    bitrate: Option<u64>,
    key_frame_seconds: Option<f64>,
    looked_seconds: f64,
    packets_lost: u64,
}

/// What the cameras send.
pub(super) struct Cameras {
    pub(super) findings: Vec<Finding>,
    /// For people, one row for each camera that sends; empty when there is none.
    pub(super) table: String,
    /// Bits per second of all together, as far as they were measured.
    pub(super) bitrate: u64,
}

/// Looks at all cameras at the same time; the findings are in the order of the settings.
pub(super) async fn check(recorder: &RecorderSettings, settings_file: &Path) -> Cameras {
    let probes = probe_all(settings_file).await;
    let connections: Vec<_> = recorder
        .sources
        .iter()
        .map(|source| {
            let probe = probes
                .iter()
                .flatten()
                .find(|p| p.name == source.name.as_str());
            let reached = probe.is_some_and(|p| p.trouble.as_deref() != Some("away"));
            (!reached).then(|| tokio::spawn(connect(source.clone())))
        })
        .collect();
    let mut findings = Vec::new();
    for (connection, source) in connections.into_iter().zip(&recorder.sources) {
        let what = format!("camera {}", source.name);
        let connected = match connection {
            Some(task) => Some(
                task.await
                    .unwrap_or_else(|error| Finding::wrong(&*what, error.to_string())),
            ),
            None => None,
        };
        let probe = probes
            .iter()
            .flatten()
            .find(|p| p.name == source.name.as_str());
        match (connected, probe) {
            (Some(connected), None) => findings.push(connected),
            (Some(connected), Some(_)) if connected.verdict != Verdict::Ok => {
                findings.push(connected);
            }
            (_, Some(probe)) => findings.extend(judge(&what, probe, source)),
            (None, None) => {}
        }
    }
    if probes.is_none() {
        findings.push(Finding::note(
            "cameras",
            "rtsp-recorder could not look at them, so it is not known what they send",
        ));
    }
    if recorder.sources.len() > recorder.max_concurrent_recordings {
        let detail = format!(
            "{} sources, but max_concurrent_recordings is {}: they take turns, so each has gaps",
            recorder.sources.len(),
            recorder.max_concurrent_recordings
        );
        findings.push(Finding::note("cameras", detail));
    }
    let probes = probes.unwrap_or_default();
    let videos = probes.iter().filter_map(|probe| probe.video.as_ref());
    Cameras {
        findings,
        table: table(&probes),
        bitrate: videos.filter_map(|video| video.bitrate).sum(),
    }
}

/// What the recorder says; none when it says nothing that can be read.
async fn probe_all(settings_file: &Path) -> Option<Vec<Probe>> {
    let mut command = Command::new(program_dir().ok()?.join("rtsp-recorder"));
    command
        .arg("--config")
        .arg(settings_file)
        .args(["probe", "--json"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

/// What is to be said of a camera that the recorder looked at.
fn judge(what: &str, probe: &Probe, source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(encoder) = &probe.missing_encoder {
        let detail = format!(
            "video_codec {encoder}: the FFmpeg of this machine has no such encoder; use \"copy\" or \"libx264\""
        );
        findings.push(Finding::wrong(what, detail));
    }
    if let Some(trouble) = &probe.trouble {
        let message = probe.message.as_deref().unwrap_or_default();
        let message = daemon::redact::text(message);
        let detail = format!("{message}; {}", what_to_do(trouble, source));
        findings.push(Finding::wrong(what, detail.trim_end_matches("; ")));
    }
    let notes = probe.video.as_ref().map(notes).unwrap_or_default();
    findings.extend(notes.into_iter().map(|note| Finding::note(what, note)));
    if findings.is_empty() {
        findings.push(Finding::ok(what, "sends video that can be recorded"));
    }
    findings
}

fn what_to_do(trouble: &str, source: &Source) -> &'static str {
    match (trouble, source.transport) {
        // The recorder's own words say it.
        ("refused", _) => "",
        _ if source.kind() == SourceKind::File => "give a video file that FFmpeg reads",
        ("silent", settings::Transport::Udp) => {
            "a firewall may hold UDP back: try \"transport\": \"tcp\""
        }
        ("silent", _) => {
            "check that this stream is switched on in the camera, and whether it allows one more viewer"
        }
        ("no_key_frame", _) => {
            "switch off the camera's smart codec (H.264+, H.265+, Zipstream) and set its key frame interval to 1 or 2 s"
        }
        _ => "check the path of the address, and whether the camera allows one more viewer",
    }
}

/// What works, but could be better.
fn notes(video: &Video) -> Vec<String> {
    let mut notes = Vec::new();
    let advice = "a smart codec or a long interval: set the camera's key frame interval to 1 or 2 s, since segments are cut \
                  on key frames";
    match video.key_frame_seconds {
        Some(seconds) if seconds > LONG_KEY_FRAME_DISTANCE => {
            notes.push(format!("a key frame every {seconds:.0} s only; {advice}"));
        }
        None if video.looked_seconds > 5.0 => notes.push(format!(
            "no second key frame within {:.0} s; {advice}",
            video.looked_seconds
        )),
        _ => {}
    }
    if let (Some(fps), Some(declared)) = (video.fps, video.declared_fps)
        && fps < declared * LOW_RATE
    {
        notes.push(format!(
            "{fps:.1} frames per second arrive of {declared:.1} declared; check the network, or the camera's exposure in the dark"
        ));
    }
    if video.packets_lost > 0 {
        notes.push(format!(
            "{} packets lost in {:.0} s; check the network, or use \"transport\": \"tcp\"",
            video.packets_lost, video.looked_seconds
        ));
    }
    notes
}

fn table(probes: &[Probe]) -> String {
    let head = [
        "camera",
        "codec",
        "picture",
        "fps",
        "declared",
        "key frame",
        "bitrate",
    ];
    let number = |value: Option<f64>, unit: &str| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}{unit}"))
    };
    let row = |probe: &Probe| {
        let video = probe.video.as_ref()?;
        Some(vec![
            probe.name.clone(),
            video.codec.clone(),
            format!("{}x{}", video.width, video.height),
            number(video.fps, ""),
            number(video.declared_fps, ""),
            number(video.key_frame_seconds, " s"),
            number(video.bitrate.map(|bits| bits as f64 / 1e6), " Mbit/s"),
        ])
    };
    let rows: Vec<_> = probes.iter().filter_map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = head.map(str::to_owned).to_vec();
    plain::columns(&[vec![head], rows].concat())
}

async fn connect(source: Source) -> Finding {
    let what = format!("camera {}", source.name);
    if let Some(path) = source.url.file_path() {
        return match std::fs::File::open(path).and_then(|file| file.metadata()) {
            Ok(metadata) if metadata.is_file() => {
                Finding::ok(what, format!("{} can be read", path.display()))
            }
            Ok(_) => Finding::wrong(what, format!("{} is not a file", path.display())),
            Err(error) => Finding::wrong(
                what,
                format!(
                    "{}: {error}; mend its path, or begin the address of a camera with rtsp://",
                    path.display()
                ),
            ),
        };
    }
    let Some((host, port)) = source.url.endpoint() else {
        return Finding::wrong(what, format!("{} names no host", source.url));
    };
    let start = Instant::now();
    let seconds = source.connection_timeout.as_secs_f64();
    let stream = match timeout(source.connection_timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return Finding::wrong(
                what,
                format!("{host}:{port}: {error}; {}", advice(error.kind())),
            );
        }
        Err(_) => {
            let detail = format!(
                "{host}:{port} does not answer within {seconds} s; is it on, and its address right?"
            );
            return Finding::wrong(what, detail);
        }
    };
    if source.kind() != SourceKind::Rtsp {
        return Finding::ok(
            what,
            format!(
                "{host}:{port} accepts connections ({} ms)",
                start.elapsed().as_millis()
            ),
        );
    }
    match timeout(
        source.connection_timeout,
        answer_to_options(stream, &source),
    )
    .await
    {
        Ok(Ok(line)) if line.starts_with("RTSP/") => Finding::ok(
            what,
            format!(
                "{host}:{port} speaks RTSP ({} ms)",
                start.elapsed().as_millis()
            ),
        ),
        Ok(Ok(_)) => Finding::wrong(
            what,
            format!("{host}:{port} answers, but not in RTSP; check the port"),
        ),
        Ok(Err(error)) => Finding::wrong(
            what,
            format!("{host}:{port} hangs up when asked: {error}; check the port"),
        ),
        Err(_) => {
            let detail = format!(
                "{host}:{port} accepts connections but says nothing within {seconds} s; check the port, or restart the camera"
            );
            Finding::wrong(what, detail)
        }
    }
}

/// The first line of what the camera says to an OPTIONS request, which needs no password (RFC 2326
/// section 10.1).
async fn answer_to_options(mut stream: TcpStream, source: &Source) -> std::io::Result<String> {
    let request = format!(
        "OPTIONS {} RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        source.url.without_credentials()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") && line.len() < 256 {
        line.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ConnectionRefused => {
            "the host is there but nothing listens on that port; check the port and that RTSP is switched on"
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "check cable, network and address"
        }
        _ => "check the address and the network",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use settings::Environment;

    #[test]
    fn a_file_has_no_other_viewers() {
        let file = r#"{"sources": ["README.md", "rtsp://10.0.0.7/x"]}"#;
        let settings = RecorderSettings::from_text(file, &Environment::empty()).unwrap();
        let said = |number: usize| what_to_do("away", &settings.sources[number]);
        assert!(said(0).contains("give a video file"), "{}", said(0));
        assert!(said(1).contains("one more viewer"), "{}", said(1));
    }
}
