//! Clips, simulators and a retina client for the tests.

use camera_simulator::{
    CameraConfig, Config, SentUnit, Simulator, StartAt, VideoCodec, slices_md5,
};
use futures::StreamExt as _;
use media::synth::TestVideo;
use retina::client::{Credentials, PlayOptions, Session, SessionOptions, SetupOptions, Transport};
use retina::codec::{CodecItem, FrameFormat};
use std::future::Future;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

/// Nothing in these tests takes longer unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The clips, made once per test run.
pub(crate) struct Clips {
    _dir: tempfile::TempDir,
    /// 0.8 s of 160x120 H.264 at 25 fps with a key frame every 10 frames, so that the loop point comes soon.
    pub(crate) h264: PathBuf,
    /// The same in H.265.
    pub(crate) h265: PathBuf,
    /// The same as `h264` at another size.
    pub(crate) other_size: PathBuf,
    /// `h264` with AAC.
    pub(crate) with_audio: PathBuf,
    /// `h264` with B-frames.
    pub(crate) b_frames: PathBuf,
    /// Not a codec that RTSP cameras speak.
    pub(crate) mpeg4: PathBuf,
    /// Lossless pictures at 200 fps: megabytes a second.
    pub(crate) heavy: PathBuf,
}

pub(crate) fn clips() -> &'static Clips {
    static CLIPS: OnceLock<Clips> = OnceLock::new();
    CLIPS.get_or_init(make_clips)
}

fn make_clips() -> Clips {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str, video: TestVideo| {
        let path = dir.path().join(name);
        video.write(&path).unwrap();
        path
    };
    let basic = TestVideo {
        width: 160,
        height: 120,
        frames: 20,
        fps: 25,
        gop: 10,
        ..TestVideo::default()
    };
    let with = |change: &dyn Fn(&mut TestVideo)| {
        let mut video = basic.clone();
        change(&mut video);
        video
    };
    Clips {
        h264: make("h264.mp4", basic.clone()),
        h265: make("h265.mp4", with(&h265)),
        other_size: make("size.mp4", with(&|v| (v.width, v.height) = (320, 240))),
        with_audio: make("audio.mp4", with(&|v| v.audio = true)),
        b_frames: make("b.mp4", with(&|v| v.b_frames = 2)),
        mpeg4: make("mpeg4.mp4", with(&|v| v.encoder = "mpeg4".into())),
        heavy: make("heavy.mp4", with(&heavy)),
        _dir: dir,
    }
}

/// With IDR frames only: x265 makes the others CRA, which retina does not call random access points.
fn h265(video: &mut TestVideo) {
    video.encoder = "libx265".into();
    let parameters = "open-gop=0:log-level=error:scenecut=0";
    video
        .options
        .push(("x265-params".into(), parameters.into()));
}

fn heavy(video: &mut TestVideo) {
    (video.width, video.height) = (1280, 720);
    (video.frames, video.fps, video.gop) = (4, 200, 1);
    video.options.push(("qp".into(), "0".into()));
}

/// One camera `cam0` that serves `file` from the latest key frame on.
pub(crate) fn config(file: &std::path::Path) -> Config {
    let mut config = Config::new([CameraConfig::new("cam0", file)]);
    config.start_at = StartAt::LatestKeyFrame;
    config
}

pub(crate) fn start(config: Config) -> (Simulator, String) {
    let simulator = Simulator::start(config).unwrap();
    let url = simulator.url("cam0").unwrap();
    (simulator, url)
}

/// Runs `test` on a runtime of its own and gives up on it after [`PATIENCE`].
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, test)
            .await
            .expect("test took too long")
    })
}

pub(crate) fn tcp() -> Transport {
    Transport::Tcp(Default::default())
}

pub(crate) fn udp() -> Transport {
    Transport::Udp(Default::default())
}

/// What a client got.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    Video {
        ticks: i64,
        md5: String,
        key: bool,
        loss: u16,
        size: (u32, u32),
    },
    Audio {
        ticks: i64,
        data: Vec<u8>,
    },
    /// NTP seconds since 1900, and the RTP clock less the session's start.
    Report {
        stream: usize,
        ntp: f64,
        seconds: f64,
    },
}

