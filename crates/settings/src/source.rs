//! The sources of the recorder, each with its own overrides resolved.

use crate::json::{Member, Node, Value};
use crate::keys::{SOURCE, nearest};
use crate::naming::{SourceName, derived};
use crate::problem::Problem;
use crate::read::{self, Reader};
use crate::schedule::Schedule;
use crate::url::{SourceKind, SourceUrl};
use std::time::Duration;

/// How RTP comes from an `rtsp://` camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Interleaved in the RTSP connection.
    Tcp,
    /// In datagrams of its own.
    Udp,
}

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoCodec {
    /// What the camera sends, untouched.
    Copy,
    /// Re-encoded with the FFmpeg encoder of that name.
    Encoder(String),
}

/// One source with everything that holds for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Its name: that of its directory and files.
    pub name: SourceName,
    /// Where the video comes from.
    pub url: SourceUrl,
    /// Place in the list of sources, from 0; `recorder_id` of its tickets.
    pub index: usize,
    /// How RTP comes from it.
    pub transport: Transport,
    /// Whether sound is recorded.
    pub record_audio: bool,
    /// Copied or re-encoded.
    pub video_codec: VideoCodec,
    /// Frames per second when re-encoding or when the stream declares none.
    pub input_fps: f64,
    /// Bits per second when re-encoding.
    pub bitrate: u64,
    /// Length of a segment.
    pub segment_duration: Duration,
    /// When to record; none: always.
    pub schedule: Option<Schedule>,
    /// The source ends after this time: the smaller of its own limit and the limit for all.
    pub duration_limit: Option<Duration>,
    /// The source ends after this many segments.
    pub max_segments: Option<u64>,
    /// Time for the camera to accept a connection and to answer.
    pub connection_timeout: Duration,
    /// Silence after which the connection counts as lost.
    pub read_timeout: Duration,
}

impl Source {
    /// How the source is reached.
    pub fn kind(&self) -> SourceKind {
        self.url.kind()
    }

    /// What is allowed but hardly meant, in words for the user.
    pub fn doubt(&self) -> Option<&'static str> {
        let password = &self.url.credentials()?.password;
        let first = password.strip_prefix('$')?.chars().next()?;
        (first.is_ascii_alphabetic() || first == '_')
            .then_some("the password begins with `$`; if a variable is meant, write ${NAME}")
    }
}

/// What holds for a source that says nothing else.
pub(crate) struct Defaults {
    pub(crate) transport: Transport,
    pub(crate) record_audio: bool,
    pub(crate) video_codec: VideoCodec,
    pub(crate) input_fps: f64,
    pub(crate) bitrate: u64,
    pub(crate) segment_duration: Duration,
    pub(crate) schedule: Option<Schedule>,
    pub(crate) duration_limit: Option<Duration>,
    pub(crate) max_segments: Option<u64>,
    pub(crate) connection_timeout: Duration,
    pub(crate) read_timeout: Duration,
}

/// A source before it has a name of its own.
struct Unnamed {
    line: u32,
    /// The address as written, by which `source_duration_limits` may name it.
    written: String,
    name: Option<SourceName>,
    source: Source,
}

/// Reads the list under `sources` and the limits under `source_duration_limits`.
pub(crate) fn read_all(top: &mut Reader<'_>, defaults: &Defaults) -> Vec<Source> {
    let Some(node) = top.given("sources") else {
        top.problem(
            "sources",
            None,
            "missing; give a list with the URL of at least one camera".to_owned(),
        );
        return Vec::new();
    };
    let Value::List(list) = &node.value else {
        top.problem(
            "sources",
            Some(node.line),
            "not a list; put the URLs in [ ]".to_owned(),
        );
        return Vec::new();
    };
    if list.is_empty() {
        top.problem(
            "sources",
            Some(node.line),
            "the list is empty; give the URL of at least one camera".to_owned(),
        );
    }
    let problems = top.problems();
    let unnamed: Vec<Unnamed> = list
        .iter()
        .enumerate()
        .filter_map(|(index, node)| read_one(node, index, defaults, problems))
        .collect();
    let mut sources = named(unnamed, problems);
    apply_limits(top, &mut sources);
    sources.into_iter().map(|unnamed| unnamed.source).collect()
}

