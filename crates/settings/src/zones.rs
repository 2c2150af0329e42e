//! Static zones of the cameras.

use crate::json::{Member, Node, Value};
use crate::read::Reader;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// What the key takes, in words.
pub(crate) const ALLOWED: &str = "{\"camera\": {\"always\": [[[x, y], [x, y], [x, y]]], \"never\": [...]}} with polygons of 3 to 64 points, x and y from 0 to 1";

const POINTS: std::ops::RangeInclusive<usize> = 3..=64;
const MOST_POLYGONS: usize = 32;

/// A closed polygon: points (x, y) as shares of the picture's width and height.
pub type ZonePolygon = Vec<(f32, f32)>;

/// The static zones of one camera.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CameraZones {
    /// Masked in every frame.
    pub always: Vec<ZonePolygon>,
    /// What is only ever seen inside one of these is not masked.
    pub never: Vec<ZonePolygon>,
}

/// The zones of all cameras that have some, by name of the source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Zones(BTreeMap<String, CameraZones>);

impl Zones {
    /// Those of this source.
    pub fn of(&self, source: &str) -> Option<&CameraZones> {
        self.0.get(composed(source).as_ref())
    }

    /// No camera has any.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who has some.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Names that have zones, but are none of these sources: mistyped, or left over.
    pub fn of_others<'a>(&'a self, sources: &[&str]) -> Vec<&'a str> {
        let sources: BTreeSet<_> = sources.iter().map(|source| composed(source)).collect();
        let others = self.names().filter(|name| !sources.contains(*name));
        others.collect()
    }
}

/// The name as keyboards write it: some file systems and programs take Hangul syllables apart into their letters, which
/// looks the same. Nothing else that can be taken apart stands in names of sources.
fn composed(name: &str) -> Cow<'_, str> {
    const LEADING: std::ops::RangeInclusive<char> = '\u{1100}'..='\u{1112}';
    if !name.contains(|letter| LEADING.contains(&letter)) {
        return Cow::Borrowed(name);
    }
    // The first of each kind of letters, and of the syllables, with their counts, as Unicode defines them.
    let [l, v, t, s] = [0x1100, 0x1161, 0x11a7, 0xac00];
    let [vs, ts] = [21, 28];
    let mut out = String::new();
    for letter in name.chars().map(u32::from) {
        let last = out.chars().next_back().map_or(0, u32::from);
        let joined = match () {
            () if (l..l + 19).contains(&last) && (v..v + vs).contains(&letter) => {
                Some(s + ((last - l) * vs + letter - v) * ts)
            }
            () if (s..s + 19 * vs * ts).contains(&last)
                && (last - s).is_multiple_of(ts)
                && (t + 1..t + ts).contains(&letter) =>
            {
                Some(last + letter - t)
            }
            () => None,
        };
        if joined.is_some() {
            out.pop();
        }
        out.extend(char::from_u32(joined.unwrap_or(letter)));
    }
    Cow::Owned(out)
}

/// The zones of all cameras that have some; every mistake is reported.
pub(crate) fn read(reader: &mut Reader<'_>) -> Zones {
    let mut zones = Zones::default();
    let Some(node) = reader.given("zones") else {
        return zones;
    };
    let Value::Object(cameras) = &node.value else {
        let message = format!("{} is not allowed; give {ALLOWED}", node.shown());
        reader.problem("zones", Some(node.line), message);
        return zones;
    };
    for camera in cameras {
        match of_camera(camera) {
            Ok(found) => {
                let name = composed(&camera.key).into_owned();
                if zones.0.insert(name, found).is_some() {
                    let message = "this name is given twice; write its zones once".to_owned();
                    reader.problem(&format!("zones.{}", camera.key), Some(camera.line), message);
                }
            }
            Err((line, message)) => {
                reader.problem(&format!("zones.{}", camera.key), Some(line), message);
            }
        }
    }
    zones
}

type Mistake = (u32, String);

fn of_camera(camera: &Member) -> Result<CameraZones, Mistake> {
    let Value::Object(kinds) = &camera.node.value else {
        return Err(mistake(
            &camera.node,
            "\"always\" and \"never\" in an object",
        ));
    };
    let mut zones = CameraZones::default();
    for kind in kinds {
        let list = match kind.key.as_str() {
            "always" => &mut zones.always,
            "never" => &mut zones.never,
            _ => {
                let message = format!(
                    "`{}` is no kind of zone; give `always` or `never`",
                    secrets::hide_secrets(&kind.key)
                );
                return Err((kind.line, message));
            }
        };
        let Value::List(polygons) = &kind.node.value else {
            return Err(mistake(&kind.node, "a list of polygons"));
        };
        if polygons.len() > MOST_POLYGONS {
            let message = format!("{} polygons; {MOST_POLYGONS} are the most", polygons.len());
            return Err((kind.line, message));
        }
        *list = polygons.iter().map(polygon).collect::<Result<_, _>>()?;
    }
    Ok(zones)
}

