//! Sources in, finished segment files and one ticket each out.

pub mod alignment;
pub mod backoff;
pub mod nal;
pub mod pipeline;
pub mod reorder;
pub mod stream;
pub mod timeline;
#[cfg(test)]
mod simulation;