fn read_one(
    node: &Node,
    index: usize,
    defaults: &Defaults,
    problems: &mut Vec<Problem>,
) -> Option<Unnamed> {
    let prefix = format!("sources[{index}]");
    let members: &[Member] = match &node.value {
        Value::Object(members) => members,
        Value::Text(_) => &[],
        _ => {
            let message = format!(
                "{} is no source; give a URL in double quotes or an object with `url`",
                node.shown()
            );
            problems.push(Problem {
                line: Some(node.line),
                key: prefix,
                message,
            });
            return None;
        }
    };
    let mut reader = Reader::new(SOURCE, members, prefix, problems);
    let written = match &node.value {
        Value::Text(url) => Some(url.clone()),
        _ => reader.optional("url", read::text),
    };
    if written.is_none() && reader.given("url").is_none() {
        reader.problem(
            "url",
            Some(node.line),
            "missing; every source needs one".to_owned(),
        );
    }
    let name = name_of(&mut reader);
    let url = url_of(&mut reader, written.as_deref(), node.line);
    let source = Source {
        index,
        ..with_overrides(&mut reader, defaults, url?)
    };
    Some(Unnamed {
        line: node.line,
        written: written?,
        name,
        source,
    })
}

fn name_of(reader: &mut Reader<'_>) -> Option<SourceName> {
    let line = reader.given("name")?.line;
    match SourceName::checked(&reader.optional("name", read::text)?) {
        Ok(name) => Some(name),
        Err(message) => {
            reader.problem("name", Some(line), message);
            None
        }
    }
}

fn url_of(reader: &mut Reader<'_>, written: Option<&str>, line: u32) -> Option<SourceUrl> {
    let username = reader.optional("username", read::text);
    let password = reader.optional("password", read::text);
    let url = match SourceUrl::parse(written?) {
        Ok(url) => url,
        Err(message) => {
            reader.problem("url", Some(line), message);
            return None;
        }
    };
    if username.is_none() && password.is_none() {
        return Some(url);
    }
    // What the keys do not say stands in the address.
    let (named, known) = match url.credentials() {
        Some(login) => (Some(login.username.clone()), Some(login.password.clone())),
        None => (None, None),
    };
    let Some(username) = username.or(named) else {
        reader.problem(
            "username",
            Some(line),
            "missing, since there is a password".to_owned(),
        );
        return None;
    };
    let password = password.or(known).unwrap_or_default();
    Some(url.with_credentials(username, password))
}

fn with_overrides(reader: &mut Reader<'_>, defaults: &Defaults, url: SourceUrl) -> Source {
    let transport = reader
        .optional("transport", read::choice)
        .map(|word| transport(&word));
    let limit = reader.nullable("duration_limit", read::seconds);
    Source {
        name: derived(&[&url]).remove(0),
        url,
        index: 0,
        transport: transport.unwrap_or(defaults.transport),
        record_audio: reader
            .optional("record_audio", read::flag)
            .unwrap_or(defaults.record_audio),
        video_codec: video_codec(reader).unwrap_or_else(|| defaults.video_codec.clone()),
        input_fps: reader
            .optional("input_fps", read::number)
            .unwrap_or(defaults.input_fps),
        bitrate: reader
            .optional("bitrate", read::bitrate)
            .unwrap_or(defaults.bitrate),
        segment_duration: reader
            .optional("segment_duration", read::seconds)
            .unwrap_or(defaults.segment_duration),
        schedule: match reader.given("recording_schedule") {
            Some(_) => schedule(reader),
            None => defaults.schedule.clone(),
        },
        duration_limit: smaller(limit, defaults.duration_limit),
        max_segments: reader
            .nullable("max_segments", read::whole)
            .or(defaults.max_segments),
        connection_timeout: reader
            .optional("connection_timeout", read::milliseconds)
            .unwrap_or(defaults.connection_timeout),
        read_timeout: reader
            .optional("read_timeout", read::milliseconds)
            .unwrap_or(defaults.read_timeout),
    }
}

/// The transport of a word that the table allows.
pub(crate) fn transport(word: &str) -> Transport {
    if word == "udp" {
        Transport::Udp
    } else {
        Transport::Tcp
    }
}

