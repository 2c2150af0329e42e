//! Streams over a network that misbehaves.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;
use std::time::Duration;

use media::synth::TestVideo;
use media::{MediaError, Reader, ReaderOptions};
use tempfile::tempdir;

/// Answers connections with these bytes, one after the other; the last keeps its connection open until the
/// client goes, if `stall` is set.
fn serve(answers: Vec<Vec<u8>>, stall: bool) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://user:secret@{}/x", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        for answer in answers {
            let (mut client, _) = listener.accept().unwrap();
            let mut request = [0; 2_048];
            let _read = client.read(&mut request);
            let _sent = client.write_all(&answer);
            while stall && client.read(&mut request).is_ok_and(|count| count > 0) {}
        }
    });
    (url, thread)
}

fn response(status: &str, body: &[u8], length: usize) -> Vec<u8> {
    let head = format!("HTTP/1.0 {status}\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A recording as a server would stream it: playable from the first byte.
fn stream() -> Vec<u8> {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.mp4");
    TestVideo {
        frames: 60,
        ..TestVideo::default()
    }
    .write(&path)
    .unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn a_refusal_is_told_with_its_status() {
    for (status, expected) in [
        ("403 Forbidden", 403),
        ("404 Not Found", 404),
        ("503 Busy", 500),
    ] {
        let (url, thread) = serve(vec![response(status, b"", 0)], false);
        let error = Reader::open_url(&url, &ReaderOptions::default())
            .err()
            .unwrap();
        assert!(
            matches!(error, MediaError::Refused { status, .. } if status == expected),
            "{error:?}"
        );
        assert!(
            error.is_retryable() && !error.to_string().contains("secret"),
            "{error}"
        );
        thread.join().unwrap();
    }
}

#[test]
fn a_file_comes_over_http() {
    let bytes = stream();
    let (url, thread) = serve(vec![response("200 OK", &bytes, bytes.len())], false);
    let options = ReaderOptions {
        analyse: false,
        ..ReaderOptions::default()
    };
    let mut reader = Reader::open_url(&url, &options).unwrap();
    let mut count = 0;
    while reader.next_packet().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 60);
    thread.join().unwrap();
}

#[test]
fn a_stalling_stream_times_out() {
    let bytes = stream();
    let half = &bytes[..bytes.len() / 2];
    let (url, thread) = serve(vec![response("200 OK", half, bytes.len())], true);
    let limit = Duration::from_millis(300);
    let options = ReaderOptions {
        analyse: false,
        read_timeout: Some(limit),
        ..ReaderOptions::default()
    };
    let mut reader = Reader::open_url(&url, &options).unwrap();
    let error = loop {
        match reader.next_packet() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a stall is not the end"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, MediaError::TimedOut { .. }), "{error:?}");
    drop(reader);
    thread.join().unwrap();
}

#[test]
fn a_connection_cut_short_is_not_the_end() {
    let bytes = stream();
    let half = &bytes[..bytes.len() / 2];
    let (url, thread) = serve(vec![response("200 OK", half, bytes.len())], false);
    let options = ReaderOptions {
        analyse: false,
        ..ReaderOptions::default()
    };
    let mut reader = Reader::open_url(&url, &options).unwrap();
    let mut noticed = false;
    loop {
        match reader.next_packet() {
            Ok(Some(packet)) => noticed |= packet.is_corrupt(),
            Ok(None) => break,
            Err(error) => {
                noticed |= matches!(error, MediaError::Io { .. });
                break;
            }
        }
    }
    assert!(noticed);
    thread.join().unwrap();
}
