//! An opened muxer on a file descriptor.

use std::ffi::{c_char, c_int};
use std::fs::File;
use std::ptr;
use std::sync::Arc;

use ffmpeg_next::ffi;

use super::dict::Dict;
use super::io::FileIo;
use super::params::{self, Params};
use super::{EINVAL, c_string, int, no_memory};
use crate::error::MediaError;
use crate::packet::Packet;
use crate::track::{Rational, Track, VideoCodec};

/// Whether files of that format can hold that codec, as far as the standards say.
pub(crate) fn holds(format: &str, codec: ffi::AVCodecID) -> bool {
    let format = c_string(format);
    // SAFETY: a zero-ended name and null; the format is null or a static description.
    unsafe {
        let format = ffi::av_guess_format(format.as_ptr(), ptr::null(), ptr::null());
        !format.is_null()
            && ffi::avformat_query_codec(format, codec, ffi::FF_COMPLIANCE_NORMAL) == 1
    }
}

/// How to open.
pub(crate) struct Setup<'a> {
    /// FFmpeg's name of the container.
    pub(crate) format: &'a str,
    pub(crate) tracks: &'a [Track],
    pub(crate) options: &'a [(&'a str, String)],
    /// Push every finished part of the file to the kernel at once.
    pub(crate) flush: bool,
    /// Shown in errors.
    pub(crate) name: String,
}

/// An opened `AVFormatContext` for writing, its header already written.
pub(crate) struct Output {
    context: *mut ffi::AVFormatContext,
    io: FileIo,
    /// `context.opaque` points to it: for reading back while the index is moved to the front.
    file: Option<Arc<File>>,
    time_bases: Vec<Rational>,
    name: String,
}

// SAFETY: everything the context points to belongs to this value; FFmpeg ties none of it to a thread.
unsafe impl Send for Output {}

impl Output {
    /// Writes into `file`, from offset `base` on.
    pub(crate) fn open(file: Arc<File>, base: u64, setup: &Setup<'_>) -> Result<Self, MediaError> {
        let io = FileIo::writer(Arc::clone(&file), base)?;
        Self::start(io, Some(file), setup)
    }

    /// Writes nothing but the index, which [`Self::finish_index`] gives.
    pub(crate) fn open_index(setup: &Setup<'_>) -> Result<Self, MediaError> {
        Self::start(FileIo::tail()?, None, setup)
    }

    /// What a file begins with before its first packet, and each track's ticks.
    pub(crate) fn header(setup: &Setup<'_>) -> Result<(Vec<u8>, Vec<Rational>), MediaError> {
        let mut io = FileIo::tail()?;
        io.keep_from(0);
        let mut output = Self::start(io, None, setup)?;
        output.flush()?;
        Ok((
            output.io.take_kept(),
            std::mem::take(&mut output.time_bases),
        ))
    }

    fn start(io: FileIo, file: Option<Arc<File>>, setup: &Setup<'_>) -> Result<Self, MediaError> {
        crate::init();
        let format = c_string(setup.format);
        let mut context = ptr::null_mut();
        // SAFETY: a zero-ended name; the result is ours.
        let code = unsafe {
            ffi::avformat_alloc_output_context2(
                &mut context,
                ptr::null(),
                format.as_ptr(),
                ptr::null(),
            )
        };
        super::check(code, || format!("open {}", setup.name))?;
        let mut output = Self {
            context,
            io,
            file,
            time_bases: Vec::new(),
            name: setup.name.clone(),
        };
        // SAFETY: a fresh context; what it points to lives in `output`, which frees the context first.
        unsafe {
            (*context).pb = output.io.as_ptr();
            (*context).flags |= ffi::AVFMT_FLAG_CUSTOM_IO | ffi::AVFMT_FLAG_BITEXACT;
            (*context).flush_packets = c_int::from(setup.flush);
            if let Some(file) = &output.file {
                (*context).opaque = Arc::as_ptr(file).cast_mut().cast();
            }
            (*context).io_open = Some(read_back);
            (*context).io_close2 = Some(close_read_back);
            (*context).avoid_negative_ts = 0;
            // Whole fragments and frames go to the kernel in one call, uncopied: halves the CPU of a recording.
            (*output.io.as_ptr()).direct = 1;
        }
        for track in setup.tracks {
            output.add(track, setup.format)?;
        }
        output.write_header(setup)?;
        Ok(output)
    }

