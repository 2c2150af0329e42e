//! Parts of a picture that a decoder left as they were.
//!
//! FFmpeg's decoder of H.265 says nothing when a slice ends too early or is missing: there the memory keeps what it held
//! before, mostly a part of an older picture. So its memory is filled with a pattern before each picture, and a block
//! that still holds it was never decoded. Pictures that refer to it are built upon a damaged one, and need no sign of their own.

use std::ffi::c_int;

use ffmpeg_next::ffi;

use super::codec::Codec;
use super::pixels;
use crate::frame::Frame;
use crate::track::PixelFormat;

/// Smallest coding tree block of H.265: what a slice leaves out is made of them.
const BLOCK: usize = 16;
/// How far the in-loop filter may move a sample of 8 bit of a block that was not decoded (sample adaptive offset; H.265,
/// 7.4.9.3.2): FFmpeg runs it over whole rows. Its other half changes three samples beside an edge, which are not looked at.
const MOVED: i32 = 7;
/// Samples of a row that are looked at, and where in a block they begin.
const SPAN: usize = 8;
const BEGIN: usize = 4;
const PATTERN: [u8; 4096] = pattern();

/// Noise, the same always.
const fn pattern() -> [u8; 4096] {
    let mut state = 0x2545_f491_u32;
    let mut made = [0; 4096];
    let mut at = 0;
    while at < made.len() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        made[at] = (state >> 16) as u8;
        at += 1;
    }
    made
}

/// Where in the pattern a row begins: rows differ.
fn start(row: usize) -> usize {
    row * 37 % PATTERN.len()
}

/// Has a decoder fill the memory of each picture first. For decoders that get it from one thread only.
pub(crate) fn fill_before_decoding(codec: &mut Codec) {
    codec.raw_mut().get_buffer2 = Some(filled);
}

unsafe extern "C" fn filled(
    context: *mut ffi::AVCodecContext,
    frame: *mut ffi::AVFrame,
    flags: c_int,
) -> c_int {
    // SAFETY: FFmpeg's own function, with what FFmpeg gave for it.
    let code = unsafe { ffi::avcodec_default_get_buffer2(context, frame, flags) };
    if code < 0 {
        return code;
    }
    // SAFETY: the first plane of the new picture has `height` rows of `width` samples, `linesize` bytes apart; nobody else has
    // it yet.
    unsafe {
        let shift = deep_by((*frame).format);
        let count = |number: c_int| usize::try_from(number).unwrap_or(0);
        let (width, height) = (count((*frame).width), count((*frame).height));
        let stride = count((*frame).linesize[0]);
        let bytes = if shift.is_some() { 2 * width } else { width };
        if (*frame).data[0].is_null() || stride < bytes {
            return code;
        }
        for row in 0..height {
            let first = (*frame).data[0].add(row * stride);
            match shift {
                None => fill(std::slice::from_raw_parts_mut(first, width), row),
                Some(shift) => {
                    let samples = std::slice::from_raw_parts_mut(first, bytes);
                    fill_deep(samples, row, shift);
                }
            }
        }
    }
    code
}

/// By how many bits samples are deeper than the pattern; none where they are bytes.
fn deep_by(format: c_int) -> Option<u32> {
    let depth = pixels::describe(PixelFormat(format)).map_or(8, |found| found.depth);
    (depth > 8).then_some(depth.min(16) - 8)
}

fn fill(mut samples: &mut [u8], row: usize) {
    let mut from = &PATTERN[start(row)..];
    while !samples.is_empty() {
        let count = samples.len().min(from.len());
        let (now, rest) = samples.split_at_mut(count);
        now.copy_from_slice(&from[..count]);
        (samples, from) = (rest, &PATTERN);
    }
}

/// The same for samples of two bytes, within the depth of the picture.
fn fill_deep(samples: &mut [u8], row: usize, shift: u32) {
    let from = PATTERN[start(row)..].iter().chain(PATTERN.iter().cycle());
    for (sample, &value) in samples.chunks_exact_mut(2).zip(from) {
        sample.copy_from_slice(&(u16::from(value) << shift).to_ne_bytes());
    }
}

/// Whether a block of a picture, of a decoder that fills memory, was never decoded.
pub(crate) fn has_hole(frame: &Frame) -> bool {
    let raw = frame.raw();
    let shift = deep_by(raw.format);
    let plane = frame.plane(0);
    let size = if shift.is_some() { 2 } else { 1 };
    let width = plane.row_bytes / size;
    // SAFETY: the buffer of a decoded picture is live as long as the picture.
    let memory = unsafe { raw.buf[0].as_ref() }.map_or(0, |buffer| buffer.data.addr());
    // What is shown may begin further right and down than what is decoded.
    let cropped = raw.data[0].addr().saturating_sub(memory);
    let (top, left) = (cropped / plane.stride, cropped % plane.stride / size);
    let sample = |row: usize, column: usize| -> i32 {
        let at = (row - top) * plane.stride + (column - left) * size;
        match shift {
            None => plane.data[at].into(),
            Some(_) => u16::from_ne_bytes([plane.data[at], plane.data[at + 1]]).into(),
        }
    };
    let moved = (MOVED + 1) << shift.unwrap_or(0);
    let untouched = |row: usize, column: usize| {
        let wanted = i32::from(PATTERN[(start(row) + column) % PATTERN.len()]);
        (sample(row, column) - (wanted << shift.unwrap_or(0))).abs() < moved
    };
    let (bottom, right) = (top + plane.rows, left + width);
    (top / BLOCK..bottom.div_ceil(BLOCK)).any(|block| {
        // Two rows in the middle, or the last that are shown.
        let row = (block * BLOCK + BLOCK / 2).min(bottom - 1);
        if row < top + 1 || row - 1 < block * BLOCK {
            return false;
        }
        (left / BLOCK..right.div_ceil(BLOCK)).any(|block| {
            let first = (block * BLOCK + BEGIN).max(left);
            let last = (first + SPAN).min(right);
            // Less than that is no proof, and hardly a picture.
            last >= first + SPAN / 2
                && (first..last).all(|column| untouched(row, column))
                && (first..last).all(|column| untouched(row - 1, column))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_continues_the_pattern() {
        let mut row = vec![0; 10_000];
        fill(&mut row, 300);
        let at = |column: usize| PATTERN[(start(300) + column) % PATTERN.len()];
        assert!((0..row.len()).all(|column| row[column] == at(column)));
        let mut deep = vec![0; 20_000];
        fill_deep(&mut deep, 300, 2);
        let deep = deep
            .chunks(2)
            .map(|two| u16::from_ne_bytes([two[0], two[1]]));
        assert!(
            deep.zip(row)
                .all(|(deep, plain)| deep == u16::from(plain) << 2)
        );
    }
}
