//! A small recorder and a small processor, written against the public API only, and disks that
//! misbehave on demand.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use ticket_queue::beneath::{Opened, RawDir, Reason, RelPath};
use ticket_queue::protocol::{CommitSteps, Disk, RealDisk, Step};
use ticket_queue::publish::{Publisher, Stage};
use ticket_queue::{
    DirectoryQueue, Enqueued, Error, Failure, FileFacts, Lease, Options, OriginalFate, Queue,
    RECEIPT_VERSION, Reaped, Receipt, Ticket, durable,
};

/// Says loudly that a test did not run: straight to standard error, past the test runner, which
/// hides what a test that passes prints.
pub(crate) fn skipped(why: &str) {
    io::stderr()
        .write_all(format!("SKIPPED: {why}\n").as_bytes())
        .unwrap();
}

/// A directory in memory where there is one: these tests are about order, not about disks.
pub(crate) fn fast_tempdir() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    tempfile::tempdir_in(memory)
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// Where one installation keeps its files.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) raw: PathBuf,
    pub(crate) queue: PathBuf,
    pub(crate) out: PathBuf,
    pub(crate) backup: PathBuf,
    pub(crate) fate: OriginalFate,
}

impl Scene {
    /// Raw, queue and backup beneath `first`, the output beneath `second`.
    pub(crate) fn new(first: &Path, second: &Path, fate: OriginalFate) -> Self {
        let scene = Self {
            raw: first.join("raw"),
            queue: first.join("queue"),
            out: second.join("out"),
            backup: second.join("backup"),
            fate,
        };
        durable::create_dir_all_durable(&scene.raw.join("cam")).unwrap();
        scene
    }

    pub(crate) fn open(&self, disk: &Arc<dyn Disk>) -> (DirectoryQueue, Publisher) {
        let options = Options {
            backoff_base: Duration::ZERO,
            max_attempts: 1000,
            disk: Arc::clone(disk),
            ..Options::default()
        };
        let queue = DirectoryQueue::open(&self.queue, options).unwrap();
        let publisher = Publisher::open(&self.out, Some(&self.backup), Arc::clone(disk)).unwrap();
        (queue, publisher)
    }

    pub(crate) fn raw_dir(&self) -> RawDir {
        RawDir::open(&self.raw).unwrap()
    }

    pub(crate) fn segment(&self, name: &str) -> PathBuf {
        self.raw.join("cam").join(name)
    }

    pub(crate) fn published(&self, name: &str) -> PathBuf {
        self.out
            .join(output_of(Path::new("cam").join(name).to_str().unwrap()).as_path())
    }
}

pub(crate) fn real_disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

/// Some bytes that belong to one segment only, enough to need blocks of their own.
pub(crate) fn video(name: &str) -> Vec<u8> {
    format!("video of {name};").into_bytes().repeat(300)
}

/// What the processor makes of a segment.
pub(crate) fn blurred(video: &[u8]) -> Vec<u8> {
    let mut out = b"blurred ".to_vec();
    out.extend(video.iter().map(|byte| byte ^ 0x20));
    out
}

pub(crate) fn output_of(original: &str) -> RelPath {
    let path = Path::new(original);
    let name = format!("blurred_{}", path.file_name().unwrap().to_str().unwrap());
    RelPath::new(path.with_file_name(name)).unwrap()
}

pub(crate) fn ticket_for(name: &str) -> Ticket {
    Ticket {
        filepath: format!("cam/{name}"),
        source: "rtsp://192.0.2.7/1".to_owned(),
        source_name: "cam".to_owned(),
        file_size: video(name).len() as u64,
        id: Some(format!("cam/{name}")),
        ..Ticket::default()
    }
}

/// The write protocol for one segment.
pub(crate) fn record(scene: &Scene, queue: &DirectoryQueue, name: &str) -> Result<Enqueued, Error> {
    let path = scene.segment(name);
    let part = path.with_file_name(format!(".{name}.part"));
    let mut file = File::create_new(&part).unwrap();
    file.write_all(&video(name)).unwrap();
    durable::commit_new_on(queue.disk(), CommitSteps::SEGMENT, &file, &part, &path)?;
    queue.enqueue(&ticket_for(name))
}

