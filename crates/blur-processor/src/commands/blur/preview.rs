//! A sheet of the least certain frames, for a person to look at. Made from the blurred video only.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, bail};
use media::encode::Key;
use media::verify::{VerifyOptions, verify_frames};
use media::{Encoder, EncoderSettings, Frame, MediaError, PixelFormat, Quality, Rational, Scaler};

use crate::pipeline::VideoReport;

/// Pictures on a sheet, at most, and side by side.
const PICTURES: u64 = 12;
const COLUMNS: usize = 3;
/// Width of one picture, pixels.
const WIDTH: u32 = 640;
/// Between the pictures, pixels; even, since chroma is halved.
const GAP: usize = 4;

/// Writes the sheet of a blurred video.
///
/// # Errors
/// The video cannot be decoded, the ending of `path` is none of those known, or it cannot be written.
pub(super) fn write(video: &Path, report: &VideoReport, path: &Path) -> anyhow::Result<()> {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let (encoder, format) = match ending.map(str::to_ascii_lowercase).as_deref() {
        Some("jpg" | "jpeg") => ("mjpeg", PixelFormat::I420),
        Some("png") => ("png", PixelFormat::RGB24),
        _ => bail!("give a file name that ends in .jpg or .png"),
    };
    let pictures = pictures(video, &wanted(report))?;
    let sheet = sheet(&pictures)?;
    let bytes = encoded(sheet, encoder, format)?;
    std::fs::write(path, bytes).context("write it")
}

/// The least certain frames; where nobody says which, frames at even distances.
fn wanted(report: &VideoReport) -> Vec<u64> {
    match report.least_certain.is_empty() {
        true => (0..PICTURES)
            .map(|n| n * report.frames / PICTURES)
            .collect(),
        false => report.least_certain.clone(),
    }
}

fn pictures(video: &Path, wanted: &[u64]) -> anyhow::Result<Vec<Frame>> {
    let mut scaler: Option<Scaler> = None;
    let (mut number, mut pictures) = (0, Vec::new());
    let mut take = |frame: &Frame| -> Result<(), MediaError> {
        let is_wanted = wanted.contains(&number);
        number += 1;
        if !is_wanted {
            return Ok(());
        }
        let height = u64::from(frame.height()) * u64::from(WIDTH) / u64::from(frame.width().max(1));
        let height = (height as u32).clamp(2, 4 * WIDTH) & !1;
        let scaler = scaler
            .get_or_insert_with(|| Scaler::new(WIDTH, height, PixelFormat::I420, Quality::Area));
        pictures.push(scaler.scale(frame)?);
        Ok(())
    };
    let file = File::open(video).with_context(|| format!("open {}", video.display()))?;
    verify_frames(file, &VerifyOptions::default(), &mut take)?;
    Ok(pictures)
}

/// All pictures on one, row by row.
fn sheet(pictures: &[Frame]) -> anyhow::Result<Frame> {
    let first = pictures.first().context("no frames to show")?;
    let columns = COLUMNS.min(pictures.len());
    let rows = pictures.len().div_ceil(columns);
    let (width, height) = (first.width() as usize, first.height() as usize);
    let size = (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP);
    let mut sheet = Frame::new(PixelFormat::I420, size.0 as u32, size.1 as u32)?;
    sheet.set_colour(first.colour());
    for (index, plane) in sheet.planes_mut()?.into_iter().enumerate() {
        plane.data.fill(if index == 0 { 16 } else { 128 });
        let shrink = if index == 0 { 1 } else { 2 };
        for (at, picture) in pictures.iter().enumerate() {
            let from = picture.plane(index);
            let left = at % columns * (width + GAP) / shrink;
            let top = at / columns * (height + GAP) / shrink;
            for y in 0..from.rows {
                let target = (top + y) * plane.stride + left;
                plane.data[target..target + from.row_bytes]
                    .copy_from_slice(&from.data[y * from.stride..][..from.row_bytes]);
            }
        }
    }
    Ok(sheet)
}

fn encoded(sheet: Frame, encoder: &str, format: PixelFormat) -> anyhow::Result<Vec<u8>> {
    let second = Rational::new(1, 1);
    let mut settings = EncoderSettings::new(encoder, sheet.width(), sheet.height(), second);
    settings.pixel_format = format;
    settings.threads = 1;
    let mut frame = sheet;
    if format != PixelFormat::I420 {
        let (width, height) = (frame.width(), frame.height());
        frame = Scaler::new(width, height, format, Quality::Bilinear).scale(&frame)?;
    }
    frame.set_pts(Some(0));
    frame.set_time_base(second);
    let mut encoder = Encoder::open(settings)?;
    let mut packets = Vec::new();
    encoder.encode(&frame, Key::Auto, &mut packets)?;
    encoder.finish(&mut packets)?;
    let packet = packets.first().context("the encoder gave no picture")?;
    Ok(packet.data().to_vec())
}
