//! The examples and the guide's code, built and run as a user would, on videos.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use media::synth::TestVideo;
use serde_json::{Value, json};

use crate::support::{PROGRAM, Site, look};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&both).into_owned()
}

fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    text(&output)
}

/// Builds the bridge beside the program, where it is looked for.
fn bridge() {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let profile_dir = Path::new(PROGRAM).parent().unwrap();
        let mut command = Command::new(env!("CARGO"));
        command
            .args(["build", "--quiet", "--offline", "-p", "python-bridge"])
            .arg("--target-dir")
            .arg(profile_dir.parent().unwrap())
            .current_dir(root());
        if profile_dir.ends_with("release") {
            command.arg("--release");
        }
        run(&mut command);
    });
}

/// Builds a Rust plugin; returns the library.
fn rust_plugin(manifest: &Path, library: &str) -> PathBuf {
    static TARGET: OnceLock<tempfile::TempDir> = OnceLock::new();
    let target = TARGET.get_or_init(|| tempfile::tempdir().unwrap()).path();
    run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(target));
    target.join("debug").join(library)
}

/// A Python with OpenCV 4, made once and kept in the target folder; none without network or venv.
fn opencv4() -> Option<&'static Path> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("venv-opencv4");
        let python = folder.join("bin/python");
        let is_ready = || {
            let check = "import cv2, sys; sys.exit(not hasattr(cv2, 'CascadeClassifier'))";
            let run = Command::new(&python).args(["-c", check]).status();
            run.is_ok_and(|status| status.success())
        };
        if !is_ready() {
            let steps: [(&Path, &[&str]); 2] = [
                (Path::new("/usr/bin/python3"), &["-m", "venv"]),
                (
                    &python,
                    &[
                        "-m",
                        "pip",
                        "install",
                        "--quiet",
                        "opencv-python-headless<5",
                    ],
                ),
            ];
            for (number, (program, arguments)) in steps.into_iter().enumerate() {
                let mut command = Command::new(program);
                command.args(arguments);
                if number == 0 {
                    command.arg(&folder);
                }
                if !command.status().is_ok_and(|status| status.success()) {
                    break;
                }
            }
        }
        is_ready().then_some(python)
    });
    if made.is_none() {
        eprintln!("SKIPPED: no venv with opencv-python-headless<5 can be made here");
    }
    made.as_deref()
}

/// Runs a plugin both ways: `blur IN OUT`, and with a ticket. The published pictures must be the same in number, and
/// what `check` is shown of them right.
fn both_ways(module: &Path, plugin: Value, check: impl Fn(&Path)) {
    let mut site = Site::new(json!({ "blur_module_path": module, "plugin": plugin }));
    let stem = site.add("a", &TestVideo::default());
    TestVideo::default().write(site.path("in.mp4")).unwrap();
    run(&mut site.command(&["blur", "in.mp4", "out.mp4"]));
    check(&site.path("out.mp4"));
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    assert_eq!(site.why(&stem), None);
    check(&site.published("a"));
}

fn nothing_readable(path: &Path) {
    let shown = look(path).numbers;
    assert_eq!(shown.len(), 30);
    assert!(shown.iter().all(Option::is_none), "{shown:?}");
}

fn all_readable(path: &Path) {
    let shown = look(path).numbers;
    assert!(shown.iter().all(Option::is_some), "{shown:?}");
}

#[test]
fn native_examples() {
    let built = tempfile::tempdir().unwrap();
    run(Command::new("make")
        .arg("--silent")
        .arg("-f")
        .arg(root().join("examples/c-filter/Makefile"))
        .arg(format!("OUT={}", built.path().display())));
    both_ways(
        &built.path().join("mosaic.so"),
        json!({ "cell": 64 }),
        nothing_readable,
    );

    let grey = rust_plugin(
        &root().join("examples/rust-filter/Cargo.toml"),
        "libgrey_filter.so",
    );
    both_ways(&grey, json!({}), |path| {
        let mut colours = std::collections::BTreeSet::new();
        let file = fs::File::open(path).unwrap();
        media::verify::verify_frames(
            file,
            &media::verify::VerifyOptions::default(),
            &mut |frame| {
                for plane in [1, 2] {
                    colours.extend(
                        frame.plane(plane).data[..frame.plane(plane).row_bytes]
                            .iter()
                            .copied(),
                    );
                }
                Ok(())
            },
        )
        .unwrap();
        assert!(
            colours.iter().all(|colour| colour.abs_diff(128) <= 3),
            "{colours:?}"
        );
        all_readable(path);
    });

    let motion = rust_plugin(
        &root().join("examples/rust-detector/Cargo.toml"),
        "libmotion_detector.so",
    );
    let mut site = Site::new(json!({ "blur_module_path": motion, "plugin": {} }));
    let stem = site.add("a", &TestVideo::default());
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    assert_eq!(site.why(&stem), None);
    let report = site.report("a").video;
    assert!(report.frames_masked > 20 && report.tracks > 0, "{report:?}");
}

