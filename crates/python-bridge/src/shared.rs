//! Memory that this process and the interpreter both see.

#![expect(unsafe_code, reason = "shared memory is mapped here")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// An anonymous file of at least the bytes asked for so far, mapped here. It grows; it never shrinks.
pub(crate) struct SharedMemory {
    file: OwnedFd,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone and is reached through `&mut self` only.
unsafe impl Send for SharedMemory {}

/// What the kernel maps at least, bytes.
pub(crate) const PAGE: usize = 4096;

impl SharedMemory {
    /// An area of one page.
    pub(crate) fn new() -> io::Result<Self> {
        let file = memfd_create("blur-frames", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, PAGE as u64)?;
        let start = map(file.as_fd(), PAGE)?;
        Ok(Self {
            file,
            start,
            len: PAGE,
        })
    }

    /// The file to hand to the other process.
    pub(crate) fn file(&self) -> io::Result<OwnedFd> {
        self.file.try_clone()
    }

    /// The first `len` bytes, the area made larger where needed. The other process must not touch them meanwhile: it
    /// works only between a request and its answer.
    pub(crate) fn bytes(&mut self, len: usize) -> io::Result<&mut [u8]> {
        if len > self.len {
            let rounded = len.next_multiple_of(PAGE);
            ftruncate(&self.file, rounded as u64)?;
            let start = map(self.file.as_fd(), rounded)?;
            self.unmap();
            (self.start, self.len) = (start, rounded);
        }
        // SAFETY: `start` maps `self.len >= len` readable and writable bytes for as long as `self` lives, and the
        // borrow of `self` keeps the mapping in place.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), len) })
    }

    fn unmap(&mut self) {
        // SAFETY: exactly the range that `map` returned; nothing borrows from it while `&mut self` is held.
        let result = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(result.is_ok(), "the mapping was ours");
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        self.unmap();
    }
}

fn map(file: BorrowedFd<'_>, len: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the kernel's choice; it aliases no Rust object.
    let start = unsafe {
        mmap(
            std::ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED,
            file,
            0,
        )?
    };
    NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))
}

#[cfg(test)]
mod tests {
    use super::SharedMemory;

    #[test]
    fn what_was_written_survives_growth() {
        let mut memory = SharedMemory::new().expect("memory");
        memory.bytes(10).expect("ten bytes").fill(7);
        let grown = memory.bytes(1_000_000).expect("a megabyte");
        assert_eq!(grown[..10], [7; 10]);
        assert_eq!(grown.len(), 1_000_000);
    }
}
