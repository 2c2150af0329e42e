//! Starting, steering and stopping a set of cameras.
//!
//! A [`Simulator`] runs on a thread and a runtime of its own, so that it works from async and plain code
//! alike and keeps time whatever its owner does.

use crate::auth::{AuthScheme, Credentials};
use crate::camera::{Camera, CameraStats, StartAt};
use crate::clip::Clip;
use crate::fault::{Fault, FaultError};
use crate::load::{self, LoadError, LoadOptions};
use crate::nal::VideoCodec;
use crate::record::{LogFile, SentUnit};
use crate::server::{self, Policy, Server};
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;

/// One camera to serve.
#[derive(Debug, Clone)]
pub struct CameraConfig {
    /// Its path in the URL: letters, digits, `.`, `_`, `-` and inner `/`.
    pub name: String,
    /// The video file.
    pub file: PathBuf,
    /// Size, rate and codec changes on load.
    pub load: LoadOptions,
    /// Faults that hold from the start.
    pub faults: Vec<Fault>,
}

impl CameraConfig {
    /// `file` as it is, at `/name`, without faults.
    pub fn new(name: impl Into<String>, file: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            file: file.into(),
            load: LoadOptions::default(),
            faults: Vec::new(),
        }
    }
}

/// A whole set of cameras.
#[derive(Debug, Clone)]
pub struct Config {
    /// What to serve; at least one.
    pub cameras: Vec<CameraConfig>,
    /// Address to listen on; 127.0.0.1 unless changed.
    pub bind: IpAddr,
    /// TCP port; 0 takes a free one. With [`Config::separate_ports`] the first of consecutive ports.
    pub port: u16,
    /// A port for each camera, as if each were a host of its own.
    pub separate_ports: bool,
    /// User and password, if any are wanted.
    pub credentials: Option<Credentials>,
    /// How they are asked for.
    pub scheme: AuthScheme,
    /// Where a new client's stream begins.
    pub start_at: StartAt,
    /// After how long without a sign of life a session over UDP ends.
    pub session_timeout: Duration,
    /// How long a request may take to arrive.
    pub request_timeout: Duration,
    /// Where to write what was sent, one JSON object ([`SentUnit`]) a line.
    pub log: Option<PathBuf>,
}

impl Config {
    /// The cameras on a free port of 127.0.0.1, without password, with a session time-out of 60 s.
    pub fn new(cameras: impl IntoIterator<Item = CameraConfig>) -> Self {
        Self {
            cameras: cameras.into_iter().collect(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            separate_ports: false,
            credentials: None,
            scheme: AuthScheme::default(),
            start_at: StartAt::default(),
            session_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(10),
            log: None,
        }
    }
}

/// Why a simulator was not started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The settings make no sense; the text says which.
    #[error("{0}")]
    Config(String),
    /// A file cannot be served.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The port is taken or not allowed.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The log file cannot be created, or the system refuses a thread.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Running cameras. Dropping it stops them.
#[derive(Debug)]
pub struct Simulator {
    server: Arc<Server>,
    sources: Vec<Source>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Where a camera comes from and where it is reached.
#[derive(Debug)]
struct Source {
    address: SocketAddr,
    /// Changed by a switch, so that a later resize is of the file that is shown.
    file: Mutex<(PathBuf, LoadOptions)>,
}

impl Simulator {
    /// Loads the files (which takes a while when they have to be transcoded), listens, and starts the cameras'
    /// clocks. Blocks until clients can connect.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub fn start(config: Config) -> Result<Self, StartError> {
        check(&config)?;
        let clips = load_all(&config.cameras)?;
        let log = match &config.log {
            None => None,
            Some(path) => Some(Arc::new(LogFile::create(path).map_err(|source| {
                StartError::Io {
                    what: format!("cannot create the log {}", path.display()),
                    source,
                }
            })?)),
        };
        let listeners = bind_all(&config)?;
        let cameras: Vec<_> = config
            .cameras
            .iter()
            .zip(clips)
            .map(|(c, clip)| {
                Arc::new(Camera::new(
                    c.name.clone(),
                    clip,
                    config.start_at,
                    log.clone(),
                ))
            })
            .collect();
        let sources = sources(&config, &listeners)?;
        let policy = Policy {
            credentials: config.credentials,
            scheme: config.scheme,
            session_timeout: config.session_timeout,
            request_timeout: config.request_timeout,
        };
        let server = Arc::new(Server::new(cameras, policy));
        let (stop, thread) = spawn(Arc::clone(&server), listeners)?;
        let simulator = Self {
            server,
            sources,
            stop: Mutex::new(Some(stop)),
            thread: Mutex::new(Some(thread)),
        };
        for camera in &config.cameras {
            for fault in &camera.faults {
                simulator.fault(&camera.name, fault).map_err(|error| {
                    StartError::Config(format!("camera {}: {error}", camera.name))
                })?;
            }
        }
        Ok(simulator)
    }

