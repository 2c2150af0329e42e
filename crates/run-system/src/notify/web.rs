//! Webhooks: one POST request over HTTP/1.1, with TLS where the address says so.
//!
//! No connection is kept, no redirect followed and no proxy used: a notification is rare and small, and its address is
//! the whole secret.

use super::courier::{Failure, Then};
use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use axum::http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use settings::HookUrl;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// What is read of an answer, to tell why it was refused.
const MOST_ANSWER_BYTES: usize = 16 << 10;
/// What of it is told.
const MOST_TOLD_CHARS: usize = 200;

/// Sends requests.
#[derive(Default)]
pub(crate) struct Client {
    tls: OnceLock<Result<TlsConnector, String>>,
}

/// A request.
pub(super) struct Post<'a> {
    pub(super) url: &'a HookUrl,
    pub(super) headers: &'a [(String, String)],
    pub(super) body: Vec<u8>,
}

impl Client {
    /// Whether webhooks over TLS can be used on this machine.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub(crate) fn check_tls(&self) -> Result<(), String> {
        self.connector().map(|_| ())
    }

    fn connector(&self) -> Result<TlsConnector, String> {
        self.tls.get_or_init(connector).clone()
    }

    pub(super) async fn send(&self, post: Post<'_>) -> Result<(), Failure> {
        let (host, port) = post.url.endpoint();
        let stream = TcpStream::connect((host, port))
            .await
            .map_err(|error| Failure::again(format!("{host}:{port}: {error}")))?;
        if !post.url.is_tls() {
            return exchange(stream, post).await;
        }
        let connector = self.connector().map_err(Failure::again)?;
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| Failure::again(format!("{host}: {error}")))?;
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|error| Failure::again(format!("{host}:{port}: TLS: {error}")))?;
        exchange(stream, post).await
    }
}

/// Trusts whom this machine trusts.
fn connector() -> Result<TlsConnector, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first();
        let why = why.map(|error| format!(": {error}")).unwrap_or_default();
        return Err(format!(
            "this machine has no certificates of authorities to trust{why}; install the package ca-certificates, or name a PEM file in SSL_CERT_FILE"
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn exchange<S>(stream: S, post: Post<'_>) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| Failure::again(error.to_string());
    let request = request(post)?;
    let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        judge(answer).await
    };
    // The connection moves only while it is polled, and goes with this function, however that ends.
    let connection = async {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection of a webhook broke");
        }
        // What that means for the answer, the answer tells.
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        outcome = answer => outcome,
        never = connection => match never {},
    }
}

fn request(post: Post<'_>) -> Result<Request<Body>, Failure> {
    let mut request = Request::post(post.url.expose_path())
        .header(HOST, post.url.authority())
        .header(
            USER_AGENT,
            concat!("run-system/", env!("CARGO_PKG_VERSION")),
        )
        .header(CONTENT_TYPE, "application/json")
        .header(CONNECTION, "close");
    for (name, value) in post.headers {
        // A header of the user's stands instead of ours.
        if let Some(headers) = request.headers_mut() {
            headers.remove(name);
        }
        request = request.header(name, value);
    }
    // The error could repeat what is secret.
    request.body(Body::from(post.body)).map_err(|_| Failure {
        why: "address or headers cannot be sent as they are".to_owned(),
        then: Then::GiveUp,
    })
}

/// What an answer means. What the service will never take is not sent again.
async fn judge(answer: Response<Incoming>) -> Result<(), Failure> {
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let then = match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            after(answer.headers())
        }
        status if status.is_server_error() => after(answer.headers()),
        _ => Then::GiveUp,
    };
    let why = if status.is_redirection() {
        format!("the answer is {status}: give the address that it leads to")
    } else {
        let said = to_bytes(Body::new(answer.into_body()), MOST_ANSWER_BYTES);
        match told(&said.await.unwrap_or_default()) {
            said if said.is_empty() => format!("the answer is {status}"),
            said => format!("the answer is {status}: {said}"),
        }
    };
    Err(Failure { why, then })
}

fn after(headers: &HeaderMap) -> Then {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| {
        let seconds: u64 = value.to_str().ok()?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds))
    });
    seconds.map_or(Then::Again, Then::After)
}

/// The beginning of an answer that is no page for people.
fn told(answer: &Bytes) -> String {
    let text = String::from_utf8_lossy(answer);
    let text = text.trim();
    if text.starts_with('<') {
        return String::new();
    }
    text.chars().take(MOST_TOLD_CHARS).collect()
}
