//! What redaction costs per 1080p frame: `cargo bench -p redaction`.

use criterion::{Criterion, criterion_group, criterion_main};
use redaction::{
    Certainty, Detection, Effect, EffectSettings, FrameInput, FrameMasks, Kind, LumaPicture, Mask,
    MaskRules, Observation, Overlay, OverlayLine, PictureSize, Plane, Rect, Redactor, TrackCarry,
    TrackId, Tracker, TrackerSettings, YuvPlanes,
};

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;

struct Frame {
    y: Vec<u8>,
    u: Vec<u8>,
    v: Vec<u8>,
}

impl Frame {
    fn new() -> Self {
        let pixels = |count: usize| {
            (0..count)
                .map(|at| (at * 7 + at / 1920 * 3) as u8)
                .collect()
        };
        let quarter = WIDTH * HEIGHT / 4;
        Self {
            y: pixels(WIDTH * HEIGHT),
            u: pixels(quarter),
            v: pixels(quarter),
        }
    }

    fn planes(&mut self) -> YuvPlanes<'_> {
        let luma = Plane {
            data: &mut self.y,
            stride: WIDTH,
        };
        let u = Plane {
            data: &mut self.u,
            stride: WIDTH / 2,
        };
        let v = Plane {
            data: &mut self.v,
            stride: WIDTH / 2,
        };
        YuvPlanes::i420((WIDTH, HEIGHT), luma, u, v).expect("planes of the right size")
    }
}

/// Five heads of 60 to 120 px.
fn five_heads(time: f64) -> FrameMasks {
    let mask = |track: u64| {
        let width = 60.0 + 15.0 * track as f32;
        let head = Rect::new(150.0 + 330.0 * track as f32, 301.0, width, width * 1.25);
        let shape = MaskRules::default().shape(&head);
        Mask {
            track: TrackId(track),
            head,
            shape,
            certainty: Certainty::Seen,
            score: 0.9,
        }
    };
    FrameMasks {
        frame: 0,
        time,
        whole_frame: false,
        masks: (0..5).map(mask).collect(),
    }
}

fn masks(criterion: &mut Criterion) {
    let mut frame = Frame::new();
    for effect in [Effect::Blur, Effect::Mosaic, Effect::Solid] {
        let settings = EffectSettings {
            effect,
            ..EffectSettings::default()
        };
        let mut redactor = Redactor::new(settings.clone());
        let mut time = 0.0;
        criterion.bench_function(&format!("five heads, {effect:?}"), |bench| {
            bench.iter(|| {
                time += 1.0 / 15.0;
                redactor.apply(&mut frame.planes(), &five_heads(time));
            });
        });
    }
    let mut redactor = Redactor::new(EffectSettings::default());
    criterion.bench_function("whole frame", |bench| {
        bench.iter(|| redactor.whole_frame(&mut frame.planes()));
    });
}

fn caption(criterion: &mut Criterion) {
    let line = |frame: u64| OverlayLine {
        text: "Warehouse 2, north gate".to_owned(),
        time: format!(
            "2026-05-04 13:37:{:02}.{:03} +09:00",
            frame / 15 % 60,
            frame % 15 * 66
        ),
        frame,
        frames: 450,
    };
    let mut frame = Frame::new();
    let mut overlay = Overlay::new((WIDTH, HEIGHT), &line(450));
    let mut number = 0;
    criterion.bench_function("caption", |bench| {
        bench.iter(|| {
            number = number % 450 + 1;
            overlay.draw(&mut frame.planes(), &line(number));
        });
    });
}

/// Five heads walking over a textured picture, detected every sixth frame.
fn tracks(criterion: &mut Criterion) {
    let size = PictureSize {
        width: WIDTH as u32,
        height: HEIGHT as u32,
    };
    let frame = Frame::new();
    criterion.bench_function("small picture of 1080p", |bench| {
        bench.iter(|| LumaPicture::scaled_down(&frame.y, WIDTH, size, 320));
    });
    let pictures: Vec<LumaPicture> = (0..15).map(walking).collect();
    let mut tracker = Tracker::new(TrackerSettings::default(), size, TrackCarry::default());
    let mut number = 0u64;
    criterion.bench_function("five tracks", |bench| {
        bench.iter(|| {
            let phase = number % 15;
            let heads = || {
                (0..5).map(|head| Detection {
                    rect: walker(head, phase),
                    score: 0.8,
                    kind: Kind::Head,
                })
            };
            let observation = if number.is_multiple_of(6) {
                Observation::Detected(heads().collect())
            } else {
                Observation::NotDetected
            };
            let picture = Some(pictures[phase as usize].clone());
            tracker.push(FrameInput {
                time: number as f64 / 15.0,
                observation,
                picture,
                damaged: false,
            });
            number += 1;
            tracker.pull()
        });
    });
}

/// There and back within a second.
fn walker(head: u64, phase: u64) -> Rect {
    let width = 60.0 + 15.0 * head as f32;
    let away = phase.min(15 - phase) as f32;
    Rect::new(
        150.0 + 330.0 * head as f32 + 12.0 * away,
        301.0,
        width,
        width * 1.25,
    )
}

/// Blobs of random grey, four small pixels wide.
fn blob(x: f32, y: f32) -> f32 {
    let corner = |dx: f32, dy: f32| {
        let (cx, cy) = (
            ((x / 4.0).floor() + dx) as i64,
            ((y / 4.0).floor() + dy) as i64,
        );
        ((cx * 7_919 + cy * 104_729).wrapping_mul(2_654_435_761) >> 7 & 0x7f) as f32
    };
    let (fx, fy) = ((x / 4.0).fract(), (y / 4.0).fract());
    let mix = |a: f32, b: f32, t: f32| a + (b - a) * t;
    mix(
        mix(corner(0.0, 0.0), corner(1.0, 0.0), fx),
        mix(corner(0.0, 1.0), corner(1.0, 1.0), fx),
        fy,
    )
}

/// Five moving heads before a wall that stands still.
fn walking(phase: u64) -> LumaPicture {
    let heads: Vec<(Rect, f32)> = (0..5u64)
        .map(|head| (walker(head, phase), 400.0 * (head + 1) as f32))
        .collect();
    let value = |x: usize, y: usize| {
        let (fx, fy) = (6.0 * x as f32 + 3.0, 6.0 * y as f32 + 3.0);
        let over = heads
            .iter()
            .find(|(rect, _)| rect.intersection(&Rect::new(fx, fy, 1.0, 1.0)).area() > 0.0);
        match over {
            Some((rect, far)) => 60.0 + blob((fx - rect.x) / 6.0 + far, (fy - rect.y) / 6.0),
            None => 40.0 + blob(x as f32, y as f32),
        }
    };
    let pixels = (0..180)
        .flat_map(|y| (0..320).map(move |x| (x, y)))
        .map(|(x, y)| value(x, y) as u8);
    LumaPicture::new(320, 180, pixels.collect()).expect("the right number of pixels")
}

criterion_group!(benches, masks, caption, tracks);
criterion_main!(benches);
