//! The sockets of this process, for what retina gives no knob for.

use rustix::net::sockopt::{set_socket_recv_buffer_size, socket_recv_buffer_size, socket_type};
use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Asked for each socket that receives RTP over UDP: a second at 32 Mbit/s. The system's default of 208 KiB is less than
/// one key frame of a 4K camera; `net.core.rmem_max` is the most that is given.
const UDP_BUFFER: usize = 4 << 20;

/// What the system calls a socket by, however many descriptors it has.
pub type SocketNumber = u64;

/// How often a future that connects is watched. After so many steps it is connected, or is kept busy by its server.
const WATCHED_STEPS: u32 = 32;

/// The number of a socket, if the system has one.
pub fn number_of(socket: impl AsFd) -> Option<SocketNumber> {
    rustix::fs::fstat(socket).ok().map(|facts| facts.st_ino)
}

/// The number of the socket that this entry of `/proc/self/fd` is, if it is one.
fn number_at(entry: &Path) -> Option<SocketNumber> {
    let target = std::fs::read_link(entry).ok()?;
    let number = target.to_str()?.strip_prefix("socket:[")?;
    number.strip_suffix(']')?.parse().ok()
}

/// Numbers of all sockets of this process, or none where they cannot be listed.
fn numbers() -> HashSet<SocketNumber> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    let numbers = entries.filter_map(|entry| number_at(&entry.ok()?.path()));
    numbers.collect()
}

/// What the future gives, and the sockets that came into being while it had its turn. All sessions share one thread, so
/// none of another session through retina is among them.
pub async fn with_new_sockets<T>(future: impl Future<Output = T>) -> (T, HashSet<SocketNumber>) {
    let mut future = std::pin::pin!(future);
    let mut new = HashSet::new();
    let mut steps = 0;
    let result = std::future::poll_fn(|context| {
        steps += 1;
        if steps > WATCHED_STEPS {
            return future.as_mut().poll(context);
        }
        let before = numbers();
        let polled = future.as_mut().poll(context);
        new.extend(numbers().difference(&before));
        polled
    });
    (result.await, new)
}

/// Other descriptors of all sockets of this process.
///
/// # Errors
/// Of the system.
pub fn own_sockets() -> std::io::Result<Vec<OwnedFd>> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let process = pidfd_open(getpid(), PidfdFlags::empty())?;
    let mut sockets = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let is_socket = number_at(&entry.path()).is_some();
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|_| is_socket) {
            // It may have been closed meanwhile.
            sockets.extend(pidfd_getfd(&process, number, PidfdGetfdFlags::empty()));
        }
    }
    Ok(sockets)
}

/// Gives every UDP socket of this process a large receive buffer, so that a burst of packets waits in place of being lost
/// while other cameras have their turn. All of them receive RTP, so it matters not which one is new.
pub fn enlarge_udp_buffers() {
    let sockets = match own_sockets() {
        Ok(sockets) => sockets,
        Err(error) => return tracing::warn!(%error, "UDP keeps its small receive buffers"),
    };
    for socket in sockets {
        let is_udp = socket_type(&socket).is_ok_and(|kind| kind == rustix::net::SocketType::DGRAM);
        let is_small = socket_recv_buffer_size(&socket).is_ok_and(|size| size < UDP_BUFFER);
        if is_udp
            && is_small
            && let Err(error) = set_socket_recv_buffer_size(&socket, UDP_BUFFER)
        {
            tracing::warn!(%error, "a UDP socket keeps its small receive buffer");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_of_a_connection_is_known() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || tokio::net::TcpStream::connect(address);
        let (first, second) =
            tokio::join!(with_new_sockets(connect()), with_new_sockets(connect()));
        let [(first, new_first), (second, new_second)] = [first, second];
        let first = number_of(first.unwrap()).unwrap();
        let second = number_of(second.unwrap()).unwrap();
        // Other tests in this process have sockets of their own.
        assert!(new_first.contains(&first) && !new_first.contains(&second));
        assert!(new_second.contains(&second) && !new_second.contains(&first));
    }

    #[test]
    fn udp_sockets_that_others_opened_get_large_buffers() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let before = socket_recv_buffer_size(&socket).unwrap();
        enlarge_udp_buffers();
        let most: usize = std::fs::read_to_string("/proc/sys/net/core/rmem_max")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let after = socket_recv_buffer_size(&socket).unwrap();
        // The system doubles what is asked for, to hold its own notes as well.
        assert_eq!(after, 2 * most.min(UDP_BUFFER));
        assert!(after > before);
    }
}
