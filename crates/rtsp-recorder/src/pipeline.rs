//! From frames as they arrive to segments: what goes into which file, with which times. No I/O, no clock.
//!
//! ```text
//!  frame -> (first key frame?) -> reorder probe -> Timeline -> DecodeTimes -> held back by one -> cut or append
//! ```
//! One frame is always held back: its duration is the distance to the next one, so that the durations of a segment
//! add up exactly to the start of the next; and only the next frame tells whether an open GOP is cut.
//!
//! An open GOP begins with a key frame whose leading pictures come after it, are shown before it and need the pictures
//! before it, too. A decoder that begins at such a key frame drops them. So at a cut the leading pictures stay in the
//! segment that ends, and so does a copy of the key frame, which they need and which is not shown there
//! ([`Closing::hidden_key`]); the next segment begins with the key frame and goes on with what follows the leading
//! pictures. Each segment decodes alone, and every frame is shown once.
//!
//! Invariants:
//! - Between the first key frame of a session and its end every frame is shown in exactly one segment, unless
//!   [`Pipeline::interrupt`] is called.
//! - A segment begins with a frame that can be decoded alone; only past [`hard_cap`] any frame will do.
//! - A segment is never cut for a strange timestamp.

use crate::action::{Action, Closing, Opening, Packet, Track};
use crate::alignment::{ArrivalSmoother, Place, target_length};
use crate::frame::{AudioFrame, VideoFrame};
use crate::nal::{Coding, Entry, Leading, entry, leading};
use crate::reorder::{DecodeTimes, PROBE_FRAMES, Times, depth_of};
use crate::stream::StreamParams;
use crate::timeline::{TICKS_PER_SECOND, Timeline, from_90k, to_90k};
use jiff::{Timestamp, tz::TimeZone};
use std::sync::Arc;
use std::time::Duration;
use ticket_queue::CutReason;

/// What segments a source is to have.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Intended length of a segment.
    pub segment_duration: Duration,
    /// Whose clock on the wall the cuts align with; `None` counts from the start (files).
    pub zone: Option<TimeZone>,
    /// No more segments than this.
    pub max_segments: Option<u32>,
}

/// Without a proper cut point a segment grows to this; then any frame begins the next one.
///
/// Far above the GOPs of smart codecs (H.264+ and H.265+: 40 s and more), which must extend a segment.
pub fn hard_cap(segment_duration: Duration) -> Duration {
    (segment_duration * 10).max(Duration::from_secs(600))
}

/// Sound that comes later than this behind its picture does not come before a cut. An encoder of AAC holds two frames back, a
/// quarter of a second at 8 kHz.
const LATEST_SOUND: Duration = Duration::from_millis(500);

/// Sound and picture of one session may drift apart by so much before the next segment brings them together; nobody notices it.
const UNNOTICED_90K: i64 = 40 * TICKS_PER_SECOND / 1000;

/// The pipeline of one source, over all of its sessions.
#[derive(Debug)]
pub struct Pipeline {
    plan: Plan,
    params: Option<Arc<StreamParams>>,
    session: Session,
    segment: Option<Segment>,
    segments: u32,
    exhausted: bool,
    finishing: bool,
    /// End of the last closed segment, monotonic.
    last_end: Option<Duration>,
    recorded: Duration,
    anomalies: u64,
}

#[derive(Debug, Default)]
struct Session {
    round: Option<u32>,
    seen_key: bool,
    probe: Option<Vec<VideoFrame>>,
    timeline: Timeline,
    decode_times: Option<DecodeTimes>,
    smoother: ArrivalSmoother,
    sound: Option<SoundClock>,
    /// Place of the sound's zero on the timeline of the video.
    sound_zero_90k: i64,
    held: Option<Placed>,
    /// A key frame that the next segment begins with, as soon as its leading pictures are in the open one.
    split: Option<Placed>,
    /// When the key frame is shown that recording began with, while leading pictures of it may come.
    began_at_90k: Option<i64>,
    opened_any: bool,
    cut: Option<Cut>,
}

#[derive(Debug, Default)]
struct SoundClock {
    timeline: Timeline,
    smoother: ArrivalSmoother,
}

