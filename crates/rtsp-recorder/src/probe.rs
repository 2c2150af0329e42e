//! `rtsp-recorder probe`: opens every source as a recording would, looks at it for some seconds and says what it is.
//!
//! Nothing is written anywhere. All sources are looked at at the same time, so that fifty take no longer than one, and
//! each ends after its own time whatever the camera does.

use crate::backoff::Failure;
use crate::frame::VideoFrame;
use crate::input::{Media, SessionError, Stamps};
use crate::nal::{self, Coding, Entry};
use crate::opener::Opener;
use media::VideoTrack;
use serde_json::{Value, json};
use settings::{RecorderSettings, Source, VideoCodec};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// With this many distances of key frames seen there is nothing more to learn about them.
const ENOUGH_KEY_DISTANCES: usize = 2;

/// A rate taken over less than this says little.
const SHORTEST_LOOK: Duration = Duration::from_secs(3);

/// What became of looking at one source.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Name of the source.
    pub name: String,
    /// Its address, without credentials.
    pub address: String,
    /// Why there is nothing to see, or less than a recording needs.
    pub trouble: Option<Trouble>,
    /// The video, once it came.
    pub video: Option<Seen>,
    /// Encoder that the settings want for this source and this FFmpeg does not have.
    pub missing_encoder: Option<String>,
}

/// What is wrong with a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// Which kind.
    pub kind: TroubleKind,
    /// In words, without credentials.
    pub message: String,
}

/// Kinds of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// No connection, or it broke.
    Away,
    /// Name and password, or access, refused.
    Refused,
    /// Connected, and no frame came.
    Silent,
    /// Frames came, but none that decoding can start with.
    NoKeyFrame,
}

impl TroubleKind {
    fn word(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::NoKeyFrame => "no_key_frame",
        }
    }
}

/// The video as it came.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// FFmpeg's short name of the codec.
    pub codec: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames per second that the stream declares.
    pub declared_fps: Option<f64>,
    /// Frames per second by the times of the frames that came.
    pub fps: Option<f64>,
    /// Bits per second.
    pub bitrate: Option<u64>,
    /// Longest distance of two key frames that was seen.
    pub key_frame_seconds: Option<f64>,
    /// How long was looked, from the first frame.
    pub looked_seconds: f64,
    /// RTP packets that were lost.
    pub packets_lost: u64,
}

/// Looks at every source for at most `look`, connecting included.
pub async fn probe(settings: &RecorderSettings, stamps: &Stamps, look: Duration) -> Vec<Probe> {
    let tasks: Vec<_> = settings
        .sources
        .iter()
        .map(|source| tokio::spawn(probe_one(source.clone(), stamps.clone(), look)))
        .collect();
    let mut probes = Vec::new();
    for (task, source) in tasks.into_iter().zip(&settings.sources) {
        probes.push(task.await.unwrap_or_else(|error| {
            let mut probe = Probe::of(source);
            probe.trouble = trouble(TroubleKind::Away, error.to_string());
            probe
        }));
    }
    probes
}

async fn probe_one(source: Source, stamps: Stamps, look: Duration) -> Probe {
    let mut probe = Probe::of(&source);
    let end = Instant::now() + look;
    // What the camera sends is of interest, not what would be made of it.
    let source = Arc::new(Source {
        video_codec: VideoCodec::Copy,
        ..source
    });
    let mut opener = Opener::new(source, stamps.clone());
    let mut result = watch(&opener, &stamps, look, end).await;
    // Packets that cannot be read are no matter of chance only the third time.
    while let Err(error) = &result
        && (opener.another_way(error).is_some() || error.unreadable)
    {
        result = watch(&opener, &stamps, look, end).await;
    }
    opener.close().await;
    match result {
        Ok((video, trouble)) => (probe.video, probe.trouble) = (video, trouble),
        Err(error) => {
            let kind = match error.failure {
                Failure::Refused => TroubleKind::Refused,
                Failure::Away => TroubleKind::Away,
            };
            probe.trouble = trouble(kind, error.message);
        }
    }
    probe
}

fn trouble(kind: TroubleKind, message: String) -> Option<Trouble> {
    let message = daemon::redact::text(&message).to_string();
    Some(Trouble { kind, message })
}

async fn watch(
    opener: &Opener,
    stamps: &Stamps,
    look: Duration,
    end: Instant,
) -> Result<(Option<Seen>, Option<Trouble>), SessionError> {
    let limit = opener.limit().min(look);
    let opened = timeout(limit, opener.open()).await;
    let mut input = opened.unwrap_or_else(|_| {
        let message = format!("no answer within {:.1} s", limit.as_secs_f64());
        Err(SessionError::new(Failure::Away, message))
    })?;
    let mut meter = Meter::default();
    while !meter.has_enough() {
        match timeout_at(end, input.next(stamps)).await {
            Ok(Ok(Media::Video(frame))) => meter.take(&frame),
            Ok(Ok(Media::LeftOut(_))) => meter.left_out += 1,
            Ok(Ok(Media::Audio(_))) => {}
            // A file has been seen as a whole.
            Ok(Ok(Media::NextRound(_))) if meter.frames > 0 => break,
            Ok(Ok(Media::NextRound(_))) => {}
            Ok(Err(_)) if meter.frames > 1 => break,
            Ok(Err(error)) => return Err(error),
            Err(_) => break,
        }
    }
    let seconds = look.as_secs_f64();
    let trouble = match (meter.frames + meter.left_out, meter.keys) {
        (0, _) => trouble(
            TroubleKind::Silent,
            format!("connected, but no video within {seconds} s"),
        ),
        (_, 0) => trouble(
            TroubleKind::NoKeyFrame,
            format!("no key frame within {seconds} s"),
        ),
        _ => None,
    };
    Ok((meter.seen(), trouble))
}

