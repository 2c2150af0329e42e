//! What happens to a segment after its last packet, off the receive path, on a few threads:
//! ordinary MP4 with the index first -> `fsync` -> rename without replacing -> `fsync` of the directory -> hash -> ticket.
//!
//! The `.part` itself becomes the MP4 ([`media::in_place`]). One whose end was not seen, or whose room for the index is
//! too small, is copied into a `.tmp` instead, and removed when that has its name.
//!
//! Invariants:
//! - A segment has its final name only when it is whole and durable; a ticket exists only for a durable segment.
//! - A ticket or receipt of that name that is about other content is of an earlier segment, which the clock gave the same
//!   name. Then the segment gets another one: to the queue it would be processed already.
//! - Cut off after any step, the next start does the rest: a `.part` is finished again, a segment without a ticket
//!   gets one ([`crate::recover`]).
//! - No space is waited out; nothing is deleted for it here.

use crate::board::Board;
use crate::names::SegmentPaths;
use crate::tail_hash::TailHash;
use jiff::{Timestamp, Zoned};
use media::{MediaError, Rational};
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use ticket_queue::durable::{commit_new, remove_durable};
use ticket_queue::{CutReason, DirectoryQueue, Enqueued, Queue, Stem, TICKET_VERSION, Ticket};
use tracing::{debug, error, info, warn};

/// Segments finished at the same time.
const THREADS: usize = 2;

/// How long a segment waits that could not be finished.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The source of a segment, as tickets name it.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Without credentials.
    pub url: String,
    /// File-system safe name.
    pub name: String,
    /// Place in the settings; -1 for a source that is no longer there.
    pub index: i64,
    /// Told about finished segments.
    pub board: Option<Arc<Board>>,
}

impl Origin {
    /// A source that is no longer in the settings.
    pub fn unknown(name: &str) -> Self {
        Origin {
            url: String::new(),
            name: name.to_owned(),
            index: -1,
            board: None,
        }
    }
}

/// What only the session knows about a segment.
#[derive(Debug, Clone)]
pub struct SegmentFacts {
    /// Why it ends where it ends.
    pub reason: CutReason,
    /// Wall clock of its first frame.
    pub start: Zoned,
    /// Its length by our clock; `None` when it was not seen to end.
    pub wall_duration: Option<Duration>,
    /// Packets known to be missing.
    pub packets_lost: u64,
    /// Time without a recording before it.
    pub gap_before: Option<Duration>,
    /// See [`crate::action::Closing::hidden_key`].
    pub hidden_key: Option<i64>,
}

/// How far a segment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The `.part` is complete.
    Complete,
    /// The `.part` may be torn at its end.
    Torn,
    /// The segment has its final name, only the ticket may be missing.
    Named,
}

/// A segment to be finished.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its files.
    pub paths: SegmentPaths,
    /// Its source.
    pub origin: Origin,
    /// What is known of it.
    pub facts: SegmentFacts,
    /// What is left to do.
    pub stage: Stage,
    /// Of the `.part` as it was written.
    pub hash: Option<TailHash>,
}

impl Job {
    /// False when there is nothing left to finish.
    fn is_there(&self) -> bool {
        self.paths.part().exists() || self.paths.finished().exists()
    }
}

/// Why a segment is not finished.
#[derive(Debug, thiserror::Error)]
enum FinishError {
    #[error("{action} of {path} failed")]
    Media {
        action: &'static str,
        path: String,
        source: MediaError,
    },
    #[error(transparent)]
    Queue(#[from] ticket_queue::Error),
    #[error("{action} {path}")]
    Io {
        action: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("{0} holds no whole frame")]
    Empty(String),
}

/// The threads that finish segments.
pub struct Finisher {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Hands segments over.
#[derive(Clone)]
pub struct FinisherHandle {
    shared: Arc<Shared>,
}

struct Shared {
    queue: DirectoryQueue,
    state: Mutex<Backlog>,
    wake: Condvar,
    /// Called when the disk can no longer be trusted.
    on_fatal: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Backlog {
    jobs: VecDeque<Attempt>,
    later: VecDeque<(Instant, Attempt)>,
    closing: bool,
}

struct Attempt {
    job: Job,
    failures: u32,
}

impl Finisher {
    /// Starts the threads. `on_fatal` is called when a directory could not be synced: the process should stop, and
    /// the next start will see what is really on disk.
    pub fn start(
        queue: DirectoryQueue,
        on_fatal: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue,
            state: Mutex::default(),
            wake: Condvar::new(),
            on_fatal: Box::new(on_fatal),
        });
        let threads = (0..THREADS).map(|i| {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name(format!("finish-{i}"))
                .spawn(move || shared.work())
        });
        Ok(Finisher {
            threads: threads.collect::<io::Result<_>>()?,
            shared: shared.clone(),
        })
    }

