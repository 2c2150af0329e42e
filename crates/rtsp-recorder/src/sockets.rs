//! The sockets of this process, for what retina gives no knob for.

use rustix::net::sockopt::{set_socket_recv_buffer_size, socket_recv_buffer_size, socket_type};
use std::os::fd::OwnedFd;

/// Asked for each socket that receives RTP over UDP: a second at 32 Mbit/s. The system's default of 208 KiB is less than
/// one key frame of a 4K camera; `net.core.rmem_max` is the most that is given.
const UDP_BUFFER: usize = 4 << 20;

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
        let is_socket = std::fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
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
