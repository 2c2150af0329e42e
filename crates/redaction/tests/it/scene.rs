//! A made-up scene: textured heads moving before a textured wall, and a detector with faults.

use redaction::{Detection, FrameMasks, Kind, LumaPicture, PictureSize, Rect, Shape};

pub(crate) const SIZE: PictureSize = PictureSize {
    width: 1920,
    height: 1080,
};
pub(crate) const FPS: f64 = 15.0;
const SMALL: (usize, usize) = (320, 180);

/// Numbers between 0 and 1 that only look random.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.roll()
    }
}

/// One head: where its centre is on each frame it can be seen on.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) width: f32,
    pub(crate) frames: std::ops::Range<u64>,
    pub(crate) centre: fn(f32) -> (f32, f32),
    /// Frames on which it is turned away: no detector sees it.
    pub(crate) turned: std::ops::Range<u64>,
}

impl Head {
    /// Its box on a frame, if any of it is to be seen.
    pub(crate) fn rect(&self, frame: u64) -> Option<Rect> {
        let seconds = (frame as f64 / FPS) as f32;
        let rect = Rect::centred((self.centre)(seconds), self.width, 1.25 * self.width);
        let inside = rect.intersection(&Rect::from(SIZE)).area() > 0.0;
        (self.frames.contains(&frame) && inside).then_some(rect)
    }
}

/// The small picture of a frame, with camera noise.
pub(crate) fn picture(heads: &[Head], frame: u64) -> LumaPicture {
    let mut dice = Dice::new(frame << 20);
    let scale = SIZE.width as f32 / SMALL.0 as f32;
    let here: Vec<(usize, Rect)> = heads
        .iter()
        .enumerate()
        .filter_map(|(at, head)| Some((at, head.rect(frame)?)))
        .collect();
    let mut pixels = Vec::with_capacity(SMALL.0 * SMALL.1);
    for (x, y) in (0..SMALL.1).flat_map(|y| (0..SMALL.0).map(move |x| (x, y))) {
        let (fx, fy) = ((x as f32 + 0.5) * scale, (y as f32 + 0.5) * scale);
        let wall = 110.0
            + 25.0 * (fx * 0.013).sin() * (fy * 0.021).cos()
            + 18.0 * (fx * 0.05 + fy * 0.031).sin();
        let head = here
            .iter()
            .rev()
            .find_map(|(at, rect)| skin(*at, rect, fx, fy));
        let value = head.unwrap_or(wall) + dice.between(-4.0, 4.0);
        pixels.push(value.clamp(0.0, 255.0) as u8);
    }
    LumaPicture::new(SMALL.0, SMALL.1, pixels).expect("the right number of pixels")
}

/// Grey of a head at a point: dark hair above, lighter face with two eyes below.
fn skin(at: usize, rect: &Rect, x: f32, y: f32) -> Option<f32> {
    let centre = rect.centre();
    let (u, v) = (
        (x - centre.0) / rect.width * 2.0,
        (y - centre.1) / rect.height * 2.0,
    );
    if u * u + v * v > 1.0 {
        return None;
    }
    let tone = 150.0 + 15.0 * at as f32;
    let eye = ((u.abs() - 0.4).hypot(v) < 0.2) as u8 as f32;
    Some(if v < -0.3 {
        40.0 + 20.0 * u
    } else {
        tone - 90.0 * eye + 25.0 * u
    })
}

/// A detector that misses and jitters. What it sees always scores enough to extend a track
/// (`TrackerSettings::extend_score`), not always enough to start one.
pub(crate) struct Detector {
    pub(crate) misses: f32,
    pub(crate) jitter: f32,
    pub(crate) dice: Dice,
}

impl Detector {
    pub(crate) fn look(&mut self, heads: &[Head], frame: u64) -> Vec<Detection> {
        let mut seen = Vec::new();
        for head in heads.iter().filter(|head| !head.turned.contains(&frame)) {
            let Some(rect) = head.rect(frame) else {
                continue;
            };
            let visible = rect.share_inside(&Rect::from(SIZE));
            if self.dice.roll() < self.misses || visible < 0.5 {
                continue;
            }
            let jitter = self.jitter;
            let shake = |dice: &mut Dice| dice.between(-jitter, jitter);
            let (dx, dy) = (
                shake(&mut self.dice) * rect.width,
                shake(&mut self.dice) * rect.height,
            );
            let size = 1.0 + shake(&mut self.dice);
            let rect =
                Rect::centred(rect.centre(), rect.width * size, rect.height * size).moved(dx, dy);
            seen.push(Detection {
                rect,
                score: self.dice.between(0.16, 0.9),
                kind: Kind::Head,
            });
        }
        seen
    }
}

/// Share of the visible part of a head (an ellipse in its box) that lies under the masks.
pub(crate) fn cover(head: &Rect, masks: &FrameMasks) -> f32 {
    let (mut all, mut hidden) = (0, 0);
    for (column, row) in (0..16).flat_map(|row| (0..16).map(move |column| (column, row))) {
        let (u, v) = (
            (column as f32 + 0.5) / 8.0 - 1.0,
            (row as f32 + 0.5) / 8.0 - 1.0,
        );
        let centre = head.centre();
        let (x, y) = (
            centre.0 + u * head.width / 2.0,
            centre.1 + v * head.height / 2.0,
        );
        let inside =
            (0.0..SIZE.width as f32).contains(&x) && (0.0..SIZE.height as f32).contains(&y);
        if !inside || u * u + v * v > 1.0 {
            continue;
        }
        all += 1;
        hidden += u32::from(masks.masks.iter().any(|mask| contains(&mask.shape, x, y)));
    }
    if all == 0 {
        1.0
    } else {
        hidden as f32 / all as f32
    }
}

fn contains(shape: &Shape, x: f32, y: f32) -> bool {
    match shape {
        Shape::Ellipse(rect) => {
            let centre = rect.centre();
            let (u, v) = (
                (x - centre.0) / rect.width * 2.0,
                (y - centre.1) / rect.height * 2.0,
            );
            u * u + v * v <= 1.0
        }
        Shape::Rectangle(rect) => {
            (rect.x..=rect.right()).contains(&x) && (rect.y..=rect.bottom()).contains(&y)
        }
        Shape::Polygon(_) => false,
    }
}

/// Square pixels of the picture under any mask, to the nearest 100 or so.
pub(crate) fn hidden_area(masks: &FrameMasks) -> f64 {
    let step = 10;
    let places = (0..SIZE.height)
        .step_by(step)
        .flat_map(|y| (0..SIZE.width).step_by(step).map(move |x| (x, y)));
    let hidden = |&(x, y): &(u32, u32)| {
        masks
            .masks
            .iter()
            .any(|mask| contains(&mask.shape, x as f32 + 5.0, y as f32 + 5.0))
    };
    places.filter(hidden).count() as f64 * (step * step) as f64
}
