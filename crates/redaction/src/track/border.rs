//! Over a segment's border.

use std::collections::VecDeque;

use crate::track::follow::Follower;
use crate::track::path::{Key, Track, belief};
use crate::track::{CarriedTrack, TrackerSettings, WELL_KNOWN};

/// When a carried track's last frame was, before the segment's first one.
const FRAME_BEFORE: f64 = -0.05;

/// A track of the previous segment.
pub(super) fn revived(carried: &CarriedTrack, settings: &TrackerSettings) -> Track {
    let since = FRAME_BEFORE - carried.unseen.max(0.0);
    let key = Key {
        frame: -1,
        time: FRAME_BEFORE,
        rect: carried.rect,
        ahead: Vec::new(),
        behind: Vec::new(),
    };
    // At least as long as a new one: what it was seen for is known in parts only.
    let believed = belief(carried.score, WELL_KNOWN).max(1.0);
    Track {
        id: carried.track,
        keys: VecDeque::from([key]),
        live: Follower::carried(
            carried.rect,
            carried.speed,
            (FRAME_BEFORE, since),
            settings.pad_while_matched * believed,
        ),
        score: carried.score,
        begins: false,
        outside_never: carried.outside_never,
        still: carried.still,
        anchor: carried.rect,
        sightings: WELL_KNOWN,
    }
}

/// What the next segment needs to know of a track; `None` if it ended before the last frame.
pub(super) fn carried(track: &Track, last_frame: i64, now: f64) -> Option<CarriedTrack> {
    let key = track.last();
    let rect = if key.frame == last_frame {
        key.rect
    } else {
        let step = key.ahead.last().filter(|step| step.covered)?;
        (key.frame + key.ahead.len() as i64 == last_frame).then_some(step.rect)?
    };
    Some(CarriedTrack {
        track: track.id,
        rect,
        speed: track.live.speed().unwrap_or((0.0, 0.0)),
        score: track.score,
        unseen: track.live.unseen(now),
        still: track.still,
        outside_never: track.outside_never,
    })
}
