//! Each transition by itself.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use ticket_queue::{
    DirectoryQueue, Enqueued, Error, Failed, Failure, Held, Lease, MAX_TICKET_BYTES, Options,
    Queue, Reaped, RetryWhich, State, Stem, WallClock,
};

use crate::common::{fast_tempdir, skipped, ticket_for};

/// The real clock, moved by hand.
#[derive(Debug)]
pub(crate) struct TestClock(Mutex<SystemTime>);

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(SystemTime::now())))
    }

    pub(crate) fn advance(&self, seconds: u64) {
        *self.0.lock().unwrap() += Duration::from_secs(seconds);
    }

    pub(crate) fn set_back(&self, seconds: u64) {
        *self.0.lock().unwrap() -= Duration::from_secs(seconds);
    }
}

impl WallClock for TestClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
    queue: DirectoryQueue,
}

impl Bench {
    fn new() -> Self {
        let dir = fast_tempdir();
        let clock = TestClock::new();
        let queue = open(dir.path(), &clock);
        Self { dir, clock, queue }
    }

    fn put(&self, name: &str) -> Stem {
        match self.queue.enqueue(&ticket_for(name)).unwrap() {
            Enqueued::New(stem) => stem,
            Enqueued::Duplicate(stem) => panic!("{name} is there as {stem}"),
        }
    }

    fn claim(&self) -> Lease {
        self.queue.claim().unwrap().expect("a ticket is there")
    }

    fn is_empty(&self) -> bool {
        self.queue.claim().unwrap().is_none()
    }

    fn foreign(&self, name: &str, content: &[u8]) {
        fs::write(self.dir.path().join(name), content).unwrap();
    }

    /// `state stem aN: reason`, line by line.
    fn picture(&self) -> String {
        let line = |entry: ticket_queue::Entry| {
            let why = entry
                .why
                .map(|why| format!(": {}", why.reason))
                .unwrap_or_default();
            format!("{:?} {} a{}{why}\n", entry.state, entry.stem, entry.attempt)
        };
        self.queue.list().unwrap().into_iter().map(line).collect()
    }
}

fn open(dir: &Path, clock: &Arc<TestClock>) -> DirectoryQueue {
    let clock: Arc<dyn WallClock> = clock.clone();
    DirectoryQueue::open(
        dir,
        Options {
            clock,
            ..Options::default()
        },
    )
    .unwrap()
}

fn retry() -> Failure {
    Failure::Retry {
        reason: "plugin crashed".to_owned(),
    }
}

fn not_now() -> Failure {
    Failure::NotNow {
        reason: "no space".to_owned(),
    }
}

fn dead() -> Failure {
    Failure::Dead {
        reason: "cannot be decoded".to_owned(),
    }
}

#[test]
fn the_backlog_is_counted_by_ls_as_it_always_was() {
    let bench = Bench::new();
    let stem = bench.put("a.mp4");
    let name = format!("{stem}.json");
    let pattern = name.replace(|c: char| c.is_ascii_digit(), "0");
    assert_eq!(pattern, "queue_00000000_000000_000000.json");
    let text = fs::read_to_string(bench.dir.path().join(name)).unwrap();
    assert!(text.contains("\"filepath\": \"cam/a.mp4\""), "{text}");
    assert_eq!(
        fs::read_dir(bench.dir.path().join(".tmp")).unwrap().count(),
        1,
        "the lock only"
    );
}

#[test]
fn tickets_of_one_microsecond_get_names_of_their_own() {
    let bench = Bench::new();
    let stems: Vec<_> = (0..20).map(|i| bench.put(&format!("{i}.mp4"))).collect();
    let mut distinct = stems.clone();
    distinct.dedup();
    assert_eq!(distinct.len(), 20);
    assert!(stems.is_sorted());
}

