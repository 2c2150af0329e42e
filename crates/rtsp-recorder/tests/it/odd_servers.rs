//! Servers that do what RTSP allows, or nearly, and what the RTSP library does not take: FFmpeg's demuxer gets on with them.

use crate::rig::{
    Rig, Segment, clip, clip_of_many_packets, clip_with_sound, expect_run, frames, sent, simulator,
    sleep, stretches,
};
use camera_simulator::CameraConfig;
use daemon::SystemClock;
use rtsp_recorder::input::Stamps;
use rtsp_recorder::probe::probe;
use serde_json::json;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// What a server in front of a camera does.
#[derive(Clone, Copy, Debug)]
enum Oddity {
    /// Sends everybody on to the camera.
    Redirects,
    /// Takes each nonce for one request.
    NonceForOneRequest,
    /// Describes a clock that H.264 must not have.
    OddClock,
    /// Marks every packet as the last of its frame.
    AllMarked,
    /// Sends under another SSRC when a connection is [`SETTLED`].
    OtherSsrc,
    /// Describes sound and refuses it with this status.
    RefusesSound(u16),
    /// Sends one packet twice when a connection is [`SETTLED`], once under another SSRC.
    Stranger,
}

/// A connection that is so old is none that packets of earlier ones come over.
const SETTLED: Duration = Duration::from_millis(5500);

/// Starts such a server for the camera at `url` and returns its address.
async fn in_front_of(url: &str, oddity: Oddity) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (camera, path) = url.trim_start_matches("rtsp://").split_once('/').unwrap();
    let (camera, front) = (camera.to_owned(), format!("rtsp://{address}/{path}"));
    let url = url.to_owned();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let camera = TcpStream::connect(&camera).await.unwrap();
            let (from_camera, to_camera) = camera.into_split();
            let (from_client, to_client) = stream.into_split();
            let (answers, own) = tokio::sync::mpsc::channel(8);
            tokio::spawn(requests(
                from_client,
                to_camera,
                answers,
                oddity,
                url.clone(),
            ));
            tokio::spawn(answer(from_camera, own, to_client, oddity));
        }
    });
    front
}

/// Passes requests on, or answers them itself.
async fn requests(
    client: OwnedReadHalf,
    mut camera: OwnedWriteHalf,
    answers: tokio::sync::mpsc::Sender<String>,
    oddity: Oddity,
    url: String,
) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut nonce = 0;
    loop {
        let head = head(&mut client).await?;
        let sequence = head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with("cseq:"))
            .unwrap_or_default();
        let has_nonce = head.contains(&format!("nonce=\"{nonce}\""));
        let first = head.lines().next().unwrap_or_default();
        let is_sound = first.starts_with("SETUP") && first.contains("trackID=1");
        let own = match oddity {
            Oddity::Redirects => format!("302 Moved\r\n{sequence}\r\nLocation: {url}"),
            Oddity::NonceForOneRequest if !has_nonce => format!(
                "401 Unauthorized\r\n{sequence}\r\n\
                 WWW-Authenticate: Digest realm=\"cam\", nonce=\"{nonce}\", stale=\"true\""
            ),
            Oddity::RefusesSound(status) if is_sound => format!("{status} No\r\n{sequence}"),
            _ => {
                nonce += 1;
                camera.write_all(head.as_bytes()).await?;
                continue;
            }
        };
        let answer = format!("RTSP/1.0 {own}\r\n\r\n");
        answers.send(answer).await.map_err(io::Error::other)?;
    }
}

/// Passes on what the camera says, and the server's own answers between that.
async fn answer(
    camera: OwnedReadHalf,
    mut own: tokio::sync::mpsc::Receiver<String>,
    mut client: OwnedWriteHalf,
    oddity: Oddity,
) -> io::Result<()> {
    let mut camera = BufReader::new(camera);
    let began = Instant::now();
    let mut is_odd = true;
    loop {
        let is_packet = tokio::select! {
            Some(answer) = own.recv() => {
                client.write_all(answer.as_bytes()).await?;
                continue;
            }
            seen = camera.fill_buf() => match seen? {
                [] => return Ok(()),
                seen => seen[0] == b'$',
            },
        };
        let mut message = Vec::new();
        if is_packet {
            message.resize(4, 0);
            camera.read_exact(&mut message).await?;
            let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
            message.resize(4 + length, 0);
            camera.read_exact(&mut message[4..]).await?;
            if matches!(oddity, Oddity::AllMarked) && message[1] % 2 == 0 {
                message[5] |= 0x80;
            }
            let is_rtp = message[1] % 2 == 0;
            if is_rtp && is_odd && began.elapsed() > SETTLED {
                let stranger = || {
                    let mut stranger = message.clone();
                    stranger[12] ^= 0x55;
                    stranger
                };
                match oddity {
                    Oddity::OtherSsrc => message = stranger(),
                    Oddity::Stranger => {
                        client.write_all(&stranger()).await?;
                        is_odd = false;
                    }
                    _ => is_odd = false,
                }
            }
        } else {
            let head = head(&mut camera).await?;
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .map_or(0, |length| length.trim().parse().unwrap());
            let mut body = vec![0; length];
            camera.read_exact(&mut body).await?;
            let mut text = head + &String::from_utf8(body).unwrap();
            if matches!(oddity, Oddity::OddClock) {
                text = text.replace("H264/90000", "H264/45000");
            }
            message.extend(text.as_bytes());
        }
        client.write_all(&message).await?;
    }
}