    /// The camera's URL, without credentials.
    pub fn url(&self, camera: &str) -> Option<String> {
        let index = self.server.cameras.iter().position(|c| c.name == camera)?;
        Some(format!("rtsp://{}/{camera}", self.sources[index].address))
    }

    /// All names, in the order of the configuration.
    pub fn names(&self) -> Vec<String> {
        self.server.cameras.iter().map(|c| c.name.clone()).collect()
    }

    /// Does `fault` to a camera, or to every one if `camera` is `all`. A switch or resize blocks while the
    /// clip is loaded.
    ///
    /// # Errors
    /// [`FaultError::NoCamera`], or [`FaultError::Clip`] when the clip to switch to cannot be used.
    pub fn fault(&self, camera: &str, fault: &Fault) -> Result<(), FaultError> {
        let chosen: Vec<usize> = (0..self.server.cameras.len())
            .filter(|i| camera == "all" || self.server.cameras[*i].name == camera)
            .collect();
        if chosen.is_empty() {
            return Err(FaultError::NoCamera(camera.to_owned()));
        }
        for index in chosen {
            self.switch_clip(index, fault)?;
            self.server.cameras[index].apply(fault);
        }
        self.server.refusals_changed();
        Ok(())
    }

    fn switch_clip(&self, index: usize, fault: &Fault) -> Result<(), FaultError> {
        let camera = &self.server.cameras[index];
        let mut source = crate::lock(&self.sources[index].file);
        let (file, mut options) = source.clone();
        let file = match fault {
            Fault::Switch(file) => {
                options.size = None;
                file.clone()
            }
            Fault::Resize(width, height) => {
                options.size = Some((*width, *height));
                file
            }
            _ => return Ok(()),
        };
        // The sessions were described with a codec, which parameter sets can change no more than cameras do.
        options.codec = Some(camera.clip().video.codec);
        let mut clip = load::load(&file, &options).map_err(|e| FaultError::Clip(chain(&e)))?;
        if clip.audio != camera.described_audio {
            clip = clip.muted();
        }
        *source = (file, options);
        camera.switch(Arc::new(clip));
        Ok(())
    }

    /// The counters of a camera.
    pub fn stats(&self, camera: &str) -> Option<CameraStats> {
        self.server.camera(camera).map(|c| c.stats())
    }

    /// What the camera has sent: the last 100,000 units, oldest first.
    pub fn sent(&self, camera: &str) -> Vec<SentUnit> {
        self.server
            .camera(camera)
            .map(|c| c.sent())
            .unwrap_or_default()
    }

    /// The codec that the camera speaks.
    pub fn codec(&self, camera: &str) -> Option<VideoCodec> {
        self.server.camera(camera).map(|c| c.clip().video.codec)
    }

