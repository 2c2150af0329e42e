//! Example of a detector plugin: masks what moves.
//!
//! Compares each picture with the camera's last one in blocks of 8 x 8 pixels
//! and reports every block that changed. Crude, but it shows all there is to a
//! detector: settings, a wish for small pictures, state per camera, errors.
//!
//! Build: `cargo build --release`, then in the processor's settings:
//! `"blur_module_path": "examples/rust-detector/target/release/libmotion_detector.so"`

use plugin_abi::{
    CreateContext, Detector, Failure, FrameView, PixelFormat, Region, RegionKind, Wants,
    export_plugin,
};

/// Side of a block, pixels of the small picture.
const BLOCK: usize = 8;
/// Mean difference of brightness from which on a block moved.
const MOVED: u32 = 12;

struct MotionDetector {
    /// Brightness of each camera's last picture.
    last: Vec<Option<Luma>>,
}

struct Luma {
    width: usize,
    height: usize,
    samples: Vec<u8>,
}

impl Detector for MotionDetector {
    const NAME: &'static str = "motion-detector";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    // `context.settings` is the JSON object `plugin` of the processor's
    // settings; parse it with the crate of your choice. This example has none.
    fn create(context: &CreateContext<'_>) -> Result<Self, Failure> {
        if !matches!(context.settings.trim(), "" | "{}") {
            return Err(format!("no settings are known here: {}", context.settings).into());
        }
        Ok(Self {
            last: (0..context.cameras).map(|_| None).collect(),
        })
    }

    // The host scales once, for us: 320 x 180 is plenty for motion, and I420
    // begins with plain brightness.
    fn wants(&self) -> Wants {
        Wants {
            format: Some(PixelFormat::I420),
            max_size: Some((320, 180)),
        }
    }

    fn detect(&mut self, frame: &FrameView<'_>, regions: &mut Vec<Region>) -> Result<(), Failure> {
        let info = frame.info();
        let now = Luma::of(frame);
        let last = self
            .last
            .get_mut(info.camera as usize)
            .ok_or_else(|| format!("camera {} was not announced", info.camera))?
            .replace(now);
        let now = self.last[info.camera as usize].as_ref();
        if let (Some(last), Some(now)) = (last, now)
            && (last.width, last.height) == (now.width, now.height)
        {
            regions.extend(now.moved_since(&last));
        }
        Ok(())
    }

    fn reset(&mut self, camera: u32) {
        if let Some(last) = self.last.get_mut(camera as usize) {
            *last = None;
        }
    }
}

impl Luma {
    fn of(frame: &FrameView<'_>) -> Self {
        let (width, height) = (frame.info().width as usize, frame.info().height as usize);
        let rows = (0..height).flat_map(|y| frame.row(0, y));
        Self {
            width,
            height,
            samples: rows.copied().collect(),
        }
    }

    fn moved_since<'a>(&'a self, last: &'a Self) -> impl Iterator<Item = Region> + 'a {
        let columns = self.width / BLOCK;
        (0..self.height / BLOCK)
            .flat_map(move |row| (0..columns).map(move |column| (column * BLOCK, row * BLOCK)))
            .filter_map(move |(x, y)| {
                let difference = self.difference(last, x, y);
                (difference >= MOVED).then(|| Region {
                    x: x as f32,
                    y: y as f32,
                    width: BLOCK as f32,
                    height: BLOCK as f32,
                    score: (difference as f32 / 64.0).clamp(0.3, 1.0),
                    kind: RegionKind::Other,
                    track: 0,
                })
            })
    }

    fn difference(&self, last: &Self, x: usize, y: usize) -> u32 {
        let row = |picture: &Self, line: usize| {
            let start = (y + line) * picture.width + x;
            picture.samples[start..start + BLOCK].to_vec()
        };
        let sum: u32 = (0..BLOCK)
            .flat_map(|line| row(self, line).into_iter().zip(row(last, line)))
            .map(|(now, before)| u32::from(now.abs_diff(before)))
            .sum();
        sum / (BLOCK * BLOCK) as u32
    }
}

export_plugin!(detector MotionDetector);
