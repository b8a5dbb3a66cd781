//! What decides about a block: its state and generation, who holds it, and whether a parcel is of it.
//!
//! | state | generation | holders | parcels | meaning |
//! |---|---|---|---|---|
//! | not used | g | any | any | nothing is named (g, anything before) |
//! | used | g | some | any | handles of g are good |
//! | used | g | none | some | handles of g are good; on the way |
//! | used | g | none | none | garbage, which whoever sweeps ends |
//!
//! All of it is changed under the heap lock but for one thing: a parent sets the bit of a child that it is about to fork
//! while it holds the block itself. So the model checker runs these very transitions (`models/blocks.rs`), with a death
//! after each of their steps.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::door::{AtomicU32, AtomicU64, crash_point};

/// What a directory entry describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing.
    Unused = 0,
    /// Free, page-aligned, without memory: reads as zeros.
    Fresh = 1,
    /// Free, with memory behind it.
    Warm = 2,
    /// A block.
    Used = 3,
}

impl State {
    pub(crate) fn load(word: &AtomicU32) -> Self {
        // SYNC POINT: acquire pairs with the releases in `begin` and `end`: who sees a block sees what describes it, and
        // who sees that it is no more sees that its name has gone.
        match word.load(Acquire) {
            1 => Self::Fresh,
            2 => Self::Warm,
            3 => Self::Used,
            _ => Self::Unused,
        }
    }
}

/// The bits of those that hold a block, one for each slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holders<'a>(pub(crate) &'a [AtomicU64]);

impl Holders<'_> {
    pub(crate) fn set(self, slot: u32) {
        self.0[slot as usize / 64].fetch_or(1 << (slot % 64), Relaxed);
    }

    pub(crate) fn clear(self, slot: u32) {
        self.0[slot as usize / 64].fetch_and(!(1 << (slot % 64)), Relaxed);
    }

    pub(crate) fn has(self, slot: u32) -> bool {
        self.0[slot as usize / 64].load(Relaxed) & 1 << (slot % 64) != 0
    }

    pub(crate) fn are_some(self) -> bool {
        self.0.iter().any(|word| word.load(Relaxed) != 0)
    }

    /// Takes the bits of the dead away.
    pub(crate) fn forget(self, dead: &[u64]) {
        for (word, dead) in self.0.iter().zip(dead) {
            if word.load(Relaxed) & dead != 0 {
                word.fetch_and(!dead, Relaxed);
                crash_point!("sweep.cleared");
            }
        }
    }
}

/// The words that decide about one block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life<'a> {
    pub(crate) state: &'a AtomicU32,
    pub(crate) generation: &'a AtomicU32,
    /// Cache: full parcels of this block.
    pub(crate) parcels: &'a AtomicU32,
    pub(crate) holders: Holders<'a>,
}

impl Life<'_> {
    /// Makes an entry that describes an extent a block, held by `me`; answers its generation.
    pub(crate) fn begin(self, me: u32) -> u32 {
        self.parcels.store(0, Relaxed);
        for word in self.holders.0 {
            word.store(0, Relaxed);
        }
        crash_point!("publish.described");
        self.holders.set(me);
        crash_point!("publish.held");
        // SYNC POINT: with this store the block exists; `recovery` believes what describes it from now on.
        self.state.store(State::Used as u32, Release);
        crash_point!("publish.used");
        self.generation.load(Relaxed)
    }

    /// Whether it is the block of this generation.
    pub(crate) fn is(self, generation: u32) -> bool {
        State::load(self.state) == State::Used && self.generation.load(Relaxed) == generation
    }

    /// Whether a handle of it can be received without a parcel: somebody holds it, or it is on the way.
    pub(crate) fn is_needed(self) -> bool {
        self.holders.are_some() || self.parcels.load(Relaxed) != 0
    }

    /// Takes a reference for `me`, and then the parcel by which it came.
    pub(crate) fn receive<E>(self, me: u32, empty: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        self.holders.set(me);
        crash_point!("receive.held");
        empty()
    }

    /// Gives up the last reference of `me`.
    pub(crate) fn let_go(self, me: u32) {
        self.holders.clear(me);
        crash_point!("drop.cleared");
    }

    /// Whether it is a block that nobody needs.
    pub(crate) fn is_garbage(self) -> bool {
        State::load(self.state) == State::Used && !self.is_needed()
    }

    /// Ends a block that is garbage. Its entry describes nothing after that.
    pub(crate) fn end(self) {
        self.generation.store(self.generation.load(Relaxed).wrapping_add(1), Relaxed);
        crash_point!("retire.renamed");
        // SYNC POINT: the generation has moved on, so handles of the block fail from here on; with this store the block
        // is no more.
        self.state.store(State::Unused as u32, Release);
        crash_point!("retire.ended");
    }
}
