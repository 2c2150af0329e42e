//! The plugin's settings: the `plugin` object of the processor's settings file.

use std::path::PathBuf;

use plugin_abi::Failure;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Checked settings. Paths are taken from the working directory.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder with the models, and the inference engine in its `lib`.
    pub model_dir: PathBuf,
    /// Threads for one picture, 1..=64. More workers are cheaper than more
    /// threads.
    pub threads: u32,
    /// Arithmetic.
    pub precision: Precision,
    /// Pictures (width and height in pixels) that are searched for persons, each
    /// once: large ones for small persons, small ones for large, blurred or
    /// noisy persons. A camera's picture is scaled down to fit.
    pub person_input_sizes: Vec<(u32, u32)>,
    /// The picture that is searched for faces, width and height in pixels.
    pub face_input_size: (u32, u32),
    /// What is to be hidden.
    pub target: Target,
    /// Which of the models are used.
    pub detectors: Vec<DetectorName>,
    /// From this score on a person counts as found, 0.01..=0.99. Weaker ones are
    /// reported too, with a low score, as hints for the host's tracks.
    pub person_threshold: f32,
    /// From this score on a face counts as found, as above.
    pub face_threshold: f32,
    /// A YOLO model (ONNX) of the user's own, instead of `detectors`.
    pub model: Option<PathBuf>,
    /// Its input in pixels, if it takes any; whole multiples of 32.
    pub model_input_size: (u32, u32),
    /// Which of its classes are used, by name or number; default: those named
    /// after a head, face or person.
    pub classes: Vec<ClassName>,
    /// From this score on an object of that model counts as found, as above.
    pub model_threshold: f32,
    /// Whether its output has an objectness before the class scores, where the file does not tell.
    pub model_objectness: Option<bool>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model_dir: PathBuf::from("models"),
            threads: 1,
            precision: Precision::Auto,
            person_input_sizes: vec![(640, 384), (416, 256)],
            face_input_size: (640, 384),
            target: Target::Head,
            detectors: vec![DetectorName::Nanodet, DetectorName::Centerface],
            person_threshold: 0.32,
            face_threshold: 0.18,
            model: None,
            model_input_size: (640, 384),
            classes: Vec::new(),
            model_threshold: 0.25,
            model_objectness: None,
        }
    }
}

/// Arithmetic of the inference engine, for what a model itself does not do in 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// `Bf16` where the processor does it natively, else `F32`.
    Auto,
    /// 32-bit floats.
    F32,
    /// 16-bit floats with 8 bits of mantissa.
    Bf16,
}

/// What is to be hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Heads.
    Head,
    /// Whole persons, and heads of whom nothing else was found.
    Person,
}

/// The models that set-up fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectorName {
    /// Persons from any side, of whom the head region is taken.
    Nanodet,
    /// Faces.
    Centerface,
}

/// A class of a user's model.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum ClassName {
    /// By its number, from 0.
    Number(usize),
    /// By its name in the model's own list.
    Name(String),
}

impl Config {
    /// Reads settings from a JSON object; empty text means defaults.
    ///
    /// # Errors
    /// Not JSON, an unknown key, or a value out of range; the text names it.
    pub fn parse(json: &str) -> Result<Self, Failure> {
        let json = if json.trim().is_empty() { "{}" } else { json };
        let values: Map<String, Value> =
            serde_json::from_str(json).map_err(|error| format!("plugin settings: {error}"))?;
        // Each by itself: serde stops at the first problem, and does not say with which key it has it.
        let mut problems: Vec<String> = values
            .iter()
            .filter_map(|(key, value)| {
                let alone = Map::from_iter([(key.clone(), value.clone())]);
                let error = serde_json::from_value::<Self>(alone.into()).err()?;
                Some(format!("{key}: {error}"))
            })
            .collect();
        if problems.is_empty() {
            let config: Self = serde_json::from_value(values.into())
                .map_err(|error| format!("plugin settings: {error}"))?;
            problems = config.problems();
            if problems.is_empty() {
                return Ok(config);
            }
        }
        Err(format!("plugin settings: {}", problems.join("; ")).into())
    }

