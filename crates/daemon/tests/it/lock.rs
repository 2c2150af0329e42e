use crate::{again, role, wait_until};
use daemon::Singleton;
use daemon::child::Signal;
use daemon::lock::{Holder, LockError, holder, signal_holder};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn one_process_at_a_time_and_free_after_kill() {
    if let Some(path) = role() {
        let _lock = Singleton::acquire(Path::new(&path)).unwrap();
        std::thread::sleep(Duration::from_secs(1000));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("status/x.lock");
    assert_eq!(holder(&path).unwrap(), Holder::Nobody);
    let mut owner = again(
        "lock::one_process_at_a_time_and_free_after_kill",
        path.to_str().unwrap(),
    )
    .stdout(Stdio::null())
    .spawn()
    .unwrap();
    wait_until("the other one holds the lock", || {
        holder(&path).unwrap() == Holder::Process(owner.id())
    });

    let error = Singleton::acquire(&path).unwrap_err();
    assert!(matches!(&error, LockError::Held { pid, .. } if *pid == Some(owner.id())));
    let expected = format!(
        "already running: {} is locked by process {}; stop that one first, or give this one another status_dir",
        path.display(),
        owner.id()
    );
    assert_eq!(error.to_string(), expected);

    assert_eq!(
        signal_holder(&path, Signal::KILL).unwrap(),
        Some(owner.id())
    );
    owner.wait().unwrap();
    assert_eq!(signal_holder(&path, Signal::KILL).unwrap(), None);
    assert_eq!(holder(&path).unwrap(), Holder::Nobody);
    let lock = Singleton::acquire(&path).unwrap();
    assert_eq!(holder(&path).unwrap(), Holder::Process(std::process::id()));
    drop(lock);
    assert_eq!(holder(&path).unwrap(), Holder::Nobody);
}

#[test]
fn looking_does_not_keep_a_daemon_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    let looker = std::thread::spawn({
        let path = path.clone();
        move || (0..20_000).for_each(|_| drop(holder(&path)))
    });
    for _ in 0..100 {
        drop(Singleton::acquire(&path).unwrap());
    }
    looker.join().unwrap();
}

#[test]
fn a_wrong_pid_in_the_file_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.lock");
    let _lock = Singleton::acquire(&path).unwrap();
    std::fs::write(&path, "1\n").unwrap();
    assert_eq!(holder(&path).unwrap(), Holder::Unknown);
}

#[test]
fn a_place_that_cannot_be_used_is_told_once_and_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = Singleton::acquire(&dir.path().join("file/x.lock")).unwrap_err();
    let told = format!("{:#}", anyhow::Error::from(error));
    assert_eq!(told.matches("os error").count(), 1, "{told}");
    assert!(told.ends_with("; give another status_dir"), "{told}");
}

#[test]
fn a_holder_that_moves_its_descriptors_about_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.lock");
    let script = r#"exec 9>>"$0"; flock -n 9; echo $$ > "$0"; while :; do true 9>&-; done"#;
    let mut shell = Command::new("sh")
        .args(["-c", script])
        .arg(&path)
        .spawn()
        .unwrap();
    let is_holder = || holder(&path).unwrap() == Holder::Process(shell.id());
    let until = Instant::now() + Duration::from_secs(10);
    while !is_holder() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
    let missed = (0..20_000).filter(|_| !is_holder()).count();
    shell.kill().unwrap();
    shell.wait().unwrap();
    assert_eq!(missed, 0);
}
