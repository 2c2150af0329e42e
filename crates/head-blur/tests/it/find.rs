//! The fetched models find people, at their heads, and nobody where nobody is.

use std::fs;

use head_blur::HeadBlur;
use plugin_abi::{CreateContext, Detector, FrameInfo, FrameView, PixelFormat, Region, RegionKind};

use crate::figures::{Head, Picture};
use crate::{detect, models, plugin};

/// From this score on something counts as found.
const FOUND: f32 = 0.25;

fn found(regions: &[Region]) -> Vec<&Region> {
    regions.iter().filter(|r| r.score >= FOUND).collect()
}

/// Whether the region lies about the head and is no more than some heads large.
fn fits(region: &Region, head: &Head) -> bool {
    let (x, y) = (
        region.x + region.width / 2.0,
        region.y + region.height / 2.0,
    );
    let near = (x - head.x).hypot(y - head.y) < head.radius * 1.2;
    near && (1.5..5.0).contains(&(region.height / head.radius))
}

fn street() -> (Picture, Vec<Head>) {
    let mut picture = Picture::empty(960, 540);
    let heads = vec![
        picture.person(200.0, 150.0, 250.0, [40, 40, 120]),
        picture.person(500.0, 120.0, 330.0, [120, 60, 40]),
        picture.person(760.0, 200.0, 150.0, [40, 40, 120]),
    ];
    (picture, heads)
}

#[test]
fn every_painted_head_is_found() {
    let (picture, heads) = street();
    let mut plugin = plugin("").expect("starts");
    let regions = detect(&mut plugin, picture.size, &picture.bgr);
    for head in heads {
        assert!(
            found(&regions).iter().any(|region| fits(region, &head)),
            "{head:?} not in {regions:#?}"
        );
    }
    assert!(regions.iter().all(|r| r.kind == RegionKind::Head));
    assert!(regions.iter().all(|r| (0.1..=1.0).contains(&r.score)));
}

