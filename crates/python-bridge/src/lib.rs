//! Runs a user's Python blur module as a plugin: the module in an interpreter of its own, frames in shared memory.
//!
//! A module is one of three things (`python/bridge.py` decides): a class `HeadBlurrer` with `process_frame`, a function
//! `apply_blur`, both frame filters, or a function `detect`, a detector. The interpreter is a child process: a crash, a
//! hang or `exit()` in it fails one call and nothing else; the next call starts a new one.
//!
//! Settings (JSON object): `module` (path, required), `python_executable` (default `python3`), `frame_timeout` (seconds
//! a call may take, default 60), `load_timeout` (seconds for loading the module and its model, default 300).

mod interpreter;
mod shared;

use std::path::PathBuf;
use std::time::Duration;

use plugin_abi::{
    Change, CreateContext, Failure, FrameView, FrameViewMut, InstanceInfo, PixelFormat, Plugin,
    PluginKind, Region, RegionKind, Wants, export_plugin,
};
use serde::Deserialize;

use interpreter::{Interface, Interpreter};

/// The `plugin` object of the settings, as far as the bridge reads it; other keys are the module's own affair.
#[derive(Debug, Clone, Deserialize)]
struct Settings {
    module: PathBuf,
    #[serde(default = "default_python")]
    python_executable: PathBuf,
    #[serde(default = "default_frame_timeout")]
    frame_timeout: f64,
    #[serde(default = "default_load_timeout")]
    load_timeout: f64,
}

fn default_python() -> PathBuf {
    "python3".into()
}

fn default_frame_timeout() -> f64 {
    60.0
}

fn default_load_timeout() -> f64 {
    300.0
}

/// What an interpreter is started with, checked.
#[derive(Debug, Clone)]
struct Launch {
    module: PathBuf,
    python: PathBuf,
    frame_timeout: Duration,
    load_timeout: Duration,
    cameras: u32,
}

impl Launch {
    fn read(context: &CreateContext<'_>) -> Result<Self, Failure> {
        let settings: Settings = serde_json::from_str(context.settings)
            .map_err(|error| format!("settings of the Python bridge: {error}"))?;
        Ok(Self {
            module: settings.module,
            python: settings.python_executable,
            frame_timeout: seconds("frame_timeout", settings.frame_timeout)?,
            load_timeout: seconds("load_timeout", settings.load_timeout)?,
            cameras: context.cameras.max(1),
        })
    }
}

fn seconds(key: &str, value: f64) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(value)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| format!("{key} is {value}; it must be a number of seconds above 0").into())
}

/// One Python module in one interpreter.
pub struct PythonBridge {
    launch: Launch,
    interface: Interface,
    module_hash: String,
    /// Gone after a failure that leaves the interpreter in doubt; the next call starts another.
    interpreter: Option<Interpreter>,
}

impl PythonBridge {
    fn running(&mut self) -> Result<&mut Interpreter, Failure> {
        if self.interpreter.is_none() {
            let (interpreter, interface) = Interpreter::start(&self.launch)?;
            if interface != self.interface {
                return Err(format!(
                    "{} changed its interface while in use",
                    self.launch.module.display()
                )
                .into());
            }
            self.interpreter = Some(interpreter);
        }
        self.interpreter
            .as_mut()
            .ok_or_else(|| "no interpreter".into())
    }

    /// Runs one call; an interpreter that did not answer properly is dropped, which ends it.
    fn call<T>(
        &mut self,
        work: impl FnOnce(&mut Interpreter) -> Result<T, interpreter::CallError>,
    ) -> Result<T, Failure> {
        let result = work(self.running()?);
        if let Err(error) = &result
            && error.interpreter_lost()
        {
            self.interpreter = None;
        }
        result.map_err(|error| error.to_string().into())
    }
}

impl Plugin for PythonBridge {
    const NAME: &'static str = "python-bridge";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const KIND: Option<PluginKind> = None;

    fn create(context: &CreateContext<'_>) -> Result<Self, Failure> {
        let launch = Launch::read(context)?;
        let text = std::fs::read(&launch.module).map_err(|error| {
            format!(
                "cannot read the Python module {}: {error}",
                launch.module.display()
            )
        })?;
        let (interpreter, interface) = Interpreter::start(&launch)?;
        Ok(Self {
            module_hash: blake3::hash(&text).to_hex().to_string(),
            launch,
            interface,
            interpreter: Some(interpreter),
        })
    }

    fn info(&self) -> InstanceInfo {
        InstanceInfo {
            kind: self.interface.kind,
            wants: Wants {
                format: Some(PixelFormat::Bgr24),
                max_size: self.interface.max_size,
            },
            info_json: serde_json::json!({
                "module": self.launch.module,
                "module_blake3": self.module_hash,
                "interface": self.interface.name,
                "python": self.launch.python,
            })
            .to_string(),
        }
    }

    fn detect(&mut self, frame: &FrameView<'_>, regions: &mut Vec<Region>) -> Result<(), Failure> {
        let found = self.call(|interpreter| interpreter.detect(frame))?;
        regions.extend(
            found
                .into_iter()
                .map(|[x, y, width, height, score]| Region {
                    x,
                    y,
                    width,
                    height,
                    score,
                    kind: RegionKind::Head,
                    track: 0,
                }),
        );
        Ok(())
    }

    fn process(&mut self, frame: &mut FrameViewMut<'_>) -> Result<Change, Failure> {
        self.call(|interpreter| interpreter.process(frame))
    }
}

export_plugin!(plugin PythonBridge);
