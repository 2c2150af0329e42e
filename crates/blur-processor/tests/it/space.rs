//! A full disk: no attempt is counted, nothing is lost, work goes on when there is space.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use media::synth::TestVideo;
use serde_json::{Value, json};

use crate::support::{Site, look, two_days_old};

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

    fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(&self.0)
            .status();
        assert!(status.expect("mount runs").success());
    }

    /// The tree at `from`, seen at `at` as well.
    fn bind(from: &Path, at: &Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .arg("--bind")
            .arg(from)
            .arg(at)
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then(|| Self(at.to_owned()))
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
fn an_output_directory_that_becomes_read_only_costs_no_attempt() {
    let mut site = Site::new(json!({ "max_attempts": 1, "blur_module_path": null }));
    let Some(disk) = SmallDisk::mount(&site.path("processed_videos"), "20m") else {
        eprintln!("SKIPPED: a read-only disk needs the right to mount a tmpfs");
        return;
    };
    let mut daemon = site.start();
    let alarmed = |site: &Site| {
        fs::read_to_string(site.path("logs/blur_processor.status.json"))
            .is_ok_and(|status| status.contains("no output can be written"))
    };
    daemon.wait_for(&site, |site| {
        site.path("logs/blur_processor.status.json").exists()
    });
    disk.remount("ro");
    let stems = [
        site.add("a", &TestVideo::default()),
        site.add("b", &TestVideo::default()),
    ];
    daemon.wait_for(&site, |site| {
        site.names("processing_queue/deferred").len() == 1 && alarmed(site)
    });
    // The other one is not even claimed.
    assert_eq!(site.names("processing_queue/failed"), Vec::<String>::new());
    let log = daemon.log();
    assert_eq!(log.matches("no output can be written").count(), 1, "{log}");
    disk.remount("rw");
    site.end_waiting();
    daemon.wait_for(&site, |site| stems.iter().all(|stem| site.is_done(stem)));
    daemon.wait_for(&site, |site| !alarmed(site));
    daemon.stop();
    assert_eq!((site.report("a").attempt, site.report("b").attempt), (1, 1));
}

/// A site with a ticket whose original lies on a disk that is read-only by now; `None` where there can be no such disk.
fn with_read_only_originals(change: Value) -> Option<(Site, SmallDisk, String)> {
    let mut site = Site::new(change);
    let Some(disk) = SmallDisk::mount(&site.path("raw_videos"), "20m") else {
        eprintln!("SKIPPED: a read-only disk needs the right to mount a tmpfs");
        return None;
    };
    fs::create_dir(site.path("raw_videos/cam")).unwrap();
    let stem = site.add("a", &TestVideo::default());
    disk.remount("ro");
    Some((site, disk, stem))
}

#[test]
fn originals_that_cannot_be_removed_are_an_alarm() {
    let Some((site, disk, stem)) =
        with_read_only_originals(json!({ "max_attempts": 1, "blur_module_path": null }))
    else {
        return;
    };
    let alarmed = |site: &Site| {
        fs::read_to_string(site.path("logs/blur_processor.status.json"))
            .is_ok_and(|status| status.contains("originals cannot be removed"))
    };
    let mut daemon = site.start();
    daemon.wait_for(&site, alarmed);
    assert!(site.published("a").exists() && site.raw("a").exists());
    disk.remount("rw");
    site.end_waiting();
    daemon.wait_for(&site, |site| site.is_done(&stem) && !alarmed(site));
    daemon.stop();
    assert!(!site.raw("a").exists());
    assert_eq!(site.report("a").attempt, 1);
}

#[test]
fn a_published_video_stays_as_long_as_its_original_is_to_go() {
    let Some((site, disk, stem)) = with_read_only_originals(json!({ "blur_module_path": null }))
    else {
        return;
    };
    site.run_until(|site| {
        site.names("processing_queue/done").len() == 1
            && site.names("processing_queue/deferred").len() == 1
    });
    let other = "cam_20260131_120000_seg0001";
    fs::write(site.published(other), "its original is gone").unwrap();
    fs::write(site.published(other).with_extension("json"), "{}").unwrap();
    for name in ["a", other] {
        two_days_old(&site.published(name));
    }
    site.run_until(|site| !site.published(other).exists());
    assert!(site.published("a").exists());
    disk.remount("rw");
    site.end_waiting();
    site.run_until(|site| {
        site.is_done(&stem) && site.names("processing_queue/deferred").is_empty()
    });
    assert!(!site.raw("a").exists());
}

#[test]
fn directories_that_are_removed_while_it_runs_are_made_again() {
    let mut site = Site::new(json!({
        "max_attempts": 1, "blur_module_path": null, "backup_original": true, "backup_dir": "backup",
    }));
    let mut daemon = site.start();
    daemon.wait_for(&site, |site| {
        site.path("logs/blur_processor.status.json").exists()
    });
    for dir in ["processed_videos", "backup"] {
        fs::remove_dir_all(site.path(dir)).unwrap();
    }
    let stem = site.add("a", &TestVideo::default());
    daemon.wait_for(&site, |site| {
        site.is_done(&stem) || site.why(&stem).is_some()
    });
    daemon.stop();
    assert_eq!(site.why(&stem), None);
    assert!(site.path("backup/cam/a.mp4").exists());
}

#[test]
fn a_raw_disk_that_is_mounted_after_the_start_is_seen() {
    let mut site = Site::new(json!({ "blur_module_path": null }));
    site.add("a", &TestVideo::default());
    let (queue, raw) = (site.path("processing_queue"), site.path("raw_videos"));
    let waiting = site.path("waiting.json");
    let ticket = queue.join("queue_20260131_120000_000001.json");
    fs::rename(&ticket, &waiting).unwrap();
    fs::rename(&raw, site.path("disk")).unwrap();
    fs::create_dir(&raw).unwrap();
    let mut daemon = site.start();
    daemon.wait_for(&site, |site| {
        site.path("logs/blur_processor.status.json").exists()
    });
    let Some(_disk) = SmallDisk::bind(&site.path("disk"), &raw) else {
        eprintln!("SKIPPED: a mounted disk needs the right to mount");
        return;
    };
    fs::rename(&waiting, &ticket).unwrap();
    daemon.wait_for(&site, |site| {
        site.is_done("queue_20260131_120000_000001") && !site.raw("a").exists()
    });
    daemon.stop();
}

#[test]
fn tickets_of_a_raw_disk_that_is_not_mounted_wait() {
    let mut site = Site::new(json!({ "max_attempts": 1, "blur_module_path": null }));
    let away = [
        site.add("a", &TestVideo::default()),
        site.add("b", &TestVideo::default()),
    ];
    let (cam, disk) = (site.path("raw_videos/cam"), site.path("disk"));
    fs::rename(&cam, &disk).expect("a directory");
    // The mount point of a camera, and that of all.
    for is_there in [true, false] {
        if is_there {
            fs::create_dir(&cam).expect("a directory");
        }
        let alarmed = |site: &Site| {
            fs::read_to_string(site.path("logs/blur_processor.status.json"))
                .is_ok_and(|status| status.contains("mount its disk"))
        };
        let mut daemon = site.start();
        daemon.wait_for(&site, alarmed);
        let log = daemon.log();
        assert_eq!(log.matches("no attempt is counted").count(), 1, "{log}");
        daemon.stop();
        assert_eq!(site.names("processing_queue/failed"), Vec::<String>::new());
        if is_there {
            fs::remove_dir(&cam).expect("a directory");
        }
        for left in ["stderr.log", "logs/blur_processor.status.json"] {
            fs::remove_file(site.path(left)).expect("a file");
        }
        site.end_waiting();
    }
    fs::rename(&disk, &cam).expect("a directory");
    // One that is gone is given up, since others are there.
    fs::remove_file(site.raw("a")).expect("a video");
    site.end_waiting();
    site.run_until(|site| site.why(&away[0]).is_some() && site.is_done(&away[1]));
    let why = site.why(&away[0]).unwrap_or_default();
    assert!(why.contains("neither published nor found"), "{why}");
    assert_eq!(site.report("b").attempt, 1);
}

#[test]
fn tickets_wait_for_no_disk_where_nobody_would_mount_it() {
    let site = || {
        let mut site = Site::new(json!({ "blur_module_path": null }));
        let own = site.add("a", &TestVideo::default());
        let of_the_scripts = site.add_ticket_with("b", &json!({ "blake3": null }));
        fs::remove_dir_all(site.path("raw_videos/cam")).expect("a directory");
        fs::create_dir(site.path("raw_videos/other")).expect("a directory");
        (site, own, of_the_scripts)
    };
    let is_given_up = |site: &Site, stem: &str| {
        let why = site.why(stem).unwrap_or_default();
        why.contains("neither published nor found")
    };
    // The scripts left tickets behind whose videos were done.
    let (one, own, of_the_scripts) = site();
    one.run_until(|site| is_given_up(site, &of_the_scripts));
    assert!(!is_given_up(&one, &own));
    // Whoever has it end by itself is not there to see the alarm.
    let (one, own, _) = site();
    let ended = one.command(&["--until-empty"]).output().expect("it runs");
    assert!(ended.status.success(), "{ended:?}");
    assert!(is_given_up(&one, &own));
}

/// A segment whose video is published and whose receipt is written, with its ticket, as after a kill right then.
fn killed_with_a_receipt(change: &serde_json::Value) -> (Site, String) {
    let mut site = Site::new(change.clone());
    let stem = site.add("a", &TestVideo::default());
    let ticket = fs::read(site.path(&format!("processing_queue/{stem}.json"))).expect("a ticket");
    let original = fs::read(site.raw("a")).expect("a video");
    site.run_until(|site| site.is_done(&stem));
    fs::write(site.raw("a"), original).expect("a video");
    if let Some(dir) = change["backup_dir"].as_str() {
        fs::remove_dir_all(site.path(dir)).expect("a backup");
    }
    let active = format!("processing_queue/active/{stem}.a1.json");
    fs::write(site.path(&active), ticket).expect("a ticket");
    fs::remove_file(site.path("logs/blur_processor.status.json")).expect("a status");
    (site, stem)
}

#[test]
fn a_published_video_waits_for_the_disk_of_its_original() {
    let backed_up = json!({
        "blur_module_path": null, "backup_original": true, "backup_dir": "backup",
    });
    let deleted = json!({ "blur_module_path": null });
    for change in [backed_up, deleted] {
        let (site, stem) = killed_with_a_receipt(&change);
        let (cam, disk) = (site.path("raw_videos/cam"), site.path("disk"));
        fs::rename(&cam, &disk).expect("a directory");
        let mut daemon = site.start();
        let waits = |site: &Site| {
            let status = fs::read_to_string(site.path("logs/blur_processor.status.json"));
            let is_alarm = status.is_ok_and(|status| status.contains("mount its disk"));
            is_alarm && site.names("processing_queue/deferred") == [format!("{stem}.a0.json")]
        };
        daemon.wait_for(&site, |site| {
            waits(site) || site.names("processing_queue/active").is_empty()
        });
        daemon.wait_for(&site, waits);
        fs::rename(&disk, &cam).expect("a directory");
        site.end_waiting();
        daemon.wait_for(&site, |site| !site.raw("a").exists());
        daemon.stop();
        assert_eq!(
            site.names("processing_queue/deferred"),
            Vec::<String>::new()
        );
        assert_eq!(site.names("processing_queue/failed"), Vec::<String>::new());
        let is_backed_up = site.path("backup/cam/a.mp4").exists();
        assert_eq!(is_backed_up, change["backup_dir"].is_string());
    }
}

#[test]
fn published_videos_of_originals_that_never_come_back_have_an_end() {
    let backed_up = json!({
        "blur_module_path": null, "backup_original": true, "backup_dir": "backup",
    });
    let run = |site: &Site| {
        let ended = site.command(&["--until-empty"]).output().expect("it runs");
        assert!(ended.status.success(), "{ended:?}");
        String::from_utf8_lossy(&ended.stderr).into_owned()
    };
    // Nobody would mount the disk: what is on it is still to be backed up.
    let (site, stem) = killed_with_a_receipt(&backed_up);
    fs::rename(site.path("raw_videos/cam"), site.path("disk")).expect("a directory");
    run(&site);
    let why = site.why(&stem).unwrap_or_default();
    assert!(why.contains("its disk seems to be away"), "{why}");
    fs::rename(site.path("disk"), site.path("raw_videos/cam")).expect("a directory");
    let put_back = site.command(&["retry", &stem]).output().expect("it runs");
    assert!(put_back.status.success(), "{put_back:?}");
    run(&site);
    assert!(site.path("backup/cam/a.mp4").exists() && !site.raw("a").exists());
    // What is gone for certain is: there is nothing left to do.
    let (site, stem) = killed_with_a_receipt(&backed_up);
    fs::remove_file(site.raw("a")).expect("a video");
    let log = run(&site);
    assert!(log.contains("was removed before it was backed up"), "{log}");
    assert_eq!(site.why(&stem), None);
    // And what was to be deleted needs no more than to be told of.
    for other in [
        None,
        Some("raw_videos/cam/recorded_where_a_disk_should_be.mp4"),
    ] {
        let (site, stem) = killed_with_a_receipt(&json!({ "blur_module_path": null }));
        fs::rename(site.path("raw_videos/cam"), site.path("disk")).expect("a directory");
        if let Some(other) = other {
            fs::create_dir(site.path("raw_videos/cam")).expect("a directory");
            fs::write(site.path(other), "of no ticket").expect("a file");
        }
        let log = run(&site);
        assert!(log.contains("remove it by hand"), "{other:?}: {log}");
        assert_eq!(site.why(&stem), None);
    }
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

#[test]
fn a_queue_that_cannot_be_read_is_told_once_and_shown_until_it_can() {
    let mut site = Site::new(json!({ "blur_module_path": null }));
    let mut daemon = site.start();
    let deferred = site.path("processing_queue/deferred");
    daemon.wait_for(&site, |_| deferred.is_dir());
    let alarmed = |site: &Site| {
        fs::read_to_string(site.path("logs/blur_processor.status.json"))
            .is_ok_and(|status| status.contains("no ticket can be claimed"))
    };
    let away = site.path("away");
    fs::rename(&deferred, &away).unwrap();
    fs::write(&deferred, "").unwrap();
    daemon.wait_for(&site, alarmed);
    // Some polls more.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let log = daemon.log();
    assert_eq!(log.matches("no ticket can be claimed").count(), 1, "{log}");
    fs::remove_file(&deferred).unwrap();
    fs::rename(&away, &deferred).unwrap();
    let stem = site.add("a", &TestVideo::default());
    daemon.wait_for(&site, |site| site.is_done(&stem) && !alarmed(site));
    daemon.stop();
}
