//! The socket, with TLS where that is configured.

use super::pace::{Limits, Pace};
use axum::serve::Listener;
use settings::{DashboardSettings, TlsFiles};
use std::fmt;
use std::future::Future as _;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// Connections at the same time; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 64;
/// Longest time for the TLS handshake of one connection.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A connection on which nothing moves for so long is closed, so that forgotten ones do not use up all there may be.
/// Browsers ask for the rest of a video again.
const IDLE: Duration = Duration::from_secs(120);
/// Pause when the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(500);

/// A port that is ours, and what is spoken on it.
pub(super) struct Listening {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
    limits: Limits,
}

impl Listening {
    /// Takes the port and reads the certificate.
    pub(super) fn open(settings: &DashboardSettings) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::other(format!(
                "{}: {error}; give dashboard_listen in {} another port",
                settings.listen,
                settings::SYSTEM_FILE
            ))
        };
        let tls = settings.tls.as_ref().map(acceptor).transpose()?;
        let socket = TcpListener::bind(settings.listen).map_err(named)?;
        socket.set_nonblocking(true).map_err(named)?;
        let address = socket.local_addr().map_err(named)?;
        Ok(Self {
            socket,
            address,
            tls,
            limits: Limits::default(),
        })
    }

    /// For people to open.
    pub(super) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Accepts from now on; needs a runtime.
    pub(super) fn into_listener(self) -> io::Result<Connections> {
        let socket = tokio::net::TcpListener::from_std(self.socket)?;
        let (ready, connections) = mpsc::channel(1);
        tokio::spawn(accept(socket, self.tls, self.limits, ready));
        Ok(Connections {
            connections,
            address: self.address,
        })
    }
}

/// Whether certificate and key can be used.
///
/// # Errors
/// Which of them cannot, and why.
pub(crate) fn check_tls(files: &TlsFiles) -> io::Result<()> {
    acceptor(files).map(drop)
}

