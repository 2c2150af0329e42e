//! The command line of the camera simulator.

use anyhow::{Context as _, bail};
use camera_simulator::{
    AuthScheme, CameraConfig, Config, Credentials, FAULT_USAGE, Fault, LoadOptions, Simulator,
    StartAt, VideoCodec, control,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::io::{BufRead as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Serves video files as looping RTSP cameras, with faults on demand.
///
/// Prints one URL per camera, then READY. Reads commands from standard input (and from --control), one a line:
/// `CAMERA FAULT`, `list`, `stats`, `quit`.
#[derive(Debug, Parser)]
#[command(
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Send one command to a running simulator's control port.
    Ctl {
        /// Its --control address.
        address: SocketAddr,
        /// The command, for example: cam0 loss 5
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Serve {
    /// Video files; anything FFmpeg can read. H.264 and H.265 are served as they are.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Number of cameras; files are used in turn [default: one per file].
    #[arg(long)]
    count: Option<usize>,
    /// Names instead of cam0, cam1, ...
    #[arg(long, value_delimiter = ',')]
    names: Vec<String>,
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1")]
    bind: IpAddr,
    /// TCP port; 0 takes a free one.
    #[arg(long, default_value_t = 8554)]
    port: u16,
    /// One port per camera, counted up from --port, as if each were a host of its own.
    #[arg(long)]
    separate_ports: bool,
    /// User name that clients must give.
    #[arg(long)]
    user: Option<String>,
    /// Password that clients must give; other users of the machine can see it in the process list.
    #[arg(long, requires = "user", conflicts_with = "password_env")]
    password: Option<String>,
    /// Environment variable that holds the password.
    #[arg(long, requires = "user", value_name = "VAR")]
    password_env: Option<String>,
    /// How the password is asked for.
    #[arg(long, value_enum, default_value = "digest")]
    auth: Auth,
    /// Begin a new client's stream with the latest key frame instead of the next one.
    #[arg(long)]
    from_latest_key: bool,
    /// Seconds without a sign of life after which a session over UDP ends.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    session_timeout: u64,
    /// Encode anew at this size, pixels.
    #[arg(long, value_name = "WxH", value_parser = parse_size)]
    size: Option<(u32, u32)>,
    /// Encode anew at this frame rate.
    #[arg(long)]
    fps: Option<f64>,
    /// Encode anew with a key frame every so many frames.
    #[arg(long)]
    gop: Option<u32>,
    /// Encode anew with this codec.
    #[arg(long, value_enum)]
    codec: Option<Codec>,
    /// Leave out the sound.
    #[arg(long)]
    mute: bool,
    /// A fault from the start: "CAMERA FAULT"; with "@S" in front after S seconds, with "@S+E" then every E
    /// seconds. May be repeated.
    #[arg(long = "fault", value_name = "[@S[+E] ]CAMERA FAULT", long_help = fault_help())]
    faults: Vec<String>,
    /// Take commands on this address too.
    #[arg(long, value_name = "IP:PORT")]
    control: Option<SocketAddr>,
    /// Write what was sent as JSON lines.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Stop after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Auth {
    Digest,
    Basic,
    Both,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Codec {
    H264,
    H265,
}

/// A `--fault` with its times.
#[derive(Debug, Clone, PartialEq)]
struct Planned {
    after: Duration,
    every: Option<Duration>,
    camera: String,
    fault: Fault,
}

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
        None => serve(cli.serve),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("camera-simulator: {error:#}");
            ExitCode::FAILURE
        }
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
    let planned: Vec<Planned> = options
        .faults
        .iter()
        .map(|text| plan(text).with_context(|| format!("--fault {text:?}")))
        .collect::<anyhow::Result<_>>()?;
    let simulator = Arc::new(Simulator::start(config(&options)?)?);
    for fault in &planned {
        if fault.camera != "all" && simulator.url(&fault.camera).is_none() {
            bail!("--fault: no camera {:?}", fault.camera);
        }
    }
    announce(&simulator)?;
    let quit = Arc::new(Notify::new());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(until_stopped(&simulator, &options, planned, quit))?;
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
    options: &Serve,
    planned: Vec<Planned>,
    quit: Arc<Notify>,
) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    if let Some(address) = options.control {
        let quit = Arc::clone(&quit);
        let bound = control::serve(Arc::clone(simulator), address, move || quit.notify_one())
            .with_context(|| format!("cannot take commands on {address}"))?;
        tracing::info!(%bound, "taking commands");
    }
    read_commands(Arc::clone(simulator), Arc::clone(&quit))?;
    for fault in planned {
        tokio::spawn(carry_out(Arc::clone(simulator), fault));
    }
    let limit = options
        .duration
        .map(Duration::try_from_secs_f64)
        .transpose()
        .context("--duration")?;
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
            if !line.trim().is_empty() {
                print!(
                    "{}",
                    control::execute(&simulator, &line, &|| quit.notify_one())
                );
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

/// Reads `[@S[+E] ]CAMERA FAULT`.
fn plan(text: &str) -> anyhow::Result<Planned> {
    let (times, rest) = match text.strip_prefix('@') {
        Some(timed) => timed.split_once(' ').context("no camera after the time")?,
        None => ("0", text),
    };
    let (after, every) = match times.split_once('+') {
        Some((after, every)) => (after, Some(seconds(every)?)),
        None => (times, None),
    };
    if every.is_some_and(|e| e < Duration::from_millis(100)) {
        bail!("repeated more often than ten times a second");
    }
    match control::parse(rest).map_err(anyhow::Error::msg)? {
        control::Command::Fault(camera, fault) => Ok(Planned {
            after: seconds(after)?,
            every,
            camera,
            fault,
        }),
        _ => bail!("not a fault; one of: {FAULT_USAGE}"),
    }
}

fn seconds(text: &str) -> anyhow::Result<Duration> {
    let number: f64 = text
        .parse()
        .with_context(|| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(number).with_context(|| format!("{text:?} seconds"))
}

fn config(options: &Serve) -> anyhow::Result<Config> {
    let count = options
        .count
        .unwrap_or_else(|| options.files.len().max(options.names.len()));
    if !options.names.is_empty() && options.names.len() != count {
        bail!("{} names for {count} cameras", options.names.len());
    }
    let load = LoadOptions {
        size: options.size,
        fps: options.fps,
        gop: options.gop,
        codec: options.codec.map(|c| match c {
            Codec::H264 => VideoCodec::H264,
            Codec::H265 => VideoCodec::H265,
        }),
        mute: options.mute,
    };
    let cameras = (0..count).map(|i| {
        let name = options
            .names
            .get(i)
            .cloned()
            .unwrap_or_else(|| format!("cam{i}"));
        let mut camera = CameraConfig::new(name, &options.files[i % options.files.len()]);
        camera.load = load.clone();
        camera
    });
    let mut config = Config::new(cameras);
    config.bind = options.bind;
    config.port = options.port;
    config.separate_ports = options.separate_ports;
    config.credentials = credentials(options)?;
    config.scheme = match options.auth {
        Auth::Digest => AuthScheme::Digest,
        Auth::Basic => AuthScheme::Basic,
        Auth::Both => AuthScheme::Both,
    };
    config.start_at = match options.from_latest_key {
        true => StartAt::LatestKeyFrame,
        false => StartAt::NextKeyFrame,
    };
    config.session_timeout = Duration::from_secs(options.session_timeout);
    config.log.clone_from(&options.log);
    Ok(config)
}

fn credentials(options: &Serve) -> anyhow::Result<Option<Credentials>> {
    let Some(user) = options.user.clone() else {
        return Ok(None);
    };
    let password = match (&options.password, &options.password_env) {
        (Some(password), _) => password.clone(),
        (None, Some(name)) => std::env::var(name)
            .with_context(|| format!("--password-env: environment variable {name}"))?,
        (None, None) => bail!("--user needs --password-env or --password"),
    };
    Ok(Some(Credentials { user, password }))
}

fn parse_size(text: &str) -> Result<(u32, u32), String> {
    match Fault::parse(&format!("size {text}")) {
        Ok(Fault::Resize(width, height)) => Ok((width, height)),
        _ => Err("WIDTHxHEIGHT with even numbers from 16 to 8192".into()),
    }
}

fn fault_help() -> String {
    format!(
        "A fault from the start: \"CAMERA FAULT\"; with \"@S\" in front after S seconds, with \"@S+E\" then every \
         E seconds. May be repeated. CAMERA is a name or \"all\".\nFaults: {FAULT_USAGE}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn faults_have_times() {
        let planned = plan("@20+5 cam0 close").unwrap();
        assert_eq!(
            (planned.after, planned.every),
            (Duration::from_secs(20), Some(Duration::from_secs(5)))
        );
        assert_eq!(plan("all loss 5").unwrap().after, Duration::ZERO);
        assert!(plan("@x cam0 close").is_err());
        assert!(plan("@1+0 cam0 close").is_err());
        assert!(plan("stats").is_err());
    }
}
