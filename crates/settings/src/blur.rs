//! The settings of `blur-processor`.

use crate::environment::Environment;
use crate::json::Value;
use crate::module::BlurModule;
use crate::problem::Problems;
use crate::read::{self, Reader};
use crate::recorder::{disk, monitoring, places};
use crate::zones::{self, Zones};
use crate::{DiskBudget, Monitoring, Places, keys};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// How heads are hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskStyle {
    /// Coarse cells, smoothed for looks.
    Blur,
    /// Coarse cells as they are.
    Mosaic,
    /// One colour; the strictest.
    Solid,
}

/// What workers are locked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxLevel {
    /// As much as plugin and encoder bear.
    Auto,
    /// Reading and starting is allowed, writing and the network are not.
    Relaxed,
    /// Nothing.
    Off,
}

/// What is drawn into the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlay {
    /// The text before time and frame number.
    pub text: String,
}

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// Checked settings of the blur processor.
#[derive(Debug, Clone, PartialEq)]
pub struct BlurSettings {
    /// The ticket queue.
    pub queue_dir: PathBuf,
    /// Where originals must lie.
    pub raw_dir: PathBuf,
    /// Blurred videos, one directory per source.
    pub output_dir: PathBuf,
    /// What finds the heads, or blurs by itself.
    pub blur_module: BlurModule,
    /// JSON object handed to the plugin.
    pub plugin: serde_json::Value,
    /// Where its members stand, by their names, such as `line 5 of blur.json`.
    pub plugin_places: BTreeMap<String, String>,
    /// Worker processes.
    pub max_concurrent_processes: usize,
    /// Longest time before a new ticket is seen.
    pub polling_interval: Duration,
    /// Longest time for one video.
    pub process_timeout: Duration,
    /// Longest time without progress on one video.
    pub stall_timeout: Duration,
    /// Attempts before a video is given up.
    pub max_attempts: u32,
    /// Memory of one worker in bytes; none: no limit.
    pub worker_memory_limit: Option<u64>,
    /// How heads are hidden.
    pub mask: MaskStyle,
    /// 1..=100, 15 is the usual strength.
    pub blur_strength: u32,
    /// Smallest size of the blur in pixels.
    pub blur_kernel_size: u32,
    /// Heads are looked for on every n-th frame; none: four times a second.
    pub detect_every: Option<u32>,
    /// `head-blur` hides whole persons instead of heads.
    pub whole_persons: bool,
    /// Cameras the plugin is told to expect; 0: as many as the tickets turn out to name.
    pub num_cameras: u32,
    /// Whether the detector looks at the output before it is published.
    pub second_look: bool,
    /// What workers are locked into.
    pub sandbox: SandboxLevel,
    /// Folders that a plugin may write to all the same.
    pub sandbox_writable: Vec<PathBuf>,
    /// Static zones by name of the source.
    pub zones: Zones,
    /// The size of the output; none: that of the input.
    pub resize: Option<Size>,
    /// What is drawn into the picture; none: nothing.
    pub overlay: Option<Overlay>,
    /// FFmpeg encoder of the output.
    pub video_codec: String,
    /// Its preset.
    pub encoder_preset: String,
    /// Bits per second; none: constant quality.
    pub bitrate: Option<u64>,
    /// Whether sound is kept.
    pub keep_audio: bool,
    /// Whether originals are deleted after publishing.
    pub delete_original: bool,
    /// Where originals are moved to instead of being deleted; none: they are not.
    pub backup_dir: Option<PathBuf>,
    /// The backup directory even when no backups are made now: it counts towards the disk budget.
    pub configured_backup_dir: PathBuf,
    /// A longer queue is warned about.
    pub max_queue_size: usize,
    /// Reports in the log.
    pub monitoring: Monitoring,
    /// The disk budget.
    pub disk: DiskBudget,
    /// Logs and status files.
    pub places: Places,
}

/// Two directories, with their keys, that must not share a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptApart<'a> {
    /// In each pair the one that would do harm comes first.
    pub dirs: [(&'static str, &'a Path); 2],
    /// For people.
    pub why: &'static str,
}

