//! Whether the dashboard can listen where it should, and what it shows.

use super::Finding;
use crate::dashboard::check_tls;
use crate::setup::Loaded;
use daemon::lock::{self, Holder};
use daemon::status;
use std::io::ErrorKind;
use std::net::TcpListener;

/// None when there is to be no dashboard.
pub(super) fn check(loaded: &Loaded) -> Option<Finding> {
    let address = loaded.system.dashboard.as_ref()?.listen;
    let what = "port of the dashboard";
    Some(match TcpListener::bind(address) {
        Ok(_) => Finding::ok(what, address.to_string()),
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_ours(loaded) => {
            Finding::ok(what, format!("{address}, in use while run-system runs"))
        }
        Err(error) => Finding::note(
            what,
            format!(
                "{address}: {error}; everything else works, but give dashboard_listen another port"
            ),
        ),
    })
}

/// Whether the page can be served by HTTPS; none when it is not to be.
pub(super) fn tls(loaded: &Loaded) -> Option<Finding> {
    let files = loaded.system.dashboard.as_ref()?.tls.as_ref()?;
    let what = "TLS of the dashboard";
    Some(match check_tls(files) {
        Ok(()) => Finding::ok(what, files.cert.display().to_string()),
        Err(error) => Finding::wrong(what, format!("{error}; there would be no dashboard")),
    })
}

/// What somebody should know who looks after other people's pictures.
pub(super) fn originals(loaded: &Loaded) -> Option<Finding> {
    let dashboard = loaded.system.dashboard.as_ref()?;
    dashboard.show_originals.then(|| {
        Finding::note(
            "originals in the dashboard",
            "everyone with the token sees people unblurred (dashboard_show_originals); set it to false when you are done",
        )
    })
}

/// Whether run-system runs here, and so listens itself.
fn is_ours(loaded: &Loaded) -> bool {
    let places = match (&loaded.recorder, &loaded.blur) {
        (Some((_, settings)), _) => &settings.places,
        (None, Some((_, settings))) => &settings.places,
        (None, None) => return false,
    };
    let file = status::lock_file(&places.status_dir, status::SYSTEM);
    lock::holder(&file).is_ok_and(|holder| holder != Holder::Nobody)
}
