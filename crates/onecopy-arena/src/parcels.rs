//! References to blocks that no process has: a parcel keeps its block alive until it is received or discarded, or until
//! the block that it lies in is freed.

use std::sync::atomic::Ordering::Relaxed;

use onecopy_sync::{Owners, Tag};

use crate::ArenaError;
use crate::door::{AtomicU32, crash_point};
use crate::heap::Heap;
use crate::layout::{NONE, ParcelEntry};
use crate::meta::BlockId;
use crate::slots::{Slots, Viewer};

/// Names a parcel for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ParcelId {
    /// Entry in the table of parcels.
    pub index: u32,
    /// How often the entry has been used.
    pub sequence: u32,
}

/// A parcel that lies in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// The parcel.
    pub parcel: ParcelId,
    /// The block that it keeps alive.
    pub block: BlockId,
    /// Whether the process that posted it lives.
    pub sender_lives: bool,
}

pub(crate) fn sequence_of(entry: &ParcelEntry) -> u32 {
    entry.word.sequence()
}

/// The tag of the sender; none where the parcel is empty.
pub(crate) fn sender_of(entry: &ParcelEntry) -> Option<Tag> {
    entry.word.sender()
}

pub(crate) fn block_of(entry: &ParcelEntry) -> BlockId {
    BlockId { index: entry.block.load(Relaxed), generation: entry.generation.load(Relaxed) }
}

/// The block that a full parcel lies in.
pub(crate) fn owner_of(entry: &ParcelEntry) -> Option<BlockId> {
    let index = entry.owner.load(Relaxed);
    (index != NONE).then(|| BlockId { index, generation: entry.owner_generation.load(Relaxed) })
}

fn add_one(counter: &AtomicU32) {
    counter.store(counter.load(Relaxed).saturating_add(1), Relaxed);
}

fn subtract_one(counter: &AtomicU32) {
    counter.store(counter.load(Relaxed).saturating_sub(1), Relaxed);
}

