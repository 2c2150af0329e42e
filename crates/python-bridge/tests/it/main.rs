//! Real interpreters, real modules: what users' Python files may do, and what happens when they do it wrong.

use std::path::{Path, PathBuf};
use std::process::Command;

mod old_modules;
mod resets;

use plugin_abi::{
    Change, CreateContext, FrameInfo, FrameView, FrameViewMut, InstanceInfo, PixelFormat, Plugin,
    PluginKind, Region,
};
use python_bridge::PythonBridge;

/// An interpreter that has numpy: the system's, or whichever comes first in PATH.
fn python() -> &'static str {
    for candidate in ["/usr/bin/python3", "python3"] {
        let found = Command::new(candidate)
            .args(["-c", "import numpy"])
            .output();
        if found.is_ok_and(|output| output.status.success()) {
            return candidate;
        }
    }
    panic!("no Python with numpy here; scripts/setup installs python3-numpy");
}

struct Module {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn module(text: &str) -> Module {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("my_blur.py");
    std::fs::write(&path, text).expect("written");
    Module {
        _folder: folder,
        path,
    }
}

fn create(path: &Path) -> Result<PythonBridge, String> {
    let settings = serde_json::json!({
        "module": path, "python_executable": python(), "frame_timeout": 2.0, "colour": "the module's own key",
    });
    PythonBridge::create(&CreateContext {
        settings: &settings.to_string(),
        cameras: 3,
    })
    .map_err(|e| e.to_string())
}

fn bridge(text: &str) -> (PythonBridge, InstanceInfo, Module) {
    let module = module(text);
    let bridge = create(&module.path).expect("the module loads");
    let info = bridge.info();
    (bridge, info, module)
}

const WIDTH: u32 = 7;
const HEIGHT: u32 = 5;

/// A picture with padded rows, each byte 10, padding 99.
fn picture() -> Vec<u8> {
    let mut data = vec![99; 32 * HEIGHT as usize];
    for row in data.chunks_mut(32) {
        row[..WIDTH as usize * 3].fill(10);
    }
    data
}

fn process(bridge: &mut PythonBridge, camera: u32) -> Result<Vec<u8>, String> {
    let mut data = picture();
    let info = FrameInfo {
        camera,
        ..FrameInfo::new(PixelFormat::Bgr24, WIDTH, HEIGHT)
    };
    let mut frame = FrameViewMut::new(info, vec![(&mut data, 32)]).expect("a frame");
    bridge
        .process(&mut frame)
        .map_err(|error| error.to_string())?;
    Ok(data)
}

fn pixels(data: &[u8]) -> Vec<u8> {
    data.chunks(32)
        .flat_map(|row| &row[..WIDTH as usize * 3])
        .copied()
        .collect()
}

fn assert_all(data: &[u8], value: u8) {
    assert!(
        pixels(data).iter().all(|byte| *byte == value),
        "{:?}",
        pixels(data)
    );
    assert!(
        data.chunks(32)
            .all(|row| row[WIDTH as usize * 3..].iter().all(|byte| *byte == 99)),
        "padding is left alone"
    );
}

#[test]
fn a_class_that_changes_the_frame_in_place_keeps_its_state() {
    let (mut bridge, info, _module) = bridge(
        "class HeadBlurrer:
    def __init__(self, num_camera=1):
        print('loading', num_camera)
        self.seen, self.cameras = 0, num_camera
    def process_frame(self, frame, camera_index=0):
        assert frame.flags['C_CONTIGUOUS'] and frame.flags['WRITEABLE'] and frame.dtype == 'uint8'
        assert frame.shape == (5, 7, 3)
        self.seen += 1
        frame[:] = 100 * self.cameras // 3 + 10 * camera_index + self.seen
        return frame
",
    );
    assert_eq!(info.kind, PluginKind::Filter);
    assert_eq!(info.wants.format, Some(PixelFormat::Bgr24));
    assert!(
        info.info_json.contains("HeadBlurrer.process_frame"),
        "{}",
        info.info_json
    );
    assert_all(&process(&mut bridge, 2).expect("first"), 121);
    assert_all(&process(&mut bridge, 1).expect("second"), 112);
}

#[test]
fn other_signatures_of_the_class_work() {
    for text in [
        // no second parameter, another constructor
        "class HeadBlurrer:
    def __init__(self, model='x.pt', size=640): pass
    def process_frame(self, frame): return frame + 32
",
        // another name for the camera, no constructor
        "class HeadBlurrer:
    def process_frame(self, image, cam): return image + 30 + cam
",
        "class HeadBlurrer:
    def __init__(self, **options): assert options == {'num_camera': 3}
    def process_frame(self, frame, *, camera_index): return frame + 30 + camera_index
",
        "class HeadBlurrer:
    def __init__(self, num_camera): pass
    def process_frame(self, *args, **kwargs): return args[0] + 32
",
        // the number of cameras under another name
        "class HeadBlurrer:
    def __init__(self, num_cameras): self.cameras = num_cameras
    def process_frame(self, frame, cam_id=0): return frame + 27 + self.cameras + cam_id
",
        // a second parameter that is something else keeps its default
        "class HeadBlurrer:
    def __init__(self, model_path=None, conf_threshold=0.3): self.count = 0
    def process_frame(self, frame, frame_interval=1, blur_strength=0.01, should_detect=None):
        assert (frame_interval, self.count % frame_interval) == (1, 0)
        self.count += 1
        return frame + 32
",
        "def apply_blur(frame, frame_interval: int = 3, blur_strength: float = 0.01):
    return frame + 29 + frame_interval
",
        // the class is preferred to the function
        "class HeadBlurrer:
    def process_frame(self, frame, camera_index=0): return frame + 32
def apply_blur(frame, thread_id=0): return frame
",
        "def apply_blur(frame, thread_id=0): return frame + 30 + thread_id
",
        "def apply_blur(frame): return frame + 32
",
        // a view of the frame, turned around: memory is shared, pixels are not where they were
        "def apply_blur(frame, thread_id=0):
    frame += 32
    return frame[::-1, ::-1]
",
    ] {
        let (mut bridge, info, _module) = bridge(text);
        assert_eq!(info.kind, PluginKind::Filter);
        assert_all(
            &process(&mut bridge, 2).unwrap_or_else(|error| panic!("{text}: {error}")),
            42,
        );
    }
}

/// What is given to it is told by its name and its default, since a number for something else may switch the module off.
#[test]
fn only_what_numbers_a_camera_is_given_the_cameras_number() {
    for parameter in [
        "thread_idx",
        "threadIndex",
        "thread",
        "cam",
        "camera = 0",
        "cam_no",
        "cameraId = None",
        "camera_number = 1",
        "id_camera",
        "stream_id",
        "source_index = 0",
        "channel",
        "ch",
        "worker_id",
        "idx",
        "index = 0",
        "id = None",
        "i",
        "tid",
        "_camera_index = 0",
    ] {
        let name = parameter.split(' ').next().expect("a name");
        let text = format!("def apply_blur(frame, {parameter}): return frame + {name}\n");
        let (mut bridge, _, _module) = bridge(&text);
        assert_all(&process(&mut bridge, 2).expect(&text), 12);
    }
    for parameter in [
        "frame_idx = 7",
        "frame_index = 7",
        "frame_id = 7",
        "frameIndex = 7",
        "class_id = 7",
        "track_id = 7",
        "obj_id = 7",
        "model_idx = 7",
        "face_index = 7",
        "device_id = 7",
        "channels = 7",
        "threads = 7",
        "stream_mode = 7",
        "use_threads = 7",
        "camera_matrix = 7",
        "camera_count = 7",
        "conf = 7",
        "stream = True",
        "camera = 'front'",
    ] {
        let name = parameter.split(' ').next().expect("a name");
        let text = format!(
            "def apply_blur(frame, {parameter}): return frame + 7 * ({name} in (7, True, 'front'))\n"
        );
        let (mut bridge, _, _module) = bridge(&text);
        assert_all(&process(&mut bridge, 2).expect(&text), 17);
    }
    // Whoever does not care about it.
    let (mut bridge, _, _module) = bridge("def apply_blur(frame, _): return frame + 1\n");
    assert_all(&process(&mut bridge, 2).expect("processed"), 11);
}

#[test]
fn a_parameter_that_nobody_knows_is_refused_when_the_module_is_loaded() {
    for (text, parameter) in [
        (
            "def detect(frame, conf_threshold): return []\n",
            "conf_threshold",
        ),
        ("def detect(frame, frame_idx): return []\n", "frame_idx"),
        (
            "def apply_blur(frame, strength, thread_id=0): return frame\n",
            "strength",
        ),
        (
            "class HeadBlurrer:
    def process_frame(self, frame, camera_matrix): return frame
",
            "camera_matrix",
        ),
        (
            "class HeadBlurrer:
    def process_frame(self, frame, *, tracker): return frame
",
            "tracker",
        ),
        (
            "class HeadBlurrer:
    def __init__(self, camera_matrix): pass
    def process_frame(self, frame): return frame
",
            "camera_matrix",
        ),
    ] {
        let module = module(text);
        let error = create(&module.path).err().expect(text);
        assert!(
            error.contains(parameter) && error.contains("default"),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_module_that_breaks_the_rules_fails_with_a_reason_and_works_afterwards() {
    let (mut bridge, _, _module) = bridge(
        "import numpy
CALLS = []
def apply_blur(frame, thread_id=0):
    CALLS.append(1)
    match len(CALLS):
        case 1: return None
        case 2: return frame[:2]
        case 3: return frame.astype('float32')
        case 4: return 'blurred'
        case 5: raise ValueError('no model for you')
        case 6: exit(0)
    return frame + 1
",
    );
    let mut fails = |words: &[&str]| {
        let error = process(&mut bridge, 0).expect_err("must fail");
        for word in words {
            assert!(error.contains(word), "{word:?} is missing in {error:?}");
        }
    };
    fails(&["returned None"]);
    fails(&["(2, 7, 3)", "(5, 7, 3)"]);
    fails(&["float32"]);
    fails(&["str"]);
    fails(&["ValueError: no model for you", "Traceback", "my_blur.py"]);
    fails(&["SystemExit"]);
    assert_all(&process(&mut bridge, 0).expect("works again"), 11);
}

#[test]
fn a_crash_or_a_hang_ends_the_interpreter_and_the_next_call_has_a_new_one() {
    for (bad, words) in [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
        ("os._exit(3)", "exit code 3"),
        ("time.sleep(60)", "no answer for 2 s"),
    ] {
        let (mut bridge, _, module) = bridge(&format!(
            "import os, signal, time
def apply_blur(frame, thread_id=0):
    if thread_id == 1:
        {bad}
    return frame + 1
"
        ));
        assert_all(&process(&mut bridge, 0).expect("fine before"), 11);
        let error = process(&mut bridge, 1).expect_err("must fail");
        assert!(error.contains(words), "{error}");
        assert_all(&process(&mut bridge, 0).expect("fine after"), 11);
        drop(module);
    }
}

/// What a child answered was taken for the module's own answer, and the frame taken away before the module was at it.
#[test]
fn a_child_of_the_module_answers_nothing() {
    for fork in ["os.fork()", "ctypes.CDLL(None).fork()"] {
        for child in [
            "return frame",
            "time.sleep(0.15); return copy",
            "sys.exit(0)",
            "raise ValueError('child')",
        ] {
            let (mut bridge, _, _module) = bridge(&format!(
                "import ctypes, os, sys, time
def apply_blur(frame, thread_id=0):
    copy = frame.copy()
    if {fork} == 0:
        {child}
    frame += 1 + thread_id
    time.sleep(0.1)
    return frame
"
            ));
            for camera in 0..3 {
                let data = process(&mut bridge, u32::from(camera)).expect("processed");
                assert_all(&data, 11 + camera);
            }
        }
    }
}

/// A module with a function that writes into the bridge's socket, as nothing should.
const SAYS: &str = "import os, threading, time
def say(text):
    for descriptor in os.listdir('/proc/self/fd'):
        try:
            if os.readlink('/proc/self/fd/' + descriptor).startswith('socket:'):
                os.write(int(descriptor), text.encode() + b'\\n')
        except OSError: pass
";

#[test]
fn an_answer_to_another_request_ends_the_interpreter() {
    for answer in [r#"{"ok": true}"#, r#"{"ok": true, "number": 1}"#] {
        let (mut bridge, _, _module) = bridge(&format!(
            "{SAYS}
def apply_blur(frame, thread_id=0):
    if thread_id == 1: say('{answer}'); time.sleep(0.1)
    return frame + 1
"
        ));
        assert_all(&process(&mut bridge, 0).expect("fine before"), 11);
        let error = process(&mut bridge, 1).expect_err(answer);
        assert!(error.contains("another request"), "{error}");
        assert_all(&process(&mut bridge, 0).expect("fine after"), 11);
    }
}

#[test]
fn words_that_nobody_asked_for_end_the_interpreter() {
    let (mut bridge, _, module) = bridge(&format!(
        "{SAYS}
def later():
    say('{{}}')
    open(__file__ + '.said', 'w').close()
def apply_blur(frame, thread_id=0):
    if thread_id == 1: threading.Timer(0.1, later).start()
    return frame + 1
"
    ));
    assert_all(&process(&mut bridge, 1).expect("fine before"), 11);
    while !module.path.with_file_name("my_blur.py.said").exists() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let error = process(&mut bridge, 0).expect_err("not asked");
    assert!(error.contains("without being asked"), "{error}");
    assert_all(&process(&mut bridge, 0).expect("fine after"), 11);
}

#[test]
fn a_detector_names_its_size_and_returns_regions() {
    let (mut bridge, info, _module) = bridge(
        "DETECT_SIZE = (640, 384)
def detect(frame, camera_index):
    assert frame.shape == (5, 7, 3)
    if camera_index == 1: return [(1, 2, 3)]
    if camera_index == 2: return None
    return [(1, 2, 3, 4, 0.5), [frame.max(), 0, 1, 1, 1]]
",
    );
    assert_eq!(info.kind, PluginKind::Detector);
    assert_eq!(info.wants.max_size, Some((640, 384)));
    let data = picture();
    let mut detect = |camera| {
        let info = FrameInfo {
            camera,
            ..FrameInfo::new(PixelFormat::Bgr24, WIDTH, HEIGHT)
        };
        let mut regions: Vec<Region> = Vec::new();
        bridge
            .detect(
                &FrameView::new(info, &[(&data, 32)]).expect("a frame"),
                &mut regions,
            )
            .map(|()| regions)
            .map_err(|error| error.to_string())
    };
    let found = detect(0).expect("regions");
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].x, found[0].height, found[0].score),
        (1.0, 4.0, 0.5)
    );
    assert_eq!(found[1].x, 10.0);
    assert!(detect(1).expect_err("three numbers").contains("3 numbers"));
    assert!(detect(2).expect_err("None").contains("returned None"));
}

/// An empty one of them looked like an empty list, so like nobody in the picture.
#[test]
fn an_answer_that_is_no_list_of_boxes_is_not_taken_for_nothing_found() {
    for answer in ["{}", "{'boxes': []}", "''", "b''", "bytearray()"] {
        let (mut bridge, _, _module) = bridge(&format!(
            "def detect(frame, camera_index): return {answer}\n"
        ));
        let error = detect(&mut bridge).expect_err(answer);
        assert!(error.contains("must return a list"), "{answer}: {error}");
    }
    for answer in ["[]", "()", "numpy.empty((0, 5))", "iter([])"] {
        let (mut bridge, _, _module) = bridge(&format!(
            "import numpy\ndef detect(frame, camera_index): return {answer}\n"
        ));
        assert_eq!(detect(&mut bridge).expect(answer), 0);
    }
}

/// How many regions there are in a picture.
fn detect(bridge: &mut PythonBridge) -> Result<usize, String> {
    let info = FrameInfo::new(PixelFormat::Bgr24, WIDTH, HEIGHT);
    let data = picture();
    let frame = FrameView::new(info, &[(&data, 32)]).expect("a frame");
    let mut regions: Vec<Region> = Vec::new();
    bridge
        .detect(&frame, &mut regions)
        .map_err(|error| error.to_string())?;
    Ok(regions.len())
}

#[test]
fn a_module_that_cannot_be_loaded_says_why() {
    for (text, words) in [
        (
            "def something_else(): pass\n",
            "neither a class HeadBlurrer",
        ),
        ("class HeadBlurrer: pass\n", "no method process_frame"),
        (
            "class HeadBlurrer:\n    def __init__(self, weights): pass\n",
            "weights",
        ),
        (
            "import a_package_that_is_not_there\n",
            "a_package_that_is_not_there",
        ),
        ("def broken(:\n", "SyntaxError"),
    ] {
        let module = module(text);
        let error = create(&module.path)
            .err()
            .unwrap_or_else(|| panic!("{text} must not load"));
        assert!(error.contains(words), "{words:?} is missing in {error:?}");
        assert!(error.contains("my_blur.py"), "{error}");
    }
    assert!(
        create(Path::new("/nowhere/my_blur.py"))
            .err()
            .expect("no file")
            .contains("/nowhere/my_blur.py")
    );
    let module = module("def apply_blur(frame): return frame\n");
    let settings =
        serde_json::json!({ "module": module.path, "python_executable": "/nowhere/python" })
            .to_string();
    let error = PythonBridge::create(&CreateContext {
        settings: &settings,
        cameras: 1,
    })
    .err()
    .expect("no interpreter");
    assert!(
        error.to_string().contains("/nowhere/python")
            && error.to_string().contains("python_executable"),
        "{error}"
    );
}

#[test]
fn the_frame_size_may_change() {
    let (mut bridge, _, _module) = bridge("def apply_blur(frame, thread_id=0): return frame + 1\n");
    for (width, height) in [(4, 4), (1920, 1080), (64, 48), (2560, 1440)] {
        let mut data = vec![5; width as usize * height as usize * 3];
        let info = FrameInfo::new(PixelFormat::Bgr24, width, height);
        let mut frame =
            FrameViewMut::new(info, vec![(&mut data, width as usize * 3)]).expect("a frame");
        bridge.process(&mut frame).expect("processed");
        assert!(data.iter().all(|byte| *byte == 6));
    }
}
