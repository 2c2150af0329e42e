//! FFmpeg's log lines as `tracing` events (target `ffmpeg`).
//!
//! FFmpeg calls what it sees in a broken stream an error; to us that is a fact about the data, and the
//! error itself is reported where it is handled. So its errors become WARN, its warnings DEBUG. A damaged
//! stream can produce thousands of lines a second: above [`LINES_PER_WINDOW`] they are only counted.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::catch_unwind;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use ffmpeg_next::ffi;

/// Lines that get through in each [`WINDOW`].
pub const LINES_PER_WINDOW: u32 = 20;
/// How long the count of lines runs.
pub const WINDOW: Duration = Duration::from_secs(10);

thread_local! {
    static LAST_LINE: RefCell<String> = const { RefCell::new(String::new()) };
    static LOSSES: RefCell<Losses> = const { RefCell::new(Losses::new()) };
}

/// Packets that FFmpeg's demuxers said are missing or damaged, by the stream, where they say which.
pub(crate) type Losses = BTreeMap<Option<usize>, u32>;

struct Flood {
    since: Option<Instant>,
    lines: u32,
    held_back: u32,
}

static FLOOD: Mutex<Flood> = Mutex::new(Flood {
    since: None,
    lines: 0,
    held_back: 0,
});

/// Sends FFmpeg's log to `tracing`. Called by [`crate::init`] and by everything that opens something.
pub(crate) fn install() {
    static ONCE: Once = Once::new();
    // SAFETY: the callback has the signature FFmpeg wants and lives forever.
    ONCE.call_once(|| unsafe {
        ffi::av_log_set_level(ffi::AV_LOG_WARNING);
        ffi::av_log_set_callback(Some(on_line));
    });
}

/// FFmpeg's last error line on this thread, if any since the last call: the reason behind a number.
pub(crate) fn take_last_line() -> String {
    LAST_LINE.with(|line| line.take())
}

/// What FFmpeg's demuxers said is missing or damaged, on this thread since the last call. They say it nowhere else: the mark
/// of a damaged packet does not survive their parsers, and of a lost one there never is a mark.
pub(crate) fn take_losses() -> Losses {
    LOSSES.with(RefCell::take)
}

#[cfg(target_arch = "x86_64")]
type Arguments = *mut ffi::__va_list_tag;
#[cfg(not(target_arch = "x86_64"))]
type Arguments = ffi::va_list;

unsafe extern "C" fn on_line(
    object: *mut c_void,
    level: c_int,
    format: *const c_char,
    arguments: Arguments,
) {
    if level > ffi::AV_LOG_WARNING {
        return;
    }
    let mut buffer = [0 as c_char; 1024];
    let mut prefix: c_int = 1;
    // SAFETY: all pointers but the buffer are FFmpeg's own, passed through; the result ends with a zero.
    let line = unsafe {
        let size = buffer.len() as c_int;
        ffi::av_log_format_line2(
            object,
            level,
            format,
            arguments,
            buffer.as_mut_ptr(),
            size,
            &mut prefix,
        );
        CStr::from_ptr(buffer.as_ptr())
    };
    // A panic (in a subscriber, say) must not cross into C.
    drop(catch_unwind(|| handle(level, &line.to_string_lossy())));
}

fn handle(level: c_int, line: &str) {
    let line = hide_credentials(without_address(line.trim()).trim());
    if line.is_empty() {
        return;
    }
    if level <= ffi::AV_LOG_ERROR {
        LAST_LINE.with(|last| last.borrow_mut().clone_from(&line));
    }
    if let Some((stream, packets)) = loss_of(&line) {
        LOSSES.with(|losses| {
            let mut losses = losses.borrow_mut();
            let told = losses.entry(stream).or_default();
            *told = told.saturating_add(packets);
        });
    }
    if let Some(held_back) = pass(Instant::now()) {
        if held_back > 0 {
            tracing::warn!(target: "ffmpeg", held_back, "more lines of ffmpeg were not shown");
        }
        if level <= ffi::AV_LOG_ERROR {
            tracing::warn!(target: "ffmpeg", "{line}");
        } else {
            tracing::debug!(target: "ffmpeg", "{line}");
        }
    }
}

