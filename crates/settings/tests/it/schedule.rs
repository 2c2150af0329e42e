//! Schedules, also on the days the clocks change.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use settings::{Environment, RecorderSettings, Schedule};

fn schedule(weekdays: &str, start: &str, end: &str) -> Schedule {
    let file = format!(
        r#"{{"sources": ["a"], "recording_schedule":
            {{"weekdays": {weekdays}, "start_time": "{start}", "end_time": "{end}"}}}}"#
    );
    let settings = RecorderSettings::from_text(&file, &Environment::empty()).unwrap();
    settings.sources[0].schedule.clone().unwrap()
}

fn berlin() -> TimeZone {
    // As in Berlin, without needing a time zone database.
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

/// All changes of a schedule from one moment on, in local time.
fn changes(schedule: &Schedule, from: &str, count: usize) -> Vec<String> {
    let zone = berlin();
    let mut at: Timestamp = from.parse().unwrap();
    let mut out = Vec::new();
    for _ in 0..count {
        at = schedule.next_change(at, &zone).unwrap();
        let state = if schedule.is_open(at, &zone) {
            "open"
        } else {
            "shut"
        };
        out.push(format!(
            "{} {state}",
            at.to_zoned(zone.clone()).strftime("%a %d. %H:%M %:z")
        ));
    }
    out
}

#[test]
fn working_days() {
    let week = schedule("[0, 1, 4]", "09:00", "18:00");
    let expected = [
        "Mon 22. 09:00 +01:00 open",
        "Mon 22. 18:00 +01:00 shut",
        "Tue 23. 09:00 +01:00 open",
        "Tue 23. 18:00 +01:00 shut",
        "Fri 26. 09:00 +01:00 open",
        "Fri 26. 18:00 +01:00 shut",
        "Mon 29. 09:00 +02:00 open",
    ];
    assert_eq!(changes(&week, "2027-03-21T12:00:00Z", 7), expected);
}

#[test]
fn over_midnight() {
    let night = schedule("[4]", "22:00", "06:00");
    assert_eq!(
        changes(&night, "2027-03-15T12:00:00Z", 2),
        ["Fri 19. 22:00 +01:00 open", "Sat 20. 06:00 +01:00 shut"]
    );
}

#[test]
fn whole_days_join() {
    let always = schedule("[0, 1, 2, 3, 4, 5, 6]", "00:00", "24:00");
    assert!(always.is_open("2027-03-15T12:00:00Z".parse().unwrap(), &berlin()));
    let weekend = schedule("[5, 6]", "00:00", "24:00");
    assert_eq!(
        changes(&weekend, "2027-03-15T12:00:00Z", 2),
        ["Sat 20. 00:00 +01:00 open", "Mon 22. 00:00 +01:00 shut"]
    );
}

#[test]
fn clocks_go_forward() {
    // 28 March 2027: 02:00 becomes 03:00.
    let all = "[0, 1, 2, 3, 4, 5, 6]";
    assert_eq!(
        changes(&schedule(all, "01:30", "04:00"), "2027-03-27T12:00:00Z", 2),
        ["Sun 28. 01:30 +01:00 open", "Sun 28. 04:00 +02:00 shut"]
    );
    assert_eq!(
        changes(&schedule(all, "02:30", "05:00"), "2027-03-27T12:00:00Z", 2),
        ["Sun 28. 01:30 +01:00 open", "Sun 28. 05:00 +02:00 shut"]
    );
    assert_eq!(
        changes(&schedule(all, "01:00", "02:30"), "2027-03-27T12:00:00Z", 2),
        ["Sun 28. 01:00 +01:00 open", "Sun 28. 03:30 +02:00 shut"]
    );
}

#[test]
fn clocks_go_back() {
    // 31 October 2027: 03:00 becomes 02:00, so 02:30 comes twice.
    let all = "[0, 1, 2, 3, 4, 5, 6]";
    assert_eq!(
        changes(&schedule(all, "02:30", "05:00"), "2027-10-30T12:00:00Z", 2),
        ["Sun 31. 02:30 +02:00 open", "Sun 31. 05:00 +01:00 shut"]
    );
    assert_eq!(
        changes(&schedule(all, "01:00", "02:30"), "2027-10-30T12:00:00Z", 2),
        ["Sun 31. 01:00 +02:00 open", "Sun 31. 02:30 +01:00 shut"]
    );
}
