//! What can go wrong, sorted by what the caller should do about it.

use std::io;

/// An error of this crate. [`MediaError::is_retryable`] says whether the same call may work later.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// Reading or writing failed. A full disk is `source.kind() == StorageFull`.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, on which file or URL.
        what: String,
        /// The operating system's reason.
        #[source]
        source: io::Error,
    },
    /// The data is broken: skip this packet or give up this file; trying again does not help.
    #[error("{what}: the data is damaged{}", with_detail(detail))]
    Damaged {
        /// What was being done.
        what: String,
        /// FFmpeg's last line about it; may be empty.
        detail: String,
    },
    /// This codec, container or pixel format cannot be handled.
    #[error("{what}: not supported{}", with_detail(detail))]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Why; may be empty.
        detail: String,
    },
    /// The named encoder is not part of the installed FFmpeg.
    #[error("no video encoder named '{name}' in the installed FFmpeg; for MP4 it has: {}", available.join(", "))]
    EncoderMissing {
        /// The name that was asked for.
        name: String,
        /// The video encoders that are there and make what MP4 can hold.
        available: Vec<String>,
    },
    /// An option is misspelt, out of range or unknown to this codec or container.
    #[error("{what}: option {option} is not accepted{}", with_detail(detail))]
    InvalidOption {
        /// What was being opened.
        what: String,
        /// The options, as `name=value`.
        option: String,
        /// FFmpeg's last line about it; may be empty.
        detail: String,
    },
    /// A timestamp goes backwards or cannot be stored; the sample was not written.
    #[error("{what}: timestamp {dts} does not follow {previous}")]
    Timestamps {
        /// What was being written.
        what: String,
        /// The offending decoding time in the track's ticks.
        dts: i64,
        /// The last decoding time that was written, in the track's ticks.
        previous: i64,
    },
    /// The server answered and refused (an HTTP or RTSP status such as 401, 403 or 404).
    #[error("{what}: the server refused with status {status}")]
    Refused {
        /// What was being opened, without credentials.
        what: String,
        /// The status class FFmpeg reports: 400, 401, 403, 404, 429, 4xx as 499, 5xx as 500.
        status: u16,
    },
    /// Nothing came within the time allowed.
    #[error("{what}: nothing came within {limit:?}")]
    TimedOut {
        /// What was being done.
        what: String,
        /// The limit that passed.
        limit: std::time::Duration,
    },
    /// The caller's [`StopHandle`](crate::reader::StopHandle) was used.
    #[error("{what}: stopped as asked")]
    Stopped {
        /// What was being done.
        what: String,
    },
    /// Anything else FFmpeg reports: a bug here or there.
    #[error("{what}: {reason}{}", with_detail(detail))]
    Codec {
        /// What was being done.
        what: String,
        /// FFmpeg's text for its error code.
        reason: String,
        /// FFmpeg's last line about it; may be empty.
        detail: String,
    },
}

fn with_detail(detail: &str) -> String {
    if detail.is_empty() {
        String::new()
    } else {
        format!(" ({detail})")
    }
}

impl MediaError {
    /// Whether the disk (or quota) is full: wait for space, the input is fine.
    pub fn is_storage_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// Whether the same call on the same input may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Io { .. } | Self::TimedOut { .. } | Self::Refused { .. } | Self::Stopped { .. }
        )
    }

    /// Whether the input itself is broken, so that no other attempt can succeed.
    pub fn is_damaged(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    pub(crate) fn io(what: impl Into<String>, source: io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }

    pub(crate) fn damaged(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Damaged {
            what: what.into(),
            detail: detail.into(),
        }
    }

    pub(crate) fn unsupported(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Unsupported {
            what: what.into(),
            detail: detail.into(),
        }
    }
}
