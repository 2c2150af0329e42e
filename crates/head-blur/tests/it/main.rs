//! The plugin with its real models: needs `models/`, which scripts/setup fetches.

mod figures;
mod find;
mod onnx;
mod users_model;

use std::path::{Path, PathBuf};

use head_blur::HeadBlur;
use plugin_abi::{CreateContext, Detector, Failure, FrameInfo, FrameView, PixelFormat, Region};

/// The fetched models.
fn models() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    assert!(
        folder.join("nanodet.onnx").is_file(),
        "{} is not there; run scripts/setup",
        folder.display()
    );
    folder
}

/// A plugin with the fetched models and these further settings (`, "key": value`).
fn plugin(more: &str) -> Result<HeadBlur, Failure> {
    HeadBlur::create(&CreateContext {
        settings: &format!(
            r#"{{"model_dir": {:?}, "precision": "f32"{more}}}"#,
            models()
        ),
        cameras: 1,
    })
}

/// What is found in a BGR picture.
fn detect(plugin: &mut HeadBlur, (width, height): (u32, u32), bgr: &[u8]) -> Vec<Region> {
    let info = FrameInfo::new(PixelFormat::Bgr24, width, height);
    let frame = FrameView::new(info, &[(bgr, width as usize * 3)]).expect("fits");
    let mut regions = Vec::new();
    plugin.detect(&frame, &mut regions).expect("detects");
    regions
}
