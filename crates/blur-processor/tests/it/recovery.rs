//! Killed at any time, started again: exactly one published file, no original lost.

use std::fs::{self, File};
use std::process::Command;
use std::time::{Duration, Instant};

use daemon::exit;
use media::synth::TestVideo;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Daemon, Site, look};

fn slow(frames: u32) -> (Site, String) {
    let mut site = Site::new(json!({ "plugin": { "sleep_ms": 20 } }));
    let stem = site.add(
        "a",
        &TestVideo {
            frames,
            ..TestVideo::default()
        },
    );
    (site, stem)
}

fn assert_done_once(site: &Site, stem: &str, frames: usize) {
    let shown = look(&site.published("a"));
    assert_eq!(shown.numbers.len(), frames);
    assert!(shown.numbers.iter().all(Option::is_none));
    assert_eq!(
        site.names("processed_videos/cam"),
        ["blurred_a.json", "blurred_a.mp4"]
    );
    assert_eq!(site.names("processed_videos/.tmp"), Vec::<String>::new());
    assert!(!site.raw("a").exists());
    assert!(site.is_done(stem));
}

#[test]
fn killed_at_work_the_next_one_does_it_again() {
    let (mut site, stem) = slow(60);
    let mut daemon = site.start();
    daemon.wait_for(&site, |site| {
        !site.names("processed_videos/.tmp").is_empty()
    });
    daemon.kill();
    assert!(site.raw("a").exists() && !site.published("a").exists());
    site.change("plugin", json!({}));
    let mut daemon = site.start();
    daemon.wait_for(&site, |site| site.is_done(&stem));
    daemon.stop();
    assert_done_once(&site, &stem, 60);
    assert_eq!(site.report("a").attempt, 2);
}

/// A daemon whose plugin takes a minute for its self-test, and its worker, which has it loaded.
fn trying_the_plugin() -> (Site, Daemon, Pid) {
    let site = Site::new(json!({ "plugin": { "sleep_ms": 60_000 } }));
    let mut daemon = site.start();
    let tasks = format!("/proc/{}/task", daemon.child.id());
    let worker = || -> Option<i32> {
        let mut children = fs::read_dir(&tasks)
            .ok()?
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        children.find_map(|children| children.trim().parse().ok())
    };
    let has_plugin = |pid| {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"));
        maps.is_ok_and(|maps| maps.contains("libfixed_box"))
    };
    daemon.wait_for(&site, |_| worker().is_some_and(has_plugin));
    let worker = worker().and_then(Pid::from_raw).expect("a worker");
    (site, daemon, worker)
}

#[test]
fn it_stops_while_a_plugin_is_tried() {
    let (_site, daemon, _) = trying_the_plugin();
    let began = Instant::now();
    daemon.stop();
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_worker_killed_while_its_plugin_is_tried_is_no_reason_to_stay_away() {
    let (_site, mut daemon, worker) = trying_the_plugin();
    kill_process(worker, Signal::KILL).unwrap();
    let code = daemon.child.wait().unwrap().code();
    let log = daemon.log();
    assert!(log.contains("killed by signal 9"), "{log}");
    assert_eq!(code, Some(i32::from(exit::FAILED)));
}

#[test]
fn a_worker_does_not_outlive_its_dispatcher() {
    let (site, _) = slow(400);
    let mut daemon = site.start();
    let status = || -> Option<u64> {
        let text = fs::read(site.path("logs/blur_processor.status.json")).ok()?;
        let status: Value = serde_json::from_slice(&text).ok()?;
        let worker = &status["workers"][0];
        worker["ticket"].as_str()?;
        worker["pid"].as_u64()
    };
    daemon.wait_for(&site, |_| status().is_some());
    let worker = format!("/proc/{}", status().unwrap());
    daemon.kill();
    let began = std::time::Instant::now();
    while std::path::Path::new(&worker).exists() {
        assert!(began.elapsed().as_secs() < 10, "the worker lives on");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn stopped_at_work_it_finishes_the_video() {
    let (site, stem) = slow(60);
    let mut daemon = site.start();
    daemon.wait_for(&site, |site| {
        !site.names("processed_videos/.tmp").is_empty()
    });
    daemon.stop();
    assert_done_once(&site, &stem, 60);
}

#[test]
fn killed_after_publishing_only_the_rest_is_done() {
    let mut site = Site::new(json!({}));
    let stem = site.add("a", &TestVideo::default());
    let (ticket, raw) = (
        site.path(&format!("processing_queue/{stem}.json")),
        site.raw("a"),
    );
    let (ticket, original) = (fs::read(ticket).unwrap(), fs::read(&raw).unwrap());
    site.run_until(|site| site.is_done(&stem));
    let video = fs::metadata(site.published("a"))
        .unwrap()
        .modified()
        .unwrap();
    let receipt = site.path(&format!("processing_queue/done/{stem}.json"));
    // (original back?, receipt there?)
    for (original_is_there, receipt_is_there) in
        [(true, false), (true, true), (false, true), (false, false)]
    {
        if original_is_there {
            fs::write(&raw, &original).unwrap();
        }
        if !receipt_is_there {
            fs::remove_file(&receipt).unwrap();
        }
        // Without either, an empty directory would be that of a disk which is away.
        let other = site.raw("another");
        if !original_is_there && !receipt_is_there {
            fs::write(other, "of another ticket").unwrap();
        }
        fs::write(
            site.path(&format!("processing_queue/active/{stem}.a1.json")),
            &ticket,
        )
        .unwrap();
        site.run_until(|site| site.is_done(&stem) && !site.raw("a").exists());
        assert_done_once(&site, &stem, 30);
        assert_eq!(
            fs::metadata(site.published("a"))
                .unwrap()
                .modified()
                .unwrap(),
            video,
            "done again"
        );
    }
}

#[test]
fn a_ticket_that_cannot_be_taken_over_is_an_alarm() {
    let mut site = Site::new(json!({ "blur_module_path": null }));
    let stem = site.add("a", &TestVideo::default());
    let active = site.path(&format!("processing_queue/active/{stem}.a1.json"));
    fs::create_dir(active.parent().unwrap()).unwrap();
    fs::rename(site.path(&format!("processing_queue/{stem}.json")), &active).unwrap();
    // One that not even root may write to stands for one of another user.
    let immutable = |flag| Command::new("chattr").arg(flag).arg(&active).status();
    if !immutable("+i").is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: a file that cannot be opened for writing needs root and chattr");
        return;
    }
    let alarmed = |site: &Site| {
        fs::read_to_string(site.path("logs/blur_processor.status.json"))
            .is_ok_and(|status| status.contains("cannot be taken over"))
    };
    let mut daemon = site.start();
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        daemon.wait_for(&site, alarmed);
    }));
    immutable("-i").unwrap();
    told.unwrap();
    daemon.wait_for(&site, |site| site.is_done(&stem) && !alarmed(site));
    daemon.stop();
}

