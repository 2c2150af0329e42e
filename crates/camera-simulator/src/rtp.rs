//! RTP packets: cutting access units into payloads (RFC 6184, RFC 7798, RFC 3640) and RTP/RTCP headers
//! (RFC 3550). Pure functions; sequence numbers and clocks belong to [`RtpStream`].

use crate::nal::VideoCodec;
use bytes::{BufMut, Bytes, BytesMut};

/// Largest RTP payload, bytes: with RTP, UDP and IPv4 headers it stays below an Ethernet MTU of 1500.
pub(crate) const MAX_PAYLOAD: usize = 1400;
/// RTP header without extensions, bytes.
pub(crate) const HEADER: usize = 12;

/// The payloads of one access unit: leading small NAL units that belong together (parameter sets, SEI) are
/// aggregated, large ones fragmented, others sent alone.
pub(crate) fn packetise_video(codec: VideoCodec, nals: &[Bytes]) -> Vec<Bytes> {
    let mut payloads = Vec::new();
    let mut rest = nals;
    while let Some(first) = rest.first() {
        let together = aggregate_count(codec, rest);
        if together > 1 {
            payloads.push(aggregate(codec, &rest[..together]));
        } else if first.len() <= MAX_PAYLOAD {
            payloads.push(first.clone());
        } else {
            fragment(codec, first, &mut payloads);
        }
        rest = &rest[together.max(1)..];
    }
    payloads
}

/// How many NAL units at the front go into one aggregation packet: only what precedes the slices.
fn aggregate_count(codec: VideoCodec, nals: &[Bytes]) -> usize {
    let mut size = header_length(codec);
    nals.iter()
        .take_while(|nal| {
            size += 2 + nal.len();
            !codec.is_slice(nal) && size <= MAX_PAYLOAD
        })
        .count()
}

fn header_length(codec: VideoCodec) -> usize {
    match codec {
        VideoCodec::H264 => 1,
        VideoCodec::H265 => 2,
    }
}

/// STAP-A (RFC 6184 section 5.7.1) or AP (RFC 7798 section 4.4.2).
fn aggregate(codec: VideoCodec, nals: &[Bytes]) -> Bytes {
    let mut out = BytesMut::with_capacity(MAX_PAYLOAD);
    match codec {
        VideoCodec::H264 => {
            let importance = nals.iter().map(|n| n[0] & 0x60).max().unwrap_or_default();
            out.put_u8(importance | 24);
        }
        // Layer 0, temporal id 0 (coded as 1): the lowest of the aggregated units, as section 4.4.2 asks.
        VideoCodec::H265 => out.put_slice(&[48 << 1, 1]),
    }
    for nal in nals {
        out.put_u16(nal.len() as u16);
        out.put_slice(nal);
    }
    out.freeze()
}

/// FU-A (RFC 6184 section 5.8) or FU (RFC 7798 section 4.4.3).
fn fragment(codec: VideoCodec, nal: &Bytes, payloads: &mut Vec<Bytes>) {
    let skip = header_length(codec);
    let kind = codec.nal_type(nal);
    let room = MAX_PAYLOAD - skip - 1;
    let chunks: Vec<&[u8]> = nal[skip..].chunks(room).collect();
    let last = chunks.len() - 1;
    for (i, chunk) in chunks.into_iter().enumerate() {
        let mut out = BytesMut::with_capacity(skip + 1 + chunk.len());
        match codec {
            VideoCodec::H264 => out.put_u8((nal[0] & 0xe0) | 28),
            VideoCodec::H265 => out.put_slice(&[(nal[0] & 0x81) | (49 << 1), nal[1]]),
        }
        let start = if i == 0 { 0x80 } else { 0 };
        let end = if i == last { 0x40 } else { 0 };
        out.put_u8(start | end | kind);
        out.put_slice(chunk);
        payloads.push(out.freeze());
    }
}

/// One AAC frame in AAC-hbr mode (RFC 3640 section 3.3.6): 16 bits of AU-headers-length, one AU header of
/// 13 bits of size and 3 of index; fragmented when larger than a packet, each with the whole frame's size.
pub(crate) fn packetise_aac(frame: &[u8]) -> Vec<Bytes> {
    frame
        .chunks(MAX_PAYLOAD - 4)
        .map(|chunk| {
            let mut out = BytesMut::with_capacity(4 + chunk.len());
            out.put_u16(16);
            out.put_u16((frame.len() as u16) << 3);
            out.put_slice(chunk);
            out.freeze()
        })
        .collect()
}

/// One direction of one RTP stream: who sends, where the counters stand.
#[derive(Debug)]
pub(crate) struct RtpStream {
    pub(crate) ssrc: u32,
    pub(crate) payload_type: u8,
    /// Added to media ticks; random, as RFC 3550 section 5.1 asks.
    pub(crate) timestamp_offset: u32,
    /// The next packet's sequence number.
    pub(crate) sequence: u16,
    packets: u32,
    octets: u32,
}

