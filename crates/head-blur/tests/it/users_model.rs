//! A user's own model works through the settings alone, or says why not.

use std::fs;

use head_blur::HeadBlur;
use plugin_abi::{CreateContext, Detector, Failure, FrameInfo, FrameView, PixelFormat, RegionKind};

use crate::onnx::{answering, metadata};
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

/// Numbers of an empty grid, whose cells cover the input as those of real models do; `columns`: a cell is a column.
fn grid(cells: u64, channels: u64, columns: bool) -> Vec<f32> {
    let (cells, channels) = (cells as usize, channels as usize);
    let mut values = vec![0.0; cells * channels];
    for cell in 0..cells {
        let (x, y) = (cell % 8 * 8 + 4, cell / 8 % 8 * 8 + 4);
        for (channel, value) in [x as f32, y as f32, 8.0, 8.0].into_iter().enumerate() {
            let at = match columns {
                true => channel * cells + cell,
                false => cell * channels + channel,
            };
            values[at] = value;
        }
    }
    values
}

/// Rows of the v5 family: a head in the middle left, a car.
fn rows() -> Vec<u8> {
    let mut values = grid(3 * CELLS, 7, false);
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
    let mut values = grid(CELLS, 5, true);
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

/// A head in columns of the v8 family, `classes` of them, the second if there are two.
fn columns(classes: u64, names: Option<&str>) -> Vec<u8> {
    let channels = 4 + classes;
    let mut values = grid(CELLS, channels, true);
    let head = [32.0, 32.0, 16.0, 16.0];
    for (channel, value) in head.into_iter().enumerate() {
        values[channel * CELLS as usize + 40] = value;
    }
    values[(3 + classes as usize) * CELLS as usize + 40] = 0.8;
    answering(INPUT, [1, channels, CELLS], &values, names, false)
}

fn count(model: &[u8], more: &str) -> usize {
    let mut plugin = with(model, more).expect("starts");
    detect(&mut plugin, (64, 64), &[90; 64 * 64 * 3]).len()
}

#[test]
fn rows_without_objectness_are_known_by_the_names() {
    let mut values = grid(CELLS, 6, false);
    values[..6].copy_from_slice(&[16.0, 20.0, 8.0, 8.0, 0.9, 0.01]);
    let shape = [1, CELLS, 6];
    let named = |names| answering(INPUT, shape, &values, names, false);
    assert_eq!(count(&named(Some("{0: 'head', 1: 'car'}")), ""), 1);
    let unnamed = named(None);
    let text = refusal(&unnamed, r#", "classes": [0]"#);
    assert!(text.contains("set plugin.model_objectness"), "{text}");
    let more = r#", "classes": [0], "model_objectness": false"#;
    assert_eq!(count(&unnamed, more), 1);
}

#[test]
fn columns_with_objectness_are_known_by_the_number_of_cells() {
    let cells = 3 * CELLS;
    let mut values = grid(cells, 7, true);
    let head = [16.0, 20.0, 8.0, 8.0, 0.9, 0.0, 0.9];
    for (channel, value) in head.into_iter().enumerate() {
        values[channel * cells as usize + 40] = value;
    }
    let names = Some("{0: 'car', 1: 'head'}");
    let model = answering(INPUT, [1, 7, cells], &values, names, false);
    assert_eq!(count(&model, ""), 1);
}

#[test]
fn grids_that_are_not_known_are_not_taken_for_boxes() {
    let cells = 1111;
    let values = grid(cells, 6, false);
    let model = answering(INPUT, [1, cells, 6], &values, Some("{0: 'head'}"), false);
    let text = refusal(&model, "");
    assert!(text.contains("none of the YOLO layouts"), "{text}");
    // Few rows, but the last number of each is no class: two class scores.
    let mut values = vec![0.0; 300 * 6];
    values[..6].copy_from_slice(&[0.5, 0.5, 0.1, 0.1, 0.01, 0.02]);
    let names = Some("{0: 'car', 1: 'head'}");
    let model = answering(INPUT, [1, 300, 6], &values, names, false);
    let text = refusal(&model, "");
    assert!(
        text.contains("my.onnx: a box says score 0.01, class 0.02"),
        "{text}"
    );
}

#[test]
fn a_class_is_not_guessed() {
    assert_eq!(count(&columns(1, None), ""), 1, "there is only one");
    let text = refusal(&columns(1, None), r#", "classes": [1]"#);
    assert!(text.contains("no class 1"), "{text}");
    let more = r#", "model_objectness": false"#;
    let text = refusal(&columns(2, None), more);
    assert!(text.contains("does not name its 2 classes"), "{text}");
    let more = r#", "model_objectness": false, "classes": [1]"#;
    assert_eq!(count(&columns(2, None), more), 1);
    let boxes = answering(INPUT, [1, 2, 6], &[0.0; 12], None, false);
    let text = refusal(&boxes, "");
    assert!(text.contains("plugin.classes"), "{text}");
    // Key points, whose channels are no scores.
    let mut values = grid(CELLS, 8, true);
    values[4 * CELLS as usize + 40] = 0.8;
    values[5 * CELLS as usize..].fill(30.0);
    let points = answering(INPUT, [1, 8, CELLS], &values, None, false);
    let more = r#", "model_objectness": false, "classes": [0]"#;
    assert_eq!(count(&points, more), 1);
}

#[test]
fn shares_of_the_picture_are_refused() {
    let mut values = grid(CELLS, 5, true);
    let edges = 4 * CELLS as usize;
    values[..edges].iter_mut().for_each(|value| *value /= 64.0);
    let model = answering(INPUT, [1, 5, CELLS], &values, Some("{0: 'head'}"), false);
    let text = refusal(&model, "");
    assert!(
        text.contains("my.onnx: its coordinates are not in pixels"),
        "{text}"
    );
    // Of finished boxes it shows only when there are some.
    let boxes = [0.2, 0.2, 0.4, 0.5, 0.9, 0.0];
    let model = answering(INPUT, [1, 1, 6], &boxes, Some("{0: 'head'}"), false);
    let mut plugin = with(&model, "").expect("starts");
    let info = FrameInfo::new(PixelFormat::Bgr24, 64, 64);
    let picture = vec![90; 64 * 64 * 3];
    let frame = FrameView::new(info, &[(&picture, 64 * 3)]).expect("fits");
    let error = plugin.detect(&frame, &mut Vec::new()).expect_err("refused");
    let text = error.to_string();
    assert!(
        text.contains("my.onnx: its coordinates are not in pixels"),
        "{text}"
    );
}

#[test]
fn it_says_what_it_looks_for() {
    let names = "{\"0\": \"car\", \"1\": \"Head\"}";
    let plugin = with(&columns(2, Some(names)), "").expect("starts");
    let info: serde_json::Value = serde_json::from_str(&plugin.info_json()).expect("JSON");
    assert_eq!(
        info["layout"],
        "84 cells as columns, without objectness, class scores: 2"
    );
    assert_eq!(info["classes_used"], serde_json::json!(["Head"]));
    assert_eq!(info["classes_ignored"], serde_json::json!(["car"]));
    let plugin = with(&columns(1, None), "").expect("starts");
    let info: serde_json::Value = serde_json::from_str(&plugin.info_json()).expect("JSON");
    assert_eq!(info["classes_used"], serde_json::json!(["0"]));
    // The host takes only so much text.
    let many: Vec<String> = (0..900).map(|n| format!("{n}: 'c{n}'")).collect();
    let many = format!("{{{}, 900: 'head'}}", many.join(", "));
    let boxes = answering(INPUT, [1, 1, 6], &[0.0; 6], Some(&many), false);
    let plugin = with(&boxes, "").expect("starts");
    let info: serde_json::Value = serde_json::from_str(&plugin.info_json()).expect("JSON");
    let ignored = info["classes_ignored"].as_array().expect("a list");
    assert_eq!(ignored.len(), 101);
    assert_eq!(ignored[100], "and 800 more");
}

#[test]
fn turned_boxes_are_refused() {
    let mut model = columns(2, Some("{0: 'head'}"));
    model.extend(metadata("task", "obb"));
    let text = refusal(&model, "");
    assert!(text.contains("task obb"), "{text}");
}
