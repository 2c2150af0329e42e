//! Parameter sets, and the avcC and hvcC records that carry them.

use crate::error::MediaError;
use crate::track::VideoCodec;

use super::bits::{Bits, unescape};
use super::nal::{NalKind, annex_b_units, nal_kind, to_annex_b, to_length_prefixed};

/// The parameter sets of a stream, each a whole NAL unit without length or start code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterSets {
    /// H.264 or H.265.
    pub codec: VideoCodec,
    /// Video parameter sets; H.265 only.
    pub vps: Vec<Vec<u8>>,
    /// Sequence parameter sets.
    pub sps: Vec<Vec<u8>>,
    /// Picture parameter sets.
    pub pps: Vec<Vec<u8>>,
}

/// What a sequence parameter set says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpsInfo {
    /// Its id, which slices refer to by way of the PPS.
    pub id: u32,
    /// profile_idc.
    pub profile: u8,
    /// H.264's constraint flags byte; 0 for H.265.
    pub constraints: u8,
    /// level_idc.
    pub level: u8,
    /// 0 grey, 1 4:2:0, 2 4:2:2, 3 4:4:4.
    pub chroma_format: u32,
    /// Bits per luma sample.
    pub luma_bits: u32,
    /// Bits per chroma sample.
    pub chroma_bits: u32,
    /// Width after cropping, in pixels.
    pub width: u32,
    /// Height after cropping, in pixels.
    pub height: u32,
    /// Columns and rows, pixels, that are coded and cropped away: no player shows them, but they are there.
    pub cropped: (u32, u32),
    /// Whether every picture is a frame (not interlaced); always true for H.265.
    pub progressive: bool,
}

impl ParameterSets {
    /// No sets.
    pub fn empty(codec: VideoCodec) -> Self {
        Self {
            codec,
            vps: Vec::new(),
            sps: Vec::new(),
            pps: Vec::new(),
        }
    }

    /// The sets in Annex B data (with start codes); other units are left out.
    pub fn from_annex_b(codec: VideoCodec, data: &[u8]) -> Self {
        Self::from_units(codec, annex_b_units(data))
    }