impl RtpStream {
    pub(crate) fn new(payload_type: u8) -> Self {
        Self {
            ssrc: rand::random(),
            payload_type,
            timestamp_offset: rand::random(),
            sequence: rand::random(),
            packets: 0,
            octets: 0,
        }
    }

    /// The 32 bits that stand for `ticks` of this stream's media clock.
    pub(crate) fn timestamp(&self, ticks: i64) -> u32 {
        self.timestamp_offset.wrapping_add(ticks as u32)
    }

    /// The header of the next packet; counts it as sent.
    pub(crate) fn next_header(&mut self, ticks: i64, marker: bool, payload: usize) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[0] = 0x80;
        header[1] = (u8::from(marker) << 7) | self.payload_type;
        header[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        header[4..8].copy_from_slice(&self.timestamp(ticks).to_be_bytes());
        header[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload as u32);
        header
    }

    /// A compound of sender report and source description (RFC 3550 sections 6.4.1 and 6.5).
    /// `ntp` is 32.32 fixed point since 1900; `ticks` is the media clock at the same instant.
    pub(crate) fn sender_report(&self, ntp: u64, ticks: i64, cname: &str) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_slice(&[0x80, 200]);
        out.put_u16(6);
        out.put_u32(self.ssrc);
        out.put_u64(ntp);
        out.put_u32(self.timestamp(ticks));
        out.put_u32(self.packets);
        out.put_u32(self.octets);
        self.put_description(&mut out, cname);
        out.freeze()
    }

    /// An empty receiver report, description and BYE: this stream has ended.
    pub(crate) fn goodbye(&self, cname: &str) -> Bytes {
        let mut out = BytesMut::with_capacity(64);
        out.put_slice(&[0x80, 201]);
        out.put_u16(1);
        out.put_u32(self.ssrc);
        self.put_description(&mut out, cname);
        out.put_slice(&[0x81, 203]);
        out.put_u16(1);
        out.put_u32(self.ssrc);
        out.freeze()
    }

    fn put_description(&self, out: &mut BytesMut, cname: &str) {
        let name = &cname.as_bytes()[..cname.len().min(255)];
        // SSRC, item type and length, the name, then at least one zero up to a whole word.
        let words = (4 + 2 + name.len()) / 4 + 1;
        out.put_slice(&[0x81, 202]);
        out.put_u16(words as u16);
        out.put_u32(self.ssrc);
        out.put_slice(&[1, name.len() as u8]);
        out.put_slice(name);
        out.put_bytes(0, words * 4 - (4 + 2 + name.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nal(head: &[u8], size: usize) -> Bytes {
        let mut data = head.to_vec();
        data.extend((data.len()..size).map(|i| i as u8));
        Bytes::from(data)
    }

    #[test]
    fn h264_sets_are_aggregated_and_a_large_slice_is_fragmented() {
        let slice = nal(&[0x65], 3000);
        let out = packetise_video(
            VideoCodec::H264,
            &[nal(&[0x67], 10), nal(&[0x68], 4), slice.clone()],
        );
        assert_eq!(out[0][..4], [0x78, 0, 10, 0x67]);
        let heads: Vec<_> = out[1..].iter().map(|p| (p[0], p[1])).collect();
        assert_eq!(heads, [(0x7c, 0x85), (0x7c, 0x05), (0x7c, 0x45)]);
        let body: Vec<u8> = out[1..].iter().flat_map(|p| p[2..].to_vec()).collect();
        assert_eq!(body, slice[1..]);
        assert!(out.iter().all(|p| p.len() <= MAX_PAYLOAD));
    }

    #[test]
    fn h265_uses_its_two_byte_headers() {
        let out = packetise_video(
            VideoCodec::H265,
            &[
                nal(&[0x40, 1], 8),
                nal(&[0x42, 1], 8),
                nal(&[0x26, 1], 1401),
                nal(&[0x26, 1], 1400),
            ],
        );
        assert_eq!(out[0][..5], [96, 1, 0, 8, 0x40]);
        assert_eq!(
            (out[1][..3].to_vec(), out[2][..3].to_vec()),
            (vec![98, 1, 0x93], vec![98, 1, 0x53])
        );
        assert_eq!(out[3].len(), 1400);
    }

    #[test]
    fn a_large_aac_frame_says_its_whole_size_in_each_part() {
        let out = packetise_aac(&[7; 2000]);
        assert_eq!(out.len(), 2);
        assert!(out.iter().all(|p| p[..4] == [0, 16, 0x3e, 0x80]));
    }

    #[test]
    fn reports_are_whole_words_and_say_their_length() {
        let mut stream = RtpStream::new(96);
        stream.next_header(0, true, 100);
        for name in ["a", "ab", "abc", "abcd"] {
            for packet in [
                stream.sender_report(1 << 32, 90, name),
                stream.goodbye(name),
            ] {
                let mut rest = &packet[..];
                while !rest.is_empty() {
                    let size = 4 * (1 + usize::from(u16::from_be_bytes([rest[2], rest[3]])));
                    rest = &rest[size..];
                }
            }
        }
    }
}
