//! What each source is doing, for the status file and the log. Written by sessions and writers, read now and then.

use crate::outage::{Event, Look, Outage};
use crate::sockets::SocketNumber;
use daemon::status::SourceStatus;
use jiff::Timestamp;
use settings::Source;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What a source is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waiting for one of the slots of `max_concurrent_recordings`.
    Waiting,
    /// Outside of its recording schedule.
    OffSchedule,
    /// Connecting, or connected and without a frame yet that can be recorded.
    Connecting,
    /// Frames arrive and are recorded.
    Recording,
    /// Frames arrive and are dropped: the disk is full or too slow.
    DiskFull,
    /// Waiting before the next attempt.
    BackingOff,
    /// The camera refuses the credentials; waiting long.
    Refused,
    /// Its limit is reached.
    Finished,
    /// The recorder stops.
    Stopped,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 9] = [
        State::Waiting,
        State::OffSchedule,
        State::Connecting,
        State::Recording,
        State::DiskFull,
        State::BackingOff,
        State::Refused,
        State::Finished,
        State::Stopped,
    ];

    /// As in the status file.
    pub fn name(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::OffSchedule => "off_schedule",
            State::Connecting => "connecting",
            State::Recording => "recording",
            State::DiskFull => "disk_full",
            State::BackingOff => "reconnecting",
            State::Refused => "refused",
            State::Finished => "finished",
            State::Stopped => "stopped",
        }
    }
}

/// What becomes of a frame that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is recorded.
    Recorded,
    /// It is dropped because the disk does not take it.
    Dropped,
    /// It is dropped because no key frame came before it.
    Useless,
}

/// What to do about a camera that sends no key frames.
pub(crate) const NO_KEY_FRAMES: &str =
    "switch off intra refresh or set a key frame interval on the camera";

/// The entry of one source.
#[derive(Debug)]
pub struct Board {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    status: SourceStatus,
    frames: u64,
    bytes: u64,
    measured_from: Duration,
    outage: Outage,
    /// Frames since the outage was last looked at, as far as they were of use.
    fresh_frames: u64,
    /// The others.
    useless_frames: u64,
    /// When a frame last arrived, whatever became of it.
    last_arrival: Option<Timestamp>,
    /// When the last frame came of those before the open segment.
    last_before_segment: Option<Timestamp>,
    /// The connection of the open session, as far as it is known.
    sockets: HashSet<SocketNumber>,
}