/// Counts what comes.
#[derive(Default)]
struct Meter {
    coding: Option<Coding>,
    video: Option<VideoTrack>,
    frames: u64,
    bytes: u64,
    keys: u64,
    lost: u64,
    /// Frames of which nothing would be recorded.
    left_out: u64,
    earliest: i64,
    latest: i64,
    last_key: Option<i64>,
    key_distances: Vec<i64>,
}

impl Meter {
    fn take(&mut self, frame: &VideoFrame) {
        if let Some(params) = &frame.params {
            self.coding = Some(params.coding);
            self.video = Some(params.video.clone());
        }
        let time = frame.raw_90k;
        if self.frames == 0 {
            (self.earliest, self.latest) = (time, time);
        }
        self.lost += u64::from(frame.packets_lost);
        self.earliest = self.earliest.min(time);
        self.latest = self.latest.max(time);
        self.frames += 1;
        self.bytes += frame.data.len() as u64;
        let coding = self.coding.unwrap_or(Coding::Other);
        if nal::entry(coding, &frame.data, frame.key) != Entry::None {
            self.keys += 1;
            self.key_distances
                .extend(self.last_key.map(|last| time - last));
            self.last_key = Some(time);
        }
    }

    /// Media time from the first to the last frame.
    fn seconds(&self) -> f64 {
        (self.latest - self.earliest) as f64 / 90_000.0
    }

    fn has_enough(&self) -> bool {
        self.key_distances.len() >= ENOUGH_KEY_DISTANCES
            && self.seconds() >= SHORTEST_LOOK.as_secs_f64()
    }

    fn seen(self) -> Option<Seen> {
        let seconds = self.seconds();
        let measured = seconds > 0.5;
        // The last frame's own time is not in `seconds`.
        let fps = measured.then(|| (self.frames - 1) as f64 / seconds);
        let longest = self.key_distances.iter().max();
        let video = self.video?;
        Some(Seen {
            codec: video.codec.name(),
            width: video.width,
            height: video.height,
            declared_fps: video.average_fps.map(media::Rational::as_f64),
            fps,
            bitrate: fps.map(|fps| (self.bytes as f64 * 8.0 / self.frames as f64 * fps) as u64),
            key_frame_seconds: longest.map(|ticks| *ticks as f64 / 90_000.0),
            looked_seconds: seconds,
            packets_lost: self.lost,
        })
    }
}

/// The encoder that the source is to be encoded with, if this FFmpeg has none of that name.
pub fn missing_encoder(source: &Source) -> Option<&str> {
    match &source.video_codec {
        VideoCodec::Encoder(name) if !media::encode::is_available(name) => Some(name),
        _ => None,
    }
}

impl Probe {
    fn of(source: &Source) -> Self {
        Probe {
            name: source.name.to_string(),
            address: source.url.without_credentials(),
            trouble: None,
            video: None,
            missing_encoder: missing_encoder(source).map(str::to_owned),
        }
    }

    /// False when it could not be recorded.
    pub fn is_good(&self) -> bool {
        self.trouble.is_none() && self.missing_encoder.is_none()
    }

    /// For programs; `run-system --validate` reads it.
    pub fn json(&self) -> Value {
        let video = self.video.as_ref().map(|seen| {
            json!({
                "codec": seen.codec,
                "width": seen.width,
                "height": seen.height,
                "declared_fps": seen.declared_fps,
                "fps": seen.fps,
                "bitrate": seen.bitrate,
                "key_frame_seconds": seen.key_frame_seconds,
                "looked_seconds": seen.looked_seconds,
                "packets_lost": seen.packets_lost,
            })
        });
        json!({
            "name": self.name,
            "address": self.address,
            "trouble": self.trouble.as_ref().map(|trouble| trouble.kind.word()),
            "message": self.trouble.as_ref().map(|trouble| &trouble.message),
            "missing_encoder": self.missing_encoder,
            "video": video,
        })
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let mut line = format!("{}: ", self.name);
        if let Some(seen) = &self.video {
            let number = |value: Option<f64>| value.map_or("?".to_owned(), |v| format!("{v:.1}"));
            let bitrate = seen.bitrate.map(|bits| bits as f64 / 1e6);
            write!(
                line,
                "{} {}x{}, {} fps (declares {}), {} Mbit/s, key frame every {} s, {} packets lost",
                seen.codec,
                seen.width,
                seen.height,
                number(seen.fps),
                number(seen.declared_fps),
                number(bitrate),
                number(seen.key_frame_seconds),
                seen.packets_lost
            )
            .ok();
        }
        if let Some(trouble) = &self.trouble {
            let gap = if self.video.is_some() { "; " } else { "" };
            write!(line, "{gap}{}", trouble.message).ok();
        }
        if let Some(encoder) = &self.missing_encoder {
            write!(line, "; this FFmpeg has no encoder {encoder}").ok();
        }
        line
    }
}
