//! Writes fragments from packets that stay where they are: one system call hands the kernel the header and every
//! packet's bytes. FFmpeg's muxer copies each packet into a buffer that grows, which was a fifth of what recording cost.
//!
//! A fragment is `moof` + `mdat` (ISO/IEC 14496-12, 8.8.4 to 8.8.12); offsets count from the `moof`, and of each track
//! there is one run. Syncing is the caller's.

use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// `tfhd`: offsets count from the first byte of the `moof`.
const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;

/// `trun`: the data's offset, and of each sample duration, size, flags and the distance of the times.
const RUN_FIELDS: u32 = 0x0f01;

/// Sample flags: decoding can start here.
const KEY: u32 = 0x0200_0000;

/// Sample flags: needs others, decoding cannot start here.
const NOT_KEY: u32 = 0x0101_0000;

/// What Linux takes in one call (`IOV_MAX`).
const MOST_PARTS: usize = 1024;

/// One packet; times in the ticks of its track.
pub(crate) struct Entry {
    /// Counts the tracks from 0.
    pub(crate) track: usize,
    pub(crate) dts: i64,
    pub(crate) pts: i64,
    /// Only that of the last one of its track in the fragment matters.
    pub(crate) duration: i64,
    pub(crate) key: bool,
    pub(crate) data: Vec<u8>,
}

/// Told of all bytes that were written, in order: their offset in the file and themselves.
pub type Observer = Box<dyn FnMut(u64, &[u8]) + Send>;

/// Appends fragments to a file that begins with the header of a fragmented MP4.
pub(crate) struct FragmentWriter {
    file: Arc<File>,
    /// Where the next fragment goes.
    at: u64,
    fragments: u32,
    waiting: Vec<Entry>,
    observer: Option<Observer>,
}

impl FragmentWriter {
    /// The first fragment goes to offset `at`.
    pub(crate) fn new(file: Arc<File>, at: u64) -> Self {
        Self {
            file,
            at,
            fragments: 0,
            waiting: Vec::new(),
            observer: None,
        }
    }

    /// Where the next fragment goes.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Who is told of all that is written from now on.
    pub(crate) fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    /// Keeps a packet for the next fragment. Decoding times grow within a track.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.waiting.push(entry);
    }

    /// The first packet of that track in the fragment to come.
    pub(crate) fn first_waiting(&self, track: usize) -> Option<&Entry> {
        self.waiting.iter().find(|entry| entry.track == track)
    }

    /// Writes what waits as one fragment.
    ///
    /// # Errors
    /// The operating system's: the fragment is torn or not there, and nothing waits any more.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut entries = std::mem::take(&mut self.waiting);
        if entries.is_empty() {
            return Ok(());
        }
        // A run lies in one piece.
        entries.sort_by_key(|entry| entry.track);
        self.fragments += 1;
        let header = header(self.fragments, &entries)?;
        let data = entries.iter().map(|entry| entry.data.as_slice());
        let parts = || std::iter::once(header.as_slice()).chain(data.clone());
        let mut unwritten: Vec<IoSlice<'_>> = parts().map(IoSlice::new).collect();
        write_all_at(&self.file, &mut unwritten, self.at)?;
        for part in parts() {
            if let Some(observer) = &mut self.observer {
                observer(self.at, part);
            }
            self.at += part.len() as u64;
        }
        Ok(())
    }
}

/// `moof` and the header of the `mdat` behind it. The packets are sorted by track.
fn header(number: u32, entries: &[Entry]) -> io::Result<Vec<u8>> {
    let runs = || entries.chunk_by(|one, other| one.track == other.track);
    let moof_size = 8 + 16 + runs().map(traf_size).sum::<usize>();
    let mut out = Vec::with_capacity(moof_size + 8);
    put(&mut out, moof_size)?;
    out.extend_from_slice(b"moof");
    put(&mut out, 16_u32)?;
    out.extend_from_slice(b"mfhd");
    put(&mut out, 0_u32)?;
    put(&mut out, number)?;
    let mut offset = moof_size + 8;
    for run in runs() {
        put_run(&mut out, run, offset)?;
        offset += run.iter().map(|entry| entry.data.len()).sum::<usize>();
    }
    debug_assert_eq!(out.len(), moof_size);
    put(&mut out, offset - moof_size)?;
    out.extend_from_slice(b"mdat");
    Ok(out)
}

/// Of `traf`, `tfhd`, `tfdt` and `trun` of the packets of one track.
fn traf_size(run: &[Entry]) -> usize {
    8 + 16 + 20 + trun_size(run)
}

fn trun_size(run: &[Entry]) -> usize {
    20 + 16 * run.len()
}

/// `traf` of the packets of one track, whose bytes begin `offset` bytes behind the start of the `moof`.
fn put_run(out: &mut Vec<u8>, run: &[Entry], offset: usize) -> io::Result<()> {
    let Some(first) = run.first() else {
        return Ok(());
    };
    put(out, traf_size(run))?;
    out.extend_from_slice(b"traf");
    put(out, 16_u32)?;
    out.extend_from_slice(b"tfhd");
    put(out, DEFAULT_BASE_IS_MOOF)?;
    put(out, first.track + 1)?;
    // Version 1: 64 bits.
    put(out, 20_u32)?;
    out.extend_from_slice(b"tfdt");
    put(out, 1_u32 << 24)?;
    out.extend_from_slice(&u64::try_from(first.dts).map_err(invalid)?.to_be_bytes());
    // Version 1: the distance of the times is signed.
    put(out, trun_size(run))?;
    out.extend_from_slice(b"trun");
    put(out, (1 << 24) | RUN_FIELDS)?;
    put(out, run.len())?;
    put(out, offset)?;
    for (index, entry) in run.iter().enumerate() {
        let duration = match run.get(index + 1) {
            Some(next) => next.dts - entry.dts,
            None => entry.duration.clamp(0, u32::MAX.into()),
        };
        put(out, duration)?;
        put(out, entry.data.len())?;
        put(out, if entry.key { KEY } else { NOT_KEY })?;
        let delay = i32::try_from(entry.pts - entry.dts).map_err(invalid)?;
        out.extend_from_slice(&delay.to_be_bytes());
    }
    Ok(())
}

fn write_all_at(file: &File, mut parts: &mut [IoSlice<'_>], mut at: u64) -> io::Result<()> {
    while !parts.is_empty() {
        let some = &parts[..parts.len().min(MOST_PARTS)];
        match rustix::io::pwritev(file, some, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                at += count as u64;
                IoSlice::advance_slices(&mut parts, count);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn put(out: &mut Vec<u8>, number: impl TryInto<u32>) -> io::Result<()> {
    let number = number.try_into().map_err(|_| invalid("too large"))?;
    out.extend_from_slice(&number.to_be_bytes());
    Ok(())
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}
