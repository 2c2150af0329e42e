//! One source from start to stop: when to record, what to do when it fails.
//!
//! ```text
//!             +--------------------------- schedule closes, turn over ---------------------------+
//!             v                                                                                  |
//!  OffSchedule -> Waiting (slot) -> Connecting -> Recording --------------------------------------+
//!                    ^                  |             | limit reached -> Finished
//!                    +--- BackingOff <--+-------------+ failed
//!  any -> Stopped on shutdown
//! ```
//! [`SourceTask::run`] never fails and is the only place that retries; [`SourceTask::session`] may fail. Three
//! time-outs: to connect (`connection_timeout`), for the first frame and for a key frame to begin with (slow H.265 cameras
//! take up to 78 s), and for the silence since the last frame (`read_timeout`, or three times the longest distance of
//! frames of the last minutes).

use crate::action::Action;
use crate::backoff::{Backoff, Failure, PROVEN_AFTER};
use crate::board::{Board, Fate, NO_KEY_FRAMES, State};
use crate::frame::VideoFrame;
use crate::input::{Input, Media, SessionError, Stamps};
use crate::leave::{Leave, Shared, leave, turn_over, until_schedule};
use crate::ledger::Gap;
use crate::opener::Opener;
use crate::pipeline::{Pipeline, Plan};
use crate::recover::Earlier;
use crate::slots::Slot;
use crate::stream::StreamParams;
use crate::writer::{Feeder, Lost};
use daemon::logs::OncePerMinute;
use jiff::Timestamp;
use settings::{Source, Transport};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use ticket_queue::CutReason;
use tracing::{Instrument as _, Level, Span, debug, error, info, info_span, warn};

/// The first frame may take this long: Hikvision H.265 at 2 to 4 fps needs 40 to 78 s (motion #1104).
pub(crate) const FIRST_FRAME: Duration = Duration::from_secs(90);

/// What is pending is handed over at the latest after this much silence.
const IDLE_FLUSH: Duration = Duration::from_millis(250);

/// After a refused write the disk is tried again this much later.
const DISK_RETRY: Duration = Duration::from_secs(2);

/// Shorter interruptions are not put on record.
const SMALLEST_GAP: Duration = Duration::from_millis(500);

/// No camera is given more silence than this, whatever its usual pace, unless `read_timeout` says so.
const LONGEST_PATIENCE: Duration = Duration::from_secs(40);

/// The pace of a camera is that of this time and of as much before it: one that stalled once is not given more silence for
/// weeks.
const PACE_TIME: Duration = Duration::from_secs(150);

/// How a source ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceEnd {
    /// Its limit is reached.
    Finished,
    /// The recorder stops.
    Stopped,
}

/// One source and all that records it.
pub struct SourceTask {
    source: Arc<Source>,
    /// Names the source in the log. To enter it whenever the task is polled cost more than the pipeline does, so it is
    /// entered where something is logged.
    span: Span,
    shared: Shared,
    board: Arc<Board>,
    opener: Opener,
    feeder: Feeder,
    pipeline: Pipeline,
    backoff: Backoff,
    log_limit: OncePerMinute,
    actions: Vec<Action>,
    dropping: Option<Dropping>,
    /// Parameters that came with a frame that was dropped.
    missed_params: Option<Arc<StreamParams>>,
    sessions: u64,
    last_failure: Option<String>,
    recovery_limit: OncePerMinute,
    disk_limit: OncePerMinute,
    loss_limit: OncePerMinute,
    /// Packets lost since the log last spoke of it.
    lost_unsaid: u64,
    /// What an earlier process tells of this source; taken by the first segment.
    earlier: Option<Earlier>,
}

/// Frames are being dropped because the disk does not take them.
struct Dropping {
    since: Duration,
    frames: u64,
    why: &'static str,
    retry_at: Duration,
    /// The log told of it.
    is_told: bool,
}

/// Timing of the frames of one session.
struct Pace {
    last: Option<Duration>,
    /// The longest distance of frames since `since`, and in the time before that.
    longest: [Duration; 2],
    since: Duration,
    /// When a frame last came that is not useless for want of a key frame; at first, when the session began.
    of_use: Duration,
}

