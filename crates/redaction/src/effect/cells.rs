//! The coarse grid that stands in a mask's place.

use crate::geometry::Rect;
use crate::planes::{Channels, Grid, YuvPlanes};

/// A grid of colours; nothing else of the original goes into the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cells {
    pub(super) columns: usize,
    pub(super) rows: usize,
    /// Y, U and V, each `columns * rows` values, row by row.
    pub(super) values: [Vec<u8>; 3],
    /// Interpolate between cell centres.
    pub(super) smooth: bool,
}

/// How much noise and how few levels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roughness {
    luma: ChannelRoughness,
    chroma: ChannelRoughness,
}

#[derive(Clone, Copy, Debug)]
struct ChannelRoughness {
    /// Uniform noise of up to this much either way.
    noise: i32,
    /// Distance of the levels that are left.
    level: i32,
}

impl Roughness {
    /// Over a head. Noise 24 and levels of 32 luma steps are the pair measured on the attack
    /// bench (6 blocks: the attacker with the same picture in his gallery drops from 100 to 83 %);
    /// chroma gets less, coloured blotches would catch the eye.
    pub(super) const HEAD: Self = Self {
        luma: ChannelRoughness {
            noise: 24,
            level: 32,
        },
        chroma: ChannelRoughness {
            noise: 8,
            level: 16,
        },
    };
    /// Over the whole picture, where no cells are frozen and scenes should stay discernible.
    pub(super) const PICTURE: Self = Self {
        luma: ChannelRoughness {
            noise: 8,
            level: 16,
        },
        chroma: ChannelRoughness { noise: 4, level: 8 },
    };

    fn of(&self, channel: usize) -> ChannelRoughness {
        if channel == 0 { self.luma } else { self.chroma }
    }
}

impl ChannelRoughness {
    /// Luma levels stay within 16..=235 and chroma within 16..=240, right for either range.
    fn apply(self, mean: u8, noise: u64, channel: usize) -> u8 {
        let spread = (noise % (2 * self.noise as u64 + 1)) as i32 - self.noise;
        let level = (i32::from(mean) + spread + self.level / 2).div_euclid(self.level) * self.level;
        level.clamp(16, if channel == 0 { 235 } else { 240 }) as u8
    }
}

/// Noise that is always the same for one cell of one track.
pub(super) struct Noise {
    key: u64,
}

impl Noise {
    pub(super) fn new(seed: u64, track: u64) -> Self {
        Self {
            key: mix(mix(seed) ^ track),
        }
    }

    fn at(&self, channel: usize, cell: usize) -> u64 {
        mix(self.key ^ ((channel as u64) << 56) ^ cell as u64)
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Cells {
    /// A single cell of a fixed colour.
    pub(super) fn solid(colour: [u8; 3]) -> Self {
        Self {
            columns: 1,
            rows: 1,
            values: colour.map(|value| vec![value]),
            smooth: false,
        }
    }

    /// Mean colours of the picture under `bounds`, roughened. Cells outside the picture take the
    /// nearest samples inside.
    pub(super) fn sample(
        planes: &mut YuvPlanes<'_>,
        bounds: &Rect,
        (columns, rows): (usize, usize),
        roughness: Roughness,
        noise: &Noise,
    ) -> Self {
        let grey = || vec![128; columns * rows];
        let mut values = [grey(), grey(), grey()];
        for grid in planes.grids() {
            let xs = edges(bounds.x, bounds.width, columns, grid.shift_x, grid.width);
            let ys = edges(bounds.y, bounds.height, rows, grid.shift_y, grid.height);
            let cells = ys.iter().flat_map(|y| xs.iter().map(move |x| (x, y)));
            for (cell, (x, y)) in cells.enumerate() {
                for (channel, mean) in means(&grid, x, y) {
                    let rough = roughness.of(channel);
                    values[channel][cell] = rough.apply(mean, noise.at(channel, cell), channel);
                }
            }
        }
        Self {
            columns,
            rows,
            values,
            smooth: true,
        }
    }

    /// The same cells, not interpolated.
    pub(super) fn with_hard_edges(self) -> Self {
        Self {
            smooth: false,
            ..self
        }
    }
}

/// `count` ranges of samples over a length of luma pixels, each at least one sample inside.
fn edges(start: f32, length: f32, count: usize, shift: u8, samples: usize) -> Vec<(usize, usize)> {
    let edge = |at: usize| {
        let luma = f64::from(start) + f64::from(length) * at as f64 / count as f64;
        (luma / f64::from(1u32 << shift))
            .clamp(0.0, samples as f64)
            .round() as usize
    };
    let range = |cell| {
        let from = edge(cell).min(samples - 1);
        (from, edge(cell + 1).max(from + 1))
    };
    (0..count).map(range).collect()
}

/// The channels of a grid with their mean over a block of samples.
fn means(
    grid: &Grid<'_>,
    &(left, right): &(usize, usize),
    &(top, bottom): &(usize, usize),
) -> impl Iterator<Item = (usize, u8)> {
    let count = ((right - left) * (bottom - top)) as u64;
    let mean = move |sum: u64| ((sum + count / 2) / count) as u8;
    let rows = (top..bottom).map(|y| &grid.row(y)[left * grid.step()..right * grid.step()]);
    let (first, second) = match grid.channels {
        Channels::Uv => {
            let sums = rows
                .map(sum_pairs)
                .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
            ((1, mean(sums.0)), Some((2, mean(sums.1))))
        }
        Channels::Y => ((0, mean(rows.map(sum).sum())), None),
        Channels::U => ((1, mean(rows.map(sum).sum())), None),
        Channels::V => ((2, mean(rows.map(sum).sum())), None),
    };
    std::iter::once(first).chain(second)
}

fn sum(row: &[u8]) -> u64 {
    u64::from(row.iter().map(|&sample| u32::from(sample)).sum::<u32>())
}

fn sum_pairs(row: &[u8]) -> (u64, u64) {
    let (u, v) = row
        .as_chunks::<2>()
        .0
        .iter()
        .fold((0u32, 0u32), |(u, v), pair| {
            (u + u32::from(pair[0]), v + u32::from(pair[1]))
        });
    (u64::from(u), u64::from(v))
}
