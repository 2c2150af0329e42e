//! JSON Schemas of the settings files, made from the tables of keys, so that editors complete and check them.
//!
//! A schema is looser than the reader: what only the reader can tell (whether an address is good, whether a plugin is
//! there) it lets pass, and it never refuses what the reader takes.

use crate::hooks::HookEvent;
use crate::keys::{BLUR, HOOK, Key, Kind, RECORDER, SOURCE, SYSTEM};
use serde_json::{Map, Value, json};

/// The member of a settings file that names its schema; the reader passes over it.
pub const REFERENCE: &str = "$schema";

/// File name of the schema of a settings file: `x.json` has `x.schema.json` beside it.
pub fn file_name(settings_file: &str) -> String {
    let stem = settings_file.strip_suffix(".json").unwrap_or(settings_file);
    format!("{stem}.schema.json")
}

/// Text of the schema of `rtsp_recorder_config.json`.
pub fn recorder() -> String {
    let mut schema = document("Settings of rtsp-recorder", RECORDER);
    schema["properties"]["sources"]["items"] = json!({
        "anyOf": [{"type": "string"}, {"$ref": "#/definitions/source"}],
    });
    schema["properties"]["sources"]["minItems"] = json!(1);
    schema["required"] = json!(["sources"]);
    let mut source = object(SOURCE);
    source["required"] = json!(["url"]);
    schema["definitions"] = json!({"source": source});
    text(&schema)
}

/// Text of the schema of `blur_processor_config.json`.
pub fn blur() -> String {
    text(&document("Settings of blur-processor", BLUR))
}

/// Text of the schema of `run_system_config.json`.
pub fn system() -> String {
    let mut schema = document("Settings of run-system", SYSTEM);
    schema["properties"]["notifications"]["items"] = json!({"$ref": "#/definitions/hook"});
    let mut hook = object(HOOK);
    hook["required"] = json!(["name"]);
    // `${NAME}` stands for one of the names.
    let names = HookEvent::NAMES.map(|(_, name)| name);
    hook["properties"]["events"]["items"] =
        json!({"anyOf": [{"enum": names}, {"pattern": "\\$\\{"}]});
    schema["definitions"] = json!({"hook": hook});
    text(&schema)
}

fn text(schema: &Value) -> String {
    format!("{schema:#}\n")
}

fn document(title: &str, keys: &[Key]) -> Value {
    let mut schema = object(keys);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!(title);
    schema["properties"][REFERENCE] = json!({"type": "string"});
    schema
}