/// The recorder's start: a part is finished if it is whole, a segment without ticket gets one.
pub(crate) fn recover_recorder(scene: &Scene, queue: &DirectoryQueue) -> Result<(), Error> {
    for entry in fs::read_dir(scene.raw.join("cam")).unwrap() {
        let path = entry.unwrap().path();
        let file_name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let name = file_name
            .trim_start_matches('.')
            .trim_end_matches(".part")
            .to_owned();
        if file_name.ends_with(".part") {
            if fs::read(&path).unwrap() != video(&name) {
                fs::remove_file(&path).unwrap();
                continue;
            }
            durable::commit_new(&File::open(&path).unwrap(), &path, &scene.segment(&name))?;
        }
        if queue.find(&format!("cam/{name}"))?.is_none() {
            queue.enqueue(&ticket_for(&name))?;
        }
    }
    Ok(())
}

/// Does whatever is left to do for a claimed ticket. Hands a failure to the queue.
pub(crate) fn process(
    queue: &DirectoryQueue,
    publisher: &Publisher,
    raw: &RawDir,
    fate: OriginalFate,
    lease: Lease,
) -> Result<(), Error> {
    let output = output_of(&lease.ticket().filepath);
    match publisher.stage(&lease, &output)? {
        Stage::Receipted(receipt) => publisher.finish(queue, lease, &receipt, raw, None),
        Stage::Published(path) => {
            let receipt = match raw.open_ticket_file(&lease.ticket().filepath) {
                Ok(opened) => receipt(&lease, &opened, &path, fate),
                Err(refused) => return queue.fail(lease, refused.into()).map(drop),
            };
            publisher.finish(queue, lease, &receipt, raw, None)
        }
        Stage::Work => work(queue, publisher, raw, fate, lease, &output),
    }
}

fn work(
    queue: &DirectoryQueue,
    publisher: &Publisher,
    raw: &RawDir,
    fate: OriginalFate,
    lease: Lease,
    output: &RelPath,
) -> Result<(), Error> {
    let mut opened = match raw.open_ticket_file(&lease.ticket().filepath) {
        Ok(opened) => opened,
        Err(refused) => return queue.fail(lease, refused.into()).map(drop),
    };
    let mut bytes = Vec::new();
    opened.file.read_to_end(&mut bytes).unwrap();
    if bytes.len() as u64 != lease.ticket().file_size {
        let reason = "size differs from the ticket".to_owned();
        return queue.fail(lease, Failure::Dead { reason }).map(drop);
    }
    let draft = publisher.draft(&lease, output)?;
    draft
        .file()
        .write_all(&blurred(&bytes))
        .map_err(|source| Error::Io {
            action: "write",
            path: draft.path().to_owned(),
            source,
        })?;
    draft.commit()?;
    let path = publisher.output_dir().join(output.as_path());
    let receipt = receipt(&lease, &opened, &path, fate);
    publisher.finish(queue, lease, &receipt, raw, Some(opened.id))
}

pub(crate) fn facts(path: &str, bytes: &[u8]) -> FileFacts {
    FileFacts {
        path: path.to_owned(),
        bytes: bytes.len() as u64,
        blake3: blake3::hash(bytes).to_hex().to_string(),
    }
}

pub(crate) fn receipt(
    lease: &Lease,
    opened: &Opened,
    output: &Path,
    original: OriginalFate,
) -> Receipt {
    let mut file = opened.file.try_clone().unwrap();
    let mut bytes = Vec::new();
    io::Seek::rewind(&mut file).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    Receipt {
        version: RECEIPT_VERSION,
        id: lease.ticket().id().to_owned(),
        stem: lease.stem().clone(),
        attempt: lease.attempt(),
        input: facts(&opened.path.to_string(), &bytes),
        output: facts(
            &output_of(&opened.path.to_string()).to_string(),
            &fs::read(output).unwrap(),
        ),
        original,
        original_dir: None,
        plugin: None,
        frames: 1,
        heads: 0,
        tracks: 0,
        started: Timestamp::UNIX_EPOCH,
        finished: Timestamp::UNIX_EPOCH,
        extra: serde_json::Map::new(),
    }
}

/// The processor's start and run until nothing is left to do.
pub(crate) fn recover_processor(
    scene: &Scene,
    queue: &DirectoryQueue,
    publisher: &Publisher,
) -> Result<(), Error> {
    let raw = scene.raw_dir();
    for reaped in queue.reap()? {
        match reaped {
            Reaped::Finish(lease) => process(queue, publisher, &raw, scene.fate, *lease)?,
            Reaped::Failed { .. } => {}
            Reaped::Stuck { error, .. } => return Err(error),
        }
    }
    while let Some(lease) = queue.claim()? {
        process(queue, publisher, &raw, scene.fate, lease)?;
    }
    Ok(())
}

