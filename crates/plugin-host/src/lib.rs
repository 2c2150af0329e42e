//! Finds, checks, loads and calls one plugin; the only crate that opens shared
//! libraries.
//!
//! Nothing a plugin answers is believed: texts are cut, numbers checked, boxes
//! clipped, an error never turns into "nothing found". What a plugin can still
//! do is crash or hang, which is why the caller runs it in a process of its own.

#![expect(
    unsafe_code,
    reason = "calls into shared libraries through the C interface"
)]

mod error;
pub mod file_checks;
mod instance;
mod plugin;

pub use error::PluginError;
pub use instance::{Instance, MAX_REGIONS};
pub use plugin::{Plugin, PluginInfo};
/// The types that cross the border, for callers that name this crate only.
pub use plugin_abi as abi;
