//! One thread per source that puts packets into files, so that a slow disk never holds up receiving.
//!
//! The session hands packets over in batches of 0.7 s: at 200 cameras a wake-up per frame would cost
//! more than the writing. What waits for the disk is bounded in bytes; above that [`Feeder::is_over_budget`] tells
//! the session to drop frames, loudly.
//!
//! While it is written a segment is `.<name>.part`, a fragmented MP4, and each batch is a fragment of it: after a kill -9
//! at most one batch and one frame are missing.

use crate::action::{Action, Closing, Opening, Packet, Track};
use crate::board::Board;
use crate::finisher::{FinisherHandle, Job, Origin, SegmentFacts, Stage, chain};
use crate::ledger::{Gap, Ledger};
use crate::names::{NameParts, SegmentPaths, create_part};
use crate::tail_hash::TailHash;
use daemon::logs::OncePerMinute;
use jiff::{Timestamp, tz::TimeZone};
use media::segment::SegmentOptions;
use media::{MediaError, Rational, Sample, SegmentWriter};
use settings::SourceName;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use ticket_queue::CutReason;
use tracing::{debug, error, warn};

/// A batch is handed over with the first frame that comes when it is this old, or after a quarter of a second without one, so
/// that a kill costs less than a second.
const BATCH_AGE: Duration = Duration::from_millis(700);

/// A batch is handed over when it is this large.
const BATCH_BYTES: usize = 512 * 1024;

/// With each of so many batches it is looked whether the file lies where it is to lie.
const PATH_CHECK: u32 = 8;

/// What may wait for the disk, per source: 16 s at 4 Mbit/s.
pub const BUDGET_BYTES: usize = 8 * 1024 * 1024;

/// Dropping frames ends when this little waits.
const RELAXED_BYTES: usize = BUDGET_BYTES / 4;

/// What a writer needs to know about its source and the places.
#[derive(Clone)]
pub struct WriterSetup {
    /// The source's name.
    pub name: SourceName,
    /// As tickets name the source.
    pub origin: Origin,
    /// The source's directory.
    pub dir: PathBuf,
    /// Such as `mp4`.
    pub extension: &'static str,
    /// Zone of the times in names and tickets.
    pub zone: TimeZone,
    /// Where complete segments go.
    pub finisher: FinisherHandle,
    /// Told about the open segment.
    pub board: Arc<Board>,
    /// Where gaps are written down.
    pub ledger: Ledger,
}

/// The session's end of the writer.
pub struct Feeder {
    sender: mpsc::Sender<Batch>,
    shared: Arc<Shared>,
    pending: Batch,
    last_flush: Duration,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Batch {
    actions: Vec<Action>,
    bytes: usize,
    gaps: Vec<Gap>,
}

#[derive(Default)]
struct Shared {
    waiting_bytes: AtomicUsize,
    /// Set when the open segment could not be written on.
    lost: Mutex<Option<Lost>>,
}

/// Why the open segment could not be written on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The disk does not take it.
    Disk,
    /// MP4 does not take the video; in words.
    Video(String),
}

impl Shared {
    fn lost(&self) -> std::sync::MutexGuard<'_, Option<Lost>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feeder {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(setup: WriterSetup) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel::<Batch>();
        let shared = Arc::new(Shared::default());
        let mut writer = Writer {
            setup,
            shared: shared.clone(),
            open: None,
            newest: None,
            began: Instant::now(),
            log_limit: OncePerMinute::default(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("write-{}", writer.setup.name))
            .stack_size(512 * 1024)
            .spawn(move || {
                let _watch = Watch(writer.setup.clone());
                writer.run(&receiver);
            })?;
        Ok(Feeder {
            sender,
            shared,
            pending: Batch::default(),
            last_flush: Duration::ZERO,
            thread,
        })
    }

