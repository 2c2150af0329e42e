//! Power cuts, for real: the image of a mounted ext4, XFS or btrfs is copied after each step, so
//! that the copy holds what had reached the disk by then and nothing that was only in memory. The
//! copy is mounted, recovered and judged. Then each `fsync` is left out in turn, and must be missed.
//!
//! `TICKET_QUEUE_LONG=1` repeats the runs without a fault until a thousand cuts are made.
//!
//! Root only, with loop devices and the tools of each file system; says loudly what it skips.
#![expect(
    clippy::unwrap_used,
    reason = "in helpers of tests too, a surprise is a failed test"
)]

mod common;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::SeekFrom;
use ticket_queue::protocol::{Disk, Step};
use ticket_queue::{OriginalFate, Queue, State};

use common::{
    Scene, blurred, fast_tempdir, process, real_disk, record, recover, skipped, verdict, video,
};

const NAME: &str = "a.mp4";
/// One at a time: they share the machine's loop devices.
static TURN: Mutex<()> = Mutex::new(());

/// What the disks are formatted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileSystem {
    Ext4,
    Xfs,
    Btrfs,
}

const ALL: [FileSystem; 3] = [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs];

impl FileSystem {
    fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Little more than the least that its `mkfs` accepts; the images are sparse.
    fn image_bytes(self) -> u64 {
        match self {
            Self::Ext4 => 8 << 20,
            Self::Xfs => 301 << 20,
            Self::Btrfs => 112 << 20,
        }
    }

    fn format(self, image: &Path) -> Result<(), String> {
        match self {
            // Nothing may be left for the kernel to write in the background.
            Self::Ext4 => run(
                "mkfs.ext4",
                &[
                    "-q",
                    "-F",
                    "-b",
                    "1024",
                    "-E",
                    "lazy_itable_init=0,lazy_journal_init=0",
                ],
                &[image],
            ),
            Self::Xfs => run("mkfs.xfs", &["-q", "-f"], &[image]),
            Self::Btrfs => run(
                "mkfs.btrfs",
                &["-q", "-f", "-m", "single", "-d", "single"],
                &[image],
            ),
        }
    }

    /// Without the commits that file systems make by themselves now and then (XFS, every 30
    /// seconds, cannot be told), and, for a copy, beside the disk it was copied from.
    fn mount_options(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Btrfs => "loop,noatime,commit=300",
            Self::Xfs => "loop,noatime,nouuid",
        }
    }
}

/// A file system in a file, mounted until dropped.
#[derive(Debug)]
struct Volume {
    file_system: FileSystem,
    image: PathBuf,
    mounted: PathBuf,
}

impl Volume {
    /// # Errors
    /// Why it cannot be had here.
    fn make(dir: &Path, name: &str, file_system: FileSystem) -> Result<Self, String> {
        let image = dir.join(format!("{name}.img"));
        let file = File::create(&image).unwrap();
        file.set_len(file_system.image_bytes()).unwrap();
        file_system.format(&image)?;
        Self::mount(image, dir.join(name), file_system)
    }

    fn mount(image: PathBuf, mounted: PathBuf, file_system: FileSystem) -> Result<Self, String> {
        fs::create_dir_all(&mounted).unwrap();
        run(
            "mount",
            &["-t", file_system.name(), "-o", file_system.mount_options()],
            &[&image, &mounted],
        )?;
        Ok(Self {
            file_system,
            image,
            mounted,
        })
    }

    /// What a power cut now would leave.
    fn cut(&self, dir: &Path, name: &str) -> Self {
        let image = dir.join(format!("{name}.cut.img"));
        copy_sparse(&self.image, &image).unwrap();
        let cut = Self::mount(image, dir.join(format!("{name}.cut")), self.file_system).unwrap();
        let device = |path: &Path| fs::metadata(path).unwrap().dev();
        assert_ne!(
            device(&cut.mounted),
            device(&self.mounted),
            "this kernel takes a copied {} for the disk itself (btrfs: 6.7 is needed)",
            self.file_system.name()
        );
        cut
    }
}