/// A cut that is carried out when the sound before it has come, which may be later than the picture (an encoder holds some
/// back).
#[derive(Debug)]
struct Cut {
    /// Of the segment that ends.
    base_90k: i64,
    audio_end_90k: i64,
    /// Where the next one begins, on the timeline of the session.
    at_90k: i64,
    /// It is not waited for any longer when a frame of this time comes.
    until: Duration,
    /// To be done then: the segment is closed, the next one opened and written.
    actions: Vec<Action>,
}

/// A frame with its times on the session's timeline.
#[derive(Clone, Debug)]
struct Placed {
    frame: VideoFrame,
    times: Times,
    /// When it would have arrived without delay.
    time: Duration,
    entry: Entry,
    /// What its mark says.
    leading: Leading,
    must_cut: bool,
}

impl Placed {
    /// True when it is shown before the entry point `entry` that it follows.
    fn leads(&self, entry: &Placed) -> bool {
        self.leading != Leading::No || self.times.pts_90k < entry.times.pts_90k
    }
}

#[derive(Debug)]
struct Segment {
    opened: Duration,
    deadline: Duration,
    cap: Duration,
    /// Wall clock at `opened`.
    start: Timestamp,
    /// By how much its first frame was late, once that is known: only that of a session may have been.
    late: Option<Duration>,
    base_90k: i64,
    first_pts_90k: i64,
    end_pts_90k: i64,
    audio_end_90k: i64,
    frames: u64,
    packets_lost: u64,
    hidden_key: Option<i64>,
    new_params: Option<Arc<StreamParams>>,
}

impl Pipeline {
    /// An empty pipeline.
    pub fn new(plan: Plan) -> Self {
        Pipeline {
            plan,
            params: None,
            session: Session::default(),
            segment: None,
            segments: 0,
            exhausted: false,
            finishing: false,
            last_end: None,
            recorded: Duration::ZERO,
            anomalies: 0,
        }
    }

    /// Segments begun so far.
    pub fn segments(&self) -> u32 {
        self.segments
    }

    /// No segment is begun in this session after the open one.
    pub fn finish_after_segment(&mut self) {
        self.finishing = true;
    }

    /// True once the allowed number of segments is complete: nothing more will be recorded.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// False while frames are dropped for want of a key frame: before the first of a session and after an interruption.
    pub fn has_entry(&self) -> bool {
        let held = self.session.held.as_ref();
        self.is_recording()
            || self.session.probe.is_some()
            || held.is_some_and(|held| held.entry != Entry::None)
    }

    /// True while a segment is open.
    pub fn is_recording(&self) -> bool {
        self.segment.is_some()
    }

    /// True once a segment was begun in this session.
    pub fn has_begun(&self) -> bool {
        self.session.opened_any
    }

    /// Time recorded in all segments, the open one included.
    pub fn recorded(&self) -> Duration {
        let open = self
            .segment
            .as_ref()
            .map(|s| s.length_at(self.held_time(s)));
        self.recorded + open.unwrap_or_default()
    }

    /// Timestamps that had to be mended.
    pub fn anomalies(&self) -> u64 {
        self.anomalies
    }

    /// Begins a session; `round` counts the rounds of an endlessly repeated file. The first frame brings the
    /// parameters of the streams.
    pub fn begin_session(&mut self, round: Option<u32>) {
        self.session = Session {
            round,
            ..Session::default()
        };
        self.finishing = false;
    }

    /// Takes the next video frame, in decoding order, and appends what is to be done to `out`.
    pub fn push_video(&mut self, mut frame: VideoFrame, out: &mut Vec<Action>) {
        if !self.session.seen_key {
            if let Some(params) = frame.params.take() {
                self.params = Some(params);
            }
            if self.entry_of(&frame) == Entry::None {
                return;
            }
            self.session.seen_key = true;
            self.session.probe = self.may_reorder().then(Vec::new);
        }
        if let Some(probe) = &mut self.session.probe {
            probe.push(frame);
            if probe.len() >= PROBE_FRAMES {
                self.end_probe(out);
            }
            return;
        }
        self.place(frame, out);
    }

