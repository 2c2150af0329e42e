//! Bytes of H.264 and H.265: NAL units, parameter sets, avcC and hvcC. Pure Rust, no FFmpeg; never panics
//! on any input.
//!
//! Sources: ITU-T H.264 (7.3, 7.4, Annex B, D), ITU-T H.265 (7.3, 7.4), ISO/IEC 14496-15 (5.3.3, 8.3.3).

mod bits;
mod config;
mod nal;

pub use config::{ParameterSets, SpsInfo, max_parameter_set_ids, sps_info};
pub use nal::{
    AccessPoint, NalKind, access_point, annex_b_units, is_bidirectional, is_one_plain_picture,
    is_turned, is_well_formed, length_prefixed_units, nal_kind, to_annex_b, to_length_prefixed,
    without,
};

use std::borrow::Cow;

use crate::error::MediaError;
use crate::track::VideoCodec;

/// The length of the length field in a stream with this avcC or hvcC (1, 2 or 4 bytes); `None` for Annex B
/// streams and other codecs.
pub fn length_size(codec: VideoCodec, extradata: &[u8]) -> Option<usize> {
    let byte = match codec {
        VideoCodec::H264 if extradata.first() == Some(&1) => extradata.get(4)?,
        VideoCodec::H265 if extradata.first() == Some(&1) => extradata.get(21)?,
        _ => return None,
    };
    Some(usize::from(byte & 3) + 1)
}

/// A length-prefixed access unit without parameter sets: as GOPs must be when they are copied into a file
/// whose avcC holds the sets of two encoders. Borrowed if there was nothing to drop.
pub fn without_parameter_sets(codec: VideoCodec, length_size: usize, data: &[u8]) -> Cow<'_, [u8]> {
    without(codec, length_size, data, |kind, _| {
        kind == NalKind::ParameterSet
    })
}

/// A length-prefixed access unit without SEI messages that carry user data (types 4 and 5): cameras put
/// names, places and their own detections there. Borrowed if there was nothing to drop.
pub fn without_user_data(codec: VideoCodec, length_size: usize, data: &[u8]) -> Cow<'_, [u8]> {
    without(codec, length_size, data, |kind, unit| {
        kind == NalKind::Sei && nal::has_user_data(codec, unit)
    })
}

/// A length-prefixed access unit of H.264 with nothing but what it takes to decode and show its picture: its slices, and SEI units
/// that hold nothing but timing. Parameter sets go as well, which belong in the avcC. Everything else (filler, delimiters, further
/// SEI) may hold anything, and nobody looks at it. Borrowed if there was nothing to drop.
pub fn picture_only(length_size: usize, data: &[u8]) -> Cow<'_, [u8]> {
    without(
        VideoCodec::H264,
        length_size,
        data,
        |kind, unit| match kind {
            NalKind::Slice { .. } => false,
            NalKind::Sei => !nal::is_timing(unit),
            NalKind::ParameterSet | NalKind::Marker | NalKind::Other => true,
        },
    )
}

/// An Annex B access unit (as FFmpeg's RTSP demuxer and MPEG-TS give it) as MP4 stores it: 4-byte lengths, no
/// parameter sets. Those belong in the extradata: [`ParameterSets::from_annex_b`].
pub fn annex_b_to_stored(codec: VideoCodec, data: &[u8]) -> Vec<u8> {
    to_length_prefixed(
        annex_b_units(data).filter(|unit| nal_kind(codec, unit) != NalKind::ParameterSet),
    )
}

/// What an encoder puts out (Annex B) as MP4 stores it; `None` for codecs that are stored as they are.
pub(crate) fn to_stored(codec: VideoCodec, data: &[u8]) -> Option<Vec<u8>> {
    if !matches!(codec, VideoCodec::H264 | VideoCodec::H265) {
        return None;
    }
    let kept = annex_b_units(data).filter(|unit| match nal_kind(codec, unit) {
        NalKind::ParameterSet => false,
        NalKind::Sei => !nal::has_user_data(codec, unit),
        _ => true,
    });
    Some(to_length_prefixed(kept))
}

/// An encoder's global header as avcC or hvcC.
pub(crate) fn to_stored_extradata(codec: VideoCodec, header: &[u8]) -> Result<Vec<u8>, MediaError> {
    match codec {
        VideoCodec::H264 | VideoCodec::H265 => {
            ParameterSets::from_annex_b(codec, header).to_extradata()
        }
        _ => Ok(header.to_vec()),
    }
}
