//! The published videos of a camera's day, and sending one, or a part of one.

use super::published::{self, Published};
use super::timeline::{asked, bounds};
use super::{Refusal, State, on_disk};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    RANGE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::SeekFrom;
use std::path::Path as FilePath;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

/// Videos in one answer.
const PAGE: usize = 100;
/// Bytes read from the disk at a time.
const CHUNK: u64 = 256 * 1024;

/// Which videos are asked for.
#[derive(Deserialize)]
pub(super) struct Wanted {
    source: Option<String>,
    date: Option<String>,
    /// How many of the newest are left out, for the next page.
    offset: Option<String>,
}

/// The answer: newest first.
#[derive(Serialize)]
pub(super) struct Videos {
    date: Date,
    /// Sources that have videos on that day.
    sources: BTreeSet<String>,
    videos: Vec<Video>,
    /// Whether originals are shown, too.
    originals: bool,
    /// More can be had with a larger `offset`.
    more: bool,
}

#[derive(Serialize)]
struct Video {
    source: String,
    file: String,
    start: Timestamp,
    /// Wall clock of the start.
    clock: String,
    seconds: f64,
    bytes: u64,
    heads: u64,
    /// Whether its original still exists and may be seen.
    original: bool,
}

pub(super) async fn list(
    state: State,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Videos>, Refusal> {
    let date = asked(wanted.date.as_deref())?;
    let source = wanted.source.filter(|source| !source.is_empty());
    let offset = match wanted.offset.as_deref() {
        None | Some("") => 0,
        Some(offset) => offset.parse().map_err(|_| {
            let message = format!("offset={offset} is no number of videos");
            Refusal(StatusCode::BAD_REQUEST, message)
        })?,
    };
    let (from, to) = bounds(date)?;
    let mut all = on_disk(state.0.clone(), move |shared| {
        let dir = shared.processed_dir();
        dir.map(|dir| shared.index().of_day(dir, date))
    })
    .await?
    .unwrap_or_default();
    all.retain(|video| (from..to).contains(&video.start));
    let sources = all.iter().map(|video| video.source.clone()).collect();
    all.retain(|video| source.as_ref().is_none_or(|source| *source == video.source));
    all.sort_by(|a, b| (b.start, &a.source, &a.file).cmp(&(a.start, &b.source, &b.file)));
    let more = all.len().saturating_sub(offset) > PAGE;
    let page = all.into_iter().skip(offset).take(PAGE);
    let page: Vec<Published> = page.collect();
    on_disk(state.0, move |shared| {
        let dirs = shared.original_dirs();
        let show = |video| shown(video, &dirs);
        Json(Videos {
            date,
            sources,
            videos: page.into_iter().map(show).collect(),
            originals: shared.shows_originals(),
            more,
        })
    })
    .await
}

fn shown(video: Published, original_dirs: &[&FilePath]) -> Video {
    let start = video.start.to_zoned(TimeZone::system());
    Video {
        original: video.original(original_dirs).is_some(),
        clock: start.strftime("%H:%M:%S").to_string(),
        source: video.source,
        file: video.file,
        start: video.start,
        seconds: video.seconds,
        bytes: video.bytes,
        heads: video.heads,
    }
}

/// Whether it is to be kept rather than played.
#[derive(Deserialize)]
pub(super) struct How {
    download: Option<String>,
}

pub(super) async fn send(
    state: State,
    Path((source, file)): Path<(String, String)>,
    Query(how): Query<How>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let name = file.clone();
    let opened = on_disk(state.0, move |shared| {
        published::open(shared.processed_dir()?, &source, &file)
    })
    .await?;
    let opened = opened.ok_or_else(Refusal::not_found)?;
    let mut response = answer(opened, &headers);
    let headers = response.headers_mut();
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("private, max-age=3600"),
    );
    if how.download.is_some() {
        // Only what needs no quoting; browsers take the name of the address else.
        let plain = name.replace(
            |c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c)),
            "_",
        );
        let disposition = format!("attachment; filename=\"{plain}\"");
        if let Ok(disposition) = disposition.try_into() {
            headers.insert(CONTENT_DISPOSITION, disposition);
        }
    }
    Ok(response)
}

