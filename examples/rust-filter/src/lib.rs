//! Example of a frame filter plugin: takes the colour out of every frame.
//!
//! Build: `cargo build --release`, then in the processor's settings:
//! `"blur_module_path": "examples/rust-filter/target/release/libgrey_filter.so"`

use plugin_abi::{
    Change, CreateContext, Failure, FrameFilter, FrameViewMut, PixelFormat, export_plugin,
};

/// Chroma sample that means "no colour".
const NEUTRAL: u8 = 128;

struct GreyFilter;

impl FrameFilter for GreyFilter {
    const NAME: &'static str = "grey-filter";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    fn create(_context: &CreateContext<'_>) -> Result<Self, Failure> {
        Ok(Self)
    }

    // In I420 brightness and colour are planes of their own.
    fn format(&self) -> Option<PixelFormat> {
        Some(PixelFormat::I420)
    }

    fn process(&mut self, frame: &mut FrameViewMut<'_>) -> Result<Change, Failure> {
        let info = *frame.info();
        let mut change = Change::Unchanged;
        for plane in 1..info.format.planes() {
            let (_, rows) = info.format.plane_size(plane, info.width, info.height);
            for y in 0..rows {
                let row = frame.row_mut(plane, y);
                if row.iter().any(|&sample| sample != NEUTRAL) {
                    row.fill(NEUTRAL);
                    change = Change::Changed;
                }
            }
        }
        // The host may copy frames that are unchanged instead of encoding them.
        Ok(change)
    }
}

export_plugin!(filter GreyFilter);
