//! Refuses file systems on which a lock can be lost.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::statfs;

use crate::error::Error;

/// Magic numbers of `statfs(2)` and `linux/magic.h`.
const NETWORK: [(u32, &str); 10] = [
    (0x6969, "nfs"),
    (0x517B, "smb"),
    (0xFF53_4D42, "cifs"),
    (0xFE53_4D42, "smb2"),
    (0x5346_414F, "afs"),
    (0x6B41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x00C3_6400, "ceph"),
    (0x0102_1997, "9p"),
    (0x0BD0_0BD0, "lustre"),
];
const FUSE: u32 = 0x6573_5546;
/// FUSE file systems with a network behind them; others, such as mergerfs or ntfs-3g, are local.
const NETWORK_FUSE: [&str; 8] = [
    "sshfs",
    "glusterfs",
    "ceph",
    "s3fs",
    "rclone",
    "davfs",
    "gcsfuse",
    "goofys",
];

/// # Errors
/// [`Error::NetworkFileSystem`], or the directory cannot be looked at.
pub(crate) fn refuse_network(dir: &Path) -> Result<(), Error> {
    let stat = statfs(dir).map_err(|e| Error::io("look at the file system of", dir)(e.into()))?;
    // The field is signed on some machines and wider than the magic numbers on most.
    let magic = stat.f_type as u32;
    let kind = if magic == FUSE {
        let device = fs::metadata(dir).map_err(Error::io("stat", dir))?.dev();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        network_fuse(&mounts, device)
    } else {
        NETWORK
            .iter()
            .find(|(number, _)| *number == magic)
            .map(|(_, name)| (*name).to_owned())
    };
    match kind {
        Some(kind) => Err(Error::NetworkFileSystem {
            path: dir.to_owned(),
            kind,
        }),
        None => Ok(()),
    }
}

/// The type of the FUSE mount with this device number, if a network is behind it. For the format
/// see proc_pid_mountinfo(5).
fn network_fuse(mountinfo: &str, device: u64) -> Option<String> {
    let device = format!(
        "{}:{}",
        rustix::fs::major(device),
        rustix::fs::minor(device)
    );
    let line = mountinfo
        .lines()
        .find(|line| line.split(' ').nth(2) == Some(&device))?;
    let kind = line.split_once(" - ")?.1.split(' ').next()?;
    NETWORK_FUSE
        .iter()
        .any(|name| kind.contains(name))
        .then(|| kind.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_directories_are_accepted() {
        refuse_network(tempfile::tempdir().unwrap().path()).unwrap();
    }

    #[test]
    fn fuse_is_judged_by_what_is_behind_it() {
        let mounts = "36 35 0:45 / /mnt/a rw shared:1 - fuse.sshfs me@host:/x rw\n\
                      37 35 0:46 / /mnt/b rw - fuse.mergerfs a:b rw\n";
        let device = |minor| rustix::fs::makedev(0, minor);
        assert_eq!(
            network_fuse(mounts, device(45)).as_deref(),
            Some("fuse.sshfs")
        );
        assert_eq!(network_fuse(mounts, device(46)), None);
        assert_eq!(network_fuse(mounts, device(47)), None);
    }
}
