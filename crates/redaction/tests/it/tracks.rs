//! Every head on every frame, whatever the detector misses.

use proptest::prelude::*;
use redaction::{
    CarriedTrack, Detection, FrameInput, FrameMasks, Kind, LumaPicture, Observation, Polygon, Rect,
    StaticRules, TrackCarry, Tracker, TrackerSettings, Zones,
};

use crate::scene::{Detector, Dice, FPS, Head, SIZE, cover, hidden_area, picture};

const FRAMES: u64 = 90;
const NEVER: std::ops::Range<u64> = 0..0;

fn scenes() -> Vec<(&'static str, Vec<Head>)> {
    let head = |width, frames, centre, turned| Head {
        width,
        frames,
        centre,
        turned,
    };
    let all = 0..FRAMES;
    vec![
        (
            "crosses the picture",
            vec![head(
                70.0,
                all.clone(),
                |t| (-120.0 + 420.0 * t, 400.0 + 30.0 * (3.0 * t).sin()),
                NEVER,
            )],
        ),
        (
            "walks a wave",
            vec![head(
                90.0,
                all.clone(),
                |t| (300.0 + 200.0 * t, 500.0 + 160.0 * (1.7 * t).sin()),
                NEVER,
            )],
        ),
        (
            "turns away and back, and walks on meanwhile",
            vec![head(
                100.0,
                all.clone(),
                |t| (960.0 + 300.0 * (1.1 * t).sin(), 500.0),
                40..58,
            )],
        ),
        (
            "comes through a door",
            vec![head(
                80.0,
                37..90,
                |t| (700.0 + 60.0 * (t - 2.4) * (t - 2.4), 420.0),
                NEVER,
            )],
        ),
        (
            "leaves through a door",
            vec![head(80.0, 0..52, |t| (1200.0 - 130.0 * t, 420.0), NEVER)],
        ),
        (
            "two cross",
            vec![
                head(80.0, all.clone(), |t| (300.0 + 220.0 * t, 500.0), NEVER),
                head(80.0, all.clone(), |t| (1600.0 - 220.0 * t, 540.0), NEVER),
            ],
        ),
        (
            "small and far",
            vec![head(
                28.0,
                all.clone(),
                |t| (500.0 + 90.0 * t, 300.0 + 12.0 * (4.0 * t).sin()),
                NEVER,
            )],
        ),
        (
            "sits",
            vec![head(
                120.0,
                all,
                |t| (900.0 + 6.0 * (2.0 * t).sin(), 600.0 + 4.0 * t.cos()),
                20..30,
            )],
        ),
    ]
}

struct Run {
    every: u64,
    misses: f32,
    seed: u64,
    pictures: bool,
    ask: usize,
}

fn redact((heads, pictures): (&[Head], &[LumaPicture]), run: &Run) -> Vec<FrameMasks> {
    let mut tracker = Tracker::new(TrackerSettings::default(), SIZE, TrackCarry::default());
    let mut detector = Detector {
        misses: run.misses,
        jitter: 0.06,
        dice: Dice::new(run.seed),
    };
    let mut out = Vec::new();
    for frame in 0..FRAMES {
        let looked = frame % run.every == 0;
        let observation = if looked {
            Observation::Detected(detector.look(heads, frame))
        } else {
            Observation::NotDetected
        };
        let picture = run.pictures.then(|| pictures[frame as usize].clone());
        tracker.push(FrameInput {
            time: frame as f64 / FPS,
            observation,
            picture,
            damaged: false,
        });
        if looked {
            for wanted in tracker.wanted(run.ask) {
                tracker.amend(wanted, detector.look(heads, wanted));
            }
        }
        out.extend(std::iter::from_fn(|| tracker.pull()));
    }
    tracker.finish();
    out.extend(std::iter::from_fn(|| tracker.pull()));
    out
}

/// Worst cover of any visible head on any frame, and how much area is masked per head area.
struct Verdict {
    bare: Vec<(u64, f32)>,
    excess: f64,
}

fn judge(heads: &[Head], out: &[FrameMasks]) -> Verdict {
    let (mut bare, mut hidden, mut wanted) = (Vec::new(), 0.0, 0.0);
    for masks in out {
        hidden += hidden_area(masks);
        for rect in heads.iter().filter_map(|head| head.rect(masks.frame)) {
            wanted += f64::from(rect.area()) * std::f64::consts::FRAC_PI_4;
            let cover = cover(&rect, masks);
            if cover < 0.95 {
                bare.push((masks.frame, cover));
            }
        }
    }
    Verdict {
        bare,
        excess: hidden / wanted,
    }
}

