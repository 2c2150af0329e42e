//! What happens to one ticket before and after a worker has it: checks, interrupted work, publishing.
//!
//! Everything here blocks on the disk and is called off the event loop. The order of steps is
//! that of `ticket_queue::publish`; this module adds what a video needs:
//! - the original is locked (`flock`) from check to end, so that two tickets that name one file
//!   never work on it at the same time;
//! - the report beside the video is durable **before** the video gets its name. It holds the
//!   hashes of original and output, so that after a crash a file under the final name is believed
//!   only if it is what the report says; any other file there is in the way, and nothing of the
//!   ticket is touched. Whoever writes them has the directory to itself, so that no other ticket's
//!   report gets between the two.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::place::unusable;
use jiff::Timestamp;
use serde_json::{Map, json};
use settings::{BlurSettings, Zones};
use ticket_queue::beneath::{FileId, Opened, RawDir, Reason, RelPath};
use ticket_queue::publish::{Committed, Draft, Publisher, Stage};
use ticket_queue::{
    DirectoryQueue, Error, Failure, FileFacts, Lease, Options, OriginalFate, Queue as _,
    RECEIPT_VERSION, Receipt, Ticket, durable,
};
use tracing::{debug, error, info, warn};

use super::before;
use super::health::Health;
use super::original::{
    Refusal, answers, chain, dead, facts_of, hash, is_origin, job_of, lock_original, model_hash,
    output_io, output_path,
};
use crate::pipeline::{StaticZones, VideoJob, VideoReport};
use crate::report::FileReport;

/// Where tickets, originals and outputs are, opened once.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) queue: DirectoryQueue,
    pub(crate) raw: RawDir,
    pub(crate) output_dir: PathBuf,
    publisher: Publisher,
    fate: OriginalFate,
    zones: Zones,
    /// Bytes that must stay free in the output's file system.
    min_free: u64,
    /// What is wrong with them.
    health: Health,
    /// Spare bytes with which any video is tried, however large it is.
    enough: u64,
}

/// A ticket whose video is checked and whose output is begun.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) lease: Lease,
    pub(crate) job: VideoJob,
    pub(crate) original: Opened,
    pub(crate) draft: Draft,
    pub(crate) input: FileFacts,
    output: RelPath,
    started: Timestamp,
}

/// What is left to do for a claimed ticket.
#[derive(Debug)]
pub(crate) enum Next {
    /// A worker must do the video.
    Work(Box<Work>),
    /// Nothing: it was finished or given back.
    Settled(Settled),
}

/// How a ticket ended for this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Published, or found published and finished.
    Published,
    /// Given up or refused; a person should look.
    GivenUp(String),
    /// To be tried again later.
    Deferred(String),
    /// The disk's state is unknown: the program must stop.
    Stop(String),
}

impl Places {
    /// Opens queue, raw, output and backup directories, making those that may be made.
    /// Tickets wait for so long for a disk of originals that is not mounted.
    pub(crate) fn open(settings: &BlurSettings, mount_patience: Duration) -> anyhow::Result<Self> {
        let options = Options {
            max_attempts: settings.max_attempts,
            ..Options::default()
        };
        let disk = Arc::clone(&options.disk);
        let queue = DirectoryQueue::open(&settings.queue_dir, options)
            .map_err(|error| unusable("queue_dir", error))?;
        durable::create_dir_all_durable(&settings.raw_dir)
            .map_err(|error| unusable("raw_dir", error))?;
        let raw = RawDir::open(&settings.raw_dir).map_err(|error| unusable("raw_dir", error))?;
        let backup = settings.backup_dir.as_deref();
        let keys = match backup {
            Some(_) => "output_dir or backup_dir",
            None => "output_dir",
        };
        let publisher = Publisher::open(&settings.output_dir, backup, disk)
            .map_err(|error| unusable(keys, error))?;
        let fate = match (settings.backup_dir.is_some(), settings.delete_original) {
            (true, _) => OriginalFate::BackedUp,
            (false, true) => OriginalFate::Deleted,
            (false, false) => OriginalFate::Kept,
        };
        Ok(Self {
            queue,
            raw,
            output_dir: settings.output_dir.clone(),
            publisher,
            fate,
            health: Health::new(mount_patience),
            zones: settings.zones.clone(),
            // Recording pauses at the whole floor. What is left below it is for publishing, which makes room again.
            min_free: settings.disk.min_free_bytes / 4,
            // Half of that, since the floor is kept from one look at the disk to the next, not at each moment. To ask for
            // more would be to wait for space that nobody makes; while an output grows, old videos go for it.
            enough: settings.disk.min_free_bytes / 8 * 3,
        })
    }

