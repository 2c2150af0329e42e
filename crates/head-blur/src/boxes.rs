//! Boxes and what is done with many of them.

/// A box in pixels (f32), by its edges, with the score of what is in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) left: f32,
    pub(crate) top: f32,
    pub(crate) right: f32,
    pub(crate) bottom: f32,
    /// 0..1.
    pub(crate) score: f32,
    /// Number of the class in its model.
    pub(crate) class: usize,
}

impl Scored {
    pub(crate) fn width(&self) -> f32 {
        self.right - self.left
    }

    pub(crate) fn height(&self) -> f32 {
        self.bottom - self.top
    }

    pub(crate) fn center_x(&self) -> f32 {
        f32::midpoint(self.left, self.right)
    }

    pub(crate) fn center_y(&self) -> f32 {
        f32::midpoint(self.top, self.bottom)
    }

    pub(crate) fn area(&self) -> f32 {
        self.width().max(0.0) * self.height().max(0.0)
    }

    /// Pixels both have in common.
    pub(crate) fn overlap(&self, other: &Self) -> f32 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }

    /// Intersection over union, 0..1.
    pub(crate) fn iou(&self, other: &Self) -> f32 {
        let common = self.overlap(other);
        let union = self.area() + other.area() - common;
        if union > 0.0 { common / union } else { 0.0 }
    }

    /// Moved into another picture: divided by `scale` (x, y).
    pub(crate) fn unscaled(self, (x, y): (f32, f32)) -> Self {
        Self {
            left: self.left / x,
            right: self.right / x,
            top: self.top / y,
            bottom: self.bottom / y,
            ..self
        }
    }
}

/// Non-maximum suppression within each class: keeps the best of boxes that
/// overlap by more than `limit` (intersection over union), best first.
pub(crate) fn suppress(mut boxes: Vec<Scored>, limit: f32) -> Vec<Scored> {
    boxes.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Scored> = Vec::with_capacity(boxes.len());
    for candidate in boxes {
        let hidden = kept
            .iter()
            .any(|better| better.class == candidate.class && better.iou(&candidate) > limit);
        if !hidden {
            kept.push(candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(left: f32, score: f32, class: usize) -> Scored {
        Scored {
            left,
            top: 0.0,
            right: left + 10.0,
            bottom: 10.0,
            score,
            class,
        }
    }

    #[test]
    fn the_best_of_overlapping_boxes_stays() {
        let kept = suppress(
            vec![
                scored(0.0, 0.5, 0),
                scored(1.0, 0.9, 0),
                scored(1.0, 0.4, 1),
                scored(30.0, 0.3, 0),
            ],
            0.5,
        );
        let scores: Vec<f32> = kept.iter().map(|b| b.score).collect();
        assert_eq!(scores, [0.9, 0.4, 0.3]);
    }

    #[test]
    fn overlap_of_halves_is_a_third() {
        let iou = scored(0.0, 1.0, 0).iou(&scored(5.0, 1.0, 0));
        assert!((iou - 1.0 / 3.0).abs() < 1e-6);
    }
}
