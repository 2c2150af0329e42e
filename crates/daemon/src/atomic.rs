//! Small files that a reader sees old or new, never half.

use std::io;
use std::path::Path;

/// Writes the file beside `path` and renames it there. It is not synced: after a power cut it may be
/// the old one, empty or gone, which is enough for status files.
///
/// # Errors
/// Of writing or renaming; the old file is then untouched.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut scratch = path.as_os_str().to_owned();
    scratch.push(format!(".{}.tmp", std::process::id()));
    let written = std::fs::write(&scratch, bytes).and_then(|()| std::fs::rename(&scratch, path));
    if written.is_err() {
        // Best effort: the error that matters is the one returned.
        std::fs::remove_file(&scratch).ok();
    }
    written
}
