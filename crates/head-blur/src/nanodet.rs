//! NanoDet-g (RangiLyu, Apache-2.0), trained on COCO: finds persons from any
//! side. Of its other classes only the animals are read: what it takes for a
//! person, and more for an animal, is none.
//!
//! Outputs at strides 8, 16, 32: 80 class logits, then for each side of the box
//! the logits of 11 distances 0..10 strides (Generalized Focal Loss, arXiv
//! 2006.04388); the distance is their softmax-weighted mean.

use std::ops::RangeInclusive;

use plugin_abi::{Failure, FrameView};

use crate::boxes::{Scored, suppress};
use crate::engine::Network;
use crate::picture::{Feeder, Letterbox, Normal};

const CLASSES: usize = 80;
pub(crate) const PERSON: usize = 0;
/// From bird to giraffe in COCO's list.
const ANIMALS: RangeInclusive<usize> = 14..=23;
/// The class of all animals in what is returned: which one it is does not matter.
pub(crate) const ANIMAL: usize = *ANIMALS.start();
const BINS: usize = 11;
const STRIDES: [usize; 3] = [8, 16, 32];
/// As in the model's own configuration.
const OVERLAP_LIMIT: f32 = 0.6;

/// Means and deviations of the model's own configuration, blue first.
pub(crate) const NORMAL: Normal = Normal {
    order: [0, 1, 2],
    mean: [103.53, 116.28, 123.675],
    factor: [1.0 / 57.375, 1.0 / 57.12, 1.0 / 58.395],
    padding: 114,
};

/// Finds persons and animals ([`PERSON`], [`ANIMAL`]) in `frame`; boxes in its pixels.
pub(crate) fn look(
    network: &mut Network,
    feeder: &mut Feeder,
    frame: &FrameView<'_>,
    fit: &Letterbox,
    threshold: f32,
) -> Result<Vec<Scored>, Failure> {
    let session = network.session(fit.input.0, fit.input.1)?;
    session.run(|input| feeder.fill(frame, fit, &NORMAL, input))?;
    let mut found = Vec::new();
    for (index, stride) in STRIDES.into_iter().enumerate() {
        session.output(index, |shape, values| {
            decode(shape, values, stride, threshold, &mut found)
        })?;
    }
    Ok(suppress(found, OVERLAP_LIMIT)
        .into_iter()
        .map(|found| found.unscaled(fit.scale))
        .collect())
}

fn decode(
    shape: &[i64],
    values: &[f32],
    stride: usize,
    threshold: f32,
    found: &mut Vec<Scored>,
) -> Result<(), Failure> {
    let &[1, channels, height, width] = shape else {
        return Err(format!("NanoDet: unexpected output shape {shape:?}").into());
    };
    let (width, cells) = (width as usize, (width * height) as usize);
    if channels as usize != CLASSES + 4 * BINS || values.len() != cells * channels as usize {
        return Err(format!("NanoDet: unexpected output shape {shape:?}").into());
    }
    // The logit of the threshold spares a sigmoid per cell.
    let floor = (threshold / (1.0 - threshold)).ln();
    let in_class = |class: usize| {
        let logits = values[class * cells..(class + 1) * cells]
            .iter()
            .enumerate();
        logits.filter(move |(_, logit)| **logit >= floor)
    };
    let persons = in_class(PERSON).map(|seen| (PERSON, seen));
    let animals = ANIMALS.flat_map(in_class).map(|seen| (ANIMAL, seen));
    for (class, (cell, &logit)) in persons.chain(animals) {
        let reach = |side: usize| {
            let start = CLASSES + side * BINS;
            let bins: [f32; BINS] = std::array::from_fn(|bin| values[(start + bin) * cells + cell]);
            expectation(&bins) * stride as f32
        };
        let x = ((cell % width) as f32 + 0.5) * stride as f32;
        let y = ((cell / width) as f32 + 0.5) * stride as f32;
        found.push(Scored {
            left: x - reach(0),
            top: y - reach(1),
            right: x + reach(2),
            bottom: y + reach(3),
            score: 1.0 / (1.0 + (-logit).exp()),
            class,
        });
    }
    Ok(())
}

/// Mean of 0..10 under the softmax of `logits`.
fn expectation(logits: &[f32; BINS]) -> f32 {
    let top = logits.iter().copied().fold(f32::MIN, f32::max);
    let (mut sum, mut mean) = (0.0, 0.0);
    for (bin, logit) in logits.iter().enumerate() {
        let weight = (logit - top).exp();
        sum += weight;
        mean += weight * bin as f32;
    }
    mean / sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_confident_cell_gives_one_box() {
        let (width, height, cells) = (4, 2, 8);
        let mut values = vec![-9.0f32; (CLASSES + 4 * BINS) * cells];
        let cell = 5; // column 1, row 1
        values[cell] = 2.0;
        for (side, distance) in [1usize, 1, 2, 3].into_iter().enumerate() {
            values[(CLASSES + side * BINS + distance) * cells + cell] = 30.0;
        }
        let mut found = Vec::new();
        decode(&[1, 124, height, width], &values, 8, 0.3, &mut found).expect("decodes");
        let [person] = found[..] else {
            panic!("{found:?}")
        };
        let edges = [person.left, person.top, person.right, person.bottom];
        for (edge, expected) in edges.into_iter().zip([4.0, 4.0, 28.0, 36.0]) {
            assert!((edge - expected).abs() < 1e-3, "{edges:?}");
        }
        assert!((person.score - 0.880_797).abs() < 1e-4);
    }

    #[test]
    fn of_other_classes_the_animals_are_read() {
        let cells = 4;
        let seen = |class: usize| {
            let mut values = vec![-9.0f32; (CLASSES + 4 * BINS) * cells];
            values[class * cells] = 1.0;
            let mut found = Vec::new();
            decode(&[1, 124, 2, 2], &values, 8, 0.3, &mut found).expect("decodes");
            found.iter().map(|found| found.class).collect::<Vec<_>>()
        };
        assert_eq!(seen(0), [PERSON]);
        for animal in [14, 16, 23] {
            assert_eq!(seen(animal), [ANIMAL]);
        }
        for thing in [1, 13, 24, 79] {
            assert!(seen(thing).is_empty());
        }
    }

    #[test]
    fn foreign_shapes_are_refused() {
        let mut found = Vec::new();
        assert!(decode(&[1, 85, 2, 4], &[0.0; 680], 8, 0.3, &mut found).is_err());
        assert!(decode(&[124, 8], &[0.0; 992], 8, 0.3, &mut found).is_err());
    }
}
