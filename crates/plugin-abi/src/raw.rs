//! The C side of the border: what `include/blur_plugin.h` declares, field for
//! field. The header is the reference; it states ownership, lifetimes, threads.
//!
//! No Rust enum crosses the border: a foreign value in one is undefined
//! behaviour. Numbers are plain integers, turned into enums after a check.

use std::ffi::c_void;
use std::mem::{offset_of, size_of};
use std::ptr;

/// Major version; also part of the exported symbol's name.
pub const ABI_MAJOR: u32 = 1;
/// Minor version: structs may have grown since `.0`.
pub const ABI_MINOR: u32 = 1;
/// The one exported symbol, with a terminating zero for the loader.
pub const ENTRY_SYMBOL: &[u8] = b"blur_plugin_v1\0";

/// Status: done.
pub const OK: i32 = 0;
/// Status: this call failed, the instance can still be used.
pub const FAILED: i32 = 1;
/// Status: the host handed over something invalid.
pub const BAD_ARGUMENT: i32 = 2;
/// Status: not this plugin's kind, format or memory.
pub const UNSUPPORTED: i32 = 3;
/// Status: the instance must be destroyed. Unknown values mean this too.
pub const BROKEN: i32 = 4;

/// Plugin kind before `create`: depends on the settings.
pub const KIND_UNDECIDED: u32 = 0;
/// Plugin kind: finds regions.
pub const KIND_DETECTOR: u32 = 1;
/// Plugin kind: changes frames.
pub const KIND_FILTER: u32 = 2;

/// No wish about the pixel format.
pub const FORMAT_ANY: u32 = 0;
/// Three planes Y, U, V.
pub const FORMAT_I420: u32 = 1;
/// Two planes, Y and interleaved UV.
pub const FORMAT_NV12: u32 = 2;
/// One packed plane, B G R.
pub const FORMAT_BGR24: u32 = 3;

/// Planes lie in ordinary memory of this process.
pub const MEMORY_HOST: u32 = 1;

/// Frame flag, for detectors: a glance will do, since pictures close before and after it get a
/// thorough look. May be ignored.
pub const FRAME_GLANCE: u32 = 1;

/// Region shows a head.
pub const REGION_HEAD: u32 = 1;
/// Region shows a face only.
pub const REGION_FACE: u32 = 2;
/// Region shows a whole body.
pub const REGION_PERSON: u32 = 3;
/// Region is to be masked as it is.
pub const REGION_OTHER: u32 = 4;

/// Bytes of a [`Frame`] in minor version 0.
pub const FRAME_SIZE_1_0: usize = 112;

/// At most one instance may exist in a process.
pub const FLAG_SINGLE_INSTANCE: u32 = 1;
/// Detectors: scores are on the host's scale, and regions below [`SCORE_FOUND`] are hints. Without it every region is
/// masked, whatever its score.
pub const FLAG_HINTS: u32 = 2;
/// From this score on a region begins a mask; see [`FLAG_HINTS`].
pub const SCORE_FOUND: f32 = 0.25;

/// UTF-8 text by address and length in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text {
    /// First byte; may be null when `len` is 0.
    pub data: *const u8,
    /// Length, bytes.
    pub len: u64,
}

impl Text {
    /// No text.
    pub const EMPTY: Self = Self {
        data: ptr::null(),
        len: 0,
    };

    /// Points at `text`, which must outlive every reader.
    pub const fn new(text: &str) -> Self {
        Self {
            data: text.as_ptr(),
            len: text.len() as u64,
        }
    }

    /// Copies the text out; invalid UTF-8 is replaced, `limit` bytes at most.
    ///
    /// # Safety
    /// `data` must be null or valid for reading `len` bytes.
    pub unsafe fn to_string_lossy(self, limit: usize) -> String {
        if self.data.is_null() || self.len == 0 {
            return String::new();
        }
        let len = usize::try_from(self.len).map_or(limit, |len| len.min(limit));
        // SAFETY: the caller promises `len` readable bytes; we read no more.
        let bytes = unsafe { std::slice::from_raw_parts(self.data, len) };
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// What a plugin or an instance says about itself.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Description {
    /// Bytes of this struct that the host has room for.
    pub struct_size: u32,
    /// One of `KIND_*`.
    pub kind: u32,
    /// One of `FORMAT_*`.
    pub format: u32,
    /// Largest picture a detector wants, pixels; 0 = full size.
    pub max_width: u32,
    /// Largest picture a detector wants, pixels; 0 = full size.
    pub max_height: u32,
    /// `FLAG_*` together.
    pub flags: u32,
    /// Name.
    pub name: Text,
    /// Version.
    pub version: Text,
    /// JSON object for receipts.
    pub info_json: Text,
}

impl Description {
    /// What the host hands to `describe`.
    pub const EMPTY: Self = Self {
        struct_size: size_of::<Self>() as u32,
        kind: KIND_UNDECIDED,
        format: FORMAT_ANY,
        max_width: 0,
        max_height: 0,
        flags: 0,
        name: Text::EMPTY,
        version: Text::EMPTY,
        info_json: Text::EMPTY,
    };
}

/// What an instance is made from.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Create {
    /// Bytes of this struct that exist.
    pub struct_size: u32,
    /// Number of cameras.
    pub cameras: u32,
    /// JSON object.
    pub settings: Text,
}

