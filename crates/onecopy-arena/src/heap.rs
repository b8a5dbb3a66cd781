//! Extents: which parts of the data area are used, warm and fresh.
//!
//! A [`Heap`] exists only while the heap lock is held. It keeps the tiling of the data area (neighbour links), the free
//! extents in size classes and the counters; all of these are caches of the used entries (see `recovery`). Links come
//! from shared memory, so each is checked before it is followed.

use std::sync::atomic::{Ordering::Relaxed, Ordering::Release};

use onecopy_os::page_size;
use onecopy_sync::{Acquired, Guard, Tag};

use crate::ArenaError;
use crate::block_life::Life;
pub(crate) use crate::block_life::State;
use crate::data::Data;
use crate::door::{AtomicU32, AtomicU64, crash_point};
use crate::layout::{BlockEntry, CLASSES, GRAIN, NONE, Superblock};
use crate::meta::{BlockId, Meta};
use crate::slots::{Roll, Slots, Viewer};

/// Handed out read-only for ever.
pub(crate) const SEALED: u32 = 1;
/// Being filled by `write_through`: only the first `len` bytes are accounted for, and its pages go back when it is
/// freed.
pub(crate) const DRAFT: u32 = 2;
/// Warm memory, taken out of circulation, that its holder is giving back to the system.
pub(crate) const LEAVING: u32 = 4;

pub(crate) fn state_of(entry: &BlockEntry) -> State {
    State::load(&entry.state)
}

/// Bytes of memory that a used entry accounts for.
pub(crate) fn committed_of(entry: &BlockEntry) -> u64 {
    let counted = if entry.flags.load(Relaxed) & DRAFT == 0 { &entry.size } else { &entry.len };
    counted.load(Relaxed)
}

/// Size class of a size: four per power of two, counted in grains.
pub(crate) fn class_of(size: u64) -> usize {
    let grains = (size / GRAIN).max(1);
    let power = grains.ilog2();
    let quarter = if power >= 2 { grains >> (power - 2) } else { grains << (2 - power) } & 3;
    (power as usize * 4 + quarter as usize).min(CLASSES - 1)
}

pub(crate) fn add(counter: &AtomicU64, bytes: u64) {
    counter.store(counter.load(Relaxed).saturating_add(bytes), Relaxed);
}

pub(crate) fn subtract(counter: &AtomicU64, bytes: u64) {
    counter.store(counter.load(Relaxed).saturating_sub(bytes), Relaxed);
}

fn count(counter: &AtomicU32, change: i32) {
    counter.store(counter.load(Relaxed).saturating_add_signed(change), Relaxed);
}

/// The tables of extents, under the heap lock.
pub(crate) struct Heap<'a> {
    pub(crate) meta: &'a Meta,
    pub(crate) data: &'a Data,
    pub(crate) me: Tag,
    _guard: Guard<'a>,
}

impl<'a> Heap<'a> {
    /// Takes the heap lock; repairs the heap if the last owner died with it, or found it damaged.
    pub(crate) fn lock(meta: &'a Meta, data: &'a Data, me: Tag) -> Result<Self, ArenaError> {
        let viewer = Viewer { slots: Slots { meta, data }, me };
        let first = meta.superblock();
        let guard = match first.heap_lock.lock(&viewer) {
            Acquired::Clean(guard) => guard,
            Acquired::OwnerDied(guard) => {
                // Written down, as the repair may be cut short in its turn.
                first.disorder.store(1, Relaxed);
                crash_point!("lock.inherited");
                guard
            }
        };
        let heap = Self { meta, data, me, _guard: guard };
        if first.disorder.load(Relaxed) != 0 {
            heap.recover()?;
            // SYNC POINT: the caches are whole before this says so.
            first.disorder.store(0, Release);
            crash_point!("recover.done");
        }
        Ok(heap)
    }

    /// The error for tables that contradict themselves. The next that takes the lock rebuilds the caches, so that only
    /// damage of the truth stays.
    pub(crate) fn damaged(&self, what: impl Into<String>) -> ArenaError {
        self.first().disorder.store(1, Relaxed);
        ArenaError::damaged(what)
    }

    pub(crate) fn first(&self) -> &Superblock {
        self.meta.superblock()
    }

