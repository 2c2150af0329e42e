//! Runs the camera simulator from the command line, or sends a command to one that runs.

mod cli;

use anyhow::{Context as _, bail};
use camera_simulator::{Simulator, StartError, control};
use clap::{CommandFactory as _, Parser as _};
use cli::{Cli, Planned, Serve, Sub};
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Exit code for settings that will not do however often they are tried.
const BAD_SETTINGS: u8 = 2;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .with_writer(std::io::stderr)
        .init();
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Sub::Ctl { address, words }) => send_command(address, &words),
        Some(Sub::Manual(manual)) => manual
            .print(Cli::command())
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
        None => serve(cli.serve),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("camera-simulator: {error:#}");
            exit_code(&error)
        }
    }
}

fn exit_code(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<StartError>() {
        Some(StartError::Config(_) | StartError::Load(_)) => ExitCode::from(BAD_SETTINGS),
        _ => ExitCode::FAILURE,
    }
}

fn send_command(address: SocketAddr, words: &[String]) -> anyhow::Result<ExitCode> {
    let answer = control::send(address, &words.join(" "))
        .with_context(|| format!("no answer from {address}; is it the --control address?"))?;
    print!("{answer}");
    let failed = answer.starts_with("error: ");
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn serve(options: Serve) -> anyhow::Result<ExitCode> {
    let settings = || anyhow::Ok((options.config()?, options.planned()?, options.limit()?));
    let (config, planned, limit) = match settings() {
        Ok(settings) => settings,
        Err(error) => bail!(StartError::Config(format!("{error:#}"))),
    };
    let unknown = planned
        .iter()
        .find(|p| p.camera != "all" && config.cameras.iter().all(|c| c.name != p.camera));
    if let Some(planned) = unknown {
        bail!(StartError::Config(format!(
            "--fault: no camera {:?}",
            planned.camera
        )));
    }
    let simulator = Arc::new(Simulator::start(config)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(until_stopped(&simulator, options.control, planned, limit))?;
    simulator.stop();
    // Threads that still wait for a command hold the simulator; the process ends without them.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

fn announce(simulator: &Simulator) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for name in simulator.names() {
        writeln!(out, "{}", simulator.url(&name).unwrap_or_default())?;
    }
    writeln!(out, "READY")?;
    out.flush().context("write to standard output")
}

async fn until_stopped(
    simulator: &Arc<Simulator>,
    control: Option<SocketAddr>,
    planned: Vec<Planned>,
    limit: Option<Duration>,
) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let quit = Arc::new(Notify::new());
    if let Some(address) = control {
        let quit = Arc::clone(&quit);
        let bound = control::serve(Arc::clone(simulator), address, move || quit.notify_one())
            .with_context(|| format!("cannot take commands on {address}"))?;
        tracing::info!(%bound, "taking commands");
    }
    announce(simulator)?;
    read_commands(Arc::clone(simulator), Arc::clone(&quit))?;
    for fault in planned {
        tokio::spawn(carry_out(Arc::clone(simulator), fault));
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = quit.notified() => {}
        () = sleep_or_never(limit) => {}
    }
    Ok(())
}

async fn sleep_or_never(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// Reads commands from standard input on a thread of its own, since a read of it cannot be ended.
fn read_commands(simulator: Arc<Simulator>, quit: Arc<Notify>) -> anyhow::Result<()> {
    let read = move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if line.trim().is_empty() {
                continue;
            }
            let answer = control::execute(&simulator, &line, &|| quit.notify_one());
            if std::io::stdout().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("stdin".into())
        .spawn(read)?;
    Ok(())
}

async fn carry_out(simulator: Arc<Simulator>, planned: Planned) {
    tokio::time::sleep(planned.after).await;
    loop {
        let (simulator, camera, fault) = (
            Arc::clone(&simulator),
            planned.camera.clone(),
            planned.fault.clone(),
        );
        let done = tokio::task::spawn_blocking(move || simulator.fault(&camera, &fault)).await;
        match done {
            Ok(Ok(())) => tracing::info!(camera = planned.camera, fault = ?planned.fault, "fault"),
            Ok(Err(error)) => tracing::error!(%error, camera = planned.camera, "fault not done"),
            Err(error) => tracing::error!(%error, "fault not done"),
        }
        let Some(every) = planned.every else { return };
        tokio::time::sleep(every).await;
    }
}
