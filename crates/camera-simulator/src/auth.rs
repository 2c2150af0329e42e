//! Basic and digest access authentication as cameras do it (RFC 2617, MD5).

use crate::message::{Request, Response, Status};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use std::fmt;

const REALM: &str = "camera-simulator";

/// A user name and a password. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password in clear; both schemes need it.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}:***)", self.user)
    }
}

/// Which schemes the cameras offer when credentials are set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AuthScheme {
    /// `Digest` only, as most cameras ship.
    #[default]
    Digest,
    /// `Basic` only.
    Basic,
    /// Both; the client chooses.
    Both,
}

impl AuthScheme {
    fn offers_digest(self) -> bool {
        self != Self::Basic
    }

    fn offers_basic(self) -> bool {
        self != Self::Digest
    }
}

/// What a request's `Authorization` header is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    Refused,
    /// Right password, but for a challenge this connection never gave.
    StaleNonce,
}

/// Checks `request` against `wanted`; `nonce` is the one this connection hands out.
pub(crate) fn check(
    request: &Request,
    wanted: &Credentials,
    scheme: AuthScheme,
    nonce: &str,
) -> Verdict {
    let Some(header) = request.header("Authorization") else {
        return Verdict::Refused;
    };
    let Some((name, rest)) = header.split_once(' ') else {
        return Verdict::Refused;
    };
    if name.eq_ignore_ascii_case("basic") && scheme.offers_basic() {
        check_basic(rest, wanted)
    } else if name.eq_ignore_ascii_case("digest") && scheme.offers_digest() {
        check_digest(rest, &request.method, wanted, nonce)
    } else {
        Verdict::Refused
    }
}

/// The 401 with a challenge per offered scheme.
pub(crate) fn challenge(scheme: AuthScheme, nonce: &str, stale: bool) -> Response {
    let mut response = Response::new(Status::UNAUTHORIZED);
    if scheme.offers_digest() {
        let stale = if stale { ", stale=TRUE" } else { "" };
        response = response.with(
            "WWW-Authenticate",
            format!("Digest realm=\"{REALM}\", nonce=\"{nonce}\"{stale}"),
        );
    }
    if scheme.offers_basic() {
        response = response.with("WWW-Authenticate", format!("Basic realm=\"{REALM}\""));
    }
    response
}

fn check_basic(encoded: &str, wanted: &Credentials) -> Verdict {
    let expected = format!("{}:{}", wanted.user, wanted.password);
    match STANDARD.decode(encoded.trim()) {
        Ok(given) if given == expected.as_bytes() => Verdict::Allowed,
        _ => Verdict::Refused,
    }
}

fn check_digest(parameters: &str, method: &str, wanted: &Credentials, nonce: &str) -> Verdict {
    let get = |name: &str| parameter(parameters, name).unwrap_or_default();
    if get("username") != wanted.user || get("realm") != REALM {
        return Verdict::Refused;
    }
    let ha1 = md5_hex(&format!("{}:{REALM}:{}", wanted.user, wanted.password));
    let ha2 = md5_hex(&format!("{method}:{}", get("uri")));
    let given_nonce = get("nonce");
    let expected = match get("qop").as_str() {
        "" => md5_hex(&format!("{ha1}:{given_nonce}:{ha2}")),
        qop => md5_hex(&format!(
            "{ha1}:{given_nonce}:{}:{}:{qop}:{ha2}",
            get("nc"),
            get("cnonce")
        )),
    };
    if !expected.eq_ignore_ascii_case(&get("response")) {
        Verdict::Refused
    } else if given_nonce != nonce {
        Verdict::StaleNonce
    } else {
        Verdict::Allowed
    }
}

/// The value of `name` in a `name="value", name=value` list.
fn parameter(list: &str, name: &str) -> Option<String> {
    let mut rest = list.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let (value, tail) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').map_or((after, ""), |(v, t)| (v, t)),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.trim().to_owned());
        }
        rest = tail.trim_start_matches([',', ' ']);
    }
    None
}

fn md5_hex(text: &str) -> String {
    crate::hex(&Md5::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Incoming, take};
    use bytes::BytesMut;

    fn verdict(authorization: &str, scheme: AuthScheme) -> Verdict {
        let text =
            format!("DESCRIBE rtsp://h/cam0 RTSP/1.0\r\nAuthorization: {authorization}\r\n\r\n");
        let Ok(Some(Incoming::Request(request))) = take(&mut BytesMut::from(text.as_str())) else {
            panic!("not a request");
        };
        let wanted = Credentials {
            user: "admin".into(),
            password: "pw".into(),
        };
        check(&request, &wanted, scheme, "n1")
    }

    fn digest(password: &str, nonce: &str) -> String {
        let ha1 = md5_hex(&format!("admin:{REALM}:{password}"));
        let ha2 = md5_hex("DESCRIBE:rtsp://h/cam0");
        let response = md5_hex(&format!("{ha1}:{nonce}:{ha2}"));
        format!(
            "Digest username=\"admin\", realm=\"{REALM}\", nonce=\"{nonce}\", uri=\"rtsp://h/cam0\", response=\"{response}\""
        )
    }

    #[test]
    fn digest_wants_the_password_and_this_connections_nonce() {
        assert_eq!(
            verdict(&digest("pw", "n1"), AuthScheme::Digest),
            Verdict::Allowed
        );
        assert_eq!(
            verdict(&digest("no", "n1"), AuthScheme::Digest),
            Verdict::Refused
        );
        assert_eq!(
            verdict(&digest("pw", "n0"), AuthScheme::Digest),
            Verdict::StaleNonce
        );
        assert_eq!(
            verdict(&digest("pw", "n1"), AuthScheme::Basic),
            Verdict::Refused
        );
        assert_eq!(
            verdict("Digest username=\"admin", AuthScheme::Both),
            Verdict::Refused
        );
    }

    #[test]
    fn basic_is_taken_only_where_offered() {
        let header = format!("Basic {}", STANDARD.encode("admin:pw"));
        assert_eq!(verdict(&header, AuthScheme::Both), Verdict::Allowed);
        assert_eq!(verdict(&header, AuthScheme::Digest), Verdict::Refused);
        assert_eq!(verdict("Basic %%%", AuthScheme::Basic), Verdict::Refused);
    }

    #[test]
    fn the_password_is_not_printed() {
        let c = Credentials {
            user: "admin".into(),
            password: "hush".into(),
        };
        assert!(!format!("{c:?}").contains("hush"));
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic_or_lets_in(rest in "[ -~]{0,80}") {
            for scheme in ["Digest", "Basic", ""] {
                let header = format!("{scheme} username=\"admin\", {rest}");
                assert_ne!(verdict(&header, AuthScheme::Both), Verdict::Allowed);
            }
        }
    }
}
