//! Room on the disk, for both daemons in one way: how much all videos take, what may go for space or for age, and how
//! long the space will last.
//!
//! There is one budget over everything: footage that waits, originals that are kept, published videos and backups. Both
//! daemons count all of it. The processor deletes; the recorder deletes originals that are processed, and only when
//! the processor has had its time to do better ([`Deletes::Segments`]).
//!
//! Invariants:
//! - Footage that is not processed is counted and never deleted, whatever the budget.
//! - Nothing goes without the word of whoever knows the queue: a published video may be what an original still depends on.
//! - What goes, goes oldest first, whatever its kind; each deletion is logged. A video's report goes after it.
//! - A published video without a report goes for space only: the scripts made it, and whoever ran them knows of no age limit
//!   for it.
//! - Directories are walked as they are found: those of sources that are no longer configured count and are swept too.
//! - In the directories of finished videos only files count, and go, whose names and places are ours ([`names`]). Whatever
//!   else lies there is somebody's: it is told once, counts nothing and is never deleted.
//! - What lies below the raw directory is footage, whatever else that directory lies in.
//! - A clock that is set makes nothing old: see [`ClockSteps`]. What has happened since a look before is told by the clock
//!   that nobody sets.
//! - Hidden files and directories are work in progress: counted nowhere, never touched.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::io;
use std::ops::Add;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

mod names;

pub use names::is_segment_name;

use names::Ours;

/// Files younger than this may still be part of something that is being finished.
const GRACE: Duration = Duration::from_secs(60);
/// A segment that was not processed is asked about again after this time.
const ASK_AGAIN: Duration = Duration::from_secs(300);
/// Segments asked about in one look that needs no room: only for the forecast.
const ASKED_IN_PASSING: usize = 32;
/// Time in which the daemon that may delete everything has looked at the disk.
const OTHERS_TURN: Duration = Duration::from_secs(90);
/// The wall clock is set, rather than adjusted, when it leaves the monotonic one by more than this between two looks.
const CLOCK_STEP: Duration = Duration::from_secs(600);
/// Time over which the growth of the backlog is measured.
const GROWTH_WINDOW: Duration = Duration::from_secs(3600);
/// Shorter than this, the growth says nothing: segments come and go whole.
const GROWTH_LEAST: Duration = Duration::from_secs(300);

/// A moment by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// What files are dated by; somebody may set it.
    pub wall: SystemTime,
    /// What time that passes is measured by.
    pub monotonic: Instant,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self {
            wall: SystemTime::now(),
            monotonic: Instant::now(),
        }
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self {
            wall: self.wall + duration,
            monotonic: self.monotonic + duration,
        }
    }
}

/// A file as a listing found it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StoredFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

/// Regular files below a directory, at any depth, in no order; hidden ones are left out, and links are not followed.
/// What cannot be read now is met the next time.
pub fn files_below(folder: &Path) -> Vec<StoredFile> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return found;
    };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let Ok(meta) = entry.metadata() else {
            continue;
        };
        if meta.is_dir() {
            found.extend(files_below(&entry.path()));
        } else if let (true, Ok(modified)) = (meta.is_file(), meta.modified()) {
            found.push(StoredFile {
                path: entry.path(),
                bytes: meta.len(),
                modified,
            });
        }
    }
    found
}

/// Bytes of all files below a directory; what [`files_below`] leaves out counts nothing.
pub fn bytes_below(folder: &Path) -> u64 {
    total(&files_below(folder))
}

/// The path without links; what does not exist yet stays as it is written, without `.` in it.
pub fn real_place(path: &Path) -> PathBuf {
    let written = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let real = |existing: &Path| {
        let rest = written.strip_prefix(existing).ok()?;
        let whole = fs::canonicalize(existing).ok()?.join(rest);
        // Without the slash at its end that an empty rest leaves.
        Some(whole.components().collect())
    };
    written
        .ancestors()
        .find_map(real)
        .unwrap_or(written.clone())
}

/// Bytes that an ordinary user may still write where `path` is or will be.
///
/// # Errors
/// The file system cannot be asked, which says nothing about how full it is.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let existing = path
        .ancestors()
        .map(|dir| match dir.as_os_str().is_empty() {
            true => Path::new("."),
            false => dir,
        })
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("."));
    let stat = rustix::fs::statvfs(existing)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What may be taken and what must stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes that all videos together may take.
    pub max_usage_bytes: u64,
    /// Bytes that stay free in each file system that videos lie in.
    pub min_free_bytes: u64,
    /// What may be deleted.
    pub deletes: Deletes,
    /// Processed videos older than this go, but those of the scripts.
    pub max_file_age: Duration,
}

