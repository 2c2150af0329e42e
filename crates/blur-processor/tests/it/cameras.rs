//! What belongs to a camera: its number, its zones, what was in its picture before.

use media::synth::TestVideo;
use serde_json::{Value, json};

use crate::support::{Site, look};

fn numbers(site: &mut Site, name: &str, change: &Value) -> Vec<Option<u32>> {
    TestVideo::default().write(site.raw(name)).unwrap();
    let stem = site.add_ticket_with(name, change);
    site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
    assert_eq!(site.why(&stem), None);
    look(&site.published(name)).numbers
}

#[test]
fn plugins_are_told_which_camera_a_picture_is_from() {
    for filter in [0, 1] {
        let plugin = json!({ "camera": 5, "filter": filter });
        let mut site = Site::new(json!({ "plugin": plugin }));
        let other = numbers(&mut site, "a", &json!({ "recorder_id": 2 }));
        assert!(other.iter().all(Option::is_some), "{other:?}");
        // Nobody told that there are six cameras: the plugin is loaded again, with room for them.
        let own = numbers(&mut site, "b", &json!({ "recorder_id": 5 }));
        assert!(own.iter().all(Option::is_none), "{own:?}");
        // A number that cannot be one of a camera does not end the plugin.
        let odd = numbers(&mut site, "c", &json!({ "recorder_id": -7 }));
        assert!(odd.iter().all(Option::is_some), "{odd:?}");
    }
}

#[test]
fn always_zones_are_masked_whatever_the_plugin_is() {
    let top = json!({ "cam": { "always": [[[0, 0], [1, 0], [1, 0.2], [0, 0.2]]] } });
    for filter in [0, 1] {
        let plugin = json!({ "from": 1000, "filter": filter });
        let mut site = Site::new(json!({ "plugin": plugin, "zones": top }));
        let hidden = numbers(&mut site, "a", &json!({}));
        assert!(hidden.iter().all(Option::is_none), "{hidden:?}");
        let mut site = Site::new(json!({ "plugin": plugin, "zones": { "cam2": top["cam"] } }));
        let elsewhere = numbers(&mut site, "b", &json!({}));
        assert!(elsewhere.iter().all(Option::is_some), "{elsewhere:?}");
    }
}

#[test]
fn zones_of_a_name_without_videos_are_told_at_the_start() {
    let zone = json!({ "always": [[[0, 0], [1, 0], [1, 0.2]]] });
    let mut site = Site::new(json!({ "zones": { "camm": zone, "cam": zone } }));
    let stem = site.add("a", &TestVideo::default());
    let mut daemon = site.start();
    daemon.wait_for(&site, |site| site.is_done(&stem));
    let log = daemon.log();
    daemon.stop();
    assert_eq!(log.matches("zones.").count(), 1, "{log}");
    assert!(
        log.contains("zones.camm: there is no video of a source of that name"),
        "{log}"
    );
    assert!(log.contains("did you mean \"cam\"?"), "{log}");
}

#[test]
fn heads_within_a_never_zone_are_left_alone() {
    let zone =
        |right: f64| json!({ "cam": { "never": [[[0, 0], [right, 0], [right, 1], [0, 1]]] } });
    let plugin = json!({ "left": 20, "top": 1 });
    let mut site = Site::new(json!({ "plugin": plugin, "zones": zone(1.0) }));
    let inside = numbers(&mut site, "a", &json!({}));
    assert!(inside.iter().all(Option::is_some), "{inside:?}");
    site.change("zones", zone(0.7));
    let across = numbers(&mut site, "b", &json!({}));
    assert!(across.iter().all(Option::is_none), "{across:?}");
}

/// A detector that sees the head late in each segment, later than tracks are followed back.
#[test]
fn a_head_that_crosses_a_border_is_hidden_from_the_first_frame_on() {
    let mut site = Site::new(json!({ "plugin": { "from": 60 } }));
    let video = TestVideo {
        frames: 90,
        ..TestVideo::default()
    };
    let mut published = |name: &str, start: &str| {
        video.write(site.raw(name)).unwrap();
        let start = format!("2026-01-31T{start}+01:00");
        let stem = site.add_ticket_with(name, &json!({ "start_time": start }));
        site.run_until(|site| site.is_done(&stem) || site.why(&stem).is_some());
        assert_eq!(site.why(&stem), None);
        look(&site.published(name)).numbers
    };
    let first = published("a", "12:00:00");
    assert_eq!(first[..5], [Some(0), Some(1), Some(2), Some(3), Some(4)]);
    let second = published("b", "12:00:06.1");
    assert!(second[..5].iter().all(Option::is_none), "{second:?}");
    // After a pause nothing is known of the time before.
    let third = published("c", "12:00:30");
    assert!(third[..5].iter().all(Option::is_some), "{third:?}");
}
