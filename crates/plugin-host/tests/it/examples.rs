//! The plugins under examples/ build and do what they say.

use plugin_abi::{Change, FrameInfo, FrameView, FrameViewMut, PixelFormat, PluginKind, RegionKind};
use plugin_host::{Plugin, PluginError};

use crate::build;

#[test]
fn c_mosaic() {
    let built = build::c_example("c-filter", "mosaic.so");
    let plugin = Plugin::load(&built.file).expect("loads");
    assert_eq!(plugin.info().name, "mosaic");
    assert_eq!(plugin.info().kind, Some(PluginKind::Filter));
    assert_eq!(plugin.info().blake3.len(), 64);
    let mut instance = plugin.create(r#"{"cell": 8}"#, 1).expect("starts");
    assert_eq!(instance.wants().format, Some(PixelFormat::I420));

    // Odd sizes and padding: the last cells are cut, the padding is not touched.
    let info = FrameInfo::new(PixelFormat::I420, 13, 9);
    let mut y: Vec<u8> = (0..16 * 9).map(|n| (n * 7 % 251) as u8).collect();
    let (mut u, mut v) = (vec![3; 8 * 5], vec![200; 8 * 5]);
    let before = y.clone();
    let planes = vec![(&mut y[..], 16), (&mut u[..], 8), (&mut v[..], 8)];
    let mut frame = FrameViewMut::new(info, planes).expect("fits");
    let change = instance.process(&mut frame).expect("processes");
    assert_eq!(change, Change::Changed);
    let cell = |x: usize, line: usize| y[line * 16 + x];
    assert!((0..8).all(|line| (0..8).all(|x| cell(x, line) == cell(0, 0))));
    assert_eq!(cell(12, 8), cell(8, 8), "the cut corner cell");
    assert_ne!(cell(0, 0), cell(8, 0));
    for line in 0..9 {
        assert_eq!(
            y[line * 16 + 13..line * 16 + 16],
            before[line * 16 + 13..line * 16 + 16]
        );
    }
}

#[test]
fn c_mosaic_refuses_bad_settings_and_formats() {
    let built = build::c_example("c-filter", "mosaic.so");
    let plugin = Plugin::load(&built.file).expect("loads");
    let error = plugin.create(r#"{"cell": 1}"#, 1).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "plugin mosaic cannot start: cell must be a number from 2 to 256"
    );
    let mut instance = plugin.create("{}", 1).expect("starts");
    let mut data = [0; 12];
    let info = FrameInfo::new(PixelFormat::Bgr24, 2, 2);
    let mut frame = FrameViewMut::new(info, vec![(&mut data[..], 6)]).expect("fits");
    let error = instance.process(&mut frame).expect_err("refused");
    assert!(matches!(error, PluginError::Call { .. }), "{error:?}");
    assert!(error.to_string().contains("not I420"), "{error}");
    let view = frame.as_view();
    let error = instance
        .detect(&view, &mut Vec::new())
        .expect_err("a filter");
    assert!(error.to_string().contains("no detector"), "{error}");
}

#[test]
fn rust_grey_filter() {
    let built = build::rust_example("rust-filter", "libgrey_filter.so");
    let plugin = Plugin::load(&built.file).expect("loads");
    let mut instance = plugin.create("{}", 1).expect("starts");
    let info = FrameInfo::new(PixelFormat::I420, 4, 4);
    let (mut y, mut u, mut v) = ([9u8; 16], [1u8; 4], [2u8; 4]);
    let planes = vec![(&mut y[..], 4), (&mut u[..], 2), (&mut v[..], 2)];
    let mut frame = FrameViewMut::new(info, planes).expect("fits");
    assert_eq!(
        instance.process(&mut frame).expect("first"),
        Change::Changed
    );
    assert_eq!(
        instance.process(&mut frame).expect("again"),
        Change::Unchanged
    );
    assert_eq!((y, u, v), ([9; 16], [128; 4], [128; 4]));
}

#[test]
fn rust_motion_detector() {
    let built = build::rust_example("rust-detector", "libmotion_detector.so");
    let plugin = Plugin::load(&built.file).expect("loads");
    assert_eq!(plugin.info().kind, Some(PluginKind::Detector));
    let error = plugin.create(r#"{"x": 1}"#, 1).expect_err("refused");
    assert!(
        error.to_string().contains("no settings are known"),
        "{error}"
    );

    let mut instance = plugin.create("{}", 2).expect("starts");
    assert_eq!(instance.wants().max_size, Some((320, 180)));
    let mut regions = Vec::new();
    let still = vec![50u8; 64 * 48];
    let mut moved = still.clone();
    for line in 16..24 {
        moved[line * 64 + 8..line * 64 + 16].fill(250);
    }
    let chroma = vec![128u8; 32 * 24];
    let mut show = |luma: &[u8], camera: u32| {
        let info = FrameInfo {
            camera,
            ..FrameInfo::new(PixelFormat::I420, 64, 48)
        };
        let frame = FrameView::new(info, &[(luma, 64), (&chroma, 32), (&chroma, 32)]);
        let result = instance.detect(&frame.expect("fits"), &mut regions);
        result.map(|()| regions.clone())
    };
    assert_eq!(show(&still, 0).expect("first"), []);
    assert_eq!(show(&moved, 1).expect("another camera"), []);
    let found = show(&moved, 0).expect("moved");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (found[0].x, found[0].y, found[0].kind),
        (8.0, 16.0, RegionKind::Other)
    );
    assert!(
        show(&moved, 7)
            .expect_err("unknown camera")
            .to_string()
            .contains("camera 7")
    );
    instance.reset(0).expect("resets");
}
