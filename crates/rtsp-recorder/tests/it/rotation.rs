//! Exact segments: nothing lost, nothing doubled at cuts.

use crate::rig::{Rig, clip, clip_like, expect_run, frames, sent, simulator, sleep};
use camera_simulator::{CameraConfig, Fault};
use media::synth::TestVideo;
use rtsp_recorder::run::End;
use serde_json::json;
use ticket_queue::CutReason;

#[tokio::test]
async fn every_frame_sent_is_on_disk_once_whatever_codec_and_transport() {
    let clips = tempfile::tempdir().unwrap();
    let plain = clip(clips.path(), "h264.mp4");
    let base = TestVideo {
        width: 160,
        height: 120,
        frames: 90,
        gop: 8,
        ..TestVideo::default()
    };
    let h265 = TestVideo {
        encoder: "libx265".into(),
        ..base.clone()
    };
    let h265 = clip_like(clips.path(), "h265.mp4", &h265);
    let reordered = clip_like(
        clips.path(),
        "b.mp4",
        &TestVideo {
            b_frames: 2,
            gop: 9,
            ..base
        },
    );
    let simulator = simulator([
        CameraConfig::new("tcp", &plain),
        CameraConfig::new("udp", &plain),
        CameraConfig::new("h265", &h265),
        CameraConfig::new("bframes", &reordered),
    ]);
    let url = |name: &str| simulator.url(name).unwrap();
    let rig = Rig::new(json!([
        {"name": "tcp", "url": url("tcp")},
        {"name": "udp", "url": url("udp"), "transport": "udp"},
        {"name": "h265", "url": url("h265")},
        {"name": "bframes", "url": url("bframes")},
    ]));
    let end = rig.record(sleep(6.0)).await;
    assert_eq!(end, End::Stopped);
    for camera in ["tcp", "udp", "h265", "bframes"] {
        let segments = rig.segments(camera);
        assert!(segments.len() >= 3, "{camera}: {} segments", segments.len());
        let (stored, sent) = (frames(&segments), sent(&simulator, camera));
        let after = expect_run(&sent, &stored);
        // What was on its way when the recorder was stopped.
        assert!(
            after < 15,
            "{camera}: {after} frames at the end were not stored"
        );
        assert!(stored.len() > 60, "{camera}: {} frames", stored.len());
        for segment in &segments {
            let mut shown = segment.pts.clone();
            shown.sort_unstable();
            assert_eq!(shown[0], 0, "{camera}");
            assert!(
                shown
                    .windows(2)
                    .all(|w| (5_000..7_100).contains(&(w[1] - w[0]))),
                "{camera}: {shown:?}"
            );
        }
        let (last, inner) = segments.split_last().unwrap();
        assert_eq!(last.ticket.cut_reason, Some(CutReason::Shutdown));
        assert!(
            inner
                .iter()
                .all(|s| s.ticket.cut_reason == Some(CutReason::Duration))
        );
        assert!(segments.iter().all(|s| s.ticket.gap_before.is_none()));
    }
}

