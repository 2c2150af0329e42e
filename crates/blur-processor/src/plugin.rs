//! Which plugin hides the heads: from the settings to a loaded, tried instance.
//!
//! May touch: the plugin's file and whatever the plugin itself opens. Runs in workers and in the
//! commands that work on one file; never in the dispatcher, which only looks for files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use plugin_host::abi::{
    FrameInfo, FrameView, FrameViewMut, PixelFormat, PluginKind, Region, Wants,
};
use plugin_host::{Instance, Plugin};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use settings::{BlurModule, BlurSettings};

/// File name of the bridge that runs Python modules; it lies where the program lies.
const PYTHON_BRIDGE: &str = "libpython_bridge.so";

/// File name of the default plugin.
const HEAD_BLUR: &str = "libhead_blur.so";

/// Size of the synthetic frames a plugin is tried with.
const TRIAL_SIZE: (u32, u32) = (640, 360);

/// What is to be loaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PluginChoice {
    /// Nothing: every picture is blurred as a whole.
    WholeFrame,
    /// A shared library with the plugin interface.
    Library {
        /// The file.
        path: PathBuf,
        /// JSON object handed to it.
        settings: Value,
        /// Where those settings stand, by their names.
        #[serde(default)]
        places: BTreeMap<String, String>,
        /// Cameras it is told to expect at first; 1 or more.
        cameras: u32,
    },
}

/// A plugin that cannot be used, in words that say what to do.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Unfit {
    /// What is wrong and what to do.
    pub reason: String,
}

/// What a loaded plugin says of itself; for reports and receipts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PluginFacts {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `detector`, `filter` or `whole_frame`.
    pub kind: String,
    /// BLAKE3 of its file; none for the built-in blur.
    pub blake3: Option<String>,
    /// What it says of its models; an object.
    pub info: Value,
    /// What it was confined by, in words; empty when that was not asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
}

/// The plugin, ready to be called.
#[derive(Debug)]
pub enum Hider {
    /// The built-in blur of the whole picture.
    WholeFrame,
    /// Says where heads are.
    Detector(Instance),
    /// Changes frames itself.
    Filter(Instance),
}

/// How long a plugin took in its trial.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Trial {
    /// Making the instance, models included.
    pub load: Duration,
    /// The first frame.
    pub first_frame: Duration,
    /// Mean of the frames after it; zero when there was only one.
    pub later_frames: Duration,
    /// Regions found or frames changed, summed over the frames.
    pub hits: usize,
}

impl PluginChoice {
    /// The choice that the settings make.
    ///
    /// # Errors
    /// A Python module without the bridge beside the program.
    pub fn from_settings(settings: &BlurSettings) -> Result<Self, Unfit> {
        let mut plugin = settings.plugin.clone();
        if settings.whole_persons
            && is_head_blur(&settings.blur_module)
            && let Value::Object(object) = &mut plugin
        {
            // What stands in the plugin's own settings is more exact.
            object.entry("target").or_insert_with(|| json!("person"));
        }
        let mut choice = Self::of_module(&settings.blur_module, &plugin)?;
        if let Self::Library { places, .. } = &mut choice {
            places.clone_from(&settings.plugin_places);
        }
        Ok(choice.expecting(settings.num_cameras))
    }

    /// The choice for a module with the settings' `plugin` object.
    ///
    /// # Errors
    /// As [`PluginChoice::from_settings`].
    pub fn of_module(module: &BlurModule, plugin: &Value) -> Result<Self, Unfit> {
        match module {
            BlurModule::WholeFrame => Ok(Self::WholeFrame),
            BlurModule::Native(path) => Ok(Self::Library {
                path: path.clone(),
                settings: plugin.clone(),
                places: BTreeMap::new(),
                cameras: 1,
            }),
            BlurModule::Python(module) => python(module, plugin),
        }
    }

    /// The same, told to expect so many cameras; 0 counts as 1.
    #[must_use]
    pub fn expecting(mut self, number: u32) -> Self {
        if let Self::Library { cameras, .. } = &mut self {
            *cameras = number.max(1);
        }
        self
    }
}

/// Whether it is the default plugin, whose settings are known here.
fn is_head_blur(module: &BlurModule) -> bool {
    match module {
        BlurModule::Native(path) => path.file_name().is_some_and(|name| name == HEAD_BLUR),
        BlurModule::WholeFrame | BlurModule::Python(_) => false,
    }
}

