//! What a plugin can get at from within a worker.

use std::fs;
use std::os::unix::net::UnixDatagram;

use media::synth::TestVideo;
use serde_json::json;

use crate::support::Site;

/// What a plugin that tries everything got in this sandbox, in its words; none: nothing. And whether the kernel took
/// all of it.
fn got(sandbox: &str) -> (Option<String>, bool) {
    let mut site = Site::new(json!({
        "plugin": { "escape": 1 },
        "sandbox": sandbox,
        "max_attempts": 1,
    }));
    fs::write(site.path("removable.txt"), "").unwrap();
    let _mailbox = UnixDatagram::bind(site.path("mailbox")).unwrap();
    let stem = site.add("a", &TestVideo::default());
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    if site.is_done(&stem) {
        let held = site.report("a").video.plugin.sandbox;
        assert!(held.starts_with("strict"), "{held}");
        assert!(site.path("removable.txt").exists());
        assert!(!site.path("escaped.txt").exists());
    }
    let log = fs::read_to_string(site.path("stderr.log")).unwrap();
    assert_eq!(log.contains("the sandbox is off"), sandbox == "off");
    (site.why(&stem), !log.contains("not wholly confined"))
}

#[test]
fn a_native_plugin_gets_at_nothing() {
    let (got, wholly) = got("auto");
    if !wholly {
        eprintln!("SKIPPED in part: this kernel lacks Landlock or a part of it");
        let got = got.unwrap_or_default();
        let refused = [
            "udp", "tcp", "run", "post", "limit", "signal", "pin", "slow",
        ];
        assert!(refused.iter().all(|what| !got.contains(what)), "{got}");
        return;
    }
    assert_eq!(got, None);
}

#[test]
fn relaxed_it_may_read_and_run_but_has_no_network() {
    let (got, wholly) = got("relaxed");
    let got = got.unwrap();
    assert!(got.contains("read") && got.contains("run"), "{got}");
    assert!(!got.contains("udp") && !got.contains("tcp"), "{got}");
    assert!(!got.contains("limit"), "{got}");
    // That takes Landlock's newest part.
    assert!(!wholly || !got.contains("signal"), "{got}");
}

/// Shows that the plugin really tries: else the tests above could not fail.
#[test]
fn without_a_sandbox_it_gets_at_everything() {
    let got = got("off").0.unwrap();
    assert!(
        got.contains("escaped: read write udp tcp run remove post limit signal pin slow"),
        "{got}"
    );
}
