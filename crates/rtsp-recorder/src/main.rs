//! `rtsp-recorder`: records cameras into segments and queues them for processing.

use clap::{CommandFactory, Parser, Subcommand};
use daemon::logs::{Format, LogSetup};
use daemon::shutdown::SecondSignal;
use daemon::{Shutdown, SystemClock, exit};
use rtsp_recorder::input::Stamps;
use rtsp_recorder::probe::{Probe, missing_encoder, probe};
use rtsp_recorder::run::{End, are_places_usable, run};
use settings::samples::{Existing, Sample};
use settings::{RECORDER_FILE, RecorderSettings, locate};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long threads may take that still ask a disk when everything else is done.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Records RTSP cameras, streams and files into segments, one ticket each for the blur processor.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The settings file; without it configs/rtsp_recorder_config.json, then the one in the working directory.
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Write a commented settings file to the place of --config and stop.
    #[arg(long)]
    create_config: bool,
    /// Check the settings and their directories, and stop.
    #[arg(long)]
    validate: bool,
    /// What is logged when RUST_LOG is not set. The RTSP library warns of each oddity of a camera, at worst with every packet.
    #[arg(long, default_value = "info,retina=error", value_name = "LEVEL", value_parser = daemon::logs::level)]
    log_level: String,
    /// text or json.
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    log_format: Format,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Connect to every source, look at it for some seconds and say what it sends; records nothing.
    Probe {
        /// As JSON, one list for all sources.
        #[arg(long)]
        json: bool,
        /// How long to look at most, in seconds, connecting included.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
        seconds: u64,
    },
    #[command(flatten)]
    Manual(manuals::Command),
}

fn main() -> ExitCode {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let arguments = Arguments::parse();
    match start(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            daemon::complain!(
                "rtsp-recorder: {}",
                daemon::redact::text(&format!("{error:#}"))
            );
            let running = error.downcast_ref::<daemon::lock::LockError>();
            match running {
                Some(daemon::lock::LockError::Held { .. }) => ExitCode::from(exit::ALREADY_RUNNING),
                _ => ExitCode::from(exit::FAILED),
            }
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<u8> {
    if let Some(Command::Manual(manual)) = arguments.command {
        manual.print(Arguments::command())?;
        return Ok(exit::STOPPED);
    }
    if arguments.create_config {
        let path = arguments.config.as_deref();
        return create_config(path.unwrap_or(Path::new(RECORDER_FILE)));
    }
    let settings = match load(arguments) {
        Ok(settings) => settings,
        Err(problems) => {
            daemon::complain!("{problems}");
            return Ok(exit::SETTINGS);
        }
    };
    if arguments.validate {
        let are_places_good = are_places_usable(&settings);
        if !(are_encoders_there(&settings) && are_places_good) {
            return Ok(exit::SETTINGS);
        }
        for source in &settings.sources {
            if let Some(doubt) = source.doubt() {
                daemon::say!("note: {}: {doubt}", source.name);
            }
        }
        daemon::say!("settings are good: {} sources", settings.sources.len());
        return Ok(exit::STOPPED);
    }
    if let Some(Command::Probe { json, seconds }) = &arguments.command {
        return look_at_sources(&settings, *json, Duration::from_secs(*seconds), arguments);
    }
    let _logs = daemon::logs::init(&LogSetup {
        file: Some(settings.places.log_dir.join("rtsp_recorder.log")),
        level: arguments.log_level.clone(),
        format: arguments.log_format,
    })?;
    rtsp_recorder::descriptors::raise_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let end = runtime.block_on(async {
        let shutdown = Shutdown::on_signals(SecondSignal::Exits)?;
        run(settings, shutdown).await
    });
    // A thread that a disk or a share holds up is not waited for.
    runtime.shutdown_timeout(LAST_WORDS);
    match end {
        Ok(End::Stopped) => Ok(exit::STOPPED),
        Ok(End::Finished) => Ok(exit::FINISHED),
        Err(error) => {
            tracing::error!("{}", daemon::redact::text(&format!("{error:#}")));
            Err(error)
        }
    }
}

fn look_at_sources(
    settings: &RecorderSettings,
    as_json: bool,
    look: Duration,
    arguments: &Arguments,
) -> anyhow::Result<u8> {
    let _logs = daemon::logs::init(&LogSetup {
        file: None,
        level: "error".to_owned(),
        format: arguments.log_format,
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stamps = Stamps(Arc::new(SystemClock::new()));
    let probes = runtime.block_on(probe(settings, &stamps, look));
    // A thread that FFmpeg holds up is not waited for.
    runtime.shutdown_background();
    if as_json {
        let list: Vec<_> = probes.iter().map(Probe::json).collect();
        daemon::say!("{}", serde_json::Value::from(list));
    } else {
        probes
            .iter()
            .for_each(|probe| daemon::say!("{}", probe.line()));
    }
    Ok(if probes.iter().all(Probe::is_good) {
        exit::STOPPED
    } else {
        exit::FAILED
    })
}

/// Tells of which sources the encoder is missing; true when none is.
fn are_encoders_there(settings: &RecorderSettings) -> bool {
    let mut are_there = true;
    for source in &settings.sources {
        if let Some(encoder) = missing_encoder(source) {
            are_there = false;
            daemon::complain!(
                "rtsp-recorder: {}: video_codec {encoder}: the FFmpeg of this machine has no such encoder; use \"copy\" or \
                 \"libx264\"",
                source.name
            );
        }
    }
    are_there
}

fn load(arguments: &Arguments) -> Result<RecorderSettings, String> {
    let path =
        locate(arguments.config.as_deref(), RECORDER_FILE).map_err(|error| error.to_string())?;
    RecorderSettings::load(&path).map_err(|problems| problems.to_string())
}

fn create_config(path: &Path) -> anyhow::Result<u8> {
    if !Sample::Recorder.create(path, Existing::Stays)?.is_new {
        daemon::complain!(
            "{} exists; move it away or name another with --config",
            path.display()
        );
        return Ok(exit::SETTINGS);
    }
    daemon::say!(
        "wrote {}; enter your cameras under `sources`",
        path.display()
    );
    Ok(exit::STOPPED)
}
