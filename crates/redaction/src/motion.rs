//! Cheap image matching on a small grey picture of each frame.
//!
//! A [`Patch`] is cut from one picture and looked for in another by normalised cross-correlation,
//! which does not mind brightness and contrast changing. Parts beyond the picture's edge are left
//! out of the comparison, so that a head can be followed while it leaves. Some 10 to 40 us a
//! search.

use crate::geometry::{PictureSize, Rect};

/// A small grey picture of a whole frame, e.g. 320 x 180.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LumaPicture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl LumaPicture {
    /// A picture of `width` x `height` bytes without padding; `None` if the length does not fit
    /// or a side is 0.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Option<Self> {
        let fits = width > 0 && height > 0 && width.checked_mul(height) == Some(pixels.len());
        fits.then_some(Self {
            width,
            height,
            pixels,
        })
    }

    /// Scales a luma plane down to at most `max_width` columns by averaging whole-number blocks
    /// (1080p to 320 x 180: blocks of 6 x 6); for hosts without a scaler at hand.
    ///
    /// # Panics
    /// If the plane is smaller than `size` and `stride` say.
    pub fn scaled_down(luma: &[u8], stride: usize, size: PictureSize, max_width: u32) -> Self {
        let block = size.width.div_ceil(max_width.max(1)).max(1) as usize;
        let (width, height) = (size.width as usize / block, size.height as usize / block);
        let (width, height) = (width.max(1), height.max(1));
        // 16 bits hold the sum of 257 rows; more would not make the mean any better.
        let rows_per_block = block.min(size.height as usize).min(257);
        let columns_per_block = block.min(size.width as usize);
        let samples = (rows_per_block * columns_per_block) as u32;
        let used = width * columns_per_block;
        let mut sums = vec![0u16; used];
        let mut pixels = Vec::with_capacity(width * height);
        for top in (0..height).map(|y| y * block) {
            sums.fill(0);
            for row in (top..top + rows_per_block).map(|y| &luma[y * stride..][..used]) {
                for (sum, &pixel) in sums.iter_mut().zip(row) {
                    *sum += u16::from(pixel);
                }
            }
            match (columns_per_block, rows_per_block) {
                // Of 1080p and 4K to 320 columns: numbers known to the compiler spare a third of the time.
                (6, 6) => pixels.extend(means::<6>(&sums)),
                (12, 12) => pixels.extend(means::<12>(&sums)),
                (columns, _) => {
                    let blocks = sums.chunks_exact(columns);
                    pixels.extend(blocks.map(|block| mean(block, samples)));
                }
            }
        }
        Self {
            width,
            height,
            pixels,
        }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, row by row.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The pixels within a box of the full picture, row by row.
    pub(crate) fn part(&self, rect: &Rect, size: PictureSize) -> impl Iterator<Item = u8> + '_ {
        let whole = Rect::new(0.0, 0.0, self.width as f32, self.height as f32);
        let part = self.to_small(rect, size).intersection(&whole);
        let left = (part.x as usize).min(self.width);
        let right = (part.right().ceil() as usize).clamp(left, self.width);
        let rows = part.y as usize..(part.bottom().ceil() as usize).min(self.height);
        rows.flat_map(move |y| self.pixels[y * self.width..][left..right].iter().copied())
    }

    /// A full-picture box in this picture's pixels.
    pub fn to_small(&self, rect: &Rect, size: PictureSize) -> Rect {
        let fx = self.width as f32 / size.width as f32;
        let fy = self.height as f32 / size.height as f32;
        Rect::new(rect.x * fx, rect.y * fy, rect.width * fx, rect.height * fy)
    }
}

/// Of square blocks.
fn means<const BLOCK: usize>(sums: &[u16]) -> impl Iterator<Item = u8> + '_ {
    let (blocks, _) = sums.as_chunks::<BLOCK>();
    let samples = (BLOCK * BLOCK) as u32;
    blocks.iter().map(move |block| mean(block, samples))
}

