//! What redaction costs per 1080p frame: `cargo bench -p redaction`.

use criterion::{Criterion, criterion_group, criterion_main};
use redaction::{
    Certainty, Effect, EffectSettings, FrameMasks, Mask, MaskRules, Plane, Rect, Redactor, TrackId,
    YuvPlanes,
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

criterion_group!(benches, masks);
criterion_main!(benches);
