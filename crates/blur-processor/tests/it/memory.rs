//! Memory does not grow with the length of a group of pictures.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use media::synth::TestVideo;
use serde_json::json;

use crate::support::Site;

/// MiB for 1080p at 15 fps. A model of the plugin's comes on top: about 200 with `head-blur`.
const MOST: u64 = 245;
/// So many that each has one codec thread on any machine: further threads hold pictures of their own.
const PROCESSES: u32 = 256;

/// The most memory a living process ever had, MiB.
fn peak(process: u32) -> Option<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status"));
    let status = status.ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? / 1024)
}

#[test]
fn a_group_of_ten_seconds_needs_no_more_memory() {
    let site = Site::new(json!({
        "plugin": { "from": 70, "to": 75 },
        "max_concurrent_processes": PROCESSES,
    }));
    TestVideo {
        width: 1920,
        height: 1080,
        frames: 150,
        gop: 150,
        options: vec![("preset".to_owned(), "ultrafast".to_owned())],
        ..TestVideo::default()
    }
    .write(site.path("in.mp4"))
    .unwrap();
    let mut command = site.command(&["blur", "in.mp4", "out.mp4"]);
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    let mut most = 0;
    let status = loop {
        most = most.max(peak(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        sleep(Duration::from_millis(5));
    };
    assert!(status.success());
    assert!((100..MOST).contains(&most), "{most} MiB");
}
