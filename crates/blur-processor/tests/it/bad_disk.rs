//! Originals that cannot be read: a disk that fails costs no attempt, a bad spot does.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use media::synth::TestVideo;
use serde_json::json;

use crate::support::{Daemon, Site};

/// Starts the daemon; of the original of this name the calls cannot read what lies in the range.
fn start(site: &Site, name: &str, calls: &str, range: (u64, u64)) -> Daemon {
    let library = site.path("libbad_disk.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/bad_disk.c");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .expect("a C compiler is installed");
    assert!(status.success());
    let inode = fs::metadata(site.raw(name)).expect("a video").ino();
    site.start_with(&[
        ("LD_PRELOAD", &library.display().to_string()),
        ("BAD_INODE", &inode.to_string()),
        ("BAD_CALL", calls),
        ("BAD_FROM", &range.0.to_string()),
        ("BAD_TO", &range.1.to_string()),
    ])
}

#[test]
fn a_disk_that_fails_costs_no_attempt() {
    let mut site = Site::new(json!({ "max_attempts": 1, "blur_module_path": null }));
    let stem = site.add("a", &TestVideo::default());
    // The dispatcher meets it, and the worker.
    for calls in ["read and pread", "pread"] {
        let mut daemon = start(&site, "a", calls, (0, u64::from(u32::MAX)));
        daemon.wait_for(&site, |site| {
            let status = fs::read_to_string(site.path("logs/blur_processor.status.json"));
            let is_told = status.is_ok_and(|status| status.contains("see to the disk"));
            is_told || site.why(&stem).is_some()
        });
        let log = daemon.log();
        daemon.stop();
        assert_eq!(site.why(&stem), None, "{log}");
        assert!(log.contains("Input/output error"), "{log}");
        fs::remove_file(site.path("logs/blur_processor.status.json")).expect("a status");
        site.end_waiting();
    }
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    assert_eq!(site.why(&stem), None);
    assert_eq!(site.report("a").attempt, 1);
}

#[test]
fn a_bad_spot_of_an_original_costs_an_attempt() {
    let mut site = Site::new(json!({ "max_attempts": 1, "blur_module_path": null }));
    let stem = site.add("a", &TestVideo::default());
    let half = fs::metadata(site.raw("a")).expect("a video").len() / 2;
    let mut daemon = start(&site, "a", "pread", (half, half + 100));
    daemon.wait_for(&site, |site| {
        site.is_done(&stem) || site.why(&stem).is_some()
    });
    daemon.stop();
    let why = site.why(&stem).unwrap_or_default();
    assert!(why.contains("Input/output error"), "{why}");
    assert!(site.raw("a").exists() && !site.published("a").exists());
}