/// The stream and the number of packets, if the line is one that tells of lost or damaged ones (libavformat's `rtpdec.c`
/// and `demux.c`).
fn loss_of(line: &str) -> Option<(Option<usize>, u32)> {
    let number = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit());
        text[..end.unwrap_or(text.len())].parse().ok()
    };
    if let Some((_, rest)) = line.split_once("RTP: missed ") {
        return number(rest).map(|packets| (None, packets));
    }
    let (_, rest) = line.split_once("Packet corrupt (stream = ")?;
    let stream = number(rest).and_then(|stream| usize::try_from(stream).ok());
    Some((stream, 1))
}

/// `None`: hold the line back. `Some(n)`: show it, and say that `n` lines were held back before it.
fn pass(now: Instant) -> Option<u32> {
    let mut flood = FLOOD.lock().unwrap_or_else(PoisonError::into_inner);
    let fresh = flood
        .since
        .is_none_or(|since| now.duration_since(since) >= WINDOW);
    if fresh {
        let held_back = flood.held_back;
        *flood = Flood {
            since: Some(now),
            lines: 1,
            held_back: 0,
        };
        return Some(held_back);
    }
    if flood.lines < LINES_PER_WINDOW {
        flood.lines += 1;
        return Some(0);
    }
    flood.held_back += 1;
    None
}

/// `[h264 @ 0x55d0c8a0] text` as `[h264] text`: addresses make equal lines look different.
fn without_address(line: &str) -> String {
    match (line.find(" @ 0x"), line.find(']')) {
        (Some(at), Some(end)) if at < end => format!("{}{}", &line[..at], &line[end..]),
        _ => line.to_owned(),
    }
}

/// Replaces `user:password@` after every `://` by `***@`.
pub fn hide_credentials(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("://") {
        let (before, after) = rest.split_at(start + 3);
        clean.push_str(before);
        // A password may itself hold '@', '/' or '?' unescaped: everything up to the last '@' of the word.
        let word = after
            .find(|c: char| c.is_whitespace() || c == '\'' || c == '"')
            .unwrap_or(after.len());
        match after[..word].rfind('@') {
            Some(at) => {
                clean.push_str("***");
                rest = &after[at..];
            }
            None => rest = after,
        }
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_never_show() {
        let check = |text: &str, expected: &str| assert_eq!(hide_credentials(text), expected);
        check(
            "rtsp://admin:p@ss/w?rd@10.0.0.1/ch1: refused",
            "rtsp://***@10.0.0.1/ch1: refused",
        );
        check(
            "open 'http://u:p@h/' and rtsps://u@h",
            "open 'http://***@h/' and rtsps://***@h",
        );
        check("no url at all, a@b", "no url at all, a@b");
        check("https://host/path", "https://host/path");
        check("tcp://", "tcp://");
    }

    #[test]
    fn losses_are_understood() {
        let missed = "[rtsp] RTP: missed 12 packets";
        assert_eq!(loss_of(missed), Some((None, 12)));
        let corrupt = "[mpegts] Packet corrupt (stream = 1, dts = 387000)";
        assert_eq!(loss_of(corrupt), Some((Some(1), 1)));
        assert_eq!(loss_of("[rtsp] RTP: missed many packets"), None);
        assert_eq!(loss_of("[h264] no frame!"), None);
    }

    #[test]
    fn addresses_are_cut() {
        assert_eq!(without_address("[h264 @ 0x55d0] bad"), "[h264] bad");
        assert_eq!(without_address("plain @ 0x line"), "plain @ 0x line");
    }
}