fn python(module: &Path, plugin: &Value) -> Result<PluginChoice, Unfit> {
    if !module.is_file() {
        let reason = format!(
            "Python module {} not found; correct blur_module_path",
            module.display()
        );
        return Err(Unfit { reason });
    }
    let path = bridge().ok_or_else(|| Unfit {
        reason: format!(
            "{} is a Python module, which needs {PYTHON_BRIDGE} beside this program; \
             build it with `cargo build --release -p python-bridge`",
            module.display()
        ),
    })?;
    let mut settings = plugin.clone();
    match &mut settings {
        Value::Object(object) => {
            object.insert("module".to_owned(), json!(module));
        }
        other => *other = json!({ "module": module }),
    }
    Ok(PluginChoice::Library {
        path,
        settings,
        places: BTreeMap::new(),
        cameras: 1,
    })
}

/// What a plugin says against its settings, with the place of the first that it names.
fn with_place(said: String, places: &BTreeMap<String, String>) -> String {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let named = |word: &str| places.get_key_value(word);
    match said.split(|c| !is_name(c)).find_map(named) {
        Some((key, place)) => format!("{said} (plugin.{key}, {place})"),
        None => said,
    }
}

fn bridge() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let dir = program.parent()?;
    let places = [
        dir.join(PYTHON_BRIDGE),
        dir.join("../lib").join(PYTHON_BRIDGE),
    ];
    places.into_iter().find(|place| place.is_file())
}

impl Hider {
    /// Loads the plugin and its models and lets it work on `trial_frames` synthetic frames.
    ///
    /// # Errors
    /// The file is missing or not to be trusted, models are missing, the plugin fails a frame.
    pub fn load(
        choice: &PluginChoice,
        trial_frames: u32,
    ) -> Result<(Self, PluginFacts, Trial), Unfit> {
        let PluginChoice::Library {
            path,
            settings,
            places,
            cameras,
        } = choice
        else {
            return Ok((Self::WholeFrame, whole_frame_facts(), Trial::default()));
        };
        let unfit = |error: plugin_host::PluginError| Unfit {
            reason: error.to_string(),
        };
        let began = Instant::now();
        let plugin = Plugin::load(path).map_err(unfit)?;
        let instance = plugin
            .create(&settings.to_string(), *cameras)
            .map_err(|error| Unfit {
                reason: with_place(error.to_string(), places),
            })?;
        let load = began.elapsed();
        let facts = facts_of(&plugin, &instance);
        let mut hider = match instance.kind() {
            PluginKind::Detector => Self::Detector(instance),
            PluginKind::Filter => Self::Filter(instance),
        };
        let trial = hider.try_out(trial_frames).map_err(|error| Unfit {
            reason: format!("{error} (in its self-test on a grey picture)"),
        })?;
        Ok((hider, facts, Trial { load, ..trial }))
    }

    /// The next frame of the camera follows none before.
    ///
    /// # Errors
    /// What the plugin says.
    pub fn reset(&mut self, camera: u32) -> Result<(), plugin_host::PluginError> {
        match self {
            Self::WholeFrame => Ok(()),
            Self::Detector(instance) | Self::Filter(instance) => instance.reset(camera),
        }
    }

    /// Loads the plugin again for more cameras when it does not expect this one. That happens a few
    /// times in a worker's life at most, since the room doubles.
    ///
    /// # Errors
    /// What the plugin says; every picture is blurred as a whole then.
    pub fn make_room(&mut self, camera: u32) -> Result<(), plugin_host::PluginError> {
        let instance = match self {
            Self::WholeFrame => return Ok(()),
            Self::Detector(instance) | Self::Filter(instance) => instance,
        };
        if camera < instance.cameras() {
            return Ok(());
        }
        let wanted = camera.saturating_add(1).next_power_of_two();
        *self = match std::mem::replace(self, Self::WholeFrame) {
            Self::WholeFrame => Self::WholeFrame,
            Self::Detector(instance) => Self::Detector(instance.for_cameras(wanted)?),
            Self::Filter(instance) => Self::Filter(instance.for_cameras(wanted)?),
        };
        Ok(())
    }

    fn try_out(&mut self, frames: u32) -> Result<Trial, plugin_host::PluginError> {
        let mut trial = Trial::default();
        let mut later = Duration::ZERO;
        for index in 0..frames {
            let began = Instant::now();
            trial.hits += self.try_frame(u64::from(index))?;
            match index {
                0 => trial.first_frame = began.elapsed(),
                _ => later += began.elapsed(),
            }
        }
        trial.later_frames = later / frames.saturating_sub(1).max(1);
        self.reset(0)?;
        Ok(trial)
    }