impl BlurSettings {
    /// Reads and checks a file, with the environment of this process.
    ///
    /// # Errors
    /// Everything that is wrong with it, or that it cannot be read.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        Self::load_in(path, &Environment::of_process())
    }

    /// Reads and checks a file, with the environment given.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_in(path: &Path, env: &Environment<'_>) -> Result<Self, Problems> {
        let mut settings = crate::read_file(path)
            .and_then(|text| Self::from_text(&text, env))
            .map_err(|problems| problems.in_file(path))?;
        for place in settings.plugin_places.values_mut() {
            place.push_str(&format!(" of {}", path.display()));
        }
        Ok(settings)
    }

    /// Reads and checks a text.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_text(text: &str, env: &Environment<'_>) -> Result<Self, Problems> {
        crate::read_object(text, env, keys::BLUR, |reader| Self::read(reader, env))
    }

    fn read(mut reader: Reader<'_>, env: &Environment<'_>) -> Self {
        let reader = &mut reader;
        let backup_dir = reader.path("backup_dir");
        let memory = reader.whole("worker_memory_limit_mb");
        let settings = Self {
            queue_dir: reader.path("queue_dir"),
            raw_dir: reader.path("raw_dir"),
            output_dir: reader.path("output_dir"),
            blur_module: blur_module(reader, env),
            plugin: reader
                .optional("plugin", object)
                .unwrap_or_else(|| serde_json::json!({})),
            plugin_places: plugin_places(reader),
            max_concurrent_processes: small(reader, "max_concurrent_processes") as usize,
            polling_interval: reader.seconds("polling_interval"),
            process_timeout: reader.seconds("process_timeout"),
            stall_timeout: reader.seconds("stall_timeout"),
            max_attempts: small(reader, "max_attempts"),
            worker_memory_limit: (memory > 0).then_some(memory << 20),
            mask: mask(reader),
            blur_strength: small(reader, "blur_strength"),
            blur_kernel_size: small(reader, "blur_kernel_size"),
            detect_every: reader.whole_or_auto("detect_every").map(narrowed),
            whole_persons: reader.choice("target") == "person",
            num_cameras: small(reader, "num_cameras"),
            second_look: reader.flag("second_look"),
            sandbox: sandbox(reader),
            sandbox_writable: sandbox_writable(reader),
            zones: zones::read(reader),
            resize: resize(reader),
            overlay: overlay(reader),
            video_codec: video_codec(reader),
            encoder_preset: reader.text("encoder_preset"),
            bitrate: reader.nullable("bitrate", read::bitrate),
            keep_audio: reader.flag("keep_audio"),
            delete_original: reader.flag("delete_original"),
            backup_dir: reader.flag("backup_original").then(|| backup_dir.clone()),
            configured_backup_dir: backup_dir,
            max_queue_size: small(reader, "max_queue_size") as usize,
            monitoring: monitoring(reader),
            disk: disk(reader),
            places: places(reader),
        };
        settings.keep_apart(reader);
        if matches!(settings.blur_module, BlurModule::Python(_)) {
            mistyped_bridge_keys(reader);
        }
        plugin_paths(reader, &settings.blur_module);
        settings
    }

    /// Refuses directories that share a place and must not.
    fn keep_apart(&self, reader: &mut Reader<'_>) {
        for KeptApart { dirs, why } in self.kept_apart() {
            let [(name, dir), (other, other_dir)] = dirs;
            if !overlap(dir, other_dir) {
                continue;
            }
            let message = format!(
                "{dir:?} and {other} {other_dir:?} are the same or lie within each other, and {why}; give each a \
                 directory beside the other"
            );
            let given = reader.given(name).or(reader.given(other));
            reader.problem(name, given.map(|node| node.line), message);
        }
    }

    /// Where links make directories share a place that must not, which the settings, as they are written, do not show. `real`
    /// gives a path without links.
    pub fn overlaps_by_links(&self, real: &dyn Fn(&Path) -> PathBuf) -> Vec<String> {
        let mut wrong = Vec::new();
        for KeptApart { dirs, why } in self.kept_apart() {
            let [(name, dir), (other, other_dir)] = dirs;
            let (dir, other_dir) = (real(dir), real(other_dir));
            if share(&dir, &other_dir) {
                wrong.push(format!(
                    "{name} is {}, and {other} is {}, which are the same or lie within each other, and {why}; give each a \
                     directory beside the other",
                    dir.display(),
                    other_dir.display()
                ));
            }
        }
        wrong
    }

    /// Directories that must not share a place: those of finished videos, where files are deleted to make room, lie apart
    /// from those of what waits, and originals apart from what is published. Links are for the caller to look at.
    pub fn kept_apart(&self) -> Vec<KeptApart<'_>> {
        let output = ("output_dir", self.output_dir.as_path());
        let backup = self.backup_dir.as_deref().map(|dir| ("backup_dir", dir));
        let waiting = [
            ("raw_dir", self.raw_dir.as_path()),
            ("queue_dir", &self.queue_dir),
        ];
        let apart = |dirs, why| KeptApart { dirs, why };
        let mut all: Vec<_> = waiting
            .map(|dir| {
                apart(
                    [output, dir],
                    "old files in output_dir are deleted to make room",
                )
            })
            .into();
        if let Some(backup) = backup {
            let why = "old files in backup_dir are deleted to make room";
            all.extend(waiting.map(|dir| apart([backup, dir], why)));
            let why = "unblurred originals do not belong among blurred videos";
            all.push(apart([backup, output], why));
        }
        all
    }
}

/// Whether one of them is or holds the other.
fn share(a: &Path, b: &Path) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

/// [`share`], as they are written; what links make of them is not looked at.
fn overlap(a: &Path, b: &Path) -> bool {
    share(&normal(a), &normal(b))
}

/// Absolute and without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut normal = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// A whole number that its table keeps within 32 bits.
fn small(reader: &mut Reader<'_>, name: &str) -> u32 {
    narrowed(reader.whole(name))
}

