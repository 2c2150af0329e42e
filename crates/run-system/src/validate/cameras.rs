//! Whether each camera answers at all: a TCP connection and, for `rtsp://`, one harmless request.

use super::Finding;
use settings::{RecorderSettings, Source, SourceKind};
use std::io::ErrorKind;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

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
