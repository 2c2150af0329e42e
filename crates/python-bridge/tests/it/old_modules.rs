//! What modules written for the old system do: all of it works, or fails with a reason.

use super::*;

/// What one call answers: the value all pixels have then, or the reason.
fn run(text: &str) -> Result<u8, String> {
    let (mut bridge, _, _module) = bridge(text);
    let data = pixels(&process(&mut bridge, 1)?);
    assert!(data.iter().all(|byte| *byte == data[0]), "{text}: {data:?}");
    Ok(data[0])
}

#[test]
fn constructors_methods_and_globals_of_all_kinds() {
    for text in [
        "class HeadBlurrer:
    @staticmethod
    def process_frame(frame, camera_index=0): return frame + 1 + camera_index
",
        "class HeadBlurrer:
    @classmethod
    def process_frame(cls, frame): return frame + 2
",
        "class HeadBlurrer:
    def __init__(self, *, num_camera, strength=2, **more): self.by = strength
    def process_frame(self, frame, camera_index): return frame + self.by
",
        "class Base:
    def __init__(self, device='cpu'): self.by = 2
    def process_frame(self, frame, camera_index=0, debug=False): return frame + self.by
class HeadBlurrer(Base): pass
",
        // lazily loaded global state, as tutorials do it
        "model = None
def apply_blur(frame, thread_id=0):
    global model
    if model is None: model = 2
    return frame + model
",
        // a callable object, and a partial
        "class Blur:
    def __call__(self, frame, thread_id=0): return frame + 1 + thread_id
apply_blur = Blur()
",
        "import functools
def blur(by, frame, thread_id=0): return frame + by
apply_blur = functools.partial(blur, 2)
",
        // a decorator that gives the function more than the host does
        "import functools
def with_model(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs): return function(2, *args, **kwargs)
    return wrapper
@with_model
def apply_blur(model, frame, thread_id=0): return frame + model
",
        // an array that is read-only, one that is not contiguous, one of a subclass
        "import numpy
def apply_blur(frame, thread_id=0):
    out = frame + 2
    out.flags.writeable = False
    return out
",
        "import numpy
def apply_blur(frame, thread_id=0): return numpy.asfortranarray(frame + 2)
",
        "import numpy
class Image(numpy.ndarray): pass
def apply_blur(frame, thread_id=0): return (frame + 2).view(Image)
",
        // code behind the usual guard does not run, arguments are not ours
        "import argparse
options = argparse.ArgumentParser().parse_args()
def apply_blur(frame, thread_id=0): return frame + 2
if __name__ == '__main__': raise SystemExit('not for you')
",
        // words to standard output, from C too; a closed or replaced one; logging set up anew
        "import ctypes, logging, sys
logging.basicConfig(stream=sys.stdout, level=logging.DEBUG, force=True)
libc = ctypes.CDLL(None)
def apply_blur(frame, thread_id=0):
    print('a line'); sys.stdout.write('\\rprogress 10 %'); sys.stdout.flush()
    libc.puts(b'from C'); libc.fflush(None); logging.info('logged')
    sys.stdout = None
    return frame + 2
",
        // handlers, threads that never end, processes of its own
        "import atexit, signal, threading, time
signal.signal(signal.SIGINT, lambda *_: None); signal.signal(signal.SIGTERM, signal.SIG_IGN)
atexit.register(print, 'bye')
threading.Thread(target=time.sleep, args=(1000,)).start()
def apply_blur(frame, thread_id=0): return frame + 2
",
        "import concurrent.futures
pool = concurrent.futures.ThreadPoolExecutor(2)
def apply_blur(frame, thread_id=0): return pool.submit(lambda: frame + 2).result()
",
        "import multiprocessing
def add(number): return number + 1
def apply_blur(frame, thread_id=0):
    with multiprocessing.Pool(2) as pool: return frame + sum(pool.map(add, [0, 0]))
",
    ] {
        assert_eq!(run(text), Ok(12), "{text}");
    }
}

