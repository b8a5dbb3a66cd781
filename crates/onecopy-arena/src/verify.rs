//! A full check of the tables against the design's invariants.

use std::sync::atomic::Ordering::Relaxed;

use onecopy_os::page_size;

use crate::ArenaError;
use crate::heap::{Heap, State, committed_of, state_of};
use crate::layout::{CLASSES, GRAIN, NONE};
use crate::parcels::{block_of, owner_of, sender_of};

impl Heap<'_> {
    /// Checks that the extents tile the data area, that links and bins agree with them, and that the counters are their
    /// sums.
    pub(crate) fn verify(&self) -> Result<(), ArenaError> {
        let tiles = self.tiles()?;
        let binned = self.binned()?;
        let (mut used_bytes, mut warm_bytes, mut used_blocks) = (0, 0, 0);
        for &index in &tiles {
            let entry = self.entry(index)?;
            let size = entry.size.load(Relaxed);
            let in_bins = binned.iter().filter(|&&other| other == index).count();
            let free = match state_of(entry) {
                State::Used => {
                    used_bytes = committed_of(entry).saturating_add(used_bytes);
                    used_blocks += 1;
                    false
                }
                State::Warm => {
                    warm_bytes = size.saturating_add(warm_bytes);
                    true
                }
                State::Fresh => {
                    let page = page_size() as u64;
                    require(entry.offset.load(Relaxed).is_multiple_of(page), || {
                        format!("fresh {index} starts in a page")
                    })?;
                    require(size.is_multiple_of(page), || format!("fresh {index} ends in a page"))?;
                    true
                }
                State::Unused => return Err(ArenaError::damaged(format!("tile {index} describes nothing"))),
            };
            require(in_bins == usize::from(free), || format!("extent {index} is in {in_bins} bins"))?;
        }
        let first = self.first();
        require(first.used_bytes.load(Relaxed) == used_bytes, || format!("used bytes, by tiles {used_bytes}"))?;
        require(first.warm_bytes.load(Relaxed) == warm_bytes, || format!("warm bytes, by tiles {warm_bytes}"))?;
        require(first.used_blocks.load(Relaxed) == used_blocks, || format!("used blocks, by tiles {used_blocks}"))?;
        require(binned.len() + used_blocks as usize == tiles.len(), || "a bin has what is no tile".to_owned())?;
        self.verify_parcels(&tiles)
    }

    /// All extents in address order, by their links.
    fn tiles(&self) -> Result<Vec<u32>, ArenaError> {
        let touched = self.first().entries_touched.load(Relaxed).min(self.meta.geometry().blocks);
        let is_first =
            |index: &u32| self.entry(*index).is_ok_and(|e| state_of(e) != State::Unused && e.offset.load(Relaxed) == 0);
        let mut next = (0..touched).find(is_first).unwrap_or(NONE);
        let (mut tiles, mut at, mut before) = (Vec::new(), 0, NONE);
        while next != NONE {
            let entry = self.entry(next)?;
            let (offset, size) = self.span(next)?;
            require(offset == at, || format!("tile {next} starts at {offset}, its neighbour ends at {at}"))?;
            require(size > 0 && size.is_multiple_of(GRAIN), || format!("tile {next} has {size} bytes"))?;
            require(entry.before.load(Relaxed) == before, || format!("tile {next} has the wrong neighbour"))?;
            require(tiles.len() < touched as usize, || "the tiles run in a circle".to_owned())?;
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

    /// Checks the parcels against their blocks and owners, and that each is in exactly one chain.
    fn verify_parcels(&self, tiles: &[u32]) -> Result<(), ArenaError> {
        let first = self.first();
        let touched = first.parcels_touched.load(Relaxed);
        require(touched <= self.meta.geometry().parcels, || format!("{touched} parcels have been in use"))?;
        let blocks = self.meta.geometry().blocks as usize;
        let (mut of, mut within, mut full) = (vec![0_u32; blocks], vec![0_u32; blocks], 0);
        for index in 0..touched {
            let entry = self.meta.parcel(index)?;
            if sender_of(entry).is_none() {
                continue;
            }
            let gone = |block| ArenaError::damaged(format!("parcel {index} refers to {block:?}, which is gone"));
            full += 1;
            self.block(block_of(entry)).map_err(|_| gone(block_of(entry)))?;
            of[block_of(entry).index as usize] += 1;
            if let Some(owner) = owner_of(entry) {
                self.block(owner).map_err(|_| gone(owner))?;
                within[owner.index as usize] += 1;
            }
        }
        require(first.parcels_full.load(Relaxed) == full, || format!("full parcels, by themselves {full}"))?;
        for &index in tiles.iter().filter(|&&index| self.entry(index).is_ok_and(|e| state_of(e) == State::Used)) {
            let counted = self.entry(index)?.parcels.load(Relaxed);
            let by_parcels = of[index as usize];
            require(counted == by_parcels, || {
                format!("block {index} counts {counted} parcels, there are {by_parcels}")
            })?;
            self.verify_chain(index, within[index as usize])?;
        }
        self.verify_empty_parcels(touched - full)
    }

    fn verify_chain(&self, owner: u32, expected: u32) -> Result<(), ArenaError> {
        let (mut next, mut before, mut length) = (self.entry(owner)?.owned.load(Relaxed), NONE, 0);
        while next != NONE {
            let entry = self.chained(next, owner)?;
            require(entry.previous.load(Relaxed) == before, || format!("parcel {next} has the wrong neighbour"))?;
            length += 1;
            require(length <= expected, || format!("the parcels in block {owner} run in a circle"))?;
            before = next;
            next = entry.next.load(Relaxed);
        }
        require(length == expected, || format!("block {owner} lists {length} parcels, in it lie {expected}"))
    }

    fn verify_empty_parcels(&self, expected: u32) -> Result<(), ArenaError> {
        let (mut next, mut length) = (self.first().parcels_free.load(Relaxed), 0);
        while next != NONE {
            let entry = self.meta.parcel(next).map_err(|_| ArenaError::damaged("the list of empty parcels"))?;
            require(sender_of(entry).is_none(), || format!("full parcel {next} is listed as empty"))?;
            length += 1;
            require(length <= expected, || "the list of empty parcels runs in a circle".to_owned())?;
            next = entry.next.load(Relaxed);
        }
        require(length == expected, || format!("{expected} parcels are empty, {length} are listed"))
    }

    fn binned(&self) -> Result<Vec<u32>, ArenaError> {
        let mut all = Vec::new();
        for state in [State::Warm, State::Fresh] {
            for class in 0..CLASSES {
                for index in self.in_bin(state, class) {
                    all.push(index?);
                }
            }
        }
        Ok(all)
    }
}

fn require(holds: bool, what: impl FnOnce() -> String) -> Result<(), ArenaError> {
    if holds { Ok(()) } else { Err(ArenaError::damaged(what())) }
}