    /// Takes what the pipeline ordered; `now` is the monotonic time.
    pub fn push(&mut self, actions: &mut Vec<Action>, now: Duration) {
        let mut is_finished = false;
        for action in actions.drain(..) {
            match &action {
                Action::Append(packet) => self.pending.bytes += packet.data.len(),
                Action::Close(_) => is_finished = true,
                Action::Open(_) => {}
            }
            self.pending.actions.push(action);
        }
        let is_old = now.saturating_sub(self.last_flush) >= BATCH_AGE;
        if is_finished || is_old || self.pending.bytes >= BATCH_BYTES {
            self.flush(now);
        }
    }

    /// Hands over what is pending.
    pub fn flush(&mut self, now: Duration) {
        self.last_flush = now;
        if !self.has_pending() {
            return;
        }
        let batch = std::mem::take(&mut self.pending);
        self.shared
            .waiting_bytes
            .fetch_add(batch.bytes, Ordering::Relaxed);
        if self.sender.send(batch).is_err() {
            let thread = self.thread.thread().name();
            error!(
                thread,
                "the writer thread is gone; its segment is finished at the next start"
            );
        }
    }

    /// Has a gap written down, with the next batch.
    pub fn note_gap(&mut self, gap: Gap) {
        self.pending.gaps.push(gap);
    }

    /// True when something is pending.
    pub fn has_pending(&self) -> bool {
        !self.pending.actions.is_empty() || !self.pending.gaps.is_empty()
    }

    /// True when the disk is too slow: frames must be dropped.
    pub fn is_over_budget(&self) -> bool {
        self.shared.waiting_bytes.load(Ordering::Relaxed) > BUDGET_BYTES
    }

    /// True when frames that were dropped need no longer be.
    pub fn is_relaxed(&self) -> bool {
        self.shared.waiting_bytes.load(Ordering::Relaxed) <= RELAXED_BYTES
    }

    /// Told once after the writer lost its segment.
    pub fn take_lost(&self) -> Option<Lost> {
        self.shared.lost().take()
    }

    /// Hands over what is left and waits until it is written. Blocks.
    pub fn close(mut self) {
        self.flush(Duration::MAX);
        drop(self.sender);
        if self.thread.join().is_err() {
            error!("a writer thread panicked; its segment is finished at the next start");
        }
    }
}

/// Stops the recorder when a writer dies, as when a session does: nobody would write what its source sends.
struct Watch(WriterSetup);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let source = self.0.name.as_str();
            error!(source, "a writer died; stopping, so that all begin anew");
            self.0.finisher.stop();
        }
    }
}

struct Writer {
    setup: WriterSetup,
    shared: Arc<Shared>,
    open: Option<OpenSegment>,
    /// Latest start of a segment so far.
    newest: Option<Timestamp>,
    began: Instant,
    /// A disk that takes nothing is tried every few seconds.
    log_limit: OncePerMinute,
}

/// The first segments of a process may meet names of an earlier one whose clock was ahead.
const SEGMENTS_TO_CHECK: u32 = 3;

struct OpenSegment {
    paths: SegmentPaths,
    muxer: SegmentWriter,
    opening: Opening,
    /// Told of what `muxer` writes; nothing for codecs whose bytes are not told.
    hash: Option<Arc<Mutex<TailHash>>>,
    flushes: u32,
}

impl OpenSegment {
    /// A file without a name can still be written, but nobody will ever see it.
    fn is_removed(&self) -> bool {
        let names = rustix::fs::fstat(self.muxer.file()).map(|stat| stat.st_nlink);
        // One that was moved away has a name. To find that out costs more, so it is found out within seconds.
        names == Ok(0)
            || self.flushes.is_multiple_of(PATH_CHECK)
                && matches!(self.paths.part().try_exists(), Ok(false))
    }
}

impl Writer {
    fn run(&mut self, receiver: &mpsc::Receiver<Batch>) {
        for batch in receiver {
            for action in batch.actions {
                let done = self.perform(action);
                self.give_up_if_failed(done);
            }
            let flushed = self.flush();
            self.give_up_if_failed(flushed);
            for gap in &batch.gaps {
                if let Err(error) = self.setup.ledger.append(self.setup.name.as_str(), gap) {
                    warn!(%error, ?gap, "a gap could not be written down");
                }
            }
            self.shared
                .waiting_bytes
                .fetch_sub(batch.bytes, Ordering::Relaxed);
        }
        // The session ended without closing its segment: it panicked. What is there is saved.
        self.lose();
    }

