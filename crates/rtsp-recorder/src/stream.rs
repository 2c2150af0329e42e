//! What a source's streams are: enough to write the head of a segment.

use crate::nal::Coding;
use media::{AudioTrack, VideoCodec, VideoTrack};

/// The streams of a session. A change begins a new segment.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamParams {
    /// How to look into a video frame.
    pub coding: Coding,
    /// Frames may be shown in another order than they are decoded in.
    pub may_reorder: bool,
    /// The video, in ticks of 1/90000 s.
    pub video: VideoTrack,
    /// The sound, when it is recorded, in ticks of one sample.
    pub audio: Option<AudioTrack>,
}

impl StreamParams {
    /// Streams of these tracks.
    pub fn new(video: VideoTrack, audio: Option<AudioTrack>) -> Self {
        let coding = match video.codec {
            VideoCodec::H264 => Coding::H264,
            VideoCodec::H265 => Coding::H265,
            _ => Coding::Other,
        };
        StreamParams {
            coding,
            may_reorder: may_reorder(&video),
            video,
            audio,
        }
    }
}

/// H.264 baseline (profile 66, second byte of the avcC) and MJPEG cannot have B-frames; all others may.
fn may_reorder(video: &VideoTrack) -> bool {
    match video.codec {
        VideoCodec::H264 => video.extradata.get(1) != Some(&66),
        VideoCodec::Mjpeg => false,
        _ => true,
    }
}
