//! RTP packets over UDP in the order of their numbers.
//!
//! A network may let packets overtake one another; retina takes them as they come and drops those that come too late,
//! which damages their frame and all that build on it. So an overtaking packet waits here for those before it, for
//! [`PATIENCE`] at most; what has not come by then is lost, and retina sees the hole and counts it.
//!
//! retina opens its sockets itself. That the packets come here first is a matter of who is connected to whom
//! ([`OrderedSocket::put_in_front`]): a socket of ours is bound to the same address and connected to the camera, and
//! retina's is connected to a second one of ours, from which it gets what we pass on.

use crate::sockets::own_sockets;
use rustix::net::sockopt::{set_socket_reuseaddr, socket_type};
use rustix::net::{AddressFamily, SocketAddrAny, SocketType};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A packet waits at most this long for those before it; FFmpeg's RTP demuxer waits as long.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// What waits for a stream is at most this much, a key frame of a 4K camera several times over.
const MOST_BYTES: usize = 4 << 20;

/// Numbers further apart than this are no matter of order: the camera counts anew.
const WINDOW: i64 = 4096;

/// No datagram is larger.
const LARGEST: usize = 1 << 16;

/// Packets of one stream that wait for others.
#[derive(Debug, Default)]
pub struct Order {
    /// The number that is due, wraps undone.
    next: Option<i64>,
    waiting: BTreeMap<i64, (Instant, Vec<u8>)>,
    bytes: usize,
}

impl Order {
    /// Takes a packet that came at `now`, and passes on what is in order.
    pub fn push(&mut self, packet: &[u8], now: Instant, pass_on: &mut impl FnMut(&[u8])) {
        let Some(number) = sequence_number(packet) else {
            return pass_on(packet);
        };
        let next = *self.next.get_or_insert(i64::from(number));
        // The number nearest to the one that is due.
        let ahead = i64::from((number.wrapping_sub(next as u16)) as i16);
        if (-WINDOW..0).contains(&ahead) {
            // Too late, or a second time: nobody needs it, but how many there are is retina's business.
            return pass_on(packet);
        }
        if ahead.abs() > WINDOW {
            self.pass_on_rest(pass_on);
            pass_on(packet);
            self.next = Some(next + ahead + 1);
            return;
        }
        if ahead == 0 {
            pass_on(packet);
            self.next = Some(next + 1);
            return self.pass_on_run(pass_on);
        }
        let place = self.waiting.entry(next + ahead);
        if let std::collections::btree_map::Entry::Vacant(place) = place {
            place.insert((now, packet.to_vec()));
            self.bytes += packet.len();
        }
        while self.bytes > MOST_BYTES {
            self.give_up_hole(pass_on);
        }
    }

    /// When [`expire`](Self::expire) is to be called, if anything waits.
    pub fn deadline(&self) -> Option<Instant> {
        let first = self.waiting.values().map(|(came, _)| *came).min();
        first.map(|came| came + PATIENCE)
    }

    /// Passes on what has waited long enough at `now`, and what is in order behind it.
    pub fn expire(&mut self, now: Instant, pass_on: &mut impl FnMut(&[u8])) {
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.give_up_hole(pass_on);
        }
    }

    /// What is missing before the first packet that waits is lost.
    fn give_up_hole(&mut self, pass_on: &mut impl FnMut(&[u8])) {
        if let Some(first) = self.waiting.keys().next() {
            self.next = Some(*first);
            self.pass_on_run(pass_on);
        }
    }

    /// Passes on the packets that are due.
    fn pass_on_run(&mut self, pass_on: &mut impl FnMut(&[u8])) {
        while let Some(next) = self.next
            && let Some((_, packet)) = self.waiting.remove(&next)
        {
            self.bytes -= packet.len();
            pass_on(&packet);
            self.next = Some(next + 1);
        }
    }

    /// Passes on all that waits, holes and all.
    fn pass_on_rest(&mut self, pass_on: &mut impl FnMut(&[u8])) {
        self.bytes = 0;
        for (_, packet) in std::mem::take(&mut self.waiting).into_values() {
            pass_on(&packet);
        }
    }
}

/// The number of an RTP packet (RFC 3550 section 5.1).
fn sequence_number(packet: &[u8]) -> Option<u16> {
    match packet {
        [first, _, high, low, ..] if first >> 6 == 2 => Some(u16::from_be_bytes([*high, *low])),
        _ => None,
    }
}

/// Stands between a camera and the socket that retina opened for its RTP packets, until it is dropped.
#[derive(Debug)]
pub struct OrderedSocket {
    task: JoinHandle<()>,
}

