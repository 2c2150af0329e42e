//! How long a visitor may take, so that slow ones, by fault or on purpose, do not use up all connections there may be.
//!
//! A connection has one time at which it is closed, however much still moves on it. Each part of the conversation sets
//! it anew:
//!
//! | part | begins | may take |
//! |---|---|---|
//! | asking | with the connection, and when an answer has left | `request` |
//! | answering | with the head of a request, whose body is read meanwhile | `answer` |
//! | telling | with the head of the answer | `answer` and what its length takes at `bytes_per_second` |
//!
//! Invariant: no part can be made longer by doing a little from time to time.

use super::guard::Visitor;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, Request};
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;

/// The longest that an answer without end goes on. Pages ask again then.
pub(super) const OPEN_ENDED: Duration = Duration::from_secs(3600);

/// What the parts of a conversation may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// For the head of a request, and for a connection that is kept open between two.
    pub(super) request: Duration,
    /// For the body of a request and what has to be done, and for any answer.
    pub(super) answer: Duration,
    /// A visitor who takes an answer slower than this is cut off; a poor mobile connection is faster.
    pub(super) bytes_per_second: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(15),
            answer: Duration::from_secs(60),
            bytes_per_second: 16 * 1024,
        }
    }
}

/// When a connection is closed. Its clones are of the same connection.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    limits: Limits,
    now: Arc<Mutex<Part>>,
}

#[derive(Debug, Clone, Copy)]
struct Part {
    closes: Instant,
    /// All of the answer is on its way.
    told: bool,
}

impl Pace {
    /// Of a connection that was just made.
    pub(super) fn new(limits: Limits) -> Self {
        let closes = Instant::now() + limits.request;
        let part = Part {
            closes,
            told: false,
        };
        Self {
            limits,
            now: Arc::new(Mutex::new(part)),
        }
    }

    /// When it is time to close the connection, as things are.
    pub(super) fn closes(&self) -> Instant {
        self.part().closes
    }

    /// What was handed over has left: if it was the last of an answer, the next request may come.
    pub(super) fn flushed(&self) {
        let mut part = self.part();
        if part.told {
            *part = Part {
                closes: Instant::now() + self.limits.request,
                told: false,
            };
        }
    }

    fn allow(&self, time: Duration) {
        *self.part() = Part {
            closes: Instant::now() + time,
            told: false,
        };
    }

    fn to_tell(&self, response: &Response) -> Duration {
        let header = response.headers().get(CONTENT_LENGTH);
        let header = header.and_then(|value| value.to_str().ok()?.parse().ok());
        let length: Option<u64> = response.body().size_hint().exact().or(header);
        self.limits.answer
            + length.map_or(OPEN_ENDED, |length| {
                Duration::from_secs(length / self.limits.bytes_per_second)
            })
    }

    fn part(&self) -> MutexGuard<'_, Part> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Stands before every request.
pub(super) async fn keep(request: Request, next: Next) -> Response {
    let visitor = request.extensions().get::<ConnectInfo<Visitor>>();
    let Some(pace) = visitor.map(|ConnectInfo(visitor)| visitor.pace.clone()) else {
        return next.run(request).await;
    };
    pace.allow(pace.limits.answer);
    let response = next.run(request).await;
    pace.allow(pace.to_tell(&response));
    response.map(|body| Body::new(Told { body, pace }))
}

/// The body of an answer, which is given away when all of it was told.
struct Told {
    body: Body,
    pace: Pace,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.pace.part().told = true;
    }
}

impl HttpBody for Told {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
