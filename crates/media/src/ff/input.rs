//! An opened demuxer.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ffmpeg_next::ffi;

use super::dict::Dict;
use super::io::FileIo;
use super::{AGAIN, c_string, int, no_memory, params};
use crate::error::MediaError;
use crate::fragments::usable::Veil;
use crate::packet::Packet;
use crate::track::Track;

/// When a blocking call must end: asked by FFmpeg every 100 ms or so while it waits.
pub(crate) struct Interrupt {
    stop: Arc<AtomicBool>,
    born: Instant,
    /// Milliseconds after `born`; 0 means none.
    deadline: AtomicU64,
}

impl Interrupt {
    pub(crate) fn new(stop: Arc<AtomicBool>) -> Self {
        Self {
            stop,
            born: Instant::now(),
            deadline: AtomicU64::new(0),
        }
    }

    pub(crate) fn set_limit(&self, limit: Option<Duration>) {
        let at = limit.map_or(0, |l| (self.born.elapsed() + l).as_millis().max(1));
        self.deadline
            .store(u64::try_from(at).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn is_late(&self) -> bool {
        let deadline = self.deadline.load(Ordering::Relaxed);
        deadline != 0 && self.born.elapsed().as_millis() >= u128::from(deadline)
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

unsafe extern "C" fn interrupted(opaque: *mut c_void) -> c_int {
    // SAFETY: the pointer is the Arc's content that `Input` keeps alive longer than the context.
    let interrupt = unsafe { &*opaque.cast::<Interrupt>() };
    c_int::from(interrupt.is_stopped() || interrupt.is_late())
}

/// Where the bytes come from.
pub(crate) enum From {
    File {
        file: Arc<File>,
        limit: Option<u64>,
        veils: Vec<Veil>,
    },
    Url(String),
}

/// How to open.
pub(crate) struct Setup {
    pub(crate) from: From,
    /// Shown in errors; without credentials.
    pub(crate) name: String,
    pub(crate) options: Vec<(String, String)>,
    /// Let FFmpeg read ahead and decode a little to learn what the headers do not say.
    pub(crate) analyse: bool,
    /// Hand out times exactly as stored: no guessing, no parsing.
    pub(crate) as_stored: bool,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) open_limit: Option<Duration>,
    pub(crate) read_limit: Option<Duration>,
}

/// An opened `AVFormatContext` for reading.
pub(crate) struct Input {
    context: *mut ffi::AVFormatContext,
    io: Option<FileIo>,
    interrupt: Arc<Interrupt>,
    name: String,
    read_limit: Option<Duration>,
}

// SAFETY: everything the context points to belongs to this value; FFmpeg ties none of it to a thread.
unsafe impl Send for Input {}

impl Input {
    pub(crate) fn open(setup: Setup) -> Result<Self, MediaError> {
        crate::init();
        let interrupt = Arc::new(Interrupt::new(setup.stop));
        let io = match &setup.from {
            From::File { file, limit, veils } => {
                Some(FileIo::reader(Arc::clone(file), *limit, veils.clone())?)
            }
            From::Url(_) => None,
        };
        let mut input = Self {
            context: ptr::null_mut(),
            io,
            interrupt,
            name: setup.name,
            read_limit: setup.read_limit,
        };
        input.interrupt.set_limit(setup.open_limit);
        // SAFETY: the fields set are those FFmpeg wants set before opening; `io` and `interrupt` live in
        // `input`, which closes the context first.
        unsafe {
            let context = ffi::avformat_alloc_context();
            if context.is_null() {
                return Err(no_memory("input"));
            }
            (*context).interrupt_callback.callback = Some(interrupted);
            (*context).interrupt_callback.opaque = Arc::as_ptr(&input.interrupt).cast_mut().cast();
            if let Some(io) = &input.io {
                (*context).pb = io.as_ptr();
                (*context).flags |= ffi::AVFMT_FLAG_CUSTOM_IO;
            }
            if setup.as_stored {
                (*context).flags |= ffi::AVFMT_FLAG_NOFILLIN | ffi::AVFMT_FLAG_NOPARSE;
            }
            input.context = context;
            // Stored as our own files are: nothing else has to be asked whether it knows the file.
            let format = match setup.as_stored {
                true => ffi::av_find_input_format(c"mov".as_ptr()),
                false => ptr::null(),
            };
            input.open_context(&setup.from, format, &setup.options, setup.open_limit)?;
            if setup.analyse {
                let code = ffi::avformat_find_stream_info(input.context, ptr::null_mut());
                input.check(code, "analyse", setup.open_limit)?;
            }
        }
        Ok(input)
    }

    /// # Safety
    /// `self.context` is freshly allocated; `format` is null or one of FFmpeg's.
    unsafe fn open_context(
        &mut self,
        from: &From,
        format: *const ffi::AVInputFormat,
        options: &[(String, String)],
        limit: Option<Duration>,
    ) -> Result<(), MediaError> {
        let url = match from {
            From::Url(url) => c_string(url),
            From::File { .. } => c_string(""),
        };
        let mut dict = Dict::new();
        for (name, value) in options {
            dict.set(name, value);
        }
        // SAFETY: on failure FFmpeg frees the context and sets the pointer to null, which Drop respects.
        let code = unsafe {
            ffi::avformat_open_input(&mut self.context, url.as_ptr(), format, dict.as_mut_ptr())
        };
        self.check(code, "open", limit)?;
        let unknown = dict.left_over();
        if unknown.is_empty() {
            return Ok(());
        }
        let (what, option) = (format!("open {}", self.name), unknown.join(", "));
        Err(MediaError::InvalidOption {
            what,
            option,
            detail: String::new(),
        })
    }

    fn check(
        &mut self,
        code: c_int,
        verb: &str,
        limit: Option<Duration>,
    ) -> Result<c_int, MediaError> {
        let what = || format!("{verb} {}", self.name);
        if code >= 0 {
            return Ok(code);
        }
        let what = what();
        if let Some(source) = self.io.as_mut().and_then(FileIo::take_error) {
            return Err(MediaError::io(what, source));
        }
        if self.interrupt.is_stopped() {
            return Err(MediaError::Stopped { what });
        }
        // The protocol remembers an interruption: it may be told again after the limit was renewed.
        if self.interrupt.is_late() || code == ffi::AVERROR_EXIT {
            return Err(MediaError::TimedOut {
                what,
                limit: limit.unwrap_or_default(),
            });
        }
        Err(super::error(code, what))
    }

    pub(crate) fn tracks(&self) -> Vec<Track> {
        // SAFETY: an opened context holds nb_streams stream pointers.
        unsafe {
            let streams = std::slice::from_raw_parts((*self.context).streams, self.stream_count());
            streams
                .iter()
                .map(|stream| params::read_stream(*stream))
                .collect()
        }
    }

    fn stream_count(&self) -> usize {
        // SAFETY: an opened context.
        unsafe {
            if (*self.context).streams.is_null() {
                0
            } else {
                (*self.context).nb_streams as usize
            }
        }
    }

    pub(crate) fn format_name(&self) -> String {
        // SAFETY: an opened input has a format with a static name.
        unsafe { std::ffi::CStr::from_ptr((*(*self.context).iformat).name) }
            .to_string_lossy()
            .into_owned()
    }

    /// Declared or estimated duration of the whole file.
    pub(crate) fn duration(&self) -> Option<Duration> {
        // SAFETY: an opened context.
        let micros = unsafe { (*self.context).duration };
        u64::try_from(micros)
            .ok()
            .filter(|m| *m > 0)
            .map(Duration::from_micros)
    }

    /// The next packet of any track; `None` at the end.
    pub(crate) fn read(&mut self) -> Result<Option<Packet>, MediaError> {
        let mut packet = Packet::empty()?;
        self.interrupt.set_limit(self.read_limit);
        let code = loop {
            // SAFETY: an opened context and an empty packet.
            let code = unsafe { ffi::av_read_frame(self.context, packet.as_mut_ptr()) };
            if code != AGAIN || self.interrupt.is_stopped() || self.interrupt.is_late() {
                break code;
            }
            std::thread::yield_now();
        };
        if code == ffi::AVERROR_EOF {
            return self.end_or_error();
        }
        self.check(code, "read", self.read_limit)?;
        if packet.track() >= self.stream_count() {
            return Err(MediaError::damaged(
                format!("read {}", self.name),
                "packet of no stream",
            ));
        }
        // SAFETY: the index was just checked.
        let time_base = unsafe { (**(*self.context).streams.add(packet.track())).time_base };
        packet.set_time_base(time_base.into());
        Ok(Some(packet))
    }

    /// FFmpeg also says "end" when reading failed; the I/O context knows better.
    fn end_or_error(&mut self) -> Result<Option<Packet>, MediaError> {
        let what = format!("read {}", self.name);
        if let Some(source) = self.io.as_mut().and_then(FileIo::take_error) {
            return Err(MediaError::io(what, source));
        }
        // SAFETY: an opened context; `pb` is null for protocols that do their own I/O.
        let code = unsafe { (*self.context).pb.as_ref() }.map_or(0, |pb| pb.error);
        if code < 0 && code != ffi::AVERROR_EOF {
            self.check(code, "read", self.read_limit)?;
        }
        if self.interrupt.is_stopped() || self.interrupt.is_late() {
            self.check(ffi::AVERROR_EXIT, "read", self.read_limit)?;
        }
        Ok(None)
    }

    /// Goes to the last key frame at or before `ticks` of track `track`.
    pub(crate) fn seek(&mut self, track: usize, ticks: i64) -> Result<(), MediaError> {
        self.interrupt.set_limit(self.read_limit);
        // SAFETY: an opened context; FFmpeg checks the stream index.
        let code = unsafe {
            ffi::av_seek_frame(self.context, int(track), ticks, ffi::AVSEEK_FLAG_BACKWARD)
        };
        self.check(code, "seek in", self.read_limit).map(drop)
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // SAFETY: null or ours; with custom I/O FFmpeg leaves `pb` alone, and `io` is freed afterwards.
        unsafe { ffi::avformat_close_input(&mut self.context) };
    }
}
