//! An output under a name of its own until it is verified.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ticket_queue::durable;

/// The file; removed if it is never committed.
pub(super) struct Draft {
    file: File,
    path: PathBuf,
}

impl Draft {
    /// A new file beside `output`, whose folder is made where it is missing.
    pub(super) fn create(output: &Path) -> anyhow::Result<Self> {
        let name = output
            .file_name()
            .context("the output has no file name")?
            .to_string_lossy();
        let path = output.with_file_name(format!(".{name}.{}.part", std::process::id()));
        if let Some(folder) = output.parent().filter(|path| !path.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("create {}", folder.display()))?;
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("create {}", path.display()))?;
        Ok(Self { file, path })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives it its name; what has that name is replaced only if `replace`.
    pub(super) fn commit(self, output: &Path, replace: bool) -> anyhow::Result<()> {
        if replace {
            durable::remove_durable(output)?;
        }
        durable::commit_new(&self.file, &self.path, output)?;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a commit the name is gone.
        std::fs::remove_file(&self.path).ok();
    }
}
