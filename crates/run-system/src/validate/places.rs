//! Directories and disk space.

use super::Finding;
use crate::plain::span;
use crate::report::free_bytes;
use crate::setup::Loaded;
use daemon::disk::bytes_text;
use std::path::{Path, PathBuf};

/// Whether the directories can be written to.
pub(super) fn directories(loaded: &Loaded) -> Vec<Finding> {
    let mut dirs: Vec<(&str, PathBuf)> = loaded.video_dirs();
    let places = [
        loaded
            .recorder
            .as_ref()
            .map(|(_, s)| (&s.queue_dir, &s.places)),
        loaded.blur.as_ref().map(|(_, s)| (&s.queue_dir, &s.places)),
    ];
    for (queue_dir, places) in places.into_iter().flatten() {
        dirs.extend([
            ("queue", queue_dir.clone()),
            ("logs", places.log_dir.clone()),
            ("status files", places.status_dir.clone()),
        ]);
    }
    let mut seen: Vec<&PathBuf> = Vec::new();
    let mut findings = Vec::new();
    for (what, dir) in &dirs {
        if !seen.contains(&dir) {
            findings.push(writable(what, dir));
            seen.push(dir);
        }
    }
    findings
}

fn writable(what: &str, dir: &Path) -> Finding {
    let what = format!("directory of {what}");
    match daemon::place::check("place", dir) {
        Ok(()) if dir.is_dir() => Finding::ok(what, dir.display().to_string()),
        Ok(()) => Finding::ok(what, format!("{} will be made", dir.display())),
        Err(problem) => Finding::wrong(what, problem),
    }
}

/// Whether there is as much space as the settings count on.
pub(super) fn space(loaded: &Loaded) -> Option<Finding> {
    let disk = loaded.budget()?;
    let (_, dir) = loaded.video_dirs().into_iter().next()?;
    let free = free_bytes(&dir)?;
    let (budget, floor) = (disk.max_usage_bytes, disk.min_free_bytes);
    Some(if free <= floor {
        let detail = format!(
            "{} free, but min_free_disk_gb keeps {}: nothing would be recorded; make room",
            bytes_text(free),
            bytes_text(floor)
        );
        Finding::wrong("disk space", detail)
    } else if free - floor < budget {
        let detail = format!(
            "{} free: less than max_disk_usage_gb ({}), so the disk decides; old processed videos go when {} are left",
            bytes_text(free),
            bytes_text(budget),
            bytes_text(floor)
        );
        Finding::note("disk space", detail)
    } else {
        Finding::ok("disk space", format!("{} free", bytes_text(free)))
    })
}

/// How long the space lasts at the bitrates that the cameras were seen to have; none when none was seen.
pub(super) fn forecast(loaded: &Loaded, bitrate: u64) -> Option<Finding> {
    let disk = loaded.budget()?;
    let (_, dir) = loaded.video_dirs().into_iter().next()?;
    let room = free_bytes(&dir)?
        .saturating_sub(disk.min_free_bytes)
        .min(disk.max_usage_bytes);
    let age = disk
        .cleanup_old_files
        .then_some(disk.max_file_age.as_secs());
    Some(judge(room, bitrate / 8, age)).filter(|_| bitrate > 0)
}

/// `room` bytes at `rate` bytes a second, when files older than `age` seconds are deleted.
fn judge(room: u64, rate: u64, age: Option<u64>) -> Finding {
    let what = "disk forecast";
    let seconds = room / rate.max(1);
    let pace = format!("{} an hour from all cameras", bytes_text(rate * 3_600));
    match age {
        Some(age) if age <= seconds => Finding::ok(
            what,
            format!(
                "{pace}; videos go after {} (max_file_age_hours), before the space is used up",
                span(age)
            ),
        ),
        Some(age) => Finding::note(
            what,
            format!(
                "{pace}: the space lasts {}, so the oldest processed videos go before they are {} old; give more room, or lower max_file_age_hours",
                span(seconds),
                span(age)
            ),
        ),
        None => Finding::note(
            what,
            format!(
                "{pace}: full in {}, since cleanup_old_files is false; recording waits then",
                span(seconds)
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::Verdict;

    #[test]
    fn what_the_blur_processor_keeps_is_forecast() {
        let env = settings::Environment::empty();
        let recorder = r#"{"sources": ["rtsp://127.0.0.1/a"], "max_file_age_hours": 720, "min_free_disk_gb": 1000000}"#;
        let recorder = settings::RecorderSettings::from_text(recorder, &env).expect("valid");
        let blur = r#"{"max_file_age_hours": 0.01, "min_free_disk_gb": 0}"#;
        let blur = settings::BlurSettings::from_text(blur, &env).expect("valid");
        let mut loaded = Loaded {
            recorder: Some((PathBuf::from("recorder.json"), recorder)),
            blur: Some((PathBuf::from("blur.json"), blur)),
            system: settings::SystemSettings::default_settings(),
        };
        let forecast =
            |loaded: &Loaded| forecast(loaded, 8_000).expect("there is a bitrate").detail;
        assert!(
            forecast(&loaded).contains("go after 36 s"),
            "{}",
            forecast(&loaded)
        );
        let found = space(&loaded).expect("a disk");
        assert!(found.verdict != Verdict::Wrong, "{}", found.detail);
        loaded.blur = None;
        assert!(
            forecast(&loaded).contains("30 d 0 h"),
            "{}",
            forecast(&loaded)
        );
    }

    #[test]
    fn the_forecast_counts_days_and_knows_what_ends_first() {
        let day = 86_400;
        let ten_days = judge(10 * day * 1_000, 1_000, Some(day));
        assert!(ten_days.verdict == Verdict::Ok, "{}", ten_days.detail);
        let short = judge(day * 1_000 / 2, 1_000, Some(day));
        assert!(short.verdict == Verdict::Note && short.detail.contains("lasts 12 h 0 min"));
        let kept = judge(10 * day * 1_000, 1_000, None);
        assert!(kept.verdict == Verdict::Note && kept.detail.contains("full in 10 d 0 h"));
    }
}
