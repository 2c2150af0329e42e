//! Sessions over UDP: port pairs, the sending task, keep-alive.
//!
//! Such a session outlives its control connection (as with live555 and GStreamer) until TEARDOWN or until
//! neither a request nor an RTCP packet has come for the session's time-out.

use crate::camera::{Attachment, Camera};
use crate::live::{LiveUnit, Subscription};
use crate::session::{Outlet, SessionTrack};
use bytes::{Bytes, BytesMut};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Attempts at finding an even port with a free odd one above it (RFC 3550 section 11).
const PAIR_ATTEMPTS: usize = 50;
/// Packets sent back to back before a pause: a key frame of a hundred packets overruns the receive buffer
/// of a client on the loopback device, where no network slows the sender down.
const BURST: usize = 16;
const BURST_PAUSE: Duration = Duration::from_millis(1);

/// A track's two sockets and where they send to.
#[derive(Debug)]
pub(crate) struct UdpPair {
    rtp: Arc<UdpSocket>,
    rtcp: Arc<UdpSocket>,
    rtp_to: SocketAddr,
    rtcp_to: SocketAddr,
    /// The server's RTP port; RTCP is one above.
    pub(crate) port: u16,
}

impl UdpPair {
    /// Binds a pair on `local`, sending to the two ports of `client`.
    pub(crate) async fn bind(local: IpAddr, client: IpAddr, ports: (u16, u16)) -> io::Result<Self> {
        for _ in 0..PAIR_ATTEMPTS {
            let rtp = UdpSocket::bind((local, 0)).await?;
            let port = rtp.local_addr()?.port();
            if port % 2 == 1 {
                continue;
            }
            if let Ok(rtcp) = UdpSocket::bind((local, port + 1)).await {
                return Ok(Self {
                    rtp: Arc::new(rtp),
                    rtcp: Arc::new(rtcp),
                    rtp_to: (client, ports.0).into(),
                    rtcp_to: (client, ports.1).into(),
                    port,
                });
            }
        }
        Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "no free pair of UDP ports",
        ))
    }
}

/// A session whose media goes over UDP.
#[derive(Debug)]
pub(crate) struct UdpSession {
    pub(crate) tracks: Mutex<Vec<SessionTrack>>,
    /// The client's address; requests for the session from elsewhere are refused.
    pub(crate) client: IpAddr,
    pub(crate) kill: Arc<Notify>,
    attachment: Attachment,
    last_heard: Mutex<Instant>,
    playing: Mutex<Option<JoinHandle<()>>>,
}

impl UdpSession {
    pub(crate) fn new(camera: &Arc<Camera>, client: IpAddr) -> Self {
        let kill = Arc::new(Notify::new());
        Self {
            attachment: camera.attach(Arc::clone(&kill)),
            tracks: Mutex::default(),
            client,
            kill,
            last_heard: Mutex::new(Instant::now()),
            playing: Mutex::default(),
        }
    }

    pub(crate) fn camera(&self) -> &Arc<Camera> {
        self.attachment.camera()
    }

    /// A sign of life from the client.
    pub(crate) fn touch(&self) {
        *crate::lock(&self.last_heard) = Instant::now();
    }

    /// When the session ends unless the client is heard before.
    pub(crate) fn expires(&self, timeout: Duration) -> Instant {
        *crate::lock(&self.last_heard) + timeout
    }

    pub(crate) fn is_playing(&self) -> bool {
        crate::lock(&self.playing).is_some()
    }

    /// Starts sending; a running transmission is replaced.
    pub(crate) fn play(self: &Arc<Self>, subscription: Subscription) {
        self.stop();
        let task = tokio::spawn(Arc::clone(self).send_all(subscription));
        *crate::lock(&self.playing) = Some(task);
    }

    /// Stops sending (PAUSE, TEARDOWN, time-out).
    pub(crate) fn stop(&self) {
        if let Some(task) = crate::lock(&self.playing).take() {
            task.abort();
        }
    }

