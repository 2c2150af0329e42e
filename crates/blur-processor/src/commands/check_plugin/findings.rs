//! What a trial showed, in words, and what of it is wrong.

use std::fmt::Write as _;
use std::time::Duration;

use plugin_host::Instance;
use plugin_host::abi::PluginKind;

/// Growth of memory that is never held against a plugin: caches, pools, the interpreter's own.
const GRACE_BYTES: u64 = 16 << 20;

/// Frames that it takes to tell a leak from pools that fill once: with fewer the warm-up is not over.
const TELLING_FRAMES: usize = 40;

/// What was seen of a plugin.
pub(super) struct Findings {
    kind: PluginKind,
    single_instance: bool,
    /// Per frame.
    pub(super) times: Vec<Duration>,
    /// Resident bytes of the process and its children, after each frame.
    pub(super) memory: Vec<u64>,
    /// Frames whose pixels differ afterwards.
    pub(super) changed: u32,
    /// Frames that it changed and said it had not.
    pub(super) lies: u32,
    /// Regions found.
    pub(super) regions: u64,
    /// Best score of them.
    pub(super) best_score: f32,
    /// What ended the trial early.
    pub(super) failure: Option<String>,
}

impl Findings {
    pub(super) fn new(instance: &Instance) -> Self {
        Self {
            kind: instance.kind(),
            single_instance: instance.plugin().info().single_instance,
            times: Vec::new(),
            memory: Vec::new(),
            changed: 0,
            lies: 0,
            regions: 0,
            best_score: 0.0,
            failure: None,
        }
    }

    /// For the person who asked; ends with a line feed.
    pub(super) fn text(&self) -> String {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = |share: f64| {
            let index = (share * times.len().saturating_sub(1) as f64).round() as usize;
            times
                .get(index)
                .map_or(0.0, |time| time.as_secs_f64() * 1e3)
        };
        let mut text = String::new();
        let mut line = |words: String| writeln!(text, "{words}").is_ok();
        line(format!(
            "frames   {}: {:.1} ms median, {:.1} ms at 95 %, {:.1} ms at most",
            times.len(),
            at(0.5),
            at(0.95),
            at(1.0)
        ));
        line(match self.kind {
            PluginKind::Filter => {
                format!("changes  {} of {} pictures", self.changed, times.len())
            }
            PluginKind::Detector => format!(
                "finds    {} regions, best score {:.2}",
                self.regions, self.best_score
            ),
        });
        let (first, last) = self.ends();
        let limits = match self.memory.len() < TELLING_FRAMES {
            true => format!("; a leak shows from --frames {TELLING_FRAMES} on"),
            false => String::new(),
        };
        line(format!(
            "memory   {} MiB, {:+} MiB since the first frames{limits}",
            last >> 20,
            (last as i64 - first as i64) >> 20
        ));
        line(format!(
            "threads  {}; was called on two, one after the other",
            match self.single_instance {
                true => "allows one instance in a process",
                false => "allows several instances in a process",
            }
        ));
        text
    }

    /// All that is wrong with the plugin.
    pub(super) fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if let Some(failure) = &self.failure {
            mistakes.push(failure.clone());
        }
        if self.kind == PluginKind::Detector && self.changed > 0 {
            mistakes.push("a detector must not change the picture; this one does".to_owned());
        }
        if self.lies > 0 {
            mistakes.push(format!(
                "it changed {} pictures and said that it did not; they would be published unblurred",
                self.lies
            ));
        }
        if let Some(bytes) = self.leak() {
            mistakes.push(format!(
                "it leaks about {} KiB a frame: memory grew all the time",
                bytes >> 10
            ));
        }
        mistakes
    }

    /// Memory after the warm-up and at the end.
    fn ends(&self) -> (u64, u64) {
        let warm = self.memory.len() / 5;
        let at = |index: usize| self.memory.get(index).copied().unwrap_or(0);
        (at(warm), at(self.memory.len().saturating_sub(1)))
    }

    /// Bytes a frame that are never given back: growth in both halves of the time after the warm-up.
    fn leak(&self) -> Option<u64> {
        if self.memory.len() < TELLING_FRAMES {
            return None;
        }
        let warm = &self.memory[self.memory.len() / 5..];
        let (first, last) = (*warm.first()?, *warm.last()?);
        let middle = warm[warm.len() / 2];
        let growth = last.saturating_sub(first);
        let steady = middle
            .saturating_sub(first)
            .min(last.saturating_sub(middle));
        (growth > GRACE_BYTES && steady > growth / 4).then(|| growth / warm.len() as u64)
    }
}
