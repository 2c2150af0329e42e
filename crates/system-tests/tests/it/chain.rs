//! Cameras to published videos: every recorded frame in exactly one published file, whatever is killed on the way.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use camera_simulator::{AuthScheme, CameraConfig, Config, Credentials, Fault, Simulator};
use media::synth::{TestVideo, read_number};
use media::verify::{VerifyOptions, verify_frames};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::site::{Site, send};

/// A detector that sees one head, always in the same place, far from the frame number in the test pictures.
const ONE_HEAD: &str = r#"
#include "blur_plugin.h"
static BlurRegion head;
static int32_t describe(BlurInstance *i, BlurDescription *d) {
  (void)i;
  d->kind = BLUR_KIND_DETECTOR;
  d->format = BLUR_FORMAT_BGR24;
  d->name = (BlurText){"one-head", 8};
  d->version = (BlurText){"1", 1};
  d->info_json = (BlurText){"{}", 2};
  return BLUR_OK;
}
static int32_t create(const BlurCreate *c, BlurInstance **out) { (void)c; *out = (BlurInstance *)&head; return BLUR_OK; }
static int32_t detect(BlurInstance *i, const BlurFrame *f, const BlurRegion **regions, uint64_t *count) {
  (void)i;
  head = (BlurRegion){f->width * 0.4f, f->height * 0.6f, f->width * 0.1f, f->height * 0.2f, 0.95f, BLUR_REGION_HEAD, 0};
  *regions = &head;
  *count = 1;
  return BLUR_OK;
}
static int32_t reset(BlurInstance *i, uint32_t camera) { (void)i; (void)camera; return BLUR_OK; }
static void last_error(BlurInstance *i, BlurText *t) { (void)i; t->data = ""; t->len = 0; }
static void destroy(BlurInstance *i) { (void)i; }
static const BlurPlugin plugin = {sizeof(BlurPlugin), BLUR_ABI_MINOR, describe, create, detect, 0, reset, last_error, destroy};
const BlurPlugin *blur_plugin_v1(void) { return &plugin; }
"#;

/// Compiles the detector into `folder`.
fn one_head(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("one_head.c"), folder.join("libone_head.so"));
    fs::write(&source, ONE_HEAD).expect("written");
    let header = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugin-abi/include");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-I", header, "-o"])
        .args([&library, &source])
        .status()
        .expect("a C compiler");
    assert!(built.success());
    fs::set_permissions(&library, fs::Permissions::from_mode(0o755)).expect("chmod");
    library
}

const FPS: u32 = 15;

/// A minute of numbered frames: no number comes twice in a test.
fn numbered(folder: &Path, name: &str, encoder: &str) -> PathBuf {
    let path = folder.join(name);
    let video = TestVideo {
        encoder: encoder.to_owned(),
        frames: 90 * FPS,
        fps: FPS,
        gop: FPS,
        options: vec![("preset".to_owned(), "ultrafast".to_owned())],
        ..TestVideo::default()
    };
    video.write(&path).expect("a test video");
    path
}

