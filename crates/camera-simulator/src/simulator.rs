//! Starting, steering and stopping a set of cameras.
//!
//! A [`Simulator`] runs on a thread and a runtime of its own, so that it works from async and plain code
//! alike and keeps time whatever its owner does.

use crate::camera::{Camera, CameraStats};
use crate::clip::Clip;
use crate::config::{self, CameraConfig, Config};
use crate::fault::{Fault, FaultError};
use crate::load::{self, LoadError, LoadOptions};
use crate::nal::VideoCodec;
use crate::record::{LogFile, SentUnit};
use crate::server::{self, Policy, Server};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use thiserror::Error;
use tokio::sync::oneshot;

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
        config::check(&config).map_err(StartError::Config)?;
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
            refuse_tcp: config.refuse_tcp,
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
