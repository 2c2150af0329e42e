//! Hooks: where run-system sends notifications.
//!
//! An address, a header or an argument may be a secret as a whole, so none of them is ever part of a message or of
//! what `Debug` prints; a hook is told by its name.

use crate::json::{Member, Node, Value};
use crate::keys::{HOOK, Key, find};
use crate::naming::SourceName;
use crate::problem::Problem;
use crate::read::{self, Reader};
use crate::url::{SourceKind, SourceUrl};
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// Headers that the request has anyway, or that would change where its body ends.
const OWN_HEADERS: [&str; 4] = ["host", "content-length", "transfer-encoding", "connection"];

/// What a person may want to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HookEvent {
    /// A camera sends nothing although it should be recorded.
    CameraDown,
    /// It sends again.
    CameraUp,
    /// A blurred video is published.
    SegmentPublished,
    /// A ticket was given up; its original is held back.
    TicketFailed,
    /// The queue is longer than `max_queue_size`.
    BacklogAlarm,
    /// It is short again.
    BacklogOver,
    /// The disk is full, or will soon be.
    DiskAlarm,
    /// There is room again.
    DiskOver,
    /// A daemon dies again and again, refuses its settings, or hangs.
    DaemonDegraded,
    /// It works again.
    DaemonRecovered,
}

impl HookEvent {
    /// All of them, with their names.
    pub const NAMES: [(Self, &'static str); 10] = [
        (Self::CameraDown, "camera_down"),
        (Self::CameraUp, "camera_up"),
        (Self::SegmentPublished, "segment_published"),
        (Self::TicketFailed, "ticket_failed"),
        (Self::BacklogAlarm, "backlog_alarm"),
        (Self::BacklogOver, "backlog_over"),
        (Self::DiskAlarm, "disk_alarm"),
        (Self::DiskOver, "disk_over"),
        (Self::DaemonDegraded, "daemon_degraded"),
        (Self::DaemonRecovered, "daemon_recovered"),
    ];

    /// As it is written in settings and messages.
    pub fn name(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(event, _)| *event == self);
        named.map_or("", |(_, name)| name)
    }

    /// The event of that name.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(_, known)| *known == name);
        found.map(|(event, _)| *event)
    }
}

/// The address of a webhook. `Debug` and `Display` show the host only.
#[derive(Clone, PartialEq, Eq)]
pub struct HookUrl(SourceUrl);

impl HookUrl {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let url = SourceUrl::parse(text)
            .map_err(|_| "the address cannot be read; give one that begins with https://")?;
        if url.kind() != SourceKind::Http {
            return Err("the address must begin with https:// or http://");
        }
        if url.credentials().is_some() {
            return Err(
                "user name and password do not belong here; give them under `headers` as \"Authorization\"",
            );
        }
        if !url.path_and_query().bytes().all(|b| b.is_ascii_graphic()) {
            return Err(
                "blanks and other than ASCII characters in the address must be percent-encoded",
            );
        }
        Ok(Self(url))
    }

    /// Whether it is `https://`.
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Host (without the brackets of IPv6) and port.
    pub fn endpoint(&self) -> (&str, u16) {
        self.0.endpoint().unwrap_or_default()
    }

    /// Host and port as the `Host` header has them.
    pub fn authority(&self) -> String {
        self.0.authority()
    }

    /// The path with its query; secret. Only for the code that sends.
    pub fn expose_path(&self) -> String {
        match self.0.path_and_query() {
            rest if rest.starts_with('/') => rest.to_owned(),
            rest => format!("/{rest}"),
        }
    }
}