#[test]
fn an_id_is_taken_once_in_whatever_state_its_ticket_is() {
    let bench = Bench::new();
    let other = open(bench.dir.path(), &bench.clock);
    let stem = bench.put("a.mp4");
    let duplicate = Enqueued::Duplicate(stem.clone());
    let check = |when: &str| {
        for queue in [&bench.queue, &other, &open(bench.dir.path(), &bench.clock)] {
            assert_eq!(
                queue.enqueue(&ticket_for("a.mp4")).unwrap(),
                duplicate,
                "{when}"
            );
            assert_eq!(
                queue.find("cam/a.mp4").unwrap().as_ref(),
                Some(&stem),
                "{when}"
            );
        }
    };
    check("ready");
    let lease = bench.claim();
    check("active");
    bench.queue.fail(lease, retry()).unwrap();
    check("deferred");
    bench.clock.advance(60);
    bench.queue.fail(bench.claim(), dead()).unwrap();
    check("failed");
    assert_eq!(bench.queue.find("cam/b.mp4").unwrap(), None);
}

#[test]
fn a_ticket_is_claimed_once() {
    let bench = Bench::new();
    bench.put("a.mp4");
    let other = open(bench.dir.path(), &bench.clock);
    let lease = bench.claim();
    assert_eq!(lease.attempt(), 1);
    assert_eq!(lease.ticket(), &ticket_for("a.mp4"));
    assert!(lease.receipt().is_none());
    assert!(other.claim().unwrap().is_none());
    assert!(other.reap().unwrap().is_empty(), "its owner is alive");
    assert_eq!(bench.queue.extend(&lease).unwrap(), Held::Held);
}

#[test]
fn claimers_choose_among_the_first_eight() {
    let bench = Bench::new();
    let stems: Vec<_> = (0..20)
        .map(|number| bench.put(&format!("{number}.mp4")))
        .collect();
    let mut chosen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let lease = bench.claim();
        chosen.insert(stems.iter().position(|stem| stem == lease.stem()).unwrap());
        bench.queue.release(lease).unwrap();
    }
    assert_eq!(chosen, (0..8).collect());
}

#[test]
fn attempts_run_out_with_growing_delays() {
    let bench = Bench::new();
    let stem = bench.put("a.mp4");
    for (attempt, delay) in [(1, 30), (2, 60), (3, 120), (4, 240)] {
        let lease = bench.claim();
        assert_eq!(lease.attempt(), attempt);
        let Failed::Deferred(wait) = bench.queue.fail(lease, retry()).unwrap() else {
            panic!("attempt {attempt} is not the last");
        };
        let spread = Duration::from_secs(delay * 8 / 10)..=Duration::from_secs(delay * 12 / 10);
        assert!(spread.contains(&wait), "{attempt}: {wait:?}");
        bench.clock.advance(delay * 7 / 10);
        assert!(bench.is_empty(), "not before its time");
        bench.clock.advance(delay);
    }
    assert_eq!(
        bench.queue.fail(bench.claim(), retry()).unwrap(),
        Failed::GivenUp
    );
    assert_eq!(
        bench.picture(),
        format!("Failed {stem} a5: plugin crashed\n")
    );
    let why = bench.queue.list().unwrap().remove(0).why.unwrap();
    assert_eq!(why.original.as_deref(), Some("cam/a.mp4"));
    bench.clock.advance(100_000);
    assert!(bench.is_empty());
}

