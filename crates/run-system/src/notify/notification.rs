//! What is sent. The form is documented in docs/notifications.md; fields are added, never changed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use settings::HookEvent;

/// Of the form of a notification.
const VERSION: u32 = 1;
/// A longer reason is cut: programs and chats take little.
const MOST_REASON_BYTES: usize = 1_000;
/// The event of a trial.
const TEST: &str = "test";

/// One thing that a person may want to know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Notification {
    pub(crate) version: u32,
    /// The same when it is sent again.
    pub(crate) id: String,
    /// A name of [`HookEvent`], or `test`.
    pub(crate) event: String,
    /// When it was noticed.
    pub(crate) time: Timestamp,
    /// Name of this machine.
    pub(crate) host: String,
    /// How many events about the same thing it stands for; it describes the last of them.
    pub(crate) count: u64,
    #[serde(flatten)]
    pub(crate) subject: Subject,
    /// Everything above in one sentence.
    pub(crate) text: String,
}

/// What it is about; what does not apply is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Subject {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) camera: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) program: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ticket: Option<String>,
    /// Path of the published video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) video: Option<String>,
    /// Since when, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl Notification {
    /// `words`: the sentence without the machine's name.
    pub(crate) fn new(event: HookEvent, mut subject: Subject, now: Timestamp, words: &str) -> Self {
        subject.reason = subject.reason.map(|reason| cut(&reason));
        Self::of(event.name(), subject, now, words)
    }

    /// One that tells nothing.
    pub(crate) fn test(now: Timestamp) -> Self {
        let words = "this is a test of the notifications of run-system; nothing is wrong";
        Self::of(TEST, Subject::default(), now, words)
    }

    fn of(event: &str, subject: Subject, now: Timestamp, words: &str) -> Self {
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let told = (event, &subject.camera, &subject.program, &subject.ticket);
        let moment = subject.since.unwrap_or(now);
        let id = blake3::hash(format!("{told:?} {moment}").as_bytes()).to_hex();
        Self {
            version: VERSION,
            id: id[..16].to_owned(),
            event: event.to_owned(),
            time: now,
            text: format!("{host}: {}", cut(words)),
            host,
            count: 1,
            subject,
        }
    }

    /// What it is about, for the limit on how often that is told; none: each is told.
    pub(crate) fn topic(&self) -> Option<String> {
        use HookEvent as E;
        let camera = self.subject.camera.as_deref().unwrap_or_default();
        Some(match HookEvent::named(&self.event)? {
            E::CameraDown | E::CameraUp => format!("camera {camera}"),
            E::TicketFailed => format!("tickets {camera}"),
            E::BacklogAlarm | E::BacklogOver => "backlog".to_owned(),
            E::DiskAlarm | E::DiskOver => "disk".to_owned(),
            E::DaemonDegraded | E::DaemonRecovered => {
                let program = self.subject.program.as_deref().unwrap_or_default();
                format!("daemon {program}")
            }
            E::SegmentPublished => return None,
        })
    }

    /// The last of `count` events as one notification.
    pub(crate) fn for_all(mut self, count: u64) -> Self {
        self.count = count;
        if count > 1 {
            self.text
                .push_str(&format!(" ({count} events since the last message)"));
        }
        self
    }

    /// As it is sent: whole, or in the form that a service wants.
    pub(crate) fn body(&self, form: Option<&Value>) -> Vec<u8> {
        let body = match form {
            Some(form) => serde_json::to_vec(&self.filled(form)),
            None => serde_json::to_vec(self),
        };
        body.expect("texts and numbers can always be written")
    }

    fn filled(&self, form: &Value) -> Value {
        match form {
            Value::String(text) => {
                let parts = [
                    ("{event}", &self.event),
                    ("{id}", &self.id),
                    ("{time}", &self.time.to_string()),
                    // The last, since what it brings in may look like one of the others.
                    ("{text}", &self.text),
                ];
                let fill = |text: String, (name, value): (&str, &String)| text.replace(name, value);
                Value::String(parts.into_iter().fold(text.clone(), fill))
            }
            Value::Array(list) => list.iter().map(|item| self.filled(item)).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(key, value)| (key.clone(), self.filled(value)))
                .collect(),
            other => other.clone(),
        }
    }
}

/// One line without credentials or control characters, not too long.
fn cut(text: &str) -> String {
    let clean = daemon::redact::text(text).replace(|c: char| c.is_control(), " ");
    match clean.len() {
        0..=MOST_REASON_BYTES => clean,
        _ => format!(
            "{} ...",
            &clean[..clean.floor_char_boundary(MOST_REASON_BYTES)]
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn camera_down() -> Notification {
        let subject = Subject {
            camera: Some("yard".to_owned()),
            since: Some("2026-03-01T08:00:00Z".parse().unwrap()),
            reason: Some("cannot open rtsp://admin:geheim@10.0.0.7/x\nrefused".to_owned()),
            ..Subject::default()
        };
        let now = "2026-03-01T08:01:00Z".parse().unwrap();
        Notification::new(HookEvent::CameraDown, subject, now, "camera yard is down")
    }

    #[test]
    fn the_form_is_stable() {
        let told = camera_down();
        let mut sent: Value = serde_json::from_slice(&told.body(None)).unwrap();
        assert_eq!(sent["text"], format!("{}: camera yard is down", told.host));
        for own in ["host", "text"] {
            sent.as_object_mut().unwrap().remove(own);
        }
        let expected = json!({
            "version": 1, "id": "0", "event": "camera_down", "time": "2026-03-01T08:01:00Z", "count": 1,
            "camera": "yard", "since": "2026-03-01T08:00:00Z",
            "reason": "cannot open rtsp://***@10.0.0.7/x refused",
        });
        assert_eq!(sent["id"].as_str().unwrap().len(), 16);
        sent["id"] = json!("0");
        assert_eq!(sent, expected);
        assert_eq!(camera_down().id, told.id, "the same event has the same id");
    }

    #[test]
    fn a_service_gets_its_own_form() {
        let mut told = camera_down();
        told.text = "look: {event}".to_owned();
        let form = json!({"content": "**{event}** {text}", "embeds": [{"n": 1, "id": "{id}"}]});
        let sent: Value = serde_json::from_slice(&told.body(Some(&form))).unwrap();
        let expected = json!({"content": "**camera_down** look: {event}", "embeds": [{"n": 1, "id": told.id}]});
        assert_eq!(sent, expected);
    }
}
