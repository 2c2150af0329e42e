//! Files, encoding again, sound.

use crate::rig::{
    Rig, Segment, clip, clip_like, clip_of_many_packets, clip_with_sound, expect_run, frames, sent,
    simulator, sleep,
};
use camera_simulator::{CameraConfig, Config, Fault, Simulator, StartAt, VideoCodec};
use media::AudioCodec;
use media::synth::TestVideo;
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

#[tokio::test]
async fn a_file_is_paced_and_repeated_under_loop_names() {
    let clips = tempfile::tempdir().unwrap();
    let video = TestVideo {
        width: 160,
        height: 120,
        frames: 30,
        gop: 5,
        ..TestVideo::default()
    };
    let file = clip_like(clips.path(), "media2.mp4", &video);
    let rig = Rig::new(json!([{"name": "media2", "url": file.to_str().unwrap()}]));
    let began = std::time::Instant::now();
    rig.record(sleep(3.6)).await;
    let segments = rig.segments("media2");
    let names: Vec<String> = segments
        .iter()
        .map(|s| s.file_name()[22..].to_owned())
        .collect();
    assert_eq!(
        names[..3],
        [
            "_loop000_seg0001.mp4",
            "_loop000_seg0002.mp4",
            "_loop001_seg0003.mp4"
        ]
    );
    let all = frames(&segments);
    assert_eq!(all[..5], all[30..35], "the file does not begin anew");
    let seconds = began.elapsed().as_secs_f64();
    assert!(
        (all.len() as f64) < (seconds + 1.0) * 15.0,
        "{} frames in {seconds} s",
        all.len()
    );
}

#[tokio::test]
async fn another_codec_encodes_again_at_input_fps() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let rig = Rig::new(json!([{
        "name": "cam", "url": simulator.url("cam").unwrap(),
        "video_codec": "libx264", "input_fps": 5, "bitrate": "200k",
    }]));
    rig.record(sleep(7.0)).await;
    let segments = rig.segments("cam");
    let fps = segments[0].ticket.fps.unwrap();
    assert!((4.5..5.5).contains(&fps), "{fps}");
}

#[tokio::test]
async fn a_camera_that_refuses_tcp_is_recorded_over_udp() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let config = Config {
        refuse_tcp: true,
        ..Config::new([CameraConfig::new("cam", &file)])
    };
    let simulator = Simulator::start(config).unwrap();
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]));
    rig.record(sleep(3.5)).await;
    let stored = frames(&rig.segments("cam"));
    assert!(stored.len() > 20, "{} frames", stored.len());
    expect_run(&sent(&simulator, "cam"), &stored);
}

#[tokio::test]
async fn packets_that_overtake_one_another_are_not_lost_and_lost_ones_are_counted() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip_of_many_packets(clips.path(), "a.mp4");
    let names = ["swapped", "late", "lossy"];
    let simulator = simulator(names.map(|name| CameraConfig::new(name, &file)));
    for (name, packets) in names.iter().zip([1, 4, 1]) {
        simulator.fault(name, &Fault::Reorder(packets)).unwrap();
    }
    simulator.fault("lossy", &Fault::Loss(3.0)).unwrap();
    let sources =
        names.map(|n| json!({"name": n, "url": simulator.url(n).unwrap(), "transport": "udp"}));
    let rig = Rig::new(json!(sources));
    rig.record(sleep(4.5)).await;
    for name in ["swapped", "late"] {
        let segments = rig.segments(name);
        let stored = frames(&segments);
        assert!(stored.len() > 30, "{name}: {} frames", stored.len());
        expect_run(&sent(&simulator, name), &stored);
        assert_eq!(rig.status(name).packets_lost, 0, "{name}");
    }
    // Nothing that is stored is a part of a frame, and the count of what did not come is right.
    let segments = rig.segments("lossy");
    let sent = sent(&simulator, "lossy");
    assert!(frames(&segments).iter().all(|frame| sent.contains(frame)));
    let lost: u64 = segments
        .iter()
        .map(|s| s.ticket.packets_lost.unwrap())
        .sum();
    let left_out = simulator.stats("lossy").unwrap().packets_lost;
    assert!(
        lost > 0 && lost <= left_out && rig.status("lossy").packets_lost <= left_out,
        "{lost} in tickets, {} in the status, {left_out} left out",
        rig.status("lossy").packets_lost
    );
}