impl fmt::Display for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/***", self.0.scheme(), self.authority())
    }
}

impl fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookUrl({self})")
    }
}

/// How a notification is handed over.
#[derive(Clone, PartialEq)]
pub enum HookTarget {
    /// As the body of a POST request.
    Web {
        /// Where to.
        url: HookUrl,
        /// Further headers; their values are secret.
        headers: Vec<(String, String)>,
        /// What is sent instead of the whole notification.
        body: Option<serde_json::Value>,
    },
    /// On the standard input of a program.
    Command {
        /// The program, looked for in PATH when it has no slash.
        program: String,
        /// Its arguments, which may be secret.
        arguments: Vec<String>,
    },
}

/// Without anything secret.
impl fmt::Display for HookTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web { url, .. } => url.fmt(f),
            Self::Command { program, .. } => f.write_str(program),
        }
    }
}

impl fmt::Debug for HookTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HookTarget({self})")
    }
}

/// One place where notifications go.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// How it is called in logs and in the status; a directory of that name holds what waits for it.
    pub name: String,
    /// How a notification is handed over.
    pub target: HookTarget,
    /// What is told.
    pub events: BTreeSet<HookEvent>,
    /// Longest time for one attempt.
    pub timeout: Duration,
    /// Attempts after the first.
    pub retries: u32,
    /// At most one notification in this time about the same camera, daemon, disk or queue.
    pub min_interval: Duration,
}

/// Reads the list under `notifications`.
pub(crate) fn read_all(top: &mut Reader<'_>) -> Vec<Hook> {
    let Some(node) = top.given("notifications") else {
        return Vec::new();
    };
    let Value::List(list) = &node.value else {
        let message = "not a list; put the hooks in [ ]".to_owned();
        top.problem("notifications", Some(node.line), message);
        return Vec::new();
    };
    let mut hooks: Vec<Hook> = Vec::new();
    for (index, node) in list.iter().enumerate() {
        let key = format!("notifications[{index}]");
        let Value::Object(members) = &node.value else {
            let message = "no hook; give an object with `name` and `url` or `command`".to_owned();
            top.problem(&key, Some(node.line), message);
            continue;
        };
        let hook = read_one(members, node.line, key.clone(), top.problems());
        match hook {
            Some(hook) if hooks.iter().any(|other| other.name == hook.name) => {
                let message = format!("there are two hooks {:?}; rename one", hook.name);
                top.problem(&key, Some(node.line), message);
            }
            hook => hooks.extend(hook),
        }
    }
    hooks
}

fn read_one(
    members: &[Member],
    line: u32,
    prefix: String,
    problems: &mut Vec<Problem>,
) -> Option<Hook> {
    let mut reader = Reader::new(HOOK, members, prefix, problems);
    let name = name_of(&mut reader, line);
    let target = target_of(&mut reader, line);
    let events = events_of(&mut reader);
    let timeout = reader.seconds("timeout");
    let retries = u32::try_from(reader.whole("retries")).unwrap_or(u32::MAX);
    let min_interval = reader.seconds("min_interval");
    Some(Hook {
        name: name?,
        target: target?,
        events,
        timeout,
        retries,
        min_interval,
    })
}

fn name_of(reader: &mut Reader<'_>, line: u32) -> Option<String> {
    if reader.given("name").is_none() {
        let message = "missing; every hook needs one, for the log and the status".to_owned();
        reader.problem("name", Some(line), message);
        return None;
    }
    match SourceName::checked(&reader.optional("name", read::text)?) {
        Ok(name) => Some(name.as_str().to_owned()),
        Err(message) => {
            reader.problem("name", Some(line), message);
            None
        }
    }
}

fn target_of(reader: &mut Reader<'_>, line: u32) -> Option<HookTarget> {
    let web = web(reader);
    let command = command(reader);
    match (reader.given("url"), reader.given("command")) {
        (Some(_), Some(_)) => {
            let message = "a hook has either `url` or `command`, not both".to_owned();
            reader.problem("command", Some(line), message);
            None
        }
        (None, None) => {
            let message = "missing; give the address of a webhook, or `command`".to_owned();
            reader.problem("url", Some(line), message);
            None
        }
        (Some(_), None) => web,
        (None, Some(node)) => {
            for name in ["headers", "body"] {
                if reader.given(name).is_some() {
                    let message = "only a webhook has one".to_owned();
                    reader.problem(name, Some(node.line), message);
                }
            }
            command
        }
    }
}

fn web(reader: &mut Reader<'_>) -> Option<HookTarget> {
    let headers = headers_of(reader);
    let body = body_of(reader);
    let line = reader.given("url")?.line;
    match HookUrl::parse(&reader.optional("url", read::text)?) {
        Ok(url) => Some(HookTarget::Web { url, headers, body }),
        Err(message) => {
            reader.problem("url", Some(line), message.to_owned());
            None
        }
    }
}

fn headers_of(reader: &mut Reader<'_>) -> Vec<(String, String)> {
    let Some(node) = reader.given("headers") else {
        return Vec::new();
    };
    let header = |member: &Member| {
        let Value::Text(value) = &member.node.value else {
            return None;
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let fits = !member.key.is_empty()
            && member.key.bytes().all(is_name)
            && !OWN_HEADERS.contains(&member.key.to_ascii_lowercase().as_str())
            && value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        fits.then(|| (member.key.clone(), value.clone()))
    };
    let headers = match &node.value {
        Value::Object(members) => members.iter().map(header).collect(),
        _ => None,
    };
    headers.unwrap_or_else(|| {
        let message = format!(
            "not allowed; give {}, all in ASCII and none of {}",
            allowed("headers"),
            OWN_HEADERS.join(", ")
        );
        reader.problem("headers", Some(node.line), message);
        Vec::new()
    })
}

fn body_of(reader: &mut Reader<'_>) -> Option<serde_json::Value> {
    let node = reader.given("body")?;
    match &node.value {
        Value::Null => None,
        Value::Object(_) => Some(node.to_json()),
        _ => {
            let message = format!("not allowed; give {}", allowed("body"));
            reader.problem("body", Some(node.line), message);
            None
        }
    }
}

fn command(reader: &mut Reader<'_>) -> Option<HookTarget> {
    let node = reader.given("command")?;
    let words = match &node.value {
        Value::List(list) => list.iter().map(word).collect(),
        _ => None,
    };
    let words: Vec<String> = words.unwrap_or_default();
    if let Some(message) = words
        .first()
        .and_then(|program| read::beneath_home(Path::new(program)))
    {
        reader.problem("command", Some(node.line), message);
        return None;
    }
    match words.split_first() {
        Some((program, arguments)) if !program.is_empty() => Some(HookTarget::Command {
            program: program.clone(),
            arguments: arguments.to_vec(),
        }),
        _ => {
            let message = format!("not allowed; give {}", allowed("command"));
            reader.problem("command", Some(node.line), message);
            None
        }
    }
}

fn word(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) if !text.contains('\0') => Some(text.clone()),
        _ => None,
    }
}

/// All but `segment_published` when nothing is said.
fn events_of(reader: &mut Reader<'_>) -> BTreeSet<HookEvent> {
    let all = HookEvent::NAMES.into_iter().map(|(event, _)| event);
    let usual = all.filter(|event| *event != HookEvent::SegmentPublished);
    let Some(node) = reader.given("events") else {
        return usual.collect();
    };
    let event = |node: &Node| match &node.value {
        Value::Text(name) => HookEvent::named(name),
        _ => None,
    };
    let events: Option<BTreeSet<HookEvent>> = match &node.value {
        Value::List(list) => list.iter().map(event).collect(),
        _ => None,
    };
    match events {
        Some(events) if !events.is_empty() => events,
        _ => {
            let names = HookEvent::NAMES.map(|(_, name)| name).join(", ");
            let message = format!("not allowed; give a list with some of {names}");
            reader.problem("events", Some(node.line), message);
            BTreeSet::new()
        }
    }
}

fn allowed(name: &str) -> String {
    let key: Option<&Key> = find(HOOK, name);
    key.map(|key| key.kind.allowed()).unwrap_or_default()
}
