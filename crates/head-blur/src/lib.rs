//! The default plugin: finds heads, seen from any side.
//!
//! Two small networks share the work: NanoDet-g finds persons, whose head
//! region is taken, also from behind; CenterFace finds faces, which place the
//! head better and are seen where the body is not. Or a user's own YOLO model
//! finds what it was trained for. All in-process, on the CPU.
//!
//! Scores are put on one scale: 0.25 is where a model's threshold lies. What
//! scores less (down to 0.1) is a hint, good for carrying on a track that was
//! already seen, not for starting one.
//!
//! May touch: its model folder, read-only. No network, no other files.

mod animals;
mod boxes;
mod centerface;
pub mod config;
mod detector;
mod engine;
mod fetched;
mod heads;
mod labels;
mod large;
mod layout;
mod nanodet;
mod picture;
mod yolo;

pub use detector::HeadBlur;

plugin_abi::export_plugin!(detector HeadBlur);
