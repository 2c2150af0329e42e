//! How the output of a YOLO model is to be read.
//!
//! | output | families | a cell or box is |
//! |---|---|---|
//! | `[1, cells, 5 + classes]` | v5, v6, v7 | x, y, w, h, objectness, class scores |
//! | `[1, 4 + classes, cells]` | v8, v9, v11 | x, y, w, h, class scores |
//! | `[1, boxes, 6 or more]` | v10, or with suppression built in | left, top, right, bottom, score, class |
//!
//! x and y are the middle; all in pixels of the input. The number of cells
//! follows from the input size; with three anchors for each there is objectness,
//! else the number of class names tells, so that the first two may be turned as
//! well. Further channels (masks, key points) are skipped. What cannot be told is
//! refused, and so are numbers that cannot be what they are taken for: a layout
//! that is mistaken for another one mostly finds nobody and says nothing.

use plugin_abi::Failure;

use crate::boxes::Scored;

/// Finished boxes in one picture, at most. More rows are cells of a grid.
const MOST_BOXES: usize = 1000;
/// So many boxes exporters leave, whatever there is; grids of just so many cells are mistaken for them.
const USUAL_BOXES: [usize; 3] = [100, 300, 1000];
/// Boxes that all lie within so many pixels of the corner are shares of the picture.
const SHARE: f32 = 1.5;
/// What rounding adds to a probability, at most.
const ROUNDING: f32 = 0.01;

/// What is known of a model beside its output.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// Number of its named classes, 0 = the file names none.
    pub(crate) names: usize,
    /// What the settings say.
    pub(crate) objectness: Option<bool>,
}

/// How an output is to be read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Layout {
    /// What the network says of each cell.
    Grid(Grid),
    /// Finished boxes. `names` is as in [`Known`].
    Boxes {
        rows: usize,
        columns: usize,
        names: usize,
    },
}

/// What the network says of each cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Grid {
    cells: usize,
    channels: usize,
    /// A cell is a column, not a row.
    columns: bool,
    objectness: bool,
    /// Channels that are class scores.
    classes: usize,
}

impl Layout {
    pub(crate) fn of(shape: &[i64], input: (u32, u32), known: Known) -> Result<Self, Failure> {
        let &[1, rows, columns] = shape else {
            return Err(unknown(shape));
        };
        let (rows, columns) = (rows as usize, columns as usize);
        let mut grids = Vec::new();
        for (turned, cells, channels) in [(true, columns, rows), (false, rows, columns)] {
            for anchors in [1, 3] {
                if channels >= 5 && cell_counts(input, anchors, turned).contains(&cells) {
                    grids.push((turned, cells, channels, anchors));
                }
            }
        }
        if grids.len() > 1 {
            grids.retain(|(_, cells, channels, _)| cells > channels);
        }
        let ambiguous = grids
            .first()
            .is_some_and(|(_, cells, ..)| USUAL_BOXES.contains(cells));
        match grids[..] {
            [(turned, cells, channels, anchors)] if !ambiguous => {
                Ok(Self::Grid(Grid::of(turned, cells, channels, anchors, known)?))
            }
            [] => {
                let wide = known.names > 0 && columns > 6 && rows >= columns;
                if rows <= MOST_BOXES && (columns == 6 || wide) {
                    let names = known.names;
                    Ok(Self::Boxes {
                        rows,
                        columns,
                        names,
                    })
                } else {
                    Err(unknown(shape))
                }
            }
            _ => Err(format!(
                "output of shape {shape:?} can be read in more than one way; export it for another input size"
            )
            .into()),
        }
    }

    /// Number of its classes, if the shape tells.
    pub(crate) fn classes(&self) -> Option<usize> {
        match self {
            Self::Grid(grid) => Some(grid.classes),
            Self::Boxes { .. } => None,
        }
    }

