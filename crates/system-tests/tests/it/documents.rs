//! Documents that are made from the code, held against it. `UPDATE_EXPECT=1 cargo test -p system-tests documents` rewrites
//! them.

use expect_test::expect_file;
use settings::keys::{BLUR, HOOK, RECORDER, SOURCE, SYSTEM, reference};

#[test]
fn the_reference_of_all_keys_is_up_to_date() {
    let text = format!(
        "# Configuration
Two JSON files, `configs/rtsp_recorder_config.json` and `configs/blur_processor_config.json`, and a third that may be
missing, `configs/run_system_config.json` (all also found in the working directory). `--config` of the two daemons names another file; `run-system` has
`--recorder-config`, `--blur-config` and `--system-config`. `//` comments are allowed. Relative paths count from the working directory.
`${{NAME}}` in a text is replaced from the environment, so that passwords need not stand in the file. In the login of an address
its value is taken as it is, so it is not percent-encoded, whatever it holds. A key that is not
listed here is an error; all problems of a file are reported at once. `run-system --create-configs` writes all three,
`run-system --validate` checks them. Beside each lies its JSON Schema, which `\"$schema\"` at the top of the file names, so
that editors complete and check the keys.

Settings are read at the start. After a change: `run-system --validate`, then stop and start `run-system`. Where it is installed as a
service: `sudo rtsp-recorder-ctl validate`, then `sudo systemctl restart run-system`, or `rtsp-recorder blur-processor` where these are
the services.

## Recorder: rtsp_recorder_config.json
{}
### Keys of one source
An entry of `sources` is a URL or path, or an object with these keys:

{}
## Blur processor: blur_processor_config.json
{}
## run-system: run_system_config.json
{}
### Keys of one hook
An entry of `notifications` is an object with these keys; [notifications.md](notifications.md) has examples:

{}",
        reference(RECORDER),
        reference(SOURCE),
        reference(BLUR),
        reference(SYSTEM),
        reference(HOOK)
    );
    expect_file!["../../../../docs/configuration.md"].assert_eq(&text);
}

#[test]
fn the_dashboard_has_words_for_every_state_of_a_camera() {
    let texts = include_str!("../../../run-system/src/dashboard/page/texts.js");
    for state in rtsp_recorder::board::State::ALL {
        let key = format!("state_{}: ", state.name());
        assert_eq!(texts.matches(&key).count(), 2, "{key} in two languages");
    }
}