/// Of `samples` pixels, of which the columns' sums are given.
#[inline]
fn mean(sums: &[u16], samples: u32) -> u8 {
    let sum: u32 = sums.iter().map(|&sum| u32::from(sum)).sum();
    ((sum + samples / 2) / samples) as u8
}

/// Patches are compared on at most this many samples a side; larger ones are thinned out.
const MOST_SAMPLES: usize = 16;
/// ... and are cut at least this many pixels wide and high: less says too little.
const LEAST_SIDE: f32 = 7.0;
/// This many of the best places on a coarse grid are searched around: sharp detail shows only close
/// to the right place.
const CANDIDATES: usize = 4;
/// From this similarity on, what is found by climbing from where a patch is expected is the patch: no wider search.
const UNMISTAKABLE: f32 = 0.9;
/// Less than this at the expected place is not worth climbing from.
const WORTH_CLIMBING: f32 = 0.6;
/// Below this standard deviation (grey levels) a patch is too plain to be found again.
const PLAIN: f32 = 3.0;

/// A row of samples.
type Lane = [u8; MOST_SAMPLES];

/// A piece of a picture to be found again in another one.
#[derive(Clone, Debug)]
pub struct Patch {
    columns: usize,
    rows: usize,
    spacing: usize,
    samples: Vec<u8>,
    /// The rows of samples with zeros behind them, where every pixel is a sample.
    lanes: Vec<Lane>,
    /// Of all samples, and of their squares.
    sum: i32,
    squares: i32,
    /// From the box's centre to the patch's first sample.
    offset: (f32, f32),
}

/// Where a patch was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The box's centre in small-picture pixels, finer than a pixel.
    pub centre: (f32, f32),
    /// Normalised cross-correlation, -1..=1; 1 is the same up to brightness and contrast.
    pub similarity: f32,
}

impl Patch {
    /// Cuts the core of a box (in small-picture pixels); `None` if too little of it lies inside or
    /// it is too plain.
    pub fn cut(picture: &LumaPicture, rect: &Rect) -> Option<Self> {
        // The corners of a head's box are background, which would hold the patch back.
        let (width, height) = (0.8 * rect.width, 0.8 * rect.height);
        let core = Rect::centred(rect.centre(), width.max(LEAST_SIDE), height.max(LEAST_SIDE));
        let inside = core.intersection(&Rect::new(
            0.0,
            0.0,
            picture.width as f32,
            picture.height as f32,
        ));
        if !core.is_sound() || inside.width < 4.0 || inside.height < 4.0 {
            return None;
        }
        let (left, top) = (inside.x.round() as usize, inside.y.round() as usize);
        let width = (inside.width as usize).min(picture.width - left);
        let height = (inside.height as usize).min(picture.height - top);
        let spacing = width.max(height).div_ceil(MOST_SAMPLES);
        let (columns, rows) = (width.div_ceil(spacing), height.div_ceil(spacing));
        let row = |y: usize| &picture.pixels[(top + y * spacing) * picture.width + left..][..width];
        let samples: Vec<u8> = (0..rows)
            .flat_map(|y| row(y).iter().step_by(spacing))
            .copied()
            .collect();
        let centre = rect.centre();
        let offset = (left as f32 - centre.0, top as f32 - centre.1);
        let mut sums = Sums::default();
        sums.add(&samples, samples.iter());
        let (sum, squares) = (sums.ours, sums.ours_squared);
        let spread = sums.spread(samples.len() as f32);
        let lane = |row: &[u8]| {
            let mut lane = [0; MOST_SAMPLES];
            lane[..row.len()].copy_from_slice(row);
            lane
        };
        let lanes = match spacing {
            1 => samples.chunks_exact(columns).map(lane).collect(),
            _ => Vec::new(),
        };
        let patch = Self {
            columns,
            rows,
            spacing,
            samples,
            lanes,
            sum,
            squares,
            offset,
        };
        (spread >= PLAIN * PLAIN).then_some(patch)
    }

