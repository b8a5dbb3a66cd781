//! Rebuilds the caches of the heap from the truth, after a process died inside it.

use std::sync::atomic::Ordering::Relaxed;

use onecopy_os::{crash_point, page_size};

use crate::ArenaError;
use crate::heap::{Heap, State, add, committed_of, state_of};
use crate::layout::{GRAIN, NONE};

impl Heap<'_> {
    /// Rebuilds entries, links, bins, counters and parcel counts from the used entries. Free memory goes back to the
    /// system, as nobody knows any more which of it is warm.
    pub(crate) fn recover(&self) -> Result<(), ArenaError> {
        let used = self.used_extents()?;
        let first = self.first();
        for bin in first.bins.iter().flatten() {
            bin.store(NONE, Relaxed);
        }
        crash_point!("recover.unbinned");
        // What lies behind the last block is as if it had never been in use: sweeps need not look there.
        let touched = first.entries_touched.load(Relaxed).min(self.meta.geometry().blocks);
        let kept = used.iter().map(|&(_, _, index)| index + 1).max().unwrap_or(0);
        first.entries_free.store(NONE, Relaxed);
        first.warm_bytes.store(0, Relaxed);
        first.used_bytes.store(0, Relaxed);
        first.used_blocks.store(used.len() as u32, Relaxed);
        crash_point!("recover.reset");
        for index in (0..touched).rev() {
            let entry = self.entry(index)?;
            if index >= kept {
                entry.state.store(State::Unused as u32, Relaxed);
            } else if state_of(entry) != State::Used {
                self.drop_entry(index)?;
            }
        }
        first.entries_touched.store(kept, Relaxed);
        crash_point!("recover.dropped");
        self.retile(&used)?;
        crash_point!("recover.tiled");
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

    /// Puts memory behind all blocks once more: what a power loss took of it would be missed only when it is touched.
    pub(crate) fn reserve_used(&self) -> Result<(), ArenaError> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (offset, size, _) in self.used_extents()? {
            match ranges.last_mut() {
                Some((start, len)) if *start + *len == offset => *len += size,
                _ => ranges.push((offset, size)),
            }
        }
        let page = page_size() as u64;
        for (offset, len) in ranges {
            let (start, end) = (offset / page * page, (offset + len).next_multiple_of(page));
            let end = end.min(self.meta.geometry().capacity);
            self.data.reserve(start, end - start).map_err(|error| self.data.refused(error, len))?;
        }
        Ok(())
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
        crash_point!("recover.described");
        for (i, &(index, _)) in tiles.iter().enumerate() {
            let entry = self.entry(index)?;
            entry.before.store(if i == 0 { NONE } else { tiles[i - 1].0 }, Relaxed);
            entry.after.store(tiles.get(i + 1).map_or(NONE, |&(next, _)| next), Relaxed);
        }
        crash_point!("recover.linked");
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
        crash_point!("recover.punched");
        tile(start, inner_start, State::Warm)?;
        tile(inner_start, inner_end, State::Fresh)?;
        tile(inner_end, end, State::Warm)
    }
}
