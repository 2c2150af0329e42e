//! MPEG transport stream: packets of one size, each with the same first byte (ISO/IEC 13818-1, 2.4.3).

use std::io;

use super::break_at;
use crate::boxes::{Bytes, fill};

const SYNC: u8 = 0x47;
/// Plain, with an arrival time before it (Blu-ray, cameras' cards), with check bytes behind it.
const SIZES: [u64; 3] = [188, 192, 204];
/// So many first bytes at the distance of a packet's size tell that size.
const ENOUGH: u64 = 5;
/// Packets looked at together.
const BATCH: usize = 512;

/// Where a packet does not begin as packets do.
pub(super) fn broken_at(data: &(impl Bytes + ?Sized)) -> io::Result<Option<u64>> {
    let length = data.length()?;
    let Some((size, mut at)) = beginning(data)? else {
        return break_at(data, 0);
    };
    let mut block = vec![0; size as usize * BATCH];
    while at < length {
        let have = fill(data, &mut block, at)?;
        let is_packet = |packet: &[u8]| packet.first() == Some(&SYNC);
        let packets = block[..have].chunks(size as usize);
        if let Some(broken) = packets.into_iter().position(|packet| !is_packet(packet)) {
            return break_at(data, at + broken as u64 * size);
        }
        if have < block.len() {
            break;
        }
        at += have as u64;
    }
    Ok(None)
}

/// Size of the packets and where the first begins: within the first one's length, since a recording may begin anywhere.
fn beginning(data: &(impl Bytes + ?Sized)) -> io::Result<Option<(u64, u64)>> {
    let mut head = vec![0; (SIZES[2] * (ENOUGH + 1)) as usize];
    let have = fill(data, &mut head, 0)?;
    let fits = |size: u64, first: u64| {
        let mut all = (first..have as u64).step_by(size as usize);
        all.by_ref()
            .take(ENOUGH as usize)
            .all(|at| head[at as usize] == SYNC)
    };
    let places = SIZES
        .into_iter()
        .flat_map(|size| (0..size.min(have as u64)).map(move |first| (size, first)));
    Ok(places.into_iter().find(|&(size, first)| fits(size, first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets that hold what looks like the beginning of one.
    fn stream(size: usize, packets: usize) -> Vec<u8> {
        let mut stream = vec![0x11; size * packets];
        for packet in stream.chunks_mut(size) {
            packet[0] = SYNC;
            packet[100] = SYNC;
        }
        stream
    }

    fn check(bytes: &[u8]) -> Option<u64> {
        broken_at(bytes).expect("memory can be read")
    }

    #[test]
    fn packets_of_every_size_are_followed_to_the_end() {
        for size in [188, 192, 204] {
            let stream = stream(size, 1200);
            for cut in [0, 1, 100, size - 1, size] {
                assert_eq!(check(&stream[..stream.len() - cut]), None, "{size}");
                assert_eq!(check(&stream[cut..]), None, "{size}");
            }
            assert_eq!(check(&[&stream[..], &[0; 70_000]].concat()), None);
        }
    }

    #[test]
    fn a_packet_that_begins_otherwise_is_noticed() {
        for size in [188, 192, 204] {
            for packet in [20, 600, 1199] {
                let mut stream = stream(size, 1200);
                stream[size * packet] = 0;
                assert_eq!(check(&stream), Some((size * packet) as u64));
            }
            let mut stream = stream(size, 1200);
            stream.drain(size * 20 + 50..size * 20 + 90);
            assert_eq!(check(&stream), Some((size * 21) as u64));
        }
        assert_eq!(check(&[1; 5000]), Some(0));
    }
}
