//! What the files of the two daemons must say alike.

use settings::{BlurSettings, DiskBudget, RecorderSettings, keys};
use std::path::Path;

/// A key of the disk budget, its values in the two files as they are written there, and what comes of it when they differ.
struct Pair {
    key: &'static str,
    recorder: String,
    blur: String,
    consequence: String,
}

/// Where the disk budgets differ. Each daemon reads its own file, and only the blur processor deletes what is published:
/// a limit that stands in the recorder's file alone would keep nothing.
pub(super) fn budgets(
    (recorder_file, recorder): (&Path, &DiskBudget),
    (blur_file, blur): (&Path, &DiskBudget),
) -> Vec<String> {
    let told = |pair: &Pair| {
        let Pair { key, .. } = pair;
        let (file, value) = match is_default(key, &pair.recorder) {
            true => (recorder_file, &pair.blur),
            false => (blur_file, &pair.recorder),
        };
        format!(
            "{key} is {} in {}, but {} in {}: {}; write the same into both, such as \"{key}\": {value} into {}",
            with_default(key, &pair.recorder),
            recorder_file.display(),
            with_default(key, &pair.blur),
            blur_file.display(),
            pair.consequence,
            file.display()
        )
    };
    let pairs = pairs(recorder, blur);
    let different = pairs.iter().filter(|pair| pair.recorder != pair.blur);
    different.map(told).collect()
}

/// Zones under a name that no source has, and none had: they hide nothing, and what they should hide is published.
/// Whoever is no source any more may have videos that wait, to which its zones apply.
pub(super) fn zones_of_nobody(recorder: &RecorderSettings, blur: &BlurSettings) -> Vec<String> {
    let earlier = earlier_sources(blur);
    let sources = || recorder.sources.iter().map(|source| source.name.as_str());
    let known: Vec<&str> = sources()
        .chain(earlier.iter().map(String::as_str))
        .collect();
    let told = |name: &str| {
        let advice = match keys::nearest(name, sources()) {
            Some(source) => format!("did you mean {source:?}?"),
            None => "write it as in `sources` of the recorder, or remove it".to_owned(),
        };
        format!("zones.{name}: there is no source of that name; {advice}")
    };
    let names = blur.zones.of_others(&known);
    names.into_iter().map(told).collect()
}

/// Zones of who is no source any more. One that was given another name needs them under that one.
pub(super) fn zones_left_over(recorder: &RecorderSettings, blur: &BlurSettings) -> Vec<String> {
    let sources: Vec<&str> = recorder
        .sources
        .iter()
        .map(|source| source.name.as_str())
        .collect();
    let earlier = earlier_sources(blur);
    let earlier: Vec<&str> = earlier.iter().map(String::as_str).collect();
    let unknown = blur.zones.of_others(&earlier);
    let names = blur.zones.of_others(&sources).into_iter();
    names
        .filter(|name| !unknown.contains(name))
        .map(|name| {
            format!(
                "zones.{name}: no source has that name any more; if it was given another one, write its zones under that"
            )
        })
        .collect()
}

fn earlier_sources(blur: &BlurSettings) -> Vec<String> {
    daemon::place::sources_in(&[&blur.raw_dir, &blur.output_dir])
}

fn pairs(recorder: &DiskBudget, blur: &DiskBudget) -> Vec<Pair> {
    let pair = |key, value: fn(&DiskBudget) -> String, consequence: String| Pair {
        key,
        recorder: value(recorder),
        blur: value(blur),
        consequence,
    };
    let mut pairs = vec![
        pair(
            "cleanup_old_files",
            |disk| disk.cleanup_old_files.to_string(),
            match blur.cleanup_old_files {
                true => "blurred videos would be deleted".to_owned(),
                false => {
                    "the recorder would delete originals, the blur processor nothing".to_owned()
                }
            },
        ),
        pair(
            "max_disk_usage_gb",
            usage,
            format!(
                "blurred videos would be deleted to keep {} GiB, and recording would go by {} GiB",
                usage(blur),
                usage(recorder)
            ),
        ),
        pair(
            "min_free_disk_gb",
            free,
            format!(
                "blurred videos would be deleted to leave {} GiB free, and recording would wait below {} GiB",
                free(blur),
                free(recorder)
            ),
        ),
    ];
    // An age says nothing where nothing is deleted.
    if blur.cleanup_old_files && recorder.cleanup_old_files {
        let consequence = format!("blurred videos would be deleted after {} h", age(blur));
        pairs.push(pair("max_file_age_hours", age, consequence));
    }
    pairs
}

fn with_default(key: &str, value: &str) -> String {
    match is_default(key, value) {
        true => format!("{value} (the default)"),
        false => value.to_owned(),
    }
}

