//! Servers that want all our memory, each in its own way, beside an honest camera.

use crate::process::{end, peak_memory_mib, start};
use crate::rig::{Rig, clip, expect_run, frames, sent, simulator};
use camera_simulator::{CameraConfig, Simulator};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// What a server sends without end.
#[derive(Clone, Copy)]
enum Flood {
    HeaderLine,
    HeaderLines,
    Description,
    AccessUnit,
}

const ALL: [(&str, Flood); 4] = [
    ("line", Flood::HeaderLine),
    ("lines", Flood::HeaderLines),
    ("sdp", Flood::Description),
    ("unit", Flood::AccessUnit),
];

/// Starts a server for each flood and returns the URLs with their names. They end with the test's process.
fn servers() -> Vec<(&'static str, String)> {
    ALL.map(|(name, flood)| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("rtsp://{}/{name}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // The recorder closes the connection, which ends the flood.
                std::thread::spawn(move || serve(&stream, flood).ok());
            }
        });
        (name, url)
    })
    .into()
}

/// A video recorder: one channel is the camera at `camera`, another one floods. Returns the address.
fn video_recorder(camera: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let camera = camera.clone();
            std::thread::spawn(move || {
                let mut first = [0; 64];
                let length = stream.peek(&mut first)?;
                match first[..length].windows(6).any(|part| part == b"/flood") {
                    true => serve(&stream, Flood::AccessUnit),
                    false => pass_on(&stream, &TcpStream::connect(camera)?),
                }
            });
        }
    });
    address
}

fn pass_on(outer: &TcpStream, inner: &TcpStream) -> std::io::Result<()> {
    let (mut from, mut to) = (outer.try_clone()?, inner.try_clone()?);
    std::thread::spawn(move || {
        std::io::copy(&mut from, &mut to).ok();
        to.shutdown(std::net::Shutdown::Both).ok();
    });
    let (mut from, mut to) = (inner, outer);
    std::io::copy(&mut from, &mut to).map(drop)
}

/// The honest camera is recorded by then.
const FLOODS_BEGIN_AFTER: Duration = Duration::from_secs(3);

fn serve(stream: &TcpStream, flood: Flood) -> std::io::Result<()> {
    std::thread::sleep(FLOODS_BEGIN_AFTER);
    let mut requests = BufReader::new(stream);
    loop {
        let mut sequence = String::new();
        let mut method = String::new();
        loop {
            let mut line = String::new();
            if requests.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if method.is_empty() {
                method = line.split(' ').next().unwrap_or_default().to_owned();
            } else if line.to_ascii_lowercase().starts_with("cseq:") {
                sequence = line.trim().to_owned();
            } else if line == "\r\n" {
                break;
            }
        }
        answer(stream, &method, &sequence, flood)?;
    }
}

fn answer(mut to: &TcpStream, method: &str, sequence: &str, flood: Flood) -> std::io::Result<()> {
    let ok = format!("RTSP/1.0 200 OK\r\n{sequence}\r\n");
    let junk = vec![b'a'; 1 << 16];
    match (method, flood) {
        ("DESCRIBE", Flood::HeaderLine) => {
            write!(to, "{ok}X-A: ")?;
            endless(to, &junk)
        }
        ("DESCRIBE", Flood::HeaderLines) => {
            write!(to, "{ok}")?;
            endless(
                to,
                "X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"
                    .repeat(1000)
                    .as_bytes(),
            )
        }
        ("DESCRIBE", Flood::Description) => {
            write!(
                to,
                "{ok}Content-Type: application/sdp\r\nContent-Length: 4000000000\r\n\r\nv=0\r\na="
            )?;
            endless(to, &junk)
        }
        ("DESCRIBE", Flood::AccessUnit) => {
            let sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=a\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=control:a\r\n\
                       a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n";
            let length = sdp.len();
            write!(
                to,
                "{ok}Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{sdp}"
            )
        }
        ("SETUP", _) => write!(
            to,
            "{ok}Session: 1;timeout=60\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
        ),
        ("PLAY", _) => {
            write!(
                to,
                "{ok}Session: 1\r\nRTP-Info: url=a;seq=0;rtptime=0\r\n\r\n"
            )?;
            let mut number = 0u16;
            loop {
                to.write_all(&part_of_a_unit(number))?;
                number = number.wrapping_add(1);
            }
        }
        _ => write!(to, "{ok}Session: 1\r\n\r\n"),
    }
}

fn endless(mut to: &TcpStream, what: &[u8]) -> std::io::Result<()> {
    loop {
        to.write_all(what)?;
    }
}

/// An interleaved RTP packet with the middle of a slice: same time as all others, no marker.
fn part_of_a_unit(number: u16) -> Vec<u8> {
    let mut packet = vec![b'$', 0, 0xff, 0x00, 0x80, 96];
    packet.extend(number.to_be_bytes());
    packet.extend([0, 0, 0, 0, 0, 0, 0, 1]);
    // FU-A of an IDR slice; the first one starts it.
    packet.extend([0x7c, if number == 0 { 0x85 } else { 0x05 }]);
    packet.resize(4 + 0xff00, b'x');
    packet
}

/// Floods were cut off, and the honest camera was recorded throughout.
fn expect_floods_cut_off(rig: &Rig, simulator: &Simulator) {
    let log = std::fs::read_to_string(rig.path("logs/rtsp_recorder.log")).expect("a log");
    assert!(
        log.contains("closing a connection on which no frame comes"),
        "{log}"
    );
    expect_run(&sent(simulator, "honest"), &frames(&rig.segments("honest")));
    assert_eq!(rig.status("honest").reconnects, 0, "{log}");
}

#[test]
fn floods_are_cut_off_and_the_honest_camera_is_recorded_on() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("honest", &file)]);
    let mut sources = vec![json!({"name": "honest", "url": simulator.url("honest").unwrap()})];
    let servers = servers();
    sources.extend(
        servers
            .iter()
            .map(|(name, url)| json!({"name": name, "url": url})),
    );
    let rig = Rig::new(json!(sources)).set("connection_timeout", json!(30_000));
    let recorder = start(&rig);
    std::thread::sleep(Duration::from_secs(10));
    let peak = peak_memory_mib(&recorder);
    end(recorder);
    assert!(peak < 1000, "{peak} MiB");
    expect_floods_cut_off(&rig, &simulator);
}

#[test]
fn the_other_channels_of_a_video_recorder_are_not_cut_off_with_the_one_that_floods() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("honest", &file)]);
    let url = simulator.url("honest").unwrap();
    let (camera, path) = url["rtsp://".len()..].split_once('/').unwrap();
    let address = video_recorder(camera.to_owned());
    let rig = Rig::new(json!([
        {"name": "honest", "url": format!("rtsp://{address}/{path}")},
        {"name": "flood", "url": format!("rtsp://{address}/flood")},
    ]))
    .set("connection_timeout", json!(30_000));
    let recorder = start(&rig);
    std::thread::sleep(Duration::from_secs(10));
    end(recorder);
    expect_floods_cut_off(&rig, &simulator);
}