#[test]
fn what_was_given_up_starts_again_on_demand() {
    let bench = Bench::new();
    let stem = bench.put("a.mp4");
    bench.queue.fail(bench.claim(), dead()).unwrap();
    assert_eq!(
        bench.queue.retry(&RetryWhich::All).unwrap(),
        std::slice::from_ref(&stem)
    );
    assert_eq!(bench.picture(), format!("Ready {stem} a0\n"));
    assert_eq!(
        fs::read_dir(bench.dir.path().join("failed"))
            .unwrap()
            .count(),
        0
    );
    let lease = bench.claim();
    assert_eq!(lease.attempt(), 1);
    bench
        .queue
        .fail(
            lease,
            Failure::Corrupt {
                reason: "leads out".to_owned(),
            },
        )
        .unwrap();
    assert_eq!(bench.picture(), format!("Corrupt {stem} a1: leads out\n"));
    assert!(
        bench.queue.retry(&RetryWhich::All).unwrap().is_empty(),
        "corrupt by name only"
    );
    bench.queue.retry(&RetryWhich::One(stem.clone())).unwrap();
    assert_eq!(bench.picture(), format!("Ready {stem} a0\n"));
    let missing = bench.queue.retry(&RetryWhich::One(stem)).unwrap_err();
    assert!(matches!(missing, Error::NotFound { .. }), "{missing}");
}

#[test]
fn no_space_and_shutdown_do_not_count() {
    let bench = Bench::new();
    let stem = bench.put("a.mp4");
    for _ in 0..8 {
        let lease = bench.claim();
        assert_eq!(lease.attempt(), 1);
        assert!(matches!(
            bench.queue.fail(lease, not_now()).unwrap(),
            Failed::Deferred(_)
        ));
        assert_eq!(bench.picture(), format!("Deferred {stem} a0\n"));
        bench.clock.advance(20);
    }
    bench.queue.release(bench.claim()).unwrap();
    assert_eq!(bench.picture(), format!("Ready {stem} a0\n"));
    bench.queue.fail(bench.claim(), retry()).unwrap();
    bench.clock.advance(60);
    let lease = bench.claim();
    assert_eq!(lease.attempt(), 2);
    bench.queue.release(lease).unwrap();
    assert_eq!(bench.picture(), format!("Deferred {stem} a1\n"));
    assert_eq!(bench.claim().attempt(), 2, "due at once");
}

#[test]
fn a_dead_owner_costs_an_attempt() {
    let bench = Bench::new();
    let stem = bench.put("a.mp4");
    for attempt in 1..=5 {
        drop(bench.claim());
        assert!(bench.is_empty(), "active until reaped");
        let reaped = bench.queue.reap().unwrap();
        let [
            Reaped::Failed {
                attempt: died, now, ..
            },
        ] = &reaped[..]
        else {
            panic!("{reaped:?}");
        };
        assert_eq!(*died, attempt);
        match (attempt, now) {
            (1, Failed::Deferred(delay)) => assert!(delay.is_zero(), "an accident: at once"),
            (2..5, Failed::Deferred(delay)) => {
                assert!(delay.as_secs() >= 45, "suspected of killing its owner");
                bench.clock.advance(1000);
            }
            (5, Failed::GivenUp) => {}
            other => panic!("{other:?}"),
        }
    }
    let reason = "the process that worked on it died";
    assert_eq!(bench.picture(), format!("Failed {stem} a5: {reason}\n"));
}

#[test]
fn a_clock_set_back_parks_no_ticket() {
    let bench = Bench::new();
    bench.put("a.mp4");
    bench.queue.fail(bench.claim(), retry()).unwrap();
    assert!(bench.is_empty());
    bench.clock.set_back(7 * 24 * 3600);
    assert_eq!(bench.claim().attempt(), 2);
}

#[test]
fn ready_and_deferred_are_taken_in_turn() {
    let bench = Bench::new();
    for i in 0..4 {
        bench.put(&format!("{i}.mp4"));
        bench.queue.fail(bench.claim(), retry()).unwrap();
    }
    for i in 4..8 {
        bench.put(&format!("{i}.mp4"));
    }
    bench.clock.advance(60);
    let leases: Vec<_> = (0..8).map(|_| bench.claim()).collect();
    let pairs: Vec<u32> = leases
        .chunks(2)
        .map(|pair| pair.iter().map(Lease::attempt).sum())
        .collect();
    assert_eq!(pairs, [3; 4], "one new and one old in every two");
    assert!(bench.is_empty());
}