impl SourceTask {
    /// A task that has not begun, of a source of which an earlier process tells `earlier`.
    pub fn new(
        source: Arc<Source>,
        shared: Shared,
        board: Arc<Board>,
        opener: Opener,
        feeder: Feeder,
        earlier: Option<Earlier>,
    ) -> Self {
        let pipeline = Pipeline::new(Plan {
            segment_duration: source.segment_duration,
            zone: opener.is_live().then(|| shared.zone.clone()),
            max_segments: source
                .max_segments
                .map(|most| u32::try_from(most).unwrap_or(u32::MAX)),
        });
        SourceTask {
            backoff: Backoff::new(shared.reconnect_interval),
            span: info_span!("source", name = %source.name),
            source,
            shared,
            board,
            opener,
            feeder,
            pipeline,
            log_limit: OncePerMinute::default(),
            actions: Vec::new(),
            dropping: None,
            missed_params: None,
            sessions: 0,
            last_failure: None,
            recovery_limit: OncePerMinute::default(),
            disk_limit: OncePerMinute::default(),
            loss_limit: OncePerMinute::default(),
            lost_unsaid: 0,
            earlier,
        }
    }

    /// Records until the limit is reached or the recorder stops. Returns the feeder, which is to be closed off the
    /// runtime.
    pub async fn run(mut self) -> (SourceEnd, Feeder) {
        let end = self.record().await;
        self.board.set_state(match end {
            SourceEnd::Finished => State::Finished,
            SourceEnd::Stopped => State::Stopped,
        });
        self.feeder.flush(self.now());
        self.opener.close().instrument(self.span.clone()).await;
        (end, self.feeder)
    }

    async fn record(&mut self) -> SourceEnd {
        let shutdown = self.shared.shutdown.clone();
        let span = self.span.clone();
        loop {
            if self.limit_reached() {
                let _named = span.enter();
                info!(
                    seconds = self.pipeline.recorded().as_secs(),
                    "limit reached; this source is finished"
                );
                return SourceEnd::Finished;
            }
            let result = tokio::select! {
                biased;
                () = shutdown.requested() => return SourceEnd::Stopped,
                opened = self.open().instrument(span.clone()) => opened,
            };
            // A session notices a shutdown itself: it has a segment to close.
            let result = match result {
                Ok((mut input, _slot)) => self.session(&mut input).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(Leave::Shutdown) => return SourceEnd::Stopped,
                Ok(leave) => self.last_failure = Some(leave.reason().to_owned()),
                Err(error) => {
                    tokio::select! {
                        () = shutdown.requested() => return SourceEnd::Stopped,
                        () = self.wait_after(error).instrument(span.clone()) => {}
                    }
                }
            }
        }
    }

    /// Waits for schedule and slot, then connects.
    async fn open(&mut self) -> Result<(Input, Slot), SessionError> {
        if let Some(schedule) = &self.source.schedule
            && !schedule.is_open(self.shared.clock.now(), &self.shared.zone)
        {
            self.board.set_state(State::OffSchedule);
            info!("outside of the recording schedule");
            until_schedule(schedule, true, &self.shared).await;
            info!("the recording schedule begins");
        }
        self.board.set_state(State::Waiting);
        let slot = self.shared.slots.take().await;
        self.board.set_state(State::Connecting);
        self.opener.prepare().await;
        let _turn = self.shared.hosts.turn(&self.source.url).await;
        let limit = self.opener.limit();
        let input = tokio::time::timeout(limit, self.opener.open())
            .await
            .unwrap_or_else(|_| {
                let message = format!(
                    "no answer within {:.1} s (connection_timeout)",
                    limit.as_secs_f64()
                );
                Err(SessionError::new(Failure::Away, message))
            })?;
        Ok((input, slot))
    }

    /// Records until the source fails or there is a reason to leave it. The open segment is closed in any case.
    async fn session(&mut self, input: &mut Input) -> Result<Leave, SessionError> {
        self.sessions += 1;
        if self.sessions > 1 {
            self.board.reconnected();
        }
        self.board.set_sockets(input.sockets());
        self.pipeline.begin_session(input.round());
        let began = self.now();
        let result = self.receive(input, began).await;
        let reason = match &result {
            Ok(Leave::Shutdown) => CutReason::Shutdown,
            Ok(_) => CutReason::Schedule,
            Err(_) => CutReason::Reconnect,
        };
        self.pipeline.end_session(reason, &mut self.actions);
        self.hand_over();
        self.feeder.flush(self.now());
        result
    }

