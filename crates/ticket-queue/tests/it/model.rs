//! Random operations, with death between any two steps of any of them, against a model that says
//! what each operation may make of each ticket.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use proptest::prelude::*;
use ticket_queue::protocol::Disk;
use ticket_queue::{
    DirectoryQueue, Enqueued, Error, Failed, Failure, Lease, Options, OriginalFate, Queue,
    RECEIPT_VERSION, Reaped, Receipt, RetryWhich, State, Stem, Ticket, WallClock,
};

use crate::common::{DyingDisk, When, facts, fast_tempdir, ticket_for};
use crate::states::TestClock;

/// Few, so that random walks use them up.
const MAX_ATTEMPTS: u32 = 2;
const LONGEST_DELAY: Duration = Duration::from_secs(1080);
/// After no attempt, and 20 % less.
const SHORTEST_DELAY: Duration = Duration::from_secs(12);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Enqueue(u8),
    Claim,
    /// The following act on one of the leases held, chosen by the number.
    WriteReceipt(usize),
    Complete(usize),
    Retry(usize),
    NotNow(usize),
    Dead(usize),
    Corrupt(usize),
    Release(usize),
    /// The owner dies by itself; the process lives on.
    Drop(usize),
    Reap,
    RetryAll,
    RetryOne(u8),
    Advance(u64),
    SetBack(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (0..8_u8).prop_map(Op::Enqueue),
        6 => Just(Op::Claim),
        3 => any::<usize>().prop_map(Op::WriteReceipt),
        3 => any::<usize>().prop_map(Op::Complete),
        3 => any::<usize>().prop_map(Op::Retry),
        2 => any::<usize>().prop_map(Op::NotNow),
        1 => any::<usize>().prop_map(Op::Dead),
        1 => any::<usize>().prop_map(Op::Corrupt),
        2 => any::<usize>().prop_map(Op::Release),
        2 => any::<usize>().prop_map(Op::Drop),
        3 => Just(Op::Reap),
        1 => Just(Op::RetryAll),
        1 => (0..8_u8).prop_map(Op::RetryOne),
        3 => prop_oneof![Just(1), Just(30), Just(100), Just(1000)].prop_map(Op::Advance),
        1 => prop_oneof![Just(10), Just(1000), Just(100_000)].prop_map(Op::SetBack),
    ]
}

/// At which step of the operation the process dies, if at all.
fn death() -> impl Strategy<Value = Option<(u32, When)>> {
    let when = prop_oneof![Just(When::Before), Just(When::After)];
    prop_oneof![3 => Just(None), 1 => (1..8_u32, when).prop_map(Some)]
}

/// What is known of one ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    stem: Stem,
    /// `None` when it is finished and gone.
    state: Option<State>,
    attempt: u32,
    not_before: SystemTime,
    receipt: bool,
}

impl Known {
    fn moved(&self, state: State, attempt: u32) -> Self {
        Self {
            state: Some(state),
            attempt,
            ..self.clone()
        }
    }

    fn same_but_time(&self, other: &Self) -> bool {
        Self {
            not_before: other.not_before,
            ..self.clone()
        } == *other
    }
}

type Picture = BTreeMap<String, Known>;

struct Run {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
    disk: Arc<DyingDisk>,
    queue: DirectoryQueue,
    leases: Vec<Lease>,
    /// How things stand by the model.
    model: Picture,
    /// Every ticket that was ever seen.
    stems: BTreeMap<String, Stem>,
}

impl Run {
    fn new() -> Self {
        let dir = fast_tempdir();
        let (clock, disk) = (TestClock::new(), Arc::new(DyingDisk::default()));
        let queue = open(dir.path(), &clock, &disk);
        let (leases, model, stems) = (Vec::new(), Picture::new(), BTreeMap::new());
        Self {
            dir,
            clock,
            disk,
            queue,
            leases,
            model,
            stems,
        }
    }

    fn apply(&mut self, op: Op, death: Option<(u32, When)>) {
        if let Some((step, when)) = death {
            self.disk.die_at(step, when);
        }
        let before = self.model.clone();
        let target = self.target(op);
        let result = self.perform(op);
        let died = self.disk.take_death();
        if died {
            // The process is gone, and its locks with it.
            self.leases.clear();
            self.queue = open(self.dir.path(), &self.clock, &self.disk);
        }
        let after = self.observe();
        match result {
            Ok(Some(touched)) if !died => self.check_done(op, &before, &after, &touched),
            Ok(None) | Err(_) if !died => {
                assert!(
                    pictures_agree(&before, &after),
                    "{op:?} failed but changed something"
                );
            }
            _ => check_died(op, target.as_deref(), &before, &after),
        }
        self.check_times(op, &before, &after);
        self.model = after;
    }

