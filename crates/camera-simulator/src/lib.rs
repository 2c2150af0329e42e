//! Video files as looping RTSP cameras on this machine, with faults on demand.
//!
//! For tests, for the demo and for trying things out without hardware. Each camera is a live source: its clock
//! runs from the start of the simulator, all its clients see the same moment, and what was sent is on record
//! ([`Simulator::sent`], [`Config::log`]) with a hash of every frame, so that a receiver can be judged.
//!
//! What it may touch: the files it is told to serve (through the `media` crate), one TCP port (or one per
//! camera), UDP ports of sessions, and the log it is told to write. Nothing is listened to outside 127.0.0.1
//! unless [`Config::bind`] says so.
//!
//! Map: `message` (bytes), `auth`, `requests` (one function per method), `connection` (one task each),
//! `session`/`udp` (media out), `camera`/`live` (the live source), `timeline` (its clock), `clip`/`load`/`transcode` (files),
//! `nal`/`rtp`/`sdp` (formats), `fault`, `control` (commands), `record` (ground truth).
//!
//! ```no_run
//! use camera_simulator::{CameraConfig, Config, Fault, Simulator};
//! let simulator = Simulator::start(Config::new([CameraConfig::new("cam0", "clip.mp4")]))?;
//! println!("{}", simulator.url("cam0").expect("it was just configured"));
//! simulator.fault("cam0", &Fault::Loss(5.0))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod auth;
mod camera;
mod clip;
mod config;
mod connection;
pub mod control;
mod fault;
mod live;
mod load;
mod message;
mod nal;
mod record;
mod requests;
mod rtp;
mod sdp;
mod server;
mod session;
mod simulator;
mod timeline;
mod transcode;
mod udp;

pub use auth::{AuthScheme, Credentials};
pub use camera::CameraStats;
pub use clip::Track;
pub use config::{CameraConfig, Config};
pub use fault::{Fault, FaultError, USAGE as FAULT_USAGE};
pub use live::StartAt;
pub use load::{LoadError, LoadOptions};
pub use nal::{VideoCodec, slices_md5};
pub use record::SentUnit;
pub use simulator::{Simulator, StartError};

use md5::{Digest as _, Md5};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; what a panicked holder left behind is still a valid state in this crate (single assignments).
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lower-case hex.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

fn md5_of(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

/// 128 random bits as hex: session ids, nonces.
fn random_id() -> String {
    hex(&rand::random::<[u8; 16]>())
}
