//! What of a recording can be used: every fragment that makes sense, also behind one that does not.
//!
//! FFmpeg's demuxer refuses a whole file for one damaged `moof`. So what is damaged is given another header for it, that of a
//! box that nobody reads ([`Veil`]); the file itself stays as it is.

use std::io;

use crate::boxes::{Bytes, OUTERMOST, TopBox, fragment_behind, header, is_zero_between};
use crate::fragments::{Stored, samples_of_fragment};

/// Eight bytes that are read instead of those at `at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Veil {
    pub(crate) at: u64,
    pub(crate) bytes: [u8; 8],
}

/// What can be used.
#[derive(Debug, Default)]
pub(crate) struct Usable {
    /// Everything before this offset can be read, once the veils are over it.
    pub(crate) end: u64,
    /// Whether there is an index (`moov`); without it nothing can be read.
    pub(crate) has_index: bool,
    /// Fragments that make sense.
    pub(crate) fragments: u64,
    /// Whether a fragment, or data that the index leads to, holds anything but zeros.
    pub(crate) has_data: bool,
    /// Over what is damaged.
    pub(crate) veils: Vec<Veil>,
    /// Decoding times of the first video frames behind it.
    pub(crate) behind_holes: Vec<i64>,
    /// The frames of the fragments.
    pub(crate) samples: Vec<Stored>,
    /// Bytes that are used.
    pub(crate) kept: u64,
    /// Bytes that are not, those behind `end` included.
    pub(crate) lost: u64,
}

impl Usable {
    /// Whether a video frame is marked as one that decoding can start with. Nothing is known of what has no fragments.
    pub(crate) fn may_have_keys(&self) -> bool {
        self.fragments == 0 || self.samples.iter().any(|it| it.track == 0 && it.key)
    }
}

/// Goes through a recording from box to box, and where they do not lead on looks for the next fragment.
///
/// # Errors
/// The operating system's; damage is not an error here.
pub(crate) fn usable(data: &(impl Bytes + ?Sized)) -> io::Result<Usable> {
    let length = data.length()?;
    let mut found = Usable::default();
    let mut at = 0;
    // Where the damage begins that was met last.
    let mut damaged: Option<u64> = None;
    while at < length {
        let next = header(data, at, length)?.filter(|next| OUTERMOST.contains(&next.kind));
        let is_index = |next: &TopBox| &next.kind == b"moof";
        let fragment = match next.filter(is_index) {
            Some(index) => fragment(data, &index, length, &found.samples)?,
            None => None,
        };
        match (next, fragment) {
            (Some(_), Some((samples, payload))) => {
                found.pass_damage(damaged.take(), at, &samples);
                found.has_data |= !is_zero_between(data, payload.start + 8, payload.end())?;
                found.samples.extend(samples);
                found.fragments += 1;
                found.end = payload.end();
                at = payload.end();
            }
            (Some(next), None) if !is_index(&next) => {
                found.pass(data, &next, length)?;
                at = next.end();
            }
            _ => {
                damaged.get_or_insert(at);
                match fragment_behind(data, at + 8)? {
                    Some(fragment) => at = fragment,
                    None => break,
                }
            }
        }
    }
    found.lost += length.saturating_sub(found.end);
    found.kept = length - found.lost;
    Ok(found)
}

impl Usable {
    /// Takes note of a box that is no part of a fragment.
    fn pass(
        &mut self,
        data: &(impl Bytes + ?Sized),
        found: &TopBox,
        length: u64,
    ) -> io::Result<()> {
        match &found.kind {
            b"moov" if found.end() <= length => {
                self.has_index = true;
                self.end = found.end();
            }
            // Of an ordinary MP4; the index leads to what is there of a shorter one, too.
            b"mdat" | b"mfra" if self.has_index && self.fragments == 0 => {
                let end = found.end().min(length);
                self.has_data |= !is_zero_between(data, found.start + 8, end)?;
                self.end = end;
            }
            _ => {}
        }
        Ok(())
    }

    /// Veils what lies between `from` and the fragment at `to`.
    fn pass_damage(&mut self, from: Option<u64>, to: u64, behind: &[Stored]) {
        let Some(from) = from else {
            return;
        };
        self.lost += to - from;
        let mut at = from;
        while at < to {
            // Whoever finds a fragment looks for it behind a header.
            let size = u32::try_from(to - at).unwrap_or(1 << 31);
            let mut bytes = *b"\0\0\0\0free";
            bytes[..4].copy_from_slice(&size.to_be_bytes());
            self.veils.push(Veil { at, bytes });
            at += u64::from(size);
        }
        let first = behind.iter().find(|sample| sample.track == 0);
        self.behind_holes.extend(first.map(|sample| sample.dts));
    }
}

/// The frames of the fragment that begins with `index`, with the box that holds them; `None` if it makes no sense behind
/// those `before` it.
fn fragment(
    data: &(impl Bytes + ?Sized),
    index: &TopBox,
    length: u64,
    before: &[Stored],
) -> io::Result<Option<(Vec<Stored>, TopBox)>> {
    let payload = header(data, index.end(), length)?;
    let Some(payload) = payload.filter(|it| &it.kind == b"mdat" && it.end() <= length) else {
        return Ok(None);
    };
    let samples = samples_of_fragment(data, index, &payload)?;
    let last = |track| before.iter().rev().find(|it| it.track == track);
    let follows = |sample: &Stored| last(sample.track).is_none_or(|it| it.dts < sample.dts);
    let samples = samples.filter(|samples| samples.iter().all(follows));
    Ok(samples.map(|samples| (samples, payload)))
}
