//! Parsers of foreign bytes: no input makes them panic, and what they take apart they put together again.

use media::VideoCodec;
use media::boxes::{broken_at, top_boxes, whole_part};
use media::chain::{Chain, follow};
use media::fragments::stored_samples;
use media::h26x::{
    AccessPoint, ParameterSets, access_point, annex_b_units, is_turned, is_well_formed,
    length_prefixed_units, length_size, max_parameter_set_ids, picture_only, sps_info, to_annex_b,
    to_length_prefixed, without_parameter_sets, without_user_data,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes that look like boxes often enough to get past the first check.
fn boxes() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![
        Just(*b"moov"),
        Just(*b"moof"),
        Just(*b"mdat"),
        Just(*b"ftyp"),
        any::<[u8; 4]>()
    ];
    let size = prop_oneof![0u32..40, Just(0), Just(1), any::<u32>()];
    let one = (size, kind, vec(any::<u8>(), 0..40))
        .prop_map(|(size, kind, body)| [&size.to_be_bytes()[..], &kind, &body].concat());
    vec(one, 0..8).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn boxes_never_panic(data in boxes()) {
        let found = top_boxes(&data[..]).unwrap();
        let mut at = 0;
        for one in &found {
            prop_assert_eq!(one.start, at);
            prop_assert!(one.size >= 8 && one.end() <= data.len() as u64);
            at = one.end();
        }
        stored_samples(&data[..]).unwrap();
        let whole = whole_part(&data[..]).unwrap();
        prop_assert_eq!(whole.end + whole.torn, data.len() as u64);
        prop_assert!(broken_at(&data[..]).unwrap().is_none_or(|at| at < data.len() as u64));
    }

    #[test]
    fn chains_never_panic(
        data in vec(prop_oneof![
            Just(vec![0, 0, 1, 0xba, 0x44]),
            Just(vec![0x47; 188]),
            Just(b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec()),
            Just(vec![9, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]),
            Just(b"RIFF\0\0\0\0AVI ".to_vec()),
            Just(vec![0x1f, 0x43, 0xb6, 0x75, 0x85]),
            vec(any::<u8>(), 0..300),
        ], 0..20).prop_map(|parts| parts.concat()),
    ) {
        for format in ["avi", "flv", "mpeg", "mpegts", "matroska,webm", "mov,mp4,m4a"] {
            match follow(&data[..], format, false).unwrap() {
                Chain::BrokenAt(at) => prop_assert!(at < data.len() as u64),
                found => prop_assert_eq!(found, Chain::Whole),
            }
        }
        prop_assert_eq!(follow(&data[..], "avi", true).unwrap(), Chain::Whole);
        prop_assert_eq!(follow(&data[..], "gif", true).unwrap(), Chain::Unknown);
    }

    #[test]
    fn units_never_panic(data in vec(prop_oneof![Just(0u8), Just(1), Just(3), Just(0x67), any::<u8>()], 0..200)) {
        for codec in [VideoCodec::H264, VideoCodec::H265, VideoCodec::Mjpeg] {
            for size in 0..6 {
                let total: usize = length_prefixed_units(size, &data).map(|u| u.len() + size).sum();
                prop_assert!(total <= data.len());
                is_well_formed(size, &data);
                access_point(codec, length_prefixed_units(size, &data));
                without_parameter_sets(codec, size, &data);
                without_user_data(codec, size, &data);
                is_turned(length_prefixed_units(size, &data));
                picture_only(size, &data);
            }
            access_point(codec, annex_b_units(&data));
            sps_info(codec, &data);
            length_size(codec, &data);
            let sets = ParameterSets::from_annex_b(codec, &data);
            drop(sets.to_extradata());
            max_parameter_set_ids(&sets);
            drop(ParameterSets::from_extradata(codec, &data));
            let mut record = vec![1];
            record.extend_from_slice(&data);
            drop(ParameterSets::from_extradata(codec, &record));
        }
    }

    #[test]
    fn units_round_trip(units in vec(vec(1u8..=255, 1..50), 1..10)) {
        let slices = || units.iter().map(Vec::as_slice);
        let stored = to_length_prefixed(slices());
        prop_assert!(length_prefixed_units(4, &stored).eq(slices()));
        let streamed = to_annex_b(slices());
        prop_assert!(annex_b_units(&streamed).eq(slices()));
    }
}

#[test]
fn access_points_are_told_apart() {
    let h265 = |kind: u8| {
        access_point(
            VideoCodec::H265,
            [[kind << 1, 1, 0x80].as_slice()].into_iter(),
        )
    };
    assert_eq!(
        [h265(19), h265(20), h265(21), h265(16), h265(1)],
        [
            AccessPoint::Idr,
            AccessPoint::Idr,
            AccessPoint::Open,
            AccessPoint::Open,
            AccessPoint::No
        ]
    );
    let h264 = |first: u8| {
        access_point(
            VideoCodec::H264,
            [[9, 0xf0].as_slice(), &[first, 0x88]].into_iter(),
        )
    };
    assert_eq!(
        [h264(0x65), h264(0x41), h264(0x06)],
        [AccessPoint::Idr, AccessPoint::No, AccessPoint::No]
    );
}

#[test]
fn user_data_is_dropped_and_other_sei_kept() {
    let user = [
        0x06, 5, 17, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
        0xaa, 0xaa, 0xaa, b'!', 0x80,
    ];
    let recovery = [0x06, 6, 1, 0xc4, 0x80];
    let slice = [0x65, 0x88, 0x80];
    let data = to_length_prefixed([&user[..], &recovery, &slice]);
    let clean = without_user_data(VideoCodec::H264, 4, &data);
    let left: Vec<&[u8]> = length_prefixed_units(4, &clean).collect();
    assert_eq!(left, [&recovery[..], &slice]);
}

#[test]
fn a_picture_is_left_with_its_timing_only() {
    let timing = [
        &[0x06, 1, 1, 0x12, 0x80][..],
        &[0x06, 0, 2, 1, 2, 6, 1, 0xc4, 0x80],
    ];
    // Filler in a SEI message, a film grain, one of several that is private, one that goes on behind its end.
    let private = [
        &[0x06, 3, 4, 0xff, 0xff, 0xff, 0xff, 0x80][..],
        &[0x06, 19, 1, 7, 0x80],
        &[0x06, 1, 1, 0x12, 5, 1, 9, 0x80],
        &[0x06, 1, 9, 0x12, 0x80],
    ];
    let turned = [0x06, 47, 3, 1, 2, 3, 0x80];
    let others = [&[12, 0xff, 0xff, 0x80][..], &[9, 0xf0], &[0x67, 1, 2, 3, 4]];
    let slice = [0x65, 0x88, 0x80];
    let wanted = [timing[0], timing[1], &slice];
    let all = [&wanted[..], &private, &others, &[&turned]].concat();
    let data = to_length_prefixed(all.iter().copied());
    let clean = picture_only(4, &data);
    let left: Vec<&[u8]> = length_prefixed_units(4, &clean).collect();
    assert_eq!(left, wanted);
    assert!(is_turned(all.into_iter()) && !is_turned(wanted.into_iter()));
}
