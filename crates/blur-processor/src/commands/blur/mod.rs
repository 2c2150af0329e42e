//! `blur IN OUT`: the same pipeline for files and folders, without queue and workers.

mod draft;
mod files;
mod preview;
mod progress;

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use daemon::exit;
use jiff::{Timestamp, Zoned};
use serde::Serialize;
use settings::{BlurSettings, Zones};

use crate::pipeline::{Engine, Pace, Recipe, StaticZones, VideoJob, VideoReport};
use crate::plugin::{Hider, PluginChoice, Unfit};
use draft::Draft;
use files::Task;
use progress::Display;

/// `--preview` without a file name.
const BESIDE: &str = "-";

/// Arguments of `blur`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The video to blur, or a folder of videos; they are kept.
    input: PathBuf,
    /// The file to write; for a folder the folder to write to, which gets the same tree.
    output: PathBuf,
    /// Write anew what is there already, instead of leaving it.
    #[arg(long)]
    force: bool,
    /// When the first frame was recorded, such as 2026-01-31T12:00:00+01:00, for the caption.
    #[arg(long, value_name = "TIME")]
    start: Option<Timestamp>,
    /// The source whose `zones` of the settings apply.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Write the report of what was done to this file, as JSON; for a folder a list of all files.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write a sheet of the least certain frames to this file (.jpg or .png), made from the blurred
    /// video; without a name, and for a folder, a .jpg beside each video.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = BESIDE)]
    preview: Option<PathBuf>,
}

/// What became of one file, for the report of a folder.
#[derive(Debug, Serialize)]
struct Entry {
    input: PathBuf,
    output: PathBuf,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// The output was there already.
    Skipped(bool),
    Report(Box<VideoReport>),
    Error(String),
}

/// Blurs one file, or all videos of a folder.
///
/// # Errors
/// Files that cannot be opened or made. In a folder a video that fails does not stop the others;
/// the exit code tells.
pub fn run(arguments: &Arguments, settings: &BlurSettings) -> anyhow::Result<ExitCode> {
    media::init();
    media::share_one_heap();
    let whole_folder = arguments.input.is_dir();
    fits(arguments)?;
    if let Some(problem) = arguments
        .source
        .as_deref()
        .and_then(|source| without_zones(source, &settings.zones))
    {
        daemon::complain!("{problem}");
        return Ok(ExitCode::from(exit::SETTINGS));
    }
    let tasks = match whole_folder {
        true => files::of_folder(&arguments.input, &arguments.output)?,
        false => vec![Task {
            input: arguments.input.clone(),
            output: arguments.output.clone(),
        }],
    };
    spare_inputs(arguments, &tasks)?;
    if !whole_folder && arguments.output.exists() && !arguments.force {
        // Unlike in a folder, where the others are to be done, this is a mistake.
        bail!(
            "{} exists; it is not replaced without --force",
            arguments.output.display()
        );
    }
    let mut engine = match engine(settings) {
        Ok(engine) => engine,
        Err(unfit) => {
            daemon::complain!("{unfit}");
            return Ok(ExitCode::from(exit::SETTINGS));
        }
    };
    let display = Display::new(tasks.len());
    let mut entries = Vec::new();
    for task in tasks {
        let outcome = match task.output.exists() && !arguments.force {
            true => Outcome::Skipped(true),
            false => blur(&mut engine, arguments, settings, &task, &display),
        };
        display.ended(&task.output, &outcome);
        entries.push(Entry {
            input: task.input,
            output: task.output,
            outcome,
        });
    }
    if let Some(path) = &arguments.report {
        write_report(path, &entries, whole_folder)?;
    }
    let failed = entries
        .iter()
        .filter(|entry| matches!(entry.outcome, Outcome::Error(_)))
        .count();
    if whole_folder {
        daemon::say!("{} videos, {failed} failed", entries.len());
    }
    Ok(ExitCode::from(match failed {
        0 => exit::STOPPED,
        _ => exit::FAILED,
    }))
}

/// What to tell of a source that is named for its zones and has none, unlike others: what they hide would be shown.
fn without_zones(source: &str, zones: &Zones) -> Option<String> {
    if zones.is_empty() || zones.of(source).is_some() {
        return None;
    }
    let names: Vec<&str> = zones.names().collect();
    Some(format!(
        "--source {source}: `zones` of the settings has none of that name, but those of {}; name one of these, or leave \
         --source out",
        names.join(", ")
    ))
}