/// A video, or the part of it that is asked for.
pub(super) fn answer((file, size): (File, u64), headers: &HeaderMap) -> Response {
    let range = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let part = match range.map_or(Part::Whole, |range| part(range, size)) {
        Part::Outside => {
            let range = [(CONTENT_RANGE, format!("bytes */{size}"))];
            return (StatusCode::RANGE_NOT_SATISFIABLE, range).into_response();
        }
        part => part,
    };
    let (status, from, length, content_range) = match part {
        Part::Bytes { from, to } => (
            StatusCode::PARTIAL_CONTENT,
            from,
            to - from + 1,
            Some([(CONTENT_RANGE, format!("bytes {from}-{to}/{size}"))]),
        ),
        _ => (StatusCode::OK, 0, size, None),
    };
    let headers = [
        (CONTENT_TYPE, "video/mp4".to_owned()),
        (ACCEPT_RANGES, "bytes".to_owned()),
        (CONTENT_LENGTH, length.to_string()),
    ];
    let body = Body::from_stream(bytes(file, from, length));
    (status, headers, content_range, body).into_response()
}

/// The bytes of a file from there on. A file that became shorter ends the connection.
fn bytes(
    file: File,
    from: u64,
    length: u64,
) -> impl futures::Stream<Item = std::io::Result<Vec<u8>>> {
    let file = tokio::fs::File::from_std(file);
    futures::stream::try_unfold(
        (file, Some(from), length),
        async |(mut file, seek, left)| {
            if let Some(from) = seek {
                file.seek(SeekFrom::Start(from)).await?;
            }
            if left == 0 {
                return Ok(None);
            }
            let mut chunk = Vec::new();
            let read = (&mut file)
                .take(left.min(CHUNK))
                .read_to_end(&mut chunk)
                .await? as u64;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Some((chunk, (file, None, left - read))))
        },
    )
}

/// What a `Range` header asks for.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// Everything, also for what is not understood (RFC 9110, section 14.2).
    Whole,
    /// Both inclusive.
    Bytes { from: u64, to: u64 },
    /// Nothing that is there.
    Outside,
}

/// One range of bytes; several at once are answered with everything.
fn part(range: &str, size: u64) -> Part {
    let Some((first, last)) = range
        .strip_prefix("bytes=")
        .filter(|ranges| !ranges.contains(','))
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Part::Whole;
    };
    let number = |text: &str| match text {
        "" => Some(None),
        text if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok().map(Some),
        _ => None,
    };
    let (from, to) = match (number(first), number(last)) {
        (Some(Some(from)), Some(Some(to))) if to < from => return Part::Whole,
        (Some(Some(from)), Some(to)) => (from, to.unwrap_or(u64::MAX)),
        (Some(None), Some(Some(0))) => return Part::Outside,
        (Some(None), Some(Some(last))) => (size.saturating_sub(last), u64::MAX),
        _ => return Part::Whole,
    };
    if from >= size {
        return Part::Outside;
    }
    Part::Bytes {
        from,
        to: to.min(size - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_understood() {
        let bytes = |from, to| Part::Bytes { from, to };
        for (range, expected) in [
            ("bytes=0-0", bytes(0, 0)),
            ("bytes=10-", bytes(10, 99)),
            ("bytes=10-19", bytes(10, 19)),
            ("bytes=10-1000", bytes(10, 99)),
            ("bytes=-10", bytes(90, 99)),
            ("bytes=-1000", bytes(0, 99)),
            ("bytes=100-", Part::Outside),
            ("bytes=-0", Part::Outside),
            ("bytes=20-10", Part::Whole),
            ("bytes=0-1,5-6", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-5", Part::Whole),
            ("lines=1-5", Part::Whole),
        ] {
            assert_eq!(part(range, 100), expected, "{range}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Outside);
        assert_eq!(part("bytes=-5", 0), Part::Outside);
    }
}
