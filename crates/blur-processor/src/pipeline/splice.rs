//! Where copied and re-encoded pictures may meet in one H.264 track.
//!
//! A group of pictures is copied from its IDR picture on as long as nothing in it was touched; from
//! the first touched picture on it is encoded anew, from a new IDR picture, up to the next IDR of the
//! original. So nothing is ever decoded twice, and no group need fit into memory. Cuts are only made
//! where everything before is shown before everything behind ("safe"); between two safe cuts lies a
//! block, one picture long without B-frames, a mini-GOP with them.
//!
//! The new pictures refer to parameter sets of their own under ids the original does not use, both
//! pairs stand in one `avcC`, and decoding times stay the original's. Played in FFmpeg, Chromium,
//! VLC and mpv. Pure: plans only.

use media::h26x::{ParameterSets, SpsInfo, max_parameter_set_ids, sps_info};
use media::{Frame, PixelFormat, VideoCodec};

use super::index::{Entry, Index};
use super::job::Recipe;

/// Longest block, pictures: they wait in memory for its end.
const LONGEST_BLOCK: usize = 24;
/// Highest id a sequence parameter set may have (H.264 7.4.2.1.1).
const LAST_SPS_ID: u32 = 31;
/// Side of a macroblock, pixels: so much less than that is coded too much where a picture's size is no multiple of it.
const MACROBLOCK: u32 = 16;
/// The one encoder whose parameter-set ids can be chosen.
const ENCODER: &str = "libx264";

/// A run of pictures that is copied or encoded as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// Its first picture, in decoding and in presentation order alike.
    pub(crate) start: usize,
    /// Behind its last.
    pub(crate) end: usize,
    /// It begins with an IDR picture.
    pub(crate) idr: bool,
}

/// How a video can be spliced.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) blocks: Vec<Block>,
    /// Of the original.
    pub(crate) sets: ParameterSets,
    /// For the encoder; not used by the original.
    pub(crate) free_id: u32,
}

impl Plan {
    /// A plan, or why everything must be encoded anew.
    pub(crate) fn make(
        index: &Index,
        recipe: &Recipe,
        first: &Frame,
        touches_all: bool,
    ) -> Result<Plan, &'static str> {
        let rules = [
            (touches_all, "every picture is changed"),
            (
                recipe.overlay_text.is_some(),
                "a caption is burned into every picture",
            ),
            (recipe.resize.is_some(), "pictures are resized"),
            (
                recipe.encoder != ENCODER,
                "only libx264 can be spliced with the original",
            ),
            (
                first.format() != PixelFormat::I420,
                "its pixel format is not 8 bit 4:2:0",
            ),
        ];
        if let Some((_, why)) = rules.into_iter().find(|(broken, _)| *broken) {
            return Err(why);
        }
        if let Some(why) = index.unfit_for_splicing {
            return Err(why);
        }
        let sets = ParameterSets::from_extradata(VideoCodec::H264, &index.track.extradata)
            .map_err(|_| "its parameter sets cannot be read")?;
        let all = |rule: fn(&SpsInfo) -> bool| {
            let keeps =
                |unit: &Vec<u8>| sps_info(VideoCodec::H264, unit).as_ref().is_some_and(rule);
            sets.sps.iter().all(keeps)
        };
        if !all(|sps| {
            sps.progressive && sps.chroma_format == 1 && sps.luma_bits == 8 && sps.chroma_bits == 8
        }) {
            return Err("it is interlaced or of an unusual profile");
        }
        // Nobody looked for heads there, and a copy would hold it still.
        if !all(|sps| sps.cropped.0 < MACROBLOCK && sps.cropped.1 < MACROBLOCK) {
            return Err("a part of its pictures is cropped away");
        }
        let (sps, pps) = max_parameter_set_ids(&sets).ok_or("its parameter sets cannot be read")?;
        let free_id = sps.max(pps) + 1;
        if free_id > LAST_SPS_ID {
            return Err("no parameter-set id is free");
        }
        Ok(Plan {
            blocks: blocks(&index.entries)?,
            sets,
            free_id,
        })
    }
}

/// Cuts a video, in decoding order, at all safe places.
fn blocks(entries: &[Entry]) -> Result<Vec<Block>, &'static str> {
    if entries.windows(2).any(|pair| pair[0].dts >= pair[1].dts) {
        return Err("its decoding times do not rise");
    }
    let mut earliest_behind = vec![i64::MAX; entries.len() + 1];
    for at in (0..entries.len()).rev() {
        earliest_behind[at] = earliest_behind[at + 1].min(entries[at].pts);
    }
    let mut blocks: Vec<Block> = Vec::new();
    let mut latest_before = i64::MIN;
    for (at, entry) in entries.iter().enumerate() {
        let safe = latest_before < earliest_behind[at];
        latest_before = latest_before.max(entry.pts);
        match blocks.last_mut() {
            Some(block) if !safe => {
                if entry.idr {
                    return Err("pictures before an IDR picture are shown after it");
                }
                block.end = at + 1;
                if block.end - block.start > LONGEST_BLOCK {
                    return Err("pictures are reordered over too long a stretch");
                }
            }
            None if !entry.idr => return Err("it does not begin with an IDR picture"),
            // Shown before the IDR picture it follows: the group would not be closed.
            _ if entry.idr && entry.pts != earliest_behind[at] => {
                return Err("a group of pictures is not closed");
            }
            _ => blocks.push(Block {
                start: at,
                end: at + 1,
                idr: entry.idr,
            }),
        }
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames in decoding order by presentation time; `I` marks an IDR.
    fn entries(spec: &str) -> Vec<Entry> {
        spec.split_whitespace()
            .zip(-10..)
            .map(|(word, dts)| Entry {
                pts: word.trim_start_matches('I').parse().unwrap(),
                dts,
                duration: 1,
                bytes: 0,
                key: word.starts_with('I'),
                idr: word.starts_with('I'),
            })
            .collect()
    }

    fn cut(spec: &str) -> Result<Vec<(usize, usize, bool)>, &'static str> {
        let blocks = blocks(&entries(spec))?;
        Ok(blocks
            .into_iter()
            .map(|block| (block.start, block.end, block.idr))
            .collect())
    }

    #[test]
    fn without_b_frames_every_picture_is_a_block() {
        let found = cut("I0 1 2 I3 4").unwrap();
        assert_eq!(
            found,
            [
                (0, 1, true),
                (1, 2, false),
                (2, 3, false),
                (3, 4, true),
                (4, 5, false)
            ]
        );
    }

    #[test]
    fn mini_gops_stay_together() {
        let found = cut("I0 3 1 2 6 4 5 I7 8").unwrap();
        assert_eq!(
            found,
            [
                (0, 1, true),
                (1, 4, false),
                (4, 7, false),
                (7, 8, true),
                (8, 9, false)
            ]
        );
    }

    #[test]
    fn open_groups_are_refused() {
        assert!(cut("I0 1 I4 2 3 5").is_err());
        assert!(cut("0 1 I2").is_err());
        assert!(cut("I0 5 I2 3 6").is_err());
    }
}
