//! A durable queue of tickets in a directory: put, claim, finish, retry, recover.
//!
//! The crate knows nothing of video. It touches the queue directory, and, through [`beneath`]
//! and [`publish`], the raw, output and backup directories that its caller names. It opens no
//! socket, starts no process and writes no log.
//!
//! ```
//! use ticket_queue::{DirectoryQueue, Enqueued, Failure, Options, Queue, Ticket};
//!
//! # fn main() -> Result<(), ticket_queue::Error> {
//! # let dir = std::env::temp_dir().join(format!("ticket-queue-doc-{}", std::process::id()));
//! let queue = DirectoryQueue::open(&dir, Options::default())?;
//! let ticket = Ticket { filepath: "yard/yard_1.mp4".to_owned(), ..Ticket::default() };
//! assert!(matches!(queue.enqueue(&ticket)?, Enqueued::New(_)));
//! assert!(matches!(queue.enqueue(&ticket)?, Enqueued::Duplicate(_)));
//!
//! let lease = queue.claim()?.expect("a ticket is there");
//! assert_eq!(lease.ticket().filepath, "yard/yard_1.mp4");
//! queue.fail(lease, Failure::Dead { reason: "cannot be decoded".to_owned() })?;
//! assert_eq!(queue.stats()?.failed, 1);
//! # std::fs::remove_dir_all(&dir).ok();
//! # Ok(())
//! # }
//! ```
//!
//! # States
//! A ticket's state is the directory it lies in, its attempt stands in its name, and each
//! transition is one rename made by whoever holds the kernel lock (`flock`) on the ticket's inode.
//!
//! | where | state |
//! |---|---|
//! | `queue_*.json` | ready, never tried (or put back by [`Queue::retry`] or [`Queue::release`]) |
//! | `.tmp/` | a writer's scratch |
//! | `active/<stem>.aN.json` | claimed, attempt N; the owner holds the lock |
//! | `deferred/<stem>.aN.json` | N attempts used; modification time = not before |
//! | `failed/<stem>.aN.json` | given up after N attempts; the reason is in `<stem>.why.json` |
//! | `corrupt/<stem>.json` | unreadable or refused; the reason is in `<stem>.why.json` |
//! | `done/<stem>.json` | the receipt; the ticket itself is gone |
//!
//! | from | by | to |
//! |---|---|---|
//! | `.tmp` | [`Queue::enqueue`] | ready |
//! | ready, deferred aN | [`Queue::claim`] | active a1, active aN+1 |
//! | ready, deferred | [`Queue::claim`] of an unreadable ticket | corrupt |
//! | active aN | [`Failure::Retry`], or the owner died and [`Queue::reap`] | deferred aN (due at once after the first death); failed aN when N is the last |
//! | active aN | [`Failure::NotNow`] | deferred aN-1 |
//! | active aN | [`Queue::release`] | ready (N = 1), deferred aN-1 |
//! | active aN | [`Failure::Dead`], [`Failure::Corrupt`] | failed aN, corrupt |
//! | active | [`Queue::complete`], needs the receipt | gone |
//! | failed, corrupt | [`Queue::retry`] | ready |
//!
//! # Invariants
//! - A ticket's content is written once and never changed, and a stem is never used twice.
//! - Nobody renames or unlinks a ticket without its lock. Lock first, rename second: the other
//!   order gave 28 to 51 double claims in 3,000 tickets under random `kill -9`.
//! - There is no pid, no lease time and no clock in a claim: the kernel frees the lock when the
//!   owner dies. Dropping a [`Lease`] is the same as dying with it.
//! - An attempt is counted by the claim's rename, before any work, so a ticket that kills its
//!   worker runs out of attempts.
//! - Every step that changes the disk goes through a [`protocol::Disk`] under its name, so that a
//!   test can kill the process, cut the power or leave the step out at any of them.

pub mod beneath;
mod directory;
pub mod durable;
mod error;
mod local;
mod names;
pub mod protocol;
pub mod publish;
mod queue;
mod receipt;
mod ticket;

pub use directory::{DirectoryQueue, Options, SystemWallClock, WallClock};
pub use error::Error;
pub use names::{AttemptName, InvalidStem, Stem, ticket_file_name};
pub use queue::{
    Enqueued, Entry, Failed, Failure, Held, Lease, Queue, Reaped, RetryWhich, State, Stats, Why,
};
pub use receipt::{FileFacts, OriginalFate, PluginFacts, RECEIPT_VERSION, Receipt};
pub use ticket::{CutReason, MAX_TICKET_BYTES, TICKET_VERSION, Ticket, TicketError};
