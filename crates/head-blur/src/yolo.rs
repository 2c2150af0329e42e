//! A user's own YOLO model: the layouts of the v5, v6, v7, v8, v9, v10 and v11
//! families as their exporters write them to ONNX, any input size.
//!
//! | output | families | a row or column is |
//! |---|---|---|
//! | `[1, cells, 5 + classes]` | v5, v6, v7 | x, y, w, h, objectness, class scores |
//! | `[1, 4 + classes, cells]` | v8, v9, v11 | x, y, w, h, class scores |
//! | `[1, boxes, 6]` | v10, or with suppression built in | left, top, right, bottom, score, class |
//!
//! x and y are the middle; all in pixels of the input. The number of cells
//! follows from the input size, which tells the first two apart whatever the
//! number of classes. Further channels (masks, key points) are skipped.

use plugin_abi::{Failure, FrameView, RegionKind};

use crate::boxes::{Scored, suppress};
use crate::config::ClassName;
use crate::engine::{ModelFile, Network};
use crate::labels;
use crate::picture::{Feeder, Letterbox, Normal};

const OVERLAP_LIMIT: f32 = 0.5;
const STEP: u32 = 32;
/// Words in class names that tell what is seen.
const WORDS: [(&str, RegionKind); 7] = [
    ("head", RegionKind::Head),
    ("helmet", RegionKind::Head),
    ("face", RegionKind::Face),
    ("person", RegionKind::Person),
    ("people", RegionKind::Person),
    ("pedestrian", RegionKind::Person),
    ("human", RegionKind::Person),
];

/// RGB, 0..1, grey around, as Ultralytics trains.
const NORMAL: Normal = Normal {
    order: [2, 1, 0],
    mean: [0.0; 3],
    factor: [1.0 / 255.0; 3],
    padding: 114,
};

/// A user's model.
pub(crate) struct Yolo {
    network: Network,
    labels: Vec<String>,
    /// Class numbers to report; empty = all.
    wanted: Vec<usize>,
    input: (u32, u32),
}

impl Yolo {
    /// `size` is the input for models that take any.
    pub(crate) fn new(
        network: Network,
        classes: &[ClassName],
        size: (u32, u32),
    ) -> Result<Self, Failure> {
        let labels = labels::of_model(&network.file().bytes()?);
        let wanted = choose(classes, &labels)
            .map_err(|error| format!("model {}: {error}", network.file().name))?;
        let whole = (size.0.next_multiple_of(STEP), size.1.next_multiple_of(STEP));
        let input = network.fixed_size()?.unwrap_or(whole);
        Ok(Self {
            network,
            labels,
            wanted,
            input,
        })
    }

    /// Compiles the network and checks its output's layout.
    pub(crate) fn compile(&mut self) -> Result<(), Failure> {
        let (width, height) = self.input;
        let name = self.network.file().name.clone();
        let session = self.network.session(width, height)?;
        session.run(|input| input.fill(0.0))?;
        session
            .output(0, |shape, _| Layout::of(shape, self.input).map(drop))
            .map_err(|error| format!("model {name}: {error}").into())
    }

    pub(crate) fn file(&self) -> &ModelFile {
        self.network.file()
    }

    pub(crate) fn input_size(&self) -> (u32, u32) {
        self.input
    }

    /// What a class shows, by its name; without a name, a head.
    pub(crate) fn kind_of(&self, class: usize) -> RegionKind {
        self.labels.get(class).map_or(RegionKind::Head, |name| {
            kind_of_name(name).unwrap_or(RegionKind::Other)
        })
    }

    /// Finds the wanted classes in `frame`; boxes in its pixels.
    pub(crate) fn find(
        &mut self,
        feeder: &mut Feeder,
        frame: &FrameView<'_>,
        floor: f32,
    ) -> Result<Vec<Scored>, Failure> {
        let size = (frame.info().width, frame.info().height);
        let fit = Letterbox::into_fixed(size, self.input);
        let session = self.network.session(self.input.0, self.input.1)?;
        session.run(|input| feeder.fill(frame, &fit, &NORMAL, input))?;
        let (wanted, names, input) = (&self.wanted, self.labels.len(), self.input);
        let found = session.output(0, |shape, values| {
            let layout = Layout::of(shape, input)?;
            Ok(layout.decode(values, names, floor, |class| {
                wanted.is_empty() || wanted.contains(&class)
            }))
        })?;
        Ok(suppress(found, OVERLAP_LIMIT)
            .into_iter()
            .map(|found| found.unscaled(fit.scale))
            .collect())
    }
}

