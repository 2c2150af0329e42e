//! Round trips through real files, made by the crate's own encoder.
#![expect(clippy::unwrap_used, reason = "tests")]

mod codecs;
mod containers;
mod damage;
mod frames;
mod network;
mod parsers;
mod segments;
mod splice;

use std::path::Path;
use std::process::Command;

/// What the ffmpeg command line says about a file when nothing may be wrong with it: the number of video
/// frames, or `None` where it is not installed.
fn frames_by_cli(path: &Path) -> Option<u64> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-err_detect", "explode", "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-f", "framecrc", "-"])
        .output()
        .ok()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && errors.is_empty(),
        "ffmpeg on {}: {errors}",
        path.display()
    );
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().filter(|line| !line.starts_with('#')).count() as u64)
}
