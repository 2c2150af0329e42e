//! File names in the queue: stems, attempts, and the time in a ticket's name.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

const PREFIX: &str = "queue_";
const SUFFIX: &str = ".json";
const WHY: &str = ".why";
/// Leaves room in a 255-byte file name for the attempt, the suffix and a temp file's random part.
const MAX_STEM_BYTES: usize = 200;

/// The name of a ticket without directory, attempt and `.json`: `queue_20250718_033159_357896`.
/// Always safe as a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Stem(String);

/// A text that cannot be a stem.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a ticket name; expected queue_... without directory, at most 200 bytes")]
pub struct InvalidStem(String);

impl Stem {
    /// The stem as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The stem in the name of a ready ticket, or `None` if `file_name` is not one.
    pub(crate) fn of_ready(file_name: &str) -> Option<Self> {
        Self::text_of_ready(file_name)?.parse().ok()
    }

    /// As [`Stem::of_ready`], as text.
    pub(crate) fn text_of_ready(file_name: &str) -> Option<&str> {
        let stem = file_name.strip_suffix(SUFFIX)?;
        is_stem(stem).then_some(stem)
    }

    /// `<stem>.json`
    pub(crate) fn file_name(&self) -> String {
        format!("{}{SUFFIX}", self.0)
    }

    /// `<stem>.N`, for a second file of that name.
    pub(crate) fn numbered(&self, number: u32) -> Self {
        Self(format!("{}.{number}", self.0))
    }

    /// `<stem>.why.json`
    pub(crate) fn why_name(&self) -> String {
        format!("{}{WHY}{SUFFIX}", self.0)
    }
}

impl Borrow<str> for Stem {
    fn borrow(&self) -> &str {
        &self.0
    }
}

fn is_stem(text: &str) -> bool {
    text.starts_with(PREFIX)
        && !text.ends_with(WHY)
        && text.len() <= MAX_STEM_BYTES
        && !text.chars().any(|c| c == '/' || c.is_control())
}

impl FromStr for Stem {
    type Err = InvalidStem;

    fn from_str(text: &str) -> Result<Self, InvalidStem> {
        if is_stem(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidStem(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Stem {
    type Error = InvalidStem;

    fn try_from(text: String) -> Result<Self, InvalidStem> {
        text.parse()
    }
}

impl From<Stem> for String {
    fn from(stem: Stem) -> Self {
        stem.0
    }
}

impl fmt::Display for Stem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A ticket's stem and attempt, as in `<stem>.aN.json`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptName {
    /// Which ticket.
    pub stem: Stem,
    /// In `active/` the attempt under way, from 1; elsewhere the attempts used up, from 0.
    pub attempt: u32,
}

impl AttemptName {
    /// `<stem>.aN.json`
    pub fn file_name(&self) -> String {
        format!("{self}{SUFFIX}")
    }

    /// The reverse of [`AttemptName::file_name`]; `None` for any other name.
    pub fn parse(file_name: &str) -> Option<Self> {
        let (stem, attempt) = file_name.strip_suffix(SUFFIX)?.rsplit_once(".a")?;
        if attempt.is_empty() || !attempt.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let parsed = Self {
            stem: stem.parse().ok()?,
            attempt: attempt.parse().ok()?,
        };
        (parsed.file_name() == file_name).then_some(parsed)
    }
}

impl fmt::Display for AttemptName {
    /// `<stem>.aN`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.a{}", self.stem, self.attempt)
    }
}

/// The file name of a ticket written at `time`: `queue_YYYYmmdd_HHMMSS_ffffff.json`, in UTC, so
/// that no hour comes twice.
pub fn ticket_file_name(time: Timestamp) -> String {
    stem_at(time).file_name()
}

/// The stem of a ticket written at `time`, to the microsecond.
pub(crate) fn stem_at(time: Timestamp) -> Stem {
    let utc = time.to_zoned(TimeZone::UTC);
    let micros = utc.subsec_nanosecond() / 1000;
    Stem(format!(
        "{PREFIX}{}_{micros:06}",
        utc.strftime("%Y%m%d_%H%M%S")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticket_names_have_the_old_shape() {
        let time: Timestamp = "2025-07-18T03:31:59.357896Z".parse().unwrap();
        assert_eq!(ticket_file_name(time), "queue_20250718_033159_357896.json");
    }

    #[test]
    fn attempts_round_trip() {
        let name = AttemptName {
            stem: "queue_x.a1".parse().unwrap(),
            attempt: 12,
        };
        assert_eq!(name.file_name(), "queue_x.a1.a12.json");
        assert_eq!(AttemptName::parse("queue_x.a1.a12.json"), Some(name));
    }

    #[test]
    fn other_names_are_not_attempts() {
        for name in [
            "queue_x.json",
            "queue_x.a.json",
            "queue_x.a01.json",
            "queue_x.a+1.json",
            "queue_x.a99999999999.json",
            "queue_x.why.json",
            "notes.a1.json",
            "queue_x.a1",
        ] {
            assert_eq!(AttemptName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn unsafe_stems_are_refused() {
        for text in [
            "",
            "x",
            "queue_/../../etc/passwd",
            "queue_a\nb",
            "queue_x.why",
        ] {
            assert!(text.parse::<Stem>().is_err(), "{text:?}");
        }
        assert!(
            format!("queue_{}", "x".repeat(195))
                .parse::<Stem>()
                .is_err()
        );
    }
}