    async fn receive(&mut self, input: &mut Input, began: Duration) -> Result<Leave, SessionError> {
        let stamps = Stamps(self.shared.clock.clone());
        let leave = leave(self.shared.clone(), self.source.schedule.clone());
        let turn = turn_over(self.shared.slots.clone(), self.source.segment_duration);
        tokio::pin!(leave, turn);
        // The RTSP library says which camera it speaks of only where it is asked to say much.
        let wordy = match tracing::enabled!(target: "retina", Level::WARN) {
            true => self.span.clone(),
            false => Span::none(),
        };
        let mut turn_is_over = false;
        let mut pace = Pace {
            last: None,
            longest: [Duration::ZERO; 2],
            since: began,
            of_use: began,
        };
        loop {
            let patience = self.patience(&pace, began);
            let wait = if self.feeder.has_pending() {
                patience.min(IDLE_FLUSH)
            } else {
                patience
            };
            let item = tokio::select! {
                biased;
                leave = &mut leave => return Ok(leave),
                () = &mut turn, if !turn_is_over => {
                    turn_is_over = true;
                    continue;
                }
                item = tokio::time::timeout(wait, input.next(&stamps).instrument(wordy.clone())) => item,
            };
            match item {
                Ok(item) => self.take(item?, &mut pace, began)?,
                Err(_) if wait < patience => self.feeder.flush(self.now()),
                Err(_) => {
                    let since = pace.last.map(|last| self.now().saturating_sub(last));
                    return Err(SessionError::new(Failure::Away, silence(since)));
                }
            }
            if self.limit_reached() {
                return Ok(Leave::LimitReached);
            }
            if turn_is_over && self.is_turn_used(began) {
                self.pipeline.finish_after_segment();
                if !self.pipeline.is_recording() {
                    return Ok(Leave::TurnOver);
                }
            }
        }
    }

    /// How long to wait for the next frame from now on.
    fn patience(&self, pace: &Pace, began: Duration) -> Duration {
        let now = self.now();
        match pace.last {
            None => (began + self.first_wait()).saturating_sub(now),
            Some(last) => {
                let usual = (pace.longest() * 3).min(LONGEST_PATIENCE);
                let silence = self.source.read_timeout.max(usual);
                (last + silence).saturating_sub(now)
            }
        }
    }

    /// How long the first frame may take, and the first key frame.
    fn first_wait(&self) -> Duration {
        FIRST_FRAME.max(self.source.read_timeout)
    }

    /// A turn is not over before a segment was begun in it: a camera whose key frames are further apart than segments are
    /// long would never be recorded. A camera that sends none fails after as long as this; a disk that takes none does not.
    fn is_turn_used(&self, began: Duration) -> bool {
        self.pipeline.has_begun() || self.now().saturating_sub(began) >= self.first_wait()
    }

    fn take(&mut self, media: Media, pace: &mut Pace, began: Duration) -> Result<(), SessionError> {
        match media {
            Media::Video(frame) => {
                let arrival = frame.arrival;
                pace.note(arrival);
                if self.take_video(frame)? == Fate::Useless {
                    self.check_key_frames(arrival.saturating_sub(pace.of_use))?;
                } else {
                    pace.of_use = arrival;
                    if arrival.saturating_sub(began) >= PROVEN_AFTER {
                        self.backoff.reset();
                        self.opener.note_proven();
                    }
                }
            }
            Media::LeftOut(frame) => {
                pace.note(frame.arrival);
                self.board.frame(frame.bytes, 0, frame.wall, Fate::Useless);
                self.check_key_frames(frame.arrival.saturating_sub(pace.of_use))?;
            }
            Media::Audio(frame) if self.dropping.is_none() => {
                self.pipeline.push_audio(frame, &mut self.actions);
            }
            Media::Audio(_) => {}
            Media::NextRound(round) => {
                self.pipeline
                    .end_session(CutReason::Duration, &mut self.actions);
                self.pipeline.begin_session(Some(round));
            }
        }
        self.hand_over();
        Ok(())
    }

