//! One control connection: reading requests, holding them back when a fault says so, writing answers and
//! interleaved media. The requests themselves are answered in `requests.rs`.
//!
//! Everything runs in one task that waits for the socket only here; what it must not wait for (a client that
//! does not read) is ended from outside through `kill`.

use crate::camera::{Attachment, Camera};
use crate::live::{LiveUnit, Subscription};
use crate::message::{self, BadMessage, Incoming, Request, Response};
use crate::server::Server;
use crate::session::{self, SessionTrack};
use bytes::BytesMut;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Requests that wait for their turn (slow answers, silence) before reading stops.
const MAX_HELD: usize = 16;
/// How soon an early end of a silence is noticed.
const SILENCE_STEP: Duration = Duration::from_millis(200);
/// Grace over the session time-out for connections without a session of their own.
const IDLE_GRACE: Duration = Duration::from_secs(5);

/// How a connection ended.
#[derive(Debug, Error)]
pub(crate) enum End {
    #[error("closed by the client")]
    Client,
    #[error("closed by a fault, or the client read too slowly")]
    Killed,
    #[error("camera refuses connections")]
    Refused,
    #[error("no request in time")]
    Idle,
    #[error("not an RTSP message: {0}")]
    Bad(#[from] BadMessage),
    #[error("socket: {0}")]
    Io(#[from] io::Error),
}

/// The session whose media goes through this connection.
#[derive(Debug)]
pub(crate) struct Interleaved {
    pub(crate) id: String,
    pub(crate) camera: Arc<Camera>,
    pub(crate) tracks: Vec<SessionTrack>,
    pub(crate) playing: Option<Subscription>,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) server: Arc<Server>,
    /// The cameras of the port that the client connected to.
    pub(crate) cameras: Vec<Arc<Camera>>,
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) nonce: String,
    /// The cameras that requests have named so far.
    attached: Vec<Attachment>,
    pub(crate) interleaved: Option<Interleaved>,
    pub(crate) kill: Arc<Notify>,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    input: BytesMut,
    last_message: Instant,
    /// Since when a message is incomplete.
    partial_since: Option<Instant>,
    held: VecDeque<(Instant, Request)>,
    /// The client will send no more.
    ended: bool,
}

enum Event {
    Read(usize),
    RequestDue,
    Unit(Arc<LiveUnit>),
    Deadline,
}

impl Connection {
    pub(crate) fn new(
        server: Arc<Server>,
        cameras: Vec<Arc<Camera>>,
        stream: TcpStream,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
        let (reader, writer) = stream.into_split();
        Ok(Self {
            server,
            cameras,
            local,
            peer,
            nonce: crate::random_id(),
            attached: Vec::new(),
            interleaved: None,
            kill: Arc::default(),
            reader,
            writer,
            input: BytesMut::new(),
            last_message: Instant::now(),
            partial_since: None,
            held: VecDeque::new(),
            ended: false,
        })
    }

    /// Serves the client until one side ends it; says why.
    pub(crate) async fn run(mut self) -> End {
        let kill = Arc::clone(&self.kill);
        tokio::select! {
            end = self.serve() => end,
            () = kill.notified() => End::Killed,
        }
    }

    async fn serve(&mut self) -> End {
        loop {
            if let Err(end) = self.step().await {
                return end;
            }
        }
    }

    async fn step(&mut self) -> Result<(), End> {
        if self.ended && self.held.is_empty() {
            return Err(End::Client);
        }
        match self.next_event().await? {
            // What it asked before (TEARDOWN, most likely) is still to be done.
            Event::Read(0) => {
                self.ended = true;
                Ok(())
            }
            Event::Read(_) => self.take_messages().await,
            Event::RequestDue => self.answer_next().await,
            Event::Unit(unit) => self.send_unit(&unit).await,
            Event::Deadline => Err(End::Idle),
        }
    }

    async fn next_event(&mut self) -> Result<Event, End> {
        let deadline = self.deadline();
        let due = self.held.front().map(|(due, _)| *due);
        let units = self
            .interleaved
            .as_mut()
            .and_then(|session| session.playing.as_mut())
            .map(|playing| &mut playing.units);
        tokio::select! {
            biased;
            () = sleep_until(due) => Ok(Event::RequestDue),
            read = self.reader.read_buf(&mut self.input), if !self.ended && self.held.len() < MAX_HELD => Ok(Event::Read(read?)),
            unit = next_unit(units) => unit.map(Event::Unit).ok_or(End::Killed),
            () = sleep_until(deadline) => Ok(Event::Deadline),
        }
    }