    /// Ends all sessions and closes the ports. Does nothing the second time.
    pub fn stop(&self) {
        drop(crate::lock(&self.stop).take());
        if let Some(thread) = crate::lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the simulator's thread panicked");
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stop();
    }
}

fn check(config: &Config) -> Result<(), StartError> {
    let fail = |text: String| Err(StartError::Config(text));
    if config.cameras.is_empty() {
        return fail("no cameras to serve".into());
    }
    let mut seen = HashSet::new();
    for camera in &config.cameras {
        let name = &camera.name;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
        let reserved = name == "all" || name.contains("trackID");
        if name.is_empty()
            || reserved
            || name.starts_with('/')
            || name.ends_with('/')
            || !name.chars().all(allowed)
        {
            return fail(format!(
                "camera name {name:?}: letters, digits, '.', '_', '-' and inner '/' are allowed, 'all' is not"
            ));
        }
        if !seen.insert(name) {
            return fail(format!("camera name {name:?} is given twice"));
        }
    }
    if config.separate_ports
        && config.port > 0
        && usize::from(config.port) + config.cameras.len() > 65_536
    {
        return fail(format!(
            "not enough ports above {} for every camera",
            config.port
        ));
    }
    Ok(())
}

/// Loads each distinct file with the same options once.
fn load_all(cameras: &[CameraConfig]) -> Result<Vec<Arc<Clip>>, LoadError> {
    let mut loaded: Vec<(&CameraConfig, Arc<Clip>)> = Vec::new();
    for camera in cameras {
        let same = |c: &CameraConfig| c.file == camera.file && c.load == camera.load;
        let clip = match loaded.iter().find(|(c, _)| same(c)) {
            Some((_, clip)) => Arc::clone(clip),
            None => Arc::new(load::load(&camera.file, &camera.load)?),
        };
        loaded.push((camera, clip));
    }
    Ok(loaded.into_iter().map(|(_, clip)| clip).collect())
}

/// One listener for all cameras, or one for each.
fn bind_all(config: &Config) -> Result<Vec<TcpListener>, StartError> {
    let count = if config.separate_ports {
        config.cameras.len()
    } else {
        1
    };
    (0..count)
        .map(|i| {
            let port = if config.port == 0 {
                0
            } else {
                config.port + i as u16
            };
            let address = SocketAddr::new(config.bind, port);
            let bound = TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            bound.map_err(|source| StartError::Listen { address, source })
        })
        .collect()
}

fn sources(config: &Config, listeners: &[TcpListener]) -> Result<Vec<Source>, StartError> {
    config
        .cameras
        .iter()
        .enumerate()
        .map(|(i, camera)| {
            let listener = &listeners[i.min(listeners.len() - 1)];
            let address = listener.local_addr().map_err(|source| StartError::Io {
                what: "cannot ask for the port".into(),
                source,
            })?;
            Ok(Source {
                address,
                file: Mutex::new((camera.file.clone(), camera.load.clone())),
            })
        })
        .collect()
}

fn spawn(
    server: Arc<Server>,
    listeners: Vec<TcpListener>,
) -> Result<(oneshot::Sender<()>, JoinHandle<()>), StartError> {
    let io_error = |source| StartError::Io {
        what: "cannot start the simulator's thread".into(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io_error)?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("camera-simulator".into())
        .spawn(move || {
            runtime.block_on(run(server, listeners, stopped));
        })
        .map_err(io_error)?;
    Ok((stop, thread))
}

/// Runs everything until `stopped` fires or its sender is gone; the runtime's end drops the tasks.
async fn run(server: Arc<Server>, listeners: Vec<TcpListener>, stopped: oneshot::Receiver<()>) {
    let shared = listeners.len() == 1;
    for (i, listener) in listeners.into_iter().enumerate() {
        let cameras = if shared {
            server.cameras.clone()
        } else {
            vec![Arc::clone(&server.cameras[i])]
        };
        let listening = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => server::listen(Arc::clone(&server), cameras, listener),
            Err(error) => {
                tracing::error!(%error, "listener not usable");
                continue;
            }
        };
        tokio::spawn(async move {
            if let Err(error) = listening.await {
                tracing::error!(%error, "no longer listening");
            }
        });
    }
    for camera in &server.cameras {
        let camera = Arc::clone(camera);
        tokio::spawn(async move { camera.run().await });
    }
    let _ended_either_way = stopped.await;
    server.say_goodbye();
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
