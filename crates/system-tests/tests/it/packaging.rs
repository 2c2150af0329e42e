//! The systemd units, as systemd judges them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Exposure in tenths, of at most 100.
const MOST_EXPOSED: u32 = 15;

#[test]
fn no_service_is_given_up_for_dying_often() {
    for unit in units() {
        // Systemd gives up after five starts in ten seconds unless it is told otherwise.
        let text = std::fs::read_to_string(&unit).expect("it can be read");
        let (head, _) = text.split_once("[Service]").expect("it is a service");
        assert!(
            head.contains("\nStartLimitIntervalSec=0\n"),
            "{}",
            unit.display()
        );
    }
}

#[test]
fn no_service_is_exposed_more_than_it_must_be() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("SKIPPED: the services were not judged, since systemd-analyze is missing");
        return;
    }
    for unit in units() {
        let judged = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(format!("--threshold={MOST_EXPOSED}"))
            .arg(&unit)
            .output()
            .expect("systemd-analyze runs");
        let told = String::from_utf8_lossy(&judged.stdout);
        assert!(
            judged.status.success(),
            "{}: {}",
            unit.display(),
            told.lines().last().unwrap_or_default()
        );
    }
}

fn units() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd");
    let units = std::fs::read_dir(dir).expect("the units are there");
    let units: Vec<_> = units
        .map(|unit| unit.expect("it can be listed").path())
        .collect();
    assert_eq!(units.len(), 3);
    units
}
