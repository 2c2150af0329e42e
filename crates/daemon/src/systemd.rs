//! Tells systemd how it goes, when it asked to be told (`Type=notify`); see sd_notify(3).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The start is over.
    Ready,
    /// The program has begun to stop.
    Stopping,
    /// The program is alive; to be told more often than `WatchdogSec=`.
    Alive,
}

/// Tells systemd; does nothing when it did not ask.
///
/// # Errors
/// When systemd asked but its socket cannot be reached.
pub fn tell(news: News) -> io::Result<()> {
    match std::env::var("NOTIFY_SOCKET") {
        Ok(socket) => send(&socket, news),
        Err(_) => Ok(()),
    }
}

fn send(socket: &str, news: News) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let text = match news {
        News::Ready => "READY=1",
        News::Stopping => "STOPPING=1",
        News::Alive => "WATCHDOG=1",
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn both_kinds_of_sockets_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.to_str().unwrap(), News::Ready).unwrap();
        assert_eq!(received(&socket), "READY=1");

        let name = format!("daemon-test-{}", std::process::id());
        let socket =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(&format!("@{name}"), News::Alive).unwrap();
        assert_eq!(received(&socket), "WATCHDOG=1");
    }

    #[test]
    fn a_missing_socket_is_an_error() {
        assert!(send("/nowhere/notify", News::Stopping).is_err());
    }
}
