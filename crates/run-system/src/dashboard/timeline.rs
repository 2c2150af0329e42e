//! A day of every camera: what is published, what waits, what was held back, and where nothing was
//! recorded.

use super::published::Published;
use super::{Refusal, Shared, State, on_disk};
use crate::report::Report;
use axum::Json;
use axum::extract::Query;
use axum::http::StatusCode;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use ticket_queue::{Entry, Queue as _, Ticket};

/// Spans of one kind that are closer than this are one: segments do not meet to the millisecond.
const SEAM: SignedDuration = SignedDuration::from_secs(2);

/// A day, in the time zone of this machine.
#[derive(Serialize)]
pub(super) struct Day {
    date: Date,
    from: Timestamp,
    to: Timestamp,
    now: Timestamp,
    sources: Vec<SourceDay>,
}

#[derive(Serialize)]
struct SourceDay {
    name: String,
    spans: Vec<Span>,
}

/// A stretch of time.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Span {
    kind: Kind,
    /// Of the day, from 0 to 1.
    left: f64,
    right: f64,
    /// Wall clock.
    from: String,
    to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// Published.
    Blurred,
    /// Recorded; waits to be blurred.
    Recorded,
    /// Recorded; could not be blurred and is held back.
    Failed,
    /// Nothing was recorded.
    Gap,
}

#[derive(Debug, Clone, PartialEq)]
struct Stretch {
    kind: Kind,
    from: Timestamp,
    to: Timestamp,
    why: Option<String>,
}

/// Which day is asked for.
#[derive(Deserialize)]
pub(super) struct Wanted {
    date: Option<String>,
}

pub(super) async fn show(state: State, Query(wanted): Query<Wanted>) -> Result<Json<Day>, Refusal> {
    let date = asked(wanted.date.as_deref())?;
    on_disk(state.0, move |shared| day(shared, date, &Zoned::now()))
        .await?
        .map(Json)
}

/// The day that is asked for; today where `date` is missing or left empty.
pub(super) fn asked(date: Option<&str>) -> Result<Date, Refusal> {
    match date {
        None | Some("") => Ok(Zoned::now().date()),
        Some(date) => date.parse().map_err(|_| {
            let message = format!("date={date} is no day; give it as date=2026-12-31");
            Refusal(StatusCode::BAD_REQUEST, message)
        }),
    }
}

/// First and last moment of a day.
pub(super) fn bounds(date: Date) -> Result<(Timestamp, Timestamp), Refusal> {
    let start = |date: Date| {
        let zoned = date.to_zoned(TimeZone::system());
        zoned.map(|zoned| zoned.timestamp())
    };
    let bounds = start(date).and_then(|from| Ok((from, start(date.tomorrow()?)?)));
    bounds.map_err(|error| Refusal(StatusCode::BAD_REQUEST, error.to_string()))
}

fn day(shared: &Shared, date: Date, now: &Zoned) -> Result<Day, Refusal> {
    let (from, to) = bounds(date)?;
    let report = shared.live.report();
    let mut sources: BTreeMap<String, Vec<Stretch>> = BTreeMap::new();
    for source in &report.sources {
        sources.entry(source.name.clone()).or_default();
    }
    let published = shared
        .processed_dir()
        .map(|dir| shared.index().of_day(dir, date));
    let stretches = published
        .unwrap_or_default()
        .into_iter()
        .filter_map(of_video)
        .chain(tickets(shared))
        .chain(gaps(shared))
        .chain(happening(&report, now));
    for (source, stretch) in stretches {
        if stretch.from < to && stretch.to > from && stretch.from < stretch.to {
            sources.entry(source).or_default().push(stretch);
        }
    }
    let whole = (to.duration_since(from)).as_secs_f64();
    let share = |time: Timestamp| (time.duration_since(from).as_secs_f64() / whole).clamp(0.0, 1.0);
    let clock = |time: Timestamp| {
        let zoned = time.to_zoned(TimeZone::system());
        zoned.strftime("%H:%M:%S").to_string()
    };
    let span = |stretch: Stretch| Span {
        kind: stretch.kind,
        left: share(stretch.from),
        right: share(stretch.to),
        from: clock(stretch.from),
        to: clock(stretch.to),
        why: stretch.why,
    };
    let sources = sources.into_iter().map(|(name, stretches)| SourceDay {
        name,
        spans: joined(stretches).into_iter().map(span).collect(),
    });
    Ok(Day {
        date,
        from,
        to,
        now: now.timestamp(),
        sources: sources.collect(),
    })
}

/// What meets becomes one, kind by kind; in the order in which it is drawn, gaps on top.
fn joined(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_by_key(|stretch| (stretch.kind, stretch.from));
    let mut out: Vec<Stretch> = Vec::new();
    for stretch in stretches {
        match out.last_mut() {
            Some(last)
                if last.kind == stretch.kind
                    && last.why == stretch.why
                    && stretch.from.duration_since(last.to) <= SEAM =>
            {
                last.to = last.to.max(stretch.to);
            }
            _ => out.push(stretch),
        }
    }
    out
}

