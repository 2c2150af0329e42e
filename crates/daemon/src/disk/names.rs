//! Which files in the directories of finished videos are ours: by their place, one directory for each source, and by
//! their names, which nobody else gives to a file. In doubt a file is not ours, since what is ours may be deleted.

use std::path::{Component, Path};

/// Before the name of an original in that of its blurred video.
const BLURRED: &str = "blurred_";
/// The ending of what is recorded and published.
const ENDING: &str = "mp4";
/// Endings that the scripts could be told to use beside that.
const OLD_ENDINGS: [&str; 3] = ["avi", "mkv", "mov"];

/// A file of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ours {
    /// A blurred video.
    Published,
    /// A blurred video that the scripts left, which deleted none for its age.
    OfScripts,
    /// What a blurred video was made of and how; goes with it.
    Report,
    /// An original.
    Backup,
}

/// A file by its path within the directory of published videos: `<source>/blurred_<original>.mp4` with its report beside
/// it, or, as the scripts left it, with none, where the original has the name of a segment.
pub(super) fn in_published(place: &Path, is_there: impl Fn(&Path) -> bool) -> Option<Ours> {
    let (source, name) = source_and_name(place)?;
    let original = name.strip_prefix(BLURRED)?;
    if is_report(place) {
        return Some(Ours::Report);
    }
    let has_ending = place.extension().is_some_and(|ending| ending == ENDING);
    if has_ending && is_there(&place.with_extension("json")) {
        Some(Ours::Published)
    } else {
        is_segment_name(source, original).then_some(Ours::OfScripts)
    }
}

/// A file by its path within the directory of backups: `<source>/<segment>`.
pub(super) fn in_backup(place: &Path) -> Option<Ours> {
    let (source, name) = source_and_name(place)?;
    is_segment_name(source, name).then_some(Ours::Backup)
}

pub(super) fn is_report(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "json")
}

/// Whether a recorder gives this name to a segment of this source:
/// `<source>_YYYYmmdd_HHMMSS[_loopNNN]_segNNNN[_N].mp4`.
pub fn is_segment_name(source: &str, name: &str) -> bool {
    let Some((stem, ending)) = name.rsplit_once('.') else {
        return false;
    };
    let parts = stem
        .strip_prefix(source)
        .and_then(|rest| rest.strip_prefix('_'))
        .map(|rest| rest.split('_').collect::<Vec<_>>());
    let Some([date, time, rest @ ..]) = parts.as_deref() else {
        return false;
    };
    let rest = match rest {
        [round, rest @ ..] if is_counted(round, "loop") => rest,
        rest => rest,
    };
    let is_counted_on = match rest {
        [segment] => is_counted(segment, "seg"),
        [segment, again] => is_counted(segment, "seg") && is_number(again),
        _ => false,
    };
    let is_dated = [(date, 8), (time, 6)]
        .iter()
        .all(|(digits, count)| digits.len() == *count && is_number(digits));
    is_dated && is_counted_on && (ending == ENDING || OLD_ENDINGS.contains(&ending))
}

fn is_counted(part: &str, word: &str) -> bool {
    part.strip_prefix(word).is_some_and(is_number)
}

fn is_number(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Of a path of exactly these two.
fn source_and_name(place: &Path) -> Option<(&str, &str)> {
    let mut parts = place.components().map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    match (parts.next(), parts.next(), parts.next()) {
        (Some(source), Some(name), None) => Some((source?, name?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_told_by_source_time_and_number() {
        for name in [
            "cam_20260131_120000_seg0001.mp4",
            "cam_20260131_120000_seg0001_2.mp4",
            "cam_20260131_120000_loop000_seg0001.mp4",
            "cam_20260131_120000_loop1000_seg10000_12.mp4",
            "cam_20260131_120000_seg0001.mkv",
        ] {
            assert!(is_segment_name("cam", name), "{name}");
            assert!(!is_segment_name("ca", name), "{name}");
            assert!(!is_segment_name("yard", name), "{name}");
        }
        assert!(is_segment_name("a_b", "a_b_20260131_120000_seg0001.mp4"));
        for name in [
            "wedding.mp4",
            "cam.mp4",
            "cam_20260131_120000.mp4",
            "cam_20260131_120000_seg.mp4",
            "cam_20260131_120000_seg0001_x.mp4",
            "cam_20260131_120000_seg0001_2_3.mp4",
            "cam_20260131_120000_seg0001.jpg",
            "cam_20260131_120000_seg0001 (copy).mp4",
            "cam_2026013_120000_seg0001.mp4",
            "cam_20260131_12000x_seg0001.mp4",
            "cam20260131_120000_seg0001.mp4",
            "blurred_cam_20260131_120000_seg0001.mp4",
        ] {
            assert!(!is_segment_name("cam", name), "{name}");
        }
    }

    #[test]
    fn published_videos_have_reports_or_come_from_segments() {
        let ours = |place: &str| {
            in_published(Path::new(place), |report| {
                report == Path::new("cam/blurred_a.json")
            })
        };
        assert_eq!(ours("cam/blurred_a.mp4"), Some(Ours::Published));
        assert_eq!(ours("cam/blurred_a.json"), Some(Ours::Report));
        let of_scripts = "cam/blurred_cam_20250718_033129_loop000_seg0001.mp4";
        assert_eq!(ours(of_scripts), Some(Ours::OfScripts));
        for place in [
            "cam/blurred_b.mp4",
            "cam/blurred_a.mov",
            "cam/a.mp4",
            "cam/a.json",
            "blurred_a.mp4",
            "kept/cam/blurred_cam_20250718_033129_seg0001.mp4",
            "yard/blurred_cam_20250718_033129_seg0001.mp4",
        ] {
            assert_eq!(ours(place), None, "{place}");
        }
    }

    #[test]
    fn backups_lie_one_directory_deep() {
        let name = "cam_20250718_033129_seg0001.mp4";
        let ours = |dir: &str| in_backup(&Path::new(dir).join(name));
        assert_eq!(ours("cam"), Some(Ours::Backup));
        for dir in ["", "kept/cam", "yard", "../cam"] {
            assert_eq!(ours(dir), None, "{dir}");
        }
    }
}