    fn perform(&mut self, action: Action) -> Result<(), WriteError> {
        match action {
            Action::Open(opening) => self.begin(opening),
            Action::Append(packet) => self.append(packet),
            Action::Close(closing) => self.end(&closing),
        }
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        open.muxer.flush()?;
        open.flushes += 1;
        match open.is_removed() {
            true => Err(WriteError::Removed(open.paths.part())),
            false => Ok(()),
        }
    }

    fn give_up_if_failed(&mut self, result: Result<(), WriteError>) {
        let Err(error) = result else {
            return;
        };
        let lost = match error.is_of_the_disk() {
            true => Lost::Disk,
            // The session says it, and when it is tried again.
            false => Lost::Video(chain(&error)),
        };
        if lost == Lost::Disk
            && let Some(not_shown) = self.log_limit.allow(self.began.elapsed())
        {
            error!(
                source = %self.setup.name,
                error = %chain(&error),
                not_shown,
                "cannot write; what is written so far is kept, recording goes on as soon as the disk takes it"
            );
        }
        self.lose();
        *self.shared.lost() = Some(lost);
    }

    fn begin(&mut self, opening: Opening) -> Result<(), WriteError> {
        self.lose();
        let setup = &self.setup;
        let parts = NameParts {
            source: &setup.name,
            start: opening.start.to_zoned(setup.zone.clone()),
            round: opening.round,
            number: opening.number,
            extension: setup.extension,
        };
        ticket_queue::durable::create_dir_all_durable(&setup.dir)?;
        let clock_ran_on = self.newest.is_some_and(|newest| opening.start > newest);
        let check = opening.number <= SEGMENTS_TO_CHECK || !clock_ran_on;
        let is_taken = |id: &str| check && was_recorded(&setup.finisher, id);
        let (paths, file) =
            create_part(&setup.dir, &parts, &is_taken).map_err(|source| WriteError::Create {
                dir: setup.dir.clone(),
                source,
            })?;
        let params = &opening.params;
        let options = SegmentOptions {
            // Never in the way of the batches.
            fragment: BATCH_AGE * 2,
            ..SegmentOptions::for_length(opening.length)
        };
        let mut muxer =
            match SegmentWriter::create(file, &params.video, params.audio.as_ref(), &options) {
                Ok(muxer) => muxer,
                Err(error) => {
                    remove_part(&paths);
                    return Err(error.into());
                }
            };
        let mut hash = None;
        muxer.observe(|start| {
            let shared = Arc::new(Mutex::new(TailHash::new(start)));
            hash = Some(shared.clone());
            Box::new(move |offset, bytes| {
                let mut hash = shared.lock().unwrap_or_else(PoisonError::into_inner);
                hash.update(offset, bytes);
            })
        });
        self.newest = self.newest.max(Some(opening.start));
        setup.board.set_current(Some(paths.name.clone()));
        self.open = Some(OpenSegment {
            paths,
            muxer,
            opening,
            hash,
            flushes: 0,
        });
        Ok(())
    }

