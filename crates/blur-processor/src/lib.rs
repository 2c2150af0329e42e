//! Ticket in, verified, published, blurred video out.
//!
//! Two kinds of process from one binary: the dispatcher ([`dispatcher`]), which owns tickets and
//! files and decodes nothing, and workers ([`worker`]), which decode, call the plugin and encode,
//! and own nothing: their files come over a socket ([`protocol`]). What a worker does to one video
//! is [`pipeline`]; the commands for people are [`commands`].
//!
//! Invariants:
//! - A video gets its final name only after it was decoded again and found to have the original's
//!   frames at the original's times, every one of which the plugin answered for.
//! - An original is touched only after the receipt is durable, and only if it is the file that was
//!   read.
//! - Whatever a plugin, a codec or a video does, it costs one attempt of one ticket.

pub mod cli;
pub mod commands;
pub mod dispatcher;
pub mod pipeline;
pub mod plugin;
pub mod protocol;
pub mod report;
pub mod sandbox;
pub mod worker;