impl Board {
    /// An entry for `source`, of which an earlier process recorded the last frame at `last_frame`.
    pub fn new(source: &Source, last_frame: Option<Timestamp>) -> Self {
        let status = SourceStatus {
            name: source.name.to_string(),
            last_frame,
            ..SourceStatus::default()
        };
        Board {
            inner: Mutex::new(Inner {
                status,
                frames: 0,
                bytes: 0,
                measured_from: Duration::ZERO,
                outage: Outage::default(),
                fresh_frames: 0,
                useless_frames: 0,
                last_arrival: None,
                last_before_segment: None,
                sockets: HashSet::new(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source's name.
    pub fn name(&self) -> String {
        self.lock().status.name.clone()
    }

    /// True when a connection may be open on which no frame has come since `trusted`.
    pub fn is_suspect(&self, trusted: Timestamp) -> bool {
        let inner = self.lock();
        let connecting = inner.status.state == State::Connecting.name();
        connecting || inner.last_arrival.is_none_or(|last| last < trusted)
    }

    /// Notes the connection of a session that is open from now on.
    pub fn set_sockets(&self, sockets: HashSet<SocketNumber>) {
        self.lock().sockets = sockets;
    }

    /// The connection of the open session, as far as it is known.
    pub fn sockets(&self) -> HashSet<SocketNumber> {
        self.lock().sockets.clone()
    }

    /// Notes a change of state.
    pub fn set_state(&self, state: State) {
        self.lock().status.state = state.name().to_owned();
    }

    /// Notes what is wrong, in words without credentials.
    pub fn set_error(&self, error: &str) {
        self.lock().status.error = Some(error.to_owned());
    }

    /// Notes a frame that arrived. With the first one that is recorded the source is [`State::Recording`].
    pub fn frame(&self, bytes: usize, packets_lost: u32, wall: Timestamp, fate: Fate) {
        let mut inner = self.lock();
        inner.frames += 1;
        match fate {
            Fate::Useless => inner.useless_frames += 1,
            Fate::Recorded | Fate::Dropped => inner.fresh_frames += 1,
        }
        inner.last_arrival = Some(wall);
        if fate == Fate::Recorded {
            if inner.status.state != State::Recording.name() {
                inner.status.state = State::Recording.name().to_owned();
                inner.status.error = None;
                inner.last_before_segment = inner.status.last_frame;
            }
            // The next process takes it for the beginning of the gap before its first segment.
            inner.status.last_frame = Some(wall);
        }
        inner.bytes += bytes as u64;
        inner.status.packets_lost += u64::from(packets_lost);
    }

    /// Notes that a segment begins at `start`, where the one before it ends.
    pub fn segment_follows(&self, start: Timestamp) {
        self.lock().last_before_segment = Some(start);
    }

    /// Notes that the open segment was lost: none of its frames is known to be on disk.
    pub fn segment_lost(&self) {
        let mut inner = self.lock();
        inner.status.last_frame = inner.last_before_segment;
    }

    /// Whether the source went down (silent for longer than `after`) or came back since the last look; to be called
    /// about once a second, with the monotonic time and the wall clock.
    pub fn look_for_outage(
        &self,
        now: Duration,
        wall: Timestamp,
        after: Duration,
    ) -> Option<Event> {
        let mut inner = self.lock();
        let look = inner.look();
        let event = inner.outage.look(&look, now, after);
        (inner.fresh_frames, inner.useless_frames) = (0, 0);
        let status = &mut inner.status;
        match &event {
            Some(Event::Down { silent, why }) => {
                status.down_since = Some(wall.checked_sub(*silent).unwrap_or(wall));
                status.down_reason = Some(why.clone());
            }
            Some(Event::Up { .. }) => (status.down_since, status.down_reason) = (None, None),
            None if look == Look::NotWanted => {
                (status.down_since, status.down_reason) = (None, None);
            }
            None => {}
        }
        event
    }

    /// Notes what the stream is.
    pub fn set_video(&self, video: &media::VideoTrack) {
        let status = &mut self.lock().status;
        status.codec = Some(video.codec.name());
        (status.width, status.height) = (Some(video.width), Some(video.height));
        status.declared_fps = video.average_fps.map(media::Rational::as_f64);
    }

    /// Notes that a session began after an earlier one.
    pub fn reconnected(&self) {
        self.lock().status.reconnects += 1;
    }

    /// Notes an interruption that is over or has begun.
    pub fn gap(&self, text: String) {
        let status = &mut self.lock().status;
        status.gaps += 1;
        status.last_gap = Some(text);
    }

    /// Notes the segment that is open now.
    pub fn set_current(&self, name: Option<String>) {
        self.lock().status.current_segment = name;
    }

    /// Notes a segment that is finished and has its ticket.
    pub fn finished(&self, name: &str) {
        let status = &mut self.lock().status;
        status.segments += 1;
        status.last_segment = Some(name.to_owned());
    }

    /// The entry as it is now; rates are since the last call.
    pub fn snapshot(&self, now: Duration) -> SourceStatus {
        let mut inner = self.lock();
        let seconds = now.saturating_sub(inner.measured_from).as_secs_f64();
        if seconds > 0.0 {
            inner.status.fps = (inner.frames as f64 / seconds * 10.0).round() / 10.0;
            inner.status.bitrate_bps = (inner.bytes as f64 * 8.0 / seconds) as u64;
        }
        (inner.frames, inner.bytes, inner.measured_from) = (0, 0, now);
        inner.status.clone()
    }
}

impl Inner {
    fn look(&self) -> Look {
        let state = self.status.state.as_str();
        let is = |states: &[State]| states.iter().any(|one| one.name() == state);
        if self.fresh_frames > 0 {
            return Look::Alive;
        }
        if is(&[State::OffSchedule, State::Finished, State::Stopped]) {
            return Look::NotWanted;
        }
        let of_use = || match self.useless_frames {
            0 => None,
            _ => Some(format!("video comes, but no key frame; {NO_KEY_FRAMES}")),
        };
        let why = self.status.error.clone().or_else(of_use);
        match is(&[State::Waiting]) {
            // Its turn has not come, which is no fault of the camera, unless it failed when it had its turn.
            true if why.is_none() => Look::NotWanted,
            true => Look::NotAsked,
            false => Look::Silent(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        let text = r#"{"sources": [{"name": "cam", "url": "rtsp://127.0.0.1/a"}]}"#;
        let settings = settings::RecorderSettings::from_text(text, &settings::Environment::empty());
        Board::new(&settings.unwrap().sources[0], None)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn last_frame(board: &Board) -> Option<i64> {
        let last = board.snapshot(Duration::ZERO).last_frame;
        last.map(Timestamp::as_second)
    }

    #[test]
    fn what_the_disk_does_not_take_was_not_recorded() {
        let board = board();
        board.frame(1, 0, at(1), Fate::Useless);
        assert_eq!(last_frame(&board), None);
        board.frame(1, 0, at(2), Fate::Recorded);
        board.segment_follows(at(3));
        board.frame(1, 0, at(9), Fate::Recorded);
        assert_eq!(last_frame(&board), Some(9));
        board.segment_lost();
        board.set_state(State::DiskFull);
        board.frame(1, 0, at(10), Fate::Dropped);
        assert_eq!(last_frame(&board), Some(3));
        // A segment that is only an attempt.
        board.frame(1, 0, at(12), Fate::Recorded);
        board.segment_lost();
        board.set_state(State::DiskFull);
        assert_eq!(last_frame(&board), Some(3));
        assert!(!board.is_suspect(at(12)) && board.is_suspect(at(13)));
    }
}
