//! Takes credentials out of text that came from somewhere else: logs of libraries, error messages,
//! addresses.

use secrets::{hide_values, is_secret};
use std::borrow::Cow;

/// What credentials are replaced by.
const STARS: &str = "***";

/// The text without `user:password@` in addresses, with and without a scheme, secret parameters in their path (`/user=...&password=...`) and in
/// queries anywhere (`?password=...`), and `Authorization` headers.
pub fn text(text: &str) -> Cow<'_, str> {
    let suspicious = text.contains("://")
        || text.contains(['=', '@'])
        || contains_ignoring_case(text, "authorization:");
    if !suspicious {
        return Cow::Borrowed(text);
    }
    let clean = without_headers(&without_parameters(&without_pieces(&without_logins(
        &without_userinfo(text),
    ))));
    if clean == text {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(clean)
    }
}

fn contains_ignoring_case(text: &str, wanted: &str) -> bool {
    text.as_bytes()
        .windows(wanted.len())
        .any(|window| window.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// What stands around an address: blanks, quotes and brackets.
fn is_around_addresses(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "\"'`<>".contains(c)
}

fn address_end(text: &str) -> usize {
    text.find(is_around_addresses).unwrap_or(text.len())
}

fn without_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let address = &after[..address_end(after)];
        // A password may hold a raw `/` or `?`, so the host is looked for behind the last `@` that is
        // followed by something like one; what is cut too much from a path is no loss in a log.
        match address.rfind('@') {
            Some(end) => {
                out.push_str(STARS);
                rest = &after[end..];
            }
            None => rest = after,
        }
    }
    out.push_str(rest);
    out
}

/// Without `user:password@` where the scheme in front is missing or mistyped.
fn without_logins(text: &str) -> String {
    let hidden = |word: &str| match secrets::login(word) {
        Some(login) => format!("{}{STARS}{}", &word[..login.start], &word[login.end..]),
        None => word.to_owned(),
    };
    text.split_inclusive(is_around_addresses)
        .map(hidden)
        .collect()
}

/// Without the secret pieces of addresses. Elsewhere `_` and `/` mean nothing: `second_pass=3` is no password.
fn without_pieces(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let (address, after) = after.split_at(address_end(after));
        out.push_str(before);
        out.push_str(&hide_values(address));
        rest = after;
    }
    out.push_str(rest);
    out
}

fn without_parameters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['?', '&']) {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        rest = after;
        let parameter = &after[..after[..address_end(after)]
            .find('&')
            .unwrap_or_else(|| address_end(after))];
        if let Some((name, _)) = parameter.split_once('=')
            && is_secret(name)
        {
            out.push_str(name);
            out.push('=');
            out.push_str(STARS);
            rest = &after[parameter.len()..];
        }
    }
    out.push_str(rest);
    out
}

/// `Authorization: Digest username="...", ...` up to the end of its line.
fn without_headers(text: &str) -> String {
    const HEADER: &str = "authorization:";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest
        .as_bytes()
        .windows(HEADER.len())
        .position(|w| w.eq_ignore_ascii_case(HEADER.as_bytes()))
    {
        let (before, after) = rest.split_at(at + HEADER.len());
        out.push_str(before);
        out.push(' ');
        out.push_str(STARS);
        // A line may end for real or, in text that was quoted, with the two characters `\r` or `\n`.
        let end = ["\r", "\n", "\\r", "\\n"]
            .iter()
            .filter_map(|end| after.find(end))
            .min();
        rest = &after[end.unwrap_or(after.len())..];
    }
    out.push_str(rest);
    out
}
