//! Looks at intervals what is new, and hands each hook what it wants to be told.

use super::courier::Courier;
use super::known::{self, Known, Published};
use super::limit::Limit;
use super::notification::Notification;
use crate::report::Gatherer;
use crate::setup::Setup;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use settings::HookEvent;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use ticket_queue::{DirectoryQueue, Error, Options, Queue as _, Stem, Ticket, durable};

/// The file in which everything is kept that must outlive the process.
const FILE: &str = "state.json";

pub(super) struct Lookout {
    setup: Setup,
    gatherer: Gatherer,
    file: PathBuf,
    memory: Memory,
    /// As on the disk.
    saved: Memory,
    queue: Option<DirectoryQueue>,
    /// Receipts that were looked at by this process.
    seen: HashSet<Stem>,
    failed_to_save: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Memory {
    known: Known,
    /// By name of the hook.
    limits: BTreeMap<String, Limit>,
}

impl Lookout {
    /// With what was noticed before.
    pub(super) fn new(setup: &Setup, home: &Path) -> Self {
        let file = home.join(FILE);
        sweep(home);
        let mut memory = load(&file);
        let is_hook = |name: &String| setup.system.hooks.iter().any(|hook| hook.name == *name);
        memory.limits.retain(|name, _| is_hook(name));
        Self {
            gatherer: Gatherer::new(setup),
            setup: setup.clone(),
            file,
            saved: memory.clone(),
            memory,
            queue: None,
            seen: HashSet::new(),
            failed_to_save: false,
        }
    }

    /// Hands over what is new. It is durable with its hook before it counts as noticed: after a kill in between it is
    /// noticed again.
    pub(super) fn look(&mut self, couriers: &[Arc<Courier>]) {
        let report = self.gatherer.glance();
        let now = report.time;
        let mut news = self.memory.known.compare(&report);
        match self.tickets(couriers, now) {
            Ok(of_tickets) => news.extend(of_tickets),
            // The report has it among its alarms.
            Err(error) => tracing::debug!(%error, "the queue cannot be looked at"),
        }
        for courier in couriers {
            let hook = courier.hook();
            let limit = self.memory.limits.entry(hook.name.clone()).or_default();
            for told in limit.due(hook.min_interval, now) {
                courier.put(told);
            }
            for told in &news {
                let is_wanted =
                    HookEvent::named(&told.event).is_some_and(|event| hook.events.contains(&event));
                if is_wanted && let Some(told) = limit.admit(told.clone(), hook.min_interval, now) {
                    courier.put(told);
                }
            }
        }
        self.save();
    }

    fn tickets(
        &mut self,
        couriers: &[Arc<Courier>],
        now: Timestamp,
    ) -> Result<Vec<Notification>, Error> {
        if self.queue.is_none() {
            let dir = &self.setup.queue_dir;
            if !dir.exists() {
                return Ok(Vec::new());
            }
            self.queue = Some(DirectoryQueue::open(dir, Options::default())?);
        }
        let Some(queue) = &self.queue else {
            return Ok(Vec::new());
        };
        let wants = |event| couriers.iter().any(|it| it.hook().events.contains(&event));
        let mut news = held_back(&mut self.memory.known, queue, now)?;
        if wants(HookEvent::SegmentPublished) {
            if let Some(dir) = self.setup.video_dir("processed") {
                let known = &mut self.memory.known;
                news.extend(published(known, queue, &mut self.seen, dir, now)?);
            }
        } else {
            // Whoever wants to know later does not want to know of all since.
            self.memory.known.published = None;
        }
        Ok(news)
    }

    fn save(&mut self) {
        if self.memory == self.saved {
            return;
        }
        let bytes = serde_json::to_vec_pretty(&self.memory).unwrap_or_default();
        match durable::replace_durable(&self.file, &bytes) {
            Ok(()) => {
                self.saved.clone_from(&self.memory);
                self.failed_to_save = false;
            }
            Err(error) => {
                if !self.failed_to_save {
                    tracing::warn!(%error, "what was notified cannot be kept; it may be told again after a restart");
                }
                self.failed_to_save = true;
            }
        }
    }
}

/// Removes what a kill in the midst of writing left beside the file. Nobody else writes it: there is one run-system.
fn sweep(home: &Path) {
    let entries = std::fs::read_dir(home).into_iter().flatten().flatten();
    let scratch = format!(".{FILE}.");
    for entry in entries.filter(|it| it.file_name().to_string_lossy().starts_with(&scratch)) {
        // What cannot be removed is in nobody's way.
        std::fs::remove_file(entry.path()).ok();
    }
}

fn load(file: &Path) -> Memory {
    let Ok(bytes) = std::fs::read(file) else {
        return Memory::default();
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::warn!(file = %file.display(), %error, "cannot be read; what was notified before may be told again");
        Memory::default()
    })
}

fn held_back(
    known: &mut Known,
    queue: &DirectoryQueue,
    now: Timestamp,
) -> Result<Vec<Notification>, Error> {
    let new = known.newly_held_back(queue.held_back()?.into_iter().collect());
    if new.is_empty() {
        return Ok(Vec::new());
    }
    let entries = queue.list()?.into_iter();
    let entries = entries.filter(|entry| new.contains(&entry.stem));
    Ok(entries
        .map(|entry| {
            // One that cannot be read tells nothing about its camera.
            let ticket = std::fs::read(&entry.path).ok();
            let ticket = ticket.and_then(|bytes| Ticket::parse(&bytes).ok());
            let camera = ticket.map(|ticket| ticket.source_name);
            known::ticket_failed(&entry.stem, camera, entry.why.as_ref(), now)
        })
        .collect())
}

fn published(
    known: &mut Known,
    queue: &DirectoryQueue,
    seen: &mut HashSet<Stem>,
    dir: &Path,
    now: Timestamp,
) -> Result<Vec<Notification>, Error> {
    let finished = queue.finished()?;
    let written = |stem: &Stem| Timestamp::try_from(queue.finished_at(stem)?).ok();
    let new = finished.difference(seen);
    let mut new: Vec<_> = new
        .filter_map(|stem| Some((stem.clone(), written(stem)?)))
        .collect();
    new.sort_by_key(|(_, written)| *written);
    *seen = finished;
    if known.published.is_none() {
        known.published = Some(Published::all(new.into_iter(), now));
        return Ok(Vec::new());
    }
    new.retain(|(stem, written)| known.is_news(stem, *written, now));
    let receipts = new
        .iter()
        .filter_map(|(stem, _)| queue.receipt(stem).transpose());
    receipts
        .map(|receipt| Ok(known::segment_published(&receipt?, dir, now)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kill_left_of_a_write_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        for name in [".state.json.0123456789abcdef", "state.json", "chat"] {
            std::fs::write(dir.path().join(name), "{}").unwrap();
        }
        sweep(dir.path());
        let mut left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["chat", "state.json"]);
    }
}
