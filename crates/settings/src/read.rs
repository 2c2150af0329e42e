//! Takes values out of an object by the table of its keys, and gathers every problem on the way.
//!
//! A wrong value is reported and replaced by the default, so that reading goes on and the user sees
//! all problems at once. The settings made that way are thrown away when there is any problem.

use crate::json::{Member, Node, Value, parse};
use crate::keys::{BLUR, HOOK, Key, Kind, PLUGIN, RECORDER, SOURCE, SYSTEM, find, nearest};
use crate::problem::Problem;
use crate::{BLUR_FILE, RECORDER_FILE, SYSTEM_FILE, size};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One object of the file, read by its table.
pub(crate) struct Reader<'a> {
    keys: &'static [Key],
    members: &'a [Member],
    prefix: String,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// Reports unknown keys of the object and is then ready to read the known ones.
    pub(crate) fn new(
        keys: &'static [Key],
        members: &'a [Member],
        prefix: String,
        problems: &'a mut Vec<Problem>,
    ) -> Self {
        let mut reader = Self {
            keys,
            members,
            prefix,
            problems,
        };
        let at_top = reader.prefix.is_empty();
        let unknown = |member: &&Member| {
            find(keys, &member.key).is_none() && !(at_top && member.key == crate::schema::REFERENCE)
        };
        for member in members.iter().filter(unknown) {
            let meant = nearest(&member.key, keys.iter().map(|key| key.name));
            let message = match (belongs(&member.key, keys, &reader.prefix), meant) {
                (Some(place), _) => format!("it belongs {place}"),
                (None, Some(name)) => format!("there is no such key; did you mean `{name}`?"),
                (None, None) => "there is no such key; remove it".to_owned(),
            };
            reader.problem(&member.key, Some(member.line), message);
        }
        reader
    }

    /// Adds a problem with the key of that name in this object.
    pub(crate) fn problem(&mut self, name: &str, line: Option<u32>, message: String) {
        let key = match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}.{name}"),
        };
        self.problems.push(Problem { line, key, message });
    }

    /// The list that problems of nested objects go to.
    pub(crate) fn problems(&mut self) -> &mut Vec<Problem> {
        self.problems
    }

    /// The node as written in the file.
    pub(crate) fn given(&self, name: &str) -> Option<&'a Node> {
        debug_assert!(
            find(self.keys, name).is_some(),
            "{name} is missing from its table"
        );
        self.members
            .iter()
            .find(|member| member.key == name)
            .map(|member| &member.node)
    }

    /// A value that the file may leave out, in which case there is none.
    pub(crate) fn optional<T>(
        &mut self,
        name: &str,
        convert: impl Fn(&Kind, &Node) -> Option<T>,
    ) -> Option<T> {
        let node = self.given(name)?;
        let kind = find(self.keys, name)?.kind;
        let value = convert(&kind, node);
        if value.is_none() {
            let shown = match name {
                "password" | "dashboard_token" => "the value".to_owned(),
                _ => node.shown(),
            };
            let message = format!("{shown} is not allowed; give {}", kind.allowed());
            self.problem(name, Some(node.line), message);
        }
        value
    }

    fn required<T>(&mut self, name: &str, convert: impl Fn(&Kind, &Node) -> Option<T>) -> T {
        self.optional(name, &convert).unwrap_or_else(|| {
            let key = find(self.keys, name).expect("settings are read by the names in the table");
            let default = parse(key.default).expect("the table holds valid JSON");
            convert(&key.kind, &default).expect("the table holds valid defaults")
        })
    }

    pub(crate) fn flag(&mut self, name: &str) -> bool {
        self.required(name, flag)
    }

    pub(crate) fn text(&mut self, name: &str) -> String {
        self.required(name, text)
    }

    pub(crate) fn path(&mut self, name: &str) -> PathBuf {
        let path: PathBuf = self
            .required(name, |kind, node| {
                text(kind, node).filter(|path| !path.is_empty())
            })
            .into();
        if let Some(message) = beneath_home(&path) {
            self.problem(name, self.given(name).map(|node| node.line), message);
        }
        path
    }

    pub(crate) fn number(&mut self, name: &str) -> f64 {
        self.required(name, number)
    }

    pub(crate) fn whole(&mut self, name: &str) -> u64 {
        self.required(name, whole)
    }

    /// `None`: `"auto"`.
    pub(crate) fn whole_or_auto(&mut self, name: &str) -> Option<u64> {
        self.required(name, whole_or_auto)
    }

    pub(crate) fn seconds(&mut self, name: &str) -> Duration {
        self.required(name, seconds)
    }

    pub(crate) fn milliseconds(&mut self, name: &str) -> Duration {
        self.required(name, milliseconds)
    }

    pub(crate) fn choice(&mut self, name: &str) -> String {
        self.required(name, choice)
    }

    pub(crate) fn bitrate(&mut self, name: &str) -> u64 {
        self.required(name, bitrate)
    }

    /// As [`Self::optional`], where `null` also means none.
    pub(crate) fn nullable<T>(
        &mut self,
        name: &str,
        convert: impl Fn(&Kind, &Node) -> Option<T>,
    ) -> Option<T> {
        if self.given(name)?.value == Value::Null {
            return None;
        }
        self.optional(name, convert)
    }
}

