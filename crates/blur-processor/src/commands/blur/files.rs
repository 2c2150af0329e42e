//! Which videos a folder holds, and where their outputs go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Endings of files that are taken for videos.
const ENDINGS: [&str; 14] = [
    "3gp", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "ts", "webm",
    "wmv",
];

/// One video to be blurred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) input: PathBuf,
    pub(super) output: PathBuf,
}

/// All videos below a folder, in order of their names. Outputs are always MP4; a video that was none
/// keeps its old ending before the new one. A link to a video counts as one; links to folders, which may
/// lead in a circle, and hidden files are left out, and so is the output folder, where it lies inside.
pub(super) fn of_folder(input: &Path, output: &Path) -> anyhow::Result<Vec<Task>> {
    let same = |path: &Path| path.canonicalize().ok();
    let ours = same(output);
    if ours.is_some() && ours == same(input) {
        bail!(
            "{} is input and output; name another folder",
            input.display()
        );
    }
    let mut tasks = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = input.join(&folder);
        let entries =
            std::fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("list {}", path.display()))?;
            let relative = folder.join(entry.file_name());
            let kind = entry.file_type()?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() && (ours.is_none() || same(&entry.path()) != ours) {
                folders.push(relative);
            } else if is_video(&relative) && entry.path().is_file() {
                let task = Task {
                    input: entry.path(),
                    output: output.join(with_mp4(&relative)),
                };
                tasks.insert(relative, task);
            }
        }
    }
    if tasks.is_empty() {
        bail!(
            "{} holds no videos ({})",
            input.display(),
            ENDINGS.join(", ")
        );
    }
    Ok(tasks.into_values().collect())
}

/// Whether the name is that of a video in another form than MP4 and its kin.
pub(super) fn is_other_video(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
    is_video(path) && !["mp4", "m4v", "mov"].iter().any(|kin| ending == *kin)
}

fn is_video(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.to_ascii_lowercase().as_str()))
}

/// The name of the output for that of an input.
pub(super) fn with_mp4(path: &Path) -> PathBuf {
    if path.extension().is_some_and(|ending| ending == "mp4") {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".mp4");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_kept_and_its_output_not_taken_for_input() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for file in [
            "b/x.MKV",
            "a.mp4",
            "b/.hidden.mp4",
            "notes.txt",
            "out/a.mp4",
        ] {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink(root, root.join("loop")).unwrap();
        std::os::unix::fs::symlink(root, root.join("folder.mp4")).unwrap();
        std::os::unix::fs::symlink(root.join("a.mp4"), root.join("link.mp4")).unwrap();
        std::os::unix::fs::symlink(root.join("gone.mp4"), root.join("broken.mp4")).unwrap();
        let tasks = of_folder(root, &root.join("out")).unwrap();
        let shown: Vec<_> = tasks
            .iter()
            .map(|task| task.output.strip_prefix(root).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(shown, ["out/a.mp4", "out/b/x.MKV.mp4", "out/link.mp4"]);
        assert!(of_folder(root, root).is_err());
    }
}
