//! Which frames should a person look at? Those whose masks stand on the weakest ground.

use redaction::{Certainty, FrameMasks};

/// Frames that are remembered at the end.
const FRAMES: usize = 12;
/// Two of them are at least so far apart, seconds.
const APART: f64 = 1.0;
/// What is hidden without being seen is this much more doubtful.
const UNSEEN: f32 = 0.3;

/// The most doubtful frames so far, the worst first, [`APART`] from each other.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    worst: Vec<Doubt>,
}

#[derive(Debug, Clone, Copy)]
struct Doubt {
    frame: u64,
    seconds: f64,
    weight: f32,
}

impl Doubts {
    pub(super) fn note(&mut self, frame: u64, seconds: f64, masks: &FrameMasks) {
        let doubt = |mask: &redaction::Mask| {
            let unseen = f32::from(u8::from(mask.certainty != Certainty::Seen));
            1.0 - mask.score + UNSEEN * unseen
        };
        let weight = masks.masks.iter().map(doubt).fold(0.0, f32::max);
        if weight > 0.0 {
            self.add(Doubt {
                frame,
                seconds,
                weight,
            });
        }
    }

    fn add(&mut self, new: Doubt) {
        let is_near = |old: &Doubt| (old.seconds - new.seconds).abs() < APART;
        if self
            .worst
            .iter()
            .any(|old| is_near(old) && old.weight >= new.weight)
        {
            return;
        }
        self.worst.retain(|old| !is_near(old));
        let at = self.worst.partition_point(|old| old.weight >= new.weight);
        self.worst.insert(at, new);
        self.worst.truncate(FRAMES);
    }

    /// Their numbers, in order of the video.
    pub(super) fn frames(&self) -> Vec<u64> {
        let mut frames: Vec<u64> = self.worst.iter().map(|doubt| doubt.frame).collect();
        frames.sort_unstable();
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_frames_that_lie_apart_are_kept() {
        let mut doubts = Doubts::default();
        for frame in 0..400_u64 {
            let weight = if frame == 205 {
                0.9
            } else {
                0.1 + (frame % 10) as f32 * 0.01
            };
            doubts.add(Doubt {
                frame,
                seconds: frame as f64 / 10.0,
                weight,
            });
        }
        let frames = doubts.frames();
        assert_eq!(frames.len(), FRAMES);
        assert!(frames.contains(&205) && frames.is_sorted());
        assert!(
            frames.windows(2).all(|pair| pair[1] - pair[0] >= 10),
            "{frames:?}"
        );
    }
}