#[test]
fn a_slow_foreign_writer_is_given_time() {
    let bench = Bench::new();
    let whole = ticket_for("a.mp4").to_json().unwrap();
    bench.foreign("queue_20250101_000000_000000.json", &whole[..40]);
    assert!(bench.is_empty());
    assert_eq!(bench.queue.stats().unwrap().ready, 1, "still there");
    bench.foreign("queue_20250101_000000_000000.json", &whole);
    assert_eq!(bench.claim().ticket(), &ticket_for("a.mp4"));
}

#[test]
fn what_is_no_ticket_goes_to_corrupt_with_its_reason() {
    let bench = Bench::new();
    bench.foreign("queue_1.json", b"{\"filepath\": ");
    bench.foreign("queue_2.json", &vec![b' '; MAX_TICKET_BYTES + 1]);
    fs::create_dir(bench.dir.path().join("queue_3.json")).unwrap();
    symlink("/etc/passwd", bench.dir.path().join("queue_4.json")).unwrap();
    bench.foreign("queue_5.json", b"");
    bench.foreign("README.json", b"not a ticket by its name");
    bench.clock.advance(6);
    bench.put("good.mp4");
    let lease = bench.claim();
    assert_eq!(lease.ticket(), &ticket_for("good.mp4"));
    drop(lease);
    while !bench.is_empty() {}
    let picture = bench.picture();
    for expected in [
        "Corrupt queue_1 a0: ticket is not valid: EOF",
        "Corrupt queue_2 a0: ticket is larger than 65536 bytes",
        "Corrupt queue_3 a0: it is not a regular file",
        "Corrupt queue_4 a0: it is a symbolic link",
        "Corrupt queue_5 a0: ticket is not valid: EOF",
    ] {
        assert!(picture.contains(expected), "{expected}\n{picture}");
    }
    assert!(Path::new("/etc/passwd").exists());
    assert!(bench.dir.path().join("README.json").exists());
}

#[test]
fn a_ticket_of_another_user_is_left_alone_and_told_of() {
    let bench = Bench::new();
    bench.put("a.mp4");
    let name = "queue_20990101_000000_000000.json";
    bench.foreign(name, &ticket_for("b.mp4").to_json().unwrap());
    let path = bench.dir.path().join(name);
    let immutable = |flag| Command::new("chattr").arg(flag).arg(&path).status();
    if !immutable("+i").is_ok_and(|status| status.success()) {
        skipped("a file that cannot be opened for writing needs root and chattr");
        return;
    }
    let taken = bench.claim();
    let told = bench.queue.claim();
    immutable("-i").unwrap();
    assert_eq!(taken.ticket(), &ticket_for("a.mp4"));
    let error = told.unwrap_err().to_string();
    assert!(
        error.contains("cannot open ticket") && error.contains(name),
        "{error}"
    );
    assert_eq!(bench.claim().ticket(), &ticket_for("b.mp4"));
}

/// Does `work` in a thread that may open files of other users, but is not taken for their owner; `None` where that cannot be had.
fn as_no_owner<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let there = || {
        let mut sets = capabilities(None).ok()?;
        if !sets
            .effective
            .contains(CapabilitySet::FOWNER | CapabilitySet::DAC_OVERRIDE)
        {
            return None;
        }
        sets.effective.remove(CapabilitySet::FOWNER);
        set_capabilities(None, sets).ok()?;
        Some(work())
    };
    let done = std::thread::scope(|scope| scope.spawn(there).join().unwrap());
    if done.is_none() {
        skipped("a file of another user needs root");
    }
    done
}

