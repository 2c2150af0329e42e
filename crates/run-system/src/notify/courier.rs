//! Brings one hook what waits for it, the oldest first, again and again until it arrives or is given up.

use super::notification::Notification;
use super::outbox::{Outbox, Waiting};
use super::program;
use super::web::{Client, Post};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use settings::{Hook, HookTarget};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The first pause after a failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(900);
/// What is older is given up.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);
/// A hook that failed so often in a row is an alarm.
const ALARMING_FAILURES: u64 = 3;

/// How one hook is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HookStatus {
    /// Name of the hook.
    pub name: String,
    /// Where it goes, without secrets.
    pub target: String,
    /// Notifications that wait.
    pub waiting: u64,
    /// Notifications that arrived since the start of run-system.
    pub sent: u64,
    /// Notifications that were given up since then.
    pub given_up: u64,
    /// Attempts in a row that failed.
    pub failures: u64,
    /// Why the last one failed, without secrets.
    pub error: Option<String>,
}

impl HookStatus {
    /// For the table of `--status`.
    pub(crate) fn line(&self) -> String {
        let error = self.error.as_ref();
        let error = error.map(|error| format!(" ({error})")).unwrap_or_default();
        format!(
            "notifications to {} ({}): {} sent, {} waiting, {} given up{error}",
            self.name, self.target, self.sent, self.waiting, self.given_up
        )
    }

    /// What a person should know, who is told nothing by this hook.
    pub(crate) fn alarm(&self) -> Option<String> {
        let error = self.error.as_ref()?;
        (self.failures >= ALARMING_FAILURES)
            .then(|| format!("notifications to {} do not arrive: {error}", self.name))
    }
}

/// Why a notification did not arrive.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    /// Without secrets.
    pub(super) why: String,
    pub(super) then: Then,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It may go better.
    Again,
    /// It may go better after this time.
    After(Duration),
    /// It will not go better.
    GiveUp,
}

impl Failure {
    pub(super) fn again(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            then: Then::Again,
        }
    }
}

pub(super) struct Courier {
    hook: Hook,
    outbox: Outbox,
    client: Arc<Client>,
    /// Without `waiting`.
    status: Mutex<HookStatus>,
}

impl Courier {
    pub(super) fn new(hook: Hook, outbox: Outbox, client: Arc<Client>) -> Self {
        let status = HookStatus {
            name: hook.name.clone(),
            target: hook.target.to_string(),
            ..HookStatus::default()
        };
        Self {
            hook,
            outbox,
            client,
            status: Mutex::new(status),
        }
    }

    pub(super) fn hook(&self) -> &Hook {
        &self.hook
    }

    pub(super) fn put(&self, notification: Notification) {
        self.outbox.put(notification);
    }

    pub(super) fn status(&self) -> HookStatus {
        HookStatus {
            waiting: self.outbox.len() as u64,
            ..self.told().clone()
        }
    }

    /// Whether something waits that may well arrive soon.
    pub(super) fn is_busy(&self) -> bool {
        self.outbox.len() > 0 && self.told().failures == 0
    }