fn narrowed(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn blur_module(reader: &mut Reader<'_>, env: &Environment<'_>) -> BlurModule {
    let Some(node) = reader.given("blur_module_path") else {
        return BlurModule::WholeFrame;
    };
    let Some(text) = reader.nullable("blur_module_path", read::text) else {
        return BlurModule::WholeFrame;
    };
    if let Some(message) = read::beneath_home(Path::new(&text)) {
        reader.problem("blur_module_path", Some(node.line), message);
    }
    match BlurModule::read(&text, env.program_dir.as_deref()) {
        Ok(module) => module,
        Err(message) => {
            reader.problem("blur_module_path", Some(node.line), message);
            BlurModule::WholeFrame
        }
    }
}

fn plugin_places(reader: &Reader<'_>) -> BTreeMap<String, String> {
    let members = match reader.given("plugin").map(|node| &node.value) {
        Some(Value::Object(members)) => members.as_slice(),
        _ => &[],
    };
    let place = |member: &crate::json::Member| format!("line {}", member.line);
    members
        .iter()
        .map(|member| (member.key.clone(), place(member)))
        .collect()
}

/// What the Python bridge takes out of the `plugin` object.
const BRIDGE_KEYS: [&str; 3] = ["python_executable", "frame_timeout", "load_timeout"];

/// Refuses keys that are nearly one of the bridge's. Others may stand there, such as those of the plugin before.
fn mistyped_bridge_keys(reader: &mut Reader<'_>) {
    let Some(Value::Object(members)) = reader.given("plugin").map(|node| &node.value) else {
        return;
    };
    for member in members {
        let name = member.key.as_str();
        let meant = keys::nearest_above(0.85, name, BRIDGE_KEYS.into_iter());
        if let Some(meant) = meant.filter(|meant| *meant != name) {
            let message = format!("there is no such key; did you mean `{meant}`?");
            reader.problem(&format!("plugin.{name}"), Some(member.line), message);
        }
    }
}

/// Refuses `~` in the paths that our own plugins take; what another makes of its settings is its own matter.
fn plugin_paths(reader: &mut Reader<'_>, module: &BlurModule) {
    let name = match module {
        BlurModule::Python(_) => "python_executable",
        BlurModule::Native(path) if path.ends_with("libhead_blur.so") => "model_dir",
        _ => return,
    };
    let Some(Value::Object(members)) = reader.given("plugin").map(|node| &node.value) else {
        return;
    };
    for member in members.iter().filter(|member| member.key == name) {
        if let Value::Text(path) = &member.node.value
            && let Some(message) = read::beneath_home(Path::new(path))
        {
            reader.problem(&format!("plugin.{name}"), Some(member.line), message);
        }
    }
}

fn sandbox_writable(reader: &mut Reader<'_>) -> Vec<PathBuf> {
    let name = "sandbox_writable";
    let paths = reader.optional(name, paths).unwrap_or_default();
    let lines: Vec<u32> = match reader.given(name).map(|node| &node.value) {
        Some(Value::List(items)) => items.iter().map(|item| item.line).collect(),
        _ => Vec::new(),
    };
    for (i, path) in paths.iter().enumerate() {
        if let Some(message) = read::beneath_home(path) {
            reader.problem(&format!("{name}[{i}]"), lines.get(i).copied(), message);
        }
    }
    paths
}

fn object(_: &keys::Kind, node: &crate::json::Node) -> Option<serde_json::Value> {
    matches!(node.value, Value::Object(_)).then(|| node.to_json())
}

fn paths(_: &keys::Kind, node: &crate::json::Node) -> Option<Vec<PathBuf>> {
    let Value::List(items) = &node.value else {
        return None;
    };
    let path = |item: &crate::json::Node| match &item.value {
        Value::Text(path) if !path.is_empty() => Some(PathBuf::from(path)),
        _ => None,
    };
    items.iter().map(path).collect()
}

fn sandbox(reader: &mut Reader<'_>) -> SandboxLevel {
    match reader.choice("sandbox").as_str() {
        "off" => SandboxLevel::Off,
        "relaxed" => SandboxLevel::Relaxed,
        _ => SandboxLevel::Auto,
    }
}

fn mask(reader: &mut Reader<'_>) -> MaskStyle {
    match reader.choice("mask").as_str() {
        "solid" => MaskStyle::Solid,
        "mosaic" => MaskStyle::Mosaic,
        _ => MaskStyle::Blur,
    }
}

fn resize(reader: &mut Reader<'_>) -> Option<Size> {
    let size = Size {
        width: small(reader, "resize_width"),
        height: small(reader, "resize_height"),
    };
    reader.flag("resize_before_blur").then_some(size)
}

fn overlay(reader: &mut Reader<'_>) -> Option<Overlay> {
    let overlay = Overlay {
        text: reader.text("overlay_text"),
    };
    reader.flag("add_overlay").then_some(overlay)
}

fn video_codec(reader: &mut Reader<'_>) -> String {
    let name = reader.text("video_codec");
    if matches!(name.as_str(), "copy" | "") {
        let line = reader.given("video_codec").map(|node| node.line);
        let message = format!(
            "{name:?} is not allowed, since a blurred picture must be encoded; give an encoder such as \"libx264\""
        );
        reader.problem("video_codec", line, message);
    }
    name
}
