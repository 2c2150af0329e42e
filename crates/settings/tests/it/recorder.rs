//! The recorder's settings.

use crate::environment;
use expect_test::expect;
use proptest::prelude::*;
use settings::{Environment, RecorderSettings, SourceKind, Transport, VideoCodec, keys, samples};
use std::time::Duration;

fn read(text: &str) -> RecorderSettings {
    RecorderSettings::from_text(text, &environment()).unwrap()
}

fn names(text: &str) -> Vec<String> {
    read(text)
        .sources
        .iter()
        .map(|source| source.name.to_string())
        .collect()
}

#[test]
fn the_sample_holds_every_key_with_its_default() {
    let sample = RecorderSettings::from_text(samples::recorder(), &Environment::empty()).unwrap();
    let bare = r#"{"sources": ["rtsp://192.168.1.10:554/stream1"]}"#;
    assert_eq!(
        sample,
        RecorderSettings::from_text(bare, &Environment::empty()).unwrap()
    );
    for key in keys::RECORDER {
        assert!(
            samples::recorder().contains(&format!("  \"{}\": {}", key.name, key.default)),
            "{}",
            key.name
        );
    }
}

#[test]
fn defaults() {
    expect![[r#"
        RecorderSettings {
            sources: [
                Source {
                    name: SourceName(
                        "192.168.1.10_stream1",
                    ),
                    url: SourceUrl(rtsp://***@192.168.1.10/stream1),
                    index: 0,
                    transport: Tcp,
                    record_audio: false,
                    video_codec: Copy,
                    input_fps: 15.0,
                    bitrate: 2000000,
                    segment_duration: 30s,
                    schedule: None,
                    duration_limit: None,
                    max_segments: None,
                    connection_timeout: 10s,
                    read_timeout: 5s,
                },
            ],
            output_dir: "./raw_videos",
            queue_dir: "./processing_queue",
            processed_dir: "./processed_videos",
            backup_dir: "./backup_videos",
            when_full: RecordToFloor,
            container: Mp4,
            max_recording_duration: None,
            reconnect_interval: 5s,
            camera_down_after: 60s,
            max_concurrent_recordings: 4,
            monitoring: Monitoring {
                enabled: true,
                interval: 10s,
            },
            disk: DiskBudget {
                max_usage_bytes: 107374182400,
                min_free_bytes: 1073741824,
                cleanup_old_files: true,
                max_file_age: 86400s,
            },
            places: Places {
                log_dir: "./logs",
                status_dir: "./logs",
            },
        }
    "#]]
    .assert_debug_eq(&read(
        r#"{"sources": ["rtsp://admin:geheim@192.168.1.10/stream1"]}"#,
    ));
}

#[test]
fn names_come_from_host_and_path() {
    let derived = names(
        r#"{"sources": [
            "./raw_videos/media2.mp4",
            "rtsp://admin:pw@192.168.1.10:554/Streaming/Channels/101",
            "rtsp://127.0.0.1:8554/cam1",
            "rtsp://[fe80::1]/live/",
            "http://cam.example/video.mjpg?resolution=640x480&user=a&pwd=b",
            "rtsp://nvr/cam/realmonitor?channel=1&subtype=0",
            "rtsp://nvr/cam/realmonitor?channel=2&subtype=0",
            "/data/정문 카메라.mp4"
        ]}"#,
    );
    expect![[r#"
        [
            "media2",
            "192.168.1.10_Streaming_Channels_101",
            "127.0.0.1_8554_cam1",
            "fe80_1_live",
            "cam.example_video.mjpg_resolution_640x480",
            "nvr_cam_realmonitor_channel_1_subtype_0",
            "nvr_cam_realmonitor_channel_2_subtype_0",
            "정문_카메라",
        ]
    "#]]
    .assert_debug_eq(&derived);
}

#[test]
fn names_hold_no_secrets_and_stay_distinct_by_the_rest() {
    let derived = names(
        r#"{"sources": [
            "rtsp://dvr/user=admin&password=geheim&channel=1&stream=0.sdp?",
            "rtsp://dvr/user=admin&password=geheim&channel=2&stream=0.sdp?",
            "rtsp://dvr/user=admin_password=geheim_channel=3_stream=0.sdp?real_stream",
            "rtsp://dvr/user=admin_password=geheim_channel=4_stream=0.sdp?real_stream",
            "rtsp://dvr/a/b?token=geheim",
            "rtsp://dvr/a_b?token=geheim",
            "rtsp://nvr/live_user_channel=1"
        ]}"#,
    );
    expect![[r#"
        [
            "dvr_channel_1_stream_0.sdp",
            "dvr_channel_2_stream_0.sdp",
            "dvr_channel_3_stream_0.sdp_real_stream",
            "dvr_channel_4_stream_0.sdp_real_stream",
            "dvr_a_b_a22da6b8",
            "dvr_a_b_c2c12548",
            "nvr_live_user_channel_1",
        ]
    "#]]
    .assert_debug_eq(&derived);
}

#[test]
fn names_stay_distinct_in_any_order() {
    let forth =
        names(r#"{"sources": ["rtsp://cam/a/b", "rtsp://cam/a_b", "/x/a.mp4", "/y/a.mp4"]}"#);
    let back =
        names(r#"{"sources": ["/y/a.mp4", "/x/a.mp4", "rtsp://cam/a_b", "rtsp://cam/a/b"]}"#);
    let reversed: Vec<_> = back.into_iter().rev().collect();
    assert_eq!(forth, reversed);
    expect![[r#"
        [
            "cam_a_b_c1462846",
            "cam_a_b_c118cf36",
            "a_5e96547f",
            "a_2b4027d0",
        ]
    "#]]
    .assert_debug_eq(&forth);
}

#[test]
fn a_source_overrides_the_top() {
    let settings = read(
        r#"{
            "segment_duration": 60, "max_recording_duration": 600, "bitrate": "800k", "recording_schedule":
            {"weekdays": [0], "start_time": "09:00", "end_time": "18:00"},
            "source_duration_limits": {"front": 100, "rtsp://back/1": 9999},
            "sources": [
                {"name": "front", "url": "rtsp://front/1", "transport": "udp", "record_audio": true,
                 "video_codec": "libx264", "segment_duration": 5, "recording_schedule": null,
                 "max_segments": 3, "connection_timeout": 500,},
                "rtsp://back/1",
            ],
        }"#,
    );
    let [front, back] = settings.sources.as_slice() else {
        panic!("two sources")
    };
    assert_eq!(front.transport, Transport::Udp);
    assert_eq!(back.transport, Transport::Tcp);
    assert!(front.record_audio && !back.record_audio);
    assert_eq!(front.video_codec, VideoCodec::Encoder("libx264".to_owned()));
    assert_eq!(front.segment_duration, Duration::from_secs(5));
    assert_eq!(back.segment_duration, Duration::from_secs(60));
    assert_eq!((front.bitrate, back.bitrate), (800_000, 800_000));
    assert!(front.schedule.is_none() && back.schedule.is_some());
    assert_eq!(front.duration_limit, Some(Duration::from_secs(100)));
    assert_eq!(
        back.duration_limit,
        Some(Duration::from_secs(600)),
        "the limit for all is smaller"
    );
    assert_eq!((front.max_segments, back.max_segments), (Some(3), None));
    assert_eq!(front.connection_timeout, Duration::from_millis(500));
    assert_eq!((front.index, back.index), (0, 1));
}

#[test]
fn variables_are_replaced() {
    let settings = read(
        r#"{"sources": [
            {"name": "${PLACE}", "url": "rtsp://cam/1", "username": "admin", "password": "${CAMERA_PASSWORD}"},
            "/videos/$${PLACE}.mp4"
        ]}"#,
    );
    let gate = &settings.sources[0];
    assert_eq!(gate.name.as_str(), "gate");
    assert_eq!(gate.url.credentials().unwrap().password, "p@ss/wörd");
    assert_eq!(gate.url.expose(), "rtsp://admin:p%40ss%2Fw%C3%B6rd@cam/1");
    assert_eq!(
        settings.sources[1].url.without_credentials(),
        "/videos/${PLACE}.mp4"
    );
    assert_eq!(settings.sources[1].kind(), SourceKind::File);
}

#[test]
fn the_reference_shows_every_key() {
    let reference = keys::reference(keys::RECORDER);
    assert_eq!(reference.lines().count(), keys::RECORDER.len() + 2);
    expect![[r#"| `processed_dir` | a path in double quotes | `"./processed_videos"` | `output_dir` of the blur processor: its videos there count in the disk budget. |"#]].assert_eq(reference.lines().nth(5).unwrap());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[\\PC\n]{0,200}") {
        RecorderSettings::from_text(&text, &Environment::empty()).ok();
    }

    #[test]
    fn no_json_like_text_makes_it_panic(text in r#"([{}\[\]:,"/*$ \n0-9a-z\\-]|null|true|"sources"|"url"|rtsp://|\$\{){0,60}"#) {
        RecorderSettings::from_text(&text, &Environment::empty()).ok();
    }

    #[test]
    fn no_address_makes_it_panic_or_name_badly(address in "(rtsp://|http://|)[\\PC]{0,120}") {
        let file = serde_json::json!({"sources": [address.replace("${", "")]}).to_string();
        if let Ok(settings) = RecorderSettings::from_text(&file, &Environment::empty()) {
            let name = settings.sources[0].name.as_str();
            prop_assert!(!name.is_empty() && name.len() <= 80 && !name.starts_with('.') && !name.contains('/'));
        }
    }

    #[test]
    fn comments_change_nothing(seconds in 1_u32..80_000) {
        let plain = format!("{{\"sources\": [\"a\"], \"segment_duration\": {seconds}}}");
        let commented = format!("//x\n{{/**/\"sources\"/*\"*/:[\"a\",]//}}\n,\"segment_duration\":/* 7 */{seconds}\n//\n}}//");
        prop_assert_eq!(
            RecorderSettings::from_text(&plain, &Environment::empty()),
            RecorderSettings::from_text(&commented, &Environment::empty())
        );
    }
}
