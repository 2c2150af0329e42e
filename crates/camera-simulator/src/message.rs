//! RTSP messages as bytes: requests and interleaved frames in, responses out (RFC 2326).
//!
//! The peer is not trusted: sizes are capped before anything is kept, and every malformed input is an
//! error value, never a panic.

use bytes::{Buf, Bytes, BytesMut};
use std::fmt::Write as _;
use thiserror::Error;

/// Largest request line plus headers, bytes.
pub(crate) const MAX_HEAD: usize = 16 * 1024;
/// Largest request body, bytes.
pub(crate) const MAX_BODY: usize = 64 * 1024;
/// Most header lines in one request.
pub(crate) const MAX_HEADERS: usize = 64;

/// Why bytes from a client are not an RTSP message.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum BadMessage {
    #[error("request head larger than {MAX_HEAD} bytes")]
    HeadTooLarge,
    #[error("request body larger than {MAX_BODY} bytes")]
    BodyTooLarge,
    #[error("more than {MAX_HEADERS} header lines")]
    TooManyHeaders,
    #[error("malformed request")]
    Malformed,
    #[error("RTSP version is not 1.0")]
    Version,
}

impl BadMessage {
    /// The status line that tells the client what was wrong.
    pub(crate) fn status(&self) -> Status {
        match self {
            Self::BodyTooLarge => Status(413, "Request Entity Too Large"),
            Self::Version => Status(505, "RTSP Version Not Supported"),
            _ => Status::BAD_REQUEST,
        }
    }
}

/// What a client can send on the control connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Request(Request),
    /// RTCP (or RTP) from the client in an interleaved frame, and anything else without an answer.
    Ignored,
}

/// One request; header names are compared without case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) uri: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The value of the first header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// The session id without its parameters.
    pub(crate) fn session(&self) -> Option<&str> {
        self.header("Session")
            .map(|v| v.split(';').next().unwrap_or(v).trim())
    }

    /// `host:port` of the request URI without credentials, if it is an absolute one.
    pub(crate) fn authority(&self) -> Option<&str> {
        let rest = strip_scheme(&self.uri)?;
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        let host = authority.rsplit('@').next().unwrap_or(authority);
        (!host.is_empty()).then_some(host)
    }

    /// The path of the request URI: no query, no slashes around it. Empty for `*` and the root.
    pub(crate) fn path(&self) -> &str {
        let path = match strip_scheme(&self.uri) {
            Some(rest) => rest.find('/').map_or("", |i| &rest[i..]),
            None if self.uri == "*" => "",
            None => &self.uri,
        };
        path.split('?').next().unwrap_or(path).trim_matches('/')
    }
}

fn strip_scheme(uri: &str) -> Option<&str> {
    let (scheme, rest) = uri.split_once("://")?;
    // Something that speaks TLS may stand in front of us.
    ["rtsp", "rtsps"]
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known))
        .then_some(rest)
}

/// Takes the next whole message off the front of `buffer`; `None` while more bytes are needed.
///
/// # Errors
/// The connection cannot be re-synchronised after an error and must be closed.
pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<Incoming>, BadMessage> {
    while buffer.starts_with(b"\r\n") {
        buffer.advance(2);
    }
    match buffer.first() {
        None => Ok(None),
        Some(b'$') => Ok(take_interleaved(buffer)),
        Some(_) => take_request(buffer),
    }
}

fn take_interleaved(buffer: &mut BytesMut) -> Option<Incoming> {
    let head = buffer.get(..4)?;
    let length = 4 + usize::from(u16::from_be_bytes([head[2], head[3]]));
    (buffer.len() >= length).then(|| {
        buffer.advance(length);
        Incoming::Ignored
    })
}

