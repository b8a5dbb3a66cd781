//! Figures of an arena.

use std::sync::atomic::Ordering::Relaxed;

use crate::heap::Heap;
use crate::layout::ArenaId;
use crate::slots::Slots;

/// What an arena holds at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The arena.
    pub id: ArenaId,
    /// Bytes of memory it may have.
    pub limit: u64,
    /// Bytes of blocks.
    pub used_bytes: u64,
    /// Bytes of freed memory kept for the next block.
    pub warm_bytes: u64,
    /// Bytes that freed memory may take up.
    pub warm_budget: u64,
    /// Bytes that passed the budget check and have no memory behind them yet.
    pub promised_bytes: u64,
    /// Blocks.
    pub blocks: u32,
    /// Handles in flight or in containers.
    pub parcels: u32,
    /// Processes as (slot, pid, lives).
    pub members: Vec<(u32, u32, bool)>,
}

impl Heap<'_> {
    pub(crate) fn stats(&self) -> Stats {
        let first = self.first();
        Stats {
            id: self.meta.id(),
            limit: first.limit.load(Relaxed),
            used_bytes: first.used_bytes.load(Relaxed),
            warm_bytes: first.warm_bytes.load(Relaxed),
            warm_budget: first.warm_budget.load(Relaxed),
            promised_bytes: Slots { meta: self.meta, data: self.data }.promised(),
            blocks: first.used_blocks.load(Relaxed),
            parcels: first.parcels_full.load(Relaxed),
            members: Slots { meta: self.meta, data: self.data }.members(self.me.slot()),
        }
    }
}
