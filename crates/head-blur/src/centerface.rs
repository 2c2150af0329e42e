//! CenterFace (Star-Clouds, MIT), trained on WIDER FACE: finds faces.
//!
//! Outputs at stride 4: heat map (already a probability), size (height, width;
//! logarithm of the size in strides), offset (y, x). As in the original's
//! `decode`, a peak is any cell above the threshold; suppression does the rest.

use plugin_abi::{Failure, FrameView};

use crate::boxes::{Scored, suppress};
use crate::engine::Network;
use crate::picture::{Feeder, Letterbox, Normal};

const STRIDE: f32 = 4.0;
const OVERLAP_LIMIT: f32 = 0.3;
/// Keeps the exponential finite: larger than any picture.
const LARGEST_LOG: f32 = 10.0;

/// Plain RGB, 0..255.
pub(crate) const NORMAL: Normal = Normal {
    order: [2, 1, 0],
    mean: [0.0; 3],
    factor: [1.0; 3],
    padding: 0,
};

/// Finds faces in `frame`; boxes in its pixels.
pub(crate) fn faces(
    network: &mut Network,
    feeder: &mut Feeder,
    frame: &FrameView<'_>,
    fit: &Letterbox,
    threshold: f32,
) -> Result<Vec<Scored>, Failure> {
    let session = network.session(fit.input.0, fit.input.1)?;
    session.run(|input| feeder.fill(frame, fit, &NORMAL, input))?;
    let found = session.output(0, |shape, heat| {
        let grid = Grid::new(shape, heat, 1)?;
        session.output(1, |shape, size| {
            let size = Grid::new(shape, size, 2)?;
            session.output(2, |shape, offset| {
                let offset = Grid::new(shape, offset, 2)?;
                Ok(decode(&grid, &size, &offset, threshold))
            })
        })
    })?;
    Ok(suppress(found, OVERLAP_LIMIT)
        .into_iter()
        .map(|face| face.unscaled(fit.scale))
        .collect())
}

/// One output: `channels` planes of `width` x some cells.
struct Grid<'a> {
    values: &'a [f32],
    width: usize,
    cells: usize,
}

impl<'a> Grid<'a> {
    fn new(shape: &[i64], values: &'a [f32], channels: i64) -> Result<Self, Failure> {
        match *shape {
            [1, n, height, width]
                if n == channels && (n * height * width) as usize == values.len() =>
            {
                Ok(Self {
                    values,
                    width: width as usize,
                    cells: (height * width) as usize,
                })
            }
            _ => Err(format!("CenterFace: unexpected output shape {shape:?}").into()),
        }
    }

    fn at(&self, channel: usize, cell: usize) -> f32 {
        self.values[channel * self.cells + cell]
    }
}

fn decode(heat: &Grid<'_>, size: &Grid<'_>, offset: &Grid<'_>, threshold: f32) -> Vec<Scored> {
    let mut found = Vec::new();
    for (cell, &score) in heat.values.iter().enumerate() {
        if score < threshold {
            continue;
        }
        let height = size.at(0, cell).min(LARGEST_LOG).exp() * STRIDE;
        let width = size.at(1, cell).min(LARGEST_LOG).exp() * STRIDE;
        let x = ((cell % heat.width) as f32 + offset.at(1, cell) + 0.5) * STRIDE;
        let y = ((cell / heat.width) as f32 + offset.at(0, cell) + 0.5) * STRIDE;
        found.push(Scored {
            left: x - width / 2.0,
            top: y - height / 2.0,
            right: x + width / 2.0,
            bottom: y + height / 2.0,
            score: score.min(1.0),
            class: 0,
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_gives_a_box() {
        let mut heat = [0.0; 6];
        heat[4] = 0.9; // column 1, row 1 of 3 x 2
        let log = |strides: f32| strides.ln();
        let size: Vec<f32> = [log(4.0); 6].into_iter().chain([log(2.0); 6]).collect();
        let offset: Vec<f32> = [0.25; 6].into_iter().chain([-0.25; 6]).collect();
        let found = decode(
            &Grid::new(&[1, 1, 2, 3], &heat, 1).expect("heat"),
            &Grid::new(&[1, 2, 2, 3], &size, 2).expect("size"),
            &Grid::new(&[1, 2, 2, 3], &offset, 2).expect("offset"),
            0.2,
        );
        let [face] = found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((face.center_x(), face.center_y()), (5.0, 7.0));
        assert!((face.width() - 8.0).abs() < 1e-4 && (face.height() - 16.0).abs() < 1e-4);
    }

    #[test]
    fn foreign_shapes_are_refused() {
        assert!(Grid::new(&[1, 3, 2, 3], &[0.0; 18], 1).is_err());
        assert!(Grid::new(&[1, 1, 2, 3], &[0.0; 5], 1).is_err());
    }
}