#[tokio::test]
async fn a_stream_that_begins_within_a_frame_is_recorded_from_the_next_key_frame() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip_of_many_packets(clips.path(), "a.mp4");
    let mut cameras = ["h264", "h265"].map(|name| CameraConfig::new(name, &file));
    cameras[1].load.codec = Some(VideoCodec::H265);
    cameras[1].load.gop = Some(8);
    let config = Config {
        start_at: StartAt::LastPacket,
        ..Config::new(cameras)
    };
    let simulator = Simulator::start(config).unwrap();
    let url = |name: &str| simulator.url(name).unwrap();
    let rig = Rig::new(json!([
        {"name": "h264", "url": url("h264")},
        {"name": "h265", "url": url("h265")},
    ]));
    rig.record(sleep(3.5)).await;
    for name in ["h264", "h265"] {
        assert!(rig.status(name).segments > 0, "{:?}", rig.status(name));
        let stored = frames(&rig.segments(name));
        assert!(stored.len() > 15, "{name}: {} frames", stored.len());
        expect_run(&sent(&simulator, name), &stored);
        let status = rig.status(name);
        assert_eq!(status.reconnects, 0, "{status:?}");
    }
}

#[tokio::test]
async fn packets_before_the_first_one_are_not_lost() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let config = Config {
        start_at: StartAt::StaleNumber,
        ..Config::new([CameraConfig::new("cam", &file)])
    };
    let simulator = Simulator::start(config).unwrap();
    let url = simulator.url("cam").unwrap();
    let rig = Rig::new(json!([
        {"name": "tcp", "url": url},
        {"name": "udp", "url": url, "transport": "udp"},
    ]));
    rig.record(sleep(3.0)).await;
    for name in ["tcp", "udp"] {
        assert_eq!(rig.status(name).packets_lost, 0, "{name}");
        let segments = rig.segments(name);
        assert!(
            segments.iter().all(|s| s.ticket.packets_lost == Some(0)),
            "{name}"
        );
        expect_run(&sent(&simulator, "cam"), &frames(&segments));
    }
}

/// Speaks TLS in front of a camera; its address there.
async fn behind_tls(simulator: &Simulator, camera: &str) -> String {
    let url = simulator.url(camera).unwrap();
    let (address, path) = url["rtsp://".len()..].split_once('/').unwrap();
    let address = address.to_owned();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((outer, _)) = listener.accept().await {
            let (acceptor, address) = (acceptor.clone(), address.clone());
            tokio::spawn(async move {
                let mut inner = TcpStream::connect(address).await?;
                let mut outer = acceptor.accept(outer).await?;
                tokio::io::copy_bidirectional(&mut outer, &mut inner).await
            });
        }
    });
    format!("rtsps://127.0.0.1:{port}/{path}")
}

#[tokio::test]
async fn a_camera_behind_tls_is_recorded_through_ffmpeg() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let url = behind_tls(&simulator, "cam").await;
    let rig = Rig::new(json!([{"name": "cam", "url": url}]))
        .set("connection_timeout", json!(5000))
        .set("read_timeout", json!(5000));
    rig.record(sleep(8.0)).await;
    assert!(rig.status("cam").segments > 0, "{:?}", rig.status("cam"));
    let stored = frames(&rig.segments("cam"));
    assert!(stored.len() > 40, "{} frames", stored.len());
    expect_run(&sent(&simulator, "cam"), &stored);
    assert_eq!(rig.status("cam").reconnects, 0);
}

