//! What the bridge itself costs per frame: a module that does nothing, and one that changes every pixel.
#![expect(clippy::unwrap_used, reason = "a benchmark fails where it is wrong")]

use criterion::{Criterion, criterion_group, criterion_main};
use plugin_abi::{CreateContext, FrameInfo, FrameView, FrameViewMut, PixelFormat, Plugin as _};
use python_bridge::PythonBridge;

const SIZE: (u32, u32) = (1920, 1080);

fn bridge(text: &str) -> (tempfile::TempDir, PythonBridge) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("module.py");
    std::fs::write(&path, text).unwrap();
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "/usr/bin/python3".to_owned());
    let settings = serde_json::json!({ "module": path, "python_executable": python }).to_string();
    let bridge = PythonBridge::create(&CreateContext {
        settings: &settings,
        cameras: 1,
    });
    (folder, bridge.unwrap())
}

fn benches(criterion: &mut Criterion) {
    let stride = SIZE.0 as usize * 3;
    let mut data: Vec<u8> = (0..stride * SIZE.1 as usize)
        .map(|n| (n % 251) as u8)
        .collect();
    let info = FrameInfo::new(PixelFormat::Bgr24, SIZE.0, SIZE.1);
    for (name, text) in [
        (
            "filter that does nothing, 1080p",
            "def apply_blur(frame, thread_id=0): return frame\n",
        ),
        (
            "filter that inverts in place, 1080p",
            "import numpy\ndef apply_blur(frame, thread_id=0): return numpy.bitwise_not(frame, out=frame)\n",
        ),
    ] {
        let (_folder, mut bridge) = bridge(text);
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut frame = FrameViewMut::new(info, vec![(&mut data, stride)]).unwrap();
                bridge.process(&mut frame).unwrap()
            });
        });
    }
    let (_folder, mut bridge) = bridge("def detect(frame, camera_index): return []\n");
    criterion.bench_function("detector that finds nothing, 640x384", |bencher| {
        let info = FrameInfo::new(PixelFormat::Bgr24, 640, 384);
        bencher.iter(|| {
            let frame = FrameView::new(info, &[(&data, 640 * 3)]).unwrap();
            bridge.detect(&frame, &mut Vec::new()).unwrap();
        });
    });
}

criterion_group!(bridge_cost, benches);
criterion_main!(bridge_cost);
