//! The settings of `run-system` itself. The file may be missing: everything has a default.

use crate::environment::Environment;
use crate::hooks::{self, Hook};
use crate::keys;
use crate::problem::Problems;
use crate::read::{self, Reader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The shortest token that is taken: anyone may guess at it over the network.
const MIN_TOKEN: usize = 16;

/// Checked settings of `run-system`.
#[derive(Debug, Clone, PartialEq)]
pub struct SystemSettings {
    /// None: no dashboard is served.
    pub dashboard: Option<DashboardSettings>,
    /// Where notifications go, each of another name.
    pub hooks: Vec<Hook>,
}

/// How the dashboard is served.
#[derive(Clone, PartialEq, Eq)]
pub struct DashboardSettings {
    /// Where it listens. Anything but loopback has a token and TLS.
    pub listen: SocketAddr,
    /// What a visitor must know.
    pub token: Option<String>,
    /// Certificate and key; none: plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whether originals that still exist are shown, too. There is a token then.
    pub show_originals: bool,
}

/// The PEM files of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and what it is signed by.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl std::fmt::Debug for DashboardSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DashboardSettings")
            .field("listen", &self.listen)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("tls", &self.tls)
            .field("show_originals", &self.show_originals)
            .finish()
    }
}

impl SystemSettings {
    /// What holds when there is no file.
    pub fn default_settings() -> Self {
        Self::from_text("{}", &Environment::empty()).expect("the table holds valid defaults")
    }

    /// Reads and checks a file, with the environment given.
    ///
    /// # Errors
    /// Everything that is wrong with it, or that it cannot be read.
    pub fn load_in(path: &Path, env: &Environment<'_>) -> Result<Self, Problems> {
        crate::read_file(path)
            .and_then(|text| Self::from_text(&text, env))
            .map_err(|problems| problems.in_file(path))
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_text(text: &str, env: &Environment<'_>) -> Result<Self, Problems> {
        crate::read_object(text, env, keys::SYSTEM, |mut reader| Self {
            dashboard: dashboard(&mut reader),
            hooks: hooks::read_all(&mut reader),
        })
    }
}

fn dashboard(reader: &mut Reader<'_>) -> Option<DashboardSettings> {
    let enabled = reader.flag("dashboard");
    let settings = DashboardSettings {
        listen: listen(reader),
        token: token(reader),
        tls: tls(reader),
        show_originals: reader.flag("dashboard_show_originals"),
    };
    if enabled {
        refuse_strangers(reader, &settings);
        refuse_curious(reader, &settings);
    }
    enabled.then_some(settings)
}

fn listen(reader: &mut Reader<'_>) -> SocketAddr {
    let text = reader.text("dashboard_listen");
    text.parse().unwrap_or_else(|_| {
        let line = reader.given("dashboard_listen").map(|node| node.line);
        let message = format!(
            "{text:?} is not allowed; give an address and a port such as \"127.0.0.1:8780\""
        );
        reader.problem("dashboard_listen", line, message);
        SocketAddr::from(([127, 0, 0, 1], 8780))
    })
}

fn token(reader: &mut Reader<'_>) -> Option<String> {
    let token = reader.nullable("dashboard_token", read::text)?;
    // A token is sent in a header and a cookie, whole.
    let fits = token.len() >= MIN_TOKEN
        && token
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\'));
    if !fits {
        let line = reader.given("dashboard_token").map(|node| node.line);
        let message = format!(
            "the value is not allowed; give at least {MIN_TOKEN} letters and digits, such as `openssl rand -hex 16` prints"
        );
        reader.problem("dashboard_token", line, message);
    }
    Some(token)
}

fn tls(reader: &mut Reader<'_>) -> Option<TlsFiles> {
    let [cert, key] = ["dashboard_tls_cert", "dashboard_tls_key"].map(|name| {
        let path = reader.nullable(name, read::text)?;
        if let Some(message) = read::beneath_home(Path::new(&path)) {
            reader.problem(name, reader.given(name).map(|node| node.line), message);
        }
        Some(path)
    });
    match (cert, key) {
        (Some(cert), Some(key)) => Some(TlsFiles {
            cert: cert.into(),
            key: key.into(),
        }),
        (None, None) => None,
        (cert, _) => {
            let (there, missing) = match cert {
                Some(_) => ("dashboard_tls_cert", "dashboard_tls_key"),
                None => ("dashboard_tls_key", "dashboard_tls_cert"),
            };
            let line = reader.given(there).map(|node| node.line);
            reader.problem(there, line, format!("TLS also needs {missing}"));
            None
        }
    }
}

fn refuse_strangers(reader: &mut Reader<'_>, settings: &DashboardSettings) {
    let safe = settings.token.is_some() && settings.tls.is_some();
    if settings.listen.ip().is_loopback() || safe {
        return;
    }
    let line = reader.given("dashboard_listen").map(|node| node.line);
    let message = format!(
        "{} can be reached from other machines, which needs dashboard_token, dashboard_tls_cert and dashboard_tls_key; \
         set all three, or listen on 127.0.0.1",
        settings.listen
    );
    reader.problem("dashboard_listen", line, message);
}

/// Originals are readable by their owner only; without a token everyone on the machine could see them.
fn refuse_curious(reader: &mut Reader<'_>, settings: &DashboardSettings) {
    if !settings.show_originals || settings.token.is_some() {
        return;
    }
    let name = "dashboard_show_originals";
    let line = reader.given(name).map(|node| node.line);
    let message =
        "shows people unblurred, so it needs dashboard_token; set it, or leave this false";
    reader.problem(name, line, message.to_owned());
}
