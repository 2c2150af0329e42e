//! The recorder against simulated cameras, over real sockets, judged by the hashes of the frames on disk.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails where something is missing"
)]

mod camera_trouble;
mod disk_trouble;
mod hostile;
mod http;
mod odd_servers;
mod probe;
mod process;
mod quality;
mod rig;
mod rotation;
mod sources;
