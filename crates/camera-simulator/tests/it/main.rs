//! Real clients against real cameras over loopback sockets: retina, raw RTSP, and ffmpeg where installed.

mod faults;
mod ffmpeg;
mod playing;
mod protocol;
mod support;
