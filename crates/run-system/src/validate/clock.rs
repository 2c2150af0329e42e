//! Whether the clock can be right: names, tickets and schedules are made of it.

use super::Finding;
use crate::setup::Loaded;
use jiff::{SignedDuration, Timestamp};
use std::path::Path;

/// Files of another machine may be a little ahead.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// systemd's time service keeps this directory, and the file in it once it has the time.
const TIMESYNC: &str = "/run/systemd/timesync";

pub(super) fn check(loaded: &Loaded) -> Finding {
    let files = [
        loaded.recorder.as_ref().map(|(file, _)| file.as_path()),
        loaded.blur.as_ref().map(|(file, _)| file.as_path()),
    ];
    let edited = files.into_iter().flatten().filter_map(modified).max();
    let synchronised = Path::new(TIMESYNC)
        .is_dir()
        .then(|| Path::new(TIMESYNC).join("synchronized").exists());
    judge(Timestamp::now(), edited, synchronised)
}

fn modified(file: &Path) -> Option<Timestamp> {
    let time = std::fs::metadata(file)
        .and_then(|data| data.modified())
        .ok()?;
    Timestamp::try_from(time).ok()
}

fn judge(now: Timestamp, edited: Option<Timestamp>, synchronised: Option<bool>) -> Finding {
    let what = "clock";
    let shown = now.strftime("%Y-%m-%d %H:%M UTC");
    match edited {
        Some(edited) if now + TOLERANCE < edited => Finding::wrong(
            what,
            format!(
                "it says {shown}, but the settings were edited later than that; set it, and let it be kept right (timedatectl set-ntp true)"
            ),
        ),
        _ if synchronised == Some(false) => Finding::note(
            what,
            format!("{shown}, not yet synchronised; see timedatectl"),
        ),
        _ => Finding::ok(what, shown.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::Verdict;

    #[test]
    fn a_clock_that_fell_back_is_wrong_and_an_unsynchronised_one_is_told() {
        let edited: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let verdict = |now: &str, synchronised| {
            judge(now.parse().unwrap(), Some(edited), synchronised).verdict
        };
        assert!(verdict("1970-01-01T00:10:00Z", Some(true)) == Verdict::Wrong);
        assert!(verdict("2026-02-28T23:58:00Z", None) == Verdict::Ok);
        assert!(verdict("2026-03-02T00:00:00Z", Some(false)) == Verdict::Note);
        assert!(verdict("2026-03-02T00:00:00Z", Some(true)) == Verdict::Ok);
    }
}