fn pictures(heads: &[Head]) -> Vec<LumaPicture> {
    (0..FRAMES).map(|frame| picture(heads, frame)).collect()
}

#[test]
fn every_head_is_covered_on_every_frame() {
    for (name, heads) in scenes() {
        let pictures = pictures(&heads);
        for (every, misses, ask) in [
            (1, 0.0, 0),
            (1, 0.4, 2),
            (2, 0.4, 2),
            (3, 0.3, 2),
            (5, 0.4, 2),
            (8, 0.0, 0),
            (8, 0.3, 2),
            (8, 0.4, 2),
        ] {
            for seed in 0..2 {
                let out = redact(
                    (&heads, &pictures),
                    &Run {
                        every,
                        misses,
                        seed,
                        pictures: true,
                        ask,
                    },
                );
                assert_eq!(out.len() as u64, FRAMES);
                let verdict = judge(&heads, &out);
                let run = format!("{name}: every {every}, misses {misses}, seed {seed}");
                assert!(verdict.bare.is_empty(), "{run}: bare on {:?}", verdict.bare);
                assert!(
                    verdict.excess < 6.0,
                    "{run}: {} times the heads' area",
                    verdict.excess
                );
            }
        }
    }
}

#[test]
fn a_still_head_is_covered_wherever_its_boxes_jump() {
    let heads = [Head {
        width: 160.0,
        frames: 0..FRAMES,
        centre: |_| (900.0, 500.0),
        turned: NEVER,
    }];
    let mut tracker = tracker(TrackerSettings::default());
    let mut out = Vec::new();
    for frame in 0..FRAMES {
        let head = heads[0].rect(frame).expect("always there");
        let off = |share: f32| Detection {
            rect: head.moved(share * head.width, 0.0),
            score: 0.8,
            kind: Kind::Head,
        };
        // Every other look is right.
        let seen = match frame % 8 {
            0 => Some(vec![off(0.0)]),
            4 => Some(vec![off(0.6)]),
            _ => None,
        };
        tracker.push(FrameInput {
            picture: Some(picture(&heads, frame)),
            ..input(frame as f64 / FPS, seen)
        });
        out.extend(std::iter::from_fn(|| tracker.pull()));
    }
    out.extend(rest(&mut tracker));
    let verdict = judge(&heads, &out);
    assert!(verdict.bare.is_empty(), "bare on {:?}", verdict.bare);
}

#[test]
fn without_pictures_speed_alone_covers_short_gaps() {
    for (name, heads) in scenes() {
        let run = Run {
            every: 2,
            misses: 0.0,
            seed: 5,
            pictures: false,
            ask: 2,
        };
        let verdict = judge(&heads, &redact((&heads, &[]), &run));
        assert!(
            verdict.bare.is_empty(),
            "{name}: bare on {:?}",
            verdict.bare
        );
    }
}

#[test]
fn the_same_input_gives_the_same_masks() {
    let (_, heads) = scenes().swap_remove(5);
    let pictures = pictures(&heads);
    let run = || {
        redact(
            (&heads, &pictures),
            &Run {
                every: 4,
                misses: 0.3,
                seed: 9,
                pictures: true,
                ask: 2,
            },
        )
    };
    assert_eq!(run(), run());
}

fn input(time: f64, seen: Option<Vec<Detection>>) -> FrameInput {
    let observation = seen.map_or(Observation::NotDetected, Observation::Detected);
    FrameInput {
        time,
        observation,
        picture: None,
        damaged: false,
    }
}

fn seen(x: f32, score: f32) -> Detection {
    Detection {
        rect: Rect::new(x, 400.0, 80.0, 100.0),
        score,
        kind: Kind::Head,
    }
}

fn tracker(settings: TrackerSettings) -> Tracker {
    Tracker::new(settings, SIZE, TrackCarry::default())
}

fn rest(tracker: &mut Tracker) -> Vec<FrameMasks> {
    tracker.finish();
    std::iter::from_fn(|| tracker.pull()).collect()
}