    /// The best place within `radius` pixels of `centre`; `None` if the patch would lie mostly
    /// outside everywhere.
    pub fn find(&self, picture: &LumaPicture, centre: (f32, f32), radius: f32) -> Option<Found> {
        let start = (
            (centre.0 + self.offset.0).round(),
            (centre.1 + self.offset.1).round(),
        );
        let reachable = |value: f32| value.is_finite() && value.abs() < 1e6;
        if !reachable(start.0) || !reachable(start.1) {
            return None;
        }
        let start = (start.0 as i32, start.1 as i32);
        let radius = radius.clamp(1.0, 64.0);
        let (fine, similarity) = match self.climb(picture, start, radius) {
            Some(top) => top,
            None => self.search(picture, start, radius)?,
        };
        let shift = self.below_pixel(picture, fine, similarity);
        let centre = |at: i32, shift: f32, offset: f32| at as f32 + shift - offset;
        Some(Found {
            centre: (
                centre(fine.0, shift.0, self.offset.0),
                centre(fine.1, shift.1, self.offset.1),
            ),
            similarity,
        })
    }

    /// Uphill from the expected place, a pixel at a time; `None` if that leads to nothing unmistakable within
    /// `radius`. Most things move as they did before, and are found after a tenth of a search.
    fn climb(
        &self,
        picture: &LumaPicture,
        start: (i32, i32),
        radius: f32,
    ) -> Option<((i32, i32), f32)> {
        let mut here = (start, self.similarity(picture, start)?);
        if here.1 < WORTH_CLIMBING {
            return None;
        }
        for _ in 0..radius as i32 {
            let around = (-1..=1).flat_map(|y| (-1..=1).map(move |x| (x, y)));
            let places = around.map(|(x, y)| (here.0.0 + x, here.0.1 + y));
            let others = places.filter(|at| *at != here.0);
            let judged = others.filter_map(|at| Some((at, self.similarity(picture, at)?)));
            match judged.max_by(|a, b| a.1.total_cmp(&b.1)) {
                Some(better) if better.1 > here.1 => here = better,
                _ => return (here.1 >= UNMISTAKABLE).then_some(here),
            }
        }
        None
    }

    /// The best place within `radius` of `start`, and the similarity there.
    fn search(
        &self,
        picture: &LumaPicture,
        start: (i32, i32),
        radius: f32,
    ) -> Option<((i32, i32), f32)> {
        // Every other pixel leads to the right one.
        let spacing = (self.spacing as i32).max(if radius > 3.0 { 2 } else { 1 });
        let steps = (radius / spacing as f32).ceil() as i32;
        let judge = |at: (i32, i32)| {
            let away = ((at.0 - start.0) as f32).hypot((at.1 - start.1) as f32) / radius;
            // Among equals the nearest: plain stripes match all along themselves.
            Some((at, self.similarity(picture, at)? - 0.015 * away * away))
        };
        let places = (-steps..=steps).flat_map(|y| (-steps..=steps).map(move |x| (x, y)));
        let mut coarse: Vec<((i32, i32), f32)> = places
            .filter_map(|(x, y)| judge((start.0 + x * spacing, start.1 + y * spacing)))
            .collect();
        coarse.sort_by(|a, b| b.1.total_cmp(&a.1));
        let around = spacing - 1;
        let near = |at: (i32, i32)| {
            let shifts =
                (-around..=around).flat_map(move |y| (-around..=around).map(move |x| (x, y)));
            shifts.map(move |(x, y)| (at.0 + x, at.1 + y))
        };
        let fine = coarse
            .iter()
            .take(CANDIDATES)
            .flat_map(|&(at, _)| near(at))
            .filter_map(judge);
        let (fine, _) = fine.max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some((fine, self.similarity(picture, fine)?))
    }

    /// The top of the parabola through the best place and its neighbours, per axis.
    fn below_pixel(&self, picture: &LumaPicture, at: (i32, i32), here: f32) -> (f32, f32) {
        let top = |before: Option<f32>, after: Option<f32>| {
            let (Some(before), Some(after)) = (before, after) else {
                return 0.0;
            };
            let bend = before - 2.0 * here + after;
            if bend < -1e-6 {
                (0.5 * (before - after) / bend).clamp(-0.5, 0.5)
            } else {
                0.0
            }
        };
        let similarity = |dx, dy| self.similarity(picture, (at.0 + dx, at.1 + dy));
        (
            top(similarity(-1, 0), similarity(1, 0)),
            top(similarity(0, -1), similarity(0, 1)),
        )
    }

