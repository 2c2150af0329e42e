//! The settings files that `--create-configs` writes: every key with its default and its meaning.

/// Text of a new `rtsp_recorder_config.json`.
pub fn recorder() -> &'static str {
    include_str!("samples/rtsp_recorder_config.json")
}

/// Text of a new `blur_processor_config.json`.
pub fn blur() -> &'static str {
    include_str!("samples/blur_processor_config.json")
}

/// Text of a new `run_system_config.json`.
pub fn system() -> &'static str {
    include_str!("samples/run_system_config.json")
}