fn acceptor(files: &TlsFiles) -> io::Result<TlsAcceptor> {
    let wrong = |key: &str, path: &Path, error: &dyn fmt::Display| {
        io::Error::other(format!("{key} {}: {error}", path.display()))
    };
    let certs = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong("dashboard_tls_cert", &files.cert, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| wrong("dashboard_tls_key", &files.key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certs, key))
        .map_err(|error| wrong("dashboard_tls_cert", &files.cert, &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Handshakes run beside each other, so that a visitor who says nothing keeps nobody out.
async fn accept(
    socket: tokio::net::TcpListener,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    ready: mpsc::Sender<(Connection, SocketAddr)>,
) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else {
            return;
        };
        let (stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection to the dashboard failed");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (tls, ready) = (tls.clone(), ready.clone());
        tokio::spawn(async move {
            if let Some(stream) = spoken(stream, tls).await {
                let pace = Pace::new(limits);
                let connection = Connection {
                    stream,
                    idle: Box::pin(tokio::time::sleep(IDLE)),
                    over: Box::pin(tokio::time::sleep_until(pace.closes())),
                    pace,
                    _permit: permit,
                };
                ready.send((connection, peer)).await.ok();
            }
        });
    }
}

async fn spoken(stream: TcpStream, tls: Option<TlsAcceptor>) -> Option<Box<dyn Stream>> {
    let Some(tls) = tls else {
        return Some(Box::new(stream));
    };
    match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        _ => None,
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection that is ready for HTTP.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    idle: Pin<Box<Sleep>>,
    over: Pin<Box<Sleep>>,
    pace: Pace,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// How long its visitor may take.
    pub(super) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Refuses to go on with a visitor who has taken too long.
    fn in_time(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut dyn Stream>> {
        let closes = self.pace.closes();
        if self.over.deadline() != closes {
            self.over.as_mut().reset(closes);
        }
        if self.over.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(Pin::new(&mut *self.stream))
    }

    /// Ends what waits for too long, and begins to wait anew after what went on.
    fn watched<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.idle.as_mut().reset(Instant::now() + IDLE);
            return result;
        }
        let over = self.idle.as_mut().poll(context);
        over.map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The connections that are ready, one after the other.
pub(super) struct Connections {
    connections: mpsc::Receiver<(Connection, SocketAddr)>,
    address: SocketAddr,
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.in_time(context)?.poll_read(context, buffer);
        self.watched(context, read)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.in_time(context)?.poll_write(context, bytes);
        self.watched(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.in_time(context)?.poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.pace.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(context)?.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::super::guard::Visitor;
    use super::super::pace;
    use super::*;
    use axum::body::Bytes;
    use axum::routing::{get, post};
    use axum::{Router, middleware};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// What every part of a conversation may take.
    const TIME: Duration = Duration::from_millis(1500);
    /// More than what the kernel takes from us before anybody reads.
    const MUCH: usize = 64 << 20;

    /// What is served, on a port of its own.
    async fn served() -> SocketAddr {
        let settings = DashboardSettings {
            listen: ([127, 0, 0, 1], 0).into(),
            token: None,
            tls: None,
            show_originals: false,
        };
        let mut listening = Listening::open(&settings).expect("a port is free");
        listening.limits = Limits {
            request: TIME,
            answer: TIME,
            bytes_per_second: MUCH as u64,
        };
        let address = listening.address;
        let listener = listening.into_listener().expect("it listens");
        let much = Bytes::from(vec![b'x'; MUCH]);
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route("/echo", post(async |body: Bytes| body))
            .route("/much", get(async move || much))
            .layer(middleware::from_fn(pace::keep))
            .into_make_service_with_connect_info::<Visitor>();
        tokio::spawn(async { axum::serve(listener, router).await });
        address
    }

    async fn visitor(address: SocketAddr, says: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("it is reached");
        let said = stream.write_all(says.as_bytes()).await;
        said.expect("it can be said");
        stream
    }

    /// Somebody who is not slow, and gets what was asked for.
    async fn is_answered(address: SocketAddr) {
        let asked = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let mut stream = visitor(address, asked).await;
        let mut told = String::new();
        let read = tokio::time::timeout(TIME * 10, stream.read_to_string(&mut told));
        let read = read.await.expect("somebody else is answered");
        read.expect("it can be read");
        assert!(told.ends_with("hello"), "{told}");
    }

    /// As many as may come, who all say something every now and then; returns how long until the last is cut off.
    async fn say_on(address: SocketAddr, first: &str, again: &str) -> Duration {
        let mut slow = Vec::new();
        for _ in 0..MOST_CONNECTIONS {
            slow.push(visitor(address, first).await);
        }
        let start = Instant::now();
        let said = slow.into_iter().map(|mut stream| async move {
            while start.elapsed() < TIME * 10 && stream.write_all(again.as_bytes()).await.is_ok() {
                tokio::time::sleep(TIME / 10).await;
            }
        });
        let said = futures::future::join_all(said);
        tokio::join!(said, is_answered(address));
        start.elapsed()
    }

    #[tokio::test]
    async fn who_asks_slowly_is_cut_off() {
        let address = served().await;
        let took = say_on(address, "GET / HTTP/1.1\r\n", "X: y\r\n").await;
        assert!(took >= TIME / 2 && took < TIME * 8, "{took:?}");
    }

    #[tokio::test]
    async fn who_sends_slowly_is_cut_off() {
        let address = served().await;
        let head = "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";
        let took = say_on(address, head, "x").await;
        assert!(took >= TIME / 2 && took < TIME * 8, "{took:?}");
    }

    #[tokio::test]
    async fn who_reads_slowly_is_cut_off() {
        let address = served().await;
        let mut slow = Vec::new();
        for _ in 0..MOST_CONNECTIONS {
            slow.push(visitor(address, "GET /much HTTP/1.1\r\nHost: x\r\n\r\n").await);
        }
        let start = Instant::now();
        let read = slow.into_iter().map(|mut stream| async move {
            let mut bytes = vec![0; 64 * 1024];
            while start.elapsed() < TIME * 10 {
                match stream.read(&mut bytes).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => tokio::time::sleep(TIME / 10).await,
                }
            }
        });
        tokio::select! {
            () = is_answered(address) => {}
            _ = futures::future::join_all(read) => panic!("nobody else was answered"),
        }
        assert!(start.elapsed() < TIME * 8, "{:?}", start.elapsed());
    }

    /// Each request and each answer has its time, whatever the ones before it took.
    #[tokio::test]
    async fn a_conversation_may_be_long() {
        let address = served().await;
        let mut stream = visitor(address, "").await;
        for _ in 0..5 {
            let asked = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
            stream.write_all(asked).await.unwrap();
            let mut told = Vec::new();
            while !told.ends_with(b"hello") {
                let read = stream.read_buf(&mut told).await.unwrap();
                assert!(read > 0, "{}", String::from_utf8_lossy(&told));
            }
            tokio::time::sleep(TIME / 3).await;
        }
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(TIME * 8, stream.read_to_end(&mut rest));
        closed
            .await
            .expect("it is closed when nothing more comes")
            .ok();
    }
}