    fn add(&mut self, track: &Track, format: &str) -> Result<(), MediaError> {
        let par = match track {
            Track::Video(video) => {
                let par = Params::video(video)?;
                // Safari and QuickTime play HEVC only under this tag; FFmpeg's default is hev1.
                if video.codec == VideoCodec::H265 && format != "matroska" {
                    par.set_tag(*b"hvc1");
                }
                par
            }
            Track::Audio(audio) => Params::audio(audio)?,
            Track::Other { .. } => {
                return Err(MediaError::unsupported(
                    format!("open {}", self.name),
                    "track of other kind",
                ));
            }
        };
        // SAFETY: a live context whose header is not written; copy makes its own copies.
        unsafe {
            let stream = ffi::avformat_new_stream(self.context, ptr::null());
            if stream.is_null() {
                return Err(no_memory("stream"));
            }
            let code = ffi::avcodec_parameters_copy((*stream).codecpar, par.as_ptr());
            super::check(code, || format!("open {}", self.name))?;
            (*stream).time_base = track.time_base().into();
            if let Track::Video(video) = track {
                params::write_geometry(stream, video)?;
            }
        }
        Ok(())
    }

    fn write_header(&mut self, setup: &Setup<'_>) -> Result<(), MediaError> {
        let mut dict = Dict::new();
        for (name, value) in setup.options {
            dict.set(name, value);
        }
        // SAFETY: a complete, not yet started context.
        let code = unsafe { ffi::avformat_write_header(self.context, dict.as_mut_ptr()) };
        self.check(code, "start")?;
        let unknown = dict.left_over();
        if !unknown.is_empty() {
            let (what, option) = (format!("start {}", self.name), unknown.join(", "));
            return Err(MediaError::InvalidOption {
                what,
                option,
                detail: String::new(),
            });
        }
        // SAFETY: the muxer has now fixed each stream's time base.
        self.time_bases = unsafe {
            (0..setup.tracks.len())
                .map(|i| (**(*self.context).streams.add(i)).time_base.into())
                .collect()
        };
        Ok(())
    }

    /// The muxer's own ticks of a track.
    pub(crate) fn time_base(&self, track: usize) -> Rational {
        self.time_bases[track]
    }

    /// Writes a packet whose times and track already are the muxer's; keeps no reference to borrowed
    /// data. `interleave` lets FFmpeg order packets of several tracks (it then copies borrowed data).
    pub(crate) fn write(
        &mut self,
        packet: &mut Packet,
        interleave: bool,
    ) -> Result<(), MediaError> {
        // SAFETY: a started context and a live packet; av_write_frame only reads it, the other takes its
        // content and leaves it empty.
        let code = unsafe {
            if interleave {
                ffi::av_interleaved_write_frame(self.context, packet.as_mut_ptr())
            } else {
                ffi::av_write_frame(self.context, packet.as_mut_ptr())
            }
        };
        self.check(code, "write")
    }

    /// Writes `data` without copying it first.
    pub(crate) fn write_borrowed(
        &mut self,
        data: &[u8],
        packet: &mut Packet,
    ) -> Result<(), MediaError> {
        let raw = packet.as_mut_ptr();
        // SAFETY: the packet has no buffer of its own, so nothing is leaked or freed; the muxer copies
        // what it keeps before the call returns, and the pointer is taken out again at once.
        unsafe {
            (*raw).data = data.as_ptr().cast_mut();
            (*raw).size = int(data.len());
        }
        let result = self.write(packet, false);
        // SAFETY: as above.
        unsafe {
            (*raw).data = ptr::null_mut();
            (*raw).size = 0;
        }
        result
    }

