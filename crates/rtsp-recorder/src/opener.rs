//! How a source is connected to: retina for RTSP, FFmpeg's demuxer for the rest and for what retina cannot read.

use crate::backoff::Failure;
use crate::demux::{DemuxSession, open_limit};
use crate::input::{Input, SessionError, Stamps};
use crate::rtsp;
use retina::client::SessionGroup;
use settings::{Source, SourceKind, Transport, VideoCodec};
use std::sync::Arc;
use std::time::Duration;

/// A stale session of this source on the camera is waited for at most this long.
const STALE_WAIT: Duration = Duration::from_secs(10);

/// At the end the camera is given this long to answer that a session is torn down.
const TEARDOWN_WAIT: Duration = Duration::from_millis(800);

/// So many short sessions in a row that end with a packet which retina cannot read are no chance.
const UNREADABLE_SESSIONS: u32 = 3;

/// What made retina fail may pass, such as what a camera says while it starts. So it is tried again with the first connection
/// that is made so long after FFmpeg's demuxer took over, or twice as long as the last time.
const FIRST_STAY: Duration = Duration::from_secs(60);

/// ... but after so long in any case.
const LONGEST_STAY: Duration = Duration::from_secs(3600);

/// Connects to one source, again and again.
pub struct Opener {
    /// With the transport that is tried now.
    source: Arc<Source>,
    stamps: Stamps,
    way: Way,
    /// What the settings say.
    wanted: Transport,
    /// Sessions in a row that ended with such a packet.
    unreadable: u32,
    /// When FFmpeg's demuxer took over last.
    taken_over: Duration,
    /// How long it reads the source then.
    stay: Duration,
}

enum Way {
    /// Sessions of one camera share a group, so that a new one waits for the teardown of the one before: old live555
    /// servers go on sending on the old one.
    Retina(Arc<SessionGroup>),
    Demuxer,
}

impl Way {
    fn retina(source: &Source) -> Self {
        let group = SessionGroup::default().named(source.name.to_string());
        Way::Retina(Arc::new(group))
    }
}

/// True for sources that retina reads, unless it turns out that it cannot.
fn is_retinas(source: &Source) -> bool {
    source.kind() == SourceKind::Rtsp && source.video_codec == VideoCodec::Copy
}

impl Opener {
    /// For that source.
    pub fn new(source: Arc<Source>, stamps: Stamps) -> Self {
        let way = match is_retinas(&source) {
            true => Way::retina(&source),
            false => Way::Demuxer,
        };
        Opener {
            wanted: source.transport,
            source,
            stamps,
            way,
            unreadable: 0,
            taken_over: Duration::ZERO,
            stay: FIRST_STAY,
        }
    }

    /// True for cameras, false for files.
    pub fn is_live(&self) -> bool {
        self.source.kind() != SourceKind::File
    }

    /// Chooses the way of the next connection, and waits until the camera has forgotten earlier sessions, within reason.
    pub async fn prepare(&mut self) {
        self.return_to_retina();
        let Way::Retina(group) = &self.way else {
            return;
        };
        let stale = group.stale_sessions();
        if stale.num_sessions > 0 {
            tracing::debug!(
                sessions = stale.num_sessions,
                "waiting for earlier sessions to be torn down"
            );
            tokio::time::timeout(STALE_WAIT, group.await_stale_sessions(&stale))
                .await
                .ok();
        }
    }

    /// How long [`Self::open`] may take.
    pub fn limit(&self) -> Duration {
        match &self.way {
            Way::Retina(_) => self.source.connection_timeout,
            Way::Demuxer => open_limit(&self.source),
        }
    }

    /// Connects. There is no time-out here.
    ///
    /// # Errors
    /// The source is away, refuses, or sends what cannot be read.
    pub async fn open(&self) -> Result<Input, SessionError> {
        match &self.way {
            Way::Retina(group) => {
                let session = rtsp::open(&self.source, group.clone(), &self.stamps).await?;
                Ok(Input::Rtsp(Box::new(session)))
            }
            Way::Demuxer => {
                let session = DemuxSession::open(self.source.clone(), self.stamps.clone()).await?;
                Ok(Input::Demuxed(session))
            }
        }
    }

