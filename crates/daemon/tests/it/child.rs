use crate::{again, is_alive, read_pid, role, wait_until};
use daemon::child::{Child, Orphan};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

async fn end_of(script: &str) -> String {
    let (child, _) = Child::spawn(shell(script), Orphan::IsKilled).unwrap();
    child.exited().await.to_string()
}

#[tokio::test]
async fn ends_are_told_apart() {
    assert_eq!(end_of("exit 0").await, "exit code 0");
    assert_eq!(end_of("exit 3").await, "exit code 3");
    assert_eq!(end_of("kill -9 $$").await, "killed by signal 9 (SIGKILL)");
    assert!(
        end_of("ulimit -c 0; kill -SEGV $$")
            .await
            .starts_with("killed by signal 11 (SIGSEGV)")
    );
}

#[test]
fn a_missing_program_is_an_error_at_once() {
    let error = Child::spawn(Command::new("/nowhere/x"), Orphan::LivesOn).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test]
async fn stop_asks_first_and_kills_the_group_then() {
    let (polite, _) = Child::spawn(
        shell("trap 'exit 7' TERM; while :; do sleep 0.01; done"),
        Orphan::IsKilled,
    )
    .unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(polite.stop(Duration::from_secs(10)).await.code(), Some(7));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("grandchild");
    let script = format!(
        "trap '' TERM; sleep 1000 & echo $! > {}; wait; sleep 1000",
        file.display()
    );
    let (deaf, _) = Child::spawn(shell(&script), Orphan::IsKilled).unwrap();
    let grandchild = read_pid(&file);
    let start = Instant::now();
    assert_eq!(
        deaf.stop(Duration::from_millis(100)).await.signal(),
        Some(9)
    );
    assert!(start.elapsed() < Duration::from_secs(5));
    wait_until("the grandchild is dead", || !is_alive(grandchild));
}

#[tokio::test]
async fn what_a_killed_child_leaves_behind_is_killed_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("grandchild");
    let script = format!("sleep 1000 & echo $! > {}", file.display());
    let (child, _) = Child::spawn(shell(&script), Orphan::IsKilled).unwrap();
    child.exited().await;
    let grandchild = read_pid(&file);
    wait_until("the grandchild is dead", || !is_alive(grandchild));
}

#[tokio::test]
async fn signals_after_the_end_go_nowhere() {
    let (child, _) = Child::spawn(shell("exit 0"), Orphan::LivesOn).unwrap();
    child.exited().await;
    child.kill_group();
    assert_eq!(child.stop(Duration::ZERO).await.code(), Some(0));
}

#[tokio::test]
async fn pipes_are_handed_over() {
    let mut command = shell("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let (child, mut pipes) = Child::spawn(command, Orphan::IsKilled).unwrap();
    std::io::Write::write_all(&mut pipes.stdin.take().unwrap(), b"through").unwrap();
    assert_eq!(
        std::io::read_to_string(pipes.stdout.unwrap()).unwrap(),
        "through"
    );
    assert!(child.exited().await.success());
}

/// A parent is killed; of its two children one dies with it and one does not. The children are
/// started from threads that end at once, which must not count as the parent's death.
#[test]
fn the_death_of_the_parent() {
    if let Some(dir) = role() {
        for (name, orphan) in [("dies", Orphan::IsKilled), ("lives", Orphan::LivesOn)] {
            let script = format!("echo $$ > {dir}/{name}; exec sleep 1000");
            std::thread::spawn(move || Child::spawn(shell(&script), orphan).unwrap())
                .join()
                .unwrap();
        }
        std::thread::sleep(Duration::from_secs(1000));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut parent = again(
        "child::the_death_of_the_parent",
        dir.path().to_str().unwrap(),
    )
    .stdout(Stdio::null())
    .spawn()
    .unwrap();
    let dies = read_pid(&dir.path().join("dies"));
    let lives = read_pid(&dir.path().join("lives"));
    std::thread::sleep(Duration::from_millis(100));
    assert!(is_alive(dies) && is_alive(lives));
    parent.kill().unwrap();
    parent.wait().unwrap();
    wait_until("one child died with its parent", || !is_alive(dies));
    assert!(is_alive(lives));
    Command::new("kill")
        .args(["-9", &lives.to_string()])
        .status()
        .unwrap();
}
