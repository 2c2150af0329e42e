//! What a track of a file or stream is: codec, geometry, colour, time base.
//!
//! Plain values: they come from a [`Reader`](crate::Reader) or an [`Encoder`](crate::Encoder), or are built
//! by hand for a stream received by other means (retina), and go into the writers and the decoder.

use std::fmt;

use ffmpeg_next::ffi;

use crate::ff;

/// A fraction. As a time base: seconds per tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rational {
    /// Numerator.
    pub num: i32,
    /// Denominator; never 0 in values this crate returns.
    pub den: i32,
}

impl Rational {
    /// RTP's and MPEG's clock: 1/90000 s.
    pub const MPEG: Self = Self {
        num: 1,
        den: 90_000,
    };
    /// 1/1000000 s, FFmpeg's own `AV_TIME_BASE`.
    pub const MICROSECONDS: Self = Self {
        num: 1,
        den: 1_000_000,
    };
    /// 1/1000000000 s.
    pub const NANOSECONDS: Self = Self {
        num: 1,
        den: 1_000_000_000,
    };

    /// `num / den`.
    pub const fn new(num: i32, den: i32) -> Self {
        Self { num, den }
    }

    /// The value as a float.
    pub fn as_f64(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }

    /// The fraction turned upside down.
    pub const fn inverse(self) -> Self {
        Self {
            num: self.den,
            den: self.num,
        }
    }

    /// `ticks` of this time base in ticks of `to`, rounded to the nearest, halves away from zero;
    /// exact in 128 bits, saturating at the ends of `i64`.
    pub fn rescale(self, ticks: i64, to: Self) -> i64 {
        let numerator = i128::from(ticks) * i128::from(self.num) * i128::from(to.den);
        let denominator = i128::from(self.den) * i128::from(to.num);
        if denominator == 0 {
            return ticks;
        }
        let (numerator, denominator) = if denominator < 0 {
            (-numerator, -denominator)
        } else {
            (numerator, denominator)
        };
        let half = denominator / 2;
        let rounded = if numerator >= 0 {
            (numerator + half) / denominator
        } else {
            (numerator - half) / denominator
        };
        rounded.clamp(i128::from(i64::MIN + 1), i128::from(i64::MAX)) as i64
    }

    /// `ticks` of this time base in seconds.
    pub fn seconds(self, ticks: i64) -> f64 {
        ticks as f64 * f64::from(self.num) / f64::from(self.den)
    }

    pub(crate) fn is_set(self) -> bool {
        self.num > 0 && self.den > 0
    }
}

impl fmt::Display for Rational {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

/// A video codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum VideoCodec {
    /// H.264 / AVC.
    H264,
    /// H.265 / HEVC.
    H265,
    /// Motion JPEG.
    Mjpeg,
    /// MPEG-4 part 2.
    Mpeg4,
    /// Any other codec FFmpeg knows; can be copied, and decoded if FFmpeg can.
    Other(OtherCodec),
}

/// An audio codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AudioCodec {
    /// AAC; the extradata is the AudioSpecificConfig.
    Aac,
    /// G.711 A-law. MP4 cannot hold it: see [`crate::audio`].
    PcmAlaw,
    /// G.711 µ-law. MP4 cannot hold it: see [`crate::audio`].
    PcmMulaw,
    /// Any other codec FFmpeg knows.
    Other(OtherCodec),
}

/// A codec without a name of its own here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OtherCodec(pub(crate) ffi::AVCodecID);

impl VideoCodec {
    /// FFmpeg's short name, such as `h264` or `hevc`.
    pub fn name(self) -> String {
        ff::params::codec_name(self.id())
    }

    pub(crate) fn id(self) -> ffi::AVCodecID {
        match self {
            Self::H264 => ffi::AVCodecID::AV_CODEC_ID_H264,
            Self::H265 => ffi::AVCodecID::AV_CODEC_ID_HEVC,
            Self::Mjpeg => ffi::AVCodecID::AV_CODEC_ID_MJPEG,
            Self::Mpeg4 => ffi::AVCodecID::AV_CODEC_ID_MPEG4,
            Self::Other(OtherCodec(id)) => id,
        }
    }

    pub(crate) fn from_id(id: ffi::AVCodecID) -> Self {
        match id {
            ffi::AVCodecID::AV_CODEC_ID_H264 => Self::H264,
            ffi::AVCodecID::AV_CODEC_ID_HEVC => Self::H265,
            ffi::AVCodecID::AV_CODEC_ID_MJPEG => Self::Mjpeg,
            ffi::AVCodecID::AV_CODEC_ID_MPEG4 => Self::Mpeg4,
            other => Self::Other(OtherCodec(other)),
        }
    }
}

impl AudioCodec {
    /// FFmpeg's short name, such as `aac`.
    pub fn name(self) -> String {
        ff::params::codec_name(self.id())
    }

