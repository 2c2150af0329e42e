//! Directories and disk space.

use super::Finding;
use crate::plain::bytes;
use crate::report::free_bytes;
use crate::setup::Loaded;
use std::path::{Path, PathBuf};

pub(super) fn check(loaded: &Loaded) -> Vec<Finding> {
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
    findings.extend(space(loaded));
    findings
}

/// Tries to write where the directory is or, as long as there is none, would be made.
fn writable(what: &str, dir: &Path) -> Finding {
    let what = format!("directory of {what}");
    let existing = dir
        .ancestors()
        .map(|dir| {
            if dir == Path::new("") {
                Path::new(".")
            } else {
                dir
            }
        })
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("/"));
    if !existing.is_dir() {
        return Finding::wrong(
            what,
            format!(
                "{} is not a directory; give another place",
                existing.display()
            ),
        );
    }
    let probe = existing.join(format!(".write-test-{}", std::process::id()));
    let written = std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe));
    match written {
        Ok(()) if existing == dir => Finding::ok(what, dir.display().to_string()),
        Ok(()) => Finding::ok(what, format!("{} will be made", dir.display())),
        Err(error) => Finding::wrong(
            what,
            format!("{} cannot be written to: {error}", existing.display()),
        ),
    }
}

fn space(loaded: &Loaded) -> Option<Finding> {
    let disk = match (&loaded.recorder, &loaded.blur) {
        (Some((_, s)), _) => s.disk,
        (None, Some((_, s))) => s.disk,
        (None, None) => return None,
    };
    let (_, dir) = loaded.video_dirs().into_iter().next()?;
    let free = free_bytes(&dir)?;
    let (budget, floor) = (disk.max_usage_bytes, disk.min_free_bytes);
    Some(if free <= floor {
        let detail = format!(
            "{} free, but min_free_disk_gb keeps {}: nothing would be recorded; make room",
            bytes(free),
            bytes(floor)
        );
        Finding::wrong("disk space", detail)
    } else if free - floor < budget {
        let detail = format!(
            "{} free: less than max_disk_usage_gb ({}), so the disk decides; old processed videos go when {} are left",
            bytes(free),
            bytes(budget),
            bytes(floor)
        );
        Finding::note("disk space", detail)
    } else {
        Finding::ok("disk space", format!("{} free", bytes(free)))
    })
}
