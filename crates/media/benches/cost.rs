//! What recording, decoding, scaling and encoding cost: CPU milliseconds, printed as a table.
//!
//! `cargo bench -p media`; give a file to use it instead of the synthetic 1080p clip.
#![expect(
    clippy::unwrap_used,
    reason = "a failed measurement has nothing to report"
)]

use media::encode::Key;
use media::segment::SegmentOptions;
use media::synth::TestVideo;
use media::{
    Decoder, DecoderOptions, Encoder, EncoderSettings, Frame, PixelFormat, Quality, Rate, Sample,
    Scaler, SegmentWriter, Track, VideoTrack, finalise, finalise_in_place,
};

use std::time::Duration;

const CAMERAS: usize = 200;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let path = std::env::args()
        .nth(1)
        .filter(|arg| !arg.starts_with("--"))
        .map_or_else(
            || {
                let path = dir.path().join("source.mp4");
                let video = TestVideo {
                    width: 1920,
                    height: 1080,
                    frames: 150,
                    gop: 30,
                    ..TestVideo::default()
                };
                video.write(&path).unwrap();
                path
            },
            std::path::PathBuf::from,
        );
    let source = media::probe::load(&path).unwrap();
    let index = source
        .tracks
        .iter()
        .position(|track| matches!(track, Track::Video(_)))
        .unwrap();
    let Track::Video(track) = source.tracks[index].clone() else {
        unreachable!("just found")
    };
    let packets: Vec<_> = source.of_track(index).collect();
    let bytes: usize = packets.iter().map(|packet| packet.data().len()).sum();
    println!(
        "{} frames, {bytes} bytes, {}x{}",
        packets.len(),
        track.width,
        track.height
    );

    record(dir.path(), &track, &packets);
    let frames = decode(&track, &packets);
    scale(&frames);
    encode(&track, &frames);
}

/// CPU time of this thread so far, user and system; other work on the machine does not disturb it.
fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    let nanoseconds: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
    nanoseconds / 1e6
}

fn report(what: &str, units: usize, unit: &str, start: f64) {
    let ms = cpu_ms() - start;
    println!("{what}: {ms:.1} ms, {:.4} ms per {unit}", ms / units as f64);
}

fn record(dir: &std::path::Path, track: &VideoTrack, packets: &[&media::Packet]) {
    let open = |index: usize| {
        let path = dir.join(format!("{index}.part"));
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .unwrap();
        let options = SegmentOptions::for_length(Duration::from_secs(30));
        SegmentWriter::create(file, track, None, &options).unwrap()
    };
    let start = cpu_ms();
    let mut writers: Vec<_> = (0..CAMERAS).map(open).collect();
    for packet in packets {
        for writer in &mut writers {
            let sample = Sample {
                data: packet.data().to_vec(),
                pts: packet.pts().unwrap(),
                dts: packet.dts().unwrap(),
                duration: packet.duration(),
                key: packet.is_key(),
            };
            writer.write_video(sample).unwrap();
        }
    }
    for writer in writers {
        writer.finish().unwrap();
    }
    report(
        &format!("record {CAMERAS} cameras"),
        CAMERAS * packets.len(),
        "frame",
        start,
    );
    let start = cpu_ms();
    let count = 20;
    for index in 0..count {
        finalise(
            dir.join(format!("{index}.part")),
            dir.join(format!("{index}.mp4")),
        )
        .unwrap();
    }
    report("finalise", count, "segment", start);
    let start = cpu_ms();
    for index in 0..count {
        assert!(finalise_in_place(dir.join(format!("{index}.part")), None).unwrap());
    }
    report("finalise in place", count, "segment", start);
}

fn decode(track: &VideoTrack, packets: &[&media::Packet]) -> Vec<Frame> {
    let mut decoder = Decoder::new(track, &DecoderOptions::default()).unwrap();
    let mut kept = Vec::new();
    let mut frames = Vec::new();
    let start = cpu_ms();
    for packet in packets.iter().copied().map(Some).chain([None]) {
        decoder.decode(packet, &mut frames).unwrap();
        let room = 60usize.saturating_sub(kept.len());
        kept.extend(frames.drain(..).take(room));
    }
    report("decode", packets.len(), "frame", start);
    let start = cpu_ms();
    for frame in &kept {
        drop(frame.clone().planes_mut().unwrap());
    }
    report("copy on write", kept.len(), "frame", start);
    kept
}

fn scale(frames: &[Frame]) {
    for (format, quality) in [
        (PixelFormat::RGB24, Quality::Fast),
        (PixelFormat::RGB24, Quality::Area),
        (PixelFormat::I420, Quality::Area),
    ] {
        let mut scaler = Scaler::new(640, 360, format, quality);
        let start = cpu_ms();
        for frame in frames {
            scaler.scale(frame).unwrap();
        }
        report(
            &format!("scale to 640x360 {format:?} {quality:?}"),
            frames.len(),
            "frame",
            start,
        );
    }
}

fn encode(track: &VideoTrack, frames: &[Frame]) {
    for preset in ["ultrafast", "superfast", "veryfast"] {
        let settings = EncoderSettings {
            preset: Some(preset.into()),
            rate: Rate::Crf(26.0),
            ..EncoderSettings::like("libx264", track)
        };
        let mut encoder = Encoder::open(settings).unwrap();
        let mut packets = Vec::new();
        let start = cpu_ms();
        for frame in frames {
            encoder.encode(frame, Key::Auto, &mut packets).unwrap();
        }
        encoder.finish(&mut packets).unwrap();
        report(&format!("encode {preset}"), frames.len(), "frame", start);
    }
}
