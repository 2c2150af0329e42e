//! Why a plugin was not loaded or a call failed, by what the caller can do.

use std::io;
use std::path::PathBuf;

/// A plugin that cannot be used, or a call that failed.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The file is missing, unreadable or not to be trusted.
    #[error("plugin {path}: {reason}", path = path.display())]
    File {
        /// The file as given.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
        /// The system's error, if there was one.
        #[source]
        source: Option<io::Error>,
    },
    /// The dynamic loader refused it, or it lacks the entry symbol.
    #[error("plugin {path}: {reason}", path = path.display())]
    Load {
        /// The file as given.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// It loads, but breaks the interface.
    #[error("plugin {plugin} breaks the plugin interface: {reason}")]
    Contract {
        /// Name of the plugin, or its file while the name is unknown.
        plugin: String,
        /// What it did.
        reason: String,
    },
    /// It could not make an instance from these settings.
    #[error("plugin {plugin} cannot start: {reason}")]
    Create {
        /// Name of the plugin.
        plugin: String,
        /// In the plugin's words.
        reason: String,
    },
    /// A call on a frame failed; the instance can still be used.
    #[error("plugin {plugin}: {reason}")]
    Call {
        /// Name of the plugin.
        plugin: String,
        /// In the plugin's words.
        reason: String,
    },
    /// The instance is unusable; make another one.
    #[error("plugin {plugin} is broken: {reason}")]
    Broken {
        /// Name of the plugin.
        plugin: String,
        /// In the plugin's words.
        reason: String,
    },
}

impl PluginError {
    /// Whether the instance must not be called again.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Self::Call { .. })
    }
}