    /// For a person.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Grid(grid) => format!(
                "{} cells as {}, {} objectness, class scores: {}",
                grid.cells,
                if grid.columns { "columns" } else { "rows" },
                if grid.objectness { "with" } else { "without" },
                grid.classes
            ),
            Self::Boxes { rows, columns, .. } => {
                format!("{rows} finished boxes of {columns} numbers")
            }
        }
    }

    /// Refuses an answer, to whatever picture, that cannot be of this layout: a
    /// grid covers the picture also where nobody is.
    pub(crate) fn check(
        &self,
        values: &[f32],
        (width, height): (u32, u32),
        wanted: &[usize],
    ) -> Result<(), Failure> {
        let Self::Grid(grid) = self else {
            return self.decode(values, f32::INFINITY, |_| true).map(drop);
        };
        let farthest = |channel: usize| {
            (0..grid.cells).fold(f32::MIN, |most, cell| {
                most.max(grid.at(values, cell, channel))
            })
        };
        let (x, y) = (farthest(0), farthest(1));
        if x <= width as f32 / 2.0 || y <= height as f32 / 2.0 {
            return Err(format!(
                "its coordinates are not in pixels of the input: of {width}x{height} it covers {x:.1}x{y:.1}; export it with \
                 its decoding, and without normalised coordinates"
            )
            .into());
        }
        // Without names there may be key points among the others.
        let scores =
            (4..grid.first_class()).chain(wanted.iter().map(|class| grid.first_class() + class));
        for (channel, cell) in
            scores.flat_map(|channel| (0..grid.cells).map(move |cell| (channel, cell)))
        {
            let score = grid.at(values, cell, channel);
            if !(-ROUNDING..=1.0 + ROUNDING).contains(&score) {
                return Err(format!(
                    "channel {channel}, read as scores, holds {score}, which is no probability; export it with its \
                     decoding (sigmoid)"
                )
                .into());
            }
        }
        Ok(())
    }

    /// What scores `floor` or more and is `wanted`, by its class.
    pub(crate) fn decode(
        &self,
        values: &[f32],
        floor: f32,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Vec<Scored>, Failure> {
        match self {
            Self::Grid(grid) => {
                let found = grid.decode(values, floor, &wanted);
                upright(&found)?;
                Ok(found)
            }
            Self::Boxes { columns, names, .. } => {
                let mut found = finished(values, *columns, *names, floor)?;
                let edges = |found: &Scored| [found.left, found.top, found.right, found.bottom];
                let shares = found.iter().flat_map(edges).all(|edge| edge.abs() <= SHARE);
                if shares && !found.is_empty() {
                    return Err(
                        "its coordinates are not in pixels of the input: all boxes lie in its first pixel; export it \
                         without normalised coordinates"
                            .into(),
                    );
                }
                upright(&found)?;
                found.retain(|found| wanted(found.class));
                Ok(found)
            }
        }
    }
}

impl Grid {
    fn of(
        columns: bool,
        cells: usize,
        channels: usize,
        anchors: usize,
        known: Known,
    ) -> Result<Self, String> {
        let names = known.names;
        let told = if anchors > 1 {
            Some(true)
        } else if channels == 5 {
            Some(false)
        } else if names == 0 {
            None
        } else if channels == 4 + names {
            Some(false)
        } else if channels == 5 + names {
            Some(true)
        } else {
            // Masks or key points as v8 and later add them.
            (columns && channels > 5 + names).then_some(false)
        };
        let objectness = match (told, known.objectness) {
            (Some(told), Some(said)) if told != said => {
                return Err(format!(
                    "plugin.model_objectness is {said}, but its output of {channels} channels for {cells} cells says {told}"
                ));
            }
            (Some(objectness), _) | (None, Some(objectness)) => objectness,
            (None, None) if names == 0 => {
                return Err(format!(
                    "of its {channels} channels the fifth may be objectness or the score of a class, and the file names no \
                     classes; set plugin.model_objectness: true for v5, v6 and v7, false for v8 and later"
                ));
            }
            (None, None) => {
                return Err(format!(
                    "its {channels} channels do not fit the {names} classes that the file names ({} or, with objectness, {} \
                     expected); if it is known, set plugin.model_objectness",
                    4 + names,
                    5 + names
                ));
            }
        };
        let all = channels - 4 - usize::from(objectness);
        if all < names.max(1) {
            return Err(format!(
                "its {channels} channels have room for {all} classes; the file names {names}"
            ));
        }
        Ok(Self {
            cells,
            channels,
            columns,
            objectness,
            // Channels beyond the names are no classes.
            classes: if names == 0 { all } else { names },
        })
    }