#[test]
fn a_foreign_file_under_the_final_name_is_never_taken_for_the_output() {
    let mut site = Site::new(json!({}));
    let stem = site.add("a", &TestVideo::default());
    fs::create_dir_all(site.path("processed_videos/cam")).unwrap();
    fs::write(site.published("a"), b"something else").unwrap();
    site.run_until(|site| site.why(&stem).is_some());
    assert!(site.why(&stem).unwrap().contains("is in the way"));
    assert!(site.raw("a").exists());
    assert_eq!(fs::read(site.published("a")).unwrap(), b"something else");
}

#[test]
fn of_two_videos_with_one_name_the_report_is_that_of_the_published_one() {
    let mut site = Site::new(json!({ "max_concurrent_processes": 2 }));
    let stems = ["a.mp4", "a.mov"].map(|name| {
        let video = TestVideo {
            frames: if name == "a.mp4" { 30 } else { 40 },
            ..TestVideo::default()
        };
        let raw = site.path(&format!("raw_videos/cam/{name}"));
        let written = site.path("raw_videos/written.mp4");
        video.write(&written).unwrap();
        fs::rename(written, raw).unwrap();
        let filepath = format!("raw_videos/cam/{name}");
        site.add_ticket_with(
            "a",
            &json!({ "id": name, "filepath": filepath, "file_size": 0, "blake3": null }),
        )
    });
    fs::create_dir_all(site.path("processed_videos/cam")).unwrap();
    // As another process does that is just publishing there.
    let turn = File::open(site.path("processed_videos/cam")).unwrap();
    turn.lock().unwrap();
    let mut daemon = site.start();
    daemon.wait_for(&site, |site| {
        site.names("processing_queue/active").len() == 2
    });
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(site.names("processed_videos/cam"), Vec::<String>::new());
    drop(turn);
    daemon.wait_for(&site, |site| {
        site.names("processing_queue/active").is_empty()
    });
    daemon.stop();
    let why = stems.each_ref().map(|stem| site.why(stem));
    let is_in_the_way = |why: &Option<String>| {
        why.as_ref()
            .is_some_and(|why| why.contains("made from another video of this name"))
    };
    assert_eq!(
        why.iter().filter(|why| is_in_the_way(why)).count(),
        1,
        "{why:?}"
    );
    let (video, report) = (fs::read(site.published("a")).unwrap(), site.report("a"));
    assert_eq!(
        report.output.blake3,
        blake3::hash(&video).to_hex().to_string()
    );
    let given_up = stems.iter().position(|stem| site.why(stem).is_some());
    let kept = ["a.mp4", "a.mov"].map(|name| site.path(&format!("raw_videos/cam/{name}")).exists());
    assert_eq!(kept.iter().position(|kept| *kept), given_up, "{kept:?}");
}

#[test]
fn two_instances_share_a_queue() {
    let mut site = Site::new(json!({ "plugin": { "sleep_ms": 5 } }));
    let stems: Vec<String> = (0..6)
        .map(|number| site.add(&format!("v{number}"), &TestVideo::default()))
        .collect();
    let mut first = site.start();
    first.wait_for(&site, |site| {
        site.path("logs/blur_processor.status.json").exists()
    });
    let mut second = site.start();
    // Its status file carries its process id, since the first one holds the usual name.
    let status = format!("logs/blur_processor.{}.status.json", second.child.id());
    second.wait_for(&site, |site| {
        site.path(&status).exists() && stems.iter().all(|stem| site.is_done(stem))
    });
    second.stop();
    first.stop();
    assert!(!site.path(&status).exists());
    assert_eq!(site.names("processed_videos/cam").len(), 12);
    assert_eq!(site.names("raw_videos/cam"), Vec::<String>::new());
}
