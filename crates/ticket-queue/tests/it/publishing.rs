//! Publishing and finishing without a crash, and what they refuse.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ticket_queue::beneath::RelPath;
use ticket_queue::protocol::Step;
use ticket_queue::publish::{Committed, Publisher, Stage};
use ticket_queue::{
    DirectoryQueue, Error, Lease, OriginalFate, Queue, Reaped, Receipt, RetryWhich,
};

use crate::common::{
    FailAt, Scene, fast_tempdir, output_of, process, real_disk, receipt, record, recover_processor,
    ticket_for, verdict, video,
};
use crate::no_space::SmallDisk;

const HOUR: Duration = Duration::from_secs(3600);

struct Bench {
    _dir: tempfile::TempDir,
    scene: Scene,
    queue: DirectoryQueue,
    publisher: Publisher,
}

impl Bench {
    fn new(fate: OriginalFate) -> Self {
        let dir = fast_tempdir();
        let scene = Scene::new(dir.path(), dir.path(), fate);
        let (queue, publisher) = scene.open(&real_disk());
        record(&scene, &queue, "a.mp4").unwrap();
        Self {
            _dir: dir,
            scene,
            queue,
            publisher,
        }
    }

    fn claim(&self) -> Lease {
        self.queue.claim().unwrap().expect("a ticket is there")
    }

    fn process(&self, lease: Lease) -> Result<(), Error> {
        process(
            &self.queue,
            &self.publisher,
            &self.scene.raw_dir(),
            self.scene.fate,
            lease,
        )
    }

    /// Publishes `content` for the lease, as an attempt that died before its receipt.
    fn publish(&self, lease: &Lease, content: &[u8]) -> Committed {
        let draft = self.publisher.draft(lease, &output()).unwrap();
        draft.file().write_all(content).unwrap();
        draft.commit().unwrap()
    }
}

fn output() -> RelPath {
    output_of("cam/a.mp4")
}

#[test]
fn an_original_is_deleted_kept_or_backed_up() {
    for fate in [
        OriginalFate::Deleted,
        OriginalFate::Kept,
        OriginalFate::BackedUp,
    ] {
        let bench = Bench::new(fate);
        bench.process(bench.claim()).unwrap();
        verdict(&bench.scene, &["a.mp4"]).unwrap();
        let drafts = fs::read_dir(bench.scene.out.join(".tmp")).unwrap().count();
        assert_eq!(drafts, 0);
    }
}

#[test]
fn a_draft_has_attempt_and_extension_in_its_name_and_vanishes_when_dropped() {
    let bench = Bench::new(OriginalFate::Deleted);
    let lease = bench.claim();
    let draft = bench.publisher.draft(&lease, &output()).unwrap();
    let path = draft.path().to_owned();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with(&format!("{}.a1.", lease.stem())), "{name}");
    assert!(name.ends_with(".mp4") && path.exists(), "{name}");
    drop(draft);
    assert!(!path.exists());
}

#[test]
fn an_earlier_attempts_drafts_are_dropped_and_others_kept() {
    let bench = Bench::new(OriginalFate::Deleted);
    let lease = bench.claim();
    let dir = bench.scene.out.join(".tmp");
    let (mine, other) = (
        dir.join(format!("{}.a1.x", lease.stem())),
        dir.join("queue_2.a1.x"),
    );
    fs::write(&mine, "").unwrap();
    fs::write(&other, "").unwrap();
    let draft = bench.publisher.draft(&lease, &output()).unwrap();
    assert!(!mine.exists() && other.exists());
    let companion = draft.companion("json");
    fs::write(&companion, "").unwrap();
    let _next = bench.publisher.draft(&lease, &output()).unwrap();
    assert!(!companion.exists() && other.exists());
}

