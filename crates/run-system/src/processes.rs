//! Processor time and memory of daemons, their workers included.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// What a process and all its descendants use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// Percent of one core since the refresh before the last; none at first.
    pub(crate) cpu_percent: Option<f64>,
    /// Resident memory in bytes.
    pub(crate) memory_bytes: u64,
    /// Processes counted.
    pub(crate) processes: usize,
}

pub(crate) struct Processes {
    system: System,
    /// Processor time in ms by process, as of the refresh before the last.
    before: HashMap<Pid, u64>,
    refreshed: Option<Instant>,
    /// Time between the last two refreshes.
    between: Option<Duration>,
}

impl Processes {
    pub(crate) fn new() -> Self {
        Self {
            system: System::new().expect("Linux is a supported system"),
            before: HashMap::new(),
            refreshed: None,
            between: None,
        }
    }

    pub(crate) fn refresh(&mut self) {
        self.before = self
            .system
            .processes()
            .iter()
            .map(|(pid, p)| (*pid, p.accumulated_cpu_time()))
            .collect();
        let kind = ProcessRefreshKind::nothing()
            .with_cpu()
            .with_memory()
            .without_tasks();
        self.system
            .refresh_processes_specifics(ProcessesToUpdate::All, true, kind);
        let now = Instant::now();
        self.between = self.refreshed.replace(now).map(|last| now - last);
    }

    /// None when there is no such process.
    pub(crate) fn usage(&self, pid: u32) -> Option<Usage> {
        let root = Pid::from_u32(pid);
        self.system.process(root)?;
        Some(self.sum(&self.family(root)))
    }

    fn sum(&self, family: &HashSet<Pid>) -> Usage {
        let mut usage = Usage {
            processes: family.len(),
            ..Usage::default()
        };
        let mut cpu_ms = 0;
        for (pid, process) in family
            .iter()
            .filter_map(|pid| Some((pid, self.system.process(*pid)?)))
        {
            usage.memory_bytes += process.memory();
            // A process that is new has used its time since the last refresh.
            let before = self.before.get(pid).copied().unwrap_or(0);
            cpu_ms += process.accumulated_cpu_time().saturating_sub(before);
        }
        usage.cpu_percent = self
            .between
            .map(|time| cpu_ms as f64 / time.as_secs_f64() / 10.0);
        usage
    }

    /// As [`Self::usage`], without descendants.
    pub(crate) fn usage_alone(&self, pid: u32) -> Option<Usage> {
        let pid = Pid::from_u32(pid);
        self.system.process(pid)?;
        Some(self.sum(&HashSet::from([pid])))
    }

    /// Seconds since the process started.
    pub(crate) fn uptime_s(&self, pid: u32) -> Option<u64> {
        self.system
            .process(Pid::from_u32(pid))
            .map(sysinfo::Process::run_time)
    }

    fn family(&self, root: Pid) -> HashSet<Pid> {
        let mut family = HashSet::from([root]);
        loop {
            let members = family.len();
            for (pid, process) in self.system.processes() {
                if process
                    .parent()
                    .is_some_and(|parent| family.contains(&parent))
                {
                    family.insert(*pid);
                }
            }
            if family.len() == members {
                return family;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_child_counts_for_its_parent() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        let mut processes = Processes::new();
        processes.refresh();
        assert_eq!(
            processes.usage(std::process::id()).unwrap().cpu_percent,
            None
        );
        std::thread::sleep(Duration::from_millis(300));
        processes.refresh();
        let usage = processes.usage(std::process::id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(usage.cpu_percent.unwrap() > 5.0, "{usage:?}");
        assert!(
            usage.processes >= 2 && usage.memory_bytes > 1 << 20,
            "{usage:?}"
        );
    }

    #[test]
    fn a_stranger_is_unknown() {
        let mut processes = Processes::new();
        processes.refresh();
        assert_eq!(processes.usage(u32::MAX / 2), None);
    }
}
