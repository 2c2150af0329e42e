//! NAL units and parameter sets, as a camera may send them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use media::VideoCodec;
use media::h26x::{self, ParameterSets};
use rtsp_recorder::nal::{self, Coding};

fuzz_target!(|data: &[u8]| {
    for coding in [Coding::H264, Coding::H265, Coding::Other] {
        nal::entry(coding, data, false);
        nal::leading(coding, data);
    }
    for codec in [VideoCodec::H264, VideoCodec::H265] {
        let units: Vec<&[u8]> = h26x::annex_b_units(data).collect();
        let stored = h26x::to_length_prefixed(units.iter().copied());
        h26x::is_well_formed(4, &stored);
        h26x::is_well_formed(4, data);
        assert!(h26x::length_prefixed_units(4, &stored).eq(units.iter().copied()));
        for unit in units {
            h26x::nal_kind(codec, unit);
            h26x::sps_info(codec, unit);
        }
        let sets = ParameterSets::from_annex_b(codec, data);
        h26x::max_parameter_set_ids(&sets);
        if let Ok(extradata) = sets.to_extradata() {
            ParameterSets::from_extradata(codec, &extradata).expect("what was written can be read");
        }
        ParameterSets::from_extradata(codec, data).ok();
    }
});
