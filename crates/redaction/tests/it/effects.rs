//! What is hidden is gone, what is not hidden is untouched.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use redaction::effect::{MAX_COLUMNS, MAX_ROWS};
use redaction::{
    Certainty, Effect, EffectSettings, FrameMasks, Mask, MaskRules, Outline, Rect, Redactor, Shape,
    Subsampling, TrackId,
};

use crate::picture::{Layout, Picture, noise};

const I420: Layout = Layout::Planar(Subsampling::YUV420);
const LAYOUTS: [Layout; 5] = [
    I420,
    Layout::Nv12,
    Layout::Planar(Subsampling::YUV422),
    Layout::Planar(Subsampling::YUV444),
    Layout::Planar(Subsampling { x: 2, y: 2 }),
];

fn mask(track: u64, head: Rect, rules: MaskRules) -> Mask {
    let shape = rules.shape(&head);
    Mask {
        track: TrackId(track),
        head,
        shape,
        certainty: Certainty::Seen,
        score: 1.0,
    }
}

fn frame(time: f64, masks: Vec<Mask>) -> FrameMasks {
    FrameMasks {
        frame: 0,
        time,
        whole_frame: false,
        masks,
    }
}

fn redactor(effect: Effect) -> Redactor {
    Redactor::new(EffectSettings {
        effect,
        seed: 7,
        ..EffectSettings::default()
    })
}

fn hide(picture: &mut Picture, effect: Effect, masks: Vec<Mask>) {
    redactor(effect).apply(&mut picture.planes(), &frame(0.0, masks));
}

fn any_effect() -> impl Strategy<Value = Effect> {
    prop_oneof![
        Just(Effect::Blur),
        Just(Effect::Mosaic),
        Just(Effect::Solid)
    ]
}

fn any_layout() -> impl Strategy<Value = Layout> {
    (0..LAYOUTS.len()).prop_map(|at| LAYOUTS[at])
}

fn any_rules() -> impl Strategy<Value = MaskRules> {
    let outline = prop_oneof![Just(Outline::Ellipse), Just(Outline::Rectangle)];
    (outline, 0.0f32..0.3).prop_map(|(outline, margin)| MaskRules { outline, margin })
}

fn any_number() -> impl Strategy<Value = f32> {
    prop_oneof![
        -100.0f32..300.0,
        prop::num::f32::ANY,
        Just(f32::MAX),
        Just(f32::MIN),
        Just(f32::INFINITY),
        Just(f32::NAN),
        Just(0.0)
    ]
}

proptest! {
    #[test]
    fn no_box_size_or_stride_makes_it_panic(
        (x, y, width, height) in (any_number(), any_number(), any_number(), any_number()),
        picture in (1u32..70, 1u32..70, any_layout(), 0usize..9),
        effect in any_effect(),
        rules in any_rules(),
        strength in any::<u32>(),
    ) {
        let mut picture = Picture::noisy(picture.0, picture.1, picture.2, picture.3);
        let settings = EffectSettings { effect, strength, ..EffectSettings::default() };
        let masks = vec![
            mask(1, Rect::new(x, y, width, height), rules),
            Mask { shape: Shape::Polygon(vec![(x, y), (width, height), (y, x)]), ..mask(2, Rect::default(), rules) },
        ];
        let mut redactor = Redactor::new(settings);
        redactor.apply(&mut picture.planes(), &frame(0.0, masks));
        redactor.whole_frame(&mut picture.planes());
    }

    #[test]
    fn all_of_the_head_changes_and_nothing_far_from_it(
        (x, y, width, height) in (-40.0f32..130.0, -40.0f32..100.0, 1.0f32..90.0, 1.0f32..90.0),
        picture in (20u32..110, 20u32..90, any_layout(), 0usize..9),
        effect in any_effect(),
        rules in any_rules(),
    ) {
        let before = Picture::noisy(picture.0, picture.1, picture.2, picture.3);
        let mut after = before.clone();
        let head = Rect::new(x, y, width, height);
        let mask = mask(1, head, rules);
        let bounds = mask.shape.bounds();
        hide(&mut after, effect, vec![mask]);
        for (px, py) in (0..picture.1).flat_map(|py| (0..picture.0).map(move |px| (px, py))) {
            let pixel = Rect::new(px as f32, py as f32, 1.0, 1.0);
            let untouched = before.luma(px, py) == after.luma(px, py);
            // In the head: the noise has no value a flat cell has; interpolation may hit it by
            // chance, so smooth cells are judged by the test below.
            if pixel.intersection(&head).area() > 0.0 && effect == Effect::Mosaic {
                prop_assert!(!untouched, "luma {px},{py} of the head shows");
                let (u, v) = (before.chroma(px, py), after.chroma(px, py));
                prop_assert!(u.0 != v.0 && u.1 != v.1, "chroma {px},{py} of the head shows");
            }
            // Outside: two pixels of luma for rounding, a chroma sample's width more for chroma.
            if pixel.intersection(&bounds.union(&bounds.moved(2.0, 2.0)).union(&bounds.moved(-2.0, -2.0))).area() == 0.0 {
                prop_assert!(untouched, "luma {px},{py} outside the mask changed");
            }
            let wide = bounds.union(&bounds.moved(4.0, 4.0)).union(&bounds.moved(-4.0, -4.0));
            if pixel.intersection(&wide).area() == 0.0 {
                prop_assert_eq!(before.chroma(px, py), after.chroma(px, py));
            }
        }
    }

    /// The attack floor: whatever detail a head has, only its few cell means can reach the output.
    /// Detail that leaves the means alone must leave the output alone, bit for bit.
    #[test]
    fn detail_inside_the_cells_cannot_reach_the_output(
        effect in any_effect(),
        salt in any::<u64>(),
    ) {
        // 96 x 96 mask: cells of 16 x 12 luma and 8 x 6 chroma samples.
        let rules = MaskRules { outline: Outline::Rectangle, margin: 0.0 };
        let head = mask(1, Rect::new(16.0, 8.0, 96.0, 96.0), rules);
        let plain = Picture::noisy(128, 112, I420, 0);
        let mut detailed = plain.clone();
        shuffle_cells(&mut detailed.y, 128, (16, 8), (16, 12), salt);
        shuffle_cells(&mut detailed.u, 64, (8, 4), (8, 6), salt);
        prop_assert_ne!(&plain.y, &detailed.y);
        let (mut one, mut other) = (plain, detailed);
        hide(&mut one, effect, vec![head.clone()]);
        hide(&mut other, effect, vec![head]);
        prop_assert_eq!(one, other);
    }
}

