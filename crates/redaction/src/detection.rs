//! What a detector saw in one frame.

use plugin_abi::{Region, RegionKind};

use crate::geometry::Rect;

/// What kind of thing a detection is.
pub use plugin_abi::RegionKind as Kind;

/// One region a detector reported, in pixels of the **full** picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// The box to be hidden; may reach beyond the picture. Unsound boxes (NaN, empty) are dropped.
    pub rect: Rect,
    /// 0..=1.
    pub score: f32,
    /// What it is.
    pub kind: Kind,
}

impl Detection {
    /// A plugin's region, seen in a picture that was scaled down: `scale` is the full picture's
    /// width and height over the detector picture's. A face becomes the head about it.
    pub fn from_region(region: &Region, scale: (f32, f32)) -> Self {
        let rect = Rect::new(
            region.x * scale.0,
            region.y * scale.1,
            region.width * scale.0,
            region.height * scale.1,
        );
        let rect = if region.kind == RegionKind::Face {
            head_about(&rect)
        } else {
            rect
        };
        Self {
            rect,
            score: region.score,
            kind: region.kind,
        }
    }
}

impl From<&Region> for Detection {
    /// A region that was seen in the full picture.
    fn from(region: &Region) -> Self {
        Self::from_region(region, (1.0, 1.0))
    }
}

/// The head about a face (brow to chin, cheek to cheek): the skull above and the ears beside.
fn head_about(face: &Rect) -> Rect {
    let (x, y) = face.centre();
    Rect::centred(
        (x, y - 0.1 * face.height),
        1.3 * face.width,
        1.4 * face.height,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_face_becomes_the_head_about_it_in_the_full_picture() {
        let region = Region {
            x: 10.0,
            y: 10.0,
            width: 10.0,
            height: 10.0,
            score: 0.5,
            kind: Kind::Face,
            track: 0,
        };
        let head = Detection::from_region(&region, (3.0, 2.0)).rect;
        assert_eq!(Rect::new(30.0, 20.0, 30.0, 20.0).share_inside(&head), 1.0);
        assert!(head.y < 16.5 && head.bottom() >= 40.0, "{head:?}");
        let other = Region {
            kind: Kind::Head,
            ..region
        };
        assert_eq!(
            Detection::from(&other).rect,
            Rect::new(10.0, 10.0, 10.0, 10.0)
        );
    }
}