#[test]
fn memory_stays_bounded() {
    let mut tracker = tracker(TrackerSettings {
        look_ahead: 20,
        ..TrackerSettings::default()
    });
    let mut dice = Dice::new(3);
    let mut sizes = Vec::new();
    for frame in 0u64..1500 {
        let heads = (0..3)
            .map(|_| seen(1800.0 * dice.roll(), dice.roll()))
            .collect();
        let size = tracker.push(input(frame as f64 / FPS, (frame % 3 == 0).then_some(heads)));
        assert_eq!(size, frame);
        for wanted in tracker.wanted(1) {
            assert!(
                wanted <= frame && wanted + 21 > frame,
                "{wanted} at {frame}"
            );
        }
        while let Some(masks) = tracker.pull() {
            assert_eq!(masks.frame + 20, frame);
        }
        if frame % 300 == 299 {
            sizes.push(format!("{tracker:?}").len());
        }
    }
    assert!(
        sizes[4] < 2 * sizes[1],
        "the tracker's state grew: {sizes:?}"
    );
}

#[test]
fn a_head_at_the_segments_end_is_covered_from_the_next_ones_first_frame() {
    let mut first = tracker(TrackerSettings::default());
    for frame in 0..30u64 {
        first.push(input(
            frame as f64 / FPS,
            Some(vec![seen(300.0 + 10.0 * frame as f32, 0.8)]),
        ));
    }
    rest(&mut first);
    let carry = first.carry();
    assert_eq!(carry.tracks.len(), 1);
    assert!((carry.tracks[0].speed.0 - 150.0).abs() < 5.0, "{carry:?}");
    let mut next = Tracker::new(TrackerSettings::default(), SIZE, carry.clone());
    for frame in 0..10u64 {
        let again = (frame == 6).then(|| vec![seen(600.0 + 10.0 * frame as f32, 0.8)]);
        next.push(input(frame as f64 / FPS, again));
    }
    for masks in rest(&mut next) {
        let head = seen(600.0 + 10.0 * masks.frame as f32, 0.8).rect;
        assert!(
            cover(&head, &masks) > 0.95,
            "frame {}: {masks:?}",
            masks.frame
        );
        assert!(
            masks
                .masks
                .iter()
                .all(|mask| mask.track.0 < carry.next_track),
            "the head keeps its number"
        );
    }
}

/// Somebody who keeps still before a wall.
const SITTING: Head = Head {
    width: 80.0,
    frames: 0..1000,
    centre: |_| (500.0, 450.0),
    turned: NEVER,
};

#[test]
fn a_head_that_was_followed_to_the_segments_end_unseen_stays_covered_in_the_next_one() {
    let sitting = [SITTING];
    let head = sitting[0].rect(0).expect("there");
    let see = |frame: u64| {
        let detection = Detection {
            rect: head,
            score: 0.8,
            kind: Kind::Head,
        };
        // Turned away for the last half second.
        let seen = if frame < 22 {
            vec![detection]
        } else {
            Vec::new()
        };
        frame.is_multiple_of(4).then_some(seen)
    };
    let mut first = tracker(TrackerSettings::default());
    for frame in 0..30u64 {
        first.push(FrameInput {
            picture: Some(picture(&sitting, frame)),
            ..input(frame as f64 / FPS, see(frame))
        });
    }
    rest(&mut first);
    let mut next = Tracker::new(TrackerSettings::default(), SIZE, first.carry());
    for frame in 0..30u64 {
        let empty = (frame % 4 == 0).then(Vec::new);
        next.push(FrameInput {
            picture: Some(picture(&sitting, 30 + frame)),
            ..input(frame as f64 / FPS, empty)
        });
    }
    for masks in rest(&mut next).iter().take(10) {
        assert!(cover(&head, masks) > 0.95, "frame {}", masks.frame);
    }
}

#[test]
fn somebody_is_followed_until_his_mask_ends() {
    let mut tracker = tracker(TrackerSettings::default());
    assert!(!tracker.follows_somebody());
    let sitting = [SITTING];
    let mut followed = Vec::new();
    for frame in 0..90u64 {
        let seen = vec![seen(460.0, 0.45)];
        let look = match frame {
            0..20 => (frame % 4 == 0).then_some(seen),
            20 | 35 => Some(Vec::new()),
            _ => None,
        };
        tracker.push(FrameInput {
            picture: Some(picture(&sitting, frame)),
            ..input(frame as f64 / FPS, look)
        });
        followed.push(tracker.follows_somebody());
    }
    assert!(followed[35], "an empty look is not the end");
    assert!(!followed[89], "nobody saw him for five seconds");
}

