use super::*;
use crate::demux::DemuxSession;
use crate::finisher::{Finisher, Origin};
use crate::frame::LeftOut;
use crate::hosts::Hosts;
use crate::ledger::Ledger;
use crate::nal::Coding;
use crate::outage::Event;
use crate::runtime_clock::RuntimeClock;
use crate::slots::Slots;
use crate::writer::WriterSetup;
use daemon::{Clock, Shutdown};
use jiff::tz::TimeZone;
use media::{Rational, VideoCodec, VideoTrack};
use std::sync::atomic::AtomicBool;
use ticket_queue::{DirectoryQueue, Options};
use tokio::sync::mpsc;
use tokio::time::Instant;

struct Rig {
    clock: RuntimeClock,
    board: Arc<Board>,
    disk_full: Arc<AtomicBool>,
    task: SourceTask,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        Self::with(r#"{"sources": [{"name": "cam", "url": "rtsp://127.0.0.1/a"}]}"#)
    }

    /// Records the first source of these settings.
    fn with(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let settings = settings::RecorderSettings::from_text(text, &settings::Environment::empty());
        let source = Arc::new(settings.expect("settings").sources[0].clone());
        let queue = DirectoryQueue::open(&dir.path().join("queue"), Options::default());
        let finisher = Finisher::start(queue.expect("a queue"), || {}).expect("threads");
        let board = Arc::new(Board::new(&source, None));
        let feeder = Feeder::start(WriterSetup {
            name: source.name.clone(),
            origin: Origin::unknown("cam"),
            dir: dir.path().join("raw/cam"),
            extension: "mp4",
            zone: TimeZone::UTC,
            finisher: finisher.handle(),
            board: board.clone(),
            ledger: Ledger::new(dir.path()),
        });
        let clock = RuntimeClock(Instant::now());
        let disk_full = Arc::<AtomicBool>::default();
        let shared = Shared {
            clock: Arc::new(clock),
            zone: TimeZone::UTC,
            shutdown: Shutdown::manual(),
            slots: Slots::new(1),
            hosts: Hosts::default(),
            disk_full: disk_full.clone(),
            reconnect_interval: Duration::from_secs(1),
        };
        let opener = Opener::new(source.clone(), Stamps(shared.clock.clone()));
        let feeder = feeder.expect("a writer");
        let task = SourceTask::new(source, shared, board.clone(), opener, feeder, None);
        Rig {
            clock,
            board,
            disk_full,
            task,
            _dir: dir,
        }
    }

    /// One session of a camera that sends 10 frames a second for so long, of which `is_key` says which are key frames.
    /// Returns how it ended, and what was seen of the source once a second.
    async fn session(&mut self, seconds: u64, is_key: impl Fn(u64) -> bool) -> (String, Vec<Seen>) {
        let item =
            |number, clock: &RuntimeClock| Media::Video(frame(number, is_key(number), clock));
        self.session_of(seconds, item).await
    }

    /// One session of a camera of which 10 items a second come for so long.
    async fn session_of(
        &mut self,
        seconds: u64,
        item: impl Fn(u64, &RuntimeClock) -> Media,
    ) -> (String, Vec<Seen>) {
        let (sender, items) = mpsc::channel(32);
        let mut input = Input::Demuxed(DemuxSession::of(items));
        let (clock, board) = (self.clock, self.board.clone());
        self.board.set_state(State::Connecting);
        let camera = async move {
            let mut seen = Vec::new();
            for number in 0..seconds * 10 {
                if sender.send(Ok(item(number, &clock))).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
                if number % 10 == 9 {
                    let status = board.snapshot(clock.monotonic());
                    seen.push(Seen {
                        state: status.state,
                        last_frame: status.last_frame.map(Timestamp::as_second),
                        event: board.look_for_outage(
                            clock.monotonic(),
                            clock.now(),
                            Duration::from_secs(60),
                        ),
                    });
                }
            }
            seen
        };
        let (end, seen) = tokio::join!(
            async {
                let end = self.task.session(&mut input).await;
                drop(input);
                end
            },
            camera
        );
        let end = end.map_or_else(|error| error.message, |leave| leave.reason().to_owned());
        (end, seen)
    }
}

/// A place with a slot that the session has and another source waits for, and segments of a minute.
async fn rig_with_turns() -> (Rig, Slot) {
    let rig = Rig::with(
        r#"{"segment_duration": 60, "sources": [{"name": "cam", "url": "rtsp://127.0.0.1/a"}]}"#,
    );
    let slots = rig.task.shared.slots.clone();
    let slot = slots.take().await;
    tokio::spawn(async move { slots.take().await });
    (rig, slot)
}

#[derive(Debug)]
struct Seen {
    state: String,
    last_frame: Option<i64>,
    event: Option<Event>,
}

fn frame(number: u64, key: bool, clock: &RuntimeClock) -> VideoFrame {
    let video = VideoTrack::new(VideoCodec::Mjpeg, 64, 64, Rational::MPEG);
    let params = || StreamParams {
        coding: Coding::Other,
        may_reorder: false,
        video,
        audio: None,
    };
    VideoFrame {
        raw_90k: number as i64 * 9000,
        arrival: clock.monotonic(),
        wall: clock.now(),
        key,
        packets_lost: 0,
        params: (number == 0).then(|| Arc::new(params())),
        data: vec![0xff, 0xd8, 0xff, 0xd9],
    }
}