/// Copies what is not a hole.
fn copy_sparse(from: &Path, to: &Path) -> io::Result<()> {
    let from = File::open(from)?;
    let to = File::create_new(to)?;
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut bytes = vec![0; 1 << 20];
    let mut end = 0;
    while let Ok(start) = rustix::fs::seek(&from, SeekFrom::Data(end)) {
        end = rustix::fs::seek(&from, SeekFrom::Hole(start))?;
        let mut at = start;
        while at < end {
            let part = bytes
                .len()
                .min(usize::try_from(end - at).expect("an image fits in memory"));
            from.read_exact_at(&mut bytes[..part], at)?;
            to.write_all_at(&bytes[..part], at)?;
            at += part as u64;
        }
    }
    Ok(())
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(problem) = run("umount", &[], &[&self.mounted]) {
            eprintln!("{} stays mounted: {problem}", self.mounted.display());
        }
        fs::remove_file(&self.image).ok();
    }
}

fn run(program: &str, options: &[&str], paths: &[&Path]) -> Result<(), String> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let mut command = Command::new(program);
    match command.args(options).args(paths).env("PATH", path).output() {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// What is tried.
#[derive(Clone, Copy, Debug)]
struct Plan {
    file_system: FileSystem,
    layout: Layout,
    fate: OriginalFate,
    /// The step that is left out.
    without: Option<Step>,
    judge: Judge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    OneFileSystem,
    /// Output and backup on a second one.
    Two,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judge {
    /// What each step promises, and that recovery loses nothing.
    Promises,
    /// Only that the video still exists in some form, whatever a human has to do about it.
    Existence,
}

/// Cuts the power after each step, and judges what is left.
#[derive(Debug)]
struct CutDisk {
    plan: Plan,
    dir: PathBuf,
    volumes: Vec<Arc<Volume>>,
    made: Mutex<Vec<Step>>,
    problem: Mutex<Option<String>>,
}

impl CutDisk {
    fn problem(&self) -> MutexGuard<'_, Option<String>> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before the step that is left out, the run without a fault was judged.
    fn is_worth_a_cut(&self) -> bool {
        let made = self.made.lock().unwrap();
        self.plan.without.is_none_or(|step| made.contains(&step)) && self.problem().is_none()
    }

    fn cut_and_judge(&self, step: Step) {
        let cuts: Vec<_> = self
            .volumes
            .iter()
            .enumerate()
            .map(|(number, volume)| Arc::new(volume.cut(&self.dir, &number.to_string())))
            .collect();
        let scene = scene(&cuts, self.plan.fate);
        let recorded = self.made.lock().unwrap().contains(&Step::SyncSegmentDir);
        let judged = match self.plan.judge {
            Judge::Promises => promise(&scene, step).and_then(|()| nothing_lost(&scene, recorded)),
            Judge::Existence => exists(&scene, recorded),
        };
        if let Err(problem) = judged {
            *self.problem() = Some(format!("cut after {step:?}: {problem}"));
        }
    }
}

impl Disk for CutDisk {
    fn perform(&self, step: Step, action: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        if self.plan.without != Some(step) {
            action()?;
        }
        self.made.lock().unwrap().push(step);
        if self.is_worth_a_cut() {
            self.cut_and_judge(step);
        }
        Ok(())
    }
}

fn scene(volumes: &[Arc<Volume>], fate: OriginalFate) -> Scene {
    let first = &volumes[0].mounted;
    let last = &volumes[volumes.len() - 1].mounted;
    Scene::new(first, last, fate)
}

/// What must be on disk once a step is made, before any recovery.
fn promise(scene: &Scene, step: Step) -> Result<(), String> {
    let is = |path: PathBuf, content: &[u8]| {
        let found = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let same = found == content;
        if same {
            Ok(())
        } else {
            Err(format!("{}: {} bytes", path.display(), found.len()))
        }
    };
    match step {
        Step::SyncSegmentDir => is(scene.segment(NAME), &video(NAME)),
        Step::SyncQueueDir => in_queue(scene, Some((State::Ready, 0))),
        Step::SyncClaim => in_queue(scene, Some((State::Active, 1))),
        Step::SyncOutputDir => is(scene.published(NAME), &blurred(&video(NAME))),
        Step::SyncReceiptDir => has_receipt(scene),
        Step::SyncBackupDir => is(scene.backup.join("cam").join(NAME), &video(NAME)),
        Step::SyncOriginalDir if scene.segment(NAME).exists() => Err("original is back".to_owned()),
        Step::SyncActiveDir => in_queue(scene, None),
        _ => Ok(()),
    }
}

fn in_queue(scene: &Scene, expected: Option<(State, u32)>) -> Result<(), String> {
    let (queue, _) = scene.open(&real_disk());
    let entries = queue.list().unwrap();
    let found: Vec<_> = entries
        .iter()
        .map(|entry| (entry.state, entry.attempt))
        .collect();
    if found == expected.into_iter().collect::<Vec<_>>() {
        return Ok(());
    }
    Err(format!("in the queue is {found:?}, expected {expected:?}"))
}

fn has_receipt(scene: &Scene) -> Result<(), String> {
    let (queue, _) = scene.open(&real_disk());
    let entry = queue.list().unwrap().pop().ok_or("no ticket")?;
    match queue.receipt(&entry.stem) {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("receipt: {other:?}")),
    }
}

/// Recovers and looks. A segment that was not yet promised may be whole or gone.
fn nothing_lost(scene: &Scene, recorded: bool) -> Result<(), String> {
    recover(scene).map_err(|error| format!("recovery: {error}"))?;
    match verdict(scene, &[NAME]) {
        Err(_) if !recorded => verdict(scene, &[]),
        judged => judged,
    }
}

/// Recovers as far as it goes. The video must be in the original, or both in the output and, where
/// one is wanted, in the backup.
fn exists(scene: &Scene, recorded: bool) -> Result<(), String> {
    let recovered = recover(scene);
    let holds = |path: &Path, content: &[u8]| fs::read(path).is_ok_and(|found| found == content);
    let video = video(NAME);
    let published = holds(&scene.published(NAME), &blurred(&video));
    let backed_up =
        scene.fate != OriginalFate::BackedUp || holds(&scene.backup.join("cam").join(NAME), &video);
    let there = holds(&scene.segment(NAME), &video) || published && backed_up;
    if there || !recorded {
        Ok(())
    } else {
        Err(format!("video is gone for good; {recovered:?}"))
    }
}

/// Runs the whole chain under power cuts; what is wrong first, if anything.
///
/// # Errors
/// Why it cannot be tried here.
fn try_plan(plan: Plan) -> Result<Option<String>, String> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = fast_tempdir();
    let names: &[&str] = match plan.layout {
        Layout::OneFileSystem => &["one"],
        Layout::Two => &["one", "two"],
    };
    let volumes: Result<Vec<_>, _> = names
        .iter()
        .map(|name| Volume::make(dir.path(), name, plan.file_system).map(Arc::new))
        .collect();
    let volumes = volumes?;
    let scene = scene(&volumes, plan.fate);
    let disk = Arc::new(CutDisk {
        plan,
        dir: dir.path().to_owned(),
        volumes,
        made: Mutex::default(),
        problem: Mutex::default(),
    });
    let as_disk: Arc<dyn Disk> = disk.clone();
    let (queue, publisher) = scene.open(&as_disk);
    record(&scene, &queue, NAME).unwrap();
    let lease = queue.claim().unwrap().unwrap();
    process(&queue, &publisher, &scene.raw_dir(), plan.fate, lease).unwrap();
    let made = disk.made.lock().unwrap();
    if plan.without.is_none() {
        eprintln!("{}: {} cuts", plan.file_system.name(), made.len());
    }
    if let Some(step) = plan.without {
        assert!(made.contains(&step), "{step:?} is no part of {plan:?}");
    }
    Ok(disk.problem().take())
}

