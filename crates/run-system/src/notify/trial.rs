//! `--test-notification`: sends each hook a test event and shows what became of it.

use super::courier::deliver;
use super::notification::Notification;
use super::web::Client;
use crate::plain;
use crate::setup::NotUsable;
use jiff::Timestamp;
use settings::Hook;
use std::time::Instant;

/// Sends past what waits; the result is the exit code.
///
/// # Errors
/// There are no hooks.
pub(crate) async fn run(hooks: &[Hook]) -> anyhow::Result<u8> {
    if hooks.is_empty() {
        let words = format!(
            "there are no hooks; put one under \"notifications\" in {}",
            settings::SYSTEM_FILE
        );
        return Err(NotUsable(words).into());
    }
    let client = Client::default();
    let notification = Notification::test(Timestamp::now());
    let attempts = hooks.iter().map(|hook| async {
        let start = Instant::now();
        let outcome = deliver(hook, &client, &notification).await;
        let seconds = start.elapsed().as_secs_f64();
        (
            outcome.is_ok(),
            row(hook, outcome.err().map(|failure| failure.why), seconds),
        )
    });
    let outcomes = futures::future::join_all(attempts).await;
    let head = ["HOOK", "TO", "TIME", "RESULT"].map(str::to_owned).to_vec();
    let rows = outcomes.iter().map(|(_, row)| row.clone());
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    plain::line(plain::columns(&rows).trim_end());
    let all_arrived = outcomes.iter().all(|(arrived, _)| *arrived);
    Ok(if all_arrived {
        daemon::exit::STOPPED
    } else {
        daemon::exit::FAILED
    })
}

fn row(hook: &Hook, error: Option<String>, seconds: f64) -> Vec<String> {
    let result = error.map_or_else(|| "arrived".to_owned(), |why| format!("FAILED: {why}"));
    vec![
        hook.name.clone(),
        hook.target.to_string(),
        format!("{seconds:.1} s"),
        result,
    ]
}