    /// Takes the next audio frame. Sound outside of segments, or that they have no track for, is dropped.
    pub fn push_audio(&mut self, frame: AudioFrame, out: &mut Vec<Action>) {
        let has_track = self.params.as_ref().is_some_and(|it| it.audio.is_some());
        if self.segment.is_none() || !has_track {
            return;
        }
        let tick_90k = self.params.as_ref().map_or(1, |params| tick_of(params));
        let own_90k = self.session.time_of_sound(&frame);
        if let Some(cut) = &mut self.session.cut {
            let pts = self.session.sound_zero_90k + own_90k;
            if pts < cut.at_90k {
                let place = (pts - cut.base_90k).max(cut.audio_end_90k);
                cut.audio_end_90k = place + tick_90k;
                out.push(audio(frame, place));
                return;
            }
            self.carry_out_cut(out);
        }
        let Some(segment) = &mut self.segment else {
            return;
        };
        if segment.audio_end_90k == 0 {
            self.session.match_sound(own_90k);
        }
        let pts = self.session.sound_zero_90k + own_90k - segment.base_90k;
        if pts + frame.duration_90k <= 0 {
            return;
        }
        let place = pts.max(segment.audio_end_90k);
        segment.audio_end_90k = place + tick_90k;
        out.push(audio(frame, place));
    }

    /// Does what waited for sound.
    fn carry_out_cut(&mut self, out: &mut Vec<Action>) {
        if let Some(cut) = self.session.cut.take() {
            out.extend(cut.actions);
        }
    }

    /// Ends the session and its open segment; every frame that was taken is in it.
    pub fn end_session(&mut self, reason: CutReason, out: &mut Vec<Action>) {
        self.carry_out_cut(out);
        self.end_probe(out);
        if let Some(held) = self.session.held.take() {
            let interval = self.session.timeline.interval_90k();
            let end = held.time + from_90k(interval);
            self.settle(held, None, out);
            self.close(reason, end, out);
        }
        self.segment = None;
        self.session = Session::default();
    }

    /// Frames are about to be lost (a disk that is full or too slow): ends the segment before them. Recording goes
    /// on at the next key frame.
    pub fn interrupt(&mut self, reason: CutReason, out: &mut Vec<Action>) {
        self.carry_out_cut(out);
        // What it collects is before the hole; what comes after must not be put beside it.
        self.end_probe(out);
        let Some(held) = self.session.held.take() else {
            return;
        };
        if self.segment.is_none() {
            return;
        }
        let end = held.time + from_90k(self.session.timeline.interval_90k());
        self.settle(held, None, out);
        self.close(reason, end, out);
    }

    /// Forgets the open segment: the writer lost it. Recording goes on at the next key frame.
    pub fn abandon(&mut self) {
        self.session.split = None;
        self.session.cut = None;
        if let Some(segment) = self.segment.take() {
            // Where the segment before it ended is where the gap begins, also when this one was only an attempt.
            self.last_end.get_or_insert(segment.opened);
        }
    }

    fn held_time(&self, segment: &Segment) -> Duration {
        self.session
            .held
            .as_ref()
            .map_or(segment.opened, |held| held.time)
    }

    fn may_reorder(&self) -> bool {
        self.params
            .as_ref()
            .is_some_and(|params| params.may_reorder)
    }

    fn entry_of(&self, frame: &VideoFrame) -> Entry {
        let params = frame.params.as_ref().or(self.params.as_ref());
        params.map_or(Entry::None, |params| {
            entry(params.coding, &frame.data, frame.key)
        })
    }

    fn end_probe(&mut self, out: &mut Vec<Action>) {
        let Some(probe) = self.session.probe.take() else {
            return;
        };
        let pts: Vec<i64> = probe.iter().map(|frame| frame.raw_90k).collect();
        let declared = self
            .params
            .as_ref()
            .map_or(0, |params| params.video.reorder_delay);
        let depth = depth_of(&pts).max(usize::try_from(declared).unwrap_or(0));
        self.session.timeline = Timeline::new(depth > 0);
        self.session.decode_times = Some(DecodeTimes::new(depth));
        for frame in probe {
            self.place(frame, out);
        }
    }