impl OrderedSocket {
    /// Puts itself in front of the UDP socket of this process that is bound to `local` and connected to a camera which
    /// does not send yet.
    ///
    /// # Errors
    /// Of the system, or there is no such socket. That socket goes on as it was then.
    pub fn put_in_front(local: SocketAddr) -> io::Result<Self> {
        let retinas = socket_at(local)?;
        let camera = rustix::net::getpeername(&retinas)?
            .map(SocketAddr::try_from)
            .ok_or(io::ErrorKind::NotConnected)??;
        let outer = bind_beside(&retinas, local)?;
        rustix::net::connect(&outer, &camera)?;
        let inner = std::net::UdpSocket::bind((local.ip(), 0))?;
        inner.connect(local)?;
        let outer = UdpSocket::from_std(nonblocking(outer.into())?)?;
        let inner = UdpSocket::from_std(nonblocking(inner)?)?;
        // From here on the camera's packets reach `outer` alone.
        rustix::net::connect(&retinas, &inner.local_addr()?)?;
        Ok(OrderedSocket {
            task: tokio::spawn(pass_on_all(outer, inner)),
        })
    }
}

impl Drop for OrderedSocket {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The UDP socket of this process that is bound to `local`.
fn socket_at(local: SocketAddr) -> io::Result<OwnedFd> {
    let is_it = |socket: &OwnedFd| {
        socket_type(socket).is_ok_and(|kind| kind == SocketType::DGRAM)
            && rustix::net::getsockname(socket).is_ok_and(|bound| is_at(bound, local))
    };
    own_sockets()?
        .into_iter()
        .find(is_it)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no socket at {local}")))
}

fn is_at(bound: SocketAddrAny, local: SocketAddr) -> bool {
    SocketAddr::try_from(bound)
        .is_ok_and(|bound| bound.port() == local.port() && bound.ip() == local.ip())
}

/// A second socket at the address of the first one. Nobody else may bind to it afterwards.
fn bind_beside(first: &OwnedFd, local: SocketAddr) -> io::Result<OwnedFd> {
    let family = if local.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let second = rustix::net::socket(family, SocketType::DGRAM, None)?;
    set_socket_reuseaddr(first, true)?;
    set_socket_reuseaddr(&second, true)?;
    let bound = rustix::net::bind(&second, &local);
    set_socket_reuseaddr(first, false)?;
    set_socket_reuseaddr(&second, false)?;
    bound?;
    Ok(second)
}

fn nonblocking(socket: std::net::UdpSocket) -> io::Result<std::net::UdpSocket> {
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Passes on the packets from `outer` to `inner` in their order, for ever.
async fn pass_on_all(outer: UdpSocket, inner: UdpSocket) {
    let mut order = Order::default();
    let mut buffer = vec![0; LARGEST];
    // A packet that is not taken is lost like one that the network loses: retina counts it.
    let mut pass_on = |packet: &[u8]| {
        if let Err(error) = inner.try_send(packet) {
            tracing::trace!(%error, "packet not passed on");
        }
    };
    loop {
        let deadline = order.deadline();
        let expiry = async move {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = expiry => order.expire(Instant::now(), &mut pass_on),
            received = outer.recv(&mut buffer) => match received {
                Ok(length) => order.push(&buffer[..length], Instant::now(), &mut pass_on),
                Err(error) => tracing::trace!(%error, "nothing received"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u16) -> Vec<u8> {
        let [high, low] = number.to_be_bytes();
        vec![0x80, 96, high, low]
    }

    /// What comes out when these numbers come in, ten milliseconds apart; `|` stands for a second without packets.
    fn pass(numbers: &[&str]) -> Vec<u16> {
        let mut order = Order::default();
        let mut out = Vec::new();
        let mut now = Instant::now();
        for number in numbers {
            let mut pass_on = |packet: &[u8]| out.push(sequence_number(packet).unwrap());
            now += Duration::from_millis(if *number == "|" { 1000 } else { 10 });
            order.expire(now, &mut pass_on);
            if let Ok(number) = number.parse() {
                order.push(&packet(number), now, &mut pass_on);
            }
        }
        assert_eq!(
            order.bytes,
            order.waiting.values().map(|(_, p)| p.len()).sum::<usize>()
        );
        out
    }

    #[test]
    fn swapped_and_delayed_packets_are_put_in_order() {
        assert_eq!(pass(&["5", "7", "6", "8"]), [5, 6, 7, 8]);
        assert_eq!(
            pass(&["5", "7", "8", "9", "11", "6", "10", "12"]),
            [5, 6, 7, 8, 9, 10, 11, 12]
        );
    }

    #[test]
    fn the_numbers_wrap() {
        assert_eq!(
            pass(&["65534", "0", "65535", "2", "1"]),
            [65534, 65535, 0, 1, 2]
        );
    }

    #[test]
    fn what_never_comes_is_waited_for_only_so_long() {
        assert_eq!(pass(&["5", "7", "8", "|", "9"]), [5, 7, 8, 9]);
        // Two holes: the second one has its own time.
        let mut order = Order::default();
        let (began, mut out) = (Instant::now(), Vec::new());
        let at = |ms| began + Duration::from_millis(ms);
        for (number, ms) in [(1, 0), (3, 0), (5, 60)] {
            order.push(&packet(number), at(ms), &mut |p| out.push(p[3]));
        }
        order.expire(at(100), &mut |p| out.push(p[3]));
        assert_eq!(out, [1, 3]);
        assert_eq!(order.deadline(), Some(at(160)));
        order.expire(at(160), &mut |p| out.push(p[3]));
        assert_eq!(out, [1, 3, 5]);
        assert_eq!(order.deadline(), None);
    }

    #[test]
    fn late_and_doubled_packets_hold_nothing_up() {
        assert_eq!(
            pass(&["5", "7", "7", "|", "6", "8", "8", "9"]),
            [5, 7, 6, 8, 8, 9]
        );
    }

    #[test]
    fn a_camera_that_counts_anew_is_followed_at_once() {
        assert_eq!(
            pass(&["5", "7", "30000", "30001", "2", "3"]),
            [5, 7, 30000, 30001, 2, 3]
        );
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut order = Order::default();
        let now = Instant::now();
        let mut out = 0;
        for number in (0..4000).filter(|n| *n != 1) {
            let mut large = packet(number);
            large.resize(60_000, 0);
            order.push(&large, now, &mut |_| out += 1);
        }
        assert!(order.bytes <= MOST_BYTES);
        assert!(out > 3900, "{out} packets passed on");
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_passed_on_once_and_in_time(
            packets in proptest::collection::vec((0u16..40, 0u64..30, 0usize..2000), 1..200),
            first in 0u16..=u16::MAX,
        ) {
            let mut order = Order::default();
            let (mut came, mut out, mut now) = (BTreeMap::new(), BTreeMap::new(), Instant::now());
            for (number, pause, length) in packets {
                let number = first.wrapping_add(number);
                let mut packet = packet(number);
                packet.resize(4 + length, 0);
                now += Duration::from_millis(pause);
                let mut pass_on = |packet: &[u8]| *out.entry(sequence_number(packet)).or_insert(0) += 1;
                order.expire(now, &mut pass_on);
                order.push(&packet, now, &mut pass_on);
                *came.entry(Some(number)).or_insert(0) += 1;
                assert!(order.deadline().is_none_or(|deadline| deadline > now));
                assert_eq!(order.bytes, order.waiting.values().map(|(_, p)| p.len()).sum::<usize>());
            }
            order.expire(now + PATIENCE, &mut |packet| *out.entry(sequence_number(packet)).or_insert(0) += 1);
            assert!(order.waiting.is_empty());
            // One that comes again while the first waits is left out.
            assert!(out.keys().eq(came.keys()) && out.iter().all(|(number, times)| *times <= came[number]));
        }
    }

    #[tokio::test]
    async fn packets_pass_in_order_through_sockets_that_others_opened() {
        let camera = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let local = client.local_addr().unwrap();
        client.connect(camera.local_addr().unwrap()).await.unwrap();
        let ordered = OrderedSocket::put_in_front(local).unwrap();
        for number in [1, 3, 2, 5] {
            camera.send_to(&packet(number), local).await.unwrap();
        }
        let mut buffer = [0; 100];
        for number in [1, 2, 3, 5] {
            let length = client.recv(&mut buffer).await.unwrap();
            assert_eq!(buffer[..length], packet(number));
        }
        // Others are not heard, nor may they bind there.
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        stranger.send_to(&packet(9), local).await.unwrap();
        let pause = tokio::time::timeout(Duration::from_millis(200), client.recv(&mut buffer));
        assert!(pause.await.is_err());
        let third = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
        set_socket_reuseaddr(&third, true).unwrap();
        assert!(rustix::net::bind(&third, &local).is_err());
        drop(ordered);
    }
}
