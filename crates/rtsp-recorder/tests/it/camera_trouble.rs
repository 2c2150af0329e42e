//! Cameras that hang, close, jump and lose.

use crate::rig::{Rig, clip, expect_run, frames, sent, simulator, sleep, stretches};
use camera_simulator::{CameraConfig, Config, Fault, Simulator};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use ticket_queue::CutReason;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[tokio::test]
async fn a_camera_that_fails_is_recorded_again_and_the_gap_is_on_record() {
    let clips = tempfile::tempdir().unwrap();
    let file_path = clip(clips.path(), "a.mp4");
    let names = ["close", "silence", "reboot"];
    let config = Config {
        separate_ports: true,
        ..Config::new(names.map(|n| CameraConfig::new(n, &file_path)))
    };
    let simulator = Simulator::start(config).unwrap();
    let sources: Vec<_> = names
        .iter()
        .map(|n| json!({"name": n, "url": simulator.url(n).unwrap()}))
        .collect();
    let rig = Rig::new(json!(sources));
    rig.record(async {
        sleep(2.5).await;
        simulator.fault("close", &Fault::Close).unwrap();
        simulator
            .fault("silence", &Fault::Silence(Duration::from_secs(2)))
            .unwrap();
        simulator
            .fault("reboot", &Fault::Reboot(Duration::from_secs(2)))
            .unwrap();
        // The waits between attempts double: the last one may last 3 s.
        sleep(7.5).await;
    })
    .await;
    let gaps = std::fs::read_to_string(rig.path("logs/gaps.jsonl")).unwrap();
    assert_eq!(gaps.lines().count(), 3, "{gaps}");
    for name in names {
        let line = gaps.lines().find(|line| line.contains(name)).unwrap();
        assert!(line.contains("why") && line.contains("from"), "{line}");
        let status = rig.status(name);
        let stretches = stretches(rig.segments(name));
        assert_eq!(
            stretches.len(),
            2,
            "{name}: {:?}",
            stretches.iter().map(Vec::len).collect::<Vec<_>>()
        );
        let sent = sent(&simulator, name);
        for stretch in &stretches {
            expect_run(&sent, &frames(stretch));
        }
        let before = &stretches[0].last().unwrap().ticket;
        assert_eq!(before.cut_reason, Some(CutReason::Reconnect), "{name}");
        let gap = stretches[1][0].ticket.gap_before.unwrap();
        assert!((0.2..5.0).contains(&gap), "{name}: gap of {gap} s");
        assert!(
            status.reconnects >= 1 && status.state == "stopped",
            "{status:?}"
        );
        assert!(
            stretches[1].iter().map(|s| s.frames.len()).sum::<usize>() > 20,
            "{name}"
        );
    }
}

#[tokio::test]
async fn sessions_that_are_given_up_are_torn_down() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let attached = || simulator.stats("cam").unwrap().attached;
    // A session over UDP outlives its connection, for a minute.
    let rig = Rig::new(
        json!([{"name": "cam", "url": simulator.url("cam").unwrap(), "transport": "udp"}]),
    );
    rig.record(async {
        sleep(2.0).await;
        let in_use = attached();
        assert!(in_use > 0);
        simulator
            .fault("cam", &Fault::Silence(Duration::from_secs(2)))
            .unwrap();
        sleep(6.0).await;
        assert!(rig.status("cam").reconnects > 0);
        assert_eq!(attached(), in_use, "sessions of before are left");
    })
    .await;
    sleep(0.5).await;
    assert_eq!(attached(), 0, "sessions are left at the end");
}

#[tokio::test]
async fn a_camera_that_denies_access_is_left_alone_for_long() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtsp://{}/cam", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            while stream.read_line(&mut line).await.is_ok_and(|n| n > 0) {
                if line.to_ascii_lowercase().starts_with("cseq") {
                    counter.fetch_add(1, Ordering::Relaxed);
                    let answer = format!("RTSP/1.0 403 Forbidden\r\n{}\r\n\r\n", line.trim());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
                line.clear();
            }
        }
    });
    let rig = Rig::new(json!([{"name": "cam", "url": url}]));
    rig.record(async {
        sleep(4.0).await;
        let status = rig.status("cam");
        assert_eq!(status.state, "refused");
        let error = status.error.unwrap();
        assert!(error.contains("denies access"), "{error}");
    })
    .await;
    // One that is merely away would have been asked every second.
    let requests = requests.load(Ordering::Relaxed);
    assert!((1..=2).contains(&requests), "{requests} requests");
}

