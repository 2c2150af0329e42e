//! Loading: file checks, the dynamic loader, the table's checks.

use std::fmt;
use std::io::Read as _;
use std::mem::{ManuallyDrop, size_of};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libloading::Library;
use plugin_abi::{PixelFormat, PluginKind, Wants, raw};

use crate::instance::Instance;
use crate::{PluginError, file_checks};

/// Names, versions and error texts longer than this are cut, bytes.
pub(crate) const TEXT_LIMIT: usize = 64 * 1024;

/// What a plugin says of itself before an instance is made, and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginInfo {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it does; `None` if the settings decide.
    pub kind: Option<PluginKind>,
    /// At most one instance may exist at a time.
    pub single_instance: bool,
    /// Absolute path without symbolic links.
    pub path: PathBuf,
    /// BLAKE3 of the file, hexadecimal.
    pub blake3: String,
}

/// A loaded plugin. Cheap to clone; stays loaded until the process ends, since
/// threads and thread-locals of a library may outlive its last use.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<Inner>,
}

struct Inner {
    info: PluginInfo,
    functions: Functions,
    in_use: AtomicBool,
    /// Never unloaded.
    _library: ManuallyDrop<Library>,
}

/// The table with every required function present.
#[derive(Clone, Copy)]
pub(crate) struct Functions {
    pub(crate) describe: raw::DescribeFn,
    pub(crate) create: raw::CreateFn,
    pub(crate) detect: Option<raw::DetectFn>,
    pub(crate) process: Option<raw::ProcessFn>,
    pub(crate) reset: raw::ResetFn,
    pub(crate) last_error: raw::LastErrorFn,
    pub(crate) destroy: raw::DestroyFn,
}

impl Plugin {
    /// Checks the file (see [`file_checks`]), loads it and asks it who it is.
    ///
    /// # Errors
    /// The file is not to be trusted, cannot be loaded, or breaks the interface.
    pub fn load(path: &Path) -> Result<Self, PluginError> {
        let checked = file_checks::check(path)?;
        let refused = |reason: String| PluginError::Load {
            path: path.to_owned(),
            reason,
        };
        // SAFETY: loading runs the library's initialisers. The operator named
        // this file, and the checks above keep others from replacing it.
        let library = unsafe { Library::new(&checked.path) }.map_err(|error| {
            refused(format!("cannot be loaded: {}", why(&error, &checked.path)))
        })?;
        let library = ManuallyDrop::new(library);
        // SAFETY: the symbol's name carries the version that fixes its type.
        let entry = unsafe { library.get::<raw::EntryFn>(raw::ENTRY_SYMBOL) }
            .map_err(|_| refused(no_entry(&library)))?;
        // SAFETY: the entry takes nothing and returns a table or null.
        let table = unsafe { entry() };
        let file_name = path.display().to_string();
        // SAFETY: the table lives as long as the library, which is for ever.
        let functions = unsafe { read_table(table, &file_name)? };
        let description = describe(&functions, std::ptr::null_mut(), &file_name)?;
        Ok(Self {
            inner: Arc::new(Inner {
                info: PluginInfo {
                    name: description.name,
                    version: description.version,
                    kind: description.kind,
                    single_instance: description.single_instance,
                    path: checked.path,
                    blake3: checked.blake3,
                },
                functions,
                in_use: AtomicBool::new(false),
                _library: library,
            }),
        })
    }

    /// Who it is.
    pub fn info(&self) -> &PluginInfo {
        &self.inner.info
    }

    /// Makes an instance from `settings` (a JSON object as text) for cameras
    /// `0..cameras`. May take seconds: models are loaded here.
    ///
    /// # Errors
    /// The plugin refuses the settings, breaks the interface, or allows one
    /// instance only and has it.
    pub fn create(&self, settings: &str, cameras: u32) -> Result<Instance, PluginError> {
        Instance::create(self.clone(), settings, cameras)
    }

    pub(crate) fn functions(&self) -> &Functions {
        &self.inner.functions
    }

    /// Takes the one instance of a plugin that allows no more.
    pub(crate) fn take_single(&self) -> bool {
        !self.inner.info.single_instance || !self.inner.in_use.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn release_single(&self) {
        self.inner.in_use.store(false, Ordering::Release);
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Plugin").field(self.info()).finish()
    }
}

/// A description in safe types.
pub(crate) struct Described {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) kind: Option<PluginKind>,
    pub(crate) wants: Wants,
    pub(crate) single_instance: bool,
    pub(crate) hints: bool,
    pub(crate) info_json: String,
}

