//! Files that are not there or not text.

use expect_test::expect;
use settings::{RecorderSettings, locate};
use std::path::Path;

#[test]
fn a_missing_file_says_where_it_was_looked_for() {
    let named = locate(Some(Path::new("/nowhere/x.json")), settings::RECORDER_FILE).unwrap_err();
    expect!["settings file /nowhere/x.json not found; mend the path on the command line"]
        .assert_eq(&named.to_string());
    let usual = locate(None, settings::RECORDER_FILE)
        .unwrap_err()
        .to_string();
    let here = std::env::current_dir().unwrap();
    expect!["settings file configs/rtsp_recorder_config.json not found in HERE; start in the folder where it is, or run `run-system --create-configs` to make one"]
        .assert_eq(&usual.replace(&here.display().to_string(), "HERE"));
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