impl Heap<'_> {
    /// Makes a parcel of a block that the caller holds. It lies in `owner`, which the caller holds too, or in a channel
    /// that the arena knows nothing of.
    pub(crate) fn post(&self, block: BlockId, owner: Option<BlockId>) -> Result<ParcelId, ArenaError> {
        let target = self.block(block)?;
        if let Some(owner) = owner {
            self.block(owner)?;
        }
        let index = self.new_parcel()?;
        let entry = self.meta.parcel(index)?;
        entry.block.store(block.index, Relaxed);
        entry.generation.store(block.generation, Relaxed);
        entry.owner.store(owner.map_or(NONE, |owner| owner.index), Relaxed);
        entry.owner_generation.store(owner.map_or(0, |owner| owner.generation), Relaxed);
        let sequence = entry.word.fill(self.me);
        add_one(&target.parcels);
        add_one(&self.first().parcels_full);
        if let Some(owner) = owner {
            crash_point!("post.counted");
            self.link(index, owner.index)?;
            crash_point!("post.chained");
        }
        Ok(ParcelId { index, sequence })
    }

    fn full_parcel(&self, parcel: ParcelId) -> Result<Option<&ParcelEntry>, ArenaError> {
        let entry = self.meta.parcel(parcel.index)?;
        Ok(entry.word.is(parcel.sequence).then_some(entry))
    }

    /// Whether a parcel is still in flight and of this block.
    pub(crate) fn parcel_is(&self, parcel: ParcelId, block: BlockId) -> Result<bool, ArenaError> {
        Ok(self.full_parcel(parcel)?.is_some_and(|entry| block_of(entry) == block))
    }

    /// Empties a parcel if it is still full; answers which block it was of. The caller holds that block or asks
    /// whether it has become garbage.
    pub(crate) fn unpost(&self, parcel: ParcelId) -> Result<Option<BlockId>, ArenaError> {
        let Some(entry) = self.full_parcel(parcel)? else { return Ok(None) };
        let block = block_of(entry);
        if let Some(owner) = owner_of(entry) {
            self.unlink(entry, owner.index)?;
            crash_point!("unpost.unchained");
        }
        entry.word.empty();
        if let Ok(target) = self.block(block) {
            subtract_one(&target.parcels);
        }
        subtract_one(&self.first().parcels_full);
        crash_point!("unpost.counted");
        self.push_empty(parcel.index, entry);
        crash_point!("unpost.listed");
        Ok(Some(block))
    }

    /// As [`unpost`](Self::unpost), whichever parcel there is.
    pub(crate) fn unpost_at(&self, index: u32) -> Result<Option<BlockId>, ArenaError> {
        self.unpost(ParcelId { index, sequence: sequence_of(self.meta.parcel(index)?) })
    }

    /// Empties all parcels that lie in a block; adds the blocks that they were of to `referred`.
    pub(crate) fn drop_owned(&self, owner: u32, referred: &mut Vec<u32>) -> Result<(), ArenaError> {
        loop {
            let head = self.entry(owner)?.owned.load(Relaxed);
            if head == NONE {
                return Ok(());
            }
            // Each turn empties a full parcel, so that even a damaged chain ends.
            let entry = self.chained(head, owner)?;
            let parcel = ParcelId { index: head, sequence: sequence_of(entry) };
            referred.extend(self.unpost(parcel)?.map(|block| block.index));
        }
    }

    /// The parcels that lie in a block, newest first.
    pub(crate) fn owned(&self, owner: BlockId) -> Result<Vec<Owned>, ArenaError> {
        let viewer = Viewer { slots: Slots { meta: self.meta, data: self.data }, me: self.me };
        self.block(owner)?;
        let mut all = Vec::new();
        self.each_owned(owner.index, |index, entry| {
            let sender_lives = sender_of(entry).is_some_and(|tag| tag == self.me || viewer.is_alive(tag));
            let parcel = ParcelId { index, sequence: sequence_of(entry) };
            all.push(Owned { parcel, block: block_of(entry), sender_lives });
        })?;
        Ok(all)
    }

    /// Shows the parcels that lie in a block.
    pub(crate) fn each_owned(&self, owner: u32, mut show: impl FnMut(u32, &ParcelEntry)) -> Result<(), ArenaError> {
        let mut next = self.entry(owner)?.owned.load(Relaxed);
        for _ in 0..self.meta.geometry().parcels {
            if next == NONE {
                return Ok(());
            }
            let entry = self.chained(next, owner)?;
            show(next, entry);
            next = entry.next.load(Relaxed);
        }
        Err(self.damaged(format!("the parcels in block {owner} run in a circle")))
    }

    // --- chains and the list of empty parcels ---

    /// The parcel at a link of the chain of `owner`.
    pub(crate) fn chained(&self, index: u32, owner: u32) -> Result<&ParcelEntry, ArenaError> {
        let entry = self.meta.parcel(index).ok();
        entry
            .filter(|entry| sender_of(entry).is_some() && entry.owner.load(Relaxed) == owner)
            .ok_or_else(|| self.damaged(format!("parcel {index} is linked to block {owner} but not its own")))
    }

    fn link(&self, index: u32, owner: u32) -> Result<(), ArenaError> {
        let (entry, head) = (self.meta.parcel(index)?, &self.entry(owner)?.owned);
        let next = head.load(Relaxed);
        entry.previous.store(NONE, Relaxed);
        entry.next.store(next, Relaxed);
        if next != NONE {
            self.chained(next, owner)?.previous.store(index, Relaxed);
        }
        head.store(index, Relaxed);
        Ok(())
    }

    fn unlink(&self, entry: &ParcelEntry, owner: u32) -> Result<(), ArenaError> {
        let (previous, next) = (entry.previous.load(Relaxed), entry.next.load(Relaxed));
        if next != NONE {
            self.chained(next, owner)?.previous.store(previous, Relaxed);
        }
        match previous {
            NONE => self.entry(owner)?.owned.store(next, Relaxed),
            previous => self.chained(previous, owner)?.next.store(next, Relaxed),
        }
        Ok(())
    }

    fn push_empty(&self, index: u32, entry: &ParcelEntry) {
        entry.next.store(self.first().parcels_free.load(Relaxed), Relaxed);
        self.first().parcels_free.store(index, Relaxed);
    }

    fn new_parcel(&self) -> Result<u32, ArenaError> {
        let first = self.first();
        let free = first.parcels_free.load(Relaxed);
        if free != NONE {
            let entry = self.meta.parcel(free).ok().filter(|entry| sender_of(entry).is_none());
            let entry = entry.ok_or_else(|| self.damaged("the list of empty parcels"))?;
            first.parcels_free.store(entry.next.load(Relaxed), Relaxed);
            crash_point!("parcel.taken");
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
        crash_point!("parcel.touched");
        Ok(index)
    }

    /// Rebuilds counts, chains and the list of empty parcels from the parcels themselves; empties those whose block or
    /// owner is gone.
    pub(crate) fn recount_parcels(&self) -> Result<(), ArenaError> {
        let first = self.first();
        for index in 0..first.entries_touched.load(Relaxed) {
            let entry = self.entry(index)?;
            entry.parcels.store(0, Relaxed);
            entry.owned.store(NONE, Relaxed);
        }
        crash_point!("recover.uncounted");
        let touched = first.parcels_touched.load(Relaxed).min(self.meta.geometry().parcels);
        first.parcels_free.store(NONE, Relaxed);
        first.parcels_full.store(0, Relaxed);
        let mut kept = 0;
        for index in (0..touched).rev() {
            let entry = self.meta.parcel(index)?;
            let target = self.block(block_of(entry));
            let owner_lives = owner_of(entry).is_none_or(|owner| self.block(owner).is_ok());
            match target {
                Ok(target) if sender_of(entry).is_some() && owner_lives => {
                    kept = kept.max(index + 1);
                    add_one(&target.parcels);
                    add_one(&first.parcels_full);
                    if let Some(owner) = owner_of(entry) {
                        self.link(index, owner.index)?;
                    }
                }
                _ => {
                    entry.word.empty();
                    crash_point!("recover.emptied");
                    if index < kept {
                        self.push_empty(index, entry);
                    }
                }
            }
        }
        first.parcels_touched.store(kept, Relaxed);
        Ok(())
    }
}
