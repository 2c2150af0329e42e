//! The plugin side of the border: turns a [`Plugin`] into the C table.
//!
//! Every entry runs in `catch_unwind`: a panic never crosses into the host. An
//! instance that panicked is poisoned, since nobody knows what state it is in;
//! every later call but `destroy` answers [`raw::BROKEN`].

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::frame::{FrameView, FrameViewMut};
use crate::plugin::{Change, CreateContext, Failure, InstanceInfo, Plugin, PluginKind};
use crate::raw;
use crate::region::Region;

/// Exports a plugin from a `cdylib` crate; once per crate.
///
/// ```ignore
/// export_plugin!(detector MyDetector); // implements Detector
/// export_plugin!(filter MyFilter);     // implements FrameFilter
/// export_plugin!(plugin MyPlugin);     // implements Plugin
/// ```
///
/// Does not compile with `panic = "abort"`: a panic would end the host.
#[macro_export]
macro_rules! export_plugin {
    (detector $type:ty) => {
        $crate::export_plugin!(plugin $crate::AsDetector<$type>);
    };
    (filter $type:ty) => {
        $crate::export_plugin!(plugin $crate::AsFilter<$type>);
    };
    (plugin $type:ty) => {
        #[cfg(panic = "abort")]
        compile_error!("plugins need panic = \"unwind\": a panic must not end the host");

        /// The entry that the blur processor looks for.
        #[unsafe(no_mangle)]
        pub extern "C" fn blur_plugin_v1() -> *const $crate::raw::Plugin {
            static TABLE: $crate::raw::Plugin = $crate::table::<$type>();
            &raw const TABLE
        }
    };
}

/// The C table of `P`, for [`export_plugin!`].
pub const fn table<P: Plugin>() -> raw::Plugin {
    let detects = !matches!(P::KIND, Some(PluginKind::Filter));
    let filters = !matches!(P::KIND, Some(PluginKind::Detector));
    raw::Plugin {
        struct_size: size_of::<raw::Plugin>() as u32,
        abi_minor: raw::ABI_MINOR,
        describe: Some(describe::<P>),
        create: Some(create::<P>),
        detect: if detects { Some(detect::<P>) } else { None },
        process: if filters { Some(process::<P>) } else { None },
        reset: Some(reset::<P>),
        last_error: Some(last_error::<P>),
        destroy: Some(destroy::<P>),
    }
}

/// What `*mut raw::Instance` points to.
struct Holder<P> {
    plugin: P,
    info: InstanceInfo,
    found: Vec<Region>,
    answer: Vec<raw::Region>,
    error: String,
    poisoned: bool,
}

thread_local! {
    /// Why `create` or a call without an instance failed on this thread.
    static ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

struct Problem {
    status: i32,
    text: String,
}

impl Problem {
    fn new(status: i32, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }

    fn failed(failure: &Failure) -> Self {
        let mut text = failure.to_string();
        let mut source = failure.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::new(raw::FAILED, text)
    }

    fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Self::new(raw::BROKEN, format!("plugin panicked: {text}"))
    }
}

/// Runs `body`, catching panics, and notes what went wrong on this thread.
fn guard(body: impl FnOnce() -> Result<(), Problem>) -> i32 {
    let result = catch_unwind(AssertUnwindSafe(body))
        .unwrap_or_else(|payload| Err(Problem::panicked(&*payload)));
    let (status, text) = match result {
        Ok(()) => (raw::OK, String::new()),
        Err(problem) => (problem.status, problem.text),
    };
    ERROR.with(|error| *error.borrow_mut() = text);
    status
}

/// Runs `body` on an instance, catching panics, and notes what went wrong in it.
///
/// # Safety
/// `instance` must be null or come from `create::<P>` and not be in use.
unsafe fn with<P: Plugin>(
    instance: *mut raw::Instance,
    body: impl FnOnce(&mut Holder<P>) -> Result<(), Problem>,
) -> i32 {
    // SAFETY: as the caller promises; calls on one instance never overlap.
    let Some(holder) = (unsafe { instance.cast::<Holder<P>>().as_mut() }) else {
        return raw::BAD_ARGUMENT;
    };
    if holder.poisoned {
        return raw::BROKEN;
    }
    holder.error.clear();
    let result = catch_unwind(AssertUnwindSafe(|| body(&mut *holder)));
    let problem = match result {
        Ok(Ok(())) => return raw::OK,
        Ok(Err(problem)) => problem,
        Err(payload) => {
            holder.poisoned = true;
            Problem::panicked(&*payload)
        }
    };
    holder.error = problem.text;
    problem.status
}

