//! Names of sources: the same on every start, distinct for distinct sources, safe as file names.

use crate::url::SourceUrl;
use secrets::{hide_secrets, without_secrets};
use std::collections::HashMap;
use std::fmt;

/// Longest name, in bytes: a file name is the name twice over plus date, time and number, and file
/// systems allow 255 bytes for one.
const MAX_BYTES: usize = 80;

/// The name of a source: letters, digits, `-`, `_` and `.`, not starting with a dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceName(String);

impl SourceName {
    /// The name as it is used in paths.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Checks a name the user gave; the error suggests one that would do.
    pub(crate) fn checked(text: &str) -> Result<Self, String> {
        let safe = sanitised(&hide_secrets(text));
        if !text.is_empty() && safe == text {
            return Ok(Self(safe));
        }
        let hint = if safe.is_empty() {
            String::new()
        } else {
            format!(", such as {safe:?}")
        };
        Err(format!(
            "{:?} cannot be a file name; use letters, digits, `-`, `_` and `.`, at most {MAX_BYTES} bytes{hint}",
            hide_secrets(text)
        ))
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for SourceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Names for addresses that were given none. Addresses that would share a name all get a hash of the
/// address behind it, so that a name does not depend on the order of the list.
pub(crate) fn derived(urls: &[&SourceUrl]) -> Vec<SourceName> {
    let plain: Vec<String> = urls.iter().map(|url| plain_name(url)).collect();
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for name in &plain {
        *uses.entry(name).or_default() += 1;
    }
    let with_hash = |name: &str, url: &SourceUrl| {
        let room = cut(name, MAX_BYTES - 9);
        format!("{room}_{:08x}", fnv1a(&url.without_credentials()) as u32)
    };
    plain
        .iter()
        .zip(urls)
        .map(|(name, url)| match uses[name.as_str()] {
            1 => SourceName(name.clone()),
            _ => SourceName(with_hash(name, url)),
        })
        .collect()
}

fn plain_name(url: &SourceUrl) -> String {
    let name = match url.file_path() {
        Some(path) => path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default(),
        None => {
            let (host, rest) = url.naming_parts();
            format!("{host}_{}", without_secrets(rest))
        }
    };
    match sanitised(&name) {
        safe if safe.is_empty() => "source".to_owned(),
        safe => safe,
    }
}

fn sanitised(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || "-.".contains(c) {
            out.push(c);
        } else if !out.ends_with('_') {
            out.push('_');
        }
    }
    let trimmed = out.trim_start_matches(['.', '_']).trim_end_matches('_');
    cut(trimmed, MAX_BYTES).to_owned()
}

fn cut(text: &str, max_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(max_bytes)]
}

/// FNV-1a, 64 bits: the same on every machine and version, unlike the standard library's hashers.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
