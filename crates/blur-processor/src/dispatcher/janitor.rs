//! Keeps all videos within the disk budget and the age limit, by the rules of [`daemon::disk`], and removes old receipts.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use daemon::disk::{
    Budget, Deletes, DiskKeeper, Kind, Moment, Room, StoredFile, VideoDirs, real_place,
};
use settings::BlurSettings;
use ticket_queue::{DirectoryQueue, Receipt};
use tracing::{info, warn};

use super::original::chain;

/// How often the disk is looked at.
pub(super) const INTERVAL: Duration = Duration::from_secs(30);
/// How often old receipts are looked for, which reads the whole queue.
pub(super) const PRUNE_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Receipts are kept at least this long.
const RECEIPT_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Looks after three directories and the receipts.
#[derive(Debug)]
pub(super) struct Janitor {
    raw: PathBuf,
    output: PathBuf,
    backup: Option<PathBuf>,
    max_file_age: Duration,
    keeper: Mutex<DiskKeeper>,
}

impl Janitor {
    pub(super) fn new(settings: &BlurSettings) -> Self {
        let dirs = VideoDirs {
            raw: settings.raw_dir.clone(),
            published: settings.output_dir.clone(),
            backup: settings.backup_dir.clone(),
        };
        let budget = Budget {
            max_usage_bytes: settings.disk.max_usage_bytes,
            min_free_bytes: settings.disk.min_free_bytes,
            deletes: match settings.disk.cleanup_old_files {
                true => Deletes::All,
                false => Deletes::Nothing,
            },
            max_file_age: settings.disk.max_file_age,
        };
        Self {
            raw: settings.raw_dir.clone(),
            output: settings.output_dir.clone(),
            backup: settings.backup_dir.clone(),
            max_file_age: settings.disk.max_file_age,
            keeper: Mutex::new(DiskKeeper::new(dirs, budget)),
        }
    }

    /// Deletes what is too old or too much, oldest first; `None` when the disk cannot be asked.
    pub(super) fn tidy(&self, queue: &DirectoryQueue, now: Moment) -> Option<Room> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked for when something is about to go, so that what was published since counts, too.
        let mut needed = None;
        let looked = keeper.look(now, &mut |file, kind| match kind {
            Kind::Segment => self.is_processed(queue, file),
            Kind::Published | Kind::OfScripts | Kind::Backup => {
                let needed = needed.get_or_insert_with(|| self.needed(queue));
                (needed.as_ref()).is_some_and(|needed| !needed.contains(&file.path))
            }
        });
        looked
            .inspect_err(|error| warn!(%error, "cannot tell how full the disk is"))
            .ok()
    }

    fn is_processed(&self, queue: &DirectoryQueue, file: &StoredFile) -> bool {
        let path = &file.path;
        let Some(id) = path.strip_prefix(&self.raw).ok().and_then(Path::to_str) else {
            return false;
        };
        queue.is_finished(id, file.bytes).unwrap_or_else(|error| {
            warn!(file = %path.display(), %error, "cannot tell whether a video is processed; it is kept");
            false
        })
    }

    /// Finished videos whose tickets are not: an original goes only while its video is there, and one that is gone only
    /// leaves its ticket while its backup is. `None` when nobody can tell.
    fn needed(&self, queue: &DirectoryQueue) -> Option<HashSet<PathBuf>> {
        let receipts = queue
            .unfinished()
            .inspect_err(|error| {
                warn!(
                    error = chain(error),
                    "cannot tell which videos are needed; all are kept"
                )
            })
            .ok()?;
        let (output, backup) = (
            real_place(&self.output),
            self.backup.as_deref().map(real_place),
        );
        let places = |receipt: Receipt| {
            let backup = backup.as_ref().map(|dir| dir.join(receipt.input.path));
            [Some(output.join(receipt.output.path)), backup]
        };
        Some(receipts.into_iter().flat_map(places).flatten().collect())
    }

    /// Removes old receipts of videos of which nothing is left.
    pub(super) fn prune(&self, queue: &DirectoryQueue) {
        let nothing_left = |receipt: &Receipt| {
            !self.raw.join(&receipt.input.path).exists()
                && !self.output.join(&receipt.output.path).exists()
        };
        let mut on_damaged = |error: ticket_queue::Error| {
            warn!(
                error = chain(&error),
                "a damaged receipt is left where it is"
            );
        };
        let age = RECEIPT_AGE.max(self.max_file_age);
        match queue.prune_receipts(age, &nothing_left, &mut on_damaged) {
            Ok(0) => {}
            Ok(receipts) => info!(receipts, "old receipts removed"),
            Err(error) => warn!(%error, "old receipts cannot be removed"),
        }
    }
}
