//! One Python interpreter with one module loaded: started, asked, ended.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use plugin_abi::{Change, Failure, FrameInfo, FrameView, FrameViewMut, PluginKind};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;

use crate::Launch;
use crate::shared::{PAGE, SharedMemory};

/// The interpreter's side, sent to it when it starts.
const BRIDGE: &str = include_str!("../python/bridge.py");

/// Reads the bridge's text (length as 4 bytes, big endian, then UTF-8) from standard input and runs it.
const BOOTSTRAP: &str = "import os, socket
s = socket.socket(fileno=os.dup(0))
n = int.from_bytes(s.recv(4, socket.MSG_WAITALL), 'big')
t = s.recv(n, socket.MSG_WAITALL)
s.close()
exec(compile(t, '<blur bridge>', 'exec'))";

/// An answer that has begun is there at once.
const LINE_LIMIT: Duration = Duration::from_secs(5);

/// Longest answer that is read, bytes. A traceback or a thousand regions fit; a runaway module does not fill memory.
const LONGEST_ANSWER: u64 = 1 << 20;

/// What the module turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) kind: PluginKind,
    pub(crate) name: String,
    /// Largest picture a detector wants, pixels.
    pub(crate) max_size: Option<(u32, u32)>,
    /// It has a function of its own that forgets a camera.
    pub(crate) resets: bool,
}

/// Why a call gave no result.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The module failed or broke a rule; the interpreter is as before.
    Module(String),
    /// The interpreter died, hung or talked nonsense.
    Lost(String),
}