fn is_default(key: &str, value: &str) -> bool {
    let mut keys = keys::BLUR.iter();
    keys.any(|known| known.name == key && known.default == value)
}

fn usage(disk: &DiskBudget) -> String {
    gib(disk.max_usage_bytes)
}

fn free(disk: &DiskBudget) -> String {
    gib(disk.min_free_bytes)
}

fn age(disk: &DiskBudget) -> String {
    number(disk.max_file_age.as_secs_f64() / 3600.0)
}

fn gib(bytes: u64) -> String {
    number(bytes as f64 / f64::from(1 << 30))
}

/// As somebody would write it: what is lost in reading it is too little to be meant.
fn number(value: f64) -> String {
    format!("{}", (value * 1e6).round() / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use settings::Environment;

    fn told(recorder: &str, blur: &str) -> Vec<String> {
        let env = Environment::empty();
        let recorder = format!(r#"{{"sources": ["rtsp://127.0.0.1/a"] {recorder}}}"#);
        let recorder = RecorderSettings::from_text(&recorder, &env).expect("valid");
        let blur = BlurSettings::from_text(blur, &env).expect("valid");
        budgets(
            (Path::new("recorder.json"), &recorder.disk),
            (Path::new("blur.json"), &blur.disk),
        )
    }

    #[test]
    fn a_limit_that_stands_in_one_file_only_is_told_with_what_to_write() {
        assert_eq!(
            told(r#", "max_file_age_hours": 720"#, "{}"),
            [
                "max_file_age_hours is 720 in recorder.json, but 24 (the default) in blur.json: blurred videos would be \
              deleted after 24 h; write the same into both, such as \"max_file_age_hours\": 720 into blur.json"
            ]
        );
        let [cleanup] = &told(
            r#", "cleanup_old_files": false, "max_file_age_hours": 48"#,
            "{}",
        )[..] else {
            panic!("one thing to tell");
        };
        assert!(
            cleanup.contains("\"cleanup_old_files\": false into blur.json"),
            "{cleanup}"
        );
        let [usage] = &told("", r#"{"max_disk_usage_gb": 0.1}"#)[..] else {
            panic!("one thing to tell");
        };
        assert!(
            usage.contains("is 100 (the default) in recorder.json, but 0.1 in blur.json"),
            "{usage}"
        );
        assert!(
            usage.contains("\"max_disk_usage_gb\": 0.1 into recorder.json"),
            "{usage}"
        );
    }

    #[test]
    fn zones_of_a_mistyped_name_are_told_and_those_of_an_earlier_source_are_not_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(dir.path().join("raw/moved")).expect("a directory");
        let env = Environment::empty();
        let recorder = r#"{"sources": [{"name": "gate", "url": "rtsp://127.0.0.1/a"}]}"#;
        let recorder = RecorderSettings::from_text(recorder, &env).expect("valid");
        let with = |name: &str| {
            let zones = format!(r#""zones": {{"{name}": {{"always": []}}}}"#);
            let text = format!(r#"{{"raw_dir": "{}/raw", {zones}}}"#, dir.path().display());
            BlurSettings::from_text(&text, &env).expect("valid")
        };
        for (name, refused, noted) in [
            ("gate", "", ""),
            (
                "gaet",
                "zones.gaet: there is no source of that name; did you mean \"gate\"?",
                "",
            ),
            (
                "Gate",
                "zones.Gate: there is no source of that name; did you mean \"gate\"?",
                "",
            ),
            (
                "roof",
                "zones.roof: there is no source of that name; write it as in `sources`",
                "",
            ),
            ("moved", "", "zones.moved: no source has that name any more"),
        ] {
            let blur = with(name);
            let (wrong, notes) = (
                zones_of_nobody(&recorder, &blur),
                zones_left_over(&recorder, &blur),
            );
            assert_eq!(
                (wrong.len(), notes.len()),
                (
                    usize::from(!refused.is_empty()),
                    usize::from(!noted.is_empty())
                )
            );
            assert!(wrong.concat().starts_with(refused), "{wrong:?}");
            assert!(notes.concat().starts_with(noted), "{notes:?}");
        }
    }

    #[test]
    fn files_that_say_the_same_agree_also_by_default() {
        let none: [String; 0] = [];
        assert_eq!(told("", "{}"), none);
        let old =
            r#", "max_disk_usage_gb": 100.0, "cleanup_old_files": true, "max_file_age_hours": 24"#;
        assert_eq!(told(old, "{}"), none);
        let both = r#""max_disk_usage_gb": 0.3, "min_free_disk_gb": 0, "max_file_age_hours": 0.1"#;
        assert_eq!(told(&format!(", {both}"), &format!("{{{both}}}")), none);
    }
}
