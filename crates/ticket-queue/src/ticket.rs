//! The ticket: one finished segment that waits to be processed.

use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The largest ticket that is read, in bytes.
pub const MAX_TICKET_BYTES: usize = 64 * 1024;

/// The version written into new tickets. Tickets of the old system carry none.
pub const TICKET_VERSION: u32 = 1;

/// One segment to be processed. The first eight fields are those of the old system, with the same
/// names, types and meaning; the others are absent in its tickets. Unknown fields are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// The segment: relative to the working directory or to the raw directory, or absolute.
    /// Resolve it with [`crate::beneath::RawDir::open_ticket_file`] only.
    pub filepath: String,
    /// Where the video came from, as configured; never with credentials.
    #[serde(default)]
    pub source: String,
    /// The source's file-system safe name.
    #[serde(default)]
    pub source_name: String,
    /// The source's index in the recorder's settings.
    #[serde(default)]
    pub recorder_id: i64,
    /// Video frames in the segment.
    #[serde(default)]
    pub frame_count: u64,
    /// Wall-clock seconds from the segment's start to its end.
    #[serde(default)]
    pub duration: f64,
    /// When the segment was closed, ISO 8601; local time without offset in old tickets.
    #[serde(default)]
    pub timestamp: String,
    /// Bytes of the segment; 0 if the writer did not say.
    #[serde(default)]
    pub file_size: u64,

    /// [`TICKET_VERSION`]; absent in old tickets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The segment's identity, the key for duplicates; see [`Ticket::id`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// BLAKE3 of the segment, 64 lower-case hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// Wall-clock time of the first frame, RFC 3339 with offset; see [`Ticket::start`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<String>,
    /// Seconds by the video's own time stamps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_duration: Option<f64>,
    /// Video codec: `h264`, `hevc`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// Picture width in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Picture height in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Mean frames per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fps: Option<f64>,
    /// Why the segment ends where it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_reason: Option<CutReason>,
    /// Packets of the stream known to be missing from the segment or damaged in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets_lost: Option<u64>,
    /// Seconds not recorded between the end of the previous segment and this one's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_before: Option<f64>,

    /// Fields this version does not know, as they came.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Why a segment was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CutReason {
    /// The configured length was reached.
    Duration,
    /// The connection was lost and made again.
    Reconnect,
    /// Resolution or codec parameters changed.
    ParametersChanged,
    /// The recording schedule or a limit ended it.
    Schedule,
    /// The recorder was stopped.
    Shutdown,
    /// The recorder died; the segment was finished at the next start.
    Recovered,
    /// A reason of another version.
    #[serde(other)]
    Other,
}

/// Why bytes are not a ticket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// More than [`MAX_TICKET_BYTES`].
    #[error("ticket is larger than {MAX_TICKET_BYTES} bytes")]
    TooLarge,
    /// Not JSON, cut short, or a field of the wrong type.
    #[error("ticket is not valid: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Written by a newer program.
    #[error("ticket has version {0}, this program knows up to {TICKET_VERSION}")]
    Version(u32),
    /// A field has a value that makes no sense.
    #[error("ticket field {field} {problem}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Ticket {
    /// Reads a ticket from the content of its file.
    ///
    /// # Errors
    /// Anything that is not one complete, sensible ticket of at most [`MAX_TICKET_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TicketError> {
        if bytes.len() > MAX_TICKET_BYTES {
            return Err(TicketError::TooLarge);
        }
        let ticket: Self = serde_json::from_slice(bytes)?;
        ticket.check()?;
        Ok(ticket)
    }

    /// The ticket as the content of a file: indented JSON, old fields first.
    ///
    /// # Errors
    /// As [`Ticket::parse`], so that nothing is enqueued that could not be read back.
    pub fn to_json(&self) -> Result<Vec<u8>, TicketError> {
        self.check()?;
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        if bytes.len() > MAX_TICKET_BYTES {
            return Err(TicketError::TooLarge);
        }
        Ok(bytes)
    }

    /// What makes two tickets the same: `id`, or `filepath` where a ticket has none. Segment names
    /// are never reused, so a writer best takes the segment's path relative to the raw directory.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.filepath)
    }

    /// Wall-clock time of the first frame, with the offset of the place of recording. For old
    /// tickets: `timestamp` in this machine's time zone, less `duration`. `None` if neither says.
    pub fn start(&self) -> Option<Zoned> {
        if let Some(text) = &self.start_time {
            return zoned(text);
        }
        let end = zoned(&self.timestamp)?;
        let length = SignedDuration::try_from_secs_f64(self.duration).ok()?;
        end.checked_sub(length).ok()
    }

    fn check(&self) -> Result<(), TicketError> {
        if let Some(version) = self.version.filter(|v| *v > TICKET_VERSION) {
            return Err(TicketError::Version(version));
        }
        let rules = [
            (self.filepath.is_empty(), "filepath", "is empty"),
            (self.filepath.contains('\0'), "filepath", "contains a NUL"),
            (self.id.as_deref() == Some(""), "id", "is empty"),
            (
                !is_seconds(self.duration),
                "duration",
                "is not a number of seconds",
            ),
            (
                self.blake3.as_deref().is_some_and(|hash| !is_blake3(hash)),
                "blake3",
                "is not 64 lower-case hexadecimal digits",
            ),
            (
                self.start_time
                    .as_deref()
                    .is_some_and(|text| zoned(text).is_none()),
                "start_time",
                "is not an RFC 3339 time",
            ),
        ];
        match rules.into_iter().find(|(broken, _, _)| *broken) {
            Some((_, field, problem)) => Err(TicketError::Field { field, problem }),
            None => Ok(()),
        }
    }
}