/// What may be deleted to keep a budget. Footage that is not processed never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletes {
    /// Nothing, for whatever reason.
    Nothing,
    /// Segments in the raw directory that are processed: for their age at once, for space when it has been short for
    /// longer than the other daemon needs to make some.
    Segments,
    /// Everything that is processed.
    All,
}

/// Where videos lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoDirs {
    /// Segments as recorded, processed or not.
    pub raw: PathBuf,
    /// Where published videos are, among other files perhaps. One that is missing is empty.
    pub published: PathBuf,
    /// Where originals are that were backed up, among other files perhaps.
    pub backup: Option<PathBuf>,
}

/// What one look came to.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Room {
    /// Bytes that all videos together take now.
    pub used_bytes: u64,
    /// Bytes of them that are footage which is not known to be processed.
    pub waiting_bytes: u64,
    /// Bytes still free, in the fullest of the file systems.
    pub free_bytes: u64,
    /// Bytes above the budget that nothing could be deleted for.
    pub over_bytes: u64,
    /// Bytes missing below the floor of free space that nothing could be deleted for.
    pub short_bytes: u64,
    /// Videos deleted by this look.
    pub deleted: u64,
    /// Hours until footage that waits fills the budget or the disk, at the rate of the last hour; `None` while it does
    /// not grow, or while that is not known.
    pub hours_left: Option<f64>,
}

/// Applies a budget to directories.
#[derive(Debug)]
pub struct DiskKeeper {
    dirs: VideoDirs,
    budget: Budget,
    /// Segments that were not processed when last asked, and when that was.
    waiting: HashMap<PathBuf, Instant>,
    /// Segments that are. Another file that takes the name of one is not.
    processed: HashSet<StoredFile>,
    /// [`free_bytes`], but in tests.
    free_bytes: fn(&Path) -> io::Result<u64>,
    /// Since when space is short.
    short_since: Option<Instant>,
    growth: Growth,
    clock: ClockSteps,
    /// Directories of which it was told that other files lie there.
    told_of: HashSet<PathBuf>,
}

impl DiskKeeper {
    /// Nothing is looked at yet.
    pub fn new(dirs: VideoDirs, budget: Budget) -> Self {
        Self {
            dirs,
            budget,
            waiting: HashMap::new(),
            processed: HashSet::new(),
            free_bytes,
            short_since: None,
            growth: Growth::default(),
            clock: ClockSteps::default(),
            told_of: HashSet::new(),
        }
    }

    /// Looks at all directories and deletes what may go. Blocks. `may_go` tells whether nobody needs a video any more: of a
    /// segment in the raw directory, whether it is processed, which it may be slow to tell and is asked as rarely as
    /// possible; of a finished video, whether the original that it was made from does without it.
    ///
    /// # Errors
    /// The disk cannot be asked, which says nothing about how full it is.
    pub fn look(&mut self, now: Moment, may_go: &mut MayGo<'_>) -> io::Result<Room> {
        self.clock.note(now);
        let raw = files_below(&self.dirs.raw);
        self.forget_gone(&raw);
        let finished = self.finished();
        let mut room = Room {
            used_bytes: total(&raw) + finished.iter().map(|(file, _)| file.bytes).sum::<u64>(),
            free_bytes: self.free()?,
            ..Room::default()
        };
        self.ask_in_passing(&raw, now.monotonic, may_go);
        self.measure(&raw, &mut room);
        let candidates = self.candidates(raw, finished, now.wall);
        self.make_room(candidates, &mut room, now.monotonic, may_go)?;
        self.measure(&files_below(&self.dirs.raw), &mut room);
        room.hours_left = self.forecast(now.monotonic, &room);
        Ok(room)
    }

