//! Tickets that were given up or refused, and putting them back.

use super::{Refusal, Shared, State, on_disk};
use axum::Json;
use axum::extract::Path;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use ticket_queue::{DirectoryQueue, Entry, Error, Options, Queue as _, RetryWhich, Stem};

/// A ticket that needs a person.
#[derive(Serialize)]
pub(super) struct FailedTicket {
    stem: Stem,
    state: ticket_queue::State,
    attempts: u32,
    /// In words.
    reason: String,
    /// When it was given up.
    time: Option<Timestamp>,
    /// The original as the ticket names it.
    original: Option<String>,
}

impl FailedTicket {
    fn of(entry: Entry) -> Option<Self> {
        use ticket_queue::State::{Corrupt, Failed};
        if !matches!(entry.state, Failed | Corrupt) {
            return None;
        }
        let hidden = |text: &str| daemon::redact::text(text).into_owned();
        let why = entry.why.as_ref();
        Some(Self {
            stem: entry.stem,
            state: entry.state,
            attempts: entry.attempt,
            reason: why.map(|why| hidden(&why.reason)).unwrap_or_default(),
            time: why.map(|why| why.time),
            original: why.and_then(|why| why.original.as_deref().map(hidden)),
        })
    }
}

impl Shared {
    /// The queue; none as long as nobody made one.
    pub(super) fn queue(&self) -> Result<Option<DirectoryQueue>, Error> {
        let dir = &self.setup.queue_dir;
        dir.exists()
            .then(|| DirectoryQueue::open(dir, Options::default()))
            .transpose()
    }
}

fn refusal(error: Error) -> Refusal {
    let status = match error {
        Error::NotFound { .. } => StatusCode::NOT_FOUND,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal(status, error.to_string())
}

pub(super) async fn list(state: State) -> Result<Json<Vec<FailedTicket>>, Refusal> {
    let entries = on_disk(state.0, |shared| match shared.queue()? {
        Some(queue) => queue.list(),
        None => Ok(Vec::new()),
    })
    .await?
    .map_err(refusal)?;
    let failed = entries.into_iter().filter_map(FailedTicket::of);
    Ok(Json(failed.collect()))
}

pub(super) async fn retry(
    state: State,
    Path(stem): Path<String>,
) -> Result<Json<Vec<Stem>>, Refusal> {
    let stem: Stem = stem.parse().map_err(|_| Refusal::not_found())?;
    let put_back = on_disk(state.0, move |shared| {
        let Some(queue) = shared.queue()? else {
            return Ok(Vec::new());
        };
        let which = RetryWhich::One(stem);
        let dirs = ["raw", "processed"].map(|kind| shared.setup.video_dir(kind));
        match dirs {
            [Some(raw), Some(processed)] => queue.retry_in(&which, raw, processed),
            _ => queue.retry(&which),
        }
    })
    .await?
    .map_err(refusal)?;
    if put_back.is_empty() {
        return Err(Refusal::not_found());
    }
    tracing::info!(stem = %put_back[0], "a failed ticket was put back from the dashboard");
    Ok(Json(put_back))
}
