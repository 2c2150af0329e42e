//! Pictures to try a plugin on: drawn, or from a video; in the form the plugin wants.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, bail};
use media::{
    Decoder, DecoderOptions, Frame, MediaError, Quality, Reader, ReaderOptions, Scaler, synth,
};
use plugin_host::abi::{PixelFormat, Wants};

use crate::pipeline::planes;

/// Pictures that are shown again and again.
const PICTURES: usize = 8;
/// Size of the drawn ones, pixels.
const SIZE: (u32, u32) = (1920, 1080);

/// A few pictures, all of one size.
pub(super) fn pictures(wants: Wants, video: Option<&Path>) -> anyhow::Result<Vec<Frame>> {
    let raw = match video {
        Some(path) => of_video(path).with_context(|| format!("video {}", path.display()))?,
        None => (0..PICTURES as u32)
            .map(|number| synth::draw(SIZE.0, SIZE.1, number))
            .collect::<Result<_, _>>()?,
    };
    let Some(first) = raw.first() else {
        bail!("the video has no pictures");
    };
    let full = (first.width(), first.height());
    let (width, height) = crate::pipeline::fitted(full, wants.max_size);
    let format = planes::for_plugin(wants.format.unwrap_or(PixelFormat::I420));
    let mut scaler = Scaler::new(width, height, format, Quality::Area);
    let shaped: Result<Vec<Frame>, MediaError> =
        raw.iter().map(|frame| scaler.scale(frame)).collect();
    Ok(shaped?)
}

fn of_video(path: &Path) -> anyhow::Result<Vec<Frame>> {
    let mut reader = Reader::open_file(File::open(path)?, &ReaderOptions::default())?;
    let (number, track) = reader.video().context("no video in it")?;
    let mut decoder = Decoder::new(track, &DecoderOptions::default())?;
    let mut frames = Vec::new();
    while frames.len() < PICTURES {
        match reader.next_packet()? {
            Some(packet) if packet.track() != number => continue,
            Some(packet) => decoder.send(&packet)?,
            None => {
                decoder.finish()?;
                while let Some(frame) = decoder.receive()? {
                    frames.push(frame);
                }
                break;
            }
        }
        while let Some(frame) = decoder.receive()? {
            frames.push(frame);
        }
    }
    frames.truncate(PICTURES);
    Ok(frames)
}