    /// The ticket that an operation on a lease is about.
    fn target(&self, op: Op) -> Option<String> {
        let index = lease_index(op)?;
        let lease = self.leases.get(index % self.leases.len().max(1))?;
        Some(lease.ticket().id().to_owned())
    }

    /// Runs the operation; returns the ids it says it changed, or `None` if it had nothing to do.
    fn perform(&mut self, op: Op) -> Result<Option<Vec<String>>, Error> {
        if let Some(index) = lease_index(op) {
            if self.leases.is_empty() {
                return Ok(None);
            }
            let lease = self.leases.swap_remove(index % self.leases.len());
            let id = lease.ticket().id().to_owned();
            return self
                .perform_on(op, lease)
                .map(|changed| changed.then_some(vec![id]));
        }
        match op {
            Op::Enqueue(number) => self.enqueue(number),
            Op::Claim => self.claim(),
            Op::Reap => self.reap().map(Some),
            Op::RetryAll => {
                let back = self.queue.retry(&RetryWhich::All)?;
                Ok(Some(back.iter().map(|stem| self.id_of(stem)).collect()))
            }
            Op::RetryOne(number) => self.retry_one(number),
            Op::Advance(seconds) => {
                self.clock.advance(seconds);
                Ok(None)
            }
            Op::SetBack(seconds) => {
                self.clock.set_back(seconds);
                Ok(None)
            }
            _ => unreachable!("{op:?} is about a lease"),
        }
    }

    fn perform_on(&mut self, op: Op, lease: Lease) -> Result<bool, Error> {
        let reason = "as told".to_owned();
        match op {
            Op::WriteReceipt(_) => {
                let receipt = receipt(&lease);
                let written = self.queue.write_receipt(&lease, &receipt);
                self.leases.push(lease);
                written.map(|()| true)
            }
            Op::Complete(_) => match self.queue.complete(lease) {
                Err(Error::NoReceipt { .. }) => Ok(false),
                other => other.map(|()| true),
            },
            Op::Retry(_) => self.fail(lease, Failure::Retry { reason }),
            Op::NotNow(_) => self.fail(lease, Failure::NotNow { reason }),
            Op::Dead(_) => self.fail(lease, Failure::Dead { reason }),
            Op::Corrupt(_) => self.fail(lease, Failure::Corrupt { reason }),
            Op::Release(_) => self.queue.release(lease).map(|()| true),
            _ => Ok(false),
        }
    }

    fn fail(&self, lease: Lease, failure: Failure) -> Result<bool, Error> {
        if let Failed::Deferred(wait) = self.queue.fail(lease, failure)? {
            assert!(
                wait >= Duration::from_secs(12) && wait <= LONGEST_DELAY,
                "{wait:?}"
            );
        }
        Ok(true)
    }

    fn enqueue(&mut self, number: u8) -> Result<Option<Vec<String>>, Error> {
        let ticket = ticket(number);
        let known = self.model.get(ticket.id()).cloned();
        match (self.queue.enqueue(&ticket)?, known) {
            (Enqueued::New(_), None) => Ok(Some(vec![ticket.id().to_owned()])),
            (Enqueued::Duplicate(stem), Some(known)) if stem == known.stem => Ok(None),
            (wrong, known) => panic!("{wrong:?}, but known is {known:?}"),
        }
    }

    fn claim(&mut self) -> Result<Option<Vec<String>>, Error> {
        let now = self.clock.now();
        let lease = self.queue.claim()?;
        if let Some(lease) = lease {
            let id = lease.ticket().id().to_owned();
            assert_eq!(lease.receipt().is_some(), self.model[&id].receipt);
            self.leases.push(lease);
            return Ok(Some(vec![id]));
        }
        let left = self.model.values().find(|known| is_available(known, now));
        assert_eq!(left, None, "nothing was claimed");
        Ok(None)
    }

