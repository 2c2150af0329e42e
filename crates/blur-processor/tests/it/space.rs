//! A full disk: no attempt is counted, nothing is lost, work goes on when there is space.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use media::synth::TestVideo;
use serde_json::json;

use crate::support::{Site, look};

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where mounting is not allowed.
    fn mount(dir: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(dir).unwrap();
        let size = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(dir)
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then(|| Self(dir.to_owned()))
    }
}

impl SmallDisk {
    fn grow(&self, size: &str) {
        self.remount(&format!("size={size}"));
    }

    fn remount(&self, option: &str) {
        let size = format!("remount,{option}");
        let status = Command::new("mount")
            .args(["-o", &size])
            .arg(&self.0)
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A mount that stays behind goes with the machine; the test has its result.
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn a_disk_that_fills_up_during_the_work_costs_no_attempt() {
    // At this bitrate the output grows to several times the original.
    let mut site = Site::new(json!({ "bitrate": "400M", "blur_module_path": null }));
    let Some(disk) = SmallDisk::mount(&site.path("processed_videos"), "400k") else {
        eprintln!("SKIPPED: a full disk needs the right to mount a tmpfs");
        return;
    };
    let video = TestVideo {
        width: 640,
        height: 480,
        frames: 60,
        options: vec![("crf".to_owned(), "45".to_owned())],
        ..TestVideo::default()
    };
    let stem = site.add("a", &video);
    let mut daemon = site.start();
    let waiting = [format!("{stem}.a0.json")];
    daemon.wait_for(&site, |site| {
        site.names("processing_queue/deferred") == waiting
    });
    assert!(site.raw("a").exists() && !site.published("a").exists());
    assert_eq!(site.names("processed_videos/.tmp"), Vec::<String>::new());
    disk.grow("20m");
    site.end_waiting();
    daemon.wait_for(&site, |site| site.is_done(&stem));
    daemon.stop();
    assert_eq!(look(&site.published("a")).pts.len(), 60);
    assert_eq!(site.report("a").attempt, 1);
}

#[test]
fn a_video_larger_than_what_the_floor_keeps_twice_over_is_tried() {
    let mut site = Site::new(json!({ "bitrate": "300k", "blur_module_path": null }));
    let video = TestVideo {
        width: 640,
        height: 480,
        frames: 60,
        options: vec![("crf".to_owned(), "1".to_owned())],
        ..TestVideo::default()
    };
    let stem = site.add("a", &video);
    let input = fs::metadata(site.raw("a")).unwrap().len();
    // As with a recorder that waits at the floor: what is free is the floor, and nobody makes more.
    let floor = input / 2 * 3;
    let Some(_disk) = SmallDisk::mount(&site.path("processed_videos"), &floor.to_string()) else {
        eprintln!("SKIPPED: a full disk needs the right to mount a tmpfs");
        return;
    };
    site.change("min_free_disk_gb", json!(floor as f64 / f64::from(1 << 30)));
    site.run_until(|site| site.is_done(&stem));
    assert_eq!(site.report("a").attempt, 1);
    assert!(site.report("a").output.bytes < floor);
}

#[test]
fn a_disk_that_takes_no_writes_costs_no_attempt() {
    let mut site = Site::new(json!({ "blur_module_path": null, "max_attempts": 1 }));
    let Some(disk) = SmallDisk::mount(&site.path("processed_videos"), "20m") else {
        eprintln!("SKIPPED: a read-only disk needs the right to mount a tmpfs");
        return;
    };
    let mut daemon = site.start();
    daemon.wait_for(&site, |site| site.path("processed_videos/.tmp").exists());
    disk.remount("ro");
    let stem = site.add("a", &TestVideo::default());
    let waiting = [format!("{stem}.a0.json")];
    daemon.wait_for(&site, |site| {
        site.names("processing_queue/deferred") == waiting || site.is_done(&stem)
    });
    disk.remount("rw");
    site.end_waiting();
    daemon.wait_for(&site, |site| site.is_done(&stem));
    daemon.stop();
    assert_eq!(site.report("a").attempt, 1);
}

#[test]
fn without_free_space_nothing_is_claimed() {
    let mut site = Site::new(json!({ "min_free_disk_gb": 900_000 }));
    let stem = site.add("a", &TestVideo::default());
    let mut daemon = site.start();
    daemon.wait_for(&site, |site| {
        fs::read_to_string(site.path("logs/blur_processor.status.json"))
            .is_ok_and(|status| status.contains("no space left"))
    });
    assert!(site.path(&format!("processing_queue/{stem}.json")).exists());
    daemon.stop();
}
