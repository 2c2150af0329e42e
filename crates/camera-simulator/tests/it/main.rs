//! Real clients against real cameras over loopback sockets: retina, raw RTSP, and ffmpeg where installed.
#![expect(
    clippy::unwrap_used,
    reason = "these are tests; a panic is how they fail"
)]

mod command;
mod faults;
mod ffmpeg;
mod playing;
mod protocol;
mod support;
