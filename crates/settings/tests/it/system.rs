//! The settings of run-system itself.

use expect_test::expect;
use settings::{Environment, HookEvent, HookTarget, SystemSettings, keys, samples};

fn problems(text: &str) -> String {
    SystemSettings::from_text(text, &Environment::empty())
        .unwrap_err()
        .to_string()
}

#[test]
fn the_sample_holds_every_key_with_its_default() {
    let sample = SystemSettings::from_text(samples::system(), &Environment::empty()).unwrap();
    assert_eq!(sample, SystemSettings::default_settings());
    for key in keys::SYSTEM {
        assert!(
            samples::system().contains(&format!("  \"{}\": {}", key.name, key.default)),
            "{}",
            key.name
        );
    }
}

#[test]
fn defaults() {
    expect![[r#"
        SystemSettings {
            dashboard: Some(
                DashboardSettings {
                    listen: 127.0.0.1:8780,
                    token: None,
                    tls: None,
                    show_originals: false,
                },
            ),
            hooks: [],
        }
    "#]]
    .assert_debug_eq(&SystemSettings::default_settings());
}

#[test]
fn an_address_that_others_reach_needs_token_and_tls() {
    expect![[r#"
        1 problem in the settings
          line 2: dashboard_listen: 0.0.0.0:8780 can be reached from other machines, which needs dashboard_token, dashboard_tls_cert and dashboard_tls_key; set all three, or listen on 127.0.0.1"#]]
    .assert_eq(&problems("{\n\"dashboard_listen\": \"0.0.0.0:8780\"}"));
    for half in [
        r#""dashboard_token": "0123456789abcdef""#,
        r#""dashboard_tls_cert": "c.pem", "dashboard_tls_key": "k.pem""#,
    ] {
        let text = format!(r#"{{"dashboard_listen": "[::]:8780", {half}}}"#);
        assert!(problems(&text).contains("set all three"), "{text}");
    }
    let whole = r#"{"dashboard_listen": "0.0.0.0:1", "dashboard_token": "0123456789abcdef",
        "dashboard_tls_cert": "c.pem", "dashboard_tls_key": "k.pem"}"#;
    SystemSettings::from_text(whole, &Environment::empty()).unwrap();
    let off = r#"{"dashboard_listen": "0.0.0.0:1", "dashboard": false}"#;
    let off = SystemSettings::from_text(off, &Environment::empty()).unwrap();
    assert!(off.dashboard.is_none());
}

#[test]
fn what_is_wrong_is_told_and_the_token_is_not() {
    let text = r#"{"dashboard_listen": "here",
        "dashboard_token": "hunter2",
        "dashboard_tls_key": "k.pem",
        "dashbord": true}"#;
    expect![[r#"
        4 problems in the settings
          line 1: dashboard_listen: "here" is not allowed; give an address and a port such as "127.0.0.1:8780"
          line 2: dashboard_token: the value is not allowed; give at least 16 letters and digits, such as `openssl rand -hex 16` prints
          line 3: dashboard_tls_key: TLS also needs dashboard_tls_cert
          line 4: dashbord: there is no such key; did you mean `dashboard`?"#]]
    .assert_eq(&problems(text));
    assert!(!problems(r#"{"dashboard_token": 12345678901234567}"#).contains("1234567890"));
}

#[test]
fn originals_are_shown_only_to_who_knows_the_token() {
    let without = "{\n\"dashboard_show_originals\": true}";
    expect![[r#"
        1 problem in the settings
          line 2: dashboard_show_originals: shows people unblurred, so it needs dashboard_token; set it, or leave this false"#]]
    .assert_eq(&problems(without));
    let with = r#"{"dashboard_show_originals": true, "dashboard_token": "0123456789abcdef"}"#;
    let settings = SystemSettings::from_text(with, &Environment::empty()).unwrap();
    assert!(settings.dashboard.unwrap().show_originals);
}

#[test]
fn a_token_is_not_shown() {
    let text = r#"{"dashboard_token": "0123456789abcdef"}"#;
    let settings = SystemSettings::from_text(text, &Environment::empty()).unwrap();
    assert!(!format!("{settings:?}").contains("0123456789"));
}

#[test]
fn hooks_have_defaults_and_take_secrets_from_the_environment() {
    let text = r#"{"notifications": [
        {"name": "chat", "url": "https://chat.example:8443/hooks/${HOOK}?a=b", "headers": {"Authorization": "Bearer ${HOOK}"},
         "body": {"content": "{text}"}},
        {"name": "mail", "command": ["mail-it", "--to", "x"], "events": ["camera_down", "segment_published"],
         "timeout": 2.5, "retries": 0, "min_interval": 0}
    ]}"#;
    let env = Environment {
        variable: &|name| (name == "HOOK").then(|| "geheim".to_owned()),
        program_dir: None,
    };
    let settings = SystemSettings::from_text(text, &env).unwrap();
    let HookTarget::Web { url, headers, body } = &settings.hooks[0].target else {
        panic!("{settings:?}");
    };
    assert_eq!(url.endpoint(), ("chat.example", 8443));
    assert_eq!(url.expose_path(), "/hooks/geheim?a=b");
    assert_eq!(headers[0].1, "Bearer geheim");
    assert_eq!(body.as_ref().unwrap()["content"], "{text}");
    assert!(
        !settings.hooks[0]
            .events
            .contains(&HookEvent::SegmentPublished)
    );
    assert_eq!(settings.hooks[0].events.len(), HookEvent::NAMES.len() - 1);
    expect![[r#"
        [
            Hook {
                name: "chat",
                target: HookTarget(https://chat.example:8443/***),
                events: {
                    CameraDown,
                    CameraUp,
                    TicketFailed,
                    BacklogAlarm,
                    BacklogOver,
                    DiskAlarm,
                    DiskOver,
                    DaemonDegraded,
                    DaemonRecovered,
                },
                timeout: 10s,
                retries: 20,
                min_interval: 60s,
            },
            Hook {
                name: "mail",
                target: HookTarget(mail-it),
                events: {
                    CameraDown,
                    SegmentPublished,
                },
                timeout: 2.5s,
                retries: 0,
                min_interval: 0ns,
            },
        ]
    "#]]
    .assert_debug_eq(&settings.hooks);
}

#[test]
fn what_is_wrong_with_hooks_is_told_without_their_secrets() {
    let text = r#"{"notifications": [
        {"url": "https://chat.example/geheim"},
        {"name": "a", "url": "ftp://chat.example/geheim"},
        {"name": "b", "url": "https://me:geheim@chat.example/"},
        {"name": "c", "url": "https://chat.example/geheim geheim"},
        {"name": "d", "url": "https://chat.example/", "headers": {"X: geheim": "a"}},
        {"name": "e", "url": "https://chat.example/", "headers": {"Host": "geheim"}},
        {"name": "f", "url": "https://chat.example/", "headers": {"X": "geheim\r\nY: z"}},
        {"name": "g"},
        {"name": "h", "url": "https://chat.example/geheim", "command": ["x"]},
        {"name": "i", "command": "mail geheim"},
        {"name": "j", "command": ["mail"], "headers": {}, "body": {}},
        {"name": "k", "command": ["mail"], "events": ["camera_gone"]},
        {"name": "k2", "command": ["mail"], "events": []},
        {"name": "l/m", "command": ["mail"], "retry": 3},
        {"name": "n", "command": ["mail"]},
        {"name": "n", "command": ["mail"]},
        "geheim"
    ]}"#;
    let told = problems(text);
    assert!(!told.contains("geheim"), "{told}");
    expect![[r#"
        18 problems in the settings
          line 2: notifications[0].name: missing; every hook needs one, for the log and the status
          line 3: notifications[1].url: the address cannot be read; give one that begins with https://
          line 4: notifications[2].url: user name and password do not belong here; give them under `headers` as "Authorization"
          line 5: notifications[3].url: blanks and other than ASCII characters in the address must be percent-encoded
          line 6: notifications[4].headers: not allowed; give an object {"name": "value"}, all in ASCII and none of host, content-length, transfer-encoding, connection
          line 7: notifications[5].headers: not allowed; give an object {"name": "value"}, all in ASCII and none of host, content-length, transfer-encoding, connection
          line 8: notifications[6].headers: not allowed; give an object {"name": "value"}, all in ASCII and none of host, content-length, transfer-encoding, connection
          line 9: notifications[7].url: missing; give the address of a webhook, or `command`
          line 10: notifications[8].command: a hook has either `url` or `command`, not both
          line 11: notifications[9].command: not allowed; give a list with the program and its arguments, each in double quotes
          line 12: notifications[10].headers: only a webhook has one
          line 12: notifications[10].body: only a webhook has one
          line 13: notifications[11].events: not allowed; give a list with some of camera_down, camera_up, segment_published, ticket_failed, backlog_alarm, backlog_over, disk_alarm, disk_over, daemon_degraded, daemon_recovered
          line 14: notifications[12].events: not allowed; give a list with some of camera_down, camera_up, segment_published, ticket_failed, backlog_alarm, backlog_over, disk_alarm, disk_over, daemon_degraded, daemon_recovered
          line 15: notifications[13].retry: there is no such key; did you mean `retries`?
          line 15: notifications[13].name: "l/m" cannot be a file name; use letters, digits, `-`, `_` and `.`, at most 80 bytes, such as "l_m"
          line 17: notifications[15]: there are two hooks "n"; rename one
          line 18: notifications[16]: no hook; give an object with `name` and `url` or `command`"#]].assert_eq(&told);
    assert!(problems(r#"{"notifications": {}}"#).contains("put the hooks in [ ]"));
}

#[test]
fn keys_of_hooks_and_paths_in_a_home_are_told_what_to_do() {
    let text = r#"{"headers": {}, "dashboard_tls_cert": "~/c.pem", "dashboard_tls_key": "/k.pem",
        "notifications": [{"name": "a", "command": ["~/tell.sh"], "dashboard_listen": "x"}]}"#;
    expect![[r#"
        4 problems in the settings
          line 1: headers: it belongs into an entry of `notifications`
          line 1: dashboard_tls_cert: "~/c.pem" would be a folder with the name ~; write the whole path, or "${HOME}/c.pem"
          line 2: notifications[0].dashboard_listen: it belongs at the top of the file
          line 2: notifications[0].command: "~/tell.sh" would be a folder with the name ~; write the whole path, or "${HOME}/tell.sh""#]]
    .assert_eq(&problems(text));
}
