//! The report of `--status --json`, gathered when somebody looks and shared by all who do.

use super::pace::OPEN_ENDED;
use super::{Refusal, Report, Shared, State, on_disk};
use crate::report::{DirectoryReport, Gatherer};
use axum::Json;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, StreamExt as _};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a page is told.
const INTERVAL: Duration = Duration::from_secs(2);
/// How soon a page asks again when no more is told.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A report that is younger is not gathered again.
const FRESH: Duration = Duration::from_millis(1_500);
/// How long the sizes of the directories hold: measuring walks through all files.
const SIZES_HOLD: Duration = Duration::from_secs(120);

/// The report that was gathered last.
pub(super) struct Live {
    inner: Mutex<Inner>,
}

struct Inner {
    gatherer: Gatherer,
    report: Option<(Instant, Arc<Report>)>,
    sizes: Option<(Instant, Vec<DirectoryReport>)>,
}

impl Live {
    pub(super) fn new(gatherer: Gatherer) -> Self {
        Self {
            inner: Mutex::new(Inner {
                gatherer,
                report: None,
                sizes: None,
            }),
        }
    }

    /// A report of this moment. Blocks on the disk.
    pub(super) fn report(&self) -> Arc<Report> {
        // What a panic left behind is replaced by the next report.
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((time, report)) = &inner.report
            && time.elapsed() < FRESH
        {
            return report.clone();
        }
        let report = Arc::new(inner.gather());
        inner.report = Some((Instant::now(), report.clone()));
        report
    }
}

impl Inner {
    fn gather(&mut self) -> Report {
        let mut report = self.gatherer.glance();
        let hold = |(time, _): &(Instant, Vec<DirectoryReport>)| time.elapsed() < SIZES_HOLD;
        if !self.sizes.as_ref().is_some_and(hold) {
            self.sizes = Some((Instant::now(), self.gatherer.measure()));
        }
        if let (Some(disk), Some((_, sizes))) = (&mut report.disk, &self.sizes) {
            disk.used.clone_from(sizes);
        }
        report
    }
}

pub(super) async fn report(shared: Arc<Shared>) -> Result<Arc<Report>, Refusal> {
    on_disk(shared, |shared| shared.live.report()).await
}

pub(super) async fn status(state: State) -> Result<Json<serde_json::Value>, Refusal> {
    let report = report(state.0).await?;
    let value = serde_json::to_value(&*report);
    value
        .map(Json)
        .map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// The report again and again, until the page is closed or has to ask again.
pub(super) async fn events(state: State) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let stream = futures::stream::unfold((state.0, false), async |(shared, again)| {
        if again {
            tokio::time::sleep(INTERVAL).await;
        }
        let told = report(shared.clone()).await.ok();
        let event = told.and_then(|report| Event::default().json_data(&*report).ok());
        let event = event.unwrap_or_else(|| Event::default().comment("nothing to tell"));
        Some((Ok(event.retry(ASK_AGAIN)), (shared, true)))
    });
    let stream = stream.take_until(tokio::time::sleep(OPEN_ENDED));
    Sse::new(stream).keep_alive(KeepAlive::default())
}
