//! Memory of a process and its children, from `/proc`.

use std::fs;

/// Deepest line of descent that is followed; a plugin has a child or two.
const MAX_DEPTH: u32 = 4;

/// Resident bytes of a process and its descendants; 0 for a process that is gone. Pages shared
/// among them count more than once, which errs on the safe side.
pub(crate) fn of_process_and_children(pid: u32) -> u64 {
    with_children(pid, MAX_DEPTH)
}

fn with_children(pid: u32, depth: u32) -> u64 {
    let own = resident(pid).unwrap_or(0);
    if depth == 0 {
        return own;
    }
    let children = children(pid);
    own + children
        .into_iter()
        .map(|child| with_children(child, depth - 1))
        .sum::<u64>()
}

/// Second field of `statm`, in pages.
fn resident(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_nobody_uses_none() {
        assert!(of_process_and_children(std::process::id()) > 1 << 20);
        assert_eq!(of_process_and_children(u32::MAX >> 1), 0);
    }
}
