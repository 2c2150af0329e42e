//! What a module remembers of the frames before, and what makes it forget.

use super::*;

/// One grey frame of a camera; what all its pixels are afterwards.
fn frame_of(
    bridge: &mut PythonBridge,
    camera: u32,
    (width, height): (u32, u32),
) -> Result<u8, String> {
    let mut data = vec![10; width as usize * height as usize * 3];
    let info = FrameInfo {
        camera,
        ..FrameInfo::new(PixelFormat::Bgr24, width, height)
    };
    let mut frame =
        FrameViewMut::new(info, vec![(&mut data, width as usize * 3)]).expect("a frame");
    bridge
        .process(&mut frame)
        .map_err(|error| error.to_string())?;
    assert!(data.iter().all(|byte| *byte == data[0]), "{data:?}");
    Ok(data[0])
}

const TRIAL: (u32, u32) = (64, 36);
const USUAL: (u32, u32) = (48, 30);

/// Modules that keep the frame before, and raise when the next one has another shape. They add how many came since.
const KEEPING: [&str; 3] = [
    "import numpy
class HeadBlurrer:
    def __init__(self, num_camera=1): self.last, self.count = [None] * num_camera, [0] * num_camera
    def process_frame(self, frame, camera_index=0):
        if self.last[camera_index] is not None: numpy.subtract(frame, self.last[camera_index])
        self.last[camera_index] = frame.copy()
        self.count[camera_index] += 1
        return frame + self.count[camera_index]
",
    "import numpy
last, count = {}, {}
def apply_blur(frame, thread_id=0):
    if thread_id in last: numpy.subtract(frame, last[thread_id])
    last[thread_id] = frame.copy()
    count[thread_id] = count.get(thread_id, 0) + 1
    return frame + count[thread_id]
",
    // state in a file that is imported only once
    "import numpy, helper
def apply_blur(frame, thread_id=0):
    if thread_id in helper.last: numpy.subtract(frame, helper.last[thread_id])
    helper.last[thread_id] = frame.copy()
    helper.count[thread_id] = helper.count.get(thread_id, 0) + 1
    return frame + helper.count[thread_id]
",
];

fn keeping(text: &str) -> (PythonBridge, Module) {
    let module = module(text);
    std::fs::write(
        module.path.with_file_name("helper.py"),
        "last, count = {}, {}\n",
    )
    .expect("written");
    (create(&module.path).expect("loads"), module)
}

#[test]
fn nothing_of_the_self_test_is_left() {
    for text in KEEPING {
        // Also where cameras have frames of that size.
        for size in [USUAL, TRIAL] {
            let (mut bridge, _module) = keeping(text);
            for count in 1..=2 {
                assert_eq!(frame_of(&mut bridge, 0, TRIAL), Ok(10 + count));
            }
            bridge.reset(0).expect("forgets");
            for count in 1..=3 {
                assert_eq!(frame_of(&mut bridge, 0, size), Ok(10 + count), "{text}");
            }
        }
    }
}

/// As in the old system, which knew no beginnings and ends of segments.
#[test]
fn a_module_without_a_reset_remembers_over_segments() {
    for text in KEEPING {
        let (mut bridge, _module) = keeping(text);
        bridge.reset(0).expect("before anything");
        for count in 1..=6 {
            assert_eq!(frame_of(&mut bridge, 0, USUAL), Ok(10 + count), "{text}");
            assert_eq!(frame_of(&mut bridge, 1, TRIAL), Ok(10 + count), "{text}");
            bridge.reset(0).expect("nothing to do");
            bridge.reset(1).expect("nothing to do");
        }
    }
}

#[test]
fn a_camera_whose_pictures_change_their_size_begins_anew() {
    for text in KEEPING {
        let (mut bridge, _module) = keeping(text);
        for size in [USUAL, TRIAL, USUAL] {
            for count in 1..=2 {
                assert_eq!(frame_of(&mut bridge, 2, size), Ok(10 + count), "{text}");
            }
        }
    }
}

#[test]
fn a_modules_own_reset_is_told_the_camera() {
    for text in [
        "class HeadBlurrer:
    def __init__(self, num_camera=1): self.count = [0] * num_camera
    def process_frame(self, frame, camera_index=0):
        self.count[camera_index] += 1
        return frame + self.count[camera_index]
    def reset(self, camera_index): self.count[camera_index] = 0
",
        "count = [0, 0, 0]
def apply_blur(frame, thread_id=0):
    count[thread_id] += 1
    return frame + count[thread_id]
def reset(cam): count[cam] = 0
",
    ] {
        let (mut bridge, _, _module) = bridge(text);
        bridge.reset(0).expect("at first");
        for _ in 0..2 {
            for count in 1..=2 {
                assert_eq!(frame_of(&mut bridge, 0, USUAL), Ok(10 + count), "{text}");
            }
            bridge.reset(0).expect("resets");
        }
        assert_eq!(frame_of(&mut bridge, 2, USUAL), Ok(11));
        bridge.reset(1).expect("resets");
        assert_eq!(frame_of(&mut bridge, 2, USUAL), Ok(12), "{text}");
    }
}

/// The old system called no `reset`, whatever a module meant by it.
#[test]
fn what_takes_no_camera_is_not_called() {
    for own in [
        "def reset(): raise ValueError('not for you')",
        "def reset(model, path): raise ValueError('not for you')",
        "reset = True",
    ] {
        let (mut bridge, _, _module) = bridge(&format!(
            "count = 0
def apply_blur(frame, thread_id=0):
    global count
    count += 1
    return frame + count
{own}
"
        ));
        for count in 1..=2 {
            bridge.reset(0).expect(own);
            assert_eq!(frame_of(&mut bridge, 0, USUAL), Ok(10 + count), "{own}");
        }
    }
}

#[test]
fn a_reset_that_fails_says_why() {
    let (mut bridge, _, _module) = bridge(
        "def apply_blur(frame, thread_id=0): return frame + 1
def reset(camera_index): raise ValueError('cannot forget')
",
    );
    let error = bridge.reset(0).expect_err("must fail").to_string();
    assert!(error.contains("cannot forget"), "{error}");
}
