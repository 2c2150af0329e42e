//! `run-system --validate` with the real recorder behind it, against simulated cameras.

use std::fs;
use std::time::Duration;

use camera_simulator::{CameraConfig, Config, Credentials, Simulator};
use media::synth::TestVideo;
use serde_json::json;

use crate::site::Site;

const LIMIT: Duration = Duration::from_secs(100);

#[test]
fn the_preflight_tells_good_refused_and_absent_cameras_apart() {
    let clips = tempfile::tempdir().expect("a folder");
    let clip = clips.path().join("a.mp4");
    let video = TestVideo {
        frames: 90,
        fps: 15,
        gop: 15,
        ..TestVideo::default()
    };
    video.write(&clip).expect("a clip");
    let simulator = Simulator::start(Config {
        credentials: Some(Credentials {
            user: "admin".into(),
            password: "s3cret".into(),
        }),
        ..Config::new([CameraConfig::new("cam", &clip)])
    })
    .expect("a simulator");
    let url = simulator.url("cam").expect("its address");
    let with = |login: &str| url.replace("rtsp://", &format!("rtsp://{login}@"));
    let good = json!({"name": "good", "url": with("admin:s3cret")});
    let said_of = |sources| {
        let site = Site::new(sources, 3.0, json!({}));
        site.write(
            "configs/run_system_config.json",
            &json!({"dashboard": false}),
        );
        let status = site.run("run-system", &["--validate"], LIMIT);
        let said = fs::read_to_string(site.path("run-system.out")).expect("its output");
        assert!(
            !said.contains("s3cret") && !said.contains("wr0ng"),
            "{said}"
        );
        (status.code(), said)
    };

    let (code, said) = said_of(json!([good]));
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "ok     camera good",
        "h264",
        "disk forecast",
        "an hour from all cameras",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }

    let (code, said) = said_of(json!([
        {"name": "locked", "url": with("admin:wr0ng")},
        {"name": "gone", "url": "rtsp://admin:s3cret@127.0.0.1:1/x"},
        good,
    ]));
    assert_eq!(code, Some(2), "{said}");
    for part in [
        "WRONG  camera locked",
        "refuses user name and password",
        "WRONG  camera gone",
        "nothing listens on that port",
        "camera good",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
}

#[test]
fn an_encoder_that_cannot_be_used_is_found_by_the_preflight() {
    for (encoder, told) in [
        ("h264_magic", "no video encoder named 'h264_magic'"),
        ("ffv1", "ffv1 in an MP4 file: not supported"),
    ] {
        let site = Site::new(
            json!(["rtsp://127.0.0.1:1/x"]),
            3.0,
            json!({"video_codec": encoder}),
        );
        let status = site.run("run-system", &["--validate"], LIMIT);
        let said = fs::read_to_string(site.path("run-system.out")).expect("its output");
        assert_eq!(status.code(), Some(2), "{said}");
        assert!(
            said.contains("WRONG  plugin and encoder") && said.contains(told),
            "{said}"
        );
    }
}
