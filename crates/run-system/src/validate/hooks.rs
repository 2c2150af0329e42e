//! Whether notifications could go where they should. Nothing is sent.

use super::Finding;
use crate::notify::{Client, find_program};
use settings::{Hook, HookTarget};
use std::net::IpAddr;

pub(super) fn check(hooks: &[Hook]) -> Vec<Finding> {
    let client = Client::default();
    hooks.iter().map(|hook| one(hook, &client)).collect()
}

fn one(hook: &Hook, client: &Client) -> Finding {
    let what = format!("notifications to {}", hook.name);
    let target = &hook.target;
    match target {
        HookTarget::Web { url, .. } if url.is_tls() => match client.check_tls() {
            Ok(()) => Finding::ok(what, target.to_string()),
            Err(error) => Finding::wrong(what, format!("{target}: {error}")),
        },
        HookTarget::Web { url, .. } if is_near(url.endpoint().0) => {
            Finding::ok(what, target.to_string())
        }
        HookTarget::Web { .. } => Finding::note(
            what,
            format!("{target}: anyone on the way can read along; better use https://"),
        ),
        HookTarget::Command { program, .. } => match find_program(program) {
            Ok(path) => Finding::ok(what, path.display().to_string()),
            Err(error) => Finding::wrong(what, error),
        },
    }
}

/// Whether it stays on this machine.
fn is_near(host: &str) -> bool {
    let address: Option<IpAddr> = host.parse().ok();
    host == "localhost" || address.is_some_and(|address| address.is_loopback())
}