    fn append(&mut self, packet: Packet) -> Result<(), WriteError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let audio_base = open
            .opening
            .params
            .audio
            .as_ref()
            .map(|audio| audio.time_base);
        let time_base = match packet.track {
            Track::Video => Rational::MPEG,
            Track::Audio => audio_base.unwrap_or(Rational::MPEG),
        };
        let ticks = |value| Rational::MPEG.rescale(value, time_base);
        let sample = Sample {
            data: packet.data,
            pts: ticks(packet.pts_90k),
            dts: ticks(packet.dts_90k),
            duration: ticks(packet.duration_90k),
            key: packet.key,
        };
        let written = match packet.track {
            Track::Video => open.muxer.write_video(sample),
            Track::Audio => open.muxer.write_audio(sample),
        };
        match written {
            // One packet that cannot be stored is no reason to give up the segment.
            Err(error @ MediaError::Timestamps { .. }) => {
                error!(source = %self.setup.name, %error, "a frame could not be stored");
                Ok(())
            }
            // Nor is sound, unless it is the disk that does not take it.
            Err(error)
                if packet.track == Track::Audio && !matches!(error, MediaError::Io { .. }) =>
            {
                debug!(source = %self.setup.name, %error, "sound could not be stored");
                Ok(())
            }
            result => Ok(result?),
        }
    }

    fn end(&mut self, closing: &Closing) -> Result<(), WriteError> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        self.setup.board.set_current(None);
        let facts = SegmentFacts {
            reason: closing.reason,
            start: closing.start.to_zoned(self.setup.zone.clone()),
            wall_duration: Some(closing.wall_duration),
            packets_lost: closing.packets_lost,
            gap_before: open.opening.gap_before,
            hidden_key: closing.hidden_key,
        };
        let finished = open.muxer.finish();
        let (stage, hash) = if finished.is_ok() {
            // Nobody else has it, now that the muxer is gone.
            let hash = open.hash.and_then(Arc::into_inner);
            let hash = hash.and_then(|hash| hash.into_inner().ok());
            (Stage::Complete, hash.map(TailHash::closed))
        } else {
            (Stage::Torn, None)
        };
        self.hand_over(open.paths, facts, stage, hash);
        finished?;
        Ok(())
    }

    /// Gives up the open segment, keeping what is on disk.
    fn lose(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.setup.board.set_current(None);
        let facts = SegmentFacts {
            reason: CutReason::Recovered,
            start: open.opening.start.to_zoned(self.setup.zone.clone()),
            wall_duration: None,
            packets_lost: 0,
            gap_before: open.opening.gap_before,
            hidden_key: None,
        };
        drop(open.muxer);
        self.hand_over(open.paths, facts, Stage::Torn, None);
    }

    fn hand_over(
        &self,
        paths: SegmentPaths,
        facts: SegmentFacts,
        stage: Stage,
        hash: Option<TailHash>,
    ) {
        self.setup.finisher.push(Job {
            paths,
            origin: self.setup.origin.clone(),
            facts,
            stage,
            hash,
        });
    }
}

/// True when the queue has a ticket or a receipt for the segment.
fn was_recorded(finisher: &FinisherHandle, id: &str) -> bool {
    use ticket_queue::Error;
    let found: Result<_, Error> = finisher.queue().find(id);
    found.is_ok_and(|stem| stem.is_some())
}

fn remove_part(paths: &SegmentPaths) {
    if let Err(error) = std::fs::remove_file(paths.part()) {
        warn!(segment = %paths.name, %error, "an empty segment could not be removed");
    }
}

