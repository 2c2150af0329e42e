//! Where a looping clip stands on the camera's clock. Pure arithmetic; nothing here sleeps.
//!
//! Media time is nanoseconds since the camera was started and runs on over the loop point. Video ticks are
//! rounded from it. Sound stands on a fixed grid of whole AAC frames over all loops, as an encoder's would:
//! its timestamps never jitter at the loop point, and it is less than one frame late against the picture.

use crate::clip::{AAC_FRAME, Clip, Track, Unit, VIDEO_CLOCK, aac_ns};
use std::sync::Arc;

const SECOND_NS: i128 = 1_000_000_000;

/// Ticks of a clock of `rate` Hz at `ns` nanoseconds, rounded to the nearest.
pub(crate) fn ticks(ns: i64, rate: u32) -> i64 {
    ((i128::from(ns) * i128::from(rate) + SECOND_NS / 2).div_euclid(SECOND_NS)) as i64
}

/// When a unit of the clip is due this time round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Index into the clip's units.
    pub(crate) unit: usize,
    /// When to send, media time.
    pub(crate) due_ns: i64,
    /// When to show, media time.
    pub(crate) pts_ns: i64,
    /// When to show, in the track's RTP clock.
    pub(crate) ticks: i64,
}

/// The endless sequence of a clip's units.
#[derive(Debug)]
pub(crate) struct Timeline {
    clip: Arc<Clip>,
    /// Media time at which the running loop began.
    base_ns: i64,
    next: usize,
    loops: u64,
}

impl Timeline {
    /// Starts `clip` at `base_ns`.
    pub(crate) fn new(clip: Arc<Clip>, base_ns: i64) -> Self {
        let mut timeline = Self {
            clip,
            base_ns,
            next: 0,
            loops: 0,
        };
        timeline.skip_late_sound();
        timeline
    }

    pub(crate) fn clip(&self) -> &Arc<Clip> {
        &self.clip
    }

    /// How often the clip has been started again.
    pub(crate) fn loops(&self) -> u64 {
        self.loops
    }

    /// The next unit.
    pub(crate) fn peek(&self) -> Placed {
        self.place(self.next)
    }

    /// Moves past the next unit.
    pub(crate) fn advance(&mut self) {
        self.step();
        self.skip_late_sound();
    }

    /// When the next key frame that has not been taken yet is shown.
    pub(crate) fn next_key_pts_ns(&self) -> i64 {
        let is_key = |u: &Unit| u.track == Track::Video && u.key;
        let units = &self.clip.units;
        match units[self.next..].iter().position(is_key) {
            Some(ahead) => self.place(self.next + ahead).pts_ns,
            None => {
                let first = units.iter().position(is_key).unwrap_or_default();
                self.place(first).pts_ns + self.clip.length_ns
            }
        }
    }

    fn step(&mut self) {
        self.next += 1;
        if self.next == self.clip.units.len() {
            self.next = 0;
            self.loops += 1;
            self.base_ns += self.clip.length_ns;
        }
    }

    /// The grid may push the last sound of a loop behind the loop point, where the next loop's begins.
    fn skip_late_sound(&mut self) {
        while self.clip.units[self.next].track == Track::Audio
            && self.peek().pts_ns >= self.base_ns + self.clip.length_ns
        {
            self.step();
        }
    }

    fn place(&self, index: usize) -> Placed {
        let unit = &self.clip.units[index];
        match (unit.track, &self.clip.audio) {
            (Track::Audio, Some(format)) => self.place_sound(index, unit, format.rate),
            _ => {
                let pts_ns = self.base_ns + unit.pts_ns;
                Placed {
                    unit: index,
                    due_ns: self.base_ns + unit.dts_ns,
                    pts_ns,
                    ticks: ticks(pts_ns, VIDEO_CLOCK),
                }
            }
        }
    }

    fn place_sound(&self, index: usize, unit: &Unit, rate: u32) -> Placed {
        // Where the clip's first sound starts this time round; the same for all its frames, to the nanosecond.
        let first = i128::from(self.base_ns + unit.pts_ns - aac_ns(unit.index, rate));
        let per_frame = i128::from(AAC_FRAME) * SECOND_NS;
        // Rounded up: what lies before the loop point belongs to the loop before.
        let grid = -(-first * i128::from(rate)).div_euclid(per_frame);
        let ticks = (grid as i64 + i64::from(unit.index)) * AAC_FRAME;
        let pts_ns = (i128::from(ticks) * SECOND_NS / i128::from(rate)) as i64;
        Placed {
            unit: index,
            due_ns: pts_ns,
            pts_ns,
            ticks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::tests::small_clip;

    fn collect(with_audio: bool, count: usize) -> Vec<(Track, i64)> {
        let mut timeline = Timeline::new(Arc::new(small_clip(with_audio)), 0);
        (0..count)
            .map(|_| {
                let placed = timeline.peek();
                let track = timeline.clip().units[placed.unit].track;
                timeline.advance();
                (track, placed.ticks)
            })
            .collect()
    }

    #[test]
    fn video_timestamps_run_on_over_the_loop_point() {
        let ticks: Vec<i64> = collect(false, 35).into_iter().map(|(_, t)| t).collect();
        let expected: Vec<i64> = (0..35).map(|i| i * 9000).collect();
        assert_eq!(ticks, expected);
    }

    #[test]
    fn sound_stays_on_one_grid_and_near_the_picture() {
        let all = collect(true, 180 * 100);
        let mut sound = all
            .iter()
            .filter(|(t, _)| *t == Track::Audio)
            .map(|(_, t)| *t);
        let mut previous = sound.next().unwrap();
        for t in sound {
            assert_eq!(t - previous, 1024);
            previous = t;
        }
        let video = all.iter().rfind(|(t, _)| *t == Track::Video).unwrap().1;
        assert!((previous as f64 / 8000.0 - video as f64 / 90_000.0).abs() < 0.3);
    }

    #[test]
    fn the_next_key_frame_is_known_ahead() {
        let mut timeline = Timeline::new(Arc::new(small_clip(false)), 5);
        assert_eq!(timeline.next_key_pts_ns(), 5);
        timeline.advance();
        assert_eq!(timeline.next_key_pts_ns(), 500_000_005);
        for _ in 0..5 {
            timeline.advance();
        }
        assert_eq!(timeline.next_key_pts_ns(), 1_000_000_005);
    }

    #[test]
    fn a_week_of_loops_does_not_drift() {
        let mut timeline = Timeline::new(Arc::new(small_clip(false)), 0);
        timeline.base_ns = 7 * 86_400 * 1_000_000_000;
        assert_eq!(timeline.peek().ticks, 7 * 86_400 * 90_000);
    }
}