    /// For those who hand segments over.
    pub fn handle(&self) -> FinisherHandle {
        FinisherHandle {
            shared: self.shared.clone(),
        }
    }

    /// Finishes what was handed over and ends the threads. Segments that cannot be finished now (a full disk) stay
    /// as they are for the next start.
    pub fn close(self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_all();
        for thread in self.threads {
            if thread.join().is_err() {
                error!("a finishing thread panicked; its segment is finished at the next start");
            }
        }
    }
}

impl FinisherHandle {
    /// Hands a segment over.
    pub fn push(&self, job: Job) {
        self.shared
            .lock()
            .jobs
            .push_back(Attempt { job, failures: 0 });
        self.shared.wake.notify_one();
    }

    /// Segments not finished yet.
    pub fn backlog(&self) -> usize {
        let state = self.shared.lock();
        state.jobs.len() + state.later.len()
    }

    /// The queue that tickets go to.
    pub fn queue(&self) -> &DirectoryQueue {
        &self.shared.queue
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Backlog> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some((mut attempt, last_chance)) = self.next() {
            let finished = self.finish(&mut attempt);
            let name = &attempt.job.paths.name;
            match finished {
                Ok(()) => {}
                Err(FinishError::Empty(_)) => {
                    warn!(segment = %name, "removed a segment without a whole frame");
                }
                Err(FinishError::Queue(error)) if error.must_stop() && !error.is_read_only() => {
                    error!(segment = %name, error = chain(&error), "stopping: the disk can no longer be trusted");
                    (self.on_fatal)();
                }
                Err(error) if !attempt.job.is_there() => {
                    warn!(segment = %name, error = chain(&error), "somebody took the segment away");
                }
                Err(error) => self.keep_for_later(attempt, &error, last_chance),
            }
        }
    }

    fn keep_for_later(&self, attempt: Attempt, error: &FinishError, last_chance: bool) {
        let Attempt { job, failures } = attempt;
        let (name, error) = (&job.paths.name, chain(error));
        if last_chance {
            return warn!(segment = %name, error, "segment not finished; the next start does it");
        }
        // One line for a segment, however long the disk stays full.
        match failures {
            0 => {
                error!(segment = %name, error, "segment not finished; kept, and tried again every 10 s")
            }
            _ => debug!(segment = %name, error, failures, "segment still not finished"),
        }
        let due = Instant::now() + RETRY_AFTER;
        self.lock().later.push_back((
            due,
            Attempt {
                job,
                failures: failures + 1,
            },
        ));
    }

    /// The next job, and whether it will not be tried again in this process.
    fn next(&self) -> Option<(Attempt, bool)> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some((job, state.closing));
            }
            let due = state.later.front().map(|(due, _)| *due);
            let now = Instant::now();
            if due.is_some_and(|due| due <= now || state.closing) {
                return state.later.pop_front().map(|(_, job)| (job, state.closing));
            }
            if state.closing {
                return None;
            }
            let wait = due.map_or(Duration::from_secs(3600), |due| due - now);
            let waited = self
                .wake
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
        }
    }

    fn finish(&self, attempt: &mut Attempt) -> Result<(), FinishError> {
        let job = &mut attempt.job;
        let mut hash = None;
        if job.stage != Stage::Named {
            let _lock = job.paths.lock_part().map_err(|source| FinishError::Io {
                action: "lock",
                path: job.paths.part().display().to_string(),
                source,
            })?;
            // After a failed `fsync` the kernel takes what it could not write for written; only writing it anew helps.
            let in_place = job.stage == Stage::Complete && attempt.failures == 0;
            if name_segment(job, in_place)? {
                hash = job.hash.as_ref();
            }
        }
        let (mut ticket, bytes) = ticket_for(job, hash)?;
        while let Enqueued::Duplicate(known) = self.queue.enqueue(&ticket)?
            && self.is_about_other_content(&known, &ticket)?
        {
            let before = job.paths.name.clone();
            job.paths = renamed(&job.paths)?;
            warn!(segment = %job.paths.name, before, "renamed: an earlier segment had the same name; was the clock set back?");
            ticket.filepath = filepath(&job.paths);
            ticket.id = Some(job.paths.id());
        }
        info!(
            segment = %job.paths.name,
            frames = ticket.frame_count,
            seconds = format!("{:.3}", ticket.media_duration.unwrap_or_default()),
            bytes,
            reason = ?job.facts.reason,
            "segment finished"
        );
        if let Some(board) = &job.origin.board {
            board.finished(&job.paths.name);
        }
        Ok(())
    }

    /// True when what the queue knows under the id of `ticket` was made of other bytes.
    fn is_about_other_content(&self, known: &Stem, ticket: &Ticket) -> Result<bool, FinishError> {
        let processed = self.queue.receipt(known)?;
        let hash = match processed {
            Some(receipt) => Some(receipt.input.blake3),
            None => self.waiting(known)?.and_then(|ticket| ticket.blake3),
        };
        Ok(hash.is_some() && hash != ticket.blake3)
    }

    /// The ticket of that name, if it can be read.
    fn waiting(&self, stem: &Stem) -> Result<Option<Ticket>, FinishError> {
        let mut entries = self.queue.list()?.into_iter();
        let entry = entries.find(|entry| entry.stem == *stem);
        let bytes = entry.and_then(|entry| std::fs::read(entry.path).ok());
        Ok(bytes.and_then(|bytes| Ticket::parse(&bytes).ok()))
    }
}