    /// The sets among these NAL units; other units are left out.
    pub fn from_units<'a>(codec: VideoCodec, units: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut sets = Self::empty(codec);
        for unit in units {
            sets.add(unit);
        }
        sets
    }

    /// The sets in an avcC or hvcC, or in Annex B extradata.
    ///
    /// # Errors
    /// [`MediaError::Damaged`] if it is cut short, [`MediaError::Unsupported`] for another codec.
    pub fn from_extradata(codec: VideoCodec, extradata: &[u8]) -> Result<Self, MediaError> {
        if extradata.first() != Some(&1) {
            return Ok(Self::from_annex_b(codec, extradata));
        }
        let parsed = match codec {
            VideoCodec::H264 => from_avcc(extradata),
            VideoCodec::H265 => from_hvcc(extradata),
            _ => return Err(MediaError::unsupported("parameter sets", codec.name())),
        };
        parsed
            .ok_or_else(|| MediaError::damaged("read parameter sets", "avcC or hvcC is cut short"))
    }

    /// Adds a set unless it is there already; other units are ignored.
    pub fn add(&mut self, unit: &[u8]) {
        let Some(&first) = unit.first() else { return };
        let list = match (self.codec, first & 0x1f, (first >> 1) & 0x3f) {
            (VideoCodec::H264, 7, _) => &mut self.sps,
            (VideoCodec::H264, 8, _) => &mut self.pps,
            (VideoCodec::H265, _, 32) => &mut self.vps,
            (VideoCodec::H265, _, 33) => &mut self.sps,
            (VideoCodec::H265, _, 34) => &mut self.pps,
            _ => return,
        };
        if !list.iter().any(|known| known == unit) {
            list.push(unit.to_vec());
        }
    }

    /// Adds all sets of another stream, so that slices of both can be decoded with one avcC. Ids must differ.
    pub fn merge(&mut self, other: &Self) {
        for unit in other.units() {
            self.add(unit);
        }
    }

    /// An Annex B access unit with 4-byte lengths, without those sets that are among these: they stand in the
    /// extradata. Sets that are not are kept, since the stream changes there, and from then on all are, as `changed`
    /// notes: it may change back.
    pub fn to_stored(&self, data: &[u8], changed: &mut bool) -> Vec<u8> {
        let known = |unit: &[u8]| self.units().any(|set| set == unit);
        *changed |= annex_b_units(data)
            .any(|unit| nal_kind(self.codec, unit) == NalKind::ParameterSet && !known(unit));
        let all = *changed;
        to_length_prefixed(annex_b_units(data).filter(|unit| all || !known(unit)))
    }

    /// All sets: VPS, SPS, PPS.
    pub fn units(&self) -> impl Iterator<Item = &[u8]> {
        [&self.vps, &self.sps, &self.pps]
            .into_iter()
            .flatten()
            .map(Vec::as_slice)
    }

    /// All sets with start codes.
    pub fn to_annex_b(&self) -> Vec<u8> {
        to_annex_b(self.units())
    }

    /// The avcC or hvcC that holds them, for 4-byte lengths. Profile and level are the highest of all SPS.
    ///
    /// # Errors
    /// [`MediaError::Damaged`] without a readable SPS or with more sets than fit.
    pub fn to_extradata(&self) -> Result<Vec<u8>, MediaError> {
        let made = match self.codec {
            VideoCodec::H264 => self.to_avcc(),
            VideoCodec::H265 => self.to_hvcc(),
            _ => return Err(MediaError::unsupported("parameter sets", self.codec.name())),
        };
        made.ok_or_else(|| {
            MediaError::damaged("build avcC or hvcC", "no readable sequence parameter set")
        })
    }

    fn to_avcc(&self) -> Option<Vec<u8>> {
        let infos: Vec<SpsInfo> = self
            .sps
            .iter()
            .map(|sps| sps_info(self.codec, sps))
            .collect::<Option<_>>()?;
        let top = infos.iter().max_by_key(|info| profile_rank(info.profile))?;
        let level = infos.iter().map(|info| info.level).max()?;
        let mut record = vec![1, top.profile, top.constraints, level, 0xff];
        record.push(0xe0 | u8::try_from(self.sps.len()).ok().filter(|n| *n < 32)?);
        push_units(&mut record, &self.sps)?;
        record.push(u8::try_from(self.pps.len()).ok()?);
        push_units(&mut record, &self.pps)?;
        if has_chroma_fields(top.profile) {
            record.push(0xfc | top.chroma_format as u8);
            record.push(0xf8 | top.luma_bits.saturating_sub(8) as u8);
            record.push(0xf8 | top.chroma_bits.saturating_sub(8) as u8);
            record.push(0);
        }
        Some(record)
    }

    fn to_hvcc(&self) -> Option<Vec<u8>> {
        let first = self.sps.first()?;
        let info = sps_info(self.codec, first)?;
        let clean = unescape(first);
        let sub_layers = (clean.get(2)? >> 1) & 7;
        let nested = clean.get(2)? & 1;
        let mut record = vec![1];
        record.extend_from_slice(clean.get(3..15)?);
        // No minimum segmentation, parallelism not said.
        record.extend_from_slice(&[0xf0, 0, 0xfc]);
        record.push(0xfc | info.chroma_format as u8);
        record.push(0xf8 | info.luma_bits.saturating_sub(8) as u8);
        record.push(0xf8 | info.chroma_bits.saturating_sub(8) as u8);
        // Average frame rate not said.
        record.extend_from_slice(&[0, 0]);
        record.push(((sub_layers + 1) << 3) | (nested << 2) | 3);
        let arrays = [(32u8, &self.vps), (33, &self.sps), (34, &self.pps)];
        record.push(arrays.iter().filter(|(_, units)| !units.is_empty()).count() as u8);
        for (kind, units) in arrays.into_iter().filter(|(_, units)| !units.is_empty()) {
            record.push(0x80 | kind);
            record.extend_from_slice(&u16::try_from(units.len()).ok()?.to_be_bytes());
            push_units(&mut record, units)?;
        }
        Some(record)
    }
}

/// The highest SPS and PPS ids in use; `None` if one cannot be read. An encoder whose GOPs are to stand
/// beside these needs higher ones (x264: `x264-params sps-id=`, which sets both).
pub fn max_parameter_set_ids(sets: &ParameterSets) -> Option<(u32, u32)> {
    let sps = sets
        .sps
        .iter()
        .map(|unit| Some(sps_info(sets.codec, unit)?.id));
    let pps = sets.pps.iter().map(|unit| pps_id(sets.codec, unit));
    Some((highest(sps)?, highest(pps)?))
}

fn highest(ids: impl Iterator<Item = Option<u32>>) -> Option<u32> {
    ids.collect::<Option<Vec<u32>>>()?.into_iter().max()
}

fn pps_id(codec: VideoCodec, unit: &[u8]) -> Option<u32> {
    let clean = unescape(unit.get(header_bytes(codec)..)?);
    Bits::new(&clean).ue()
}

fn header_bytes(codec: VideoCodec) -> usize {
    if codec == VideoCodec::H265 { 2 } else { 1 }
}