    fn at(&self, values: &[f32], cell: usize, channel: usize) -> f32 {
        match self.columns {
            true => values[channel * self.cells + cell],
            false => values[cell * self.channels + channel],
        }
    }

    fn first_class(&self) -> usize {
        4 + usize::from(self.objectness)
    }

    fn decode(&self, values: &[f32], floor: f32, wanted: &impl Fn(usize) -> bool) -> Vec<Scored> {
        let first = self.first_class();
        let in_cell = |cell: usize| {
            let at = |channel: usize| self.at(values, cell, channel);
            let objectness = if self.objectness { at(4) } else { 1.0 };
            if objectness < floor {
                return None;
            }
            let scores = (first..first + self.classes).map(|channel| at(channel) * objectness);
            let (class, score) = best(scores, floor, wanted)?;
            let [x, y, width, height] = [0, 1, 2, 3].map(at);
            Some(Scored {
                left: x - width / 2.0,
                top: y - height / 2.0,
                right: x + width / 2.0,
                bottom: y + height / 2.0,
                score,
                class,
            })
        };
        (0..self.cells).filter_map(in_cell).collect()
    }
}

/// Finished boxes of any class.
fn finished(
    values: &[f32],
    columns: usize,
    names: usize,
    floor: f32,
) -> Result<Vec<Scored>, Failure> {
    let mut found = Vec::new();
    for row in values.chunks_exact(columns) {
        let (score, class) = (row[4], row[5]);
        // Rows without a box may be filled with -1.
        if class.fract() != 0.0 || class < -1.0 || score > 1.0 + ROUNDING {
            return Err(format!(
                "a box says score {score}, class {class}: its numbers are not left, top, right, bottom, score, class"
            )
            .into());
        }
        if score < floor {
            continue;
        }
        if class < 0.0 || (names > 0 && class >= names as f32) {
            return Err(
                format!("a box is of class {class}; the file names {names} classes").into(),
            );
        }
        found.push(Scored {
            left: row[0],
            top: row[1],
            right: row[2],
            bottom: row[3],
            score,
            class: class as usize,
        });
    }
    Ok(found)
}

