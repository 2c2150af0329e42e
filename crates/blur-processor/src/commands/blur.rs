//! `blur IN OUT`: the same pipeline for one file, without queue and workers.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};
use daemon::exit;
use jiff::{Timestamp, Zoned};
use settings::BlurSettings;
use ticket_queue::durable;

use crate::pipeline::{Engine, Pace, Progress, Recipe, VideoJob, VideoReport};
use crate::plugin::{Hider, PluginChoice};

/// Arguments of `blur`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The video to blur; it is kept.
    input: PathBuf,
    /// The file to write; it must not exist.
    output: PathBuf,
    /// When the first frame was recorded, such as 2026-01-31T12:00:00+01:00, for the caption.
    #[arg(long, value_name = "TIME")]
    start: Option<Timestamp>,
    /// Write the report of what was done to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Blurs one file.
///
/// # Errors
/// Files that cannot be opened or made.
pub fn run(arguments: &Arguments, settings: &BlurSettings) -> anyhow::Result<ExitCode> {
    media::init();
    let (input, output) = (&arguments.input, &arguments.output);
    if output.exists() {
        bail!("{} exists; it is not replaced", output.display());
    }
    let raw = File::open(input).with_context(|| format!("open {}", input.display()))?;
    let mut recipe = Recipe::from_settings(settings);
    // Nobody shares the machine with it.
    recipe.threads = std::thread::available_parallelism()
        .map_or(1, |cores| cores.get() as u32)
        .min(16);
    let loaded = PluginChoice::from_settings(settings)
        .and_then(|choice| Hider::load(&choice, 1))
        .and_then(|(hider, facts, _)| Engine::new(recipe, hider, facts));
    let mut engine = match loaded {
        Ok(engine) => engine,
        Err(unfit) => {
            eprintln!("{unfit}");
            return Ok(ExitCode::from(exit::SETTINGS));
        }
    };
    let draft = Draft::create(output)?;
    let job = VideoJob {
        name: input.display().to_string(),
        start: arguments.start,
        utc_offset_seconds: Zoned::now().offset().seconds(),
        lossy: false,
        pace: Pace::Calm,
    };
    let mut line = ProgressLine::new();
    let outcome = engine.run(&job, raw, draft.file.try_clone()?, &mut |progress| {
        line.show(progress)
    });
    line.clear();
    match outcome {
        Ok(report) => {
            durable::commit_new(&draft.file, &draft.path, output)?;
            if let Some(path) = &arguments.report {
                std::fs::write(path, serde_json::to_vec_pretty(&report)?)
                    .with_context(|| format!("write {}", path.display()))?;
            }
            print(output, &report);
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            eprintln!("{}: {failure}", input.display());
            Ok(ExitCode::from(exit::FAILED))
        }
    }
}

fn print(output: &Path, report: &VideoReport) {
    println!(
        "{}: {} frames in {:.1} s ({:.0} a second), {} tracks, {} frames masked, {} groups copied, {} encoded",
        output.display(),
        report.frames,
        report.time.total_ms as f64 / 1e3,
        report.frames as f64 * 1e3 / report.time.total_ms.max(1) as f64,
        report.tracks,
        report.frames_masked,
        report.gops_copied,
        report.gops_encoded
    );
}

/// The output under a name of its own until it is verified; removed if it never is.
struct Draft {
    file: File,
    path: PathBuf,
}

impl Draft {
    fn create(output: &Path) -> anyhow::Result<Self> {
        let name = output
            .file_name()
            .context("the output has no file name")?
            .to_string_lossy();
        let path = output.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("create {}", path.display()))?;
        Ok(Self { file, path })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a commit the name is gone.
        std::fs::remove_file(&self.path).ok();
    }
}

/// A line on a terminal that tells how far it is; nothing elsewhere.
struct ProgressLine {
    shown: bool,
    last: Instant,
    began: Instant,
}

impl ProgressLine {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            shown: std::io::stderr().is_terminal(),
            last: now,
            began: now,
        }
    }

    fn show(&mut self, progress: Progress) {
        if self.shown && self.last.elapsed().as_millis() >= 100 {
            self.last = Instant::now();
            let share = progress.share();
            let done = (share * 40.0) as usize;
            let passed = self.began.elapsed().as_secs_f64();
            let left = if share > 0.01 {
                passed / share - passed
            } else {
                0.0
            };
            eprint!(
                "\r[{:<40}] {:3.0} %, {left:.0} s left   ",
                "#".repeat(done),
                share * 100.0
            );
            // A terminal that does not take it is no reason to stop.
            std::io::stderr().flush().ok();
        }
    }

    fn clear(&self) {
        if self.shown {
            eprint!("\r{:70}\r", "");
        }
    }
}
