//! What to serve, where and how.

use crate::auth::{AuthScheme, Credentials};
use crate::fault::Fault;
use crate::live::StartAt;
use crate::load::LoadOptions;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

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
    /// Refuse RTP inside of the RTSP connection, as servers do that know only datagrams.
    pub refuse_tcp: bool,
    /// Where a new client's stream begins.
    pub start_at: StartAt,
    /// After how long without a sign of life a session over UDP ends.
    pub session_timeout: Duration,
    /// How long a request may take to arrive.
    pub request_timeout: Duration,
    /// Where to write what was sent, one JSON object ([`crate::SentUnit`]) a line.
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
            refuse_tcp: false,
            start_at: StartAt::default(),
            session_timeout: Duration::from_secs(60),
            request_timeout: Duration::from_secs(10),
            log: None,
        }
    }
}

/// Whether the settings make sense; if not, why not.
pub(crate) fn check(config: &Config) -> Result<(), String> {
    let fail = |text: String| Err(text);
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
