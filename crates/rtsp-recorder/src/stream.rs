//! What a source's streams are: enough to write the head of a segment.

use crate::nal::Coding;

/// The streams of a session. A change begins a new segment.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamParams {
    /// How to look into a video frame.
    pub coding: Coding,
    /// Frames may be shown in another order than they are decoded in.
    pub may_reorder: bool,
    /// The video.
    pub video: VideoParams,
    /// The sound, when it is recorded.
    pub audio: Option<AudioParams>,
}

/// A video stream.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoParams {
    /// FFmpeg's name of the codec: `h264`, `hevc`, `mjpeg`.
    pub codec: String,
    /// What MP4 keeps beside the frames (avcC, hvcC); empty where there is none.
    pub extradata: Vec<u8>,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames per second as declared; often wrong.
    pub declared_fps: Option<f64>,
    /// Width to height of a pixel, where it is not square.
    pub pixel_aspect: Option<(u32, u32)>,
}

/// An audio stream.
#[derive(Clone, Debug, PartialEq)]
pub struct AudioParams {
    /// FFmpeg's name of the codec: `aac`.
    pub codec: String,
    /// What MP4 keeps beside the frames (AudioSpecificConfig).
    pub extradata: Vec<u8>,
    /// Samples per second.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u16,
}
