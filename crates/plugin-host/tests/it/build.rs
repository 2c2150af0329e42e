//! Builds plugins into a temporary folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A plugin's file, as long as its folder lives.
pub(crate) struct Built {
    pub(crate) file: PathBuf,
    _folder: TempDir,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; run scripts/setup"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs the Makefile of `examples/<example>`.
pub(crate) fn c_example(example: &str, file: &str) -> Built {
    let folder = tempfile::tempdir().expect("a temp dir");
    run(Command::new("make")
        .arg("--silent")
        .arg("-f")
        .arg(root().join("examples").join(example).join("Makefile"))
        .arg(format!("OUT={}", folder.path().display())));
    Built {
        file: folder.path().join(file),
        _folder: folder,
    }
}

/// Runs cargo on `examples/<example>`; it has no dependencies but ours.
pub(crate) fn rust_example(example: &str, file: &str) -> Built {
    let folder = tempfile::tempdir().expect("a temp dir");
    let manifest = root().join("examples").join(example).join("Cargo.toml");
    run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline"])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(folder.path()));
    Built {
        file: folder.path().join("debug").join(file),
        _folder: folder,
    }
}

/// Compiles `tests/it/misbehaving.c` with one of its misdeeds switched on.
pub(crate) fn misbehaving(misdeed: &str) -> Built {
    let folder = tempfile::tempdir().expect("a temp dir");
    let file = folder.path().join("plugin.so");
    run(Command::new("cc")
        .args([
            "-std=c11",
            "-Wall",
            "-Werror",
            "-Wno-unused-variable",
            "-fPIC",
            "-shared",
        ])
        .arg(format!("-D{misdeed}"))
        .arg("-I")
        .arg(root().join("crates/plugin-abi/include"))
        .arg("-o")
        .arg(&file)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/misbehaving.c")));
    Built {
        file,
        _folder: folder,
    }
}
