//! `rtsp-recorder probe` against good and bad cameras.

use crate::rig::{Rig, clip};
use camera_simulator::{AuthScheme, CameraConfig, Config, Credentials, Fault, Simulator};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Instant;

#[test]
fn good_refused_silent_and_absent_cameras_are_told_apart_at_the_same_time() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let config = Config {
        credentials: Some(Credentials {
            user: "admin".into(),
            password: "s3cret".into(),
        }),
        scheme: AuthScheme::Digest,
        ..Config::new([
            CameraConfig::new("cam", &file),
            CameraConfig {
                faults: vec![Fault::Loss(100.0)],
                ..CameraConfig::new("frozen", &file)
            },
        ])
    };
    let simulator = Simulator::start(config).unwrap();
    let refuses_tcp = Simulator::start(Config {
        refuse_tcp: true,
        ..Config::new([CameraConfig::new("cam", &file)])
    })
    .unwrap();
    let with = |camera: &str, user: &str| {
        let url = simulator.url(camera).unwrap();
        url.replace("rtsp://", &format!("rtsp://{user}@"))
    };
    let rig = Rig::new(json!([
        {"name": "good", "url": with("cam", "admin:s3cret")},
        {"name": "udp_only", "url": refuses_tcp.url("cam").unwrap()},
        {"name": "bad", "url": with("cam", "admin:n0tright")},
        {"name": "nameless", "url": simulator.url("cam").unwrap()},
        {"name": "frozen", "url": with("frozen", "admin:s3cret")},
        {"name": "gone", "url": "rtsp://admin:s3cret@127.0.0.1:1/a"},
        {"name": "file", "url": file, "video_codec": "no_such_encoder"},
    ]));
    let config = rig.path("config.json");
    std::fs::write(&config, Value::Object(rig.settings.clone()).to_string()).unwrap();
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_rtsp-recorder"))
        .arg("--config")
        .arg(&config)
        .args(["probe", "--json", "--seconds", "6"])
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for secret in ["s3cret", "n0tright"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    // One after the other they would take 36 s.
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
    let list: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of = |name: &str| list.iter().find(|probe| probe["name"] == name).unwrap();
    let good = &of("good");
    assert_eq!(good["trouble"], Value::Null, "{text}");
    let video = &good["video"];
    assert_eq!(video["codec"], "h264", "{text}");
    assert!(video["width"].as_u64().unwrap() > 0, "{text}");
    let (declared, fps) = (&video["declared_fps"], video["fps"].as_f64().unwrap());
    assert!((5.0..100.0).contains(&fps), "{declared} {fps}");
    assert!(video["bitrate"].as_u64().unwrap() > 1000, "{text}");
    let distance = video["key_frame_seconds"].as_f64().unwrap();
    assert!((0.1..5.0).contains(&distance), "{text}");
    assert_eq!(of("udp_only")["trouble"], Value::Null, "{text}");
    assert_eq!(of("udp_only")["video"]["codec"], "h264", "{text}");
    assert_eq!(of("bad")["trouble"], "refused", "{text}");
    let said = |name: &str, words: &str| of(name)["message"].as_str().unwrap().contains(words);
    assert_eq!(of("nameless")["trouble"], "refused", "{text}");
    assert!(said("bad", "refuses user name and password"), "{text}");
    assert!(said("nameless", "the settings have none"), "{text}");
    assert!(said("gone", "nothing listens on that port"), "{text}");
    assert_eq!(of("frozen")["trouble"], "silent", "{text}");
    assert_eq!(of("gone")["trouble"], "away", "{text}");
    let file = of("file");
    assert_eq!(file["trouble"], Value::Null, "{text}");
    assert_eq!(file["video"]["codec"], "h264", "{text}");
    assert_eq!(file["missing_encoder"], "no_such_encoder", "{text}");
}
