//! The real program on real videos, in directories of its own.
#![expect(clippy::unwrap_used, reason = "a test fails where it is wrong")]

mod bad_disk;
mod cameras;
mod chain;
mod commands;
mod examples;
mod fail_closed;
mod inputs;
mod memory;
mod recovery;
mod sandbox;
mod space;
mod splicing;
mod support;
