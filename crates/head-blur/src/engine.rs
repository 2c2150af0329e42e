//! The seam to the inference engine: everything that says `openvino`.
//!
//! OpenVINO's libraries lie in `<model_dir>/lib` (set-up takes them from a
//! package) and are opened at run time, so that building needs none of them.
//! Pictures come in several shapes (cameras differ), and a network is compiled
//! for one: [`Network`] keeps the few that are in use.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use openvino::{
    CompiledModel, Core, DeviceType, ElementType, InferRequest, PartialShape, PropertyKey,
    RwPropertyKey,
};
use plugin_abi::Failure;

use crate::config::Precision;
use crate::fetched;

/// Shapes kept compiled per network; each costs some tens of megabytes.
const SHAPES_KEPT: usize = 6;

/// An opened engine; clones share it.
#[derive(Clone)]
pub(crate) struct Engine {
    core: Arc<Mutex<Core>>,
    precision: &'static str,
}

impl Engine {
    /// Opens the libraries in `folder` for `threads` threads.
    pub(crate) fn open(folder: &Path, threads: u32, precision: Precision) -> Result<Self, Failure> {
        let library = find_library(folder)?;
        openvino_sys::library::load_from(library)?;
        let mut core = Core::new().map_err(|error| format!("inference engine: {error}"))?;
        let precision = choose_precision(&core, precision)?;
        let threads = threads.to_string();
        let properties = [
            (RwPropertyKey::InferenceNumThreads, threads.as_str()),
            (RwPropertyKey::NumStreams, "1"),
            (RwPropertyKey::HintEnableCpuPinning, "NO"),
            (RwPropertyKey::HintInferencePrecision, precision),
        ];
        core.set_properties(&DeviceType::CPU, properties)
            .map_err(|error| format!("inference engine: {error}"))?;
        Ok(Self {
            core: Arc::new(Mutex::new(core)),
            precision,
        })
    }

    /// Arithmetic in use: `f32` or `bf16`.
    pub(crate) fn precision(&self) -> &'static str {
        self.precision
    }
}

/// The C library among the files of the package, whatever its version suffix.
fn find_library(folder: &Path) -> Result<PathBuf, Failure> {
    let hint = "run scripts/setup (or scripts/fetch-model), or set plugin.model_dir";
    let entries = fs::read_dir(folder).map_err(|error| {
        format!(
            "inference engine not found in {}: {error}; {hint}",
            folder.display()
        )
    })?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libopenvino_c.so")
        })
        .collect();
    found.sort();
    let library = found
        .pop()
        .ok_or_else(|| format!("no libopenvino_c.so in {}; {hint}", folder.display()))?;
    check_trust(folder, 0o002)?;
    for entry in fs::read_dir(folder)? {
        check_trust(&entry?.path(), 0o022)?;
    }
    Ok(library)
}

/// The engine's libraries run as us, like the plugin itself: they must belong to
/// root or to us, and `others` (mode bits) must not be able to write.
fn check_trust(path: &Path, others: u32) -> Result<(), Failure> {
    let metadata = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // The owner of our own entry is our effective user.
    let us = fs::metadata("/proc/self")?.uid();
    if ![0, us].contains(&metadata.uid()) {
        return Err(format!(
            "{} belongs to user {}; it must belong to root or to user {us}, who runs this",
            path.display(),
            metadata.uid()
        )
        .into());
    }
    if metadata.mode() & others != 0 {
        return Err(format!(
            "others may write to {}; run chmod go-w on it",
            path.display()
        )
        .into());
    }
    Ok(())
}

/// `bf16` only where the processor multiplies it natively: elsewhere it is
/// emulated and slower than `f32`.
fn choose_precision(core: &Core, wish: Precision) -> Result<&'static str, Failure> {
    Ok(match wish {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
        Precision::Auto => {
            let able = core
                .get_property(&DeviceType::CPU, &PropertyKey::DeviceCapabilities)
                .map_err(|error| format!("inference engine: {error}"))?;
            if able.split_whitespace().any(|word| word == "BF16") {
                "bf16"
            } else {
                "f32"
            }
        }
    })
}

/// A model file. It is read again for every shape of pictures that it is compiled for: its bytes take megabytes,
/// and a new shape is rare.
pub(crate) struct ModelFile {
    pub(crate) name: String,
    pub(crate) blake3: String,
    path: PathBuf,
}