    fn place(&mut self, frame: VideoFrame, out: &mut Vec<Action>) {
        let entry = self.entry_of(&frame);
        let coding = self
            .params
            .as_ref()
            .map_or(Coding::Other, |params| params.coding);
        let leading = leading(coding, &frame.data);
        let stamp = self.session.timeline.stamp(frame.raw_90k, frame.arrival);
        self.anomalies += u64::from(stamp.anomaly.is_some());
        let interval = self.session.timeline.interval_90k();
        let decode_times = self
            .session
            .decode_times
            .get_or_insert_with(|| DecodeTimes::new(0));
        let must_cut = decode_times.is_too_shallow() && entry == Entry::Clean;
        if must_cut {
            decode_times.deepen();
        }
        let times = decode_times.next(stamp.pts_90k, interval);
        let time = self
            .session
            .smoother
            .observe(from_90k(times.pts_90k), frame.arrival);
        if let Some(segment) = &mut self.segment
            && segment.late.is_none()
            && segment.length_at(time) >= LATENESS_IS_KNOWN
        {
            segment.late = Some(segment.lateness(&self.session.smoother));
        }
        let placed = Placed {
            frame,
            times,
            time,
            entry,
            leading,
            must_cut,
        };
        if let Some(held) = self.session.held.take() {
            self.settle(held, Some(&placed), out);
        }
        self.session.held = Some(placed);
    }

    /// Puts a frame into the open segment or begins a new one with it, at once or when the sound before it has come.
    fn settle(&mut self, held: Placed, next: Option<&Placed>, out: &mut Vec<Action>) {
        let cut = &self.session.cut;
        if cut.as_ref().is_some_and(|cut| held.time >= cut.until) {
            self.carry_out_cut(out);
        }
        if let Some(mut cut) = self.session.cut.take() {
            self.settle_now(held, next, &mut cut.actions);
            self.session.cut = Some(cut);
            return;
        }
        let has_sound = self.session.sound.is_some();
        let ends = self.segment.as_ref().filter(|_| has_sound);
        let ends = ends.map(|segment| (segment.base_90k, segment.audio_end_90k));
        let first = out.len();
        self.settle_now(held, next, out);
        let is_close = |action: &Action| matches!(action, Action::Close(_));
        if let Some((base_90k, audio_end_90k)) = ends
            && let Some(close) = out[first..].iter().position(is_close)
            && let Some(segment) = &self.segment
        {
            self.session.cut = Some(Cut {
                base_90k,
                audio_end_90k,
                at_90k: segment.base_90k,
                until: segment.opened + LATEST_SOUND,
                actions: out.split_off(first + close),
            });
        }
    }

    fn settle_now(&mut self, mut held: Placed, next: Option<&Placed>, out: &mut Vec<Action>) {
        self.note_params(&mut held);
        if self.is_orphan(&held) {
            return;
        }
        if let Some(key) = self.session.split.take_if(|key| !held.leads(key)) {
            self.split_at(key, &held, out);
        }
        match self.cut_reason(&held, next) {
            Some(CutReason::Duration) if next.is_some_and(|next| self.is_open(&held, next)) => {
                self.session.split = Some(held.clone());
            }
            Some(reason) => {
                self.close(reason, held.time, out);
                self.open(&held, out);
            }
            None if self.segment.is_none() && held.entry != Entry::None => {
                self.session.began_at_90k = Some(held.times.pts_90k);
                self.open(&held, out);
            }
            None => {}
        }
        self.append(held, next, out);
    }

    /// True for a leading picture of the key frame that recording began with, whose other pictures were not recorded.
    fn is_orphan(&mut self, held: &Placed) -> bool {
        let Some(key_90k) = self.session.began_at_90k else {
            return false;
        };
        let is_orphan = match held.leading {
            Leading::Dropped => true,
            Leading::Decodable => false,
            Leading::No => held.times.pts_90k < key_90k,
        };
        if held.leading == Leading::No && !is_orphan {
            self.session.began_at_90k = None;
        }
        is_orphan
    }

