//! Where a thread sleeps that waits for many things at once.

use crate::door::AtomicU32;

/// A word to sleep at, and what it is as long as nothing has happened. Whoever asks for it looks once more before it
/// sleeps.
#[derive(Debug, Clone, Copy)]
pub struct Bell<'a> {
    word: &'a AtomicU32,
    seen: u32,
}

impl<'a> Bell<'a> {
    pub(crate) fn new(word: &'a AtomicU32, seen: u32) -> Self {
        Self { word, seen }
    }

    /// Address of the word.
    pub fn address(self) -> usize {
        std::ptr::from_ref(self.word).addr()
    }

    /// What it is as long as nothing has happened.
    pub fn seen(self) -> u32 {
        self.seen
    }
}
