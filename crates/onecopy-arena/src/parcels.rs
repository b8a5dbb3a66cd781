//! Handles in flight: a parcel keeps its block alive until it is received, and is received once.

use std::sync::atomic::Ordering::Relaxed;

use crate::ArenaError;
use crate::heap::Heap;
use crate::layout::{NONE, ParcelEntry};
use crate::meta::BlockId;

const FULL: u32 = 1;

/// Names a parcel for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParcelId {
    /// Entry in the table of parcels.
    pub index: u32,
    /// How often the entry has been used.
    pub sequence: u32,
}

fn pack(sequence: u32, state: u32) -> u64 {
    u64::from(sequence) << 32 | u64::from(state)
}

fn sequence_of(entry: &ParcelEntry) -> u32 {
    (entry.word.load(Relaxed) >> 32) as u32
}

fn is_full(entry: &ParcelEntry) -> bool {
    entry.word.load(Relaxed) as u32 == FULL
}

fn block_of(entry: &ParcelEntry) -> BlockId {
    BlockId { index: entry.block.load(Relaxed), generation: entry.generation.load(Relaxed) }
}

impl Heap<'_> {
    /// Makes a parcel of a block that the caller holds.
    pub(crate) fn post(&self, block: BlockId) -> Result<ParcelId, ArenaError> {
        let holder = self.block(block)?;
        let index = self.new_parcel()?;
        let entry = self.meta.parcel(index)?;
        entry.block.store(block.index, Relaxed);
        entry.generation.store(block.generation, Relaxed);
        entry.sender.store(self.me.bits(), Relaxed);
        let sequence = sequence_of(entry);
        entry.word.store(pack(sequence, FULL), Relaxed);
        holder.parcels.store(holder.parcels.load(Relaxed) + 1, Relaxed);
        self.first().parcels_full.store(self.first().parcels_full.load(Relaxed).saturating_add(1), Relaxed);
        Ok(ParcelId { index, sequence })
    }

    /// Whether a parcel is still in flight and of this block.
    pub(crate) fn parcel_is(&self, parcel: ParcelId, block: BlockId) -> Result<bool, ArenaError> {
        let entry = self.meta.parcel(parcel.index)?;
        Ok(is_full(entry) && sequence_of(entry) == parcel.sequence && block_of(entry) == block)
    }

    /// Takes a parcel out of flight. The caller has made sure that `parcel_is`, and holds the block if it shall live
    /// on.
    pub(crate) fn unpost(&self, parcel: ParcelId) -> Result<(), ArenaError> {
        let entry = self.meta.parcel(parcel.index)?;
        let block = self.entry(block_of(entry).index)?;
        entry.word.store(pack(parcel.sequence.wrapping_add(1), 0), Relaxed);
        block.parcels.store(block.parcels.load(Relaxed).saturating_sub(1), Relaxed);
        self.first().parcels_full.store(self.first().parcels_full.load(Relaxed).saturating_sub(1), Relaxed);
        entry.next_free.store(self.first().parcels_free.load(Relaxed), Relaxed);
        self.first().parcels_free.store(parcel.index, Relaxed);
        Ok(())
    }

    fn new_parcel(&self) -> Result<u32, ArenaError> {
        let first = self.first();
        let free = first.parcels_free.load(Relaxed);
        if free != NONE {
            let entry = self.meta.parcel(free).map_err(|_| ArenaError::damaged("the list of free parcels"))?;
            first.parcels_free.store(entry.next_free.load(Relaxed), Relaxed);
            return Ok(free);
        }
        let index = first.parcels_touched.load(Relaxed);
        if index >= self.meta.geometry().parcels {
            return Err(ArenaError::TableFull {
                what: "handles in flight",
                capacity: self.meta.geometry().parcels,
                way_out: "receive some, or send many arrays as views of one",
            });
        }
        first.parcels_touched.store(index + 1, Relaxed);
        Ok(index)
    }
}

/// Rebuilds the counts and the list of free parcels from the parcels themselves.
pub(crate) fn recount(heap: &Heap<'_>) -> Result<(), ArenaError> {
    let first = heap.first();
    for index in 0..first.entries_touched.load(Relaxed) {
        heap.entry(index)?.parcels.store(0, Relaxed);
    }
    let touched = first.parcels_touched.load(Relaxed).min(heap.meta.geometry().parcels);
    first.parcels_touched.store(touched, Relaxed);
    first.parcels_free.store(NONE, Relaxed);
    let mut full = 0;
    for index in (0..touched).rev() {
        let entry = heap.meta.parcel(index)?;
        if is_full(entry) {
            if let Ok(block) = heap.block(block_of(entry)) {
                block.parcels.store(block.parcels.load(Relaxed) + 1, Relaxed);
                full += 1;
                continue;
            }
            entry.word.store(pack(sequence_of(entry).wrapping_add(1), 0), Relaxed);
        }
        entry.next_free.store(first.parcels_free.load(Relaxed), Relaxed);
        first.parcels_free.store(index, Relaxed);
    }
    first.parcels_full.store(full, Relaxed);
    Ok(())
}
