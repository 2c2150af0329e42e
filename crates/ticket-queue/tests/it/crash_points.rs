//! `kill -9` before and after every named step, each in a process of its own, then recovery.

use std::env;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ticket_queue::protocol::{Disk, Step};
use ticket_queue::{Failure, OriginalFate, Queue, State};

use crate::common::{
    FailAt, KillAt, Scene, When, fast_tempdir, process, real_disk, record, recover, skipped,
    verdict,
};

const ROOT: &str = "TICKET_QUEUE_CRASH_ROOT";
const OUT_ROOT: &str = "TICKET_QUEUE_CRASH_OUT_ROOT";
const POINT: &str = "TICKET_QUEUE_CRASH_POINT";
const NAMES: [&str; 2] = ["a.mp4", "b.mp4"];

/// What the child does until it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// Record and process two segments.
    Publish(OriginalFate),
    /// The same, with output and backup on another file system.
    BackUpAcross,
    /// Record one segment and give it up.
    GiveUp,
}

/// Every place to die at, with what leads there.
fn points() -> Vec<(Script, Step, When)> {
    let publish = Script::Publish(OriginalFate::Deleted);
    let back_up = Script::Publish(OriginalFate::BackedUp);
    let across_steps = Step::BACKUP
        .into_iter()
        .chain([Step::UnlinkOriginal, Step::UnlinkTicket]);
    let backup_steps = [
        Step::RenameBackup,
        Step::SyncBackupDir,
        Step::SyncOriginalDir,
    ];
    let give_up_steps = [
        Step::WriteWhy,
        Step::SyncWhy,
        Step::RenameWhy,
        Step::SyncWhyDir,
        Step::MoveTicket,
        Step::SyncMove,
    ];
    let steps = Step::WRITE
        .into_iter()
        .chain(Step::PUBLISH)
        .map(|step| (publish, step));
    steps
        .chain(backup_steps.map(|step| (back_up, step)))
        .chain(across_steps.map(|step| (Script::BackUpAcross, step)))
        .chain(give_up_steps.map(|step| (Script::GiveUp, step)))
        .flat_map(|(script, step)| [When::Before, When::After].map(|when| (script, step, when)))
        .collect()
}

fn fate(script: Script) -> OriginalFate {
    match script {
        Script::Publish(fate) => fate,
        Script::BackUpAcross => OriginalFate::BackedUp,
        Script::GiveUp => OriginalFate::Deleted,
    }
}

/// Runs in the child: dies at the point that the environment names.
#[test]
#[ignore = "run by the tests below, in a process that is to be killed"]
fn child() {
    let Some(root) = env::var_os(ROOT) else {
        return;
    };
    let point: usize = env::var(POINT).unwrap().parse().unwrap();
    let (script, step, when) = points()[point];
    let out_root = env::var_os(OUT_ROOT).unwrap();
    let scene = Scene::new(Path::new(&root), Path::new(&out_root), fate(script));
    let disk: Arc<dyn Disk> = Arc::new(KillAt { step, when });
    let (queue, publisher) = scene.open(&disk);
    record(&scene, &queue, NAMES[0]).unwrap();
    let raw = scene.raw_dir();
    match script {
        Script::GiveUp => {
            let lease = queue.claim().unwrap().unwrap();
            let reason = "undecodable".to_owned();
            queue.fail(lease, Failure::Dead { reason }).unwrap();
        }
        Script::Publish(_) | Script::BackUpAcross => {
            record(&scene, &queue, NAMES[1]).unwrap();
            while let Some(lease) = queue.claim().unwrap() {
                process(&queue, &publisher, &raw, scene.fate, lease).unwrap();
            }
        }
    }
}

