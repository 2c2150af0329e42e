//! The optional second look: the detector is shown pictures of the finished output, and what it clearly
//! sees there must lie under a mask that was drawn.
//!
//! It looks where the first pass as a rule did not, between two of its looks, and at what will be
//! published rather than at the original. A blurred head may still be found, by its shoulders, so a
//! sighting alone says nothing; one that is nowhere near a mask does.

use std::collections::BTreeMap;
use std::fs::File;

use media::verify::{VerifyOptions, verify_frames};
use redaction::{FrameMasks, PictureSize, Rect};

use super::cadence::Effort;
use super::detect::Eye;
use super::hide::Counts;
use super::index::Index;
use super::job::{Failure, Phase, Progress};
use super::source::Picture;
use super::{StaticZones, VideoJob};

/// One picture in so many is looked at, the first after half of them. No multiple of what `detect_every` usually is: the
/// same pictures would be looked at again.
const EVERY: usize = 7;
/// From this score on something is clearly there. Lower ones are as often a cone or a sign.
const CLEAR: f32 = 0.6;
/// A sighting belongs to a hidden head when it touches the mask, grown by so much of its size on all sides:
/// of a person without a visible head the detector takes the shoulders or the chest for it.
const REACH: f32 = 0.5;

/// Whether a picture is looked at again.
fn is_due(number: usize) -> bool {
    number % EVERY == EVERY / 2
}

/// Where masks were drawn, for the pictures that are looked at again.
#[derive(Debug, Default)]
pub(crate) struct Drawn(BTreeMap<usize, Vec<Rect>>);

impl Drawn {
    /// Notes what was drawn into a picture; one that is hidden as a whole needs no second look.
    pub(super) fn note(&mut self, number: usize, masks: &FrameMasks, whole_frame: bool) {
        if is_due(number) && !whole_frame {
            let bounds = masks.masks.iter().map(|mask| mask.shape.bounds()).collect();
            self.0.insert(number, bounds);
        }
    }
}

/// Has the detector look at the output.
///
/// # Errors
/// [`Failure::Attempt`] when something is clearly seen and not hidden, the plugin's own failure, or that
/// the output cannot be read.
pub(super) fn look(
    mut eye: Eye<'_>,
    output: &File,
    index: &Index,
    (drawn, job): (&Drawn, &VideoJob),
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Failure> {
    let file = output
        .try_clone()
        .map_err(|error| Failure::attempt(error.to_string()))?;
    let total = index.times.len() as u64;
    let mut counts = Counts::default();
    let mut number = 0;
    let mut outcome = Ok(());
    let seen = verify_frames(file, &VerifyOptions::default(), &mut |frame| {
        if outcome.is_ok()
            && let Some(hidden) = drawn.0.get(&number)
        {
            let picture = Picture {
                number,
                frame: frame.clone(),
                damaged: false,
            };
            outcome = eye
                .look(&picture, Effort::Thorough, index, &mut counts)
                .and_then(|found| judge(&found, hidden, &job.zones, &picture));
        }
        number += 1;
        progress(Progress {
            phase: Phase::Verifying,
            frames: number as u64,
            total,
        });
        Ok(())
    });
    seen.map_err(|error| Failure::attempt(format!("the output cannot be read again: {error}")))?;
    outcome
}

fn judge(
    found: &[redaction::Detection],
    hidden: &[Rect],
    zones: &StaticZones,
    picture: &Picture,
) -> Result<(), Failure> {
    let size = PictureSize {
        width: picture.frame.width(),
        height: picture.frame.height(),
    };
    let zones = zones.zones();
    let shown = found.iter().find(|seen| {
        seen.score >= CLEAR
            && !zones.never_covers(&seen.rect, size)
            && !hidden
                .iter()
                .any(|mask| seen.rect.intersection(&mask.grown(REACH)).area() > 0.0)
    });
    let Some(seen) = shown else { return Ok(()) };
    let rect = seen.rect;
    Err(Failure::attempt(format!(
        "the second look found somebody who is not hidden: frame {}, {:.0}x{:.0} pixels at {:.0}, {:.0}, score {:.2}",
        picture.number, rect.width, rect.height, rect.x, rect.y, seen.score
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_between_the_first_looks_too() {
        let due: Vec<usize> = (0..40).filter(|number| is_due(*number)).collect();
        assert_eq!(due, [3, 10, 17, 24, 31, 38]);
        for every in 2..=5 {
            let new = due.iter().filter(|number| !number.is_multiple_of(every));
            assert!(new.count() >= due.len() / 2, "{every}");
        }
    }
}
