//! Borrowed 8-bit YUV planes, checked once, so that the pixel loops need no checks of their own.

/// One plane: rows of `stride` bytes, of which the first part is picture.
#[derive(Debug)]
pub struct Plane<'a> {
    /// The bytes, top row first.
    pub data: &'a mut [u8],
    /// Bytes from one row's start to the next one's.
    pub stride: usize,
}

/// The colour planes.
#[derive(Debug)]
pub enum Chroma<'a> {
    /// Grey picture.
    None,
    /// U and V planes of their own (I420, 4:2:2, 4:4:4 planar).
    Planar {
        /// Cb.
        u: Plane<'a>,
        /// Cr.
        v: Plane<'a>,
    },
    /// One plane of U, V pairs (NV12).
    Interleaved(Plane<'a>),
}

/// How many luma pixels share a chroma sample, as powers of two: 4:2:0 is (1, 1), 4:2:2 is (1, 0),
/// 4:4:4 is (0, 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subsampling {
    /// Horizontal shift, 0..=2.
    pub x: u8,
    /// Vertical shift, 0..=2.
    pub y: u8,
}

impl Subsampling {
    /// 4:2:0.
    pub const YUV420: Self = Self { x: 1, y: 1 };
    /// 4:2:2.
    pub const YUV422: Self = Self { x: 1, y: 0 };
    /// 4:4:4.
    pub const YUV444: Self = Self { x: 0, y: 0 };
}

/// Why planes were refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaneError {
    /// Width or height is zero or above 65,535.
    Size {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// A subsampling shift above 2.
    Subsampling(Subsampling),
    /// A plane's slice or stride is too small for its rows.
    TooSmall {
        /// "luma", "u", "v" or "uv".
        plane: &'static str,
        /// Bytes a row needs.
        row_bytes: usize,
        /// Rows needed.
        rows: usize,
        /// Stride given.
        stride: usize,
        /// Bytes given.
        len: usize,
    },
}

impl std::fmt::Display for PlaneError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Size { width, height } => {
                write!(
                    f,
                    "picture of {width}x{height} pixels cannot be masked; 1..=65535 a side"
                )
            }
            Self::Subsampling(s) => {
                write!(f, "chroma subsampling shifts {}, {} are above 2", s.x, s.y)
            }
            Self::TooSmall {
                plane,
                row_bytes,
                rows,
                stride,
                len,
            } => write!(
                f,
                "{plane} plane of {len} bytes with stride {stride} cannot hold {rows} rows of {row_bytes} bytes"
            ),
        }
    }
}

impl std::error::Error for PlaneError {}

/// One picture's planes, borrowed for changing in place. 8 bits a sample.
#[derive(Debug)]
pub struct YuvPlanes<'a> {
    width: usize,
    height: usize,
    subsampling: Subsampling,
    luma: Plane<'a>,
    chroma: Chroma<'a>,
}

impl<'a> YuvPlanes<'a> {
    /// Planes of a picture of `width` x `height` luma pixels. Chroma planes have
    /// `ceil(width / 2^x)` x `ceil(height / 2^y)` samples; odd sizes are fine. The last row of a
    /// plane need not be followed by the stride's padding.
    ///
    /// # Errors
    /// If a plane is too small for that, or the size is 0 or above 65,535.
    pub fn new(
        (width, height): (usize, usize),
        subsampling: Subsampling,
        luma: Plane<'a>,
        chroma: Chroma<'a>,
    ) -> Result<Self, PlaneError> {
        if width == 0 || height == 0 || width > 65_535 || height > 65_535 {
            return Err(PlaneError::Size { width, height });
        }
        if subsampling.x > 2 || subsampling.y > 2 {
            return Err(PlaneError::Subsampling(subsampling));
        }
        let (cw, ch) = chroma_size(width, height, subsampling);
        check("luma", &luma, width, height)?;
        match &chroma {
            Chroma::None => {}
            Chroma::Planar { u, v } => {
                check("u", u, cw, ch)?;
                check("v", v, cw, ch)?;
            }
            Chroma::Interleaved(uv) => check("uv", uv, 2 * cw, ch)?,
        }
        Ok(Self {
            width,
            height,
            subsampling,
            luma,
            chroma,
        })
    }

