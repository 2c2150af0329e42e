//! Who may record when there are more sources than `max_concurrent_recordings` allows: all of them, in turn.
//!
//! A session holds a slot. When others wait it gives the slot up after its turn, at the end of a segment, and not before it
//! had one, within reason; waiting is first come, first served, so nobody starves. A source that backs off holds no slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// The slots of a recorder.
#[derive(Debug, Clone)]
pub struct Slots {
    semaphore: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// Told when a source begins to wait.
    wanted: Arc<Notify>,
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
            wanted: Arc::default(),
        }
    }

    /// Waits for a slot.
    pub async fn take(&self) -> Slot {
        let _waiting = Waiting::new(&self.waiting);
        self.wanted.notify_waiters();
        let permit = self.semaphore.clone().acquire_owned().await;
        Slot {
            _permit: permit.expect("the semaphore is never closed"),
        }
    }

    /// True when a source waits for a slot.
    pub fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Resolves when a source waits for a slot.
    pub async fn wanted(&self) {
        loop {
            let next = self.wanted.notified();
            if self.is_wanted() {
                return;
            }
            next.await;
        }
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
    use crate::leave::turn_over;
    use std::sync::Mutex;
    use std::time::Duration;
    use tokio::time::{Instant, sleep};

    const SEGMENT: Duration = Duration::from_secs(60);
    const HOUR: Duration = Duration::from_secs(3600);

    /// What became of a source in an hour.
    #[derive(Default)]
    struct Hour {
        recorded: Duration,
        longest_wait: Duration,
    }

    /// Records whenever it has its turn. A camera that is away costs its turn until the connection times out, and waits
    /// before the next one without a slot.
    async fn one_source(slots: Slots, is_away: bool, hour: Arc<Mutex<Hour>>) {
        loop {
            let asked = Instant::now();
            let slot = slots.take().await;
            let wait = asked.elapsed();
            {
                let mut hour = hour.lock().unwrap();
                hour.longest_wait = hour.longest_wait.max(wait);
            }
            if is_away {
                sleep(Duration::from_secs(10)).await;
                drop(slot);
                sleep(Duration::from_secs(30)).await;
                continue;
            }
            let began = Instant::now();
            turn_over(slots.clone(), SEGMENT).await;
            // Until the next key frame ends the segment.
            sleep(Duration::from_secs(2)).await;
            hour.lock().unwrap().recorded += began.elapsed();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn in_an_hour_nobody_starves_and_shares_are_equal() {
        for (sources, count, away) in [
            (10usize, 3, 0),
            (10, 3, 2),
            (50, 4, 0),
            (3, 2, 1),
            (4, 4, 0),
        ] {
            let slots = Slots::new(count);
            let hours: Vec<_> = (0..sources)
                .map(|_| Arc::<Mutex<Hour>>::default())
                .collect();
            let run = |(number, hour): (usize, &Arc<Mutex<Hour>>)| {
                tokio::spawn(one_source(slots.clone(), number < away, hour.clone()))
            };
            let tasks: Vec<_> = hours.iter().enumerate().map(run).collect();
            sleep(HOUR + SEGMENT).await;
            tasks.iter().for_each(|task| task.abort());
            // A whole round of everybody, and then its own turn.
            let round = (sources - 1).div_ceil(count) as u32 * (SEGMENT + Duration::from_secs(4));
            let present = (sources - away) as f64;
            let fair = (count as f64 / present).min(1.0) * HOUR.as_secs_f64();
            for (number, hour) in hours.iter().enumerate() {
                let hour = hour.lock().unwrap();
                assert!(
                    hour.longest_wait <= round,
                    "{number} of {sources}: {:?}",
                    hour.longest_wait
                );
                if number >= away && sources > count {
                    let share = hour.recorded.as_secs_f64() / fair;
                    assert!(
                        (0.75..1.25).contains(&share),
                        "{number} of {sources}: {share} of its share"
                    );
                }
            }
        }
    }

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