impl ModelFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        Ok(Self::of(path, &read(path)?))
    }

    /// One of those that `scripts/fetch-model` fetches, as it came.
    pub(crate) fn open_fetched(path: &Path) -> Result<Self, Failure> {
        let bytes = read(path)?;
        fetched::check(path, &bytes)?;
        Ok(Self::of(path, &bytes))
    }

    fn of(path: &Path, bytes: &[u8]) -> Self {
        Self {
            name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            blake3: blake3::hash(bytes).to_hex().to_string(),
            path: path.to_owned(),
        }
    }

    /// The same bytes as when it was opened.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>, Failure> {
        let bytes = read(&self.path)?;
        if blake3::hash(&bytes).to_hex().as_str() != self.blake3 {
            return Err(format!(
                "model {} is another one than at the start; start again",
                self.path.display()
            )
            .into());
        }
        Ok(bytes)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| unreadable(path, &error).into())
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => "let the user who runs this read it",
        _ => "run scripts/setup (or scripts/fetch-model), or set plugin.model_dir",
    };
    format!("model {}: {error}; {advice}", path.display())
}

/// One model, compiled for the picture shapes in use.
pub(crate) struct Network {
    engine: Engine,
    file: ModelFile,
    /// Most recently used last.
    compiled: Vec<((u32, u32), Session)>,
}

impl Network {
    pub(crate) fn new(engine: Engine, file: ModelFile) -> Self {
        Self {
            engine,
            file,
            compiled: Vec::new(),
        }
    }

    pub(crate) fn file(&self) -> &ModelFile {
        &self.file
    }

    /// Width and height the model is fixed to; `None` if it takes any.
    pub(crate) fn fixed_size(&self) -> Result<Option<(u32, u32)>, Failure> {
        let bytes = self.file.bytes()?;
        let mut core = lock(&self.engine.core);
        let model = core
            .read_model_from_buffer(&bytes, None)
            .map_err(|error| self.damaged(&error))?;
        let shape = model
            .get_input_by_index(0)
            .and_then(|input| input.get_partial_shape())
            .map_err(|error| self.explain("its input cannot be told", &error))?;
        let dimensions = shape.get_dimensions();
        let [_, channels, height, width] = dimensions else {
            return Err(format!(
                "model {}: its input has {} dimensions, 4 expected (1, 3, height, width)",
                self.file.name,
                dimensions.len()
            )
            .into());
        };
        if !channels.is_dynamic() && channels.get_min() != 3 {
            return Err(format!(
                "model {}: its input has {} channels, 3 expected",
                self.file.name,
                channels.get_min()
            )
            .into());
        }
        if width.is_dynamic() || height.is_dynamic() {
            return Ok(None);
        }
        let side = |n: i64| u32::try_from(n).map_err(|_| "model with an absurd input size");
        Ok(Some((side(width.get_min())?, side(height.get_min())?)))
    }

    /// The network for pictures of `width` x `height`, compiling it if need be.
    pub(crate) fn session(&mut self, width: u32, height: u32) -> Result<&mut Session, Failure> {
        let key = (width, height);
        let ready = match self.compiled.iter().position(|(size, _)| *size == key) {
            Some(place) => self.compiled.remove(place),
            None => (key, self.compile(width, height)?),
        };
        if self.compiled.len() == SHAPES_KEPT {
            self.compiled.remove(0);
        }
        self.compiled.push(ready);
        let last = self.compiled.len() - 1;
        Ok(&mut self.compiled[last].1)
    }

    fn compile(&self, width: u32, height: u32) -> Result<Session, Failure> {
        let bytes = self.file.bytes()?;
        let mut core = lock(&self.engine.core);
        let mut model = core
            .read_model_from_buffer(&bytes, None)
            .map_err(|error| self.damaged(&error))?;
        let compiled = (|| {
            let shape = [1, 3, i64::from(height), i64::from(width)];
            model.reshape_single_input(&PartialShape::new_static(4, &shape)?)?;
            let mut compiled = core.compile_model(&model, DeviceType::CPU)?;
            let request = compiled.create_infer_request()?;
            Ok((request, compiled))
        })();
        let (request, compiled) = compiled.map_err(|error| {
            self.explain(&format!("cannot take {width}x{height} pictures"), &error)
        })?;
        let session = Session {
            request,
            _compiled: compiled,
        };
        session
            .check_floats()
            .map_err(|error| format!("model {}: {error}", self.file.name))?;
        Ok(session)
    }

