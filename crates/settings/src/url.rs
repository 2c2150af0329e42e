//! The address of a source, which prints without its credentials.

use crate::keys::nearest;
use crate::read::beneath_home;
use secrets::hide_values;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;

/// What is said of an address whose password may have been taken for something else.
const UNREADABLE: &str = "host or port cannot be read; special characters in a password must be percent-encoded \
    (/ is %2F, : is %3A, @ is %40), or use the keys `username` and `password`";

/// The same where there is no login.
const NO_HOST: &str = "host or port cannot be read; write host:port with a port from 1 to 65535";

/// What is said of an address that does not begin like one. It is not repeated: its password could be anywhere in it.
const NO_BEGINNING: &str = "an address begins with rtsp://, as in rtsp://user:password@192.168.1.20/stream1; the path of \
    a file that looks like one begins with / or ./";

/// How a source is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// `rtsp://`
    Rtsp,
    /// `rtsps://`, RTSP over TLS.
    Rtsps,
    /// `http://` or `https://`
    Http,
    /// A file on this machine.
    File,
}

/// User name and password, decoded. `Debug` shows the name only.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password; may be empty.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}:***)", self.username)
    }
}

/// Where a source's video comes from. `Debug` and `Display` hide the credentials; only
/// [`SourceUrl::expose`], [`SourceUrl::expose_without_userinfo`] and [`SourceUrl::credentials`] give them away.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceUrl {
    kind: SourceKind,
    /// `rtsp`, `https` ...; empty for a file.
    scheme: String,
    credentials: Option<Credentials>,
    /// As written, with brackets around an IPv6 address; empty for a file.
    host: String,
    port: Option<u16>,
    /// The path and query after the host, with their `/` or `?`; for a file its path.
    rest: String,
}

impl SourceUrl {
    /// Reads an address. The error says what is wrong without repeating a password.
    ///
    /// A password may be percent-encoded; one that is not, and holds an `@`, is understood as well,
    /// since the last `@` before the path ends it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err("the address is empty".to_owned());
        }
        let is_scheme = |scheme: &str| scheme.chars().all(|c| c.is_ascii_alphanumeric());
        let Some((scheme, after)) = text
            .split_once("://")
            .filter(|(scheme, _)| is_scheme(scheme))
        else {
            return Self::file_or_slip(text);
        };
        let scheme = scheme.to_ascii_lowercase();
        let kind = match scheme.as_str() {
            "rtsp" => SourceKind::Rtsp,
            "rtsps" => SourceKind::Rtsps,
            "http" | "https" => SourceKind::Http,
            "file" => return Ok(Self::file(after)),
            _ => {
                return Err(format!(
                    "{scheme}:// is not supported; use rtsp://, rtsps://, http://, https:// or a path"
                ));
            }
        };
        let split = after.find(['/', '?', '#']).unwrap_or(after.len());
        let (authority, rest) = after.split_at(split);
        let (userinfo, endpoint) = match authority.rsplit_once('@') {
            Some((userinfo, endpoint)) => (Some(userinfo), endpoint),
            None => (None, authority),
        };
        let unreadable = match after.contains('@') {
            true => UNREADABLE,
            false => NO_HOST,
        };
        let (host, port) = host_and_port(endpoint).ok_or(unreadable)?;
        // `viewer:12/34@cam` is a password with a raw `/`, not a host with a port, and so is `viewer:1@2/34@cam`; else the
        // rest of it were shown.
        let path = match rest.starts_with(['?', '#']) {
            true => rest,
            false => rest.split('?').next().unwrap_or_default(),
        };
        let may_be_login = userinfo.is_some() || port.is_some();
        if may_be_login && !host.contains(['.', '[']) && path.contains('@') {
            return Err(UNREADABLE.to_owned());
        }
        let rest = rest.split('#').next().unwrap_or_default().to_owned();
        let credentials = userinfo.map(decoded_credentials);
        Ok(Self {
            kind,
            scheme,
            credentials,
            host,
            port,
            rest,
        })
    }

    /// A path, unless it begins like an address that lacks a slash.
    fn file_or_slip(text: &str) -> Result<Self, String> {
        let scheme = text.split(':').next().unwrap_or_default();
        let scheme = scheme.to_ascii_lowercase();
        let begins_like_one =
            scheme.len() < text.len() && matches!(&*scheme, "rtsp" | "rtsps" | "http" | "https");
        if begins_like_one {
            return Err(format!("an address begins with {scheme}:// (two slashes)"));
        }
        if lacks_beginning(text) {
            return Err(NO_BEGINNING.to_owned());
        }
        if let Some(message) = beneath_home(Path::new(text)) {
            return Err(message);
        }
        Ok(Self::file(text))
    }

    fn file(path: &str) -> Self {
        Self {
            kind: SourceKind::File,
            scheme: String::new(),
            credentials: None,
            host: String::new(),
            port: None,
            rest: path.to_owned(),
        }
    }

    /// The same address with other credentials.
    pub(crate) fn with_credentials(mut self, username: String, password: String) -> Self {
        self.credentials = Some(Credentials { username, password });
        self
    }

    /// How the source is reached.
    pub fn kind(&self) -> SourceKind {
        self.kind
    }

    /// The whole address with credentials, percent-encoded. Only for the code that connects.
    pub fn expose(&self) -> String {
        match &self.credentials {
            Some(Credentials { username, password }) => {
                self.written(&format!("{}:{}@", encoded(username), encoded(password)))
            }
            None => self.written(""),
        }
    }

    /// The address without user and password but with its whole path and query, secrets in them included:
    /// for code that connects and hands over the credentials by itself.
    pub fn expose_without_userinfo(&self) -> String {
        self.written("")
    }

    /// The address without credentials, with `***` for secret parameters in path and query: fit for tickets, logs
    /// and status files.
    pub fn without_credentials(&self) -> String {
        self.shown("")
    }

    /// User name and password, decoded.
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// The path, when the source is a file.
    pub fn file_path(&self) -> Option<&Path> {
        (self.kind == SourceKind::File).then(|| Path::new(self.rest.as_str()))
    }

    /// Host (without the brackets of IPv6) and TCP port, the scheme's usual one by default.
    pub fn endpoint(&self) -> Option<(&str, u16)> {
        let usual = match self.scheme.as_str() {
            "rtsp" => 554,
            "rtsps" => 322,
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        Some((host, self.port.unwrap_or(usual)))
    }

    /// `rtsp`, `https` ...; empty for a file.
    pub(crate) fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Host and port as written.
    pub(crate) fn authority(&self) -> String {
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", self.host)
    }

    /// What follows the host, secret parameters included.
    pub(crate) fn path_and_query(&self) -> &str {
        &self.rest
    }

    /// What names are made of: the host with its unusual port, then path and query.
    pub(crate) fn naming_parts(&self) -> (String, &str) {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        match self.port {
            Some(port) if !matches!(port, 554 | 322 | 80 | 443) => {
                (format!("{host}_{port}"), &self.rest)
            }
            _ => (host.to_owned(), &self.rest),
        }
    }

    fn written(&self, userinfo: &str) -> String {
        self.with_rest(userinfo, &self.rest)
    }

    fn shown(&self, userinfo: &str) -> String {
        // A directory of this machine may be called `user=1`, and is needed to tell files apart.
        let from = match self.kind {
            SourceKind::File => self.rest.find('?').unwrap_or(self.rest.len()),
            _ => 0,
        };
        let (as_it_is, rest) = self.rest.split_at(from);
        self.with_rest(userinfo, &format!("{as_it_is}{}", hide_values(rest)))
    }

    fn with_rest(&self, userinfo: &str, rest: &str) -> String {
        if self.kind == SourceKind::File {
            return rest.to_owned();
        }
        format!("{}://{userinfo}{}{rest}", self.scheme, self.authority())
    }
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let userinfo = if self.credentials.is_some() {
            "***@"
        } else {
            ""
        };
        f.write_str(&self.shown(userinfo))
    }
}

