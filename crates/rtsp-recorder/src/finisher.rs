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
//! - Nothing that holds a frame is removed: a `.part` of which nothing can be made becomes `<name>.damaged`.
//! - No space is waited out; nothing is deleted for it here.

mod form;
mod ticket;

use self::form::{name_segment, renamed};
use self::ticket::{filepath, ticket_for};
use crate::board::Board;
use crate::names::SegmentPaths;
use crate::tail_hash::TailHash;
use jiff::Zoned;
use media::MediaError;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use ticket_queue::{CutReason, DirectoryQueue, Enqueued, Queue, Stem, Ticket};
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
    #[error(
        "this program stumbled over a segment; it is kept, and tried again at the next start; please report this"
    )]
    Panicked,
    #[error("{why}; kept as {}", kept.display())]
    Damaged { kept: PathBuf, why: String },
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
    /// Called when the disk can no longer be trusted, or a part of the recorder died.
    on_fatal: Box<dyn Fn() + Send + Sync>,
    /// [`Shared::finish`], but for tests.
    finish: Finish,
}

type Finish = fn(&Shared, &mut Attempt) -> Result<(), FinishError>;

#[derive(Default)]
struct Backlog {
    jobs: VecDeque<Attempt>,
    later: VecDeque<(Instant, Attempt)>,
    closing: bool,
}

struct Attempt {
    job: Job,
    failures: u32,
    /// Its ticket and its size in bytes, once it has its name: what was read to make it is not read again for a queue that
    /// takes no tickets.
    ticket: Option<(Ticket, u64)>,
}

impl Attempt {
    fn new(job: Job) -> Self {
        Attempt {
            job,
            failures: 0,
            ticket: None,
        }
    }
}

impl Finisher {
    /// Starts the threads. `on_fatal` is called when a directory could not be synced or [`FinisherHandle::stop`] is called: the
    /// process should stop, and the next start will see what is really on disk.
    pub fn start(
        queue: DirectoryQueue,
        on_fatal: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::start_with(queue, on_fatal, Shared::finish)
    }

    fn start_with(
        queue: DirectoryQueue,
        on_fatal: impl Fn() + Send + Sync + 'static,
        finish: Finish,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue,
            state: Mutex::default(),
            wake: Condvar::new(),
            on_fatal: Box::new(on_fatal),
            finish,
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
        self.shared.lock().jobs.push_back(Attempt::new(job));
        self.shared.wake.notify_one();
    }

    /// Segments not finished yet.
    pub fn backlog(&self) -> usize {
        let state = self.shared.lock();
        state.jobs.len() + state.later.len()
    }

