//! One binary for all integration tests of the crate.

mod caption;
mod effects;
mod picture;
mod scene;
mod tracks;