    /// Normalised cross-correlation with the patch's first sample at `at`, over what lies inside
    /// the picture; `None` if that is less than a third of the patch.
    fn similarity(&self, picture: &LumaPicture, (x, y): (i32, i32)) -> Option<f32> {
        let columns = inside(x, self.spacing, self.columns, picture.width);
        let rows = inside(y, self.spacing, self.rows, picture.height);
        let count = columns.len() * rows.len();
        if 3 * count < self.samples.len() {
            return None;
        }
        if count == self.samples.len()
            && self.spacing == 1
            && let Some(sums) = self.sums_inside(picture, (x as usize, y as usize))
        {
            return Some(sums.correlation(count as f32));
        }
        let mut sums = Sums::default();
        for row in rows {
            let ours = &self.samples[row * self.columns..][columns.clone()];
            let top = (y + (row * self.spacing) as i32) as usize;
            let left = (x + (columns.start * self.spacing) as i32) as usize;
            let theirs = &picture.pixels[top * picture.width + left..(top + 1) * picture.width];
            sums.add(ours, theirs.iter().step_by(self.spacing));
        }
        Some(sums.correlation(count as f32))
    }

    /// The sums for the common case: all of the patch inside, every pixel a sample; `None` right at the picture's
    /// end. Rows of a length known to the compiler take a third less time.
    fn sums_inside(&self, picture: &LumaPicture, (x, y): (usize, usize)) -> Option<Sums> {
        let mut used = [0; MOST_SAMPLES];
        used[..self.columns].fill(u8::MAX);
        let mut sums = Sums {
            ours: self.sum,
            ours_squared: self.squares,
            ..Sums::default()
        };
        let rows = (y * picture.width + x..).step_by(picture.width);
        for (ours, at) in self.lanes.iter().zip(rows) {
            let theirs = picture.pixels.get(at..)?.first_chunk::<MOST_SAMPLES>()?;
            for ((&a, &b), used) in ours.iter().zip(theirs).zip(used) {
                let (a, b) = (i32::from(a), i32::from(b & used));
                sums.theirs += b;
                sums.theirs_squared += b * b;
                sums.product += a * b;
            }
        }
        Some(sums)
    }
}

#[derive(Default)]
struct Sums {
    ours: i32,
    theirs: i32,
    ours_squared: i32,
    theirs_squared: i32,
    product: i32,
}

impl Sums {
    #[inline]
    fn add<'a>(&mut self, ours: &[u8], theirs: impl Iterator<Item = &'a u8>) {
        for (&a, &b) in ours.iter().zip(theirs) {
            let (a, b) = (i32::from(a), i32::from(b));
            self.ours += a;
            self.theirs += b;
            self.ours_squared += a * a;
            self.theirs_squared += b * b;
            self.product += a * b;
        }
    }

    /// Variance of our own samples.
    fn spread(&self, count: f32) -> f32 {
        let mean = self.ours as f32 / count;
        self.ours_squared as f32 / count - mean * mean
    }

    fn correlation(&self, count: f32) -> f32 {
        let (ours, theirs) = (self.ours as f32 / count, self.theirs as f32 / count);
        let ours_spread = self.spread(count);
        let theirs_spread = self.theirs_squared as f32 / count - theirs * theirs;
        if ours_spread < 1.0 || theirs_spread < 1.0 {
            return 0.0;
        }
        let common = self.product as f32 / count - ours * theirs;
        common / (ours_spread * theirs_spread).sqrt()
    }
}