fn push_units(record: &mut Vec<u8>, units: &[Vec<u8>]) -> Option<()> {
    for unit in units {
        record.extend_from_slice(&u16::try_from(unit.len()).ok()?.to_be_bytes());
        record.extend_from_slice(unit);
    }
    Some(())
}

/// Takes `count` units with 16-bit lengths off the front of `data`.
fn take_units<'a>(data: &mut &'a [u8], count: usize) -> Option<Vec<&'a [u8]>> {
    let mut units = Vec::new();
    for _ in 0..count {
        let (length, rest) = data.split_at_checked(2)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let (unit, rest) = rest.split_at_checked(length)?;
        units.push(unit);
        *data = rest;
    }
    Some(units)
}

fn from_avcc(record: &[u8]) -> Option<ParameterSets> {
    let mut sets = ParameterSets::empty(VideoCodec::H264);
    let count = usize::from(record.get(5)? & 31);
    let mut rest = &record[6..];
    let sps = take_units(&mut rest, count)?;
    let (count, behind) = rest.split_first()?;
    rest = behind;
    let pps = take_units(&mut rest, usize::from(*count))?;
    for unit in sps.into_iter().chain(pps) {
        sets.add(unit);
    }
    Some(sets)
}

fn from_hvcc(record: &[u8]) -> Option<ParameterSets> {
    let mut sets = ParameterSets::empty(VideoCodec::H265);
    let arrays = *record.get(22)?;
    let mut rest = &record[23..];
    for _ in 0..arrays {
        let (head, behind) = rest.split_at_checked(3)?;
        rest = behind;
        let count = usize::from(u16::from_be_bytes([head[1], head[2]]));
        for unit in take_units(&mut rest, count)? {
            sets.add(unit);
        }
    }
    Some(sets)
}

/// The profiles whose SPS and avcC say chroma format and bit depth (H.264 7.3.2.1.1).
fn has_chroma_fields(profile: u8) -> bool {
    matches!(
        profile,
        100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
    )
}

/// Baseline < Main < Extended < High ..., so that a player that can do the highest can do all.
fn profile_rank(profile: u8) -> u32 {
    match profile {
        66 => 0,
        77 => 1,
        88 => 2,
        44 => 1000,
        other => u32::from(other),
    }
}

/// What a sequence parameter set says; `None` if it is not one or is cut short.
pub fn sps_info(codec: VideoCodec, unit: &[u8]) -> Option<SpsInfo> {
    match codec {
        VideoCodec::H264 if unit.first()? & 0x1f == 7 => h264_sps(&unescape(&unit[1..])),
        VideoCodec::H265 if (unit.first()? >> 1) & 0x3f == 33 => {
            h265_sps(&unescape(unit.get(2..)?))
        }
        _ => None,
    }
}

fn h264_sps(payload: &[u8]) -> Option<SpsInfo> {
    let mut bits = Bits::new(payload);
    let (profile, constraints, level) = (
        bits.bits(8)? as u8,
        bits.bits(8)? as u8,
        bits.bits(8)? as u8,
    );
    let id = bits.ue()?;
    let (mut chroma_format, mut luma_bits, mut chroma_bits) = (1, 8, 8);
    if has_chroma_fields(profile) {
        chroma_format = bits.ue()?;
        if chroma_format == 3 {
            bits.bit()?;
        }
        luma_bits = bits.ue()?.checked_add(8)?;
        chroma_bits = bits.ue()?.checked_add(8)?;
        bits.bit()?;
        if bits.bit()? == 1 {
            skip_scaling_lists(&mut bits, if chroma_format == 3 { 12 } else { 8 })?;
        }
    }
    bits.ue()?;
    skip_picture_order(&mut bits)?;
    bits.ue()?;
    bits.bit()?;
    let (across, down) = (bits.ue()?.checked_add(1)?, bits.ue()?.checked_add(1)?);
    let progressive = bits.bit()? == 1;
    if !progressive {
        bits.bit()?;
    }
    bits.bit()?;
    let fields = if progressive { 1 } else { 2 };
    let crop = crop(&mut bits, chroma_format, fields)?;
    let width = across.checked_mul(16)?.checked_sub(crop.0)?;
    let height = down.checked_mul(16 * fields)?.checked_sub(crop.1)?;
    (chroma_format <= 3 && luma_bits <= 16 && chroma_bits <= 16).then_some(SpsInfo {
        id,
        profile,
        constraints,
        level,
        chroma_format,
        luma_bits,
        chroma_bits,
        width,
        height,
        cropped: crop,
        progressive,
    })
}

