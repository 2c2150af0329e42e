//! The wish to stop, shared by all tasks and threads of a program.

use std::io;
use std::task::Poll;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How far stopping has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    Graceful,
    AtOnce,
}

/// What a second SIGINT or SIGTERM does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondSignal {
    /// The process exits at once with code 130.
    Exits,
    /// [`Shutdown::at_once`] comes true; the program does the rest.
    IsReported,
}

/// Tells whoever asks that the program is to stop. Clones share the wish.
#[derive(Debug, Clone)]
pub struct Shutdown {
    stage: watch::Sender<Stage>,
}

impl Shutdown {
    /// Stops on the first SIGINT or SIGTERM, and when the terminal is closed (SIGHUP) unless `nohup`
    /// had that ignored. Call it within a tokio runtime.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub fn on_signals(second: SecondSignal) -> io::Result<Self> {
        let shutdown = Self::manual();
        let mut signals = vec![
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
        ];
        if !hangup_is_ignored() {
            signals.push(signal(SignalKind::hangup())?);
        }
        tokio::spawn(shutdown.clone().listen(signals, second));
        Ok(shutdown)
    }

    /// Stops only when [`Self::request`] is called: for tests and for parts of a program.
    pub fn manual() -> Self {
        Self {
            stage: watch::channel(Stage::Running).0,
        }
    }

    /// Asks everybody to stop, gracefully.
    pub fn request(&self) {
        self.raise(Stage::Graceful);
    }

    /// Asks everybody to drop everything.
    pub fn request_at_once(&self) {
        self.raise(Stage::AtOnce);
    }

    /// Whether stopping was asked for. Fit for threads that know no tokio.
    pub fn is_requested(&self) -> bool {
        *self.stage.borrow() >= Stage::Graceful
    }

    /// Waits until stopping is asked for.
    pub async fn requested(&self) {
        self.reached(Stage::Graceful).await;
    }

    /// Whether everything is to be dropped now.
    pub fn is_at_once(&self) -> bool {
        *self.stage.borrow() >= Stage::AtOnce
    }

    /// Waits until everything is to be dropped, after a second signal.
    pub async fn at_once(&self) {
        self.reached(Stage::AtOnce).await;
    }

    async fn reached(&self, wanted: Stage) {
        // `self` holds a sender, so the channel cannot be closed.
        self.stage
            .subscribe()
            .wait_for(|stage| *stage >= wanted)
            .await
            .ok();
    }

    fn raise(&self, wanted: Stage) {
        self.stage.send_if_modified(|stage| {
            let rises = wanted > *stage;
            *stage = wanted.max(*stage);
            rises
        });
    }

    async fn listen(self, mut signals: Vec<Signal>, second: SecondSignal) {
        any_of(&mut signals).await;
        tracing::info!("asked to stop; finishing what is open, a second signal stops at once");
        self.raise(Stage::Graceful);
        any_of(&mut signals).await;
        tracing::warn!("asked again to stop; stopping at once");
        self.raise(Stage::AtOnce);
        if second == SecondSignal::Exits {
            exit_now();
        }
    }
}

async fn any_of(signals: &mut [Signal]) {
    std::future::poll_fn(|context| {
        let mut came = false;
        for signal in signals.iter_mut() {
            came |= signal.poll_recv(context).is_ready();
        }
        if came { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Whether this process was started with SIGHUP ignored, as by `nohup`.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Bit 0 stands for signal 1, SIGHUP.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[expect(
    clippy::exit,
    reason = "the user asked twice; there is nothing left to wait for"
)]
fn exit_now() -> ! {
    std::process::exit(130)
}
