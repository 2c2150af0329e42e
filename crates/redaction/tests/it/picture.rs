//! Test pictures in every plane layout.

use redaction::{Chroma, PictureSize, Plane, Subsampling, YuvPlanes};

/// How the chroma of a [`Picture`] lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Planar(Subsampling),
    Nv12,
}

/// A picture that owns its planes; strides are wider than the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) size: PictureSize,
    pub(crate) layout: Layout,
    pub(crate) y: Vec<u8>,
    pub(crate) u: Vec<u8>,
    pub(crate) v: Vec<u8>,
    padding: usize,
}

pub(crate) fn noise(at: u64) -> u8 {
    let mut z = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z >> 40) as u8
}

impl Picture {
    /// Every byte random, but never a value a cell can have (those are multiples of 16), so that
    /// every sample that is replaced also changes.
    pub(crate) fn noisy(width: u32, height: u32, layout: Layout, padding: usize) -> Self {
        let subsampling = match layout {
            Layout::Planar(subsampling) => subsampling,
            Layout::Nv12 => Subsampling::YUV420,
        };
        let (cw, ch) = (
            width.div_ceil(1 << subsampling.x),
            height.div_ceil(1 << subsampling.y),
        );
        // One value per chroma position, whatever the layout.
        let odd = |value: u8| {
            if value.is_multiple_of(16) {
                value + 7
            } else {
                value
            }
        };
        let plane = |salt: u64, width: u32, height: u32| -> Vec<u8> {
            let stride = u64::from(width) + padding as u64;
            (0..stride * u64::from(height))
                .map(|at| odd(noise(at + (salt << 32))))
                .collect()
        };
        let (y, mut u, mut v) = (plane(1, width, height), plane(2, cw, ch), plane(3, cw, ch));
        if layout == Layout::Nv12 {
            u = u.iter().zip(&v).flat_map(|(&u, &v)| [u, v]).collect();
            v = Vec::new();
        }
        Self {
            size: PictureSize { width, height },
            layout,
            y,
            u,
            v,
            padding,
        }
    }

    pub(crate) fn planes(&mut self) -> YuvPlanes<'_> {
        let Self {
            size,
            layout,
            y,
            u,
            v,
            padding,
        } = self;
        let (width, height) = (size.width as usize, size.height as usize);
        let luma = Plane {
            data: y,
            stride: width + *padding,
        };
        let planes = match *layout {
            Layout::Nv12 => {
                let stride = 2 * (width.div_ceil(2) + *padding);
                YuvPlanes::nv12((width, height), luma, Plane { data: u, stride })
            }
            Layout::Planar(subsampling) => {
                let stride = width.div_ceil(1 << subsampling.x) + *padding;
                let chroma = Chroma::Planar {
                    u: Plane { data: u, stride },
                    v: Plane { data: v, stride },
                };
                YuvPlanes::new((width, height), subsampling, luma, chroma)
            }
        };
        planes.expect("the planes were made for this size")
    }

    /// The luma of one pixel.
    pub(crate) fn luma(&self, x: u32, y: u32) -> u8 {
        self.y[y as usize * (self.size.width as usize + self.padding) + x as usize]
    }

    /// The chroma pair over one luma pixel.
    pub(crate) fn chroma(&self, x: u32, y: u32) -> (u8, u8) {
        let width = self.size.width as usize;
        match self.layout {
            Layout::Nv12 => {
                let at = (y / 2) as usize * (width.div_ceil(2) + self.padding) + (x / 2) as usize;
                (self.u[2 * at], self.u[2 * at + 1])
            }
            Layout::Planar(Subsampling { x: sx, y: sy }) => {
                let stride = width.div_ceil(1 << sx) + self.padding;
                let at = (y >> sy) as usize * stride + (x >> sx) as usize;
                (self.u[at], self.v[at])
            }
        }
    }
}