    /// True for a key frame with leading pictures, of which `next` is the first.
    fn is_open(&self, held: &Placed, next: &Placed) -> bool {
        !matches!(held.entry, Entry::None | Entry::Clean) && next.leads(held)
    }

    /// Ends the segment before the key frame `key`, which is in it with its leading pictures, and begins the next one with it.
    fn split_at(&mut self, key: Placed, next: &Placed, out: &mut Vec<Action>) {
        let goes_on = self.may_open();
        if let Some(segment) = self.segment.as_mut().filter(|_| goes_on) {
            segment.hide(&key);
        }
        self.close(CutReason::Duration, key.time, out);
        self.open(&key, out);
        self.append(key, Some(next), out);
    }

    fn append(&mut self, held: Placed, next: Option<&Placed>, out: &mut Vec<Action>) {
        let interval = self.session.timeline.interval_90k();
        let Some(segment) = &mut self.segment else {
            return;
        };
        let step = next.map_or(interval, |next| next.times.dts_90k - held.times.dts_90k);
        out.push(Action::Append(
            segment.append(held, if step > 0 { step } else { interval }),
        ));
    }

    fn note_params(&mut self, held: &mut Placed) {
        let Some(params) = held.frame.params.take() else {
            return;
        };
        let same = self.params.as_ref() == Some(&params);
        match &mut self.segment {
            // Others that were announced since the last key frame never came to be.
            Some(segment) => segment.new_params = (!same).then_some(params),
            None => self.params = Some(params),
        }
    }

    fn cut_reason(&self, held: &Placed, next: Option<&Placed>) -> Option<CutReason> {
        let segment = self.segment.as_ref()?;
        if segment.new_params.is_some() && held.entry != Entry::None {
            return Some(CutReason::ParametersChanged);
        }
        let leads = next.is_some_and(|next| next.leads(held));
        let cut_from = match held.entry {
            Entry::None => segment.cap,
            Entry::Recovery if leads => segment.cap,
            _ => segment.deadline,
        };
        let due = held.time >= cut_from;
        (due || held.must_cut).then_some(CutReason::Duration)
    }

    /// True when another segment may be begun.
    fn may_open(&self) -> bool {
        !self.finishing && !self.has_all_segments()
    }

    fn has_all_segments(&self) -> bool {
        self.plan
            .max_segments
            .is_some_and(|most| self.segments >= most)
    }

    fn open(&mut self, held: &Placed, out: &mut Vec<Action>) {
        self.exhausted |= self.has_all_segments();
        let Some(params) = self.params.clone().filter(|_| self.may_open()) else {
            return;
        };
        let delay = held.frame.arrival.saturating_sub(held.time);
        let start = held
            .frame
            .wall
            .checked_sub(delay)
            .unwrap_or(held.frame.wall);
        let place = if self.session.opened_any {
            Place::Later
        } else {
            Place::First
        };
        let length = match &self.plan.zone {
            Some(zone) => target_length(start, zone, self.plan.segment_duration, place),
            None => self.plan.segment_duration,
        };
        self.segments += 1;
        self.session.opened_any = true;
        self.segment = Some(Segment {
            opened: held.time,
            deadline: held.time + length,
            cap: held.time + hard_cap(self.plan.segment_duration),
            start,
            late: (place == Place::Later).then_some(Duration::ZERO),
            base_90k: held.times.dts_90k,
            first_pts_90k: held.times.pts_90k,
            end_pts_90k: held.times.pts_90k,
            audio_end_90k: 0,
            frames: 0,
            packets_lost: 0,
            hidden_key: None,
            new_params: None,
        });
        let gap = self.last_end.map(|end| held.time.saturating_sub(end));
        out.push(Action::Open(Opening {
            number: self.segments,
            round: self.session.round,
            params,
            start,
            length,
            gap_before: gap.filter(|gap| !gap.is_zero()),
        }));
    }

