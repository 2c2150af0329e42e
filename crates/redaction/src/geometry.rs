//! Rectangles and sizes in full-picture pixels.

/// Width and height of the full picture in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureSize {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// An axis-parallel box in pixels of the full picture; may reach beyond the picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rect {
    /// Left edge.
    pub x: f32,
    /// Top edge.
    pub y: f32,
    /// Width; a box without a positive width and height is empty.
    pub width: f32,
    /// Height.
    pub height: f32,
}

impl Rect {
    /// A box from its left, top, width and height.
    pub const fn new(x: f32, y: f32, width: f32, height: f32) -> Self {
        Self {
            x,
            y,
            width,
            height,
        }
    }

    /// A box from its centre and size.
    pub fn centred(centre: (f32, f32), width: f32, height: f32) -> Self {
        Self::new(
            centre.0 - width / 2.0,
            centre.1 - height / 2.0,
            width,
            height,
        )
    }

    /// Right edge.
    pub fn right(&self) -> f32 {
        self.x + self.width
    }

    /// Bottom edge.
    pub fn bottom(&self) -> f32 {
        self.y + self.height
    }

    /// Centre (x, y).
    pub fn centre(&self) -> (f32, f32) {
        (self.x + self.width / 2.0, self.y + self.height / 2.0)
    }

    /// Area in square pixels; 0 for an empty box.
    pub fn area(&self) -> f32 {
        self.width.max(0.0) * self.height.max(0.0)
    }

    /// Mean of width and height: the "head unit" that distances and margins are measured in.
    pub fn unit(&self) -> f32 {
        (self.width + self.height) / 2.0
    }

    /// False for NaN, infinite, or empty boxes.
    pub fn is_sound(&self) -> bool {
        [self.x, self.y, self.width, self.height]
            .iter()
            .all(|v| v.is_finite())
            && self.width > 0.0
            && self.height > 0.0
    }

    /// The common part; empty (zero size) when there is none.
    pub fn intersection(&self, other: &Self) -> Self {
        let x = self.x.max(other.x);
        let y = self.y.max(other.y);
        let width = (self.right().min(other.right()) - x).max(0.0);
        let height = (self.bottom().min(other.bottom()) - y).max(0.0);
        Self::new(x, y, width, height)
    }

    /// The smallest box around both.
    pub fn union(&self, other: &Self) -> Self {
        let x = self.x.min(other.x);
        let y = self.y.min(other.y);
        let right = self.right().max(other.right());
        let bottom = self.bottom().max(other.bottom());
        Self::new(x, y, right - x, bottom - y)
    }

    /// Intersection over union, 0..=1.
    pub fn iou(&self, other: &Self) -> f32 {
        let common = self.intersection(other).area();
        let all = self.area() + other.area() - common;
        if all > 0.0 { common / all } else { 0.0 }
    }

    /// Share of this box's area that lies inside `other`, 0..=1.
    pub fn share_inside(&self, other: &Self) -> f32 {
        let area = self.area();
        if area > 0.0 {
            self.intersection(other).area() / area
        } else {
            0.0
        }
    }

    /// The same box with `share` of its width and height added on every side.
    pub fn grown(&self, share: f32) -> Self {
        let factor = (1.0 + 2.0 * share).max(0.0);
        Self::centred(self.centre(), self.width * factor, self.height * factor)
    }

    /// The same box moved.
    pub fn moved(&self, dx: f32, dy: f32) -> Self {
        Self::new(self.x + dx, self.y + dy, self.width, self.height)
    }

    /// Point by point between `self` (t = 0) and `other` (t = 1).
    pub fn towards(&self, other: &Self, t: f32) -> Self {
        let mix = |a: f32, b: f32| a + (b - a) * t;
        Self::new(
            mix(self.x, other.x),
            mix(self.y, other.y),
            mix(self.width, other.width),
            mix(self.height, other.height),
        )
    }

    /// Distance of the centres in head units of the mean of both boxes.
    pub fn distance_in_units(&self, other: &Self) -> f32 {
        let (a, b) = (self.centre(), other.centre());
        let unit = ((self.unit() + other.unit()) / 2.0).max(1.0);
        (a.0 - b.0).hypot(a.1 - b.1) / unit
    }
}

impl From<PictureSize> for Rect {
    fn from(size: PictureSize) -> Self {
        Self::new(0.0, 0.0, size.width as f32, size.height as f32)
    }
}
