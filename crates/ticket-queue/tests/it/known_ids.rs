//! Which ids a queue knows while receipts come and go.

use std::fs;
use std::path::Path;

use ticket_queue::{DirectoryQueue, Enqueued, Options, Queue as _, Stem};

use crate::common::{fast_tempdir, ticket_for};

fn open(dir: &Path) -> DirectoryQueue {
    DirectoryQueue::open(dir, Options::default()).unwrap()
}

fn new(put: Enqueued) -> Stem {
    match put {
        Enqueued::New(stem) => stem,
        Enqueued::Duplicate(stem) => panic!("it is there as {stem}"),
    }
}

/// As when a ticket was worked off.
fn finish(dir: &Path, stem: &Stem) {
    let name = format!("{stem}.json");
    fs::rename(dir.join(&name), dir.join("done").join(name)).unwrap();
}

#[test]
fn what_was_a_ticket_is_known_when_it_is_finished() {
    let dir = fast_tempdir();
    let (queue, other) = (open(dir.path()), open(dir.path()));
    let stem = new(queue.enqueue(&ticket_for("a.mp4")).unwrap());
    assert_eq!(other.find("cam/a.mp4").unwrap().as_ref(), Some(&stem));
    finish(dir.path(), &stem);
    for queue in [&queue, &other, &open(dir.path())] {
        let again = queue.enqueue(&ticket_for("a.mp4")).unwrap();
        assert_eq!(again, Enqueued::Duplicate(stem.clone()));
    }
}

#[test]
fn a_receipt_that_was_removed_is_forgotten() {
    let dir = fast_tempdir();
    let queue = open(dir.path());
    let stem = new(queue.enqueue(&ticket_for("a.mp4")).unwrap());
    finish(dir.path(), &stem);
    let again = queue.enqueue(&ticket_for("a.mp4")).unwrap();
    assert_eq!(again, Enqueued::Duplicate(stem.clone()));
    fs::remove_file(dir.path().join("done").join(format!("{stem}.json"))).unwrap();
    assert_ne!(new(queue.enqueue(&ticket_for("a.mp4")).unwrap()), stem);
}

#[test]
fn receipts_are_not_listed_for_each_ticket() {
    let dir = fast_tempdir();
    let queue = open(dir.path());
    new(queue.enqueue(&ticket_for("a.mp4")).unwrap());
    // No ticket of it was ever here: only a listing finds it.
    let listed = dir.path().join("done/queue_20260101_000000_000000.json");
    fs::write(&listed, r#"{"id": "cam/b.mp4"}"#).unwrap();
    new(queue.enqueue(&ticket_for("c.mp4")).unwrap());
    assert_eq!(queue.find("cam/b.mp4").unwrap(), None);
    assert!(open(dir.path()).find("cam/b.mp4").unwrap().is_some());
}
