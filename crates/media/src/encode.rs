//! Compressed frames out of pictures.

use std::collections::{BTreeMap, VecDeque};

use ffmpeg_next::ffi;

use crate::error::MediaError;
use crate::ff::codec::{self, Answer, Codec, set_threads};
use crate::ff::{int, output, pixels};
use crate::frame::{FieldOrder, Frame};
use crate::h26x;
use crate::packet::Packet;
use crate::scale::{Quality, Scaler};
use crate::track::{ColourRange, ColourTags, PixelFormat, Rational, VideoCodec, VideoTrack};

/// FFmpeg's `FF_QP2LAMBDA`.
const LAMBDA: i32 = 118;

/// How many bits to spend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// The encoder's own default.
    Default,
    /// Bits per second on average.
    Bitrate(u64),
    /// Constant quality of x264, x265 and their like (0 best .. 51).
    Crf(f32),
    /// Constant quantiser of MJPEG and MPEG-4 (1 best .. 31).
    Quantiser(u8),
}

/// What to encode and how. Start from [`EncoderSettings::new`].
#[derive(Clone, Debug)]
pub struct EncoderSettings {
    /// FFmpeg's name of the encoder, such as `libx264`.
    pub encoder: String,
    /// Picture width in pixels.
    pub width: u32,
    /// Picture height in pixels.
    pub height: u32,
    /// Pixel format to encode. If the encoder cannot take it (or the size is odd, see [`Encoder`]) the
    /// nearest one is used instead and frames are converted.
    pub pixel_format: PixelFormat,
    /// Seconds per tick of the frames' times.
    pub time_base: Rational,
    /// Frames per second, as a hint for rate control and headers.
    pub fps: Option<Rational>,
    /// How many bits to spend.
    pub rate: Rate,
    /// Upper limit in bits per second over about two seconds (x264's VBV).
    pub max_bitrate: Option<u64>,
    /// Bits that may be spent at once after a time in which less than `max_bitrate` was; two seconds of that at least.
    pub max_burst: u64,
    /// Longest distance between key frames, in frames.
    pub gop: Option<u32>,
    /// Most B-frames in a row.
    pub b_frames: u32,
    /// The encoder's `preset`, if any.
    pub preset: Option<String>,
    /// Threads; 0 lets FFmpeg decide.
    pub threads: u32,
    /// Further options by FFmpeg's name, such as `("x264-params", "sps-id=1")`.
    pub options: Vec<(String, String)>,
    /// Colour tags to write.
    pub colour: ColourTags,
    /// Width to height of one pixel.
    pub sample_aspect_ratio: Option<Rational>,
    /// Encode as interlaced, with this field first unless a frame says otherwise; only libx264 does, and only where each
    /// field has whole rows of chroma. Else pictures are encoded as they are.
    pub fields: Option<FieldOrder>,
}

impl EncoderSettings {
    /// Settings for an encoder by name: I420, one thread, no B-frames, everything else its default.
    pub fn new(encoder: impl Into<String>, width: u32, height: u32, time_base: Rational) -> Self {
        Self {
            encoder: encoder.into(),
            width,
            height,
            pixel_format: PixelFormat::I420,
            time_base,
            fps: None,
            rate: Rate::Default,
            max_bitrate: None,
            max_burst: 0,
            gop: None,
            b_frames: 0,
            preset: None,
            threads: 1,
            options: Vec::new(),
            colour: ColourTags::default(),
            sample_aspect_ratio: None,
            fields: None,
        }
    }

    /// Settings that keep a track's size, time base, fps, colour and pixel shape.
    pub fn like(encoder: impl Into<String>, track: &VideoTrack) -> Self {
        Self {
            pixel_format: track.pixel_format.unwrap_or(PixelFormat::I420).eight_bit(),
            fps: track.average_fps,
            colour: track.colour,
            sample_aspect_ratio: track.sample_aspect_ratio,
            ..Self::new(encoder, track.width, track.height, track.time_base)
        }
    }
}

/// Whether this frame must become a key frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// The encoder decides.
    Auto,
    /// It must (an IDR frame for H.264 and H.265).
    Forced,
}

