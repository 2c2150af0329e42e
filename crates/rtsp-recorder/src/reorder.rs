//! Decoding times for streams that carry only presentation times.
//!
//! RTP has one timestamp per frame: when it is shown. MP4 wants to know when it is decoded, too. Without B-frames
//! both are the same. With them the decoding times are the presentation times sorted, late by the reorder depth
//! (the largest number of frames that are decoded before a frame and shown after it); FFmpeg's `compute_pkt_fields`
//! does the same. The depth is learnt from the first frames of a session, since most cameras do not declare it.

/// Frames looked at before the depth is decided.
pub const PROBE_FRAMES: usize = 6;

/// The deepest reordering H.264 and H.265 allow (a DPB of 16 pictures).
const DEEPEST: usize = 16;

/// Two frames further apart than this are not reordered, one of them has a wrong timestamp.
const WINDOW_90K: i64 = 2 * 90_000;

/// The reorder depth that the presentation times `pts_90k`, in decoding order, need.
pub fn depth_of(pts_90k: &[i64]) -> usize {
    let later_shown = |i: usize| {
        let own = pts_90k[i];
        pts_90k[..i]
            .iter()
            .filter(|earlier| **earlier > own && earlier.saturating_sub(own) <= WINDOW_90K)
            .count()
    };
    (0..pts_90k.len())
        .map(later_shown)
        .max()
        .unwrap_or(0)
        .min(DEEPEST)
}

/// Makes decoding times, in ticks of 1/90000 s, strictly increasing and never after the presentation time.
#[derive(Debug)]
pub struct DecodeTimes {
    depth: usize,
    /// The largest presentation times so far, ascending, at most `depth + 1`.
    window: Vec<i64>,
    last: Option<i64>,
    too_shallow: bool,
}

/// The times of one frame, in ticks of 1/90000 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// When the frame is shown.
    pub pts_90k: i64,
    /// When the frame is decoded.
    pub dts_90k: i64,
}

impl DecodeTimes {
    /// For a stream of the given reorder depth.
    pub fn new(depth: usize) -> Self {
        DecodeTimes {
            depth: depth.min(DEEPEST),
            window: Vec::new(),
            last: None,
            too_shallow: false,
        }
    }

    /// True once a frame came that the depth does not allow for; [`deepen`](Self::deepen) at the next cut.
    pub fn is_too_shallow(&self) -> bool {
        self.too_shallow
    }

    /// Starts again with one more frame of depth. Call it at a key frame, where a new file begins.
    pub fn deepen(&mut self) {
        *self = DecodeTimes::new(self.depth + 1);
    }

    /// The times of the next frame in decoding order; `interval_90k` is the usual distance of frames.
    ///
    /// The presentation time is only moved when the depth turned out too small.
    pub fn next(&mut self, pts_90k: i64, interval_90k: i64) -> Times {
        if self.window.is_empty() {
            let lead = |i: usize| pts_90k - interval_90k.max(1) * (self.depth - i) as i64;
            self.window = (0..self.depth).map(lead).collect();
        }
        let place = self.window.partition_point(|earlier| *earlier <= pts_90k);
        self.window.insert(place, pts_90k);
        let smallest = self.window.remove(0);
        let dts_90k = self.last.map_or(smallest, |last| smallest.max(last + 1));
        self.last = Some(dts_90k);
        if dts_90k > pts_90k {
            self.too_shallow = true;
        }
        Times {
            pts_90k: pts_90k.max(dts_90k),
            dts_90k,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(depth: usize, pts: &[i64]) -> Vec<(i64, i64)> {
        let mut maker = DecodeTimes::new(depth);
        pts.iter()
            .map(|pts| {
                let times = maker.next(*pts, 10);
                (times.pts_90k, times.dts_90k)
            })
            .collect()
    }

    #[test]
    fn without_b_frames_both_times_agree() {
        assert_eq!(times(0, &[0, 10, 20]), [(0, 0), (10, 10), (20, 20)]);
    }

    #[test]
    fn two_b_frames_need_a_depth_of_one() {
        let pts = [0, 30, 10, 20, 60, 40, 50];
        assert_eq!(depth_of(&pts), 1);
        assert_eq!(
            times(1, &pts),
            [
                (0, -10),
                (30, 0),
                (10, 10),
                (20, 20),
                (60, 30),
                (40, 40),
                (50, 50)
            ]
        );
    }

    #[test]
    fn a_pyramid_needs_a_depth_of_two() {
        let pts = [0, 40, 20, 10, 30, 80, 60, 50, 70];
        assert_eq!(depth_of(&pts), 2);
        let times = times(2, &pts);
        assert!(times.iter().all(|(pts, dts)| dts <= pts));
        assert!(times.windows(2).all(|pair| pair[0].1 < pair[1].1));
        assert_eq!(times.iter().map(|t| t.0).collect::<Vec<_>>(), pts);
    }

    #[test]
    fn a_jump_back_is_no_reordering() {
        assert_eq!(depth_of(&[10_000_000, 10_006_000, 0, 6000]), 0);
    }

    #[test]
    fn too_small_a_depth_is_noticed_and_still_storable() {
        let mut maker = DecodeTimes::new(0);
        maker.next(0, 10);
        maker.next(30, 10);
        let late = maker.next(10, 10);
        assert!(maker.is_too_shallow());
        assert!(late.dts_90k <= late.pts_90k && late.dts_90k > 30);
        maker.deepen();
        assert_eq!(
            maker.next(60, 10),
            Times {
                pts_90k: 60,
                dts_90k: 50
            }
        );
    }
}
