//! Pictures as they are shown: detectors know people upright and of their true width, and stored pictures may lie on their
//! side (telephones, body cameras) or be squeezed (recorders that store every other column).
//! May touch: copies of pictures.

use media::track::DisplayMatrix;
use media::{Frame, PixelFormat, VideoTrack};
use plugin_host::abi::Region;

use super::job::Failure;

/// Pixels of this shape, width to height, are square enough for a detector.
const SQUARE: std::ops::RangeInclusive<f64> = 0.8..=1.25;
/// Beyond this, or the other way round, a pixel's shape is a mistake.
const MOST_SQUEEZED: f64 = 4.0;

/// How a stored picture is turned to stand upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    None,
    Clockwise,
    Half,
    CounterClockwise,
}

/// How the pictures of a video are to be shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Upright {
    turn: Turn,
    /// Width of a pixel to its height; 1 if it is about that.
    pixel_shape: f64,
}

impl Upright {
    pub(super) fn of(track: &VideoTrack) -> Self {
        let shape = track
            .sample_aspect_ratio
            .map_or(1.0, |shape| shape.as_f64());
        let is_odd =
            !SQUARE.contains(&shape) && (1.0 / MOST_SQUEEZED..=MOST_SQUEEZED).contains(&shape);
        Self {
            turn: track.display_matrix.map_or(Turn::None, turn),
            pixel_shape: if is_odd { shape } else { 1.0 },
        }
    }

    /// The stored picture's size with square pixels.
    pub(super) fn square(&self, (width, height): (u32, u32)) -> (u32, u32) {
        if self.pixel_shape == 1.0 {
            return (width, height);
        }
        let wide = (f64::from(width) * self.pixel_shape / 2.0).round() as u32 * 2;
        (wide.max(2), height)
    }

    /// Swaps width and height where the picture is turned by a quarter.
    pub(super) fn turned<T>(&self, (width, height): (T, T)) -> (T, T) {
        match self.turn {
            Turn::None | Turn::Half => (width, height),
            Turn::Clockwise | Turn::CounterClockwise => (height, width),
        }
    }

    /// The picture upright; none where it is so already.
    ///
    /// # Errors
    /// Memory is short.
    pub(super) fn picture(&self, stored: &Frame) -> Result<Option<Frame>, Failure> {
        if self.turn == Turn::None {
            return Ok(None);
        }
        let (width, height) = self.turned((stored.width(), stored.height()));
        let format = stored.format();
        let mut upright = Frame::new(format, width, height).map_err(Failure::of_output)?;
        let planes = upright.planes_mut().map_err(Failure::of_output)?;
        for (number, to) in planes.into_iter().enumerate() {
            let bytes = match (format, number) {
                (PixelFormat::BGR24, _) => 3,
                (PixelFormat::NV12, 1) => 2,
                _ => 1,
            };
            let (wide, high) = (to.row_bytes / bytes, to.rows);
            let from = stored.plane(number);
            for (y, row) in to.data.chunks_mut(to.stride).enumerate() {
                for (x, pixel) in row.chunks_exact_mut(bytes).take(wide).enumerate() {
                    let (x, y) = match self.turn {
                        Turn::None => (x, y),
                        Turn::Clockwise => (y, wide - 1 - x),
                        Turn::Half => (wide - 1 - x, high - 1 - y),
                        Turn::CounterClockwise => (high - 1 - y, x),
                    };
                    let at = y * from.stride + x * bytes;
                    pixel.copy_from_slice(&from.data[at..at + bytes]);
                }
            }
        }
        Ok(Some(upright))
    }

    /// A region of the upright picture of this size in the stored one.
    pub(super) fn stored(&self, seen: &Region, (width, height): (u32, u32)) -> Region {
        let (right, bottom) = (seen.x + seen.width, seen.y + seen.height);
        let (x, y) = match self.turn {
            Turn::None => (seen.x, seen.y),
            Turn::Clockwise => (seen.y, width as f32 - right),
            Turn::Half => (width as f32 - right, height as f32 - bottom),
            Turn::CounterClockwise => (height as f32 - bottom, seen.x),
        };
        let (width, height) = self.turned((seen.width, seen.height));
        Region {
            x,
            y,
            width,
            height,
            ..*seen
        }
    }
}