#[test]
fn nothing_published_is_ever_replaced() {
    let bench = Bench::new(OriginalFate::Deleted);
    let lease = bench.claim();
    let path = bench.scene.published("a.mp4");
    assert_eq!(
        bench.publish(&lease, b"first"),
        Committed::New(path.clone())
    );
    assert_eq!(
        bench.publish(&lease, b"second"),
        Committed::AlreadyThere(path.clone())
    );
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(
        bench.publisher.stage(&lease, &output()).unwrap(),
        Stage::Published(path)
    );
}

#[test]
fn an_original_that_changed_meanwhile_is_kept() {
    let bench = Bench::new(OriginalFate::Deleted);
    let lease = bench.claim();
    let raw = bench.scene.raw_dir();
    let opened = raw.open_ticket_file("cam/a.mp4").unwrap();
    bench.publish(&lease, b"output");
    let receipt = receipt(
        &lease,
        &opened,
        &bench.scene.published("a.mp4"),
        bench.scene.fate,
    );
    let original = bench.scene.segment("a.mp4");
    fs::rename(&original, original.with_extension("old")).unwrap();
    fs::write(&original, video("b.mp4")).unwrap();
    let expect_kept = |content: &[u8]| {
        for seen in [Some(opened.id), None] {
            let settled = bench
                .publisher
                .settle(&bench.queue, &lease, &receipt, &raw, seen);
            assert!(
                matches!(settled, Err(Error::OriginalChanged { .. })),
                "{settled:?}"
            );
            assert_eq!(fs::read(&original).unwrap(), content);
        }
    };
    expect_kept(&video("b.mp4"));
    // The same file again, and as many other bytes in it.
    fs::rename(original.with_extension("old"), &original).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(&original, video("c.mp4")).unwrap();
    let size = fs::metadata(&original).unwrap().len();
    assert_eq!(size, opened.id.size);
    expect_kept(&video("c.mp4"));
    // A new time alone is no change.
    fs::write(&original, video("a.mp4")).unwrap();
    bench
        .publisher
        .settle(&bench.queue, &lease, &receipt, &raw, Some(opened.id))
        .unwrap();
    assert!(!original.exists());
}

#[test]
fn an_original_whose_output_vanished_is_kept() {
    for fate in [OriginalFate::Deleted, OriginalFate::BackedUp] {
        let bench = Bench::new(fate);
        let lease = bench.claim();
        let raw = bench.scene.raw_dir();
        let opened = raw.open_ticket_file("cam/a.mp4").unwrap();
        bench.publish(&lease, b"output");
        let output = bench.scene.published("a.mp4");
        let receipt = receipt(&lease, &opened, &output, fate);
        fs::write(&output, "").unwrap();
        let settled = bench
            .publisher
            .settle(&bench.queue, &lease, &receipt, &raw, None);
        assert!(
            matches!(settled, Err(Error::OutputMissing { .. })),
            "{settled:?}"
        );
        fs::remove_file(&output).unwrap();
        let settled = bench
            .publisher
            .settle(&bench.queue, &lease, &receipt, &raw, None);
        assert!(
            matches!(settled, Err(Error::OutputMissing { .. })),
            "{settled:?}"
        );
        assert!(bench.scene.segment("a.mp4").exists());
    }
}

/// Settles with this receipt after a restart.
fn settle_again(bench: &Bench, lease: &Lease, receipt: &Receipt) -> Result<(), Error> {
    let raw = bench.scene.raw_dir();
    bench
        .publisher
        .settle(&bench.queue, lease, receipt, &raw, None)
}

/// A claimed ticket whose output is published and whose receipt is written, and that receipt.
fn receipted(bench: &Bench) -> (Lease, Receipt) {
    let lease = bench.claim();
    let raw = bench.scene.raw_dir();
    let opened = raw.open_ticket_file("cam/a.mp4").unwrap();
    let content = crate::common::blurred(&video("a.mp4"));
    bench.publish(&lease, &content);
    let output = bench.scene.published("a.mp4");
    let receipt = receipt(&lease, &opened, &output, bench.scene.fate);
    // As by a process that dies before it has touched the original.
    let step = match bench.scene.fate {
        OriginalFate::BackedUp => Step::RenameBackup,
        _ => Step::UnlinkOriginal,
    };
    let (out, backup) = (&bench.scene.out, &bench.scene.backup);
    let failing = Publisher::open(out, Some(backup), Arc::new(FailAt::new(step))).unwrap();
    let settled = failing.settle(&bench.queue, &lease, &receipt, &raw, None);
    assert!(settled.is_err_and(|error| error.is_of_place()));
    (lease, receipt)
}

