//! Moving test pictures whose frames can be told apart by their pixels, and files made of them.
//!
//! For tests and demonstrations everywhere: the number of a frame is painted into its top rows as black and
//! white cells large enough to survive any sane encoder, so a test can say exactly which frame it looks at.

use std::fs::File;
use std::path::Path;

use crate::audio::AacEncoder;
use crate::encode::{Encoder, EncoderSettings, Key, Rate};
use crate::error::MediaError;
use crate::finalise::create_or_remove;
use crate::frame::Frame;
use crate::packet::Packet;
use crate::track::{
    AudioTrack, ColourRange, ColourTags, DisplayMatrix, PixelFormat, Rational, Track, VideoCodec,
    VideoTrack,
};
use crate::write::{Container, FileWriter, WriterOptions};

/// Cells in the counter: two to recognise it by, sixteen for the number, two to recognise it by.
const CELLS: usize = 20;

/// A test video.
#[derive(Clone, Debug)]
pub struct TestVideo {
    /// FFmpeg's name of the encoder.
    pub encoder: String,
    /// Width in pixels; at least 80.
    pub width: u32,
    /// Height in pixels; at least 32.
    pub height: u32,
    /// Number of frames.
    pub frames: u32,
    /// Frames per second.
    pub fps: u32,
    /// Distance of key frames in frames.
    pub gop: u32,
    /// Most B-frames in a row.
    pub b_frames: u32,
    /// Ticks per second of the times.
    pub timescale: i32,
    /// Exact presentation times in ticks instead of a constant rate; one per frame.
    pub pts: Option<Vec<i64>>,
    /// Add a 440 Hz tone as AAC, 16 kHz mono.
    pub audio: bool,
    /// Full range (0..255) instead of limited.
    pub full_range: bool,
    /// Rotation to write, clockwise in degrees.
    pub rotation: Option<f64>,
    /// Width to height of one pixel.
    pub sample_aspect_ratio: Option<Rational>,
    /// File format.
    pub container: Container,
    /// Further encoder options.
    pub options: Vec<(String, String)>,
}

impl Default for TestVideo {
    /// Two seconds of 320x240 H.264 at 15 fps, GOP 15, no B-frames, 1/90000 s, MP4.
    fn default() -> Self {
        Self {
            encoder: "libx264".into(),
            width: 320,
            height: 240,
            frames: 30,
            fps: 15,
            gop: 15,
            b_frames: 0,
            timescale: 90_000,
            pts: None,
            audio: false,
            full_range: false,
            rotation: None,
            sample_aspect_ratio: None,
            container: Container::Mp4,
            options: Vec::new(),
        }
    }
}

/// The compressed frames of a test video.
#[derive(Debug)]
pub struct Encoded {
    /// The video track.
    pub track: VideoTrack,
    /// Its packets in decoding order.
    pub packets: Vec<Packet>,
    /// Audio track and packets, if asked for.
    pub audio: Option<(AudioTrack, Vec<Packet>)>,
}

impl TestVideo {
    /// The presentation time of frame `index` in ticks.
    pub fn pts_of(&self, index: u32) -> i64 {
        match &self.pts {
            Some(pts) => pts[index as usize],
            None => i64::from(index) * i64::from(self.timescale) / i64::from(self.fps.max(1)),
        }
    }

    /// Seconds per tick.
    pub fn time_base(&self) -> Rational {
        Rational::new(1, self.timescale)
    }

    /// Draws and encodes it.
    ///
    /// # Errors
    /// As [`Encoder::open`] and [`Encoder::encode`].
    pub fn encode(&self) -> Result<Encoded, MediaError> {
        let mut encoder = Encoder::open(self.settings())?;
        let mut packets = Vec::new();
        for index in 0..self.frames {
            let frame = self.frame(index)?;
            let key = if index % self.gop.max(1) == 0 {
                Key::Forced
            } else {
                Key::Auto
            };
            encoder.encode(&frame, key, &mut packets)?;
        }
        encoder.finish(&mut packets)?;
        let mut track = encoder.track().clone();
        track.display_matrix = self.rotation.map(DisplayMatrix::clockwise);
        let audio = if self.audio { Some(self.tone()?) } else { None };
        Ok(Encoded {
            track,
            packets,
            audio,
        })
    }

