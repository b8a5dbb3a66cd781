//! The word of a slot: its generation and its state, and the only transitions that there are.
//!
//! Who lives is asked of the caller, who knows the locks of the kernel; so the model checker runs these very
//! transitions against a table of locks of its own (`models.rs`).

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

#[cfg(loom)]
use loom::sync::atomic::AtomicU64;
#[cfg(not(loom))]
use std::sync::atomic::AtomicU64;

/// State of a slot, the lower half of its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotState {
    Free = 0,
    /// Taken by a parent for the child that it forks.
    Forking = 1,
    Live = 2,
    /// Its owner is dead and its bits are being cleared.
    Reaping = 3,
}

fn pack(generation: u32, state: SlotState) -> u64 {
    u64::from(generation) << 32 | state as u64
}

pub(crate) fn generation_of(word: u64) -> u32 {
    (word >> 32) as u32
}

pub(crate) fn state_of(word: u64) -> SlotState {
    match word as u32 {
        1 => SlotState::Forking,
        2 => SlotState::Live,
        3 => SlotState::Reaping,
        // A word that nobody writes is damage; as free it is taken and overwritten by the next that joins.
        _ => SlotState::Free,
    }
}

/// Whether whoever has a slot in the state `word` lives, by the lock that a process holds for itself (`recorded`), the
/// one that it inherits across a fork (`transferred`), and by what is left of one that `lost_its_lock`.
pub(crate) fn is_occupied(
    word: u64,
    recorded: impl FnOnce() -> bool,
    transferred: impl FnOnce() -> bool,
    lost_its_lock: impl FnOnce() -> bool,
) -> bool {
    match state_of(word) {
        SlotState::Free | SlotState::Reaping => false,
        SlotState::Live => recorded() || lost_its_lock(),
        // The child locks before it lets go of the transfer lock: asked in this order, one of them is seen.
        SlotState::Forking => transferred() || recorded(),
    }
}

/// The word of a slot.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct SlotWord(AtomicU64);

impl SlotWord {
    pub(crate) fn load(&self) -> u64 {
        self.0.load(Acquire)
    }

    /// Takes the slot if it is free and its lock can be had; answers its generation and the lock.
    pub(crate) fn claim<L, E>(
        &self,
        state: SlotState,
        lock: impl FnOnce() -> Result<Option<L>, E>,
        unlock: impl FnOnce(L) -> Result<(), E>,
    ) -> Result<Option<(u32, L)>, E> {
        let seen = self.load();
        if state_of(seen) != SlotState::Free {
            return Ok(None);
        }
        let Some(held) = lock()? else { return Ok(None) };
        if self.advance(seen, state) {
            return Ok(Some((generation_of(seen), held)));
        }
        unlock(held)?;
        Ok(None)
    }

    /// Makes a reserved slot the child's own, after the child has introduced itself.
    pub(crate) fn settle<T>(&self, introduce: impl FnOnce(u32) -> T) -> T {
        let generation = generation_of(self.load());
        let introduced = introduce(generation);
        self.0.store(pack(generation, SlotState::Live), Release);
        introduced
    }

    /// Takes the slot from the dead process that had it in the state `seen`, which may be a sweeper's that died over it:
    /// the caller has the arena's lock, so that no other sweeper is at work. Fails where the slot has changed hands.
    pub(crate) fn reap(&self, seen: u64) -> bool {
        self.advance(seen, SlotState::Reaping)
    }

    /// Offers the slot again, under its next generation. Only for its owner or its reaper.
    pub(crate) fn vacate(&self) {
        let generation = generation_of(self.0.load(Relaxed)).wrapping_add(1);
        // SYNC POINT: no bit of the last owner is left when the slot is offered again.
        self.0.store(pack(generation, SlotState::Free), Release);
    }

    fn advance(&self, seen: u64, state: SlotState) -> bool {
        self.0.compare_exchange(seen, pack(generation_of(seen), state), AcqRel, Relaxed).is_ok()
    }

    /// Puts the slot into any state, as damage would.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn damage(&self, word: u64) {
        self.0.store(word, Relaxed);
    }

    #[cfg(all(test, loom))]
    pub(crate) fn new(generation: u32, state: SlotState) -> Self {
        Self(AtomicU64::new(pack(generation, state)))
    }
}
