//! From the host's picture to a network's input: fit, pad, reorder, normalise.

use plugin_abi::FrameView;

/// How a picture is laid into a network's input: scaled to `content`, top left,
/// the rest padded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Letterbox {
    /// Picture as the network sees it, pixels.
    pub(crate) content: (u32, u32),
    /// Input of the network, pixels.
    pub(crate) input: (u32, u32),
    /// Content pixels per picture pixel, x and y.
    pub(crate) scale: (f32, f32),
}

impl Letterbox {
    /// Fits a picture of `size` into `limit`, scaling up by `enlarge` at most,
    /// and rounds the input up to whole multiples of `step`.
    pub(crate) fn fit(size: (u32, u32), limit: (u32, u32), enlarge: f32, step: u32) -> Self {
        let scale = shrink(size, limit).min(enlarge);
        let content = scaled(size, scale, limit);
        Self::with(
            size,
            content,
            (
                content.0.next_multiple_of(step),
                content.1.next_multiple_of(step),
            ),
        )
    }

    /// Fits a picture of `size` into an input that cannot be changed.
    pub(crate) fn into_fixed(size: (u32, u32), input: (u32, u32)) -> Self {
        let content = scaled(size, shrink(size, input), input);
        Self::with(size, content, input)
    }

    fn with(size: (u32, u32), content: (u32, u32), input: (u32, u32)) -> Self {
        let ratio = |a: u32, b: u32| a as f32 / b as f32;
        Self {
            content,
            input,
            scale: (ratio(content.0, size.0), ratio(content.1, size.1)),
        }
    }
}

fn shrink(size: (u32, u32), limit: (u32, u32)) -> f32 {
    let ratio = |a: u32, b: u32| a as f32 / b as f32;
    ratio(limit.0, size.0).min(ratio(limit.1, size.1))
}

fn scaled(size: (u32, u32), scale: f32, limit: (u32, u32)) -> (u32, u32) {
    let side = |n: u32, most: u32| ((n as f32 * scale).round() as u32).clamp(1, most.max(1));
    (side(size.0, limit.0), side(size.1, limit.1))
}

/// What a network wants its numbers to be: `(sample - mean) * factor`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Normal {
    /// Which byte of a BGR pixel each channel takes.
    pub(crate) order: [usize; 3],
    pub(crate) mean: [f32; 3],
    pub(crate) factor: [f32; 3],
    /// Sample value of the padding.
    pub(crate) padding: u8,
}

/// Writes pictures into networks' inputs; keeps its buffers.
#[derive(Debug, Default)]
pub(crate) struct Feeder {
    resized: Vec<u8>,
    rows: Vec<f32>,
    /// Vertical and horizontal, of the sizes last resized from and to.
    taps: (Vec<Tap>, Vec<Tap>),
    sizes: [usize; 4],
}

impl Feeder {
    /// Fills `input` (3 planes of `fit.input` pixels) with a BGR24 frame.
    pub(crate) fn fill(
        &mut self,
        frame: &FrameView<'_>,
        fit: &Letterbox,
        normal: &Normal,
        input: &mut [f32],
    ) {
        let (width, height) = (fit.content.0 as usize, fit.content.1 as usize);
        let info = frame.info();
        if (info.width, info.height) == fit.content {
            let rows = (0..height).map(|y| frame.row(0, y));
            write_planes(rows, width, fit, normal, input);
        } else {
            self.resize(frame, width, height);
            let rows = self.resized.chunks_exact(width * 3);
            write_planes(rows, width, fit, normal, input);
        }
    }

    /// Resizes with a triangle filter as wide as the shrinking asks for, rows
    /// first: that pass runs over whole rows and is the larger one.
    fn resize(&mut self, frame: &FrameView<'_>, width: usize, height: usize) {
        let info = frame.info();
        let sizes = [info.width as usize, info.height as usize, width, height];
        if self.sizes != sizes {
            self.taps = (taps(sizes[1], height), taps(sizes[0], width));
            self.sizes = sizes;
        }
        let (vertical, horizontal) = &self.taps;
        self.resized.resize(width * height * 3, 0);
        // One more than a row: the last pixel is read as if it had a fourth channel.
        self.rows.resize(info.width as usize * 3 + 1, 0.0);
        for (tap, out) in vertical
            .iter()
            .zip(self.resized.chunks_exact_mut(width * 3))
        {
            self.rows.fill(0.0);
            for (y, &weight) in tap.weights.iter().enumerate() {
                let row = frame.row(0, tap.first + y);
                for (sum, &sample) in self.rows.iter_mut().zip(row) {
                    *sum += weight * f32::from(sample);
                }
            }
            for (tap, pixel) in horizontal.iter().zip(out.chunks_exact_mut(3)) {
                // Four channels, the last one's sum unused: they fit one register.
                let mut sum = [0.5f32; 4];
                let pixels = self.rows[tap.first * 3..].windows(4).step_by(3);
                for (&weight, samples) in tap.weights.iter().zip(pixels) {
                    for (sum, sample) in sum.iter_mut().zip(samples) {
                        *sum += weight * sample;
                    }
                }
                for (sample, sum) in pixel.iter_mut().zip(sum) {
                    *sample = sum as u8;
                }
            }
        }
    }
}

