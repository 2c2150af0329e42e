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

    /// True if it ends further than `margin` (across, down; pixels) from every border of a picture of `size`.
    pub(crate) fn is_within(&self, (width, height): (u32, u32), margin: (f32, f32)) -> bool {
        self.left > margin.0
            && self.right < width as f32 - margin.0
            && self.top > margin.1
            && self.bottom < height as f32 - margin.1
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

/// Boxes of the same object in several `looks` (scales) become one.
///
/// Its score is the chance that not every look erred, as if they were
/// independent: two weak sightings make a fair one. Its place is the mean,
/// weighted by squared score.
pub(crate) fn fuse(looks: &[Vec<Scored>], limit: f32) -> Vec<Scored> {
    if let [only] = looks {
        return only.clone();
    }
    let mut open: Vec<(usize, Scored)> = looks
        .iter()
        .enumerate()
        .flat_map(|(look, boxes)| boxes.iter().map(move |found| (look, *found)))
        .collect();
    open.sort_by(|a, b| b.1.score.total_cmp(&a.1.score));
    let mut fused = Vec::new();
    while let Some(&(_, best)) = open.first() {
        let (same, rest): (Vec<_>, Vec<_>) = open
            .into_iter()
            .partition(|(_, found)| found.class == best.class && found.iou(&best) > limit);
        if same.is_empty() {
            // A box without area overlaps nothing, not even itself.
            open = rest.into_iter().skip(1).collect();
            continue;
        }
        fused.push(combine(&same, looks.len()));
        open = rest;
    }
    fused
}

fn combine(same: &[(usize, Scored)], looks: usize) -> Scored {
    let missed: f32 = (0..looks)
        .map(|look| {
            let of_look = same.iter().filter(|(at, _)| *at == look);
            1.0 - of_look.map(|(_, found)| found.score).fold(0.0, f32::max)
        })
        .product();
    let total: f32 = same.iter().map(|(_, found)| found.score.powi(2)).sum();
    let mean = |edge: fn(&Scored) -> f32| {
        let sum: f32 = same
            .iter()
            .map(|(_, found)| found.score.powi(2) * edge(found))
            .sum();
        sum / total
    };
    Scored {
        left: mean(|found| found.left),
        top: mean(|found| found.top),
        right: mean(|found| found.right),
        bottom: mean(|found| found.bottom),
        score: 1.0 - missed,
        class: same[0].1.class,
    }
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
    fn two_weak_looks_make_a_fair_one() {
        let looks = [
            vec![scored(0.0, 0.2, 0), scored(50.0, 0.3, 0)],
            vec![scored(1.0, 0.2, 0)],
        ];
        let fused = fuse(&looks, 0.5);
        assert_eq!(fused.len(), 2, "{fused:?}");
        let both = fused[1];
        assert!((both.score - 0.36).abs() < 1e-6 && (both.left - 0.5).abs() < 1e-6);
        assert!((fused[0].score - 0.3).abs() < 1e-6, "{fused:?}");
    }

    #[test]
    fn boxes_without_area_do_not_hang_it() {
        let flat = Scored {
            right: 0.0,
            ..scored(0.0, 0.9, 0)
        };
        assert_eq!(fuse(&[vec![flat], vec![scored(0.0, 0.5, 0)]], 0.5).len(), 1);
    }

    #[test]
    fn overlap_of_halves_is_a_third() {
        let iou = scored(0.0, 1.0, 0).iou(&scored(5.0, 1.0, 0));
        assert!((iou - 1.0 / 3.0).abs() < 1e-6);
    }
}