impl CallError {
    /// Whether the interpreter must not be used any more.
    pub(crate) fn interpreter_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(text) | Self::Lost(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for CallError {}

#[derive(Deserialize)]
struct Answer {
    ok: bool,
    /// Of the request that it answers.
    #[serde(default)]
    number: u64,
    #[serde(default)]
    error: String,
    #[serde(default)]
    traceback: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    interface: String,
    size: Option<(u32, u32)>,
    #[serde(default)]
    resets: bool,
    #[serde(default)]
    regions: Vec<[f32; 5]>,
    /// Offset and length of each frame in the memory that the module holds.
    #[serde(default)]
    held: Vec<(usize, usize)>,
}

/// Frames that a module may keep before it is given copies.
const MOST_KEPT: usize = 8;

/// An interpreter that is no longer needed has this long to end by itself, so that what its module registered for the
/// end runs.
const FAREWELL: Duration = Duration::from_millis(500);

/// A running interpreter. Dropping it ends the process.
pub(crate) struct Interpreter {
    child: Child,
    control: BufReader<UnixStream>,
    memory: SharedMemory,
    /// Readable when the interpreter has ended: what it started may still hold the socket open then.
    end: OwnedFd,
    /// Where in the memory frames lie that the module holds, in order.
    held: Vec<Range<usize>>,
    /// Requests so far.
    asked: u64,
    frame_timeout: Duration,
}

impl Interpreter {
    /// Starts the interpreter and loads the module.
    ///
    /// # Errors
    /// The executable cannot be started, or the module cannot be loaded; the text holds the Python traceback.
    pub(crate) fn start(launch: &Launch) -> Result<(Self, Interface), Failure> {
        let memory = SharedMemory::new()?;
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(&launch.python)
            .args(["-u", "-c", BOOTSTRAP])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(memory.file()?))
            .spawn()
            .map_err(|error| {
                format!(
                    "cannot start the Python interpreter {}: {error}; name another with \"plugin\": {{\"python_executable\": ...}}",
                    launch.python.display()
                )
            })?;
        let pid = Pid::from_child(&child);
        let mut interpreter = Self {
            child,
            control: BufReader::new(ours),
            memory,
            end: pidfd_open(pid, PidfdFlags::empty())?,
            held: Vec::new(),
            asked: 0,
            frame_timeout: launch.frame_timeout,
        };
        let load =
            serde_json::json!({ "op": "load", "module": launch.module, "cameras": launch.cameras });
        let answer = interpreter
            .send_bridge()
            .and_then(|()| interpreter.ask(load, launch.load_timeout))
            .map_err(|error| format!("Python module {}: {error}", launch.module.display()))?;
        let kind = if answer.kind == "detector" {
            PluginKind::Detector
        } else {
            PluginKind::Filter
        };
        Ok((
            interpreter,
            Interface {
                kind,
                name: answer.interface,
                max_size: answer.size,
                resets: answer.resets,
            },
        ))
    }

    /// Regions of one frame: x, y, width, height in its pixels, and a score.
    pub(crate) fn detect(&mut self, frame: &FrameView<'_>) -> Result<Vec<[f32; 5]>, CallError> {
        let info = *frame.info();
        let place = self.place(&info);
        let row = row_and_rows(&info).0;
        for (y, target) in self.bytes(&place)?.chunks_exact_mut(row).enumerate() {
            target.copy_from_slice(frame.row(0, y));
        }
        Ok(self.ask_frame(&info, &place)?.regions)
    }

    /// Runs the module over one frame, in place. What it changed is seen by comparing, whatever it says.
    pub(crate) fn process(&mut self, frame: &mut FrameViewMut<'_>) -> Result<Change, CallError> {
        let info = *frame.info();
        let place = self.place(&info);
        let row = row_and_rows(&info).0;
        for (y, target) in self.bytes(&place)?.chunks_exact_mut(row).enumerate() {
            target.copy_from_slice(frame.row_mut(0, y));
        }
        self.ask_frame(&info, &place)?;
        let mut change = Change::Unchanged;
        for (y, source) in self.bytes(&place)?.chunks_exact(row).enumerate() {
            let target = frame.row_mut(0, y);
            if target != source {
                target.copy_from_slice(source);
                change = Change::Changed;
            }
        }
        Ok(change)
    }

    /// Has the module forget a camera; only where it has a function for it.
    pub(crate) fn reset(&mut self, camera: u32) -> Result<(), CallError> {
        let request = serde_json::json!({ "op": "reset", "camera": camera });
        self.ask(request, self.frame_timeout).map(drop)
    }

    /// Bytes of the next frame in the memory: the first that the module holds nothing of.
    fn place(&self, info: &FrameInfo) -> Range<usize> {
        let (row, rows) = row_and_rows(info);
        let mut start = 0;
        for held in &self.held {
            if start + row * rows <= held.start {
                break;
            }
            start = start.max(held.end.next_multiple_of(PAGE));
        }
        start..start + row * rows
    }

    fn bytes(&mut self, place: &Range<usize>) -> Result<&mut [u8], CallError> {
        let bytes = self.memory.bytes(place.end).map_err(no_memory)?;
        Ok(&mut bytes[place.clone()])
    }

    fn ask_frame(&mut self, info: &FrameInfo, place: &Range<usize>) -> Result<Answer, CallError> {
        let request = serde_json::json!({
            "op": "frame", "offset": place.start, "copy": self.held.len() >= MOST_KEPT,
            "width": info.width, "height": info.height, "camera": info.camera, "index": info.index,
        });
        self.ask(request, self.frame_timeout)
    }

    fn send_bridge(&mut self) -> Result<(), CallError> {
        let mut text = (BRIDGE.len() as u32).to_be_bytes().to_vec();
        text.extend_from_slice(BRIDGE.as_bytes());
        self.control
            .get_mut()
            .write_all(&text)
            .map_err(|error| self.lost(&error))
    }

    /// One request and the answer to it, within `limit`.
    fn ask(
        &mut self,
        mut request: serde_json::Value,
        limit: Duration,
    ) -> Result<Answer, CallError> {
        self.expect_silence()?;
        self.asked += 1;
        request["number"] = self.asked.into();
        let line = format!("{request}\n");
        self.control
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(|error| self.lost(&error))?;
        let answer = self.read_line(limit)?;
        let answer: Answer = serde_json::from_str(&answer).map_err(|error| {
            CallError::Lost(format!("the Python bridge answered nonsense: {error}"))
        })?;
        if answer.number != self.asked {
            // Taking it for an answer would take frames away before the module was at them.
            return Err(CallError::Lost(format!(
                "the Python bridge answered another request ({} instead of {}): the module, or a process that it started, \
                 writes into what belongs to the bridge",
                answer.number, self.asked
            )));
        }
        self.held = answer
            .held
            .iter()
            .map(|(offset, length)| *offset..offset.saturating_add(*length))
            .collect();
        self.held.sort_by_key(|held| held.start);
        if answer.ok {
            return Ok(answer);
        }
        let traceback = answer.traceback.trim_end();
        Err(CallError::Module(match traceback {
            "" => answer.error,
            _ => format!("{}\n{traceback}", answer.error),
        }))
    }

    /// Between an answer and the next request nothing comes.
    fn expect_silence(&mut self) -> Result<(), CallError> {
        if self.control.buffer().is_empty() {
            let mut socket = [PollFd::new(self.control.get_ref(), PollFlags::IN)];
            match retry_on_intr(|| poll(&mut socket, Some(&Timespec::default()))) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(self.lost(&error.into())),
            }
            match self.control.fill_buf().map(<[u8]>::is_empty) {
                Ok(false) => {}
                Ok(true) => return Err(self.lost(&io::ErrorKind::UnexpectedEof.into())),
                Err(error) => return Err(self.lost(&error)),
            }
        }
        Err(CallError::Lost(
            "the Python bridge said something without being asked: the module, or a process that it started, writes into \
             what belongs to the bridge"
                .to_owned(),
        ))
    }