    /// Free bytes in the output's file system above the floor; 0 when below it.
    pub(crate) fn spare_bytes(&self) -> u64 {
        daemon::disk::free_bytes(&self.output_dir)
            .unwrap_or(u64::MAX)
            .saturating_sub(self.min_free)
    }

    /// Whether outputs can be written. Until they can no ticket is to be claimed.
    pub(crate) fn is_writable(&self) -> bool {
        self.health.is_writable(&self.publisher)
    }

    /// What keeps tickets waiting, or originals where they are, for whoever looks after the machine.
    pub(crate) fn alarm(&self) -> Option<String> {
        self.health.alarm(&self.queue, &self.raw)
    }

    /// Whether there may be originals.
    pub(crate) fn has_originals(&self) -> bool {
        self.health.has_originals(&self.raw)
    }

    /// What becomes of a ticket whose original is neither there nor published; for those that are published see
    /// [`Places::finish`]. An empty mount point would give up all tickets of its disk. It cannot be told from a directory of which
    /// all was processed, so the wait has an end. Tickets without a hash are the old recorder's, which left some behind whose
    /// video was done.
    fn missing(&self, ticket: &Ticket) -> Refusal {
        let filepath = &ticket.filepath;
        let may_come = ticket.blake3.is_some() && !self.health.has_waited_enough();
        if !may_come || !self.raw.is_bare_at(filepath) {
            return dead(format!(
                "the video {filepath} does not exist in {}; it was neither published nor found",
                self.raw.path().display()
            ));
        }
        self.unmounted(ticket)
    }

    /// Has the ticket wait for the disk of its original.
    fn unmounted(&self, ticket: &Ticket) -> Refusal {
        let missed = (self.health).unmounted(&ticket.filepath, &self.queue, &self.raw);
        Refusal::Ticket(missed)
    }

    /// Whether a ticket whose owner died only needs finishing. A mistake here costs an attempt
    /// or saves one; [`Places::prepare`] decides.
    pub(crate) fn is_finishable(&self, lease: &Lease) -> bool {
        lease.receipt().is_some()
            || output_path(lease.ticket())
                .is_ok_and(|output| self.output_dir.join(output.as_path()).exists())
    }

    /// Checks a claimed ticket and its video, finishes what was interrupted, else begins the work.
    pub(crate) fn prepare(&self, lease: Lease) -> Next {
        if let Some(receipt) = lease.receipt().cloned() {
            return Next::Settled(self.finish(lease, &receipt, None));
        }
        match self.check(&lease) {
            Ok(Checked::Published(receipt)) => {
                info!(ticket = %lease.stem(), "found published; finishing");
                Next::Settled(self.finish(lease, &receipt, None))
            }
            Ok(Checked::Todo {
                original,
                input,
                output,
            }) => match self.publisher.draft(&lease, &output) {
                Ok(draft) => Next::Work(Box::new(Work {
                    job: self.job(lease.ticket(), &output),
                    started: Timestamp::now(),
                    lease,
                    original,
                    draft,
                    input,
                    output,
                })),
                Err(error) => Next::Settled(self.give_back_error(lease, error)),
            },
            Err(refusal) => Next::Settled(self.settle_refusal(lease, refusal)),
        }
    }

    fn job(&self, ticket: &Ticket, output: &RelPath) -> VideoJob {
        let source = output.as_path().parent().and_then(Path::to_str);
        let zones = source.and_then(|source| self.zones.of(source));
        VideoJob {
            zones: zones.map(StaticZones::from).unwrap_or_default(),
            carry: before::carry(ticket, &self.output_dir.join(output.as_path())),
            ..job_of(ticket, output)
        }
    }

