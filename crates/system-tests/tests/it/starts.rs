//! The first moments of a daemon, and what systemd is told.

use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::site::{Site, programs, send};

fn site() -> Site {
    Site::new(
        json!([{ "name": "cam", "url": "rtsp://127.0.0.1:1/none" }]),
        10.0,
        json!({}),
    )
}

fn spawn(site: &Site, program: &str, variables: &[(&str, &str)]) -> Child {
    Command::new(programs().join(program))
        .current_dir(site.path(""))
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts")
}

fn wait(child: &mut Child, what: &str) -> ExitStatus {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("waited") {
            return status;
        }
        if began.elapsed() > Duration::from_secs(15) {
            child.kill().expect("killed");
            panic!("{what} does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Before the handler is there the signal kills, which is as good; after that it must not be lost.
#[test]
fn a_request_to_stop_in_the_first_moments_is_not_lost() {
    for program in ["rtsp-recorder", "blur-processor", "run-system"] {
        for milliseconds in [0, 1, 2, 4, 7, 11, 16, 25, 40, 80] {
            let site = site();
            let mut child = spawn(&site, program, &[]);
            std::thread::sleep(Duration::from_millis(milliseconds));
            send(child.id(), Signal::TERM);
            let what = format!("{program}, asked after {milliseconds} ms,");
            let status = wait(&mut child, &what);
            let killed = status.signal() == Some(15);
            assert!(
                killed || status.code() == Some(0),
                "{what} ends with {status}"
            );
        }
    }
}

#[test]
fn systemd_is_told_of_readiness_life_and_end() {
    let site = site();
    let path = site.path("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(15)))
        .expect("a time-out");
    let variables = [("NOTIFY_SOCKET", path.to_str().expect("a plain path"))];
    let mut child = spawn(&site, "run-system", &variables);
    for expected in ["READY=1", "WATCHDOG=1"] {
        expect_told(&socket, expected);
    }
    send(child.id(), Signal::TERM);
    expect_told(&socket, "STOPPING=1");
    assert_eq!(wait(&mut child, "run-system").code(), Some(0));
}

fn expect_told(socket: &UnixDatagram, expected: &str) {
    let mut bytes = [0; 4096];
    loop {
        let length = socket
            .recv(&mut bytes)
            .unwrap_or_else(|error| panic!("run-system never says {expected}: {error}"));
        let text = String::from_utf8_lossy(&bytes[..length]);
        if text.lines().any(|line| line == expected) {
            return;
        }
    }
}