    fn reap(&mut self) -> Result<Vec<String>, Error> {
        let mut touched = Vec::new();
        for reaped in self.queue.reap()? {
            match reaped {
                // Taken over where it lies.
                Reaped::Finish(lease) => self.leases.push(*lease),
                Reaped::Failed { stem, .. } => touched.push(self.id_of(&stem)),
                Reaped::Stuck { error, .. } => return Err(error),
            }
        }
        let untouched = self.model.iter().filter(|(id, known)| {
            known.state == Some(State::Active)
                && !touched.contains(*id)
                && !self.leases.iter().any(|lease| lease.ticket().id() == *id)
        });
        assert_eq!(untouched.count(), 0, "a dead owner's ticket was not reaped");
        Ok(touched)
    }

    fn retry_one(&mut self, number: u8) -> Result<Option<Vec<String>>, Error> {
        let id = ticket(number).id().to_owned();
        let Some(known) = self.model.get(&id) else {
            return Ok(None);
        };
        match self.queue.retry(&RetryWhich::One(known.stem.clone())) {
            Err(Error::NotFound { .. }) => Ok(None),
            other => other.map(|_| Some(vec![id])),
        }
    }

    fn id_of(&self, stem: &Stem) -> String {
        self.stems
            .iter()
            .find(|(_, known)| *known == stem)
            .unwrap()
            .0
            .clone()
    }

    /// How things stand on disk. Panics if a ticket is in two places, or lost.
    fn observe(&mut self) -> Picture {
        let mut picture = Picture::new();
        for entry in self.queue.list().unwrap() {
            let ticket = Ticket::parse(&std::fs::read(&entry.path).unwrap()).unwrap();
            let id = ticket.id().to_owned();
            self.stems
                .entry(id.clone())
                .or_insert_with(|| entry.stem.clone());
            let known = Known {
                receipt: self.queue.receipt(&entry.stem).unwrap().is_some(),
                stem: entry.stem,
                state: Some(entry.state),
                attempt: entry.attempt,
                not_before: entry.modified,
            };
            let has_reason = matches!(entry.state, State::Failed | State::Corrupt);
            assert_eq!(entry.why.is_some(), has_reason, "{id}");
            assert_eq!(
                picture.insert(id.clone(), known),
                None,
                "{id} is in two places"
            );
        }
        for (id, stem) in &self.stems {
            if !picture.contains_key(id) {
                assert!(self.queue.receipt(stem).unwrap().is_some(), "{id} is lost");
                let known = Known {
                    stem: stem.clone(),
                    state: None,
                    attempt: 0,
                    not_before: SystemTime::UNIX_EPOCH,
                    receipt: true,
                };
                picture.insert(id.clone(), known);
            }
        }
        picture
    }

    /// A ticket is put off for a time within bounds, or is due at once when it was released or its owner died for the
    /// first time.
    fn check_times(&self, op: Op, before: &Picture, after: &Picture) {
        let now = self.clock.now();
        for (id, known) in after {
            let was = before.get(id).and_then(|was| was.state);
            if known.state != Some(State::Deferred) || was == known.state {
                continue;
            }
            let ahead = known.not_before.duration_since(now).unwrap_or_default();
            let in_bounds = match op {
                Op::Release(_) => ahead.is_zero(),
                Op::Reap if known.attempt == 1 => ahead.is_zero(),
                _ => (SHORTEST_DELAY..=LONGEST_DELAY).contains(&ahead),
            };
            assert!(in_bounds, "{op:?}: {id} is put off for {ahead:?}");
        }
    }

    /// Every ticket that the operation says it changed is where it should be, the others are
    /// where they were.
    fn check_done(&self, op: Op, before: &Picture, after: &Picture, touched: &[String]) {
        for (id, now) in after {
            if touched.contains(id) {
                assert!(
                    is_outcome(op, before.get(id), now),
                    "{op:?}: {id} is {now:?}"
                );
            } else {
                assert!(
                    before.get(id).is_some_and(|was| was.same_but_time(now)),
                    "{op:?}: {id}"
                );
            }
        }
    }
}

/// Every ticket is where it was, or where the operation that died would have brought it.
fn check_died(op: Op, target: Option<&str>, before: &Picture, after: &Picture) {
    for (id, now) in after {
        let was = before.get(id);
        let meant = target.is_none_or(|target| target == id);
        let unchanged = was.is_some_and(|was| was.same_but_time(now));
        assert!(
            unchanged || meant && is_outcome(op, was, now),
            "died in {op:?}: {id} was {was:?}, is {now:?}"
        );
    }
}

