//! Days of recording in a second: the pure part driven by simulated cameras and clocks.

use crate::action::{Action, Closing, Opening, Packet, Track};
use crate::frame::{AudioFrame, VideoFrame};
use crate::nal::Coding;
use crate::pipeline::{Pipeline, Plan};
use crate::stream::StreamParams;
use crate::timeline::{TICKS_PER_SECOND, from_90k};
use jiff::{Timestamp, tz::TimeZone};
use media::{AudioCodec, AudioTrack, Rational, VideoCodec, VideoTrack};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use ticket_queue::CutReason;

fn params(width: u32) -> Arc<StreamParams> {
    let video = VideoTrack::new(VideoCodec::H265, width, 64, Rational::MPEG);
    Arc::new(StreamParams {
        coding: Coding::Other,
        may_reorder: true,
        video,
        audio: None,
    })
}

fn plan(seconds: u64, zone: &str) -> Plan {
    Plan {
        segment_duration: Duration::from_secs(seconds),
        zone: Some(TimeZone::get(zone).unwrap()),
        max_segments: None,
    }
}

/// A segment as a writer would have stored it.
#[derive(Debug)]
struct Stored {
    opening: Opening,
    packets: Vec<Packet>,
    closing: Closing,
}

impl Stored {
    fn ids(&self) -> impl Iterator<Item = u64> {
        self.packets
            .iter()
            .filter(|p| p.track == Track::Video)
            .map(id_of)
    }
}

fn id_of(packet: &Packet) -> u64 {
    u64::from_be_bytes(packet.data[..8].try_into().unwrap())
}

/// Collects what a pipeline orders and checks the order itself.
#[derive(Default)]
struct Disk {
    stored: Vec<Stored>,
    open: Option<(Opening, Vec<Packet>)>,
}

impl Disk {
    fn take(&mut self, actions: &mut Vec<Action>) {
        for action in actions.drain(..) {
            match action {
                Action::Open(opening) => {
                    assert!(self.open.is_none(), "opened twice");
                    self.open = Some((opening, Vec::new()));
                }
                Action::Append(packet) => self.open.as_mut().expect("nothing open").1.push(packet),
                Action::Close(closing) => {
                    let (opening, packets) = self.open.take().expect("nothing open");
                    self.stored.push(Stored {
                        opening,
                        packets,
                        closing,
                    });
                }
            }
        }
    }
}

/// What is wrong with the camera or the clock at a frame.
#[derive(Clone, Copy, Debug, Default)]
struct Oddity {
    /// Added to the camera's timestamp from here on.
    camera_step_90k: i64,
    /// Added to our wall clock from here on.
    wall_step: i64,
    /// Delay of this frame on its way.
    delay: Duration,
}

struct World {
    fps: f64,
    gop: u64,
    /// Speed of the camera's clock against ours.
    camera_speed: f64,
    start: Timestamp,
}

/// Runs `frames` frames through a pipeline.
fn record(
    world: &World,
    plan: Plan,
    frames: u64,
    oddity: impl Fn(u64) -> Oddity,
) -> (Disk, Pipeline) {
    let mut pipeline = Pipeline::new(plan);
    pipeline.begin_session(None);
    let (mut disk, mut actions) = (Disk::default(), Vec::new());
    let (mut camera_step, mut wall_step, mut arrival) = (0i64, 0i64, Duration::ZERO);
    for i in 0..frames {
        let odd = oddity(i);
        camera_step += odd.camera_step_90k;
        wall_step += odd.wall_step;
        let sent = Duration::from_secs_f64(1.0 + i as f64 / world.fps);
        arrival = arrival.max(sent + odd.delay);
        let wall = world.start + arrival + jiff::SignedDuration::from_secs(wall_step);
        let camera = (sent.as_secs_f64() * world.camera_speed * TICKS_PER_SECOND as f64) as i64;
        pipeline.push_video(
            VideoFrame {
                raw_90k: camera + camera_step + (1 << 32) - 900_000,
                arrival,
                wall,
                key: i % world.gop == 0,
                packets_lost: 0,
                params: (i == 0).then(|| params(64)),
                data: i.to_be_bytes().to_vec(),
            },
            &mut actions,
        );
        disk.take(&mut actions);
    }
    pipeline.end_session(CutReason::Shutdown, &mut actions);
    disk.take(&mut actions);
    (disk, pipeline)
}