#[test]
fn an_original_on_a_disk_that_is_away_is_not_gone() {
    let bench = Bench::new(OriginalFate::BackedUp);
    let (lease, receipt) = receipted(&bench);
    let (raw, disk) = (&bench.scene.raw, bench.scene.raw.with_extension("disk"));
    fs::rename(raw, &disk).unwrap();
    // The mount point of all, that of a camera, and one into which a recorder writes by now.
    fs::create_dir(raw).unwrap();
    for make in [None, Some(false), Some(true)] {
        match make {
            None => {}
            Some(false) => fs::create_dir(raw.join("cam")).unwrap(),
            Some(true) => fs::write(raw.join("cam/new.mp4"), "new").unwrap(),
        }
        let settled = settle_again(&bench, &lease, &receipt);
        let is_told = match make {
            Some(true) => matches!(settled, Err(Error::OriginalLost { .. })),
            _ => matches!(settled, Err(Error::OriginalAway { .. })),
        };
        assert!(is_told, "{make:?}: {settled:?}");
    }
    fs::remove_dir_all(raw).unwrap();
    fs::rename(&disk, raw).unwrap();
    settle_again(&bench, &lease, &receipt).unwrap();
    bench.queue.complete(lease).unwrap();
    verdict(&bench.scene, &["a.mp4"]).unwrap();
}

#[test]
fn an_original_is_gone_from_the_directory_that_it_lay_in() {
    let bench = Bench::new(OriginalFate::BackedUp);
    let (lease, receipt) = receipted(&bench);
    fs::remove_file(bench.scene.segment("a.mp4")).unwrap();
    let settled = settle_again(&bench, &lease, &receipt);
    assert!(
        matches!(settled, Err(Error::OriginalLost { is_gone: true, .. })),
        "{settled:?}"
    );
    // Its backup is what was to become of it, and nothing else of its name is.
    let backup = bench.scene.backup.join("cam/a.mp4");
    fs::create_dir_all(backup.parent().unwrap()).unwrap();
    fs::write(&backup, video("b.mp4")).unwrap();
    let settled = settle_again(&bench, &lease, &receipt);
    assert!(
        matches!(settled, Err(Error::OriginalLost { .. })),
        "{settled:?}"
    );
    fs::write(&backup, video("a.mp4")).unwrap();
    fs::remove_dir(bench.scene.raw.join("cam")).unwrap();
    settle_again(&bench, &lease, &receipt).unwrap();
    // What was to be deleted is, where its directory is empty now.
    let bench = Bench::new(OriginalFate::Deleted);
    let (lease, receipt) = receipted(&bench);
    fs::remove_file(bench.scene.segment("a.mp4")).unwrap();
    settle_again(&bench, &lease, &receipt).unwrap();
    fs::rename(bench.scene.raw.join("cam"), bench.scene.raw.join("old")).unwrap();
    fs::create_dir(bench.scene.raw.join("cam")).unwrap();
    let settled = settle_again(&bench, &lease, &receipt);
    assert!(
        matches!(settled, Err(Error::OriginalAway { .. })),
        "{settled:?}"
    );
}

#[test]
fn a_backup_never_replaces_another_file() {
    let bench = Bench::new(OriginalFate::BackedUp);
    let backup = bench.scene.backup.join("cam/a.mp4");
    fs::create_dir_all(backup.parent().unwrap()).unwrap();
    fs::write(&backup, "something else").unwrap();
    let error = bench.process(bench.claim()).unwrap_err();
    assert!(matches!(error, Error::BackupDiffers { .. }), "{error}");
    assert!(bench.scene.segment("a.mp4").exists());
    fs::remove_file(&backup).unwrap();
    recover_processor(&bench.scene, &bench.queue, &bench.publisher).unwrap();
    verdict(&bench.scene, &["a.mp4"]).unwrap();
}

