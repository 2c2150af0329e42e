//! The command line: which command, which settings, logs, exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use daemon::lock::LockError;
use daemon::logs::{self, Format, LogSetup};
use daemon::shutdown::SecondSignal;
use daemon::status::{ProcessorStatus, StatusFile};
use daemon::{Shutdown, Singleton, exit, status};
use settings::{BLUR_FILE, BlurSettings, locate};

use crate::commands::{self, blur, check_plugin, queue};
use crate::dispatcher::{self, Ended, Until};

/// Blurs recorded videos: takes tickets from the queue, hides heads, verifies and publishes.
///
/// Without a command it runs until it is stopped.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The settings file; without it configs/blur_processor_config.json, then the one in the working directory.
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Write a commented settings file to the place of --config and stop.
    #[arg(long)]
    create_config: bool,
    /// Check the settings and their directories, load the plugin once and stop.
    #[arg(long)]
    validate: bool,
    /// Stop when no ticket is left that could be processed, instead of waiting for more.
    #[arg(long)]
    until_empty: bool,
    /// What is logged when RUST_LOG is not set.
    #[arg(long, default_value = "info", value_name = "LEVEL", global = true, value_parser = logs::level)]
    log_level: String,
    /// text or json.
    #[arg(long, default_value = "text", value_name = "FORMAT", global = true)]
    log_format: Format,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what is in the queue.
    Queue(queue::ShowArguments),
    /// Put tickets that were given up back into the queue.
    Retry(queue::RetryArguments),
    /// Blur one file by the settings, outside the queue.
    Blur(blur::Arguments),
    /// Load a plugin, let it work on synthetic frames and say what it is.
    CheckPlugin(check_plugin::Arguments),
    /// A worker process; started by the program itself.
    #[command(hide = true)]
    Worker,
    #[command(flatten)]
    Manual(manuals::Command),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            daemon::complain!(
                "blur-processor: {}",
                daemon::redact::text(&format!("{error:#}"))
            );
            ExitCode::from(exit::FAILED)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    if let Some(Command::Manual(manual)) = arguments.command {
        manual.print(Arguments::command())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(Command::Worker) = arguments.command {
        let _logs = console_logs("info", Format::Json)?;
        return Ok(crate::worker::run());
    }
    if arguments.create_config {
        let path = arguments.config.clone().unwrap_or_else(|| BLUR_FILE.into());
        return commands::create_config(&path);
    }
    if let Some(Command::CheckPlugin(wanted)) = &arguments.command {
        let _logs = console_logs("warn", arguments.log_format)?;
        return check_plugin::run(wanted, arguments.config.as_deref());
    }
    let settings = match load(arguments.config.as_deref()) {
        Ok(settings) => settings,
        Err(reason) => {
            daemon::complain!("{reason}");
            return Ok(ExitCode::from(exit::SETTINGS));
        }
    };
    match &arguments.command {
        Some(Command::Queue(wanted)) => queue::show(wanted, &settings),
        Some(Command::Retry(wanted)) => queue::retry(wanted, &settings),
        Some(Command::Blur(wanted)) => {
            let _logs = console_logs("warn", arguments.log_format)?;
            blur::run(wanted, &settings)
        }
        Some(Command::CheckPlugin(_) | Command::Worker | Command::Manual(_)) => {
            Ok(ExitCode::from(exit::FAILED))
        }
        None if share_places(&settings) => Ok(ExitCode::from(exit::SETTINGS)),
        None if arguments.validate => {
            let _logs = console_logs("warn", arguments.log_format)?;
            let are_places_good = check_places(&settings);
            let is_plugin_good = check_plugin::validate(&settings);
            if !(are_places_good && is_plugin_good) {
                return Ok(ExitCode::from(exit::SETTINGS));
            }
            daemon::say!("settings are valid");
            Ok(ExitCode::SUCCESS)
        }
        None => daemon(arguments, settings),
    }
}