fn take_request(buffer: &mut BytesMut) -> Result<Option<Incoming>, BadMessage> {
    let window = &buffer[..buffer.len().min(MAX_HEAD)];
    let Some(head_length) = window.windows(4).position(|w| w == b"\r\n\r\n") else {
        return if buffer.len() >= MAX_HEAD {
            Err(BadMessage::HeadTooLarge)
        } else {
            Ok(None)
        };
    };
    let head = std::str::from_utf8(&buffer[..head_length]).map_err(|_| BadMessage::Malformed)?;
    let parsed = parse_head(head)?;
    let body = match &parsed {
        Some(request) => body_length(request)?,
        None => 0,
    };
    let total = head_length + 4 + body;
    if buffer.len() < total {
        return Ok(None);
    }
    buffer.advance(total);
    Ok(Some(parsed.map_or(Incoming::Ignored, Incoming::Request)))
}

/// `None` for a response (an answer to something we never ask).
fn parse_head(head: &str) -> Result<Option<Request>, BadMessage> {
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    if first.starts_with("RTSP/1.0 ") {
        return Ok(None);
    }
    let mut words = first.split_ascii_whitespace();
    let (Some(method), Some(uri), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(BadMessage::Malformed);
    };
    if !version.starts_with("RTSP/") {
        return Err(BadMessage::Malformed);
    }
    if version != "RTSP/1.0" {
        return Err(BadMessage::Version);
    }
    let headers = parse_headers(lines)?;
    Ok(Some(Request {
        method: method.to_owned(),
        uri: uri.to_owned(),
        headers,
    }))
}

fn parse_headers<'a>(
    lines: impl Iterator<Item = &'a str>,
) -> Result<Vec<(String, String)>, BadMessage> {
    let mut headers = Vec::new();
    for line in lines {
        if headers.len() == MAX_HEADERS {
            return Err(BadMessage::TooManyHeaders);
        }
        let (name, value) = line.split_once(':').ok_or(BadMessage::Malformed)?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(headers)
}

fn body_length(request: &Request) -> Result<usize, BadMessage> {
    let Some(value) = request.header("Content-Length") else {
        return Ok(0);
    };
    let length: usize = value.parse().map_err(|_| BadMessage::Malformed)?;
    if length > MAX_BODY {
        return Err(BadMessage::BodyTooLarge);
    }
    Ok(length)
}

/// A response's status code and phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) u16, pub(crate) &'static str);

impl Status {
    pub(crate) const OK: Self = Self(200, "OK");
    pub(crate) const BAD_REQUEST: Self = Self(400, "Bad Request");
    pub(crate) const UNAUTHORIZED: Self = Self(401, "Unauthorized");
    pub(crate) const NOT_FOUND: Self = Self(404, "Not Found");
    pub(crate) const SESSION_NOT_FOUND: Self = Self(454, "Session Not Found");
    pub(crate) const WRONG_STATE: Self = Self(455, "Method Not Valid in This State");
    pub(crate) const NO_BANDWIDTH: Self = Self(453, "Not Enough Bandwidth");
    pub(crate) const NO_AGGREGATE: Self = Self(459, "Aggregate Operation Not Allowed");
    pub(crate) const TRANSPORT: Self = Self(461, "Unsupported Transport");
    pub(crate) const INTERNAL: Self = Self(500, "Internal Server Error");
    pub(crate) const NOT_IMPLEMENTED: Self = Self(501, "Not Implemented");
    pub(crate) const OPTION: Self = Self(551, "Option not supported");
}

/// An answer being put together; `CSeq` and `Server` are added by [`Response::to_bytes`].
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: Status,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Response {
    pub(crate) fn new(status: Status) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: String::new(),
        }
    }

    pub(crate) fn ok() -> Self {
        Self::new(Status::OK)
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn with_body(self, content_type: &str, body: String) -> Self {
        let mut response = self.with("Content-Type", content_type);
        response.body = body;
        response
    }

    /// The response on the wire. `cseq` is echoed as the client wrote it.
    pub(crate) fn to_bytes(&self, cseq: Option<&str>) -> Bytes {
        let Status(code, phrase) = self.status;
        let mut text = format!("RTSP/1.0 {code} {phrase}\r\n");
        if let Some(cseq) = cseq {
            push_header(&mut text, "CSeq", cseq);
        }
        push_header(&mut text, "Server", "camera-simulator");
        for (name, value) in &self.headers {
            push_header(&mut text, name, value);
        }
        if !self.body.is_empty() {
            push_header(&mut text, "Content-Length", &self.body.len().to_string());
        }
        text.push_str("\r\n");
        text.push_str(&self.body);
        Bytes::from(text)
    }
}

