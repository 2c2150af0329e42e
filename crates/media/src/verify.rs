//! Does a file really play? Decodes all of it and says what came out.

use std::fs::File;
use std::path::Path;
use std::ptr;

use ffmpeg_next::ffi;

use crate::decode::{Decoder, DecoderOptions};
use crate::error::MediaError;
use crate::frame::Frame;
use crate::packet::Packet;
use crate::reader::{Reader, ReaderOptions};
use crate::track::{AudioTrack, VideoTrack};

/// How to verify.
#[derive(Clone, Copy, Debug)]
pub struct VerifyOptions {
    /// Decoder threads.
    pub threads: u32,
    /// Hash each frame's pixels (about 2 ms per 1080p frame).
    pub hashes: bool,
    /// Any breach of the standard is an error. Without it only what changes pictures is: for copied video of
    /// cameras that take liberties elsewhere.
    pub strict: bool,
    /// The pictures exactly as a player shows them. Without it the in-loop filter is left out, which reads
    /// all of the bitstream all the same and costs about a fifth less: enough to know that it decodes.
    pub exact: bool,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            hashes: false,
            strict: true,
            exact: true,
        }
    }
}

/// One decoded frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedFrame {
    /// Presentation time in the track's ticks.
    pub pts: Option<i64>,
    /// MD5 over the pixels, if asked for.
    pub hash: Option<[u8; 16]>,
}

/// What decoding a whole file gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified {
    /// The video track.
    pub track: VideoTrack,
    /// The first audio track, if any.
    pub audio: Option<AudioTrack>,
    /// All frames in presentation order.
    pub frames: Vec<VerifiedFrame>,
    /// Number of video packets that are to become frames.
    pub packets: u64,
    /// Number of packets of the first audio track.
    pub audio_packets: u64,
    /// Presentation times of the first audio track's packets.
    pub audio_pts: Vec<i64>,
    /// Everything that went wrong, in order; empty if the file is sound.
    pub errors: Vec<String>,
}

impl Verified {
    /// The frames' presentation times, in order. Frames without one are left out.
    pub fn pts(&self) -> Vec<i64> {
        self.frames.iter().filter_map(|frame| frame.pts).collect()
    }

    /// Whether nothing went wrong and every packet became a frame.
    pub fn is_sound(&self) -> bool {
        self.errors.is_empty() && self.frames.len() as u64 == self.packets && self.packets > 0
    }
}

/// Decodes a whole file: damage is noted in [`Verified::errors`], and decoding goes on.
///
/// # Errors
/// If it cannot be opened, has no video, or the disk fails.
pub fn verify(path: impl AsRef<Path>, options: &VerifyOptions) -> Result<Verified, MediaError> {
    run(
        Reader::open_path(path, &ReaderOptions::default())?,
        options,
        &mut |_, _| false,
        &mut |_| Ok(()),
    )
}

/// [`verify`] on an open file.
///
/// # Errors
/// As [`verify`].
pub fn verify_file(file: File, options: &VerifyOptions) -> Result<Verified, MediaError> {
    run(
        Reader::open_file(file, &ReaderOptions::default())?,
        options,
        &mut |_, _| false,
        &mut |_| Ok(()),
    )
}

/// [`verify_file`] that also shows every frame to `look`, whose error ends it.
///
/// # Errors
/// As [`verify`], and those of `look`.
pub fn verify_frames(
    file: File,
    options: &VerifyOptions,
    look: &mut dyn FnMut(&Frame) -> Result<(), MediaError>,
) -> Result<Verified, MediaError> {
    verify_unknown(file, options, &mut |_, _| false, look)
}

/// [`verify_frames`] that leaves out what is known already: `known` is asked about each video packet by its
/// number in the file, and says whether its picture need not be decoded. The next picture that is decoded
/// must not refer to one left out: the caller knows the groups. What is left out counts as a frame at the
/// packet's time.
///
/// # Errors
/// As [`verify`], and those of `look`.
pub fn verify_unknown(
    file: File,
    options: &VerifyOptions,
    known: &mut dyn FnMut(u64, &Packet) -> bool,
    look: &mut dyn FnMut(&Frame) -> Result<(), MediaError>,
) -> Result<Verified, MediaError> {
    run(
        Reader::open_file(file, &ReaderOptions::default())?,
        options,
        known,
        look,
    )
}

