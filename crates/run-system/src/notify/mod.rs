//! Notifications: tells webhooks and programs what a person should know.
//!
//! ```text
//!  report --diff--> Notification --limit--> outbox/<hook>/*.json --courier--> webhook or program
//!        (lookout)              (per hook)      (durable)         (one per hook, in order)
//! ```
//! All of it lives in a thread with a runtime of its own and learns what happens from the same reports as `--status`, so
//! that neither a webhook that hangs nor a panic here touches the supervision. What was noticed is kept durably together
//! with what is to be sent: a restart, or a kill at any moment, neither repeats nor loses that a camera is down. What was
//! sent in the very moment of a kill may be sent again; its `id` is then the same. For the same reason a panic ends
//! nothing: the thread begins anew from what lies on the disk. Its status file tells at intervals that it lives, so that
//! `--status` sees when it does not.

mod courier;
mod known;
mod limit;
mod lookout;
mod notification;
mod outbox;
mod program;
mod trial;
mod web;

pub(crate) use courier::HookStatus;
pub(crate) use program::find as find_program;
pub(crate) use trial::run as try_all;
pub(crate) use web::Client;

use crate::setup::Setup;
use courier::Courier;
use daemon::{Shutdown, StatusFile, status};
use jiff::Timestamp;
use lookout::Lookout;
use outbox::Outbox;
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

/// How often is looked, at most: a camera counts as down after a minute, and reports cost a little.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// How often the status file is written when something has changed.
const STATUS_INTERVAL: Duration = Duration::from_secs(2);
/// How often it is written at least, as a sign of life.
const SIGN_OF_LIFE_S: i64 = 10;
/// Without a sign of life for so long nobody is told anything.
const SILENCE_S: i64 = 60;
/// Pause before the work begins anew after a panic.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(10);
/// How long the end of run-system waits for what is still to be sent.
const FAREWELL: Duration = Duration::from_secs(5);
/// Name of the status file.
const NAME: &str = "notifications";

/// The thread that sends notifications.
pub(crate) struct Notifier {
    stop: Shutdown,
    finished: oneshot::Receiver<()>,
}

/// Starts it, if the settings name a hook. What keeps it from starting is logged.
pub(crate) fn start(setup: &Setup) -> Option<Notifier> {
    if setup.system.hooks.is_empty() {
        return None;
    }
    let stop = Shutdown::manual();
    let (done, finished) = oneshot::channel();
    let (setup, asked) = (setup.clone(), stop.clone());
    let body = move || {
        keep_on(&asked, PAUSE_AFTER_PANIC, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(work(&setup, &asked)),
                Err(error) => {
                    tracing::error!(%error, "no notifications: their runtime cannot be made");
                }
            }
        });
        // Nobody waits any more when the patience is over.
        done.send(()).ok();
    };
    let thread = std::thread::Builder::new().name(NAME.to_owned());
    match thread.spawn(body) {
        Ok(_) => Some(Notifier { stop, finished }),
        Err(error) => {
            tracing::error!(%error, "no notifications: their thread cannot be started");
            None
        }
    }
}

/// Calls it until it returns by itself, again and again after panics, but not once it is to stop.
fn keep_on(stop: &Shutdown, pause: Duration, mut work: impl FnMut()) {
    while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut work)) {
        let why = words_of(panic.as_ref());
        tracing::error!(why, "a fault in the notifications; they begin anew");
        if stop.is_requested() {
            return;
        }
        std::thread::sleep(pause);
    }
}

/// What a panic says.
fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without words")
}

impl Notifier {
    /// Looks a last time and waits a moment for what is still to be sent. The rest is sent after the next start.
    pub(crate) async fn finish(self) {
        self.stop.request();
        timeout(FAREWELL, self.finished).await.ok();
    }
}

/// Where everything about notifications lies.
fn home(setup: &Setup) -> PathBuf {
    setup.places.status_dir.join(NAME)
}

async fn work(setup: &Setup, stop: &Shutdown) {
    let home = home(setup);
    forget_other_hooks(setup, &home);
    let client = Arc::new(Client::default());
    let couriers: Vec<Arc<Courier>> = setup
        .system
        .hooks
        .iter()
        .map(|hook| {
            let outbox = Outbox::open(&home.join(&hook.name), &hook.name);
            Arc::new(Courier::new(hook.clone(), outbox, client.clone()))
        })
        .collect();
    let mut runs = JoinSet::new();
    for courier in &couriers {
        runs.spawn(courier.clone().run());
    }
    let mut lookout = Lookout::new(setup, &home);
    let file = StatusFile::new(&setup.places.status_dir, NAME);
    let mut told = None;
    let mut looks = every(LOOK_INTERVAL.min(setup.monitoring.interval));
    let mut tells = every(STATUS_INTERVAL);
    loop {
        tokio::select! {
            _ = looks.tick() => lookout.look(&couriers),
            _ = tells.tick() => tell(&file, &couriers, &mut told),
            Some(Err(ended)) = runs.join_next() => resume_unwind(ended.into_panic()),
            () = stop.requested() => break,
        }
    }
    lookout.look(&couriers);
    // The supervisor waits no longer than it wants to.
    while couriers.iter().any(|courier| courier.is_busy()) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tell(&file, &couriers, &mut told);
}