    /// Finished videos and reports. What is below the raw directory is none, should that lie within one of theirs.
    fn finished(&mut self) -> Vec<(StoredFile, Ours)> {
        let real = |dir: &Path| fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
        let raw = real(&self.dirs.raw);
        let below = |dir: &Path| {
            let mut files = files_below(dir);
            files.retain(|file| !file.path.starts_with(&raw));
            files
        };
        let published = real(&self.dirs.published);
        let files = below(&published);
        let reports: HashSet<PathBuf> = files
            .iter()
            .filter(|file| names::is_report(&file.path))
            .map(|file| file.path.clone())
            .collect();
        let mut found = self.sort_out(&published, files, |place| {
            names::in_published(place, |report| reports.contains(&published.join(report)))
        });
        if let Some(backup) = self.dirs.backup.as_deref().map(real) {
            let files = below(&backup);
            found.extend(self.sort_out(&backup, files, names::in_backup));
        }
        found
    }

    /// What of these files is ours. Of others it is told once.
    fn sort_out(
        &mut self,
        dir: &Path,
        files: Vec<StoredFile>,
        ours: impl Fn(&Path) -> Option<Ours>,
    ) -> Vec<(StoredFile, Ours)> {
        let mut found = Vec::new();
        let mut others = Vec::new();
        for file in files {
            match file.path.strip_prefix(dir).ok().and_then(&ours) {
                Some(kind) => found.push((file, kind)),
                None => others.push(file),
            }
        }
        if let Some(first) = others.first()
            && self.told_of.insert(dir.to_owned())
        {
            info!(
                files = others.len(),
                bytes = total(&others),
                such_as = %first.path.display(),
                "files that are no videos of ours lie in {}; they do not count as videos and are never deleted",
                dir.display()
            );
        }
        found
    }

    /// What may be deleted if it is processed, oldest first.
    fn candidates(
        &self,
        raw: Vec<StoredFile>,
        finished: Vec<(StoredFile, Ours)>,
        now: SystemTime,
    ) -> Vec<Candidate> {
        let candidate = |file: StoredFile, kind| Candidate {
            age: self.clock.age(file.modified, now),
            file,
            kind,
        };
        let mut found: Vec<Candidate> = Vec::new();
        if self.budget.deletes != Deletes::Nothing {
            let segments = raw.into_iter();
            found.extend(segments.map(|file| candidate(file, Kind::Segment)));
        }
        if self.budget.deletes == Deletes::All {
            found.extend(finished.into_iter().filter_map(|(file, ours)| {
                let kind = match ours {
                    Ours::Published => Kind::Published,
                    Ours::OfScripts => Kind::OfScripts,
                    Ours::Backup => Kind::Backup,
                    Ours::Report => return None,
                };
                Some(candidate(file, kind))
            }));
        }
        // What is dated in the future comes first: as the newest it would stay for ever.
        found.sort_by_key(|candidate| (candidate.age.is_some(), candidate.file.modified));
        found
    }

    fn make_room(
        &mut self,
        candidates: Vec<Candidate>,
        room: &mut Room,
        now: Instant,
        may_go: &mut MayGo<'_>,
    ) -> io::Result<()> {
        let may_for_space = self.may_delete_for_space(room, now);
        for Candidate { file, kind, age } in candidates {
            // What lies on another file system makes no room where it is short.
            let is_short = room.free_bytes < self.budget.min_free_bytes
                && (self.free_bytes)(&file.path)? < self.budget.min_free_bytes;
            let Some(reason) = self.reason(kind, age, room, may_for_space, is_short) else {
                continue;
            };
            let is_free = match kind {
                Kind::Segment => self.knows_processed(&file, now, may_go),
                Kind::Published | Kind::OfScripts | Kind::Backup => may_go(&file, kind),
            };
            if !is_free {
                continue;
            }
            if let Some(freed) = delete(&file, kind, reason) {
                room.used_bytes = room.used_bytes.saturating_sub(freed);
                room.free_bytes = self.free()?;
                room.deleted += 1;
            }
        }
        Ok(())
    }

    fn may_delete_for_space(&mut self, room: &Room, now: Instant) -> bool {
        if room.over_bytes == 0 && room.short_bytes == 0 {
            self.short_since = None;
            return true;
        }
        let since = *self.short_since.get_or_insert(now);
        let short_for = now.saturating_duration_since(since);
        self.budget.deletes == Deletes::All || short_for > OTHERS_TURN
    }

    /// Free bytes of the fullest file system that videos lie in.
    fn free(&self) -> io::Result<u64> {
        let mut least = (self.free_bytes)(&self.dirs.raw)?;
        for dir in std::iter::once(&self.dirs.published).chain(&self.dirs.backup) {
            least = least.min((self.free_bytes)(dir)?);
        }
        Ok(least)
    }

