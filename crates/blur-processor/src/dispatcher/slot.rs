//! One worker slot: a ready worker, a ticket, an end for it; again.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{Instrument as _, error, info, info_span, warn};

use ticket_queue::{Lease, Queue as _};

use super::Shared;
use super::original::chain;
use super::ticket::{Next, Settled, Work};
use super::worker_process::{Ending, WorkerProcess};
use crate::pipeline::{Failure, Pace, VideoJob};

/// A worker that does not come up is tried again after this, doubling.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LAST_BACKOFF: Duration = Duration::from_secs(30);

/// Runs the slot until the program stops.
pub(super) async fn run(shared: Arc<Shared>, number: u32, first: Option<WorkerProcess>) {
    let mut worker = first;
    while !shared.shutdown.is_requested() {
        if worker.as_ref().is_none_or(|worker| !worker.is_alive()) {
            worker = start(&shared, number).await;
            continue;
        }
        let Some(ready) = &mut worker else { continue };
        shared.board.set_worker(number, Some(ready.pid()));
        match claim(&shared).await {
            Some(lease) => {
                let span = info_span!("ticket", stem = %lease.stem(), attempt = lease.attempt());
                let keep = process(&shared, number, ready, lease)
                    .instrument(span)
                    .await;
                if !keep {
                    worker = None;
                }
            }
            None => wait(&shared).await,
        }
    }
    shared.board.set_worker(number, None);
}

async fn wait(shared: &Shared) {
    tokio::select! {
        () = shared.wake.notified() => {}
        () = tokio::time::sleep(shared.settings.polling_interval) => {}
        () = shared.shutdown.requested() => {}
    }
}

/// A new worker; tries until there is one or the program stops.
async fn start(shared: &Shared, number: u32) -> Option<WorkerProcess> {
    shared.board.set_worker(number, None);
    let mut backoff = FIRST_BACKOFF;
    while !shared.shutdown.is_requested() {
        let started = tokio::select! {
            started = WorkerProcess::start(number, &shared.setup) => started,
            () = shared.shutdown.requested() => return None,
        };
        match started {
            Ok(worker) => return Some(worker),
            Err(error) => {
                error!(worker = number, %error, retry_in = ?backoff, "no worker; tickets wait");
                shared
                    .board
                    .alarm(number, format!("worker {number} cannot start: {error}"));
            }
        }
        // Woken early when the program is to stop.
        timeout(backoff, shared.shutdown.requested()).await.ok();
        backoff = (backoff * 2).min(LAST_BACKOFF);
    }
    None
}

/// A ticket, if there is one and the disk has room for its output.
async fn claim(shared: &Arc<Shared>) -> Option<Lease> {
    let here = Arc::clone(shared);
    let claimed = tokio::task::spawn_blocking(move || {
        if here.places.spare_bytes() == 0 {
            here.board.set_disk_full(true);
            return Ok(None);
        }
        here.board.set_disk_full(false);
        if !here.places.is_writable() || !here.places.has_originals() {
            return Ok(None);
        }
        here.places.queue.claim()
    });
    match claimed.await {
        Ok(claimed) => shared
            .note_repeated(&shared.claiming, "no ticket can be claimed", claimed)
            .flatten(),
        Err(_) => None,
    }
}

/// Brings one claimed ticket to an end; says whether the worker can go on.
async fn process(
    shared: &Arc<Shared>,
    number: u32,
    worker: &mut WorkerProcess,
    lease: Lease,
) -> bool {
    shared.board.begin(number, lease.stem().as_str());
    let next = blocking(shared, move |shared| shared.places.prepare(lease)).await;
    let (keep, settled) = match next {
        None => (true, None),
        Some(Next::Settled(settled)) => (true, Some(settled)),
        Some(Next::Work(work)) => work_on(shared, number, worker, *work).await,
    };
    if let Some(settled) = settled {
        shared.note(&settled);
    }
    shared.board.end(number);
    keep
}

async fn work_on(
    shared: &Arc<Shared>,
    number: u32,
    worker: &mut WorkerProcess,
    work: Work,
) -> (bool, Option<Settled>) {
    let pace = Pace::of(
        shared.board.waiting(),
        shared.settings.max_concurrent_processes,
    );
    let job = VideoJob {
        pace,
        ..work.job.clone()
    };
    let ticket = work.lease.ticket();
    let seconds = ticket.media_duration.unwrap_or(ticket.duration);
    let limits = shared.limits.for_video(seconds, work.input.bytes);
    let files = (&work.original.file, work.draft.file());
    let mut drop_work = shared.drop_work.subscribe();
    let stop = async move {
        drop_work.wait_for(|drop| *drop).await.ok();
    };
    let ending = worker
        .run(job, files, limits, stop, |progress| {
            shared.board.progress(number, progress);
        })
        .await;
    let keep = !matches!(
        ending,
        Ending::Lost(_) | Ending::Stopped | Ending::Failed(Failure::Plugin { .. })
    );
    let settled = match ending {
        Ending::Done(report) => {
            let (name, report_line) = (work.job.name.clone(), (*report).clone());
            shared.board.done(number, &report_line);
            let settled =
                blocking(shared, move |shared| shared.places.publish(work, *report)).await;
            if settled == Some(Settled::Published) {
                info!(
                    video = name,
                    frames = report_line.frames,
                    heads = report_line.heads,
                    tracks = report_line.tracks,
                    damaged = report_line.frames_damaged,
                    copied = report_line.gops_copied,
                    encoded = report_line.gops_encoded,
                    ms = report_line.time.total_ms,
                    "published"
                );
            }
            settled
        }
        Ending::Stopped => {
            let lease = work.abandon();
            blocking(shared, move |shared| {
                match shared.places.queue.release(lease) {
                    Ok(()) => info!("not finished in time; given back, the attempt does not count"),
                    Err(error) => warn!(
                        error = chain(&error),
                        "not given back; it is recovered at the next start"
                    ),
                }
            })
            .await;
            None
        }
        Ending::Failed(Failure::Unreadable { reason }) => {
            blocking(shared, move |shared| {
                let refusal = shared.places.unreadable(&work.original.file, reason);
                shared.places.settle_refusal(work.abandon(), refusal)
            })
            .await
        }
        Ending::Failed(failure) => Some(give_back(shared, work, failure.into()).await),
        Ending::Lost(reason) => {
            Some(give_back(shared, work, ticket_queue::Failure::Retry { reason }).await)
        }
    };
    (keep, settled)
}

async fn give_back(shared: &Arc<Shared>, work: Work, failure: ticket_queue::Failure) -> Settled {
    let lease = work.abandon();
    let settled = blocking(shared, move |shared| {
        shared.places.give_back(lease, failure)
    })
    .await;
    settled.unwrap_or_else(|| Settled::Deferred("giving back broke".to_owned()))
}

/// Runs a step that blocks on the disk; `None` when it panicked, which is told, and its ticket is
/// then recovered like that of a dead owner.
async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    step: impl FnOnce(&Shared) -> T + Send + 'static,
) -> Option<T> {
    let shared = Arc::clone(shared);
    let span = tracing::Span::current();
    let done = tokio::task::spawn_blocking(move || span.in_scope(|| step(&shared))).await;
    done.inspect_err(|panic| error!(%panic, "a step broke; its ticket is recovered"))
        .ok()
}

impl From<Failure> for ticket_queue::Failure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unusable { reason } => Self::Dead { reason },
            Failure::Attempt { reason }
            | Failure::Plugin { reason }
            | Failure::Unreadable { reason } => Self::Retry { reason },
            Failure::NoSpace { reason } => Self::NotNow { reason },
        }
    }
}