/// A playing retina session.
pub(crate) struct Client {
    demuxed: retina::client::Demuxed,
    codec: VideoCodec,
}

impl Client {
    /// Sets up all streams that retina knows and plays.
    pub(crate) async fn open(
        url: &str,
        transport: Transport,
        login: Option<(&str, &str)>,
    ) -> Result<Self, retina::Error> {
        let creds = login.map(|(user, password)| Credentials {
            username: user.into(),
            password: password.into(),
        });
        let options = SessionOptions::default().creds(creds);
        let mut session = Session::describe(url.parse().unwrap(), options).await?;
        let mut codec = VideoCodec::H264;
        for i in 0..session.streams().len() {
            if session.streams()[i].encoding_name() == "h265" {
                codec = VideoCodec::H265;
            }
            let options = SetupOptions::default()
                .transport(transport.clone())
                .frame_format(FrameFormat::MP4);
            session.setup(i, options).await?;
        }
        let demuxed = session.play(PlayOptions::default()).await?.demuxed()?;
        Ok(Self { demuxed, codec })
    }

    /// The next frame or report; `None` or an error at the end.
    pub(crate) async fn next(&mut self) -> Option<Result<Item, retina::Error>> {
        loop {
            let item = match self.demuxed.next().await? {
                Ok(item) => item,
                Err(error) => return Some(Err(error)),
            };
            if let Some(item) = self.convert(item) {
                return Some(Ok(item));
            }
        }
    }

    fn convert(&self, item: CodecItem) -> Option<Item> {
        match item {
            CodecItem::VideoFrame(frame) => {
                let parameters = self.demuxed.streams()[frame.stream_id()].parameters();
                let size = match parameters {
                    Some(retina::codec::ParametersRef::Video(v)) => v.pixel_dimensions(),
                    _ => (0, 0),
                };
                Some(Item::Video {
                    ticks: frame.timestamp().timestamp(),
                    md5: slices_md5(self.codec, nals(frame.data())),
                    key: frame.is_random_access_point(),
                    loss: frame.loss(),
                    size,
                })
            }
            CodecItem::AudioFrame(frame) => Some(Item::Audio {
                ticks: frame.timestamp().timestamp(),
                data: frame.data().to_vec(),
            }),
            CodecItem::Rtcp(packet) => {
                let report = packet
                    .pkts()
                    .find_map(|p| p.as_sender_report().ok().flatten())?;
                Some(Item::Report {
                    stream: packet.stream_id(),
                    ntp: report.ntp_timestamp().0 as f64 / f64::from(u32::MAX),
                    seconds: packet.rtp_timestamp()?.elapsed_secs(),
                })
            }
            _ => None,
        }
    }

    /// The next `count` video frames, whatever comes between.
    pub(crate) async fn frames(&mut self, count: usize) -> Vec<Item> {
        let mut frames = Vec::new();
        while frames.len() < count {
            let item = self
                .next()
                .await
                .expect("stream ended")
                .expect("stream failed");
            if matches!(item, Item::Video { .. }) {
                frames.push(item);
            }
        }
        frames
    }

    /// Reads until the stream ends or fails, and says how.
    pub(crate) async fn until_end(&mut self) -> String {
        loop {
            match self.next().await {
                None => return "end".into(),
                Some(Err(error)) => return error.to_string(),
                Some(Ok(_)) => {}
            }
        }
    }
}

/// The NAL units of a length-prefixed frame.
fn nals(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<4>()?;
        let (nal, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        data = rest;
        Some(nal)
    })
}

/// The camera's video units from the one with `md5` that was sent last before `count` more on.
pub(crate) fn sent_from(simulator: &Simulator, first: &Item, count: usize) -> Vec<SentUnit> {
    let Item::Video { md5, .. } = first else {
        panic!("not a video frame");
    };
    let sent: Vec<_> = simulator
        .sent("cam0")
        .into_iter()
        .filter(|u| u.track == 0)
        .collect();
    let starts = (0..sent.len()).rev().filter(|i| sent[*i].vcl_md5 == *md5);
    let start = starts
        .into_iter()
        .find(|i| i + count <= sent.len())
        .expect("the first frame was sent");
    sent[start..start + count].to_vec()
}