#[test]
fn wrong_answers_fail_with_what_is_wrong() {
    for (answer, words) in [
        ("frame[..., 0]", "(5, 7)"),
        ("numpy.dstack([frame, frame[..., :1]])", "(5, 7, 4)"),
        ("frame.astype('float64') / 255", "float64"),
        ("frame.astype('int16')", "int16"),
        ("(frame, 1)", "tuple"),
        ("[frame]", "list"),
        ("frame.tobytes()", "bytes"),
        ("frame[:0]", "(0, 7, 3)"),
        ("numpy.zeros((1080, 1920, 3), 'uint8')", "(1080, 1920, 3)"),
        ("True", "bool"),
        ("1 / 0", "ZeroDivisionError"),
        ("cv2.imshow('x', frame)", "NameError"),
    ] {
        let text = format!("import numpy\ndef apply_blur(frame, thread_id=0): return {answer}\n");
        let error = run(&text).expect_err(answer);
        assert!(error.contains(words), "{answer}: {error}");
    }
}

#[test]
fn siblings_and_the_working_directory_are_found() {
    let module = module(
        "import os, helper
from helper import BY
MODEL = os.path.join(os.getcwd(), 'Cargo.toml')
assert os.path.exists(MODEL) and os.path.exists(os.path.join(os.path.dirname(__file__), 'helper.py'))
def apply_blur(frame, thread_id=0): return frame + BY
",
    );
    std::fs::write(module.path.with_file_name("helper.py"), "BY = 2\n").expect("written");
    let mut bridge = create(&module.path).expect("loads");
    assert_all(&process(&mut bridge, 0).expect("processed"), 12);
}

#[test]
fn what_a_module_imports_and_is_not_there_is_told_with_a_way_out() {
    let late =
        "def apply_blur(frame, thread_id=0):\n    import not_there_at_all\n    return frame\n";
    let at_once = "import not_there_at_all\ndef apply_blur(frame, thread_id=0): return frame\n";
    for error in [
        create(&module(at_once).path).err().expect("refused"),
        run(late).expect_err("fails"),
    ] {
        let first = error.lines().next().unwrap_or_default();
        assert!(
            first.contains("No module named 'not_there_at_all'"),
            "{error}"
        );
        assert!(first.contains("python_executable"), "{error}");
        assert!(
            first.contains(&format!("install it in {}", executable())),
            "{error}"
        );
    }
}

#[test]
fn what_the_sandbox_refuses_is_told_as_such() {
    for text in [
        "raise PermissionError(13, 'Permission denied', 'blur.log')\n",
        "try: raise PermissionError(1, 'Operation not permitted')
except OSError as error: raise RuntimeError('no download') from error\n",
        "try: raise PermissionError(1, 'Operation not permitted')
except OSError: raise ValueError('no model')\n",
        // A name is asked for over the network, too.
        "import socket, urllib.error
try: raise socket.gaierror(-2, 'Name or service not known')
except OSError as error: raise urllib.error.URLError(error)\n",
    ] {
        let error = create(&module(text).path).err().expect(text);
        let first = error.lines().next().unwrap_or_default();
        assert!(first.contains("\"sandbox_writable\""), "{error}");
        assert!(first.contains("no network"), "{error}");
    }
    let other = create(&module("raise ValueError('no model')\n").path).err();
    assert!(!other.expect("refused").contains("sandbox"));
}

/// The interpreter by the name that it knows itself by.
fn executable() -> String {
    let output = std::process::Command::new(python())
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .expect("runs");
    String::from_utf8(output.stdout)
        .expect("a path")
        .trim()
        .to_owned()
}

#[test]
fn a_module_that_ends_the_interpreter_while_loading_is_refused() {
    for (text, words) in [
        ("import sys\nsys.exit('no licence')\n", "no licence"),
        ("import os\nos._exit(4)\n", "exit code 4"),
        ("import os\nos.abort()\n", "signal 6"),
        // its own children hold the socket open; the end is seen all the same
        (
            "import multiprocessing, os, time
multiprocessing.get_context('fork').Process(target=time.sleep, args=(20,)).start()
os._exit(5)\n",
            "exit code 5",
        ),
    ] {
        let module = module(text);
        let began = std::time::Instant::now();
        let error = create(&module.path).err().expect(text);
        assert!(error.contains(words), "{text}: {error}");
        assert!(began.elapsed().as_secs() < 10, "{text}");
    }
}