fn every(time: Duration) -> Interval {
    let mut interval = interval(time);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Status {
    /// When this was written.
    updated: Timestamp,
    hooks: Vec<HookStatus>,
}

fn tell(file: &StatusFile, couriers: &[Arc<Courier>], told: &mut Option<Status>) {
    let now = Status {
        updated: Timestamp::now(),
        hooks: couriers.iter().map(|courier| courier.status()).collect(),
    };
    let is_news = told.as_ref().is_none_or(|told| {
        told.hooks != now.hooks || seconds_between(told.updated, now.updated) >= SIGN_OF_LIFE_S
    });
    if is_news {
        // That the disk is full is told elsewhere.
        file.write(&now).ok();
        *told = Some(now);
    }
}

/// In either direction: a clock that was set must not make anything young for ever.
fn seconds_between(one: Timestamp, other: Timestamp) -> i64 {
    other.duration_since(one).as_secs().abs()
}

/// How the hooks of the settings are, as the run-system that sends tells, or told last.
pub(crate) fn status(setup: &Setup) -> Vec<HookStatus> {
    let hooks = &setup.system.hooks;
    if hooks.is_empty() {
        return Vec::new();
    }
    let told = read_status(setup);
    let known = told.hooks.into_iter();
    known
        .filter(|status| hooks.iter().any(|hook| hook.name == status.name))
        .collect()
}

fn read_status(setup: &Setup) -> Status {
    status::read(&status::file(&setup.places.status_dir, NAME)).unwrap_or_default()
}

/// What a person should know when nobody looks after the hooks, though a run-system has run for so many seconds.
pub(crate) fn silence(setup: &Setup, uptime_s: u64) -> Option<String> {
    let is_expected = !setup.system.hooks.is_empty() && uptime_s > SILENCE_S.unsigned_abs();
    let is_silent = || seconds_between(read_status(setup).updated, Timestamp::now()) > SILENCE_S;
    (is_expected && is_silent())
        .then(|| "nobody is notified of anything: start run-system again, which takes up the hooks of the settings".to_owned())
}

/// What waits for a hook that the settings no longer name would wait for ever.
fn forget_other_hooks(setup: &Setup, home: &Path) {
    let entries = std::fs::read_dir(home).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    for dir in dirs {
        let name = dir.file_name();
        if setup
            .system
            .hooks
            .iter()
            .any(|hook| name == hook.name.as_str())
        {
            continue;
        }
        match std::fs::remove_dir_all(dir.path()) {
            Ok(()) => tracing::warn!(
                hook = %name.display(),
                "this hook is no longer in the settings; what waited for it is dropped"
            ),
            Err(error) => tracing::warn!(hook = %name.display(), %error, "cannot be removed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_panic_the_work_begins_anew() {
        let mut begun = 0;
        keep_on(&Shutdown::manual(), Duration::ZERO, || {
            begun += 1;
            assert!(begun > 2, "only the third time it goes well");
        });
        assert_eq!(begun, 3);
    }

    #[test]
    fn it_does_not_begin_anew_when_it_is_to_stop() {
        let stop = Shutdown::manual();
        let mut begun = 0;
        keep_on(&stop, Duration::ZERO, || {
            begun += 1;
            stop.request();
            panic!("at the end");
        });
        assert_eq!(begun, 1);
    }

    #[test]
    fn nobody_looking_after_the_hooks_is_seen_after_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let setup = setup(dir.path());
        assert_eq!(silence(&setup, 30), None, "it has only just started");
        assert!(silence(&setup, 90).is_some());
        let file = StatusFile::new(dir.path(), NAME);
        tell(&file, &[], &mut None);
        assert_eq!(silence(&setup, 90), None);
        let long_ago = Status {
            updated: Timestamp::now() - jiff::SignedDuration::from_secs(90),
            hooks: Vec::new(),
        };
        file.write(&long_ago).unwrap();
        assert!(silence(&setup, 90).is_some());
        let mut told = Some(long_ago);
        tell(&file, &[], &mut told);
        assert_eq!(silence(&setup, 90), None, "a sign of life without news");
    }

    fn setup(dir: &Path) -> Setup {
        let hooks = r#"{"notifications": [{"name": "a", "command": ["/bin/true"]}]}"#;
        let environment = settings::Environment::empty();
        Setup {
            programs: Vec::new(),
            queue_dir: dir.to_owned(),
            max_queue_size: None,
            video_dirs: Vec::new(),
            disk: settings::DiskBudget {
                max_usage_bytes: 0,
                min_free_bytes: 0,
                cleanup_old_files: true,
                max_file_age: Duration::ZERO,
            },
            monitoring: settings::Monitoring {
                enabled: true,
                interval: Duration::from_secs(1),
            },
            places: settings::Places {
                log_dir: dir.to_owned(),
                status_dir: dir.to_owned(),
            },
            system: settings::SystemSettings::from_text(hooks, &environment).unwrap(),
        }
    }
}