#[test]
fn a_small_head_in_the_corner_of_a_large_box_has_its_own_mask() {
    let boxes = [
        Rect::new(400.0, 400.0, 400.0, 400.0),
        Rect::new(818.0, 342.0, 40.0, 40.0),
    ];
    let see = |rect: &Rect| Detection {
        rect: *rect,
        score: 0.8,
        kind: Kind::Head,
    };
    let mut tracker = tracker(TrackerSettings::default());
    tracker.push(input(0.0, Some(boxes.iter().map(see).collect())));
    let masks = rest(&mut tracker);
    for head in &boxes {
        assert!(cover(head, &masks[0]) > 0.95, "{head:?}: {masks:?}");
    }
}

#[test]
fn weak_sightings_start_no_track_but_belong_to_one_that_starts_later() {
    let masks_with = |last: f32| {
        let mut tracker = tracker(TrackerSettings::default());
        for frame in 0..30u64 {
            let score = if frame == 29 { last } else { 0.15 };
            tracker.push(input(frame as f64 / FPS, Some(vec![seen(500.0, score)])));
        }
        rest(&mut tracker)
            .iter()
            .filter(|masks| !masks.is_clear())
            .count()
    };
    assert_eq!(masks_with(0.15), 0);
    assert_eq!(masks_with(0.6), 30);
}

#[test]
fn a_damaged_frame_is_masked_whole() {
    let mut tracker = tracker(TrackerSettings::default());
    for frame in 0..5u64 {
        tracker.push(FrameInput {
            damaged: frame == 2,
            ..input(frame as f64 / FPS, None)
        });
    }
    let whole: Vec<bool> = rest(&mut tracker)
        .iter()
        .map(|masks| masks.whole_frame)
        .collect();
    assert_eq!(whole, [false, false, true, false, false]);
}

#[test]
fn a_never_zone_drops_only_what_never_leaves_it() {
    let square = |x: f32| Polygon {
        points: vec![(x, 0.3), (x + 0.2, 0.3), (x + 0.2, 0.6), (x, 0.6)],
    };
    let zones = Zones {
        never: vec![square(0.2)],
        always: vec![square(0.7)],
    };
    let mut tracker = tracker(TrackerSettings {
        zones,
        ..TrackerSettings::default()
    });
    for frame in 0..30u64 {
        let time = frame as f64 / FPS;
        // A poster in the zone, and somebody who walks out of it.
        let visitor = seen(600.0 + 12.0 * frame as f32, 0.9);
        tracker.push(input(time, Some(vec![seen(420.0, 0.9), visitor])));
    }
    for masks in rest(&mut tracker) {
        let (poster, visitor) = (
            seen(420.0, 0.9).rect,
            seen(600.0 + 12.0 * masks.frame as f32, 0.9).rect,
        );
        assert!(
            cover(&visitor, &masks) > 0.95,
            "the visitor was inside before he walked out"
        );
        assert!(cover(&poster, &masks) < 0.5, "the poster is excluded");
        let always = Rect::new(0.75 * 1920.0, 0.4 * 1080.0, 80.0, 100.0);
        let polygons = masks
            .masks
            .iter()
            .filter(|mask| mask.shape.bounds().share_inside(&always) < 1.0);
        assert!(
            polygons
                .into_iter()
                .any(|mask| always.share_inside(&mask.shape.bounds()) == 1.0)
        );
    }
}

#[test]
fn who_stops_in_front_of_a_poster_in_a_never_zone_stays_hidden() {
    let zone = Polygon {
        points: vec![(0.4, 0.2), (0.6, 0.2), (0.6, 0.7), (0.4, 0.7)],
    };
    let head = |centre| Head {
        width: 100.0,
        frames: 0..150,
        centre,
        turned: NEVER,
    };
    let poster = head(|_| (960.0, 480.0));
    let visitors: [fn(f32) -> (f32, f32); 3] = [
        |t| ((300.0 + 330.0 * t).min(960.0), 480.0),
        |t| ((300.0 + 330.0 * t).min(985.0), 480.0),
        |t| ((300.0 + 330.0 * t).min(1000.0), 480.0),
    ];
    for (visitor, seed) in visitors
        .into_iter()
        .flat_map(|way| (0..16).map(move |seed| (way, seed)))
    {
        let heads = [poster.clone(), head(visitor)];
        let mut tracker = tracker(TrackerSettings {
            zones: Zones {
                never: vec![zone.clone()],
                always: Vec::new(),
            },
            ..TrackerSettings::default()
        });
        let mut dice = Dice::new(seed);
        for frame in 0..150u64 {
            let rects = [0, 1].map(|at: usize| heads[at].rect(frame).expect("it is there"));
            let is_seen = |at: usize| at == 1 || rects[0].share_inside(&rects[1]) < 0.2;
            let looks = frame % 4 == 0;
            let mut look = |at: usize| {
                let shake = [0.0; 2].map(|_: f32| 24.0 * (dice.roll() - 0.5));
                Detection {
                    rect: rects[at].moved(shake[0], shake[1]),
                    score: 0.6 + 0.3 * dice.roll(),
                    kind: Kind::Head,
                }
            };
            let seen = [0, 1]
                .into_iter()
                .filter(|&at| is_seen(at))
                .map(&mut look)
                .collect();
            tracker.push(FrameInput {
                picture: Some(picture(&heads, frame)),
                ..input(frame as f64 / FPS, looks.then_some(seen))
            });
        }
        for masks in rest(&mut tracker) {
            let rect = heads[1].rect(masks.frame).expect("it is there");
            assert!(
                cover(&rect, &masks) > 0.9,
                "seed {seed}, frame {}",
                masks.frame
            );
        }
    }
}