    /// The tables as others may see them too.
    pub(crate) fn roll(&self) -> Roll<'_> {
        Roll { meta: self.meta, lock_file: self.data.lock_file(), own: self.me.slot() }
    }

    pub(crate) fn entry(&self, index: u32) -> Result<&BlockEntry, ArenaError> {
        self.meta.block(index).map_err(|_| self.damaged(format!("link to block {index}")))
    }

    pub(crate) fn life(&self, index: u32) -> Result<Life<'_>, ArenaError> {
        Ok(self.meta.life(index, self.entry(index)?))
    }

    /// Offset and size of an entry's extent, which lies in the data area; each is read once.
    pub(crate) fn span(&self, index: u32) -> Result<(u64, u64), ArenaError> {
        let entry = self.entry(index)?;
        let (offset, size) = (entry.offset.load(Relaxed), entry.size.load(Relaxed));
        let capacity = self.meta.geometry().capacity;
        if offset.checked_add(size).is_some_and(|end| end <= capacity) {
            Ok((offset, size))
        } else {
            Err(self.damaged(format!("extent {index} spans {offset} + {size} of {capacity}")))
        }
    }

    /// Makes the whole data area one fresh extent.
    pub(crate) fn format(&self) -> Result<(), ArenaError> {
        for bin in self.first().bins.iter().flatten() {
            bin.store(NONE, Relaxed);
        }
        let whole = self.new_entry()?;
        let entry = self.entry(whole)?;
        entry.offset.store(0, Relaxed);
        entry.size.store(self.meta.geometry().capacity, Relaxed);
        entry.before.store(NONE, Relaxed);
        entry.after.store(NONE, Relaxed);
        self.set_free(whole, State::Fresh)
    }

    // --- entries ---

    pub(crate) fn new_entry(&self) -> Result<u32, ArenaError> {
        let first = self.first();
        let free = first.entries_free.load(Relaxed);
        if free != NONE {
            let entry = self.entry(free)?;
            if state_of(entry) != State::Unused {
                return Err(self.damaged(format!("extent {free} is listed as unused")));
            }
            first.entries_free.store(entry.bin_next.load(Relaxed), Relaxed);
            crash_point!("entry.taken");
            return Ok(free);
        }
        let index = first.entries_touched.load(Relaxed);
        if index >= self.meta.geometry().blocks {
            return Err(self.table_full());
        }
        first.entries_touched.store(index + 1, Relaxed);
        crash_point!("entry.touched");
        Ok(index)
    }

    fn table_full(&self) -> ArenaError {
        ArenaError::TableFull {
            what: "blocks",
            capacity: self.meta.geometry().blocks,
            way_out: "drop some arrays or put many small ones into one",
        }
    }

    /// Refuses where fewer than `count` entries are left: asked before anything is changed that would need them.
    pub(crate) fn require_entries(&self, count: u32) -> Result<(), ArenaError> {
        let first = self.first();
        let mut left = self.meta.geometry().blocks.saturating_sub(first.entries_touched.load(Relaxed));
        let mut next = first.entries_free.load(Relaxed);
        while left < count && next != NONE {
            left += 1;
            next = self.entry(next)?.bin_next.load(Relaxed);
        }
        if left < count { Err(self.table_full()) } else { Ok(()) }
    }

    pub(crate) fn drop_entry(&self, index: u32) -> Result<(), ArenaError> {
        let entry = self.entry(index)?;
        entry.state.store(State::Unused as u32, Relaxed);
        entry.bin_next.store(self.first().entries_free.load(Relaxed), Relaxed);
        crash_point!("entry.emptied");
        self.first().entries_free.store(index, Relaxed);
        crash_point!("entry.dropped");
        Ok(())
    }

    // --- bins ---

    fn bin(&self, state: State, size: u64) -> &AtomicU32 {
        &self.first().bins[usize::from(state == State::Fresh)][class_of(size)]
    }

    pub(crate) fn bin_insert(&self, index: u32, state: State) -> Result<(), ArenaError> {
        let entry = self.entry(index)?;
        let size = entry.size.load(Relaxed);
        let head = self.bin(state, size);
        let next = head.load(Relaxed);
        entry.bin_previous.store(NONE, Relaxed);
        entry.bin_next.store(next, Relaxed);
        if next != NONE {
            self.entry(next)?.bin_previous.store(index, Relaxed);
        }
        crash_point!("bin.linked");
        head.store(index, Relaxed);
        crash_point!("bin.headed");
        entry.state.store(state as u32, Relaxed);
        crash_point!("bin.inserted");
        if state == State::Warm {
            add(&self.first().warm_bytes, size);
            crash_point!("bin.counted");
        }
        Ok(())
    }

    fn bin_remove(&self, index: u32) -> Result<(), ArenaError> {
        let entry = self.entry(index)?;
        let (state, size) = (state_of(entry), entry.size.load(Relaxed));
        let (previous, next) = (entry.bin_previous.load(Relaxed), entry.bin_next.load(Relaxed));
        if previous == NONE {
            self.bin(state, size).store(next, Relaxed);
        } else {
            self.entry(previous)?.bin_next.store(next, Relaxed);
        }
        crash_point!("bin.bypassed");
        if next != NONE {
            self.entry(next)?.bin_previous.store(previous, Relaxed);
        }
        if state == State::Warm {
            subtract(&self.first().warm_bytes, size);
        }
        crash_point!("bin.discounted");
        // In no bin, it must not look like a free neighbour that could be swallowed.
        entry.state.store(State::Unused as u32, Relaxed);
        crash_point!("bin.removed");
        Ok(())
    }

    /// The extents of one bin, from its head.
    pub(crate) fn in_bin(&self, state: State, class: usize) -> impl Iterator<Item = Result<u32, ArenaError>> {
        let mut next = self.first().bins[usize::from(state == State::Fresh)][class].load(Relaxed);
        let mut left = self.meta.geometry().blocks;
        std::iter::from_fn(move || {
            if next == NONE {
                return None;
            }
            let index = next;
            let Ok(entry) = self.entry(index) else { return Some(Err(self.damaged("a bin's link"))) };
            next = entry.bin_next.load(Relaxed);
            left = left.saturating_sub(1);
            Some(if left > 0 && state_of(entry) == state { Ok(index) } else { Err(self.damaged("a bin")) })
        })
    }

    fn find(&self, state: State, size: u64) -> Result<Option<u32>, ArenaError> {
        // Every extent of a higher class is large enough; in the class of the size itself each must be asked. A freed
        // block is asked for again at the same size more often than not, so that class is asked first.
        let own = class_of(size);
        for index in self.in_bin(state, own) {
            let index = index?;
            if self.entry(index)?.size.load(Relaxed) >= size {
                return Ok(Some(index));
            }
        }
        (own + 1..CLASSES).find_map(|class| self.in_bin(state, class).next()).transpose()
    }

    /// The largest free extent of a state.
    pub(crate) fn largest(&self, state: State) -> Result<Option<(u32, u64)>, ArenaError> {
        let Some(class) = (0..CLASSES).rev().find(|&class| self.in_bin(state, class).next().is_some()) else {
            return Ok(None);
        };
        let mut best = None;
        for index in self.in_bin(state, class) {
            let index = index?;
            let size = self.entry(index)?.size.load(Relaxed);
            if best.is_none_or(|(_, most)| size > most) {
                best = Some((index, size));
            }
        }
        Ok(best)
    }

    // --- tiling ---

    /// Cuts an extent that is in no bin; answers the new entry of what lies behind the cut, in no bin either.
    fn split(&self, index: u32, size: u64) -> Result<u32, ArenaError> {
        let rest = self.new_entry()?;
        let (entry, tail) = (self.entry(index)?, self.entry(rest)?);
        let ((offset, whole), after) = (self.span(index)?, entry.after.load(Relaxed));
        if size == 0 || size >= whole {
            return Err(self.damaged(format!("extent {index} is cut at {size} of {whole}")));
        }
        tail.offset.store(offset + size, Relaxed);
        tail.size.store(whole - size, Relaxed);
        tail.before.store(index, Relaxed);
        tail.after.store(after, Relaxed);
        crash_point!("split.described");
        if after != NONE {
            self.entry(after)?.before.store(rest, Relaxed);
        }
        entry.after.store(rest, Relaxed);
        crash_point!("split.linked");
        entry.size.store(size, Relaxed);
        crash_point!("split.cut");
        Ok(rest)
    }

    /// Makes an extent that is in no bin free, together with its free neighbours of the same state.
    pub(crate) fn set_free(&self, index: u32, state: State) -> Result<(), ArenaError> {
        let mut index = index;
        let before = self.entry(index)?.before.load(Relaxed);
        if before != NONE && state_of(self.entry(before)?) == state {
            self.bin_remove(before)?;
            self.swallow_after(before)?;
            index = before;
        }
        let after = self.entry(index)?.after.load(Relaxed);
        if after != NONE && state_of(self.entry(after)?) == state {
            self.bin_remove(after)?;
            self.swallow_after(index)?;
        }
        self.bin_insert(index, state)
    }

    fn swallow_after(&self, index: u32) -> Result<(), ArenaError> {
        let entry = self.entry(index)?;
        let gone = entry.after.load(Relaxed);
        let swallowed = self.entry(gone)?;
        let after = swallowed.after.load(Relaxed);
        add(&entry.size, swallowed.size.load(Relaxed));
        crash_point!("swallow.grown");
        entry.after.store(after, Relaxed);
        if after != NONE {
            self.entry(after)?.before.store(index, Relaxed);
        }
        crash_point!("swallow.linked");
        self.drop_entry(gone)
    }

    // --- what the arena asks for ---

    /// Takes `size` bytes out of the free extents of a state; the extent is then in no bin and must be used or freed
    /// before the lock goes.
    pub(crate) fn take(&self, state: State, size: u64) -> Result<Option<u32>, ArenaError> {
        let Some(index) = self.find(state, size)? else { return Ok(None) };
        if self.entry(index)?.size.load(Relaxed) > size {
            self.require_entries(1)?;
        }
        self.bin_remove(index)?;
        self.cut(index, size, state)?;
        Ok(Some(index))
    }

    /// As [`take`](Self::take), from a multiple of `unit` on, which is more than a grain; none where there is no room for
    /// that.
    pub(crate) fn take_aligned(&self, state: State, size: u64, unit: u64) -> Result<Option<u32>, ArenaError> {
        self.require_entries(3)?;
        let Some(mut index) = self.take(state, size.saturating_add(unit))? else { return Ok(None) };
        let (offset, _) = self.span(index)?;
        let lead = offset.next_multiple_of(unit) - offset;
        if lead > 0 {
            let behind = self.split(index, lead)?;
            self.set_free(index, state)?;
            index = behind;
        }
        self.cut(index, size, state)?;
        Ok(Some(index))
    }

    /// Takes the largest warm extent, if it has `least` bytes, and the fresh one behind it, if they have `size` bytes
    /// together, up to `most`; answers how many bytes are warm.
    pub(crate) fn take_mixed(&self, least: u64, size: u64, most: u64) -> Result<Option<(u32, u64)>, ArenaError> {
        let page = page_size() as u64;
        let Some((index, warm)) = self.largest(State::Warm)?.filter(|&(_, warm)| (least..size).contains(&warm)) else {
            return Ok(None);
        };
        let entry = self.entry(index)?;
        let next = entry.after.load(Relaxed);
        if next == NONE || !entry.offset.load(Relaxed).is_multiple_of(page) {
            return Ok(None);
        }
        let behind = self.entry(next)?;
        if state_of(behind) != State::Fresh || behind.size.load(Relaxed) < size - warm {
            return Ok(None);
        }
        self.bin_remove(index)?;
        self.bin_remove(next)?;
        self.swallow_after(index)?;
        self.cut(index, most, State::Fresh)?;
        Ok(Some((index, warm)))
    }

    /// Cuts an extent that is in no bin to `size` and frees the rest.
    pub(crate) fn cut(&self, index: u32, size: u64, rest_state: State) -> Result<(), ArenaError> {
        if self.entry(index)?.size.load(Relaxed) > size {
            let rest = self.split(index, size)?;
            self.set_free(rest, rest_state)?;
        }
        Ok(())
    }

    /// Makes a taken extent a block that `self.me` holds.
    pub(crate) fn publish(&self, index: u32, len: u64, flags: u32) -> Result<BlockId, ArenaError> {
        let entry = self.entry(index)?;
        entry.len.store(len, Relaxed);
        entry.flags.store(flags, Relaxed);
        entry.owned.store(NONE, Relaxed);
        let generation = self.life(index)?.begin(self.me.slot());
        add(&self.first().used_bytes, committed_of(entry));
        count(&self.first().used_blocks, 1);
        crash_point!("publish.counted");
        Ok(BlockId { index, generation })
    }

    /// The entry of a block that still is the one named.
    pub(crate) fn block(&self, id: BlockId) -> Result<&BlockEntry, ArenaError> {
        let entry = self.meta.block(id.index)?;
        if self.meta.life(id.index, entry).is(id.generation) {
            Ok(entry)
        } else {
            Err(ArenaError::Stale { block: id.index, generation: id.generation })
        }
    }

    /// Ends a block; its extent becomes free in the given state.
    pub(crate) fn retire(&self, index: u32, state: State) -> Result<(), ArenaError> {
        let entry = self.entry(index)?;
        subtract(&self.first().used_bytes, committed_of(entry));
        count(&self.first().used_blocks, -1);
        crash_point!("retire.discounted");
        self.life(index)?.end();
        self.set_free(index, state)
    }

    /// Takes a warm extent of at most about `bytes` out of circulation, as a block of this process without contents, so
    /// that its pages can be given back without holding the lock. What is not on whole pages stays warm.
    pub(crate) fn borrow_warm(&self, bytes: u64) -> Result<Option<(BlockId, u64, u64)>, ArenaError> {
        let page = page_size() as u64;
        let Some((index, _)) = self.largest(State::Warm)? else { return Ok(None) };
        let (offset, size) = self.span(index)?;
        let (start, end) = (offset.next_multiple_of(page), (offset + size) / page * page);
        if start >= end {
            return Ok(None);
        }
        self.require_entries(2)?;
        // From the end: what lies lower stays in one piece with its neighbours for the longest.
        let start = start.max(end.saturating_sub(bytes) / page * page);
        self.bin_remove(index)?;
        let mut middle = index;
        if start > offset {
            middle = self.split(index, start - offset)?;
            self.bin_insert(index, State::Warm)?;
        }
        self.cut(middle, end - start, State::Warm)?;
        // As a draft: should this process die half way, part of it has no memory any more, and must not be warm again.
        Ok(Some((self.publish(middle, end - start, DRAFT | LEAVING)?, start, end - start)))
    }

    /// Says that all of a block's memory is there: freed, it is warm from here on.
    pub(crate) fn complete(&self, id: BlockId, len: u64) -> Result<(), ArenaError> {
        let entry = self.block(id)?;
        // The length last: of a draft it says what is accounted for.
        entry.flags.store(entry.flags.load(Relaxed) & !(DRAFT | LEAVING), Relaxed);
        crash_point!("complete.flagged");
        entry.len.store(len, Relaxed);
        Ok(())
    }

    /// Puts back what `borrow_warm` took, now without memory.
    pub(crate) fn return_fresh(&self, id: BlockId) -> Result<(), ArenaError> {
        self.block(id)?;
        self.life(id.index)?.let_go(self.me.slot());
        self.retire(id.index, State::Fresh)
    }

    /// Makes a draft a block of `len` bytes in `size`. What it loses becomes free: warm as far as its first `warm`
    /// bytes, fresh behind them.
    pub(crate) fn shrink(&self, id: BlockId, len: u64, size: u64, warm: u64) -> Result<(), ArenaError> {
        let entry = self.block(id)?;
        self.require_entries(2)?;
        subtract(&self.first().used_bytes, committed_of(entry));
        // First: no entry may ever be shorter than its length.
        entry.len.store(len, Relaxed);
        crash_point!("shrink.measured");
        self.cut(id.index, size.max(warm), State::Fresh)?;
        self.cut(id.index, size, State::Warm)?;
        entry.flags.store(entry.flags.load(Relaxed) & !DRAFT, Relaxed);
        crash_point!("shrink.finished");
        add(&self.first().used_bytes, committed_of(entry));
        Ok(())
    }
}

impl Drop for Heap<'_> {
    fn drop(&mut self) {
        // A panic between two steps is to the tables what a death is.
        if std::thread::panicking() {
            self.first().disorder.store(1, Relaxed);
        }
    }
}
