use crate::stage::{GOOD, Stage, kill};
use daemon::{Shutdown, status};
use run_system::supervise::{self, Phase, Policy, SystemStatus};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// As in real life, a hundred times faster.
fn fast() -> Policy {
    Policy {
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_millis(200),
        stable_after: Duration::from_secs(60),
        deaths_allowed: 5,
        window: Duration::from_secs(60),
        degraded_pause: Duration::from_millis(600),
        patience: Duration::from_secs(5),
        poll: Duration::from_millis(20),
    }
}

fn start(stage: &Stage, policy: Policy) -> (Shutdown, JoinHandle<()>) {
    let shutdown = Shutdown::manual();
    let setup = stage.setup();
    let asked = shutdown.clone();
    (
        shutdown,
        tokio::spawn(async move { supervise::run(&setup, policy, asked).await }),
    )
}

async fn wait_for(stage: &Stage, what: &str, holds: impl Fn(&Stage) -> bool + Send) {
    tokio::task::block_in_place(|| stage.wait_for(what, holds));
}

fn phase(stage: &Stage, name: &str) -> Option<Phase> {
    let told: SystemStatus = status::read(&stage.path("logs/system.status.json")).ok()?;
    told.units
        .iter()
        .find(|unit| unit.name == name)
        .map(|unit| unit.phase)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recorder_has_ended_before_the_processor_is_asked() {
    let stage = Stage::new(GOOD, GOOD);
    let (shutdown, run) = start(&stage, fast());
    wait_for(&stage, "both to start", |stage| stage.events().len() == 2).await;
    shutdown.request();
    run.await.unwrap();
    assert_eq!(
        stage.events()[2..],
        [
            "rtsp_recorder asked",
            "rtsp_recorder ended",
            "blur_processor asked",
            "blur_processor ended"
        ]
    );
    assert_eq!(phase(&stage, "rtsp_recorder"), Some(Phase::Stopped));
    assert_eq!(phase(&stage, "blur_processor"), Some(Phase::Stopped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_is_started_again_and_the_other_goes_on() {
    let stage = Stage::new(GOOD, GOOD);
    let (shutdown, run) = start(&stage, fast());
    wait_for(&stage, "both to start", |stage| stage.events().len() == 2).await;
    kill(stage.pid("rtsp_recorder").unwrap(), "-9");
    wait_for(&stage, "the second start", |stage| {
        stage.count("rtsp_recorder started") == 2
    })
    .await;
    assert_eq!(stage.count("blur_processor started"), 1);
    shutdown.request();
    run.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_loop_is_slowed_down_but_never_given_up() {
    let stage = Stage::new("say started; exit 1", GOOD);
    let (shutdown, run) = start(&stage, fast());
    wait_for(&stage, "the degraded state", |stage| {
        phase(stage, "rtsp_recorder") == Some(Phase::Degraded)
    })
    .await;
    assert_eq!(stage.count("rtsp_recorder started"), 6);
    let start = Instant::now();
    wait_for(&stage, "another attempt", |stage| {
        stage.count("rtsp_recorder started") == 7
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(2));
    wait_for(&stage, "yet another", |stage| {
        stage.count("rtsp_recorder started") == 8
    })
    .await;
    shutdown.request();
    run.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_settings_wait_for_a_change() {
    let stage = Stage::new(
        "say started; grep -q good \"$2\" || exit 2; take_lock; say runs; wait_forever",
        GOOD,
    );
    let (shutdown, run) = start(&stage, fast());
    wait_for(&stage, "bad settings", |stage| {
        phase(stage, "rtsp_recorder") == Some(Phase::BadSettings)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(stage.count("rtsp_recorder started"), 1);
    std::fs::write(stage.path("recorder.json"), "good").unwrap();
    wait_for(&stage, "it to run", |stage| {
        stage.count("rtsp_recorder runs") == 1
    })
    .await;
    shutdown.request();
    run.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_may_come_while_the_settings_stay() {
    let refusal = r#"{\"pid\": $$, \"state\": \"cannot start\", \"alarms\": [\"no model\"]}"#;
    let script = format!(
        "say started; [ -e \"$dir/model\" ] || {{ echo \"{refusal}\" > \"$dir/logs/$name.status.json\"; exit 2; }}\n\
         take_lock; say runs; wait_forever"
    );
    let stage = Stage::new(GOOD, &script);
    let (shutdown, run) = start(&stage, fast());
    wait_for(&stage, "the reason", |stage| {
        let told = status::read::<SystemStatus>(&stage.path("logs/system.status.json"));
        told.is_ok_and(|told| {
            let unit = told.units.last().expect("the blur processor");
            unit.phase == Phase::BadSettings && unit.reason.as_deref() == Some("no model")
        })
    })
    .await;
    std::fs::write(stage.path("model"), "").expect("a file");
    wait_for(&stage, "it to run", |stage| {
        stage.count("blur_processor runs") == 1
    })
    .await;
    shutdown.request();
    run.await.expect("an end");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_recording_is_finished_the_queue_is_worked_off_first() {
    let stage = Stage::new("take_lock; say started; exit 3", GOOD);
    let queue = stage.path("processing_queue");
    std::fs::create_dir(&queue).unwrap();
    let ticket = queue.join("queue_20250718_033159_357896.json");
    std::fs::write(&ticket, "{}").unwrap();
    let (_shutdown, run) = start(&stage, fast());
    wait_for(&stage, "the end of recording", |stage| {
        phase(stage, "rtsp_recorder") == Some(Phase::Finished)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!run.is_finished(), "a ticket waits");
    assert_eq!(
        stage.count("rtsp_recorder started"),
        1,
        "it is not started again"
    );
    std::fs::remove_file(&ticket).unwrap();
    run.await.unwrap();
    assert_eq!(stage.events().last().unwrap(), "blur_processor ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deaf_daemon_is_killed_after_its_time() {
    let stage = Stage::new(
        "trap 'say deaf' TERM; take_lock; say started; wait_forever",
        GOOD,
    );
    let (shutdown, run) = start(
        &stage,
        Policy {
            patience: Duration::from_millis(300),
            ..fast()
        },
    );
    wait_for(&stage, "both to start", |stage| stage.events().len() == 2).await;
    shutdown.request();
    run.await.unwrap();
    assert!(!is_alive(stage.pid("rtsp_recorder").unwrap()));
    assert_eq!(stage.events().last().unwrap(), "blur_processor ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_does_not_wait() {
    let deaf = "trap 'say deaf' TERM; take_lock; say started; wait_forever";
    let stage = Stage::new(deaf, deaf);
    let (shutdown, run) = start(
        &stage,
        Policy {
            patience: Duration::from_secs(600),
            ..fast()
        },
    );
    wait_for(&stage, "both to start", |stage| stage.events().len() == 2).await;
    shutdown.request();
    wait_for(&stage, "the first request", |stage| {
        stage.count("rtsp_recorder deaf") == 1
    })
    .await;
    let start = Instant::now();
    shutdown.request_at_once();
    run.await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(8));
    assert!(
        !is_alive(stage.pid("rtsp_recorder").unwrap())
            && !is_alive(stage.pid("blur_processor").unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_living_daemon_is_adopted_watched_replaced_and_stopped() {
    let stage = Stage::new(GOOD, GOOD);
    // Somebody else has started the recorder.
    let mut other = std::process::Command::new(stage.path("rtsp-recorder"))
        .arg("--config")
        .arg(stage.path("recorder.json"))
        .spawn()
        .unwrap();
    wait_for(&stage, "the other's recorder", |stage| {
        stage.pid("rtsp_recorder").is_some()
    })
    .await;
    let (shutdown, run) = start(&stage, fast());
    wait_for(&stage, "adoption", |stage| {
        phase(stage, "rtsp_recorder") == Some(Phase::Adopted)
    })
    .await;
    assert_eq!(
        stage.count("rtsp_recorder started"),
        1,
        "no second one is started"
    );

    other.kill().unwrap();
    other.wait().unwrap();
    wait_for(&stage, "its successor", |stage| {
        stage.count("rtsp_recorder started") == 2
    })
    .await;
    wait_for(&stage, "the new phase", |stage| {
        phase(stage, "rtsp_recorder") == Some(Phase::Running)
    })
    .await;
    shutdown.request();
    run.await.unwrap();
    assert_eq!(stage.count("rtsp_recorder ended"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_daemon_is_stopped_by_its_lock() {
    let stage = Stage::new(GOOD, GOOD);
    let mut other = std::process::Command::new(stage.path("rtsp-recorder"))
        .arg("--config")
        .arg(stage.path("recorder.json"))
        .spawn()
        .unwrap();
    wait_for(&stage, "the other's recorder", |stage| {
        stage.pid("rtsp_recorder").is_some()
    })
    .await;
    let (shutdown, run) = start(&stage, fast());
    wait_for(&stage, "adoption", |stage| {
        phase(stage, "rtsp_recorder") == Some(Phase::Adopted)
    })
    .await;
    shutdown.request();
    run.await.unwrap();
    assert_eq!(other.wait().unwrap().code(), Some(0));
    let events = stage.events();
    let at = |event: &str| events.iter().position(|line| line == event).unwrap();
    assert!(at("rtsp_recorder ended") < at("blur_processor asked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_program_is_tried_again() {
    let stage = Stage::new(GOOD, GOOD);
    let away = stage.path("away");
    std::fs::rename(stage.path("rtsp-recorder"), &away).unwrap();
    let (shutdown, run) = start(&stage, fast());
    wait_for(&stage, "the degraded state", |stage| {
        phase(stage, "rtsp_recorder") == Some(Phase::Degraded)
    })
    .await;
    std::fs::rename(&away, stage.path("rtsp-recorder")).unwrap();
    wait_for(&stage, "its start", |stage| {
        stage.count("rtsp_recorder started") == 1
    })
    .await;
    shutdown.request();
    run.await.unwrap();
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}