/// Boxes without a size are not passed over: they are none, and their numbers mean something else.
fn upright(found: &[Scored]) -> Result<(), Failure> {
    let bad = found
        .iter()
        .find(|found| found.right <= found.left || found.bottom <= found.top);
    bad.map_or(Ok(()), |bad| {
        Err(format!(
            "a box with score {:.2} ends before it begins (left {:.1}, top {:.1}, right {:.1}, bottom {:.1}): the output is of \
             another layout than it seems",
            bad.score, bad.left, bad.top, bad.right, bad.bottom
        )
        .into())
    })
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

/// Cells of the grids at strides 8, 16, 32 (with 64 in the P6 variants, with 4 in the P2 ones, without 8 in the tiny ones),
/// so many anchors each. Tiny ones with one anchor are known as columns only: as rows they would be taken for boxes, and
/// boxes for them.
fn cell_counts((width, height): (u32, u32), anchors: usize, columns: bool) -> Vec<usize> {
    let at = |stride: u32| (width / stride) as usize * (height / stride) as usize * anchors;
    let (tiny, three) = (at(16) + at(32), at(8) + at(16) + at(32));
    let mut counts = vec![three, three + at(64), three + at(4)];
    if anchors > 1 || columns {
        counts.push(tiny);
    }
    counts
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

    fn named(names: usize) -> Known {
        Known {
            names,
            objectness: None,
        }
    }

    fn refusal(shape: [i64; 3], known: Known) -> String {
        Layout::of(&shape, INPUT, known)
            .expect_err("refused")
            .to_string()
    }

    /// Whether a grid has objectness, and how many classes.
    fn grid(shape: [i64; 3], input: (u32, u32), known: Known) -> Option<(bool, usize)> {
        match Layout::of(&shape, input, known) {
            Ok(Layout::Grid(grid)) => Some((grid.objectness, grid.classes)),
            _ => None,
        }
    }

    #[test]
    fn layouts_are_told_apart_by_the_number_of_cells() {
        let of = |shape: [i64; 3]| Layout::of(&shape, INPUT, named(0)).ok();
        let grid = |cells, columns, objectness, classes| {
            Some(Layout::Grid(Grid {
                cells,
                channels: 4 + classes + usize::from(objectness),
                columns,
                objectness,
                classes,
            }))
        };
        assert_eq!(of([1, 5, 84]), grid(CELLS, true, false, 1));
        let two = Layout::of(&[1, 6, 84], INPUT, named(2)).ok();
        assert_eq!(two, grid(CELLS, true, false, 2));
        assert_eq!(of([1, 252, 6]), grid(3 * CELLS, false, true, 1));
        let (rows, columns, names) = (300, 6, 0);
        let boxes = Layout::Boxes {
            rows,
            columns,
            names,
        };
        assert_eq!(of([1, 300, 6]), Some(boxes));
        assert_eq!(of([1, 300, 90]), None);
        assert!(Layout::of(&[1, 3, 8, 8], INPUT, named(0)).is_err());
    }

    #[test]
    fn names_and_anchors_tell_of_objectness_whichever_way_it_is_turned() {
        let names = 3;
        for columns in [false, true] {
            let of = |cells: i64, channels: i64, known| {
                let shape = match columns {
                    true => [1, channels, cells],
                    false => [1, cells, channels],
                };
                grid(shape, INPUT, known)
            };
            for cells in [84, 85, 340, 252, 255, 1020, 60] {
                let anchors = if [252, 255, 1020, 60].contains(&cells) {
                    3
                } else {
                    1
                };
                let of = |channels, known| of(cells, channels, known);
                let (plain, with) = (Some((false, 3)), Some((true, 3)));
                let said = |objectness| Known {
                    names,
                    objectness: Some(objectness),
                };
                if anchors == 3 {
                    assert_eq!(of(4 + 3, named(3)), None, "{cells}");
                    assert_eq!(of(5 + 3, named(3)), with, "{cells}");
                    assert_eq!(of(5 + 3 + 32, named(3)), with, "masks, {cells}");
                    assert_eq!(of(8, named(0)), with, "{cells}");
                    assert_eq!(of(8, said(false)), None, "{cells}");
                } else {
                    assert_eq!(of(4 + 3, named(3)), plain, "{cells}");
                    assert_eq!(of(5 + 3, named(3)), with, "{cells}");
                    assert_eq!(of(4 + 2, named(3)), None, "{cells}");
                    let masks = columns.then_some((false, 3));
                    assert_eq!(of(4 + 3 + 32, named(3)), masks, "{cells}");
                    assert_eq!(of(4 + 3 + 32, said(false)), plain, "{cells}");
                    assert_eq!(of(7, said(true)), None, "the file knows better, {cells}");
                    assert_eq!(of(8, named(0)), None, "{cells}");
                    let unnamed = |objectness| Known {
                        names: 0,
                        objectness: Some(objectness),
                    };
                    assert_eq!(of(8, unnamed(true)), with, "{cells}");
                    assert_eq!(of(8, unnamed(false)), Some((false, 4)), "{cells}");
                    assert_eq!(of(5, named(0)), Some((false, 1)), "{cells}");
                }
            }
        }
        let unnamed = refusal([1, 84, 6], named(0));
        assert!(unnamed.contains("model_objectness"), "{unnamed}");
        let unfit = refusal([1, 84, 6], named(5));
        assert!(
            unfit.contains("6 channels do not fit the 5 classes"),
            "{unfit}"
        );
    }

    #[test]
    fn grids_of_other_strides_are_no_boxes() {
        let input = (640, 384);
        // Strides 8, 16, 32 have 5040 cells; 4 has 15360; 16 and 32 alone have 1200.
        for cells in [3 * (15360 + 5040), 3 * 1200] {
            assert_eq!(grid([1, cells, 6], input, named(1)), Some((true, 1)));
        }
        for cells in [15360 + 5040, 1200] {
            assert_eq!(grid([1, 6, cells], input, named(2)), Some((false, 2)));
        }
        assert_eq!(
            grid([1, 15360 + 5040, 6], input, named(2)),
            Some((false, 2))
        );
        for rows in [1200, 1001, 15360] {
            assert!(
                Layout::of(&[1, rows, 6], input, named(1)).is_err(),
                "{rows}"
            );
        }
        assert!(matches!(
            Layout::of(&[1, 1000, 6], input, named(1)),
            Ok(Layout::Boxes { .. })
        ));
        // 20 cells of 32 pixels: a tiny grid with three anchors has as many rows as there are boxes usually.
        for shape in [[1, 300, 6], [1, 6, 300]] {
            assert!(Layout::of(&shape, (160, 128), named(1)).is_err());
        }
        // 60 of them: the grid with one anchor has.
        assert!(matches!(
            Layout::of(&[1, 300, 6], (320, 192), named(1)),
            Ok(Layout::Boxes { .. })
        ));
        assert!(Layout::of(&[1, 6, 300], (320, 192), named(1)).is_err());
    }

    #[test]
    fn boxes_with_masks_or_key_points_need_names() {
        let of = |shape: [i64; 3], names| Layout::of(&shape, (640, 384), named(names));
        for columns in [38, 57] {
            let layout = of([1, 300, columns], 1).expect("boxes");
            let mut values = vec![0.0; 300 * columns as usize];
            let second = columns as usize;
            values[second..second + 6].copy_from_slice(&[10.0, 20.0, 40.0, 60.0, 0.9, 0.0]);
            let found = layout.decode(&values, 0.3, all).expect("boxes");
            let [head] = found[..] else {
                panic!("{found:?}")
            };
            assert_eq!((head.left, head.bottom, head.class), (10.0, 60.0, 0));
            assert!(of([1, 300, columns], 0).is_err());
            assert!(of([1, columns, 300], 1).is_err(), "turned");
        }
    }

    #[test]
    fn rows_multiply_objectness_and_class() {
        let mut values = vec![0.0; 252 * 7];
        values[70..77].copy_from_slice(&[32.0, 16.0, 8.0, 4.0, 0.5, 0.1, 0.8]);
        let layout = Layout::of(&[1, 252, 7], INPUT, named(0)).expect("rows");
        let found = layout.decode(&values, 0.3, all).expect("rows");
        let [head] = found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((head.left, head.top), (28.0, 14.0));
        assert_eq!((head.right, head.bottom, head.class), (36.0, 18.0, 1));
        assert!((head.score - 0.4).abs() < 1e-6);
        let others = layout.decode(&values, 0.3, |class| class == 0);
        assert!(others.expect("rows").is_empty());
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
        let layout = Layout::of(&[1, 20, 84], INPUT, named(1)).expect("columns");
        let found = layout.decode(&values, 0.3, all).expect("columns");
        let [face] = found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((face.left, face.class, face.score), (28.0, 0, 0.7));
    }

    #[test]
    fn finished_boxes_are_taken_as_they_are() {
        let values = [1.0, 2.0, 3.0, 4.0, 0.9, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let found = boxes(2, 0).decode(&values, 0.3, all).expect("boxes");
        let [only] = found[..] else {
            panic!("{found:?}")
        };
        assert_eq!((only.right, only.class), (3.0, 2));
    }

    fn boxes(rows: usize, names: usize) -> Layout {
        Layout::Boxes {
            rows,
            columns: 6,
            names,
        }
    }

    #[test]
    fn numbers_that_cannot_be_boxes_are_refused() {
        let good = [10.0, 20.0, 40.0, 60.0, 0.9, 0.0];
        let with = |place: usize, value: f32| {
            let mut row = good;
            row[place] = value;
            row
        };
        let read = |row: [f32; 6]| {
            let found = boxes(1, 2).decode(&row, 0.3, |class| class == 1);
            found.map_err(|error| error.to_string())
        };
        assert_eq!(read(good), Ok(Vec::new()), "another class");
        for (row, why) in [
            (with(2, 10.0), "ends before it begins"),
            (with(3, 5.0), "ends before it begins"),
            (with(4, 225.0), "are not left, top"),
            (with(5, 0.4), "are not left, top"),
            (with(5, 2.0), "of class 2"),
            (with(5, -1.0), "of class -1"),
            ([0.6, 0.5, 0.7, 0.6, 0.9, 0.0], "not in pixels"),
        ] {
            let refused = read(row).expect_err("refused");
            assert!(refused.contains(why), "{refused}");
        }
        let filling = [-1.0, -1.0, -1.0, -1.0, -1.0, -1.0];
        assert_eq!(read(filling), Ok(Vec::new()));
        // What is wrong at a score that does not count shows before anything is found.
        assert!(
            boxes(1, 2)
                .check(&[0.1, 0.1, 0.1, 0.1, 0.01, 0.02], INPUT, &[0])
                .is_err()
        );
        assert!(boxes(1, 2).check(&filling, INPUT, &[0]).is_ok());
    }

    #[test]
    fn cells_without_a_size_are_refused() {
        let layout = Layout::of(&[1, 5, 84], INPUT, named(1)).expect("columns");
        let mut values = vec![0.0; 5 * CELLS];
        for (channel, value) in [32.0, 16.0, -8.0, 4.0, 0.7].into_iter().enumerate() {
            values[channel * CELLS + 10] = value;
        }
        let refused = layout.decode(&values, 0.3, all).expect_err("negative");
        assert!(
            refused.to_string().contains("ends before it begins"),
            "{refused}"
        );
        assert!(layout.decode(&values, 0.8, all).is_ok(), "does not count");
    }

    #[test]
    fn a_grid_covers_the_picture_and_tells_probabilities() {
        for (shape, columns) in [([1, 5, 84], true), ([1, 84, 5], false)] {
            let layout = Layout::of(&shape, INPUT, named(1)).expect("a grid");
            // All cells in places up to `x`, `y`, the last one with this score.
            let check = |x: f32, y: f32, score: f32| {
                let mut values = vec![0.0; 5 * CELLS];
                for cell in 0..CELLS {
                    let share = cell as f32 / (CELLS - 1) as f32;
                    let scored = if cell == CELLS - 1 { score } else { 0.01 };
                    for (channel, value) in [share * x, share * y, 8.0, 8.0, scored]
                        .into_iter()
                        .enumerate()
                    {
                        let at = match columns {
                            true => channel * CELLS + cell,
                            false => cell * 5 + channel,
                        };
                        values[at] = value;
                    }
                }
                layout
                    .check(&values, INPUT, &[0])
                    .map_err(|error| error.to_string())
            };
            assert_eq!(check(60.0, 60.0, 0.5), Ok(()));
            for (x, y) in [(0.95, 0.95), (60.0, 0.95), (7.5, 60.0)] {
                let refused = check(x, y, 0.5).expect_err("small");
                assert!(refused.contains("not in pixels of the input"), "{refused}");
            }
            for score in [-6.0, 2.2] {
                let refused = check(60.0, 60.0, score).expect_err("logits");
                assert!(refused.contains("no probability"), "{refused}");
            }
        }
    }
}
