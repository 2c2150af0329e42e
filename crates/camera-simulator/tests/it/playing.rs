//! What is received is what was sent: frames, times, reports, over the loop point.

use crate::support::{Client, Item, clips, config, run, sent_from, start, tcp, udp};
use camera_simulator::{
    AuthScheme, CameraConfig, Config, Credentials, LoadOptions, StartAt, VideoCodec,
};
use retina::client::Transport;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Plays more than a whole loop and compares hashes, times and loss with the record.
fn check_plays(file: &Path, transport: Transport) {
    let (simulator, url) = start(config(file));
    let frames = run(async {
        let mut client = Client::open(&url, transport, None).await.unwrap();
        client.frames(28).await
    });
    let sent = sent_from(&simulator, &frames[0], frames.len());
    assert!(
        sent.first().unwrap().r#loop < sent.last().unwrap().r#loop,
        "no loop point inside"
    );
    let Item::Video {
        ticks: first_ticks, ..
    } = frames[0]
    else {
        panic!("not a video frame");
    };
    for (i, (got, want)) in frames.iter().zip(&sent).enumerate() {
        let Item::Video {
            ticks,
            md5,
            key,
            loss,
            size,
        } = got
        else {
            panic!("not a video frame");
        };
        assert_eq!(
            (md5, *key, *loss),
            (&want.vcl_md5, want.key, 0),
            "frame {i}"
        );
        assert_eq!(ticks - first_ticks, i as i64 * 3600, "frame {i}");
        assert_eq!(want.ticks - sent[0].ticks, i as i64 * 3600, "frame {i}");
        assert_eq!(*size, (160, 120));
    }
}

#[test]
fn h264_over_tcp() {
    check_plays(&clips().h264, tcp());
}

#[test]
fn h264_over_udp() {
    check_plays(&clips().h264, udp());
}

#[test]
fn h265_over_tcp() {
    check_plays(&clips().h265, tcp());
}

#[test]
fn h265_over_udp() {
    check_plays(&clips().h265, udp());
}

#[test]
fn other_codecs_are_encoded_anew() {
    check_plays(&clips().mpeg4, tcp());
}

#[test]
fn size_rate_codec_and_key_distance_can_be_changed_on_load() {
    let mut config = config(&clips().h264);
    config.cameras[0].load = LoadOptions {
        size: Some((96, 64)),
        fps: Some(50.0),
        gop: Some(8),
        codec: Some(VideoCodec::H265),
        mute: true,
        ..LoadOptions::default()
    };
    let (simulator, url) = start(config);
    let frames = run(async {
        let mut client = Client::open(&url, tcp(), None).await.unwrap();
        client.frames(45).await
    });
    let sent = sent_from(&simulator, &frames[0], frames.len());
    assert_eq!(
        sent.iter().map(|u| u.frame).max(),
        Some(39),
        "20 frames at 25 fps are 40 at 50"
    );
    for (got, want) in frames.iter().zip(&sent) {
        let Item::Video { md5, key, size, .. } = got else {
            panic!("not a video frame");
        };
        assert_eq!(
            (md5, *key, *size),
            (&want.vcl_md5, want.frame % 8 == 0, (96, 64))
        );
        assert_eq!(
            want.ticks - sent[0].ticks,
            (want.n - sent[0].n) as i64 * 1800
        );
    }
}

#[test]
fn b_frames_come_in_decoding_order_with_their_presentation_times() {
    let (simulator, url) = start(config(&clips().b_frames));
    let frames = run(async {
        let mut client = Client::open(&url, tcp(), None).await.unwrap();
        client.frames(32).await
    });
    let sent = sent_from(&simulator, &frames[0], frames.len());
    let Item::Video { ticks: first, .. } = frames[0] else {
        panic!("not a video frame");
    };
    let mut times = Vec::new();
    for (got, want) in frames.iter().zip(&sent) {
        let Item::Video { ticks, md5, .. } = got else {
            panic!("not a video frame");
        };
        assert_eq!(
            (md5, ticks - first),
            (&want.vcl_md5, want.ticks - sent[0].ticks)
        );
        times.push(ticks - first);
    }
    assert!(!times.is_sorted(), "no B-frames in the clip");
    // Each 40 ms has its frame, over the loop points too.
    times.sort_unstable();
    let inner = &times[3..times.len() - 3];
    assert!(inner.windows(2).all(|w| w[1] - w[0] == 3600), "{times:?}");
}

#[test]
fn a_client_starts_at_the_next_key_frame() {
    let mut config = config(&clips().h264);
    config.start_at = StartAt::NextKeyFrame;
    let (_simulator, url) = start(config);
    let first = run(async {
        let mut client = Client::open(&url, tcp(), None).await.unwrap();
        client.frames(1).await.remove(0)
    });
    let Item::Video { key, .. } = first else {
        panic!("not a video frame");
    };
    assert!(key);
}