/// The quarter turn that a matrix comes closest to, by where it puts the way down. That of a mirror needs none: a mirrored
/// person is a person.
fn turn(DisplayMatrix(matrix): DisplayMatrix) -> Turn {
    let (x, y) = (i64::from(matrix[3]), i64::from(matrix[4]));
    match (x.abs() > y.abs(), x < 0, y < 0) {
        (true, true, _) => Turn::Clockwise,
        (true, false, _) => Turn::CounterClockwise,
        (false, _, true) => Turn::Half,
        (false, _, false) => Turn::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use media::{Rational, VideoCodec};
    use plugin_host::abi::RegionKind;

    fn upright(degrees: f64) -> Upright {
        let mut track = VideoTrack::new(VideoCodec::H264, 6, 4, Rational::MPEG);
        track.display_matrix = Some(DisplayMatrix::clockwise(degrees));
        Upright::of(&track)
    }

    #[test]
    fn a_turned_picture_and_what_is_seen_in_it_fit_each_other() {
        for format in [PixelFormat::BGR24, PixelFormat::I420, PixelFormat::NV12] {
            for degrees in [0.0, 90.0, 180.0, 270.0] {
                let upright = upright(degrees);
                let mut stored = Frame::new(format, 6, 4).unwrap();
                // One bright pixel, at 5, 1.
                for (number, plane) in stored.planes_mut().unwrap().into_iter().enumerate() {
                    plane.data.fill(0);
                    if number == 0 {
                        let bytes = if format == PixelFormat::BGR24 { 3 } else { 1 };
                        plane.data[plane.stride + 5 * bytes] = 200;
                    }
                }
                let shown = upright.picture(&stored).unwrap();
                let shown = shown.as_ref().unwrap_or(&stored);
                let size = (shown.width(), shown.height());
                assert_eq!(size, upright.turned((6, 4)));
                let plane = shown.plane(0);
                let at = plane.data.iter().position(|&sample| sample == 200).unwrap();
                let bytes = if format == PixelFormat::BGR24 { 3 } else { 1 };
                let (x, y) = (at % plane.stride / bytes, at / plane.stride);
                let top_right_of_old = match degrees as u32 {
                    0 => (5, 1),
                    90 => (2, 5),
                    180 => (0, 2),
                    _ => (1, 0),
                };
                assert_eq!((x, y), top_right_of_old, "{format:?} {degrees}");
                let seen = Region {
                    x: x as f32,
                    y: y as f32,
                    width: 1.0,
                    height: 1.0,
                    score: 0.5,
                    kind: RegionKind::Head,
                    track: 0,
                };
                let back = upright.stored(&seen, size);
                assert_eq!((back.x, back.y), (5.0, 1.0), "{format:?} {degrees}");
            }
        }
    }

    #[test]
    fn a_mirror_turns_nothing() {
        let one = 1 << 16;
        let mirror = DisplayMatrix([-one, 0, 0, 0, one, 0, 0, 0, 1 << 30]);
        assert_eq!(turn(mirror), Turn::None);
        let flip = DisplayMatrix([one, 0, 0, 0, -one, 0, 0, 0, 1 << 30]);
        assert_eq!(turn(flip), Turn::Half);
    }

    #[test]
    fn only_odd_pixels_are_made_square() {
        let square = |num, den| {
            let mut track = VideoTrack::new(VideoCodec::H264, 960, 1080, Rational::MPEG);
            track.sample_aspect_ratio = Some(Rational::new(num, den));
            Upright::of(&track).square((960, 1080))
        };
        assert_eq!(square(2, 1), (1920, 1080));
        assert_eq!(square(1, 2), (480, 1080));
        for same in [(1, 1), (12, 11), (100, 1), (0, 1)] {
            assert_eq!(square(same.0, same.1), (960, 1080), "{same:?}");
        }
    }
}
