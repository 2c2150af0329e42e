//! A real file system that becomes read-only under the recorder and comes back. Needs root, for loop devices.

use crate::process::{end, start, wait_until};
use crate::rig::{Rig, Segment, clip, clip_like, expect_run, frames, sent, simulator, sleep};
use camera_simulator::CameraConfig;
use daemon::status::SourceStatus;
use media::synth::TestVideo;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// An ext4 file system in a file.
struct Disk {
    image: PathBuf,
    mounted_at: PathBuf,
}

impl Disk {
    /// `None` where such a thing cannot be had.
    fn new(dir: &Path, mounted_at: PathBuf) -> Option<Self> {
        let disk = Disk {
            image: dir.join("disk.img"),
            mounted_at,
        };
        let file = std::fs::File::create(&disk.image).unwrap();
        file.set_len(256 << 20).unwrap();
        std::fs::create_dir_all(&disk.mounted_at).unwrap();
        (did("mkfs.ext4", &["-q", "-F"], &disk.image) && disk.mount()).then_some(disk)
    }

    fn mount(&self) -> bool {
        let mut command = Command::new("mount");
        command
            .args(["-t", "ext4", "-o", "loop,errors=remount-ro"])
            .args([&self.image, &self.mounted_at]);
        command.status().is_ok_and(|status| status.success())
    }

    /// As after an I/O error: the kernel lets nobody write any more. False where the kernel cannot be asked to.
    fn fail(&self) -> bool {
        let output = Command::new("findmnt")
            .args(["-n", "-o", "SOURCE"])
            .arg(&self.mounted_at)
            .output()
            .unwrap();
        let device = String::from_utf8(output.stdout).unwrap();
        let name = device.trim().trim_start_matches("/dev/");
        std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1").is_ok()
    }

    /// As an administrator brings it back.
    fn repair(&self) {
        assert!(did("umount", &["-l"], &self.mounted_at));
        // Files that are still open keep the old mount alive; the check waits for nobody.
        did("fsck.ext4", &["-y", "-f"], &self.image);
        assert!(self.mount());
    }
}

impl Disk {
    /// Lets all who write wait, until it is thawed. False where that cannot be had.
    fn freeze(&self) -> bool {
        did("fsfreeze", &["-f"], &self.mounted_at)
    }

    fn thaw(&self) {
        did("fsfreeze", &["-u"], &self.mounted_at);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        did("umount", &["-l"], &self.mounted_at);
    }
}

fn did(program: &str, options: &[&str], on: &Path) -> bool {
    let output = Command::new(program).args(options).arg(on).output();
    output.is_ok_and(|output| output.status.success())
}

/// The status of the camera once it is in that state.
async fn in_state(rig: &Rig, state: &str) -> SourceStatus {
    for _ in 0..50 {
        let status = rig.status("cam");
        if status.state == state {
            return status;
        }
        sleep(0.1).await;
    }
    panic!("not {state}: {:?}", rig.status("cam"));
}

#[tokio::test]
async fn a_disk_that_becomes_read_only_and_comes_back_costs_only_that_time() {
    let clips = tempfile::tempdir().unwrap();
    // Longer than the test, so that each frame is known by its hash.
    let video = TestVideo {
        width: 160,
        height: 120,
        frames: 450,
        gop: 8,
        ..TestVideo::default()
    };
    let file = clip_like(clips.path(), "a.mp4", &video);
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]));
    let Some(disk) = Disk::new(clips.path(), rig.path("raw")) else {
        eprintln!("SKIPPED: needs root, mkfs.ext4 and loop devices");
        return;
    };
    let mut failed = false;
    let mut away = Duration::ZERO;
    rig.record(async {
        sleep(3.0).await;
        // On a busy machine the first segment may take longer.
        for _ in 0..200 {
            if !rig.tickets().is_empty() {
                break;
            }
            sleep(0.1).await;
        }
        let began = Instant::now();
        failed = disk.fail();
        sleep(3.0).await;
        if failed {
            // In between it tries whether the disk takes anything.
            let error = in_state(&rig, "disk_full").await.error.unwrap();
            assert!(error.contains("refused"), "{error}");
            away = began.elapsed();
            disk.repair();
        }
        // What could not be finished is tried again every 10 s.
        sleep(13.0).await;
        in_state(&rig, "recording").await;
    })
    .await;
    if !failed {
        eprintln!("SKIPPED: this kernel cannot be asked to fail a file system");
        return;
    }
    // A new file system has a directory of its own.
    std::fs::remove_dir(rig.path("raw/lost+found")).ok();
    let segments = rig.segments("cam");
    let gap = segments
        .iter()
        .position(|s| s.ticket.gap_before.is_some())
        .expect("a gap");
    let (before, after) = segments.split_at(gap);
    let sent = sent(&simulator, "cam");
    let lost_from = sent.len() - expect_run(&sent, &frames(before));
    let lost_to = sent.len() - expect_run(&sent, &frames(after)) - frames(after).len();
    let missing = lost_to - lost_from;
    // The time without a disk, usually 3 s, 2 s until it is tried again, and half a second for a key frame.
    let away = (15.0 * away.as_secs_f64()) as usize;
    assert!(
        (away - 15..away + 65).contains(&missing),
        "{missing} frames missing, {away} without a disk"
    );
    let seconds = after[0].ticket.gap_before.unwrap();
    let told = missing as f64 / 15.0;
    assert!(
        (seconds - told).abs() < 1.5,
        "a gap of {seconds} s, {told} s are missing"
    );
    assert!(after.iter().map(Segment::seconds).sum::<f64>() > 6.0);
    assert_eq!(rig.status("cam").reconnects, 0);
    let gaps = std::fs::read_to_string(rig.path("logs/gaps.jsonl")).unwrap();
    assert!(gaps.contains("the disk refused a write"), "{gaps}");
}

