//! The only place that speaks FFmpeg's C API for files and codecs: owners of its objects and the
//! translation of its numbers. Nothing here is public; nothing above it sees a raw pointer.

pub(crate) mod codec;
pub(crate) mod dict;
pub(crate) mod holes;
pub(crate) mod input;
pub(crate) mod io;
pub(crate) mod output;
pub(crate) mod params;
pub(crate) mod pixels;

use std::ffi::{CStr, CString, c_int};
use std::io::Error as IoError;

use ffmpeg_next::ffi;

use crate::error::MediaError;
use crate::track::Rational;

/// FFmpeg's "no timestamp".
pub(crate) const NO_TIME: i64 = i64::MIN;
/// Linux's EAGAIN as FFmpeg returns it: "not now".
pub(crate) const AGAIN: c_int = -11;
const ENOMEM: c_int = -12;
const EINVAL: c_int = -22;
const ENOSYS: c_int = -38;

/// `code` itself when it is a success, else the error it stands for.
pub(crate) fn check(code: c_int, what: impl FnOnce() -> String) -> Result<c_int, MediaError> {
    if code >= 0 {
        Ok(code)
    } else {
        Err(error(code, what()))
    }
}

/// The error that a negative FFmpeg return value stands for.
pub(crate) fn error(code: c_int, what: String) -> MediaError {
    let detail = crate::log::take_last_line();
    match code {
        ffi::AVERROR_INVALIDDATA => MediaError::Damaged { what, detail },
        ffi::AVERROR_DECODER_NOT_FOUND
        | ffi::AVERROR_DEMUXER_NOT_FOUND
        | ffi::AVERROR_MUXER_NOT_FOUND
        | ffi::AVERROR_PROTOCOL_NOT_FOUND
        | ffi::AVERROR_BSF_NOT_FOUND
        | ffi::AVERROR_PATCHWELCOME
        | ENOSYS => MediaError::Unsupported {
            what,
            detail: text_with(code, &detail),
        },
        ffi::AVERROR_OPTION_NOT_FOUND => MediaError::InvalidOption {
            what,
            option: "(unnamed)".into(),
            detail,
        },
        ffi::AVERROR_EXIT => MediaError::Stopped { what },
        ffi::AVERROR_EOF => MediaError::Io {
            what,
            source: IoError::from(std::io::ErrorKind::UnexpectedEof),
        },
        ENOMEM | EINVAL => MediaError::Codec {
            what,
            reason: text(code),
            detail,
        },
        _ => refused_or_io(code, what, detail),
    }
}

fn refused_or_io(code: c_int, what: String, detail: String) -> MediaError {
    let status = match code {
        ffi::AVERROR_HTTP_BAD_REQUEST => 400,
        ffi::AVERROR_HTTP_UNAUTHORIZED => 401,
        ffi::AVERROR_HTTP_FORBIDDEN => 403,
        ffi::AVERROR_HTTP_NOT_FOUND => 404,
        ffi::AVERROR_HTTP_TOO_MANY_REQUESTS => 429,
        ffi::AVERROR_HTTP_OTHER_4XX => 499,
        ffi::AVERROR_HTTP_SERVER_ERROR => 500,
        _ => 0,
    };
    if status != 0 {
        return MediaError::Refused { what, status };
    }
    if (-4095..0).contains(&code) {
        return MediaError::Io {
            what,
            source: IoError::from_raw_os_error(-code),
        };
    }
    MediaError::Codec {
        what,
        reason: text(code),
        detail,
    }
}

/// FFmpeg's text for an error code.
pub(crate) fn text(code: c_int) -> String {
    let mut buffer = [0; 128];
    // SAFETY: the buffer is writable for the length given and FFmpeg ends the text with a zero.
    unsafe {
        ffi::av_strerror(code, buffer.as_mut_ptr(), buffer.len());
        CStr::from_ptr(buffer.as_ptr())
            .to_string_lossy()
            .into_owned()
    }
}

fn text_with(code: c_int, detail: &str) -> String {
    if detail.is_empty() {
        text(code)
    } else {
        detail.to_owned()
    }
}

/// A C string; bytes after an inner zero are cut off, as C would.
pub(crate) fn c_string(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).expect("no zero before `end`")
}

/// Out of memory, which FFmpeg reports by returning no object.
pub(crate) fn no_memory(what: &str) -> MediaError {
    error(ENOMEM, what.to_owned())
}

impl From<ffi::AVRational> for Rational {
    fn from(value: ffi::AVRational) -> Self {
        Self::new(value.num, value.den)
    }
}

impl From<Rational> for ffi::AVRational {
    fn from(value: Rational) -> Self {
        Self {
            num: value.num,
            den: value.den,
        }
    }
}

/// `Some` unless it is FFmpeg's "no timestamp".
pub(crate) fn time(value: i64) -> Option<i64> {
    (value != NO_TIME).then_some(value)
}

/// `Some` if the fraction says something.
pub(crate) fn known(value: ffi::AVRational) -> Option<Rational> {
    let value = Rational::from(value);
    value.is_set().then_some(value)
}

/// `Some` if positive.
pub(crate) fn positive(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|v| *v > 0)
}

/// A size or count for C, saturating.
pub(crate) fn int(value: impl TryInto<c_int>) -> c_int {
    value.try_into().unwrap_or(c_int::MAX)
}

/// Has all threads of the process allocate from one heap instead of one each: see [`crate::share_one_heap`].
pub(crate) fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number of the allocator; allowed at any time, from any thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Has the C allocator give back what is freed: see [`crate::give_back_freed_memory`].
pub(crate) fn give_back_freed_memory(above: u32) {
    #[cfg(target_env = "gnu")]
    {
        let above = c_int::try_from(above).unwrap_or(c_int::MAX);
        // SAFETY: sets two numbers of the allocator; allowed at any time, from any thread.
        unsafe {
            libc::mallopt(libc::M_TRIM_THRESHOLD, above);
            // Larger pieces are mapped and unmapped each time.
            libc::mallopt(libc::M_MMAP_THRESHOLD, above);
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = above;
}
