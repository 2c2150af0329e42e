//! What a source's streams are: enough to write the head of a segment.

use crate::nal::Coding;
use media::{AudioTrack, Rational, VideoCodec, VideoTrack};

/// Frames per second above which a camera does not send but count ticks.
const HIGHEST_RATE: f64 = 240.0;

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
    pub fn new(mut video: VideoTrack, audio: Option<AudioTrack>) -> Self {
        video.average_fps = video.average_fps.filter(is_frame_rate);
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

/// False for what is no frame rate: some streams declare the ticks of their clock there, such as 90000.
pub(crate) fn is_frame_rate(declared: &Rational) -> bool {
    let fps = declared.as_f64();
    fps > 0.0 && fps <= HIGHEST_RATE
}

/// H.264 baseline (profile 66, second byte of the avcC) and MJPEG cannot have B-frames; all others may.
fn may_reorder(video: &VideoTrack) -> bool {
    match video.codec {
        VideoCodec::H264 => video.extradata.get(1) != Some(&66),
        VideoCodec::Mjpeg => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_a_clock_are_no_frame_rate() {
        let declared = |num, den| {
            let mut video = VideoTrack::new(VideoCodec::H264, 640, 480, Rational::MPEG);
            video.average_fps = Some(Rational::new(num, den));
            StreamParams::new(video, None).video.average_fps
        };
        assert_eq!(declared(90_000, 1), None);
        assert_eq!(declared(180_000, 2), None);
        assert_eq!(declared(1000, 1), None);
        for (num, den) in [(15, 1), (30_000, 1001), (90_000, 3000), (240, 1)] {
            assert_eq!(declared(num, den), Some(Rational::new(num, den)));
        }
    }
}
