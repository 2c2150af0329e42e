//! Logs: a plain file that turns over by size, and the console in colour.
//!
//! Writing is done by threads of their own behind bounded queues: a stalled terminal or a full disk
//! never holds up the work, lines are dropped instead. Every line passes [`crate::redact`].
//! `RUST_LOG` overrides the level.

use crate::place;
use crate::redact;
use crate::rotate::RotatingFile;
use anyhow::Context as _;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// A file is turned over before it grows beyond this.
const MAX_FILE_BYTES: u64 = 10 << 20;
/// Old files kept beside the current one.
const KEEP_FILES: u32 = 5;
/// Lines waiting to be written before some are dropped.
const QUEUE_LINES: usize = 8_192;
/// A longer line is cut.
const MAX_LINE_BYTES: usize = 16 << 10;

/// How lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is no log format; give text or json")),
        }
    }
}

/// Where logs go and what they hold.
#[derive(Debug, Clone)]
pub struct LogSetup {
    /// The file, such as `logs/system.log`; its directory is made. None: the console only.
    pub file: Option<PathBuf>,
    /// Filter when `RUST_LOG` is not set, such as `info` or `info,retina=warn`.
    pub level: String,
    /// Of file and console.
    pub format: Format,
}

/// Writes out what is queued when dropped; keep it until the end of `main`.
#[derive(Debug)]
pub struct Guard {
    _workers: Vec<WorkerGuard>,
}

/// Starts logging for the whole process, and logs panics from now on.
///
/// # Errors
/// When the file cannot be opened, the filter cannot be read, or logging was started before.
pub fn init(setup: &LogSetup) -> anyhow::Result<Guard> {
    let mut workers = Vec::new();
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = Vec::new();
    if let Some(path) = &setup.file {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|error| {
                anyhow::anyhow!(
                    "log directory {} cannot be made: {error}; {}",
                    dir.display(),
                    place::advice("log_dir", &error)
                )
            })?;
        }
        let file =
            RotatingFile::open(path.clone(), MAX_FILE_BYTES, KEEP_FILES).map_err(|error| {
                anyhow::anyhow!(
                    "log file {} cannot be opened: {error}; {}",
                    path.display(),
                    place::advice("log_dir", &error)
                )
            })?;
        let (writer, worker) = queued(file);
        workers.push(worker);
        layers.push(layer(setup.format, false, writer));
    }
    let (console, worker) = queued(io::stderr());
    workers.push(worker);
    layers.push(layer(setup.format, io::stderr().is_terminal(), console));
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => {
            EnvFilter::try_new(&text).with_context(|| format!("RUST_LOG is {text:?}"))?
        }
        _ => EnvFilter::try_new(&setup.level)?,
    };
    tracing_subscriber::registry()
        .with(layers)
        .with(filter)
        .try_init()?;
    log_panics();
    Ok(Guard { _workers: workers })
}

/// Checks `--log-level`. A word that is no level counts as the name of a module, and nothing at all were logged.
///
/// # Errors
/// What to give instead.
pub fn level(text: &str) -> Result<String, String> {
    let says_how_much = text.split(',').any(|part| {
        let level = part.rsplit('=').next().unwrap_or_default();
        !level.trim().is_empty() && level.trim().parse::<LevelFilter>().is_ok()
    });
    match EnvFilter::try_new(text) {
        Ok(_) if says_how_much => Ok(text.to_owned()),
        _ => Err("give error, warn, info, debug, trace or off".to_owned()),
    }
}

fn queued(target: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(QUEUE_LINES)
        .lossy(true)
        .finish(target)
}

fn layer(
    format: Format,
    colour: bool,
    writer: NonBlocking,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    let base = tracing_subscriber::fmt::layer()
        .with_writer(Filtered { inner: writer })
        .with_ansi(colour)
        .with_timer(LocalTime)
        .with_target(format == Format::Json)
        .with_span_events(FmtSpan::NONE);
    match format {
        Format::Text => base.boxed(),
        Format::Json => base.json().flatten_event(true).boxed(),
    }
}

fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(thread = thread.name().unwrap_or("?"), %backtrace, "{panic}");
    }));
}

/// Local time with offset, so that it can be compared with the clock on the wall and is still exact.
struct LocalTime;

impl FormatTime for LocalTime {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(
            w,
            "{}",
            jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S%.3f%:z")
        )
    }
}

/// Passes every line through the credential filter and cuts lines that are too long.
struct Filtered<W> {
    inner: W,
}

impl<'a> MakeWriter<'a> for Filtered<NonBlocking> {
    type Writer = Filtered<NonBlocking>;

    fn make_writer(&'a self) -> Self::Writer {
        Filtered {
            inner: self.inner.clone(),
        }
    }
}

impl<W: Write> Write for Filtered<W> {
    /// The formatter hands over one whole line per call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let clean = redact::text(&text);
        if clean.len() > MAX_LINE_BYTES {
            let cut = &clean[..clean.floor_char_boundary(MAX_LINE_BYTES)];
            self.inner
                .write_all(format!("{cut} ... (cut)\n").as_bytes())?;
        } else {
            self.inner.write_all(clean.as_bytes())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Lets one line a minute through and counts the others.
#[derive(Debug, Default)]
pub struct OncePerMinute {
    last: Option<Duration>,
    suppressed: u32,
}

impl OncePerMinute {
    /// `Some(lines kept back since the last one)` when a line may be written at the monotonic time `now`.
    pub fn allow(&mut self, now: Duration) -> Option<u32> {
        if self
            .last
            .is_some_and(|last| now.saturating_sub(last) < Duration::from_secs(60))
        {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(line: &str) -> String {
        let mut filter = Filtered { inner: Vec::new() };
        filter.write_all(line.as_bytes()).unwrap();
        String::from_utf8(filter.inner).unwrap()
    }

    #[test]
    fn no_line_shows_credentials() {
        assert_eq!(
            passed("open rtsp://admin:geheim@10.0.0.7/x: 401\n"),
            "open rtsp://***@10.0.0.7/x: 401\n"
        );
    }

    #[test]
    fn a_place_that_takes_no_logs_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let setup = LogSetup {
            file: Some(dir.path().join("file/x.log")),
            level: "info".to_owned(),
            format: Format::Text,
        };
        let told = init(&setup).unwrap_err().to_string();
        assert!(told.ends_with("; give another log_dir"), "{told}");
        let denied = place::advice("log_dir", &io::ErrorKind::PermissionDenied.into());
        assert!(denied.contains("chown"), "{denied}");
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,retina=error",
            "rtsp_recorder=debug",
        ] {
            assert_eq!(level(good), Ok(good.to_owned()));
        }
        for wrong in ["warning", "verbose", "", "a=b", "info=="] {
            assert!(level(wrong).unwrap_err().contains("warn"), "{wrong}");
        }
    }

    #[test]
    fn long_lines_are_cut() {
        let line = passed(&"ä".repeat(MAX_LINE_BYTES));
        assert!(line.len() < MAX_LINE_BYTES + 20 && line.ends_with("(cut)\n"));
    }

    #[test]
    fn what_repeats_is_one_line_a_minute() {
        let mut limit = OncePerMinute::default();
        let lines: Vec<u32> = (0..300)
            .filter_map(|second| limit.allow(Duration::from_secs(second)))
            .collect();
        assert_eq!(lines, [0, 59, 59, 59, 59]);
    }
}