fn run(
    mut reader: Reader,
    options: &VerifyOptions,
    known: &mut dyn FnMut(u64, &Packet) -> bool,
    look: &mut dyn FnMut(&Frame) -> Result<(), MediaError>,
) -> Result<Verified, MediaError> {
    let (index, track) = reader.require_video()?;
    let track = track.clone();
    let audio = reader.audio().map(|(index, track)| (index, track.clone()));
    let settings = DecoderOptions {
        threads: options.threads,
        strict: options.strict,
        skip_loop_filter: !options.exact,
        ..DecoderOptions::default()
    };
    let mut decoder = Decoder::new(&track, &settings)?;
    let mut found = Verified {
        track,
        audio: audio.as_ref().map(|(_, track)| track.clone()),
        frames: Vec::new(),
        packets: 0,
        audio_packets: 0,
        audio_pts: Vec::new(),
        errors: Vec::new(),
    };
    loop {
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(error) if error.is_damaged() => {
                found.errors.push(error.to_string());
                continue;
            }
            Err(error) => return Err(error),
        };
        if packet.track() == index {
            if !packet.is_discarded() && known(found.packets, &packet) {
                found.packets += 1;
                found.frames.push(VerifiedFrame {
                    pts: packet.pts(),
                    hash: None,
                });
                continue;
            }
            // What the edit list hides is decoded, but FFmpeg gives out no frame for it.
            found.packets += u64::from(!packet.is_discarded());
            if packet.is_corrupt() {
                found
                    .errors
                    .push(format!("packet {} is cut short", found.packets));
            }
            let sent = decoder.send(&packet);
            take(&mut decoder, sent, options, &mut found, look)?;
        } else if audio
            .as_ref()
            .is_some_and(|(audio, _)| *audio == packet.track())
        {
            found.audio_packets += 1;
            found.audio_pts.extend(packet.pts());
        }
    }
    let sent = decoder.finish();
    take(&mut decoder, sent, options, &mut found, look)?;
    // Known ones are noted when they are read, decoded ones when they come out.
    found.frames.sort_by_key(|frame| frame.pts);
    Ok(found)
}

fn take(
    decoder: &mut Decoder,
    sent: Result<(), MediaError>,
    options: &VerifyOptions,
    found: &mut Verified,
    look: &mut dyn FnMut(&Frame) -> Result<(), MediaError>,
) -> Result<(), MediaError> {
    if let Err(error) = sent {
        found.errors.push(error.to_string());
    }
    loop {
        match decoder.receive() {
            Ok(Some(frame)) => {
                if frame.is_damaged() {
                    found
                        .errors
                        .push(format!("frame {} is damaged", found.frames.len()));
                }
                look(&frame)?;
                let hash = options.hashes.then(|| frame_hash(&frame));
                found.frames.push(VerifiedFrame {
                    pts: frame.pts(),
                    hash,
                });
            }
            Ok(None) => return Ok(()),
            Err(error) => found.errors.push(error.to_string()),
        }
    }
}

/// MD5 over a frame's pixels, without the padding between rows.
pub fn frame_hash(frame: &Frame) -> [u8; 16] {
    let mut hash = [0; 16];
    // SAFETY: `av_md5_alloc` gives a context (or null, checked) that av_free releases; each update reads
    // inside one row, and the result is 16 bytes.
    unsafe {
        let context = ffi::av_md5_alloc();
        assert!(!context.is_null(), "out of memory for a hash");
        ffi::av_md5_init(context);
        for plane in frame.planes() {
            for row in plane.data.chunks(plane.stride).take(plane.rows) {
                ffi::av_md5_update(context, row.as_ptr(), plane.row_bytes.min(row.len()));
            }
        }
        ffi::av_md5_final(context, hash.as_mut_ptr());
        let mut context = context;
        ffi::av_freep(ptr::from_mut(&mut context).cast());
    }
    hash
}
