//! Starts, watches and stops `rtsp-recorder` and `blur-processor`, and tells how they are.
//!
//! It meets the daemons in files only: their settings, locks, status files and the ticket queue. It
//! may be killed and started again beside them at any time, since they live on without it and are
//! found again by their locks.

pub mod cli;
mod create_configs;
mod dashboard;
mod notify;
mod plain;
mod processes;
pub mod report;
pub mod setup;
pub mod supervise;
mod validate;
mod watch;

use anyhow::Context;
use clap::CommandFactory;
use cli::{Cli, Task};
use daemon::logs::{Guard, LogSetup};
use daemon::shutdown::SecondSignal;
use daemon::{Shutdown, Singleton, exit, lock, status};
use settings::Environment;
use setup::Setup;
use std::path::Path;

/// Does what the command line asks for; the result is the exit code.
///
/// # Errors
/// What keeps it from being done, in words for the user.
pub async fn run(cli: &Cli) -> anyhow::Result<u8> {
    if let Some(manual) = cli.manual {
        manual.print(Cli::command())?;
        return Ok(exit::STOPPED);
    }
    match cli.task() {
        Task::CreateConfigs => create_configs::run(cli),
        Task::Validate => Ok(validate::run(cli).await),
        Task::Status if cli.watch => {
            let setup = Setup::load(cli, &Environment::of_onlooker())?;
            watch::run(&setup, cli.json).await?;
            Ok(exit::STOPPED)
        }
        Task::Status => status_once(cli),
        Task::Dashboard => serve_dashboard(cli).await,
        Task::TestNotification => {
            let system = setup::system_settings(cli, &Environment::of_process())?;
            notify::try_all(&system.hooks).await
        }
        Task::Run => supervise_until_stopped(cli).await,
    }
}

fn status_once(cli: &Cli) -> anyhow::Result<u8> {
    let setup = Setup::load(cli, &Environment::of_onlooker())?;
    let report = report::Gatherer::new(&setup).gather_from_outside();
    if cli.json {
        plain::line(&serde_json::to_string_pretty(&report)?);
    } else {
        plain::line(report.table().trim_end());
    }
    Ok(exit::STOPPED)
}

async fn serve_dashboard(cli: &Cli) -> anyhow::Result<u8> {
    let mut setup = Setup::load(cli, &Environment::of_onlooker())?;
    // An onlooker may lack the cameras' passwords, but a made-up token would let strangers in.
    setup.system = setup::system_settings(cli, &Environment::of_process())?;
    let _logs = daemon::logs::init(&LogSetup {
        file: None,
        level: "info".to_owned(),
        format: cli.log_format,
    })?;
    let shutdown =
        Shutdown::on_signals(SecondSignal::Exits).context("signal handlers cannot be installed")?;
    dashboard::start_alone(&setup)?;
    shutdown.requested().await;
    Ok(exit::STOPPED)
}

async fn supervise_until_stopped(cli: &Cli) -> anyhow::Result<u8> {
    let setup = Setup::load(cli, &Environment::of_process())?;
    let _logs = start_logs(cli, &setup)?;
    let lock_path = status::lock_file(&setup.places.status_dir, status::SYSTEM);
    let _lock = match Singleton::acquire(&lock_path) {
        Ok(lock) => lock,
        Err(error @ lock::LockError::Held { .. }) => {
            tracing::error!("{error}");
            return Ok(exit::ALREADY_RUNNING);
        }
        Err(error) => return Err(error.into()),
    };
    let shutdown = Shutdown::on_signals(SecondSignal::IsReported)
        .context("signal handlers cannot be installed")?;
    if let Some(duration) = cli.duration.filter(|duration| !duration.is_zero()) {
        let shutdown = shutdown.clone();
        tokio::spawn(async move {
            tokio::time::sleep(duration).await;
            tracing::info!(
                seconds = duration.as_secs_f64(),
                "the time asked for is over; stopping"
            );
            shutdown.request();
        });
    }
    dashboard::start(&setup);
    let notifier = notify::start(&setup);
    supervise::run(&setup, supervise::Policy::default(), shutdown).await;
    if let Some(notifier) = notifier {
        notifier.finish().await;
    }
    Ok(exit::STOPPED)
}

fn start_logs(cli: &Cli, setup: &Setup) -> anyhow::Result<Guard> {
    daemon::logs::init(&LogSetup {
        file: Some(Path::new(&setup.places.log_dir).join(format!("{}.log", status::SYSTEM))),
        level: "info".to_owned(),
        format: cli.log_format,
    })
}
