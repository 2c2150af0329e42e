//! An owned `AVDictionary`: options for a codec, muxer or demuxer.

use std::ffi::CStr;
use std::ptr;

use ffmpeg_next::ffi;

use super::c_string;

/// Options by name. FFmpeg removes those it used; the rest is what it did not know.
pub(crate) struct Dict(*mut ffi::AVDictionary);

// SAFETY: a dictionary is plain memory with no tie to a thread.
unsafe impl Send for Dict {}

impl Dict {
    pub(crate) fn new() -> Self {
        Self(ptr::null_mut())
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        let (name, value) = (c_string(name), c_string(value));
        // SAFETY: both strings end with a zero and are copied; the dictionary pointer is ours.
        unsafe { ffi::av_dict_set(&mut self.0, name.as_ptr(), value.as_ptr(), 0) };
    }

    /// For passing to FFmpeg, which may replace or free the dictionary behind it.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut *mut ffi::AVDictionary {
        &mut self.0
    }

    /// What is left, as `name=value`.
    pub(crate) fn left_over(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut entry: *mut ffi::AVDictionaryEntry = ptr::null_mut();
        loop {
            // SAFETY: an empty key with IGNORE_SUFFIX walks over all entries; `entry` is null or the
            // one returned before, and the dictionary is not changed meanwhile.
            entry = unsafe {
                ffi::av_dict_get(self.0, c"".as_ptr(), entry, ffi::AV_DICT_IGNORE_SUFFIX)
            };
            if entry.is_null() {
                return found;
            }
            // SAFETY: a live entry holds two zero-ended strings.
            let (key, value) =
                unsafe { (CStr::from_ptr((*entry).key), CStr::from_ptr((*entry).value)) };
            found.push(format!(
                "{}={}",
                key.to_string_lossy(),
                value.to_string_lossy()
            ));
        }
    }
}

impl Drop for Dict {
    fn drop(&mut self) {
        // SAFETY: the pointer is null or a dictionary that we own.
        unsafe { ffi::av_dict_free(&mut self.0) };
    }
}
