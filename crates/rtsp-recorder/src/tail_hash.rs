//! BLAKE3 of a file whose beginning is not known before its end is written, made while it is written.
//!
//! A segment gets its index at the front when all else is on disk ([`media::in_place`]). To hash it only then means to read
//! all of it back, which was a tenth of what recording cost. BLAKE3 is a tree (BLAKE3 paper, 2.1 and 5.1): what is behind the
//! front is hashed as it comes, in subtrees that begin where each is as long as all before it, and joined with the front
//! when that is known.
//!
//! ```text
//! |  front  | as long again |        as long as both        | rest ...
//! ```

use blake3::hazmat::{
    ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root,
};
use blake3::{Hash, Hasher};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// BLAKE3 is fastest in aligned pieces of this size or more.
const PIECE: usize = 64 * 1024;

/// The hash of a file that is being written, without its front.
#[derive(Clone, Debug)]
pub struct TailHash {
    /// What begins the file and may change; a power of two.
    front: u64,
    /// Where the next bytes belong.
    at: u64,
    /// The subtrees behind the front that are complete.
    complete: Vec<ChainingValue>,
    /// The subtree under way, up to a multiple of [`PIECE`].
    open: Hasher,
    open_start: u64,
    /// Not yet in `open`.
    piece: Vec<u8>,
}

impl TailHash {
    /// Of a file whose bytes before `start` may change until it is complete, and which is written from there on.
    pub fn new(start: u64) -> Self {
        let front = start.max(PIECE as u64).next_power_of_two();
        Self {
            front,
            at: start,
            complete: Vec::new(),
            open: hasher_at(front),
            open_start: front,
            piece: Vec::new(),
        }
    }

    /// Takes the bytes that were written at `offset`. Those that do not follow the last ones make the hash useless, which
    /// [`Self::of`] tells.
    pub fn update(&mut self, offset: u64, bytes: &[u8]) {
        if offset != self.at {
            return;
        }
        self.at += bytes.len() as u64;
        let in_front = self.front.saturating_sub(offset);
        let in_front =
            usize::try_from(in_front).map_or(bytes.len(), |count| count.min(bytes.len()));
        let mut rest = &bytes[in_front..];
        while !rest.is_empty() {
            let (some, behind) = rest.split_at(rest.len().min(PIECE - self.piece.len()));
            self.piece.extend_from_slice(some);
            rest = behind;
            if self.piece.len() == PIECE {
                self.take_piece();
            }
        }
    }

    fn take_piece(&mut self) {
        self.open.update(&self.piece);
        self.piece.clear();
        let end = self.open_start + self.open.count();
        // Each subtree is as long as all that is before it.
        if end == 2 * self.open_start {
            self.complete.push(self.open.finalize_non_root());
            self.open = hasher_at(end);
            self.open_start = end;
        }
    }

    /// Nothing more is written: needs little memory from now on.
    pub fn closed(mut self) -> Self {
        self.open.update(&self.piece);
        self.piece = Vec::new();
        self
    }

    /// The hash of the complete file; `None` if it is not as long as what was written. To be called after
    /// [`Self::closed`].
    ///
    /// # Errors
    /// The operating system's, reading the front.
    pub fn of(&self, file: &File) -> io::Result<Option<Hash>> {
        let length = file.metadata()?.len();
        if length != self.at {
            return Ok(None);
        }
        let mut front = vec![0; usize::try_from(self.front.min(length)).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut front, 0)?;
        let mut before = Hasher::new();
        before.update(&front);
        let open = (self.open.count() > 0).then(|| self.open.finalize_non_root());
        let mut behind: Vec<ChainingValue> = self.complete.iter().copied().chain(open).collect();
        let Some(last) = behind.pop() else {
            return Ok(Some(before.finalize()));
        };
        let before = behind
            .iter()
            .fold(before.finalize_non_root(), |left, right| {
                merge_subtrees_non_root(&left, right, Mode::Hash)
            });
        Ok(Some(merge_subtrees_root(&before, &last, Mode::Hash)))
    }
}

fn hasher_at(offset: u64) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.set_input_offset(offset);
    hasher
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write as _;

    fn file_of(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_the_hash_of_the_file(
            changing in 0_usize..200_000,
            length in prop_oneof![
                0_usize..2_000_000,
                // Where subtrees end.
                (1_usize..24, -1_isize..=1).prop_map(|(pieces, more)| (pieces * PIECE).saturating_add_signed(more)),
            ],
            sizes in proptest::collection::vec(1_usize..150_000, 1..20),
        ) {
            let mut content: Vec<u8> = (0..length).map(|i| ((i * 7919) >> 5) as u8).collect();
            let start = changing.min(length);
            let mut hash = TailHash::new(start as u64);
            let (mut at, mut sizes) = (start, sizes.iter().cycle());
            while at < length {
                let end = length.min(at + sizes.next().unwrap());
                hash.update(at as u64, &content[at..end]);
                at = end;
            }
            let hash = hash.closed();
            // The front is written last.
            content[..start].iter_mut().for_each(|byte| *byte ^= 0x5a);
            let found = hash.of(&file_of(&content)).unwrap();
            prop_assert_eq!(found, Some(blake3::hash(&content)));
        }
    }

    #[test]
    fn a_file_of_another_length_is_not_known() {
        let mut hash = TailHash::new(10);
        hash.update(10, &[1; 90]);
        // A hole.
        hash.update(120, &[1; 30]);
        let hash = hash.closed();
        assert!(hash.of(&file_of(&[1; 100])).unwrap().is_some());
        assert_eq!(hash.of(&file_of(&[1; 150])).unwrap(), None);
        assert_eq!(hash.of(&file_of(&[1; 99])).unwrap(), None);
    }
}
