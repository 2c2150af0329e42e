//! The names of a model's classes, as Ultralytics' exporters write them into an
//! ONNX file: metadata `names` = `{0: 'person', 1: 'head'}`.
//!
//! Only the outermost level of the protobuf message is walked (onnx.proto,
//! `ModelProto.metadata_props` = 14, `key` = 1, `value` = 2); anything that does
//! not fit means "no names", never a failure: the engine judges the file.

use std::collections::BTreeMap;

const METADATA: u64 = 14;
const KEY: u64 = 1;
const VALUE: u64 = 2;

/// Class names by number; empty if the file has none.
pub(crate) fn of_model(file: &[u8]) -> Vec<String> {
    metadata(file, "names").map(parse_names).unwrap_or_default()
}

/// What it was trained for (`detect`, `segment`, `pose`, `obb`), if the file says.
pub(crate) fn task_of_model(file: &[u8]) -> Option<&str> {
    metadata(file, "task")
}

fn metadata<'a>(file: &'a [u8], key: &str) -> Option<&'a str> {
    fields(file)
        .filter(|(number, _)| *number == METADATA)
        .find_map(|(_, entry)| {
            let part = |wanted| {
                let mut all = fields(entry).filter(move |(number, _)| *number == wanted);
                all.next().map(|(_, bytes)| bytes)
            };
            (part(KEY)? == key.as_bytes())
                .then(|| part(VALUE))
                .flatten()
        })
        .and_then(|value| std::str::from_utf8(value).ok())
}

/// Length-delimited fields of a message: number and content.
fn fields(mut message: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    std::iter::from_fn(move || {
        loop {
            let tag = varint(&mut message)?;
            let content = match tag & 7 {
                0 => {
                    varint(&mut message)?;
                    continue;
                }
                1 => {
                    take(&mut message, 8)?;
                    continue;
                }
                2 => {
                    let length = usize::try_from(varint(&mut message)?).ok()?;
                    take(&mut message, length)?
                }
                5 => {
                    take(&mut message, 4)?;
                    continue;
                }
                _ => return None,
            };
            return Some((tag >> 3, content));
        }
    })
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (content, rest) = message.split_at_checked(length)?;
    *message = rest;
    Some(content)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(message, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Reads `{0: 'person', 1: "driver's head"}` or `['person', 'head']`, or the same in JSON. Names stand at the places that
/// their keys tell; with a place that is empty, or a key that is no number, none of them can be trusted.
fn parse_names(text: &str) -> Vec<String> {
    if let Ok(names) = serde_json::from_str::<Vec<String>>(text) {
        return names;
    }
    let Some(mut names) = by_key(text) else {
        return Vec::new();
    };
    names.sort();
    let complete = names
        .iter()
        .enumerate()
        .all(|(place, (key, _))| place == *key);
    match complete {
        true => names.into_iter().map(|(_, name)| name).collect(),
        false => Vec::new(),
    }
}

/// Names and their numbers, in any order.
fn by_key(text: &str) -> Option<Vec<(usize, String)>> {
    if let Ok(object) = serde_json::from_str::<BTreeMap<String, String>>(text) {
        let entries = object.into_iter();
        return entries
            .map(|(key, name)| Some((key.parse().ok()?, name)))
            .collect();
    }
    let text = text.trim();
    let within = |open, close| text.strip_prefix(open)?.strip_suffix(close);
    let (mut rest, keyed) = match within('{', '}') {
        Some(inside) => (inside.trim_start(), true),
        None => (within('[', ']')?.trim_start(), false),
    };
    let mut names = Vec::new();
    while !rest.is_empty() {
        let mut key = names.len();
        if keyed {
            let (number, after) = match quoted(rest) {
                Some((number, after)) => (number, after.trim_start().strip_prefix(':')?),
                None => {
                    let (number, after) = rest.split_once(':')?;
                    (number.to_owned(), after)
                }
            };
            key = number.trim().parse().ok()?;
            rest = after.trim_start();
        }
        let (name, after) = quoted(rest)?;
        names.push((key, name));
        rest = after.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start();
        }
    }
    Some(names)
}

/// The text in quotes at the beginning, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|quote| "'\"".contains(*quote))?;
    let mut content = String::new();
    let mut rest = text[1..].char_indices();
    while let Some((at, sign)) = rest.next() {
        match sign {
            '\\' => content.push(rest.next()?.1),
            _ if sign == quote => return Some((content, &text[at + 2..])),
            _ => content.push(sign),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, content.len() as u8];
        bytes.extend(content);
        bytes
    }

    #[test]
    fn names_are_read_from_the_metadata() {
        let entry =
            |key: &[u8], value: &[u8]| field(14, &[field(1, key), field(2, value)].concat());
        let model = [
            vec![8, 200, 1],
            field(7, b"the graph"),
            entry(b"stride", b"32"),
            entry(b"names", b"{0: 'person', 1: \"driver's head\"}"),
        ]
        .concat();
        assert_eq!(of_model(&model), ["person", "driver's head"]);
    }

    #[test]
    fn garbage_has_no_names() {
        assert!(of_model(b"").is_empty());
        assert!(of_model(&[0xff; 40]).is_empty());
        assert!(of_model(&field(14, &[10, 200])).is_empty());
        assert!(parse_names("{0: 'cut").is_empty());
    }

    #[test]
    fn names_stand_where_their_keys_say() {
        let names = |text: &str| parse_names(text);
        assert_eq!(names(r#"{"0": "car", "1": "head"}"#), ["car", "head"]);
        assert_eq!(names("{'0': 'car', '1': 'head'}"), ["car", "head"]);
        assert_eq!(names("{1: 'head', 0: 'car'}"), ["car", "head"]);
        assert_eq!(names(r#"{"1": "head", "0": "car"}"#), ["car", "head"]);
        assert_eq!(
            names("['car', \"driver's head\",]"),
            ["car", "driver's head"]
        );
        assert_eq!(names(r#"["car", "head"]"#), ["car", "head"]);
        assert_eq!(names(r"{0: 'a \'head\': it is'}"), ["a 'head': it is"]);
        assert_eq!(names(r#"{"0": "\uba38\ub9ac"}"#), ["머리"]);
        let many: Vec<String> = (0..12).map(|n| format!("\"{n}\": \"c{n}\"")).collect();
        assert_eq!(names(&format!("{{{}}}", many.join(", ")))[10], "c10");
    }

    #[test]
    fn names_without_a_sure_place_are_none() {
        for text in [
            "{0: 'car', 2: 'head'}",
            "{1: 'head'}",
            "{0: 'car', 0: 'head'}",
            "{zero: 'car', 1: 'head'}",
            r#"{"a": "car", "b": "head"}"#,
            "{0: 'car' 1: 'head'}",
            "{0: 1, 1: 2}",
            "{0: 'car', 1: 'he",
            "'head'",
            "{-1: 'head', 0: 'car'}",
        ] {
            assert!(parse_names(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn the_task_is_read() {
        let entry = field(14, &[field(1, b"task"), field(2, b"obb")].concat());
        assert_eq!(task_of_model(&entry), Some("obb"));
        assert_eq!(task_of_model(b""), None);
    }
}
