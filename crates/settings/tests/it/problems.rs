//! Messages: all at once, each with line, key, value found, what is allowed.

use crate::environment;
use expect_test::{Expect, expect};
use settings::{BlurSettings, RecorderSettings};

fn recorder(text: &str, expected: Expect) {
    let problems = RecorderSettings::from_text(text, &environment()).expect_err("problems");
    expected.assert_eq(&problems.to_string());
}

fn blur(text: &str, expected: Expect) {
    let problems = BlurSettings::from_text(text, &environment()).expect_err("problems");
    expected.assert_eq(&problems.to_string());
}

#[test]
fn all_problems_at_once() {
    recorder(
        r#"// my cameras
        {
          "sources": ["ftp://x/y", 7, "rtsp://cam:99999/a", {"name": "a b"}],
          "segment_duraton": 10,
          /* a comment
             over two lines */
          "segment_duration": -3,
          "video_codec": "lib x264",
          "bitrate": "fast",
          "transport": "sctp",
          "max_concurrent_recordings": 0,
          "enable_monitoring": "yes",
          "log_dir": "",
          "queue_dir": null,
          "recording_schedule": {"weekdays": [7], "start_time": "9 o'clock"}
        }"#,
        expect![[r#"
            15 problems in the settings
              line 3: sources[0].url: ftp:// is not supported; use rtsp://, rtsps://, http://, https:// or a path
              line 3: sources[1]: 7 is no source; give a URL in double quotes or an object with `url`
              line 3: sources[2].url: host or port cannot be read; write host:port with a port from 1 to 65535
              line 3: sources[3].url: missing; every source needs one
              line 3: sources[3].name: "a b" cannot be a file name; use letters, digits, `-`, `_` and `.`, at most 80 bytes, such as "a_b"
              line 4: segment_duraton: there is no such key; did you mean `segment_duration`?
              line 7: segment_duration: -3 is not allowed; give a number from 1 to 86400 (s)
              line 8: video_codec: "lib x264" is not allowed; give "copy" or the name of an FFmpeg encoder such as "libx264"
              line 9: bitrate: "fast" is not allowed; give bits per second, such as "2M", "800k" or 2000000
              line 10: transport: "sctp" is not allowed; give "tcp" or "udp"
              line 11: max_concurrent_recordings: 0 is not allowed; give a whole number from 1 to 10000
              line 12: enable_monitoring: "yes" is not allowed; give true or false
              line 13: log_dir: "" is not allowed; give a path in double quotes
              line 14: queue_dir: null is not allowed; give a path in double quotes
              line 15: recording_schedule.weekdays: [7] is not allowed; give a list of numbers from 0 (Monday) to 6 (Sunday)"#]],
    );
}

#[test]
fn nothing_given() {
    recorder(
        "{}",
        expect![[r#"
        1 problem in the settings
          sources: missing; give a list with the URL of at least one camera"#]],
    );
    recorder(
        "{\"sources\": []}",
        expect![[r#"
        1 problem in the settings
          line 1: sources: the list is empty; give the URL of at least one camera"#]],
    );
    recorder(
        "[]",
        expect![[r#"
        1 problem in the settings
          line 1: a list is not allowed here; the file must be an object in { }"#]],
    );
    recorder(
        "",
        expect![[r#"
        1 problem in the settings
          line 1: expected a value, found the end of the file"#]],
    );
}

#[test]
fn syntax() {
    recorder(
        "{\n  // fine\n  \"sources\": [\"a.mp4\"]\n  \"bitrate\": 3\n}",
        expect![[r#"
            1 problem in the settings
              line 3: `,` missing after this value"#]],
    );
    recorder(
        "{\n  \"sources\": [\"a.mp4\n]}",
        expect![[r#"
        1 problem in the settings
          line 2: text starts with `"` but does not end on this line"#]],
    );
    recorder(
        "{\n  sources: []}",
        expect![[r#"
        1 problem in the settings
          line 2: expected a key in double quotes or `}` in column 3"#]],
    );
    recorder(
        "{\n  \"sources\": [rtsp://x/y]}",
        expect![[r#"
        1 problem in the settings
          line 2: what begins in column 15 is no value; put text in double quotes, write true, false or null"#]],
    );
    recorder(
        "{\"sources\": [\"a.mp4\"]} x",
        expect![[r#"
        1 problem in the settings
          line 1: expected the end of the file in column 24"#]],
    );
    recorder(
        "/* {}",
        expect![[r#"
        1 problem in the settings
          line 1: a comment that starts with `/*` has no `*/`"#]],
    );
    recorder(
        "{\"a\": \"C:\\videos\"}",
        expect![[r#"
        1 problem in the settings
          line 1: the text in double quotes that begins in column 7 is not valid; write \\ for a backslash"#]],
    );
    recorder(
        "{\n\"bitrate\": 1,\n\"bitrate\": 2}",
        expect![[r#"
        1 problem in the settings
          line 3: "bitrate" stands here again, first on line 2"#]],
    );
    recorder(
        &"[".repeat(100_000),
        expect![[r#"
        1 problem in the settings
          line 1: nested more than 64 levels deep"#]],
    );
}

#[test]
fn sources_must_be_distinct() {
    recorder(
        r#"{"sources": [
            {"name": "gate", "url": "rtsp://a/1"},
            {"name": "gate", "url": "rtsp://b/1"},
            "rtsp://c/1",
            "rtsp://c/1"
        ]}"#,
        expect![[r#"
            2 problems in the settings
              line 3: sources[1]: has the name "gate" like sources[0]; give one of them another `name`
              line 5: sources[3]: is the same address as sources[2]; remove one"#]],
    );
}

#[test]
fn limits_must_name_a_source() {
    recorder(
        r#"{"sources": ["./raw_videos/media2.mp4"],
            "source_duration_limits": {"media1": 10, "./raw_videos/media2.mp4": "long", "x": 3}}"#,
        expect![[r#"
            3 problems in the settings
              line 2: source_duration_limits.media1: there is no such source; did you mean "media2"?
              line 2: source_duration_limits../raw_videos/media2.mp4: "long" is not allowed; give a number of seconds from 0.1
              line 2: source_duration_limits.x: there is no such source; give its name or its URL as under `sources`"#]],
    );
}

#[test]
fn missing_variables() {
    recorder(
        r#"{"sources": ["rtsp://u:${NOT_SET}@cam/1", "rtsp://${PLACE"]}"#,
        expect![[r#"
            3 problems in the settings
              line 1: sources[0]: the environment variable NOT_SET is not set; set it, or write $${ for the characters themselves
              line 1: sources[1]: `${` without `}`; write ${NAME}, or $${ for the characters themselves
              line 1: sources[1].url: host or port cannot be read; write host:port with a port from 1 to 65535"#]],
    );
}

#[test]
fn no_message_shows_a_password() {
    for text in [
        r#"{"sources": "rtsp://admin:geheim@cam/1"}"#,
        r#"{"sources": ["rtsp://admin:geheim/x@cam/1"]}"#,
        r#"{"sources": ["rtsp://admin:geheim@cam/1", "rtsp://admin:geheim@cam/1"]}"#,
        r#"{"sources": ["a"], "source_duration_limits": {"rtsp://admin:geheim@cam/1": 1}}"#,
        r#"{"sources": [{"url": "rtsp://cam/1", "password": "geheim"}]}"#,
        r#"{"sources": ["a"], "bitrate": "rtsp://admin:geheim@cam/1"}"#,
        r#"{"sources": [{"name": "rtsp://admin:geheim@cam/1", "url": "a"}]}"#,
        r#"{"sources": [{"url": "rtspx://admin:geheim@cam/1"}]}"#,
        r#"{"sources": [{"url": "rtsp://cam/1", "username": "a", "password": ["geheim"]}]}"#,
        r#"{"sources": ["rtsp://admin:geheim\d@cam/1"]}"#,
        r#"{"sources": [rtsp://admin:geheim@cam/1]}"#,
        r#"{"sources": [{"url": "rtsp://cam/1", "username": "a", "password": "geheim\x"}]}"#,
        r#"{"sources": [{"url": "rtsp://cam/1", "username": "a", "password": geheim}]}"#,
        r#"{"sources": [{"rtsp://admin:geheim@cam/1": "gate"}]}"#,
        r#"{"sources": [{"admin:geheim@cam": "a", "admin:geheim@cam": "b"}]}"#,
        r#"{"sources": ["a"], "source_duration_limits": {"admin:geheim@${NOT_SET}": 1}}"#,
    ] {
        let problems = RecorderSettings::from_text(text, &environment())
            .expect_err(text)
            .to_string();
        assert!(!problems.contains("geheim"), "{text} gives {problems}");
    }
}

#[test]
fn a_password_that_looks_like_a_port_and_a_path_is_refused() {
    for address in ["rtsp://viewer:12/34@cam/1", "http://viewer:12/#34@cam/1"] {
        let file = serde_json::json!({ "sources": [address] }).to_string();
        let problems = RecorderSettings::from_text(&file, &environment()).expect_err(address);
        let problems = problems.to_string();
        let advice =
            "host or port cannot be read; special characters in a password must be percent-encoded";
        assert!(problems.contains(advice), "{problems}");
        assert!(!problems.contains("34"), "{problems}");
    }
    for address in [
        "rtsp://cam/34@cam/1",
        "rtsp://cam.example:8554/34@cam/1",
        "rtsp://[::1]:8554/34@cam/1",
        "rtsp://viewer:12%2F34@cam/1",
        "http://cam:8080/1?mail=a@b",
    ] {
        let file = serde_json::json!({ "sources": [address] }).to_string();
        RecorderSettings::from_text(&file, &environment()).expect(address);
    }
}

#[test]
fn blur_problems() {
    blur(
        r#"{
          "blur_module_path": "head blur",
          "mask": "pixelate",
          "plugin": [],
          "video_codec": "copy",
          "max_concurrent_processes": 1.5,
          "blur_strength": 1000,
          "sources": [],
          "delete_orginal": false
        }"#,
        expect![[r#"
            8 problems in the settings
              line 2: blur_module_path: "head blur" is no plugin; give a path that ends in .so or .py, a name such as "head-blur", or null
              line 3: mask: "pixelate" is not allowed; give "blur", "mosaic" or "solid"
              line 4: plugin: a list is not allowed; give an object
              line 5: video_codec: "copy" is not allowed, since a blurred picture must be encoded; give an encoder such as "libx264"
              line 6: max_concurrent_processes: 1.5 is not allowed; give a whole number from 1 to 256
              line 7: blur_strength: 1000 is not allowed; give a whole number from 1 to 100
              line 8: sources: it belongs into rtsp_recorder_config.json
              line 9: delete_orginal: there is no such key; did you mean `delete_original`?"#]],
    );
}

#[test]
fn an_address_that_lacks_a_slash_is_no_path() {
    recorder(
        r#"{"sources": ["rtsp:/10.0.0.7/x", "HTTP:10.0.0.7/x", "http", "rtsp/a:b.mp4"]}"#,
        expect![[r#"
            2 problems in the settings
              line 1: sources[0].url: an address begins with rtsp:// (two slashes)
              line 1: sources[1].url: an address begins with http:// (two slashes)"#]],
    );
}

#[test]
fn finished_videos_lie_apart_from_what_waits() {
    blur(
        r#"{
          "raw_dir": "/srv/cctv/raw",
          "output_dir": "/srv/cctv"
        }"#,
        expect![[r#"
            1 problem in the settings
              line 3: output_dir: "/srv/cctv" and raw_dir "/srv/cctv/raw" are the same or lie within each other, and old files in output_dir are deleted to make room; give each a directory beside the other"#]],
    );
    blur(
        r#"{
          "raw_dir": "./videos/../videos",
          "output_dir": "videos/./",
          "queue_dir": "processed/queue",
          "backup_original": true,
          "backup_dir": "x/../processed"
        }"#,
        expect![[r#"
            2 problems in the settings
              line 3: output_dir: "videos/./" and raw_dir "./videos/../videos" are the same or lie within each other, and old files in output_dir are deleted to make room; give each a directory beside the other
              line 6: backup_dir: "x/../processed" and queue_dir "processed/queue" are the same or lie within each other, and old files in backup_dir are deleted to make room; give each a directory beside the other"#]],
    );
    blur(
        r#"{
          "backup_original": true,
          "backup_dir": "processed_videos/originals"
        }"#,
        expect![[r#"
            1 problem in the settings
              line 3: backup_dir: "processed_videos/originals" and output_dir "./processed_videos" are the same or lie within each other, and unblurred originals do not belong among blurred videos; give each a directory beside the other"#]],
    );
    for apart in [
        "{}",
        r#"{"backup_original": true}"#,
        r#"{"raw_dir": "/srv/cctv", "output_dir": "/srv/cctv2", "queue_dir": "/srv/cctv/queue"}"#,
        r#"{"backup_dir": "./raw_videos/backup"}"#,
    ] {
        BlurSettings::from_text(apart, &environment()).expect(apart);
    }
}

#[test]
fn a_home_that_nobody_replaces_is_no_folder() {
    recorder(
        r#"{"sources": ["a"], "output_dir": "~/raw", "log_dir": "~"}"#,
        expect![[r#"
            2 problems in the settings
              line 1: output_dir: "~/raw" would be a folder with the name ~; write the whole path, or "${HOME}/raw"
              line 1: log_dir: "~" would be a folder with the name ~; write the whole path, or "${HOME}/""#]],
    );
    let good = r#"{"sources": ["a"], "output_dir": "./~", "log_dir": "~logs"}"#;
    RecorderSettings::from_text(good, &environment()).unwrap();
    recorder(
        r#"{"sources": ["~/a.mp4"]}"#,
        expect![[r#"
            1 problem in the settings
              line 1: sources[0].url: "~/a.mp4" would be a folder with the name ~; write the whole path, or "${HOME}/a.mp4""#]],
    );
    blur(
        r#"{
          "blur_module_path": "~/blur.py",
          "plugin": {
            "python_executable": "~/venv/bin/python"
          },
          "sandbox_writable": ["/tmp/x",
            "~/cache"]
        }"#,
        expect![[r#"
            3 problems in the settings
              line 2: blur_module_path: "~/blur.py" would be a folder with the name ~; write the whole path, or "${HOME}/blur.py"
              line 4: plugin.python_executable: "~/venv/bin/python" would be a folder with the name ~; write the whole path, or "${HOME}/venv/bin/python"
              line 7: sandbox_writable[1]: "~/cache" would be a folder with the name ~; write the whole path, or "${HOME}/cache""#]],
    );
    blur(
        r#"{"blur_module_path": "head-blur", "plugin": {"model_dir": "~/models"}}"#,
        expect![[r#"
            1 problem in the settings
              line 1: plugin.model_dir: "~/models" would be a folder with the name ~; write the whole path, or "${HOME}/models""#]],
    );
    // What another plugin makes of its own keys is its own matter.
    let good = r#"{"blur_module_path": "own.so", "plugin": {"model_dir": "~/m", "python_executable": "~/p"}}"#;
    BlurSettings::from_text(good, &environment()).unwrap();
}

#[test]
fn a_key_in_the_wrong_place_is_told_the_right_one() {
    recorder(
        r#"{"sources": [{"url": "rtsp://cam/1", "log_dir": "x", "dashboard": true}], "username": "a", "url": "b"}"#,
        expect![[r#"
            4 problems in the settings
              line 1: username: it belongs into an entry of `sources`
              line 1: url: it belongs into an entry of `sources`
              line 1: sources[0].log_dir: it belongs at the top of the file
              line 1: sources[0].dashboard: it belongs into run_system_config.json"#]],
    );
    blur(
        r#"{"model_dir": "/m", "python_executable": "/p"}"#,
        expect![[r#"
            2 problems in the settings
              line 1: model_dir: it belongs under `plugin`
              line 1: python_executable: it belongs under `plugin`"#]],
    );
}

#[test]
fn an_address_without_a_login_is_told_of_host_and_port_only() {
    for address in [
        "rtsp://1.2.3.4:99999/s",
        "rtsp://1.2.3.4:55a/s",
        "rtsp://1.2. 3.4/s",
        "rtsp:///s",
    ] {
        let file = serde_json::json!({ "sources": [address] }).to_string();
        let problems = RecorderSettings::from_text(&file, &environment()).expect_err(address);
        let problems = problems.to_string();
        let advice = "host or port cannot be read; write host:port with a port from 1 to 65535";
        assert!(problems.ends_with(advice), "{problems}");
    }
}

#[test]
fn slips_with_commas_brackets_and_quotes() {
    for (text, told) in [
        (
            "{\"bitrate\": 1,\n\"sources\": [\"a\"]\n",
            "line 3: expected `,` or `}` after a value, found the end of the file",
        ),
        (
            "{\"sources\": [\"a\"",
            "line 1: expected `,` or `]` after an element, found the end of the file",
        ),
        (
            "{\"sources\": [\"a\"\n  // all\n  \"b\"]}",
            "line 1: `,` missing after this value",
        ),
        (
            "{\"sources\": [\"a\"}\n",
            "line 1: expected `,` or `]` after an element, found `}`",
        ),
        (
            "{\"sources\": [\"a\"\n}",
            "line 2: expected `,` or `]` after an element, found `}`",
        ),
        (
            "{\"sources\": [\"rtsp://a:ge\"Zh@cam/1\"]}",
            "line 1: expected `,` or `]` after an element in column 27; a `\"` within text is written `\\\"`",
        ),
        (
            "{\"sources\": [], \"bitrate\": \"1\"Z\"}",
            "line 1: expected `,` or `}` after a value in column 31; a `\"` within text is written `\\\"`",
        ),
        (
            "{\"a\": [1 2]}",
            "line 1: expected `,` or `]` after an element in column 10",
        ),
        (
            "{\"a\": \"b\", \"c\"Z\": 1}",
            "line 1: expected `:` after a key in column 15; a `\"` within text is written `\\\"`",
        ),
        ("{\"a\" 1}", "line 1: expected `:` after a key in column 6"),
    ] {
        let problems = RecorderSettings::from_text(text, &environment()).expect_err(text);
        assert_eq!(problems.list[0].to_string(), told, "{text}");
    }
}

#[test]
fn comments_of_other_languages_and_empty_variables() {
    recorder(
        "{\"sources\": [\"a\"], # all\n}",
        expect![[r#"
            1 problem in the settings
              line 1: `#` begins no comment here; write `//`"#]],
    );
    recorder(
        r#"{"sources": ["rtsp://viewer:${}@cam/1"]}"#,
        expect![[r#"
            1 problem in the settings
              line 1: sources[0]: `${}` names no variable; write ${NAME}, or $${ for the characters themselves"#]],
    );
    recorder(
        r#"{"sources": [{"url": "rtsp://cam/1", "username": "viewer", "password": "${EMPTY}"}]}"#,
        expect![[r#"
            1 problem in the settings
              line 1: sources[0].password: the environment variable EMPTY is empty; give it a value, or leave ${EMPTY} out"#]],
    );
}
