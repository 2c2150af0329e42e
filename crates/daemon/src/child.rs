//! Child processes: a process group each, an end that is always noticed, and a stop that always works.
//!
//! Two traps are handled here once. PR_SET_PDEATHSIG fires when the *thread* that forked dies, not
//! the process, and threads of a tokio pool come and go; so all forks are made by one thread that
//! never ends. And a pid may belong to a stranger once its process has been waited for; so a child is
//! only reaped under the same mutex that guards sending signals.

use rustix::io::Errno;
pub use rustix::process::Signal;
use rustix::process::{Pid, WaitId, WaitIdOptions};
use std::fmt;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// What becomes of a child when this process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphan {
    /// It goes on; what remains of its group when it ends is left alone too.
    LivesOn,
    /// It is killed by the kernel; what remains of its group when it ends is killed too.
    IsKilled,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// As `wait` gives it.
    raw: i32,
}

impl Exit {
    fn status(self) -> ExitStatus {
        ExitStatus::from_raw(self.raw)
    }

    /// The exit code; none when a signal ended it.
    pub fn code(self) -> Option<i32> {
        self.status().code()
    }

    /// The signal that ended it.
    pub fn signal(self) -> Option<i32> {
        self.status().signal()
    }

    /// Whether it ended with code 0.
    pub fn success(self) -> bool {
        self.status().success()
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.code() {
            return write!(f, "exit code {code}");
        }
        let number = self.signal().unwrap_or_default();
        write!(f, "killed by signal {number}")?;
        if let Some(name) = signal_name(number) {
            write!(f, " ({name})")?;
        }
        if self.status().core_dumped() {
            f.write_str(", core dumped")?;
        }
        Ok(())
    }
}

/// A running or ended child process, leader of its own process group. Clones share it.
#[derive(Debug, Clone)]
pub struct Child {
    pid: Pid,
    exit: watch::Receiver<Option<Exit>>,
    /// False once the process has been reaped and the pid may belong to somebody else.
    ours: Arc<Mutex<bool>>,
}

/// The ends of the child's pipes that were asked for in the command.
#[derive(Debug, Default)]
pub struct Pipes {
    /// Its standard input.
    pub stdin: Option<ChildStdin>,
    /// Its standard output.
    pub stdout: Option<ChildStdout>,
    /// Its standard error.
    pub stderr: Option<ChildStderr>,
}

impl Child {
    /// Starts the command in a process group of its own. Blocks until it is executed.
    ///
    /// # Errors
    /// When the process cannot be made or the program cannot be executed.
    pub fn spawn(command: Command, orphan: Orphan) -> io::Result<(Self, Pipes)> {
        let mut child = fork_in_spawner(command, orphan)?;
        let pipes = Pipes {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
        };
        let raw = i32::try_from(child.id()).map_err(io::Error::other)?;
        let pid =
            Pid::from_raw(raw).ok_or_else(|| io::Error::other("the child has no process id"))?;
        let (sender, exit) = watch::channel(None);
        let ours = Arc::new(Mutex::new(true));
        let waiter = Waiter {
            child,
            pid,
            ours: Arc::clone(&ours),
            orphan,
        };
        std::thread::Builder::new()
            .name(format!("wait-{raw}"))
            .spawn(move || sender.send_replace(Some(waiter.wait())))?;
        Ok((Self { pid, exit, ours }, pipes))
    }

    /// Its process id, which is its group's id as well.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Waits until it has ended.
    pub async fn exited(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(LOST),
            // The waiting thread sends before it ends, unless it panicked.
            Err(_) => LOST,
        }
    }

    /// Sends a signal to the process, if it still lives.
    pub fn signal(&self, signal: Signal) {
        let ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        if *ours {
            // It may just have ended by itself, which is as good.
            rustix::process::kill_process(self.pid, signal).ok();
        }
    }

    /// Kills the whole group.
    pub fn kill_group(&self) {
        let ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        if *ours {
            rustix::process::kill_process_group(self.pid, Signal::KILL).ok();
        }
    }

    /// Asks the process to end with SIGTERM, waits that long, then kills its whole group.
    pub async fn stop(&self, patience: Duration) -> Exit {
        self.signal(Signal::TERM);
        match tokio::time::timeout(patience, self.exited()).await {
            Ok(exit) => exit,
            Err(_) => {
                tracing::warn!(
                    pid = self.pid(),
                    ?patience,
                    "process did not stop in time; killing it"
                );
                self.kill_group();
                self.exited().await
            }
        }
    }
}

/// Reported when waiting itself failed: as if killed.
const LOST: Exit = Exit { raw: 9 };

/// Waits for one child in a thread of its own.
struct Waiter {
    child: std::process::Child,
    pid: Pid,
    ours: Arc<Mutex<bool>>,
    orphan: Orphan,
}

impl Waiter {
    fn wait(mut self) -> Exit {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        // After any other error the `wait` below blocks until the end.
        while matches!(
            rustix::process::waitid(WaitId::Pid(self.pid), ended),
            Err(Errno::INTR)
        ) {}
        let mut ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        if self.orphan == Orphan::IsKilled {
            // Not reaped yet, so the group's id is still its own.
            rustix::process::kill_process_group(self.pid, Signal::KILL).ok();
        }
        *ours = false;
        self.child.wait().map_or(LOST, |status| Exit {
            raw: status.into_raw(),
        })
    }
}

type Order = (
    Command,
    Orphan,
    mpsc::Sender<io::Result<std::process::Child>>,
);

/// Hands the command to the thread that makes all forks and never ends.
fn fork_in_spawner(command: Command, orphan: Orphan) -> io::Result<std::process::Child> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts processes is gone");
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (command, orphan, answer) in inbox {
                // Whoever asked has gone away; the child is dropped, not killed, as it would be anyway.
                answer.send(fork(command, orphan)).ok();
            }
        });
        Mutex::new(orders)
    });
    let (answer, outcome) = mpsc::channel();
    let orders = spawner.lock().unwrap_or_else(PoisonError::into_inner);
    orders.send((command, orphan, answer)).map_err(|_| gone())?;
    drop(orders);
    outcome.recv().map_err(|_| gone())?
}

#[expect(
    unsafe_code,
    reason = "the death signal can only be set between fork and exec"
)]
fn fork(mut command: Command, orphan: Orphan) -> io::Result<std::process::Child> {
    command.process_group(0);
    if orphan == Orphan::IsKilled {
        let parent = rustix::process::getpid();
        let hook = move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // Had the parent died before the line above, no signal would ever come.
            if rustix::process::getppid() != Some(parent) {
                return Err(Errno::SRCH.into());
            }
            Ok(())
        };
        // SAFETY: the hook makes three system calls, neither allocates nor takes locks, and touches no
        // memory shared with other threads, as is required between fork and exec.
        unsafe { command.pre_exec(hook) };
    }
    command.spawn()
}

fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}
