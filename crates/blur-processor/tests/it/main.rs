//! The real program on real videos, in directories of its own.

mod chain;
mod commands;
mod fail_closed;
mod inputs;
mod recovery;
mod splicing;
mod support;
