//! Which plugin blurs, and where its file is.

use std::path::{Path, PathBuf};

/// What `blur_module_path` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlurModule {
    /// No plugin: the whole picture is blurred.
    WholeFrame,
    /// A shared library with the plugin's entry point. The file may be missing: whoever loads it says so.
    Native(PathBuf),
    /// A Python module, run through the bridge. The file may be missing.
    Python(PathBuf),
}

impl BlurModule {
    /// The plugin's file, when there is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::WholeFrame => None,
            Self::Native(path) | Self::Python(path) => Some(path),
        }
    }

    /// Reads a path, or a bare name such as `head-blur`, which stands for `libhead_blur.so` in the
    /// program's own directory (where cargo builds both) or in `../lib` next to it (where both are
    /// installed).
    ///
    /// # Errors
    /// What it should be instead, in words for the user.
    pub fn read(text: &str, program_dir: Option<&Path>) -> Result<Self, String> {
        let path = PathBuf::from(text);
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("py") => Ok(Self::Python(path)),
            Some("so") => Ok(Self::Native(path)),
            _ if is_name(text) => Ok(Self::Native(named(text, program_dir))),
            _ => Err(format!(
                "{text:?} is no plugin; give a path that ends in .so or .py, a name such as \"head-blur\", or null"
            )),
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

/// The first place where the file exists; the first place of all when it exists nowhere, so that the
/// message about the missing file names it.
fn named(name: &str, program_dir: Option<&Path>) -> PathBuf {
    let file = format!("lib{}.so", name.replace('-', "_"));
    let Some(dir) = program_dir else {
        return PathBuf::from(file);
    };
    let beside = dir.join(&file);
    let places = [beside.clone(), dir.join("../lib").join(&file)];
    places
        .into_iter()
        .find(|place| place.is_file())
        .unwrap_or(beside)
}