#[tokio::test(start_paused = true)]
async fn video_without_key_frames_is_no_recording() {
    let mut rig = Rig::new();
    let (end, seen) = rig.session(120, |_| false).await;
    assert_eq!(
        end,
        "video comes, but no key frame within 90 s; switch off intra refresh or set a key frame interval on the camera"
    );
    assert!((89..=91).contains(&seen.len()), "after {} s", seen.len());
    assert!(
        seen.iter().all(|seen| seen.state == "connecting"),
        "{seen:?}"
    );
    let down: Vec<&Event> = seen.iter().filter_map(|seen| seen.event.as_ref()).collect();
    let [Event::Down { why, .. }] = down.as_slice() else {
        panic!("{down:?}");
    };
    assert!(why.contains("no key frame; switch off"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn the_first_key_frame_may_take_long() {
    let mut rig = Rig::new();
    let (end, seen) = rig.session(200, |number| number == 800).await;
    assert_eq!(end, "the stream ended");
    let recording = |seen: &Seen| seen.state == "recording";
    assert_eq!(seen.iter().position(recording), Some(80));
    assert!(seen[80..].iter().all(recording), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_camera_whose_pictures_are_left_out_is_waited_for_as_for_a_key_frame() {
    let mut rig = Rig::new();
    let (end, seen) = rig
        .session_of(200, |number, clock| match number {
            0..50 => Media::Video(frame(number, true, clock)),
            _ => Media::LeftOut(LeftOut {
                bytes: 4,
                arrival: clock.monotonic(),
                wall: clock.now(),
            }),
        })
        .await;
    assert!(end.contains("no key frame within 90 s"), "{end}");
    assert!((94..=96).contains(&seen.len()), "after {} s", seen.len());
    assert!(seen.iter().all(|seen| seen.last_frame <= Some(5)));
    let down: Vec<&Event> = seen.iter().filter_map(|seen| seen.event.as_ref()).collect();
    assert!(matches!(down.as_slice(), [Event::Down { .. }]), "{down:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_is_told_as_long_as_it_was() {
    let mut rig = Rig::new();
    let (sender, items) = mpsc::channel(32);
    let mut input = Input::Demuxed(DemuxSession::of(items));
    for number in 0..3 {
        let video = Media::Video(frame(number, true, &rig.clock));
        sender.send(Ok(video)).await.unwrap();
    }
    let error = rig.task.session(&mut input).await.unwrap_err();
    let told = "no frame for 5.0 s; the camera hangs or the network is cut";
    assert_eq!(error.message, told);
}

#[tokio::test(start_paused = true)]
async fn a_gap_tells_why_a_source_is_opened_in_another_way() {
    let mut rig = Rig::new();
    rig.session(5, |number| number % 10 == 0).await;
    let error = SessionError::unsupported("its sound is opus".to_owned());
    rig.task.wait_after(error).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    rig.session(5, |number| number % 10 == 0).await;
    let gap = rig.board.snapshot(rig.clock.monotonic()).last_gap;
    let gap = gap.expect("a gap");
    assert!(gap.ends_with(": its sound is opus"), "{gap}");
}

/// How long after the last of some frames, which come with these distances in seconds, the session fails.
async fn noticed_after(read_timeout_ms: u64, distances: impl IntoIterator<Item = f64>) -> f64 {
    let mut rig = Rig::with(&format!(
        r#"{{"read_timeout": {read_timeout_ms}, "sources": [{{"name": "cam", "url": "rtsp://127.0.0.1/a"}}]}}"#
    ));
    let (sender, items) = mpsc::channel(32);
    let mut input = Input::Demuxed(DemuxSession::of(items));
    let clock = rig.clock;
    let camera = async {
        for (number, distance) in (0..).zip(distances) {
            tokio::time::sleep(Duration::from_secs_f64(distance)).await;
            let mut frame = frame(number, number % 10 == 0, &clock);
            frame.raw_90k = (clock.monotonic().as_secs_f64() * 90_000.0) as i64;
            if sender.send(Ok(Media::Video(frame))).await.is_err() {
                return Duration::MAX;
            }
        }
        let last = clock.monotonic();
        sender.closed().await;
        last
    };
    let session = async {
        let error = rig.task.session(&mut input).await.expect_err("it hangs");
        assert!(
            error.message.contains("the camera hangs"),
            "{}",
            error.message
        );
        drop(input);
        clock.monotonic()
    };
    let (last, ended) = tokio::join!(camera, session);
    assert!(last <= ended, "the session ended before the last frame");
    (ended - last).as_secs_f64()
}

#[tokio::test(start_paused = true)]
async fn stalls_make_nobody_wait_for_minutes_or_for_long() {
    let stalls = || [0.1; 20].into_iter().chain([0.9, 2.4, 7.0, 20.0]);
    let noticed = noticed_after(1000, stalls()).await;
    assert!((39.0..41.0).contains(&noticed), "after {noticed} s");
    let well = std::iter::repeat_n(0.1, 3100);
    let noticed = noticed_after(1000, stalls().chain(well)).await;
    assert!(noticed < 1.5, "after {noticed} s");
}

#[tokio::test(start_paused = true)]
async fn a_camera_with_few_frames_is_waited_for() {
    // Late now and then.
    let distances = (0..100).map(|number| if number % 30 == 29 { 25.0 } else { 10.0 });
    let noticed = noticed_after(12_000, distances).await;
    assert!((29.0..41.0).contains(&noticed), "after {noticed} s");
    // What the settings say counts in any case.
    let noticed = noticed_after(60_000, std::iter::repeat_n(50.0, 20)).await;
    assert!((59.0..61.0).contains(&noticed), "after {noticed} s");
}

#[tokio::test(start_paused = true)]
async fn a_turn_lasts_for_a_segment_however_far_apart_key_frames_are() {
    let (mut rig, _slot) = rig_with_turns().await;
    let (end, seen) = rig.session(600, |number| number % 800 == 799).await;
    assert_eq!(end, Leave::TurnOver.reason());
    assert_eq!(rig.task.pipeline.segments(), 1);
    // From 80 s on, and as a first segment longer than a minute: the next one would begin on a full one.
    assert_eq!(rig.task.pipeline.recorded().as_secs(), 160);
    assert!((238..=241).contains(&seen.len()), "after {} s", seen.len());
}

#[tokio::test(start_paused = true)]
async fn a_turn_ends_at_the_end_of_a_segment() {
    let (mut rig, _slot) = rig_with_turns().await;
    let (end, seen) = rig.session(600, |number| number % 20 == 0).await;
    assert_eq!(end, Leave::TurnOver.reason());
    assert_eq!(rig.task.pipeline.segments(), 1);
    assert!((59..=64).contains(&seen.len()), "after {} s", seen.len());
}

#[tokio::test(start_paused = true)]
async fn a_turn_without_a_segment_ends_all_the_same() {
    let (mut rig, _slot) = rig_with_turns().await;
    rig.disk_full.store(true, Ordering::Relaxed);
    let (end, seen) = rig.session(600, |number| number % 20 == 0).await;
    assert_eq!(end, Leave::TurnOver.reason());
    assert_eq!(rig.task.pipeline.segments(), 0);
    assert!((89..=91).contains(&seen.len()), "after {} s", seen.len());
}

#[tokio::test(start_paused = true)]
async fn frames_that_the_disk_does_not_take_are_no_fault_of_the_camera() {
    let mut rig = Rig::new();
    rig.disk_full.store(true, Ordering::Relaxed);
    let (end, seen) = rig.session(200, |_| false).await;
    assert_eq!(end, "the stream ended");
    assert!(seen.iter().all(|seen| seen.last_frame.is_none()));
    assert!(
        seen.iter()
            .all(|seen| seen.state == "disk_full" && seen.event.is_none()),
        "{seen:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_gap_begins_with_the_trouble_of_the_disk_also_for_the_next_process() {
    let mut rig = Rig::new();
    let disk_full = rig.disk_full.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        disk_full.store(true, Ordering::Relaxed);
    });
    let (_, seen) = rig.session(60, |number| number % 10 == 0).await;
    assert_eq!(seen[3].last_frame, Some(3));
    let last = seen.last().and_then(|seen| seen.last_frame);
    assert!(matches!(last, Some(4..=5)), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_gap_tells_of_trouble_before_the_recorder_stopped_and_after_it_began() {
    let mut rig = Rig::new();
    rig.task.earlier = Some(Earlier {
        last_frame: Timestamp::UNIX_EPOCH - Duration::from_secs(60),
        trouble: Some("the disk refused a write".to_owned()),
    });
    rig.task.last_failure = Some("Connection refused".to_owned());
    rig.session(5, |number| number % 10 == 0).await;
    let gap = rig.board.snapshot(rig.clock.monotonic()).last_gap;
    let gap = gap.unwrap();
    let expected =
        "the disk refused a write; then: the recorder was not running; then: Connection refused";
    assert!(gap.ends_with(expected), "{gap}");
}

#[tokio::test(start_paused = true)]
async fn after_trouble_with_the_disk_a_key_frame_is_missed_as_well() {
    let mut rig = Rig::new();
    let disk_full = rig.disk_full.clone();
    tokio::spawn(async move {
        for is_full in [true, false] {
            tokio::time::sleep(Duration::from_secs(5)).await;
            disk_full.store(is_full, Ordering::Relaxed);
        }
    });
    let (end, seen) = rig.session(200, |number| number == 0).await;
    assert!(end.contains("no key frame within 90 s"), "{end}");
    assert!((99..=101).contains(&seen.len()), "after {} s", seen.len());
    assert_eq!(seen[3].state, "recording");
    assert!(
        seen[5..].iter().all(|seen| seen.state == "disk_full"),
        "{seen:?}"
    );
}