/// Which of `count` samples, `spacing` apart from `start` on, lie in `0..length`.
fn inside(start: i32, spacing: usize, count: usize, length: usize) -> std::ops::Range<usize> {
    let (start, spacing, length) = (i64::from(start), spacing as i64, length as i64);
    let first = (-start).max(0).div_euclid(spacing) + i64::from((-start).max(0) % spacing != 0);
    let end = (length - start + spacing - 1)
        .div_euclid(spacing)
        .clamp(0, count as i64);
    first.min(end) as usize..end as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Smooth random blobs: `shift` moves them, `gain` changes the contrast.
    fn scene(shift: (f32, f32), gain: f32) -> LumaPicture {
        let value = |x: f32, y: f32| {
            (x * 0.31).sin() + (y * 0.27 + x * 0.05).cos() + (x * 0.11 - y * 0.19).sin()
        };
        let pixels = (0..90).flat_map(|y| (0..160).map(move |x| (x, y)));
        let pixels = pixels.map(|(x, y)| {
            (128.0 + gain * 30.0 * value(x as f32 - shift.0, y as f32 - shift.1)) as u8
        });
        LumaPicture::new(160, 90, pixels.collect()).expect("the right number of pixels")
    }

    #[test]
    fn a_patch_is_found_where_it_went_below_a_pixel() {
        for side in [8.0, 20.0, 40.0] {
            let rect = Rect::centred((80.0, 45.0), side, side);
            let patch = Patch::cut(&scene((0.0, 0.0), 1.0), &rect).expect("textured");
            let found = patch
                .find(&scene((3.4, -2.7), 0.7), (80.0, 45.0), 8.0)
                .expect("inside");
            assert!(found.similarity > 0.95, "{side}: {found:?}");
            let error = (found.centre.0 - 83.4).hypot(found.centre.1 - 42.3);
            assert!(error < 0.6, "{side}: {found:?}");
        }
    }

    #[test]
    fn a_patch_is_followed_over_the_edge() {
        let rect = Rect::centred((6.0, 45.0), 12.0, 12.0);
        let patch = Patch::cut(&scene((0.0, 0.0), 1.0), &rect).expect("textured");
        let found = patch
            .find(&scene((-4.0, 0.0), 1.0), (5.0, 45.0), 6.0)
            .expect("partly inside");
        assert!((found.centre.0 - 2.0).abs() < 0.7, "{found:?}");
    }

    #[test]
    fn rows_compared_at_once_say_the_same_as_samples_one_by_one() {
        let (cut_from, other) = (scene((0.0, 0.0), 1.0), scene((1.7, 0.9), 0.8));
        for (width, height) in [(9.0, 12.0), (13.0, 9.0), (20.0, 20.0)] {
            let patch = Patch::cut(&cut_from, &Rect::centred((80.0, 45.0), width, height));
            let patch = patch.expect("textured");
            let (columns, rows) = (patch.columns, patch.rows);
            // All the way into the corner, where a row's end is the picture's.
            for x in 0..=other.width - columns {
                for y in [0, 40, other.height - rows] {
                    let mut sums = Sums::default();
                    for row in 0..rows {
                        let theirs = &other.pixels[(y + row) * other.width + x..][..columns];
                        sums.add(&patch.samples[row * columns..][..columns], theirs.iter());
                    }
                    let one_by_one = sums.correlation(patch.samples.len() as f32);
                    let at_once = patch.similarity(&other, (x as i32, y as i32));
                    assert_eq!(at_once, Some(one_by_one), "{width} x {height} at {x}, {y}");
                }
            }
        }
    }

    #[test]
    fn a_plain_wall_is_no_patch() {
        let wall = LumaPicture::new(160, 90, vec![90; 160 * 90]).expect("the right number");
        assert!(Patch::cut(&wall, &Rect::new(40.0, 40.0, 20.0, 20.0)).is_none());
    }

    #[test]
    fn blocks_are_averaged_and_a_remainder_is_dropped() {
        let luma: Vec<u8> = (0..7 * 5).map(|at| (at % 7 * 10) as u8).collect();
        let small = LumaPicture::scaled_down(
            &luma,
            7,
            PictureSize {
                width: 7,
                height: 5,
            },
            3,
        );
        assert_eq!((small.width(), small.height()), (2, 1));
        assert_eq!(small.pixels(), [10, 40]);
    }
}