/// The backup beneath `second` of an original that was recorded two days ago.
fn old_original_backed_up(second: &Path) -> fs::Metadata {
    let dir = fast_tempdir();
    let scene = Scene::new(dir.path(), second, OriginalFate::BackedUp);
    let (queue, publisher) = scene.open(&real_disk());
    record(&scene, &queue, "a.mp4").unwrap();
    File::options()
        .write(true)
        .open(scene.segment("a.mp4"))
        .and_then(|file| file.set_modified(SystemTime::now() - 48 * HOUR))
        .unwrap();
    recover_processor(&scene, &queue, &publisher).unwrap();
    verdict(&scene, &["a.mp4"]).unwrap();
    fs::metadata(scene.backup.join("cam/a.mp4")).unwrap()
}

#[test]
fn a_backup_is_as_old_as_it_is_a_backup() {
    let beside = fast_tempdir();
    let elsewhere = tempfile::tempdir().unwrap();
    for second in [&beside, &elsewhere] {
        let backup = old_original_backed_up(second.path());
        let age = backup.modified().unwrap().elapsed().unwrap_or_default();
        assert!(age < HOUR, "{age:?}");
    }
}

#[test]
fn what_is_not_blurred_is_for_this_user_only() {
    let Some(elsewhere) = SmallDisk::mount(1 << 20) else {
        return;
    };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // The backup beside the output, where it has to be copied, and beside the original.
    for second in [Some(elsewhere.path()), None] {
        let dir = fast_tempdir();
        let first = dir.path().join("first");
        let mut scene = Scene::new(&first, second.unwrap_or(&first), OriginalFate::BackedUp);
        scene.backup = scene.backup.join("of/originals");
        let (queue, publisher) = scene.open(&real_disk());
        record(&scene, &queue, "a.mp4").unwrap();
        let original = fs::Permissions::from_mode(0o640);
        fs::set_permissions(scene.segment("a.mp4"), original).unwrap();
        recover_processor(&scene, &queue, &publisher).unwrap();
        verdict(&scene, &["a.mp4"]).unwrap();
        let backup = scene.backup.join("cam/a.mp4");
        let moved_or_copied = second.map_or(0o640, |_| 0o600);
        assert_eq!(mode(&backup), moved_or_copied, "{second:?}");
        for dir in [
            scene.backup.join("cam"),
            scene.backup.join(".tmp"),
            scene.backup.clone(),
        ] {
            assert_eq!(mode(&dir), 0o700, "{}", dir.display());
        }
        let published = scene.published("a.mp4");
        assert_eq!(mode(&published), 0o644);
        for dir in [published.parent(), scene.backup.parent()] {
            assert_eq!(mode(dir.unwrap()), 0o755, "{dir:?}");
        }
    }
}

#[test]
fn the_reaper_hands_back_what_only_needs_finishing() {
    let bench = Bench::new(OriginalFate::Deleted);
    let lease = bench.claim();
    let raw = bench.scene.raw_dir();
    let opened = raw.open_ticket_file("cam/a.mp4").unwrap();
    bench.publish(&lease, &crate::common::blurred(&video("a.mp4")));
    let receipt = receipt(
        &lease,
        &opened,
        &bench.scene.published("a.mp4"),
        bench.scene.fate,
    );
    bench.queue.write_receipt(&lease, &receipt).unwrap();
    drop(lease);
    let mut reaped = bench.queue.reap().unwrap();
    let Some(Reaped::Finish(lease)) = reaped.pop() else {
        panic!("{reaped:?}")
    };
    assert_eq!(lease.receipt(), Some(&receipt));
    bench.process(*lease).unwrap();
    verdict(&bench.scene, &["a.mp4"]).unwrap();
}

