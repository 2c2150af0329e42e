//! The dashboard: a page for a web browser that shows how everything is, plays what was published,
//! and puts failed tickets back.
//!
//! It lives in a thread with a runtime of its own and learns everything from files, so that nothing
//! that happens here, a panic or a hang included, touches the supervision. It may read published
//! videos, reports, the queue, the status files and the record of gaps. It opens the directories of originals only where
//! `dashboard_show_originals` allows it, and changes nothing but to put a ticket back into the queue when asked.

mod failed;
mod guard;
mod listen;
mod live;
mod metrics;
mod originals;
mod pace;
mod pages;
mod published;
mod timeline;
mod videos;

use crate::report::{Gatherer, Report};
use crate::setup::{NotUsable, Setup};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use guard::{Guard, Visitor};
use listen::Listening;
pub(crate) use listen::check_tls;
use live::Live;
use published::Index;
use settings::DashboardSettings;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Everything that the handlers share.
struct Shared {
    setup: Setup,
    guard: Guard,
    live: Live,
    index: Mutex<Index>,
}

type State = axum::extract::State<Arc<Shared>>;

/// Starts the dashboard, if the settings want one. What keeps it from starting is logged: recording
/// is worth more than a page about it.
pub(crate) fn start(setup: &Setup) {
    let Some(settings) = &setup.system.dashboard else {
        return;
    };
    match Listening::open(settings) {
        Ok(listening) => spawn(setup.clone(), settings.clone(), listening),
        Err(error) => tracing::warn!("no dashboard: {error}; everything else goes on"),
    }
}

/// Starts the dashboard for a program that has nothing else to do.
///
/// # Errors
/// The settings want none, or it cannot listen.
pub(crate) fn start_alone(setup: &Setup) -> anyhow::Result<()> {
    let Some(settings) = &setup.system.dashboard else {
        let words = format!("\"dashboard\" is false in {}", settings::SYSTEM_FILE);
        return Err(NotUsable(words).into());
    };
    let listening = Listening::open(settings)?;
    spawn(setup.clone(), settings.clone(), listening);
    Ok(())
}

fn spawn(setup: Setup, settings: DashboardSettings, listening: Listening) {
    tracing::info!("dashboard on {}", listening.url());
    if settings.show_originals {
        tracing::warn!(
            "the dashboard also shows unblurred originals to everyone with the token (dashboard_show_originals)"
        );
    }
    let body = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(8)
            .build();
        match runtime {
            Ok(runtime) => runtime.block_on(serve(setup, settings, listening)),
            Err(error) => tracing::warn!(%error, "no dashboard: its runtime cannot be made"),
        }
    };
    let thread = std::thread::Builder::new().name("dashboard".to_owned());
    if let Err(error) = thread.spawn(body) {
        tracing::warn!(%error, "no dashboard: its thread cannot be started");
    }
}

async fn serve(setup: Setup, settings: DashboardSettings, listening: Listening) {
    let shared = Arc::new(Shared {
        live: Live::new(Gatherer::new(&setup)),
        guard: Guard::new(&settings),
        index: Mutex::default(),
        setup,
    });
    let served = match listening.into_listener() {
        Ok(listener) => {
            let service = router(shared).into_make_service_with_connect_info::<Visitor>();
            axum::serve(listener, service).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::warn!(%error, "the dashboard has stopped");
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let check = middleware::from_fn_with_state(shared.clone(), guard::check);
    let mut router = Router::new();
    if shared.shows_originals() {
        router = router.route("/originals/{source}/{file}", get(originals::send));
    }
    router
        .route("/", get(pages::index))
        .route("/app.js", get(pages::script))
        .route("/texts.js", get(pages::texts))
        .route("/style.css", get(pages::style))
        .route("/icon.svg", get(pages::icon))
        .route("/login", get(pages::login).post(guard::log_in))
        .route("/healthz", get(async || "ok\n"))
        .route("/metrics", get(metrics::show))
        .route("/api/status", get(live::status))
        .route("/api/events", get(live::events))
        .route("/api/timeline", get(timeline::show))
        .route("/api/videos", get(videos::list))
        .route("/videos/{source}/{file}", get(videos::send))
        .route("/api/failed", get(failed::list))
        .route("/api/failed/{stem}/retry", post(failed::retry))
        .layer(check)
        .layer(middleware::from_fn(pace::keep))
        .with_state(shared)
}

impl Shared {
    /// Where published videos are; none when the blur processor is left out.
    fn processed_dir(&self) -> Option<&Path> {
        self.setup.video_dir("processed")
    }

    /// Whether an administrator allows originals to be seen.
    fn shows_originals(&self) -> bool {
        let settings = self.setup.system.dashboard.as_ref();
        settings.is_some_and(|settings| settings.show_originals)
    }

    /// Where originals are looked for; nowhere unless they may be seen.
    fn original_dirs(&self) -> Vec<&Path> {
        if !self.shows_originals() {
            return Vec::new();
        }
        let dirs = ["raw", "backup"].map(|kind| self.setup.video_dir(kind));
        dirs.into_iter().flatten().collect()
    }

    /// The record of gaps, the older part first.
    fn gap_files(&self) -> [PathBuf; 2] {
        ["gaps.jsonl.1", "gaps.jsonl"].map(|name| self.setup.places.log_dir.join(name))
    }

    fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        // A cache that a panic left half filled is still a cache.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does what reads the disk in a thread where it may block.
async fn on_disk<T: Send + 'static>(
    shared: Arc<Shared>,
    work: impl FnOnce(&Shared) -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(move || work(&shared))
        .await
        .map_err(|_| Refusal(StatusCode::INTERNAL_SERVER_ERROR, "it failed".to_owned()))
}

/// An answer that is not what was asked for.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl Refusal {
    fn not_found() -> Self {
        Self(StatusCode::NOT_FOUND, "there is no such thing".to_owned())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = daemon::redact::text(&self.1).into_owned();
        (self.0, format!("{text}\n")).into_response()
    }
}
