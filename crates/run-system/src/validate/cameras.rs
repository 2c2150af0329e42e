//! Whether each camera answers at all, by opening a TCP connection to it.

use super::Finding;
use settings::{RecorderSettings, Source};
use std::io::ErrorKind;
use std::time::Instant;
use tokio::net::TcpStream;

/// Asks all cameras at the same time; the findings are in the order of the settings.
pub(super) async fn check(recorder: &RecorderSettings) -> Vec<Finding> {
    let probes: Vec<_> = recorder
        .sources
        .iter()
        .cloned()
        .map(|source| tokio::spawn(probe(source)))
        .collect();
    let mut findings = Vec::new();
    for (probe, source) in probes.into_iter().zip(&recorder.sources) {
        let what = format!("camera {}", source.name);
        findings.push(
            probe
                .await
                .unwrap_or_else(|error| Finding::wrong(what, error.to_string())),
        );
    }
    if recorder.sources.len() > recorder.max_concurrent_recordings {
        let detail = format!(
            "{} sources, but max_concurrent_recordings is {}: they take turns, so each has gaps",
            recorder.sources.len(),
            recorder.max_concurrent_recordings
        );
        findings.push(Finding::note("cameras", detail));
    }
    findings
}

async fn probe(source: Source) -> Finding {
    let what = format!("camera {}", source.name);
    if let Some(path) = source.url.file_path() {
        return match std::fs::File::open(path).and_then(|file| file.metadata()) {
            Ok(metadata) if metadata.is_file() => {
                Finding::ok(what, format!("{} can be read", path.display()))
            }
            Ok(_) => Finding::wrong(what, format!("{} is not a file", path.display())),
            Err(error) => {
                Finding::wrong(what, format!("{}: {error}; mend its path", path.display()))
            }
        };
    }
    let Some((host, port)) = source.url.endpoint() else {
        return Finding::wrong(what, format!("{} names no host", source.url));
    };
    let start = Instant::now();
    match tokio::time::timeout(source.connection_timeout, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Finding::ok(
            what,
            format!(
                "{host}:{port} accepts connections ({} ms)",
                start.elapsed().as_millis()
            ),
        ),
        Ok(Err(error)) => Finding::wrong(
            what,
            format!("{host}:{port}: {error}; {}", advice(error.kind())),
        ),
        Err(_) => {
            let seconds = source.connection_timeout.as_secs_f64();
            Finding::wrong(
                what,
                format!(
                    "{host}:{port} does not answer within {seconds} s; is it on, and its address right?"
                ),
            )
        }
    }
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
