//! What was published: the videos that have a report beside them.
//!
//! The report is written durably before its video gets its name, and only the blur processor writes
//! one. So a video without a report is none of ours, whatever it is, and is neither shown nor sent.
//! An original is found by the report of its blurred video only, and only where the caller says that originals are.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use ticket_queue::beneath::{RawDir, RelPath};

/// Reports are some kilobytes; what is larger is none.
const MOST_REPORT_BYTES: u64 = 16 << 20;
const VIDEO: &str = "mp4";

/// A published video.
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) source: String,
    pub(super) file: String,
    /// When the first frame was recorded, or, where that is unknown, when the video was made.
    pub(super) start: Timestamp,
    pub(super) seconds: f64,
    pub(super) bytes: u64,
    pub(super) heads: u64,
    original: Option<Original>,
}

/// What a published video was made from; it may be gone.
#[derive(Debug, Clone)]
struct Original {
    path: RelPath,
    bytes: u64,
}

/// The part of a report that is needed here.
#[derive(Deserialize)]
struct FileReport {
    recorded: Option<Timestamp>,
    finished: Timestamp,
    seconds: f64,
    #[serde(default)]
    heads: u64,
    input: Option<Facts>,
    output: Facts,
}

#[derive(Deserialize)]
struct Facts {
    path: String,
    bytes: u64,
}

/// Reports that were read before: they never change.
#[derive(Default)]
pub(super) struct Index {
    known: HashMap<RelPath, Published>,
}

impl Index {
    /// The videos that may hold something of that day, in no order.
    pub(super) fn of_day(&mut self, dir: &Path, date: Date) -> Vec<Published> {
        let Ok(root) = RawDir::open(dir) else {
            return Vec::new();
        };
        // A segment may begin before midnight, and the zone may have changed.
        let days = [date.yesterday(), Ok(date), date.tomorrow()];
        let days: HashSet<String> = days
            .into_iter()
            .flatten()
            .map(|day| day.strftime("%Y%m%d").to_string())
            .collect();
        let wanted: HashSet<RelPath> = videos(dir)
            .into_iter()
            .filter(|path| is_of(path.as_path(), &days))
            .collect();
        self.known.retain(|path, _| wanted.contains(path));
        for path in wanted {
            if !self.known.contains_key(&path)
                && let Some((video, _)) = read(&root, &path)
            {
                self.known.insert(path, video);
            }
        }
        self.known.values().cloned().collect()
    }
}

/// Opens a published video; none for everything else.
pub(super) fn open(dir: &Path, source: &str, file: &str) -> Option<(File, u64)> {
    let path = path_of(source, file)?;
    let root = RawDir::open(dir).ok()?;
    let (video, opened) = read(&root, &path)?;
    Some((opened, video.bytes))
}

/// Opens the original of a published video, in the first of the directories that still has it.
pub(super) fn open_original(
    dir: &Path,
    originals: &[&Path],
    source: &str,
    file: &str,
) -> Option<(File, u64)> {
    let path = path_of(source, file)?;
    let (video, _) = read(&RawDir::open(dir).ok()?, &path)?;
    video.original(originals)
}

impl Published {
    /// Its original, opened, in the first of the directories that still has it.
    pub(super) fn original(&self, dirs: &[&Path]) -> Option<(File, u64)> {
        let original = self.original.as_ref()?;
        dirs.iter().find_map(|dir| {
            let (file, id) = RawDir::open(dir).ok()?.open_file(&original.path).ok()?;
            (id.size == original.bytes).then_some((file, id.size))
        })
    }
}

/// Exactly a directory and a video in it.
fn path_of(source: &str, file: &str) -> Option<RelPath> {
    let plain = |name: &str| {
        !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
    };
    let is_video = Path::new(file).extension().is_some_and(|end| end == VIDEO);
    if plain(source) && plain(file) && is_video {
        RelPath::new(Path::new(source).join(file))
    } else {
        None
    }
}

fn videos(dir: &Path) -> Vec<RelPath> {
    let entries = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten();
    let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().ok();
    let is_dir = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    entries(dir)
        .filter(is_dir)
        .filter_map(|source| Some((name(&source)?, source.path())))
        .flat_map(|(source, path)| {
            entries(&path)
                .filter_map(|file| path_of(&source, &name(&file)?))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Whether a file's name holds one of those days, or none at all.
fn is_of(path: &Path, days: &HashSet<String>) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let is_day = |part: &&str| part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut named = stem
        .unwrap_or_default()
        .split('_')
        .filter(is_day)
        .peekable();
    named.peek().is_none() || named.any(|day| days.contains(day))
}

fn read(root: &RawDir, video: &RelPath) -> Option<(Published, File)> {
    let (opened, id) = root.open_file(video).ok()?;
    let beside = RelPath::new(video.as_path().with_extension("json"))?;
    let (file, _) = root.open_file(&beside).ok()?;
    let mut bytes = Vec::new();
    file.take(MOST_REPORT_BYTES).read_to_end(&mut bytes).ok()?;
    let report: FileReport = serde_json::from_slice(&bytes).ok()?;
    let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
    let file = name(video.as_path())?;
    let source = name(video.as_path().parent()?)?;
    // Another name or size is another file than the one that was checked.
    let is_it = name(Path::new(&report.output.path))? == file && report.output.bytes == id.size;
    let is_video = |path: &RelPath| path.as_path().extension().is_some_and(|end| end == VIDEO);
    let original = report.input.and_then(|input| {
        let path = RelPath::new(input.path).filter(is_video)?;
        let bytes = input.bytes;
        Some(Original { path, bytes })
    });
    let video = Published {
        original,
        source,
        file,
        start: report.recorded.unwrap_or(report.finished),
        seconds: report.seconds,
        bytes: report.output.bytes,
        heads: report.heads,
    };
    is_it.then_some((video, opened))
}
