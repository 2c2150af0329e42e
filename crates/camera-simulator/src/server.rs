//! What all connections share: the cameras, the settings, the sessions over UDP, and the listeners.

use crate::auth::{AuthScheme, Credentials};
use crate::camera::Camera;
use crate::connection::Connection;
use crate::udp::UdpSession;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

/// Control connections at a time, over all ports; more are closed at once.
const MAX_CONNECTIONS: usize = 512;
/// Sessions over UDP at a time, over all cameras.
const MAX_UDP_SESSIONS: usize = 256;
/// Pause after `accept` failed (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How clients are treated.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub(crate) credentials: Option<Credentials>,
    pub(crate) scheme: AuthScheme,
    pub(crate) refuse_tcp: bool,
    pub(crate) session_timeout: Duration,
    /// For a request that has begun to arrive.
    pub(crate) request_timeout: Duration,
}

/// Shared by every task of one simulator.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) cameras: Vec<Arc<Camera>>,
    pub(crate) policy: Policy,
    udp: Mutex<HashMap<String, Arc<UdpSession>>>,
    connections: Arc<Semaphore>,
    /// Told whenever a camera may have begun or ceased to refuse connections.
    refusals: watch::Sender<()>,
}

impl Server {
    pub(crate) fn new(cameras: Vec<Arc<Camera>>, policy: Policy) -> Self {
        Self {
            cameras,
            policy,
            udp: Mutex::default(),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            refusals: watch::Sender::new(()),
        }
    }

    /// The camera whose name is `path`, which has no slashes around it.
    pub(crate) fn camera(&self, path: &str) -> Option<&Arc<Camera>> {
        self.cameras.iter().find(|c| c.name == path)
    }

    /// Lets listeners look again whether their cameras refuse connections.
    pub(crate) fn refusals_changed(&self) {
        self.refusals.send_replace(());
    }

    pub(crate) fn udp_session(&self, id: &str) -> Option<Arc<UdpSession>> {
        crate::lock(&self.udp).get(id).cloned()
    }

    /// Registers a session and watches over its end; `false` when there are too many.
    pub(crate) fn add_udp_session(self: &Arc<Self>, id: String, session: Arc<UdpSession>) -> bool {
        {
            let mut sessions = crate::lock(&self.udp);
            if sessions.len() >= MAX_UDP_SESSIONS {
                return false;
            }
            sessions.insert(id.clone(), Arc::clone(&session));
        }
        tokio::spawn(Arc::clone(self).guard_udp_session(id, session));
        true
    }

    /// Ends the session: stops sending and forgets it.
    pub(crate) fn end_udp_session(&self, id: &str) {
        if let Some(session) = crate::lock(&self.udp).remove(id) {
            session.stop();
            session.kill.notify_one();
        }
    }

    async fn guard_udp_session(self: Arc<Self>, id: String, session: Arc<UdpSession>) {
        loop {
            let expires = session.expires(self.policy.session_timeout);
            tokio::select! {
                () = session.kill.notified() => break,
                () = tokio::time::sleep_until(expires) => {}
            }
            if session.expires(self.policy.session_timeout) <= Instant::now() {
                tracing::info!(
                    camera = session.camera().name,
                    session = id,
                    "session timed out"
                );
                break;
            }
        }
        self.end_udp_session(&id);
    }

    /// Tells all clients over UDP that their streams end; those over TCP see the connection close.
    pub(crate) fn say_goodbye(&self) {
        for session in crate::lock(&self.udp).values() {
            session.say_goodbye();
        }
    }
}

/// Accepts connections for `cameras` until it is dropped; closes the port while all of them refuse.
pub(crate) async fn listen(
    server: Arc<Server>,
    cameras: Vec<Arc<Camera>>,
    mut listener: TcpListener,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let mut refusals = server.refusals.subscribe();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => serve(&server, &cameras, stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = refusals.changed() => {
                if refused_until(&cameras).is_some() {
                    drop(listener);
                    listener = reopen_later(address, &cameras, &mut refusals).await?;
                }
            }
        }
    }
}

/// When the first of the cameras takes connections again; `None` if one takes them now.
fn refused_until(cameras: &[Arc<Camera>]) -> Option<Instant> {
    let ends: Option<Vec<Instant>> = cameras
        .iter()
        .map(|c| c.conditions().refused_until())
        .collect();
    ends?.into_iter().min()
}

/// Holds the port without listening, so that clients get a reset and nobody else gets the port.
async fn reopen_later(
    address: SocketAddr,
    cameras: &[Arc<Camera>],
    refusals: &mut watch::Receiver<()>,
) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    while let Some(until) = refused_until(cameras) {
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            _ = refusals.changed() => {}
        }
    }
    socket.listen(128)
}

fn serve(
    server: &Arc<Server>,
    cameras: &[Arc<Camera>],
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
) {
    let Ok(permit) = Arc::clone(&server.connections).try_acquire_owned() else {
        tracing::warn!(%peer, "too many connections; this one is closed");
        return;
    };
    match Connection::new(Arc::clone(server), cameras.to_vec(), stream) {
        Ok(connection) => {
            tokio::spawn(async move {
                let end = connection.run().await;
                tracing::debug!(%peer, ?end, "connection ended");
                drop(permit);
            });
        }
        Err(error) => tracing::debug!(%error, %peer, "connection gone before it was served"),
    }
}
