//! One camera: a live source whose clock runs whether or not anybody watches.
//!
//! A single task per camera walks the timeline and hands each unit to all subscribers, so that all clients see
//! the same moment. It never waits for a client: one whose queue is full is dropped.

use crate::clip::{AudioFormat, Clip, Track};
use crate::fault::{Conditions, Fault};
use crate::live::{Live, StartAt, Subscription};
use crate::record::{LogFile, SentUnit};
use crate::timeline::ticks;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Seconds from 1900 (NTP) to 1970 (Unix), RFC 868.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// Counters of one camera since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CameraStats {
    /// Video frames the live source has produced.
    pub frames: u64,
    /// Clients playing now.
    pub clients: usize,
    /// Control connections and UDP sessions attached now.
    pub attached: usize,
    /// Requests answered.
    pub requests: u64,
    /// RTP packets sent, over all clients.
    pub packets_sent: u64,
    /// RTP packets left out by [`Fault::Loss`].
    pub packets_lost: u64,
    /// Clients dropped because they read too slowly.
    pub slow_clients_dropped: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    pub(crate) packets_sent: AtomicU64,
    pub(crate) packets_lost: AtomicU64,
    slow_clients_dropped: AtomicU64,
    next_attachment: AtomicU64,
}

/// One camera, shared by its task, its connections and the fault interface.
#[derive(Debug)]
pub(crate) struct Camera {
    pub(crate) name: String,
    pub(crate) counters: Counters,
    /// The sound that clients were told of; other sound cannot be sent in their sessions.
    pub(crate) described_audio: Option<AudioFormat>,
    start_at: StartAt,
    epoch: Instant,
    wall_epoch: SystemTime,
    live: Mutex<Live>,
    conditions: Mutex<Conditions>,
    attached: Mutex<HashMap<u64, Arc<Notify>>>,
    clip_changed: Notify,
    log: Option<Arc<LogFile>>,
}

/// Keeps a connection or session on the camera's list of things to close.
#[derive(Debug)]
pub(crate) struct Attachment {
    camera: Arc<Camera>,
    id: u64,
}

impl Attachment {
    pub(crate) fn camera(&self) -> &Arc<Camera> {
        &self.camera
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        crate::lock(&self.camera.attached).remove(&self.id);
    }
}

impl Camera {
    pub(crate) fn new(
        name: String,
        clip: Arc<Clip>,
        start_at: StartAt,
        log: Option<Arc<LogFile>>,
    ) -> Self {
        Self {
            name,
            counters: Counters::default(),
            described_audio: clip.audio.clone(),
            start_at,
            epoch: Instant::now(),
            wall_epoch: SystemTime::now(),
            live: Mutex::new(Live::new(clip)),
            conditions: Mutex::default(),
            attached: Mutex::default(),
            clip_changed: Notify::new(),
            log,
        }
    }

    /// Sends for ever, paced by decoding times.
    pub(crate) async fn run(&self) {
        loop {
            let due_ns = self.live().timeline.peek().due_ns;
            let due = self.epoch + Duration::from_nanos(due_ns.max(0) as u64);
            tokio::select! {
                () = tokio::time::sleep_until(due) => self.emit(),
                () = self.clip_changed.notified() => {}
            }
        }
    }

    /// Sends the next unit to whoever plays.
    fn emit(&self) {
        let silent = self.conditions().silent_until().is_some();
        let mut live = self.live();
        let next = live.take_next();
        let delivery = live.deliver(&next, silent);
        let dropped = &self.counters.slow_clients_dropped;
        dropped.fetch_add(delivery.dropped, Ordering::Relaxed);
        let unit = next.unit();
        let sent = SentUnit {
            cam: self.name.clone(),
            n: live.frames.saturating_sub(1),
            track: unit.track as u8,
            r#loop: next.loops,
            frame: unit.index,
            t: seconds_since_1970(),
            pts: (next.pts_ns + live.jump_ns) as f64 / 1e9,
            ticks: next.ticks,
            key: unit.key,
            len: unit.size,
            vcl_md5: unit.md5.clone(),
            clients: delivery.reached,
        };
        if let Some(log) = &self.log {
            log.write(&sent);
        }
        live.recent.push(sent);
    }

    /// Joins the live stream; `kill` is notified should the client read too slowly.
    pub(crate) fn subscribe(&self, kill: Arc<Notify>) -> Subscription {
        self.live().subscribe(kill, self.start_at)
    }

    /// Whether new clients miss the beginning of a unit.
    pub(crate) fn begins_within_a_unit(&self) -> bool {
        self.start_at == StartAt::LastPacket
    }

    /// How many packets before the first one `RTP-Info` names.
    pub(crate) fn stale_packets(&self) -> u16 {
        match self.start_at {
            StartAt::StaleNumber => 7,
            _ => 0,
        }
    }

    /// Puts `kill` on the list of what [`Fault::Close`] ends, until the attachment is dropped.
    pub(crate) fn attach(self: &Arc<Self>, kill: Arc<Notify>) -> Attachment {
        let id = self
            .counters
            .next_attachment
            .fetch_add(1, Ordering::Relaxed);
        crate::lock(&self.attached).insert(id, kill);
        Attachment {
            camera: Arc::clone(self),
            id,
        }
    }

