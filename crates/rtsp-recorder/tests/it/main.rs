//! The recorder against simulated cameras, over real sockets, judged by the hashes of the frames on disk.

mod camera_trouble;
mod process;
mod rig;
mod rotation;
mod sources;
