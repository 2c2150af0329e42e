use crate::{again, role};
use daemon::logs::{Format, LogSetup, init};

/// Logging is set up once per process, so each form runs in a process of its own.
#[test]
fn file_and_console_hold_the_same_without_credentials() {
    if let Some(role) = role() {
        let (form, path) = role.split_once(' ').unwrap();
        let setup = LogSetup {
            file: Some(path.into()),
            level: "info".to_owned(),
            format: form.parse().unwrap(),
        };
        let _guard = init(&setup).unwrap();
        tracing::info!(
            source = "gate",
            "connected to rtsp://admin:geheim@10.0.0.7/1"
        );
        tracing::debug!("not shown");
        std::thread::Builder::new()
            .name("worker".into())
            .spawn(|| panic!("no rtsp://a:geheim@b/"))
            .unwrap()
            .join()
            .ok();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (form, expected) in [
        (
            "text",
            "INFO connected to rtsp://***@10.0.0.7/1 source=\"gate\"",
        ),
        (
            "json",
            "\"message\":\"connected to rtsp://***@10.0.0.7/1\",\"source\":\"gate\"",
        ),
    ] {
        let path = dir.path().join(format!("logs/{form}.log"));
        let output = again(
            "logs::file_and_console_hold_the_same_without_credentials",
            &format!("{form} {}", path.display()),
        )
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
        let file = std::fs::read_to_string(&path).unwrap();
        let console = String::from_utf8(output.stderr).unwrap();
        for text in [&file, &console] {
            assert!(text.contains(expected), "{text}");
            assert!(
                text.contains("ERROR") && text.contains("worker"),
                "the panic is logged: {text}"
            );
            assert!(
                !text.contains("geheim") && !text.contains("not shown") && !text.contains('\x1b'),
                "{text}"
            );
        }
    }
}

#[test]
fn formats_are_named() {
    assert_eq!("json".parse(), Ok(Format::Json));
    assert!(
        "xml"
            .parse::<Format>()
            .unwrap_err()
            .contains("text or json")
    );
}