    fn check(&self, lease: &Lease) -> Result<Checked, Refusal> {
        let ticket = lease.ticket();
        let output = output_path(ticket).map_err(Refusal::Ticket)?;
        let opened = match self.raw.open_ticket_file(&ticket.filepath) {
            Ok(opened) => Some(opened),
            Err(refused) if matches!(refused.reason, Reason::Missing) => None,
            Err(refused) if matches!(refused.reason, Reason::Away(_)) => {
                return Err(self.unmounted(ticket));
            }
            Err(refused) => {
                let reason = refused.to_string();
                return Err(match refused.into() {
                    Failure::NotNow { .. } => self.disk_fails(reason),
                    failure => Refusal::Ticket(failure),
                });
            }
        };
        if let Some(opened) = &opened {
            lock_original(ticket, opened)?;
        }
        if let Stage::Published(video) = self.publisher.stage(lease, &output)? {
            let input = match &opened {
                Some(opened) => Some(self.check_original(ticket, opened)?),
                None => None,
            };
            return self
                .receipt_from_report(lease, &video, &output, input.as_ref())
                .map(|receipt| Checked::Published(Box::new(receipt)));
        }
        let Some(original) = opened else {
            return Err(self.missing(ticket));
        };
        self.require_space(original.id.size)?;
        let input = self.check_original(ticket, &original)?;
        Ok(Checked::Todo {
            original,
            input,
            output,
        })
    }

    /// Reads the locked original and compares its content with its ticket.
    fn check_original(&self, ticket: &Ticket, original: &Opened) -> Result<FileFacts, Refusal> {
        let blake3 = hash(&original.file).map_err(|error| {
            let reason = format!("cannot read {}: {error}", original.path);
            self.unreadable(&original.file, reason)
        })?;
        self.health.readable();
        facts_of(ticket, original, blake3)
    }

    /// What becomes of a ticket of whose original something cannot be read: a bad spot is the file's own fault, a disk that
    /// gives nothing at all that of none.
    pub(crate) fn unreadable(&self, original: &File, reason: String) -> Refusal {
        match answers(original) {
            true => Refusal::Ticket(Failure::Retry { reason }),
            false => self.disk_fails(reason),
        }
    }

    fn disk_fails(&self, reason: String) -> Refusal {
        Refusal::Ticket(self.health.unreadable(reason, &self.raw))
    }

    /// Looks for room before the original is read as a whole, which a ticket that waits for room would do each time.
    fn require_space(&self, input_bytes: u64) -> Result<(), Refusal> {
        let wanted = input_bytes.saturating_mul(2).min(self.enough);
        if self.spare_bytes() >= wanted {
            return Ok(());
        }
        let reason = format!(
            "no space for the output in {}: {} MiB are needed",
            self.output_dir.display(),
            wanted.div_ceil(1 << 20)
        );
        Err(Refusal::Ticket(Failure::NotNow { reason }))
    }

    /// The receipt for a video that lies under its final name, if it is the one that was made of
    /// this ticket's original.
    fn receipt_from_report(
        &self,
        lease: &Lease,
        video: &Path,
        output: &RelPath,
        input: Option<&FileFacts>,
    ) -> Result<Receipt, Refusal> {
        let in_the_way = |why: &str| {
            dead(format!(
                "{} is in the way: {why}; move it away, then run `blur-processor retry {}`",
                video.display(),
                lease.stem()
            ))
        };
        let report = FileReport::read(&FileReport::path_beside(video)).map_err(|error| {
            in_the_way(&format!("no report beside it tells its origin ({error})"))
        })?;
        let same_input = match input {
            Some(input) => report.input.blake3 == input.blake3,
            None => is_origin(lease.ticket(), &report.input),
        };
        if !same_input {
            return Err(in_the_way("it was made from another video of this name"));
        }
        let file = File::open(video).map_err(|error| output_io("open", video, error))?;
        let found = hash(&file).map_err(|error| output_io("read", video, error))?;
        if found != report.output.blake3 {
            return Err(in_the_way("it is not the file its report is about"));
        }
        Ok(self.receipt(lease, &report, output))
    }

