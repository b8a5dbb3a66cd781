//! Rebuilds the caches of the heap from the truth, after a process died inside it; and sweeps the dead.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use onecopy_os::page_size;

use crate::ArenaError;
use crate::heap::{Heap, State, add, committed_of, state_of};
use crate::layout::{GRAIN, NONE};
use crate::slots::{JANITOR, SlotState, Slots, generation_of, pack, state_of as slot_state_of};

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) processes: u32,
    pub(crate) blocks: u32,
}

impl Heap<'_> {
    /// Rebuilds entries, links, bins, counters and parcel counts from the used entries. Free memory goes back to the
    /// system, as nobody knows any more which of it is warm.
    pub(crate) fn recover(&self) -> Result<(), ArenaError> {
        let used = self.used_extents()?;
        let first = self.first();
        for bin in first.bins.iter().flatten() {
            bin.store(NONE, Relaxed);
        }
        let touched = first.entries_touched.load(Relaxed).min(self.meta.geometry().blocks);
        first.entries_touched.store(touched, Relaxed);
        first.entries_free.store(NONE, Relaxed);
        first.warm_bytes.store(0, Relaxed);
        first.used_bytes.store(0, Relaxed);
        first.used_blocks.store(used.len() as u32, Relaxed);
        for index in (0..touched).rev() {
            if state_of(self.entry(index)?) != State::Used {
                self.drop_entry(index)?;
            }
        }
        self.retile(&used)?;
        self.recount_parcels()
    }

    /// Used entries in address order; their fields are checked, because all else is built on them.
    fn used_extents(&self) -> Result<Vec<(u64, u64, u32)>, ArenaError> {
        let capacity = self.meta.geometry().capacity;
        let mut used = Vec::new();
        for index in 0..self.first().entries_touched.load(Relaxed).min(self.meta.geometry().blocks) {
            let entry = self.entry(index)?;
            if state_of(entry) != State::Used {
                continue;
            }
            let (offset, size) = (entry.offset.load(Relaxed), entry.size.load(Relaxed));
            let sound = size > 0
                && offset.is_multiple_of(GRAIN)
                && size.is_multiple_of(GRAIN)
                && offset.checked_add(size).is_some_and(|end| end <= capacity)
                && entry.len.load(Relaxed) <= size;
            if !sound {
                return Err(ArenaError::damaged(format!("block {index} spans {offset} + {size} of {capacity}")));
            }
            used.push((offset, size, index));
        }
        used.sort_unstable();
        if used.windows(2).any(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
            return Err(ArenaError::damaged("two blocks overlap"));
        }
        Ok(used)
    }

    fn retile(&self, used: &[(u64, u64, u32)]) -> Result<(), ArenaError> {
        let capacity = self.meta.geometry().capacity;
        let mut tiles: Vec<(u32, Option<State>)> = Vec::with_capacity(used.len() * 2 + 2);
        let mut at = 0;
        for &(offset, size, index) in used.iter().chain(std::iter::once(&(capacity, 0, NONE))) {
            self.tile_gap(at, offset, &mut tiles)?;
            if index != NONE {
                add(&self.first().used_bytes, committed_of(self.entry(index)?));
                tiles.push((index, None));
            }
            at = offset + size;
        }
        for (i, &(index, _)) in tiles.iter().enumerate() {
            let entry = self.entry(index)?;
            entry.before.store(if i == 0 { NONE } else { tiles[i - 1].0 }, Relaxed);
            entry.after.store(tiles.get(i + 1).map_or(NONE, |&(next, _)| next), Relaxed);
        }
        tiles.iter().filter_map(|&(index, free)| Some((index, free?))).try_for_each(|(i, s)| self.bin_insert(i, s))
    }

    /// Describes the gap `[start, end)`: whole pages fresh, the edges, which share pages with their neighbours, warm.
    fn tile_gap(&self, start: u64, end: u64, tiles: &mut Vec<(u32, Option<State>)>) -> Result<(), ArenaError> {
        let page = page_size() as u64;
        let (inner_start, inner_end) = (start.next_multiple_of(page), end / page * page);
        let mut tile = |from: u64, to: u64, state: State| -> Result<(), ArenaError> {
            if from < to {
                let index = self.new_entry()?;
                let entry = self.entry(index)?;
                entry.offset.store(from, Relaxed);
                entry.size.store(to - from, Relaxed);
                tiles.push((index, Some(state)));
            }
            Ok(())
        };
        if inner_start >= inner_end {
            return tile(start, end, State::Warm);
        }
        self.data.punch(inner_start, inner_end - inner_start)?;
        tile(start, inner_start, State::Warm)?;
        tile(inner_start, inner_end, State::Fresh)?;
        tile(inner_end, end, State::Warm)
    }

    /// Takes the slots, bits and promises of the dead away and frees every block that nobody holds and that is not in
    /// flight.
    pub(crate) fn sweep(&self) -> Result<Swept, ArenaError> {
        let slots = Slots { meta: self.meta, data: self.data };
        let mut dead = vec![0_u64; self.meta.geometry().holder_words() as usize];
        let mut swept = Swept::default();
        for slot in JANITOR + 1..self.meta.geometry().slots {
            let entry = self.meta.slot(slot);
            let word = entry.word.load(Acquire);
            if slot_state_of(word) == SlotState::Free || slots.occupant_lives(slot, word, self.me.slot()) {
                continue;
            }
            let reaping = pack(generation_of(word), SlotState::Reaping);
            if entry.word.compare_exchange(word, reaping, AcqRel, Relaxed).is_ok() {
                dead[slot as usize / 64] |= 1 << (slot % 64);
                swept.processes += 1;
            }
        }
        if swept.processes == 0 {
            return Ok(swept);
        }
        swept.blocks = self.forget(&dead)?;
        for slot in (0..self.meta.geometry().slots).filter(|slot| dead[*slot as usize / 64] & 1 << (slot % 64) != 0) {
            let entry = self.meta.slot(slot);
            entry.promised.store(0, Relaxed);
            let generation = generation_of(entry.word.load(Relaxed)).wrapping_add(1);
            entry.word.store(pack(generation, SlotState::Free), std::sync::atomic::Ordering::Release);
        }
        Ok(swept)
    }

    fn forget(&self, dead: &[u64]) -> Result<u32, ArenaError> {
        let mut freed = 0;
        for index in 0..self.first().entries_touched.load(Relaxed).min(self.meta.geometry().blocks) {
            if state_of(self.entry(index)?) != State::Used {
                continue;
            }
            for (word, dead) in self.meta.holders(index).iter().zip(dead) {
                if word.load(Relaxed) & dead != 0 {
                    word.fetch_and(!dead, Relaxed);
                }
            }
            freed += self.free_if_garbage(index)?;
        }
        Ok(freed)
    }

    /// Frees all garbage, whoever left it.
    pub(crate) fn collect(&self) -> Result<u32, ArenaError> {
        self.forget(&vec![0; self.meta.geometry().holder_words() as usize])
    }
}