    /// Draws, encodes and writes it to a new file.
    ///
    /// # Errors
    /// As [`Self::encode`] and [`FileWriter`]; also if the file exists.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<Encoded, MediaError> {
        let encoded = self.encode()?;
        create_or_remove(path.as_ref(), |file| self.store(&encoded, file))?;
        Ok(encoded)
    }

    fn store(&self, encoded: &Encoded, file: File) -> Result<(), MediaError> {
        let mut tracks = vec![Track::Video(encoded.track.clone())];
        tracks.extend(
            encoded
                .audio
                .iter()
                .map(|(track, _)| Track::Audio(track.clone())),
        );
        let options = WriterOptions {
            container: self.container,
            ..WriterOptions::default()
        };
        let mut writer = FileWriter::create(file, &tracks, &options)?;
        for packet in &encoded.packets {
            writer.write(0, packet)?;
        }
        for packet in encoded.audio.iter().flat_map(|(_, packets)| packets) {
            writer.write(1, packet)?;
        }
        writer.finish()?;
        Ok(())
    }

    /// The frame of that number, with its time.
    ///
    /// # Errors
    /// As [`Frame::new`].
    pub fn frame(&self, index: u32) -> Result<Frame, MediaError> {
        let mut frame = draw(self.width, self.height, index)?;
        let next = if index + 1 < self.frames {
            self.pts_of(index + 1)
        } else {
            self.pts_of(index) + i64::from(self.timescale) / i64::from(self.fps.max(1))
        };
        frame.set_pts(Some(self.pts_of(index)));
        frame.set_duration(next - self.pts_of(index));
        frame.set_time_base(self.time_base());
        frame.set_colour(self.colour());
        Ok(frame)
    }

    fn colour(&self) -> ColourTags {
        let range = if self.full_range {
            ColourRange::Full
        } else {
            ColourRange::Unspecified
        };
        ColourTags {
            range,
            ..ColourTags::default()
        }
    }

    fn settings(&self) -> EncoderSettings {
        let x26x = self.encoder.starts_with("libx26");
        let mut options = self.options.clone();
        if self.encoder == "libx265" && !options.iter().any(|(name, _)| name == "x265-params") {
            options.push(("x265-params".into(), "log-level=error".into()));
        }
        EncoderSettings {
            fps: Some(Rational::new(i32::try_from(self.fps).unwrap_or(25), 1)),
            gop: Some(self.gop),
            b_frames: self.b_frames,
            preset: x26x.then(|| "ultrafast".into()),
            rate: if x26x {
                Rate::Crf(23.0)
            } else {
                Rate::Quantiser(3)
            },
            options,
            colour: self.colour(),
            sample_aspect_ratio: self.sample_aspect_ratio,
            ..EncoderSettings::new(&self.encoder, self.width, self.height, self.time_base())
        }
    }

    fn tone(&self) -> Result<(AudioTrack, Vec<Packet>), MediaError> {
        const RATE: u32 = 16_000;
        let mut encoder = AacEncoder::new(RATE, 1, 32_000)?;
        let seconds = f64::from(self.frames) / f64::from(self.fps.max(1));
        let count = (seconds * f64::from(RATE)) as u32;
        let step = 440.0 * std::f64::consts::TAU / f64::from(RATE);
        let samples: Vec<f32> = (0..count)
            .map(|n| (f64::from(n) * step).sin() as f32 * 0.3)
            .collect();
        let mut packets = Vec::new();
        encoder.push(&samples, 0, &mut packets)?;
        encoder.finish(&mut packets)?;
        Ok((encoder.track().clone(), packets))
    }
}