#[tokio::test]
async fn packets_that_ffmpeg_misses_are_counted() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip_of_many_packets(clips.path(), "a.mp4");
    let names = ["tls", "again"];
    let simulator = simulator(names.map(|name| CameraConfig::new(name, &file)));
    let rig = Rig::new(json!([
        {"name": "tls", "url": behind_tls(&simulator, "tls").await},
        {"name": "again", "url": simulator.url("again").unwrap(), "transport": "udp", "video_codec": "libx264"},
    ]))
    .set("connection_timeout", json!(5000))
    .set("read_timeout", json!(5000));
    rig.record(async {
        sleep(3.0).await;
        // The first segment is whole.
        for name in names {
            while rig.status(name).segments == 0 {
                sleep(0.1).await;
            }
            assert_eq!(rig.status(name).packets_lost, 0, "{name}");
            simulator.fault(name, &Fault::Loss(3.0)).unwrap();
        }
        sleep(5.0).await;
    })
    .await;
    for name in names {
        let segments = rig.segments(name);
        let lost = |segments: &[Segment]| -> u64 {
            segments.iter().filter_map(|s| s.ticket.packets_lost).sum()
        };
        assert_eq!(lost(&segments[..1]), 0, "{name}");
        let left_out = simulator.stats(name).unwrap().packets_lost;
        assert!(lost(&segments) > 0, "{name}: {left_out} left out");
        assert_eq!(rig.status(name).reconnects, 0, "{name}");
    }
    // Pictures built upon lost ones leave holes in what was encoded again.
    let again = rig.segments("again");
    let expected: f64 = again.iter().map(|s| s.seconds() * 15.0).sum();
    let stored = frames(&again).len() as f64;
    assert!(
        stored > 20.0 && stored < expected * 0.95,
        "{stored} frames of {expected}"
    );
}

/// Stands in front of the camera at `address` and hangs up on whoever's first request does not hold `wanted`; the port it
/// listens on.
async fn doorkeeper_before(address: String, wanted: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut outer, _)) = listener.accept().await {
            let address = address.clone();
            tokio::spawn(async move {
                let mut first = vec![0; 4096];
                let length = outer.read(&mut first).await?;
                let request = String::from_utf8_lossy(&first[..length]);
                if !request
                    .lines()
                    .next()
                    .is_some_and(|line| line.contains(wanted))
                {
                    return Ok((0, 0));
                }
                let mut inner = TcpStream::connect(address).await?;
                inner.write_all(&first[..length]).await?;
                tokio::io::copy_bidirectional(&mut outer, &mut inner).await
            });
        }
    });
    port
}

#[tokio::test]
async fn a_camera_that_wants_a_secret_in_the_address_gets_it_and_nobody_else_does() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let url = simulator.url("cam").unwrap();
    let (address, path) = url["rtsp://".len()..].split_once('/').unwrap();
    let port = doorkeeper_before(address.to_owned(), "?token=geheim ").await;
    let rig = Rig::new(json!([{
        "name": "cam", "url": format!("rtsp://viewer:1234@127.0.0.1:{port}/{path}?token=geheim"),
    }]));
    rig.record(sleep(3.5)).await;
    let segments = rig.segments("cam");
    expect_run(&sent(&simulator, "cam"), &frames(&segments));
    for segment in segments {
        let ticket = format!("{:?}", segment.ticket);
        assert!(!ticket.contains("geheim"), "{ticket}");
    }
}

#[tokio::test]
async fn sound_is_recorded_only_when_asked_for() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip_with_sound(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let url = simulator.url("cam").unwrap();
    let rig = Rig::new(json!([
        {"name": "loud", "url": url, "record_audio": true},
        {"name": "mute", "url": url},
    ]));
    rig.record(sleep(4.5)).await;
    for (name, sound) in [("loud", true), ("mute", false)] {
        for segment in rig.segments(name) {
            let probe = media::probe(&segment.ticket.filepath).unwrap();
            assert_eq!(probe.audio().is_some(), sound, "{name}");
            if let Some(audio) = probe.audio() {
                let audio = audio.time_base.seconds(audio.duration.unwrap());
                let video = segment.ticket.media_duration.unwrap();
                assert!(
                    (audio - video).abs() < 0.5,
                    "{audio} s of sound, {video} s of video"
                );
            }
        }
    }
}

