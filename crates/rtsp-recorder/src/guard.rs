//! A bound on what hostile servers can make the recorder hold or compute.
//!
//! retina sets no limit to a header, a body or an access unit, looks through an unfinished line again with every read,
//! and gives no hold on its buffers or sockets. What such a server cannot do is to send frames at the same time. So a
//! thread of its own watches the memory of the whole process and whether the sessions still get their turn, and shuts the
//! sockets of the sources that bring no frames. Sources that deliver go on undisturbed, also those that are other channels of
//! the same video recorder; an honest one that was just connecting tries again. Of sources that FFmpeg reads the sockets are
//! not known: of the same address they are cut off with the one that is to blame.

use crate::board::Board;
use crate::sockets::{SocketNumber, number_of, own_sockets};
use jiff::{SignedDuration, Timestamp};
use settings::SourceUrl;
use std::collections::HashSet;
use std::fs::File;
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tracing::{error, warn};

/// For the program itself and its libraries.
const BASE_BYTES: u64 = 256 << 20;

/// For each source: the buffers of its connection and twice what may wait for the disk.
const SOURCE_BYTES: u64 = 2 * crate::writer::BUDGET_BYTES as u64;

/// How often it is looked while more than half of what is allowed is held: a server on a link of 10 Gbit/s fills
/// 60 MB in that time.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// ... and while less is: such a server fills 250 MB, not more than the other half by much.
const GLANCE_EVERY: Duration = Duration::from_millis(200);

/// How often the sessions' thread shows that it goes on.
const BEAT_EVERY: Duration = Duration::from_millis(250);

/// The sessions, which share one thread, must get their turn within this time.
const LONGEST_TURN: Duration = Duration::from_secs(2);

/// What is freed may stay with the allocator; only so much more is an alarm again.
const STEP_BYTES: u64 = 64 << 20;

/// A source that brought a frame within this time before the trouble began is not suspected.
const TRUSTED_FOR: SignedDuration = SignedDuration::from_secs(5);

/// When nothing else helped for this long, every source is suspected.
const LAST_RESORT: Duration = Duration::from_secs(10);

/// A source that is watched.
pub struct Watched {
    /// Where it is.
    pub url: SourceUrl,
    /// What it does.
    pub board: Arc<Board>,
}

/// Starts to watch, until the runtime that this is called in ends.
///
/// # Errors
/// The system has no thread left, or no `/proc`.
pub fn start(sources: Vec<Watched>) -> std::io::Result<()> {
    let beats = Arc::new(AtomicU64::new(0));
    let most = BASE_BYTES + SOURCE_BYTES * sources.len() as u64;
    let guard = Guard {
        sources,
        statm: File::open("/proc/self/statm")?,
        beats: Arc::downgrade(&beats),
        most,
    };
    tokio::spawn(async move {
        loop {
            beats.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(BEAT_EVERY).await;
        }
    });
    std::thread::Builder::new()
        .name("guard".to_owned())
        .spawn(move || guard.watch())
        .map(drop)
}

struct Guard {
    sources: Vec<Watched>,
    statm: File,
    beats: Weak<AtomicU64>,
    most: u64,
}

impl Guard {
    fn watch(&self) {
        let mut limit = self.most;
        let (mut last_beat, mut beaten_at, mut beaten_wall) = (0, Instant::now(), Timestamp::now());
        let mut pause = LOOK_EVERY;
        loop {
            std::thread::sleep(pause);
            let (Some(beats), Some(resident)) = (self.beats.upgrade(), resident_bytes(&self.statm))
            else {
                return;
            };
            pause = match resident > limit / 2 {
                true => LOOK_EVERY,
                false => GLANCE_EVERY,
            };
            let beat = beats.load(Ordering::Relaxed);
            if beat != last_beat {
                (last_beat, beaten_at, beaten_wall) = (beat, Instant::now(), Timestamp::now());
            }
            let why = if resident > limit {
                "memory runs out"
            } else if beaten_at.elapsed() > LONGEST_TURN {
                "other sources do not get their turn"
            } else {
                continue;
            };
            let trusted = match beaten_at.elapsed() > LAST_RESORT {
                true => Timestamp::now(),
                false => beaten_wall - TRUSTED_FOR,
            };
            self.cut_off(trusted, why);
            drop(beats);
            std::thread::sleep(LONGEST_TURN);
            limit =
                resident_bytes(&self.statm).map_or(limit, |left| self.most.max(left + STEP_BYTES));
        }
    }

    /// Closes the connections of sources that have not brought a frame since `trusted`.
    fn cut_off(&self, trusted: Timestamp, why: &str) {
        let sockets = match own_sockets() {
            Ok(sockets) => connections(sockets),
            Err(error) => return warn!(%error, why, "the open connections cannot be listed"),
        };
        let (suspects, others): (Vec<_>, Vec<_>) = self
            .sources
            .iter()
            .partition(|source| source.board.is_suspect(trusted));
        let spared: HashSet<SocketNumber> = others
            .iter()
            .flat_map(|source| source.board.sockets())
            .collect();
        let is_spared =
            |socket: &TcpStream| number_of(socket).is_some_and(|it| spared.contains(&it));
        for Watched { url, board } in suspects {
            let addresses: Vec<SocketAddr> = url
                .endpoint()
                .and_then(|endpoint| endpoint.to_socket_addrs().ok())
                .map(Iterator::collect)
                .unwrap_or_default();
            let to_it = sockets.iter().filter(|(_, peer)| addresses.contains(peer));
            for (socket, _) in to_it.filter(|(socket, _)| !is_spared(socket)) {
                error!(
                    source = board.name(),
                    why,
                    "closing a connection on which no frame comes; its server may send without end"
                );
                // It may be gone by itself by now.
                socket.shutdown(Shutdown::Both).ok();
            }
        }
    }
}

/// The TCP connections among the sockets, with their peers.
fn connections(sockets: Vec<OwnedFd>) -> Vec<(TcpStream, SocketAddr)> {
    let streams = sockets.into_iter().map(TcpStream::from);
    streams
        .filter_map(|stream| stream.peer_addr().ok().map(|peer| (stream, peer)))
        .collect()
}

/// Memory of this process that is in RAM. The file stays open: to find it anew with each look cost a tenth of what
/// recording four cameras costs.
fn resident_bytes(statm: &File) -> Option<u64> {
    let mut text = [0; 128];
    let length = statm.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(&text[..length]).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