/// Reorders the samples inside each of the 6 x 8 cells.
fn shuffle_cells(
    plane: &mut [u8],
    stride: usize,
    at: (usize, usize),
    cell: (usize, usize),
    salt: u64,
) {
    for (column, row) in
        (0..MAX_ROWS).flat_map(|row| (0..MAX_COLUMNS).map(move |column| (column, row)))
    {
        let place = |n: usize| {
            let (x, y) = (
                at.0 + column * cell.0 + n % cell.0,
                at.1 + row * cell.1 + n / cell.0,
            );
            y * stride + x
        };
        for n in (1..cell.0 * cell.1).rev() {
            let other = usize::from(noise(salt.wrapping_add(n as u64))) % (n + 1);
            plane.swap(place(n), place(other));
        }
    }
}

#[test]
fn a_head_leaves_at_most_the_floor_of_distinct_cells() {
    for size in [20.0f32, 60.0, 120.0, 400.0] {
        let mut picture = Picture::noisy(900, 900, Layout::Nv12, 0);
        let head = mask(
            1,
            Rect::new(200.0, 200.0, size, size * 1.3),
            MaskRules::default(),
        );
        let Shape::Ellipse(bounds) = head.shape else {
            panic!("ellipse expected")
        };
        let mut hidden = head.clone();
        hidden.shape = Shape::Rectangle(bounds);
        hide(&mut picture, Effect::Mosaic, vec![hidden]);
        // Runs of equal luma along the middle row and column: how often the value changes.
        let (cx, cy) = bounds.centre();
        let across =
            (bounds.x.ceil() as u32..bounds.right() as u32).map(|x| picture.luma(x, cy as u32));
        let down =
            (bounds.y.ceil() as u32..bounds.bottom() as u32).map(|y| picture.luma(cx as u32, y));
        assert!(runs(across) <= MAX_COLUMNS, "{size}: too many columns");
        assert!(runs(down) <= MAX_ROWS, "{size}: too many rows");
    }
}