    /// Which of `person_input_sizes` has the fewest pixels.
    pub(crate) fn cheapest_input(&self) -> usize {
        let sizes = self.person_input_sizes.iter().enumerate();
        let pixels = |(width, height): &(u32, u32)| u64::from(*width) * u64::from(*height);
        sizes
            .min_by_key(|(_, size)| pixels(size))
            .map_or(0, |(number, _)| number)
    }

    /// Smallest size that holds every picture that is searched.
    pub fn largest_input(&self) -> (u32, u32) {
        self.person_input_sizes
            .iter()
            .fold(self.face_input_size, |(width, height), size| {
                (width.max(size.0), height.max(size.1))
            })
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=64).contains(&self.threads) {
            problems.push(format!("threads is {}, 1 to 64 allowed", self.threads));
        }
        let persons = self.person_input_sizes.iter();
        let sizes = persons.map(|size| ("person_input_sizes", *size));
        let others = [
            ("face_input_size", self.face_input_size),
            ("model_input_size", self.model_input_size),
        ];
        for (key, (width, height)) in sizes.chain(others) {
            if !(64..=4096).contains(&width) || !(64..=4096).contains(&height) {
                problems.push(format!(
                    "{key} is {width}x{height}, sides of 64 to 4096 allowed"
                ));
            }
        }
        for (key, value) in [
            ("person_threshold", self.person_threshold),
            ("face_threshold", self.face_threshold),
            ("model_threshold", self.model_threshold),
        ] {
            if !(0.01..=0.99).contains(&value) {
                problems.push(format!("{key} is {value}, 0.01 to 0.99 allowed"));
            }
        }
        if !(1..=4).contains(&self.person_input_sizes.len()) {
            problems.push(format!(
                "person_input_sizes has {} entries, 1 to 4 allowed",
                self.person_input_sizes.len()
            ));
        }
        if self.detectors.is_empty() && self.model.is_none() {
            problems.push("detectors is empty and no model is named".to_owned());
        }
        if self.model.is_none() && !self.classes.is_empty() {
            problems.push("classes are named, but no model".to_owned());
        }
        if self.model.is_none() && self.model_objectness.is_some() {
            problems.push("model_objectness is set, but no model is named".to_owned());
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(json: &str) -> String {
        Config::parse(json).expect_err("refused").to_string()
    }

    #[test]
    fn nothing_means_defaults() {
        assert_eq!(Config::parse("").expect("empty"), Config::default());
        assert_eq!(Config::parse("{}").expect("object"), Config::default());
    }

    #[test]
    fn all_that_cannot_be_read_is_told_with_its_key() {
        let told = refusal(r#"{"taget": "head", "threads": 2, "person_threshold": "x"}"#);
        assert!(told.contains("taget: unknown field"), "{told}");
        assert!(told.contains(" person_threshold: invalid type"), "{told}");
        assert!(
            !told.contains("threads:") && !told.contains("column"),
            "{told}"
        );
    }

    #[test]
    fn every_key_is_read() {
        let config = Config::parse(
            r#"{"model_dir": "/m", "threads": 2, "precision": "f32", "person_input_sizes": [[960, 544]],
                "face_input_size": [320, 192], "target": "person", "detectors": ["nanodet"],
                "person_threshold": 0.5, "face_threshold": 0.6, "model": "my.onnx", "model_input_size": [320, 320],
                "classes": ["head", 3], "model_threshold": 0.4, "model_objectness": true}"#,
        )
        .expect("valid");
        assert_eq!(config.person_input_sizes, [(960, 544)]);
        assert_eq!(config.target, Target::Person);
        assert_eq!(
            config.classes,
            [ClassName::Name("head".to_owned()), ClassName::Number(3)]
        );
        assert_eq!(config.model_objectness, Some(true));
    }

    #[test]
    fn problems_are_told_together() {
        let text = refusal(r#"{"threads": 0, "face_threshold": 2, "detectors": []}"#);
        for part in ["threads is 0", "face_threshold is 2", "detectors is empty"] {
            assert!(text.contains(part), "{text}");
        }
        let text = refusal(r#"{"model_objectness": false}"#);
        assert!(text.contains("no model is named"), "{text}");
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(refusal(r#"{"thread": 1}"#).contains("thread"));
    }
}
