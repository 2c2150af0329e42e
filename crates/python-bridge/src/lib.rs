//! Runs a user's Python blur module as a plugin: the module in an interpreter of its own, frames in shared memory.
//!
//! A module is one of three things (`python/bridge.py` decides): a class `HeadBlurrer` with `process_frame`, a function
//! `apply_blur`, both frame filters, or a function `detect`, a detector. The interpreter is a child process: a crash, a
//! hang or `exit()` in it fails one call and nothing else; the next call starts a new one.
//!
//! What a module remembers of a camera it remembers for ever, as it did in the old system, unless it has a function `reset`
//! of its own. Two things it must not remember: the host's self-test, whose pictures are no camera's, and pictures of another
//! size. Nothing but a new interpreter forgets for certain what lies in globals, other modules and libraries.
//!
//! Settings (JSON object): `module` (path, required), `python_executable` (default `python3`), `frame_timeout` (seconds
//! a call may take, default 60), `load_timeout` (seconds for loading the module and its model, default 300).

mod interpreter;
mod shared;

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use plugin_abi::{
    Change, CreateContext, Failure, FrameInfo, FrameView, FrameViewMut, InstanceInfo, PixelFormat,
    Plugin, PluginKind, Region, RegionKind, Wants, export_plugin,
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
    /// Size of the last frame of each camera that this interpreter was given, pixels.
    sizes: HashMap<u32, (u32, u32)>,
    /// The host tries a plugin on pictures of its own before its first reset.
    on_trial: bool,
}

impl PythonBridge {
    /// Makes ready for a frame: an interpreter that had frames of this camera in another size is replaced.
    fn ready_for(&mut self, info: &FrameInfo) -> Result<(), Failure> {
        let size = (info.width, info.height);
        let before = self.sizes.get(&info.camera).copied().unwrap_or(size);
        if before != size {
            eprintln!(
                "the pictures of camera {} are {}x{} now, no longer {}x{}: the Python module is loaded anew",
                info.camera, size.0, size.1, before.0, before.1
            );
            self.begin_anew()?;
        }
        self.sizes.insert(info.camera, size);
        Ok(())
    }

    fn begin_anew(&mut self) -> Result<(), Failure> {
        // Ended first: two models at a time may be too much for the memory.
        self.end();
        self.running().map(drop)
    }

    fn end(&mut self) {
        self.interpreter = None;
        self.sizes.clear();
    }

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
            self.end();
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
            sizes: HashMap::new(),
            on_trial: true,
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
        self.ready_for(frame.info())?;
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
        self.ready_for(frame.info())?;
        self.call(|interpreter| interpreter.process(frame))
    }

    fn reset(&mut self, camera: u32) -> Result<(), Failure> {
        let tried = std::mem::replace(&mut self.on_trial, false) && !self.sizes.is_empty();
        if tried {
            return self.begin_anew();
        }
        if self.interface.resets {
            self.call(|interpreter| interpreter.reset(camera))?;
            self.sizes.remove(&camera);
        }
        Ok(())
    }
}

export_plugin!(plugin PythonBridge);