    fn try_frame(&mut self, index: u64) -> Result<usize, plugin_host::PluginError> {
        match self {
            Self::WholeFrame => Ok(0),
            Self::Detector(instance) => {
                let (info, planes) = grey(instance.wants(), index);
                let lent: Vec<(&[u8], usize)> = planes
                    .iter()
                    .map(|(data, stride)| (&data[..], *stride))
                    .collect();
                let view = FrameView::new(info, &lent).expect("the grey picture has its planes");
                let mut regions: Vec<Region> = Vec::new();
                instance.detect(&view, &mut regions)?;
                Ok(regions.len())
            }
            Self::Filter(instance) => {
                let (info, mut planes) = grey(instance.wants(), index);
                let lent = planes
                    .iter_mut()
                    .map(|(data, stride)| (&mut data[..], *stride))
                    .collect();
                let mut view =
                    FrameViewMut::new(info, lent).expect("the grey picture has its planes");
                let change = instance.process(&mut view)?;
                Ok(usize::from(change == plugin_host::abi::Change::Changed))
            }
        }
    }
}

/// A grey picture in the format and at most the size that the plugin wants: description, and per
/// plane its bytes and stride.
fn grey(wants: Wants, index: u64) -> (FrameInfo, Vec<(Vec<u8>, usize)>) {
    let format = wants.format.unwrap_or(PixelFormat::I420);
    let (most_wide, most_high) = wants.max_size.unwrap_or(TRIAL_SIZE);
    let (width, height) = (TRIAL_SIZE.0.min(most_wide), TRIAL_SIZE.1.min(most_high));
    let info = FrameInfo {
        index,
        pts_ns: index as i64 * 40_000_000,
        ..FrameInfo::new(format, width, height)
    };
    let planes = (0..format.planes()).map(|plane| {
        let (row_bytes, rows) = format.plane_size(plane, width, height);
        (vec![128; row_bytes * rows], row_bytes)
    });
    (info, planes.collect())
}

fn whole_frame_facts() -> PluginFacts {
    PluginFacts {
        sandbox: String::new(),
        name: "whole-frame-blur".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kind: "whole_frame".to_owned(),
        blake3: None,
        info: json!({}),
    }
}

fn facts_of(plugin: &Plugin, instance: &Instance) -> PluginFacts {
    let info = plugin.info();
    PluginFacts {
        sandbox: String::new(),
        name: info.name.clone(),
        version: info.version.clone(),
        kind: match instance.kind() {
            PluginKind::Detector => "detector",
            PluginKind::Filter => "filter",
        }
        .to_owned(),
        blake3: Some(info.blake3.clone()),
        info: serde_json::from_str(instance.info_json()).unwrap_or_else(|_| json!({})),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use settings::Environment;

    #[test]
    fn what_a_plugin_says_against_its_settings_is_told_with_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("blur.json");
        let text = "{\n\"blur_module_path\": \"x.so\",\n\"plugin\": {\n\"threads\": 1,\n\"taget\": 1\n}\n}";
        std::fs::write(&file, text).unwrap();
        let settings = BlurSettings::load(&file).unwrap();
        let PluginChoice::Library { places, .. } = PluginChoice::from_settings(&settings).unwrap()
        else {
            panic!("a library");
        };
        let said = "plugin settings: taget: unknown field `taget`, expected `threads`";
        let told = with_place(said.to_owned(), &places);
        let place = format!(" (plugin.taget, line 5 of {})", file.display());
        assert_eq!(told.strip_prefix(said), Some(place.as_str()));
        let said = "it has not enough threads2".to_owned();
        assert_eq!(with_place(said.clone(), &places), said);
    }

    #[test]
    fn the_target_reaches_the_default_plugin_alone() {
        let target = |module: &str, plugin: &str| {
            let text = format!(
                r#"{{ "blur_module_path": "{module}", "target": "person", "plugin": {plugin} }}"#
            );
            let settings = BlurSettings::from_text(&text, &Environment::of_process()).unwrap();
            match PluginChoice::from_settings(&settings).unwrap() {
                PluginChoice::Library { settings, .. } => settings["target"].clone(),
                PluginChoice::WholeFrame => Value::Null,
            }
        };
        let dir = tempfile::tempdir().unwrap();
        let library = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, "").unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (own, other) = (library(HEAD_BLUR), library("libother.so"));
        assert_eq!(target(&own, "{}"), "person");
        assert_eq!(target(&own, r#"{ "target": "head" }"#), "head");
        assert_eq!(target(&other, "{}"), Value::Null);
    }
}
