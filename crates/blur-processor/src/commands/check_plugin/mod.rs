//! `check-plugin` and `--validate`: is this plugin usable, and what is it?
//!
//! The plugin runs in a process of its own, so that a crash or a hang is an answer, too.

mod findings;
mod pictures;
mod trial;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use daemon::child::{Child, Orphan};
use daemon::exit;
use serde_json::json;
use settings::{BLUR_FILE, BlurModule, BlurSettings, Environment, locate};

use crate::pipeline::{Engine, Recipe};
use crate::plugin::{Hider, PluginChoice, PluginFacts, Trial};
use crate::sandbox::Sandbox;

/// Arguments of `check-plugin`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The plugin: a shared library, a Python module, or a name such as head-blur.
    path: PathBuf,
    /// The plugin's settings, a JSON object; without it those of the settings file, if there is one.
    #[arg(long, value_name = "JSON")]
    settings: Option<String>,
    /// Take the pictures from this video instead of drawing some.
    #[arg(long, value_name = "FILE")]
    video: Option<PathBuf>,
    /// Frames to try it on.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    frames: u32,
    /// Seconds after which it counts as hanging.
    #[arg(long, default_value_t = 600.0, value_name = "SECONDS")]
    timeout: f64,
    /// This is the process that loads the plugin.
    #[arg(long, hide = true)]
    inside: bool,
}

/// Loads a plugin and reports on it.
///
/// # Errors
/// The settings given are no JSON, or the process for the plugin does not start.
pub fn run(arguments: &Arguments, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    if !arguments.inside {
        return outside(arguments, config);
    }
    let mut settings = settings_of_file(config)?;
    if let Some(text) = &arguments.settings {
        settings.plugin = serde_json::from_str(text).context("--settings is no JSON")?;
    }
    settings.blur_module = module(&arguments.path);
    media::init();
    let loaded =
        PluginChoice::of_module(&settings.blur_module, &settings.plugin).and_then(|choice| {
            // As in a worker, so that what a plugin lacks there shows here.
            let mut sandbox = Sandbox::from_settings(&settings, &choice);
            sandbox.readable.extend(arguments.video.clone());
            let confined = sandbox.enter();
            let (hider, mut facts, first) = Hider::load(&choice.expecting(trial::CAMERAS), 1)?;
            facts.sandbox = confined.to_string();
            Ok((hider, facts, first))
        });
    let (hider, facts, first) = match loaded {
        Ok(loaded) => loaded,
        Err(unfit) => {
            daemon::complain!("{unfit}");
            return Ok(ExitCode::from(exit::SETTINGS));
        }
    };
    print(&facts, &first);
    let findings = trial::run(hider, arguments.video.as_deref(), arguments.frames)?;
    daemon::say!("{}", findings.text().trim_end());
    let mistakes = findings.mistakes();
    for mistake in &mistakes {
        daemon::complain!("wrong: {mistake}");
    }
    Ok(ExitCode::from(match mistakes.is_empty() {
        true => exit::STOPPED,
        false => exit::FAILED,
    }))
}

/// As `blur_module_path` in the settings; anything else is tried as a library.
fn module(path: &Path) -> BlurModule {
    let program_dir = Environment::of_process().program_dir;
    let read = path
        .to_str()
        .map(|text| BlurModule::read(text, program_dir.as_deref()));
    match read {
        Some(Ok(module)) => module,
        _ => BlurModule::Native(path.to_owned()),
    }
}

/// Starts this command again as a process for the plugin and waits for its end.
fn outside(arguments: &Arguments, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["check-plugin", "--inside", "--frames"])
        .arg(arguments.frames.to_string())
        .arg(&arguments.path)
        .stdin(Stdio::null());
    for (name, value) in [
        ("--config", config),
        ("--video", arguments.video.as_deref()),
        ("--settings", arguments.settings.as_deref().map(Path::new)),
    ] {
        if let Some(value) = value {
            command.arg(name).arg(value);
        }
    }
    let limit = Duration::try_from_secs_f64(arguments.timeout).context("--timeout")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (child, _) = Child::spawn(command, Orphan::IsKilled).context("start the process")?;
        let ended = tokio::time::timeout(limit, child.exited()).await;
        // Whatever the plugin started goes with it.
        child.kill_group();
        let exit = match ended {
            Ok(exit) => exit,
            Err(_) => {
                daemon::complain!(
                    "wrong: no end after {} s (--timeout); the plugin hangs or is very slow",
                    limit.as_secs_f64()
                );
                return Ok(ExitCode::from(exit::FAILED));
            }
        };
        Ok(match exit.code().and_then(|code| u8::try_from(code).ok()) {
            Some(code) => ExitCode::from(code),
            None => {
                daemon::complain!("wrong: the plugin crashed its process: {exit}");
                ExitCode::from(exit::FAILED)
            }
        })
    })
}

/// True when what the settings need can be used: the plugin, its models, the encoder.
pub fn validate(settings: &BlurSettings) -> bool {
    media::init();
    let loaded = PluginChoice::from_settings(settings)
        .and_then(|choice| Hider::load(&choice, 2))
        .and_then(|(hider, facts, trial)| {
            Engine::new(Recipe::from_settings(settings), hider, facts.clone())?;
            Ok((facts, trial))
        });
    match loaded {
        Ok((facts, trial)) => {
            print(&facts, &trial);
            true
        }
        Err(unfit) => {
            daemon::complain!("{unfit}");
            false
        }
    }
}

fn print(facts: &PluginFacts, trial: &Trial) {
    daemon::say!("plugin   {} {}", facts.name, facts.version);
    daemon::say!("kind     {}", facts.kind);
    if let Some(blake3) = &facts.blake3 {
        daemon::say!("blake3   {blake3}");
        daemon::say!("load     {:.0} ms", trial.load.as_secs_f64() * 1e3);
        daemon::say!("first    {:.1} ms", trial.first_frame.as_secs_f64() * 1e3);
    }
    if !facts.sandbox.is_empty() {
        daemon::say!("sandbox  {}", facts.sandbox);
    }
    if facts.info != json!({}) {
        daemon::say!("says     {}", facts.info);
    }
}

/// The settings file's, or what holds without one.
fn settings_of_file(config: Option<&Path>) -> anyhow::Result<BlurSettings> {
    let found = locate(config, BLUR_FILE)
        .ok()
        .and_then(|path| BlurSettings::load(&path).ok());
    match found {
        Some(settings) => Ok(settings),
        None => Ok(BlurSettings::from_text("{}", &Environment::of_process())?),
    }
}