/// A video encoder. `Send`; one thread at a time.
///
/// H.264 and H.265 come out as MP4 stores them: 4-byte lengths before each NAL unit, parameter sets only in
/// the extradata (avcC, hvcC), no user data SEI. Times are the frames', exactly, VFR included. For MPEG-4,
/// whose clock is coarse, B-frames are switched off for that.
///
/// Odd sizes: 4:2:0 video cannot be cropped to an odd size in H.264 and H.265 (the crop counts chroma
/// samples), so such video is encoded as 4:4:4, which keeps the size exactly.
pub struct Encoder {
    codec: Codec,
    settings: EncoderSettings,
    kind: VideoCodec,
    format: PixelFormat,
    convert: Option<Scaler>,
    times: Times,
    track: VideoTrack,
}

/// How the encoder's times map to the frames'.
enum Times {
    /// The same; only durations are remembered, by pts.
    Same(BTreeMap<i64, i64>),
    /// The encoder counts frames, in order; times are put back afterwards.
    Counted {
        sent: i64,
        waiting: VecDeque<(i64, i64)>,
    },
}

impl Encoder {
    /// Opens an encoder.
    ///
    /// # Errors
    /// [`MediaError::EncoderMissing`], naming those that are there; [`MediaError::InvalidOption`] for
    /// a misspelt option, a `preset` or `crf` this encoder does not have, or a size it refuses.
    pub fn open(settings: EncoderSettings) -> Result<Self, MediaError> {
        let mut codec = Codec::encoder(&settings.encoder)?;
        let kind = VideoCodec::from_id(codec.codec().id);
        let format = choose_format(&codec, &settings, kind);
        let counted = kind == VideoCodec::Mpeg4;
        configure(&mut codec, &settings, format, counted);
        let options = options_of(&codec, &settings)?;
        codec.open(&options)?;
        let times = if counted {
            Times::Counted {
                sent: 0,
                waiting: VecDeque::new(),
            }
        } else {
            Times::Same(BTreeMap::new())
        };
        let track = track_of(&codec, &settings, kind, format)?;
        Ok(Self {
            codec,
            settings,
            kind,
            format,
            convert: None,
            times,
            track,
        })
    }

    /// What comes out, for a [`FileWriter`](crate::FileWriter).
    pub fn track(&self) -> &VideoTrack {
        &self.track
    }

    /// Encodes one frame; finished packets are appended to `packets` (some encoders hold frames back).
    /// The frame must have a pts in the settings' time base, later than the one before.
    ///
    /// # Errors
    /// [`MediaError::Codec`] from the encoder, and for a frame without pts.
    pub fn encode(
        &mut self,
        frame: &Frame,
        key: Key,
        packets: &mut Vec<Packet>,
    ) -> Result<(), MediaError> {
        let mut input = self.converted(frame)?;
        let pts = frame.pts().ok_or_else(|| MediaError::Codec {
            what: "encode".into(),
            reason: "a frame without a time".into(),
            detail: String::new(),
        })?;
        input.set_pts(Some(self.times.sent(pts, frame.duration())));
        prepare_input(&mut input, key, self.format);
        while !self.codec.send_frame(Some(&input))? {
            self.collect(packets)?;
        }
        self.collect(packets)
    }

    /// Encodes what is held back. Nothing can be encoded afterwards.
    ///
    /// # Errors
    /// [`MediaError::Codec`] from the encoder.
    pub fn finish(&mut self, packets: &mut Vec<Packet>) -> Result<(), MediaError> {
        while !self.codec.send_frame(None)? {
            self.collect(packets)?;
        }
        self.collect(packets)
    }

    fn converted(&mut self, frame: &Frame) -> Result<Frame, MediaError> {
        let wanted = (self.settings.width, self.settings.height);
        let (plain, range) = pixels::without_range(self.format.0);
        let needs_full = range == ColourRange::Full && frame.colour().range != ColourRange::Full;
        if (frame.width(), frame.height(), frame.format()) == (wanted.0, wanted.1, plain)
            && !needs_full
        {
            return Ok(frame.clone());
        }
        let scaler = self.convert.get_or_insert_with(|| {
            let scaler = Scaler::new(wanted.0, wanted.1, plain, Quality::Bicubic);
            if range == ColourRange::Full {
                scaler.with_range(range)
            } else {
                scaler
            }
        });
        scaler.scale(frame)
    }

