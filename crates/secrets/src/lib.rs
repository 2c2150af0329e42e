//! What in an address must not be shown: passwords and the like that cameras take in path and query.
//!
//! Besides `?user=admin&password=...` there is `/user=admin&password=...&channel=1` and
//! `/user=admin_password=..._channel=1` in the path (XiongMai, sold under many names). Names, tickets and messages that are made
//! of settings, and logs of whatever comes from elsewhere, hide the same.

use std::ops::Range;

/// Parts of the names of parameters whose values must not be shown.
const SECRET_NAMES: [&str; 9] = [
    "pass", "pwd", "psw", "user", "usr", "token", "auth", "secret", "key",
];

/// What may stand before the name of a parameter.
const SEPARATORS: [char; 5] = ['/', '?', '&', ';', '_'];

/// A parameter with a secret value.
struct Secret {
    /// Where its name begins.
    start: usize,
    /// Where its value is, which may be empty.
    value: Range<usize>,
}

/// Text of unknown form with what may be credentials in it replaced by `***`: all between `://` and
/// the last `@`, since a password may hold any character, and `user:password` before an `@` without `://`.
pub fn hide_secrets(text: &str) -> String {
    match login(text) {
        Some(login) => hide_values(&format!(
            "{}***{}",
            &text[..login.start],
            &text[login.end..]
        )),
        None => hide_values(text),
    }
}

/// Where the login of an address is, which ends with the last `@`. It begins behind `://` or, where that was forgotten or
/// mistyped, with the word in front of the first colon.
pub fn login(text: &str) -> Option<Range<usize>> {
    let end = text.rfind('@')?;
    let colon = text[..end].find(':')?;
    if text[colon..].starts_with("://") {
        return Some(colon + 3..end);
    }
    let is_name = |c: char| c.is_alphanumeric() || "-_.+%$".contains(c);
    let start = text[..colon].trim_end_matches(is_name).len();
    (colon + 1 < end).then_some(start..end)
}

/// A path with its query, or an address without credentials, with `***` for secret values.
pub fn hide_values(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut shown = 0;
    for secret in secrets(text) {
        out.push_str(&text[shown..secret.value.start]);
        out.push_str("***");
        shown = secret.value.end;
    }
    out + &text[shown..]
}

/// A path with its query without the parameters that identify a user rather than a stream.
pub fn without_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut kept = 0;
    for secret in secrets(text) {
        out.push_str(&text[kept..secret.start]);
        kept = secret.value.end;
    }
    out + &text[kept..]
}

/// Whether a parameter of this name has a value that must not be shown.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|word| name.contains(word))
}

fn secrets(text: &str) -> Vec<Secret> {
    let query = text.find('?').map_or(text.len(), |at| at + 1);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(length) = text[at..].find('=') {
        let equals = at + length;
        let start = name_start(text, at..equals, query);
        at = equals + 1;
        let Some(start) = start.filter(|start| is_secret(&text[*start..equals])) else {
            continue;
        };
        let end = at + value_length(&text[at..], equals >= query);
        found.push(Secret {
            start,
            value: at..end,
        });
        at = end;
    }
    found
}

/// Where the name begins that `before` ends with, which stands in front of a `=`. The query begins at `query`.
fn name_start(text: &str, before: Range<usize>, query: usize) -> Option<usize> {
    let after_last = |from: usize, separators: &[char]| {
        let at = text.get(from..before.end)?.rfind(separators)?;
        Some(from + at + 1)
    };
    if before.end >= query {
        // All of a parameter's name counts: `auth_type`, `user.name`.
        let first = (before.start <= query).then_some(query);
        let start = after_last(before.start.max(query), &['&']).or(first);
        if start.is_some() {
            return start;
        }
    }
    after_last(before.start, &SEPARATORS).or((before.start == 0).then_some(0))
}

/// How far the value goes that `text` begins with.
fn value_length(text: &str, in_query: bool) -> usize {
    let ends = |(at, c): (usize, char)| match c {
        '&' => true,
        ';' | '?' => !in_query,
        // A password may hold these too, unless the next parameter begins there.
        '_' | '/' => !in_query && begins_with_a_name(&text[at + 1..]),
        _ => false,
    };
    text.char_indices()
        .find(|found| ends(*found))
        .map_or(text.len(), |(at, _)| at)
}

/// `word=...`
fn begins_with_a_name(text: &str) -> bool {
    let word = text.find(|c: char| !(c.is_alphanumeric() || "-.".contains(c)));
    word.is_some_and(|end| end > 0 && text[end..].starts_with('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_hidden_or_left_out_wherever_they_stand() {
        for (text, hidden, without) in [
            (
                "cam/live?channel=1",
                "cam/live?channel=1",
                "cam/live?channel=1",
            ),
            (
                "cam/live?user=admin&password=a_b/c;d&channel=1",
                "cam/live?user=***&password=***&channel=1",
                "cam/live?&&channel=1",
            ),
            (
                "cam/user=admin_password=ge_heim_channel=1_stream=0.sdp?real_stream",
                "cam/user=***_password=***_channel=1_stream=0.sdp?real_stream",
                "cam/__channel=1_stream=0.sdp?real_stream",
            ),
            (
                "cam/live;Token=x;y=1/z=2",
                "cam/live;Token=***;y=1/z=2",
                "cam/live;;y=1/z=2",
            ),
            (
                "cam/?auth_type=x&key",
                "cam/?auth_type=***&key",
                "cam/?&key",
            ),
            (
                "cam/live_user_channel=1",
                "cam/live_user_channel=1",
                "cam/live_user_channel=1",
            ),
        ] {
            assert_eq!(hide_values(text), hidden);
            assert_eq!(without_secrets(text), without);
        }
    }

    #[test]
    fn all_before_the_last_at_sign_is_hidden() {
        assert_eq!(hide_secrets("rtsp://a:b@c/@cam/x"), "rtsp://***@cam/x");
        assert_eq!(hide_secrets("a@cam?key=1"), "a@cam?key=***");
    }

    #[test]
    fn a_login_is_hidden_without_a_scheme_too() {
        for (text, hidden) in [
            ("admin:ge heim@cam/1", "***@cam/1"),
            ("admin:a@b:c@cam/1", "***@cam/1"),
            ("rtsp;//admin:geheim@cam/1", "rtsp;//***@cam/1"),
            ("rtsp//admin:ge/heim@cam/1", "rtsp//***@cam/1"),
            ("admin:geheim@cam?next=http://h/", "***@cam?next=http://h/"),
            ("a@b", "a@b"),
            (":@", ":@"),
            ("a@b:c", "a@b:c"),
        ] {
            assert_eq!(hide_secrets(text), hidden);
        }
    }
}
