//! Small files that a reader sees old or new, never half.

use std::io;
use std::path::Path;

const ENDING: &str = ".tmp";

/// Writes the file beside `path` and renames it there. It is not synced: after a power cut it may be
/// the old one, empty or gone, which is enough for status files.
///
/// # Errors
/// Of writing or renaming; the old file is then untouched.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut scratch = path.as_os_str().to_owned();
    scratch.push(format!(".{}{ENDING}", std::process::id()));
    let written = std::fs::write(&scratch, bytes).and_then(|()| std::fs::rename(&scratch, path));
    if written.is_err() {
        // Best effort: the error that matters is the one returned.
        std::fs::remove_file(&scratch).ok();
    }
    written
}

/// Removes what processes that are no more left of a write to `path`.
pub fn sweep(path: &Path) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|it| it.to_str()))
    else {
        return;
    };
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let found = entry.file_name();
        let writer: Option<u32> = found
            .to_str()
            .and_then(|it| {
                it.strip_prefix(name)?
                    .strip_prefix('.')?
                    .strip_suffix(ENDING)
            })
            .and_then(|pid| pid.parse().ok());
        if writer.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // What cannot be removed is in nobody's way.
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_dead_left_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let own = format!("a.json.{}.tmp", std::process::id());
        for name in [
            "a.json",
            "a.json.4000000000.tmp",
            "b.json.4000000000.tmp",
            &own,
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        sweep(&dir.path().join("a.json"));
        let left = |name: &str| dir.path().join(name).exists();
        assert!(left("a.json") && left("b.json.4000000000.tmp") && left(&own));
        assert!(!left("a.json.4000000000.tmp"));
    }
}
