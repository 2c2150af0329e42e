//! The blur processor's settings.

use crate::environment;
use expect_test::expect;
use settings::{BlurModule, BlurSettings, Environment, keys, samples};
use std::path::PathBuf;

fn read(text: &str) -> BlurSettings {
    BlurSettings::from_text(text, &environment()).unwrap()
}

#[test]
fn the_sample_holds_every_key_with_its_default() {
    let sample = BlurSettings::from_text(samples::blur(), &environment()).unwrap();
    assert_eq!(
        sample.blur_module,
        BlurModule::Native(PathBuf::from("/opt/bin/libhead_blur.so"))
    );
    assert_eq!(sample.plugin, serde_json::json!({"model_dir": "models"}));
    let bare = read("{}");
    assert_eq!(
        BlurSettings {
            blur_module: bare.blur_module.clone(),
            plugin: bare.plugin.clone(),
            plugin_places: bare.plugin_places.clone(),
            ..sample
        },
        bare
    );
    for key in keys::BLUR
        .iter()
        .filter(|key| !matches!(key.name, "blur_module_path" | "plugin"))
    {
        assert!(
            samples::blur().contains(&format!("  \"{}\": {}", key.name, key.default)),
            "{}",
            key.name
        );
    }
}

#[test]
fn defaults() {
    expect![[r#"
        BlurSettings {
            queue_dir: "./processing_queue",
            raw_dir: "./raw_videos",
            output_dir: "./processed_videos",
            blur_module: WholeFrame,
            plugin: Object {},
            plugin_places: {},
            max_concurrent_processes: 2,
            polling_interval: 1s,
            process_timeout: 300s,
            stall_timeout: 60s,
            max_attempts: 5,
            worker_memory_limit: Some(
                2147483648,
            ),
            mask: Blur,
            blur_strength: 15,
            blur_kernel_size: 15,
            detect_every: None,
            whole_persons: false,
            num_cameras: 0,
            second_look: false,
            sandbox: Auto,
            sandbox_writable: [],
            zones: Zones(
                {},
            ),
            resize: None,
            overlay: Some(
                Overlay {
                    text: "BLUR_PROCESSED",
                },
            ),
            video_codec: "libx264",
            encoder_preset: "auto",
            bitrate: None,
            keep_audio: false,
            delete_original: true,
            backup_dir: None,
            configured_backup_dir: "./backup_videos",
            max_queue_size: 100,
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
    .assert_debug_eq(&BlurSettings::from_text("{}", &Environment::empty()).unwrap());
}

#[test]
fn how_often_the_detector_looks() {
    let every = |text: &str| read(&format!("{{\"detect_every\": {text}}}")).detect_every;
    assert_eq!(every("\"auto\""), None);
    assert_eq!(every("5"), Some(5));
    assert_eq!(every("5.0"), Some(5));
    for wrong in ["0", "61", "2.5", "\"often\"", "null", "true"] {
        let text = format!("{{\"detect_every\": {wrong}}}");
        let why = BlurSettings::from_text(&text, &Environment::empty()).unwrap_err();
        let wanted = "give \"auto\" or a whole number from 1 to 60 (frames)";
        assert!(why.to_string().contains(wanted), "{wrong}: {why}");
    }
}

#[test]
fn plugins() {
    let module = |text: &str| read(&format!("{{\"blur_module_path\": {text}}}")).blur_module;
    assert_eq!(module("null"), BlurModule::WholeFrame);
    assert_eq!(
        module("\"./old/blur_module.py\""),
        BlurModule::Python(PathBuf::from("./old/blur_module.py"))
    );
    assert_eq!(
        module("\"/x/libmine.so\""),
        BlurModule::Native(PathBuf::from("/x/libmine.so"))
    );
}

#[test]
fn mistyped_keys_of_the_python_bridge_are_told() {
    let problems = |module: &str, plugin: &str| {
        let text = format!(r#"{{ "blur_module_path": "{module}", "plugin": {{ {plugin} }} }}"#);
        match BlurSettings::from_text(&text, &environment()) {
            Ok(_) => String::new(),
            Err(problems) => problems.to_string(),
        }
    };
    for (wrong, right) in [
        (
            r#""python_executble": "/venv/bin/python""#,
            "python_executable",
        ),
        (r#""python": "/venv/bin/python""#, "python_executable"),
        (r#""frame_timout": 5"#, "frame_timeout"),
        (r#""loadTimeout": 5"#, "load_timeout"),
    ] {
        let told = problems("./blur.py", wrong);
        assert!(told.contains(&format!("did you mean `{right}`?")), "{told}");
        assert!(told.contains("plugin."), "{told}");
        assert_eq!(problems("/x/libmine.so", wrong), "", "a plugin's own keys");
    }
    for own in [
        r#""python_executable": "python3", "frame_timeout": 60, "load_timeout": 9"#,
        r#""model_dir": "models", "threads": 1, "colour": "red", "model": "x", "timeout": 3"#,
    ] {
        assert_eq!(problems("./blur.py", own), "");
    }
}

#[test]
fn a_bare_name_is_found_beside_the_program_or_in_lib() {
    let dir = tempfile::tempdir().unwrap();
    let (bin, lib) = (dir.path().join("bin"), dir.path().join("lib"));
    std::fs::create_dir(&bin).unwrap();
    std::fs::create_dir(&lib).unwrap();
    let module = || {
        let env = Environment {
            program_dir: Some(bin.clone()),
            ..Environment::empty()
        };
        BlurSettings::from_text(r#"{"blur_module_path": "head-blur"}"#, &env)
            .unwrap()
            .blur_module
    };
    let beside = bin.join("libhead_blur.so");
    assert_eq!(
        module(),
        BlurModule::Native(beside.clone()),
        "named for the message"
    );
    std::fs::write(lib.join("libhead_blur.so"), "").unwrap();
    assert_eq!(
        module(),
        BlurModule::Native(bin.join("../lib/libhead_blur.so"))
    );
    std::fs::write(&beside, "").unwrap();
    assert_eq!(module(), BlurModule::Native(beside));
}

#[test]
fn switches() {
    let settings = read(
        r#"{"resize_before_blur": true, "resize_width": 320, "add_overlay": false, "backup_original": true,
            "bitrate": 1500000, "worker_memory_limit_mb": 0, "min_free_disk_gb": 0.5}"#,
    );
    let size = settings.resize.unwrap();
    assert_eq!((size.width, size.height), (320, 480));
    assert_eq!(settings.overlay, None);
    assert_eq!(settings.backup_dir, Some(PathBuf::from("./backup_videos")));
    assert_eq!(settings.bitrate, Some(1_500_000));
    assert_eq!(settings.worker_memory_limit, None);
    assert_eq!(settings.disk.min_free_bytes, 512 << 20);
}
