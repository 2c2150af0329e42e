//! Whether a place that settings name can be used, and what is said of one that cannot: which, why, and what to do about it.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::Path;

use anyhow::anyhow;

/// What a person may do about the place that the settings call `key`.
pub fn advice(key: &str, error: &io::Error) -> String {
    let first = match error.kind() {
        ErrorKind::PermissionDenied => "let the user who runs this write there (chown), or ",
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => "a file is in the way; ",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room, or ",
        ErrorKind::ReadOnlyFilesystem => "check how its file system is mounted, or ",
        _ => "",
    };
    format!("{first}give another {key}")
}

/// The error with the key before it and the advice behind it. One that comes from no operation on a file tells itself what
/// to do.
pub fn unusable(key: &str, error: impl Into<anyhow::Error>) -> anyhow::Error {
    let error = error.into();
    let cause = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>());
    match cause.map(|cause| advice(key, cause)) {
        Some(advice) => anyhow!("{key}: {error:#}; {advice}"),
        None => error.context(key.to_owned()),
    }
}

/// Looks whether files can be written in `dir` or, where it is not there, in the nearest directory above it, in which it would
/// be made: writes one and removes it.
///
/// # Errors
/// They cannot; tells why, and what to do about it in terms of `key`.
pub fn check(key: &str, dir: &Path) -> Result<(), String> {
    try_write(nearest_existing(dir)).map_err(|error| {
        let advice = advice(key, &error);
        format!("{} cannot be written to: {error}; {advice}", dir.display())
    })
}

/// Names of the sources that have a directory in one of `dirs`.
pub fn sources_in(dirs: &[&Path]) -> Vec<String> {
    let entries = dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok());
    entries
        .flat_map(|entries| entries.flatten())
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

/// The right to write is not enough: a disk may be full, a share may refuse.
fn try_write(dir: &Path) -> io::Result<()> {
    if !dir.is_dir() {
        return Err(ErrorKind::NotADirectory.into());
    }
    let probe = dir.join(format!(".write-test-{}", std::process::id()));
    let written = File::create(&probe)?.write_all(b"x");
    let removed = std::fs::remove_file(&probe);
    written.and(removed)
}

/// Checks each of `places`, by the keys of the settings, and tells on standard error which cannot be used; true when all can.
pub fn all_usable<'a>(
    program: &str,
    places: impl IntoIterator<Item = (&'a str, &'a Path)>,
) -> bool {
    let mut are_good = true;
    for (key, dir) in places {
        if let Err(problem) = check(key, dir) {
            crate::complain!("{program}: {key}: {}", crate::redact::text(&problem));
            are_good = false;
        }
    }
    are_good
}

/// The directory itself, or the nearest one above it that exists.
pub fn nearest_existing(dir: &Path) -> &Path {
    dir.ancestors()
        .map(|path| match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        })
        .find(|path| path.exists())
        .unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn a_place_that_can_be_made_is_good() {
        let dir = tempfile::tempdir().unwrap();
        check("output_dir", &dir.path().join("a/b")).unwrap();
        check("output_dir", Path::new("not/there")).unwrap();
        assert_eq!(nearest_existing(Path::new("not/there")), Path::new("."));
        assert_eq!(dir.path().read_dir().unwrap().count(), 0, "changed nothing");
        std::fs::write(dir.path().join("a"), "").unwrap();
        let said = check("output_dir", &dir.path().join("a/b")).unwrap_err();
        assert!(
            said.contains("cannot be written to") && said.contains("a file is in the way"),
            "{said}"
        );
    }

    #[test]
    fn says_which_why_and_what_to_do() {
        let said = |kind: ErrorKind| {
            let error = Err::<(), _>(io::Error::from(kind)).context("cannot create ./raw");
            format!("{:#}", unusable("output_dir", error.unwrap_err()))
        };
        assert_eq!(
            said(ErrorKind::AlreadyExists),
            "output_dir: cannot create ./raw: entity already exists; a file is in the way; give another \
             output_dir"
        );
        assert!(said(ErrorKind::NotADirectory).contains("a file is in the way"));
        assert!(said(ErrorKind::PermissionDenied).contains("(chown), or give another output_dir"));
        assert!(said(ErrorKind::ReadOnlyFilesystem).contains("how its file system is mounted"));
        assert!(said(ErrorKind::StorageFull).ends_with("; make room, or give another output_dir"));
        assert!(said(ErrorKind::TimedOut).ends_with("; give another output_dir"));
        let other = unusable("queue_dir", anyhow!("on a network; choose a local disk"));
        assert_eq!(
            format!("{other:#}"),
            "queue_dir: on a network; choose a local disk"
        );
    }
}