    /// When to give up on the client; never while its media goes through this connection.
    fn deadline(&self) -> Option<Instant> {
        let playing = self
            .interleaved
            .as_ref()
            .is_some_and(|s| s.playing.is_some());
        let policy = &self.server.policy;
        if !self.held.is_empty() {
            None
        } else if let Some(since) = self.partial_since {
            Some(since + policy.request_timeout)
        } else if playing {
            None
        } else {
            Some(self.last_message + policy.session_timeout + IDLE_GRACE)
        }
    }

    async fn take_messages(&mut self) -> Result<(), End> {
        loop {
            match message::take(&mut self.input) {
                Ok(Some(Incoming::Request(request))) => self.hold(request),
                Ok(Some(Incoming::Ignored)) => {}
                Ok(None) => break,
                Err(bad) => {
                    self.respond(&Response::new(bad.status()), None).await?;
                    return Err(End::Bad(bad));
                }
            }
            self.last_message = Instant::now();
            self.partial_since = None;
        }
        match self.input.is_empty() {
            true => self.partial_since = None,
            false => self.partial_since = self.partial_since.or_else(|| Some(Instant::now())),
        }
        Ok(())
    }

    /// Queues a request for when the camera's faults let it be answered.
    fn hold(&mut self, request: Request) {
        let delay = match self.find_camera(&request) {
            Some(camera) => camera.conditions().slow,
            None => Duration::ZERO,
        };
        self.held.push_back((Instant::now() + delay, request));
    }

    async fn answer_next(&mut self) -> Result<(), End> {
        let Some((_, request)) = self.held.pop_front() else {
            return Ok(());
        };
        if let Some(camera) = self.find_camera(&request) {
            let conditions = camera.conditions().clone();
            if let Some(until) = conditions.silent_until() {
                self.attach(&camera);
                // Looked at again soon: the silence may be ended early.
                let again = until.min(Instant::now() + SILENCE_STEP);
                self.held.push_front((again, request));
                return Ok(());
            }
            if !self.is_attached(&camera) && conditions.refused_until().is_some() {
                return Err(End::Refused);
            }
            self.attach(&camera);
        }
        let response = self.answer(&request).await;
        self.respond(&response, request.header("CSeq")).await
    }

    /// The camera a request is for: that of its path, else the one the connection talked to last.
    pub(crate) fn find_camera(&self, request: &Request) -> Option<Arc<Camera>> {
        let (path, _) = crate::requests::split_track(request.path());
        self.cameras
            .iter()
            .find(|c| c.name == path)
            .or_else(|| self.attached.last().map(Attachment::camera))
            .cloned()
    }

    fn is_attached(&self, camera: &Arc<Camera>) -> bool {
        self.attached
            .iter()
            .any(|a| Arc::ptr_eq(a.camera(), camera))
    }

    fn attach(&mut self, camera: &Arc<Camera>) {
        if !self.is_attached(camera) {
            self.attached.push(camera.attach(Arc::clone(&self.kill)));
        }
    }

    async fn respond(&mut self, response: &Response, cseq: Option<&str>) -> Result<(), End> {
        self.writer.write_all(&response.to_bytes(cseq)).await?;
        Ok(())
    }

    async fn send_unit(&mut self, unit: &LiveUnit) -> Result<(), End> {
        let Some(session) = &mut self.interleaved else {
            return Ok(());
        };
        let mut out = BytesMut::new();
        session::write_interleaved(&mut session.tracks, unit, &session.camera, &mut out);
        self.writer.write_all(&out).await?;
        Ok(())
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        // The timer's millisecond would be added to every answer.
        Some(time) if time <= Instant::now() => {}
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn next_unit(
    units: Option<&mut tokio::sync::mpsc::Receiver<Arc<LiveUnit>>>,
) -> Option<Arc<LiveUnit>> {
    match units {
        Some(units) => units.recv().await,
        None => std::future::pending().await,
    }
}