/// One picture.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Bytes of this struct that exist.
    pub struct_size: u32,
    /// One of `FORMAT_*`, never `FORMAT_ANY`.
    pub format: u32,
    /// One of `MEMORY_*`.
    pub memory: u32,
    /// Width of this picture, pixels.
    pub width: u32,
    /// Height of this picture, pixels.
    pub height: u32,
    /// Width of the video it was scaled from, pixels.
    pub source_width: u32,
    /// Height of the video it was scaled from, pixels.
    pub source_height: u32,
    /// Camera, from 0.
    pub camera: u32,
    /// Frame number in its segment, from 0.
    pub index: u64,
    /// Presentation time in its segment, nanoseconds.
    pub pts_ns: i64,
    /// First byte of each plane; unused ones are null.
    pub planes: [*mut u8; 4],
    /// Bytes from row to row.
    pub strides: [u64; 4],
    /// Any of `FRAME_*`. Since minor version 1.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

/// One found region.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// Left edge, pixels.
    pub x: f32,
    /// Top edge, pixels.
    pub y: f32,
    /// Width, pixels.
    pub width: f32,
    /// Height, pixels.
    pub height: f32,
    /// 0..1.
    pub score: f32,
    /// One of `REGION_*`.
    pub kind: u32,
    /// The plugin's own track number, 0 = none.
    pub track: u64,
}

/// An instance, known to its plugin only.
pub type Instance = c_void;

/// `describe` of the table.
pub type DescribeFn = unsafe extern "C" fn(*mut Instance, *mut Description) -> i32;
/// `create` of the table.
pub type CreateFn = unsafe extern "C" fn(*const Create, *mut *mut Instance) -> i32;
/// `detect` of the table.
pub type DetectFn =
    unsafe extern "C" fn(*mut Instance, *const Frame, *mut *const Region, *mut u64) -> i32;
/// `process` of the table.
pub type ProcessFn = unsafe extern "C" fn(*mut Instance, *mut Frame, *mut u32) -> i32;
/// `reset` of the table.
pub type ResetFn = unsafe extern "C" fn(*mut Instance, u32) -> i32;
/// `last_error` of the table.
pub type LastErrorFn = unsafe extern "C" fn(*mut Instance, *mut Text);
/// `destroy` of the table.
pub type DestroyFn = unsafe extern "C" fn(*mut Instance);
/// The exported symbol.
pub type EntryFn = unsafe extern "C" fn() -> *const Plugin;

/// The table of functions a plugin returns. `None` is a null pointer in C.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Plugin {
    /// Bytes of this struct that exist.
    pub struct_size: u32,
    /// Minor version the plugin was built against.
    pub abi_minor: u32,
    /// Describes plugin or instance.
    pub describe: Option<DescribeFn>,
    /// Makes an instance.
    pub create: Option<CreateFn>,
    /// Finds regions; null for filters.
    pub detect: Option<DetectFn>,
    /// Changes a frame; null for detectors.
    pub process: Option<ProcessFn>,
    /// Forgets what was remembered of a camera.
    pub reset: Option<ResetFn>,
    /// Says why the last call failed.
    pub last_error: Option<LastErrorFn>,
    /// Ends an instance.
    pub destroy: Option<DestroyFn>,
}

// The layout is a promise to plugins already built: a change that moves a field
// must not compile. 64-bit targets only, as the pointers are part of it.
const _: () = {
    assert!(size_of::<*const u8>() == 8, "64-bit targets only");
    assert!(size_of::<Text>() == 16);
    assert!(size_of::<Description>() == 72 && offset_of!(Description, name) == 24);
    assert!(offset_of!(Description, info_json) == 56);
    assert!(size_of::<Create>() == 24 && offset_of!(Create, settings) == 8);
    assert!(size_of::<Frame>() == 120 && offset_of!(Frame, index) == 32);
    assert!(offset_of!(Frame, flags) == FRAME_SIZE_1_0);
    assert!(offset_of!(Frame, planes) == 48 && offset_of!(Frame, strides) == 80);
    assert!(size_of::<Region>() == 32 && offset_of!(Region, track) == 24);
    assert!(size_of::<Plugin>() == 64 && offset_of!(Plugin, describe) == 8);
    assert!(offset_of!(Plugin, detect) == 24 && offset_of!(Plugin, destroy) == 56);
};