    fn measure(&self, raw: &[StoredFile], room: &mut Room) {
        room.waiting_bytes = raw
            .iter()
            .filter(|file| !self.processed.contains(*file))
            .map(|file| file.bytes)
            .sum();
        room.over_bytes = room.used_bytes.saturating_sub(self.budget.max_usage_bytes);
        room.short_bytes = self.budget.min_free_bytes.saturating_sub(room.free_bytes);
    }

    /// Why a processed video of this age has to go; `None` when it may stay. How old one is that is dated in the future
    /// nobody knows, so that it goes for space only.
    fn reason(
        &self,
        kind: Kind,
        age: Option<Duration>,
        room: &Room,
        may_for_space: bool,
        is_short: bool,
    ) -> Option<&'static str> {
        if age.is_some_and(|age| age < GRACE) {
            None
        } else if kind != Kind::OfScripts && age.is_some_and(|age| age > self.budget.max_file_age) {
            Some("older than max_file_age_hours")
        } else if !may_for_space {
            None
        } else if room.used_bytes > self.budget.max_usage_bytes {
            Some("more than max_disk_usage_gb taken")
        } else if is_short {
            Some("less than min_free_disk_gb free")
        } else {
            None
        }
    }

    fn forget_gone(&mut self, raw: &[StoredFile]) {
        let names: HashSet<&Path> = raw.iter().map(|file| file.path.as_path()).collect();
        self.waiting
            .retain(|path, _| names.contains(path.as_path()));
        let there: HashSet<&StoredFile> = raw.iter().collect();
        self.processed.retain(|file| there.contains(file));
    }

    fn ask_in_passing(&mut self, raw: &[StoredFile], now: Instant, may_go: &mut MayGo<'_>) {
        let due: Vec<&StoredFile> = raw
            .iter()
            .filter(|file| !self.processed.contains(*file) && self.is_due(&file.path, now))
            .take(ASKED_IN_PASSING)
            .collect();
        for file in due {
            self.knows_processed(file, now, may_go);
        }
    }

    fn is_due(&self, path: &Path, now: Instant) -> bool {
        let asked = self.waiting.get(path);
        asked.is_none_or(|asked| now.saturating_duration_since(*asked) >= ASK_AGAIN)
    }

    fn knows_processed(&mut self, file: &StoredFile, now: Instant, may_go: &mut MayGo<'_>) -> bool {
        if self.processed.contains(file) {
            return true;
        }
        if !self.is_due(&file.path, now) {
            return false;
        }
        if may_go(file, Kind::Segment) {
            self.waiting.remove(&file.path);
            self.processed.insert(file.clone())
        } else {
            self.waiting.insert(file.path.clone(), now);
            false
        }
    }

    fn forecast(&mut self, now: Instant, room: &Room) -> Option<f64> {
        self.growth.note(now, room.waiting_bytes);
        let rate = self.growth.bytes_per_second()?;
        let deletable = match self.budget.deletes {
            Deletes::Nothing => 0,
            // Whatever is processed, though the other daemon deletes most of it.
            Deletes::Segments | Deletes::All => room.used_bytes.saturating_sub(room.waiting_bytes),
        };
        let in_budget = self
            .budget
            .max_usage_bytes
            .saturating_sub(room.used_bytes - deletable);
        let on_disk = (room.free_bytes + deletable).saturating_sub(self.budget.min_free_bytes);
        Some(in_budget.min(on_disk) as f64 / rate / 3600.0)
    }
}

/// How fast the backlog grows.
#[derive(Debug, Default)]
struct Growth {
    seen: VecDeque<(Instant, u64)>,
}

impl Growth {
    fn note(&mut self, now: Instant, bytes: u64) {
        self.seen.push_back((now, bytes));
        while self.span() > GROWTH_WINDOW {
            self.seen.pop_front();
        }
    }

    fn span(&self) -> Duration {
        match (self.seen.front(), self.seen.back()) {
            (Some((first, _)), Some((last, _))) => last.saturating_duration_since(*first),
            _ => Duration::ZERO,
        }
    }

    /// Positive, else `None`.
    fn bytes_per_second(&self) -> Option<f64> {
        let span = self.span();
        let grown = self.seen.back()?.1.checked_sub(self.seen.front()?.1)?;
        (span >= GROWTH_LEAST && grown > 0).then(|| grown as f64 / span.as_secs_f64())
    }
}