/// Gives a segment that has its final name the next free one, durably.
fn renamed(paths: &SegmentPaths) -> Result<SegmentPaths, FinishError> {
    let from = paths.finished();
    let failed = |source| FinishError::Io {
        action: "rename",
        path: from.display().to_string(),
        source,
    };
    let file = File::open(&from).map_err(failed)?;
    let mut free = paths.clone();
    loop {
        free = free
            .with_next_number()
            .ok_or_else(|| failed(io::Error::other("it has no name of a segment")))?;
        if free.part().exists() {
            continue;
        }
        match commit_new(&file, &from, &free.finished()) {
            Err(error) if error.is_already_there() => {}
            result => return Ok(result.map(|()| free)?),
        }
    }
}

/// The path of the finished segment as tickets tell it.
fn filepath(paths: &SegmentPaths) -> String {
    let shown = paths.finished().display().to_string();
    // As the old system wrote it: without a leading `./`.
    shown.strip_prefix("./").unwrap_or(&shown).to_owned()
}

/// Gives the segment its final form and name, durably. True if the `.part` became it.
fn name_segment(job: &Job, in_place: bool) -> Result<bool, FinishError> {
    let paths = &job.paths;
    let (part, temp, finished) = (paths.part(), paths.temp(), paths.finished());
    let named_before = finished.symlink_metadata().is_ok();
    if !named_before {
        let name = |made: &Path| {
            let file = File::open(made).map_err(|source| FinishError::Io {
                action: "open the final form of",
                path: part.display().to_string(),
                source,
            })?;
            Ok::<_, FinishError>(commit_new(&file, made, &finished)?)
        };
        if in_place && is_made_in_place(job)? {
            // Nothing is left beside it.
            name(&part)?;
            return Ok(true);
        }
        remux(job)?;
        name(&temp)?;
    }
    remove_durable(&temp)?;
    remove_durable(&part)?;
    Ok(false)
}

/// Makes the `.part` an ordinary MP4, if that can be done.
fn is_made_in_place(job: &Job) -> Result<bool, FinishError> {
    let part = job.paths.part();
    let end = job.facts.hidden_key.map(|end| (end, Rational::MPEG));
    match media::finalise_in_place(&part, end) {
        Err(error @ MediaError::Io { .. }) => {
            Err(media_error("finish", &part.display().to_string())(error))
        }
        Err(error) => {
            debug!(segment = %job.paths.name, %error, "its index cannot be written in place; it is copied");
            Ok(false)
        }
        Ok(made) => Ok(made),
    }
}

/// Writes the ordinary MP4 to the temporary name.
fn remux(job: &Job) -> Result<(), FinishError> {
    let (part, temp) = (job.paths.part(), job.paths.temp());
    let shown = part.display().to_string();
    remove_durable(&temp)?;
    let whole = job.stage == Stage::Complete
        && match media::finalise(&part, &temp) {
            Ok(_) => true,
            Err(error) if error.is_damaged() => {
                warn!(segment = %job.paths.name, %error, "segment is not as it was written; saving what is whole");
                false
            }
            Err(error) => return Err(media_error("remux", &shown)(error)),
        };
    if let (true, Some(end)) = (whole, job.facts.hidden_key)
        && !media::show_until(&temp, end, Rational::MPEG).map_err(media_error("end", &shown))?
    {
        warn!(segment = %job.paths.name, "its last frame is the first of the next segment, too");
    }
    if !whole {
        match media::salvage(&part, &temp).map_err(media_error("salvage", &shown))? {
            Some(saved) => info!(
                segment = %job.paths.name,
                frames = saved.file.frames,
                frames_left_out = saved.file.frames_left_out,
                bytes_cut = saved.bytes_cut,
                "saved an unfinished segment"
            ),
            None => {
                remove_durable(&part)?;
                return Err(FinishError::Empty(shown));
            }
        }
    }
    Ok(())
}

