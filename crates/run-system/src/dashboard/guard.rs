//! Who may see and do what: the address asked for, the token, where a POST comes from, and the
//! headers that keep a browser from doing more than the page needs.

use super::listen::Connections;
use super::pace::Pace;
use super::{Refusal, Shared, State, pages};
use axum::extract::connect_info::Connected;
use axum::extract::{Form, Request};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, LOCATION, ORIGIN,
    REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use serde::Deserialize;
use settings::DashboardSettings;
use std::net::SocketAddr;
use std::time::Duration;

const COOKIE_NAME: &str = "dashboard";
/// A month.
const COOKIE_SECONDS: u32 = 2_592_000;
/// What anyone may ask for: nothing of it tells anything.
const OPEN: [&str; 5] = ["/healthz", "/login", "/style.css", "/icon.svg", "/texts.js"];
/// Slows guessing down.
const AFTER_WRONG_TOKEN: Duration = Duration::from_secs(1);
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Where a request comes from.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    /// The other end of the connection.
    pub(super) address: SocketAddr,
    /// How long the visitor may take.
    pub(super) pace: Pace,
}

impl Connected<IncomingStream<'_, Connections>> for Visitor {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        Self {
            address: *stream.remote_addr(),
            pace: stream.io().pace().clone(),
        }
    }
}

/// What the settings say about visitors.
pub(super) struct Guard {
    /// Only this machine reaches the port, by one of its own names. Another name in the request is
    /// that of a foreign page whose address was turned to this machine (DNS rebinding).
    loopback: bool,
    tls: bool,
    /// Hashes compare in constant time.
    token: Option<blake3::Hash>,
    /// What the cookie holds: made of the token, which it does not tell.
    session: Option<blake3::Hash>,
}

impl Guard {
    pub(super) fn new(settings: &DashboardSettings) -> Self {
        let token = settings.token.as_deref();
        Self {
            loopback: settings.listen.ip().is_loopback(),
            tls: settings.tls.is_some(),
            token: token.map(|token| blake3::hash(token.as_bytes())),
            session: token.map(|token| {
                blake3::derive_key("run-system dashboard session 1", token.as_bytes()).into()
            }),
        }
    }

    /// How a visitor who was let in has shown the token.
    pub(super) fn way(&self, headers: &HeaderMap) -> &'static str {
        match (self.token.is_some(), self.has_bearer(headers)) {
            (false, _) => "no token",
            (true, true) => "bearer",
            (true, false) => "login",
        }
    }

    fn host_is_fine(&self, headers: &HeaderMap) -> bool {
        let Some(host) = text(headers, &HOST) else {
            return false;
        };
        !self.loopback || matches!(name_of(host), "localhost" | "127.0.0.1" | "[::1]")
    }

    fn token_is(&self, given: &str) -> bool {
        self.token
            .is_none_or(|token| token == blake3::hash(given.as_bytes()))
    }

    fn has_bearer(&self, headers: &HeaderMap) -> bool {
        let given = text(headers, &AUTHORIZATION).and_then(|value| value.split_once(' '));
        given.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && self.token_is(token.trim())
        })
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let Some(session) = self.session else {
            return true;
        };
        headers
            .get_all(COOKIE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .filter(|(name, _)| *name == COOKIE_NAME)
            .filter_map(|(_, value)| blake3::Hash::from_hex(value).ok())
            .any(|given| given == session)
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        self.token.is_none() || self.has_bearer(headers) || self.has_cookie(headers)
    }

    /// Whether what changes something comes from our own page, or from a program with the token.
    fn is_own(&self, headers: &HeaderMap) -> bool {
        let site = HeaderName::from_static("sec-fetch-site");
        let scheme = if self.tls { "https" } else { "http" };
        let origin = text(headers, &ORIGIN);
        match text(headers, &site) {
            Some(site) => site == "same-origin",
            None => match (origin, text(headers, &HOST)) {
                (Some(origin), Some(host)) => origin == format!("{scheme}://{host}"),
                _ => self.token.is_some() && self.has_bearer(headers),
            },
        }
    }

    fn refusal(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
        let refuse = |status, words: &str| Some(Refusal(status, words.to_owned()).into_response());
        if !self.host_is_fine(headers) {
            let words = "ask for 127.0.0.1 or localhost; other names are not answered here";
            return refuse(StatusCode::FORBIDDEN, words);
        }
        if !OPEN.contains(&uri.path()) && !self.knows(headers) {
            if uri.path() == "/" {
                return Some((StatusCode::SEE_OTHER, [(LOCATION, "/login")]).into_response());
            }
            return refuse(StatusCode::UNAUTHORIZED, "the token is needed");
        }
        if !matches!(*method, Method::GET | Method::HEAD) && !self.is_own(headers) {
            return refuse(StatusCode::FORBIDDEN, "this comes from another page");
        }
        None
    }
}

/// Stands before every request.
pub(super) async fn check(state: State, request: Request, next: Next) -> Response {
    let guard = &state.0.guard;
    let refused = guard.refusal(request.method(), request.uri(), request.headers());
    let mut response = match refused {
        Some(refused) => refused,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "same-origin"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// The form of the login page.
#[derive(Deserialize)]
pub(super) struct Login {
    token: String,
}

pub(super) async fn log_in(state: State, Form(form): Form<Login>) -> Response {
    let Shared { guard, .. } = &*state.0;
    if !guard.token_is(form.token.trim()) {
        tokio::time::sleep(AFTER_WRONG_TOKEN).await;
        return (StatusCode::UNAUTHORIZED, pages::login_again()).into_response();
    }
    let home = (StatusCode::SEE_OTHER, [(LOCATION, "/")]);
    let Some(session) = guard.session else {
        return home.into_response();
    };
    let secure = if guard.tls { "; Secure" } else { "" };
    let cookie = format!(
        "{COOKIE_NAME}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={COOKIE_SECONDS}{secure}",
        session.to_hex()
    );
    (home.0, [(SET_COOKIE, cookie)], home.1, ()).into_response()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `[::1]` of `[::1]:8780`, `localhost` of `localhost`.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(token: Option<&str>) -> Guard {
        Guard::new(&DashboardSettings {
            listen: "127.0.0.1:1".parse().unwrap(),
            token: token.map(str::to_owned),
            tls: None,
            show_originals: false,
        })
    }

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn only_names_of_this_machine_are_answered() {
        for (host, fine) in [
            ("127.0.0.1:8780", true),
            ("localhost", true),
            ("[::1]:8780", true),
            ("evil.example:8780", false),
            ("127.0.0.1.evil.example", false),
            ("192.168.1.5", false),
        ] {
            let asked = headers(&[("host", host)]);
            assert_eq!(guard(None).host_is_fine(&asked), fine, "{host}");
        }
        assert!(!guard(None).host_is_fine(&HeaderMap::new()));
    }

    #[test]
    fn a_post_must_come_from_the_own_page() {
        let host = ("host", "127.0.0.1:8780");
        for (sent, own) in [
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "cross-site")], false),
            (vec![("sec-fetch-site", "same-site")], false),
            (vec![("sec-fetch-site", "none")], false),
            (vec![("origin", "http://127.0.0.1:8780")], true),
            (vec![("origin", "http://127.0.0.1:9999")], false),
            (vec![("origin", "null")], false),
            (vec![("authorization", "Bearer x")], false),
            (vec![], false),
        ] {
            let sent = headers(&[&[host], &sent[..]].concat());
            assert_eq!(guard(None).is_own(&sent), own, "{sent:?}");
        }
    }
}