/// Steps of the wall clock, which are no time that passed: a board without a battery starts with the time of its last
/// run or of its image, and is set right by years once it has a network. By that clock alone, every video would then be
/// older than any limit.
///
/// Only steps that happen between two looks of one keeper are seen, and they are kept in memory: after a restart the age
/// of a video is again what the clock and its date say. A machine that slept looks the same and keeps videos for longer
/// by the time it slept.
#[derive(Debug, Default)]
struct ClockSteps {
    /// Both clocks at the last look.
    last: Option<Moment>,
    /// Steps forward: the time before each, by the wall clock, and how far it went.
    forward: Vec<(SystemTime, Duration)>,
}

impl ClockSteps {
    fn note(&mut self, now: Moment) {
        let Some(last) = self.last.replace(now) else {
            return;
        };
        let passed = now.monotonic.saturating_duration_since(last.monotonic);
        let expected = last.wall + passed;
        match now.wall.duration_since(expected) {
            Ok(step) if step > CLOCK_STEP => {
                warn!(
                    seconds = step.as_secs(),
                    "the clock was set forward; videos from before do not count as older for it"
                );
                self.forward.push((expected, step));
            }
            Err(back) if back.duration() > CLOCK_STEP => {
                warn!(
                    seconds = back.duration().as_secs(),
                    "the clock was set back; videos dated in the future go first when room is needed"
                );
                self.take_back(back.duration());
            }
            _ => {}
        }
    }

    /// A step back undoes steps forward, the last one first.
    fn take_back(&mut self, mut back: Duration) {
        while let Some((before, step)) = self.forward.pop() {
            if step > back {
                self.forward.push((before, step - back));
                return;
            }
            back -= step;
        }
    }

    /// How old a file is; `None` when it is dated in the future, further than clocks differ.
    fn age(&self, modified: SystemTime, now: SystemTime) -> Option<Duration> {
        let stepped = self
            .forward
            .iter()
            .filter(|(before, _)| modified <= *before);
        match now.duration_since(modified) {
            Ok(age) => Some(age.saturating_sub(stepped.map(|(_, step)| *step).sum())),
            Err(ahead) => (ahead.duration() <= GRACE).then_some(Duration::ZERO),
        }
    }
}

/// What may be deleted if it is processed.
#[derive(Debug)]
struct Candidate {
    file: StoredFile,
    kind: Kind,
    /// `None` when it is dated in the future.
    age: Option<Duration>,
}

/// What a video is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In the raw directory: goes only with a receipt.
    Segment,
    /// With a report.
    Published,
    /// Published by the scripts, without a report: goes for space only.
    OfScripts,
    /// An original that was moved away.
    Backup,
}

/// Whether nobody needs a video any more; see [`DiskKeeper::look`].
pub type MayGo<'a> = dyn FnMut(&StoredFile, Kind) -> bool + 'a;

fn total(files: &[StoredFile]) -> u64 {
    files.iter().map(|file| file.bytes).sum()
}

/// Deletes a video and then its report, if it has one; the bytes freed, or `None` when it is still there.
fn delete(file: &StoredFile, kind: Kind, reason: &'static str) -> Option<u64> {
    match fs::remove_file(&file.path) {
        Ok(()) => {}
        // The other daemon was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(file.bytes),
        Err(error) => {
            warn!(%error, path = %file.path.display(), "a processed video cannot be deleted");
            return None;
        }
    }
    info!(path = %file.path.display(), bytes = file.bytes, reason, "processed video deleted");
    let report = match kind {
        Kind::Published => file.path.with_extension("json"),
        Kind::Segment | Kind::OfScripts | Kind::Backup => return Some(file.bytes),
    };
    match fs::metadata(&report) {
        Ok(meta) if fs::remove_file(&report).is_ok() => Some(file.bytes + meta.len()),
        Ok(_) => {
            warn!(path = %report.display(), "the report of a deleted video cannot be deleted");
            Some(file.bytes)
        }
        Err(_) => Some(file.bytes),
    }
}

/// Bytes for people, in the powers of 1024 that the settings use: `1.2 GiB`.
pub fn bytes_text(count: u64) -> String {
    let steps = [
        (1_u64 << 40, "TiB"),
        (1 << 30, "GiB"),
        (1 << 20, "MiB"),
        (1 << 10, "KiB"),
    ];
    match steps.iter().find(|(size, _)| count >= *size) {
        Some((size, unit)) => format!("{:.1} {unit}", count as f64 / *size as f64),
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests;