/// `video_codec` of the object, when it is given and fit to be an encoder's name.
pub(crate) fn video_codec(reader: &mut Reader<'_>) -> Option<VideoCodec> {
    let name = reader.optional("video_codec", |kind, node| {
        read::text(kind, node).filter(|name| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        })
    })?;
    Some(if name == "copy" {
        VideoCodec::Copy
    } else {
        VideoCodec::Encoder(name)
    })
}

/// `recording_schedule` of the object.
pub(crate) fn schedule(reader: &mut Reader<'_>) -> Option<Schedule> {
    let node = reader
        .given("recording_schedule")
        .filter(|node| node.value != Value::Null)?;
    match Schedule::read(node) {
        Ok(schedule) => Some(schedule),
        Err((line, key, message)) => {
            let name = if key.is_empty() {
                "recording_schedule".to_owned()
            } else {
                format!("recording_schedule.{key}")
            };
            reader.problem(&name, Some(line), message);
            None
        }
    }
}

fn smaller(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Gives every source its name and refuses two of the same.
fn named(mut unnamed: Vec<Unnamed>, problems: &mut Vec<Problem>) -> Vec<Unnamed> {
    let nameless: Vec<usize> = (0..unnamed.len())
        .filter(|i| unnamed[*i].name.is_none())
        .collect();
    let urls: Vec<&SourceUrl> = nameless.iter().map(|i| &unnamed[*i].source.url).collect();
    for (i, name) in nameless.iter().zip(derived(&urls)) {
        unnamed[*i].name = Some(name);
    }
    for i in 0..unnamed.len() {
        let Some(name) = unnamed[i].name.clone() else {
            continue;
        };
        if let Some(at) = (0..i).find(|other| unnamed[*other].source.name == name) {
            let [first, second] = [at, i].map(|at| &unnamed[at].source);
            let nobody_named_them = nameless.contains(&at) && nameless.contains(&i);
            let address = |source: &Source| source.url.expose_without_userinfo();
            let message = if nobody_named_them && address(first) == address(second) {
                format!(
                    "is the same address as sources[{}]; remove one",
                    first.index
                )
            } else {
                format!(
                    "has the name {:?} like sources[{}]; give one of them another `name`",
                    name.as_str(),
                    first.index
                )
            };
            problems.push(Problem {
                line: Some(unnamed[i].line),
                key: format!("sources[{}]", second.index),
                message,
            });
        }
        unnamed[i].source.name = name;
    }
    unnamed
}

fn apply_limits(top: &mut Reader<'_>, sources: &mut [Unnamed]) {
    let given = top.given("source_duration_limits");
    let Some(node) = given.filter(|node| node.value != Value::Null) else {
        return;
    };
    let Value::Object(members) = &node.value else {
        let message = format!(
            "{} is not allowed; give an object {{\"source\": seconds}}",
            node.shown()
        );
        return top.problem("source_duration_limits", Some(node.line), message);
    };
    for member in members {
        let seconds = member
            .node
            .to_json()
            .as_f64()
            .filter(|s| (0.1..=1e9).contains(s));
        let limit = seconds.map(Duration::from_secs_f64);
        let matching: Vec<&mut Unnamed> = sources
            .iter_mut()
            .filter(|source| source.answers_to(&member.key))
            .collect();
        let shown = format!(
            "source_duration_limits.{}",
            secrets::hide_secrets(&member.key)
        );
        if limit.is_none() {
            let message = format!(
                "{} is not allowed; give a number of seconds from 0.1",
                member.node.shown()
            );
            top.problem(&shown, Some(member.line), message);
        } else if matching.is_empty() {
            let message = match nearest(&member.key, sources.iter().map(|s| s.source.name.as_str()))
            {
                Some(name) => format!("there is no such source; did you mean {name:?}?"),
                None => "there is no such source; give its name or its URL as under `sources`"
                    .to_owned(),
            };
            top.problem(&shown, Some(member.line), message);
        } else {
            for unnamed in matching {
                unnamed.source.duration_limit = smaller(limit, unnamed.source.duration_limit);
            }
        }
    }
}

impl Unnamed {
    fn answers_to(&self, text: &str) -> bool {
        text == self.source.name.as_str()
            || text == self.written
            || text == self.source.url.without_credentials()
    }
}