fn push_header(text: &mut String, name: &str, value: &str) {
    write!(text, "{name}: {value}\r\n").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Request {
        match take(&mut BytesMut::from(text)) {
            Ok(Some(Incoming::Request(request))) => request,
            other => panic!("not a request: {other:?}"),
        }
    }

    #[test]
    fn a_request_is_taken_apart() {
        let r = request(
            "\r\nSETUP rtsp://u:p@h:554/cam0/trackID=1?x=1 RTSP/1.0\r\ncseq: 3\r\nSession: ab;timeout=60\r\n\r\n",
        );
        assert_eq!((r.method.as_str(), r.path()), ("SETUP", "cam0/trackID=1"));
        assert_eq!(r.authority(), Some("h:554"));
        assert_eq!(r.header("CSeq"), Some("3"));
        assert_eq!(r.session(), Some("ab"));
        assert_eq!(request("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n").path(), "");
        assert_eq!(request("OPTIONS /a/ RTSP/1.0\r\n\r\n").path(), "a");
    }

    #[test]
    fn interleaved_frames_and_bodies_are_skipped() {
        let mut buffer =
            BytesMut::from(&b"$\x01\x00\x03abcPLAY a RTSP/1.0\r\nContent-Length: 2\r\n\r\nhi"[..]);
        assert_eq!(take(&mut buffer), Ok(Some(Incoming::Ignored)));
        assert!(matches!(take(&mut buffer), Ok(Some(Incoming::Request(_)))));
        assert!(buffer.is_empty());
    }

    #[test]
    fn every_prefix_of_a_request_waits_for_more() {
        let text = "PLAY rtsp://h/cam0 RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 1\r\n\r\nx";
        for end in 0..text.len() {
            assert_eq!(take(&mut BytesMut::from(&text[..end])), Ok(None), "{end}");
        }
    }

    #[test]
    fn hostile_input_is_refused() {
        let check = |text: &[u8], expected| {
            assert_eq!(take(&mut BytesMut::from(text)), Err(expected));
        };
        check(&vec![b'a'; MAX_HEAD], BadMessage::HeadTooLarge);
        check(b"GET / HTTP/1.1\r\n\r\n", BadMessage::Malformed);
        check(b"PLAY / RTSP/2.0\r\n\r\n", BadMessage::Version);
        check(b"\xff\xfe\r\n\r\n", BadMessage::Malformed);
        check(
            b"PLAY / RTSP/1.0\r\nno colon\r\n\r\n",
            BadMessage::Malformed,
        );
        check(
            b"PLAY / RTSP/1.0\r\nContent-Length: -1\r\n\r\n",
            BadMessage::Malformed,
        );
        check(
            b"PLAY / RTSP/1.0\r\nContent-Length: 99999999\r\n\r\n",
            BadMessage::BodyTooLarge,
        );
        let many = format!(
            "PLAY / RTSP/1.0\r\n{}\r\n",
            "a: b\r\n".repeat(MAX_HEADERS + 1)
        );
        check(many.as_bytes(), BadMessage::TooManyHeaders);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_stand_still(bytes: Vec<u8>, tail in "[ -~\r\n$]{0,200}") {
            let mut buffer = BytesMut::from(&bytes[..]);
            buffer.extend_from_slice(tail.as_bytes());
            loop {
                let before = buffer.len();
                match take(&mut buffer) {
                    Ok(Some(_)) => assert!(buffer.len() < before),
                    Ok(None) | Err(_) => break,
                }
            }
        }
    }
}