/// What the operation makes of a ticket: the table of transitions.
fn is_outcome(op: Op, was: Option<&Known>, now: &Known) -> bool {
    let Some(was) = was else {
        return matches!(op, Op::Enqueue(_)) && now.state == Some(State::Ready);
    };
    let used = was.attempt;
    let active = was.state == Some(State::Active);
    let failed = was.state == Some(State::Failed);
    let corrupt = was.state == Some(State::Corrupt);
    let counted = if used < MAX_ATTEMPTS {
        State::Deferred
    } else {
        State::Failed
    };
    let expected = match op {
        Op::Claim if was.state == Some(State::Ready) => was.moved(State::Active, 1),
        Op::Claim if was.state != Some(State::Deferred) => return false,
        Op::Claim if used >= MAX_ATTEMPTS && !was.receipt => was.moved(State::Failed, used),
        Op::Claim => was.moved(State::Active, used + 1),
        Op::RetryAll if failed => was.moved(State::Ready, 0),
        Op::RetryOne(_) if failed || corrupt => was.moved(State::Ready, 0),
        _ if !active => return false,
        Op::WriteReceipt(_) => Known {
            receipt: true,
            ..was.clone()
        },
        Op::Complete(_) => Known {
            state: None,
            attempt: 0,
            ..was.clone()
        },
        Op::Retry(_) => was.moved(counted, used),
        Op::Reap if !was.receipt => was.moved(counted, used),
        Op::NotNow(_) => was.moved(State::Deferred, used - 1),
        Op::Dead(_) => was.moved(State::Failed, used),
        Op::Corrupt(_) => was.moved(State::Corrupt, used),
        Op::Release(_) if used == 1 => was.moved(State::Ready, 0),
        Op::Release(_) => was.moved(State::Deferred, used - 1),
        _ => return false,
    };
    expected.same_but_time(now)
}

fn is_available(known: &Known, now: SystemTime) -> bool {
    let ahead = known.not_before.duration_since(now).unwrap_or_default();
    match known.state {
        Some(State::Ready) => true,
        Some(State::Deferred) => ahead.is_zero() || ahead > LONGEST_DELAY,
        _ => false,
    }
}

fn pictures_agree(before: &Picture, after: &Picture) -> bool {
    before.len() == after.len()
        && before
            .iter()
            .all(|(id, was)| after.get(id).is_some_and(|now| was.same_but_time(now)))
}

fn lease_index(op: Op) -> Option<usize> {
    match op {
        Op::WriteReceipt(index)
        | Op::Complete(index)
        | Op::Retry(index)
        | Op::NotNow(index)
        | Op::Dead(index)
        | Op::Corrupt(index)
        | Op::Release(index)
        | Op::Drop(index) => Some(index),
        _ => None,
    }
}

fn open(dir: &Path, clock: &Arc<TestClock>, disk: &Arc<DyingDisk>) -> DirectoryQueue {
    let options = Options {
        max_attempts: MAX_ATTEMPTS,
        clock: Arc::clone(clock) as Arc<dyn WallClock>,
        disk: Arc::clone(disk) as Arc<dyn Disk>,
        ..Options::default()
    };
    DirectoryQueue::open(dir, options).unwrap()
}

fn ticket(number: u8) -> Ticket {
    ticket_for(&format!("{number}.mp4"))
}

fn receipt(lease: &Lease) -> Receipt {
    Receipt {
        version: RECEIPT_VERSION,
        id: lease.ticket().id().to_owned(),
        stem: lease.stem().clone(),
        attempt: lease.attempt(),
        input: facts("in", b"in"),
        output: facts("out", b"out"),
        original: OriginalFate::Kept,
        original_dir: None,
        plugin: None,
        frames: 0,
        heads: 0,
        tracks: 0,
        started: Timestamp::UNIX_EPOCH,
        finished: Timestamp::UNIX_EPOCH,
        extra: serde_json::Map::new(),
    }
}

/// `TICKET_QUEUE_LONG=1` runs the long form.
fn config() -> ProptestConfig {
    let cases = if std::env::var_os("TICKET_QUEUE_LONG").is_some() {
        5000
    } else {
        150
    };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_queue_does_what_the_model_says(ops in prop::collection::vec((op(), death()), 1..60)) {
        let mut run = Run::new();
        for (op, death) in ops {
            run.apply(op, death);
        }
    }
}
