//! The media side of an RTSP session: which tracks go out, by which transport, with which RTP state.

use crate::camera::Camera;
use crate::clip::Track;
use crate::live::{LiveUnit, Subscription};
use crate::rtp::{HEADER, RtpStream};
use crate::sdp;
use crate::timeline::ticks;
use crate::udp::UdpPair;
use bytes::{BufMut, Bytes, BytesMut};
use rand::RngExt as _;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Distance of sender reports (RFC 3550 section 6.2 recommends five seconds).
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// What a client asked for in `Transport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// In the control connection; channels if the client named them.
    Interleaved(Option<(u8, u8)>),
    /// The client's RTP and RTCP ports.
    Udp(u16, u16),
}

/// The first alternative in a `Transport` header that can be served.
pub(crate) fn parse_transport(header: &str) -> Option<Wish> {
    header.split(',').find_map(parse_alternative)
}

fn parse_alternative(text: &str) -> Option<Wish> {
    let mut parts = text.split(';').map(str::trim);
    let profile = parts.next()?.to_ascii_uppercase();
    let mut channels = None;
    let mut ports = None;
    for part in parts {
        match part.split_once('=') {
            Some(("interleaved", v)) => channels = Some(parse_pair::<u8>(v)?),
            Some(("client_port", v)) => ports = Some(parse_pair::<u16>(v)?),
            Some(("mode", v)) if !v.trim_matches('"').eq_ignore_ascii_case("play") => return None,
            None if part.eq_ignore_ascii_case("multicast") => return None,
            _ => {}
        }
    }
    match profile.as_str() {
        "RTP/AVP/TCP" => Some(Wish::Interleaved(channels)),
        "RTP/AVP" | "RTP/AVP/UDP" => ports
            .filter(|(rtp, _)| *rtp != 0)
            .map(|(rtp, rtcp)| Wish::Udp(rtp, rtcp)),
        _ => None,
    }
}

/// `a-b`, or `a` alone for `a-(a+1)`.
fn parse_pair<T: std::str::FromStr + TryFrom<u32>>(text: &str) -> Option<(T, T)> {
    match text.split_once('-') {
        Some((a, b)) => Some((a.parse().ok()?, b.parse().ok()?)),
        None => {
            let next = text.parse::<u32>().ok()?.checked_add(1)?;
            Some((text.parse().ok()?, T::try_from(next).ok()?))
        }
    }
}

/// Where the packets of a track go.
#[derive(Debug)]
pub(crate) enum Outlet {
    Channels { rtp: u8, rtcp: u8 },
    Udp(UdpPair),
}

/// One track that was set up.
#[derive(Debug)]
pub(crate) struct SessionTrack {
    pub(crate) track: Track,
    pub(crate) rtp: RtpStream,
    pub(crate) outlet: Outlet,
    next_report: Option<Instant>,
    begun: bool,
}

impl SessionTrack {
    pub(crate) fn new(track: Track, outlet: Outlet) -> Self {
        Self {
            track,
            rtp: RtpStream::new(sdp::payload_type(track)),
            outlet,
            next_report: None,
            begun: false,
        }
    }

    /// Calls `send` with the packets of `unit`, less those that a fault takes away.
    pub(crate) fn each_packet(
        &mut self,
        unit: &LiveUnit,
        camera: &Camera,
        mut send: impl FnMut([u8; HEADER], &Bytes),
    ) {
        let loss = camera.conditions().loss;
        let payloads = unit.payloads();
        let within = !self.begun && camera.begins_within_a_unit();
        self.begun = true;
        for (i, payload) in payloads.iter().enumerate() {
            let marker = i + 1 == payloads.len();
            let header = self.rtp.next_header(unit.ticks, marker, payload.len());
            if within && !marker {
                continue;
            }
            if loss > 0.0 && rand::rng().random_bool(loss) {
                camera.counters.packets_lost.fetch_add(1, Ordering::Relaxed);
            } else {
                camera.counters.packets_sent.fetch_add(1, Ordering::Relaxed);
                send(header, payload);
            }
        }
    }

    /// A sender report, when it is time for one: after the first unit, then at intervals.
    pub(crate) fn due_report(&mut self, camera: &Camera) -> Option<Bytes> {
        let now = Instant::now();
        if self.next_report.is_some_and(|t| t > now) {
            return None;
        }
        self.next_report = Some(now + REPORT_INTERVAL);
        let (ntp, ticks) = camera.report_time(self.track);
        Some(self.rtp.sender_report(ntp, ticks, &camera.name))
    }

    /// This track's part of the `RTP-Info` header (RFC 2326 section 12.33).
    pub(crate) fn rtp_info(&self, base: &str, camera: &Camera, at: &Subscription) -> String {
        let rate = camera.clip().rate(self.track);
        let start = ticks(at.start_ns, rate) + ticks(at.jump_ns, rate);
        format!(
            "url={base}{};seq={};rtptime={}",
            sdp::control(self.track),
            self.rtp.sequence.wrapping_sub(camera.stale_packets()),
            self.rtp.timestamp(start)
        )
    }
}

/// Appends the packets of `unit`, and a report when due, as interleaved frames (RFC 2326 section 10.12).
pub(crate) fn write_interleaved(
    tracks: &mut [SessionTrack],
    unit: &LiveUnit,
    camera: &Camera,
    out: &mut BytesMut,
) {
    let Some(track) = tracks.iter_mut().find(|t| t.track == unit.track()) else {
        return;
    };
    let Outlet::Channels { rtp, rtcp } = track.outlet else {
        return;
    };
    track.each_packet(unit, camera, |header, payload| {
        put_frame_head(out, rtp, HEADER + payload.len());
        out.put_slice(&header);
        out.put_slice(payload);
    });
    if let Some(report) = track.due_report(camera) {
        put_frame_head(out, rtcp, report.len());
        out.put_slice(&report);
    }
}

fn put_frame_head(out: &mut BytesMut, channel: u8, length: usize) {
    out.reserve(4 + length);
    out.put_u8(b'$');
    out.put_u8(channel);
    out.put_u16(length as u16);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_are_read() {
        let check = |text, wish| assert_eq!(parse_transport(text), wish, "{text}");
        check(
            "RTP/AVP/TCP;unicast;interleaved=2-3",
            Some(Wish::Interleaved(Some((2, 3)))),
        );
        check("RTP/AVP/TCP;unicast", Some(Wish::Interleaved(None)));
        check(
            "RTP/AVP;unicast;client_port=5000-5001",
            Some(Wish::Udp(5000, 5001)),
        );
        check(
            "RTP/AVP/UDP;unicast;client_port=5000;mode=\"PLAY\"",
            Some(Wish::Udp(5000, 5001)),
        );
        check(
            "RTP/AVP;multicast,RTP/AVP/TCP;interleaved=0-1",
            Some(Wish::Interleaved(Some((0, 1)))),
        );
        check("RTP/AVP;unicast;client_port=65535", None);
        check("RTP/AVP;unicast;client_port=0-1", None);
        check("RTP/AVP/TCP;interleaved=300-301", None);
        check("RTP/SAVP;unicast;client_port=5000-5001", None);
        check("RTP/AVP/TCP;mode=record", None);
        check("", None);
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(header in "(RTP/AVP(/TCP)?)?[;=0-9a-z,_-]{0,60}") {
            let _any = parse_transport(&header);
        }
    }
}