fn object(keys: &[Key]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn property(key: &Key) -> Value {
    let mut property = match key.kind {
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Text | Kind::Path => json!({"type": "string"}),
        Kind::Number { min, max, .. } => json!({"type": "number", "minimum": min, "maximum": max}),
        Kind::Whole { min, max, .. } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Kind::WholeOrAuto { min, max, .. } => json!({
            "anyOf": [
                {"type": "integer", "minimum": min, "maximum": max},
                {"type": "string", "anyOf": [{"enum": ["auto"]}, {"pattern": "\\$\\{"}]},
            ],
        }),
        // `${NAME}` stands for one of the words.
        Kind::Choice(words) => json!({
            "type": "string",
            "anyOf": [{"enum": words}, {"pattern": "\\$\\{"}],
        }),
        Kind::Bitrate => json!({"type": ["string", "number"]}),
        Kind::Other(words) => json!({"type": type_of(words)}),
    };
    if key.default == "null" || key.kind.allowed().contains("null") {
        allow_null(&mut property["type"]);
    }
    property["description"] = json!(format!("{} Takes {}.", key.meaning, key.kind.allowed()));
    if let Ok(default) = serde_json::from_str::<Value>(key.default) {
        property["default"] = default;
    }
    property
}

/// What kind of value the words of [`Kind::Other`] describe.
fn type_of(words: &str) -> Value {
    match words {
        words if words.contains("bits per second") => json!(["string", "number"]),
        words if words.starts_with("a list") => json!("array"),
        words if words.starts_with("an object") || words.contains('{') => json!("object"),
        _ => json!("string"),
    }
}

fn allow_null(kind: &mut Value) {
    match kind {
        Value::Array(kinds) => kinds.push(json!("null")),
        kind => *kind = json!([kind.take(), "null"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Environment, RecorderSettings, json, samples};

    /// The part of JSON Schema that is used here.
    fn problems(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let target = root.pointer(name.trim_start_matches('#')).unwrap();
            return problems(root, target, value, at, found);
        }
        let is = |kind: &Value| match kind.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "number" => value.is_number(),
            "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            other => panic!("no such type: {other}"),
        };
        let fits = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().any(is),
            Value::Null => true,
            kind => is(kind),
        };
        let number = value.as_f64();
        let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
        let within = number.is_none_or(|number| {
            bound("minimum").is_none_or(|min| number >= min)
                && bound("maximum").is_none_or(|max| number <= max)
        });
        let listed = schema["enum"]
            .as_array()
            .is_none_or(|words| words.contains(value));
        let matched = schema.get("pattern").is_none()
            || value.as_str().is_none_or(|text| text.contains("${"));
        if !(fits && within && listed && matched) {
            found.push(format!("{at}: {value}"));
        }
        if let Some(ways) = schema["anyOf"].as_array() {
            let fits = ways.iter().any(|way| {
                let mut found = Vec::new();
                problems(root, way, value, at, &mut found);
                found.is_empty()
            });
            if !fits {
                found.push(format!("{at}: {value} fits no way"));
            }
        }
        for (name, value) in value.as_object().into_iter().flatten() {
            match schema["properties"].get(name) {
                Some(schema) => problems(root, schema, value, name, found),
                None if schema["additionalProperties"] == false => {
                    found.push(format!("{at}: no key {name}"));
                }
                None => {}
            }
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            if value.is_object() && value.get(name.as_str().unwrap()).is_none() {
                found.push(format!("{at}: {name} is missing"));
            }
        }
        for item in value.as_array().into_iter().flatten() {
            if let Some(schema) = schema.get("items") {
                problems(root, schema, item, at, found);
            }
        }
    }

    fn check(schema: &str, settings: &str) -> Vec<String> {
        let schema: Value = serde_json::from_str(schema).unwrap();
        let settings = json::parse(settings).unwrap().to_json();
        let mut found = Vec::new();
        problems(&schema, &schema, &settings, "", &mut found);
        found
    }

    #[test]
    fn the_samples_fit_their_schemas_and_name_them() {
        for (schema, sample, file) in [
            (recorder(), samples::recorder(), crate::RECORDER_FILE),
            (blur(), samples::blur(), crate::BLUR_FILE),
            (system(), samples::system(), crate::SYSTEM_FILE),
        ] {
            assert_eq!(check(&schema, sample), [] as [String; 0], "{file}");
            let named = format!("\"$schema\": \"./{}\"", file_name(file));
            assert!(sample.contains(&named), "{named} is not in {file}");
        }
    }

    #[test]
    fn every_default_fits() {
        for (keys, schema) in [(RECORDER, recorder()), (BLUR, blur()), (SYSTEM, system())] {
            let members: Vec<_> = keys
                .iter()
                .filter(|key| !key.default.is_empty())
                .map(|key| format!("{:?}: {}", key.name, key.default))
                .collect();
            let settings = format!("{{\"sources\": [\"a.mp4\"], {}}}", members.join(", "));
            let found = check(&schema, &settings);
            let wrong = found
                .iter()
                .filter(|problem| !problem.contains("no key sources"));
            assert_eq!(wrong.count(), 0, "{found:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_found() {
        let good = r#"{"sources": ["a.mp4", {"url": "rtsp://h/x", "transport": "udp", "duration_limit": null}],
            "bitrate": 2000000, "transport": "${T}", "recording_schedule": {"weekdays": [0]}}"#;
        assert_eq!(check(&recorder(), good), [] as [String; 0]);
        for wrong in [
            r#"{}"#,
            r#"{"sources": [{"name": "a"}]}"#,
            r#"{"sources": ["a.mp4"], "segment_durration": 3}"#,
            r#"{"sources": ["a.mp4"], "segment_duration": 0}"#,
            r#"{"sources": ["a.mp4"], "segment_duration": "3"}"#,
            r#"{"sources": ["a.mp4"], "transport": "carrier pigeon"}"#,
            r#"{"sources": [3]}"#,
        ] {
            assert_ne!(check(&recorder(), wrong), [] as [String; 0], "{wrong}");
        }
    }

    #[test]
    fn a_number_or_a_word_is_told_from_others() {
        let every = |value: &str| check(&blur(), &format!(r#"{{"detect_every": {value}}}"#));
        for good in ["3", "\"auto\"", "\"${EVERY}\""] {
            assert_eq!(every(good), [] as [String; 0]);
        }
        for wrong in ["0", "2.5", "\"often\"", "null"] {
            assert_ne!(every(wrong), [] as [String; 0], "{wrong}");
        }
    }

    #[test]
    fn hooks_are_completed_and_checked() {
        let hooks = |hook: &str| check(&system(), &format!(r#"{{"notifications": [{hook}]}}"#));
        let good = r#"{"name": "a", "url": "${HOOK}", "events": ["camera_down", "${EVENT}"], "body": null, "headers": {"X": "y"}}"#;
        assert_eq!(hooks(good), [] as [String; 0]);
        for wrong in [
            r#"{"url": "https://h/"}"#,
            r#"{"name": "a", "urll": "https://h/"}"#,
            r#"{"name": "a", "events": ["camera_gone"]}"#,
            r#"{"name": "a", "command": "mail"}"#,
            r#"{"name": "a", "body": "x"}"#,
            r#"{"name": "a", "retries": 2000}"#,
        ] {
            assert_ne!(hooks(wrong), [] as [String; 0], "{wrong}");
        }
    }

    #[test]
    fn the_reader_passes_over_the_name_of_the_schema_at_the_top_only() {
        let env = Environment::empty();
        let top = r#"{"$schema": "./x.json", "sources": ["rtsp://h/x"]}"#;
        RecorderSettings::from_text(top, &env).unwrap();
        let inner = r#"{"sources": [{"url": "rtsp://h/x", "$schema": "./x.json"}]}"#;
        RecorderSettings::from_text(inner, &env).unwrap_err();
    }
}