#[test]
fn an_unchanged_frame_is_known_as_such_and_a_silent_change_is_not() {
    let (mut bridge, _, _module) = bridge(
        "before = None
def apply_blur(frame, thread_id=0):
    if thread_id == 1: frame[-1, -1, -1] += 1
    return frame.copy() if thread_id == 2 else frame
",
    );
    let mut change = |camera| {
        let mut data = picture();
        let info = FrameInfo {
            camera,
            ..FrameInfo::new(PixelFormat::Bgr24, WIDTH, HEIGHT)
        };
        let mut frame = FrameViewMut::new(info, vec![(&mut data, 32)]).expect("a frame");
        bridge.process(&mut frame).expect("processed")
    };
    assert_eq!(
        [0, 1, 2].map(&mut change),
        [Change::Unchanged, Change::Changed, Change::Unchanged]
    );
}

/// A module that keeps the last frames, each filled with its number, and checks that they stay as they are. It runs
/// `first` on a frame before it fills it.
fn keeping(kept: usize, first: &str) -> String {
    format!(
        "import collections
kept, calls = collections.deque(maxlen={kept}), 0
def apply_blur(frame, thread_id=0):
    global calls
    {first}
    frame[:] = calls
    kept.append(frame[1:])
    calls += 1
    seen = [int(f.min()) for f in kept] + [int(f.max()) for f in kept]
    assert seen == 2 * list(range(max(0, calls - {kept}), calls)), seen
    return frame
"
    )
}

/// The old system made a new array for each frame, so a module may simply keep the last ones.
#[test]
fn frames_that_a_module_keeps_stay_as_they_were() {
    for kept in [1, 3, 20] {
        let (mut bridge, _, _module) = bridge(&keeping(kept, ""));
        for call in 0..25 {
            assert_all(&process(&mut bridge, 0).expect("kept"), call);
        }
    }
}

/// Frames of all cameras share the memory, and need not be of one size.
#[test]
fn frames_that_a_module_keeps_stay_as_they_were_whatever_the_size_of_others() {
    for (kept, sizes) in [
        (1, &[(192, 108), (128, 72)][..]),
        (2, &[(128, 72), (192, 108)][..]),
        (5, &[(192, 108), (40, 30), (64, 48)][..]),
        (20, &[(64, 48), (192, 108)][..]),
    ] {
        let given =
            "assert frame.min() == frame.max() == 100 + calls, 'not the frame that was given'";
        let (mut bridge, _, _module) = bridge(&keeping(kept, given));
        for call in 0..60_u8 {
            let camera = usize::from(call) % sizes.len();
            let (width, height) = sizes[camera];
            let mut data = vec![100 + call; width as usize * height as usize * 3];
            let info = FrameInfo {
                camera: camera as u32,
                ..FrameInfo::new(PixelFormat::Bgr24, width, height)
            };
            let mut frame =
                FrameViewMut::new(info, vec![(&mut data, width as usize * 3)]).expect("a frame");
            bridge.process(&mut frame).expect("kept");
            assert!(data.iter().all(|byte| *byte == call));
        }
    }
}

#[test]
fn a_frame_that_a_failed_call_kept_stays_as_it_was() {
    let (mut bridge, _, _module) = bridge(
        "kept = []
def apply_blur(frame, thread_id=0):
    if not kept:
        kept.append(frame)
        raise ValueError('no')
    frame += 1
    assert kept[0].max() == 10
    return frame
",
    );
    process(&mut bridge, 0).expect_err("must fail");
    assert_all(&process(&mut bridge, 0).expect("kept"), 11);
}

#[test]
fn what_a_module_registered_for_the_end_runs() {
    let module = module(
        "import atexit, os, threading, time
atexit.register(lambda: open(__file__ + '.ended', 'w').close())
threading.Thread(target=time.sleep, args=(1000,)).start()
def apply_blur(frame, thread_id=0): return frame
",
    );
    drop(create(&module.path).expect("loads"));
    assert!(module.path.with_file_name("my_blur.py.ended").exists());
}
