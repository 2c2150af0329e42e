//! Copied where nothing was touched, encoded where something was, in one track that plays.

use media::synth::TestVideo;
use media::{FileWriter, Reader, ReaderOptions, Track, WriterOptions};
use serde_json::json;

use crate::support::{Site, look};

/// Twelve groups of 15 frames; the detector sees something in frames 95 to 99 only. The masks begin
/// earlier and end later, since tracks look both ways.
fn run(video: &TestVideo) -> (Site, Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut site =
        Site::new(json!({ "plugin": { "from": 95, "to": 100 }, "delete_original": false }));
    let stem = site.add("a", video);
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    assert_eq!(site.why(&stem), None);
    let packets = [site.raw("a"), site.published("a")].map(|path| packets(&path));
    let [before, after] = packets;
    (site, before, after)
}

fn packets(path: &std::path::Path) -> Vec<Vec<u8>> {
    let mut reader = Reader::open_path(path, &ReaderOptions::default()).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        packets.push(packet.data().to_vec());
    }
    packets
}

fn check(video: &TestVideo) {
    let (site, before, after) = run(video);
    let (old, new) = (look(&site.raw("a")), look(&site.published("a")));
    assert_eq!(new.pts, old.pts);
    assert!(
        new.numbers[95..100].iter().all(Option::is_none),
        "{:?}",
        new.numbers
    );
    assert_eq!(new.numbers[0], Some(0));
    assert_eq!(new.numbers[179], Some(179));
    let report = site.report("a").video;
    assert_eq!(report.not_copied_because, None);
    assert_eq!(report.gops_copied + report.gops_encoded, 12);
    assert!(report.gops_copied >= 4, "{report:?}");
    assert!((5..120).contains(&report.frames_encoded), "{report:?}");
    let same = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before == after)
        .count() as u64;
    assert_eq!(
        same,
        report.frames - report.frames_encoded,
        "copied packets are bit for bit the same"
    );
}

#[test]
fn untouched_groups_are_copied_bit_for_bit() {
    check(&TestVideo {
        frames: 180,
        ..TestVideo::default()
    });
}

#[test]
fn b_frames_are_spliced_at_safe_places() {
    check(&TestVideo {
        frames: 180,
        b_frames: 2,
        ..TestVideo::default()
    });
}

#[test]
fn nothing_seen_means_everything_copied() {
    let mut site = Site::new(json!({ "plugin": { "from": 1_000_000 }, "delete_original": false }));
    let stem = site.add(
        "a",
        &TestVideo {
            audio: true,
            ..TestVideo::default()
        },
    );
    site.run_until(|site| site.is_done(&stem));
    let report = site.report("a").video;
    assert_eq!(
        (
            report.gops_copied,
            report.gops_encoded,
            report.frames_encoded
        ),
        (2, 0, 0)
    );
    assert_eq!(
        report.frames_seen_by_plugin, 30,
        "copied frames passed the plugin too"
    );
    assert_eq!(
        look(&site.published("a")).numbers,
        look(&site.raw("a")).numbers
    );
}

#[test]
fn a_packet_with_more_than_one_picture_is_never_copied() {
    let mut encoded = TestVideo::default().encode().unwrap();
    let alone = encoded.packets[20].data().to_vec();
    let second_picture = encoded.packets[21].data().to_vec();
    // Of a type that is left to applications.
    let private = [&[0, 0, 0, 3, 30][..], &[1, 2]].concat();
    for (name, beside) in [("picture", second_picture), ("private", private)] {
        let mut site =
            Site::new(json!({ "plugin": { "from": 1_000_000 }, "delete_original": false }));
        let mut new = std::fs::OpenOptions::new();
        let new = new.read(true).write(true).create_new(true);
        let file = new.open(site.raw(name)).unwrap();
        let tracks = [Track::Video(encoded.track.clone())];
        let mut writer = FileWriter::create(file, &tracks, &WriterOptions::default()).unwrap();
        let both = [&alone[..], &beside].concat();
        encoded.packets[20].replace_data(&both).unwrap();
        for packet in &encoded.packets {
            writer.write(0, packet).unwrap();
        }
        writer.finish().unwrap();
        let stem = site.add_ticket(name);
        site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
        assert_eq!(site.why(&stem), None, "{name}");
        let report = site.report(name).video;
        assert!(report.not_copied_because.is_some(), "{name}: {report:?}");
        assert_eq!(report.gops_copied, 0, "{name}");
    }
}

/// Writes the test video with `unit` beside the slice of every packet, and has it processed without a head in it.
fn with_unit(unit: &[u8]) -> (Site, Vec<Vec<u8>>) {
    let mut site = Site::new(json!({ "plugin": { "from": 1_000_000 }, "delete_original": false }));
    let mut encoded = TestVideo::default().encode().expect("a test video");
    let mut new = std::fs::OpenOptions::new();
    let new = new.read(true).write(true).create_new(true);
    let file = new.open(site.raw("a")).expect("a new file");
    let tracks = [Track::Video(encoded.track.clone())];
    let mut writer =
        FileWriter::create(file, &tracks, &WriterOptions::default()).expect("a writer");
    let mut plain = Vec::new();
    for packet in &mut encoded.packets {
        plain.push(packet.data().to_vec());
        let length = u32::try_from(unit.len())
            .expect("a short unit")
            .to_be_bytes();
        let both = [&length[..], unit, packet.data()].concat();
        packet.replace_data(&both).expect("memory");
        writer.write(0, packet).expect("room");
    }
    writer.finish().expect("room");
    let stem = site.add_ticket("a");
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    assert_eq!(site.why(&stem), None);
    (site, plain)
}

#[test]
fn nothing_but_pictures_is_copied() {
    let secret = b"private words of the camera";
    let message = |kind: u8| [&[0x06, kind, secret.len() as u8][..], secret, &[0x80]].concat();
    let filler = [&[12][..], secret, &[0x80]].concat();
    let delimiter = [&[9, 0xf0][..], secret].concat();
    for unit in [message(5), message(200), message(19), filler, delimiter] {
        let (site, plain) = with_unit(&unit);
        let report = site.report("a").video;
        assert_eq!(
            (report.gops_copied, report.gops_encoded),
            (2, 0),
            "{report:?}"
        );
        assert_eq!(packets(&site.published("a")), plain, "{unit:?}");
        let published = std::fs::read(site.published("a")).unwrap();
        let found = published.windows(secret.len()).any(|bytes| bytes == secret);
        assert!(!found, "{unit:?}");
    }
}

#[test]
fn a_picture_that_turns_itself_is_never_copied() {
    let (site, _) = with_unit(&[0x06, 47, 4, 0x20, 0, 0, 4, 0x80]);
    let report = site.report("a").video;
    assert_eq!(report.gops_copied, 0, "{report:?}");
    let why = report.not_copied_because.expect("a reason");
    assert!(why.contains("turn"), "{why}");
}
