//! What a plugin can get at from within a worker.

use std::fs;

use media::synth::TestVideo;
use serde_json::json;

use crate::support::Site;

/// What a plugin that tries everything got in this sandbox, in its words; none: nothing.
fn got(sandbox: &str) -> Option<String> {
    let mut site = Site::new(json!({
        "plugin": { "escape": 1 },
        "sandbox": sandbox,
        "max_attempts": 1,
    }));
    fs::write(site.path("removable.txt"), "").unwrap();
    let stem = site.add("a", &TestVideo::default());
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    if site.is_done(&stem) {
        let held = site.report("a").video.plugin.sandbox;
        assert_eq!(held, "strict", "the kernel took all of it");
        assert!(site.path("removable.txt").exists());
        assert!(!site.path("escaped.txt").exists());
    }
    site.why(&stem)
}

#[test]
fn a_native_plugin_gets_at_nothing() {
    if !fs::read_to_string("/sys/kernel/security/lsm").map_or(true, |all| all.contains("landlock"))
    {
        eprintln!("SKIPPED: this kernel has no Landlock, so only system calls are refused");
        return;
    }
    assert_eq!(got("auto"), None);
}

#[test]
fn relaxed_it_may_read_and_run_but_has_no_network() {
    let got = got("relaxed").unwrap();
    assert!(got.contains("read") && got.contains("run"), "{got}");
    assert!(!got.contains("udp") && !got.contains("tcp"), "{got}");
}

/// Shows that the plugin really tries: else the tests above could not fail.
#[test]
fn without_a_sandbox_it_gets_at_everything() {
    let got = got("off").unwrap();
    assert!(
        got.contains("escaped: read write udp tcp run remove"),
        "{got}"
    );
}
