//! The files that the old scripts wrote are taken as they are: every key, `null` where they wrote it.

use crate::environment;
use settings::{BlurModule, BlurSettings, RecorderSettings, VideoCodec};
use std::path::PathBuf;
use std::time::Duration;

#[test]
fn of_the_recorder() {
    let settings = RecorderSettings::from_text(
        r#"{
  "sources": [
    "rtsp://admin:password@192.168.1.100:554/stream",
    "rtsp://admin:password@192.168.1.101:554/stream",
    "./videos/sample_video1.mp4"
  ],
  "output_dir": "./raw_videos",
  "queue_dir": "./processing_queue",
  "segment_duration": 30,
  "input_fps": 15.0,
  "video_codec": "libx264",
  "container_format": "mp4",
  "bitrate": "2M",
  "max_recording_duration": 3600,
  "max_segments_per_source": null,
  "source_duration_limits": {
    "rtsp://admin:password@192.168.1.100:554/stream": 1800,
    "./videos/sample_video1.mp4": 900
  },
  "recording_schedule": { "weekdays": [0, 1, 2, 3, 4], "start_time": "09:00", "end_time": "18:00" },
  "connection_timeout": 10000,
  "read_timeout": 5000,
  "reconnect_interval": 5,
  "max_concurrent_recordings": 4,
  "enable_monitoring": true,
  "monitoring_interval": 10,
  "max_disk_usage_gb": 100.0,
  "cleanup_old_files": true,
  "max_file_age_hours": 24
}"#,
        &environment(),
    )
    .unwrap();
    assert_eq!(settings.sources.len(), 3);
    assert!(settings.sources.iter().all(
        |source| matches!(&source.video_codec, VideoCodec::Encoder(name) if name == "libx264")
    ));
    let limits: Vec<_> = settings
        .sources
        .iter()
        .map(|source| source.duration_limit)
        .collect();
    assert_eq!(
        limits,
        [
            Some(Duration::from_secs(1800)),
            Some(Duration::from_secs(3600)),
            Some(Duration::from_secs(900))
        ]
    );
}

#[test]
fn null_means_no_limits() {
    let text = r#"{"sources": ["a.mp4"], "source_duration_limits": null}"#;
    let settings = RecorderSettings::from_text(text, &environment()).unwrap();
    assert_eq!(settings.sources[0].duration_limit, None);
}

#[test]
fn of_the_blur_processor() {
    let settings = BlurSettings::from_text(
        r#"{
  "queue_dir": "./processing_queue",
  "output_dir": "./processed_videos",
  "blur_module_path": "./blur_module.py",
  "max_concurrent_processes": 2,
  "polling_interval": 1.0,
  "process_timeout": 300,
  "blur_strength": 15,
  "blur_kernel_size": 15,
  "delete_original": true,
  "backup_original": false,
  "backup_dir": "./backup_videos",
  "enable_monitoring": true,
  "monitoring_interval": 10,
  "max_queue_size": 100,
  "resize_before_blur": false,
  "resize_width": 640,
  "resize_height": 480,
  "add_overlay": true,
  "overlay_text": "BLUR_PROCESSED"
}"#,
        &environment(),
    )
    .unwrap();
    assert_eq!(
        settings.blur_module,
        BlurModule::Python(PathBuf::from("./blur_module.py"))
    );
    let by_default = BlurSettings::from_text("{}", &environment()).unwrap();
    assert_eq!(
        BlurSettings {
            blur_module: by_default.blur_module.clone(),
            ..settings
        },
        by_default,
        "the old defaults are the defaults"
    );
}