fn run_to_death(root: &Path, out_root: &Path, point: usize) {
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", "crash_points::child", "--ignored", "--quiet"])
        .env(ROOT, root)
        .env(OUT_ROOT, out_root)
        .env(POINT, point.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let signal = output.status.signal();
    assert_eq!(
        signal,
        Some(9),
        "{:?} was not reached: {text}",
        points()[point]
    );
}

#[test]
fn no_kill_loses_a_segment_or_publishes_it_twice() {
    for (index, (script, step, when)) in points().into_iter().enumerate() {
        let dir = fast_tempdir();
        let elsewhere = tempfile::tempdir().unwrap();
        let out_root = if script == Script::BackUpAcross {
            elsewhere.path()
        } else {
            dir.path()
        };
        if script == Script::BackUpAcross && device(dir.path()) == device(out_root) {
            skipped(&format!(
                "{step:?} needs two file systems; /dev/shm and TMPDIR are one"
            ));
            continue;
        }
        run_to_death(dir.path(), out_root, index);
        let scene = Scene::new(dir.path(), out_root, fate(script));
        if script == Script::GiveUp {
            assert_given_up(&scene, step, when);
            continue;
        }
        recover(&scene).unwrap();
        // The second was not recorded if the first one's recording was the end.
        let recorded = if Step::WRITE.contains(&step) { 1 } else { 2 };
        if let Err(problem) = verdict(&scene, &NAMES[..recorded]) {
            panic!("killed {when:?} {step:?}: {problem}");
        }
        recover(&scene).unwrap();
        verdict(&scene, &NAMES[..recorded]).expect("recovering again changes nothing");
    }
}

#[test]
fn no_io_error_loses_a_segment_or_publishes_it_twice() {
    for step in Step::WRITE.into_iter().chain(Step::PUBLISH) {
        let dir = fast_tempdir();
        let scene = Scene::new(dir.path(), dir.path(), OriginalFate::Deleted);
        let disk = Arc::new(FailAt::new(step));
        let as_disk: Arc<dyn Disk> = disk.clone();
        let (queue, publisher) = scene.open(&as_disk);
        let outcome = record(&scene, &queue, NAMES[0]).and_then(|_| {
            let lease = queue.claim()?.expect("a ticket is there");
            process(&queue, &publisher, &scene.raw_dir(), scene.fate, lease)
        });
        let error = outcome.expect_err("the step failed");
        assert!(disk.has_failed(), "{step:?} was not reached");
        let of_directory = format!("{step:?}").ends_with("Dir") || step == Step::SyncClaim;
        assert_eq!(error.must_stop(), of_directory, "{step:?}: {error}");
        recover(&scene).unwrap();
        if let Err(problem) = verdict(&scene, &NAMES[..1]) {
            panic!("{step:?} failed: {problem}");
        }
    }
}

#[test]
fn a_claim_that_cannot_be_made_durable_counts_no_attempt() {
    let dir = fast_tempdir();
    let scene = Scene::new(dir.path(), dir.path(), OriginalFate::Deleted);
    let disk: Arc<dyn Disk> = Arc::new(FailAt::new(Step::SyncClaim));
    let (queue, _) = scene.open(&disk);
    record(&scene, &queue, NAMES[0]).unwrap();
    let error = queue.claim().unwrap_err();
    assert!(error.must_stop(), "{error}");
    // Of the program that was started again.
    let (queue, _) = scene.open(&real_disk());
    assert!(queue.reap().unwrap().is_empty());
    let lease = queue.claim().unwrap().expect("it is ready");
    assert_eq!(lease.attempt(), 1);
}

fn device(path: &Path) -> u64 {
    path.metadata().unwrap().dev()
}

/// The ticket is in `failed/` with its reason, or is tried again; the original is kept.
fn assert_given_up(scene: &Scene, step: Step, when: When) {
    let (queue, _) = scene.open(&real_disk());
    queue.reap().unwrap();
    if let Some(lease) = queue.claim().unwrap() {
        queue
            .fail(
                lease,
                Failure::Dead {
                    reason: "undecodable".to_owned(),
                },
            )
            .unwrap();
    }
    let entries = queue.list().unwrap();
    let [entry] = &entries[..] else {
        panic!("killed {when:?} {step:?}: {entries:?}")
    };
    assert_eq!(entry.state, State::Failed, "killed {when:?} {step:?}");
    assert_eq!(entry.why.as_ref().unwrap().reason, "undecodable");
    assert!(scene.segment(NAMES[0]).exists());
}
