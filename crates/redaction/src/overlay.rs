//! The caption burned into the picture: text, the frame's own recording time, frame i of n.
//!
//! White on a translucent dark box in the top left corner. Letters come from GNU Unifont (16-pixel
//! bitmaps, Hangul included), scaled by a whole number to the picture's height. The box is measured
//! once; letters are drawn into a small bitmap and only those that changed since the last frame
//! are drawn again, so a frame costs one pass over the box.

use crate::planes::{Channels, Grid, YuvPlanes};

/// Rows of a Unifont letter.
const LETTER_ROWS: usize = 16;
/// Unscaled columns of a cell: a narrow letter, or half of a wide one.
const CELL: usize = 8;
/// Unscaled pixels between lines and around the text.
const GAP: usize = 4;
/// The picture is this many unscaled pixels high or more: 2 x at 1080 rows.
const ROWS_PER_SCALE: usize = 540;
/// Luma of letters, brightest white of either range's legal part.
const WHITE: u8 = 235;
/// What is left of the picture under the box, in 1/256.
const SHINE: u16 = 96;

/// What the caption says on one frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverlayLine {
    /// The user's text; may be empty (no line for it then).
    pub text: String,
    /// The frame's own recording time, already written out; may be empty.
    pub time: String,
    /// Number of the frame, from 1.
    pub frame: u64,
    /// How many frames there are; 0 if not known.
    pub frames: u64,
}

impl OverlayLine {
    /// The lines as they are drawn, from the top.
    pub fn lines(&self) -> Vec<String> {
        let frame = match self.frames {
            0 => format!("frame {}", self.frame),
            frames => format!("frame {}/{frames}", self.frame),
        };
        let all = [self.text.clone(), self.time.clone(), frame];
        all.into_iter().filter(|line| !line.is_empty()).collect()
    }
}

/// Draws the caption; letters are rendered once and kept.
#[derive(Debug)]
pub struct Overlay {
    scale: usize,
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    /// 255 where a letter is, 0 elsewhere; `width * height`.
    letters: Vec<u8>,
    /// What stands in `letters`, by line and column.
    written: Vec<Vec<Option<Cell>>>,
}

/// A narrow letter, or one half of a wide one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    letter: char,
    half: usize,
}

impl Overlay {
    /// A caption for pictures of `width` x `height` luma pixels. `widest` is the widest caption to
    /// come (the last frame's, say): the box is measured on it once; what is longer is cut off.
    pub fn new((width, height): (usize, usize), widest: &OverlayLine) -> Self {
        let lines = widest.lines();
        let columns = lines
            .iter()
            .map(|line| cells(line).count())
            .max()
            .unwrap_or(0);
        let wanted_width = 2 * GAP + columns * CELL;
        let wanted_height = GAP + lines.len() * (LETTER_ROWS + GAP);
        // Small pictures get small letters; a box that does not fit at all is cut off.
        let scale = (height / ROWS_PER_SCALE).min(width / wanted_width).max(1);
        let even = |length: usize, most: usize| (length * scale).next_multiple_of(2).min(most);
        let margin =
            |length: usize, most: usize| even(GAP, most.saturating_sub(even(length, most)) & !1);
        let (left, top) = (margin(wanted_width, width), margin(wanted_height, height));
        let (box_width, box_height) = (even(wanted_width, width), even(wanted_height, height));
        Self {
            scale,
            left,
            top,
            width: box_width,
            height: box_height,
            letters: vec![0; box_width * box_height],
            written: vec![vec![None; columns]; lines.len()],
        }
    }

    /// Burns the caption into a picture of the size given to [`Overlay::new`] (another size: the
    /// box is clipped to it).
    pub fn draw(&mut self, planes: &mut YuvPlanes<'_>, line: &OverlayLine) {
        self.write(line);
        for mut grid in planes.grids() {
            match grid.channels {
                Channels::Y => self.blend_luma(&mut grid),
                Channels::U | Channels::V | Channels::Uv => self.blend_chroma(&mut grid),
            }
        }
    }

    /// Brings `letters` up to date: only cells that changed are drawn.
    fn write(&mut self, caption: &OverlayLine) {
        let lines = caption.lines();
        for row in 0..self.written.len() {
            let mut wanted = cells(lines.get(row).map_or("", String::as_str));
            for column in 0..self.written[row].len() {
                let cell = wanted.next();
                if self.written[row][column] != cell {
                    self.written[row][column] = cell;
                    self.draw_cell(row, column, cell);
                }
            }
        }
    }

    fn draw_cell(&mut self, row: usize, column: usize, cell: Option<Cell>) {
        let glyph = cell.and_then(|cell| unifont::get_glyph(cell.letter));
        let skipped = cell.map_or(0, |cell| cell.half * CELL);
        let (x, y) = (GAP + column * CELL, GAP + row * (LETTER_ROWS + GAP));
        for (dy, dx) in (0..LETTER_ROWS).flat_map(|dy| (0..CELL).map(move |dx| (dy, dx))) {
            let on = glyph.is_some_and(|glyph| glyph.get_pixel(skipped + dx, dy));
            self.dot(x + dx, y + dy, if on { 255 } else { 0 });
        }
    }

    /// Sets one unscaled pixel.
    fn dot(&mut self, x: usize, y: usize, value: u8) {
        let (x, y) = (x * self.scale, y * self.scale);
        let end = (x + self.scale).min(self.width);
        for row in y..(y + self.scale).min(self.height) {
            if x < end {
                self.letters[row * self.width + x..row * self.width + end].fill(value);
            }
        }
    }

    fn blend_luma(&self, grid: &mut Grid<'_>) {
        let columns = self.left.min(grid.width)..(self.left + self.width).min(grid.width);
        for y in self.top..(self.top + self.height).min(grid.height) {
            let letters = &self.letters[(y - self.top) * self.width..][..columns.len()];
            for (pixel, &letter) in grid.row_mut(y)[columns.clone()].iter_mut().zip(letters) {
                *pixel = (darkened(*pixel) & !letter) | (WHITE & letter);
            }
        }
    }

    /// Colour fades with the light.
    fn blend_chroma(&self, grid: &mut Grid<'_>) {
        let (sx, sy, step) = (grid.shift_x, grid.shift_y, grid.step());
        let from = (self.left >> sx).min(grid.width) * step;
        let to = ((self.left + self.width).div_ceil(1 << sx)).min(grid.width) * step;
        let rows = self.top >> sy..((self.top + self.height).div_ceil(1 << sy)).min(grid.height);
        for y in rows {
            for sample in &mut grid.row_mut(y)[from..to] {
                *sample = faded(*sample);
            }
        }
    }
}

fn darkened(pixel: u8) -> u8 {
    ((u16::from(pixel) * SHINE + 16 * (256 - SHINE)) >> 8) as u8
}

fn faded(sample: u8) -> u8 {
    ((u16::from(sample) * SHINE + 128 * (256 - SHINE)) >> 8) as u8
}

/// A line's cells: one for a narrow letter, two for a wide one. Letters the font does not have
/// become question marks.
fn cells(line: &str) -> impl Iterator<Item = Cell> + '_ {
    line.chars().flat_map(|letter| {
        let glyph = unifont::get_glyph(letter);
        let letter = if glyph.is_some() { letter } else { '?' };
        let halves = if glyph.is_some_and(unifont::Glyph::is_fullwidth) {
            2
        } else {
            1
        };
        (0..halves).map(move |half| Cell { letter, half })
    })
}
