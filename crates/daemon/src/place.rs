//! What is said of a place that settings name and that cannot be used: which, why, and what to do about it.

use std::io::{self, ErrorKind};

use anyhow::anyhow;

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

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

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