    fn read_line(&mut self, limit: Duration) -> Result<String, CallError> {
        self.wait(limit)?;
        let left = LINE_LIMIT.min(limit);
        self.control
            .get_mut()
            .set_read_timeout(Some(left))
            .map_err(|error| self.lost(&error))?;
        let mut line = String::new();
        match (&mut self.control)
            .take(LONGEST_ANSWER)
            .read_line(&mut line)
        {
            Ok(_) if line.ends_with('\n') => Ok(line),
            Ok(_) => Err(self.lost(&io::ErrorKind::UnexpectedEof.into())),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Err(CallError::Lost(
                    "the Python bridge stopped in the middle of an answer".to_owned(),
                ))
            }
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// Waits until there is something to read or the interpreter has ended.
    fn wait(&mut self, limit: Duration) -> Result<(), CallError> {
        let asked = Instant::now();
        loop {
            let left = limit.saturating_sub(asked.elapsed());
            if left.is_zero() {
                return Err(CallError::Lost(format!(
                    "the module gave no answer for {:.0} s; the interpreter is ended",
                    limit.as_secs_f64()
                )));
            }
            let left = Timespec::try_from(left).ok();
            let mut both = [
                PollFd::new(self.control.get_ref(), PollFlags::IN),
                PollFd::new(&self.end, PollFlags::IN),
            ];
            match poll(&mut both, left.as_ref()) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) if both[0].revents().is_empty() => {
                    return Err(self.lost(&io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(_) => return Ok(()),
                Err(error) => return Err(self.lost(&error.into())),
            }
        }
    }

    /// The reason in words: how the interpreter ended, when it did.
    fn lost(&mut self, error: &io::Error) -> CallError {
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    let how = match (status.code(), status.signal()) {
                        (Some(code), _) => format!("exit code {code}"),
                        (None, Some(signal)) => format!("signal {signal}"),
                        (None, None) => "an unknown end".to_owned(),
                    };
                    return CallError::Lost(format!(
                        "the Python interpreter ended with {how}; its last words are in the log"
                    ));
                }
                Ok(None) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10))
                }
                _ => return CallError::Lost(format!("lost the Python interpreter: {error}")),
            }
        }
    }
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        // Asked first, then killed: a hung module would not listen. Errors mean that it has ended already.
        drop(self.control.get_ref().shutdown(Shutdown::Both));
        let farewell = Timespec::try_from(FAREWELL).ok();
        poll(
            &mut [PollFd::new(&self.end, PollFlags::IN)],
            farewell.as_ref(),
        )
        .ok();
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn row_and_rows(info: &FrameInfo) -> (usize, usize) {
    info.format.plane_size(0, info.width, info.height)
}

fn no_memory(error: io::Error) -> CallError {
    CallError::Lost(format!("no shared memory for a frame: {error}"))
}