#[test]
fn a_ticket_that_could_not_be_given_back_is_not_claimed() {
    let bench = Bench::new();
    let name = "queue_20990101_000000_000000.json";
    bench.foreign(name, &ticket_for("b.mp4").to_json().unwrap());
    let path = bench.dir.path().join(name);
    // All may write to it, but only its owner may say when it is due.
    std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    bench.put("a.mp4");
    let Some((taken, told)) = as_no_owner(|| (bench.claim(), bench.queue.claim())) else {
        return;
    };
    assert_eq!(taken.ticket(), &ticket_for("a.mp4"));
    let error = told.map(|lease| lease.is_some()).unwrap_err().to_string();
    assert!(
        error.contains("cannot set the time of") && error.contains(name),
        "{error}"
    );
    assert_eq!(bench.queue.stats().unwrap().ready, 1);
    assert_eq!(bench.claim().ticket(), &ticket_for("b.mp4"));
    let active = bench
        .dir
        .path()
        .join(format!("active/{}", name.replace(".json", ".a1.json")));
    assert_eq!(fs::metadata(active).unwrap().modified().unwrap(), written);
}

/// Makes a file that nobody may open for writing, root included; `None` where that cannot be done.
struct Immutable(PathBuf);

impl Immutable {
    fn make(path: PathBuf) -> Option<Self> {
        let made = Self(path);
        if made.set("+i") {
            return Some(made);
        }
        skipped("a file that cannot be opened for writing needs root and chattr");
        None
    }

    fn set(&self, flag: &str) -> bool {
        let status = Command::new("chattr").arg(flag).arg(&self.0).status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        self.set("-i");
    }
}

#[test]
fn a_ticket_that_cannot_be_reaped_keeps_no_other_from_it() {
    let bench = Bench::new();
    for name in ["a.mp4", "b.mp4", "c.mp4"] {
        bench.put(name);
    }
    let mut leases = [bench.claim(), bench.claim(), bench.claim()];
    leases.sort_by(|one, other| one.stem().cmp(other.stem()));
    let stems = leases.each_ref().map(|lease| lease.stem().clone());
    drop(leases);
    let path = bench
        .dir
        .path()
        .join(format!("active/{}.a1.json", stems[1]));
    let Some(bad) = Immutable::make(path) else {
        return;
    };
    // The first one is to be finished: its lease is not lost for what comes after it.
    let finishable = |lease: &Lease| lease.stem() == &stems[0];
    let reaped = bench.queue.reap_with(&finishable).unwrap();
    let [
        Reaped::Finish(lease),
        Reaped::Stuck { stem, error, .. },
        Reaped::Failed { stem: last, .. },
    ] = &reaped[..]
    else {
        panic!("{reaped:?}");
    };
    assert_eq!([lease.stem(), stem, last], stems.each_ref());
    assert!(error.to_string().contains("cannot open ticket"), "{error}");
    drop(bad);
    let again = bench.queue.reap().unwrap();
    assert!(
        matches!(&again[..], [Reaped::Failed { stem, .. }] if *stem == stems[1]),
        "{again:?}"
    );
}

#[test]
fn a_ticket_that_cannot_be_put_back_keeps_no_other_from_it() {
    let bench = Bench::new();
    for name in ["a.mp4", "b.mp4", "c.mp4"] {
        bench.put(name);
        bench.queue.fail(bench.claim(), dead()).unwrap();
    }
    let failed = bench.queue.list().unwrap();
    let Some(bad) = Immutable::make(failed[1].path.clone()) else {
        return;
    };
    let error = bench.queue.retry(&RetryWhich::All).unwrap_err();
    let Error::NotAllBack { back, source } = error else {
        panic!("{error}");
    };
    assert_eq!(back, [failed[0].stem.clone(), failed[2].stem.clone()]);
    assert!(
        source.to_string().contains("cannot open ticket"),
        "{source}"
    );
    let stats = bench.queue.stats().unwrap();
    assert_eq!((stats.ready, stats.failed), (2, 1));
    drop(bad);
    let all = bench.queue.retry(&RetryWhich::All).unwrap();
    assert_eq!(all, [failed[1].stem.clone()]);
}

