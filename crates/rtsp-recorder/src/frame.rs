//! Encoded frames as sources deliver them, before they have a place in a segment.

use crate::stream::StreamParams;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;

/// An encoded video frame as it came from a source.
#[derive(Clone, Debug)]
pub struct VideoFrame {
    /// The source's timestamp in ticks of 1/90000 s, wraps undone; any zero point.
    pub raw_90k: i64,
    /// When its first byte arrived, monotonic.
    pub arrival: Duration,
    /// The wall clock at that moment.
    pub wall: Timestamp,
    /// The source says that decoding can start here.
    pub key: bool,
    /// Packets known to be lost just before or within it, or to be damaged.
    pub packets_lost: u32,
    /// Parameters that hold from this frame on, where they are new.
    pub params: Option<Arc<StreamParams>>,
    /// The payload as MP4 stores it.
    pub data: Vec<u8>,
}

/// An encoded audio frame.
#[derive(Debug)]
pub struct AudioFrame {
    /// The source's timestamp in ticks of 1/90000 s.
    pub raw_90k: i64,
    /// When it arrived, monotonic.
    pub arrival: Duration,
    /// Its length in ticks of 1/90000 s.
    pub duration_90k: i64,
    /// The payload as MP4 stores it.
    pub data: Vec<u8>,
}

/// A video frame that came and is no part of the recording: pictures were lost that it was built upon.
#[derive(Debug)]
pub struct LeftOut {
    /// Its size.
    pub bytes: usize,
    /// When it arrived, monotonic.
    pub arrival: Duration,
    /// The wall clock at that moment.
    pub wall: Timestamp,
}