/// Asks plugin (`instance` null) or instance for its description.
pub(crate) fn describe(
    functions: &Functions,
    instance: *mut raw::Instance,
    plugin: &str,
) -> Result<Described, PluginError> {
    let broken = |reason: String| PluginError::Contract {
        plugin: plugin.to_owned(),
        reason,
    };
    let mut raw_description = raw::Description::EMPTY;
    // SAFETY: null or a live instance; the struct is ours and says its size.
    let status = unsafe { (functions.describe)(instance, &raw mut raw_description) };
    if status != raw::OK {
        return Err(broken(format!("describe answers status {status}")));
    }
    let raw::Description {
        kind,
        format,
        flags,
        ..
    } = raw_description;
    // SAFETY: the plugin promises texts that live as long as the instance.
    let text = |text: raw::Text| unsafe { text.to_string_lossy(TEXT_LIMIT) };
    let name = text(raw_description.name);
    if name.trim().is_empty() {
        return Err(broken("it has no name".to_owned()));
    }
    let kind = match kind {
        raw::KIND_UNDECIDED if instance.is_null() => None,
        raw::KIND_DETECTOR => Some(PluginKind::Detector),
        raw::KIND_FILTER => Some(PluginKind::Filter),
        other => return Err(broken(format!("unknown kind {other}"))),
    };
    let format = match format {
        raw::FORMAT_ANY => None,
        number => Some(
            PixelFormat::from_raw(number)
                .ok_or_else(|| broken(format!("unknown pixel format {number}")))?,
        ),
    };
    let max_size = match (raw_description.max_width, raw_description.max_height) {
        (0, 0) => None,
        (0, _) | (_, 0) => return Err(broken("one side of its maximum size is 0".to_owned())),
        size => Some(size),
    };
    Ok(Described {
        name,
        version: text(raw_description.version),
        kind,
        wants: Wants { format, max_size },
        single_instance: flags & raw::FLAG_SINGLE_INSTANCE != 0,
        hints: flags & raw::FLAG_HINTS != 0,
        info_json: text(raw_description.info_json),
    })
}

/// # Safety
/// `table` must be null or point to `struct_size` bytes that live for ever.
unsafe fn read_table(table: *const raw::Plugin, plugin: &str) -> Result<Functions, PluginError> {
    let broken = |reason: String| PluginError::Contract {
        plugin: plugin.to_owned(),
        reason,
    };
    if table.is_null() {
        return Err(broken("blur_plugin_v1 returned NULL".to_owned()));
    }
    // SAFETY: not null; `struct_size` is the first field of every version.
    let size = unsafe { table.cast::<u32>().read() } as usize;
    if size < size_of::<raw::Plugin>() {
        return Err(broken(format!(
            "its table has {size} bytes, {} needed; was struct_size set?",
            size_of::<raw::Plugin>()
        )));
    }
    // SAFETY: the whole struct exists, as its size was checked.
    let table = unsafe { table.read() };
    let missing = |name: &str| broken(format!("function {name} is missing"));
    let functions = Functions {
        describe: table.describe.ok_or_else(|| missing("describe"))?,
        create: table.create.ok_or_else(|| missing("create"))?,
        detect: table.detect,
        process: table.process,
        reset: table.reset.ok_or_else(|| missing("reset"))?,
        last_error: table.last_error.ok_or_else(|| missing("last_error"))?,
        destroy: table.destroy.ok_or_else(|| missing("destroy"))?,
    };
    if functions.detect.is_none() && functions.process.is_none() {
        return Err(broken("it has neither detect nor process".to_owned()));
    }
    Ok(functions)
}

/// Explains a missing entry symbol: another version, or no plugin at all.
fn no_entry(library: &Library) -> String {
    for major in (0..=9).filter(|&major| major != raw::ABI_MAJOR) {
        let symbol = format!("blur_plugin_v{major}\0");
        // SAFETY: the symbol is only looked up, never called.
        if unsafe { library.get::<raw::EntryFn>(symbol.as_bytes()) }.is_ok() {
            return format!(
                "made for version {major} of the plugin interface, this program has version {}; \
                 build it again against the header of this program",
                raw::ABI_MAJOR
            );
        }
    }
    "not a blur plugin: it exports no symbol blur_plugin_v1".to_owned()
}

/// The loader's reason, or a plainer one for a file that is something else altogether.
fn why(error: &libloading::Error, path: &Path) -> String {
    let mut start = [0; 4];
    let is_library = std::fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok_and(|()| &start == b"\x7fELF");
    if is_library {
        in_full(error)
    } else {
        "it is not a compiled library (.so); a Python module's name ends in .py".to_owned()
    }
}

fn in_full(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", in_full(source)),
        None => error.to_string(),
    }
}
