//! What can be made to go wrong, and how a command names it.

use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;

/// A fault of one camera. Those with a duration end by themselves.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Drop every connection and session now.
    Close,
    /// Half-open: connections stay up, nothing is sent, nothing is answered; then goes on at a key frame.
    Silence(Duration),
    /// Leave out this percentage (0 to 100) of the RTP packets.
    Loss(f64),
    /// Over UDP, let this many packets of a unit overtake every fifth one; zero ends it.
    Reorder(usize),
    /// Move RTP timestamps by this many seconds, forwards or back, from the next unit on.
    Jump(f64),
    /// Go on with another file (other parameter sets, perhaps another size) in the same sessions.
    Switch(PathBuf),
    /// Go on with the same file at another size, pixels.
    Resize(u32, u32),
    /// Let every request wait this long; zero ends it.
    Slow(Duration),
    /// `true`: answer 401 to everything, whatever the password.
    Unauthorized(bool),
    /// Refuse new connections. With a port of its own (or when all cameras of the port refuse) nobody
    /// listens; otherwise the connection is cut when a request names the camera.
    Refuse(Duration),
    /// [`Fault::Close`] and [`Fault::Refuse`].
    Reboot(Duration),
    /// End loss, disorder, slowness, silence, refusal and 401. A jump or switch stays.
    Clear,
}

/// Why a fault command was not understood or not carried out.
#[derive(Debug, Error, PartialEq)]
pub enum FaultError {
    /// The words after the camera's name are not a fault.
    #[error("{0:?} is not a fault; one of: {USAGE}")]
    Unknown(String),
    /// No camera of that name.
    #[error("no camera {0:?}")]
    NoCamera(String),
    /// The clip to switch to cannot be used.
    #[error("cannot switch: {0}")]
    Clip(String),
}

/// The fault commands, for messages and help.
pub const USAGE: &str = "close | silence SECONDS | loss PERCENT | reorder PACKETS | jump SECONDS | \
    switch FILE | size WxH | slow SECONDS | 401 on|off | refuse SECONDS | reboot SECONDS | clear";

impl Fault {
    /// Reads the words of [`USAGE`]; `=` between word and value is taken too (`loss=5`).
    ///
    /// # Errors
    /// [`FaultError::Unknown`] with the words given.
    pub fn parse(words: &str) -> Result<Self, FaultError> {
        let words = words.trim();
        let (name, value) = words
            .split_once([' ', '='])
            .map_or((words, ""), |(n, v)| (n, v.trim()));
        Self::from_words(name, value).ok_or_else(|| FaultError::Unknown(words.to_owned()))
    }

    fn from_words(name: &str, value: &str) -> Option<Self> {
        Some(match (name, value) {
            ("close", "") => Self::Close,
            ("silence", v) => Self::Silence(seconds(v)?),
            ("loss", v) => Self::Loss(number(v).filter(|p| (0.0..=100.0).contains(p))?),
            ("reorder", v) => Self::Reorder(v.parse().ok().filter(|n| *n <= 1000)?),
            ("jump", v) => Self::Jump(number(v).filter(|s| s.abs() <= 1e9)?),
            ("switch", v) if !v.is_empty() => Self::Switch(PathBuf::from(v)),
            ("size", v) => parse_size(v).map(|(w, h)| Self::Resize(w, h))?,
            ("slow", v) => Self::Slow(seconds(v)?),
            ("401" | "unauthorized", "" | "on") => Self::Unauthorized(true),
            ("401" | "unauthorized", "off") => Self::Unauthorized(false),
            ("refuse", v) => Self::Refuse(seconds(v)?),
            ("reboot", v) => Self::Reboot(seconds(v)?),
            ("clear", "") => Self::Clear,
            _ => return None,
        })
    }
}

/// `WIDTHxHEIGHT` with both even and within 16..=8192 pixels.
pub(crate) fn parse_size(text: &str) -> Option<(u32, u32)> {
    let (w, h) = text.split_once('x')?;
    let side = |s: &str| {
        s.parse::<u32>()
            .ok()
            .filter(|n| (16..=8192).contains(n) && n % 2 == 0)
    };
    Some((side(w)?, side(h)?))
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|n| n.is_finite())
}

fn seconds(text: &str) -> Option<Duration> {
    number(text)
        .filter(|n| (0.0..=1e6).contains(n))
        .map(Duration::from_secs_f64)
}

/// The faults that last, as they stand now.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions {
    /// Share of packets to leave out, 0 to 1.
    pub(crate) loss: f64,
    /// Packets that overtake every fifth one.
    pub(crate) reorder: usize,
    pub(crate) slow: Duration,
    pub(crate) unauthorized: bool,
    silent_until: Option<Instant>,
    refuse_until: Option<Instant>,
}

impl Conditions {
    pub(crate) fn silence(&mut self, duration: Duration) {
        self.silent_until = Some(Instant::now() + duration);
    }

    pub(crate) fn refuse(&mut self, duration: Duration) {
        self.refuse_until = Some(Instant::now() + duration);
    }

    /// When the silence ends, if there is one.
    pub(crate) fn silent_until(&self) -> Option<Instant> {
        self.silent_until.filter(|t| *t > Instant::now())
    }

    /// When connections are taken again, if they are refused.
    pub(crate) fn refused_until(&self) -> Option<Instant> {
        self.refuse_until.filter(|t| *t > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let check = |words, fault| assert_eq!(Fault::parse(words), Ok(fault), "{words}");
        check("loss 5", Fault::Loss(5.0));
        check("loss=0.5", Fault::Loss(0.5));
        check("reorder 2", Fault::Reorder(2));
        check("jump -3", Fault::Jump(-3.0));
        check("size 640x360", Fault::Resize(640, 360));
        check("switch /a b.mp4", Fault::Switch("/a b.mp4".into()));
        check("401", Fault::Unauthorized(true));
        check("401 off", Fault::Unauthorized(false));
        check("reboot 1.5", Fault::Reboot(Duration::from_millis(1500)));
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [
            "",
            "loss",
            "loss 101",
            "loss NaN",
            "silence -1",
            "reorder -1",
            "size 641x360",
            "close 3",
            "refuse inf",
        ] {
            assert!(
                matches!(Fault::parse(words), Err(FaultError::Unknown(_))),
                "{words}"
            );
        }
    }
}