    /// Gets ready to open the source in another way, when the error says that there may be one. The answer says what is
    /// different from now on, or that nothing is and only time may help.
    pub fn another_way(&mut self, error: &SessionError) -> Option<&'static str> {
        self.unreadable = match error.unreadable {
            true => self.unreadable + 1,
            false => 0,
        };
        let is_hopeless = error.unsupported || self.unreadable >= UNREADABLE_SESSIONS;
        if is_hopeless && self.fall_back() {
            return Some("the stream is read with FFmpeg's demuxer");
        }
        if error.transport_refused && self.other_transport() {
            return Some("RTP over the other transport is tried");
        }
        None
    }

    /// Gets ready for the session after one in which the camera began anew. retina takes what came under another SSRC for
    /// the rest of a session that nobody tore down, and would have it waited for.
    pub async fn forget_stale_sessions(&mut self) {
        self.close().await;
        if let Way::Retina(_) = self.way {
            self.way = Way::retina(&self.source);
        }
    }

    /// Notes that a session went well for a while.
    pub fn note_proven(&mut self) {
        self.unreadable = 0;
        if let Way::Retina(_) = self.way {
            self.stay = FIRST_STAY;
        }
    }

    /// Uses FFmpeg's demuxer from now on; false when that is what is used already.
    fn fall_back(&mut self) -> bool {
        let changes = matches!(self.way, Way::Retina(_));
        if changes {
            self.way = Way::Demuxer;
            self.taken_over = self.now();
        }
        changes
    }

    /// Uses retina again after FFmpeg's demuxer had its time.
    fn return_to_retina(&mut self) {
        let is_demuxed = matches!(self.way, Way::Demuxer) && is_retinas(&self.source);
        if is_demuxed && self.now().saturating_sub(self.taken_over) >= self.stay {
            tracing::info!("the source is opened as it was before FFmpeg's demuxer took over");
            self.way = Way::retina(&self.source);
            // One more session with such a packet is enough.
            self.unreadable = UNREADABLE_SESSIONS - 1;
            self.stay = (self.stay * 2).min(LONGEST_STAY);
        }
    }

    fn now(&self) -> Duration {
        self.stamps.0.monotonic()
    }

    /// Uses the other transport from now on. After that was refused as well it is again the one of the settings, and the
    /// answer false: there is nothing more to try.
    fn other_transport(&mut self) -> bool {
        let mut source = (*self.source).clone();
        source.transport = match source.transport {
            Transport::Tcp => Transport::Udp,
            Transport::Udp => Transport::Tcp,
        };
        self.source = Arc::new(source);
        self.source.transport != self.wanted
    }

    /// Gives the camera a moment to hear that the last session is over.
    pub async fn close(&self) {
        let Way::Retina(group) = &self.way else {
            return;
        };
        match tokio::time::timeout(TEARDOWN_WAIT, group.await_teardown()).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => {
                tracing::debug!(error = %daemon::redact::text(&error.to_string()), "no teardown")
            }
        }
    }
}

/// A blocking part failed to start.
pub(crate) fn no_thread(error: std::io::Error) -> SessionError {
    SessionError::new(Failure::Away, format!("no thread left: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime_clock::RuntimeClock;
    use tokio::time::{Instant, advance};

    fn opener(source: &str) -> Opener {
        let text = format!(r#"{{"sources": [{source}]}}"#);
        let settings =
            settings::RecorderSettings::from_text(&text, &settings::Environment::empty());
        let source = settings.expect("settings").sources[0].clone();
        Opener::new(
            Arc::new(source),
            Stamps(Arc::new(RuntimeClock(Instant::now()))),
        )
    }

    /// Whether retina reads the source with a connection that is made so many seconds later.
    async fn is_retina_after(opener: &mut Opener, seconds: u64) -> bool {
        advance(Duration::from_secs(seconds)).await;
        opener.prepare().await;
        matches!(opener.way, Way::Retina(_))
    }

    fn unsupported() -> SessionError {
        SessionError::unsupported("odd".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn retina_is_tried_again_after_ffmpegs_demuxer() {
        let mut opener = opener(r#"{"url": "rtsp://127.0.0.1/a"}"#);
        assert!(opener.another_way(&unsupported()).is_some());
        assert!(!is_retina_after(&mut opener, 59).await);
        assert!(is_retina_after(&mut opener, 1).await);
        // A camera that is away says nothing of retina.
        let away = SessionError::new(Failure::Away, "refused".to_owned());
        assert!(opener.another_way(&away).is_none());
        assert!(is_retina_after(&mut opener, 1000).await);
        // The second time it takes longer, and in the end an hour.
        assert!(opener.another_way(&unsupported()).is_some());
        assert!(!is_retina_after(&mut opener, 119).await);
        assert!(is_retina_after(&mut opener, 1).await);
        for _ in 0..10 {
            assert!(opener.another_way(&unsupported()).is_some());
            assert!(is_retina_after(&mut opener, 3600).await);
        }
        // A session that went well makes all as it was at first.
        opener.note_proven();
        assert!(opener.another_way(&unsupported()).is_some());
        assert!(is_retina_after(&mut opener, 60).await);
    }

    #[tokio::test(start_paused = true)]
    async fn packets_that_retina_still_cannot_read_cost_one_session() {
        let mut opener = opener(r#"{"url": "rtsp://127.0.0.1/a"}"#);
        let unreadable = SessionError::unreadable("odd".to_owned());
        assert!(opener.another_way(&unreadable).is_none());
        assert!(opener.another_way(&unreadable).is_none());
        assert!(opener.another_way(&unreadable).is_some());
        // What FFmpeg's demuxer reads well says nothing of retina.
        opener.note_proven();
        assert!(is_retina_after(&mut opener, 60).await);
        assert!(opener.another_way(&unreadable).is_some());
        assert!(!is_retina_after(&mut opener, 119).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_retinas_stays_with_ffmpegs_demuxer() {
        for source in [
            r#"{"url": "http://127.0.0.1/a"}"#,
            r#"{"url": "rtsp://127.0.0.1/a", "video_codec": "libx264"}"#,
        ] {
            assert!(!is_retina_after(&mut opener(source), 10_000).await);
        }
    }
}
