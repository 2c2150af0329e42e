//! What is left of a recording that nobody finished: after a kill, a crash, a power cut.
//!
//! The tail behind the last whole fragment is cut off, and fragments that make no sense are left out
//! ([`crate::fragments`]); frames whose NAL units do not add up (zeros after a power cut) are left out up to the
//! next key frame; the rest becomes an ordinary MP4. The recording itself is not changed.

use std::path::Path;

use crate::boxes::fragment_behind;
use crate::decode::{Decoder, DecoderOptions};
use crate::error::MediaError;
use crate::finalise::{Finalised, create_or_remove, open, remove, remux};
use crate::fragments::usable::usable;
use crate::reader::{Reader, ReaderOptions};

/// What became of a recording.
#[derive(Clone, Debug, PartialEq)]
pub enum Salvaged {
    /// The new file holds what can be used.
    Saved(Box<SalvageReport>),
    /// It holds no whole fragment, or nothing but zeros: it can go.
    NothingInIt,
    /// There is something in it, and nothing can be made of it here: it must be kept.
    Unreadable {
        /// What is wrong with it.
        why: String,
    },
}

/// What could be saved.
#[derive(Clone, Debug, PartialEq)]
pub struct SalvageReport {
    /// What the new file holds.
    pub file: Finalised,
    /// Bytes of the recording that could be used.
    pub bytes_kept: u64,
    /// Bytes of damaged fragments and behind the last whole one.
    pub bytes_cut: u64,
    /// Whole fragments found; 0 for a recording that already had been made an ordinary MP4.
    pub fragments: u64,
}

/// Makes `dst` out of whatever of `part` can be used; otherwise there is no `dst`.
/// `dst` must not exist. Syncing and renaming it, and removing `part`, are the caller's.
///
/// # Errors
/// [`MediaError::Io`] only for the disk's own errors (then try again later), also if `dst` exists.
pub fn salvage(part: impl AsRef<Path>, dst: impl AsRef<Path>) -> Result<Salvaged, MediaError> {
    let (part, dst) = (part.as_ref(), dst.as_ref());
    let source = open(part)?;
    let failed = |error| MediaError::io(format!("read {}", part.display()), error);
    let usable = usable(&*source).map_err(failed)?;
    if !usable.has_index {
        // Where the index is damaged there may be fragments all the same.
        let fragment = fragment_behind(&*source, 0).map_err(failed)?;
        return Ok(match fragment {
            Some(_) => unreadable("its index (moov) is damaged"),
            None => Salvaged::NothingInIt,
        });
    }
    if !usable.has_data {
        return Ok(Salvaged::NothingInIt);
    }
    let made = create_or_remove(dst, |target| remux(source, Some(&usable), target));
    let file = match made {
        Ok(Some(file)) => file,
        Ok(None) => {
            remove(dst);
            return Ok(unreadable("no frame of it is whole"));
        }
        Err(error @ MediaError::Io { .. }) if !is_end_of_data(&error) => return Err(error),
        Err(error) => return Ok(unreadable(error)),
    };
    // Decoders give no picture before the first key frame, and a camera with intra refresh may send none. What already had
    // been made an ordinary MP4 was whole then.
    if usable.fragments > 0 && usable.may_have_keys() {
        let refused = match has_decodable_frame(dst) {
            Ok(true) => None,
            Ok(false) => Some("no frame of it can be decoded".to_owned()),
            Err(error @ MediaError::Io { .. }) if !is_end_of_data(&error) => {
                remove(dst);
                return Err(error);
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = refused {
            remove(dst);
            return Ok(unreadable(why));
        }
    }
    Ok(Salvaged::Saved(Box::new(SalvageReport {
        file,
        bytes_kept: usable.kept,
        bytes_cut: usable.lost,
        fragments: usable.fragments,
    })))
}

fn unreadable(why: impl ToString) -> Salvaged {
    Salvaged::Unreadable {
        why: why.to_string(),
    }
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
