//! What the files must be that `scripts/fetch-model` fetches: a damaged network, or that of another version, mostly runs
//! and sees less.

use std::path::Path;

use sha2::{Digest, Sha256};

/// The list that set-up goes by: SHA-256 and name.
const SUMS: &str = include_str!("../../../scripts/model/models.sha256");

/// Refuses `bytes` of the file at `path` unless they are those that the list has under its name.
pub(crate) fn check(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut listed = SUMS.lines().filter_map(|line| line.split_once("  "));
    let (expected, _) = listed
        .find(|(_, listed)| *listed == name)
        .ok_or_else(|| format!("model {}: it is not among those fetched", path.display()))?;
    let digest = Sha256::digest(bytes);
    let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    if found == expected {
        return Ok(());
    }
    Err(format!(
        "model {}: it is damaged, or not the one of this version (SHA-256 {found}); run scripts/fetch-model, or name a model \
         of your own in plugin.model",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_models_are_listed_and_anything_else_is_refused() {
        for name in ["nanodet.onnx", "centerface.onnx"] {
            let refused = check(&Path::new("models").join(name), b"damaged").expect_err("differs");
            assert!(refused.contains("run scripts/fetch-model"), "{refused}");
        }
        let refused = check(Path::new("models/other.onnx"), b"").expect_err("unknown");
        assert!(refused.contains("not among those fetched"), "{refused}");
    }
}
