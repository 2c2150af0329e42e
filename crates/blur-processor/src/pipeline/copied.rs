//! Which pictures of the output are copies, and what they must be byte for byte.

use std::collections::BTreeMap;

/// The copied packets of one output, by their number in the video track.
#[derive(Debug, Default)]
pub(crate) struct Copied(BTreeMap<u64, Fingerprint>);

#[derive(Debug)]
struct Fingerprint {
    hash: blake3::Hash,
    /// Decoding starts here.
    opens: bool,
}

impl Copied {
    /// Notes a packet on its way into the file. `opens` says that decoding starts with it.
    pub(crate) fn note(&mut self, number: u64, data: &[u8], opens: bool) {
        let hash = blake3::hash(data);
        self.0.insert(number, Fingerprint { hash, opens });
    }

    /// What a packet of the finished file is.
    pub(crate) fn judge(&self, number: u64, data: &[u8]) -> Verdict {
        match self.0.get(&number) {
            None => Verdict::Unknown,
            Some(copy) if copy.hash != blake3::hash(data) => Verdict::Altered,
            Some(copy) if copy.opens => Verdict::Unknown,
            Some(_) => Verdict::Faithful,
        }
    }
}

/// What a packet of the finished file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// To be decoded: encoded anew, or the first of a copied group.
    Unknown,
    /// A copy with the bytes that were written.
    Faithful,
    /// A copy with other bytes than were written.
    Altered,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_byte_for_byte_is_left_out() {
        let mut copied = Copied::default();
        copied.note(0, b"key picture", true);
        copied.note(1, b"picture", false);
        assert_eq!(copied.judge(0, b"key picture"), Verdict::Unknown);
        assert_eq!(copied.judge(0, b"key picturf"), Verdict::Altered);
        assert_eq!(copied.judge(1, b"picture"), Verdict::Faithful);
        assert_eq!(copied.judge(1, b"picturf"), Verdict::Altered);
        assert_eq!(copied.judge(2, b"picture"), Verdict::Unknown);
    }
}
