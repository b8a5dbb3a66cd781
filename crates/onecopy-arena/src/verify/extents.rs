//! That the extents tile the data area, and that links, bins, lists and counters agree with them.

use std::sync::atomic::Ordering::Relaxed;

use onecopy_os::page_size;

use super::require;
use crate::ArenaError;
use crate::heap::{DRAFT, Heap, LEAVING, SEALED, State, class_of, committed_of, state_of};
use crate::layout::{BlockEntry, CLASSES, GRAIN, NONE};

impl Heap<'_> {
    /// Answers the used entries in address order.
    pub(super) fn verify_extents(&self) -> Result<Vec<u32>, ArenaError> {
        let touched = self.first().entries_touched.load(Relaxed);
        require(touched <= self.meta.geometry().blocks, || format!("{touched} entries have been in use"))?;
        let tiles = self.tiles(touched)?;
        let binned = self.binned(touched)?;
        let (mut used, mut used_bytes, mut warm_bytes) = (Vec::new(), 0, 0);
        for &index in &tiles {
            let entry = self.entry(index)?;
            let state = state_of(entry);
            match state {
                State::Used => {
                    verify_used(index, entry)?;
                    used_bytes = committed_of(entry).saturating_add(used_bytes);
                    used.push(index);
                }
                State::Warm => warm_bytes = entry.size.load(Relaxed).saturating_add(warm_bytes),
                State::Fresh => verify_fresh(index, entry)?,
                State::Unused => return Err(ArenaError::damaged(format!("tile {index} describes nothing"))),
            }
            let in_bins = binned[index as usize];
            let expected = u32::from(state != State::Used);
            require(in_bins == expected, || format!("extent {index} is in {in_bins} bins, not {expected}"))?;
        }
        let count: u32 = binned.iter().sum();
        require(count as usize == tiles.len() - used.len(), || "a bin has what is no tile".to_owned())?;
        self.verify_unused(touched - tiles.len() as u32)?;
        let counted = |name: &str, counter: u64, by_tiles: u64| {
            require(counter == by_tiles, || format!("{name} are counted as {counter}, by tiles they are {by_tiles}"))
        };
        let first = self.first();
        counted("used bytes", first.used_bytes.load(Relaxed), used_bytes)?;
        counted("warm bytes", first.warm_bytes.load(Relaxed), warm_bytes)?;
        counted("used blocks", first.used_blocks.load(Relaxed).into(), used.len() as u64)?;
        Ok(used)
    }

    /// All extents in address order, by their links.
    fn tiles(&self, touched: u32) -> Result<Vec<u32>, ArenaError> {
        let is_first =
            |index: &u32| self.entry(*index).is_ok_and(|e| state_of(e) != State::Unused && e.offset.load(Relaxed) == 0);
        let mut next = (0..touched).find(is_first).unwrap_or(NONE);
        let (mut tiles, mut at, mut before) = (Vec::new(), 0, NONE);
        while next != NONE {
            let entry = self.entry(next)?;
            let (offset, size) = self.span(next)?;
            require(next < touched, || format!("tile {next} has never been in use"))?;
            require(offset == at, || format!("tile {next} starts at {offset}, its neighbour ends at {at}"))?;
            let left = self.meta.geometry().capacity - at;
            require(size > 0 && size <= left && size.is_multiple_of(GRAIN), || {
                format!("tile {next} has {size} bytes")
            })?;
            let link = entry.before.load(Relaxed);
            require(link == before, || format!("tile {next} lies behind {before} but is linked to {link}"))?;
            // Ends: each tile moves on in the data area.
            tiles.push(next);
            at += size;
            before = next;
            next = entry.after.load(Relaxed);
        }
        require(at == self.meta.geometry().capacity, || format!("the tiles end at {at}"))?;
        let described = (0..touched).filter(|&i| self.entry(i).is_ok_and(|e| state_of(e) != State::Unused)).count();
        require(described == tiles.len(), || format!("{described} extents, {} tiles", tiles.len()))?;
        Ok(tiles)
    }

    /// In how many bins each entry is.
    fn binned(&self, touched: u32) -> Result<Vec<u32>, ArenaError> {
        let mut count = vec![0; touched as usize];
        for state in [State::Warm, State::Fresh] {
            for class in 0..CLASSES {
                let mut before = NONE;
                for index in self.in_bin(state, class) {
                    let index = index?;
                    let entry = self.entry(index)?;
                    let size = entry.size.load(Relaxed);
                    require(class_of(size) == class, || format!("extent {index} of {size} bytes is in bin {class}"))?;
                    let link = entry.bin_previous.load(Relaxed);
                    require(link == before, || format!("extent {index} follows {before} in a bin, linked to {link}"))?;
                    let place = count.get_mut(index as usize);
                    *place.ok_or_else(|| ArenaError::damaged(format!("extent {index} has never been in use")))? += 1;
                    before = index;
                }
            }
        }
        Ok(count)
    }

    /// The list of unused entries.
    fn verify_unused(&self, expected: u32) -> Result<(), ArenaError> {
        let (mut next, mut length) = (self.first().entries_free.load(Relaxed), 0);
        while next != NONE {
            let entry = self.entry(next)?;
            require(state_of(entry) == State::Unused, || format!("extent {next} is listed as unused"))?;
            length += 1;
            require(length <= expected, || "the list of unused entries runs in a circle".to_owned())?;
            next = entry.bin_next.load(Relaxed);
        }
        require(length == expected, || format!("{expected} entries are unused, {length} are listed"))
    }
}

fn verify_used(index: u32, entry: &BlockEntry) -> Result<(), ArenaError> {
    let (len, size, flags) = (entry.len.load(Relaxed), entry.size.load(Relaxed), entry.flags.load(Relaxed));
    require(len <= size, || format!("block {index} of {len} bytes has {size}"))?;
    require(flags & !(SEALED | DRAFT | LEAVING) == 0, || format!("block {index} has flags {flags:#x}"))
}

fn verify_fresh(index: u32, entry: &BlockEntry) -> Result<(), ArenaError> {
    let page = page_size() as u64;
    let whole = |place: u64| place.is_multiple_of(page);
    require(whole(entry.offset.load(Relaxed)), || format!("fresh {index} starts in a page"))?;
    require(whole(entry.size.load(Relaxed)), || format!("fresh {index} ends in a page"))
}