/// Frame numbers painted into a video, in order; `None` where one cannot be read.
fn numbers(video: &Path) -> (Vec<Option<u32>>, Vec<i64>) {
    let mut read = Vec::new();
    let file = File::open(video).unwrap_or_else(|error| panic!("{}: {error}", video.display()));
    let verified = verify_frames(file, &VerifyOptions::default(), &mut |frame| {
        read.push(read_number(frame));
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{}: {error}", video.display()));
    assert!(
        verified.is_sound(),
        "{}: {:?}",
        video.display(),
        verified.errors
    );
    (read, verified.pts())
}

fn receipts(site: &Site) -> Vec<Value> {
    site.files("processing_queue/done", ".json")
        .iter()
        .map(|path| serde_json::from_slice(&fs::read(path).expect("a receipt")).expect("JSON"))
        .collect()
}

/// What must hold at the end of every run: nothing waits, nothing was held back, every original is gone, and each
/// published file has a receipt with its number of frames. Returns the numbers of all published frames by source.
fn assert_all_published_once(site: &Site) -> BTreeMap<String, Vec<u32>> {
    for leftover in [
        "processing_queue/active",
        "processing_queue/deferred",
        "processing_queue/failed",
        "processing_queue/corrupt",
    ] {
        assert!(
            site.files(leftover, ".json").is_empty(),
            "{leftover}\n{}",
            site.story()
        );
    }
    let ready: Vec<_> = fs::read_dir(site.path("processing_queue"))
        .expect("the queue")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("queue_"))
        .collect();
    assert!(ready.is_empty(), "{ready:?}\n{}", site.story());
    assert!(
        site.files("raw_videos", ".mp4").is_empty(),
        "originals are left\n{}",
        site.story()
    );
    let receipts = receipts(site);
    let published = site.files("processed_videos", ".mp4");
    assert_eq!(receipts.len(), published.len(), "{}", site.story());
    let mut by_source: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for video in published {
        let (read, pts) = numbers(&video);
        let receipt = receipts
            .iter()
            .find(|receipt| video.ends_with(receipt["output"]["path"].as_str().expect("a path")))
            .unwrap_or_else(|| panic!("no receipt for {}", video.display()));
        assert_eq!(receipt["frames"].as_u64(), Some(read.len() as u64));
        assert_eq!(
            receipt["heads"].as_u64().is_some_and(|heads| heads > 0),
            receipt["plugin"].is_object()
        );
        assert!(
            pts.windows(2).all(|pair| pair[0] < pair[1]),
            "times run on in {}",
            video.display()
        );
        let source = video
            .parent()
            .and_then(Path::file_name)
            .expect("a folder")
            .to_string_lossy()
            .into_owned();
        let frames = by_source.entry(source).or_default();
        for number in read {
            frames.push(
                number.unwrap_or_else(|| panic!("a frame of {} has no number", video.display())),
            );
        }
    }
    for (source, frames) in &mut by_source {
        let total = frames.len();
        frames.sort_unstable();
        frames.dedup();
        assert_eq!(
            frames.len(),
            total,
            "{source}: a frame was published twice\n{}",
            site.story()
        );
    }
    by_source
}

/// How many numbers are missing between the first and the last.
fn missing(frames: &[u32]) -> u32 {
    let (first, last) = (frames[0], frames[frames.len() - 1]);
    last - first + 1 - u32::try_from(frames.len()).expect("few frames")
}

fn with_password(url: &str) -> String {
    url.replacen("rtsp://", "rtsp://viewer:s3cr%40t@", 1)
}

#[test]
fn cameras_become_published_videos() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::new([
        CameraConfig::new("gate", numbered(folder.path(), "gate.mp4", "libx264")),
        CameraConfig::new("yard", numbered(folder.path(), "yard.mp4", "libx265")),
    ]);
    config.credentials = Some(Credentials {
        user: "viewer".to_owned(),
        password: "s3cr@t".to_owned(),
    });
    config.scheme = AuthScheme::Digest;
    let cameras = Simulator::start(config).expect("cameras");
    let url = |name: &str| with_password(&cameras.url(name).expect("it is served"));
    let site = Site::new(
        json!([{"name": "gate", "url": url("gate")}, {"name": "yard", "url": url("yard"), "transport": "udp"}]),
        4.0,
        json!({"blur_module_path": one_head(folder.path()), "add_overlay": false}),
    );

    let status = site.run("run-system", &["--duration", "14"], Duration::from_secs(90));
    assert_eq!(status.code(), Some(0), "{}", site.story());
    let drained = site.run(
        "blur-processor",
        &["--until-empty"],
        Duration::from_secs(120),
    );
    assert_eq!(drained.code(), Some(0), "{}", site.story());

    let frames = assert_all_published_once(&site);
    for source in ["gate", "yard"] {
        let frames = frames
            .get(source)
            .unwrap_or_else(|| panic!("{source} is missing\n{}", site.story()));
        assert_eq!(
            missing(frames),
            0,
            "{source}: frames are missing between segments\n{}",
            site.story()
        );
        assert!(
            frames.len() >= 10 * FPS as usize,
            "{source}: only {} frames\n{}",
            frames.len(),
            site.story()
        );
    }
    assert_no_secret(&site);
}

