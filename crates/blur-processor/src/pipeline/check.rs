//! The last look before publishing: the output is decoded and held against the original.
//!
//! Whatever was encoded is decoded again. Of a copied group the first picture is, which shows that it
//! finds its parameter sets; the others decoded when the original was read, so it is enough that the
//! file holds them byte for byte.

use std::fs::File;

use media::Packet;
use media::verify::{Verified, VerifyOptions, verify_unknown};

use super::copied::{Copied, Verdict};
use super::index::Index;
use super::job::{Failure, Phase, Progress};

/// What the output must be.
#[derive(Debug)]
pub(crate) struct Expected<'a> {
    pub(crate) index: &'a Index,
    /// Width and height in pixels.
    pub(crate) size: (u32, u32),
    /// Packets of sound written.
    pub(crate) sound_packets: u64,
    /// What was copied from the original.
    pub(crate) copied: &'a Copied,
    pub(crate) threads: u32,
}

/// Decodes the output strictly, except for what is a faithful copy.
///
/// # Errors
/// [`Failure::Attempt`] that says how it differs from what it must be.
pub(crate) fn check(
    output: &File,
    expected: &Expected<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), Failure> {
    let total = expected.index.times.len() as u64;
    let mut frames = 0;
    let mut wrong_size = None;
    let options = VerifyOptions {
        threads: expected.threads,
        exact: false,
        ..VerifyOptions::default()
    };
    let file = output
        .try_clone()
        .map_err(|error| Failure::attempt(error.to_string()))?;
    let mut altered = None;
    let mut known = |number, packet: &Packet| {
        let verdict = expected.copied.judge(number, packet.data());
        if verdict == Verdict::Altered {
            altered.get_or_insert(number);
        }
        verdict == Verdict::Faithful
    };
    let verified = verify_unknown(file, &options, &mut known, &mut |frame| {
        let size = (frame.width(), frame.height());
        if size != expected.size {
            wrong_size = Some(size);
        }
        frames += 1;
        progress(Progress {
            phase: Phase::Verifying,
            frames,
            total,
        });
        Ok(())
    })
    .map_err(|error| refused(format!("it cannot be read: {error}")))?;
    if let Some((width, height)) = wrong_size {
        return Err(refused(format!("its pictures are {width}x{height}")));
    }
    if let Some(number) = altered {
        return Err(refused(format!(
            "packet {number} is not the one that was copied"
        )));
    }
    compare(&verified, expected)
}

fn compare(verified: &Verified, expected: &Expected<'_>) -> Result<(), Failure> {
    if let Some(error) = verified.errors.first() {
        return Err(refused(format!("it does not decode cleanly: {error}")));
    }
    let (found, wanted) = (verified.frames.len(), expected.index.times.len());
    if found != wanted || verified.packets != wanted as u64 {
        return Err(refused(format!(
            "it has {found} frames instead of {wanted}"
        )));
    }
    let (theirs, ours) = (verified.track.time_base, expected.index.track.time_base);
    let tick = theirs.as_f64().max(ours.as_f64());
    for (number, (frame, &time)) in verified
        .frames
        .iter()
        .zip(&expected.index.times)
        .enumerate()
    {
        let at = frame.pts.map(|pts| theirs.seconds(pts));
        let wanted = ours.seconds(time);
        if at.is_none_or(|at| (at - wanted).abs() > tick * 1.01) {
            return Err(refused(format!(
                "frame {number} is at {at:?} s instead of {wanted} s"
            )));
        }
    }
    if verified.track.display_matrix != expected.index.track.display_matrix {
        return Err(refused("its rotation differs"));
    }
    if verified.audio_packets != expected.sound_packets {
        return Err(refused(format!(
            "it has {} packets of sound instead of {}",
            verified.audio_packets, expected.sound_packets
        )));
    }
    Ok(())
}

fn refused(how: impl std::fmt::Display) -> Failure {
    Failure::attempt(format!("the output is not what it must be: {how}"))
}
