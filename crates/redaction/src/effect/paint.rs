//! Cells onto rows of samples: integer loops over plain slices, which the compiler turns into SIMD.

use crate::effect::cells::Cells;
use crate::geometry::Rect;
use crate::mask::RowPairs;
use crate::planes::{Channels, Grid, YuvPlanes};

/// Replaces every sample in `spans` by the cells stretched over `bounds`.
pub(super) fn paint(planes: &mut YuvPlanes<'_>, cells: &Cells, bounds: &Rect, spans: &RowPairs) {
    for mut grid in planes.grids() {
        let across = Across::new(cells, bounds, &grid);
        let mut line = Line::default();
        for y in spans.rows(grid.shift_y, grid.height) {
            let Some((from, to)) = spans.columns(y, grid.shift_x, grid.shift_y, grid.width) else {
                continue;
            };
            let down = Down::new(cells, bounds, y, grid.shift_y);
            line.fill(cells, &down, grid.channels);
            paint_row(&mut grid, y, (from, to), &across, &line);
        }
    }
}

fn paint_row(
    grid: &mut Grid<'_>,
    y: usize,
    (from, to): (usize, usize),
    across: &Across,
    line: &Line,
) {
    let channels = grid.channels;
    let row = grid.row_mut(y);
    for segment in &across.segments {
        let (start, end) = (segment.from.max(from), segment.to.min(to));
        if start >= end {
            continue;
        }
        let skipped = (start - segment.from) as i64;
        let first = segment.ramp(&line.values[0], skipped);
        if channels == Channels::Uv {
            let second = segment.ramp(&line.values[1], skipped);
            draw_pairs(&mut row[2 * start..2 * end], first, second);
        } else {
            draw(&mut row[start..end], first);
        }
    }
}

/// A value in 1/65536 and what is added to it from sample to sample.
#[derive(Clone, Copy)]
struct Ramp {
    value: i32,
    step: i32,
}

fn draw(samples: &mut [u8], ramp: Ramp) {
    let mut value = ramp.value;
    for sample in samples {
        *sample = (value >> 16) as u8;
        value = value.wrapping_add(ramp.step);
    }
}

fn draw_pairs(samples: &mut [u8], first: Ramp, second: Ramp) {
    let (mut u, mut v) = (first.value, second.value);
    for pair in samples.as_chunks_mut::<2>().0 {
        *pair = [(u >> 16) as u8, (v >> 16) as u8];
        u = u.wrapping_add(first.step);
        v = v.wrapping_add(second.step);
    }
}

/// The cells' values along one row, in 1/256; two lines for UV pairs.
#[derive(Default)]
struct Line {
    values: [Vec<i32>; 2],
}

impl Line {
    fn fill(&mut self, cells: &Cells, down: &Down, channels: Channels) {
        let wanted: &[usize] = match channels {
            Channels::Y => &[0],
            Channels::U => &[1],
            Channels::V => &[2],
            Channels::Uv => &[1, 2],
        };
        for (line, &channel) in self.values.iter_mut().zip(wanted) {
            let row = |at: usize| &cells.values[channel][at * cells.columns..][..cells.columns];
            let mix = |(&a, &b): (&u8, &u8)| {
                i32::from(a) * 256 + (i32::from(b) - i32::from(a)) * down.share
            };
            line.clear();
            line.extend(row(down.upper).iter().zip(row(down.lower)).map(mix));
        }
    }
}

/// Which two rows of cells a row of samples lies between.
struct Down {
    upper: usize,
    lower: usize,
    /// Share of the lower one in 1/256.
    share: i32,
}

impl Down {
    fn new(cells: &Cells, bounds: &Rect, y: usize, shift: u8) -> Self {
        let luma = (y as f64 + 0.5) * f64::from(1u32 << shift);
        let in_cells = (luma - f64::from(bounds.y)) / f64::from(bounds.height) * cells.rows as f64;
        let last = cells.rows - 1;
        if !cells.smooth {
            let row = (in_cells.max(0.0) as usize).min(last);
            return Self {
                upper: row,
                lower: row,
                share: 0,
            };
        }
        let at = (in_cells - 0.5).clamp(0.0, last as f64);
        let upper = at as usize;
        Self {
            upper,
            lower: (upper + 1).min(last),
            share: (at.fract() * 256.0) as i32,
        }
    }
}

/// How a row of samples is divided among the columns of cells.
struct Across {
    segments: Vec<Segment>,
}

/// Samples `[from, to)` between the centres of two columns.
struct Segment {
    from: usize,
    to: usize,
    left: usize,
    right: usize,
    /// Share of the right one at `from`, in 1/65536.
    share: i64,
    /// How much the share grows per sample, in 1/65536.
    step: i64,
}

impl Segment {
    fn ramp(&self, line: &[i32], skipped: i64) -> Ramp {
        let (left, right) = (i64::from(line[self.left]), i64::from(line[self.right]));
        let rise = right - left;
        let share = (self.share + self.step * skipped).clamp(0, 65_536);
        let value = left * 256 + rise * share / 256;
        Ramp {
            value: value as i32,
            step: (rise * self.step / 256) as i32,
        }
    }
}

impl Across {
    fn new(cells: &Cells, bounds: &Rect, grid: &Grid<'_>) -> Self {
        let scale = f64::from(1u32 << grid.shift_x);
        let cell = f64::from(bounds.width) / cells.columns as f64;
        // The sample whose centre is the first at or right of a place given in cells.
        let place = |in_cells: f64| ((f64::from(bounds.x) + in_cells * cell) / scale - 0.5).ceil();
        let sample = |in_cells: f64| place(in_cells).clamp(0.0, grid.width as f64) as usize;
        let flat = |from, to, column| Segment {
            from,
            to,
            left: column,
            right: column,
            share: 0,
            step: 0,
        };
        if !cells.smooth {
            let segment = |column: usize| {
                let from = if column == 0 {
                    0
                } else {
                    sample(column as f64)
                };
                let last = column + 1 == cells.columns;
                flat(
                    from,
                    if last {
                        grid.width
                    } else {
                        sample(column as f64 + 1.0)
                    },
                    column,
                )
            };
            return Self {
                segments: (0..cells.columns).map(segment).collect(),
            };
        }
        let mut segments = vec![flat(0, sample(0.5), 0)];
        for left in 0..cells.columns - 1 {
            let (from, to) = (sample(left as f64 + 0.5), sample(left as f64 + 1.5));
            let centre = (from as f64 + 0.5) * scale;
            let share = (centre - f64::from(bounds.x)) / cell - 0.5 - left as f64;
            // Steps wider than a cell never get to a second sample.
            let step = (scale / cell).clamp(0.0, 1.0);
            segments.push(Segment {
                from,
                to,
                left,
                right: left + 1,
                share: (share.clamp(0.0, 1.0) * 65_536.0) as i64,
                step: (step * 65_536.0) as i64,
            });
        }
        segments.push(flat(
            sample(cells.columns as f64 - 0.5),
            grid.width,
            cells.columns - 1,
        ));
        Self { segments }
    }
}
