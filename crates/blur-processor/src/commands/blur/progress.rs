//! How far it is: a bar on a terminal, a line now and then elsewhere.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Outcome;
use crate::pipeline::Progress;

/// Steps of the bar for one video.
const STEPS: u64 = 1000;
/// Between two lines where there is no terminal.
const LINES: Duration = Duration::from_secs(30);

/// Shows the state of the work.
pub(super) struct Display {
    bar: ProgressBar,
    is_terminal: bool,
    done: Cell<u64>,
    last_line: Cell<Instant>,
}

impl Display {
    pub(super) fn new(videos: usize) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = match is_terminal {
            true => ProgressBar::new(videos as u64 * STEPS),
            false => ProgressBar::hidden(),
        };
        let style = "[{bar:30}] {percent:>3} %  {elapsed} passed, {eta} left  {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style.progress_chars("## "));
        }
        Self {
            bar,
            is_terminal,
            done: Cell::new(0),
            last_line: Cell::new(Instant::now()),
        }
    }

    pub(super) fn begins(&self, input: &Path) {
        self.bar.set_message(input.display().to_string());
    }

    pub(super) fn progress(&self, progress: Progress) {
        let share = (progress.share() * STEPS as f64) as u64;
        self.bar.set_position(self.done.get() * STEPS + share);
        if !self.is_terminal && self.last_line.get().elapsed() >= LINES {
            self.last_line.set(Instant::now());
            daemon::complain!("{:.0} % of this video", progress.share() * 100.0);
        }
    }

    /// One video is through.
    pub(super) fn ended(&self, output: &Path, outcome: &Outcome) {
        self.done.set(self.done.get() + 1);
        self.bar.set_position(self.done.get() * STEPS);
        self.bar.suspend(|| say(output, outcome));
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn say(output: &Path, outcome: &Outcome) {
    let output = output.display();
    match outcome {
        Outcome::Skipped(_) => daemon::say!("{output}: there already, left as it is"),
        Outcome::Error(error) => daemon::complain!("{error}"),
        Outcome::Report(report) => {
            let damaged = match report.frames_damaged {
                0 => String::new(),
                count => format!(" ({count} of them as a whole: the input is damaged there)"),
            };
            if let Some(format) = &report.unproven {
                daemon::complain!(
                    "{output}: whether all of the input is there cannot be told of a file of its kind ({format}); keep it until you have seen that nothing is missing"
                );
            }
            daemon::say!(
                "{output}: {} frames in {:.1} s ({:.0} a second), {} tracks, {} frames masked{damaged}, {} groups copied, {} encoded",
                report.frames,
                report.time.total_ms as f64 / 1e3,
                report.frames as f64 * 1e3 / report.time.total_ms.max(1) as f64,
                report.tracks,
                report.frames_masked,
                report.gops_copied,
                report.gops_encoded
            );
        }
    }
}