#[tokio::test]
async fn open_gops_are_cut_in_time_and_every_frame_is_shown_once() {
    let clips = tempfile::tempdir().unwrap();
    let parameters =
        "keyint=8:min-keyint=8:open-gop=1:bframes=2:b-adapt=0:scenecut=0:log-level=error";
    let video = TestVideo {
        encoder: "libx265".into(),
        width: 160,
        height: 120,
        // No closed GOP but the first.
        frames: 300,
        gop: 1000,
        b_frames: 2,
        options: vec![("x265-params".into(), parameters.into())],
        ..TestVideo::default()
    };
    let simulator = simulator([CameraConfig::new(
        "cam",
        clip_like(clips.path(), "a.mp4", &video),
    )]);
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]));
    rig.record(sleep(7.0)).await;
    let segments = rig.segments("cam");
    assert!(segments.len() >= 4, "{} segments", segments.len());
    for segment in &segments[1..segments.len() - 1] {
        let seconds = segment.ticket.media_duration.unwrap();
        assert!((0.5..1.7).contains(&seconds), "{seconds} s");
        assert_eq!(segment.ticket.cut_reason, Some(CutReason::Duration));
        assert_eq!(segment.pts.iter().min(), Some(&0));
    }
    assert!(segments.iter().all(|s| s.ticket.gap_before.is_none()));
    // What leads the first key frame cannot be decoded.
    let (mut sent, mut stored) = (sent(&simulator, "cam"), frames(&segments));
    let second = sent.iter().position(|hash| *hash == stored[1]).unwrap();
    sent.drain(..second);
    stored.remove(0);
    // At a cut the leading pictures are stored in front of their key frame, in the segment before.
    sent.truncate(stored.len());
    for (number, hash) in stored.iter().enumerate() {
        let near = number.saturating_sub(2)..(number + 3).min(sent.len());
        assert!(
            sent[near].contains(hash),
            "frame {number} is not where it was sent"
        );
    }
    sent.sort();
    stored.sort();
    assert!(sent == stored, "frames lost or doubled");
}

#[tokio::test]
async fn key_frames_far_apart_cost_neither_the_session_nor_a_frame() {
    let clips = tempfile::tempdir().unwrap();
    let video = TestVideo {
        width: 160,
        height: 120,
        frames: 240,
        gop: 60,
        ..TestVideo::default()
    };
    let file = clip_like(clips.path(), "a.mp4", &video);
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]));
    // The recorder comes after the first key frame. The wait for the next one is longer than `read_timeout`, than
    // `connection_timeout` and than a segment.
    sleep(0.5).await;
    rig.record(sleep(13.0)).await;
    let status = rig.status("cam");
    assert_eq!((status.reconnects, status.gaps), (0, 0), "{status:?}");
    let segments = rig.segments("cam");
    let seconds: Vec<f64> = segments.iter().map(|s| s.seconds()).collect();
    assert!(
        segments.len() >= 2 && (3.9..4.1).contains(&seconds[0]),
        "{seconds:?}"
    );
    let stored = frames(&segments);
    assert!(stored.len() > 100, "{} frames", stored.len());
    expect_run(&sent(&simulator, "cam"), &stored);
}

#[tokio::test]
async fn new_parameters_begin_a_segment_without_a_new_session() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]))
        .set("segment_duration", json!(30));
    rig.record(async {
        sleep(2.0).await;
        simulator.fault("cam", &Fault::Resize(320, 240)).unwrap();
        sleep(3.0).await;
    })
    .await;
    let segments = rig.segments("cam");
    let facts: Vec<_> = segments
        .iter()
        .map(|s| (s.ticket.width.unwrap(), s.ticket.cut_reason.unwrap()))
        .collect();
    assert_eq!(
        facts,
        [
            (160, CutReason::ParametersChanged),
            (320, CutReason::Shutdown)
        ]
    );
    expect_run(&sent(&simulator, "cam"), &frames(&segments));
    assert_eq!(rig.status("cam").reconnects, 0);
}

#[tokio::test]
async fn limits_end_the_recording_cleanly() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([
        CameraConfig::new("few", &file),
        CameraConfig::new("short", &file),
    ]);
    let rig = Rig::new(json!([
        {"name": "few", "url": simulator.url("few").unwrap(), "max_segments": 2},
        {"name": "short", "url": simulator.url("short").unwrap(), "duration_limit": 2, "segment_duration": 30},
    ]));
    let end = rtsp_recorder::run::run(rig.settings(), daemon::Shutdown::manual())
        .await
        .unwrap();
    assert_eq!(end, End::Finished);
    assert_eq!(rig.segments("few").len(), 2);
    let short = rig.segments("short");
    assert_eq!(short.len(), 1);
    assert!(
        (1.9..2.3).contains(&short[0].ticket.media_duration.unwrap()),
        "{:?}",
        short[0].ticket
    );
    expect_run(&sent(&simulator, "short"), &frames(&short));
}