    pub(crate) fn id(self) -> ffi::AVCodecID {
        match self {
            Self::Aac => ffi::AVCodecID::AV_CODEC_ID_AAC,
            Self::PcmAlaw => ffi::AVCodecID::AV_CODEC_ID_PCM_ALAW,
            Self::PcmMulaw => ffi::AVCodecID::AV_CODEC_ID_PCM_MULAW,
            Self::Other(OtherCodec(id)) => id,
        }
    }

    pub(crate) fn from_id(id: ffi::AVCodecID) -> Self {
        match id {
            ffi::AVCodecID::AV_CODEC_ID_AAC => Self::Aac,
            ffi::AVCodecID::AV_CODEC_ID_PCM_ALAW => Self::PcmAlaw,
            ffi::AVCodecID::AV_CODEC_ID_PCM_MULAW => Self::PcmMulaw,
            other => Self::Other(OtherCodec(other)),
        }
    }
}

/// How pixels lie in memory. The `yuvj` formats of FFmpeg never appear here: they are the plain
/// format plus [`ColourRange::Full`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PixelFormat(pub(crate) i32);

impl PixelFormat {
    /// Planar 4:2:0, 8 bit (I420): Y, U, V.
    pub const I420: Self = Self(ffi::AVPixelFormat::AV_PIX_FMT_YUV420P as i32);
    /// Planar 4:2:2, 8 bit.
    pub const I422: Self = Self(ffi::AVPixelFormat::AV_PIX_FMT_YUV422P as i32);
    /// Planar 4:4:4, 8 bit.
    pub const I444: Self = Self(ffi::AVPixelFormat::AV_PIX_FMT_YUV444P as i32);
    /// 4:2:0, 8 bit: Y, then interleaved U and V.
    pub const NV12: Self = Self(ffi::AVPixelFormat::AV_PIX_FMT_NV12 as i32);
    /// Packed R, G, B, 8 bit each.
    pub const RGB24: Self = Self(ffi::AVPixelFormat::AV_PIX_FMT_RGB24 as i32);
    /// Packed B, G, R, 8 bit each.
    pub const BGR24: Self = Self(ffi::AVPixelFormat::AV_PIX_FMT_BGR24 as i32);
    /// Luma only, 8 bit.
    pub const GRAY8: Self = Self(ffi::AVPixelFormat::AV_PIX_FMT_GRAY8 as i32);
    /// Planar 4:2:0, 10 bit, little endian.
    pub const I420_10: Self = Self(ffi::AVPixelFormat::AV_PIX_FMT_YUV420P10LE as i32);

    /// FFmpeg's name, such as `yuv420p`.
    pub fn name(self) -> String {
        ff::pixels::name(self)
    }

    /// The format of that FFmpeg name.
    pub fn from_name(name: &str) -> Option<Self> {
        ff::pixels::from_name(name)
    }

    /// Bits of the deepest component.
    pub fn bit_depth(self) -> u32 {
        ff::pixels::describe(self).map_or(8, |d| d.depth)
    }

    /// Number of planes in memory.
    pub fn plane_count(self) -> usize {
        ff::pixels::describe(self).map_or(0, |d| d.planes)
    }

    /// By how many bits chroma is narrower and lower than luma: `(1, 1)` for 4:2:0.
    pub fn chroma_shift(self) -> (u32, u32) {
        ff::pixels::describe(self).map_or((0, 0), |d| d.chroma_shift)
    }

    /// Whether the format is red, green, blue rather than luma and chroma.
    pub fn is_rgb(self) -> bool {
        ff::pixels::describe(self).is_some_and(|d| d.rgb)
    }

    /// The 8 bit planar format with the same chroma, which 10 bit video is reduced to.
    pub fn eight_bit(self) -> Self {
        if self.bit_depth() <= 8 {
            return self;
        }
        match self.chroma_shift() {
            _ if self.is_rgb() => Self::RGB24,
            (1, 1) => Self::I420,
            (1, 0) => Self::I422,
            _ => Self::I444,
        }
    }
}

impl fmt::Debug for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// Which values luma takes: 16..235 or 0..255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ColourRange {
    /// Not said; treated as limited.
    #[default]
    Unspecified,
    /// 16..235 ("TV").
    Limited,
    /// 0..255 ("JPEG").
    Full,
}

/// How numbers become colours. The codes are those of ITU-T H.273; 2 means not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ColourTags {
    /// Value range.
    pub range: ColourRange,
    /// ColourPrimaries code.
    pub primaries: u8,
    /// TransferCharacteristics code.
    pub transfer: u8,
    /// MatrixCoefficients code.
    pub matrix: u8,
    /// Where chroma samples lie: 0 not said, 1 left, 2 centre, 3 top left, as FFmpeg counts.
    pub chroma_location: u8,
}

impl Default for ColourTags {
    fn default() -> Self {
        Self {
            range: ColourRange::Unspecified,
            primaries: 2,
            transfer: 2,
            matrix: 2,
            chroma_location: 0,
        }
    }
}

/// A 3x3 matrix applied to the picture at display time, as in MP4's track header
/// (16.16 fixed point, last column 2.30).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DisplayMatrix(pub [i32; 9]);