    /// Planes of a 4:2:0 planar picture (I420).
    ///
    /// # Errors
    /// As [`YuvPlanes::new`].
    pub fn i420(
        size: (usize, usize),
        luma: Plane<'a>,
        u: Plane<'a>,
        v: Plane<'a>,
    ) -> Result<Self, PlaneError> {
        Self::new(size, Subsampling::YUV420, luma, Chroma::Planar { u, v })
    }

    /// Planes of a 4:2:0 picture with interleaved chroma (NV12).
    ///
    /// # Errors
    /// As [`YuvPlanes::new`].
    pub fn nv12(size: (usize, usize), luma: Plane<'a>, uv: Plane<'a>) -> Result<Self, PlaneError> {
        Self::new(size, Subsampling::YUV420, luma, Chroma::Interleaved(uv))
    }

    /// Columns of luma.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows of luma.
    pub fn height(&self) -> usize {
        self.height
    }

    /// How many luma pixels share a chroma sample.
    pub fn subsampling(&self) -> Subsampling {
        self.subsampling
    }

    /// The luma plane's bytes and stride, for reading.
    pub fn luma(&self) -> (&[u8], usize) {
        (self.luma.data, self.luma.stride)
    }

    /// Every sample grid of the picture: luma, then U and V (or the UV pairs once).
    pub(crate) fn grids(&mut self) -> Vec<Grid<'_>> {
        let (cw, ch) = chroma_size(self.width, self.height, self.subsampling);
        let Subsampling { x, y } = self.subsampling;
        let luma = Grid::of(
            &mut self.luma,
            (self.width, self.height),
            (0, 0),
            Channels::Y,
        );
        let mut grids = vec![luma];
        match &mut self.chroma {
            Chroma::None => {}
            Chroma::Planar { u, v } => {
                grids.push(Grid::of(u, (cw, ch), (x, y), Channels::U));
                grids.push(Grid::of(v, (cw, ch), (x, y), Channels::V));
            }
            Chroma::Interleaved(uv) => grids.push(Grid::of(uv, (cw, ch), (x, y), Channels::Uv)),
        }
        grids
    }
}

/// Which of Y, U, V a grid's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channels {
    Y,
    U,
    V,
    Uv,
}

/// One plane with its own sample counts and its shifts against luma.
pub(crate) struct Grid<'a> {
    pub(crate) data: &'a mut [u8],
    pub(crate) stride: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) shift_x: u8,
    pub(crate) shift_y: u8,
    pub(crate) channels: Channels,
}

impl<'a> Grid<'a> {
    fn of(
        plane: &'a mut Plane<'_>,
        (width, height): (usize, usize),
        (shift_x, shift_y): (u8, u8),
        channels: Channels,
    ) -> Self {
        let stride = plane.stride;
        Self {
            data: plane.data,
            stride,
            width,
            height,
            shift_x,
            shift_y,
            channels,
        }
    }

    /// Bytes a sample position takes: 2 for UV pairs.
    pub(crate) fn step(&self) -> usize {
        if self.channels == Channels::Uv { 2 } else { 1 }
    }

    /// The picture bytes of row `y`.
    pub(crate) fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.stride..][..self.width * self.step()]
    }

    /// The picture bytes of row `y`, for writing.
    pub(crate) fn row_mut(&mut self, y: usize) -> &mut [u8] {
        let bytes = self.width * self.step();
        &mut self.data[y * self.stride..][..bytes]
    }
}

fn chroma_size(width: usize, height: usize, subsampling: Subsampling) -> (usize, usize) {
    (
        width.div_ceil(1 << subsampling.x),
        height.div_ceil(1 << subsampling.y),
    )
}

fn check(
    name: &'static str,
    plane: &Plane<'_>,
    row_bytes: usize,
    rows: usize,
) -> Result<(), PlaneError> {
    let (stride, len) = (plane.stride, plane.data.len());
    let needed = stride
        .checked_mul(rows - 1)
        .and_then(|bytes| bytes.checked_add(row_bytes));
    if stride < row_bytes || needed.is_none_or(|needed| len < needed) {
        return Err(PlaneError::TooSmall {
            plane: name,
            row_bytes,
            rows,
            stride,
            len,
        });
    }
    Ok(())
}