/// Where a key belongs that the object under `prefix`, with these keys, does not have.
fn belongs(name: &str, keys: &'static [Key], prefix: &str) -> Option<String> {
    let top = match prefix {
        _ if prefix.starts_with("sources[") => RECORDER,
        _ if prefix.starts_with("notifications[") => SYSTEM,
        _ => keys,
    };
    if find(top, name).is_some() {
        return Some("at the top of the file".to_owned());
    }
    for (list, entry) in [("sources", SOURCE), ("notifications", HOOK)] {
        if find(top, list).is_some() && find(entry, name).is_some() {
            return Some(format!("into an entry of `{list}`"));
        }
    }
    if find(top, "plugin").is_some() && PLUGIN.contains(&name) {
        return Some("under `plugin`".to_owned());
    }
    let files = [
        (RECORDER, RECORDER_FILE),
        (BLUR, BLUR_FILE),
        (SYSTEM, SYSTEM_FILE),
    ];
    let files: Vec<&str> = files
        .into_iter()
        .filter(|(keys, _)| find(keys, name).is_some())
        .map(|(_, file)| file)
        .collect();
    (!files.is_empty()).then(|| format!("into {}", files.join(" and ")))
}

/// What is said of a path that begins with `~`, which a shell would have replaced.
pub(crate) fn beneath_home(path: &Path) -> Option<String> {
    let within = path.strip_prefix("~").ok()?;
    Some(format!(
        "{path:?} would be a folder with the name ~; write the whole path, or {:?}",
        Path::new("${HOME}").join(within)
    ))
}

pub(crate) fn flag(_: &Kind, node: &Node) -> Option<bool> {
    match node.value {
        Value::Flag(flag) => Some(flag),
        _ => None,
    }
}

pub(crate) fn text(_: &Kind, node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

pub(crate) fn number(kind: &Kind, node: &Node) -> Option<f64> {
    let Value::Number(number) = &node.value else {
        return None;
    };
    let value = number.as_f64()?;
    match *kind {
        Kind::Number { min, max, .. } => (min..=max).contains(&value).then_some(value),
        _ => Some(value),
    }
}

pub(crate) fn whole(kind: &Kind, node: &Node) -> Option<u64> {
    let Value::Number(number) = &node.value else {
        return None;
    };
    // 4.0 is written by programs that know floats only.
    let float = number
        .as_f64()
        .filter(|f| f.fract() == 0.0 && (0.0..1e15).contains(f));
    let value = number.as_u64().or(float.map(|f| f as u64))?;
    match *kind {
        Kind::Whole { min, max, .. } | Kind::WholeOrAuto { min, max, .. } => {
            (min..=max).contains(&value).then_some(value)
        }
        _ => Some(value),
    }
}

fn whole_or_auto(kind: &Kind, node: &Node) -> Option<Option<u64>> {
    match text(kind, node) {
        Some(word) => (word == "auto").then_some(None),
        None => whole(kind, node).map(Some),
    }
}

pub(crate) fn seconds(kind: &Kind, node: &Node) -> Option<Duration> {
    Duration::try_from_secs_f64(number(kind, node)?).ok()
}

pub(crate) fn milliseconds(kind: &Kind, node: &Node) -> Option<Duration> {
    Duration::try_from_secs_f64(number(kind, node)? / 1_000.0).ok()
}

pub(crate) fn choice(kind: &Kind, node: &Node) -> Option<String> {
    let word = text(kind, node)?;
    match kind {
        Kind::Choice(words) => words.contains(&word.as_str()).then_some(word),
        _ => Some(word),
    }
}

pub(crate) fn bitrate(_: &Kind, node: &Node) -> Option<u64> {
    match &node.value {
        Value::Text(text) => size::bitrate(text),
        Value::Number(number) => size::bitrate(&number.to_string()),
        _ => None,
    }
}