unsafe extern "C" fn describe<P: Plugin>(
    instance: *mut raw::Instance,
    out: *mut raw::Description,
) -> i32 {
    if out.is_null() {
        return raw::BAD_ARGUMENT;
    }
    // SAFETY: not null; `struct_size` is the first field of every version.
    if (unsafe { out.cast::<u32>().read() } as usize) < size_of::<raw::Description>() {
        return raw::BAD_ARGUMENT;
    }
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let mut description = raw::Description {
        kind: P::KIND.map_or(raw::KIND_UNDECIDED, kind_number),
        flags: flag(P::SINGLE_INSTANCE, raw::FLAG_SINGLE_INSTANCE)
            | flag(P::HINTS, raw::FLAG_HINTS),
        name: raw::Text::new(P::NAME),
        version: raw::Text::new(P::VERSION),
        ..raw::Description::EMPTY
    };
    // SAFETY: as the header promises, an instance of ours that is not in use.
    if let Some(holder) = unsafe { instance.cast::<Holder<P>>().as_ref() } {
        let InstanceInfo {
            kind,
            wants,
            info_json,
        } = &holder.info;
        let (max_width, max_height) = wants.max_size.unwrap_or_default();
        description.kind = kind_number(*kind);
        description.format = wants.format.map_or(raw::FORMAT_ANY, |f| f.to_raw());
        description.max_width = max_width;
        description.max_height = max_height;
        description.info_json = raw::Text::new(info_json);
    }
    // SAFETY: room for the whole struct, as its size was checked.
    unsafe { out.write(description) };
    raw::OK
}

const fn kind_number(kind: PluginKind) -> u32 {
    match kind {
        PluginKind::Detector => raw::KIND_DETECTOR,
        PluginKind::Filter => raw::KIND_FILTER,
    }
}

unsafe extern "C" fn create<P: Plugin>(
    create: *const raw::Create,
    out: *mut *mut raw::Instance,
) -> i32 {
    guard(|| {
        if create.is_null() || out.is_null() {
            return Err(Problem::new(raw::BAD_ARGUMENT, "null argument"));
        }
        // SAFETY: not null; `struct_size` is the first field of every version.
        if (unsafe { create.cast::<u32>().read() } as usize) < size_of::<raw::Create>() {
            return Err(Problem::new(raw::BAD_ARGUMENT, "struct_size too small"));
        }
        // SAFETY: the whole struct exists, as its size was checked.
        let create = unsafe { create.read() };
        let text = create.settings;
        let bytes = if text.data.is_null() {
            &[][..]
        } else {
            // SAFETY: the host promises `len` bytes, valid during this call.
            unsafe { std::slice::from_raw_parts(text.data, text.len as usize) }
        };
        let settings = std::str::from_utf8(bytes)
            .map_err(|_| Problem::new(raw::BAD_ARGUMENT, "settings are not UTF-8"))?;
        let context = CreateContext {
            settings,
            cameras: create.cameras,
        };
        let plugin = P::create(&context).map_err(|failure| Problem::failed(&failure))?;
        let holder = Box::new(Holder {
            info: plugin.info(),
            plugin,
            found: Vec::new(),
            answer: Vec::new(),
            error: String::new(),
            poisoned: false,
        });
        // SAFETY: not null, and the host's to be written.
        unsafe { out.write(Box::into_raw(holder).cast()) };
        Ok(())
    })
}

