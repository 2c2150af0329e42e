//! What dispatcher and worker say to each other.
//!
//! One `SOCK_SEQPACKET` Unix socket pair per worker; every message is one packet of JSON, at most
//! [`MAX_MESSAGE_BYTES`], and the open files of a job travel with it (`SCM_RIGHTS`). The worker has
//! its end as standard input, so nothing else is inherited and no path is ever handed over: a
//! worker needs no right to open anything once its plugin is loaded.
//!
//! ```text
//! dispatcher                          worker
//!   Setup(recipe, plugin)   ----->    loads plugin and model, tries one frame
//!                           <-----    Ready(plugin facts) | Unfit(reason), then exit
//!   Job + [raw, output]     ----->    decode, mask, encode, verify
//!                           <-----    Progress ...
//!                           <-----    Done(report) | Failed(failure)
//!   (end closed)            ----->    worker kills its process group
//! ```
//! May touch: the socket, nothing else.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::pipeline::{Failure, Progress, Recipe, VideoJob, VideoReport};
use crate::plugin::{PluginChoice, PluginFacts};
use crate::sandbox::Sandbox;

/// Largest message, in bytes. A packet socket takes about 200 KiB with the kernel's default buffer.
pub const MAX_MESSAGE_BYTES: usize = 160 * 1024;

/// Files that travel with one message, at most: the raw video and the output.
const MAX_FILES: usize = 2;

/// From dispatcher to worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToWorker {
    /// First message of all: what every job of this worker's life is to be done with.
    Setup {
        /// Settings of the pipeline.
        recipe: Box<Recipe>,
        /// The plugin to load.
        plugin: PluginChoice,
        /// What to lock itself into before that.
        sandbox: Sandbox,
    },
    /// One video. Carries two files: the raw video (read), the output (read and write, empty).
    Job(Box<VideoJob>),
}

/// From worker to dispatcher.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromWorker {
    /// Plugin and model are loaded and passed the self-test.
    Ready(Box<PluginFacts>),
    /// Plugin or model cannot be used; the worker exits.
    Unfit {
        /// What is wrong and what to do.
        reason: String,
    },
    /// The job is alive.
    Progress(Progress),
    /// The output is written and verified.
    Done(Box<VideoReport>),
    /// The job ended without a usable output.
    Failed(Failure),
}

/// One end of the socket pair.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Both ends, the dispatcher's and the worker's; blocking, close-on-exec.
    ///
    /// # Errors
    /// When the kernel gives no socket pair (too many open files).
    pub fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Channel { socket: ours }, theirs))
    }

    /// Wraps the worker's end.
    pub fn from_socket(socket: OwnedFd) -> Channel {
        Channel { socket }
    }

    /// Sends one message and duplicates of `files` with it.
    ///
    /// # Errors
    /// `InvalidData` when the message is too large; otherwise the socket's error
    /// (`BrokenPipe` when the other side is gone).
    pub fn send(&self, message: &impl Serialize, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        if bytes.len() > MAX_MESSAGE_BYTES {
            let text = format!("a message of {} bytes is too large", bytes.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "too many files",
            ));
        }
        let data = [IoSlice::new(&bytes)];
        rustix::net::sendmsg(&self.socket, &data, &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message and its files; `None` when the other side is gone.
    ///
    /// # Errors
    /// `InvalidData` for a message that is too large or not understood.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0_u8; MAX_MESSAGE_BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut data = [IoSliceMut::new(&mut bytes)];
        let got = rustix::net::recvmsg(
            &self.socket,
            &mut data,
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let files = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => Some(files),
                _ => None,
            })
            .flatten()
            .collect();
        if got.bytes == 0 {
            return Ok(None);
        }
        if got.flags.contains(ReturnFlags::TRUNC) || got.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "message cut short",
            ));
        }
        Ok(Some((serde_json::from_slice(&bytes[..got.bytes])?, files)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd as _;

    #[test]
    fn a_message_carries_its_files() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::from_socket(theirs);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"raw").unwrap();
        file.rewind().unwrap();
        let message = FromWorker::Unfit {
            reason: "no model".into(),
        };
        ours.send(&message, &[file.as_fd()]).unwrap();

        let (got, files) = theirs.receive::<FromWorker>().unwrap().unwrap();
        assert!(matches!(got, FromWorker::Unfit { reason } if reason == "no model"));
        let mut text = String::new();
        std::fs::File::from(files.into_iter().next().unwrap())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "raw");
    }

    #[test]
    fn the_end_of_the_other_side_is_seen() {
        let (ours, theirs) = Channel::pair().unwrap();
        drop(ours);
        let theirs = Channel::from_socket(theirs);
        assert!(theirs.receive::<ToWorker>().unwrap().is_none());
    }

    #[test]
    fn nonsense_and_oversize_are_refused() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::from_socket(theirs);
        ours.send(&serde_json::json!({"launch": 1}), &[]).unwrap();
        let error = theirs.receive::<ToWorker>().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = ours.send(&"x".repeat(MAX_MESSAGE_BYTES), &[]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}
