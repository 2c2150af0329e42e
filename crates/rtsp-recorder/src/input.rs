//! Where frames come from: an RTSP session, or FFmpeg's demuxer in a thread of its own.

use crate::backoff::Failure;
use crate::demux::DemuxSession;
use crate::frame::{AudioFrame, LeftOut, VideoFrame};
use crate::rtsp::RtspSession;
use crate::sockets::SocketNumber;
use daemon::Clock;
use jiff::Timestamp;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One item of a session.
#[derive(Debug)]
pub enum Media {
    /// A video frame.
    Video(VideoFrame),
    /// A video frame of which nothing is recorded.
    LeftOut(LeftOut),
    /// An audio frame.
    Audio(AudioFrame),
    /// A repeated file begins anew.
    NextRound(u32),
}

/// Why a session could not begin or is over.
#[derive(Debug, Clone)]
pub struct SessionError {
    /// How to wait for the next attempt.
    pub failure: Failure,
    /// retina cannot read this stream; FFmpeg's demuxer may.
    pub unsupported: bool,
    /// retina stumbled over a packet. Where that happens again and again, FFmpeg's demuxer may get on with what comes.
    pub unreadable: bool,
    /// RTP does not come over this transport; it may over the other.
    pub transport_refused: bool,
    /// The camera is well and began anew within a session that is of no use any more: the next one need not wait.
    pub began_anew: bool,
    /// For people; without credentials.
    pub message: String,
}

impl SessionError {
    /// An error after which the source is tried again.
    pub fn new(failure: Failure, message: String) -> Self {
        SessionError {
            failure,
            unsupported: false,
            unreadable: false,
            transport_refused: false,
            began_anew: false,
            message,
        }
    }

    /// An error that only another demuxer can get round.
    pub fn unsupported(message: String) -> Self {
        SessionError {
            unsupported: true,
            ..Self::new(Failure::Away, message)
        }
    }

    /// An error that another demuxer gets round when it is not a matter of one session.
    pub fn unreadable(message: String) -> Self {
        SessionError {
            unreadable: true,
            ..Self::new(Failure::Away, message)
        }
    }

    /// The end of a session in which the camera began anew. If that goes on and on, another demuxer gets round it.
    pub fn began_anew(message: String) -> Self {
        SessionError {
            began_anew: true,
            ..Self::unreadable(message)
        }
    }

    /// An error that the other transport may get round.
    pub fn transport_refused(message: String) -> Self {
        SessionError {
            transport_refused: true,
            ..Self::new(Failure::Away, message)
        }
    }
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SessionError {}

/// Turns the moment a packet was received into the times the pipeline works with.
#[derive(Clone)]
pub struct Stamps(pub Arc<dyn Clock>);

impl Stamps {
    /// Monotonic time and wall clock of that moment.
    pub fn of(&self, received: Instant) -> (Duration, Timestamp) {
        let ago = received.elapsed();
        let wall = self.0.now();
        (
            self.0.monotonic().saturating_sub(ago),
            wall.checked_sub(ago).unwrap_or(wall),
        )
    }

    /// Monotonic time and wall clock of now.
    pub fn now(&self) -> (Duration, Timestamp) {
        (self.0.monotonic(), self.0.now())
    }
}

/// An open session.
pub enum Input {
    /// Over RTSP.
    Rtsp(Box<RtspSession>),
    /// Through FFmpeg's demuxer.
    Demuxed(DemuxSession),
}

impl Input {
    /// The connection to the camera, where it is known.
    pub fn sockets(&self) -> HashSet<SocketNumber> {
        match self {
            Input::Rtsp(session) => session.sockets().clone(),
            Input::Demuxed(_) => HashSet::new(),
        }
    }

    /// The round that a repeated file begins with.
    pub fn round(&self) -> Option<u32> {
        match self {
            Input::Rtsp(_) => None,
            Input::Demuxed(session) => session.round(),
        }
    }

    /// The next item. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The session is over.
    pub async fn next(&mut self, stamps: &Stamps) -> Result<Media, SessionError> {
        match self {
            Input::Rtsp(session) => session.next(stamps).await,
            Input::Demuxed(session) => session.next().await,
        }
    }
}
