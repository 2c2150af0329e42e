//! Addresses: what is shown and what is not.

use expect_test::expect;
use settings::{Environment, RecorderSettings, SourceUrl};

fn url(text: &str) -> SourceUrl {
    let file = serde_json::json!({ "sources": [text] }).to_string();
    RecorderSettings::from_text(&file, &Environment::empty())
        .unwrap()
        .sources
        .remove(0)
        .url
}

#[test]
fn credentials_are_hidden() {
    let mut out = String::new();
    for text in [
        "rtsp://admin:geheim@192.168.1.10:554/stream1",
        "rtsp://admin:ge%40heim%2F@cam/1",
        "rtsp://admin:ge@heim@cam/1",
        "rtsp://admin:100%@cam/1",
        "rtsp://admin@cam/1",
        "rtsps://cam",
        "http://cam:8080/v?user=admin&password=geheim&res=1",
        "rtsp://[::1]:8554/a",
        "RTSP://Cam/1#fragment",
        "./videos/a@b.mp4",
        "file:///videos/a.mp4",
    ] {
        let url = url(text);
        out += &format!(
            "{text}\n  shown {url} | {url:?}\n  clean {}\n  exposed {}\n  {:?} {:?}\n",
            url.without_credentials(),
            url.expose(),
            url.credentials(),
            url.endpoint()
        );
    }
    expect![[r#"
        rtsp://admin:geheim@192.168.1.10:554/stream1
          shown rtsp://***@192.168.1.10:554/stream1 | SourceUrl(rtsp://***@192.168.1.10:554/stream1)
          clean rtsp://192.168.1.10:554/stream1
          exposed rtsp://admin:geheim@192.168.1.10:554/stream1
          Some(Credentials(admin:***)) Some(("192.168.1.10", 554))
        rtsp://admin:ge%40heim%2F@cam/1
          shown rtsp://***@cam/1 | SourceUrl(rtsp://***@cam/1)
          clean rtsp://cam/1
          exposed rtsp://admin:ge%40heim%2F@cam/1
          Some(Credentials(admin:***)) Some(("cam", 554))
        rtsp://admin:ge@heim@cam/1
          shown rtsp://***@cam/1 | SourceUrl(rtsp://***@cam/1)
          clean rtsp://cam/1
          exposed rtsp://admin:ge%40heim@cam/1
          Some(Credentials(admin:***)) Some(("cam", 554))
        rtsp://admin:100%@cam/1
          shown rtsp://***@cam/1 | SourceUrl(rtsp://***@cam/1)
          clean rtsp://cam/1
          exposed rtsp://admin:100%25@cam/1
          Some(Credentials(admin:***)) Some(("cam", 554))
        rtsp://admin@cam/1
          shown rtsp://***@cam/1 | SourceUrl(rtsp://***@cam/1)
          clean rtsp://cam/1
          exposed rtsp://admin:@cam/1
          Some(Credentials(admin:***)) Some(("cam", 554))
        rtsps://cam
          shown rtsps://cam | SourceUrl(rtsps://cam)
          clean rtsps://cam
          exposed rtsps://cam
          None Some(("cam", 322))
        http://cam:8080/v?user=admin&password=geheim&res=1
          shown http://cam:8080/v?user=***&password=***&res=1 | SourceUrl(http://cam:8080/v?user=***&password=***&res=1)
          clean http://cam:8080/v?user=***&password=***&res=1
          exposed http://cam:8080/v?user=admin&password=geheim&res=1
          None Some(("cam", 8080))
        rtsp://[::1]:8554/a
          shown rtsp://[::1]:8554/a | SourceUrl(rtsp://[::1]:8554/a)
          clean rtsp://[::1]:8554/a
          exposed rtsp://[::1]:8554/a
          None Some(("::1", 8554))
        RTSP://Cam/1#fragment
          shown rtsp://Cam/1 | SourceUrl(rtsp://Cam/1)
          clean rtsp://Cam/1
          exposed rtsp://Cam/1
          None Some(("Cam", 554))
        ./videos/a@b.mp4
          shown ./videos/a@b.mp4 | SourceUrl(./videos/a@b.mp4)
          clean ./videos/a@b.mp4
          exposed ./videos/a@b.mp4
          None None
        file:///videos/a.mp4
          shown /videos/a.mp4 | SourceUrl(/videos/a.mp4)
          clean /videos/a.mp4
          exposed /videos/a.mp4
          None None
    "#]].assert_eq(&out);
}

#[test]
fn decoded_credentials_survive_the_round_trip() {
    for password in ["ge@heim", "a/b?c#d", "ä ö", "%41", ""] {
        let file = serde_json::json!({"sources": [{"url": "rtsp://cam/1", "username": "u:x", "password": password}]});
        let settings =
            RecorderSettings::from_text(&file.to_string(), &Environment::empty()).unwrap();
        let again = url(&settings.sources[0].url.expose());
        let credentials = again.credentials().unwrap();
        assert_eq!(
            (credentials.username.as_str(), credentials.password.as_str()),
            ("u:x", password)
        );
    }
}

#[test]
fn a_login_may_stand_partly_in_the_address() {
    for (source, username, password) in [
        (
            serde_json::json!({"url": "rtsp://admin@cam/1", "password": "geheim"}),
            "admin",
            "geheim",
        ),
        (
            serde_json::json!({"url": "rtsp://admin:old@cam/1", "password": "geheim"}),
            "admin",
            "geheim",
        ),
        (
            serde_json::json!({"url": "rtsp://admin:geheim@cam/1", "username": "viewer"}),
            "viewer",
            "geheim",
        ),
        (
            serde_json::json!({"url": "rtsp://cam/1", "username": "viewer"}),
            "viewer",
            "",
        ),
    ] {
        let file = serde_json::json!({ "sources": [source] }).to_string();
        let settings = RecorderSettings::from_text(&file, &Environment::empty()).unwrap();
        let credentials = settings.sources[0].url.credentials().unwrap();
        let read = (&*credentials.username, &*credentials.password);
        assert_eq!(read, (username, password));
    }
}

#[test]
fn who_logs_in_by_other_means_still_asks_for_the_whole_path_and_query() {
    let url = url("rtsp://admin:geheim@cam/live?user=admin&password=geheim&channel=1");
    assert_eq!(
        url.expose_without_userinfo(),
        "rtsp://cam/live?user=admin&password=geheim&channel=1"
    );
}

#[test]
fn secrets_in_the_path_are_hidden_like_those_in_the_query() {
    let mut out = String::new();
    for text in [
        "rtsp://cam/user=admin&password=geheim&channel=1&stream=0.sdp?",
        "rtsp://cam/user=admin_password=geheim_channel=1_stream=0.sdp?real_stream",
        "rtsp://cam/user=admin&password=&channel=1&stream=0.sdp",
        "rtsp://cam/user=admin_password=ge_heim_channel=1",
        "rtsp://cam/live;token=geheim;x=1?channel=2",
        "rtsp://cam/token=geheim/channel=1",
        "rtsp://cam/a?x=1;password=geheim&channel=1",
        "rtsp://cam/a?auth_type=geheim&access_token=ge_heim=1?geheim",
        "rtsp://cam?key=geheim",
        // None of these is a secret.
        "rtsp://cam/user/password/geheim_channel=1",
        "rtsp://cam/live_user_channel=1",
        "rtsp://cam/a?x=user_1&y=token=2",
        "/videos/user=1/a.mp4",
    ] {
        out += &format!("{text}\n  {}\n", url(text).without_credentials());
    }
    expect![[r#"
        rtsp://cam/user=admin&password=geheim&channel=1&stream=0.sdp?
          rtsp://cam/user=***&password=***&channel=1&stream=0.sdp?
        rtsp://cam/user=admin_password=geheim_channel=1_stream=0.sdp?real_stream
          rtsp://cam/user=***_password=***_channel=1_stream=0.sdp?real_stream
        rtsp://cam/user=admin&password=&channel=1&stream=0.sdp
          rtsp://cam/user=***&password=***&channel=1&stream=0.sdp
        rtsp://cam/user=admin_password=ge_heim_channel=1
          rtsp://cam/user=***_password=***_channel=1
        rtsp://cam/live;token=geheim;x=1?channel=2
          rtsp://cam/live;token=***;x=1?channel=2
        rtsp://cam/token=geheim/channel=1
          rtsp://cam/token=***/channel=1
        rtsp://cam/a?x=1;password=geheim&channel=1
          rtsp://cam/a?x=1;password=***&channel=1
        rtsp://cam/a?auth_type=geheim&access_token=ge_heim=1?geheim
          rtsp://cam/a?auth_type=***&access_token=***
        rtsp://cam?key=geheim
          rtsp://cam?key=***
        rtsp://cam/user/password/geheim_channel=1
          rtsp://cam/user/password/geheim_channel=1
        rtsp://cam/live_user_channel=1
          rtsp://cam/live_user_channel=1
        rtsp://cam/a?x=user_1&y=token=2
          rtsp://cam/a?x=user_1&y=token=2
        /videos/user=1/a.mp4
          /videos/user=1/a.mp4
    "#]]
    .assert_eq(&out);
}

/// The way that the guide shows: what stands in the variable is the password, whatever it is made of.
#[test]
fn a_password_from_the_environment_may_hold_anything() {
    let read = |address: &str, value: &str| {
        let variable = |name: &str| (name == "SECRET").then(|| value.to_owned());
        let env = Environment {
            variable: &variable,
            program_dir: None,
        };
        let file = serde_json::json!({ "sources": [address] }).to_string();
        let source = RecorderSettings::from_text(&file, &env)
            .unwrap()
            .sources
            .remove(0);
        let shown = format!("{} {:?} {}", source.name, source.url, source.url);
        let credentials = source.url.credentials().cloned().unwrap();
        let (host, port) = source.url.endpoint().unwrap();
        let place = format!("{host}:{port}");
        (shown, credentials.username, credentials.password, place)
    };
    for password in [
        "plain",
        "p@ss/w:rd#\u{fc}",
        "12/34",
        "a?b",
        "50%",
        "ge heim",
        "[x]",
        "a\\b",
        "p@ss#1",
        "pass%41word",
        "p%40ss%2Fwd",
    ] {
        let (shown, name, read_as, place) =
            read("rtsp://viewer:${SECRET}@10.0.0.7:8554/live/1?x=1", password);
        assert_eq!((&*name, &*read_as), ("viewer", password));
        assert_eq!(place, "10.0.0.7:8554");
        assert!(!shown.contains("ss") && !shown.contains("34"), "{shown}");
        let both = read("rtsp://${SECRET}@cam/1", &format!("viewer:{password}"));
        assert_eq!((&*both.1, &*both.2), ("viewer", password));
        assert_eq!(both.3, "cam:554");
    }
    let half = read("rtsp://viewer:x${SECRET}y@cam/1", "/@");
    assert_eq!(half.2, "x/@y");
}

#[test]
fn a_whole_address_in_a_variable_is_one_like_any_other() {
    let env = Environment {
        variable: &|_| Some("rtsp://viewer:p%40ss@cam/1".to_owned()),
        program_dir: None,
    };
    let file = r#"{ "sources": ["${CAMERA}"] }"#;
    let settings = RecorderSettings::from_text(file, &env).unwrap();
    let credentials = settings.sources[0].url.credentials().unwrap();
    assert_eq!(credentials.password, "p@ss");
}

#[test]
fn a_password_that_looks_like_a_variable_is_doubted() {
    let doubt = |source: serde_json::Value| {
        let file = serde_json::json!({ "sources": [source] }).to_string();
        let settings = RecorderSettings::from_text(&file, &Environment::empty()).unwrap();
        settings.sources[0].doubt()
    };
    let told = doubt(serde_json::json!("rtsp://viewer:$CAMERA_PASSWORD@cam/1")).unwrap();
    assert_eq!(
        told,
        "the password begins with `$`; if a variable is meant, write ${NAME}"
    );
    let separate =
        serde_json::json!({"url": "rtsp://cam/1", "username": "viewer", "password": "$PW"});
    assert_eq!(doubt(separate), Some(told));
    for good in [
        "rtsp://viewer:pa$$word@cam/1",
        "rtsp://viewer:$1@cam/1",
        "rtsp://cam/1",
        "a.mp4",
    ] {
        assert_eq!(doubt(serde_json::json!(good)), None, "{good}");
    }
}

#[test]
fn what_a_variable_holds_elsewhere_stays_as_it_is() {
    let variable = |_: &str| Some("10.0.0.7:8554/live/1?x=a/b".to_owned());
    let env = Environment {
        variable: &variable,
        program_dir: None,
    };
    let file = r#"{ "sources": ["rtsp://viewer:geheim@${PLACE}"] }"#;
    let settings = RecorderSettings::from_text(file, &env).unwrap();
    assert_eq!(
        settings.sources[0].url.without_credentials(),
        "rtsp://10.0.0.7:8554/live/1?x=a/b"
    );
}

#[test]
fn a_password_that_is_taken_for_a_host_is_refused_and_not_shown() {
    for address in [
        "rtsp://viewer:p@ss/wort@cam/1",
        "rtsp://viewer:p@ss?wort@cam/1",
        "rtsp://viewer:p@ss#wort@cam/1",
        "rtsp://viewer:12?wort@cam/1",
    ] {
        let file = serde_json::json!({ "sources": [address] }).to_string();
        let refused = RecorderSettings::from_text(&file, &Environment::empty())
            .expect_err(address)
            .to_string();
        assert!(refused.contains("percent-encoded"), "{refused}");
        assert!(!refused.contains("wort"), "{refused}");
    }
}

/// What the message about an address that does not begin like one says.
const BEGINNING: &str = "an address begins with rtsp://, as in rtsp://user:password@192.168.1.20/stream1; the path of \
    a file that looks like one begins with / or ./";

#[test]
fn an_address_without_its_beginning_is_no_file_and_is_not_shown() {
    for address in [
        "admin:S3cretPw@192.168.0.13:554/Streaming/Channels/101",
        "admin:S3cretPw@192.168.0.10",
        "admin:S3cr/etPw@cam/1",
        "admin@cam/1",
        "rtsp;//admin:S3cretPw@cam/1",
        "rtsp//admin:S3cretPw@cam/1",
        "rtsp ://admin:S3cretPw@cam/1",
        "rtsp\u{ff1a}//admin:S3cretPw@cam/1",
        "//admin:S3cretPw@cam/1",
        "/admin:S3cretPw@192.168.0.10/1",
        "admin:S3cretPw@cam/1?next=http://other/1",
        "rtps//192.168.0.10/1",
        "rtsp;//cam/1",
        "rtsp//cam/1",
        "//192.168.0.10/1",
        "192.168.0.10",
        "192.168.0.10:554/1",
        "192.168.0.10/1",
        "cam.example:8554",
        "cam:554/1",
        "[fe80::1]:554/1",
        "dvr/user=admin&password=S3cretPw&channel=1",
    ] {
        for (entry, key) in [
            (serde_json::json!(address), "sources[0]"),
            (serde_json::json!({ "url": address }), "sources[0].url"),
        ] {
            let file = serde_json::json!({ "sources": [entry] }).to_string();
            let refused = RecorderSettings::from_text(&file, &Environment::empty())
                .expect_err(address)
                .to_string();
            assert!(refused.contains(BEGINNING), "{address}: {refused}");
            assert!(refused.contains(key), "{address}: {refused}");
            assert!(!refused.contains("S3cr"), "{refused}");
        }
    }
    for file in [
        "/videos/a@b.mp4",
        "./a@b.mp4",
        "../12:30@gate.mp4",
        "/videos/12:30@gate.mp4",
        "file:///videos/a@b.mp4",
        "videos//a.mp4",
        "//videos/a.mp4",
        "192.168.0.10.mp4",
        "192.168.0.10_1/a.mp4",
        "[front] 1.mp4",
        "a:b.mp4",
        "C:\\videos\\a.mp4",
        "media2",
    ] {
        assert_eq!(url(file).kind(), settings::SourceKind::File, "{file}");
    }
}

#[test]
fn a_login_without_a_scheme_is_not_shown_wherever_it_was_put() {
    let env = Environment::empty();
    for file in [
        r#"{"sources": ["rtsp://cam/1"], "source_duration_limits": {"admin:S3cretPw@cam/1": 1}}"#,
        r#"{"sources": [{"url": "rtsp://cam/1", "name": "admin:S3cretPw@cam/1"}]}"#,
        r#"{"sources": [{"url": "rtsp://cam/1", "transport": "admin:S3cretPw@cam/1"}]}"#,
        r#"{"sources": ["admin:S3cretPw@cam://1"]}"#,
    ] {
        let refused = RecorderSettings::from_text(file, &env)
            .expect_err(file)
            .to_string();
        assert!(!refused.contains("S3cr"), "{refused}");
    }
}

#[test]
fn a_limit_names_its_source_as_sources_do_variables_included() {
    let variable = |name: &str| (name == "SECRET").then(|| "p@ss/wort".to_owned());
    let env = Environment {
        variable: &variable,
        program_dir: None,
    };
    let file = |limited: &str| {
        let address = "rtsp://viewer:${SECRET}@cam/1";
        serde_json::json!({ "sources": [address], "source_duration_limits": { limited: 5 } })
            .to_string()
    };
    let settings =
        RecorderSettings::from_text(&file("rtsp://viewer:${SECRET}@cam/1"), &env).unwrap();
    assert_eq!(
        settings.sources[0].duration_limit,
        Some(std::time::Duration::from_secs(5))
    );
    for (limited, words) in [
        ("rtsp://viewer:${SECRET}@cam/2", "there is no such source"),
        ("rtsp://viewer:${OTHER}@cam/1", "OTHER is not set"),
    ] {
        let refused = RecorderSettings::from_text(&file(limited), &env)
            .unwrap_err()
            .to_string();
        assert!(refused.contains(words), "{refused}");
        assert!(!refused.contains("wort"), "{refused}");
    }
}
