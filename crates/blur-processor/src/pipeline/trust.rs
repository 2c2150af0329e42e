//! Which pictures show what the camera saw: not those built upon one that does not.
//!
//! Pictures come out of a decoder in the order they are shown, but one may be built upon another that is
//! shown later (B-frames). So trust is a matter of decoding order, and a picture waits until all that were decoded before
//! it have come out. Knows times and order, no pixels.

use super::index::Index;

/// A longer pause between two frames than this many usual ones means that some between them were lost.
const HOLE: (i64, i64) = (17, 10);

/// What is known of one picture by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Decoded without a complaint, maybe upon others.
    Clean,
    /// As that, and upon no other.
    Key,
    /// Guessed, or not there at all.
    Damaged,
}

/// Follows the pictures of one video.
#[derive(Debug)]
pub(super) struct Trust {
    /// Position in decoding order, by number.
    positions: Vec<usize>,
    /// By position; none of those that have not come out.
    words: Vec<Option<Word>>,
    /// By position: packets that were lost may have been right before it.
    suspects: Vec<bool>,
    /// By position: the decoder complained about it.
    blamed: Vec<bool>,
    /// By position, as far as all before it are known.
    sound: Vec<bool>,
}

impl Trust {
    /// `lossy`: packets were lost on the way from the camera. There no decoder tells which pictures were built upon the
    /// lost ones; a hole in the times is the sign.
    pub(super) fn new(index: &Index, lossy: bool) -> Self {
        let decoded: Vec<i64> = index.entries.iter().map(|entry| entry.pts).collect();
        let hole = index.usual_interval() * HOLE.0 / HOLE.1;
        Self::of_times(&decoded, lossy.then_some(hole))
    }

    /// `decoded`: presentation times in decoding order, ticks; a longer pause than `hole` means a loss.
    fn of_times(decoded: &[i64], hole: Option<i64>) -> Self {
        let mut positions: Vec<usize> = (0..decoded.len()).collect();
        positions.sort_by_key(|&position| decoded[position]);
        let mut suspects = vec![false; positions.len()];
        if let Some(hole) = hole {
            // What was lost was decoded at most so much earlier than it would have been shown.
            let numbered = positions.iter().enumerate();
            let ahead = numbered.map(|(number, &position)| number.saturating_sub(position));
            let ahead = ahead.max().unwrap_or(0);
            for (pair, number) in positions.windows(2).zip(1_usize..) {
                if decoded[pair[1]] - decoded[pair[0]] > hole {
                    suspects[number.saturating_sub(ahead)..=pair[1]].fill(true);
                }
            }
        }
        Self {
            words: vec![None; positions.len()],
            blamed: vec![false; positions.len()],
            suspects,
            sound: Vec::with_capacity(positions.len()),
            positions,
        }
    }

    /// The decoder complained about the packet at `position` in decoding order, or about the end behind the last.
    pub(super) fn blame(&mut self, position: usize) {
        // What is told already is told; what comes next is built upon it.
        let next = position.max(self.sound.len());
        if let Some(blamed) = self.blamed.get_mut(next) {
            *blamed = true;
        }
    }

    /// Picture `number` is that of the packet at `position` in decoding order, whatever the times say.
    pub(super) fn set_position(&mut self, number: usize, position: usize) {
        self.positions[number] = position;
    }

    /// Whether the picture of the packet at `position` came out.
    pub(super) fn knows(&self, position: usize) -> bool {
        self.words[position].is_some()
    }

    /// Picture `number` came out.
    pub(super) fn note(&mut self, number: usize, word: Word) {
        self.words[self.positions[number]] = Some(word);
        self.conclude();
    }

    /// No more come out.
    pub(super) fn end(&mut self) {
        for word in &mut self.words {
            word.get_or_insert(Word::Damaged);
        }
        self.conclude();
    }

    fn conclude(&mut self) {
        while let Some(&Some(word)) = self.words.get(self.sound.len()) {
            let position = self.sound.len();
            let before = self.sound.last().copied().unwrap_or(true);
            self.sound.push(match word {
                _ if self.blamed[position] => false,
                Word::Damaged => false,
                Word::Key => true,
                Word::Clean => before && !self.suspects[position],
            });
        }
    }

