//! Is this file fit to be loaded into our process?
//!
//! Whoever can write the file, or put another one in its place, runs code as
//! us. So the file must be regular, owned by root or by us and writable by
//! nobody else. Every folder on the way to it must be owned likewise and not be
//! writable by all (a sticky one such as /tmp lets others add files, but not
//! replace ours). A group may write to folders: with umask 002, the default of
//! some distributions (Ubuntu), a user's own group may everywhere. That group,
//! which has the user's number, may also write to the file, since compilers make
//! it so then.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::PluginError;

const GROUP_WRITE: u32 = 0o020;
const WORLD_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// A plugin file that passed every check.
#[derive(Debug)]
pub struct CheckedFile {
    /// Absolute path without symbolic links.
    pub path: PathBuf,
    /// BLAKE3 of its content, hexadecimal.
    pub blake3: String,
}

/// Checks the file at `path` and hashes it. Symbolic links are followed first;
/// what they lead to is checked.
///
/// # Errors
/// [`PluginError::File`] says which check failed and how to mend it.
pub fn check(path: &Path) -> Result<CheckedFile, PluginError> {
    let problem = |reason: String, source| PluginError::File {
        path: path.to_owned(),
        reason,
        source,
    };
    let real = fs::canonicalize(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => problem(
            "file not found; check blur_module_path, or build the plugin first".to_owned(),
            None,
        ),
        _ => problem("cannot be reached".to_owned(), Some(error)),
    })?;
    let file = File::options()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(&real)
        .map_err(|error| problem("cannot be opened".to_owned(), Some(error)))?;
    let metadata = file
        .metadata()
        .map_err(|error| problem("cannot be examined".to_owned(), Some(error)))?;
    let us = rustix::process::geteuid().as_raw();
    check_file(&metadata, us).map_err(|reason| problem(reason, None))?;
    for folder in real.ancestors().skip(1) {
        let metadata = fs::metadata(folder).map_err(|error| {
            problem(
                format!("folder {} cannot be examined", folder.display()),
                Some(error),
            )
        })?;
        check_folder(folder, &metadata, us).map_err(|reason| problem(reason, None))?;
    }
    let blake3 = hash(file).map_err(|error| problem("cannot be read".to_owned(), Some(error)))?;
    Ok(CheckedFile { path: real, blake3 })
}

fn check_file(metadata: &Metadata, us: u32) -> Result<(), String> {
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    check_owner(metadata.uid(), us)?;
    if others_may_write(metadata.mode(), metadata.uid(), metadata.gid()) {
        return Err(format!(
            "others may write to it (mode {:o}); run chmod go-w on it",
            metadata.mode() & 0o7777
        ));
    }
    Ok(())
}

/// Whether the mode lets anybody but the owner write. A group of the owner's own is nobody else: pam_umask(8) and useradd(8)
/// know it by its number, and so gives a umask of 002 to no other user.
fn others_may_write(mode: u32, owner: u32, group: u32) -> bool {
    let group_is_owners = owner != 0 && group == owner;
    mode & WORLD_WRITE != 0 || (mode & GROUP_WRITE != 0 && !group_is_owners)
}

fn check_folder(folder: &Path, metadata: &Metadata, us: u32) -> Result<(), String> {
    let within = |reason| format!("its folder {}: {reason}", folder.display());
    check_owner(metadata.uid(), us).map_err(within)?;
    if metadata.mode() & WORLD_WRITE != 0 && metadata.mode() & STICKY == 0 {
        return Err(within(format!(
            "others may replace files in it (mode {:o}); run chmod o-w on it",
            metadata.mode() & 0o7777
        )));
    }
    Ok(())
}

fn check_owner(owner: u32, us: u32) -> Result<(), String> {
    if owner == 0 || owner == us {
        Ok(())
    } else {
        Err(format!(
            "owned by user {owner}; it must belong to root or to user {us}, who runs this"
        ))
    }
}

fn hash(file: File) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temp dir")
    }

    fn put(folder: &Path, mode: u32) -> PathBuf {
        let path = folder.join("plugin.so");
        fs::write(&path, b"content").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        path
    }

    fn refusal(path: &Path) -> String {
        check(path).expect_err("refused").to_string()
    }

    #[test]
    fn a_private_file_passes_with_its_hash() {
        let folder = folder();
        let checked = check(&put(folder.path(), 0o755)).expect("passes");
        assert_eq!(checked.blake3, blake3::hash(b"content").to_hex().as_str());
    }

    #[test]
    fn files_others_may_write_are_refused() {
        let folder = folder();
        for mode in [0o775, 0o757] {
            let path = put(folder.path(), mode);
            let us = fs::metadata(&path).expect("is there");
            if mode == 0o775 && us.uid() != 0 && us.gid() == us.uid() {
                continue; // the group of whoever runs the tests has nobody else in it
            }
            assert!(refusal(&path).contains("chmod go-w"));
        }
    }

    #[test]
    fn the_owners_own_group_is_nobody_else() {
        for (mode, owner, group, others) in [
            (0o755, 1000, 100, false),
            (0o775, 1000, 1000, false), // made with umask 002
            (0o775, 1000, 100, true),
            (0o775, 0, 0, true),
            (0o775, 0, 1000, true),
            (0o757, 1000, 1000, true),
            (0o777, 1000, 1000, true),
        ] {
            assert_eq!(
                others_may_write(mode, owner, group),
                others,
                "{mode:o} {owner} {group}"
            );
        }
    }

    #[test]
    fn folders_others_may_write_are_refused_unless_sticky() {
        let folder = folder();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).expect("made");
        let path = put(&inner, 0o755);
        let set = |mode| {
            fs::set_permissions(&inner, fs::Permissions::from_mode(mode)).expect("set");
        };
        set(0o777);
        assert!(refusal(&path).contains("replace files"));
        set(0o1777);
        assert!(check(&path).is_ok());
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let folder = folder();
        assert!(refusal(folder.path()).contains("not a regular file"));
        assert!(refusal(&folder.path().join("none.so")).contains("not found"));
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .expect("a fifo");
        assert!(refusal(&fifo).contains("not a regular file"));
    }

    #[test]
    fn links_are_judged_by_what_they_lead_to() {
        let folder = folder();
        let target = put(folder.path(), 0o777);
        let link = folder.path().join("link.so");
        symlink(target, &link).expect("linked");
        assert!(refusal(&link).contains("chmod go-w"));
    }

    #[test]
    fn foreign_owners_are_refused() {
        assert!(check_owner(1234, 1000).is_err());
        assert!(check_owner(0, 1000).is_ok());
        assert!(check_owner(1000, 1000).is_ok());
    }
}