#[tokio::test]
async fn sound_is_recorded_where_the_video_is_encoded_again() {
    let clips = tempfile::tempdir().expect("a directory");
    let file = clip_with_sound(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let rig = Rig::new(json!([{
        "name": "cam", "url": simulator.url("cam").expect("a camera"), "record_audio": true,
        "video_codec": "libx264", "input_fps": 15, "bitrate": "200k",
    }]));
    rig.record(sleep(6.5)).await;
    let segments = rig.segments("cam");
    let seconds: f64 = segments.iter().map(Segment::seconds).sum();
    assert!(seconds > 3.0, "{seconds} s");
    for segment in segments.iter().filter(|it| it.seconds() > 0.5) {
        let probe = media::probe(&segment.ticket.filepath).expect("a video");
        let audio = probe.audio().expect("sound");
        let audio = audio.time_base.seconds(audio.duration.expect("a length"));
        let video = segment.seconds();
        assert!(
            (audio - video).abs() < 0.5,
            "{audio} s of sound, {video} s of video"
        );
    }
}

#[tokio::test]
async fn sound_of_another_kind_than_aac_becomes_aac_in_what_ffmpeg_reads_too() {
    let clips = tempfile::tempdir().unwrap();
    let mute = clip(clips.path(), "mute.mp4");
    let file = clips.path().join("a.mov");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&mute)
        .args([
            "-f",
            "lavfi",
            "-i",
            "sine=r=8000",
            "-shortest",
            "-c:v",
            "copy",
        ])
        .args(["-c:a", "pcm_alaw"])
        .arg(&file)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no ffmpeg");
        return;
    }
    let rig = Rig::new(json!([{"name": "cam", "url": file, "record_audio": true}]));
    rig.record(sleep(4.5)).await;
    let segments = rig.segments("cam");
    // The encoder needs a quarter of a second for what it gives out first.
    let long = |segment: &&Segment| segment.ticket.media_duration.unwrap() > 0.5;
    assert!(segments.iter().any(|segment| long(&segment)));
    for segment in segments.iter().filter(long) {
        let probe = media::probe(&segment.ticket.filepath).unwrap();
        let audio = probe.audio().expect("sound");
        assert_eq!((audio.codec, audio.sample_rate), (AudioCodec::Aac, 8_000));
        let audio = audio.time_base.seconds(audio.duration.unwrap());
        let video = segment.ticket.media_duration.unwrap();
        assert!(
            (audio - video).abs() < 0.5,
            "{audio} s of sound, {video} s of video"
        );
    }
}

/// A transport stream of 4 s of this clip with a tone of so many channels, which begins at that time.
fn transport_stream(clip: &Path, channels: &str, codec: &str, at: &str) -> Option<Vec<u8>> {
    let file = clip.with_extension(format!("{at}.ts"));
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(clip)
        .args([
            "-f",
            "lavfi",
            "-i",
            "sine=r=44100",
            "-t",
            "4",
            "-c:v",
            "copy",
        ])
        .args(["-c:a", codec, "-ac", channels, "-output_ts_offset", at])
        .arg(&file)
        .status();
    match made.is_ok_and(|status| status.success()) {
        true => Some(std::fs::read(file).expect("a stream")),
        false => {
            eprintln!("SKIPPED: no ffmpeg");
            None
        }
    }
}

#[tokio::test]
async fn sound_of_a_transport_stream_can_be_played() {
    let clips = tempfile::tempdir().expect("a directory");
    let clip = clip(clips.path(), "a.mp4");
    if transport_stream(&clip, "2", "aac", "0").is_none() {
        return;
    }
    let file = clip.with_extension("0.ts");
    let rig = Rig::new(json!([{"name": "cam", "url": file, "record_audio": true}]));
    rig.record(sleep(4.0)).await;
    let segments = rig.segments("cam");
    assert!(segments.iter().any(|it| it.seconds() > 0.5));
    for segment in segments.iter().filter(|it| it.seconds() > 0.5) {
        let contents = media::probe::load(&segment.ticket.filepath).expect("a video");
        let (index, audio) = (contents.tracks.iter().enumerate())
            .find_map(|(index, track)| match track {
                media::Track::Audio(audio) => Some((index, audio)),
                _ => None,
            })
            .expect("sound");
        assert_eq!(
            (audio.codec, audio.sample_rate, audio.channels),
            (AudioCodec::Aac, 44_100, 2)
        );
        assert!(audio.extradata.len() >= 2, "{:?}", audio.extradata);
        let mut decoder = media::audio::AudioDecoder::new(audio).expect("a decoder");
        let mut samples = 0;
        for packet in contents.of_track(index) {
            assert!(
                !packet.data().starts_with(&[0xff, 0xf1]),
                "a header of ADTS"
            );
            samples += decoder.decode(packet).expect("sound").len() / 2;
        }
        let seconds = samples as f64 / 44_100.0;
        assert!((seconds - segment.seconds()).abs() < 0.5, "{seconds} s");
    }
}