#[test]
fn a_finished_segment_is_not_enqueued_again_until_its_receipt_is_pruned() {
    let bench = Bench::new(OriginalFate::Kept);
    bench.process(bench.claim()).unwrap();
    assert!(bench.queue.find("cam/a.mp4").unwrap().is_some());
    let age = std::time::Duration::ZERO;
    // It comes first, and keeps no other from going.
    let damaged = bench.scene.queue.join("done/queue_1.json");
    fs::write(&damaged, "{").unwrap();
    let mut told = Vec::new();
    let mut prune = |is_settled: &dyn Fn(&Receipt) -> bool| {
        let on_damaged = &mut |error: Error| told.push(error.to_string());
        bench
            .queue
            .prune_receipts(age, is_settled, on_damaged)
            .unwrap()
    };
    assert_eq!(prune(&|_| false), 0);
    assert_eq!(prune(&|receipt| receipt.id == "cam/a.mp4"), 1);
    assert!(damaged.exists());
    assert!(
        told.len() == 2 && told[0].contains("done/queue_1.json"),
        "{told:?}"
    );
    assert!(bench.queue.find("cam/a.mp4").unwrap().is_none());
}

#[test]
fn a_name_that_was_used_before_is_refused() {
    let bench = Bench::new(OriginalFate::Deleted);
    let lease = bench.claim();
    let stem = lease.stem().clone();
    bench.process(lease).unwrap();
    let path = bench.scene.queue.join(format!("{stem}.json"));
    fs::write(path, ticket_for("b.mp4").to_json().unwrap()).unwrap();
    assert!(bench.queue.claim().unwrap().is_none());
    let why = bench.queue.list().unwrap().remove(0).why.unwrap();
    assert!(
        why.reason.contains("its name was used before"),
        "{}",
        why.reason
    );
}

#[test]
fn a_ticket_that_failed_after_its_receipt_is_finished_on_retry() {
    let bench = Bench::new(OriginalFate::BackedUp);
    let without_backup = Publisher::open(&bench.scene.out, None, real_disk()).unwrap();
    let raw = bench.scene.raw_dir();
    let error = process(
        &bench.queue,
        &without_backup,
        &raw,
        bench.scene.fate,
        bench.claim(),
    )
    .unwrap_err();
    assert!(matches!(error, Error::NoBackupDir), "{error}");
    let mut reaped = bench.queue.reap().unwrap();
    let Some(Reaped::Finish(lease)) = reaped.pop() else {
        panic!("{reaped:?}")
    };
    let stem = lease.stem().clone();
    let reason = error.to_string();
    bench
        .queue
        .fail(*lease, ticket_queue::Failure::Dead { reason })
        .unwrap();
    bench.queue.retry(&RetryWhich::One(stem)).unwrap();
    recover_processor(&bench.scene, &bench.queue, &bench.publisher).unwrap();
    verdict(&bench.scene, &["a.mp4"]).unwrap();
}