unsafe extern "C" fn detect<P: Plugin>(
    instance: *mut raw::Instance,
    frame: *const raw::Frame,
    regions: *mut *const raw::Region,
    count: *mut u64,
) -> i32 {
    if regions.is_null() || count.is_null() {
        return raw::BAD_ARGUMENT;
    }
    // SAFETY: `instance` is ours and not in use, as the header promises.
    unsafe {
        with::<P>(instance, |holder| {
            // SAFETY: the host's frame is valid and unchanged during this call.
            let frame = FrameView::from_raw(frame)
                .map_err(|error| Problem::new(raw::BAD_ARGUMENT, error.to_string()))?;
            holder.found.clear();
            holder
                .plugin
                .detect(&frame, &mut holder.found)
                .map_err(|failure| Problem::failed(&failure))?;
            holder.answer.clear();
            holder
                .answer
                .extend(holder.found.iter().copied().map(raw::Region::from));
            regions.write(holder.answer.as_ptr());
            count.write(holder.answer.len() as u64);
            Ok(())
        })
    }
}

unsafe extern "C" fn process<P: Plugin>(
    instance: *mut raw::Instance,
    frame: *mut raw::Frame,
    changed: *mut u32,
) -> i32 {
    if changed.is_null() {
        return raw::BAD_ARGUMENT;
    }
    // SAFETY: `instance` is ours and not in use, as the header promises.
    unsafe {
        with::<P>(instance, |holder| {
            // SAFETY: the host's planes are ours alone during this call.
            let mut frame = FrameViewMut::from_raw(frame)
                .map_err(|error| Problem::new(raw::BAD_ARGUMENT, error.to_string()))?;
            let change = holder
                .plugin
                .process(&mut frame)
                .map_err(|failure| Problem::failed(&failure))?;
            changed.write(u32::from(change == Change::Changed));
            Ok(())
        })
    }
}

unsafe extern "C" fn reset<P: Plugin>(instance: *mut raw::Instance, camera: u32) -> i32 {
    // SAFETY: `instance` is ours and not in use, as the header promises.
    unsafe {
        with::<P>(instance, |holder| {
            holder
                .plugin
                .reset(camera)
                .map_err(|failure| Problem::failed(&failure))
        })
    }
}

unsafe extern "C" fn last_error<P: Plugin>(instance: *mut raw::Instance, out: *mut raw::Text) {
    if out.is_null() {
        return;
    }
    // SAFETY: as the header promises, an instance of ours that is not in use.
    let text = match unsafe { instance.cast::<Holder<P>>().as_ref() } {
        Some(holder) => raw::Text::new(&holder.error),
        // Valid until the next call on this thread, as the header says.
        None => ERROR.with(|error| raw::Text::new(&error.borrow())),
    };
    // SAFETY: not null, and the host's to be written.
    unsafe { out.write(text) };
}

