//! Many worker processes on one queue, killed at random moments with `kill -9`.
//!
//! A claim that renames before it locks is caught by the count of attempts: somebody reaps the ticket in between, though
//! its owner lives, so that more attempts are used up than workers died. The disk of the workers is slow after the
//! claim's rename, so that there is always somebody in between.
//!
//! `TICKET_QUEUE_LONG=1` runs the long form: 9,000 kills.

use std::collections::HashMap;
use std::env;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ticket_queue::protocol::{Disk, Step};
use ticket_queue::{DirectoryQueue, Error, Lease, OriginalFate, Queue, Reaped};

use crate::common::{Scene, fast_tempdir, process, real_disk, record, recover, verdict};

const ROOT: &str = "TICKET_QUEUE_CHAOS_ROOT";
const WORKERS: usize = 8;
/// Two more names for what only one worker at a time may do to a ticket.
const WITNESSES: &str = "witnesses";
const DOUBLE_CLAIMS: &str = "double_claims";

struct Form {
    tickets: usize,
    kills: usize,
}

fn form() -> Form {
    match env::var_os("TICKET_QUEUE_LONG") {
        Some(_) => Form {
            tickets: 9000,
            kills: 9000,
        },
        None => Form {
            tickets: 400,
            kills: 48,
        },
    }
}

fn scene(root: &Path) -> Scene {
    Scene::new(root, root, OriginalFate::Deleted)
}

/// Runs in each worker: claims and processes until killed.
#[test]
#[ignore = "run by the test below, in processes that are to be killed"]
fn worker() {
    let Some(root) = env::var_os(ROOT) else {
        return;
    };
    let root = Path::new(&root);
    let scene = scene(root);
    let disk: Arc<dyn Disk> = Arc::new(SlowClaims);
    let (queue, publisher) = scene.open(&disk);
    let raw = scene.raw_dir();
    loop {
        for lease in next(&queue) {
            let witness = witness(root, &lease);
            // Long enough to be killed in, or to be overlapped by another claim.
            std::thread::sleep(Duration::from_millis(rand::random_range(0..6)));
            match process(&queue, &publisher, &raw, scene.fate, lease) {
                Ok(()) => {}
                Err(error @ Error::LeaseLost { .. }) => note(root, &error.to_string()),
                Err(error) => panic!("{error}"),
            }
            drop(witness);
        }
    }
}

/// Slow after the rename that claims a ticket, while the lock must already be held.
#[derive(Debug)]
struct SlowClaims;

impl Disk for SlowClaims {
    fn perform(&self, step: Step, action: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        action()?;
        if step == Step::ClaimTicket {
            std::thread::sleep(Duration::from_millis(rand::random_range(0..4)));
        }
        Ok(())
    }
}

/// Alternates between reaping and claiming, as a worker's scan does.
fn next(queue: &DirectoryQueue) -> Vec<Lease> {
    let reaped = queue
        .reap()
        .unwrap()
        .into_iter()
        .filter_map(|reaped| match reaped {
            Reaped::Finish(lease) => Some(*lease),
            Reaped::Failed { .. } => None,
            Reaped::Stuck { stem, error, .. } => panic!("{stem}: {error}"),
        });
    let leases: Vec<_> = reaped.chain(queue.claim().unwrap()).collect();
    if leases.is_empty() {
        std::thread::sleep(Duration::from_millis(2));
    }
    leases
}

/// A lock of the test's own per ticket. If it is taken, two workers hold one ticket. It cannot
/// tell of an overlap that was none: the kernel frees it with its owner, as it does the ticket's.
fn witness(root: &Path, lease: &Lease) -> File {
    let path = root.join(WITNESSES).join(lease.stem().as_str());
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => note(root, &format!("{} is held twice", lease.stem())),
        Err(TryLockError::Error(error)) => panic!("{error}"),
    }
    file
}

fn note(root: &Path, text: &str) {
    let path = root.join(DOUBLE_CLAIMS);
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    writeln!(file, "{text}").unwrap();
}

fn spawn(root: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "chaos::worker",
            "--ignored",
            "--quiet",
            "--nocapture",
        ])
        .env(ROOT, root)
        .spawn()
        .unwrap()
}

/// Kills its workers when the test ends in whatever way.
struct Workers(Vec<Child>);

