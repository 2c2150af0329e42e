//! Cheap image matching on a small grey picture of each frame.

use crate::geometry::{PictureSize, Rect};

/// A small grey picture of a whole frame, e.g. 320 x 180.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LumaPicture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl LumaPicture {
    /// A picture of `width` x `height` bytes without padding; `None` if the length does not fit
    /// or a side is 0.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Option<Self> {
        let fits = width > 0 && height > 0 && width.checked_mul(height) == Some(pixels.len());
        fits.then_some(Self {
            width,
            height,
            pixels,
        })
    }

    /// Scales a luma plane down to at most `max_width` columns by averaging whole-number blocks
    /// (1080p to 320 x 180: blocks of 6 x 6); for hosts without a scaler at hand.
    ///
    /// # Panics
    /// If the plane is smaller than `size` and `stride` say.
    pub fn scaled_down(luma: &[u8], stride: usize, size: PictureSize, max_width: u32) -> Self {
        let block = size.width.div_ceil(max_width.max(1)).max(1) as usize;
        let (width, height) = (size.width as usize / block, size.height as usize / block);
        let (width, height) = (width.max(1), height.max(1));
        let mut pixels = Vec::with_capacity(width * height);
        let mut sums = vec![0u32; width];
        let rows_per_block = block.min(size.height as usize);
        let columns_per_block = block.min(size.width as usize);
        for top in (0..height).map(|y| y * block) {
            sums.fill(0);
            for row in
                (top..top + rows_per_block).map(|y| &luma[y * stride..][..size.width as usize])
            {
                for (sum, cell) in sums.iter_mut().zip(row.chunks(columns_per_block)) {
                    *sum += cell.iter().map(|&pixel| u32::from(pixel)).sum::<u32>();
                }
            }
            let samples = (rows_per_block * columns_per_block) as u32;
            pixels.extend(sums.iter().map(|sum| ((sum + samples / 2) / samples) as u8));
        }
        Self {
            width,
            height,
            pixels,
        }
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, row by row.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// A full-picture box in this picture's pixels.
    pub fn to_small(&self, rect: &Rect, size: PictureSize) -> Rect {
        let fx = self.width as f32 / size.width as f32;
        let fy = self.height as f32 / size.height as f32;
        Rect::new(rect.x * fx, rect.y * fy, rect.width * fx, rect.height * fy)
    }
}
