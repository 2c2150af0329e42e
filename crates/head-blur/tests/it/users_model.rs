//! A user's own model works through the settings alone, or says why not.

use std::fs;

use head_blur::HeadBlur;
use plugin_abi::{CreateContext, Detector, Failure, RegionKind};

use crate::onnx::answering;
use crate::{detect, plugin};

/// Input of the models here; 84 cells.
const INPUT: (u64, u64) = (64, 64);
const CELLS: u64 = 84;

/// A plugin with this model and these further settings.
fn with(model: &[u8], more: &str) -> Result<HeadBlur, Failure> {
    let folder = tempfile::tempdir().expect("a temp dir");
    let file = folder.path().join("my.onnx");
    fs::write(&file, model).expect("written");
    plugin(&format!(r#", "model": {file:?}{more}"#))
}

fn refusal(model: &[u8], more: &str) -> String {
    match with(model, more) {
        Ok(_) => panic!("not refused"),
        Err(error) => error.to_string(),
    }
}

/// Rows of the v5 family: a head in the middle left, a car.
fn rows() -> Vec<u8> {
    let mut values = vec![0.0; 3 * CELLS as usize * 7];
    values[..7].copy_from_slice(&[16.0, 20.0, 8.0, 8.0, 0.9, 0.0, 0.9]);
    values[7..14].copy_from_slice(&[40.0, 20.0, 8.0, 8.0, 0.9, 0.9, 0.0]);
    let names = "{0: 'car', 1: 'head'}";
    answering(INPUT, [1, 3 * CELLS, 7], &values, Some(names), false)
}

#[test]
fn v5_rows_with_classes_by_name() {
    let mut plugin = with(&rows(), "").expect("starts");
    assert_eq!(plugin.wants().max_size, Some((64, 64)));
    assert!(plugin.info_json().contains("my.onnx"));
    // 1280 x 720 becomes 64 x 36: twenty picture pixels are one of the input.
    let picture = vec![90; 1280 * 720 * 3];
    let regions = detect(&mut plugin, (1280, 720), &picture);
    let [head] = regions[..] else {
        panic!("{regions:?}")
    };
    assert_eq!(head.kind, RegionKind::Head);
    assert!(
        (head.x - 240.0).abs() < 0.1 && (head.width - 160.0).abs() < 0.1,
        "{head:?}"
    );
    assert!((head.y - 320.0).abs() < 0.1, "{head:?}");

    let mut plugin = with(&rows(), r#", "classes": ["CAR"]"#).expect("starts");
    let regions = detect(&mut plugin, (1280, 720), &picture);
    assert_eq!(regions.len(), 1);
    assert_eq!(regions[0].kind, RegionKind::Other);
}

#[test]
fn v8_columns_of_persons_become_heads_or_bodies() {
    let mut values = vec![0.0; 5 * CELLS as usize];
    for (channel, value) in [32.0, 32.0, 16.0, 48.0, 0.8].into_iter().enumerate() {
        values[channel * CELLS as usize + 40] = value;
    }
    let model = answering(INPUT, [1, 5, CELLS], &values, Some("{0: 'person'}"), false);
    let picture = vec![90; 64 * 64 * 3];
    let mut heads = with(&model, "").expect("starts");
    let regions = detect(&mut heads, (64, 64), &picture);
    assert_eq!(regions.len(), 1);
    assert_eq!(regions[0].kind, RegionKind::Head);
    assert!(regions[0].height < 12.0, "{regions:?}");
    let mut bodies = with(&model, r#", "target": "person""#).expect("starts");
    let regions = detect(&mut bodies, (64, 64), &picture);
    assert_eq!(regions.len(), 1);
    assert_eq!(
        (regions[0].kind, regions[0].height),
        (RegionKind::Person, 48.0)
    );
}

#[test]
fn finished_boxes_without_names() {
    let values = [
        10.0, 10.0, 20.0, 22.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
    ];
    let model = answering(INPUT, [1, 2, 6], &values, None, false);
    let mut plugin = with(&model, r#", "classes": [0]"#).expect("starts");
    let regions = detect(&mut plugin, (64, 64), &vec![90; 64 * 64 * 3]);
    assert_eq!(regions.len(), 1);
    assert_eq!(
        (regions[0].kind, regions[0].width),
        (RegionKind::Head, 10.0)
    );
}

#[test]
fn unusable_models_are_explained() {
    let text = refusal(b"no model at all", "");
    assert!(text.contains("my.onnx: cannot be read"), "{text}");
    let strange = answering(INPUT, [1, 9, 9], &[0.0; 81], None, false);
    let text = refusal(&strange, "");
    assert!(text.contains("none of the YOLO layouts"), "{text}");
    let half = answering(INPUT, [1, 2, 6], &[0.0; 12], None, true);
    let text = refusal(&half, "");
    assert!(text.contains("half=False"), "{text}");
    let text = refusal(&rows(), r#", "classes": ["hat"]"#);
    assert!(
        text.contains("no class \"hat\"; it has car, head"),
        "{text}"
    );
}

#[test]
fn a_damaged_model_is_told_in_one_line_with_what_to_do() {
    let text = refusal(b"no model at all", "");
    assert!(
        text.contains("model my.onnx: cannot be read, it is damaged or no model"),
        "{text}"
    );
    assert!(
        text.contains("run scripts/setup") && !text.contains('\n'),
        "{text}"
    );
    assert_eq!(
        text.matches("Unable to read the model").count(),
        1,
        "{text}"
    );
}

#[test]
fn missing_files_say_how_to_get_them() {
    let create = |settings: &str| {
        let context = CreateContext {
            settings,
            cameras: 1,
        };
        match HeadBlur::create(&context) {
            Ok(_) => panic!("not refused"),
            Err(error) => error.to_string(),
        }
    };
    let text = create(r#"{"model_dir": "/nowhere"}"#);
    assert!(
        text.contains("/nowhere/lib") && text.contains("scripts/setup"),
        "{text}"
    );
    match plugin(r#", "model": "/nowhere/my.onnx""#) {
        Ok(_) => panic!("not refused"),
        Err(error) => assert!(error.to_string().contains("/nowhere/my.onnx"), "{error}"),
    }
}
