//! Every fault, as a client sees it.

use crate::support::{Client, Item, clips, config, run, start, tcp, udp};
use camera_simulator::{CameraConfig, Config, Fault, FaultError, Simulator, control};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn ticks(item: &Item) -> i64 {
    match item {
        Item::Video { ticks, .. } => *ticks,
        _ => panic!("not a video frame"),
    }
}

fn address(url: &str) -> &str {
    url.trim_start_matches("rtsp://").split('/').next().unwrap()
}

#[test]
fn close_ends_tcp_and_udp_sessions() {
    for transport in [tcp(), udp()] {
        let (simulator, url) = start(config(&clips().h264));
        run(async {
            let mut client = Client::open(&url, transport, None).await.unwrap();
            client.frames(2).await;
            simulator.fault("cam0", &Fault::Close).unwrap();
            client.until_end().await;
            Client::open(&url, tcp(), None)
                .await
                .unwrap()
                .frames(2)
                .await;
        });
    }
}

#[test]
fn silence_is_half_open_and_ends() {
    let (simulator, url) = start(config(&clips().h264));
    run(async {
        let mut client = Client::open(&url, tcp(), None).await.unwrap();
        client.frames(2).await;
        simulator
            .fault("cam0", &Fault::Silence(Duration::from_secs(1)))
            .unwrap();
        let begin = Instant::now();
        // A connection is still taken, but not answered before the end.
        let second = Client::open(&url, tcp(), None).await;
        assert!(begin.elapsed() > Duration::from_millis(900));
        second.unwrap().frames(1).await;
        client.frames(20).await;
    });
    let silent = simulator
        .sent("cam0")
        .iter()
        .filter(|u| u.clients == 0)
        .count();
    assert!(silent > 15, "{silent} frames held back");
}

#[test]
fn loss_leaves_out_packets_and_keeps_counting() {
    let (simulator, url) = start(config(&clips().h264));
    run(async {
        simulator.fault("cam0", &Fault::Loss(30.0)).unwrap();
        let mut client = Client::open(&url, tcp(), None).await.unwrap();
        let mut lost = 0;
        while lost < 5 {
            for frame in client.frames(1).await {
                if let Item::Video { loss, .. } = frame {
                    lost += loss;
                }
            }
        }
    });
    assert!(simulator.stats("cam0").unwrap().packets_lost >= 5);
}

#[test]
fn jump_moves_the_clock_once() {
    for seconds in [3600.0, -10.0] {
        let (simulator, url) = start(config(&clips().h264));
        run(async {
            let mut client = Client::open(&url, tcp(), None).await.unwrap();
            let before = client.frames(2).await;
            simulator.fault("cam0", &Fault::Jump(seconds)).unwrap();
            let after = client.frames(15).await;
            let moved = ticks(&after[14]) - ticks(&before[1]) - 15 * 3600;
            assert_eq!(moved, (seconds * 90_000.0) as i64);
        });
    }
}

#[test]
fn switch_changes_the_parameter_sets_within_the_session() {
    let (simulator, url) = start(config(&clips().h264));
    run(async {
        let mut client = Client::open(&url, tcp(), None).await.unwrap();
        let mut last = ticks(&client.frames(2).await[1]);
        for fault in [
            Fault::Switch(clips().other_size.clone()),
            Fault::Resize(96, 64),
        ] {
            let want = if matches!(fault, Fault::Resize(..)) {
                (96, 64)
            } else {
                (320, 240)
            };
            simulator.fault("cam0", &fault).unwrap();
            loop {
                let frame = client.frames(1).await.remove(0);
                assert!(ticks(&frame) > last, "time ran backwards at the switch");
                last = ticks(&frame);
                if matches!(frame, Item::Video { size, .. } if size == want) {
                    break;
                }
            }
        }
    });
    let missing = Fault::Switch("/nothing/here.mp4".into());
    assert!(matches!(
        simulator.fault("cam0", &missing),
        Err(FaultError::Clip(_))
    ));
}

#[test]
fn a_switch_to_a_clip_with_other_sound_goes_on_without() {
    let (simulator, url) = start(config(&clips().with_audio));
    let silent = Fault::Switch(clips().other_size.clone());
    run(async {
        let mut client = Client::open(&url, tcp(), None).await.unwrap();
        client.frames(2).await;
        simulator.fault("cam0", &silent).unwrap();
        client.frames(20).await;
        let back = Fault::Switch(clips().with_audio.clone());
        simulator.fault("cam0", &back).unwrap();
        client.frames(20).await;
    });
    let tracks: Vec<u8> = simulator.sent("cam0").iter().map(|u| u.track).collect();
    let longest_without = tracks.split(|t| *t == 1).map(<[u8]>::len).max();
    assert!(longest_without > Some(10), "the first clip's sound went on");
    assert!(tracks.ends_with(&[1]) || tracks.iter().rev().take(10).any(|t| *t == 1));
}

