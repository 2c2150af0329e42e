//! ffmpeg and ffprobe, where they are installed, must have nothing to complain of.

use crate::support::{clips, config, start};
use camera_simulator::{AuthScheme, Credentials};
use std::path::Path;
use std::process::Command;

fn installed() -> bool {
    Command::new("ffmpeg").arg("-version").output().is_ok()
}

/// Decodes 1.5 s, over a loop point or two, and wants silence on stderr.
fn check_decodes(file: &Path, transport: &str, maps: &[&str]) {
    if !installed() {
        return;
    }
    let mut config = config(file);
    config.scheme = AuthScheme::Digest;
    config.credentials = Some(Credentials {
        user: "u".into(),
        password: "p".into(),
    });
    let (_simulator, url) = start(config);
    let url = url.replace("rtsp://", "rtsp://u:p@");
    let output = Command::new("ffmpeg")
        .args([
            "-nostdin",
            "-v",
            "warning",
            "-xerror",
            "-rtsp_transport",
            transport,
            "-i",
            &url,
            "-t",
            "1.5",
        ])
        .args(maps)
        .args(["-f", "null", "-"])
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && complaints.is_empty(),
        "{transport}: {complaints}"
    );
}

#[test]
fn h264_with_sound_over_tcp() {
    check_decodes(&clips().with_audio, "tcp", &["-map", "0:v", "-map", "0:a"]);
}

#[test]
fn h264_over_udp() {
    check_decodes(&clips().h264, "udp", &[]);
}

#[test]
fn h265_over_tcp() {
    check_decodes(&clips().h265, "tcp", &[]);
}

#[test]
fn ffprobe_sees_what_the_description_says() {
    if !installed() {
        return;
    }
    let (_simulator, url) = start(config(&clips().h265));
    let output = Command::new("ffprobe")
        .args(["-v", "warning", "-rtsp_transport", "tcp", "-show_entries"])
        .args([
            "stream=codec_name,width,height,r_frame_rate",
            "-of",
            "csv=p=0",
            &url,
        ])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "hevc,160,120,25/1"
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
