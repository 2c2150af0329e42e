//! Selective re-encoding: copied and newly encoded GOPs in one track with one avcC.

use std::fs::{File, OpenOptions};

use media::encode::Key;
use media::h26x::{self, ParameterSets, max_parameter_set_ids};
use media::synth::{TestVideo, read_number};
use media::verify::{VerifyOptions, verify_frames};
use media::{
    Decoder, DecoderOptions, Encoder, EncoderSettings, FileWriter, Packet, Rate, Track, VideoCodec,
    WriterOptions,
};
use tempfile::tempdir;

use crate::frames_by_cli;

const GOP: usize = 15;

/// Decodes packets and encodes the frames again, painted, with parameter set ids of their own.
fn encode_again(
    source: &media::VideoTrack,
    packets: &[&Packet],
    sets_id: u32,
) -> (Vec<Packet>, Encoder) {
    let mut decoder = Decoder::new(source, &DecoderOptions::default()).unwrap();
    let settings = EncoderSettings {
        preset: Some("superfast".into()),
        rate: Rate::Crf(20.0),
        gop: Some(100_000),
        options: vec![("x264-params".into(), format!("sps-id={sets_id}:scenecut=0"))],
        ..EncoderSettings::like("libx264", source)
    };
    let mut encoder = Encoder::open(settings).unwrap();
    let (mut frames, mut made) = (Vec::new(), Vec::new());
    for packet in packets.iter().copied().map(Some).chain([None]) {
        decoder.decode(packet, &mut frames).unwrap();
    }
    for (index, mut frame) in frames.into_iter().enumerate() {
        for plane in frame.planes_mut().unwrap().into_iter().skip(1) {
            plane.data.fill(128);
        }
        let key = if index == 0 { Key::Forced } else { Key::Auto };
        encoder.encode(&frame, key, &mut made).unwrap();
    }
    encoder.finish(&mut made).unwrap();
    (made, encoder)
}

fn splice(b_frames: u32, options: Vec<(String, String)>) {
    let dir = tempdir().unwrap();
    let (from, to) = (dir.path().join("a.mp4"), dir.path().join("b.mp4"));
    let video = TestVideo {
        frames: 45,
        gop: GOP as u32,
        b_frames,
        options,
        ..TestVideo::default()
    };
    video.write(&from).unwrap();
    let source = media::probe::load(&from).unwrap();
    let Track::Video(track) = source.tracks[0].clone() else {
        panic!("video first")
    };
    let packets: Vec<&Packet> = source.of_track(0).collect();
    assert!(packets[0].is_key() && packets[GOP].is_key() && packets[2 * GOP].is_key());

    let mut sets = ParameterSets::from_extradata(VideoCodec::H264, &track.extradata).unwrap();
    let (sps, pps) = max_parameter_set_ids(&sets).unwrap();
    let id = sps.max(pps) + 1;
    let (again, encoder) = encode_again(&track, &packets[GOP..2 * GOP], id);
    let new_sets =
        ParameterSets::from_extradata(VideoCodec::H264, &encoder.track().extradata).unwrap();
    assert_eq!(max_parameter_set_ids(&new_sets), Some((id, id)));
    sets.merge(&new_sets);

    let mut out = track.clone();
    out.extradata = sets.to_extradata().unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&to)
        .unwrap();
    let mut writer =
        FileWriter::create(file, &[Track::Video(out)], &WriterOptions::default()).unwrap();
    for packet in &packets[..GOP] {
        writer.write(0, packet).unwrap();
    }
    // New pts in the encoder's order, the source's dts list.
    for (new, old) in again.iter().zip(&packets[GOP..2 * GOP]) {
        let mut new = new.try_clone().unwrap();
        new.set_times(new.pts(), old.dts(), new.duration());
        writer.write(0, &new).unwrap();
    }
    for packet in &packets[2 * GOP..] {
        writer.write(0, packet).unwrap();
    }
    writer.finish().unwrap();

    let mut numbers = Vec::new();
    let mut colourless = Vec::new();
    let found = verify_frames(
        File::open(&to).unwrap(),
        &VerifyOptions::default(),
        &mut |frame| {
            numbers.push(read_number(frame));
            let chroma = frame.plane(1);
            colourless.push(
                chroma.data[chroma.stride * 40..][..80]
                    .iter()
                    .all(|v| v.abs_diff(128) <= 2),
            );
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(found.errors, Vec::<String>::new());
    assert!(found.is_sound());
    assert_eq!(
        found.pts(),
        (0..45).map(|i| video.pts_of(i)).collect::<Vec<_>>()
    );
    assert_eq!(numbers, (0..45).map(Some).collect::<Vec<_>>());
    let expected: Vec<bool> = (0..45).map(|i| (GOP..2 * GOP).contains(&i)).collect();
    assert_eq!(colourless, expected);
    if let Some(frames) = frames_by_cli(&to) {
        assert_eq!(frames, 45);
    }
    let result = media::probe::load(&to).unwrap();
    let copied = result
        .packets
        .iter()
        .enumerate()
        .filter(|(i, _)| !(GOP..2 * GOP).contains(i));
    for (index, packet) in copied {
        assert_eq!(packet.data(), packets[index].data(), "packet {index}");
        assert_eq!(
            (packet.pts(), packet.dts()),
            (packets[index].pts(), packets[index].dts())
        );
    }
}

#[test]
fn without_b_frames() {
    splice(0, Vec::new());
}

#[test]
fn with_b_frames_in_the_source() {
    splice(2, Vec::new());
}

#[test]
fn with_a_baseline_source() {
    splice(0, vec![("profile".into(), "baseline".into())]);
}

#[test]
fn in_band_sets_are_found_and_dropped() {
    let made = TestVideo {
        frames: 2,
        ..TestVideo::default()
    }
    .encode()
    .unwrap();
    let sets = ParameterSets::from_extradata(VideoCodec::H264, &made.track.extradata).unwrap();
    let mut data = h26x::to_length_prefixed(sets.units());
    data.extend_from_slice(made.packets[0].data());
    let clean = h26x::without_parameter_sets(VideoCodec::H264, 4, &data);
    assert_eq!(&*clean, made.packets[0].data());
    let units = h26x::length_prefixed_units(4, &data);
    assert_eq!(ParameterSets::from_units(VideoCodec::H264, units), sets);
}