#[tokio::test]
async fn sound_that_changes_ends_and_the_picture_goes_on() {
    let clips = tempfile::tempdir().expect("a directory");
    let clip = clip(clips.path(), "a.mp4");
    let stereo = transport_stream(&clip, "2", "mp2", "0");
    let mono = transport_stream(&clip, "1", "mp2", "4");
    let (Some(stereo), Some(mono)) = (stereo, mono) else {
        return;
    };
    let file = clips.path().join("b.ts");
    std::fs::write(&file, [stereo, mono].concat()).expect("a file");
    let rig = Rig::new(json!([{"name": "cam", "url": file, "record_audio": true}]));
    rig.record(sleep(8.0)).await;
    let segments = rig.segments("cam");
    let seconds: f64 = segments.iter().map(Segment::seconds).sum();
    assert!(seconds > 6.5, "{seconds} s");
    assert!(segments.iter().all(|it| it.ticket.gap_before.is_none()));
    let first = media::probe(&segments[0].ticket.filepath).expect("a video");
    assert!(first.audio().is_some_and(|it| it.duration > Some(0)));
}

#[tokio::test]
async fn no_segment_holds_pictures_of_two_sizes() {
    let clips = tempfile::tempdir().expect("a directory");
    let sizes = [(160, "0"), (320, "4")].map(|(width, at)| {
        let video = TestVideo {
            width,
            height: 120,
            frames: 60,
            gop: 8,
            ..TestVideo::default()
        };
        let clip = clip_like(clips.path(), &format!("{width}.mp4"), &video);
        transport_stream(&clip, "1", "aac", at)
    });
    let [Some(small), Some(large)] = sizes else {
        return;
    };
    let file = clips.path().join("b.ts");
    std::fs::write(&file, [small, large].concat()).expect("a file");
    let rig = Rig::new(json!([{"name": "cam", "url": file}]));
    rig.record(sleep(8.5)).await;
    let mut seconds = [0.0, 0.0];
    for segment in rig.segments("cam") {
        let probe = media::probe(&segment.ticket.filepath).expect("a video");
        let video = probe.video().expect("video");
        let found = media::verify(&segment.ticket.filepath, &Default::default());
        let found = found.expect("a video");
        assert!(found.is_sound(), "{:?}", found.errors);
        seconds[usize::from(video.width == 320)] += segment.seconds();
    }
    assert!(seconds.iter().all(|it| *it > 3.5), "{seconds:?}");
}

#[tokio::test]
async fn video_that_mp4_cannot_hold_is_no_trouble_of_the_disk() {
    let clips = tempfile::tempdir().expect("a directory");
    let clip = clip(clips.path(), "a.mp4");
    let file = clips.path().join("a.webm");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&clip)
        .args(["-c:v", "libvpx", "-deadline", "realtime"])
        .arg(&file)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no ffmpeg with libvpx");
        return;
    }
    let rig = Rig::new(json!([{"name": "cam", "url": file}]));
    rig.record(async {
        let mut told = Vec::new();
        for _ in 0..60 {
            sleep(0.1).await;
            let is_there = rig.path("logs").join("rtsp_recorder.status.json").exists();
            told.extend(is_there.then(|| rig.status("cam").error).flatten());
        }
        assert!(!told.is_empty());
        for error in told {
            assert!(error.contains("video_codec"), "{error}");
            assert!(!error.contains("disk"), "{error}");
        }
    })
    .await;
    // Each session takes a second, and the waits grow: 0.3 s, 0.6 s, 1.2 s.
    let reconnects = rig.status("cam").reconnects;
    assert!((1..=4).contains(&reconnects), "{reconnects}");
    assert!(rig.tickets().is_empty());
}

#[tokio::test]
async fn parameter_sets_that_only_ffmpeg_can_read_send_the_source_to_its_demuxer() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let mut camera = CameraConfig::new("cam", &file);
    camera.load.codec = Some(VideoCodec::H265);
    camera.load.gop = Some(8);
    camera.load.sets_out_of_band = true;
    let simulator = simulator([camera]);
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]));
    rig.record(sleep(6.0)).await;
    let segments = rig.segments("cam");
    let stored = frames(&segments);
    assert!(stored.len() > 20, "{} frames", stored.len());
    assert_eq!(segments[0].ticket.codec.as_deref(), Some("hevc"));
    expect_run(&sent(&simulator, "cam"), &stored);
}