/// Every frame is in exactly one segment, in order, with times a muxer takes.
fn check_complete(disk: &Disk, frames: u64) {
    assert!(disk.open.is_none());
    assert!(
        disk.stored.iter().flat_map(Stored::ids).eq(0..frames),
        "frames lost or doubled"
    );
    for stored in &disk.stored {
        assert_eq!(stored.closing.frames, stored.ids().count() as u64);
        assert!(
            stored.packets[0].key,
            "segment {} begins without a key frame",
            stored.opening.number
        );
        assert!(
            stored
                .packets
                .windows(2)
                .all(|pair| pair[0].dts_90k < pair[1].dts_90k)
        );
        assert!(
            stored
                .packets
                .iter()
                .all(|p| p.dts_90k <= p.pts_90k && p.duration_90k > 0)
        );
        assert_eq!(stored.packets[0].dts_90k, 0);
    }
}

fn longest(disk: &Disk) -> f64 {
    disk.stored
        .iter()
        .map(|s| s.closing.wall_duration.as_secs_f64())
        .fold(0.0, f64::max)
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

#[test]
fn a_hole_within_the_first_frames_of_a_session_is_a_gap() {
    let mut pipeline = Pipeline::new(plan(60, "UTC"));
    pipeline.begin_session(None);
    let (mut disk, mut actions) = (Disk::default(), Vec::new());
    let send =
        |pipeline: &mut Pipeline, numbers: std::ops::Range<u64>, actions: &mut Vec<Action>| {
            for number in numbers {
                let frame = VideoFrame {
                    raw_90k: number as i64 * 9000,
                    arrival: Duration::from_millis(100 * number),
                    wall: at("2026-01-01T00:00:00Z") + Duration::from_millis(100 * number),
                    key: number % 10 == 0,
                    packets_lost: 0,
                    params: (number == 0).then(|| params(64)),
                    data: number.to_be_bytes().to_vec(),
                };
                pipeline.push_video(frame, actions);
            }
        };
    // Before it is known how far pictures are shown from where they are decoded.
    send(&mut pipeline, 0..4, &mut actions);
    pipeline.interrupt(CutReason::Other, &mut actions);
    send(&mut pipeline, 300..340, &mut actions);
    pipeline.end_session(CutReason::Shutdown, &mut actions);
    disk.take(&mut actions);
    let frames: Vec<Vec<u64>> = disk.stored.iter().map(|it| it.ids().collect()).collect();
    assert_eq!(frames, [(0..4).collect::<Vec<_>>(), (300..340).collect()]);
    let gap = disk.stored[1].opening.gap_before.expect("a gap");
    assert!((29.0..30.0).contains(&gap.as_secs_f64()), "{gap:?}");
}

#[test]
fn two_days_with_drift_leap_back_step_and_wrap() {
    let world = World {
        fps: 5.0,
        gop: 10,
        camera_speed: 1.0 - 80e-6,
        start: at("2026-03-28T10:00:07Z"),
    };
    let frames = 2 * 86_400 * 5;
    let hour = 3600 * TICKS_PER_SECOND;
    let (disk, pipeline) = record(&world, plan(60, "Europe/Berlin"), frames, |i| Oddity {
        camera_step_90k: match i {
            100_000 => hour,
            200_000 => -10 * TICKS_PER_SECOND,
            300_000 => -(1 << 32),
            _ => 0,
        },
        // Daylight saving begins in the first night; besides, the clock is set back and forth by an hour.
        wall_step: match i {
            400_000 => -3600,
            500_000 => 3600,
            _ => 0,
        },
        delay: Duration::from_millis(if i % 97 == 0 { 150 } else { i % 7 }),
    });
    check_complete(&disk, frames);
    assert_eq!(pipeline.anomalies(), 3);
    let lengths: Vec<f64> = disk
        .stored
        .iter()
        .map(|s| s.closing.wall_duration.as_secs_f64())
        .collect();
    assert!((60.0..120.1).contains(&lengths[0]), "first {}", lengths[0]);
    let inner = &lengths[1..lengths.len() - 1];
    assert!(
        inner.iter().all(|length| (57.0..63.0).contains(length)),
        "{inner:?}"
    );
    // No drift: the camera is 14 s behind after two days, the last cut is still on the minute.
    let last = &disk.stored[disk.stored.len() - 1];
    assert!(
        last.opening.start.as_second() % 60 <= 2,
        "{}",
        last.opening.start
    );
    // Segments follow each other without a gap, by our clock.
    let total: f64 = lengths.iter().sum();
    assert!((total - frames as f64 / world.fps).abs() < 0.3, "{total}");
}

#[test]
fn both_days_of_clock_change_give_no_gap_and_no_long_segment() {
    for start in ["2026-03-29T00:30:00Z", "2026-10-25T00:30:00Z"] {
        let world = World {
            fps: 5.0,
            gop: 5,
            camera_speed: 1.0,
            start: at(start),
        };
        let frames = 2 * 3600 * 5;
        let (disk, _) = record(&world, plan(3600, "Europe/Berlin"), frames, |_| {
            Oddity::default()
        });
        check_complete(&disk, frames);
        assert!(longest(&disk) <= 7200.0);
    }
}

#[test]
fn a_long_gop_extends_the_segment() {
    let world = World {
        fps: 10.0,
        gop: 470,
        camera_speed: 1.0,
        start: at("2026-01-01T00:00:00Z"),
    };
    let (disk, _) = record(&world, plan(10, "UTC"), 4700, |_| Oddity::default());
    check_complete(&disk, 4700);
    assert_eq!(disk.stored.len(), 10);
}

#[test]
fn without_key_frames_the_hard_cap_cuts() {
    let world = World {
        fps: 10.0,
        gop: u64::MAX,
        camera_speed: 1.0,
        start: at("2026-01-01T00:00:00Z"),
    };
    let (disk, _) = record(&world, plan(30, "UTC"), 13_000, |_| Oddity::default());
    assert_eq!(disk.stored.len(), 3);
    assert!(disk.stored.iter().flat_map(Stored::ids).eq(0..13_000));
    assert!(longest(&disk) <= 600.2);
}

#[test]
fn constant_timestamps_give_segments_of_the_right_length() {
    let world = World {
        fps: 15.0,
        gop: 15,
        camera_speed: 0.0,
        start: at("2026-01-01T00:00:00Z"),
    };
    let (disk, _) = record(&world, plan(10, "UTC"), 15 * 60, |_| Oddity::default());
    check_complete(&disk, 15 * 60);
    for stored in &disk.stored[1..disk.stored.len() - 1] {
        let media = stored.closing.media_duration.as_secs_f64();
        assert!((9.0..11.0).contains(&media), "{media}");
    }
}

#[test]
fn durations_add_up_to_the_next_start() {
    let world = World {
        fps: 15.0,
        gop: 30,
        camera_speed: 1.0,
        start: at("2026-01-01T00:00:00Z"),
    };
    let (disk, _) = record(&world, plan(6, "UTC"), 15 * 120, |_| Oddity::default());
    check_complete(&disk, 15 * 120);
    let total: i64 = disk
        .stored
        .iter()
        .flat_map(|s| &s.packets)
        .map(|p| p.duration_90k)
        .sum();
    assert!((total - 120 * TICKS_PER_SECOND).abs() <= 2, "{total}");
    assert!(
        disk.stored
            .iter()
            .skip(1)
            .all(|s| s.opening.gap_before.is_none())
    );
}

#[test]
fn the_clock_of_a_camera_does_not_shift_the_start_of_a_long_segment() {
    for camera_speed in [0.9998, 1.0002] {
        let world = World {
            fps: 5.0,
            gop: 10,
            camera_speed,
            start: at("2026-01-01T00:00:00Z"),
        };
        let (disk, _) = record(&world, plan(7200, "UTC"), 5 * 7000, |_| Oddity::default());
        let first = &disk.stored[0];
        let shift = first.closing.start - first.opening.start;
        let shift = shift.total(jiff::Unit::Second).unwrap();
        assert!(shift.abs() < 0.2, "{shift} s at {camera_speed}");
    }
}

#[test]
fn new_parameters_begin_a_segment_in_the_same_session() {
    let mut pipeline = Pipeline::new(plan(60, "UTC"));
    pipeline.begin_session(None);
    let (mut disk, mut actions) = (Disk::default(), Vec::new());
    for i in 0..100u64 {
        pipeline.push_video(
            VideoFrame {
                raw_90k: i as i64 * 6000,
                arrival: from_90k(i as i64 * 6000),
                wall: at("2026-01-01T00:00:00Z"),
                key: i % 10 == 0,
                packets_lost: u32::from(i == 55),
                params: match i {
                    // At 83 announced and taken back before the next key frame.
                    0 | 83 => Some(params(64)),
                    50 | 70 | 87 => Some(params(128)),
                    _ => None,
                },
                data: i.to_be_bytes().to_vec(),
            },
            &mut actions,
        );
    }
    pipeline.end_session(CutReason::Reconnect, &mut actions);
    disk.take(&mut actions);
    check_complete(&disk, 100);
    let facts: Vec<_> = disk
        .stored
        .iter()
        .map(|s| {
            (
                s.opening.params.video.width,
                s.closing.frames,
                s.closing.reason,
                s.closing.packets_lost,
            )
        })
        .collect();
    assert_eq!(
        facts,
        [
            (64, 50, CutReason::ParametersChanged, 0),
            (128, 50, CutReason::Reconnect, 1)
        ]
    );
}

/// An hour with sound of 8 kHz, whose frames come `late` behind the picture and whose clock has the speed `speed`. Returns what
/// is on disk with the number of the first frame of sound.
fn record_sound(late: Duration, speed: f64) -> (Disk, u64) {
    let sound = AudioTrack::new(AudioCodec::Aac, 8000, 1);
    let params = Arc::new(StreamParams {
        may_reorder: false,
        audio: Some(sound),
        ..(*params(64)).clone()
    });
    let mut pipeline = Pipeline::new(plan(10, "UTC"));
    pipeline.begin_session(None);
    let (mut disk, mut actions) = (Disk::default(), Vec::new());
    let mut heard = 0u64;
    let length = Duration::from_millis(128).div_f64(speed);
    for i in 0..3600 * 15u64 {
        let arrival = Duration::from_secs_f64(1.0 + i as f64 / 15.0);
        while Duration::from_secs(1) + length * (heard as u32 + 1) + late <= arrival {
            let sound = AudioFrame {
                raw_90k: 5000 + heard as i64 * 11_520,
                arrival: Duration::from_secs(1) + length * heard as u32,
                duration_90k: 11_520,
                data: heard.to_be_bytes().to_vec(),
            };
            pipeline.push_audio(sound, &mut actions);
            heard += 1;
        }
        let video = VideoFrame {
            raw_90k: i as i64 * 6000,
            arrival,
            wall: at("2026-03-01T12:00:00Z") + arrival,
            key: i % 15 == 0,
            packets_lost: 0,
            params: (i == 0).then(|| params.clone()),
            data: i.to_be_bytes().to_vec(),
        };
        pipeline.push_video(video, &mut actions);
        disk.take(&mut actions);
    }
    pipeline.end_session(CutReason::Shutdown, &mut actions);
    disk.take(&mut actions);
    (disk, heard)
}

fn sound_of(stored: &Stored) -> impl Iterator<Item = &Packet> {
    stored.packets.iter().filter(|p| p.track == Track::Audio)
}

#[test]
fn sound_that_an_encoder_held_back_is_stored_before_the_cut() {
    let (disk, heard) = record_sound(Duration::from_millis(250), 1.0);
    let ids: Vec<u64> = disk.stored.iter().flat_map(sound_of).map(id_of).collect();
    assert!(ids.iter().copied().eq(ids[0]..heard), "sound is missing");
    assert!(disk.stored.iter().flat_map(Stored::ids).eq(0..3600 * 15));
    for stored in &disk.stored {
        let places: Vec<i64> = sound_of(stored).map(|p| p.pts_90k).collect();
        let is_even = |pair: &[i64]| pair[1] - pair[0] == 11_520;
        assert!(places.windows(2).all(is_even), "{places:?}");
        assert!((0..11_520 * 2).contains(&places[0]), "{places:?}");
    }
}

#[test]
fn sound_and_picture_stay_together_when_their_clocks_drift_apart() {
    for speed in [1.0 - 500e-6, 1.0 + 500e-6] {
        let (disk, _) = record_sound(Duration::ZERO, speed);
        for stored in &disk.stored {
            let start = at("2026-03-01T12:00:01Z").duration_until(stored.closing.start);
            for packet in sound_of(stored) {
                let expected = id_of(packet) as f64 * 0.128 / speed - start.as_secs_f64();
                let off = packet.pts_90k as f64 / TICKS_PER_SECOND as f64 - expected;
                assert!(off.abs() < 0.1, "{off} s off after {start}");
            }
        }
    }
}

#[test]
fn an_interruption_resumes_at_the_next_key_frame_with_a_gap() {
    let mut pipeline = Pipeline::new(plan(60, "UTC"));
    pipeline.begin_session(None);
    let (mut disk, mut actions) = (Disk::default(), Vec::new());
    for i in 0..100u64 {
        if i == 33 {
            pipeline.interrupt(CutReason::Other, &mut actions);
        }
        if (33..44).contains(&i) {
            continue;
        }
        let frame = VideoFrame {
            raw_90k: i as i64 * 6000,
            arrival: from_90k(i as i64 * 6000),
            wall: at("2026-01-01T00:00:00Z"),
            key: i % 10 == 0,
            packets_lost: 0,
            params: (i == 0).then(|| params(64)),
            data: i.to_be_bytes().to_vec(),
        };
        pipeline.push_video(frame, &mut actions);
    }
    pipeline.end_session(CutReason::Shutdown, &mut actions);
    disk.take(&mut actions);
    let ids: Vec<Vec<u64>> = disk.stored.iter().map(|s| s.ids().collect()).collect();
    assert_eq!(ids, [(0..33).collect::<Vec<_>>(), (50..100).collect()]);
    let gap = disk.stored[1].opening.gap_before.unwrap().as_secs_f64();
    assert!((gap - 17.0 / 15.0).abs() < 0.001, "{gap}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever camera and clocks do, all frames are stored once and no segment is wrongly long.
    #[test]
    fn nothing_is_lost_and_nothing_is_wrongly_long(
        steps in proptest::collection::vec((0u64..3000, -400_000_000i64..400_000_000), 0..12),
        walls in proptest::collection::vec((0u64..3000, -90_000i64..90_000), 0..6),
        stalls in proptest::collection::vec((0u64..3000, 0u64..4_000), 0..6),
        speed in 0.7f64..1.4,
        gop in 1u64..40,
    ) {
        let world = World { fps: 15.0, gop, camera_speed: speed, start: at("2026-01-01T00:00:00Z") };
        let find = |list: &[(u64, i64)], i| list.iter().filter(|s| s.0 == i).map(|s| s.1).sum::<i64>();
        let (disk, _) = record(&world, plan(10, "UTC"), 3000, |i| Oddity {
            camera_step_90k: find(&steps, i),
            wall_step: find(&walls, i),
            delay: Duration::from_millis(stalls.iter().filter(|s| s.0 == i).map(|s| s.1).sum()),
        });
        check_complete(&disk, 3000);
        let gop_seconds = gop as f64 / world.fps;
        prop_assert!(longest(&disk) <= 20.0 + gop_seconds + 8.0, "{}", longest(&disk));
    }
}
