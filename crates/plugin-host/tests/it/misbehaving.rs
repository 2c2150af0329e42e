//! Whatever a plugin does wrong short of crashing, the host says so in words.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use plugin_abi::{FrameInfo, FrameView, PixelFormat, Region};
use plugin_host::{Instance, Plugin, PluginError};

use crate::build;

fn load(misdeed: &str) -> Result<Plugin, PluginError> {
    Plugin::load(&build::misbehaving(misdeed).file)
}

fn create(misdeed: &str) -> Result<Instance, PluginError> {
    load(misdeed).expect("loads").create("{}", 1)
}

fn detect(instance: &mut Instance) -> Result<Vec<Region>, PluginError> {
    let data = [0u8; 8 * 8 * 3];
    let frame = FrameView::new(FrameInfo::new(PixelFormat::Bgr24, 8, 8), &[(&data, 24)]);
    let mut regions = Vec::new();
    instance.detect(&frame.expect("fits"), &mut regions)?;
    Ok(regions)
}

#[test]
fn loading() {
    for (misdeed, words) in [
        (
            "OTHER_VERSION",
            "made for version 2 of the plugin interface",
        ),
        ("NO_ENTRY", "exports no symbol blur_plugin_v1"),
        ("NO_TABLE", "returned NULL"),
        ("SMALL_TABLE", "table has 16 bytes"),
        ("NO_DESTROY", "function destroy is missing"),
        ("NEITHER", "neither detect nor process"),
        ("NO_NAME", "no name"),
        ("STRANGE_KIND", "unknown kind 17"),
        ("STRANGE_FORMAT", "unknown pixel format 17"),
        ("HALF_A_SIZE", "maximum size is 0"),
        ("DESCRIBE_FAILS", "describe answers status 1"),
    ] {
        let error = load(misdeed).expect_err(misdeed);
        assert!(error.is_fatal());
        assert!(error.to_string().contains(words), "{misdeed}: {error}");
    }
}

#[test]
fn a_later_minor_version_loads() {
    let mut instance = create("LATER_MINOR").expect("starts");
    assert_eq!(detect(&mut instance).expect("detects").len(), 1);
}

#[test]
fn creating() {
    for (misdeed, words) in [
        ("NO_INSTANCE", "create answers OK without an instance"),
        ("CREATE_FAILS_SILENTLY", "status 1 without a reason"),
        ("UNDECIDED", "unknown kind 0"),
        ("KIND_WITHOUT_FUNCTION", "lacks that function"),
    ] {
        let error = create(misdeed).expect_err(misdeed);
        assert!(error.to_string().contains(words), "{misdeed}: {error}");
    }
}

#[test]
fn detecting() {
    for (misdeed, words) in [
        ("NOT_A_NUMBER", "no number"),
        ("TOO_MANY", "1000000000000 regions"),
        ("NULL_REGIONS", "bad address"),
        ("SKEWED_REGIONS", "bad address"),
        ("STRANGE_REGION", "unknown region kind 0"),
        ("STRANGE_STATUS", "status -77 without a reason"),
    ] {
        let mut instance = create(misdeed).expect("starts");
        let error = detect(&mut instance).expect_err(misdeed);
        assert!(error.is_fatal(), "{misdeed}");
        assert!(error.to_string().contains(words), "{misdeed}: {error}");
        let again = detect(&mut instance).expect_err("still broken");
        assert!(again.is_fatal(), "{misdeed}");
    }
}

#[test]
fn one_failed_frame_does_not_break_an_instance() {
    let mut instance = create("FAILS_ONCE").expect("starts");
    let error = detect(&mut instance).expect_err("the first call");
    assert!(!error.is_fatal());
    assert_eq!(error.to_string(), "plugin misbehaving: out of luck");
    assert_eq!(detect(&mut instance).expect("the second").len(), 1);
}

#[test]
fn a_single_instance_is_one_at_a_time() {
    let plugin = load("SINGLE").expect("loads");
    let first = plugin.create("{}", 1).expect("the first");
    let error = plugin.create("{}", 1).expect_err("a second");
    assert!(error.to_string().contains("one instance"), "{error}");
    drop(first);
    plugin.create("{}", 1).expect("after the first");
}

#[test]
fn files_that_are_no_libraries() {
    let folder = tempfile::tempdir().expect("a temp dir");
    let file = folder.path().join("plugin.so");
    fs::write(&file, "print('hello')").expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
    let error = Plugin::load(&file).expect_err("no library");
    assert!(
        error.to_string().contains("not a compiled library"),
        "{error}"
    );
    let error = Plugin::load(&folder.path().join("none.so")).expect_err("missing");
    assert!(error.to_string().contains("file not found"), "{error}");
}
