//! Whether a place that settings name can be used, and what is said of one that cannot: which, why, and what to do about it.

use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::{Context as _, anyhow};
use rustix::fs::Access;
use rustix::io::Errno;

/// What a person may do about the place that the settings call `key`.
pub fn advice(key: &str, error: &io::Error) -> String {
    let first = match error.kind() {
        ErrorKind::PermissionDenied => "let the user who runs this write there (chown), or ",
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => "a file is in the way; ",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room, or ",
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

/// Looks whether `dir`, which settings call `key`, can be written to, or made where it is not there. Changes nothing.
///
/// # Errors
/// It cannot.
pub fn check(key: &str, dir: &Path) -> anyhow::Result<()> {
    let there = nearest_existing(dir);
    let looked = match there.is_dir() {
        true => rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK),
        false => Err(Errno::NOTDIR),
    };
    looked
        .map_err(io::Error::from)
        .with_context(|| format!("{} cannot be written to", dir.display()))
        .map_err(|error| unusable(key, error))
}

/// Checks each of `places`, by the keys of the settings, and tells on standard error which cannot be used; true when all can.
pub fn all_usable<'a>(
    program: &str,
    places: impl IntoIterator<Item = (&'a str, &'a Path)>,
) -> bool {
    let mut are_good = true;
    for (key, dir) in places {
        if let Err(problem) = check(key, dir) {
            let problem = format!("{problem:#}");
            crate::complain!("{program}: {}", crate::redact::text(&problem));
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

    #[test]
    fn a_place_that_can_be_made_is_good() {
        let dir = tempfile::tempdir().unwrap();
        check("output_dir", &dir.path().join("a/b")).unwrap();
        check("output_dir", Path::new("not/there")).unwrap();
        assert_eq!(nearest_existing(Path::new("not/there")), Path::new("."));
        std::fs::write(dir.path().join("a"), "").unwrap();
        let said = check("output_dir", &dir.path().join("a/b")).unwrap_err();
        let said = format!("{said:#}");
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
        assert!(said(ErrorKind::StorageFull).ends_with("; make room, or give another output_dir"));
        assert!(said(ErrorKind::TimedOut).ends_with("; give another output_dir"));
        let other = unusable("queue_dir", anyhow!("on a network; choose a local disk"));
        assert_eq!(
            format!("{other:#}"),
            "queue_dir: on a network; choose a local disk"
        );
    }
}
