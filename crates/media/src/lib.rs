//! Everything about video files and codecs, and the only crate that says `ffmpeg`.
//!
//! What it is for: demuxing ([`reader`]), muxing ([`segment`], [`mod@write`]), decoding ([`decode`]),
//! encoding ([`encode`]), scaling ([`scale`]), making an interrupted recording whole again
//! ([`mod@salvage`], [`mod@finalise`], [`in_place`]), hiding its last frames ([`shown`]), looking into files ([`mod@probe`], [`mod@verify`], [`chain`]) and H.264/H.265
//! byte helpers ([`h26x`]). It knows nothing of cameras, tickets, heads or settings.
//!
//! Invariants:
//! - FFmpeg's C API is touched only in the private module `ff` and in the modules of the types
//!   that own one FFmpeg object each ([`packet`], [`frame`], [`scale`], [`log`]); no raw pointer leaves them.
//! - A frame's pixels are reachable for writing only through [`frame::Frame::planes_mut`], which
//!   first makes the memory exclusive: the decoder may still predict from it otherwise.
//! - No error is swallowed: end of file, I/O error and damaged data are three different answers.
//! - Files are read and written through descriptors that the caller may have opened, at positions of
//!   our own (`pread`/`pwrite`); nothing else is ever opened on their behalf.
//! - Text that comes from FFmpeg passes a credential filter before anyone sees it.
#![expect(
    unsafe_code,
    reason = "FFmpeg's C API; confined to `ff` and to the types that own one FFmpeg object"
)]

pub mod audio;
pub mod boxes;
pub mod chain;
pub mod decode;
pub mod encode;
pub mod error;
mod ff;
pub mod finalise;
pub mod fragments;
pub mod frame;
pub mod h26x;
pub mod in_place;
pub mod log;
pub mod packet;
pub mod probe;
pub mod reader;
pub mod salvage;
pub mod scale;
pub mod segment;
pub mod shown;
pub mod synth;
pub mod track;
pub mod verify;
pub mod write;

pub use decode::{Decoder, DecoderOptions};
pub use encode::{Encoder, EncoderSettings, Rate};
pub use error::MediaError;
pub use finalise::finalise;
pub use frame::{FieldOrder, Frame};
pub use in_place::finalise_in_place;
pub use packet::Packet;
pub use probe::{probe, probe_index};
pub use reader::{Reader, ReaderOptions, StopHandle};
pub use salvage::{Salvaged, salvage};
pub use scale::{Quality, Scaler};
pub use segment::{Sample, SegmentWriter};
pub use shown::show_until;
pub use track::{
    AudioCodec, AudioTrack, ColourRange, ColourTags, PixelFormat, Rational, Track, VideoCodec,
    VideoTrack,
};
pub use verify::verify;
pub use write::{Container, FileWriter, WriterOptions};

/// For a process that holds many pictures in few threads, once at its start: a picture freed by one thread is
/// memory for another thread's next one. With a heap for each thread, as is usual, memory that nobody needs
/// stays in each of them: 10 MiB of a blurring process with one codec thread, 16 MiB with two.
pub fn share_one_heap() {
    ff::share_one_heap();
}

/// Bytes that may stay with each heap. Frames are smaller and not mapped anew each time.
const KEPT_WHEN_FREED: u32 = 2 << 20;

/// For a process that watches how much memory it holds, once at its start: what is freed goes back to the kernel but for
/// 2 MiB of each heap. glibc otherwise keeps more the larger the pieces are that were freed, up to 64 MiB of each heap.
pub fn give_back_freed_memory() {
    ff::give_back_freed_memory(KEPT_WHEN_FREED);
}

/// Prepares FFmpeg for this process: its log lines go to `tracing` (target `ffmpeg`), with the
/// credentials of URLs hidden and floods cut. Cheap and safe to call more than once, on any thread.
pub fn init() {
    log::install();
}
