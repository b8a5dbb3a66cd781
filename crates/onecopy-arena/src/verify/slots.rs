//! That the process table is sound, and that only its members hold anything.

use std::sync::atomic::Ordering::{Acquire, Relaxed};

use onecopy_sync::Tag;

use super::require;
use crate::ArenaError;
use crate::heap::Heap;
use crate::slot_word::{SlotState, generation_of, state_of};
use crate::slots::JANITOR;

impl Heap<'_> {
    pub(super) fn verify_slots(&self) -> Result<(), ArenaError> {
        for slot in 0..self.meta.geometry().slots {
            let word = self.meta.slot(slot).word.load();
            require(word as u32 <= SlotState::Reaping as u32, || format!("slot {slot} has the word {word:#x}"))?;
            if slot == JANITOR || state_of(word) == SlotState::Free {
                // Whoever leaves takes its promises back before it offers the slot, whoever joins promises after.
                let promised = self.meta.slot(slot).promised.load(Relaxed);
                require(promised == 0, || format!("nobody has slot {slot}, which promised {promised} bytes"))?;
            }
        }
        let janitor = state_of(self.meta.slot(JANITOR).word.load());
        require(janitor == SlotState::Free, || format!("the janitor's slot is {janitor:?}"))?;
        let mine = self.meta.slot(self.me.slot()).word.load();
        let is_mine = self.me.slot() == JANITOR
            || state_of(mine) == SlotState::Live && Tag::truncate(generation_of(mine)) == self.me.generation();
        require(is_mine, || format!("this process has {:?}, whose slot says {mine:#x}", self.me))
    }

    /// Holder bits of blocks belong to slots that somebody has: bits are set after a slot is taken and cleared before it
    /// is given up.
    pub(super) fn verify_holders(&self, used: &[u32]) -> Result<(), ArenaError> {
        let words = self.meta.geometry().holder_words() as usize;
        let (mut held, mut taken) = (vec![0_u64; words], vec![0_u64; words]);
        // The bits first: a slot that is seen as free afterwards had none when they were read.
        for &index in used {
            let of_block = self.meta.holders(index).iter().map(|word| word.load(Acquire));
            held.iter_mut().zip(of_block).for_each(|(held, word)| *held |= word);
        }
        for slot in JANITOR + 1..self.meta.geometry().slots {
            if state_of(self.meta.slot(slot).word.load()) != SlotState::Free {
                taken[slot as usize / 64] |= 1 << (slot % 64);
            }
        }
        let Some(place) = (0..words).find(|&place| held[place] & !taken[place] != 0) else { return Ok(()) };
        let bit = (held[place] & !taken[place]).trailing_zeros();
        let holds = |index: &&u32| self.meta.holders(**index)[place].load(Relaxed) & 1 << bit != 0;
        let (slot, block) = (place as u32 * 64 + bit, used.iter().find(holds));
        Err(ArenaError::damaged(format!("block {block:?} is held by slot {slot}, which nobody has")))
    }
}