/// A low-scored thing on one spot for 40 s, with or without motion in its box at one moment.
fn masked_at_the_end(rules: Option<StaticRules>, moves: bool, best_score: f32) -> bool {
    let still = Head {
        width: 80.0,
        frames: 0..0,
        centre: |_| (0.0, 0.0),
        turned: NEVER,
    };
    let wall = picture(&[still], 0);
    let mut blinked = wall.pixels().to_vec();
    blinked[(440 / 6) * 320 + 540 / 6] ^= 0x40;
    let blinked = LumaPicture::new(320, 180, blinked).expect("the same size");
    let mut tracker = tracker(TrackerSettings {
        static_rules: rules,
        look_ahead: 30,
        ..TrackerSettings::default()
    });
    let mut last = FrameMasks::default();
    for frame in 0..200u64 {
        let score = if frame == 50 { best_score } else { 0.3 };
        let picture = Some(if moves && frame == 150 {
            blinked.clone()
        } else {
            wall.clone()
        });
        tracker.push(FrameInput {
            picture,
            ..input(frame as f64 / 5.0, Some(vec![seen(500.0, score)]))
        });
        last = tracker.pull().unwrap_or(last);
    }
    !last.is_clear()
}

#[test]
fn only_a_lifeless_low_scored_spot_loses_its_mask() {
    let rules = Some(StaticRules::default());
    assert!(
        !masked_at_the_end(rules, false, 0.3),
        "40 s without life: dropped"
    );
    assert!(masked_at_the_end(None, false, 0.3), "off by default");
    assert!(masked_at_the_end(rules, true, 0.3), "it moved once");
    assert!(masked_at_the_end(rules, false, 0.5), "it scored high once");
}

/// Somebody comes in on the left after 8 s and vanishes at x = 1200, where a post stands that a detector weakly
/// takes for a head all the time. How many frames are masked from 10 s after he has gone on.
fn masked_after_a_passer_by(post_stands_still: bool) -> usize {
    let passer = Head {
        width: 80.0,
        frames: 120..180,
        centre: |seconds| (300.0 + 240.0 * (seconds - 8.0), 450.0),
        turned: NEVER,
    };
    // The post; where it does not stand still it nods, as somebody who sits there would.
    let post = Head {
        width: 80.0,
        frames: 0..420,
        centre: |_| (1240.0, 450.0),
        turned: NEVER,
    };
    let nodding = Head {
        centre: |seconds| (1240.0, 450.0 + 10.0 * (7.0 * seconds).sin()),
        ..post.clone()
    };
    let heads = [passer, if post_stands_still { post } else { nodding }];
    let mut tracker = tracker(TrackerSettings {
        look_ahead: 30,
        ..TrackerSettings::default()
    });
    let mut masked = 0;
    for frame in 0..420u64 {
        let of_passer = heads[0].rect(frame).map(|rect| Detection {
            rect,
            ..seen(0.0, 0.8)
        });
        let of_post = heads[1].rect(frame).map(|rect| Detection {
            rect,
            ..seen(0.0, 0.2)
        });
        let looks = frame.is_multiple_of(3);
        let both = || of_passer.into_iter().chain(of_post).collect();
        tracker.push(FrameInput {
            picture: Some(picture(&heads, frame)),
            ..input(frame as f64 / FPS, looks.then(both))
        });
        let late = tracker.pull().filter(|masks| masks.frame >= 330);
        masked += usize::from(late.is_some_and(|masks| !masks.is_clear()));
    }
    masked
}