fn write_planes<'a>(
    rows: impl Iterator<Item = &'a [u8]>,
    width: usize,
    fit: &Letterbox,
    normal: &Normal,
    input: &mut [f32],
) {
    let (stride, lines) = (fit.input.0 as usize, fit.input.1 as usize);
    let tables: [[f32; 256]; 3] = std::array::from_fn(|channel| {
        std::array::from_fn(|sample| {
            (sample as f32 - normal.mean[channel]) * normal.factor[channel]
        })
    });
    let padding: [f32; 3] =
        std::array::from_fn(|channel| tables[channel][usize::from(normal.padding)]);
    let (first, rest) = input.split_at_mut(stride * lines);
    let (second, third) = rest.split_at_mut(stride * lines);
    let mut planes = [first, second, third];
    let mut used = 0;
    for row in rows {
        let at = used * stride;
        for (channel, plane) in planes.iter_mut().enumerate() {
            let (source, table) = (normal.order[channel], &tables[channel]);
            let line = &mut plane[at..at + stride];
            for (value, pixel) in line.iter_mut().zip(row.chunks_exact(3)) {
                *value = table[usize::from(pixel[source])];
            }
            line[width..].fill(padding[channel]);
        }
        used += 1;
    }
    for (plane, value) in planes.iter_mut().zip(padding) {
        plane[used * stride..].fill(value);
    }
}

/// Where one output sample comes from.
#[derive(Debug)]
struct Tap {
    first: usize,
    /// Sum 1.
    weights: Vec<f32>,
}

fn taps(from: usize, to: usize) -> Vec<Tap> {
    let step = from as f32 / to as f32;
    let support = step.max(1.0);
    (0..to)
        .map(|n| {
            let center = (n as f32 + 0.5) * step;
            let first = (center - support).max(0.0) as usize;
            let last = ((center + support).ceil() as usize).min(from);
            let mut weights: Vec<f32> = (first..last)
                .map(|at| (1.0 - ((at as f32 + 0.5 - center) / support).abs()).max(0.0))
                .collect();
            let sum: f32 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
            Tap { first, weights }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use plugin_abi::{FrameInfo, PixelFormat};

    use super::*;

    const PLAIN: Normal = Normal {
        order: [2, 1, 0],
        mean: [0.0; 3],
        factor: [1.0; 3],
        padding: 7,
    };

    fn fill(size: (u32, u32), fit: &Letterbox, data: &[u8]) -> Vec<f32> {
        let info = FrameInfo::new(PixelFormat::Bgr24, size.0, size.1);
        let frame = FrameView::new(info, &[(data, size.0 as usize * 3)]).expect("fits");
        let mut input = vec![-1.0; (fit.input.0 * fit.input.1 * 3) as usize];
        Feeder::default().fill(&frame, fit, &PLAIN, &mut input);
        input
    }

    #[test]
    fn pictures_are_fitted_and_padded() {
        let fit = Letterbox::fit((1920, 1080), (960, 544), 1.0, 32);
        assert_eq!((fit.content, fit.input), ((960, 540), (960, 544)));
        let small = Letterbox::fit((480, 270), (960, 544), 1.0, 32);
        assert_eq!((small.content, small.input), ((480, 270), (480, 288)));
        let grown = Letterbox::fit((480, 270), (960, 544), 1.5, 32);
        assert_eq!(grown.content, (720, 405));
        let fixed = Letterbox::into_fixed((1920, 1080), (640, 640));
        assert_eq!((fixed.content, fixed.input), ((640, 360), (640, 640)));
    }

    #[test]
    fn channels_are_reordered_and_the_rest_padded() {
        let fit = Letterbox::fit((2, 1), (2, 1), 1.0, 2);
        let input = fill((2, 1), &fit, &[1, 2, 3, 4, 5, 6]);
        assert_eq!(
            input,
            [3.0, 6.0, 7.0, 7.0, 2.0, 5.0, 7.0, 7.0, 1.0, 4.0, 7.0, 7.0]
        );
    }

    #[test]
    fn resizing_keeps_the_mean_and_the_place() {
        let mut data = vec![0u8; 8 * 8 * 3];
        for y in 0..8 {
            for x in 4..8 {
                data[(y * 8 + x) * 3 + 2] = 200;
            }
        }
        let fit = Letterbox::fit((8, 8), (4, 4), 1.0, 1);
        let input = fill((8, 8), &fit, &data);
        let row = &input[..4];
        assert!(row[0] < 1.0 && row[3] > 199.0, "{row:?}");
        let mean = row.iter().sum::<f32>() / 4.0;
        assert!((mean - 100.0).abs() < 1.0, "{row:?}");
    }
}