#[test]
fn the_python_example_with_opencv_4() {
    let Some(python) = opencv4() else { return };
    bridge();
    let example = root().join("examples/example_blur_module.py");
    let said = run(Command::new(python).arg(&example));
    assert!(said.contains("ok") && said.contains("OpenCV 4"), "{said}");
    // The test pictures show no face: they come out as they were.
    both_ways(
        &example,
        json!({ "python_executable": python }),
        all_readable,
    );
    // A module of the kind users have, with OpenCV at work.
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("old.py");
    let old = "import cv2\ndef apply_blur(frame, thread_id=0): return cv2.GaussianBlur(frame, (151, 151), 0)\n";
    fs::write(&module, old).unwrap();
    both_ways(
        &module,
        json!({ "python_executable": python }),
        nothing_readable,
    );
}

#[test]
fn the_python_example_says_which_opencv_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cv2.py"), "__version__ = '5.0.0'\n").unwrap();
    let output = Command::new("/usr/bin/python3")
        .arg(root().join("examples/example_blur_module.py"))
        .env("PYTHONPATH", folder.path())
        .output()
        .unwrap();
    let said = text(&output);
    assert!(!output.status.success());
    assert!(
        said.contains("opencv-python-headless<5") && !said.contains("Traceback"),
        "{said}"
    );
}

#[test]
fn the_self_tests_picture_is_not_the_first_of_a_camera() {
    bridge();
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("old.py");
    let old = "import numpy
class HeadBlurrer:
    def __init__(self, num_camera=1): self.last = [None] * num_camera
    def process_frame(self, frame, camera_index=0):
        last, self.last[camera_index] = self.last[camera_index], frame.copy()
        if last is not None: numpy.subtract(frame, last)
        frame[:] = 128
        return frame
";
    fs::write(&module, old).unwrap();
    let plugin = json!({ "python_executable": "/usr/bin/python3" });
    both_ways(&module, plugin, nothing_readable);
}

#[test]
fn the_python_detector_needs_ultralytics_at_its_first_frame_only() {
    bridge();
    let example = root().join("examples/yolo_detector.py");
    let import = "import yolo_detector; print(yolo_detector.DETECT_SIZE)";
    run(Command::new("/usr/bin/python3")
        .args(["-c", import])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(root().join("examples")));
    let plugin = json!({ "python_executable": "/usr/bin/python3" });
    let site = Site::new(json!({ "blur_module_path": example, "plugin": plugin }));
    let output = site
        .command(&["check-plugin", example.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(
        !output.status.success() && text(&output).contains("ultralytics is missing"),
        "{}",
        text(&output)
    );

    // With a package of that name that sees one head in the number's place: the way of its boxes into masks. It is hidden
    // however its class is written; a model whose classes are all others is refused, since it would never find anybody.
    TestVideo::default().write(site.path("in.mp4")).unwrap();
    let blur = |class: &str| {
        let package = format!(
            "class Box:
    cls, conf, xyxy = 0, 0.9, [(0.0, 0.0, 320.0, 48.0)]
class Result:
    names, boxes = {{0: '{class}'}}, [Box()]
class YOLO:
    names = Result.names
    def __init__(self, model): pass
    def predict(self, frame, **options): return [Result()]
"
        );
        fs::write(site.path("ultralytics.py"), package).unwrap();
        site.command(&["blur", "in.mp4", &format!("{class}.mp4")])
            .env("PYTHONPATH", site.path("."))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .unwrap()
    };
    for class in ["head", "Head"] {
        let output = blur(class);
        assert!(output.status.success(), "{class}: {}", text(&output));
        nothing_readable(&site.path(&format!("{class}.mp4")));
    }
    for class in ["pedestrian", "helmet"] {
        let output = blur(class);
        let said = text(&output);
        assert!(
            !output.status.success() && said.contains(class) && said.contains("CLASSES"),
            "{class}: {said}"
        );
    }
}

/// The guide's code block that names this file in its first line.
fn block(file: &str) -> String {
    let guide = fs::read_to_string(root().join("docs/plugins.md")).unwrap();
    let blocks = guide.split("\n```").skip(1).step_by(2);
    let found = blocks
        .filter_map(|block| block.split_once('\n'))
        .find(|(_, code)| {
            code.lines()
                .next()
                .is_some_and(|first| first.contains(file))
        });
    found
        .unwrap_or_else(|| panic!("no block for {file}"))
        .1
        .to_owned()
}

#[test]
fn the_guides_code_builds_and_runs() {
    bridge();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("src")).unwrap();
    for name in ["my_blur.py", "my_detector.py", "src/lib.rs", "my_filter.c"] {
        fs::write(path(name), block(name)).unwrap();
    }
    let abi = root().join("crates/plugin-abi");
    let manifest =
        block("Cargo.toml").replace("../rtsp-recorder/crates/plugin-abi", abi.to_str().unwrap());
    fs::write(path("Cargo.toml"), manifest).unwrap();
    let library = rust_plugin(&path("Cargo.toml"), "libmy_detector.so");
    run(Command::new("cc")
        .args([
            "-std=c11", "-O2", "-Wall", "-Werror", "-fPIC", "-shared", "-I",
        ])
        .arg(abi.join("include"))
        .arg("-o")
        .arg(path("my_filter.so"))
        .arg(path("my_filter.c")));
    let plugin = json!({ "python_executable": "/usr/bin/python3" });
    for module in [
        path("my_blur.py"),
        path("my_detector.py"),
        path("my_filter.so"),
    ] {
        both_ways(&module, plugin.clone(), nothing_readable);
    }
    let site = Site::new(json!({}));
    run(&mut site.command(&["check-plugin", library.to_str().unwrap(), "--frames", "10"]));
}