#[tokio::test]
async fn a_disk_that_hangs_costs_bounded_memory_and_frames_of_its_source_alone() {
    let clips = tempfile::tempdir().unwrap();
    // 24 Mbit/s, so that what may wait is used up within seconds. Short: the simulator holds it in this process, and the
    // guards of all recorders here see one memory.
    let large = clips.path().join("large.mp4");
    let noise = "testsrc2=size=640x360:rate=15,noise=alls=60:allf=t,format=yuv420p";
    let made = Command::new("ffmpeg")
        .args([
            "-v", "error", "-f", "lavfi", "-i", noise, "-t", "10", "-c:v", "libx264",
        ])
        .args([
            "-preset",
            "ultrafast",
            "-g",
            "15",
            "-bf",
            "0",
            "-b:v",
            "24M",
        ])
        .arg(&large)
        .status();
    assert!(made.unwrap().success());
    let small = clip(clips.path(), "small.mp4");
    let simulator = simulator([
        CameraConfig::new("slow", &large),
        CameraConfig::new("fast", &small),
    ]);
    let url = |name: &str| simulator.url(name).unwrap();
    let rig = Rig::new(json!([
        {"name": "slow", "url": url("slow")},
        {"name": "fast", "url": url("fast")},
    ]));
    let Some(disk) = Disk::new(clips.path(), rig.path("raw/slow")) else {
        eprintln!("SKIPPED: needs root, mkfs.ext4 and loop devices");
        return;
    };
    let mut frozen = false;
    rig.record(async {
        while !rig.path("queue").exists() || rig.tickets().len() < 4 {
            sleep(0.1).await;
        }
        frozen = disk.freeze();
        sleep(9.0).await;
        let status = rig.status("slow");
        disk.thaw();
        if frozen {
            assert_eq!(status.state, "disk_full", "{status:?}");
            assert_eq!(status.error.as_deref(), Some("the disk is too slow"));
            assert_eq!(rig.status("fast").state, "recording");
        }
        sleep(6.0).await;
        assert_eq!(rig.status("slow").state, "recording");
    })
    .await;
    if !frozen {
        eprintln!("SKIPPED: this file system cannot be frozen");
        return;
    }
    std::fs::remove_dir(rig.path("raw/slow/lost+found")).ok();
    let fast = rig.segments("fast");
    expect_run(&sent(&simulator, "fast"), &frames(&fast));
    assert!(fast.iter().map(Segment::seconds).sum::<f64>() > 14.0);
    let slow = rig.segments("slow");
    let gap = slow
        .iter()
        .position(|s| s.ticket.gap_before.is_some())
        .expect("a gap");
    let (before, after) = slow.split_at(gap);
    for stretch in [before, after] {
        expect_run(&sent(&simulator, "slow"), &frames(stretch));
    }
    let gaps = std::fs::read_to_string(rig.path("logs/gaps.jsonl")).unwrap();
    assert!(gaps.contains("the disk is too slow"), "{gaps}");
    assert_eq!(rig.status("slow").reconnects, 0);
}

#[test]
fn a_disk_of_logs_and_status_that_hangs_costs_no_frame() {
    let clips = tempfile::tempdir().unwrap();
    let file = clip(clips.path(), "a.mp4");
    let simulator = simulator([CameraConfig::new("cam", &file)]);
    let rig = Rig::new(json!([{"name": "cam", "url": simulator.url("cam").unwrap()}]));
    let Some(disk) = Disk::new(clips.path(), rig.path("logs")) else {
        eprintln!("SKIPPED: needs root, mkfs.ext4 and loop devices");
        return;
    };
    let recorder = start(&rig);
    let finished = || match rig.path("queue").exists() {
        true => rig.tickets().len(),
        false => 0,
    };
    wait_until("two segments", || finished() > 1);
    if !disk.freeze() {
        end(recorder);
        eprintln!("SKIPPED: this file system cannot be frozen");
        return;
    }
    // Longer than the guard lets any source keep the others from their turn.
    let before = finished();
    std::thread::sleep(Duration::from_secs(14));
    let meanwhile = finished() - before;
    disk.thaw();
    let is_fresh = || {
        let updated = rig.recorder_status().updated;
        jiff::Timestamp::now().duration_since(updated).as_secs() < 3
    };
    wait_until("a status", is_fresh);
    end(recorder);
    assert!(meanwhile > 10, "{meanwhile} segments in 14 s");
    expect_run(&sent(&simulator, "cam"), &frames(&rig.segments("cam")));
    assert_eq!(rig.status("cam").reconnects, 0);
    assert_eq!(rig.recorder_status().state, "stopped");
}