    /// Stops the recorder, so that all of it begins anew.
    pub fn stop(&self) {
        (self.shared.on_fatal)();
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
            // One segment that makes the program stumble must not keep the others from their tickets. Nor may it stop the
            // recorder: the next start meets it again.
            let finish = AssertUnwindSafe(|| (self.finish)(self, &mut attempt));
            let finished = catch_unwind(finish).unwrap_or(Err(FinishError::Panicked));
            let name = &attempt.job.paths.name;
            match finished {
                Ok(()) => {}
                Err(error @ FinishError::Panicked) => error!(segment = %name, "{error}"),
                Err(FinishError::Empty(_)) => {
                    warn!(segment = %name, "removed a segment without a whole frame");
                }
                Err(FinishError::Damaged { kept, why }) => {
                    error!(
                        segment = %name,
                        why,
                        kept = %kept.display(),
                        "a segment is damaged and could not be saved; it is kept, other programs may read more of it; \
                         remove it when it is no longer needed"
                    );
                }
                Err(FinishError::Queue(error)) if error.must_stop() => {
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

    fn keep_for_later(&self, mut attempt: Attempt, error: &FinishError, last_chance: bool) {
        let (name, error) = (&attempt.job.paths.name, chain(error));
        if last_chance {
            return warn!(segment = %name, error, "segment not finished; the next start does it");
        }
        // One line for a segment, however long the disk stays full.
        match attempt.failures {
            0 => {
                error!(segment = %name, error, "segment not finished; kept, and tried again every 10 s")
            }
            failures => debug!(segment = %name, error, failures, "segment still not finished"),
        }
        attempt.failures += 1;
        let due = Instant::now() + RETRY_AFTER;
        self.lock().later.push_back((due, attempt));
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
        let (ticket, bytes) = match &mut attempt.ticket {
            Some(made) => made,
            none => none.insert(made_ticket(&attempt.job, attempt.failures == 0)?),
        };
        let job = &mut attempt.job;
        while let Enqueued::Duplicate(known) = self.queue.enqueue(ticket)?
            && self.is_about_other_content(&known, ticket)?
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

/// Gives the segment its form and name, and makes its ticket. Tells its size, bytes, too.
fn made_ticket(job: &Job, is_first_attempt: bool) -> Result<(Ticket, u64), FinishError> {
    let mut hash = None;
    if job.stage != Stage::Named {
        let _lock = job.paths.lock_part().map_err(|source| FinishError::Io {
            action: "lock",
            path: job.paths.part().display().to_string(),
            source,
        })?;
        // After a failed `fsync` the kernel takes what it could not write for written; only writing it anew helps.
        let in_place = job.stage == Stage::Complete && is_first_attempt;
        if name_segment(job, in_place)? {
            hash = job.hash.as_ref();
        }
    }
    ticket_for(job, hash)
}

fn media_error(action: &'static str, path: &str) -> impl FnOnce(MediaError) -> FinishError {
    let path = path.to_owned();
    move |source| FinishError::Media {
        action,
        path,
        source,
    }
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
    use jiff::Timestamp;
    use jiff::tz::TimeZone;
    use media::synth::TestVideo;
    use std::path::Path;
    use ticket_queue::Options;

    const NAME: &str = "cam_20260101_000003_seg0004.mp4";

    struct Place {
        dir: tempfile::TempDir,
        queue: DirectoryQueue,
    }

    fn open_queue(dir: &Path) -> DirectoryQueue {
        DirectoryQueue::open(&dir.join("queue"), Options::default()).expect("a queue")
    }

    fn job(paths: SegmentPaths) -> Job {
        Job {
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
        }
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
            finisher.handle().push(job(paths));
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
    fn segments_that_make_the_program_stumble_keep_no_other_from_its_ticket() {
        let place = Place::new();
        let cam = place.dir.path().join("raw/cam");
        let paths = |number| {
            let name = format!("cam_20260101_000003_seg000{number}.mp4");
            let paths = SegmentPaths::of_final(&cam.join(name)).expect("a path");
            TestVideo::default().write(paths.part()).expect("a video");
            paths
        };
        let all: Vec<SegmentPaths> = (1..=THREADS + 2).map(paths).collect();
        let last = all.last().expect("one").clone();
        let finisher = Finisher::start_with(
            open_queue(place.dir.path()),
            || panic!("the recorder is stopped"),
            |shared, attempt| match attempt.job.paths.name.contains("_seg0004") {
                true => shared.finish(attempt),
                false => panic!("as arranged"),
            },
        );
        let finisher = finisher.expect("threads");
        for paths in &all {
            finisher.handle().push(job(paths.clone()));
        }
        finisher.close();
        assert_eq!(place.tickets(), [(last.id(), true)]);
        assert!(all[..THREADS + 1].iter().all(|paths| paths.part().exists()));
    }

    #[test]
    fn what_cannot_be_read_is_kept_and_what_holds_nothing_goes() {
        let place = Place::new();
        let cam = place.dir.path().join("raw/cam");
        let paths = SegmentPaths::of_final(&cam.join(NAME)).expect("a path");
        let video = TestVideo::default();
        let made = video.encode().expect("a video");
        let file = std::fs::File::create_new(paths.part()).expect("a file");
        let options = media::segment::SegmentOptions::default();
        let mut writer =
            media::SegmentWriter::create(file, &made.track, None, &options).expect("a segment");
        for packet in &made.packets {
            let sample = media::Sample {
                data: packet.data().to_vec(),
                pts: packet.pts().expect("a time"),
                dts: packet.dts().expect("a time"),
                duration: packet.duration(),
                key: packet.is_key(),
            };
            writer.write_video(sample).expect("written");
        }
        writer.finish().expect("finished");
        let mut bytes = std::fs::read(paths.part()).expect("a recording");
        let index = bytes.windows(4).position(|it| it == b"moov").expect("one");
        bytes[index..index + 100].fill(0);
        for _ in 0..2 {
            std::fs::write(paths.part(), &bytes).expect("written");
            place.finish_job(paths.clone());
        }
        let kept = [format!("{NAME}.damaged"), format!("{NAME}_2.damaged")];
        assert_eq!(place.segments(), kept);
        for name in &kept {
            assert_eq!(std::fs::read(cam.join(name)).expect("it"), bytes);
        }
        std::fs::write(paths.part(), &bytes[..index]).expect("written");
        place.finish_job(paths);
        assert_eq!(place.segments(), kept);
        // The next start leaves them alone, and they count as footage.
        let raw = place.dir.path().join("raw");
        assert_eq!(recover::look(&raw), recover::Found::default());
        assert_eq!(daemon::disk::bytes_below(&raw), 2 * bytes.len() as u64);
        assert_eq!(place.tickets(), []);
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

    #[test]
    fn a_segment_is_not_read_again_for_a_queue_that_takes_no_tickets() {
        let place = Place::new();
        let paths = SegmentPaths::of_final(&place.dir.path().join("raw/cam").join(NAME)).unwrap();
        TestVideo::default().write(paths.part()).unwrap();
        let shared = Shared {
            queue: open_queue(place.dir.path()),
            state: Mutex::default(),
            wake: Condvar::new(),
            on_fatal: Box::new(|| {}),
            finish: Shared::finish,
        };
        let scratch = place.dir.path().join("queue/.tmp");
        std::fs::remove_dir_all(&scratch).unwrap();
        let mut attempt = Attempt::new(job(paths.clone()));
        let error = shared.finish(&mut attempt).unwrap_err();
        assert!(matches!(error, FinishError::Queue(_)), "{error}");
        // What nobody could make a ticket of.
        std::fs::write(paths.finished(), "").unwrap();
        std::fs::create_dir(&scratch).unwrap();
        attempt.failures += 1;
        shared.finish(&mut attempt).unwrap();
        assert_eq!(place.tickets(), [(format!("cam/{NAME}"), false)]);
    }
}
