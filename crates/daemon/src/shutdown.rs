//! The wish to stop, shared by all tasks and threads of a program.

use std::io;
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
    /// Stops on the first SIGINT or SIGTERM. Call it within a tokio runtime.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub fn on_signals(second: SecondSignal) -> io::Result<Self> {
        let shutdown = Self::manual();
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        tokio::spawn(shutdown.clone().listen(interrupt, terminate, second));
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

    async fn listen(self, mut interrupt: Signal, mut terminate: Signal, second: SecondSignal) {
        either(&mut interrupt, &mut terminate).await;
        tracing::info!("asked to stop; finishing what is open, a second signal stops at once");
        self.raise(Stage::Graceful);
        either(&mut interrupt, &mut terminate).await;
        tracing::warn!("asked again to stop; stopping at once");
        self.raise(Stage::AtOnce);
        if second == SecondSignal::Exits {
            exit_now();
        }
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

#[expect(
    clippy::exit,
    reason = "the user asked twice; there is nothing left to wait for"
)]
fn exit_now() -> ! {
    std::process::exit(130)
}