fn of_video(video: Published) -> Option<(String, Stretch)> {
    let stretch = stretch(Kind::Blurred, video.start, video.seconds)?;
    Some((video.source, stretch))
}

fn stretch(kind: Kind, from: Timestamp, seconds: f64) -> Option<Stretch> {
    let length = SignedDuration::try_from_secs_f64(seconds).ok()?;
    Some(Stretch {
        kind,
        from,
        to: from.checked_add(length).ok()?,
        why: None,
    })
}

fn tickets(shared: &Shared) -> Vec<(String, Stretch)> {
    let Ok(Some(queue)) = shared.queue() else {
        return Vec::new();
    };
    let entries = queue.list().unwrap_or_default();
    entries.iter().filter_map(of_ticket).collect()
}

/// None for a ticket that has moved on meanwhile, or tells no time.
fn of_ticket(entry: &Entry) -> Option<(String, Stretch)> {
    let ticket = Ticket::parse(&std::fs::read(&entry.path).ok()?).ok()?;
    let kind = match entry.state {
        ticket_queue::State::Failed | ticket_queue::State::Corrupt => Kind::Failed,
        _ => Kind::Recorded,
    };
    let mut stretch = stretch(kind, ticket.start()?.timestamp(), ticket.duration)?;
    let why = entry.why.as_ref();
    stretch.why = why.map(|why| daemon::redact::text(&why.reason).into_owned());
    Some((ticket.source_name, stretch))
}

/// A line in the recorder's record of gaps.
#[derive(Deserialize)]
struct GapLine {
    source: String,
    from: Timestamp,
    until: Timestamp,
    why: String,
}

fn gaps(shared: &Shared) -> Vec<(String, Stretch)> {
    let files = shared.gap_files().into_iter();
    files
        .filter_map(|path| std::fs::File::open(path).ok())
        .flat_map(|file| BufReader::new(file).lines().map_while(Result::ok))
        // A line that a crash cut short tells nothing.
        .filter_map(|line| serde_json::from_str::<GapLine>(&line).ok())
        .map(|gap| {
            let stretch = Stretch {
                kind: Kind::Gap,
                from: gap.from,
                to: gap.until,
                why: Some(daemon::redact::text(&gap.why).into_owned()),
            };
            (gap.source, stretch)
        })
        .collect()
}

/// What lasts until now: segments being written, and cameras that are down.
fn happening(report: &Report, now: &Zoned) -> Vec<(String, Stretch)> {
    let to = now.timestamp();
    let mut out = Vec::new();
    for source in &report.sources {
        let segment = source.current_segment.as_deref();
        let segment = segment.filter(|_| source.state == "recording");
        let stretches = [
            source.down_since.map(|from| Stretch {
                kind: Kind::Gap,
                from,
                to,
                why: source.down_reason.clone(),
            }),
            segment.and_then(time_in_name).map(|from| Stretch {
                kind: Kind::Recorded,
                from,
                to,
                why: None,
            }),
        ];
        let named = |stretch| (source.name.clone(), stretch);
        out.extend(stretches.into_iter().flatten().map(named));
    }
    out
}

/// `..._20250718_033159_seg0001.mp4` in the time zone of this machine.
fn time_in_name(name: &str) -> Option<Timestamp> {
    let parts: Vec<&str> = name.split(['_', '.']).collect();
    let read = |pair: &[&str]| {
        let text = format!("{}{}", pair[0], pair[1]);
        let plain = pair[0].len() == 8 && pair[1].len() == 6;
        let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
        let zoned = time.to_zoned(TimeZone::system()).ok()?;
        plain.then(|| zoned.timestamp())
    };
    parts.windows(2).rev().find_map(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(kind: Kind, from: i64, to: i64) -> Stretch {
        let time = |second| Timestamp::from_second(second).unwrap();
        Stretch {
            kind,
            from: time(from),
            to: time(to),
            why: None,
        }
    }

    #[test]
    fn what_meets_becomes_one() {
        let given = vec![
            at(Kind::Gap, 10, 20),
            at(Kind::Blurred, 31, 60),
            at(Kind::Blurred, 0, 30),
            at(Kind::Blurred, 70, 90),
            at(Kind::Blurred, 75, 80),
        ];
        let expected = [
            at(Kind::Blurred, 0, 60),
            at(Kind::Blurred, 70, 90),
            at(Kind::Gap, 10, 20),
        ];
        assert_eq!(joined(given), expected);
    }

    #[test]
    fn the_time_is_read_from_a_segments_name() {
        let time = time_in_name("yard_2_20250718_033159_seg0001.mp4").unwrap();
        let there = time.to_zoned(TimeZone::system());
        assert_eq!(
            there.strftime("%Y%m%d_%H%M%S").to_string(),
            "20250718_033159"
        );
        assert_eq!(time_in_name("yard.mp4"), None);
    }
}
