use crate::{again, role, wait_until};
use daemon::Shutdown;
use daemon::shutdown::SecondSignal;
use rustix::process::{Pid, Signal, kill_process};
use std::process::Stdio;
use std::time::Duration;

#[test]
fn first_signal_asks_and_second_exits() {
    if let Some(dir) = role() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(async {
            let shutdown = Shutdown::on_signals(SecondSignal::Exits).unwrap();
            std::fs::write(format!("{dir}/ready"), "").unwrap();
            shutdown.requested().await;
            std::fs::write(format!("{dir}/asked"), "").unwrap();
            tokio::time::sleep(Duration::from_secs(1000)).await;
        });
    }
    let dir = tempfile::tempdir().unwrap();
    let mut child = again(
        "shutdown::first_signal_asks_and_second_exits",
        dir.path().to_str().unwrap(),
    )
    .stdout(Stdio::null())
    .spawn()
    .unwrap();
    let pid = Pid::from_child(&child);
    wait_until("it listens", || dir.path().join("ready").exists());
    kill_process(pid, Signal::TERM).unwrap();
    wait_until("it was asked", || dir.path().join("asked").exists());
    assert!(child.try_wait().unwrap().is_none());
    kill_process(pid, Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[tokio::test]
async fn all_clones_are_told() {
    let shutdown = Shutdown::manual();
    let waiting = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { shutdown.requested().await }
    });
    assert!(!shutdown.is_requested());
    shutdown.clone().request();
    waiting.await.unwrap();
    shutdown.requested().await;
    assert!(shutdown.is_requested() && !shutdown.is_at_once());
}