fn kind_of_name(name: &str) -> Option<RegionKind> {
    let name = name.to_lowercase();
    let known = WORDS.iter().find(|(word, _)| name.contains(word));
    known.map(|(_, kind)| *kind)
}

/// Numbers of the wanted classes. Without a wish: all that name a head, face or
/// person; of a model without names: its only class.
fn choose(classes: &[ClassName], labels: &[String]) -> Result<Vec<usize>, String> {
    let known = || format!("it has {}", labels.join(", "));
    if classes.is_empty() {
        if labels.is_empty() {
            return Ok(vec![0]);
        }
        let fitting: Vec<usize> = (0..labels.len())
            .filter(|&class| kind_of_name(&labels[class]).is_some())
            .collect();
        if fitting.is_empty() {
            return Err(format!(
                "no class is named after a head, face or person; name some in plugin.classes ({})",
                known()
            ));
        }
        return Ok(fitting);
    }
    classes
        .iter()
        .map(|class| match class {
            ClassName::Number(number) if labels.is_empty() || *number < labels.len() => Ok(*number),
            ClassName::Number(number) => Err(format!("no class {number}; {}", known())),
            ClassName::Name(name) if labels.is_empty() => Err(format!(
                "class \"{name}\" is not known: the file carries no names; use its number"
            )),
            ClassName::Name(name) => labels
                .iter()
                .position(|label| label.eq_ignore_ascii_case(name))
                .ok_or_else(|| format!("no class \"{name}\"; {}", known())),
        })
        .collect()
}

/// How an output is to be read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    /// Rows with objectness.
    Rows { rows: usize, channels: usize },
    /// Columns without objectness.
    Columns { cells: usize, channels: usize },
    /// Finished boxes.
    Boxes { rows: usize },
}

impl Layout {
    fn of(shape: &[i64], input: (u32, u32)) -> Result<Self, Failure> {
        let &[1, rows, columns] = shape else {
            return Err(unknown(shape));
        };
        let (rows, columns) = (rows as usize, columns as usize);
        let counts = cell_counts(input);
        if counts.contains(&columns) && rows >= 5 {
            Ok(Self::Columns {
                cells: columns,
                channels: rows,
            })
        } else if counts.contains(&rows) && columns >= 6 {
            Ok(Self::Rows {
                rows,
                channels: columns,
            })
        } else if columns == 6 {
            Ok(Self::Boxes { rows })
        } else {
            Err(unknown(shape))
        }
    }

    /// `names` is the number of named classes (0 = unknown): channels beyond
    /// them are no classes.
    fn decode(
        self,
        values: &[f32],
        names: usize,
        floor: f32,
        wanted: impl Fn(usize) -> bool,
    ) -> Vec<Scored> {
        let classes = |channels: usize, first: usize| {
            let all = channels - first;
            if names == 0 { all } else { all.min(names) }
        };
        let middle = |[x, y, width, height]: [f32; 4], (class, score): (usize, f32)| Scored {
            left: x - width / 2.0,
            top: y - height / 2.0,
            right: x + width / 2.0,
            bottom: y + height / 2.0,
            score,
            class,
        };
        match self {
            Self::Rows { channels, .. } => values
                .chunks_exact(channels)
                .filter(|row| row[4] >= floor)
                .filter_map(|row| {
                    let scores = row[5..5 + classes(channels, 5)].iter();
                    let best = best(scores.map(|score| score * row[4]), floor, &wanted)?;
                    Some(middle([row[0], row[1], row[2], row[3]], best))
                })
                .collect(),
            Self::Columns { cells, channels } => (0..cells)
                .filter_map(|cell| {
                    let at = |channel: usize| values[channel * cells + cell];
                    let scores = (4..4 + classes(channels, 4)).map(at);
                    let best = best(scores, floor, &wanted)?;
                    Some(middle([at(0), at(1), at(2), at(3)], best))
                })
                .collect(),
            Self::Boxes { .. } => values
                .chunks_exact(6)
                .filter(|row| row[4] >= floor && row[5] >= 0.0 && wanted(row[5] as usize))
                .map(|row| Scored {
                    left: row[0],
                    top: row[1],
                    right: row[2],
                    bottom: row[3],
                    score: row[4],
                    class: row[5] as usize,
                })
                .collect(),
        }
    }
}