/// Brings an installation to rest after a crash, as its restarted daemons would.
pub(crate) fn recover(scene: &Scene) -> Result<(), Error> {
    let (queue, publisher) = scene.open(&real_disk());
    recover_recorder(scene, &queue)?;
    recover_processor(scene, &queue, &publisher)
}

/// Whether every segment is in exactly one published file, its original dealt with, and the queue
/// at rest. Says what is wrong, if anything.
pub(crate) fn verdict(scene: &Scene, names: &[&str]) -> Result<(), String> {
    for name in names {
        let published = fs::read(scene.published(name)).unwrap_or_default();
        ensure(published == blurred(&video(name)), || {
            format!("{name}: lost; {} bytes are published", published.len())
        })?;
        let there = scene.segment(name).exists();
        ensure(there == (scene.fate == OriginalFate::Kept), || {
            format!("{name}: original")
        })?;
        if scene.fate == OriginalFate::BackedUp {
            let backup = fs::read(scene.backup.join("cam").join(name)).unwrap_or_default();
            ensure(backup == video(name), || {
                format!("{name}: {} bytes backed up", backup.len())
            })?;
        }
    }
    let published = fs::read_dir(scene.out.join("cam")).map_or(0, Iterator::count);
    ensure(published == names.len(), || {
        format!("{published} files are published")
    })?;
    let (queue, _) = scene.open(&real_disk());
    let stats = queue.stats().unwrap();
    let done = names.len() as u64;
    let rest = stats.ready + stats.active + stats.deferred + stats.failed + stats.corrupt;
    ensure(rest == 0 && stats.done == done, || {
        format!("queue not at rest: {stats:?}")
    })
}

fn ensure(ok: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if ok { Ok(()) } else { Err(message()) }
}

/// Whether an original is refused because it is not there.
pub(crate) fn is_missing(reason: &Reason) -> bool {
    matches!(reason, Reason::Missing)
}

/// Before or after a step's own action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    Before,
    After,
}

/// Kills this process with SIGKILL at one step.
#[derive(Debug)]
pub(crate) struct KillAt {
    pub(crate) step: Step,
    pub(crate) when: When,
}

impl Disk for KillAt {
    fn perform(&self, step: Step, action: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        if step != self.step {
            return action();
        }
        if self.when == When::After {
            action()?;
        }
        kill_myself()
    }
}

/// Fails one step with an I/O error, once, without making it.
#[derive(Debug)]
pub(crate) struct FailAt {
    step: Step,
    failed: AtomicBool,
}

impl FailAt {
    pub(crate) fn new(step: Step) -> Self {
        Self {
            step,
            failed: AtomicBool::new(false),
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Disk for FailAt {
    fn perform(&self, step: Step, action: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        if step == self.step && !self.failed.swap(true, Ordering::Relaxed) {
            return Err(io::Error::from(rustix::io::Errno::IO));
        }
        action()
    }
}

pub(crate) fn kill_myself() -> ! {
    let myself = rustix::process::getpid();
    rustix::process::kill_process(myself, rustix::process::Signal::KILL).unwrap();
    loop {
        std::thread::park();
    }
}

/// Stands for a process that dies at its n-th step from now: that step is made or not, and no
/// further one.
#[derive(Debug, Default)]
pub(crate) struct DyingDisk {
    /// Steps until death; 0 for never.
    left: AtomicU32,
    make_last: AtomicBool,
    dead: AtomicBool,
}

impl DyingDisk {
    pub(crate) fn die_at(&self, step: u32, when: When) {
        self.left.store(step, Ordering::Relaxed);
        self.make_last.store(when == When::After, Ordering::Relaxed);
    }

    /// Whether it died; alive again afterwards.
    pub(crate) fn take_death(&self) -> bool {
        self.left.store(0, Ordering::Relaxed);
        self.dead.swap(false, Ordering::Relaxed)
    }
}

impl Disk for DyingDisk {
    fn perform(&self, _step: Step, action: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        if self.dead.load(Ordering::Relaxed) {
            return Err(io::Error::other("dead"));
        }
        match self.left.load(Ordering::Relaxed) {
            0 => return action(),
            1 => {}
            left => {
                self.left.store(left - 1, Ordering::Relaxed);
                return action();
            }
        }
        self.dead.store(true, Ordering::Relaxed);
        if self.make_last.load(Ordering::Relaxed) {
            action()?;
        }
        Err(io::Error::other("dies here"))
    }
}
