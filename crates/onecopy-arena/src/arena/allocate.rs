//! Memory for blocks: recycled where there is some, else fresh; and giving it back.

use std::time::{Duration, Instant};

use onecopy_os::{ByteSize, crash_point, page_size};

use crate::ArenaError;
use crate::budget::{Promise, Shortage};
use crate::data::CHUNK;
use crate::heap::{DRAFT, Heap, State};
use crate::layout::GRAIN;
use crate::meta::BlockId;

use super::huge_pages::Pages;
use super::{Arena, Block, Contents, MOST_ADDRESSES, Relaxed, SMALL_COMMIT};

/// How long others that give memory back are waited for: it takes a tenth of a second per GiB, unless they are stopped.
const GIVING_BACK: Duration = Duration::from_secs(5);
/// How often it is asked whether they have.
const GLANCE: Duration = Duration::from_micros(200);

/// What a fresh extent is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fresh {
    /// A block that has all of its memory at once.
    Block(Pages),
    /// One that promises memory as it grows.
    Draft,
}

impl Arena {
    /// A block of `len` bytes with memory behind it.
    pub fn allocate(&'static self, len: u64) -> Result<(Block, Contents), ArenaError> {
        self.allocate_interruptibly(len, &mut || false)
    }

    /// As [`allocate`](Self::allocate), but asks every few MiB whether to stop; the error is then
    /// [`ArenaError::Interrupted`], and nothing is allocated.
    pub fn allocate_interruptibly(
        &'static self,
        len: u64,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<(Block, Contents), ArenaError> {
        self.allocate_on(len, Pages::Usual, stop)
    }

    pub(super) fn allocate_on(
        &'static self,
        len: u64,
        pages: Pages,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<(Block, Contents), ArenaError> {
        let size = self.extent_size_on(len, pages)?;
        if let Some(id) = self.take_warm(len, size)? {
            let block = self.hold(id, len, false)?;
            self.make_huge_pages(block.offset(), size, pages, stop)?;
            return Ok((block, Contents::Garbage));
        }
        let (id, promise) = self.take_fresh(len, size, Fresh::Block(pages))?;
        let block = self.hold(id, len, false)?;
        if let Some(promise) = promise {
            // Outside of the lock: making pages takes a tenth of a second per GiB. The block exists already, so a death
            // here leaves garbage, not a leak. Huge ones first, so that they are not copied together from small ones.
            self.make_huge_pages(block.offset(), size, pages, stop)?;
            self.make_pages(block.offset(), size, &promise, stop)?;
            crash_point!("allocate.reserved");
            self.heap()?.complete(id, len)?;
        }
        Ok((block, Contents::Zeros))
    }

    /// A block of `len` zeros with memory behind it. Its writable address is a multiple of 64 and stays the same in this
    /// process as long as the process holds the block.
    pub fn allocate_zeroed(&'static self, len: u64) -> Result<Block, ArenaError> {
        self.allocate_zeroed_interruptibly(len, &mut || false)
    }

    /// As [`allocate_zeroed`](Self::allocate_zeroed), with the question of
    /// [`allocate_interruptibly`](Self::allocate_interruptibly).
    pub fn allocate_zeroed_interruptibly(
        &'static self,
        len: u64,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Block, ArenaError> {
        let (block, contents) = self.allocate_interruptibly(len, stop)?;
        if contents == Contents::Garbage {
            block.zero_interruptibly(stop)?;
        }
        Ok(block)
    }

    /// Puts memory behind a range in steps, so that what is there already is not counted as promised as well; and because
    /// some kernels undo the whole of a reservation when a signal comes: under a fast timer one in a single call would
    /// never end.
    fn make_pages(
        &self,
        offset: u64,
        size: u64,
        promise: &Promise,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<(), ArenaError> {
        for (start, part) in self.data.shares(offset, size, CHUNK).concat() {
            if stop() {
                return Err(ArenaError::Interrupted);
            }
            self.data.reserve(offset + start, part).map_err(|error| self.data.refused(error, size))?;
            promise.keep(part);
        }
        Ok(())
    }

    pub(super) fn take_warm(&self, len: u64, size: u64) -> Result<Option<BlockId>, ArenaError> {
        let heap = self.heap()?;
        let Some(index) = heap.take(State::Warm, size)? else { return Ok(None) };
        heap.publish(index, len, 0).map(Some)
    }

    /// Takes a fresh extent after the budget check. Small ones have memory when this returns; for others it is
    /// promised, unless the block is a draft, which promises as it grows.
    pub(super) fn take_fresh(
        &'static self,
        len: u64,
        size: u64,
        purpose: Fresh,
    ) -> Result<(BlockId, Option<Promise>), ArenaError> {
        let draft = purpose == Fresh::Draft;
        let small = !draft && size <= SMALL_COMMIT;
        let commit = match (draft, small) {
            (true, _) => 0,
            (_, true) => SMALL_COMMIT,
            _ => size,
        };
        let extent = if small { SMALL_COMMIT } else { size };
        loop {
            let heap = self.heap_with_budget(commit, len)?;
            heap.require_entries(2)?;
            let Some(index) = self.fresh_extent(&heap, extent, purpose)? else {
                let largest = heap.largest(State::Fresh)?.map_or(0, |(_, size)| size);
                drop(heap);
                // Warm extents may lie between fresh ones: without them the addresses join.
                if self.give_back_some(u64::MAX)? == 0 {
                    return Err(self.no_addresses(len, largest));
                }
                continue;
            };
            if small {
                let (offset, whole) = heap.span(index)?;
                if let Err(error) = self.data.reserve(offset, whole) {
                    heap.set_free(index, State::Fresh)?;
                    return Err(self.data.refused(error, len));
                }
                crash_point!("allocate.reserved-small");
                heap.cut(index, size, State::Warm)?;
            }
            let promise = (!small && !draft).then(|| Promise::make(self, &heap, commit));
            // Memory that is still to come is accounted for, but part of it may be missing when the block is freed.
            let (len, flags) = match (draft, small) {
                (true, _) => (0, DRAFT),
                (_, true) => (len, 0),
                _ => (extent, DRAFT),
            };
            let id = heap.publish(index, len, flags)?;
            return Ok((id, promise));
        }
    }

    fn fresh_extent(&self, heap: &Heap<'_>, size: u64, purpose: Fresh) -> Result<Option<u32>, ArenaError> {
        if purpose == Fresh::Block(Pages::Huge)
            && let Some(unit) = self.data.huge_page_size()
            && let Some(index) = heap.take_aligned(State::Fresh, size, unit)?
        {
            return Ok(Some(index));
        }
        heap.take(State::Fresh, size)
    }

    /// Bytes of the extent for a block of `len` bytes: whole pages where a page is little beside it.
    pub(super) fn extent_size(&self, len: u64) -> Result<u64, ArenaError> {
        let grain = if len < SMALL_COMMIT { GRAIN } else { page_size() as u64 };
        let size = len.max(1).checked_next_multiple_of(grain).filter(|&size| size <= MOST_ADDRESSES);
        if let Some(size) = size {
            return Ok(size);
        }
        // No limit of an arena is as large as that: this says which one is the narrowest.
        let heap = self.heap_with_budget(len, len)?;
        let largest = heap.largest(State::Fresh)?.map_or(0, |(_, size)| size);
        Err(self.no_addresses(len, largest))
    }

    pub(super) fn no_addresses(&self, asked: u64, free: u64) -> ArenaError {
        let limit = self.meta.geometry().capacity;
        ArenaError::OutOfMemory {
            asked,
            free,
            limit,
            bound: format!("the arena's {} of addresses (in one piece)", ByteSize(limit)),
            way_out: "drop arrays that are not needed, or start the first process with a larger ONECOPY_LIMIT"
                .to_owned(),
        }
    }

    /// The heap, locked, at a moment when `bytes` may be committed; the dead and the warm are asked first, and memory that
    /// others are giving back is waited for.
    pub(super) fn heap_with_budget(&self, bytes: u64, asked: u64) -> Result<Heap<'_>, ArenaError> {
        // Warm memory that stands in the way of a soft limit only is worth one attempt.
        let mut spare_soft_limits = true;
        let mut others_until = None;
        loop {
            let heap = self.heap()?;
            heap.sweep()?;
            let warm = heap.first().warm_bytes.load(Relaxed);
            let shortage: Shortage = match heap.check_budget(bytes) {
                Ok(advised) if advised == 0 || warm == 0 || !spare_soft_limits => return Ok(heap),
                Ok(advised) => {
                    drop(heap);
                    spare_soft_limits = self.give_back_some(advised)? > 0;
                    continue;
                }
                Err(shortage) => shortage,
            };
            let leaving = heap.leaving()?;
            drop(heap);
            if warm >= shortage.deficit() {
                let given = self.give_back_some(shortage.deficit())?;
                if given == 0 && warm == self.meta.superblock().warm_bytes.load(Relaxed) {
                    // What is left of it shares pages with blocks. Otherwise somebody else was quicker.
                    return Err(shortage.into_error(asked, 0));
                }
            } else if warm.saturating_add(leaving) < shortage.deficit()
                || Instant::now() > *others_until.get_or_insert_with(|| Instant::now() + GIVING_BACK)
            {
                return Err(shortage.into_error(asked, warm));
            } else {
                // Nobody has any use for what lacks here, but its memory is not back yet.
                std::thread::sleep(GLANCE);
            }
        }
    }

    /// Takes back what a promise added to the slot. Without a slot, as after a fork that found none, there is nothing.
    pub(crate) fn take_promise_back(&self, bytes: u64) {
        if let Ok(me) = self.me() {
            let promised = &self.meta.slot(me.slot()).promised;
            // Saturating, as a damaged figure must not wrap to a promise of all there is.
            let _ = promised.fetch_update(Relaxed, Relaxed, |all| Some(all.saturating_sub(bytes)));
        }
    }

    /// Gives up to about `bytes` of one warm extent back to the system; answers how many it were.
    pub(super) fn give_back_some(&self, bytes: u64) -> Result<u64, ArenaError> {
        let Some((id, offset, len)) = self.heap()?.borrow_warm(bytes)? else { return Ok(0) };
        // Outside of the lock: freeing pages takes a tenth of a second per GiB.
        crash_point!("give-back.borrowed");
        let punched = self.data.punch(offset, len);
        crash_point!("give-back.punched");
        if punched.is_err() {
            // Warm again, if what has gone of it can be had back.
            let whole = self.data.reserve(offset, len);
            let heap = self.heap()?;
            if whole.is_ok() {
                heap.complete(id, len)?;
            }
            heap.meta.clear_holder(id.index, heap.me.slot());
            heap.free_if_garbage(id.index)?;
        } else {
            self.heap()?.return_fresh(id)?;
        }
        punched?;
        Ok(len)
    }

    /// Gives freed memory beyond `keep` bytes back to the system; answers how many bytes it were.
    pub fn trim(&self, keep: u64) -> Result<u64, ArenaError> {
        let mut given = 0;
        loop {
            let warm = self.meta.superblock().warm_bytes.load(Relaxed);
            if warm <= keep {
                return Ok(given);
            }
            match self.give_back_some(warm - keep)? {
                0 => return Ok(given),
                bytes => given += bytes,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::time::Duration;

    use crate::{Arena, Options};

    #[test]
    fn memory_that_another_gives_back_is_waited_for() {
        let arena = Arena::create(Options { limit: Some(64 << 20), warm: Some(64 << 20) }).unwrap();
        drop(arena.allocate(40 << 20).unwrap());
        let (id, offset, len) = arena.heap().unwrap().borrow_warm(u64::MAX).unwrap().unwrap();
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| arena.allocate(50 << 20).map(drop));
            // It has time to fail.
            (0..20).filter(|_| !asking.is_finished()).for_each(|_| std::thread::sleep(Duration::from_millis(2)));
            arena.data.punch(offset, len).unwrap();
            arena.heap().unwrap().return_fresh(id).unwrap();
            asking.join().unwrap().unwrap();
        });
        arena.verify().unwrap();
    }

    #[test]
    fn who_gives_memory_back_takes_it_from_nobody() {
        let arena = Arena::create(Options { limit: Some(64 << 20), warm: Some(64 << 20) }).unwrap();
        let done = AtomicBool::new(false);
        let lacking = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    arena.trim(0).unwrap();
                }
            });
            // All that is not used is free, or warm, or being given back by the other thread.
            let lacking = (0..2000).find_map(|n| arena.allocate((40 + n % 2 * 10) << 20).err());
            done.store(true, Relaxed);
            lacking
        });
        assert!(lacking.is_none(), "{lacking:?}");
        arena.verify().unwrap();
    }
}