fn is_seconds(value: f64) -> bool {
    value.is_finite() && value >= 0.0
}

fn is_blake3(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A time with its own offset, or local time where the text has none.
fn zoned(text: &str) -> Option<Zoned> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
        let zone = match pieces.to_numeric_offset() {
            Some(offset) => TimeZone::fixed(offset),
            None => TimeZone::UTC,
        };
        return Some(instant.to_zoned(zone));
    }
    text.parse::<DateTime>()
        .ok()?
        .to_zoned(TimeZone::system())
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The shape of a ticket of the old system, with values made up here.
    const OLD: &str = r#"{
  "filepath": "raw_videos/yard/yard_20250102_030405_loop000_seg0001.mp4",
  "source": "./raw_videos/yard.mp4",
  "source_name": "yard",
  "recorder_id": 3,
  "frame_count": 451,
  "duration": 30.062501907348633,
  "timestamp": "2025-01-02T03:04:35.123456",
  "file_size": 12345678
}"#;

    #[test]
    fn old_tickets_parse() {
        let ticket = Ticket::parse(OLD.as_bytes()).unwrap();
        assert_eq!(ticket.source_name, "yard");
        assert_eq!(ticket.recorder_id, 3);
        assert_eq!(ticket.frame_count, 451);
        assert_eq!(ticket.file_size, 12_345_678);
        assert_eq!(ticket.version, None);
        assert_eq!(
            ticket.id(),
            "raw_videos/yard/yard_20250102_030405_loop000_seg0001.mp4"
        );
        let start = ticket.start().unwrap();
        assert_eq!(
            start.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            "2025-01-02 03:04:05"
        );
    }

    #[test]
    fn written_tickets_come_back_with_unknown_fields() {
        let mut ticket = Ticket::parse(OLD.as_bytes()).unwrap();
        ticket.version = Some(TICKET_VERSION);
        ticket.id = Some("yard/1".to_owned());
        ticket.cut_reason = Some(CutReason::ParametersChanged);
        ticket.start_time = Some("2025-01-02T03:04:05.5+09:00".to_owned());
        ticket.extra.insert("weather".to_owned(), "rain".into());
        let bytes = ticket.to_json().unwrap();
        assert_eq!(Ticket::parse(&bytes).unwrap(), ticket);
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.contains(r#""cut_reason": "parameters_changed""#),
            "{text}"
        );
        let start = ticket.start().unwrap();
        assert_eq!(start.offset().seconds(), 9 * 3600);
        assert_eq!(start.hour(), 3);
    }

    #[test]
    fn what_is_no_ticket_is_refused() {
        for (text, expected) in [
            ("", "EOF"),
            (&OLD[..120], "EOF"),
            ("[]", "invalid type: sequence"),
            (r#"{"source": "x"}"#, "missing field `filepath`"),
            (r#"{"filepath": 7}"#, "expected a string"),
            (r#"{"filepath": ""}"#, "filepath is empty"),
            (r#"{"filepath": "a", "version": 99}"#, "version 99"),
            (r#"{"filepath": "a", "duration": -1}"#, "duration"),
            (r#"{"filepath": "a", "blake3": "XY"}"#, "blake3"),
            (r#"{"filepath": "a", "start_time": "noon"}"#, "start_time"),
            (r#"{"filepath": "a"} x"#, "trailing"),
        ] {
            let error = Ticket::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let large = format!(r#"{{"filepath": "a"}}{}"#, " ".repeat(MAX_TICKET_BYTES));
        assert!(matches!(
            Ticket::parse(large.as_bytes()),
            Err(TicketError::TooLarge)
        ));
    }

    #[test]
    fn deep_nesting_is_refused_without_a_crash() {
        let deep = format!(r#"{{"filepath": "a", "x": {}"#, "[".repeat(60_000));
        assert!(Ticket::parse(deep.as_bytes()).is_err());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            failure_persistence: None,
            ..Default::default()
        })]

        #[test]
        fn no_bytes_crash_the_parser(bytes: Vec<u8>) {
            Ticket::parse(&bytes).ok();
        }

        #[test]
        fn a_damaged_ticket_crashes_nothing(at in 0..OLD.len(), byte: u8) {
            let mut bytes = OLD.as_bytes().to_vec();
            bytes[at] = byte;
            if let Ok(ticket) = Ticket::parse(&bytes) {
                ticket.start();
                ticket.to_json().unwrap();
            }
        }

        #[test]
        fn whatever_is_written_is_read_back(
            filepath in "[^\0]{1,40}",
            timestamp: String,
            eighths: u32,
        ) {
            let duration = f64::from(eighths) / 8.0;
            let ticket = Ticket { filepath, timestamp, duration, ..Ticket::default() };
            ticket.start();
            assert_eq!(Ticket::parse(&ticket.to_json().unwrap()).unwrap(), ticket);
        }
    }
}
