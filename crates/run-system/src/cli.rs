//! The command line.

use clap::Parser;
use daemon::logs::Format;
use std::path::PathBuf;
use std::time::Duration;

/// Records cameras and publishes blurred videos: starts, watches and stops rtsp-recorder and
/// blur-processor.
///
/// Without options it runs both until Ctrl-C. The first Ctrl-C finishes what is open, a second one
/// stops at once.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "run-system",
    version,
    after_help = "Exit codes: 0 done or stopped as asked, 1 failed, 2 settings or usage wrong, 100 already running."
)]
pub struct Cli {
    /// Write settings files with every key explained into configs/
    #[arg(long, group = "task")]
    pub create_configs: bool,

    /// With --create-configs: replace files that are there
    #[arg(long, requires = "create_configs")]
    pub force: bool,

    /// Check settings, directories, disk, plugin, models and cameras, then exit
    #[arg(long, group = "task")]
    pub validate: bool,

    /// Serve the dashboard and start nothing: where the daemons are services of their own
    #[arg(long, group = "task")]
    pub dashboard: bool,

    /// Send a test event to each hook under `notifications` and show what became of it
    #[arg(long, group = "task")]
    pub test_notification: bool,

    /// Show how the system is doing, then exit
    #[arg(long, group = "task")]
    pub status: bool,

    /// With --status: as JSON
    #[arg(long, requires = "status")]
    pub json: bool,

    /// With --status: go on showing it every second; q or Ctrl-C leaves
    #[arg(long, requires = "status")]
    pub watch: bool,

    /// Stop after this many seconds; 0: run until stopped
    #[arg(long, value_name = "SECONDS", value_parser = seconds, conflicts_with = "task")]
    pub duration: Option<Duration>,

    /// Settings of the recorder [default: configs/rtsp_recorder_config.json]
    #[arg(long, value_name = "FILE")]
    pub recorder_config: Option<PathBuf>,

    /// Settings of the blur processor [default: configs/blur_processor_config.json]
    #[arg(long, value_name = "FILE")]
    pub blur_config: Option<PathBuf>,

    /// Settings of run-system itself [default: configs/run_system_config.json, if it is there]
    #[arg(long, value_name = "FILE")]
    pub system_config: Option<PathBuf>,

    /// Leave the blur processor alone
    #[arg(long, conflicts_with = "blur_only")]
    pub recorder_only: bool,

    /// Leave the recorder alone
    #[arg(long)]
    pub blur_only: bool,

    /// How log lines look: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: Format,

    /// Completions and manual page.
    #[command(subcommand)]
    pub manual: Option<manuals::Command>,
}

/// What the command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Write settings files.
    CreateConfigs,
    /// Check everything.
    Validate,
    /// Show the state.
    Status,
    /// Serve the dashboard only.
    Dashboard,
    /// Try the hooks.
    TestNotification,
    /// Run the daemons.
    Run,
}

impl Cli {
    /// What is asked for.
    pub fn task(&self) -> Task {
        match (self.create_configs, self.validate, self.status) {
            (true, _, _) => Task::CreateConfigs,
            (_, true, _) => Task::Validate,
            (_, _, true) => Task::Status,
            _ if self.dashboard => Task::Dashboard,
            _ if self.test_notification => Task::TestNotification,
            _ => Task::Run,
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "give a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| "give a number of seconds, 0 or more".to_owned())
}