    /// Publishes a worker's output and finishes the ticket.
    pub(crate) fn publish(&self, work: Work, video: VideoReport) -> Settled {
        let Work {
            lease,
            original,
            draft,
            input,
            output,
            started,
            ..
        } = work;
        let report = match self.report(&lease, &draft, input, &output, started, video) {
            Ok(report) => report,
            Err(refusal) => return self.settle_refusal(lease, refusal),
        };
        let target = self.output_dir.join(output.as_path());
        let temp = draft.companion("json");
        // Another ticket's video may be to have the same name. From here to the commit nobody else's report gets there.
        let turn = draft.wait_for_turn();
        // Where a video has the name by now, the report beside it is that video's.
        if !target.exists()
            && let Err(error) = report.write_durably(&FileReport::path_beside(&target), &temp)
        {
            return self.give_back_error(lease, error);
        }
        let committed = draft.commit();
        drop(turn);
        let receipt = match committed {
            Ok(Committed::New(_)) => self.receipt(&lease, &report, &output),
            Ok(Committed::AlreadyThere(video)) => {
                match self.receipt_from_report(&lease, &video, &output, Some(&report.input)) {
                    Ok(receipt) => receipt,
                    Err(refusal) => return self.settle_refusal(lease, refusal),
                }
            }
            Err(error) => return self.give_back_error(lease, error),
        };
        let settled = self.finish(lease, &receipt, Some(original.id));
        // The lock goes with the file; a worker that died late may still hold a duplicate.
        original.file.unlock().ok();
        settled
    }

    fn report(
        &self,
        lease: &Lease,
        draft: &Draft,
        input: FileFacts,
        output: &RelPath,
        started: Timestamp,
        video: VideoReport,
    ) -> Result<FileReport, Refusal> {
        let bytes = draft
            .file()
            .metadata()
            .map_err(|error| output_io("stat", draft.path(), error))?
            .len();
        let blake3 = hash(draft.file()).map_err(|error| output_io("read", draft.path(), error))?;
        if video.frames == 0 || bytes == 0 {
            return Err(Refusal::Ticket(Failure::Retry {
                reason: "the worker's output is empty".to_owned(),
            }));
        }
        let output = FileFacts {
            path: output.to_string(),
            bytes,
            blake3,
        };
        Ok(FileReport {
            ticket: lease.stem().to_string(),
            attempt: lease.attempt(),
            source: lease.ticket().source_name.clone(),
            recorded: lease.ticket().start().map(|start| start.timestamp()),
            input,
            output,
            started,
            finished: Timestamp::now(),
            video,
        })
    }

    fn receipt(&self, lease: &Lease, report: &FileReport, output: &RelPath) -> Receipt {
        let video = &report.video;
        let mut extra = Map::new();
        extra.insert(
            "report".to_owned(),
            json!(FileReport::path_beside(output.as_path())),
        );
        Receipt {
            version: RECEIPT_VERSION,
            id: lease.ticket().id().to_owned(),
            stem: lease.stem().clone(),
            attempt: lease.attempt(),
            input: report.input.clone(),
            output: report.output.clone(),
            original: self.fate,
            original_dir: None,
            plugin: video
                .plugin
                .blake3
                .as_ref()
                .map(|blake3| ticket_queue::PluginFacts {
                    name: video.plugin.name.clone(),
                    version: video.plugin.version.clone(),
                    blake3: blake3.clone(),
                    model_blake3: model_hash(&video.plugin.info),
                }),
            frames: video.frames,
            heads: video.heads,
            tracks: video.tracks,
            started: report.started,
            finished: report.finished,
            extra,
        }
    }

