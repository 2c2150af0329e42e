//! Who may record when there are more sources than `max_concurrent_recordings` allows: all of them, in turn.
//!
//! A session holds a slot. When others wait it gives the slot up after its turn, at the end of a segment; waiting is
//! first come, first served, so nobody starves. A source that backs off holds no slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The slots of a recorder.
#[derive(Debug, Clone)]
pub struct Slots {
    semaphore: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// The right to record; given back when dropped.
#[derive(Debug)]
pub struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    /// That many slots, at least one.
    pub fn new(count: usize) -> Self {
        let count = count.clamp(1, Semaphore::MAX_PERMITS);
        Slots {
            semaphore: Arc::new(Semaphore::new(count)),
            waiting: Arc::default(),
        }
    }

    /// Waits for a slot.
    pub async fn take(&self) -> Slot {
        let _waiting = Waiting::new(&self.waiting);
        let permit = self.semaphore.clone().acquire_owned().await;
        Slot {
            _permit: permit.expect("the semaphore is never closed"),
        }
    }

    /// True when a source waits for a slot.
    pub fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// Counts a waiter, also when the wait is given up.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_gets_a_turn() {
        let slots = Slots::new(2);
        let turns: Vec<_> = (0..5).map(|_| Arc::new(AtomicUsize::new(0))).collect();
        let tasks: Vec<_> = turns
            .iter()
            .map(|count| {
                let (slots, count) = (slots.clone(), count.clone());
                tokio::spawn(async move {
                    for _ in 0..20 {
                        let _slot = slots.take().await;
                        count.fetch_add(1, Ordering::Relaxed);
                        while !slots.is_wanted() {
                            if count.load(Ordering::Relaxed) == 20 {
                                return;
                            }
                            tokio::task::yield_now().await;
                        }
                    }
                })
            })
            .collect();
        // After the first has had six turns no other is far behind.
        while turns[0].load(Ordering::Relaxed) < 6 {
            tokio::task::yield_now().await;
        }
        assert!(turns.iter().all(|count| count.load(Ordering::Relaxed) >= 4));
        for task in tasks {
            task.abort();
        }
    }
}