    fn collect(&mut self, packets: &mut Vec<Packet>) -> Result<(), MediaError> {
        while let Answer::Here(mut packet) = self.codec.receive_packet()? {
            packet.set_time_base(self.settings.time_base);
            packet.set_track(0);
            self.times.restore(&mut packet);
            if let Some(stored) = h26x::to_stored(self.kind, packet.data()) {
                packet.replace_data(&stored)?;
            }
            packets.push(packet);
        }
        Ok(())
    }
}

impl Times {
    fn sent(&mut self, pts: i64, duration: i64) -> i64 {
        match self {
            Self::Same(durations) => {
                durations.insert(pts, duration);
                pts
            }
            Self::Counted { sent, waiting } => {
                waiting.push_back((pts, duration));
                *sent += 1;
                *sent - 1
            }
        }
    }

    fn restore(&mut self, packet: &mut Packet) {
        match self {
            Self::Same(durations) => {
                let duration = packet
                    .pts()
                    .and_then(|pts| durations.remove(&pts))
                    .unwrap_or(0);
                packet.set_times(packet.pts(), packet.dts(), duration);
            }
            Self::Counted { waiting, .. } => {
                if let Some((pts, duration)) = waiting.pop_front() {
                    packet.set_times(Some(pts), Some(pts), duration);
                }
            }
        }
    }
}

/// The names of all video encoders in the installed FFmpeg, sorted.
pub fn available_encoders() -> Vec<String> {
    codec::video_encoders()
}

/// Whether the installed FFmpeg has this video encoder.
pub fn is_available(encoder: &str) -> bool {
    Codec::encoder(encoder).is_ok()
}

/// Whether an MP4 file can hold what this encoder makes. One that is missing is told when it is opened.
///
/// # Errors
/// [`MediaError::Unsupported`] where it cannot.
pub fn require_mp4(encoder: &str) -> Result<(), MediaError> {
    if !is_available(encoder) || output::holds("mp4", codec::codec_id(encoder)) {
        return Ok(());
    }
    let what = format!("video of the encoder {encoder} in an MP4 file");
    Err(MediaError::unsupported(what, ""))
}

/// Whether an encoder has a private option of this name, such as `preset` or `crf`.
pub fn has_option(encoder: &str, option: &str) -> bool {
    Codec::encoder(encoder).is_ok_and(|codec| codec.has_option(option))
}

fn choose_format(codec: &Codec, settings: &EncoderSettings, kind: VideoCodec) -> PixelFormat {
    let odd = settings.width % 2 == 1 || settings.height % 2 == 1;
    let subsampled = settings.pixel_format.chroma_shift() != (0, 0);
    let wanted = if odd && subsampled && matches!(kind, VideoCodec::H264 | VideoCodec::H265) {
        PixelFormat::I444
    } else {
        settings.pixel_format
    };
    let accepted = codec.pixel_formats();
    // MJPEG takes the plain formats only "unofficially": full range is what it means.
    let twin = pixels::full_range_twin(wanted).filter(|_| kind == VideoCodec::Mjpeg);
    let candidates = [twin, Some(wanted)];
    let found = candidates
        .into_iter()
        .flatten()
        .find(|f| accepted.is_empty() || accepted.contains(f));
    found
        .or_else(|| accepted.first().copied())
        .unwrap_or(wanted)
}

