//! What a worker locks itself into before it loads a plugin or sees a video.
//!
//! A worker decodes what cameras, or whoever sits between them and us, have sent, with code that was
//! not written against attackers, and runs plugins of others. What it needs comes as open files over
//! a socket, so nearly everything else can be taken from it: files ([`files`]), system calls
//! ([`calls`]), network, new privileges, open files without number. None of it needs root.
//!
//! A kernel that lacks a part gets the rest and a warning: a worker that does not run blurs nothing.
//! May touch: this process, for good.

mod calls;
mod files;

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};
use settings::{BlurModule, BlurSettings, SandboxLevel};

use crate::plugin::PluginChoice;

/// Open files of a strictly confined worker: its own few, and what a plugin's engine maps.
const OPEN_FILES: u64 = 512;

/// How much is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// Nothing can be read but libraries, the plugin and what its settings name; nothing can be
    /// written, started or connected to. For native plugins.
    Strict,
    /// Everything can be read and started; written only to temporary folders, devices and the folders
    /// asked for; no network. For Python modules, whose interpreter is a process of its own and opens
    /// what it likes when it likes.
    Relaxed,
    /// Nothing is taken away.
    Off,
}

/// What a worker is locked into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// How much is taken away.
    pub profile: Profile,
    /// Files and folders that may be read and executed, with what is beneath them, beside the
    /// system's libraries. For [`Profile::Strict`].
    pub readable: Vec<PathBuf>,
    /// Folders that may be written, with what is beneath them.
    pub writable: Vec<PathBuf>,
}

/// What of it the kernel took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confined {
    profile: Profile,
    /// What is missing, in words; empty when all holds.
    pub missing: Vec<String>,
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.profile {
            Profile::Strict => "strict",
            Profile::Relaxed => "relaxed",
            Profile::Off => "off",
        })?;
        match self.missing.is_empty() {
            true => Ok(()),
            false => write!(f, ", without {}", self.missing.join(" and ")),
        }
    }
}

/// Ends of the names of encoders that work on devices, whose drivers open what they like.
const HARDWARE: &[&str] = &[
    "_nvenc", "_vaapi", "_qsv", "_amf", "_v4l2m2m", "_vulkan", "_omx", "_mf", "_rkmpp",
];

/// Where `head-blur` looks for its models when its settings name no other folder.
const MODELS: &str = "models";

impl Sandbox {
    /// What the settings ask for, for this plugin.
    pub fn from_settings(settings: &BlurSettings, plugin: &PluginChoice) -> Self {
        let on_a_device = HARDWARE
            .iter()
            .any(|end| settings.video_codec.ends_with(end));
        let python = matches!(settings.blur_module, BlurModule::Python(_));
        let profile = match settings.sandbox {
            SandboxLevel::Off => Profile::Off,
            SandboxLevel::Auto if !python && !on_a_device => Profile::Strict,
            SandboxLevel::Auto | SandboxLevel::Relaxed => Profile::Relaxed,
        };
        let mut readable = vec![PathBuf::from(MODELS)];
        if let PluginChoice::Library { path, settings, .. } = plugin {
            readable.push(path.clone());
            readable.extend(folder_of(path));
            files::named_in(settings, &mut readable);
        }
        Self {
            profile,
            readable,
            writable: settings.sandbox_writable.clone(),
        }
    }

    /// Locks this process in, all of its threads as far as the kernel can, and what they start. There
    /// is no way back. Threads that are to be confined with certainty must not exist yet.
    pub fn enter(&self) -> Confined {
        let mut missing = Vec::new();
        if self.profile != Profile::Off {
            limit_resources(self.profile);
            missing.extend(files::confine(self).err());
            missing.extend(calls::confine(self.profile).err());
        }
        Confined {
            profile: self.profile,
            missing,
        }
    }
}

/// The folder of a plugin, since libraries of its own may lie beside it; not where everything else lies,
/// recordings included.
fn folder_of(plugin: &Path) -> Option<PathBuf> {
    let folder = plugin.canonicalize().ok()?.parent()?.to_owned();
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let holds_all = here.map_or(true, |here| here.starts_with(&folder));
    (!holds_all).then_some(folder)
}

fn limit_resources(profile: Profile) {
    if profile == Profile::Strict {
        let limit = Rlimit {
            current: Some(OPEN_FILES),
            maximum: Some(OPEN_FILES),
        };
        // Only refused where the limit is lower already.
        rustix::process::setrlimit(Resource::Nofile, limit).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_in_the_working_directory_or_above_opens_no_folder() {
        let here = std::env::current_dir().expect("tests have a working directory");
        for folder in [
            &*here,
            here.parent().expect("a crate lies in a folder"),
            Path::new("/"),
        ] {
            assert_eq!(folder_of(&folder.join(".")), None, "{}", folder.display());
        }
        assert_eq!(folder_of(&here.join("Cargo.toml")), None);
        let elsewhere = here.join("src/sandbox");
        assert_eq!(
            folder_of(&elsewhere.join("mod.rs")),
            elsewhere.canonicalize().ok()
        );
    }
}
