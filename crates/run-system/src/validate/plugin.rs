//! The blur plugin and its models. When the files are there the blur processor is asked to load them
//! once, since this program links no plugin.

use super::{Finding, Verdict};
use crate::setup::program_dir;
use settings::{BlurModule, BlurSettings};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// Loading a model takes a second or two; a machine at work may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The default plugin's library, whose models are known here.
const HEAD_BLUR: &str = "libhead_blur.so";
/// Its models, by the name under `detectors`.
const MODELS: [(&str, &str); 2] = [
    ("nanodet", "nanodet.onnx"),
    ("centerface", "centerface.onnx"),
];

/// Checks the files, and then whether the blur processor can work with them. It looks at the directories as well, so it is not
/// asked while these are wrong.
pub(super) async fn check(
    blur: &BlurSettings,
    settings_file: &Path,
    are_directories_good: bool,
) -> Vec<Finding> {
    let mut findings = files(blur);
    let are_there = findings
        .iter()
        .all(|finding| finding.verdict == Verdict::Ok);
    if are_there && are_directories_good {
        findings.extend(loaded(settings_file).await);
    }
    findings
}

fn files(blur: &BlurSettings) -> Vec<Finding> {
    let Some(file) = blur.blur_module.file() else {
        return vec![Finding::ok("plugin", "none: the whole picture is blurred")];
    };
    let mut findings = vec![library(&blur.blur_module, file)];
    if file.file_name().is_some_and(|name| name == HEAD_BLUR) {
        findings.extend(models(&blur.plugin));
    }
    findings
}

/// What `blur-processor --validate` says. A missing program is told elsewhere.
async fn loaded(settings_file: &Path) -> Option<Finding> {
    let what = "plugin and encoder";
    let program = program_dir().ok()?.join("blur-processor");
    let mut command = Command::new(program);
    command
        .arg("--config")
        .arg(settings_file)
        .arg("--validate")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = match timeout(PATIENCE, command.output()).await {
        Ok(output) => output.ok()?,
        Err(_) => {
            return Some(Finding::wrong(
                what,
                format!("takes longer than {} s", PATIENCE.as_secs()),
            ));
        }
    };
    if output.status.success() {
        return Some(Finding::ok(what, "the blur processor can work with it"));
    }
    let said = [output.stderr, output.stdout].concat();
    let said = daemon::redact::text(&String::from_utf8_lossy(&said))
        .trim()
        .to_owned();
    Some(Finding::wrong(
        what,
        format!("the blur processor says:\n{said}"),
    ))
}

fn library(module: &BlurModule, file: &Path) -> Finding {
    if file.is_file() {
        return Finding::ok("plugin", file.display().to_string());
    }
    let advice = match module {
        BlurModule::Python(_) => "give the path of the Python file in blur_module_path",
        _ => "build it: cargo build --release --workspace, or mend blur_module_path",
    };
    Finding::wrong("plugin", format!("{} is missing; {advice}", file.display()))
}

fn models(plugin: &serde_json::Value) -> Vec<Finding> {
    let dir = Path::new(
        plugin
            .get("model_dir")
            .and_then(|dir| dir.as_str())
            .unwrap_or("models"),
    );
    if let Some(own) = plugin.get("model").and_then(|model| model.as_str()) {
        return vec![model(Path::new(own), "mend `model` under `plugin`")];
    }
    let chosen = plugin.get("detectors").and_then(|list| list.as_array());
    let is_chosen = |name: &str| chosen.is_none_or(|list| list.iter().any(|entry| entry == name));
    MODELS
        .iter()
        .filter(|(name, _)| is_chosen(name))
        .map(|(_, file)| {
            model(
                &dir.join(file),
                "run scripts/setup, or mend `model_dir` under `plugin`",
            )
        })
        .collect()
}

fn model(file: &Path, advice: &str) -> Finding {
    match std::fs::File::open(file).and_then(|file| file.metadata()) {
        Ok(metadata) if metadata.is_file() && metadata.len() > 0 => {
            Finding::ok("model", file.display().to_string())
        }
        Ok(_) => Finding::wrong("model", format!("{} is empty; {advice}", file.display())),
        Err(error) => Finding::wrong("model", unreadable(file, &error, advice)),
    }
}

fn unreadable(file: &Path, error: &std::io::Error, advice: &str) -> String {
    let advice = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "let the user who runs this read it",
        _ => advice,
    };
    format!("{}: {error}; {advice}", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    #[test]
    fn a_model_that_may_not_be_read_is_not_said_to_be_missing() {
        let said =
            |kind: ErrorKind| unreadable(Path::new("m.onnx"), &kind.into(), "run scripts/setup");
        let denied = said(ErrorKind::PermissionDenied);
        assert!(
            denied.ends_with("; let the user who runs this read it"),
            "{denied}"
        );
        assert!(said(ErrorKind::NotFound).ends_with("; run scripts/setup"));
    }
}
