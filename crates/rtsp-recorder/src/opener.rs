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
        }
    }

    /// True for cameras, false for files.
    pub fn is_live(&self) -> bool {
        self.source.kind() != SourceKind::File
    }

    /// Waits until the camera has forgotten earlier sessions, within reason.
    pub async fn prepare(&self) {
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
    }

    /// Uses FFmpeg's demuxer from now on; false when that is what is used already.
    fn fall_back(&mut self) -> bool {
        let changes = matches!(self.way, Way::Retina(_));
        self.way = Way::Demuxer;
        changes
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
