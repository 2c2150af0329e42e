//! The command line: its arguments, and what they mean.

use anyhow::{Context as _, bail};
use camera_simulator::{
    AuthScheme, CameraConfig, Config, Credentials, FAULT_USAGE, Fault, LoadOptions, StartAt,
    VideoCodec, control,
};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

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
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Sub>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sub {
    /// Send one command to a running simulator's control port.
    Ctl {
        /// Its --control address.
        address: SocketAddr,
        /// The command, for example: cam0 loss 5
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    #[command(flatten)]
    Manual(manuals::Command),
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
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
    /// Refuse RTP over TCP, as servers do that know only datagrams.
    #[arg(long)]
    refuse_tcp: bool,
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
    pub(crate) control: Option<SocketAddr>,
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
pub(crate) struct Planned {
    pub(crate) after: Duration,
    pub(crate) every: Option<Duration>,
    pub(crate) camera: String,
    pub(crate) fault: Fault,
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

impl Serve {
    /// The simulator that is asked for.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        config(self)
    }

    /// The faults that are asked for, in order.
    pub(crate) fn planned(&self) -> anyhow::Result<Vec<Planned>> {
        let plan = |text: &String| plan(text).with_context(|| format!("--fault {text:?}"));
        self.faults.iter().map(plan).collect()
    }

    /// When to stop by itself.
    pub(crate) fn limit(&self) -> anyhow::Result<Option<Duration>> {
        let limit = self.duration.map(Duration::try_from_secs_f64);
        limit.transpose().context("--duration")
    }
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
        sets_out_of_band: false,
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
    config.refuse_tcp = options.refuse_tcp;
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