fn skip_scaling_lists(bits: &mut Bits<'_>, count: usize) -> Option<()> {
    for index in 0..count {
        if bits.bit()? == 0 {
            continue;
        }
        let (mut last, mut next) = (8i64, 8i64);
        for _ in 0..if index < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + bits.se()? + 256).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

fn skip_picture_order(bits: &mut Bits<'_>) -> Option<()> {
    match bits.ue()? {
        0 => bits.ue().map(drop),
        1 => {
            bits.bit()?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.se()?;
            }
            Some(())
        }
        _ => Some(()),
    }
}

/// Columns and rows that cropping takes away.
fn crop(bits: &mut Bits<'_>, chroma_format: u32, fields: u32) -> Option<(u32, u32)> {
    if bits.bit()? == 0 {
        return Some((0, 0));
    }
    let (left, right, top, bottom) = (bits.ue()?, bits.ue()?, bits.ue()?, bits.ue()?);
    let unit_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
    let unit_y = if chroma_format == 1 { 2 } else { 1 } * fields;
    let across = left.checked_add(right)?.checked_mul(unit_x)?;
    Some((across, top.checked_add(bottom)?.checked_mul(unit_y)?))
}

fn h265_sps(payload: &[u8]) -> Option<SpsInfo> {
    let mut bits = Bits::new(payload);
    bits.bits(4)?;
    let sub_layers = bits.bits(3)?;
    bits.bit()?;
    bits.bits(3)?;
    let profile = bits.bits(5)? as u8;
    bits.skip(80)?;
    let level = bits.bits(8)? as u8;
    skip_sub_layers(&mut bits, sub_layers)?;
    let id = bits.ue()?;
    let chroma_format = bits.ue()?;
    if chroma_format == 3 {
        bits.bit()?;
    }
    let (width, height) = (bits.ue()?, bits.ue()?);
    let crop = crop(&mut bits, chroma_format, 1)?;
    let (luma_bits, chroma_bits) = (bits.ue()?.checked_add(8)?, bits.ue()?.checked_add(8)?);
    (chroma_format <= 3 && luma_bits <= 16 && chroma_bits <= 16).then_some(SpsInfo {
        id,
        profile,
        constraints: 0,
        level,
        chroma_format,
        luma_bits,
        chroma_bits,
        width: width.checked_sub(crop.0)?,
        height: height.checked_sub(crop.1)?,
        cropped: crop,
        progressive: true,
    })
}

fn skip_sub_layers(bits: &mut Bits<'_>, count: u32) -> Option<()> {
    let present = (0..count)
        .map(|_| Some((bits.bit()?, bits.bit()?)))
        .collect::<Option<Vec<_>>>()?;
    if count > 0 {
        bits.skip(2 * (8 - count as usize))?;
    }
    for (profile, level) in present {
        bits.skip(if profile == 1 { 88 } else { 0 })?;
        bits.skip(if level == 1 { 8 } else { 0 })?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 1280x720 High SPS from the x264 test-suite era: id 0, level 3.1.
    const SPS: [u8; 24] = [
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03,
        0x00, 0x10, 0x00, 0x00, 0x03, 0x03, 0xc0, 0xf1, 0x83,
    ];

    #[test]
    fn reads_a_high_profile_sps() {
        let info = sps_info(VideoCodec::H264, &SPS).expect("readable");
        assert_eq!((info.id, info.profile, info.level), (0, 100, 31));
        assert_eq!(
            (info.width, info.height, info.chroma_format, info.luma_bits),
            (1280, 720, 1, 8)
        );
    }

    #[test]
    fn avcc_round_trip() {
        let mut sets = ParameterSets::empty(VideoCodec::H264);
        sets.add(&SPS);
        sets.add(&[0x68, 0xeb, 0xe3, 0xcb]);
        let record = sets.to_extradata().expect("built");
        assert_eq!(&record[..5], &[1, 100, 0, 31, 0xff]);
        assert_eq!(
            ParameterSets::from_extradata(VideoCodec::H264, &record).expect("read"),
            sets
        );
        assert_eq!(max_parameter_set_ids(&sets), Some((0, 0)));
    }

    #[test]
    fn every_cut_is_survived() {
        let mut sets = ParameterSets::empty(VideoCodec::H264);
        sets.add(&SPS);
        sets.add(&[0x68, 0xeb]);
        let record = sets.to_extradata().expect("built");
        for cut in 0..record.len() {
            drop(ParameterSets::from_extradata(
                VideoCodec::H264,
                &record[..cut],
            ));
            drop(ParameterSets::from_extradata(
                VideoCodec::H265,
                &record[..cut],
            ));
        }
        for cut in 0..SPS.len() {
            assert!(sps_info(VideoCodec::H265, &SPS[..cut]).is_none());
            assert!(cut > 20 || sps_info(VideoCodec::H264, &SPS[..cut]).is_none_or(|i| i.id == 0));
        }
    }
}
