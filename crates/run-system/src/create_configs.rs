//! `--create-configs`: settings files with every key explained.

use crate::cli::Cli;
use crate::plain;
use anyhow::Context;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// What became of a file.
enum Outcome {
    Written,
    Kept,
}

pub(crate) fn run(cli: &Cli) -> anyhow::Result<u8> {
    let place = |named: &Option<PathBuf>, file: &str| {
        let default = || Path::new("configs").join(file);
        named.clone().unwrap_or_else(default)
    };
    let recorder = place(&cli.recorder_config, settings::RECORDER_FILE);
    let blur = place(&cli.blur_config, settings::BLUR_FILE);
    let system = place(&cli.system_config, settings::SYSTEM_FILE);
    for (path, file_name, text, schema) in [
        (
            &recorder,
            settings::RECORDER_FILE,
            settings::samples::recorder(),
            settings::schema::recorder(),
        ),
        (
            &blur,
            settings::BLUR_FILE,
            settings::samples::blur(),
            settings::schema::blur(),
        ),
        (
            &system,
            settings::SYSTEM_FILE,
            settings::samples::system(),
            settings::schema::system(),
        ),
    ] {
        create(cli, path, file_name, text, &schema)?;
    }
    plain::line(&format!(
        "\nNext:\n  1. put your cameras under \"sources\" in {}\n  2. run-system --validate   checks everything, cameras included\n  3. run-system              runs until Ctrl-C",
        recorder.display()
    ));
    Ok(daemon::exit::STOPPED)
}

fn create(cli: &Cli, path: &Path, file_name: &str, text: &str, schema: &str) -> anyhow::Result<()> {
    // A file in the old place would no longer be read once there is one in configs/.
    let old_place = Path::new(file_name);
    if !cli.force && path != old_place && !path.exists() && old_place.exists() {
        plain::line(&format!(
            "kept     ./{file_name}; a new {} would take its place (--force makes it all the same)",
            path.display()
        ));
        return Ok(());
    }
    let outcome = write(path, text, cli.force)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    plain::line(&match outcome {
        Outcome::Written => format!("written  {}", path.display()),
        Outcome::Kept => format!(
            "kept     {} (it exists; --force replaces it)",
            path.display()
        ),
    });
    write_schema(path, file_name, schema)
}

/// The schema is made anew each time: nobody edits it, and one of an earlier version would find fault with new keys.
fn write_schema(settings_file: &Path, file_name: &str, schema: &str) -> anyhow::Result<()> {
    let path = settings_file.with_file_name(settings::schema::file_name(file_name));
    daemon::atomic::write(&path, schema.as_bytes())
        .with_context(|| format!("{} cannot be written", path.display()))?;
    plain::line(&format!("written  {} (for editors)", path.display()));
    Ok(())
}

fn write(path: &Path, text: &str, force: bool) -> std::io::Result<Outcome> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    if force {
        daemon::atomic::write(path, text.as_bytes())?;
        return Ok(Outcome::Written);
    }
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| Outcome::Written),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Outcome::Kept),
        Err(error) => Err(error),
    }
}
