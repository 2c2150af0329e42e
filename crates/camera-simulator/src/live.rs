//! The moment that all clients of a camera share: the timeline's place, the pictures since the latest key
//! frame, and who listens.

use crate::clip::{Clip, Track, Unit};
use crate::record::Recent;
use crate::timeline::{Placed, Timeline, ticks};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{Notify, mpsc};

/// Units a client may lag behind before it is dropped; at 15 fps with sound about two seconds, on top of
/// what the socket buffers hold.
pub(crate) const CLIENT_QUEUE: usize = 128;
/// Where a new client's stream begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StartAt {
    /// With the next key frame, as most cameras do.
    #[default]
    NextKeyFrame,
    /// With the latest key frame, sent in one burst up to now. Quick for tests; some cameras do it.
    LatestKeyFrame,
    /// With the last packet of the next key frame and without saying its number, as relays do that pass packets on.
    LastPacket,
    /// With the next key frame, while `RTP-Info` names an earlier packet, as GStreamer does for a stream that others watch.
    StaleNumber,
}

/// A unit on its way to the clients.
#[derive(Debug)]
pub(crate) struct LiveUnit {
    clip: Arc<Clip>,
    unit: usize,
    /// How often the clip had been started again.
    pub(crate) loops: u64,
    /// Media time, without jumps.
    pub(crate) pts_ns: i64,
    /// RTP clock with jumps, without the session's offset.
    pub(crate) ticks: i64,
}

impl LiveUnit {
    /// The clip's part of it.
    pub(crate) fn unit(&self) -> &Unit {
        &self.clip.units[self.unit]
    }

    pub(crate) fn track(&self) -> Track {
        self.unit().track
    }

    pub(crate) fn payloads(&self) -> &[Bytes] {
        &self.unit().payloads
    }

    pub(crate) fn is_video_key(&self) -> bool {
        let unit = self.unit();
        unit.track == Track::Video && unit.key
    }
}

/// A client's end of the live stream. Dropping it ends the subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) units: mpsc::Receiver<Arc<LiveUnit>>,
    /// Media time that `RTP-Info` refers to: the first frame's.
    pub(crate) start_ns: i64,
    /// What jumps had added to the RTP clock then.
    pub(crate) jump_ns: i64,
}

#[derive(Debug)]
struct Subscriber {
    units: mpsc::Sender<Arc<LiveUnit>>,
    start_ns: i64,
    started: bool,
    /// Ends the connection or session behind the queue.
    kill: Arc<Notify>,
}

/// The state behind a camera's lock.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) timeline: Timeline,
    /// Everything sent since the latest key frame.
    group: Vec<Arc<LiveUnit>>,
    subscribers: Vec<Subscriber>,
    /// Video frames so far.
    pub(crate) frames: u64,
    /// What [`crate::Fault::Jump`] has added to the RTP clock.
    pub(crate) jump_ns: i64,
    pub(crate) recent: Recent,
}

/// What a unit met on its way out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Clients it was handed to.
    pub(crate) reached: usize,
    /// Clients given up because their queue is full.
    pub(crate) dropped: u64,
}

impl Live {
    pub(crate) fn new(clip: Arc<Clip>) -> Self {
        Self {
            timeline: Timeline::new(clip, 0),
            group: Vec::new(),
            subscribers: Vec::new(),
            frames: 0,
            jump_ns: 0,
            recent: Recent::default(),
        }
    }

    /// Takes the next unit off the timeline.
    pub(crate) fn take_next(&mut self) -> Arc<LiveUnit> {
        let Placed {
            unit,
            pts_ns,
            ticks: at,
            ..
        } = self.timeline.peek();
        let clip = Arc::clone(self.timeline.clip());
        let loops = self.timeline.loops();
        self.timeline.advance();
        let track = clip.units[unit].track;
        if track == Track::Video {
            self.frames += 1;
        }
        Arc::new(LiveUnit {
            ticks: at + ticks(self.jump_ns, clip.rate(track)),
            clip,
            unit,
            loops,
            pts_ns,
        })
    }

    /// Goes on with `clip` where the running one would have had its next unit, but not before `now_ns`.
    pub(crate) fn switch(&mut self, clip: Arc<Clip>, now_ns: i64) {
        let from = self.timeline.peek().due_ns.max(now_ns);
        self.timeline = Timeline::new(clip, from);
        self.group.clear();
    }

    /// Clients that play now.
    pub(crate) fn clients(&self) -> usize {
        let open = self.subscribers.iter().filter(|s| !s.units.is_closed());
        open.count()
    }

    /// Joins the live stream; `kill` is notified should the client read too slowly.
    pub(crate) fn subscribe(&mut self, kill: Arc<Notify>, start_at: StartAt) -> Subscription {
        let from_latest = start_at == StartAt::LatestKeyFrame && !self.group.is_empty();
        let backlog: &[Arc<LiveUnit>] = if from_latest { &self.group } else { &[] };
        let (sender, units) = mpsc::channel(CLIENT_QUEUE + backlog.len());
        let start_ns = match backlog.first() {
            Some(unit) => unit.pts_ns,
            None => self.timeline.next_key_pts_ns(),
        };
        let subscriber = Subscriber {
            units: sender,
            start_ns,
            started: from_latest,
            kill,
        };
        for unit in backlog.iter().filter(|u| subscriber.wants(u)) {
            subscriber
                .units
                .try_send(Arc::clone(unit))
                .expect("the queue was made to hold the backlog");
        }
        let jump_ns = self.jump_ns;
        self.subscribers.push(subscriber);
        Subscription {
            units,
            start_ns,
            jump_ns,
        }
    }

    /// Hands the unit to all who want it; to nobody while the camera is `silent`, after which everybody waits
    /// for a key frame.
    pub(crate) fn deliver(&mut self, unit: &Arc<LiveUnit>, silent: bool) -> Delivery {
        if unit.is_video_key() {
            self.group.clear();
        }
        if unit.is_video_key() || !self.group.is_empty() {
            self.group.push(Arc::clone(unit));
        }
        let mut delivery = Delivery::default();
        self.subscribers.retain_mut(|subscriber| {
            subscriber.started = !silent && (subscriber.started || unit.is_video_key());
            if !subscriber.started || !subscriber.wants(unit) {
                return !subscriber.units.is_closed();
            }
            match subscriber.units.try_send(Arc::clone(unit)) {
                Ok(()) => delivery.reached += 1,
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    delivery.dropped += 1;
                    subscriber.kill.notify_one();
                    return false;
                }
            }
            true
        });
        delivery
    }
}

impl Subscriber {
    /// Sound from before the first picture is left out.
    fn wants(&self, unit: &LiveUnit) -> bool {
        unit.track() == Track::Video || unit.pts_ns >= self.start_ns
    }
}
