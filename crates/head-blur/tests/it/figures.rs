//! Paints people so plainly that anybody, networks too, takes them for people.

use std::ops::Range;

/// A BGR picture.
pub(crate) struct Picture {
    pub(crate) size: (u32, u32),
    pub(crate) bgr: Vec<u8>,
}

/// Where a painted head is, pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) radius: f32,
}

impl Picture {
    /// A wall above a floor.
    pub(crate) fn empty(width: u32, height: u32) -> Self {
        let row = |y: u32| {
            if y < height * 3 / 8 {
                [200, 190, 180]
            } else {
                [130, 135, 140]
            }
        };
        let bgr = (0..height)
            .flat_map(|y| (0..width).flat_map(move |_| row(y)))
            .collect();
        Self {
            size: (width, height),
            bgr,
        }
    }

    /// Colours what is `inside` between two heights.
    fn paint(&mut self, color: [u8; 3], rows: Range<f32>, inside: impl Fn(f32, f32) -> bool) {
        let width = self.size.0 as usize;
        for y in rows.start.max(0.0) as usize..(rows.end.max(0.0) as usize + 1) {
            let Some(row) = self.bgr.get_mut(y * width * 3..(y + 1) * width * 3) else {
                return;
            };
            for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                if inside(x as f32 + 0.5, y as f32 + 0.5) {
                    pixel.copy_from_slice(&color);
                }
            }
        }
    }

    fn ellipse(&mut self, color: [u8; 3], (x, y): (f32, f32), (rx, ry): (f32, f32)) {
        self.paint(color, y - ry..y + ry, |px, py| {
            ((px - x) / rx).powi(2) + ((py - y) / ry).powi(2) <= 1.0
        });
    }

    /// A trapezoid between two heights: `(y, left, right)` above and below.
    fn slab(&mut self, color: [u8; 3], above: (f32, f32, f32), below: (f32, f32, f32)) {
        self.paint(color, above.0..below.0, |px, py| {
            let part = (py - above.0) / (below.0 - above.0);
            let edge = |a: f32, b: f32| a + part * (b - a);
            (0.0..1.0).contains(&part)
                && px >= edge(above.1, below.1)
                && px < edge(above.2, below.2)
        });
    }

    /// Somebody standing, `tall` pixels, the middle of the head at `x`, `y`.
    pub(crate) fn person(&mut self, x: f32, y: f32, tall: f32, shirt: [u8; 3]) -> Head {
        let at = |a: f32, b: f32, c: f32| (y + a * tall, x + b * tall, x + c * tall);
        let radius = tall / 15.0;
        self.ellipse([110, 140, 190], (x, y), (radius * 0.85, radius * 1.15));
        self.paint([20, 25, 30], y - 2.0 * radius..y, |px, py| {
            py < y - 0.02 * tall
                && ((px - x) / radius).powi(2) + ((py - y + 0.02 * tall) / radius).powi(2) <= 0.9
        });
        self.slab(shirt, at(0.06, -0.03, 0.03), at(0.11, -0.11, 0.11));
        self.slab(shirt, at(0.11, -0.085, 0.085), at(0.46, -0.08, 0.08));
        self.slab(shirt, at(0.11, -0.11, -0.07), at(0.43, -0.14, -0.10));
        self.slab(shirt, at(0.11, 0.07, 0.11), at(0.43, 0.10, 0.14));
        self.slab([60, 50, 45], at(0.44, -0.08, 0.0), at(0.88, -0.09, -0.03));
        self.slab([60, 50, 45], at(0.44, 0.0, 0.08), at(0.88, 0.03, 0.09));
        self.slab([20, 20, 20], at(0.87, -0.10, -0.03), at(0.91, -0.12, -0.03));
        self.slab([20, 20, 20], at(0.87, 0.03, 0.10), at(0.91, 0.03, 0.12));
        Head { x, y, radius }
    }
}
