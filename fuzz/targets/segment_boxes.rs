//! Boxes of a segment that was cut off anywhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use media::{boxes, fragments};

fuzz_target!(|data: &[u8]| {
    if let Ok(found) = boxes::top_boxes(data) {
        for pair in found.windows(2) {
            assert!(pair[0].end() <= pair[1].end(), "boxes follow one another");
        }
    }
    boxes::whole_part(data).ok();
    fragments::stored_samples(data).ok();
});