/// The password is nowhere but in the config.
fn assert_no_secret(site: &Site) {
    for suffix in [".log", ".json", ".out"] {
        for path in site.files("", suffix) {
            if path
                .parent()
                .is_some_and(|folder| folder.ends_with("configs"))
            {
                continue;
            }
            let text = fs::read(&path).expect("readable");
            let text = String::from_utf8_lossy(&text);
            for secret in ["s3cr%40t", "s3cr@t"] {
                assert!(
                    !text.contains(secret),
                    "the password is in {}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn killed_daemons_lose_and_double_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let cameras = Simulator::start(Config::new([CameraConfig::new(
        "dock",
        numbered(folder.path(), "dock.mp4", "libx264"),
    )]))
    .expect("a camera");
    let site = Site::new(
        json!([{"name": "dock", "url": cameras.url("dock").expect("served")}]),
        3.0,
        json!({"blur_module_path": one_head(folder.path()), "add_overlay": false, "max_concurrent_processes": 2}),
    );
    let system = site.start("run-system", &[]);
    let published = || site.files("processed_videos", ".mp4").len();
    site.wait_for("a first video", Duration::from_secs(40), || {
        published() >= 1
    });

    // The processor dies in the middle of its work; the recorder goes on and a new processor takes over.
    let recorder = site.pid_of("rtsp_recorder").expect("the recorder's pid");
    let processor = site.pid_of("blur_processor").expect("the processor's pid");
    site.wait_for("a ticket in work", Duration::from_secs(20), || {
        !site.files("processing_queue/active", ".json").is_empty()
    });
    send(processor, Signal::KILL);
    site.wait_for("a new processor", Duration::from_secs(20), || {
        site.pid_of("blur_processor")
            .is_some_and(|pid| pid != processor)
    });
    assert_eq!(
        site.pid_of("rtsp_recorder"),
        Some(recorder),
        "the recorder was not disturbed"
    );
    let before = published();
    site.wait_for("the next video", Duration::from_secs(40), || {
        published() > before
    });

    // The recorder dies; what it had written is saved and it records on.
    send(recorder, Signal::KILL);
    site.wait_for("a new recorder", Duration::from_secs(20), || {
        site.pid_of("rtsp_recorder")
            .is_some_and(|pid| pid != recorder)
    });
    let before = published();
    site.wait_for(
        "videos from before and after",
        Duration::from_secs(40),
        || published() >= before + 2,
    );

    system.signal(Signal::INT);
    assert_eq!(
        system.wait(Duration::from_secs(60)).code(),
        Some(0),
        "{}",
        site.story()
    );
    let drained = site.run(
        "blur-processor",
        &["--until-empty"],
        Duration::from_secs(120),
    );
    assert_eq!(drained.code(), Some(0), "{}", site.story());

    let frames = assert_all_published_once(&site);
    let lost = missing(&frames["dock"]);
    // At most a second that was not yet written, the restart, and the wait for a key frame (one a second here).
    assert!(
        lost <= 5 * FPS,
        "{lost} frames are missing\n{}",
        site.story()
    );
}

#[test]
fn a_camera_that_vanishes_is_recorded_again_when_it_returns() {
    let folder = tempfile::tempdir().expect("a folder");
    let cameras = Simulator::start(Config::new([CameraConfig::new(
        "pier",
        numbered(folder.path(), "pier.mp4", "libx264"),
    )]))
    .expect("a camera");
    let site = Site::new(
        json!([
            {"name": "pier", "url": cameras.url("pier").expect("served")},
            {"name": "never", "url": "rtsp://127.0.0.1:9/nobody"},
        ]),
        3.0,
        json!({}),
    );
    let recorder = site.start("rtsp-recorder", &[]);
    let recorded = || site.files("raw_videos", ".mp4").len();
    site.wait_for("a first segment", Duration::from_secs(30), || {
        recorded() >= 1
    });
    cameras
        .fault("pier", &Fault::Reboot(Duration::from_secs(2)))
        .expect("rebooted");
    let before = recorded();
    site.wait_for("segments after the reboot", Duration::from_secs(40), || {
        recorded() >= before + 3
    });
    recorder.signal(Signal::TERM);
    assert_eq!(
        recorder.wait(Duration::from_secs(30)).code(),
        Some(0),
        "{}",
        site.story()
    );

    // Built-in blur of whole pictures, by the processor alone.
    let drained = site.run(
        "blur-processor",
        &["--until-empty"],
        Duration::from_secs(120),
    );
    assert_eq!(drained.code(), Some(0), "{}", site.story());
    assert!(
        site.files("raw_videos", ".mp4").is_empty(),
        "{}",
        site.story()
    );
    let mut readable = 0;
    for video in site.files("processed_videos", ".mp4") {
        let (read, _) = numbers(&video);
        readable += read.into_iter().flatten().count();
    }
    assert_eq!(
        readable, 0,
        "the whole picture is blurred, so no number can be read"
    );
}
