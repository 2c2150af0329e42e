//! The contract between the blur processor and its plugins.
//!
//! - [`raw`] is the C interface of `include/blur_plugin.h`, for hosts and for
//!   plugins written without the rest of this crate.
//! - [`Detector`], [`FrameFilter`] and [`export_plugin!`] make a plugin in safe
//!   Rust.
//! - [`Region`] and [`FrameView`] are shared by both sides.
//!
//! This crate depends on nothing, so that a plugin may be built anywhere, with
//! any compiler version.

#![expect(
    unsafe_code,
    reason = "the C interface hands over pointers; they become slices here"
)]

mod export;
mod frame;
mod plugin;
pub mod raw;
mod region;

pub use export::table;
pub use frame::{FrameError, FrameInfo, FrameView, FrameViewMut, MAX_SIDE, PixelFormat};
pub use plugin::{
    AsDetector, AsFilter, Change, CreateContext, Detector, Failure, FrameFilter, InstanceInfo,
    Plugin, PluginKind, Wants,
};
pub use region::{Region, RegionKind};