    /// Receipt, original, ticket.
    fn finish(&self, lease: Lease, receipt: &Receipt, seen: Option<FileId>) -> Settled {
        match self
            .publisher
            .settle(&self.queue, &lease, receipt, &self.raw, seen)
        {
            Ok(()) => self.complete(lease),
            // Where other files lie by now there is no telling when the disk is back.
            Err(Error::OriginalAway { .. })
                if !self.health.has_waited_enough()
                    && self.raw.is_bare_at(&lease.ticket().filepath) =>
            {
                let refusal = self.unmounted(lease.ticket());
                self.settle_refusal(lease, refusal)
            }
            // Nothing is lost: its video is published, and it was not to be kept.
            Err(error @ Error::OriginalAway { .. })
                if receipt.original == OriginalFate::Deleted =>
            {
                error!(
                    ticket = %lease.stem(),
                    reason = chain(&error),
                    "a published video's original was not found; if its disk comes back with it, remove it by hand"
                );
                self.complete(lease)
            }
            Err(error @ Error::OriginalLost { is_gone: true, .. }) => {
                error!(
                    ticket = %lease.stem(),
                    reason = chain(&error),
                    "a published video's original was removed before it was backed up; there is nothing left to do"
                );
                self.complete(lease)
            }
            Err(
                error @ (Error::OriginalAway { .. }
                | Error::OriginalLost { .. }
                | Error::OriginalChanged { .. }
                | Error::BackupDiffers { .. }
                | Error::BackupIsOriginal { .. }),
            ) => self.give_back(
                lease,
                Failure::Dead {
                    reason: chain(&error),
                },
            ),
            Err(error) => {
                self.health.left(&error);
                self.give_back_error(lease, error)
            }
        }
    }

    /// Ends a ticket whose receipt is written and whose original is dealt with.
    fn complete(&self, lease: Lease) -> Settled {
        match self.queue.complete(lease) {
            Ok(()) => {
                self.health.dealt_with();
                Settled::Published
            }
            // Published and durable; what is left of the ticket is finished by the reaper.
            Err(error) if error.must_stop() => Settled::Stop(chain(&error)),
            Err(error) => Settled::Deferred(chain(&error)),
        }
    }

    pub(crate) fn settle_refusal(&self, lease: Lease, refusal: Refusal) -> Settled {
        match refusal {
            Refusal::Disk(error) => self.give_back_error(lease, error),
            Refusal::Ticket(failure) => self.give_back(lease, failure),
        }
    }

    fn give_back_error(&self, lease: Lease, error: Error) -> Settled {
        let reason = chain(&error);
        if error.must_stop() {
            return Settled::Stop(reason);
        }
        let failure = match error {
            Error::LeaseLost { .. } => return Settled::Deferred(reason),
            error if error.is_no_space() => Failure::NotNow { reason },
            error if error.is_of_place() => {
                self.health.look_for_trouble(&self.publisher);
                Failure::NotNow { reason }
            }
            _ => Failure::Retry { reason },
        };
        self.give_back(lease, failure)
    }

    /// Hands a ticket back to the queue and logs it, once.
    pub(crate) fn give_back(&self, lease: Lease, failure: Failure) -> Settled {
        let (stem, attempt) = (lease.stem().clone(), lease.attempt());
        let reason = match &failure {
            Failure::Retry { reason }
            | Failure::NotNow { reason }
            | Failure::Dead { reason }
            | Failure::Corrupt { reason } => reason.clone(),
        };
        let waits_for_originals =
            matches!(failure, Failure::NotNow { .. }) && self.health.lacks_originals();
        match self.queue.fail(lease, failure) {
            // The alarm has told of it, and many tickets may wait for the same disk.
            Ok(ticket_queue::Failed::Deferred(_)) if waits_for_originals => {
                debug!(ticket = %stem, attempt, reason, "not processed; will be tried again");
                Settled::Deferred(reason)
            }
            Ok(ticket_queue::Failed::Deferred(delay)) => {
                warn!(ticket = %stem, attempt, retry_in_s = delay.as_secs(), reason, "not processed; will be tried again");
                Settled::Deferred(reason)
            }
            Ok(_) => {
                error!(ticket = %stem, attempt, reason, "given up; the original is kept, see failed/ or corrupt/ in the queue");
                Settled::GivenUp(reason)
            }
            Err(error) if error.must_stop() => Settled::Stop(chain(&error)),
            Err(error) => {
                error!(ticket = %stem, error = chain(&error), reason, "ticket could not be given back; it is recovered later");
                Settled::Deferred(reason)
            }
        }
    }
}

impl Work {
    /// Ends the work without an output; the draft is removed.
    pub(crate) fn abandon(self) -> Lease {
        self.original.file.unlock().ok();
        self.lease
    }
}

enum Checked {
    Published(Box<Receipt>),
    Todo {
        original: Opened,
        input: FileFacts,
        output: RelPath,
    },
}
