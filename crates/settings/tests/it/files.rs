//! Files that are not there or not text.

use expect_test::expect;
use settings::{RecorderSettings, locate};
use std::path::Path;

#[test]
fn a_missing_file_says_how_to_make_one() {
    let error = locate(Some(Path::new("/nowhere/x.json")), settings::RECORDER_FILE).unwrap_err();
    expect!["settings file /nowhere/x.json not found; run `run-system --create-configs` to make one, or name another with --config"].assert_eq(&error.to_string());
}

#[test]
fn a_file_named_explicitly_is_taken() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(
        locate(Some(file.path()), settings::BLUR_FILE).unwrap(),
        file.path()
    );
}

#[test]
fn problems_name_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"{\n\"sources\": [\"a\xff\"]}").unwrap();
    let problems = RecorderSettings::load(file.path()).unwrap_err().to_string();
    let expected = format!(
        "1 problem in {}\n  line 2: the file is not UTF-8; save it as UTF-8",
        file.path().display()
    );
    assert_eq!(problems, expected);
}
