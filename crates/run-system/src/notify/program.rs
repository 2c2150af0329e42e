//! Programs that are told: one run each, with the notification on its standard input.

use super::courier::{Failure, Then};
use daemon::child::{Child, Orphan, Pipes};
use rustix::fs::{Access, access};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStderr;
use tokio::time::timeout;

/// Name of the event in the program's environment.
const EVENT: &str = "NOTIFICATION_EVENT";
/// What is kept of what a program says, from the end.
const MOST_SAID_BYTES: usize = 2_000;
/// For the last words of a program that has ended: a grandchild may hold its standard error open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What is to be run.
pub(super) struct Run<'a> {
    pub(super) program: &'a str,
    pub(super) arguments: &'a [String],
    pub(super) event: &'a str,
    pub(super) input: Vec<u8>,
}

/// None when it took longer than that; it is killed then, with all that it started.
pub(super) async fn run(run: Run<'_>, longest: Duration) -> Option<Result<(), Failure>> {
    let mut command = Command::new(run.program);
    command
        .args(run.arguments)
        .env(EVENT, run.event)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let (child, pipes) = match Child::spawn(command, Orphan::IsKilled) {
        Ok(started) => started,
        Err(error) => {
            let why = format!("{} cannot be started: {error}", run.program);
            return Some(Err(Failure::again(why)));
        }
    };
    let Pipes { stdin, stderr, .. } = pipes;
    if let Some(stdin) = stdin {
        hand_over(stdin, run.input);
    }
    let said = stderr.and_then(|stderr| ChildStderr::from_std(stderr).ok());
    let said = tokio::spawn(last_words(said));
    let Ok(ended) = timeout(longest, child.exited()).await else {
        child.kill_group();
        child.exited().await;
        said.abort();
        return None;
    };
    let stop = said.abort_handle();
    let said = match timeout(LAST_WORDS, said).await {
        Ok(said) => said.unwrap_or_default(),
        Err(_) => {
            stop.abort();
            String::new()
        }
    };
    if ended.success() {
        return Some(Ok(()));
    }
    let why = match said.lines().rfind(|line| !line.trim().is_empty()) {
        Some(line) => format!("{}: {ended}: {}", run.program, line.trim()),
        None => format!("{}: {ended}", run.program),
    };
    Some(Err(Failure {
        why,
        then: Then::Again,
    }))
}

/// A notification is smaller than what a pipe takes, so a program that does not read holds nobody up; should it ever be
/// larger, the thread that waits goes with the program.
fn hand_over(mut stdin: ChildStdin, input: Vec<u8>) {
    tokio::task::spawn_blocking(move || {
        // One that has ended or does not care for the details has been told all the same.
        stdin.write_all(&input).ok();
    });
}

async fn last_words(stderr: Option<ChildStderr>) -> String {
    let mut said = Vec::new();
    let Some(mut stderr) = stderr else {
        return String::new();
    };
    let mut part = [0; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut part).await {
        said.extend_from_slice(&part[..read]);
        let surplus = said.len().saturating_sub(MOST_SAID_BYTES);
        said.drain(..surplus);
    }
    String::from_utf8_lossy(&said).into_owned()
}

/// Where the program is.
///
/// # Errors
/// It is missing or may not be executed.
pub(crate) fn find(program: &str) -> Result<PathBuf, String> {
    let may_run = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if program.contains('/') {
        let path = Path::new(program);
        return match (may_run(path), path.exists()) {
            (true, _) => Ok(path.to_owned()),
            (false, true) => Err(format!("{program} may not be executed; chmod +x {program}")),
            (false, false) => Err(format!("{program} is missing")),
        };
    }
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&dirs)
        .map(|dir| dir.join(program))
        .find(|path| may_run(path));
    found.ok_or_else(|| format!("there is no program {program} in PATH; give its whole path"))
}
