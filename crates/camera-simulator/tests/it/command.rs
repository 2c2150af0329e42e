//! The program itself: arguments, output, signals, exit codes.

use crate::support::clips;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_camera-simulator");

fn spawn(args: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(PROGRAM)
        .args(args)
        .arg(&clips().h264)
        .env("CAMERA_PASSWORD", "hush")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

fn lines_until_ready(output: &mut BufReader<ChildStdout>) -> Vec<String> {
    let mut lines = Vec::new();
    for line in output.lines() {
        let line = line.unwrap();
        if line == "READY" {
            return lines;
        }
        lines.push(line);
    }
    panic!("ended before READY, after {lines:?}");
}

#[test]
fn it_says_where_takes_commands_and_stops_when_asked() {
    let login = ["--user", "admin", "--password-env", "CAMERA_PASSWORD"];
    let (mut child, mut output) = spawn(&[&["--port", "0", "--count", "2"][..], &login].concat());
    let urls = lines_until_ready(&mut output);
    assert_eq!(urls.len(), 2);
    assert!(
        urls[1].starts_with("rtsp://127.0.0.1:") && urls[1].ends_with("/cam1"),
        "{urls:?}"
    );
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"cam1 loss 5\ncam7 close\nquit\n").unwrap();
    let answers: Vec<String> = output.lines().map(Result::unwrap).collect();
    assert_eq!(answers, ["ok", "error: no camera \"cam7\"", "ok"]);
    assert!(child.wait().unwrap().success());
}

#[test]
fn sigterm_and_duration_end_it_cleanly() {
    let (mut child, mut output) = spawn(&["--port", "0"]);
    lines_until_ready(&mut output);
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success()
    );
    assert!(child.wait().unwrap().success());
    let (mut child, _output) = spawn(&["--port", "0", "--duration", "0.2"]);
    assert!(child.wait().unwrap().success());
}

#[test]
fn bad_settings_exit_with_2_and_say_why() {
    let check = |args: &[&str], message: &str| {
        let output = Command::new(PROGRAM).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(message), "{said}");
    };
    check(&["/nothing/here.mp4"], "cannot serve /nothing/here.mp4");
    check(&["a.mp4", "--fault", "cam0 explode"], "is not a fault");
    check(&["a.mp4", "--fault", "cam3 close"], "no camera \"cam3\"");
    check(&["a.mp4", "--user", "u"], "--password-env");
    check(&["a.mp4", "--size", "3x4"], "WIDTHxHEIGHT");
}