unsafe extern "C" fn destroy<P: Plugin>(instance: *mut raw::Instance) {
    if instance.is_null() {
        return;
    }
    // A panic while dropping is of no use to anybody: there is nothing left to
    // poison, and the instance is gone either way.
    drop(catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: made by `Box::into_raw` in `create`, handed back once.
        drop(unsafe { Box::from_raw(instance.cast::<Holder<P>>()) });
    })));
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;
    use crate::frame::{FrameInfo, PixelFormat};
    use crate::plugin::{AsDetector, Detector, Wants};
    use crate::region::RegionKind;

    /// Does as its settings say.
    struct Moody(String);

    impl Detector for Moody {
        const NAME: &'static str = "moody";
        const VERSION: &'static str = "1";

        fn create(context: &CreateContext<'_>) -> Result<Self, Failure> {
            match context.settings {
                "refuse" => Err("not today".into()),
                "panic" => panic!("in create"),
                mood => Ok(Self(mood.to_owned())),
            }
        }

        fn wants(&self) -> Wants {
            Wants {
                format: Some(PixelFormat::Bgr24),
                max_size: Some((640, 384)),
            }
        }

        fn detect(
            &mut self,
            frame: &FrameView<'_>,
            regions: &mut Vec<Region>,
        ) -> Result<(), Failure> {
            match self.0.as_str() {
                "fail" => Err("bad frame".into()),
                "panic later" => panic!("in detect"),
                _ => {
                    regions.push(Region {
                        x: 0.0,
                        y: 0.0,
                        width: frame.info().width as f32,
                        height: 2.0,
                        score: 1.0,
                        kind: RegionKind::Head,
                        track: 0,
                    });
                    Ok(())
                }
            }
        }
    }

    const TABLE: raw::Plugin = table::<AsDetector<Moody>>();

    fn create(settings: &str) -> (i32, *mut raw::Instance) {
        let create = raw::Create {
            struct_size: size_of::<raw::Create>() as u32,
            cameras: 1,
            settings: raw::Text::new(settings),
        };
        let mut instance = ptr::null_mut();
        // SAFETY: both arguments live through the call.
        let status =
            unsafe { (TABLE.create.expect("present"))(&raw const create, &raw mut instance) };
        (status, instance)
    }

    fn detect(instance: *mut raw::Instance) -> (i32, usize) {
        let data = [0u8; 12];
        let info = FrameInfo::new(PixelFormat::Bgr24, 2, 2);
        let frame = FrameView::new(info, &[(&data, 6)]).expect("fits").to_raw();
        let (mut regions, mut count) = (ptr::null(), 0);
        // SAFETY: a live instance and arguments that live through the call.
        let status = unsafe {
            (TABLE.detect.expect("present"))(
                instance,
                &raw const frame,
                &raw mut regions,
                &raw mut count,
            )
        };
        (status, count as usize)
    }

    fn last_error(instance: *mut raw::Instance) -> String {
        let mut text = raw::Text::EMPTY;
        // SAFETY: null or a live instance; the text is copied at once.
        unsafe {
            (TABLE.last_error.expect("present"))(instance, &raw mut text);
            text.to_string_lossy(1000)
        }
    }

    fn destroy(instance: *mut raw::Instance) {
        // SAFETY: made by `create`, given back once.
        unsafe { (TABLE.destroy.expect("present"))(instance) };
    }

    #[test]
    fn a_detector_has_no_process() {
        assert!(TABLE.detect.is_some() && TABLE.process.is_none());
    }

    #[test]
    fn regions_and_wishes_cross_the_border() {
        let (status, instance) = create("calm");
        assert_eq!(status, raw::OK);
        let mut description = raw::Description::EMPTY;
        // SAFETY: a live instance and a struct of full size.
        let described =
            unsafe { (TABLE.describe.expect("present"))(instance, &raw mut description) };
        assert_eq!(described, raw::OK);
        assert_eq!(description.kind, raw::KIND_DETECTOR);
        assert_eq!(description.format, raw::FORMAT_BGR24);
        assert_eq!((description.max_width, description.max_height), (640, 384));
        assert_eq!(detect(instance), (raw::OK, 1));
        assert_eq!(detect(instance), (raw::OK, 1), "regions do not pile up");
        destroy(instance);
    }

    #[test]
    fn failures_are_told_in_words_and_cleared() {
        let (status, instance) = create("refuse");
        assert_eq!((status, instance), (raw::FAILED, ptr::null_mut()));
        assert_eq!(last_error(ptr::null_mut()), "not today");
        let (status, instance) = create("fail");
        assert_eq!(
            (status, last_error(ptr::null_mut())),
            (raw::OK, String::new())
        );
        assert_eq!(detect(instance), (raw::FAILED, 0));
        assert_eq!(last_error(instance), "bad frame");
        destroy(instance);
    }

    #[test]
    fn panics_stay_inside_and_poison_the_instance() {
        let (status, instance) = create("panic");
        assert_eq!((status, instance), (raw::BROKEN, ptr::null_mut()));
        assert!(last_error(ptr::null_mut()).contains("in create"));
        let (status, instance) = create("panic later");
        assert_eq!(status, raw::OK);
        assert_eq!(detect(instance), (raw::BROKEN, 0));
        assert!(last_error(instance).contains("in detect"));
        assert_eq!(detect(instance), (raw::BROKEN, 0));
        destroy(instance);
    }

    #[test]
    fn null_arguments_are_refused() {
        let detect = TABLE.detect.expect("present");
        let null = ptr::null_mut();
        // SAFETY: null is what is tested.
        let status = unsafe { detect(null, ptr::null(), ptr::null_mut(), ptr::null_mut()) };
        assert_eq!(status, raw::BAD_ARGUMENT);
        let create = TABLE.create.expect("present");
        // SAFETY: null is what is tested.
        let status = unsafe { create(ptr::null(), ptr::null_mut()) };
        assert_eq!(status, raw::BAD_ARGUMENT);
        destroy(null);
    }
}
