//! Which decoded pictures are the camera's own. The others must not be encoded again.
//!
//! A decoder guesses where data is missing, marks only some of its guesses, and builds the pictures that follow upon them.
//! In a copied segment whoever hides heads finds that out with a decoder of its own, and hides such pictures as a whole. A
//! segment that was encoded again decodes without a fault: a guess in it looks like any picture, heads that no detector
//! knows included. So what is or may be a guess is left out, up to the next key frame that is whole. Of the published video
//! that takes nothing, since these pictures would be hidden; of the original it takes pictures that nobody could be sure of.

use std::collections::VecDeque;

/// Most pictures that a decoder holds back.
const MOST_HELD: usize = 16;

/// What is known of the pictures that come out of a decoder.
#[derive(Debug)]
pub struct Trust {
    state: State,
    marks_beginnings: bool,
    /// Times of the key frames that the decoder got since damage was last noticed. One that it held at that moment is no new
    /// beginning: what it got next may be what is damaged.
    keys: VecDeque<i64>,
    /// Packets lost or damaged that no picture has told of.
    lost: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No whole picture has come.
    Fresh,
    /// Pictures are whole.
    Whole,
    /// Something was lost, and no whole key frame came since.
    Broken,
}

/// What is to be done with a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the camera's, as the ones before it.
    Whole,
    /// It is the camera's and the first after pictures were left out, with the number of packets lost or damaged.
    First(u32),
    /// It is, or may be, a guess.
    Guess,
}

impl Trust {
    /// For a decoder from which nothing came yet. With `marks_beginnings` it marks all pictures up to the first that is
    /// whole, which need not be a key frame then.
    pub fn new(marks_beginnings: bool) -> Self {
        Trust {
            state: State::Fresh,
            marks_beginnings,
            keys: VecDeque::new(),
            lost: 0,
        }
    }

    /// False while pictures are left out.
    pub fn is_whole(&self) -> bool {
        self.state == State::Whole
    }

    /// Notes that so many packets were lost before those that the decoder gets from now on.
    pub fn lose(&mut self, packets: u32) {
        if packets > 0 {
            self.lost = self.lost.saturating_add(packets);
            self.break_off();
        }
    }

    /// Notes that the decoder gets a key frame of that time.
    pub fn send_key(&mut self, time: i64) {
        self.keys.push_back(time);
        if self.keys.len() > MOST_HELD {
            self.keys.pop_front();
        }
    }

    /// Notes that the decoder refused what it got last.
    pub fn refuse(&mut self) {
        // What comes before the first key frame is not meant for this recording.
        if self.state != State::Fresh || !self.keys.is_empty() {
            self.lose(1);
        }
    }

    /// Judges the next picture that came out of the decoder.
    pub fn judge(&mut self, time: i64, is_key: bool, is_damaged: bool) -> Verdict {
        if is_damaged {
            if self.state == State::Whole {
                self.lost = self.lost.saturating_add(1);
                self.state = State::Broken;
            }
            self.keys.retain(|key| *key > time);
            return Verdict::Guess;
        }
        match self.state {
            State::Whole => Verdict::Whole,
            State::Fresh if is_key || self.marks_beginnings => self.begin(),
            State::Broken if is_key && self.keys.contains(&time) => self.begin(),
            State::Fresh | State::Broken => Verdict::Guess,
        }
    }

    fn begin(&mut self) -> Verdict {
        self.state = State::Whole;
        Verdict::First(std::mem::take(&mut self.lost))
    }

    fn break_off(&mut self) {
        self.keys.clear();
        self.state = State::Broken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_KEY: bool = false;
    const KEY: bool = true;
    const WHOLE: bool = false;
    const DAMAGED: bool = true;

    fn recording() -> Trust {
        let mut trust = Trust::new(false);
        trust.send_key(0);
        assert_eq!(trust.judge(0, KEY, WHOLE), Verdict::First(0));
        trust
    }

    #[test]
    fn after_a_loss_only_a_key_frame_is_a_beginning() {
        let mut trust = recording();
        assert_eq!(trust.judge(1, NO_KEY, WHOLE), Verdict::Whole);
        trust.lose(3);
        assert_eq!(trust.judge(3, NO_KEY, WHOLE), Verdict::Guess);
        trust.lose(2);
        trust.send_key(5);
        assert_eq!(trust.judge(5, KEY, WHOLE), Verdict::First(5));
        assert_eq!(trust.judge(6, NO_KEY, WHOLE), Verdict::Whole);
    }

    #[test]
    fn a_key_frame_that_the_decoder_held_is_no_beginning() {
        let mut trust = recording();
        trust.send_key(2);
        trust.lose(1);
        assert_eq!(trust.judge(2, KEY, WHOLE), Verdict::Guess);
        assert_eq!(trust.judge(4, NO_KEY, WHOLE), Verdict::Guess);
        trust.send_key(8);
        assert_eq!(trust.judge(8, KEY, DAMAGED), Verdict::Guess);
        assert_eq!(trust.judge(9, NO_KEY, WHOLE), Verdict::Guess);
    }

    #[test]
    fn a_picture_that_the_decoder_guessed_spoils_those_after_it() {
        let mut trust = recording();
        trust.send_key(4);
        assert_eq!(trust.judge(1, NO_KEY, DAMAGED), Verdict::Guess);
        assert_eq!(trust.judge(2, NO_KEY, DAMAGED), Verdict::Guess);
        assert_eq!(trust.judge(3, NO_KEY, WHOLE), Verdict::Guess);
        assert_eq!(trust.judge(4, KEY, WHOLE), Verdict::First(1));
    }

    #[test]
    fn what_comes_before_the_first_key_frame_is_not_lost() {
        for marks_beginnings in [false, true] {
            let mut trust = Trust::new(marks_beginnings);
            trust.refuse();
            assert_eq!(trust.judge(0, NO_KEY, DAMAGED), Verdict::Guess);
            let refreshed = trust.judge(1, NO_KEY, WHOLE);
            trust.send_key(2);
            let key = trust.judge(2, KEY, WHOLE);
            let expected = match marks_beginnings {
                true => [Verdict::First(0), Verdict::Whole],
                false => [Verdict::Guess, Verdict::First(0)],
            };
            assert_eq!([refreshed, key], expected);
        }
    }

    #[test]
    fn a_key_frame_that_the_decoder_refuses_is_lost() {
        let mut trust = Trust::new(true);
        trust.send_key(0);
        trust.refuse();
        assert_eq!(trust.judge(1, NO_KEY, WHOLE), Verdict::Guess);
        trust.send_key(2);
        assert_eq!(trust.judge(2, KEY, WHOLE), Verdict::First(1));
        assert!(trust.is_whole());
    }
}