    /// A camera with gradual intra refresh never sends a frame to begin with; one whose key frames are too large for the
    /// network never gets one through.
    fn check_key_frames(&self, waited: Duration) -> Result<(), SessionError> {
        let most = self.first_wait();
        if waited < most {
            return Ok(());
        }
        let message = format!(
            "video comes, but no key frame within {} s; {NO_KEY_FRAMES}",
            most.as_secs()
        );
        Err(SessionError::new(Failure::Away, message))
    }

    fn take_video(&mut self, frame: VideoFrame) -> Result<Fate, SessionError> {
        let (bytes, packets_lost, wall) = (frame.data.len(), frame.packets_lost, frame.wall);
        let fate = self.record_video(frame)?;
        self.board.frame(bytes, packets_lost, wall, fate);
        Ok(fate)
    }

    fn record_video(&mut self, mut frame: VideoFrame) -> Result<Fate, SessionError> {
        if let Some(params) = &frame.params {
            self.board.set_video(&params.video);
        }
        self.say_what_is_lost(&frame);
        let lost = self.feeder.take_lost();
        if lost.is_some() {
            self.pipeline.abandon();
            self.board.segment_lost();
        }
        if let Some(Lost::Video(why)) = lost {
            // Nothing is left that the end of the session would begin a segment with.
            self.pipeline.interrupt(CutReason::Other, &mut self.actions);
            let message = format!(
                "the video cannot be stored as it is: {why}; with an encoder as `video_codec`, such as libx264, it can"
            );
            return Err(SessionError::new(Failure::Away, message));
        }
        self.check_disk(lost.is_some(), frame.arrival);
        if let Some(dropping) = &mut self.dropping {
            dropping.frames += 1;
            self.missed_params = frame.params.take().or(self.missed_params.take());
            return Ok(Fate::Dropped);
        }
        if frame.params.is_none() {
            frame.params = self.missed_params.take();
        }
        self.pipeline.push_video(frame, &mut self.actions);
        Ok(match self.pipeline.has_entry() {
            true => Fate::Recorded,
            false => Fate::Useless,
        })
    }

    /// Once a minute, how many packets did not arrive.
    fn say_what_is_lost(&mut self, frame: &VideoFrame) {
        self.lost_unsaid += u64::from(frame.packets_lost);
        if frame.packets_lost == 0 || self.loss_limit.allow(frame.arrival).is_none() {
            return;
        }
        let _named = self.span.enter();
        let packets = std::mem::take(&mut self.lost_unsaid);
        let advice = match self.source.transport {
            Transport::Udp => {
                "over UDP packets are lost where the network or this machine is busy; \"transport\": \"tcp\" for this source \
                 avoids that"
            }
            Transport::Tcp => {
                "over TCP it is the camera that leaves packets out; ask it for a lower bitrate or fewer viewers"
            }
        };
        warn!(
            packets,
            advice, "packets lost, the frames they belong to are missing or damaged"
        );
    }

    /// Begins or ends dropping frames, by what the writer and the disk say.
    fn check_disk(&mut self, lost: bool, now: Duration) {
        let full = self.shared.disk_full.load(Ordering::Relaxed);
        let why = match () {
            () if lost => Some("the disk refused a write"),
            () if full => Some("the disk has less than min_free_disk_gb left"),
            () if self.feeder.is_over_budget() => Some("the disk is too slow"),
            () => None,
        };
        match (&self.dropping, why) {
            (None, Some(why)) => {
                let not_shown = self.disk_limit.allow(now);
                if let Some(not_shown) = not_shown {
                    let _named = self.span.enter();
                    error!(why, not_shown, "frames are being dropped");
                }
                self.pipeline.interrupt(CutReason::Other, &mut self.actions);
                self.board.set_state(State::DiskFull);
                self.board.set_error(why);
                self.dropping = Some(Dropping {
                    since: now,
                    frames: 0,
                    why,
                    retry_at: now + DISK_RETRY,
                    is_told: not_shown.is_some(),
                });
            }
            (Some(dropping), None) if now >= dropping.retry_at && self.feeder.is_relaxed() => {
                let _named = self.span.enter();
                let seconds = now.saturating_sub(dropping.since).as_secs_f64();
                let text = format!(
                    "{} frames dropped in {seconds:.1} s: {}",
                    dropping.frames, dropping.why
                );
                if dropping.is_told {
                    warn!(
                        frames = dropping.frames,
                        seconds,
                        why = dropping.why,
                        "recording again after dropped frames"
                    );
                }
                self.last_failure = Some(text);
                self.dropping = None;
            }
            _ => {}
        }
    }