/// Refuses outputs that are a folder for a file, a file for a folder, or by their name another kind of video than is made.
fn fits(arguments: &Arguments) -> anyhow::Result<()> {
    let (input, output) = (&arguments.input, &arguments.output);
    match (input.is_dir(), output.is_dir()) {
        (true, false) if output.exists() => bail!(
            "{} is a file; name a folder, since the input is one",
            output.display()
        ),
        (false, true) => {
            let name = files::with_mp4(Path::new(input.file_name().unwrap_or_default()));
            bail!(
                "{} is a folder; name the file to write, such as {}",
                output.display(),
                output.join(name).display()
            )
        }
        (false, false) if files::is_other_video(output) => bail!(
            "{}: what is written is MP4; give a name that ends in .mp4",
            output.display()
        ),
        _ => Ok(()),
    }
}

/// Refuses to write over a video that is to be blurred, by whatever name or link it is reached.
fn spare_inputs(arguments: &Arguments, tasks: &[Task]) -> anyhow::Result<()> {
    let file = |path: &Path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.dev(), meta.ino()))
    };
    let inputs: HashMap<_, &Path> = tasks
        .iter()
        .filter_map(|task| Some((file(&task.input)?, task.input.as_path())))
        .collect();
    let named = [&arguments.report, &arguments.preview];
    let written = tasks
        .iter()
        .map(|task| &task.output)
        .chain(named.into_iter().flatten());
    for path in written {
        if let Some(input) = file(path).and_then(|file| inputs.get(&file)) {
            bail!(
                "{} and {} are the same file, which would be lost; name another one to write",
                input.display(),
                path.display()
            );
        }
    }
    Ok(())
}

fn engine(settings: &BlurSettings) -> Result<Engine, Unfit> {
    let mut recipe = Recipe::from_settings(settings);
    // Nobody shares the machine with it.
    recipe.threads = std::thread::available_parallelism()
        .map_or(1, |cores| cores.get() as u32)
        .min(16);
    let choice = PluginChoice::from_settings(settings)?;
    let (hider, facts, _) = Hider::load(&choice, 1)?;
    Engine::new(recipe, hider, facts)
}

fn blur(
    engine: &mut Engine,
    arguments: &Arguments,
    settings: &BlurSettings,
    task: &Task,
    display: &Display,
) -> Outcome {
    match try_to_blur(engine, arguments, settings, task, display) {
        Ok(report) => Outcome::Report(Box::new(report)),
        Err(error) => Outcome::Error(daemon::redact::text(&format!("{error:#}")).into_owned()),
    }
}

fn try_to_blur(
    engine: &mut Engine,
    arguments: &Arguments,
    settings: &BlurSettings,
    task: &Task,
    display: &Display,
) -> anyhow::Result<VideoReport> {
    let (input, output) = (&task.input, &task.output);
    let raw = File::open(input).with_context(|| format!("open {}", input.display()))?;
    let draft = Draft::create(output)?;
    let zones = arguments
        .source
        .as_ref()
        .and_then(|name| settings.zones.of(name));
    let job = VideoJob {
        name: input.display().to_string(),
        start: arguments.start,
        utc_offset_seconds: Zoned::now().offset().seconds(),
        input_stays: true,
        pace: Pace::Calm,
        zones: zones.map(StaticZones::from).unwrap_or_default(),
        ..VideoJob::default()
    };
    display.begins(input);
    let report = engine
        .run(&job, raw, draft.file().try_clone()?, &mut |progress| {
            display.progress(progress)
        })
        .with_context(|| input.display().to_string())?;
    draft.commit(output, arguments.force)?;
    if let Some(path) = preview_path(arguments, output) {
        preview::write(output, &report, &path)
            .with_context(|| format!("preview {}", path.display()))?;
    }
    Ok(report)
}

/// Where the sheet goes: where it was asked for, else beside the video.
fn preview_path(arguments: &Arguments, output: &Path) -> Option<PathBuf> {
    let named = arguments.preview.as_ref()?;
    match named.as_os_str() == BESIDE || arguments.input.is_dir() {
        true => Some(output.with_extension("jpg")),
        false => Some(named.clone()),
    }
}

fn write_report(path: &Path, entries: &[Entry], whole_folder: bool) -> anyhow::Result<()> {
    let text = match (whole_folder, entries) {
        (
            false,
            [
                Entry {
                    outcome: Outcome::Report(report),
                    ..
                },
            ],
        ) => serde_json::to_vec_pretty(report)?,
        _ => serde_json::to_vec_pretty(entries)?,
    };
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