/// An I420 picture: gradients that move with the number, a bright square on its way, and the number itself.
///
/// # Errors
/// As [`Frame::new`]; [`MediaError::Unsupported`] below 80x32.
pub fn draw(width: u32, height: u32, number: u32) -> Result<Frame, MediaError> {
    if width < 80 || height < 32 {
        return Err(MediaError::unsupported(
            format!("{width}x{height} test picture"),
            "at least 80x32",
        ));
    }
    let mut frame = Frame::new(PixelFormat::I420, width, height)?;
    let shift = number as usize * 3;
    for (index, plane) in frame.planes_mut()?.into_iter().enumerate() {
        let (stride, row_bytes) = (plane.stride, plane.row_bytes);
        for (y, row) in plane.data.chunks_mut(stride).take(plane.rows).enumerate() {
            for (x, pixel) in row.iter_mut().take(row_bytes).enumerate() {
                *pixel = match index {
                    0 => 40 + ((x + y + shift) / 2 % 160) as u8,
                    1 => 96 + ((x + shift) / 4 % 64) as u8,
                    _ => 96 + ((y + shift) / 4 % 64) as u8,
                };
            }
        }
        if index == 0 {
            paint_square(plane.data, stride, width as usize, height as usize, shift);
            paint_number(plane.data, stride, width as usize, height as usize, number);
        }
    }
    Ok(frame)
}

fn paint_square(luma: &mut [u8], stride: usize, width: usize, height: usize, shift: usize) {
    let side = height / 5;
    let (left, top) = (shift * 2 % (width - side), height / 2);
    for y in top..top + side {
        luma[y * stride + left..y * stride + left + side].fill(220);
    }
}

fn cell(width: usize, height: usize) -> (usize, usize) {
    (width / CELLS, (height / 8).clamp(4, 32))
}

/// Which cells are white for a number.
fn pattern(number: u32) -> [bool; CELLS] {
    let mut cells = [false; CELLS];
    cells[0] = true;
    cells[CELLS - 1] = true;
    for bit in 0..16 {
        cells[2 + bit] = number >> bit & 1 == 1;
    }
    cells
}

fn paint_number(luma: &mut [u8], stride: usize, width: usize, height: usize, number: u32) {
    let (cell_width, cell_height) = cell(width, height);
    for (index, white) in pattern(number).into_iter().enumerate() {
        let left = index * cell_width;
        for y in 0..cell_height {
            let row = y * stride;
            luma[row + left..row + left + cell_width].fill(if white { 235 } else { 16 });
        }
    }
}

/// The number (modulo 65536) painted into a frame's luma by [`draw`]; `None` if it cannot be read (covered,
/// blurred away, or another picture).
pub fn read_number(frame: &Frame) -> Option<u32> {
    let (width, height) = (frame.width() as usize, frame.height() as usize);
    if width < 80 || height < 32 || frame.format().is_rgb() {
        return None;
    }
    let luma = frame.plane(0);
    let (cell_width, cell_height) = cell(width, height);
    let mut cells = [false; CELLS];
    for (index, white) in cells.iter_mut().enumerate() {
        let at = cell_height / 2 * luma.stride + index * cell_width + cell_width / 2;
        *white = match luma.data[at] {
            170.. => true,
            0..=85 => false,
            _ => return None,
        };
    }
    let number = (0..16).fold(0, |number, bit| number | u32::from(cells[2 + bit]) << bit);
    (cells == pattern(number)).then_some(number)
}

/// Damages a packet of H.264 or H.265 as MP4 stores them: the second half of its last unit, a slice, becomes a unit of
/// filler data, which decoders pass over. The size stays as it is.
///
/// # Panics
/// For anything else.
pub fn cut_last_unit(packet: &mut [u8], codec: VideoCodec) {
    let filler = match codec {
        VideoCodec::H265 => 38 << 1,
        _ => 12,
    };
    let mut rest = packet;
    loop {
        let length: [u8; 4] = rest[..4].try_into().expect("four bytes");
        let length = u32::from_be_bytes(length) as usize;
        if 4 + length < rest.len() {
            rest = &mut rest[4 + length..];
            continue;
        }
        let kept = length / 2;
        let left = (length - kept - 4) as u32;
        rest[..4].copy_from_slice(&(kept as u32).to_be_bytes());
        rest[4 + kept..][..4].copy_from_slice(&left.to_be_bytes());
        rest[8 + kept] = filler;
        return;
    }
}