#[tokio::test]
async fn a_camera_that_stays_away_is_down_until_it_is_back() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let config = Config {
        separate_ports: true,
        ..Config::new([CameraConfig::new("cam", &file)])
    };
    let simulator = Simulator::start(config).unwrap();
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]))
        .set("camera_down_after", json!(1))
        .set("monitoring_interval", json!(0.5));
    let before = jiff::Timestamp::now();
    rig.record(async {
        sleep(1.5).await;
        assert_eq!(rig.status("cam").down_since, None);
        simulator
            .fault("cam", &Fault::Reboot(Duration::from_secs(4)))
            .unwrap();
        sleep(3.5).await;
        let status = rig.status("cam");
        let since = status.down_since.expect("the camera is down");
        let seconds = since.duration_since(before).as_secs_f64();
        assert!((1.0..2.9).contains(&seconds), "down after {seconds} s");
        assert!(
            !status.down_reason.unwrap().is_empty() && status.state != "recording",
            "{}",
            status.state
        );
        // The next attempt may have been put off by some seconds just before the camera came back.
        for _ in 0..100 {
            if rig.status("cam").down_since.is_none() {
                break;
            }
            sleep(0.1).await;
        }
        let status = rig.status("cam");
        assert_eq!((status.down_since, status.down_reason), (None, None));
        assert_eq!(status.state, "recording");
    })
    .await;
}

#[tokio::test]
async fn the_time_between_two_recorders_is_a_gap_on_record() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]));
    rig.record(sleep(1.5)).await;
    let first = rig.segments("cam").len();
    let last_frame = rig.status("cam").last_frame.unwrap();
    sleep(1.5).await;
    rig.record(sleep(2.0)).await;
    let segments = rig.segments("cam");
    let next = &segments[first].ticket;
    let missing = next
        .start()
        .unwrap()
        .timestamp()
        .duration_since(last_frame)
        .as_secs_f64();
    let gap = next.gap_before.expect("a gap");
    assert!(
        missing > 1.4 && (gap - missing).abs() < 0.3,
        "{gap} s, not {missing} s"
    );
    let gaps = std::fs::read_to_string(rig.path("logs/gaps.jsonl")).unwrap();
    assert_eq!(gaps.lines().count(), 1, "{gaps}");
    assert!(gaps.contains("the recorder was not running"), "{gaps}");
    assert_eq!(rig.status("cam").gaps, 1);
}

#[tokio::test]
async fn wrong_timestamps_lose_no_frame_and_lost_packets_are_counted() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator =
        simulator(["ahead", "back", "lossy"].map(|name| CameraConfig::new(name, &file)));
    let url = |name: &str| simulator.url(name).unwrap();
    let rig = Rig::new(json!([
        {"name": "ahead", "url": url("ahead")},
        {"name": "back", "url": url("back")},
        {"name": "lossy", "url": url("lossy")},
    ]));
    rig.record(async {
        sleep(2.0).await;
        simulator.fault("ahead", &Fault::Jump(3600.0)).unwrap();
        simulator.fault("back", &Fault::Jump(-10.0)).unwrap();
        simulator.fault("lossy", &Fault::Loss(25.0)).unwrap();
        sleep(3.0).await;
    })
    .await;
    for name in ["ahead", "back"] {
        let segments = rig.segments(name);
        expect_run(&sent(&simulator, name), &frames(&segments));
        let longest = segments
            .iter()
            .map(|s| s.ticket.media_duration.unwrap())
            .fold(0.0, f64::max);
        assert!(longest < 2.8, "{name}: a segment of {longest} s");
        assert_eq!(rig.status(name).reconnects, 0, "{name} lost its session");
    }
    let lossy = rig.segments("lossy");
    let lost: u64 = lossy.iter().map(|s| s.ticket.packets_lost.unwrap()).sum();
    assert!(lost > 0, "loss is not counted");
}

#[tokio::test]
async fn a_disk_that_refuses_is_waited_for() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]));
    let dir = rig.path("raw").join("cam");
    std::fs::create_dir_all(rig.path("raw")).unwrap();
    // Something else than a directory where segments are to go: nothing can be created there.
    std::fs::write(&dir, "in the way").unwrap();
    rig.record(async {
        sleep(2.0).await;
        std::fs::remove_file(&dir).unwrap();
        sleep(5.0).await;
    })
    .await;
    let segments = rig.segments("cam");
    assert!(segments.len() >= 2, "{} segments", segments.len());
    expect_run(&sent(&simulator, "cam"), &frames(&segments));
    assert_eq!(rig.status("cam").reconnects, 0);
}

#[tokio::test]
async fn a_directory_that_somebody_removes_costs_no_whole_segment() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]));
    let rig = rig.set("segment_duration", json!(60));
    rig.record(async {
        sleep(3.0).await;
        std::fs::remove_dir_all(rig.path("raw")).unwrap();
        sleep(6.0).await;
    })
    .await;
    let stored = frames(&rig.segments("cam"));
    assert!(stored.len() > 30, "{} frames", stored.len());
    expect_run(&sent(&simulator, "cam"), &stored);
    let gap = rig.tickets()[0].gap_before.unwrap();
    assert!((2.0..8.0).contains(&gap), "{gap} s");
}

#[tokio::test]
async fn more_sources_than_slots_take_turns() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator(["a", "b", "c"].map(|name| CameraConfig::new(name, &file)));
    let sources: Vec<_> = ["a", "b", "c"]
        .iter()
        .map(|n| json!({"name": n, "url": simulator.url(n).unwrap()}))
        .collect();
    let rig = Rig::new(json!(sources)).set("max_concurrent_recordings", json!(1));
    rig.record(sleep(8.0)).await;
    for name in ["a", "b", "c"] {
        let segments = rig.segments(name);
        assert!(!segments.is_empty(), "{name} never had a turn");
    }
}