fn media_error(action: &'static str, path: &str) -> impl FnOnce(MediaError) -> FinishError {
    let path = path.to_owned();
    move |source| FinishError::Media {
        action,
        path,
        source,
    }
}

/// The ticket of a segment that lies under its final name, and the size of the file. Without `written` the file is read.
fn ticket_for(job: &Job, written: Option<&TailHash>) -> Result<(Ticket, u64), FinishError> {
    let path = job.paths.finished();
    let shown = path.display().to_string();
    let failed = |source| FinishError::Io {
        action: "read",
        path: shown.clone(),
        source,
    };
    let file = File::open(&path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let known = written.map(|hash| hash.of(&file)).transpose();
    let hash = match known.map_err(failed)?.flatten() {
        Some(hash) => hash,
        None => {
            // In pieces of 64 KiB, for which BLAKE3 has its fastest code; `io::copy` moves 8 KiB.
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(&file).map_err(failed)?.finalize()
        }
    };
    let probed = media::probe_index(&path).map_err(media_error("probe", &shown))?;
    let video = probed
        .video()
        .ok_or_else(|| FinishError::Empty(shown.clone()))?;
    let facts = &job.facts;
    let hidden_from = facts.hidden_key.map(|end| Rational::MPEG.seconds(end));
    let media_duration = hidden_from.or(video.duration_seconds()).unwrap_or_default();
    let stored = video.frame_count.unwrap_or_default();
    let frames = stored.saturating_sub(u64::from(hidden_from.is_some()));
    let now = Timestamp::now().to_zoned(facts.start.time_zone().clone());
    let ticket = Ticket {
        filepath: filepath(&job.paths),
        source: job.origin.url.clone(),
        source_name: job.origin.name.clone(),
        recorder_id: job.origin.index,
        frame_count: frames,
        duration: facts
            .wall_duration
            .map_or(media_duration, |duration| duration.as_secs_f64()),
        timestamp: now.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
        file_size: bytes,
        version: Some(TICKET_VERSION),
        id: Some(job.paths.id()),
        blake3: Some(hash.to_hex().to_string()),
        start_time: Some(facts.start.strftime("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string()),
        media_duration: Some(media_duration),
        codec: Some(video.codec.name()),
        // An index need not tell the size (MPEG-4 part 2).
        width: (video.width > 0).then_some(video.width),
        height: (video.height > 0).then_some(video.height),
        fps: (media_duration > 0.0).then(|| frames as f64 / media_duration),
        cut_reason: Some(facts.reason),
        packets_lost: Some(facts.packets_lost),
        gap_before: facts.gap_before.map(|gap| gap.as_secs_f64()),
        extra: serde_json::Map::new(),
    };
    Ok((ticket, bytes))
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some name their cause themselves.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    daemon::redact::text(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;
    use crate::processed::process;
    use crate::recover;
    use jiff::tz::TimeZone;
    use media::synth::TestVideo;
    use ticket_queue::Options;

    const NAME: &str = "cam_20260101_000003_seg0004.mp4";

    struct Place {
        dir: tempfile::TempDir,
        queue: DirectoryQueue,
    }

    fn open_queue(dir: &Path) -> DirectoryQueue {
        DirectoryQueue::open(&dir.join("queue"), Options::default()).expect("a queue")
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            std::fs::create_dir_all(dir.path().join("raw/cam")).expect("a directory");
            let queue = open_queue(dir.path());
            Place { dir, queue }
        }

        /// Puts a ticket for other content in.
        fn enqueue(&self, name: &str) {
            let ticket = Ticket {
                filepath: format!("raw/cam/{name}"),
                id: Some(format!("cam/{name}")),
                blake3: Some("0".repeat(64)),
                ..Ticket::default()
            };
            let put = self.queue.enqueue(&ticket).expect("enqueued");
            assert!(matches!(put, Enqueued::New(_)), "{name}");
        }

        /// Has a new segment of that name finished.
        fn finish(&self, name: &str) {
            let paths = SegmentPaths::of_final(&self.dir.path().join("raw/cam").join(name));
            let paths = paths.expect("a path");
            let video = TestVideo {
                frames: 5,
                ..TestVideo::default()
            };
            video.write(paths.part()).expect("a video");
            self.finish_job(paths);
        }

        fn finish_job(&self, paths: SegmentPaths) {
            let queue = open_queue(self.dir.path());
            let finisher = Finisher::start(queue, || {}).expect("threads");
            finisher.handle().push(Job {
                paths,
                origin: Origin::unknown("cam"),
                facts: SegmentFacts {
                    reason: CutReason::Duration,
                    start: Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC),
                    wall_duration: None,
                    packets_lost: 0,
                    gap_before: None,
                    hidden_key: None,
                },
                stage: Stage::Complete,
                hash: None,
            });
            finisher.close();
        }

        fn segments(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.dir.path().join("raw/cam")).expect("a directory");
            let mut names: Vec<String> = entries
                .map(|entry| entry.expect("an entry").file_name())
                .map(|name| name.into_string().expect("UTF-8"))
                .collect();
            names.sort();
            names
        }

        /// The ids of the tickets that wait, with whether the file they name has the hash they tell.
        fn tickets(&self) -> Vec<(String, bool)> {
            let entries = self.queue.list().expect("a queue").into_iter();
            let ticket = |path| Ticket::parse(&std::fs::read(path).expect("read")).expect("one");
            let tickets = entries.map(|entry| ticket(entry.path));
            tickets
                .map(|ticket| {
                    let bytes = std::fs::read(&ticket.filepath).unwrap_or_default();
                    let hash = blake3::hash(&bytes).to_hex().to_string();
                    (ticket.id().to_owned(), ticket.blake3 == Some(hash))
                })
                .collect()
        }
    }

    #[test]
    fn a_name_whose_earlier_segment_was_processed_is_not_used_again() {
        let place = Place::new();
        for name in [NAME, "cam_20260101_000003_seg0004_2.mp4"] {
            place.enqueue(name);
            process(&place.queue, 1);
        }
        place.finish(NAME);
        let name = "cam_20260101_000003_seg0004_3.mp4";
        let id = format!("cam/{name}");
        assert_eq!(place.segments(), [name]);
        assert_eq!(place.tickets(), [(id.clone(), true)]);
        let receipt = place
            .queue
            .receipt(&place.queue.find(&id).unwrap().unwrap());
        assert_eq!(receipt.unwrap(), None, "it waits");
    }

    #[test]
    fn nor_after_a_kill_before_it_got_another_name() {
        let place = Place::new();
        place.enqueue(NAME);
        process(&place.queue, 1);
        let raw = place.dir.path().join("raw");
        TestVideo::default()
            .write(raw.join("cam").join(NAME))
            .unwrap();
        let finisher = Finisher::start(open_queue(place.dir.path()), || {}).unwrap();
        recover::hand_over(
            recover::look(&raw),
            &finisher.handle(),
            &TimeZone::UTC,
            &[],
            &Ledger::new(place.dir.path()),
        );
        finisher.close();
        let name = "cam_20260101_000003_seg0004_2.mp4";
        assert_eq!(place.segments(), [name]);
        assert_eq!(place.tickets(), [(format!("cam/{name}"), true)]);
    }

    #[test]
    fn nor_is_one_whose_earlier_segment_waits() {
        let place = Place::new();
        place.enqueue(NAME);
        place.finish(NAME);
        assert_eq!(place.segments(), ["cam_20260101_000003_seg0004_2.mp4"]);
        let expected = [
            (format!("cam/{NAME}"), false),
            ("cam/cam_20260101_000003_seg0004_2.mp4".to_owned(), true),
        ];
        assert_eq!(place.tickets(), expected);
    }

    #[test]
    fn a_segment_that_has_its_ticket_keeps_its_name() {
        let place = Place::new();
        place.finish(NAME);
        let paths = SegmentPaths::of_final(&place.dir.path().join("raw/cam").join(NAME));
        place.finish_job(paths.clone().unwrap());
        assert_eq!(place.segments(), [NAME]);
        assert_eq!(place.tickets(), [(format!("cam/{NAME}"), true)]);
        process(&place.queue, 1);
        place.finish_job(paths.unwrap());
        assert_eq!(place.segments(), [NAME]);
        assert_eq!(place.tickets(), []);
    }
}
