//! Sources in, finished segment files and one ticket each out.
//!
//! ```text
//!  retina ([`rtsp`]) or FFmpeg's demuxer ([`demux`])
//!     -> [`source`]: schedule, slots, time-outs, retries          (one tokio task per source, one thread for all)
//!     -> [`pipeline`]: times, cuts; pure                          (with [`timeline`], [`reorder`], [`alignment`], [`nal`])
//!     -> [`writer`]: `.part` files, hashed as they grow           (one thread per source)
//!     -> [`finisher`]: ordinary MP4, name, ticket                 (two threads for all)
//! ```
//! [`recover`] does at the next start what a killed recorder left undone; [`disk`] makes room and says when recording
//! must wait, [`disk_watch`] when it is asked; [`run`](mod@run) puts it together.
//!
//! What is absent: the crate never reads pixels (except for sources that are to be encoded again: [`transcode`]), never deletes
//! footage that is not processed, never gives up on a source, and never shows credentials.

pub mod action;
pub mod alignment;
pub mod backoff;
pub mod board;
pub mod changes;
pub mod demux;
pub mod descriptors;
pub mod disk;
pub mod disk_watch;
pub mod finisher;
pub mod frame;
pub mod guard;
pub mod hosts;
pub mod input;
pub mod leave;
pub mod ledger;
pub mod nal;
pub mod names;
pub mod opener;
pub mod outage;
pub mod pipeline;
pub mod probe;
#[cfg(test)]
mod processed;
pub mod recover;
pub mod reorder;
pub mod rtp_order;
pub mod rtsp;
pub mod run;
#[cfg(test)]
mod runtime_clock;
#[cfg(test)]
mod simulation;
pub mod slots;
pub mod sockets;
pub mod sound;
pub mod source;
pub mod stream;
pub mod tail_hash;
pub mod timeline;
pub mod transcode;
pub mod trust;
pub mod writer;