/// The best wanted class and its score, if it reaches `floor`.
fn best(
    scores: impl Iterator<Item = f32>,
    floor: f32,
    wanted: &impl Fn(usize) -> bool,
) -> Option<(usize, f32)> {
    scores
        .enumerate()
        .filter(|(class, score)| *score >= floor && wanted(*class))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Cells of the grids at strides 8, 16, 32 (and 64 in the P6 variants), once or
/// with three anchors each.
fn cell_counts((width, height): (u32, u32)) -> [usize; 4] {
    let at = |stride: u32| (width / stride) as usize * (height / stride) as usize;
    let three = at(8) + at(16) + at(32);
    let four = three + at(64);
    [three, four, 3 * three, 3 * four]
}

fn unknown(shape: &[i64]) -> Failure {
    format!(
        "output of shape {shape:?} is none of the YOLO layouts known here \
         ([1, cells, 5+classes], [1, 4+classes, cells], [1, boxes, 6])"
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: (u32, u32) = (64, 64);
    /// 64 + 16 + 4.
    const CELLS: usize = 84;

    fn all(_: usize) -> bool {
        true
    }

    #[test]
    fn layouts_are_told_apart_by_the_number_of_cells() {
        let of = |shape: [i64; 3]| Layout::of(&shape, INPUT).ok();
        let (cells, channels) = (CELLS, 6);
        assert_eq!(of([1, 6, 84]), Some(Layout::Columns { cells, channels }));
        let rows = 3 * CELLS;
        assert_eq!(of([1, 252, 6]), Some(Layout::Rows { rows, channels }));
        assert_eq!(of([1, 300, 6]), Some(Layout::Boxes { rows: 300 }));
        assert_eq!(of([1, 300, 90]), None);
        assert!(Layout::of(&[1, 3, 8, 8], INPUT).is_err());
    }

    #[test]
    fn rows_multiply_objectness_and_class() {
        let mut values = vec![0.0; 252 * 7];
        values[70..77].copy_from_slice(&[32.0, 16.0, 8.0, 4.0, 0.5, 0.1, 0.8]);
        let layout = Layout::of(&[1, 252, 7], INPUT).expect("rows");
        let found = layout.decode(&values, 0, 0.3, all);
        let [head] = found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((head.left, head.top), (28.0, 14.0));
        assert_eq!((head.right, head.bottom, head.class), (36.0, 18.0, 1));
        assert!((head.score - 0.4).abs() < 1e-6);
        assert!(
            layout
                .decode(&values, 0, 0.3, |class| class == 0)
                .is_empty()
        );
    }

    #[test]
    fn columns_skip_channels_that_are_no_classes() {
        let mut values = vec![0.0; 20 * CELLS];
        for (channel, value) in [32.0, 16.0, 8.0, 4.0, 0.7, 40.0, 40.0]
            .into_iter()
            .enumerate()
        {
            values[channel * CELLS + 10] = value;
        }
        let layout = Layout::of(&[1, 20, 84], INPUT).expect("columns");
        let found = layout.decode(&values, 1, 0.3, all);
        let [face] = found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((face.left, face.class, face.score), (28.0, 0, 0.7));
    }

    #[test]
    fn finished_boxes_are_taken_as_they_are() {
        let values = [1.0, 2.0, 3.0, 4.0, 0.9, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let found = Layout::Boxes { rows: 2 }.decode(&values, 0, 0.3, all);
        let [only] = found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((only.right, only.class), (3.0, 2));
    }

    #[test]
    fn classes_are_chosen_by_name_or_number() {
        let labels = ["car", "Head", "person"].map(str::to_owned);
        let name = |name: &str| ClassName::Name(name.to_owned());
        assert_eq!(choose(&[], &labels), Ok(vec![1, 2]));
        assert_eq!(
            choose(&[name("head"), ClassName::Number(0)], &labels),
            Ok(vec![1, 0])
        );
        assert_eq!(choose(&[], &[]), Ok(vec![0]));
        let refused = choose(&[name("dog")], &labels).unwrap_err();
        assert!(refused.contains("car, Head, person"), "{refused}");
        assert!(choose(&[ClassName::Number(7)], &labels).is_err());
        assert!(choose(&[name("head")], &[]).unwrap_err().contains("number"));
        assert!(
            choose(&[], &labels[..1])
                .unwrap_err()
                .contains("plugin.classes")
        );
    }
}
