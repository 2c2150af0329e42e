//! `check-plugin` and `--validate`: is this plugin usable, and what is it?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daemon::exit;
use serde_json::{Value, json};
use settings::{BLUR_FILE, BlurModule, BlurSettings, locate};

use crate::pipeline::{Engine, Recipe};
use crate::plugin::{Hider, PluginChoice, PluginFacts, Trial, Unfit};

/// Frames a plugin is timed on.
const FRAMES: u32 = 10;

/// Arguments of `check-plugin`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The plugin: a shared library or a Python module.
    path: PathBuf,
    /// The plugin's settings, a JSON object; without it those of the settings file, if there is one.
    #[arg(long, value_name = "JSON")]
    settings: Option<String>,
}

/// Loads a plugin and reports on it.
///
/// # Errors
/// The settings given are no JSON.
pub fn run(arguments: &Arguments, config: Option<&Path>) -> anyhow::Result<ExitCode> {
    let settings: Value = match &arguments.settings {
        Some(text) => serde_json::from_str(text)?,
        None => settings_of_file(config),
    };
    let module = match arguments
        .path
        .extension()
        .and_then(|extension| extension.to_str())
    {
        Some("py") => BlurModule::Python(arguments.path.clone()),
        _ => BlurModule::Native(arguments.path.clone()),
    };
    media::init();
    let loaded =
        PluginChoice::of_module(&module, &settings).and_then(|choice| Hider::load(&choice, FRAMES));
    Ok(report(loaded.map(|(_, facts, trial)| (facts, trial))))
}

/// Checks what the settings need: the plugin, its models, the encoder.
pub fn validate(settings: &BlurSettings) -> ExitCode {
    media::init();
    let loaded = PluginChoice::from_settings(settings)
        .and_then(|choice| Hider::load(&choice, 2))
        .and_then(|(hider, facts, trial)| {
            Engine::new(Recipe::from_settings(settings), hider, facts.clone())?;
            Ok((facts, trial))
        });
    let fine = loaded.is_ok();
    let code = report(loaded);
    if fine {
        println!("settings are valid");
    }
    code
}

fn report(loaded: Result<(PluginFacts, Trial), Unfit>) -> ExitCode {
    match loaded {
        Ok((facts, trial)) => {
            print(&facts, &trial);
            ExitCode::SUCCESS
        }
        Err(unfit) => {
            eprintln!("{unfit}");
            ExitCode::from(exit::SETTINGS)
        }
    }
}

fn print(facts: &PluginFacts, trial: &Trial) {
    println!("plugin   {} {}", facts.name, facts.version);
    println!("kind     {}", facts.kind);
    if let Some(blake3) = &facts.blake3 {
        println!("blake3   {blake3}");
        println!("load     {:.0} ms", trial.load.as_secs_f64() * 1e3);
        println!(
            "frame    {:.1} ms the first, {:.1} ms the others",
            trial.first_frame.as_secs_f64() * 1e3,
            trial.later_frames.as_secs_f64() * 1e3
        );
        println!("hits     {} on grey pictures", trial.hits);
    }
    if facts.info != json!({}) {
        println!("says     {}", facts.info);
    }
}

fn settings_of_file(config: Option<&Path>) -> Value {
    locate(config, BLUR_FILE)
        .ok()
        .and_then(|path| BlurSettings::load(&path).ok())
        .map_or_else(|| json!({}), |settings| settings.plugin)
}
