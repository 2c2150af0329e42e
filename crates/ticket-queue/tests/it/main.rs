//! The queue as its users see it: states, crashes, and many processes at once.
#![expect(
    clippy::unwrap_used,
    reason = "in helpers of tests too, a surprise is a failed test"
)]

#[path = "../common/mod.rs"]
mod common;

mod chaos;
mod crash_points;
mod known_ids;
mod model;
mod no_space;
mod publishing;
mod small_disk;
mod states;
