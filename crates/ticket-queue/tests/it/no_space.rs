//! A full disk, for real: a small file system in memory. Root only.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use ticket_queue::{Enqueued, Failed, Failure, OriginalFate, Queue};

use crate::common::{
    Scene, process, real_disk, record, recover_processor, skipped, ticket_for, verdict,
};

/// A mounted tmpfs, unmounted when dropped.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, said loudly, where mounting is not allowed.
    pub(crate) fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            refused => {
                skipped(&format!(
                    "a full disk needs root to mount a tmpfs: {refused:?}"
                ));
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all space that is left; removing the file gives it back.
    fn fill(&self) {
        let mut file = File::create(self.path().join("ballast")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    /// Takes the space that is left but for so many bytes.
    pub(crate) fn fill_but(&self, bytes: u64) {
        self.fill();
        let file = File::options()
            .write(true)
            .open(self.path().join("ballast"));
        let length = fs::metadata(self.path().join("ballast")).unwrap().len();
        file.unwrap().set_len(length.saturating_sub(bytes)).unwrap();
    }

    /// Emptied first: a process that another test is just starting may hold the file open for a
    /// moment, and with it its space.
    pub(crate) fn free(&self) {
        let ballast = self.path().join("ballast");
        let file = File::options().write(true).open(&ballast);
        file.unwrap().set_len(0).unwrap();
        fs::remove_file(ballast).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(
            unmounted.unwrap().success(),
            "{} stays mounted",
            self.path().display()
        );
    }
}

#[test]
fn a_full_disk_costs_no_ticket_and_no_attempt() {
    let Some(disk) = SmallDisk::mount(256 << 10) else {
        return;
    };
    let scene = Scene::new(disk.path(), disk.path(), OriginalFate::Deleted);
    let (queue, publisher) = scene.open(&real_disk());
    record(&scene, &queue, "a.mp4").unwrap();

    disk.fill();
    let error = queue.enqueue(&ticket_for("b.mp4")).unwrap_err();
    assert!(error.is_no_space(), "{error}");
    let lease = queue.claim().unwrap().expect("a claim needs no space");
    let error = process(&queue, &publisher, &scene.raw_dir(), scene.fate, lease).unwrap_err();
    assert!(error.is_no_space(), "{error}");
    assert!(scene.segment("a.mp4").exists());
    assert!(
        !scene.published("a.mp4").exists(),
        "nothing half written is published"
    );

    // What a processor does on such an error, with the lease still in hand.
    queue.reap().unwrap();
    let lease = queue.claim().unwrap().unwrap();
    let attempt = lease.attempt();
    let reason = error.to_string();
    let failed = queue.fail(lease, Failure::NotNow { reason }).unwrap();
    assert!(
        matches!(failed, Failed::Deferred(_)),
        "a full disk is no obstacle to deferring"
    );
    let entry = queue.list().unwrap().remove(0);
    assert_eq!(entry.attempt, attempt - 1);

    disk.free();
    let scratch = fs::read_dir(scene.queue.join(".tmp")).unwrap().count();
    assert_eq!(scratch, 1, "the lock only");
    let again = record(&scene, &queue, "b.mp4").unwrap();
    assert!(matches!(again, Enqueued::New(_)), "{again:?}");
    recover_processor(&scene, &queue, &publisher).unwrap();
    verdict(&scene, &["a.mp4", "b.mp4"]).unwrap();
}