fn configure(codec: &mut Codec, settings: &EncoderSettings, format: PixelFormat, counted: bool) {
    let fps = settings.fps.filter(|f| f.is_set());
    set_threads(codec, settings.threads);
    codec.set_pixel_format(format);
    codec.set_colour(settings.colour);
    let raw = codec.raw_mut();
    raw.width = int(settings.width);
    raw.height = int(settings.height);
    raw.time_base = if counted {
        counting_base(fps)
    } else {
        settings.time_base
    }
    .into();
    raw.framerate = fps.unwrap_or(Rational::new(0, 1)).into();
    raw.sample_aspect_ratio = settings
        .sample_aspect_ratio
        .unwrap_or(Rational::new(0, 1))
        .into();
    raw.max_b_frames = if counted { 0 } else { int(settings.b_frames) };
    // Bit-exact also means: without FFmpeg's name and version in the data.
    raw.flags |= (ffi::AV_CODEC_FLAG_GLOBAL_HEADER | ffi::AV_CODEC_FLAG_BITEXACT) as i32;
    // x264 takes a field for a picture of its own: 4:2:0 ones of 486 lines it refuses.
    let fields_rows = 2 << format.chroma_shift().1;
    let has_fields = settings.encoder == "libx264" && settings.height.is_multiple_of(fields_rows);
    if let Some(first) = settings.fields.filter(|_| has_fields) {
        raw.flags |= ffi::AV_CODEC_FLAG_INTERLACED_DCT as i32;
        raw.field_order = match first {
            FieldOrder::TopFirst => ffi::AVFieldOrder::AV_FIELD_TT,
            FieldOrder::BottomFirst => ffi::AVFieldOrder::AV_FIELD_BB,
        };
    }
    if let Some(gop) = settings.gop {
        raw.gop_size = int(gop);
    }
    match settings.rate {
        Rate::Bitrate(bits) => raw.bit_rate = i64::try_from(bits).unwrap_or(i64::MAX),
        Rate::Quantiser(q) => {
            raw.flags |= ffi::AV_CODEC_FLAG_QSCALE as i32;
            raw.global_quality = i32::from(q) * LAMBDA;
        }
        Rate::Default | Rate::Crf(_) => {}
    }
    if let Some(bits) = settings.max_bitrate {
        raw.rc_max_rate = i64::try_from(bits).unwrap_or(i64::MAX);
        raw.rc_buffer_size = int(bits.saturating_mul(2).max(settings.max_burst));
    }
}

/// One tick per frame, within what MPEG-4 can say.
fn counting_base(fps: Option<Rational>) -> Rational {
    fps.filter(|f| f.num <= 65_535)
        .map_or(Rational::new(1, 25), Rational::inverse)
}

fn options_of(
    codec: &Codec,
    settings: &EncoderSettings,
) -> Result<Vec<(String, String)>, MediaError> {
    let mut options = settings.options.clone();
    let mut named = Vec::new();
    if let Some(preset) = &settings.preset {
        named.push(("preset", preset.clone()));
    }
    if let Rate::Crf(crf) = settings.rate {
        named.push(("crf", crf.to_string()));
    }
    for (name, value) in named {
        if !codec.has_option(name) {
            let what = format!("open {} encoder", settings.encoder);
            let detail = "this encoder has no such option".to_owned();
            return Err(MediaError::InvalidOption {
                what,
                option: format!("{name}={value}"),
                detail,
            });
        }
        options.push((name.to_owned(), value));
    }
    if codec.has_option("forced-idr") && !options.iter().any(|(name, _)| name == "forced-idr") {
        options.push(("forced-idr".into(), "1".into()));
    }
    Ok(options)
}

/// Times and pictures as they are; the kind of the source's frame must not decide the new one's.
fn prepare_input(input: &mut Frame, key: Key, format: PixelFormat) {
    let raw = input.as_mut_ptr();
    // SAFETY: a live frame that only we hold the header of (pixels may be shared; they are not touched).
    unsafe {
        (*raw).format = format.0;
        (*raw).key_frame = i32::from(key == Key::Forced);
        (*raw).pict_type = match key {
            Key::Forced => ffi::AVPictureType::AV_PICTURE_TYPE_I,
            Key::Auto => ffi::AVPictureType::AV_PICTURE_TYPE_NONE,
        };
    }
}

fn track_of(
    codec: &Codec,
    settings: &EncoderSettings,
    kind: VideoCodec,
    format: PixelFormat,
) -> Result<VideoTrack, MediaError> {
    let raw = codec.raw();
    let (plain, range) = pixels::without_range(format.0);
    let mut track = VideoTrack::new(kind, settings.width, settings.height, settings.time_base);
    track.extradata = h26x::to_stored_extradata(kind, &codec.extradata())?;
    track.average_fps = settings.fps;
    track.sample_aspect_ratio = settings.sample_aspect_ratio;
    track.colour = settings.colour;
    if range == ColourRange::Full {
        track.colour.range = range;
    }
    track.pixel_format = Some(plain);
    track.profile = (raw.profile >= 0).then_some(raw.profile);
    track.level = (raw.level >= 0).then_some(raw.level);
    track.bit_rate = u64::try_from(raw.bit_rate).ok().filter(|b| *b > 0);
    track.reorder_delay = u32::try_from(raw.has_b_frames).unwrap_or(0);
    Ok(track)
}