#[test]
fn a_ticket_whose_output_is_gone_is_done_again_on_retry() {
    let bench = Bench::new(OriginalFate::BackedUp);
    let without_backup = Publisher::open(&bench.scene.out, None, real_disk()).unwrap();
    let (raw, out) = (&bench.scene.raw, &bench.scene.out);
    let given_up = |lease: Lease| {
        let raw = bench.scene.raw_dir();
        let fate = bench.scene.fate;
        process(&bench.queue, &without_backup, &raw, fate, lease).unwrap_err();
        let Some(Reaped::Finish(lease)) = bench.queue.reap().unwrap().pop() else {
            panic!("nothing to finish")
        };
        let reason = "no backup".to_owned();
        let dead = ticket_queue::Failure::Dead { reason };
        bench.queue.fail(*lease, dead).unwrap();
    };
    let retried = || {
        bench
            .queue
            .retry_in(&RetryWhich::All, raw, out)
            .unwrap()
            .len()
    };
    let has_receipt = || bench.queue.stats().unwrap().done == 1;
    let (output, original) = (bench.scene.published("a.mp4"), bench.scene.segment("a.mp4"));
    given_up(bench.claim());
    // Nothing can be done again of which the original is gone as well.
    let aside = original.with_extension("aside");
    fs::rename(&original, &aside).unwrap();
    fs::rename(&output, out.join("aside")).unwrap();
    assert_eq!((retried(), has_receipt()), (1, true));
    bench
        .queue
        .fail(
            bench.claim(),
            ticket_queue::Failure::Dead {
                reason: String::new(),
            },
        )
        .unwrap();
    // Nor is there anything to do again while the output is there.
    fs::rename(&aside, &original).unwrap();
    fs::rename(out.join("aside"), &output).unwrap();
    assert_eq!((retried(), has_receipt()), (1, true));
    given_up(bench.claim());
    fs::remove_file(&output).unwrap();
    assert_eq!((retried(), has_receipt()), (1, false));
    recover_processor(&bench.scene, &bench.queue, &bench.publisher).unwrap();
    verdict(&bench.scene, &["a.mp4"]).unwrap();
}

#[test]
fn an_original_that_a_ticket_still_needs_is_not_finished() {
    let bench = Bench::new(OriginalFate::BackedUp);
    let without_backup = Publisher::open(&bench.scene.out, None, real_disk()).unwrap();
    let raw = bench.scene.raw_dir();
    let size = fs::metadata(bench.scene.raw.join("cam/a.mp4"))
        .unwrap()
        .len();
    let finished = || bench.queue.is_finished("cam/a.mp4", size).unwrap();
    let lease = bench.claim();
    let fate = bench.scene.fate;
    let error = process(&bench.queue, &without_backup, &raw, fate, lease).unwrap_err();
    assert!(bench.queue.find("cam/a.mp4").unwrap().is_some());
    assert!(!finished(), "there is a receipt, and no backup yet");
    let Some(Reaped::Finish(lease)) = bench.queue.reap().unwrap().pop() else {
        panic!("nothing to finish")
    };
    let stem = lease.stem().clone();
    let reason = error.to_string();
    let given_up = ticket_queue::Failure::Dead { reason };
    bench.queue.fail(*lease, given_up).unwrap();
    assert!(!finished(), "given up, and the original kept");
    bench.queue.retry(&RetryWhich::One(stem)).unwrap();
    recover_processor(&bench.scene, &bench.queue, &bench.publisher).unwrap();
    assert!(finished());
    assert!(!bench.queue.is_finished("cam/a.mp4", size + 1).unwrap());
}

#[test]
fn a_ticket_finishes_no_other_video_than_its_own() {
    let bench = Bench::new(OriginalFate::Deleted);
    bench.process(bench.claim()).unwrap();
    let mut ticket = ticket_for("b.mp4");
    ticket.id = Some("cam/c.mp4".to_owned());
    fs::write(bench.scene.raw.join("cam/b.mp4"), b"another video").unwrap();
    bench.queue.enqueue(&ticket).unwrap();
    bench.process(bench.claim()).unwrap();
    assert!(bench.queue.find("cam/c.mp4").unwrap().is_some());
    let size = b"another video".len() as u64;
    assert!(!bench.queue.is_finished("cam/c.mp4", size).unwrap());
}

#[test]
fn a_backup_directory_that_is_the_raw_one_costs_nothing() {
    let bench = Bench::new(OriginalFate::BackedUp);
    let (raw, out) = (&bench.scene.raw, &bench.scene.out);
    let publisher = Publisher::open(out, Some(raw), real_disk()).unwrap();
    let fate = bench.scene.fate;
    let raw_dir = bench.scene.raw_dir();
    let error = process(&bench.queue, &publisher, &raw_dir, fate, bench.claim()).unwrap_err();
    assert!(matches!(error, Error::BackupIsOriginal { .. }), "{error}");
    assert!(raw.join("cam/a.mp4").exists());
}
