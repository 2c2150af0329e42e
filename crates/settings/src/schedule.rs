//! When to record, in local time, right on the days the clocks change.

use crate::json::{Node, Value};
use jiff::civil::{Date, Time};
use jiff::tz::{Disambiguation, TimeZone};
use jiff::{Span, Timestamp};

/// A daily window on certain weekdays.
///
/// The window is a span between two instants, so the clock change never opens or closes it twice. A
/// start or end that happens twice or never on such a day is taken so that more is recorded: the
/// earlier start, the later end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Days on which a window starts; index 0 is Monday.
    pub weekdays: [bool; 7],
    /// Start, local time.
    pub start: Time,
    /// End, local time; on the next day when it is not after the start. Equal to the start: 24 hours.
    pub end: Time,
}

impl Schedule {
    /// Whether recording is wanted at that moment.
    pub fn is_open(&self, at: Timestamp, zone: &TimeZone) -> bool {
        self.windows(at, zone)
            .any(|(start, end)| start <= at && at < end)
    }

    /// The next moment at which [`Self::is_open`] changes; none when it never does.
    pub fn next_change(&self, at: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let open = self.is_open(at, zone);
        let mut edges: Vec<Timestamp> = self
            .windows(at, zone)
            .flat_map(|(start, end)| [start, end])
            .filter(|edge| *edge > at)
            .collect();
        edges.sort();
        edges
            .into_iter()
            .find(|edge| self.is_open(*edge, zone) != open)
    }

    /// The windows from the day before to nine days after, which covers a week in any case.
    fn windows(
        &self,
        at: Timestamp,
        zone: &TimeZone,
    ) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let today = at.to_zoned(zone.clone()).date();
        (-1..=9).filter_map(move |days| {
            let date = today.checked_add(Span::new().days(days)).ok()?;
            let weekday = usize::try_from(date.weekday().to_monday_zero_offset()).ok()?;
            self.weekdays[weekday]
                .then(|| self.window(date, zone))
                .flatten()
        })
    }

    fn window(&self, date: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
        let end_date = if self.end > self.start {
            date
        } else {
            date.tomorrow().ok()?
        };
        let instant = |date: Date, time: Time, which: Disambiguation| {
            zone.to_ambiguous_zoned(date.to_datetime(time))
                .disambiguate(which)
                .ok()
                .map(|z| z.timestamp())
        };
        let start = instant(date, self.start, Disambiguation::Earlier)?;
        let end = instant(end_date, self.end, Disambiguation::Later)?;
        Some((start, end))
    }

    /// Reads `{"weekdays": [0, 1], "start_time": "09:00", "end_time": "18:00"}`. An error is the line,
    /// the key within the schedule and the message.
    pub(crate) fn read(node: &Node) -> Result<Self, (u32, &'static str, String)> {
        let Value::Object(members) = &node.value else {
            return Err((
                node.line,
                "",
                format!(
                    "{} is not a schedule; give an object with weekdays, start_time and end_time, or null",
                    node.shown()
                ),
            ));
        };
        let mut schedule = Self {
            weekdays: [true; 7],
            start: Time::midnight(),
            end: Time::midnight(),
        };
        let mut end_of_day = true;
        for member in members {
            let (line, value) = (member.node.line, &member.node);
            match member.key.as_str() {
                "weekdays" => {
                    schedule.weekdays = weekdays(value).map_err(|m| (line, "weekdays", m))?
                }
                "start_time" => {
                    schedule.start = time(value).map_err(|m| (line, "start_time", m))?.0
                }
                "end_time" => {
                    (schedule.end, end_of_day) = time(value).map_err(|m| (line, "end_time", m))?
                }
                other => {
                    let message = format!(
                        "there is no key {other:?} here; use weekdays, start_time and end_time"
                    );
                    return Err((member.line, "", message));
                }
            }
        }
        if schedule.start == schedule.end && !end_of_day {
            let message =
                "the end equals the start; for the whole day give \"00:00\" and \"24:00\""
                    .to_owned();
            return Err((node.line, "end_time", message));
        }
        Ok(schedule)
    }
}

fn weekdays(node: &Node) -> Result<[bool; 7], String> {
    let wrong = || {
        format!(
            "{} is not allowed; give a list of numbers from 0 (Monday) to 6 (Sunday)",
            node.to_json()
        )
    };
    let Value::List(list) = &node.value else {
        return Err(wrong());
    };
    let mut days = [false; 7];
    for element in list {
        let day = element
            .to_json()
            .as_u64()
            .and_then(|day| usize::try_from(day).ok());
        *day.and_then(|day| days.get_mut(day)).ok_or_else(wrong)? = true;
    }
    if list.is_empty() {
        Err(wrong())
    } else {
        Ok(days)
    }
}

/// A time of day, and whether it was written as the end of the day, `24:00`.
fn time(node: &Node) -> Result<(Time, bool), String> {
    let wrong = || {
        format!(
            "{} is not a time of day; give it as \"09:00\"",
            node.shown()
        )
    };
    let Value::Text(text) = &node.value else {
        return Err(wrong());
    };
    if matches!(text.as_str(), "24:00" | "24:00:00") {
        return Ok((Time::midnight(), true));
    }
    let mut parts = text.split(':').map(|part| part.parse::<i8>().ok());
    let (hour, minute) = (parts.next().flatten(), parts.next().flatten());
    let second = match parts.next() {
        Some(second) => second,
        None => Some(0),
    };
    match (hour, minute, second, parts.next()) {
        (Some(hour), Some(minute), Some(second), None) => Time::new(hour, minute, second, 0)
            .map(|time| (time, false))
            .map_err(|_| wrong()),
        _ => Err(wrong()),
    }
}