    /// Whether picture `number` is what the camera saw; `None` until all that may tell have come out.
    pub(super) fn of(&self, number: usize) -> Option<bool> {
        self.sound.get(self.positions[number]).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// Groups of I0 P4 B1 B2 B3 P8 ..., as encoders without pyramids make them, as (time, is key).
    const GROUP: [(i64, bool); 9] = [
        (0, true),
        (4, false),
        (1, false),
        (2, false),
        (3, false),
        (8, false),
        (5, false),
        (6, false),
        (7, false),
    ];

    fn two_groups() -> Vec<(i64, bool)> {
        let second = GROUP.map(|(time, key)| (time + 9, key));
        GROUP.into_iter().chain(second).collect()
    }

    /// What becomes of a video whose pictures of these times are damaged, and that lost those of others.
    fn distrusted(damaged: &[i64], lost: &[i64]) -> Vec<i64> {
        let mut decoded = two_groups();
        decoded.retain(|(time, _)| !lost.contains(time));
        let times: Vec<i64> = decoded.iter().map(|&(time, _)| time).collect();
        let mut trust = Trust::of_times(&times, (!lost.is_empty()).then_some(1));
        let mut shown = decoded;
        shown.sort_unstable();
        for (number, (time, key)) in shown.iter().enumerate() {
            trust.note(
                number,
                match (damaged.contains(time), key) {
                    (true, _) => Word::Damaged,
                    (false, true) => Word::Key,
                    (false, false) => Word::Clean,
                },
            );
        }
        let all = shown.iter().enumerate();
        all.filter(|&(number, _)| !trust.of(number).expect("all are there"))
            .map(|(_, &(time, _))| time)
            .collect()
    }

    #[test]
    fn what_is_built_upon_a_damaged_picture_is_not_trusted_though_it_is_shown_before() {
        assert!(distrusted(&[], &[]).is_empty());
        assert_eq!(distrusted(&[4], &[]), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(distrusted(&[8], &[]), [5, 6, 7, 8]);
        assert_eq!(distrusted(&[0], &[]), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(distrusted(&[9], &[]), [9, 10, 11, 12, 13, 14, 15, 16, 17]);
    }

    #[test]
    fn a_hole_in_the_times_is_a_loss_that_was_decoded_before() {
        assert_eq!(distrusted(&[], &[4]), [1, 2, 3, 5, 6, 7, 8]);
        let late = distrusted(&[], &[8]);
        assert!([5, 6, 7].iter().all(|time| late.contains(time)), "{late:?}");
        assert!(!late.contains(&9), "a key frame begins anew");
    }

    #[test]
    fn a_picture_waits_for_those_decoded_before_it() {
        let times = two_groups()
            .iter()
            .map(|&(time, _)| time)
            .collect::<Vec<_>>();
        let mut trust = Trust::of_times(&times, None);
        trust.note(0, Word::Key);
        assert_eq!(trust.of(0), Some(true));
        for number in 1..=3 {
            trust.note(number, Word::Clean);
            assert_eq!(trust.of(number), None);
        }
        trust.note(4, Word::Damaged);
        assert_eq!(
            [1, 2, 3, 4].map(|number| trust.of(number)),
            [Some(false); 4]
        );
    }

    proptest! {
        /// In any order of decoding, whatever is damaged: up to the next key frame nothing is trusted.
        #[test]
        fn nothing_decoded_after_damage_is_trusted(
            decoded in Just((0..40_i64).collect::<Vec<_>>()).prop_shuffle(),
            words in proptest::collection::vec(select(vec![Word::Clean, Word::Key, Word::Damaged]), 40),
        ) {
            let mut trust = Trust::of_times(&decoded, None);
            for number in 0..40 {
                let position = decoded.iter().position(|&time| time == number as i64).expect("a time");
                trust.note(number, words[position]);
            }
            let mut good = true;
            for (&time, word) in decoded.iter().zip(&words) {
                good = match word {
                    Word::Damaged => false,
                    Word::Key => true,
                    Word::Clean => good,
                };
                prop_assert_eq!(trust.of(time as usize), Some(good));
            }
        }
    }
}
