//! Blocks that nobody needs any more: those without a holder that no parcel is of, and rings of blocks that only each
//! other refer to.

use std::sync::atomic::Ordering::Relaxed;

use onecopy_os::crash_point;

use crate::ArenaError;
use crate::heap::{DRAFT, Heap, State, state_of};
use crate::meta::BlockId;
use crate::parcels::{block_of, owner_of, sender_of};

impl Heap<'_> {
    /// Frees a block if nobody holds it and no parcel is of it, and then the blocks that only it referred to, and so
    /// on; answers how many blocks it were.
    pub(crate) fn free_if_garbage(&self, index: u32) -> Result<u32, ArenaError> {
        let mut freed = 0;
        let (mut next, mut referred) = (Some(index), Vec::new());
        while let Some(index) = next {
            freed += u32::from(self.free_one_if_garbage(index, &mut referred)?);
            next = referred.pop();
        }
        Ok(freed)
    }

    fn free_one_if_garbage(&self, index: u32, referred: &mut Vec<u32>) -> Result<bool, ArenaError> {
        let entry = self.entry(index)?;
        if !self.life(index)?.is_garbage() {
            return Ok(false);
        }
        // First: should one of these fail, the block is still garbage as a whole.
        self.drop_owned(index, referred)?;
        let draft = entry.flags.load(Relaxed) & DRAFT != 0;
        if draft {
            let (offset, size) = self.span(index)?;
            self.data.punch(offset, size)?;
            crash_point!("free.punched");
        }
        self.retire(index, if draft { State::Fresh } else { State::Warm })?;
        Ok(true)
    }

    /// Whether a process that lives holds a block, or a parcel is of it. What the dead hold counts as gone before it is
    /// swept, and so does a block that has been freed.
    pub(crate) fn is_needed(&self, id: BlockId) -> bool {
        let Ok(entry) = self.block(id) else { return false };
        let lives = |slot: u32| {
            let known = slot < self.meta.geometry().slots;
            known && self.roll().occupant_lives(slot, self.meta.slot(slot).word.load())
        };
        let holders = self.meta.holders(id.index).iter().zip(0_u32..);
        entry.parcels.load(Relaxed) != 0
            || holders
                .map(|(word, at)| (word.load(Relaxed), at))
                .any(|(word, at)| (0..64).any(|bit| word & 1 << bit != 0 && lives(at * 64 + bit)))
    }

    /// Frees all garbage, whoever left it.
    pub(crate) fn collect(&self) -> Result<u32, ArenaError> {
        let freed = self.forget(&vec![0; self.meta.geometry().holder_words() as usize])?;
        Ok(freed + self.free_unreachable()?)
    }

    /// Frees blocks that only each other refer to, as two dictionaries do of which each lies in the other.
    fn free_unreachable(&self) -> Result<u32, ArenaError> {
        let reachable = self.reachable()?;
        let (mut freed, mut candidates) = (0, Vec::new());
        for (index, _) in (0..).zip(&reachable).filter(|(_, reached)| !**reached) {
            if state_of(self.entry(index)?) == State::Used {
                candidates.push(index);
                self.drop_owned(index, &mut candidates)?;
            }
        }
        for index in candidates {
            freed += self.free_if_garbage(index)?;
        }
        Ok(freed)
    }

    /// Which blocks a process can come by: those that are held or in flight, and what lies in them.
    fn reachable(&self) -> Result<Vec<bool>, ArenaError> {
        let first = self.first();
        let touched = first.entries_touched.load(Relaxed).min(self.meta.geometry().blocks);
        let mut open: Vec<u32> = (0..touched).filter(|&index| self.meta.is_held(index)).collect();
        for index in 0..first.parcels_touched.load(Relaxed).min(self.meta.geometry().parcels) {
            let entry = self.meta.parcel(index)?;
            if sender_of(entry).is_some() && owner_of(entry).is_none() {
                open.push(block_of(entry).index);
            }
        }
        let mut reached = vec![false; touched as usize];
        while let Some(index) = open.pop() {
            let new = reached.get_mut(index as usize).is_some_and(|reached| !std::mem::replace(reached, true));
            if new && state_of(self.entry(index)?) == State::Used {
                self.each_owned(index, |_, entry| open.push(block_of(entry).index))?;
            }
        }
        Ok(reached)
    }
}
