//! Every head on every frame, whatever the detector misses.

use redaction::{
    FrameInput, FrameMasks, LumaPicture, Observation, TrackCarry, Tracker, TrackerSettings,
};

use crate::scene::{Detector, Dice, FPS, Head, SIZE, cover, picture};

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

#[test]
fn survey() {
    let scenes: Vec<_> = scenes()
        .into_iter()
        .map(|(n, h)| {
            let p: Vec<_> = (0..FRAMES).map(|f| picture(&h, f)).collect();
            (n, h, p)
        })
        .collect();
    for pictures in [true] {
        for ask in [0, 2] {
            for every in [1, 2, 4, 6, 8] {
                for misses in [0.0, 0.2, 0.4] {
                    let mut bad = std::collections::BTreeMap::new();
                    let mut n = 0;
                    let mut nbad = 0;
                    let mut area = 0.0f64;
                    let mut harea = 0.0f64;
                    for (name, heads, small) in &scenes {
                        for seed in 0..6 {
                            let run = Run {
                                every,
                                misses,
                                seed,
                                pictures,
                                ask,
                            };
                            let out = redact((&heads, &small), &run);
                            assert_eq!(out.len() as u64, FRAMES);
                            for (frame, masks) in out.iter().enumerate() {
                                area += masks
                                    .masks
                                    .iter()
                                    .map(|m| m.shape.bounds().area() as f64 * 0.785)
                                    .sum::<f64>();
                                for head in heads {
                                    let Some(rect) = head.rect(frame as u64) else {
                                        continue;
                                    };
                                    harea += rect.area() as f64 * 0.785;
                                    n += 1;
                                    let c = cover(&rect, masks);
                                    if c < 0.95 {
                                        nbad += 1;
                                        bad.entry((name, seed))
                                            .or_insert(Vec::new())
                                            .push((frame, (c * 100.0) as i32));
                                    }
                                }
                            }
                        }
                    }
                    println!(
                        "pictures {pictures} ask {ask} every {every} misses {misses}: {nbad}/{n} bad, area x{:.2}",
                        area / harea
                    );
                    if pictures {
                        for (k, v) in bad {
                            println!("    {k:?}: {v:?}");
                        }
                    }
                }
            }
        }
    }
}
#[test]
fn debug_cross() {
    let (_, heads) = scenes().into_iter().find(|s| s.0 == "two cross").unwrap();
    let p: Vec<_> = (0..FRAMES).map(|f| picture(&heads, f)).collect();
    for (every, seed) in [(1, 0), (8, 1)] {
        let out = redact(
            (&heads, &p),
            &Run {
                every,
                misses: 0.0,
                seed,
                pictures: true,
                ask: 0,
            },
        );
        for f in 38..50 {
            println!("{f}");
            for h in &heads {
                let r = h.rect(f).unwrap();
                println!("   head {r:?} {}", cover(&r, &out[f as usize]));
            }
            for m in &out[f as usize].masks {
                println!("   mask {:?} {:?} {:?}", m.track, m.head, m.certainty);
            }
        }
    }
}