fn expect_no_loss(layout: Layout, fate: OriginalFate) {
    let times = if std::env::var_os("TICKET_QUEUE_LONG").is_some() {
        5
    } else {
        1
    };
    for file_system in ALL.into_iter().cycle().take(times * ALL.len()) {
        let plan = Plan {
            file_system,
            layout,
            fate,
            without: None,
            judge: Judge::Promises,
        };
        match try_plan(plan) {
            Ok(problem) => assert_eq!(problem, None, "{plan:?}"),
            Err(reason) => skip(file_system, &reason),
        }
    }
}

fn skip(file_system: FileSystem, reason: &str) {
    skipped(&format!(
        "power cuts on {} need root, loop devices and its tools: {}",
        file_system.name(),
        reason.trim_end()
    ));
}

/// Each step left out must show on each of these file systems. Somebody else's `sync` may hide it
/// once.
fn expect_missed(
    file_systems: &[FileSystem],
    layout: Layout,
    fate: OriginalFate,
    judge: Judge,
    steps: &[Step],
) {
    'next: for file_system in file_systems {
        for step in steps {
            let plan = Plan {
                file_system: *file_system,
                layout,
                fate,
                without: Some(*step),
                judge,
            };
            let seen = (0..3).find_map(|_| try_plan(plan).transpose());
            match seen {
                Some(Ok(problem)) => {
                    eprintln!("{}: without {step:?}: {problem}", file_system.name());
                }
                Some(Err(reason)) => {
                    skip(*file_system, &reason);
                    continue 'next;
                }
                None => panic!("leaving out {step:?} goes unnoticed in {plan:?}"),
            }
        }
    }
}

