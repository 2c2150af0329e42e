//! What the pipeline orders and the writer does: open a segment, append to it, close it.

use crate::stream::StreamParams;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use ticket_queue::CutReason;

/// Which track of a segment a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    /// The video.
    Video,
    /// The sound.
    Audio,
}

/// A frame with its place in a segment. Times are ticks of 1/90000 s from the segment's start.
#[derive(Debug, PartialEq, Eq)]
pub struct Packet {
    /// The track it goes to.
    pub track: Track,
    /// When it is shown.
    pub pts_90k: i64,
    /// When it is decoded.
    pub dts_90k: i64,
    /// Until the next one is decoded.
    pub duration_90k: i64,
    /// Decoding can start here.
    pub key: bool,
    /// The payload.
    pub data: Vec<u8>,
}

/// A segment that begins.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Counts the segments of a source from 1.
    pub number: u32,
    /// Which round of an endlessly repeated file it is from.
    pub round: Option<u32>,
    /// What its tracks hold.
    pub params: Arc<StreamParams>,
    /// Wall clock of its first frame.
    pub start: Timestamp,
    /// How long it will be if nothing cuts it short.
    pub length: Duration,
    /// Time without a recording before it, since the segment before; `None` if it follows without a gap.
    pub gap_before: Option<Duration>,
}

/// A segment that is complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Closing {
    /// Why it ends here.
    pub reason: CutReason,
    /// Video frames that it shows.
    pub frames: u64,
    /// Wall clock of the first frame, by the least delayed frame.
    pub start: Timestamp,
    /// Length by our clock.
    pub wall_duration: Duration,
    /// Length by the video's own times.
    pub media_duration: Duration,
    /// Packets known to be missing or damaged.
    pub packets_lost: u64,
    /// When its last key frame would be shown, in ticks of 1/90000 s from the first frame, if it is only there for the
    /// pictures after it, which are shown before it: the next segment shows it.
    pub hidden_key: Option<i64>,
}

/// What is to be done with files, in order.
#[derive(Debug)]
pub enum Action {
    /// Begin a segment.
    Open(Opening),
    /// Append to the open segment.
    Append(Packet),
    /// Finish the open segment.
    Close(Closing),
}
