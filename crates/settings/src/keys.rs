//! The table of all keys: it gives defaults and ranges to the reader, names to the suggestions for
//! unknown keys, and the reference to the documentation, so that the three cannot disagree.

mod table;

pub use table::{BLUR, HOOK, RECORDER, SOURCE, SYSTEM};

/// What our own plugins take out of `plugin`, which is handed to them as it is: to tell where such a key belongs.
pub(crate) const PLUGIN: [&str; 16] = [
    "python_executable",
    "frame_timeout",
    "load_timeout",
    "model_dir",
    "threads",
    "precision",
    "person_input_sizes",
    "face_input_size",
    "detectors",
    "person_threshold",
    "face_threshold",
    "model",
    "model_input_size",
    "classes",
    "model_threshold",
    "model_objectness",
];

/// One key of a settings file.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As written in the file.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The value when the key is left out, as JSON. For a per-source key: what is used instead.
    pub default: &'static str,
    /// What it does.
    pub meaning: &'static str,
}

/// What values a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// Any text.
    Text,
    /// A path; relative ones count from the working directory.
    Path,
    /// A number within bounds, of the unit named.
    Number {
        /// Smallest value allowed.
        min: f64,
        /// Largest value allowed.
        max: f64,
        /// Such as `s`; empty when it is a mere number.
        unit: &'static str,
    },
    /// A whole number within bounds, of the unit named.
    Whole {
        /// Smallest value allowed.
        min: u64,
        /// Largest value allowed.
        max: u64,
        /// Such as `px`; empty when it is a mere number.
        unit: &'static str,
    },
    /// A whole number within bounds, of the unit named, or `"auto"`.
    WholeOrAuto {
        /// Smallest value allowed.
        min: u64,
        /// Largest value allowed.
        max: u64,
        /// Such as `frames`.
        unit: &'static str,
    },
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// Bits per second: a number or text such as `"2M"` or `"800k"`.
    Bitrate,
    /// Anything else, in words.
    Other(&'static str),
}

impl Kind {
    /// What is allowed, in words: `a number from 0.1 to 60 (s)`.
    pub fn allowed(&self) -> String {
        let with_unit = |text: String, unit: &str| match unit {
            "" => text,
            unit => format!("{text} ({unit})"),
        };
        match *self {
            Self::Flag => "true or false".to_owned(),
            Self::Text => "text in double quotes".to_owned(),
            Self::Path => "a path in double quotes".to_owned(),
            Self::Number { min, max, unit } => {
                with_unit(format!("a number from {min} to {max}"), unit)
            }
            Self::Whole { min, max, unit } => {
                with_unit(format!("a whole number from {min} to {max}"), unit)
            }
            Self::WholeOrAuto { min, max, unit } => with_unit(
                format!("\"auto\" or a whole number from {min} to {max}"),
                unit,
            ),
            Self::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                match quoted.as_slice() {
                    [only] => only.clone(),
                    [first @ .., last] => format!("{} or {last}", first.join(", ")),
                    [] => "nothing".to_owned(),
                }
            }
            Self::Bitrate => "bits per second, such as \"2M\", \"800k\" or 2000000".to_owned(),
            Self::Other(words) => words.to_owned(),
        }
    }
}

/// The key of that name.
pub(crate) fn find(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name == name)
}

/// The name most like `wanted`, when one is near enough to be meant.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    nearest_above(0.75, wanted, names)
}

/// The same with the least likeness that counts, of 1.
pub(crate) fn nearest_above<'a>(
    least: f64,
    wanted: &str,
    names: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    names
        .map(|name| {
            (
                strsim::jaro_winkler(&wanted.to_lowercase(), &name.to_lowercase()),
                name,
            )
        })
        .filter(|(likeness, _)| *likeness > least)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// A Markdown table of the keys: name, values allowed, default, meaning.
pub fn reference(keys: &[Key]) -> String {
    let mut out = String::from("| key | values | default | meaning |\n|---|---|---|---|\n");
    for key in keys {
        let cells = [
            format!("`{}`", key.name),
            key.kind.allowed(),
            if key.default.is_empty() {
                "-".to_owned()
            } else {
                format!("`{}`", key.default)
            },
            key.meaning.to_owned(),
        ];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    out
}
