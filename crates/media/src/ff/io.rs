//! FFmpeg's I/O on a descriptor that is already open.
//!
//! Reads and writes go to positions of our own (`pread`, `pwrite`), so a descriptor shared with another
//! process is never disturbed. The operating system's own error is kept: FFmpeg's number for it is lossy.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ffmpeg_next::ffi;

use super::no_memory;
use crate::error::MediaError;
use crate::fragments::usable::Veil;

const BUFFER: usize = 64 * 1024;
const EIO: c_int = -5;

/// An index of days takes a few megabytes.
const LARGEST_TAIL: usize = 1 << 26;

/// What is behind the I/O.
enum Medium {
    /// A file from this offset on.
    File { file: Arc<File>, base: u64 },
    /// Nothing; only what is written at `from` and behind it is kept.
    Tail { from: u64, kept: Vec<u8> },
}

impl Medium {
    fn read_at(&self, into: &mut [u8], position: u64) -> io::Result<usize> {
        match self {
            Self::File { file, base } => retry(|| file.read_at(into, base + position)),
            Self::Tail { .. } => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn write_at(&mut self, given: &[u8], position: u64) -> io::Result<()> {
        let (from, kept) = match self {
            Self::File { file, base } => return file.write_all_at(given, *base + position),
            Self::Tail { from, kept } => (*from, kept),
        };
        let Some(at) = position.checked_sub(from) else {
            return Ok(());
        };
        let at = usize::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = at + given.len();
        if end > LARGEST_TAIL {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        kept.resize(kept.len().max(end), 0);
        kept[at..end].copy_from_slice(given);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        match self {
            Self::File { file, base } => Ok(file.metadata()?.len().saturating_sub(*base)),
            Self::Tail { from, kept } => Ok(from.saturating_add(kept.len() as u64)),
        }
    }
}

struct State {
    medium: Medium,
    position: u64,
    /// Reading ends here even if the file goes on (a torn tail is cut off that way).
    limit: Option<u64>,
    /// What is read instead of what is there.
    veils: Vec<Veil>,
    error: Option<io::Error>,
}

impl State {
    /// Puts the veils over what was read from `position` on.
    fn veil(&self, read: &mut [u8], position: u64) {
        let end = position + read.len() as u64;
        for veil in &self.veils {
            let bytes = (veil.at..).zip(veil.bytes);
            for (at, byte) in bytes.filter(|(at, _)| (position..end).contains(at)) {
                read[(at - position) as usize] = byte;
            }
        }
    }
}

/// An `AVIOContext` over a file.
pub(crate) struct FileIo {
    context: *mut ffi::AVIOContext,
    state: *mut State,
}

// SAFETY: both objects belong to this value alone and have no tie to a thread.
unsafe impl Send for FileIo {}

impl FileIo {
    pub(crate) fn reader(
        file: Arc<File>,
        limit: Option<u64>,
        veils: Vec<Veil>,
    ) -> Result<Self, MediaError> {
        Self::new(Medium::File { file, base: 0 }, limit, veils, false)
    }

    /// FFmpeg's offset 0 is `base` in the file.
    pub(crate) fn writer(file: Arc<File>, base: u64) -> Result<Self, MediaError> {
        Self::new(Medium::File { file, base }, None, Vec::new(), true)
    }

    /// Throws away what is written, until [`Self::keep_from`] says otherwise.
    pub(crate) fn tail() -> Result<Self, MediaError> {
        let (from, kept) = (u64::MAX, Vec::new());
        Self::new(Medium::Tail { from, kept }, None, Vec::new(), true)
    }

    fn new(
        medium: Medium,
        limit: Option<u64>,
        veils: Vec<Veil>,
        write: bool,
    ) -> Result<Self, MediaError> {
        let state = Box::into_raw(Box::new(State {
            medium,
            position: 0,
            limit,
            veils,
            error: None,
        }));
        // SAFETY: the buffer is av_malloc'ed as required; the callbacks get `state`, which lives until
        // this value is dropped, after the context.
        unsafe {
            let buffer = ffi::av_malloc(BUFFER).cast::<u8>();
            let context = if buffer.is_null() {
                std::ptr::null_mut()
            } else {
                ffi::avio_alloc_context(
                    buffer,
                    BUFFER as c_int,
                    c_int::from(write),
                    state.cast(),
                    Some(read),
                    if write { Some(self::write) } else { None },
                    Some(seek),
                )
            };
            if context.is_null() {
                ffi::av_free(buffer.cast());
                drop(Box::from_raw(state));
                return Err(no_memory("file buffer"));
            }
            Ok(Self { context, state })
        }
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::AVIOContext {
        self.context
    }

    /// Gives the context to FFmpeg's keeping until [`Self::from_raw`] takes it back.
    pub(crate) fn into_raw(self) -> *mut ffi::AVIOContext {
        std::mem::ManuallyDrop::new(self).context
    }

    /// # Safety
    /// `context` came from [`Self::into_raw`] and is not used by anyone else any more.
    pub(crate) unsafe fn from_raw(context: *mut ffi::AVIOContext) -> Self {
        // SAFETY: the caller's promise; `new` stored the state as the context's opaque pointer.
        let state = unsafe { (*context).opaque.cast() };
        Self { context, state }
    }

    /// Of a [`Self::tail`]: keeps what is written at `offset` and behind it from now on.
    pub(crate) fn keep_from(&mut self, offset: u64) {
        // SAFETY: `&mut self`: no FFmpeg call is running that could use the state.
        if let Medium::Tail { from, .. } = unsafe { &mut (*self.state).medium } {
            *from = offset;
        }
    }

    /// What a [`Self::tail`] kept.
    pub(crate) fn take_kept(&mut self) -> Vec<u8> {
        // SAFETY: as above.
        match unsafe { &mut (*self.state).medium } {
            Medium::Tail { kept, .. } => std::mem::take(kept),
            Medium::File { .. } => Vec::new(),
        }
    }

    /// The operating system's error behind the last failed call, if it was one.
    pub(crate) fn take_error(&mut self) -> Option<io::Error> {
        // SAFETY: `&mut self`: no FFmpeg call is running that could use the state.
        unsafe { (*self.state).error.take() }
    }
}

impl Drop for FileIo {
    fn drop(&mut self) {
        // SAFETY: ours, freed once. FFmpeg may have replaced the buffer, so it is taken from the context.
        unsafe {
            ffi::av_freep((&raw mut (*self.context).buffer).cast());
            ffi::avio_context_free(&mut self.context);
            drop(Box::from_raw(self.state));
        }
    }
}

/// Runs `body` on the state; a panic must not cross into C.
///
/// # Safety
/// `opaque` is the pointer given to `avio_alloc_context`.
unsafe fn with_state<T>(
    opaque: *mut c_void,
    failed: T,
    body: impl FnOnce(&mut State) -> io::Result<T>,
) -> T {
    // SAFETY: the caller's promise; FFmpeg calls from one thread at a time.
    let state = unsafe { &mut *opaque.cast::<State>() };
    match catch_unwind(AssertUnwindSafe(|| body(state))) {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => {
            state.error = Some(error);
            failed
        }
        Err(_) => failed,
    }
}

unsafe extern "C" fn read(opaque: *mut c_void, data: *mut u8, size: c_int) -> c_int {
    // SAFETY: FFmpeg hands over a writable buffer of `size` bytes and our own opaque pointer.
    unsafe {
        let wanted = std::slice::from_raw_parts_mut(data, usize::try_from(size).unwrap_or(0));
        with_state(opaque, EIO, |state| {
            let left = state
                .limit
                .map_or(u64::MAX, |l| l.saturating_sub(state.position));
            let room = wanted
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = state.medium.read_at(&mut wanted[..room], state.position)?;
            state.veil(&mut wanted[..count], state.position);
            state.position += count as u64;
            Ok(if count == 0 {
                ffi::AVERROR_EOF
            } else {
                count as c_int
            })
        })
    }
}

unsafe extern "C" fn write(opaque: *mut c_void, data: *mut u8, size: c_int) -> c_int {
    // SAFETY: FFmpeg hands over `size` readable bytes and our own opaque pointer.
    unsafe {
        let given = std::slice::from_raw_parts(data, usize::try_from(size).unwrap_or(0));
        with_state(opaque, EIO, |state| {
            state.medium.write_at(given, state.position)?;
            state.position += given.len() as u64;
            Ok(size)
        })
    }
}

unsafe extern "C" fn seek(opaque: *mut c_void, offset: i64, whence: c_int) -> i64 {
    // SAFETY: our own opaque pointer.
    unsafe {
        with_state(opaque, i64::from(EIO), |state| {
            let length =
                || -> io::Result<i64> {
                    let length = state.medium.length()?;
                    Ok(i64::try_from(state.limit.map_or(length, |l| l.min(length)))
                        .unwrap_or(i64::MAX))
                };
            let to = match whence & !ffi::AVSEEK_FORCE {
                ffi::AVSEEK_SIZE => return length(),
                0 => Some(offset),
                1 => i64::try_from(state.position)
                    .unwrap_or(i64::MAX)
                    .checked_add(offset),
                2 => length()?.checked_add(offset),
                _ => None,
            };
            let to = to.and_then(|t| u64::try_from(t).ok());
            state.position = to.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
            Ok(state.position as i64)
        })
    }
}

fn retry(mut body: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match body() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
