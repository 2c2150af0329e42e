//! The settings of run-system itself.

use expect_test::expect;
use settings::{Environment, SystemSettings, keys, samples};

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
                },
            ),
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
fn a_token_is_not_shown() {
    let text = r#"{"dashboard_token": "0123456789abcdef"}"#;
    let settings = SystemSettings::from_text(text, &Environment::empty()).unwrap();
    assert!(!format!("{settings:?}").contains("0123456789"));
}