#[test]
fn a_second_corrupt_ticket_of_one_name_replaces_nothing() {
    let bench = Bench::new();
    for content in ["one", "two", "three"] {
        bench.foreign("queue_1.json", content.as_bytes());
        bench.clock.advance(10);
        assert!(bench.is_empty());
    }
    let corrupt = bench.dir.path().join("corrupt");
    for (name, content) in [
        ("queue_1", "one"),
        ("queue_1.1", "two"),
        ("queue_1.2", "three"),
    ] {
        let text = fs::read_to_string(corrupt.join(format!("{name}.json"))).unwrap();
        assert_eq!(text, content);
        assert!(corrupt.join(format!("{name}.why.json")).exists());
    }
}

#[test]
fn a_ticket_taken_away_by_hand_is_noticed() {
    let bench = Bench::new();
    let stem = bench.put("a.mp4");
    let lease = bench.claim();
    let active = bench.dir.path().join(format!("active/{stem}.a1.json"));
    fs::rename(&active, bench.dir.path().join("elsewhere")).unwrap();
    assert_eq!(bench.queue.extend(&lease).unwrap(), Held::Lost);
    fs::write(&active, "another file under its name").unwrap();
    let error = bench.queue.complete(lease).unwrap_err();
    assert!(matches!(error, Error::LeaseLost { .. }), "{error}");
    assert!(active.exists());
}

#[test]
fn no_ticket_is_removed_without_a_receipt() {
    let bench = Bench::new();
    bench.put("a.mp4");
    let error = bench.queue.complete(bench.claim()).unwrap_err();
    assert!(matches!(error, Error::NoReceipt { .. }), "{error}");
    assert_eq!(bench.queue.stats().unwrap().active, 1);
}

#[test]
fn receipts_are_listed_only_when_their_directory_has_changed() {
    let bench = Bench::new();
    let done = bench.dir.path().join("done");
    let dated = |seconds| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::open(&done).unwrap().set_modified(time).unwrap();
        bench.queue.stats().unwrap().done
    };
    let receipt = |name: &str| fs::write(done.join(name), "{}").unwrap();
    for name in ["queue_1.json", "queue_2.json", "queue_1.why.json", "README"] {
        receipt(name);
    }
    assert_eq!(dated(1), 2);
    receipt("queue_3.json");
    assert_eq!(dated(1), 2, "nothing tells of a change");
    assert_eq!(dated(2), 3);
    receipt("queue_4.json");
    assert_eq!(bench.queue.stats().unwrap().done, 4);
    // So young a change may have a sibling at the same time.
    receipt("queue_5.json");
    assert_eq!(bench.queue.stats().unwrap().done, 5);
}

#[test]
fn stats_count_every_state() {
    let bench = Bench::new();
    for i in 0..5 {
        bench.put(&format!("{i}.mp4"));
    }
    bench.queue.fail(bench.claim(), dead()).unwrap();
    bench.queue.fail(bench.claim(), retry()).unwrap();
    bench.foreign("queue_1.json", b"x");
    bench.clock.advance(100);
    let held = [bench.claim(), bench.claim(), bench.claim()];
    assert!(held.iter().all(|lease| lease.attempt() <= 2));
    while bench.queue.stats().unwrap().corrupt == 0 {
        drop(bench.queue.claim().unwrap());
    }
    let stats = bench.queue.stats().unwrap();
    assert_eq!((stats.failed, stats.corrupt, stats.done), (1, 1, 0));
    assert_eq!(stats.ready + stats.deferred + stats.active, 4);
    assert_eq!(bench.queue.held_back().unwrap().len(), 2);
    assert!(bench.queue.finished().unwrap().is_empty());
    let states: Vec<_> = bench
        .queue
        .list()
        .unwrap()
        .into_iter()
        .map(|entry| entry.state)
        .collect();
    assert!(states.is_sorted() && states.contains(&State::Active));
}