fn runs(values: impl Iterator<Item = u8>) -> usize {
    let values: Vec<u8> = values.collect();
    1 + values.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

#[test]
fn settings_can_only_make_cells_coarser() {
    let changes = |strength: u32, kernel_size: u32| {
        let mut picture = Picture::noisy(256, 256, I420, 0);
        let settings = EffectSettings {
            effect: Effect::Mosaic,
            strength,
            kernel_size,
            ..EffectSettings::default()
        };
        let rules = MaskRules {
            outline: Outline::Rectangle,
            margin: 0.0,
        };
        let masks = frame(0.0, vec![mask(1, Rect::new(0.0, 0.0, 256.0, 256.0), rules)]);
        Redactor::new(settings).apply(&mut picture.planes(), &masks);
        let all: BTreeSet<Vec<u8>> = (0..256)
            .map(|y| (0..256).map(|x| picture.luma(x, y)).collect())
            .collect();
        all.len()
    };
    // Two cells may come out alike by chance.
    let floor = changes(15, 15);
    assert!(floor <= MAX_ROWS && floor > MAX_ROWS / 2, "{floor}");
    assert_eq!(changes(0, 0), floor);
    assert_eq!(changes(15, 3), floor);
    assert!(changes(15, 30) <= MAX_ROWS / 2);
    assert_eq!(changes(u32::MAX, 15), 1);
}

#[test]
fn nv12_and_i420_come_out_alike() {
    for effect in [Effect::Blur, Effect::Mosaic, Effect::Solid] {
        for whole_frame in [false, true] {
            let (mut planar, mut pairs) = (
                Picture::noisy(203, 151, I420, 5),
                Picture::noisy(203, 151, Layout::Nv12, 5),
            );
            let head = mask(1, Rect::new(150.0, 90.0, 70.0, 90.0), MaskRules::default());
            let masks = FrameMasks {
                whole_frame,
                ..frame(0.0, vec![head])
            };
            redactor(effect).apply(&mut planar.planes(), &masks);
            redactor(effect).apply(&mut pairs.planes(), &masks);
            for (x, y) in (0..151).flat_map(|y| (0..203).map(move |x| (x, y))) {
                assert_eq!(planar.luma(x, y), pairs.luma(x, y), "{effect:?} {x},{y}");
                assert_eq!(
                    planar.chroma(x, y),
                    pairs.chroma(x, y),
                    "{effect:?} {x},{y}"
                );
            }
        }
    }
}

#[test]
fn cells_stay_frozen_for_the_set_time_and_follow_the_head() {
    let settings = EffectSettings {
        freeze: Duration::from_secs(1),
        ..EffectSettings::default()
    };
    let mut redactor = Redactor::new(settings);
    let rules = MaskRules {
        outline: Outline::Rectangle,
        margin: 0.0,
    };
    let mut seen_at = |time: f64, x: f32, salt: u8| -> Vec<u8> {
        let mut picture = Picture::noisy(200, 100, I420, 0);
        picture
            .y
            .iter_mut()
            .for_each(|pixel| *pixel = pixel.wrapping_mul(salt) / 2 + salt);
        let masks = frame(time, vec![mask(4, Rect::new(x, 20.0, 48.0, 64.0), rules)]);
        redactor.apply(&mut picture.planes(), &masks);
        let x = x as u32;
        (20..84)
            .flat_map(|y| (x..x + 48).map(move |x| (x, y)))
            .map(|(x, y)| picture.luma(x, y))
            .collect()
    };
    let first = seen_at(0.0, 20.0, 1);
    assert_eq!(
        first,
        seen_at(0.5, 60.0, 120),
        "a moved head keeps its cells"
    );
    assert_eq!(first, seen_at(0.9, 100.0, 90), "new pixels add no samples");
    assert_ne!(
        first,
        seen_at(1.1, 100.0, 90),
        "after the freeze cells are taken anew"
    );
}

#[test]
fn the_same_seed_gives_the_same_picture_and_another_one_does_not() {
    let hidden = |seed: u64| {
        let mut picture = Picture::noisy(160, 120, I420, 0);
        let settings = EffectSettings {
            seed,
            ..EffectSettings::default()
        };
        let masks = frame(
            0.0,
            vec![mask(
                1,
                Rect::new(30.0, 30.0, 60.0, 60.0),
                MaskRules::default(),
            )],
        );
        Redactor::new(settings).apply(&mut picture.planes(), &masks);
        picture
    };
    assert_eq!(hidden(1), hidden(1));
    assert_ne!(hidden(1), hidden(2));
}

#[test]
fn the_doubt_state_replaces_every_sample_and_keeps_few() {
    for layout in LAYOUTS {
        let before = Picture::noisy(640, 361, layout, 3);
        let mut after = before.clone();
        let masks = FrameMasks {
            whole_frame: true,
            ..frame(0.0, Vec::new())
        };
        redactor(Effect::Mosaic).apply(&mut after.planes(), &masks);
        for (x, y) in (0..361).flat_map(|y| (0..640).map(move |x| (x, y))) {
            assert_ne!(before.luma(x, y), after.luma(x, y), "{layout:?} {x},{y}");
        }
        let rows: BTreeSet<Vec<u8>> = (0..361)
            .map(|y| (0..640).map(|x| after.luma(x, y)).collect())
            .collect();
        assert!(rows.len() <= 3 * MAX_ROWS, "{} rows of cells", rows.len());
    }
}

#[test]
fn a_zone_is_masked_row_by_row() {
    let before = Picture::noisy(100, 80, I420, 0);
    let mut after = before.clone();
    let rules = MaskRules::default();
    let zone = Mask {
        shape: Shape::Polygon(vec![(10.0, 10.0), (90.0, 10.0), (10.0, 70.0)]),
        ..mask(9, Rect::default(), rules)
    };
    hide(&mut after, Effect::Mosaic, vec![zone]);
    assert_ne!(before.luma(12, 40), after.luma(12, 40));
    assert_ne!(before.luma(80, 11), after.luma(80, 11));
    assert_eq!(before.luma(80, 60), after.luma(80, 60));
}
