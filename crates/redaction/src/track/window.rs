//! The frames between the newest one and the next one out.

use std::collections::VecDeque;

use crate::detection::Detection;
use crate::geometry::PictureSize;
use crate::motion::LumaPicture;
use crate::track::follow::Between;

/// Looks are remembered for this many frames after their frame left the window: as long as any track
/// is carried on without a sighting.
const REMEMBERED: i64 = 240;

/// One frame in the window.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) time: f64,
    pub(super) picture: Option<LumaPicture>,
    pub(super) damaged: bool,
    /// The detector looked at it; what it saw that belongs to no track yet.
    pub(super) unclaimed: Option<Vec<Detection>>,
    /// The detector was asked to look at it.
    pub(super) asked: bool,
}

/// The frames whose masks are not out yet.
#[derive(Debug)]
pub(super) struct Window {
    size: PictureSize,
    slots: VecDeque<Slot>,
    /// Number of the first slot's frame.
    start: i64,
    /// Frames the detector looked at, ascending; also those that left not long ago.
    looked: VecDeque<i64>,
}

impl Window {
    pub(super) fn new(size: PictureSize) -> Self {
        Self {
            size,
            slots: VecDeque::new(),
            start: 0,
            looked: VecDeque::new(),
        }
    }

    pub(super) fn size(&self) -> PictureSize {
        self.size
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The next frame out.
    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// One past the newest frame.
    pub(super) fn end(&self) -> i64 {
        self.start + self.slots.len() as i64
    }

    pub(super) fn push(&mut self, slot: Slot) {
        self.slots.push_back(slot);
    }

    pub(super) fn pop(&mut self) -> Option<Slot> {
        let slot = self.slots.pop_front()?;
        self.start += 1;
        while self
            .looked
            .front()
            .is_some_and(|&frame| frame < self.start - REMEMBERED)
        {
            self.looked.pop_front();
        }
        Some(slot)
    }

    pub(super) fn get(&self, frame: i64) -> Option<&Slot> {
        self.slots.get(usize::try_from(frame - self.start).ok()?)
    }

    pub(super) fn get_mut(&mut self, frame: i64) -> Option<&mut Slot> {
        self.slots
            .get_mut(usize::try_from(frame - self.start).ok()?)
    }

    /// The small picture of a frame and its time.
    pub(super) fn picture(&self, frame: i64) -> Option<(&LumaPicture, f64)> {
        let slot = self.get(frame)?;
        Some((slot.picture.as_ref()?, slot.time))
    }

    pub(super) fn newest_time(&self) -> Option<f64> {
        self.slots.back().map(|slot| slot.time)
    }

    /// What a box needs to be carried from one frame to its neighbour; `None` if the one to carry
    /// it to is not in the window.
    pub(super) fn between(&self, from: (i64, f64), to: i64) -> Option<Between<'_>> {
        let there = self.get(to)?;
        let here = self.get(from.0);
        Some(Between {
            from: here.and_then(|slot| slot.picture.as_ref()),
            to: there.picture.as_ref(),
            times: (here.map_or(from.1, |slot| slot.time), there.time),
            size: self.size,
        })
    }

    /// Notes that the detector looked at a frame.
    pub(super) fn note_look(&mut self, frame: i64) {
        let at = self.looked.partition_point(|&other| other < frame);
        if self.looked.get(at) != Some(&frame) {
            self.looked.insert(at, frame);
        }
    }

    /// How many frames the detector looked at after `from` up to `to`, in either direction.
    pub(super) fn looks_between(&self, from: i64, to: i64) -> usize {
        let (low, high) = if from < to {
            (from + 1, to)
        } else {
            (to, from - 1)
        };
        let before = |frame: i64| self.looked.partition_point(|&other| other < frame);
        before(high + 1).saturating_sub(before(low))
    }

    /// Frames that the detector looked at, within the window.
    pub(super) fn is_detected(&self, frame: i64) -> bool {
        self.get(frame).is_some_and(|slot| slot.unclaimed.is_some())
    }
}