/// A request or an answer up to its empty line.
async fn head(from: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

async fn is_recorded_behind(oddity: Oddity) {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let url = in_front_of(&simulator.url("cam").unwrap(), oddity).await;
    let rig = Rig::new(json!([{
        "name": "cam", "url": url, "username": "admin", "password": "secret",
    }]));
    let recorded = || -> f64 {
        let tickets = rig.tickets();
        tickets.iter().filter_map(|t| t.media_duration).sum()
    };
    rig.record(async {
        sleep(1.0).await;
        while recorded() < 3.5 {
            sleep(0.1).await;
        }
    })
    .await;
    // Before that the library may have got as far as the first packet that it does not understand.
    let stored = frames(&stretches(rig.segments("cam")).pop().unwrap());
    assert!(stored.len() > 30, "{oddity:?}: {} frames", stored.len());
    expect_run(&sent(&simulator, "cam"), &stored);
}

#[tokio::test]
async fn a_camera_behind_a_redirection_is_recorded() {
    is_recorded_behind(Oddity::Redirects).await;
}

#[tokio::test]
async fn a_nonce_that_holds_for_one_request_is_no_wrong_password() {
    is_recorded_behind(Oddity::NonceForOneRequest).await;
}

#[tokio::test]
async fn a_description_that_retina_refuses_is_left_to_ffmpeg() {
    is_recorded_behind(Oddity::OddClock).await;
}

#[tokio::test]
async fn packets_that_retina_never_understands_are_left_to_ffmpeg() {
    is_recorded_behind(Oddity::AllMarked).await;
}

/// What is recorded, in so many seconds, of a camera behind such a server.
async fn stretches_behind(oddity: Oddity, seconds: f64) -> Vec<Vec<Segment>> {
    let clips = tempfile::tempdir().expect("a directory");
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let url = in_front_of(&simulator.url("cam").expect("a camera"), oddity).await;
    let rig = Rig::new(json!([{"name": "cam", "url": url}]));
    rig.record(sleep(seconds)).await;
    let stretches = stretches(rig.segments("cam"));
    let sent = sent(&simulator, "cam");
    for stretch in &stretches {
        expect_run(&sent, &frames(stretch));
    }
    stretches
}

#[tokio::test]
async fn a_camera_that_goes_on_under_another_ssrc_is_recorded_again_at_once() {
    let stretches = stretches_behind(Oddity::OtherSsrc, 9.0).await;
    assert_eq!(stretches.len(), 2);
    let after = &stretches[1];
    let gap = after[0].ticket.gap_before.unwrap();
    // A third of a second to be sure of it, a connection, and half a second for a key frame.
    assert!(gap < 2.0, "a gap of {gap} s");
    assert!(frames(after).len() > 20);
}

#[tokio::test]
async fn a_packet_under_another_ssrc_is_no_end_of_the_session() {
    let stretches = stretches_behind(Oddity::Stranger, 7.5).await;
    assert_eq!(stretches.len(), 1);
    assert!(frames(&stretches[0]).len() > 90);
}

#[tokio::test]
async fn sound_that_a_camera_refuses_costs_no_picture() {
    let clips = tempfile::tempdir().expect("a directory");
    let file = clip_with_sound(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let camera = simulator.url("cam").expect("a camera");
    for status in [404, 461] {
        let url = in_front_of(&camera, Oddity::RefusesSound(status)).await;
        let rig = Rig::new(json!([{"name": "cam", "url": url, "record_audio": true}]));
        rig.record(sleep(3.5)).await;
        let stored = frames(&rig.segments("cam"));
        assert!(stored.len() > 20, "{status}: {} frames", stored.len());
        expect_run(&sent(&simulator, "cam"), &stored);
        assert_eq!(rig.status("cam").reconnects, 0, "{status}");
    }
}

#[tokio::test]
async fn packets_that_retina_never_understands_do_not_fail_the_validation() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip_of_many_packets(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let url = in_front_of(&simulator.url("cam").unwrap(), Oddity::AllMarked).await;
    let rig = Rig::new(json!([{"name": "cam", "url": url}]));
    let stamps = Stamps(Arc::new(SystemClock::new()));
    let probes = probe(&rig.settings(), &stamps, Duration::from_secs(8)).await;
    assert_eq!(probes[0].trouble, None);
}