#[test]
fn no_cut_loses_a_segment_on_one_file_system() {
    expect_no_loss(Layout::OneFileSystem, OriginalFate::Deleted);
    expect_no_loss(Layout::OneFileSystem, OriginalFate::BackedUp);
}

#[test]
fn no_cut_loses_a_segment_on_two_file_systems() {
    expect_no_loss(Layout::Two, OriginalFate::Deleted);
    expect_no_loss(Layout::Two, OriginalFate::BackedUp);
}

#[test]
fn every_sync_is_needed() {
    let steps = [
        Step::SyncSegment,
        Step::SyncSegmentDir,
        Step::SyncTicket,
        Step::SyncQueueDir,
        Step::SyncClaim,
        Step::SyncOutput,
        Step::SyncOutputDir,
        Step::SyncReceipt,
        Step::SyncReceiptDir,
        Step::SyncOriginalDir,
        Step::SyncActiveDir,
    ];
    let deleted = OriginalFate::Deleted;
    expect_missed(
        &ALL,
        Layout::OneFileSystem,
        deleted,
        Judge::Promises,
        &steps,
    );
}

#[test]
fn every_sync_of_a_backup_is_needed() {
    let steps = [Step::SyncBackup, Step::SyncBackupDir];
    let backed_up = OriginalFate::BackedUp;
    expect_missed(&ALL, Layout::Two, backed_up, Judge::Promises, &steps);
}

/// On one file system the journal hides this one, since later syncs commit earlier renames.
#[test]
fn video_is_lost_without_the_output_directorys_sync_on_two_file_systems() {
    let steps = [Step::SyncOutput, Step::SyncOutputDir];
    let judge = Judge::Existence;
    expect_missed(&ALL, Layout::Two, OriginalFate::Deleted, judge, &steps);
    let backup_steps = [Step::SyncBackup, Step::SyncBackupDir];
    expect_missed(
        &ALL,
        Layout::Two,
        OriginalFate::BackedUp,
        judge,
        &backup_steps,
    );
}
