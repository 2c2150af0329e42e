//! Cameras, settings, a recorder to run, and what it left on disk.

use camera_simulator::{CameraConfig, Config, Simulator, VideoCodec, slices_md5};
use daemon::Shutdown;
use daemon::status::{RECORDER, RecorderStatus, SourceStatus, file, read};
use media::synth::TestVideo;
use rtsp_recorder::run::{End, run};
use serde_json::{Map, Value, json};
use settings::{Environment, RecorderSettings};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ticket_queue::Ticket;

/// A place to record in.
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) settings: Map<String, Value>,
}

/// A segment on disk with its ticket.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) ticket: Ticket,
    /// One hash for each video frame that is shown, in decoding order.
    pub(crate) frames: Vec<String>,
    /// Presentation times in ticks of the track.
    pub(crate) pts: Vec<i64>,
}

impl Rig {
    /// A place with settings for segments of a second.
    pub(crate) fn new(sources: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let settings = json!({
            "sources": sources,
            "output_dir": path("raw"),
            "queue_dir": path("queue"),
            "log_dir": path("logs"),
            "status_dir": path("logs"),
            "segment_duration": 1,
            "reconnect_interval": 0.3,
            "read_timeout": 1000,
            "connection_timeout": 2000,
            "max_concurrent_recordings": 50,
            "monitoring_interval": 1,
            "min_free_disk_gb": 0.0,
        });
        let Value::Object(settings) = settings else {
            unreachable!()
        };
        Rig { dir, settings }
    }

    pub(crate) fn set(mut self, key: &str, value: Value) -> Self {
        self.settings.insert(key.to_owned(), value);
        self
    }

    pub(crate) fn settings(&self) -> RecorderSettings {
        let text = Value::Object(self.settings.clone()).to_string();
        RecorderSettings::from_text(&text, &Environment::of_process()).unwrap()
    }

    /// Runs the recorder while `script` runs, then stops it.
    pub(crate) async fn record(&self, script: impl Future<Output = ()>) -> End {
        let shutdown = Shutdown::manual();
        let recorder = tokio::spawn(run(self.settings(), shutdown.clone()));
        script.await;
        shutdown.request();
        recorder.await.unwrap().unwrap()
    }

    /// What the status file says of a source.
    pub(crate) fn status(&self, source: &str) -> SourceStatus {
        self.recorder_status()
            .sources
            .into_iter()
            .find(|status| status.name == source)
            .unwrap()
    }