#[test]
fn nobody_hands_his_mask_on_to_a_post() {
    assert_eq!(masked_after_a_passer_by(true), 0, "a post");
    assert!(masked_after_a_passer_by(false) > 50, "somebody who nods");
}

#[test]
fn a_still_head_that_is_clearly_seen_now_and_then_is_no_post() {
    let head = Head {
        width: 80.0,
        frames: 0..450,
        centre: |_| (540.0, 450.0),
        turned: NEVER,
    };
    let heads = [head];
    let mut tracker = tracker(TrackerSettings {
        look_ahead: 30,
        ..TrackerSettings::default()
    });
    let mut masked = Vec::new();
    for frame in 0..450u64 {
        let clear = (150..180).contains(&frame);
        let seen = seen(500.0, if clear { 0.6 } else { 0.2 });
        let looks = frame.is_multiple_of(3);
        tracker.push(FrameInput {
            picture: Some(picture(&heads, frame)),
            ..input(frame as f64 / FPS, looks.then(|| vec![seen]))
        });
        masked.extend(tracker.pull());
    }
    masked.extend(rest(&mut tracker));
    let shown = |masks: &&FrameMasks| masks.frame >= 150 && masks.is_clear();
    assert_eq!(masked.iter().filter(shown).count(), 0);
}

#[test]
fn the_detector_is_asked_where_a_track_begins_ends_and_jumps() {
    let mut tracker = tracker(TrackerSettings::default());
    let at = |frame: u64| match frame {
        0 | 40 => Some(vec![]),
        8 | 16 => Some(vec![seen(500.0, 0.8)]),
        // Far, but not too far to be the same head.
        24 | 32 => Some(vec![seen(740.0, 0.8)]),
        _ => None,
    };
    for frame in 0..41u64 {
        tracker.push(input(frame as f64 / FPS, at(frame)));
    }
    assert_eq!(tracker.wanted(2).first(), Some(&20), "the jump comes first");
    let more = tracker.wanted(10);
    assert!(more.contains(&36) || more.contains(&4), "{more:?}");
    assert!(!more.contains(&20), "nothing is asked twice");
    assert!(tracker.wanted(0).is_empty());
}

fn any_number() -> impl Strategy<Value = f32> {
    prop_oneof![4 => -200.0f32..2200.0, 1 => prop::num::f32::ANY, 1 => Just(f32::MAX), 1 => Just(0.0)]
}

fn any_detection() -> impl Strategy<Value = Detection> {
    let rect = (any_number(), any_number(), any_number(), any_number());
    (
        rect,
        prop_oneof![3 => 0.0f32..1.0, 1 => prop::num::f32::ANY],
    )
        .prop_map(|((x, y, width, height), score)| Detection {
            rect: Rect::new(x, y, width, height),
            score,
            kind: Kind::Other,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_a_detector_says_makes_it_panic(
        frames in prop::collection::vec(
            (prop::option::of(prop::collection::vec(any_detection(), 0..5)), prop::num::f64::ANY, any::<bool>(), any::<bool>()),
            1..40,
        ),
        look_ahead in 0usize..12,
        amends in prop::collection::vec((0u64..40, any_detection()), 0..6),
        carried in prop::collection::vec(any_detection(), 0..3),
    ) {
        let tracks = carried.iter().zip(0..).map(|(seen, track)| CarriedTrack {
            track, rect: seen.rect, speed: (seen.score, seen.rect.x), score: seen.score,
            unseen: f64::from(seen.rect.y), still: None, outside_never: true,
        });
        let carry = TrackCarry { next_track: 1, tracks: tracks.collect() };
        let settings = TrackerSettings { look_ahead, static_rules: Some(StaticRules::default()), ..TrackerSettings::default() };
        let mut tracker = Tracker::new(settings, SIZE, carry);
        let mut out = 0;
        let small = picture(&[], 0);
        for (number, (seen, time, pictured, damaged)) in frames.iter().enumerate() {
            let time = if *damaged { *time } else { number as f64 / FPS };
            let picture = pictured.then(|| small.clone());
            tracker.push(FrameInput { picture, damaged: *damaged, ..input(time, seen.clone()) });
            for (frame, seen) in &amends {
                tracker.amend(*frame, vec![*seen]);
            }
            tracker.wanted(1);
            out += usize::from(tracker.pull().is_some());
        }
        out += rest(&mut tracker).len();
        prop_assert_eq!(out, frames.len());
        tracker.carry();
    }
}
