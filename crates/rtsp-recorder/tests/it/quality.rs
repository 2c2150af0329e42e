//! What status file and log say of each source, and what happens with more sources than may be recorded at once.

use crate::process::{end, start, wait_until};
use crate::rig::{Rig, clip, simulator};
use camera_simulator::{CameraConfig, Config, Fault, Simulator};
use daemon::status::SourceStatus;
use serde_json::json;
use std::time::Duration;

#[test]
fn the_status_says_what_each_source_does_and_what_befell_it() {
    let clips = tempfile::tempdir().unwrap();
    let config = Config {
        separate_ports: true,
        ..Config::new([CameraConfig::new("cam", clip(clips.path(), "a.mp4"))])
    };
    let simulator = Simulator::start(config).unwrap();
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]))
        .set("monitoring_interval", json!(0.5))
        .set("camera_down_after", json!(2));
    let recorder = start(&rig);
    let until = |what: &str, condition: &dyn Fn(&SourceStatus) -> bool| {
        wait_until(what, || {
            rig.path("logs/rtsp_recorder.status.json").exists() && condition(&rig.status("cam"))
        });
        rig.status("cam")
    };
    let good = until("a good camera", &|s| {
        s.segments >= 2 && s.current_segment.is_some()
    });
    assert_eq!(good.state, "recording");
    assert_eq!(good.codec.as_deref(), Some("h264"));
    assert_eq!((good.width, good.height), (Some(160), Some(120)));
    // The parameter sets of the clip name the ticks of a clock, 90000; the description knows better.
    assert_eq!(good.declared_fps, Some(15.0));
    assert!((10.0..20.0).contains(&good.fps), "{} fps", good.fps);
    assert!(
        (10_000..5_000_000).contains(&good.bitrate_bps),
        "{} bit/s",
        good.bitrate_bps
    );
    let age = jiff::Timestamp::now().duration_since(good.last_frame.unwrap());
    assert!(age.as_secs_f64() < 3.0, "last frame {age:?} ago");
    assert_eq!((good.packets_lost, good.reconnects, good.gaps), (0, 0, 0));
    assert_eq!(
        (&good.error, &good.last_gap, &good.down_since),
        (&None, &None, &None)
    );
    let finished = rig.path("raw/cam").join(good.last_segment.unwrap());
    assert!(finished.exists(), "{finished:?}");
    let open = good.current_segment.unwrap();
    assert!(open.starts_with("cam_") && open.ends_with(".mp4"), "{open}");

    simulator.fault("cam", &Fault::Loss(30.0)).unwrap();
    until("lost packets", &|s| s.packets_lost > 0);
    simulator.fault("cam", &Fault::Clear).unwrap();

    simulator
        .fault("cam", &Fault::Reboot(Duration::from_secs(5)))
        .unwrap();
    let down = until("the camera to be down", &|s| s.down_since.is_some());
    assert!(!down.down_reason.unwrap().is_empty() && down.error.is_some());
    assert_eq!((down.current_segment, down.fps), (None, 0.0));
    let back = until("the camera to be back", &|s| {
        s.down_since.is_none() && s.gaps > 0
    });
    assert_eq!((back.gaps, back.reconnects), (1, 1));
    let gap = back.last_gap.unwrap();
    assert!(
        gap.contains(" s before ") && gap.len() > 40,
        "no reason in {gap:?}"
    );
    end(recorder);

    let log = std::fs::read_to_string(rig.path("logs/rtsp_recorder.log")).unwrap();
    for line in [
        "ERROR camera is down",
        "WARN camera is up again",
        "INFO state recording=1",
        "recording again after a gap",
        "packets lost, the frames they belong to are missing or damaged",
        "it is the camera that leaves packets out",
    ] {
        assert!(log.contains(line), "{line:?} not in {log}");
    }
    // However often it happens within a minute.
    assert_eq!(log.matches("packets lost,").count(), 1, "{log}");
    assert_eq!(log.matches("camera is down").count(), 1, "{log}");
}

#[test]
fn sources_that_must_take_turns_are_warned_of() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator(["a", "b", "c"].map(|name| CameraConfig::new(name, &file)));
    let sources = ["a", "b", "c"].map(|n| json!({"name": n, "url": simulator.url(n).unwrap()}));
    for (slots, warned) in [(2, true), (3, false)] {
        let rig = Rig::new(json!(sources)).set("max_concurrent_recordings", json!(slots));
        let recorder = start(&rig);
        wait_until("recording", || {
            rig.path("queue").exists() && rig.tickets().len() > 2
        });
        end(recorder);
        let log = std::fs::read_to_string(rig.path("logs/rtsp_recorder.log")).unwrap();
        assert_eq!(log.contains("they take turns"), warned, "{log}");
    }
}