    /// What the status file says.
    pub(crate) fn recorder_status(&self) -> RecorderStatus {
        read(&file(&self.path("logs"), RECORDER)).unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The segments of a source, in the order of their start, after checking that every one is whole, has exactly one
    /// ticket, and that nothing else is left.
    pub(crate) fn segments(&self, source: &str) -> Vec<Segment> {
        let mut segments: Vec<Segment> = self
            .tickets()
            .into_iter()
            .filter(|t| t.source_name == source)
            .map(Segment::read)
            .collect();
        segments.sort_by_key(|segment| segment.ticket.start().unwrap().timestamp());
        let dir = self.path("raw").join(source);
        let mut files: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut named: Vec<String> = segments.iter().map(Segment::file_name).collect();
        named.sort();
        assert_eq!(files, named, "files and tickets of {source} differ");
        segments
    }

    pub(crate) fn tickets(&self) -> Vec<Ticket> {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(self.path("queue"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.retain(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        });
        paths.sort();
        paths
            .iter()
            .map(|path| Ticket::parse(&std::fs::read(path).unwrap()).unwrap())
            .collect()
    }
}

impl Segment {
    fn read(ticket: Ticket) -> Self {
        let path = Path::new(&ticket.filepath);
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(bytes.len() as u64, ticket.file_size);
        assert_eq!(
            Some(blake3::hash(&bytes).to_hex().to_string()),
            ticket.blake3
        );
        let index = bytes.windows(4).position(|w| w == b"moov").unwrap();
        let data = bytes.windows(4).position(|w| w == b"mdat").unwrap();
        assert!(index < data, "the index of {path:?} is not first");
        let verified = media::verify(path, &Default::default()).unwrap();
        let lossless = ticket.packets_lost == Some(0);
        assert!(
            !lossless || verified.errors.is_empty(),
            "{path:?}: {:?}",
            verified.errors
        );
        assert!(
            !lossless || verified.frames.len() as u64 == ticket.frame_count,
            "{path:?} does not decode"
        );
        let contents = media::probe::load(path).unwrap();
        let hash = |data: &[u8]| match ticket.codec.as_deref() {
            Some("hevc") => hash_of(VideoCodec::H265, data),
            Some("h264") => hash_of(VideoCodec::H264, data),
            _ => blake3::hash(data).to_hex().to_string(),
        };
        let video = contents
            .tracks
            .iter()
            .position(|t| matches!(t, media::Track::Video(_)))
            .unwrap();
        let shown = || contents.of_track(video).filter(|p| !p.is_discarded());
        let frames: Vec<String> = shown().map(|p| hash(p.data())).collect();
        let pts: Vec<i64> = shown().map(|p| p.pts().unwrap()).collect();
        assert_eq!(ticket.frame_count, frames.len() as u64);
        assert!(contents.of_track(video).next().unwrap().is_key());
        Segment {
            ticket,
            frames,
            pts,
        }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.ticket.media_duration.unwrap()
    }

    pub(crate) fn file_name(&self) -> String {
        Path::new(&self.ticket.filepath)
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    }
}

/// The hash of a frame with length-prefixed NAL units, as the simulator keeps it.
fn hash_of(codec: VideoCodec, mut data: &[u8]) -> String {
    let mut nals: Vec<&[u8]> = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk::<4>() {
        let (nal, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        nals.push(nal);
        data = rest;
    }
    slices_md5(codec, nals)
}

/// The segments, split where a gap is on record.
pub(crate) fn stretches(segments: Vec<Segment>) -> Vec<Vec<Segment>> {
    let mut stretches: Vec<Vec<Segment>> = Vec::new();
    for segment in segments {
        if segment.ticket.gap_before.is_some() || stretches.is_empty() {
            stretches.push(Vec::new());
        }
        stretches.last_mut().unwrap().push(segment);
    }
    stretches
}

/// All frames of the segments, in order.
pub(crate) fn frames(segments: &[Segment]) -> Vec<String> {
    segments
        .iter()
        .flat_map(|segment| segment.frames.iter().cloned())
        .collect()
}

/// The hashes of the video frames that a camera sent to somebody.
pub(crate) fn sent(simulator: &Simulator, camera: &str) -> Vec<String> {
    simulator
        .sent(camera)
        .into_iter()
        .filter(|u| u.track == 0 && u.clients > 0)
        .map(|u| u.vcl_md5)
        .collect()
}

/// Checks that `stored` are frames that follow each other in `sent`, and returns how many of `sent` come after.
pub(crate) fn expect_run(sent: &[String], stored: &[String]) -> usize {
    assert!(!stored.is_empty(), "nothing stored");
    let starts = (0..sent.len()).filter(|i| sent[*i] == stored[0]);
    let longest = starts
        .map(|start| {
            (
                start,
                sent[start..]
                    .iter()
                    .zip(stored)
                    .take_while(|(a, b)| a == b)
                    .count(),
            )
        })
        .max_by_key(|(_, length)| *length)
        .unwrap_or((0, 0));
    assert_eq!(
        longest.1,
        stored.len(),
        "frames lost, doubled or in another order after {longest:?}"
    );
    sent.len() - longest.0 - longest.1
}

/// A clip of 8 s, 15 frames a second, a key frame twice a second.
pub(crate) fn clip(dir: &Path, name: &str) -> PathBuf {
    clip_like(
        dir,
        name,
        &TestVideo {
            width: 160,
            height: 120,
            frames: 120,
            gop: 8,
            ..TestVideo::default()
        },
    )
}

/// A clip of 4 s, 15 frames a second, a key frame twice a second, with sound.
pub(crate) fn clip_with_sound(dir: &Path, name: &str) -> PathBuf {
    clip_like(
        dir,
        name,
        &TestVideo {
            width: 160,
            height: 120,
            frames: 60,
            gop: 8,
            audio: true,
            ..TestVideo::default()
        },
    )
}

/// A clip of 4 s whose frames take many packets each.
pub(crate) fn clip_of_many_packets(dir: &Path, name: &str) -> PathBuf {
    clip_like(
        dir,
        name,
        &TestVideo {
            width: 640,
            height: 480,
            frames: 60,
            gop: 8,
            ..TestVideo::default()
        },
    )
}

pub(crate) fn clip_like(dir: &Path, name: &str, video: &TestVideo) -> PathBuf {
    let path = dir.join(name);
    video.write(&path).unwrap();
    path
}

pub(crate) fn simulator(cameras: impl IntoIterator<Item = CameraConfig>) -> Simulator {
    Simulator::start(Config::new(cameras)).unwrap()
}

pub(crate) async fn sleep(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}