#[test]
fn sound_is_continuous_over_the_loop_point_and_in_step() {
    let (simulator, url) = start(config(&clips().with_audio));
    let items = run(async {
        let mut client = Client::open(&url, tcp(), None).await.unwrap();
        let mut items = Vec::new();
        while items.len() < 60 {
            items.push(client.next().await.unwrap().unwrap());
        }
        items
    });
    let sound: Vec<i64> = items
        .iter()
        .filter_map(|i| match i {
            Item::Audio { ticks, .. } => Some(*ticks),
            _ => None,
        })
        .collect();
    assert!(sound.len() > 15, "{} frames of sound", sound.len());
    assert!(sound.windows(2).all(|w| w[1] - w[0] == 1024), "{sound:?}");
    let sent: Vec<String> = simulator
        .sent("cam0")
        .into_iter()
        .map(|u| u.vcl_md5)
        .collect();
    for item in &items {
        if let Item::Audio { data, .. } = item {
            assert!(sent.contains(&md5(data)));
        }
    }
}

fn md5(data: &[u8]) -> String {
    use md5::{Digest as _, Md5};
    Md5::digest(data)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

#[test]
fn sender_reports_tie_both_clocks_to_the_wall() {
    let (_simulator, url) = start(config(&clips().with_audio));
    let reports = run(async {
        let mut client = Client::open(&url, tcp(), None).await.unwrap();
        let mut reports = Vec::new();
        while reports.len() < 2 {
            if let Item::Report {
                stream,
                ntp,
                seconds,
            } = client.next().await.unwrap().unwrap()
            {
                reports.push((stream, ntp, seconds));
            }
        }
        reports
    });
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
        + 2_208_988_800.0;
    assert_ne!(reports[0].0, reports[1].0);
    for (_, ntp, _) in &reports {
        assert!((wall - ntp).abs() < 3.0, "{ntp} at {wall}");
    }
    // Both streams' clocks started together (RTP-Info), so they map to the same wall time.
    let offset = |(_, ntp, seconds): (usize, f64, f64)| ntp - seconds;
    assert!(
        (offset(reports[0]) - offset(reports[1])).abs() < 0.01,
        "{reports:?}"
    );
}

#[test]
fn clients_of_a_camera_see_the_same_moment() {
    let (simulator, url) = start(config(&clips().h264));
    run(async {
        let mut a = Client::open(&url, tcp(), None).await.unwrap();
        let mut b = Client::open(&url, udp(), None).await.unwrap();
        let (a, b) = tokio::join!(a.frames(30), b.frames(30));
        let hash = |item: &Item| match item {
            Item::Video { md5, .. } => md5.clone(),
            _ => panic!("not a video frame"),
        };
        let (a, b): (Vec<_>, Vec<_>) = (a.iter().map(hash).collect(), b.iter().map(hash).collect());
        // The second joined up to some frames later in the same live sequence.
        assert!(
            (0..15).any(|shift| a[shift..] == b[..30 - shift]),
            "{a:?}\n{b:?}"
        );
    });
    assert!(simulator.sent("cam0").iter().any(|u| u.clients == 2));
}

fn check_login(scheme: AuthScheme, transport: Transport) {
    let mut config = config(&clips().h264);
    config.scheme = scheme;
    config.credentials = Some(Credentials {
        user: "admin".into(),
        password: "p@ss:wörd".into(),
    });
    let (_simulator, url) = start(config);
    run(async {
        let mut client = Client::open(&url, transport.clone(), Some(("admin", "p@ss:wörd")))
            .await
            .unwrap();
        client.frames(3).await;
        for wrong in [None, Some(("admin", "guess")), Some(("root", "p@ss:wörd"))] {
            let refused = Client::open(&url, transport.clone(), wrong)
                .await
                .err()
                .expect("was let in");
            assert!(
                refused.to_string().contains("401") || wrong.is_none(),
                "{refused}"
            );
        }
    });
}

#[test]
fn digest_login() {
    check_login(AuthScheme::Digest, tcp());
    check_login(AuthScheme::Both, udp());
}

#[test]
fn basic_login() {
    check_login(AuthScheme::Basic, tcp());
}

#[test]
fn the_record_is_also_written_as_json_lines() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new([
        CameraConfig::new("front/door", &clips().h264),
        CameraConfig::new("yard", &clips().h265),
    ]);
    config.log = Some(dir.path().join("sent.jsonl"));
    let log = config.log.clone().unwrap();
    let simulator = camera_simulator::Simulator::start(config).unwrap();
    run(async {
        let url = simulator.url("front/door").unwrap();
        Client::open(&url, tcp(), None)
            .await
            .unwrap()
            .frames(5)
            .await;
    });
    simulator.stop();
    let text = std::fs::read_to_string(log).unwrap();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    for name in ["front/door", "yard"] {
        let frames = lines.iter().filter(|l| l["cam"] == name && l["track"] == 0);
        let numbers: Vec<u64> = frames.map(|l| l["n"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
        assert_eq!(numbers.len() as u64, simulator.stats(name).unwrap().frames);
    }
    assert!(
        lines
            .iter()
            .any(|l| l["cam"] == "front/door" && l["clients"] == 1)
    );
}