    /// Ends the fragment of a fragmented MP4.
    pub(crate) fn end_fragment(&mut self) -> Result<(), MediaError> {
        // SAFETY: a started context; without a packet the muxer writes what it holds back.
        let code = unsafe { ffi::av_write_frame(self.context, ptr::null_mut()) };
        self.check(code, "write")
    }

    /// Hands everything written so far to the kernel.
    pub(crate) fn flush(&mut self) -> Result<(), MediaError> {
        // SAFETY: our own I/O context.
        unsafe { ffi::avio_flush(self.io.as_ptr()) };
        self.check(0, "write")
    }

    /// The next packet lies at `offset`, which the MP4 muxer notes in the index.
    pub(crate) fn seek(&mut self, offset: u64) -> Result<(), MediaError> {
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        // SAFETY: our own I/O context; the muxer asks it for the position before each packet.
        let at = unsafe { ffi::avio_seek(self.io.as_ptr(), offset, 0) };
        self.check(c_int::from(at != offset) * EINVAL, "seek in")
    }

    /// Of [`Self::open_index`]: the index (`moov`) of packets that lie where [`Self::seek`] said.
    pub(crate) fn finish_index(mut self) -> Result<Vec<u8>, MediaError> {
        self.flush()?;
        // SAFETY: our own I/O context. (`avio_tell` is a macro.)
        let end = unsafe { ffi::avio_seek(self.io.as_ptr(), 0, 1) };
        self.io.keep_from(u64::try_from(end).unwrap_or(u64::MAX));
        self.write_trailer()?;
        Ok(self.io.take_kept())
    }

    /// Writes what is still held back and the index.
    pub(crate) fn finish(mut self) -> Result<(), MediaError> {
        self.write_trailer()
    }

    /// Called once, by what consumes the value.
    fn write_trailer(&mut self) -> Result<(), MediaError> {
        // SAFETY: a started context, finished once since the callers consume it.
        let code = unsafe { ffi::av_write_trailer(self.context) };
        self.check(code, "finish")?;
        // SAFETY: our own I/O context.
        unsafe { ffi::avio_flush(self.io.as_ptr()) };
        self.check(0, "finish")
    }

    fn check(&mut self, code: c_int, verb: &str) -> Result<(), MediaError> {
        let what = || format!("{verb} {}", self.name);
        match self.io.take_error() {
            Some(source) => Err(MediaError::io(what(), source)),
            None => super::check(code, what).map(drop),
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // SAFETY: ours; with custom I/O FFmpeg leaves `pb` alone, and `io` is freed afterwards.
        unsafe { ffi::avformat_free_context(self.context) };
    }
}

/// Lets the MP4 muxer read what it wrote, to move it behind the index; nothing else is opened.
unsafe extern "C" fn read_back(
    context: *mut ffi::AVFormatContext,
    opened: *mut *mut ffi::AVIOContext,
    _url: *const c_char,
    flags: c_int,
    _options: *mut *mut ffi::AVDictionary,
) -> c_int {
    if flags & ffi::AVIO_FLAG_WRITE != 0 {
        return EINVAL;
    }
    // SAFETY: `opaque` is null or the content of the Arc that the `Output` keeps; `opened` is FFmpeg's out pointer.
    unsafe {
        let file = (*context).opaque.cast::<File>().cast_const();
        if file.is_null() {
            return EINVAL;
        }
        Arc::increment_strong_count(file);
        match FileIo::reader(Arc::from_raw(file), None, Vec::new()) {
            Ok(io) => {
                *opened = io.into_raw();
                0
            }
            Err(_) => super::ENOMEM,
        }
    }
}

unsafe extern "C" fn close_read_back(
    _context: *mut ffi::AVFormatContext,
    opened: *mut ffi::AVIOContext,
) -> c_int {
    // SAFETY: came from `read_back`, and FFmpeg is done with it.
    drop(unsafe { FileIo::from_raw(opened) });
    0
}