impl fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceUrl({self})")
    }
}

/// Whether a text without a scheme looks like an address all the same: its password would be shown as part of a path. Files
/// are not asked whether they exist, since what counts as a password must not depend on that.
fn lacks_beginning(text: &str) -> bool {
    if let Some((before, after)) = text.split_once("//") {
        // `rtsp;//`, `rtps//`
        let word = before.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let schemes = ["rtsp", "rtsps", "http", "https"];
        if before.is_empty() && (after.contains('@') || begins_with_host(after))
            || !before.contains(['/', '@']) && nearest(word, schemes.into_iter()).is_some()
        {
            return true;
        }
    }
    if let Some(path) = text.strip_prefix('/') {
        let first = path.split('/').next().unwrap_or_default();
        return secrets::login(first).is_some();
    }
    let is_path = text.starts_with("./") || text.starts_with("../");
    !is_path && (text.contains('@') || begins_with_host(text) || hide_values(text) != text)
}

/// Whether a text begins with an IPv4 address, or with a host and a port.
fn begins_with_host(text: &str) -> bool {
    let endpoint = text.split(['/', '?']).next().unwrap_or_default();
    match host_and_port(endpoint) {
        Some((host, port)) => port.is_some() || host.parse::<Ipv4Addr>().is_ok(),
        None => false,
    }
}

fn host_and_port(endpoint: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match endpoint.rfind(':') {
        // The last colon of a bare `[::1]` belongs to the address.
        Some(at) if !endpoint[at..].contains(']') => (&endpoint[..at], Some(&endpoint[at + 1..])),
        _ => (endpoint, None),
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    let plain = host
        .chars()
        .all(|c| c.is_alphanumeric() || "-._".contains(c));
    if host.is_empty() || !(plain || bracketed) {
        return None;
    }
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
        None => None,
    };
    Some((host.to_owned(), port))
}

fn decoded_credentials(userinfo: &str) -> Credentials {
    let (username, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    Credentials {
        username: decoded(username),
        password: decoded(password),
    }
}

/// Percent-decoding; text that is not properly encoded was meant as it stands.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let Some(byte) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) else {
            return text.to_owned();
        };
        bytes.push(byte);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Percent-encoding of everything that is not unreserved (RFC 3986 section 2.3).
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