#[test]
fn a_glance_finds_heads_and_asks_one_network() {
    let (picture, heads) = street();
    let glance = |more: &str| -> Vec<Region> {
        let mut plugin = plugin(more).expect("starts");
        let info = FrameInfo {
            glance: true,
            ..FrameInfo::new(PixelFormat::Bgr24, picture.size.0, picture.size.1)
        };
        seen(&mut plugin, &picture, info)
    };
    let regions = glance("");
    for head in heads {
        let seen = found(&regions).iter().any(|region| fits(region, &head));
        assert!(seen, "{head:?} not in {regions:#?}");
    }
    let one = glance(r#", "detectors": ["nanodet"], "person_input_sizes": [[416, 256]]"#);
    assert_eq!(regions, one, "the smaller network for persons alone");
    let faces = glance(r#", "detectors": ["centerface"]"#);
    assert!(!faces.is_empty(), "without it, what there is");
}

/// What is found `seconds` into a video of one picture.
fn look(plugin: &mut HeadBlur, picture: &Picture, seconds: f64) -> Vec<Region> {
    let info = FrameInfo {
        pts_ns: (seconds * 1e9) as i64,
        ..FrameInfo::new(PixelFormat::Bgr24, picture.size.0, picture.size.1)
    };
    seen(plugin, picture, info)
}

fn seen(plugin: &mut HeadBlur, picture: &Picture, info: FrameInfo) -> Vec<Region> {
    let stride = picture.size.0 as usize * 3;
    let frame = FrameView::new(info, &[(&picture.bgr, stride)]).expect("fits");
    let mut regions = Vec::new();
    plugin.detect(&frame, &mut regions).expect("detects");
    regions
}

#[test]
fn every_other_look_is_for_persons_only() {
    let (picture, _) = street();
    let mut persons = plugin(r#", "detectors": ["nanodet"]"#).expect("starts");
    let mut both = plugin("").expect("starts");
    let (of_persons, all) = (
        look(&mut persons, &picture, 0.0),
        look(&mut both, &picture, 0.0),
    );
    assert_ne!(of_persons, all, "the street has faces");
    assert_eq!(look(&mut both, &picture, 0.4), of_persons);
    assert_eq!(look(&mut both, &picture, 0.8), all);
    assert_eq!(look(&mut both, &picture, 2.0), all, "too long ago");
    both.reset(0);
    assert_eq!(look(&mut both, &picture, 2.2), all, "another video");
    let mut faces = plugin(r#", "detectors": ["centerface"]"#).expect("starts");
    let all = look(&mut faces, &picture, 0.0);
    assert_eq!(all, look(&mut faces, &picture, 0.4));
}

#[test]
fn faces_of_those_who_are_close_are_always_looked_for() {
    let mut picture = Picture::empty(960, 540);
    picture.person(480.0, 60.0, 500.0, [120, 60, 40]);
    let mut persons = plugin(r#", "detectors": ["nanodet"]"#).expect("starts");
    let mut both = plugin("").expect("starts");
    let of_persons = look(&mut persons, &picture, 0.0);
    for seconds in [0.0, 0.4, 0.8] {
        assert_ne!(look(&mut both, &picture, seconds), of_persons);
    }
    let glance = FrameInfo {
        glance: true,
        ..FrameInfo::new(PixelFormat::Bgr24, picture.size.0, picture.size.1)
    };
    let of_persons = seen(&mut persons, &picture, glance);
    assert_ne!(seen(&mut both, &picture, glance), of_persons);
    both.reset(0);
    let before_any_look = seen(&mut both, &picture, glance);
    assert_eq!(before_any_look, of_persons, "another video");
}

#[test]
fn nobody_is_found_where_nobody_is() {
    let picture = Picture::empty(960, 540);
    let mut plugin = plugin("").expect("starts");
    let regions = detect(&mut plugin, picture.size, &picture.bgr);
    assert!(found(&regions).is_empty(), "{regions:#?}");
}

#[test]
fn whole_persons_on_request() {
    let (picture, heads) = street();
    let mut plugin = plugin(r#", "target": "person""#).expect("starts");
    let regions = detect(&mut plugin, picture.size, &picture.bgr);
    let bodies: Vec<_> = found(&regions)
        .into_iter()
        .filter(|region| region.kind == RegionKind::Person)
        .collect();
    for head in heads {
        let holds = |body: &&Region| {
            let inside = (body.x..body.x + body.width).contains(&head.x);
            inside && body.y < head.y && body.height > 8.0 * head.radius
        };
        assert!(bodies.iter().copied().any(|body| holds(&body)), "{head:?}");
    }
}

#[test]
fn pictures_of_any_size_and_shape() {
    let mut plugin = plugin("").expect("starts");
    for size in [(16, 16), (352, 288), (305, 544), (641, 359)] {
        let picture = Picture::empty(size.0, size.1);
        let regions = detect(&mut plugin, picture.size, &picture.bgr);
        assert!(found(&regions).is_empty(), "{size:?}: {regions:?}");
    }
}

#[test]
fn it_says_what_it_wants_and_what_it_is_made_of() {
    let plugin = plugin(r#", "person_input_sizes": [[960, 544]]"#).expect("starts");
    let wants = plugin.wants();
    assert_eq!(wants.format, Some(PixelFormat::Bgr24));
    assert_eq!(wants.max_size, Some((960, 544)));
    let info: serde_json::Value = serde_json::from_str(&plugin.info_json()).expect("JSON");
    assert_eq!(info["precision"], "f32");
    let models = info["models"].as_array().expect("a list");
    let names: Vec<_> = models.iter().map(|m| m["file"].as_str()).collect();
    assert_eq!(names, [Some("nanodet.onnx"), Some("centerface.onnx")]);
    assert!(
        models
            .iter()
            .all(|m| m["blake3"].as_str().map(str::len) == Some(64))
    );
}

#[test]
fn a_fetched_model_that_was_damaged_is_refused() {
    let fetched = models().canonicalize().expect("there");
    // A process opens the engine once: not from a folder that goes away.
    drop(plugin("").expect("starts"));
    for name in ["nanodet.onnx", "centerface.onnx"] {
        let folder = tempfile::tempdir().expect("a temp dir");
        for entry in ["lib", "nanodet.onnx", "centerface.onnx"] {
            let there = folder.path().join(entry);
            std::os::unix::fs::symlink(fetched.join(entry), there).expect("linked");
        }
        let create = |more: &str| {
            let settings = format!(r#"{{"model_dir": {:?}{more}}}"#, folder.path());
            let context = CreateContext {
                settings: &settings,
                cameras: 1,
            };
            HeadBlur::create(&context).map_err(|error| error.to_string())
        };
        assert!(create("").is_ok(), "as they came");
        let mut bytes = fs::read(fetched.join(name)).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle..middle + 4096].fill(0);
        fs::remove_file(folder.path().join(name)).expect("removed");
        fs::write(folder.path().join(name), bytes).expect("written");
        let refused = create("").map(drop).expect_err("damaged");
        assert!(
            refused.contains(name) && refused.contains("run scripts/fetch-model"),
            "{refused}"
        );
        let other = match name {
            "nanodet.onnx" => "centerface",
            _ => "nanodet",
        };
        let more = format!(r#", "detectors": [{other:?}]"#);
        assert!(create(&more).is_ok(), "it is not used");
    }
}
