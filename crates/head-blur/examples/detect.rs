//! Runs the plugin over pictures and prints what it found, to measure it.
//!
//! `cargo run --release -p head-blur --example detect -- SETTINGS PICTURE...`
//! SETTINGS is the plugin's JSON (`{}` for defaults), a PICTURE is a binary PPM
//! (P6). Prints a JSON object, file name -> boxes `[x, y, w, h, score, kind]`
//! in pixels of the file, and the CPU time per picture on standard error. Each
//! picture is scaled down to what the plugin wants, as the host does.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::time::Duration;

use head_blur::HeadBlur;
use plugin_abi::{CreateContext, Detector, FrameInfo, FrameView, PixelFormat, RegionKind};

type Boxes = Vec<(f32, f32, f32, f32, f32, &'static str)>;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let settings = arguments
        .next()
        .ok_or("usage: detect SETTINGS PICTURE...")?;
    let mut plugin = HeadBlur::create(&CreateContext {
        settings: &settings,
        cameras: 1,
    })?;
    eprintln!("{}", plugin.info_json());
    let mut all: BTreeMap<String, Boxes> = BTreeMap::new();
    let mut times = Vec::new();
    for name in arguments {
        let picture = Picture::read(&name)?;
        let (boxes, time) = search(&mut plugin, &picture)?;
        times.push(time);
        all.insert(name, boxes);
    }
    times.sort();
    if let Some(median) = times.get(times.len() / 2) {
        let total: Duration = times.iter().sum();
        eprintln!(
            "{} pictures, CPU per picture: median {median:.1?}, mean {:.1?}",
            times.len(),
            total / times.len() as u32
        );
    }
    println!("{}", serde_json::to_string(&all)?);
    Ok(())
}

/// Searches twice and times the second: the first may compile the networks.
fn search(
    plugin: &mut HeadBlur,
    picture: &Picture,
) -> Result<(Boxes, Duration), Box<dyn Error + Send + Sync>> {
    let scaled = picture.scaled_to(plugin.wants().max_size);
    let info = FrameInfo {
        source_width: picture.width as u32,
        source_height: picture.height as u32,
        ..FrameInfo::new(
            PixelFormat::Bgr24,
            scaled.width as u32,
            scaled.height as u32,
        )
    };
    let frame = FrameView::new(info, &[(&scaled.bgr, scaled.width * 3)])?;
    let mut regions = Vec::new();
    plugin.detect(&frame, &mut regions)?;
    regions.clear();
    let before = cpu_time()?;
    plugin.detect(&frame, &mut regions)?;
    let time = cpu_time()? - before;
    let (x, y) = (
        picture.width as f32 / scaled.width as f32,
        picture.height as f32 / scaled.height as f32,
    );
    let boxes = regions
        .iter()
        .map(|r| {
            let kind = match r.kind {
                RegionKind::Head => "head",
                RegionKind::Face => "face",
                RegionKind::Person => "person",
                RegionKind::Other => "other",
            };
            (r.x * x, r.y * y, r.width * x, r.height * y, r.score, kind)
        })
        .collect();
    Ok((boxes, time))
}

/// CPU time of this process, all threads.
fn cpu_time() -> Result<Duration, Box<dyn Error + Send + Sync>> {
    let text = fs::read_to_string("/proc/self/schedstat")?;
    let threads = fs::read_dir("/proc/self/task")?;
    let mut nanoseconds = 0;
    for thread in threads {
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        let first = text.split_whitespace().next().unwrap_or("0");
        nanoseconds += first.parse::<u64>()?;
    }
    if text.is_empty() || nanoseconds == 0 {
        return Err("no CPU times in /proc".into());
    }
    Ok(Duration::from_nanos(nanoseconds))
}

struct Picture {
    width: usize,
    height: usize,
    bgr: Vec<u8>,
}

impl Picture {
    fn read(name: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let bytes = fs::read(name).map_err(|error| format!("{name}: {error}"))?;
        let mut at = 0;
        let mut word = || -> Option<&str> {
            let start = at + bytes[at..].iter().position(|b| !b.is_ascii_whitespace())?;
            let end = start + bytes[start..].iter().position(u8::is_ascii_whitespace)?;
            at = end;
            std::str::from_utf8(&bytes[start..end]).ok()
        };
        let header = [word(), word(), word(), word()].map(|word| word.map(str::to_owned));
        let [Some(magic), Some(width), Some(height), Some(depth)] = header else {
            return Err(format!("{name}: not a PPM").into());
        };
        if magic != "P6" || depth != "255" {
            return Err(format!("{name}: not a binary PPM of 8 bits").into());
        }
        let (width, height) = (width.parse::<usize>()?, height.parse::<usize>()?);
        let mut bgr = bytes[at + 1..].to_vec();
        if bgr.len() != width * height * 3 {
            return Err(format!("{name}: wrong length").into());
        }
        bgr.chunks_exact_mut(3).for_each(|pixel| pixel.swap(0, 2));
        Ok(Self { width, height, bgr })
    }

    /// Scaled down to fit, averaging over the area of each new pixel.
    fn scaled_to(&self, limit: Option<(u32, u32)>) -> Self {
        let (most_x, most_y) = limit.unwrap_or((self.width as u32, self.height as u32));
        let scale = (f64::from(most_x) / self.width as f64)
            .min(f64::from(most_y) / self.height as f64)
            .min(1.0);
        let width = (self.width as f64 * scale).round() as usize;
        let height = (self.height as f64 * scale).round() as usize;
        let spans = |from: usize, to: usize| -> Vec<Vec<(usize, f64)>> {
            let step = from as f64 / to as f64;
            (0..to)
                .map(|n| {
                    let (start, end) = (n as f64 * step, (n + 1) as f64 * step);
                    (start as usize..(end.ceil() as usize).min(from))
                        .map(|at| (at, (end.min(at as f64 + 1.0) - start.max(at as f64)) / step))
                        .collect()
                })
                .collect()
        };
        let (columns, rows) = (spans(self.width, width), spans(self.height, height));
        let mut bgr = Vec::with_capacity(width * height * 3);
        for row in &rows {
            for column in &columns {
                let mut sum = [0.5f64; 3];
                for &(y, weight_y) in row {
                    for &(x, weight_x) in column {
                        let pixel = &self.bgr[(y * self.width + x) * 3..][..3];
                        for (sum, &sample) in sum.iter_mut().zip(pixel) {
                            *sum += weight_y * weight_x * f64::from(sample);
                        }
                    }
                }
                bgr.extend(sum.map(|sum| sum as u8));
            }
        }
        Self { width, height, bgr }
    }
}