#[test]
fn slow_delays_answers_but_not_the_stream() {
    let (simulator, url) = start(config(&clips().h264));
    run(async {
        simulator
            .fault("cam0", &Fault::Slow(Duration::from_millis(200)))
            .unwrap();
        let begin = Instant::now();
        let mut client = Client::open(&url, tcp(), None).await.unwrap();
        assert!(
            begin.elapsed() > Duration::from_millis(600),
            "DESCRIBE, SETUP, PLAY"
        );
        client.frames(10).await;
        simulator.fault("cam0", &Fault::Clear).unwrap();
        let begin = Instant::now();
        Client::open(&url, tcp(), None).await.unwrap();
        assert!(begin.elapsed() < Duration::from_millis(200));
    });
}

#[test]
fn unauthorized_refuses_everybody_from_now_on() {
    let (simulator, url) = start(config(&clips().h264));
    run(async {
        let mut client = Client::open(&url, tcp(), None).await.unwrap();
        simulator.fault("cam0", &Fault::Unauthorized(true)).unwrap();
        let refused = Client::open(&url, tcp(), Some(("a", "b")))
            .await
            .err()
            .expect("was let in");
        assert!(refused.to_string().contains("401"), "{refused}");
        client.frames(2).await;
        simulator
            .fault("cam0", &Fault::Unauthorized(false))
            .unwrap();
        Client::open(&url, tcp(), None).await.unwrap();
    });
}

#[test]
fn refuse_closes_the_port_and_opens_it_again() {
    let mut config = Config::new(["cam0", "cam1"].map(|n| CameraConfig::new(n, &clips().h264)));
    config.separate_ports = true;
    let (simulator, url) = start(config);
    run(async {
        let mut client = Client::open(&url, tcp(), None).await.unwrap();
        simulator
            .fault("cam0", &Fault::Refuse(Duration::from_millis(800)))
            .unwrap();
        let begin = Instant::now();
        while TcpStream::connect(address(&url)).is_ok() {
            assert!(
                begin.elapsed() < Duration::from_millis(700),
                "port stayed open"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        client.frames(2).await;
        Client::open(&simulator.url("cam1").unwrap(), tcp(), None)
            .await
            .unwrap();
        while Client::open(&url, tcp(), None).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(begin.elapsed() > Duration::from_millis(700));
    });
}

#[test]
fn reboot_of_one_camera_on_a_shared_port_cuts_only_its_clients() {
    let (simulator, url) = start(Config::new(
        ["cam0", "cam1"].map(|n| CameraConfig::new(n, &clips().h264)),
    ));
    let other = simulator.url("cam1").unwrap();
    run(async {
        let mut cut = Client::open(&url, tcp(), None).await.unwrap();
        let mut kept = Client::open(&other, tcp(), None).await.unwrap();
        kept.frames(1).await;
        simulator
            .fault("cam0", &Fault::Reboot(Duration::from_millis(500)))
            .unwrap();
        cut.until_end().await;
        assert!(Client::open(&url, tcp(), None).await.is_err());
        kept.frames(20).await;
        Client::open(&url, tcp(), None)
            .await
            .unwrap()
            .frames(1)
            .await;
    });
}

#[test]
fn commands_come_over_the_control_port() {
    let (simulator, url) = start(config(&clips().h264));
    let simulator = Arc::new(simulator);
    let stopped = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let quit = Arc::clone(&stopped);
    let port = control::serve(
        Arc::clone(&simulator),
        "127.0.0.1:0".parse().unwrap(),
        move || {
            quit.store(true, std::sync::atomic::Ordering::SeqCst);
        },
    )
    .unwrap();
    let send = |line: &str| control::send(port, line).unwrap();
    assert_eq!(send("cam0 loss 5"), "ok\n");
    assert_eq!(send("cam9 loss 5"), "error: no camera \"cam9\"\n");
    assert!(send("cam0 loss 500").starts_with("error: \"loss 500\" is not a fault"));
    assert_eq!(send("list"), format!("cam0 {url}\nok\n"));
    assert!(send("stats").starts_with("{\"attached\":"));
    assert_eq!(send("quit"), "ok\n");
    assert!(stopped.load(std::sync::atomic::Ordering::SeqCst));
}

#[test]
fn wrong_configurations_are_refused() {
    let check = |config: Config, text: &str| {
        let error = Simulator::start(config).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    check(Config::new([]), "no cameras");
    check(
        Config::new([CameraConfig::new("all", "x.mp4")]),
        "camera name \"all\"",
    );
    check(
        Config::new(["a", "a"].map(|n| CameraConfig::new(n, "x.mp4"))),
        "given twice",
    );
    check(
        Config::new([CameraConfig::new("a", "/nothing/x.mp4")]),
        "/nothing/x.mp4",
    );
}
