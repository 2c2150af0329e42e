//! A process that has too many files open. Alone in its program, since it takes all descriptors.

use std::fs::File;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use ticket_queue::durable::fsync_dir;

#[test]
fn a_directory_is_synced_when_a_descriptor_is_free_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let limit = getrlimit(Resource::Nofile);
    let small = Rlimit {
        current: Some(64),
        ..limit
    };
    setrlimit(Resource::Nofile, small).expect("a smaller limit");
    let all: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    assert!(File::open(dir.path()).is_err());
    let frees = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(all);
    });
    let synced = fsync_dir(dir.path());
    frees.join().expect("it ends");
    assert!(synced.is_ok(), "{synced:?}");
}
