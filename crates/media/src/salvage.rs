//! What is left of a recording that nobody finished: after a kill, a crash, a power cut.
//!
//! The tail behind the last whole fragment is cut off by looking at the outermost boxes only
//! ([`crate::boxes`]); frames whose NAL units do not add up (zeros after a power cut) are left out up to the
//! next key frame; the rest becomes an ordinary MP4. The recording itself is not changed.

use std::path::Path;

use crate::boxes;
use crate::decode::{Decoder, DecoderOptions};
use crate::error::MediaError;
use crate::finalise::{Finalised, Torn, create_or_remove, open, remove, remux};
use crate::reader::{Reader, ReaderOptions};

/// What could be saved.
#[derive(Clone, Debug, PartialEq)]
pub struct SalvageReport {
    /// What the new file holds.
    pub file: Finalised,
    /// Bytes of the recording that could be used.
    pub bytes_kept: u64,
    /// Bytes behind the last whole fragment.
    pub bytes_cut: u64,
    /// Whole fragments found; 0 for a recording that already had been made an ordinary MP4.
    pub fragments: u64,
}

/// Makes `dst` out of whatever of `part` can be used; `None`, and no `dst`, if not one frame can be decoded.
/// `dst` must not exist. Syncing and renaming it, and removing `part`, are the caller's.
///
/// # Errors
/// [`MediaError::Io`] only for the disk's own errors (then try again later), also if `dst` exists.
pub fn salvage(
    part: impl AsRef<Path>,
    dst: impl AsRef<Path>,
) -> Result<Option<SalvageReport>, MediaError> {
    let (part, dst) = (part.as_ref(), dst.as_ref());
    let source = open(part)?;
    let whole = boxes::whole_part(&*source)
        .map_err(|error| MediaError::io(format!("read {}", part.display()), error))?;
    if !whole.has_index {
        return Ok(None);
    }
    let made = create_or_remove(dst, |target| {
        remux(source, Some(whole.end), target, Torn::IsLeftOut)
    });
    let file = match made {
        Ok(Some(file)) => file,
        Ok(None) => {
            remove(dst);
            return Ok(None);
        }
        Err(error @ MediaError::Io { .. }) if !is_end_of_data(&error) => return Err(error),
        Err(error) => {
            tracing::debug!(path = %part.display(), %error, "recording not salvaged");
            return Ok(None);
        }
    };
    if !has_decodable_frame(dst)? {
        remove(dst);
        return Ok(None);
    }
    Ok(Some(SalvageReport {
        file,
        bytes_kept: whole.end,
        bytes_cut: whole.torn,
        fragments: whole.fragments,
    }))
}

fn is_end_of_data(error: &MediaError) -> bool {
    matches!(error, MediaError::Io { source, .. } if source.kind() == std::io::ErrorKind::UnexpectedEof)
}

/// Whether decoding from the start gives a picture; stops at the first.
fn has_decodable_frame(path: &Path) -> Result<bool, MediaError> {
    let mut reader = Reader::open_path(path, &ReaderOptions::as_stored())?;
    let (index, track) = reader.require_video()?;
    let Ok(mut decoder) = Decoder::new(track, &DecoderOptions::default()) else {
        // A codec that FFmpeg cannot decode was still recorded in order.
        return Ok(true);
    };
    let mut frames = Vec::new();
    while let Ok(Some(packet)) = reader.next_packet() {
        if packet.track() == index
            && decoder.decode(Some(&packet), &mut frames).is_ok()
            && !frames.is_empty()
        {
            return Ok(true);
        }
    }
    Ok(decoder.decode(None, &mut frames).is_ok() && !frames.is_empty())
}
