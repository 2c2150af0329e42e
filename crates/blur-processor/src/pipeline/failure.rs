//! Errors of the crates below, by what is to become of the ticket.

use media::MediaError;

use super::job::Failure;

impl Failure {
    /// The video is no good.
    pub(crate) fn unusable(reason: impl Into<String>) -> Self {
        Self::Unusable {
            reason: reason.into(),
        }
    }

    /// It may go better next time.
    pub(crate) fn attempt(reason: impl Into<String>) -> Self {
        Self::Attempt {
            reason: reason.into(),
        }
    }

    /// The disk failed.
    pub(crate) fn unreadable(error: impl std::fmt::Display) -> Self {
        Self::Unreadable {
            reason: format!("the video cannot be read: {error}"),
        }
    }

    /// An error while reading or decoding the original: its own fault, unless the disk failed.
    pub(crate) fn of_input(error: MediaError) -> Self {
        match error.is_retryable() {
            true => Self::unreadable(error),
            false => Self::unusable(format!("the video cannot be used: {error}")),
        }
    }

    /// An error while changing, encoding or writing.
    pub(crate) fn of_output(error: MediaError) -> Self {
        match error.is_storage_full() {
            true => Self::NoSpace {
                reason: format!("no space for the output: {error}"),
            },
            false => Self::attempt(format!("the output cannot be made: {error}")),
        }
    }
}

impl From<plugin_host::PluginError> for Failure {
    fn from(error: plugin_host::PluginError) -> Self {
        Self::Plugin {
            reason: error.to_string(),
        }
    }
}