    fn damaged(&self, error: &openvino::InferenceError) -> String {
        let advice = "run scripts/setup, which fetches the usual ones again, or give another";
        format!(
            "{}; {advice}",
            self.explain("cannot be read, it is damaged or no model", error)
        )
    }

    fn explain(&self, what: &str, error: &openvino::InferenceError) -> String {
        let error = one_line(&error.to_string());
        // Mostly the same again.
        let detail = openvino::get_last_error_message()
            .map(|text| one_line(&text))
            .filter(|text| !error.contains(text.as_str()))
            .map(|text| format!(" ({text})"))
            .unwrap_or_default();
        format!("model {}: {what}: {error}{detail}", self.file.name)
    }
}

/// What the engine says, without its line breaks.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A network compiled for one picture shape.
pub(crate) struct Session {
    request: InferRequest,
    /// The request runs in it.
    _compiled: CompiledModel,
}

impl Session {
    /// Half-precision models would be read as garbage.
    fn check_floats(&self) -> Result<(), Failure> {
        let explain = |error| format!("inference: {error}");
        let input = self.request.get_input_tensor().map_err(explain)?;
        let output = self
            .request
            .get_output_tensor_by_index(0)
            .map_err(explain)?;
        for tensor in [input, output] {
            let kind = tensor.get_element_type().map_err(explain)?;
            if kind != ElementType::F32 {
                return Err(format!(
                    "its numbers are {kind}, 32-bit floats needed; export it with half=False"
                )
                .into());
            }
        }
        Ok(())
    }

    /// Lets `fill` write the input (f32, 1 x 3 x height x width) and runs.
    pub(crate) fn run(&mut self, fill: impl FnOnce(&mut [f32])) -> Result<(), Failure> {
        let explain = |error| format!("inference: {error}");
        let mut input = self.request.get_input_tensor().map_err(explain)?;
        fill(input.get_data_mut::<f32>().map_err(explain)?);
        self.request.infer().map_err(explain)?;
        Ok(())
    }

    /// Hands output number `index` to `read`: its dimensions and values.
    pub(crate) fn output<T>(
        &self,
        index: usize,
        read: impl FnOnce(&[i64], &[f32]) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let explain = |error| format!("inference: {error}");
        let tensor = self
            .request
            .get_output_tensor_by_index(index)
            .map_err(explain)?;
        let shape = tensor.get_shape().map_err(explain)?;
        let values = tensor.get_data::<f32>().map_err(explain)?;
        // Comparisons with NaN are false: it would pass for "nothing found".
        if values
            .iter()
            .fold(false, |found, value| found | value.is_nan())
        {
            return Err("inference: the network answers with NaN".into());
        }
        read(shape.get_dimensions(), values)
    }
}

fn lock(core: &Mutex<Core>) -> std::sync::MutexGuard<'_, Core> {
    // A panic while compiling leaves the core as it was: it only reads models.
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_model_that_may_not_be_read_is_not_said_to_be_missing() {
        let said = |kind: io::ErrorKind| unreadable(Path::new("m.onnx"), &kind.into());
        let denied = said(io::ErrorKind::PermissionDenied);
        assert!(
            denied.ends_with("; let the user who runs this read it"),
            "{denied}"
        );
        assert!(said(io::ErrorKind::NotFound).contains("run scripts/setup"));
    }

    #[test]
    fn a_model_that_was_replaced_is_not_mixed_with_the_first() {
        let folder = tempfile::tempdir().expect("a temp dir");
        let path = folder.path().join("nanodet.onnx");
        fs::write(&path, b"one").expect("written");
        let model = ModelFile::open(&path).expect("opens");
        assert_eq!(model.bytes().expect("unchanged"), b"one");
        fs::write(&path, b"another").expect("written");
        let refusal = model.bytes().expect_err("changed").to_string();
        assert!(
            refusal.contains("is another one than at the start"),
            "{refusal}"
        );
    }

    #[test]
    fn libraries_that_others_may_write_are_refused() {
        let folder = tempfile::tempdir().expect("a temp dir");
        let put = |name: &str, mode| {
            let path = folder.path().join(name);
            fs::write(&path, b"").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        };
        let found = || find_library(folder.path()).map_err(|error| error.to_string());
        assert!(found().unwrap_err().contains("no libopenvino_c.so"));
        put("libopenvino_c.so.1", 0o644);
        put("libother.so", 0o644);
        assert!(found().is_ok());
        put("libother.so", 0o666);
        assert!(found().unwrap_err().contains("libother.so; run chmod"));
    }
}