    /// Tells the client that the streams end.
    pub(crate) fn say_goodbye(&self) {
        for track in crate::lock(&self.tracks).iter() {
            if let Outlet::Udp(pair) = &track.outlet {
                let packet = track.rtp.goodbye(&self.camera().name);
                send_now(&pair.rtcp, &packet, pair.rtcp_to);
            }
        }
    }

    async fn send_all(self: Arc<Self>, mut subscription: Subscription) {
        let mut buffer = vec![0; 2048];
        let mut sent = 0;
        while let Some(unit) = subscription.units.recv().await {
            for (socket, to, packet) in self.packets(&unit) {
                send_now(&socket, &packet, to);
                sent += 1;
                if sent % BURST == 0 {
                    tokio::time::sleep(BURST_PAUSE).await;
                }
            }
            self.read_reports(&mut buffer);
        }
    }

    fn packets(&self, unit: &LiveUnit) -> Vec<(Arc<UdpSocket>, SocketAddr, Bytes)> {
        let mut tracks = crate::lock(&self.tracks);
        let mut out = Vec::with_capacity(unit.payloads().len() + 1);
        for track in tracks.iter_mut().filter(|t| t.track == unit.track()) {
            let Outlet::Udp(pair) = &track.outlet else {
                continue;
            };
            let (rtp, rtp_to) = (Arc::clone(&pair.rtp), pair.rtp_to);
            let (rtcp, rtcp_to) = (Arc::clone(&pair.rtcp), pair.rtcp_to);
            let first = out.len();
            track.each_packet(unit, self.camera(), |header, payload| {
                let mut packet = BytesMut::with_capacity(header.len() + payload.len());
                packet.extend_from_slice(&header);
                packet.extend_from_slice(payload);
                out.push((Arc::clone(&rtp), rtp_to, packet.freeze()));
            });
            let by = self.camera().conditions().reorder;
            overtake(&mut out[first..], by);
            if let Some(report) = track.due_report(self.camera()) {
                out.push((rtcp, rtcp_to, report));
            }
        }
        out
    }

    /// Empties the sockets; RTCP from the client's address is a sign of life (RFC 2326 appendix C). What comes
    /// on the RTP port only opens firewalls.
    fn read_reports(&self, buffer: &mut [u8]) {
        for track in crate::lock(&self.tracks).iter() {
            let Outlet::Udp(pair) = &track.outlet else {
                continue;
            };
            while pair.rtp.try_recv_from(buffer).is_ok() {}
            while let Ok((_, from)) = pair.rtcp.try_recv_from(buffer) {
                if from.ip() == self.client {
                    self.touch();
                }
            }
        }
    }
}

/// Moves every fifth packet back by `by` places, as far as there are so many behind it.
fn overtake<T>(packets: &mut [T], by: usize) {
    for place in (0..packets.len()).step_by(5.max(by + 1)) {
        let end = (place + by).min(packets.len() - 1);
        packets[place..=end].rotate_left(1);
    }
}

/// A datagram that the kernel cannot take now is lost, as on a real network; an ICMP error from a client
/// that has gone is not ours to handle, the time-out is.
fn send_now(socket: &UdpSocket, packet: &[u8], to: SocketAddr) {
    if let Err(error) = socket.try_send_to(packet, to) {
        tracing::trace!(%error, %to, "datagram not sent");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_overtake_every_fifth_one() {
        let check = |by, expected: [u8; 8]| {
            let mut packets = [0, 1, 2, 3, 4, 5, 6, 7];
            overtake(&mut packets, by);
            assert_eq!(packets, expected);
        };
        check(0, [0, 1, 2, 3, 4, 5, 6, 7]);
        check(1, [1, 0, 2, 3, 4, 6, 5, 7]);
        check(3, [1, 2, 3, 0, 4, 6, 7, 5]);
        check(6, [1, 2, 3, 4, 5, 6, 0, 7]);
        overtake::<u8>(&mut [], 2);
    }
}