/// Why a segment cannot be written on.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("create a segment in {}", dir.display())]
    Create {
        dir: PathBuf,
        source: std::io::Error,
    },
    #[error("somebody removed {}", .0.display())]
    Removed(PathBuf),
    #[error(transparent)]
    Directory(#[from] ticket_queue::Error),
    #[error(transparent)]
    Media(#[from] MediaError),
}

impl WriteError {
    /// False where another disk would not help.
    fn is_of_the_disk(&self) -> bool {
        match self {
            WriteError::Media(error) => matches!(error, MediaError::Io { .. }),
            WriteError::Create { .. } | WriteError::Removed(_) | WriteError::Directory(_) => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::{Closing, Opening};
    use crate::finisher::Finisher;
    use crate::stream::StreamParams;
    use media::VideoTrack;
    use media::synth::TestVideo;
    use settings::{Environment, RecorderSettings};
    use std::sync::atomic::AtomicBool;
    use ticket_queue::{DirectoryQueue, Options, Queue};

    /// A place with a writer.
    struct Place {
        dir: tempfile::TempDir,
        finisher: Finisher,
        is_stopped: Arc<AtomicBool>,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let queue = DirectoryQueue::open(&dir.path().join("queue"), Options::default());
            let is_stopped = Arc::new(AtomicBool::new(false));
            let stopped = is_stopped.clone();
            let stop = move || stopped.store(true, Ordering::Relaxed);
            let finisher = Finisher::start(queue.expect("a queue"), stop).expect("threads");
            Place {
                dir,
                finisher,
                is_stopped,
            }
        }

        fn feeder(&self) -> Feeder {
            let text = r#"{"sources": [{"name": "cam", "url": "rtsp://127.0.0.1/a"}]}"#;
            let settings = RecorderSettings::from_text(text, &Environment::empty());
            let source = settings.expect("settings").sources[0].clone();
            Feeder::start(WriterSetup {
                name: source.name.clone(),
                origin: Origin::unknown("cam"),
                dir: self.dir.path().join("raw/cam"),
                extension: "mp4",
                zone: TimeZone::UTC,
                finisher: self.finisher.handle(),
                board: Arc::new(Board::new(&source, None)),
                ledger: Ledger::new(self.dir.path()),
            })
            .expect("a writer")
        }

        /// Frames of the segments that have a ticket.
        fn frames(self) -> Vec<u64> {
            let handle = self.finisher.handle();
            self.finisher.close();
            let entries = handle.queue().list().expect("a queue").into_iter();
            let read = |path| std::fs::read(path).expect("a ticket");
            let ticket = |path| ticket_queue::Ticket::parse(&read(path)).expect("a ticket");
            entries.map(|it| ticket(it.path).frame_count).collect()
        }
    }

    fn open(video: VideoTrack) -> Action {
        Action::Open(Opening {
            number: 1,
            round: None,
            params: Arc::new(StreamParams::new(video, None)),
            start: Timestamp::UNIX_EPOCH,
            length: Duration::from_secs(60),
            gap_before: None,
        })
    }

    fn packet(track: Track, place_90k: i64, data: &[u8]) -> Action {
        Action::Append(Packet {
            track,
            pts_90k: place_90k,
            dts_90k: place_90k,
            duration_90k: 6000,
            key: true,
            data: data.to_vec(),
        })
    }

    fn close() -> Action {
        Action::Close(Closing {
            reason: CutReason::Duration,
            frames: 10,
            start: Timestamp::UNIX_EPOCH,
            wall_duration: Duration::from_secs(1),
            media_duration: Duration::from_secs(1),
            packets_lost: 0,
            hidden_key: None,
        })
    }

    #[test]
    fn sound_that_cannot_be_stored_costs_no_segment() {
        let place = Place::new();
        let made = TestVideo {
            encoder: "mjpeg".into(),
            frames: 10,
            ..TestVideo::default()
        };
        let made = made.encode().expect("a video");
        let mut actions = vec![open(made.track.clone())];
        for (packet_90k, video) in (0..).step_by(6000).zip(&made.packets) {
            actions.push(packet(Track::Video, packet_90k, video.data()));
            actions.push(packet(Track::Audio, packet_90k, b"sound"));
        }
        actions.push(close());
        let mut feeder = place.feeder();
        feeder.push(&mut actions, Duration::ZERO);
        let shared = feeder.shared.clone();
        feeder.close();
        assert_eq!(*shared.lost(), None);
        assert_eq!(place.frames(), [10]);
    }

    // Elsewhere the sum wraps.
    #[cfg(debug_assertions)]
    #[test]
    fn a_writer_that_dies_stops_the_recorder() {
        let place = Place::new();
        let made = TestVideo::default().encode().expect("a video");
        let endless = packet(Track::Video, i64::MAX, made.packets[0].data());
        let mut feeder = place.feeder();
        feeder.push(
            &mut vec![open(made.track), endless, close()],
            Duration::ZERO,
        );
        feeder.close();
        assert!(place.is_stopped.load(Ordering::Relaxed));
    }
}