    fn close(&mut self, reason: CutReason, end: Duration, out: &mut Vec<Action>) {
        self.session.split = None;
        let Some(segment) = self.segment.take() else {
            return;
        };
        if let Some(params) = segment.new_params.clone() {
            self.params = Some(params);
        }
        let smoother = &self.session.smoother;
        let late = (segment.late).unwrap_or_else(|| segment.lateness(smoother));
        let wall_duration = segment.length_at(end) + late;
        self.recorded += wall_duration;
        self.last_end = Some(end);
        out.push(Action::Close(Closing {
            reason,
            frames: segment.frames,
            start: segment.start.checked_sub(late).unwrap_or(segment.start),
            wall_duration,
            media_duration: from_90k(segment.end_pts_90k - segment.first_pts_90k),
            packets_lost: segment.packets_lost,
            hidden_key: segment.hidden_key,
        }));
    }
}

impl Session {
    /// When a frame of sound is played, by the sound's own timeline.
    fn time_of_sound(&mut self, frame: &AudioFrame) -> i64 {
        let clock = self.sound.get_or_insert_default();
        let stamp = clock.timeline.stamp(frame.raw_90k, frame.arrival);
        let time = from_90k(stamp.pts_90k);
        clock.smoother.observe(time, frame.arrival);
        stamp.pts_90k
    }

    /// Brings sound and picture together where their clocks drifted apart, or the first frame of either was late.
    fn match_sound(&mut self, own_90k: i64) {
        let (Some(clock), Some(held)) = (&self.sound, &self.held) else {
            return;
        };
        let video_90k = held.times.pts_90k;
        let sound = to_90k(clock.smoother.undelayed(from_90k(own_90k)));
        let picture = to_90k(self.smoother.undelayed(from_90k(video_90k)));
        let zero_90k = video_90k + sound - picture - own_90k;
        if (zero_90k - self.sound_zero_90k).abs() > UNNOTICED_90K {
            self.sound_zero_90k = zero_90k;
        }
    }
}

fn audio(frame: AudioFrame, place_90k: i64) -> Action {
    Action::Append(Packet {
        track: Track::Audio,
        pts_90k: place_90k,
        dts_90k: place_90k,
        duration_90k: frame.duration_90k,
        key: true,
        data: frame.data,
    })
}

/// What two frames of sound are at least apart, so that they do not fall on the same tick of their track.
fn tick_of(params: &StreamParams) -> i64 {
    let audio = params.audio.as_ref();
    audio.map_or(1, |audio| {
        audio.time_base.rescale(1, media::Rational::MPEG) + 1
    })
}

/// A first frame is never taken to be later than this.
const LATEST_FIRST_FRAME: Duration = Duration::from_secs(5);

/// So long after the first frame it is known by how much it was late. Later, a camera's clock that runs fast would make it later
/// than it was.
const LATENESS_IS_KNOWN: Duration = Duration::from_secs(15);

impl Segment {
    /// By how much the first frame of its session was late, as those behind it tell.
    fn lateness(&self, smoother: &ArrivalSmoother) -> Duration {
        let undelayed = smoother.undelayed(from_90k(self.first_pts_90k));
        let late = self.opened.saturating_sub(undelayed);
        late.min(LATEST_FIRST_FRAME)
    }

    fn length_at(&self, time: Duration) -> Duration {
        time.saturating_sub(self.opened)
    }

    /// Leaves it to the next segment to show the key frame `key`, which is in this one with all its leading pictures.
    fn hide(&mut self, key: &Placed) {
        self.frames -= 1;
        self.packets_lost -= u64::from(key.frame.packets_lost);
        self.end_pts_90k = key.times.pts_90k;
        self.hidden_key = Some(key.times.pts_90k - self.first_pts_90k);
    }

    fn append(&mut self, held: Placed, duration_90k: i64) -> Packet {
        self.frames += 1;
        self.packets_lost += u64::from(held.frame.packets_lost);
        self.end_pts_90k = self.end_pts_90k.max(held.times.pts_90k + duration_90k);
        Packet {
            track: Track::Video,
            pts_90k: held.times.pts_90k - self.base_90k,
            dts_90k: held.times.dts_90k - self.base_90k,
            duration_90k,
            key: held.entry != Entry::None,
            data: held.frame.data,
        }
    }
}
