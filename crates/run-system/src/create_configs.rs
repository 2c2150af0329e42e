//! `--create-configs`: settings files with every key explained.

use crate::cli::Cli;
use crate::plain;
use settings::samples::{Existing, Sample};
use std::path::{Path, PathBuf};

pub(crate) fn run(cli: &Cli) -> anyhow::Result<u8> {
    let place = |named: &Option<PathBuf>, sample: Sample| {
        let default = || Path::new("configs").join(sample.file_name());
        named.clone().unwrap_or_else(default)
    };
    let recorder = place(&cli.recorder_config, Sample::Recorder);
    for (path, sample) in [
        (&recorder, Sample::Recorder),
        (&place(&cli.blur_config, Sample::Blur), Sample::Blur),
        (&place(&cli.system_config, Sample::System), Sample::System),
    ] {
        create(cli, path, sample)?;
    }
    plain::line(&format!(
        "\nNext:\n  1. put your cameras under \"sources\" in {}\n  2. run-system --validate   checks everything, cameras included\n  3. run-system              runs until Ctrl-C",
        recorder.display()
    ));
    Ok(daemon::exit::STOPPED)
}

fn create(cli: &Cli, path: &Path, sample: Sample) -> anyhow::Result<()> {
    // A file in the old place would no longer be read once there is one in configs/.
    let old_place = Path::new(sample.file_name());
    if !cli.force && path != old_place && !path.exists() && old_place.exists() {
        plain::line(&format!(
            "kept     ./{}; a new {} would take its place (--force makes it all the same)",
            sample.file_name(),
            path.display()
        ));
        return Ok(());
    }
    let existing = if cli.force {
        Existing::IsReplaced
    } else {
        Existing::Stays
    };
    let created = sample.create(path, existing)?;
    plain::line(&match created.is_new {
        true => format!("written  {}", path.display()),
        false => format!(
            "kept     {} (it exists; --force replaces it)",
            path.display()
        ),
    });
    plain::line(&format!(
        "written  {} (for editors)",
        created.schema.display()
    ));
    Ok(())
}
