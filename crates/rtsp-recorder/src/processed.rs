//! What the blur processor leaves in the queue, for tests of what comes after.

use jiff::Timestamp;
use ticket_queue::{DirectoryQueue, FileFacts, OriginalFate, Queue, RECEIPT_VERSION, Receipt};

/// Finishes the next ticket, of a segment of so many bytes.
pub(crate) fn process(queue: &DirectoryQueue, bytes: u64) {
    let lease = queue.claim().expect("a queue").expect("a ticket");
    let ticket = lease.ticket();
    let facts = |path: &str| FileFacts {
        path: path.to_owned(),
        bytes,
        blake3: ticket.blake3.clone().unwrap_or_else(|| "0".repeat(64)),
    };
    let receipt = Receipt {
        version: RECEIPT_VERSION,
        id: ticket.id().to_owned(),
        stem: lease.stem().clone(),
        attempt: lease.attempt(),
        input: facts(ticket.id()),
        output: facts("out.mp4"),
        original: OriginalFate::Kept,
        original_dir: None,
        plugin: None,
        frames: 1,
        heads: 0,
        tracks: 0,
        started: Timestamp::UNIX_EPOCH,
        finished: Timestamp::UNIX_EPOCH,
        extra: serde_json::Map::new(),
    };
    queue.write_receipt(&lease, &receipt).expect("written");
    queue.complete(lease).expect("completed");
}