    /// Passes on what the pipeline ordered, and puts gaps on record.
    fn hand_over(&mut self) {
        let mut actions = self.actions.iter();
        let follows = actions.any(|action| matches!(action, Action::Close(_)));
        let opening = self.actions.iter_mut().find_map(|action| match action {
            Action::Open(opening) => Some(opening),
            _ => None,
        });
        if let Some(opening) = opening {
            if follows {
                self.board.segment_follows(opening.start);
            }
            let failure = self.last_failure.take();
            let mut why = failure
                .clone()
                .unwrap_or_else(|| "not recording".to_owned());
            if let Some(earlier) = self.earlier.take()
                && opening.start > earlier.last_frame
            {
                let gap = opening.start.duration_since(earlier.last_frame);
                opening.gap_before = Duration::try_from(gap).ok();
                let not_running = Some("the recorder was not running".to_owned());
                let reasons = [earlier.trouble, not_running, failure];
                why = reasons
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join("; then: ");
            }
            let (until, gap) = (opening.start, opening.gap_before.unwrap_or_default());
            if gap >= SMALLEST_GAP {
                self.note_gap(until, gap, why);
            }
        }
        let now = self.now();
        self.feeder.push(&mut self.actions, now);
    }

    fn note_gap(&mut self, until: Timestamp, length: Duration, why: String) {
        let seconds = (length.as_secs_f64() * 1000.0).round() / 1000.0;
        self.board.gap(format!("{seconds} s before {until}: {why}"));
        if let Some(not_shown) = self.recovery_limit.allow(self.now()) {
            let _named = self.span.enter();
            warn!(seconds, why, not_shown, %until, "recording again after a gap");
        }
        self.feeder.note_gap(Gap { until, length, why });
    }

    /// Notes the failure and waits before the next attempt.
    async fn wait_after(&mut self, error: SessionError) {
        if let Some(change) = self.opener.another_way(&error) {
            info!(why = %error, change, "the source is opened in another way from now on");
            self.last_failure.get_or_insert(error.message);
            return;
        }
        if error.began_anew {
            info!(why = %error, "connecting again at once");
            self.last_failure.get_or_insert(error.message);
            self.opener.forget_stale_sessions().await;
            return;
        }
        let wait = self.backoff.next(error.failure, rand::random());
        self.board.set_state(match error.failure {
            Failure::Away => State::BackingOff,
            Failure::Refused => State::Refused,
        });
        self.board.set_error(&error.message);
        let seconds = wait.as_secs_f64();
        match self.log_limit.allow(self.now()) {
            Some(not_shown) => {
                warn!(%error, retry_in = format!("{seconds:.1} s"), attempt = self.backoff.failures(), not_shown, "source failed");
            }
            None => debug!(%error, seconds, "source failed"),
        }
        // What began the outage, not what the attempts during it met.
        self.last_failure.get_or_insert(error.message);
        tokio::time::sleep(wait).await;
    }

    fn limit_reached(&self) -> bool {
        let by_time = self
            .source
            .duration_limit
            .is_some_and(|limit| self.pipeline.recorded() >= limit);
        by_time || self.pipeline.is_exhausted()
    }

    fn now(&self) -> Duration {
        self.shared.clock.monotonic()
    }
}

impl Pace {
    fn note(&mut self, arrival: Duration) {
        if arrival.saturating_sub(self.since) >= PACE_TIME {
            self.longest = [Duration::ZERO, self.longest[0]];
            self.since = arrival;
        }
        if let Some(last) = self.last {
            let distance = arrival.saturating_sub(last);
            self.longest[0] = self.longest[0].max(distance);
        }
        self.last = Some(arrival);
    }

    fn longest(&self) -> Duration {
        self.longest[0].max(self.longest[1])
    }
}

fn silence(since_last_frame: Option<Duration>) -> String {
    let Some(since) = since_last_frame else {
        return format!("connected, but no frame within {} s", FIRST_FRAME.as_secs());
    };
    format!(
        "no frame for {:.1} s; the camera hangs or the network is cut",
        since.as_secs_f64()
    )
}

#[cfg(test)]
mod tests;