    /// Carries out every fault that needs no new clip.
    pub(crate) fn apply(&self, fault: &Fault) {
        match fault {
            Fault::Close => self.close_all(),
            Fault::Silence(duration) => self.conditions().silence(*duration),
            Fault::Loss(percent) => self.conditions().loss = percent / 100.0,
            Fault::Reorder(packets) => self.conditions().reorder = *packets,
            Fault::Jump(seconds) => self.live().jump_ns += (seconds * 1e9) as i64,
            Fault::Slow(delay) => self.conditions().slow = *delay,
            Fault::Unauthorized(on) => self.conditions().unauthorized = *on,
            Fault::Refuse(duration) => self.conditions().refuse(*duration),
            Fault::Reboot(duration) => {
                self.conditions().refuse(*duration);
                self.close_all();
            }
            Fault::Clear => *self.conditions() = Conditions::default(),
            Fault::Switch(_) | Fault::Resize(..) => {}
        }
    }

    /// Goes on with `clip` where the running one would have had its next unit.
    pub(crate) fn switch(&self, clip: Arc<Clip>) {
        self.live().switch(clip, self.now_ns());
        self.clip_changed.notify_one();
    }

    fn close_all(&self) {
        for kill in crate::lock(&self.attached).values() {
            kill.notify_one();
        }
    }

    /// The clip that is being sent now.
    pub(crate) fn clip(&self) -> Arc<Clip> {
        Arc::clone(self.live().timeline.clip())
    }

    /// The faults in force.
    pub(crate) fn conditions(&self) -> MutexGuard<'_, Conditions> {
        crate::lock(&self.conditions)
    }

    /// Media time now, nanoseconds.
    fn now_ns(&self) -> i64 {
        self.epoch.elapsed().as_nanos() as i64
    }

    /// This instant as NTP (32.32 fixed point since 1900) and in a track's RTP clock, for sender reports.
    /// The camera's wall clock is set once, at its start, and then runs with the media clock.
    pub(crate) fn report_time(&self, track: Track) -> (u64, i64) {
        let now_ns = self.now_ns();
        let live = self.live();
        let rate = live.timeline.clip().rate(track);
        let ticks = ticks(now_ns, rate) + ticks(live.jump_ns, rate);
        (
            ntp_time(self.wall_epoch + Duration::from_nanos(now_ns as u64)),
            ticks,
        )
    }

    pub(crate) fn sent(&self) -> Vec<SentUnit> {
        self.live().recent.to_vec()
    }

    pub(crate) fn stats(&self) -> CameraStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let attached = crate::lock(&self.attached).len();
        let live = self.live();
        CameraStats {
            frames: live.frames,
            clients: live.clients(),
            attached,
            requests: get(&self.counters.requests),
            packets_sent: get(&self.counters.packets_sent),
            packets_lost: get(&self.counters.packets_lost),
            slow_clients_dropped: get(&self.counters.slow_clients_dropped),
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        crate::lock(&self.live)
    }
}

fn seconds_since_1970() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

/// RFC 3550 section 4: 32 bits of seconds since 1900 (wrapping in 2036), 32 bits of fraction.
fn ntp_time(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs().wrapping_add(NTP_TO_UNIX) << 32) | fraction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::tests::small_clip;
    use crate::live::CLIENT_QUEUE;

    fn camera(start_at: StartAt) -> Camera {
        Camera::new("cam0".into(), Arc::new(small_clip(true)), start_at, None)
    }

    #[test]
    fn a_new_client_starts_at_a_key_frame() {
        let camera = camera(StartAt::NextKeyFrame);
        camera.emit();
        let mut subscription = camera.subscribe(Arc::default());
        assert_eq!(subscription.start_ns, 500_000_000);
        while camera.stats().frames < 7 {
            camera.emit();
        }
        let first = subscription.units.try_recv().unwrap();
        assert!(first.is_video_key());
        assert_eq!(first.ticks, 45_000);
    }

    #[test]
    fn or_at_the_latest_one() {
        let camera = camera(StartAt::LatestKeyFrame);
        while camera.stats().frames < 8 {
            camera.emit();
        }
        let mut subscription = camera.subscribe(Arc::default());
        assert_eq!(subscription.units.try_recv().unwrap().ticks, 45_000);
        assert!(subscription.units.len() >= 2);
    }

    #[test]
    fn a_client_that_does_not_read_is_dropped_and_told() {
        let camera = camera(StartAt::NextKeyFrame);
        let kill = Arc::new(Notify::new());
        let _subscription = camera.subscribe(Arc::clone(&kill));
        for _ in 0..CLIENT_QUEUE + 20 {
            camera.emit();
        }
        assert_eq!(camera.stats().slow_clients_dropped, 1);
        assert_eq!(camera.stats().clients, 0);
    }

    #[test]
    fn a_jump_moves_timestamps_and_reports_alike() {
        let camera = camera(StartAt::NextKeyFrame);
        let (_, before) = camera.report_time(Track::Video);
        camera.apply(&Fault::Jump(-3600.0));
        let (_, after) = camera.report_time(Track::Video);
        assert!((after - before + 3600 * 90_000).abs() < 9000);
    }

    #[test]
    fn ntp_counts_from_1900() {
        assert_eq!(
            ntp_time(UNIX_EPOCH + Duration::from_millis(500)),
            (NTP_TO_UNIX << 32) | (1 << 31)
        );
    }
}
