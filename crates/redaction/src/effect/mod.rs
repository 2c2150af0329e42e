//! Effects on planes: what stands in a mask's place.
//!
//! All effects are one thing, a coarse grid of cells stretched over the mask's box:
//! - `Blur`: at most 6 x 8 cells of mean colour, noised, quantised, then interpolated for looks;
//! - `Mosaic`: the same cells, not interpolated;
//! - `Solid`: a single cell of one fixed colour.
//!
//! Why cells and not a Gaussian: a blur with a fixed kernel can be undone or matched (arXiv
//! 2506.12344: 95.9 % re-identified), a mosaic can be undone from several frames (arXiv
//! 2009.13856). Hence the grid hangs on the head, not on the picture, its colours stay frozen for
//! about a second, and the noise of a cell stays the same for the track's whole life, so that
//! averaging over frames gains nothing.

mod cells;
mod paint;

use std::collections::HashMap;
use std::time::Duration;

use crate::geometry::{PictureSize, Rect};
use crate::mask::{FrameMasks, Mask, RowPairs, Shape, TrackId};
use crate::planes::YuvPlanes;
use cells::{Cells, Roughness};

/// Most cells across a mask's box.
pub const MAX_COLUMNS: usize = 6;
/// Most cells down a mask's box.
pub const MAX_ROWS: usize = 8;
/// Cells are at least this many luma pixels wide and high, so that small heads get fewer.
pub const MIN_CELL: usize = 6;
/// Most cells down the whole picture when all of it is hidden: a head of a third of the picture's
/// height spans [`MAX_ROWS`] of them.
pub const WHOLE_FRAME_ROWS: usize = 3 * MAX_ROWS;

/// `blur_strength` and `blur_kernel_size` up to here mean the floor above.
const FLOOR_STRENGTH: u32 = 15;

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
    /// `blur_strength`: 15 and below is the floor; above it cells grow in proportion (30: cells
    /// twice as wide and high).
    pub strength: u32,
    /// `blur_kernel_size`: as `strength`; the larger of the two counts.
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
            strength: FLOOR_STRENGTH,
            kernel_size: FLOOR_STRENGTH,
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
    frozen: HashMap<TrackId, Frozen>,
}

#[derive(Debug)]
struct Frozen {
    since: f64,
    cells: Cells,
}

impl Redactor {
    /// A redactor without any frozen cells yet.
    pub fn new(settings: EffectSettings) -> Self {
        Self {
            settings,
            frozen: HashMap::new(),
        }
    }

    /// Hides in `planes` what `masks` says, in place; the whole picture in the doubt state. Frames
    /// must come in display order (the frozen cells live by [`FrameMasks::time`]).
    pub fn apply(&mut self, planes: &mut YuvPlanes<'_>, masks: &FrameMasks) {
        if masks.whole_frame {
            self.whole_frame(planes);
            return;
        }
        let freeze = self.settings.freeze.as_secs_f64();
        self.frozen
            .retain(|_, frozen| (0.0..freeze).contains(&(masks.time - frozen.since)));
        let size = size_of(planes);
        // Sample everything before anything is painted: overlapping masks must not depend on
        // their order.
        let spans: Vec<RowPairs> = masks
            .masks
            .iter()
            .map(|mask| mask.shape.spans(size))
            .collect();
        for (mask, spans) in masks.masks.iter().zip(&spans) {
            if !spans.is_empty() && !self.frozen.contains_key(&mask.track) {
                let cells = self.sample(planes, mask);
                self.frozen.insert(
                    mask.track,
                    Frozen {
                        since: masks.time,
                        cells,
                    },
                );
            }
        }
        for (mask, spans) in masks.masks.iter().zip(&spans) {
            if let Some(frozen) = self.frozen.get(&mask.track) {
                paint::paint(planes, &frozen.cells, &mask.shape.bounds(), spans);
            }
        }
    }

    /// Destroys the whole picture: the built-in blur (`blur_module_path` null) and the doubt
    /// state. Heads up to a third of the picture's height are left with at most 8 cells down.
    pub fn whole_frame(&mut self, planes: &mut YuvPlanes<'_>) {
        let bounds = Rect::from(size_of(planes));
        let rows = self.coarser(WHOLE_FRAME_ROWS.min(planes.height().div_ceil(MIN_CELL)));
        // Square cells: as wide as they are high.
        let columns = (planes.width() * rows)
            .div_ceil(planes.height())
            .clamp(1, planes.width());
        let cells = match self.settings.effect {
            Effect::Solid => Cells::solid(self.settings.solid),
            Effect::Blur | Effect::Mosaic => {
                let noise = cells::Noise::new(self.settings.seed, u64::MAX);
                Cells::sample(planes, &bounds, (columns, rows), Roughness::PICTURE, &noise)
            }
        };
        let cells = self.finished(cells);
        paint::paint(
            planes,
            &cells,
            &bounds,
            &Shape::Rectangle(bounds).spans(size_of(planes)),
        );
    }

    fn sample(&self, planes: &mut YuvPlanes<'_>, mask: &Mask) -> Cells {
        if self.settings.effect == Effect::Solid {
            return Cells::solid(self.settings.solid);
        }
        let bounds = mask.shape.bounds();
        let fitting = |length: f32, most: usize| ((length as usize) / MIN_CELL).clamp(2, most);
        let columns = self.coarser(fitting(bounds.width, MAX_COLUMNS));
        let rows = self.coarser(fitting(bounds.height, MAX_ROWS));
        let noise = cells::Noise::new(self.settings.seed, mask.track.0);
        self.finished(Cells::sample(
            planes,
            &bounds,
            (columns, rows),
            Roughness::HEAD,
            &noise,
        ))
    }

    fn finished(&self, cells: Cells) -> Cells {
        if self.settings.effect == Effect::Mosaic {
            cells.with_hard_edges()
        } else {
            cells
        }
    }

    /// A cell count lowered by the settings' strength; never raised, at least 1.
    fn coarser(&self, cells: usize) -> usize {
        let strength = self
            .settings
            .strength
            .max(self.settings.kernel_size)
            .max(FLOOR_STRENGTH);
        ((cells as u64 * u64::from(FLOOR_STRENGTH) / u64::from(strength)) as usize).max(1)
    }
}

fn size_of(planes: &YuvPlanes<'_>) -> PictureSize {
    PictureSize {
        width: planes.width() as u32,
        height: planes.height() as u32,
    }
}
