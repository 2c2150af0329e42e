//! When a source counts as down, and when it is back: two events, however often it is tried in between.
//!
//! Pure; [`crate::board`] says how the source looks, [`mod@crate::run`] writes the log lines.

use std::time::Duration;

/// How a source looks at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Frames came since the last look.
    Alive,
    /// It is to be recorded, and no frame came; why, as far as it is known.
    Silent(Option<String>),
    /// It failed when it was last tried, and waits for its turn.
    NotAsked,
    /// Nobody wants frames of it now.
    NotWanted,
}

/// A change that somebody should know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The source has been silent for too long.
    Down {
        /// For how long by now.
        silent: Duration,
        /// Why, as far as it is known.
        why: String,
    },
    /// Frames come again.
    Up {
        /// How long none came.
        silent: Duration,
    },
}

/// The outage of one source, if there is one.
#[derive(Debug, Default)]
pub struct Outage {
    silent_since: Option<Duration>,
    is_down: bool,
}

impl Outage {
    /// What changed, seen at the monotonic time `now`; a source is down when it is silent for longer than `after`.
    pub fn look(&mut self, look: &Look, now: Duration, after: Duration) -> Option<Event> {
        match look {
            Look::Alive => {
                let since = self.silent_since.replace(now).unwrap_or(now);
                let was_down = std::mem::take(&mut self.is_down);
                was_down.then(|| Event::Up {
                    silent: now.saturating_sub(since),
                })
            }
            Look::NotWanted => {
                *self = Outage::default();
                None
            }
            Look::NotAsked => None,
            Look::Silent(why) => {
                let since = *self.silent_since.get_or_insert(now);
                let silent = now.saturating_sub(since);
                if self.is_down || silent < after {
                    return None;
                }
                self.is_down = true;
                let why = why.clone().unwrap_or_else(|| "no frame comes".to_owned());
                Some(Event::Down { silent, why })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks once a second and returns the events with their seconds.
    fn events(looks: impl IntoIterator<Item = Look>) -> Vec<(u64, &'static str)> {
        let mut outage = Outage::default();
        let after = Duration::from_secs(60);
        (0..)
            .zip(looks)
            .filter_map(|(second, look)| {
                let event = outage.look(&look, Duration::from_secs(second), after)?;
                let name = if matches!(event, Event::Up { .. }) {
                    "up"
                } else {
                    "down"
                };
                Some((second, name))
            })
            .collect()
    }

    fn times(look: Look, seconds: usize) -> impl Iterator<Item = Look> {
        std::iter::repeat_n(look, seconds)
    }

    #[test]
    fn an_outage_is_one_line_and_its_end_another() {
        let silent = || Look::Silent(Some("refused".to_owned()));
        let looks = times(Look::Alive, 10)
            .chain(times(silent(), 50))
            .chain(times(Look::Alive, 1))
            .chain(times(silent(), 300))
            .chain(times(Look::Alive, 5));
        assert_eq!(events(looks), [(120, "down"), (361, "up")]);
    }

    #[test]
    fn a_source_that_never_came_is_down_and_one_that_is_not_wanted_is_not() {
        assert_eq!(events(times(Look::Silent(None), 200)), [(60, "down")]);
        assert_eq!(events(times(Look::NotWanted, 200)), []);
        let closed = times(Look::Silent(None), 50)
            .chain(times(Look::NotWanted, 10))
            .chain(times(Look::Silent(None), 50));
        assert_eq!(events(closed), []);
    }

    #[test]
    fn a_dead_source_among_many_that_take_turns_is_down_all_the_same() {
        let turn = || times(Look::NotAsked, 20).chain(times(Look::Silent(Some("away".into())), 5));
        let looks = times(Look::Silent(None), 5).chain((0..4).flat_map(|_| turn()));
        let events = events(looks);
        assert_eq!(events.len(), 1, "{events:?}");
    }
}
