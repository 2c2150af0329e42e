//! The names of a model's classes, as Ultralytics' exporters write them into an
//! ONNX file: metadata `names` = `{0: 'person', 1: 'head'}`.
//!
//! Only the outermost level of the protobuf message is walked (onnx.proto,
//! `ModelProto.metadata_props` = 14, `key` = 1, `value` = 2); anything that does
//! not fit means "no names", never a failure: the engine judges the file.

const METADATA: u64 = 14;
const KEY: u64 = 1;
const VALUE: u64 = 2;

/// Class names by number; empty if the file has none.
pub(crate) fn of_model(file: &[u8]) -> Vec<String> {
    fields(file)
        .filter(|(number, _)| *number == METADATA)
        .find_map(|(_, entry)| {
            let part = |wanted| {
                let mut all = fields(entry).filter(move |(number, _)| *number == wanted);
                all.next().map(|(_, bytes)| bytes)
            };
            (part(KEY)? == b"names").then(|| part(VALUE)).flatten()
        })
        .and_then(|value| std::str::from_utf8(value).ok())
        .map(parse_names)
        .unwrap_or_default()
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

/// Reads `{0: 'person', 1: "driver's head"}` or `['person', 'head']`.
fn parse_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['\'', '"']) {
        let quote = &rest[start..=start];
        let Some(length) = rest[start + 1..].find(quote) else {
            break;
        };
        names.push(rest[start + 1..start + 1 + length].to_owned());
        rest = &rest[start + length + 2..];
    }
    names
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
}