fn polygon(node: &Node) -> Result<ZonePolygon, Mistake> {
    match &node.value {
        Value::List(points) if POINTS.contains(&points.len()) => points.iter().map(point).collect(),
        _ => Err(mistake(node, "a polygon of 3 to 64 points [x, y]")),
    }
}

fn point(node: &Node) -> Result<(f32, f32), Mistake> {
    let wanted = || {
        let message = format!(
            "{} is not allowed; give [x, y] as shares of width and height, from 0 to 1",
            shown(node)
        );
        (node.line, message)
    };
    let Value::List(numbers) = &node.value else {
        return Err(wanted());
    };
    let share = |node: &Node| match &node.value {
        Value::Number(number) => number.as_f64().filter(|share| (0.0..=1.0).contains(share)),
        _ => None,
    };
    match numbers.as_slice() {
        [x, y] => Ok((
            share(x).ok_or_else(wanted)? as f32,
            share(y).ok_or_else(wanted)? as f32,
        )),
        _ => Err(wanted()),
    }
}

/// A point in pixels, the usual slip, as it is written.
fn shown(node: &Node) -> String {
    match node.to_json().as_array().map(Vec::as_slice) {
        Some([x, y]) if x.is_number() && y.is_number() => format!("[{x}, {y}]"),
        _ => node.shown(),
    }
}

fn mistake(node: &Node, wanted: &str) -> Mistake {
    (
        node.line,
        format!("{} is not allowed; give {wanted}", node.shown()),
    )
}

#[cfg(test)]
mod tests {
    use crate::BlurSettings;
    use crate::environment::Environment;

    fn read(zones: &str) -> Result<BlurSettings, String> {
        let text = format!("{{ \"blur_module_path\": null, \"zones\": {zones} }}");
        BlurSettings::from_text(&text, &Environment::of_process())
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn polygons_are_read_by_camera_and_kind() {
        let settings = read(
            r#"{ "yard": { "always": [[[0, 0], [0.5, 0], [0, 1]]] }, "door": { "never": [] } }"#,
        )
        .expect("valid");
        assert_eq!(
            settings.zones.of("yard").expect("zones").always,
            [[(0.0, 0.0), (0.5, 0.0), (0.0, 1.0)]]
        );
        assert!(settings.zones.of("door").expect("zones").never.is_empty());
        assert_eq!(settings.zones.of_others(&["yard", "Door"]), ["door"]);
    }

    #[test]
    fn a_name_is_the_same_when_its_syllables_are_taken_apart() {
        let together = "\u{c815}\u{bb38}-\u{ac00}";
        let apart = "\u{110c}\u{1165}\u{11bc}\u{1106}\u{116e}\u{11ab}-\u{1100}\u{1161}";
        for (written, source) in [(together, apart), (apart, together), (apart, apart)] {
            let zones = format!(r#"{{ "{written}": {{ "never": [] }} }}"#);
            let zones = read(&zones).expect("valid").zones;
            assert!(zones.of(source).is_some(), "{written} {source}");
            assert!(zones.of_others(&[source]).is_empty());
        }
        let both =
            format!(r#"{{ "{together}": {{ "always": [] }}, "{apart}": {{ "never": [] }} }}"#);
        let error = read(&both).expect_err("given twice");
        assert!(error.contains("given twice"), "{error}");
        assert_eq!(
            super::composed("\u{1100}x\u{1161}\u{11a8}"),
            "\u{1100}x\u{1161}\u{11a8}"
        );
    }

    #[test]
    fn mistakes_are_named_with_their_camera() {
        for (zones, words) in [
            ("3", "zones"),
            (r#"{ "yard": [] }"#, "zones.yard"),
            (
                r#"{ "yard": { "sometimes": [] } }"#,
                "`sometimes` is no kind of zone",
            ),
            (
                r#"{ "yard": { "always": [[[0, 0], [1, 1]]] } }"#,
                "3 to 64 points",
            ),
            (
                r#"{ "yard": { "always": [[[0, 0], [1, 1], [0, 1.1]]] } }"#,
                "from 0 to 1",
            ),
            (
                r#"{ "yard": { "never": [[[0, 0], [1, 1], [0]]] } }"#,
                "from 0 to 1",
            ),
            (
                r#"{ "gate": { "never": [[[640, 0], [1, 1], [0, 0.5]]] } }"#,
                "zones.gate: [640, 0] is not allowed; give [x, y] as shares of width and height, from 0 to 1",
            ),
            (
                r#"{ "gate": { "never": [[[1, "x"], [1, 1], [0, 0.5]]] } }"#,
                "zones.gate: a list is not allowed; give [x, y]",
            ),
        ] {
            let error = read(zones).expect_err(zones);
            assert!(error.contains(words), "{zones}: {error}");
        }
    }
}