    /// Never ends.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let waiting = self.outbox.oldest().await;
            self.bring(&waiting).await;
            self.outbox.remove(&waiting);
        }
    }

    /// Until it has arrived or is given up.
    async fn bring(self: &Arc<Self>, waiting: &Waiting) {
        let notification = &waiting.notification;
        let mut pause = FIRST_PAUSE;
        for attempt in 0_u64.. {
            let (courier, sent) = (self.clone(), notification.clone());
            let delivery = async move { deliver(&courier.hook, &courier.client, &sent).await };
            let failure = match caught(delivery).await {
                Ok(()) => return self.note_success(notification),
                Err(failure) => failure,
            };
            let age = Timestamp::now().duration_since(notification.time);
            let is_over = failure.then == Then::GiveUp
                || attempt >= u64::from(self.hook.retries)
                || age > LONGEST_WAIT;
            self.note_failure(notification, &failure.why, is_over);
            if is_over {
                return;
            }
            sleep(match failure.then {
                Then::After(time) => time.clamp(pause, LONGEST_PAUSE),
                _ => pause,
            })
            .await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn note_success(&self, notification: &Notification) {
        let mut status = self.told();
        let failures = std::mem::take(&mut status.failures);
        status.error = None;
        status.sent += 1;
        drop(status);
        let (hook, event) = (&self.hook.name, &notification.event);
        if failures > 0 {
            tracing::info!(hook, event, failures, "notifications arrive again");
        } else {
            tracing::debug!(hook, event, "notified");
        }
    }

    /// A hook that is away for hours is one line, not one for each attempt.
    fn note_failure(&self, notification: &Notification, why: &str, is_over: bool) {
        let mut status = self.told();
        let is_first = status.failures == 0;
        status.failures += 1;
        status.error = Some(why.to_owned());
        status.given_up += u64::from(is_over);
        drop(status);
        let (hook, event) = (&self.hook.name, &notification.event);
        if is_over {
            tracing::warn!(hook, event, why, "a notification is given up");
        } else if is_first {
            tracing::warn!(
                hook,
                event,
                why,
                "notifications do not arrive; trying again"
            );
        } else {
            tracing::debug!(hook, event, why, "a notification did not arrive");
        }
    }

    fn told(&self) -> MutexGuard<'_, HookStatus> {
        // Figures that a panic left half counted are still figures.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A panic is a failed attempt like any other: it must hold up neither what comes after nor other hooks.
async fn caught(
    delivery: impl Future<Output = Result<(), Failure>> + Send + 'static,
) -> Result<(), Failure> {
    match tokio::spawn(delivery).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::again("a fault in this program, see its log")),
    }
}

/// One attempt.
pub(super) async fn deliver(
    hook: &Hook,
    client: &Client,
    notification: &Notification,
) -> Result<(), Failure> {
    let outcome = match &hook.target {
        HookTarget::Web { url, headers, body } => {
            let post = Post {
                url,
                headers,
                body: notification.body(body.as_ref()),
            };
            match timeout(hook.timeout, client.send(post)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Failure::again(too_long(hook))),
            }
        }
        HookTarget::Command {
            program, arguments, ..
        } => {
            let run = program::Run {
                program,
                arguments,
                event: &notification.event,
                input: notification.body(None),
            };
            match program::run(run, hook.timeout).await {
                Some(outcome) => outcome,
                None => Err(Failure::again(too_long(hook))),
            }
        }
    };
    outcome.map_err(|failure| Failure {
        why: concealed(&hook.target, &failure.why),
        ..failure
    })
}

fn too_long(hook: &Hook) -> String {
    format!(
        "no answer within {} s (timeout)",
        hook.timeout.as_secs_f64()
    )
}

/// Text of a server or a program, in which it may repeat what is secret.
fn concealed(target: &HookTarget, text: &str) -> String {
    /// What is shorter is no secret, and would be found in any text.
    const SHORTEST: usize = 6;
    let secrets: Vec<String> = match target {
        HookTarget::Web { url, headers, .. } => {
            let values = headers.iter().map(|(_, value)| value.clone());
            values.chain([url.expose_path()]).collect()
        }
        HookTarget::Command { arguments, .. } => arguments.clone(),
    };
    let mut parts: Vec<&str> = secrets
        .iter()
        .flat_map(|secret| {
            std::iter::once(secret.as_str()).chain(secret.split([' ', '/', '?', '&', '=', ':']))
        })
        .filter(|part| part.len() >= SHORTEST)
        .collect();
    // A part of a longer one would leave the rest of it.
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    let text = parts
        .into_iter()
        .fold(text.to_owned(), |text, secret| text.replace(secret, "***"));
    daemon::redact::text(&text).replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use settings::{Environment, SystemSettings};

    #[test]
    fn what_a_server_repeats_of_its_secrets_is_not_shown() {
        let text = r#"{"notifications": [{"name": "a", "url": "https://h.example/hooks/T0123456/geheim?key=s3cret-key",
            "headers": {"Authorization": "Bearer hunter2hunter2"}}]}"#;
        let settings = SystemSettings::from_text(text, &Environment::empty()).unwrap();
        let said = "no hook /hooks/T0123456/geheim?key=s3cret-key or T0123456, geheim, s3cret-key, hunter2hunter2\r\n";
        let shown = concealed(&settings.hooks[0].target, said);
        assert_eq!(shown, "no hook *** or ***, ***, ***, ***  ");
    }

    #[tokio::test]
    async fn a_panic_is_a_failed_attempt() {
        let failure = caught(async { panic!("a strange answer") }).await;
        assert_eq!(failure.unwrap_err().then, Then::Again);
    }
}