impl DisplayMatrix {
    /// The matrix that turns the picture clockwise by `degrees`.
    pub fn clockwise(degrees: f64) -> Self {
        Self(ff::params::rotation_matrix(degrees))
    }

    /// How far the picture is turned clockwise, in degrees (-180..180].
    pub fn clockwise_degrees(&self) -> f64 {
        -ff::params::rotation_degrees(&self.0)
    }
}

/// A video track.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoTrack {
    /// The codec.
    pub codec: VideoCodec,
    /// Picture width in pixels.
    pub width: u32,
    /// Picture height in pixels.
    pub height: u32,
    /// Parameter sets: avcC or hvcC for length-prefixed streams, else as the codec defines; may be empty.
    pub extradata: Vec<u8>,
    /// Seconds per tick of all timestamps of this track.
    pub time_base: Rational,
    /// Average frames per second, if known.
    pub average_fps: Option<Rational>,
    /// Width to height of one pixel, if not square and known.
    pub sample_aspect_ratio: Option<Rational>,
    /// Rotation or mirroring at display, if any.
    pub display_matrix: Option<DisplayMatrix>,
    /// Colour tags.
    pub colour: ColourTags,
    /// Pixel format, if known before decoding.
    pub pixel_format: Option<PixelFormat>,
    /// Codec profile number, if known.
    pub profile: Option<i32>,
    /// Codec level number, if known.
    pub level: Option<i32>,
    /// Bits per second, if declared.
    pub bit_rate: Option<u64>,
    /// Number of frames by which output is delayed for reordering (B-frames).
    pub reorder_delay: u32,
    /// First presentation time in ticks, if declared.
    pub start: Option<i64>,
    /// Declared duration in ticks.
    pub duration: Option<i64>,
    /// Declared number of frames.
    pub frame_count: Option<u64>,
}

impl VideoTrack {
    /// A track with only the necessary things said; set the other fields as known.
    pub fn new(codec: VideoCodec, width: u32, height: u32, time_base: Rational) -> Self {
        Self {
            codec,
            width,
            height,
            extradata: Vec::new(),
            time_base,
            average_fps: None,
            sample_aspect_ratio: None,
            display_matrix: None,
            colour: ColourTags::default(),
            pixel_format: None,
            profile: None,
            level: None,
            bit_rate: None,
            reorder_delay: 0,
            start: None,
            duration: None,
            frame_count: None,
        }
    }

    /// The same track with these parameter sets (avcC, hvcC).
    #[must_use]
    pub fn with_extradata(mut self, extradata: impl Into<Vec<u8>>) -> Self {
        self.extradata = extradata.into();
        self
    }

    /// Declared duration in seconds.
    pub fn duration_seconds(&self) -> Option<f64> {
        self.duration.map(|ticks| self.time_base.seconds(ticks))
    }
}

/// An audio track.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioTrack {
    /// The codec.
    pub codec: AudioCodec,
    /// Samples per second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
    /// AudioSpecificConfig for AAC; may be empty for others.
    pub extradata: Vec<u8>,
    /// Seconds per tick of all timestamps of this track.
    pub time_base: Rational,
    /// Samples in one packet, if constant and known (1024 for AAC).
    pub frame_size: Option<u32>,
    /// Samples of priming at the start that are not to be heard.
    pub initial_padding: u32,
    /// Bits per second, if declared.
    pub bit_rate: Option<u64>,
    /// Declared duration in ticks.
    pub duration: Option<i64>,
}

impl AudioTrack {
    /// A track with time base 1/`sample_rate` and 1024 samples per packet for AAC.
    pub fn new(codec: AudioCodec, sample_rate: u32, channels: u32) -> Self {
        Self {
            codec,
            sample_rate,
            channels,
            extradata: Vec::new(),
            time_base: Rational::new(1, sample_rate.clamp(1, i32::MAX as u32) as i32),
            frame_size: (codec == AudioCodec::Aac).then_some(1024),
            initial_padding: 0,
            bit_rate: None,
            duration: None,
        }
    }

    /// The same track with this extradata.
    #[must_use]
    pub fn with_extradata(mut self, extradata: impl Into<Vec<u8>>) -> Self {
        self.extradata = extradata.into();
        self
    }
}

/// One track of a file or stream.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Track {
    /// Moving pictures.
    Video(VideoTrack),
    /// Sound.
    Audio(AudioTrack),
    /// Subtitles, data, attached pictures: never carried over.
    Other {
        /// Seconds per tick.
        time_base: Rational,
    },
}

impl Track {
    /// Seconds per tick of all timestamps of this track.
    pub fn time_base(&self) -> Rational {
        match self {
            Self::Video(video) => video.time_base,
            Self::Audio(audio) => audio.time_base,
            Self::Other { time_base } => *time_base,
        }
    }
}

impl From<VideoTrack> for Track {
    fn from(track: VideoTrack) -> Self {
        Self::Video(track)
    }
}

impl From<AudioTrack> for Track {
    fn from(track: AudioTrack) -> Self {
        Self::Audio(track)
    }
}
