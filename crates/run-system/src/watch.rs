//! `--status --watch`: the state once a second, redrawn in place on a terminal, as lines anywhere else.
//!
//! The terminal is given back as it was however the program ends by itself; only SIGKILL leaves it changed.

use crate::plain;
use crate::report::{Gatherer, Report};
use crate::setup::Setup;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use std::io::{self, IsTerminal, Read, Write};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

const PERIOD: Duration = Duration::from_secs(1);

/// Adding up the sizes of all videos is no work for every second.
const ROUNDS_BETWEEN_MEASURING: u32 = 30;

/// Shows the state until the user has seen enough.
pub(crate) async fn run(setup: &Setup, as_json: bool) -> anyhow::Result<()> {
    let mut gatherer = Gatherer::new(setup);
    let screen = (!as_json && io::stdout().is_terminal())
        .then(Screen::enter)
        .transpose()?;
    let mut keys = screen.as_ref().and_then(Screen::keys);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, and processor time is measured from one report to the next.
    ticks.tick().await;
    let mut round = 0_u32;
    let mut used = Vec::new();
    loop {
        let enough = tokio::select! {
            _ = ticks.tick() => false,
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
            _ = hang_up.recv() => true,
            key = next_key(&mut keys) => matches!(key, b'q' | b'Q'),
        };
        if enough {
            return Ok(());
        }
        if round.is_multiple_of(ROUNDS_BETWEEN_MEASURING) {
            used = gatherer.measure();
        }
        round = round.wrapping_add(1);
        let mut report = gatherer.glance();
        if let Some(disk) = &mut report.disk {
            disk.used.clone_from(&used);
        }
        let text = match &screen {
            Some(_) => frame(&report.table(), size()),
            None if as_json => serde_json::to_string(&report)? + "\n",
            None => lines(&report),
        };
        let mut out = io::stdout().lock();
        if out
            .write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            // Nobody reads any more.
            return Ok(());
        }
    }
}

/// A key that was pressed; never returns where there are none.
async fn next_key(keys: &mut Option<mpsc::UnboundedReceiver<u8>>) -> u8 {
    match keys {
        Some(receiver) => match receiver.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

fn lines(report: &Report) -> String {
    let time = report.time.strftime("%Y-%m-%dT%H:%M:%SZ");
    let alarms = report.alarms.iter().map(|alarm| format!("alarm: {alarm}"));
    let all = report.lines().into_iter().chain(alarms);
    all.map(|line| format!("{time} {line}\n")).collect()
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    match termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            (usize::from(size.ws_col), usize::from(size.ws_row))
        }
        _ => (80, 24),
    }
}

/// What draws the text over what was there before, cut to the size, so that nothing scrolls or flickers.
fn frame(text: &str, (width, height): (usize, usize)) -> String {
    let room = height.saturating_sub(1);
    let count = text.trim_end().lines().count();
    let mut out = String::from("\x1b[H");
    for line in text.trim_end().lines().take(room) {
        // Names come from files that others write; no control characters reach the terminal.
        out.extend(line.chars().filter(|c| !c.is_control()).take(width));
        out.push_str("\x1b[K\r\n");
    }
    let hidden = count.saturating_sub(room);
    let more = if hidden > 0 {
        format!(" - {hidden} more lines than fit")
    } else {
        String::new()
    };
    let foot: String = format!("q: leave{more}").chars().take(width).collect();
    out.push_str(&format!("\x1b[2m{foot}\x1b[0m\x1b[K\x1b[J"));
    out
}

/// The terminal with a page of its own; dropped, it is as before.
struct Screen {
    /// None when the keyboard is not a terminal.
    keyboard: Option<Termios>,
}

impl Screen {
    fn enter() -> io::Result<Self> {
        let keyboard = termios::tcgetattr(io::stdin()).ok();
        if let Some(before) = &keyboard {
            let mut modes = before.clone();
            // Keys at once and unseen; Ctrl-C stays a signal.
            modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            termios::tcsetattr(io::stdin(), OptionalActions::Now, &modes)?;
        }
        let screen = Self { keyboard };
        let mut out = io::stdout().lock();
        out.write_all(b"\x1b[?1049h\x1b[?25l\x1b[2J")?;
        out.flush()?;
        Ok(screen)
    }

    /// What is typed. The thread that reads ends with the program.
    fn keys(&self) -> Option<mpsc::UnboundedReceiver<u8>> {
        self.keyboard.as_ref()?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let read = move || {
            let mut key = [0];
            while matches!(io::stdin().read(&mut key), Ok(1)) && sender.send(key[0]).is_ok() {}
        };
        let started = std::thread::Builder::new()
            .name("keyboard".into())
            .spawn(read);
        started.is_ok().then_some(receiver)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        out.write_all(b"\x1b[?25h\x1b[?1049l")
            .and_then(|()| out.flush())
            .ok();
        if let Some(before) = &self.keyboard
            && termios::tcsetattr(io::stdin(), OptionalActions::Now, before).is_err()
        {
            plain::line("the terminal could not be restored; type: reset");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_terminal_and_holds_no_foreign_control_characters() {
        let text = "0123456789\nca\x1b]0;m\x07\nthird\nfourth\n";
        let drawn = frame(text, (5, 3));
        assert_eq!(
            drawn,
            "\x1b[H01234\x1b[K\r\nca]0;\x1b[K\r\n\x1b[2mq: le\x1b[0m\x1b[K\x1b[J"
        );
        let roomy = frame(text, (40, 10));
        assert!(
            roomy.contains("fourth") && !roomy.contains("more lines"),
            "{roomy:?}"
        );
        assert!(frame(text, (40, 3)).contains("2 more lines than fit"));
    }
}
