//! Memory that somebody else owns: the one module with `unsafe`.
//!
//! The arrays that pass through this crate lie in memory that other processes may map too. A `&[u8]` over it would
//! promise the compiler that nobody writes, which nobody can promise. So bytes are copied from and to raw memory here,
//! and all other modules work on buffers of their own. The copy costs about 1 % of deflating the same bytes.

use std::ptr;

/// Memory that is read.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    start: *const u8,
    len: usize,
}

// SAFETY: the contract of `Source::new` covers every thread; the pointer is only read through.
unsafe impl Send for Source {}
// SAFETY: as above.
unsafe impl Sync for Source {}

impl Source {
    /// Describes `len` bytes from `start`.
    ///
    /// # Safety
    /// The bytes must stay readable as long as the value or a copy of it is used, from any thread.
    pub unsafe fn new(start: *const u8, len: usize) -> Self {
        Self { start, len }
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies the bytes from `offset` into `out`.
    ///
    /// # Panics
    /// When the range is not inside the memory.
    pub fn read(&self, offset: usize, out: &mut [u8]) {
        check_range(offset, out.len(), self.len);
        // SAFETY: the range lies inside the memory (checked), which is readable (contract of `new`); `out` is borrowed
        // exclusively, so the two do not overlap.
        unsafe { ptr::copy_nonoverlapping(self.start.add(offset), out.as_mut_ptr(), out.len()) }
    }
}

/// Memory that is written.
#[derive(Debug)]
pub struct Target {
    start: *mut u8,
    len: usize,
}

// SAFETY: the contract of `Target::new` covers every thread; `write` demands disjoint ranges.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// Describes `len` bytes from `start`.
    ///
    /// # Safety
    /// The bytes must stay writable as long as the value is used, from any thread, and nothing else may use them
    /// meanwhile.
    pub unsafe fn new(start: *mut u8, len: usize) -> Self {
        Self { start, len }
    }

    /// The number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Safety
    /// No other thread may be writing to the same range.
    ///
    /// # Panics
    /// When the range is not inside the memory.
    pub(crate) unsafe fn write(&self, offset: usize, bytes: &[u8]) {
        check_range(offset, bytes.len(), self.len);
        // SAFETY: the range lies inside the memory (checked), which is writable (contract of `new`), and nobody else
        // writes to it (contract of this function); `bytes` is a shared borrow and cannot overlap memory that only we
        // use.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.add(offset), bytes.len()) }
    }
}

fn check_range(offset: usize, len: usize, limit: usize) {
    assert!(offset.checked_add(len).is_some_and(|end| end <= limit), "{len} bytes at {offset} are outside of {limit}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_inside_only() {
        let mut memory = *b"abcdef";
        // SAFETY: `memory` outlives `source`.
        let source = unsafe { Source::new(memory.as_ptr(), memory.len()) };
        let mut out = [0; 3];
        source.read(3, &mut out);
        assert_eq!(&out, b"def");
        assert!(std::panic::catch_unwind(|| source.read(4, &mut [0; 3])).is_err());
        assert!(std::panic::catch_unwind(|| source.read(usize::MAX, &mut [0; 3])).is_err());

        // SAFETY: `memory` outlives `target`, and `source` is not used any more.
        let target = unsafe { Target::new(memory.as_mut_ptr(), memory.len()) };
        // SAFETY: there is one thread.
        unsafe { target.write(4, b"YZ") };
        assert_eq!(&memory, b"abcdYZ");
    }
}
