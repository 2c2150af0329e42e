//! Encoding a clip anew: another codec, size, frame rate or key frame distance. Without B-frames, as cameras do.

use crate::clip::RawClip;
use crate::load::{LoadOptions, Problem, raw_packet};
use crate::nal::VideoCodec;
use media::encode::Key;
use media::{
    Decoder, DecoderOptions, Encoder, EncoderSettings, Frame, MediaError, Packet, PixelFormat,
    Quality, Rate, Rational, Scaler, VideoTrack,
};

/// Seconds between key frames unless the options say otherwise.
const KEY_SECONDS: f64 = 2.0;
/// Frames per second assumed where neither the file nor the options say.
const FALLBACK_FPS: f64 = 25.0;

/// Decodes `packets` of `track` and encodes them as `options` wants.
pub(crate) fn encode(
    track: &VideoTrack,
    packets: &[Packet],
    codec: VideoCodec,
    options: &LoadOptions,
) -> Result<RawClip, Problem> {
    let mut decoder = Decoder::new(
        track,
        &DecoderOptions {
            threads: 0,
            ..DecoderOptions::default()
        },
    )?;
    let mut sink = Sink::open(track, codec, options)?;
    let mut frames = Vec::new();
    for packet in packets.iter().map(Some).chain([None]) {
        match decoder.decode(packet, &mut frames) {
            Err(error) if error.is_damaged() => tracing::warn!(%error, "damaged frame left out"),
            other => other?,
        }
        for frame in frames.drain(..) {
            sink.take(frame)?;
        }
    }
    sink.finish(codec)
}

/// Scaling, frame rate and the encoder, in this order.
struct Sink {
    scaler: Scaler,
    encoder: Encoder,
    time_base: Rational,
    /// Ticks per frame when the rate is made constant.
    step: Option<f64>,
    gop: u64,
    /// The frame that may have to be repeated, with its time.
    previous: Option<Frame>,
    first_pts: Option<i64>,
    encoded: u64,
    packets: Vec<Packet>,
}

impl Sink {
    fn open(
        track: &VideoTrack,
        codec: VideoCodec,
        options: &LoadOptions,
    ) -> Result<Self, MediaError> {
        let (width, height) = options
            .size
            .unwrap_or((track.width & !1, track.height & !1));
        let source_fps = track
            .average_fps
            .map(Rational::as_f64)
            .filter(|f| f.is_finite() && *f > 0.0);
        let fps = options.fps.or(source_fps).unwrap_or(FALLBACK_FPS);
        let gop = options
            .gop
            .unwrap_or((fps * KEY_SECONDS).round() as u32)
            .max(1);
        // Fine enough for any frame rate to come out exact in RTP's clock.
        let time_base = Rational::MPEG;
        let settings = settings(codec, (width, height), time_base, fps, gop);
        let quality = if width > track.width {
            Quality::Bicubic
        } else {
            Quality::Area
        };
        Ok(Self {
            scaler: Scaler::new(width, height, PixelFormat::I420, quality),
            encoder: Encoder::open(settings)?,
            time_base,
            step: options.fps.map(|fps| f64::from(time_base.den) / fps),
            gop: u64::from(gop),
            previous: None,
            first_pts: None,
            encoded: 0,
            packets: Vec::new(),
        })
    }

    fn take(&mut self, frame: Frame) -> Result<(), MediaError> {
        let Some(source_pts) = frame.pts() else {
            return Ok(());
        };
        let mut scaled = self.scaler.scale(&frame)?;
        let pts = frame.time_base().rescale(source_pts, self.time_base);
        let pts = pts - *self.first_pts.get_or_insert(pts);
        scaled.set_time_base(self.time_base);
        scaled.set_pts(Some(pts));
        scaled.set_duration(frame.time_base().rescale(frame.duration(), self.time_base));
        if self.step.is_none() {
            return self.encode(&scaled);
        }
        self.repeat_until(pts)?;
        self.previous = Some(scaled);
        Ok(())
    }

    /// Encodes the previous frame for every place on the constant grid that lies before `pts`.
    fn repeat_until(&mut self, pts: i64) -> Result<(), MediaError> {
        let Some(step) = self.step else { return Ok(()) };
        let Some(mut frame) = self.previous.take() else {
            return Ok(());
        };
        loop {
            let place = (self.encoded as f64 * step).round() as i64;
            // Half a tick of the coarsest usual clock, so that equal rates stay one to one.
            if place + (step / 4.0) as i64 >= pts {
                return Ok(());
            }
            frame.set_pts(Some(place));
            frame.set_duration(step.round() as i64);
            self.encode(&frame)?;
        }
    }

    fn encode(&mut self, frame: &Frame) -> Result<(), MediaError> {
        let key = if self.encoded.is_multiple_of(self.gop) {
            Key::Forced
        } else {
            Key::Auto
        };
        self.encoded += 1;
        self.encoder.encode(frame, key, &mut self.packets)
    }

    fn finish(mut self, codec: VideoCodec) -> Result<RawClip, Problem> {
        if let Some(last) = &self.previous {
            let end = last.pts().unwrap_or_default()
                + last.duration().max(self.step.unwrap_or(1.0) as i64);
            self.repeat_until(end)?;
        }
        self.encoder.finish(&mut self.packets)?;
        let track = self.encoder.track();
        Ok(RawClip {
            codec,
            extradata: track.extradata.clone(),
            width: track.width,
            height: track.height,
            video: self
                .packets
                .iter()
                .map(|p| raw_packet(p, p.time_base()))
                .collect(),
            audio: None,
            sets_out_of_band: false,
        })
    }
}

/// Quick presets: a clip is encoded while somebody waits for the cameras to start.
fn settings(
    codec: VideoCodec,
    size: (u32, u32),
    time_base: Rational,
    fps: f64,
    gop: u32,
) -> EncoderSettings {
    let (encoder, preset, parameters) = match codec {
        VideoCodec::H264 => ("libx264", "superfast", ("x264-params", "scenecut=0")),
        VideoCodec::H265 => (
            "libx265",
            "ultrafast",
            ("x265-params", "scenecut=0:open-gop=0:log-level=error"),
        ),
    };
    let mut settings = EncoderSettings::new(encoder, size.0, size.1, time_base);
    settings.fps = Some(Rational::new((fps * 1000.0).round() as i32, 1000));
    settings.rate = Rate::Crf(23.0);
    settings.gop = Some(gop);
    settings.preset = Some(preset.to_owned());
    settings.threads = 0;
    settings.options = vec![(parameters.0.to_owned(), parameters.1.to_owned())];
    settings
}
