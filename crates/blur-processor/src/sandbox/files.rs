//! Landlock: which files can be opened from now on, and no TCP, no abstract sockets, no signals to others.
//!
//! <https://docs.kernel.org/userspace-api/landlock.html>. What is open already stays usable, which is
//! how a worker reads and writes videos.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};

use super::{Profile, Sandbox};

/// The newest kernel interface that is made use of; an older kernel gives less.
const INTERFACE: ABI = ABI::V6;

/// Libraries, and what they look at while they start: processors, memory limits, the time zone.
const SYSTEM: &[&str] = &[
    "/usr",
    "/lib",
    "/lib64",
    "/opt",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/vm",
    "/proc/sys/kernel/osrelease",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm",
    "/dev/urandom",
    "/dev/random",
];

/// Devices that keep nothing.
const SINKS: &[&str] = &["/dev/null", "/dev/zero", "/dev/full"];

/// Where an interpreter and its packages write: temporary files, and devices such as a GPU's.
const SCRATCH: &[&str] = &["/tmp", "/var/tmp", "/dev", "/run/user"];

/// Confines this thread and all it starts.
///
/// # Errors
/// What the kernel does not enforce, in words.
pub(super) fn confine(sandbox: &Sandbox) -> Result<(), String> {
    match restrict(sandbox) {
        Ok(RulesetStatus::FullyEnforced) => Ok(()),
        Ok(RulesetStatus::PartiallyEnforced) => {
            Err("a part of Landlock (the kernel is older than 6.12)".to_owned())
        }
        Ok(RulesetStatus::NotEnforced) => {
            Err("Landlock (this kernel does not have it, or it is switched off)".to_owned())
        }
        Err(error) => Err(format!("Landlock ({error})")),
    }
}

fn restrict(sandbox: &Sandbox) -> Result<RulesetStatus, RulesetError> {
    let rules = Ruleset::default()
        .handle_access(AccessFs::from_all(INTERFACE))?
        .handle_access(AccessNet::from_all(INTERFACE))?
        .scope(Scope::from_all(INTERFACE))?
        .create()?;
    let (read, all) = (
        AccessFs::from_read(INTERFACE),
        AccessFs::from_all(INTERFACE),
    );
    let rules = match sandbox.profile {
        Profile::Relaxed => {
            let rules = allow(rules, [Path::new("/")], read)?;
            allow(rules, SCRATCH, all)?
        }
        Profile::Strict | Profile::Off => {
            let rules = allow(rules, SYSTEM, read)?;
            let rules = allow(rules, &sandbox.readable, read)?;
            allow(rules, SINKS, AccessFs::ReadFile | AccessFs::WriteFile)?
        }
    };
    let rules = allow(rules, &sandbox.writable, all)?;
    Ok(rules.restrict_self()?.ruleset)
}

/// Allows what is there; a path that is not needs no permission.
fn allow(
    mut rules: RulesetCreated,
    paths: impl IntoIterator<Item = impl AsRef<Path>>,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    for path in paths {
        let Ok(open) = PathFd::new(&path) else {
            continue;
        };
        let access = match path.as_ref().is_dir() {
            true => access,
            false => access & AccessFs::from_file(INTERFACE),
        };
        rules = rules.add_rule(PathBeneath::new(open, access))?;
    }
    Ok(rules)
}

/// Existing files and folders that texts in a plugin's settings name.
pub(crate) fn named_in(settings: &serde_json::Value, found: &mut Vec<PathBuf>) {
    match settings {
        serde_json::Value::String(text) => {
            let path = PathBuf::from(text);
            // A lone "/" or ".." would open more than anybody meant to.
            let means_a_place = path.file_name().is_some();
            if means_a_place && path.exists() {
                found.push(path);
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| named_in(item, found)),
        serde_json::Value::Object(items) => items.values().for_each(|item| named_in(item, found)),
        _ => {}
    }
}