impl Workers {
    fn kill(&mut self, index: usize) {
        self.0[index].kill().unwrap();
        self.0[index].wait().unwrap();
    }

    fn kill_one_and_replace(&mut self, root: &Path) {
        let index = rand::random_range(0..self.0.len());
        assert_eq!(
            self.0[index].try_wait().unwrap(),
            None,
            "a worker ended by itself"
        );
        let descriptors = open_files(&self.0[index].id().to_string());
        assert!(descriptors < 40, "a worker has {descriptors} open files");
        self.kill(index);
        self.0[index] = spawn(root);
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for index in 0..self.0.len() {
            self.kill(index);
        }
    }
}

/// How many descriptors a process holds; 0 when it is gone.
fn open_files(pid: &str) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// What is left of work that is all done: scratch that grows old is swept, anything else is a leak.
fn leaks(scene: &Scene) -> Vec<String> {
    let long_ago = SystemTime::now() - Duration::from_secs(48 * 3600);
    for entry in fs::read_dir(scene.queue.join(".tmp")).unwrap() {
        let file = File::options().write(true).open(entry.unwrap().path());
        file.unwrap().set_modified(long_ago).unwrap();
    }
    drop(scene.open(&real_disk()));
    let mut left = Vec::new();
    for dir in [
        scene.queue.join(".tmp"),
        scene.out.join(".tmp"),
        scene.raw.join("cam"),
    ] {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if !path.ends_with("enqueue.lock") {
                left.push(path.display().to_string());
            }
        }
    }
    // Tests in other threads have files of their own open.
    for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        if target.starts_with(&scene.queue) || target.starts_with(&scene.out) {
            left.push(format!("still open: {}", target.display()));
        }
    }
    left
}

#[test]
fn killed_workers_lose_nothing_and_never_share_a_ticket() {
    let Form { tickets, kills } = form();
    let dir = fast_tempdir();
    let root = dir.path();
    fs::create_dir(root.join(WITNESSES)).unwrap();
    let scene = scene(root);
    let names: Vec<String> = (0..tickets).map(|number| format!("{number}.mp4")).collect();
    let (queue, _) = scene.open(&real_disk());
    let began = Instant::now();
    let mut workers = Workers((0..WORKERS).map(|_| spawn(root)).collect());
    let mut killed = 0;
    for (number, name) in names.iter().enumerate() {
        record(&scene, &queue, name).unwrap();
        if number * kills / tickets > killed {
            workers.kill_one_and_replace(root);
            killed += 1;
        }
    }
    while killed < kills || !is_done(&queue, tickets) {
        let stats = queue.stats().unwrap();
        let in_time = began.elapsed() < Duration::from_secs(60 + kills as u64 / 5);
        assert!(in_time && stats.failed + stats.corrupt == 0, "{stats:?}");
        if killed < kills {
            workers.kill_one_and_replace(root);
            killed += 1;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(workers);
    recover(&scene).unwrap();
    let double = fs::read_to_string(root.join(DOUBLE_CLAIMS)).unwrap_or_default();
    assert_eq!(double, "", "double claims");
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    verdict(&scene, &names).unwrap();
    let attempts = attempts(&scene);
    let used: usize = attempts.values().map(|attempt| *attempt as usize - 1).sum();
    assert!(
        used <= killed,
        "{used} attempts were interrupted by {killed} kills: tickets were taken from living owners"
    );
    assert_eq!(leaks(&scene), Vec::<String>::new());
    let interrupted = attempts.values().filter(|attempt| **attempt > 1).count();
    assert!(
        interrupted > 0,
        "no kill hit a worker at work: the test tests nothing"
    );
    eprintln!(
        "{tickets} tickets, {killed} kills, {interrupted} published by a later attempt, {:?}",
        began.elapsed()
    );
}

fn is_done(queue: &DirectoryQueue, tickets: usize) -> bool {
    let stats = queue.stats().unwrap();
    stats.done == tickets as u64 && stats.active == 0
}

/// Which attempt published each segment.
fn attempts(scene: &Scene) -> HashMap<String, u32> {
    let receipts = fs::read_dir(scene.queue.join("done")).unwrap();
    receipts
        .map(|entry| {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            let receipt: ticket_queue::Receipt = serde_json::from_slice(&bytes).unwrap();
            (receipt.id, receipt.attempt)
        })
        .collect()
}