/// The settings, or all that is wrong with them.
fn load(named: Option<&Path>) -> Result<BlurSettings, String> {
    let path = locate(named, BLUR_FILE).map_err(|error| error.to_string())?;
    BlurSettings::load(&path).map_err(|problems| problems.to_string())
}

/// Tells where links make directories one that must lie apart.
fn share_places(settings: &BlurSettings) -> bool {
    let problems = settings.overlaps_by_links(&daemon::disk::real_place);
    for problem in &problems {
        daemon::complain!("blur-processor: {}", daemon::redact::text(problem));
    }
    !problems.is_empty()
}

/// Tells which directories cannot be used; true when all can.
fn check_places(settings: &BlurSettings) -> bool {
    let is_raw_only_read = settings.backup_dir.is_none() && !settings.delete_original;
    let raw = (!is_raw_only_read || !settings.raw_dir.is_dir()).then_some(&settings.raw_dir);
    let places = [
        ("queue_dir", Some(&settings.queue_dir)),
        ("raw_dir", raw),
        ("output_dir", Some(&settings.output_dir)),
        ("backup_dir", settings.backup_dir.as_ref()),
        ("log_dir", Some(&settings.places.log_dir)),
        ("status_dir", Some(&settings.places.status_dir)),
    ];
    let given = places
        .into_iter()
        .filter_map(|(key, dir)| Some((key, dir?.as_path())));
    daemon::place::all_usable("blur-processor", given)
}

fn console_logs(level: &str, format: Format) -> anyhow::Result<logs::Guard> {
    logs::init(&LogSetup {
        file: None,
        level: level.to_owned(),
        format,
    })
}

fn daemon(arguments: &Arguments, settings: BlurSettings) -> anyhow::Result<ExitCode> {
    let (name, _lock) = instance_name(&settings.places.status_dir)?;
    let _logs = logs::init(&LogSetup {
        file: Some(settings.places.log_dir.join(format!("{name}.log"))),
        level: arguments.log_level.clone(),
        format: arguments.log_format,
    })?;
    let until = if arguments.until_empty {
        Until::Empty
    } else {
        Until::Asked
    };
    let status = StatusFile::new(&settings.places.status_dir, &name);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::on_signals(SecondSignal::IsReported)?;
        anyhow::Ok(dispatcher::run(settings, &name, shutdown, until).await)
    })?;
    let code = match ended {
        Ended::Stopped => {
            tracing::info!("stopped");
            exit::STOPPED
        }
        Ended::Unfit(reason) => {
            tracing::error!("refusing to start, nothing would be blurred: {reason}");
            tell_why(&status, &reason);
            exit::SETTINGS
        }
        Ended::Failed(error) => {
            tracing::error!("stopped: {error:#}");
            exit::FAILED
        }
    };
    Ok(ExitCode::from(code))
}

/// Leaves the reason for whoever looks after the daemon.
fn tell_why(file: &StatusFile, reason: &str) {
    let now = jiff::Timestamp::now();
    let told = file.write(&ProcessorStatus {
        pid: std::process::id(),
        started: now,
        updated: now,
        state: status::CANNOT_START.to_owned(),
        alarms: vec![daemon::redact::text(reason).into_owned()],
        ..ProcessorStatus::default()
    });
    if let Err(error) = told {
        tracing::warn!(%error, "the status file could not be written");
    }
}

/// The name for status and log files: the usual one for the first instance on a status directory,
/// one with the process id for any further one.
fn instance_name(status_dir: &Path) -> anyhow::Result<(String, Option<Singleton>)> {
    match Singleton::acquire(&status::lock_file(status_dir, status::PROCESSOR)) {
        Ok(lock) => Ok((status::PROCESSOR.to_owned(), Some(lock))),
        Err(LockError::Held { .. }) => Ok((
            format!("{}.{}", status::PROCESSOR, std::process::id()),
            None,
        )),
        Err(error) => Err(error.into()),
    }
}
