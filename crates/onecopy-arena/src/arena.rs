//! An arena as a process sees it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use onecopy_os::{LockByte, OsError, page_size, physical_limit, random_u64};
use onecopy_sync::Tag;

use crate::ArenaError;
use crate::budget::Shortage;
use crate::data::{Access, Data, PrivateCopy};
use crate::heap::{DRAFT, Heap, SEALED, State, add, subtract};
use crate::layout::{ArenaId, DATA_FILES, GRAIN, Geometry};
use crate::membership::{Held, Holds, locked};
use crate::meta::{BlockId, Meta};
use crate::parcels::{Owned, ParcelId};
use crate::slots::{Cradle, JANITOR, Slots, Viewer};
use crate::stats::Stats;

mod block;
mod draft;
mod join;
mod root;

pub use block::Block;
pub use draft::Draft;
pub use join::JoinHint;

/// How a new arena is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Bytes of memory it may have; by default 80 % of the smaller of RAM and the memory cgroups' limits.
    pub limit: Option<u64>,
    /// Bytes of freed memory it keeps for the next block; by default an eighth of the limit.
    pub warm: Option<u64>,
}

/// What a new block reads as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// Zeros.
    Zeros,
    /// Whatever the last block there held.
    Garbage,
}

/// Small blocks are cut from pieces of this size, so that the budget check and the system call are paid once for many.
const SMALL_COMMIT: u64 = 1 << 20;

/// An arena smaller than this is no use as a default.
const LEAST_DEFAULT_LIMIT: u64 = 16 << 20;

/// An arena that this process is a member of. Members stay members until they end, so there is only `&'static Arena`.
#[derive(Debug)]
pub struct Arena {
    meta: Meta,
    data: Data,
    /// The tag of this process, zero when it has none.
    me: AtomicU32,
    holds: Mutex<Holds>,
}

impl Arena {
    /// Makes an arena that this process is the only member of.
    pub(crate) fn make(options: Options) -> Result<&'static Self, ArenaError> {
        let arena = match options.limit {
            Some(limit) => Self::lay_out(limit, options.warm),
            None => Self::lay_out_what_fits(physical_limit() / 5 * 4, options.warm),
        };
        let arena = arena.map_err(|error| Self::no_room_to_map(error, options.limit))?;
        arena.take_slot()?;
        arena.heap()?.format()?;
        arena.meta.seal();
        Ok(arena)
    }

    /// Halves a limit that nobody asked for until the address space suffices (`ulimit -v`).
    fn lay_out_what_fits(limit: u64, warm: Option<u64>) -> Result<&'static Self, ArenaError> {
        match Self::lay_out(limit, warm) {
            Err(ArenaError::Os(error)) if error.is_exhaustion() && limit / 2 >= LEAST_DEFAULT_LIMIT => {
                Self::lay_out_what_fits(limit / 2, warm)
            }
            other => other,
        }
    }

    fn no_room_to_map(error: ArenaError, asked: Option<u64>) -> ArenaError {
        match error {
            ArenaError::Os(error) if error.is_exhaustion() => ArenaError::OutOfMemory {
                asked: asked.unwrap_or(LEAST_DEFAULT_LIMIT),
                free: 0,
                limit: format!("the address space of this process ({error})"),
                way_out: "raise it (ulimit -v), or ask for less by ONECOPY_LIMIT",
            },
            other => other,
        }
    }

    fn lay_out(limit: u64, warm: Option<u64>) -> Result<&'static Self, ArenaError> {
        let geometry = Geometry::for_limit(limit);
        let meta = Meta::create(ArenaId(random_u64()?), geometry)?;
        let first = meta.superblock();
        first.limit.store(limit.min(geometry.capacity), Relaxed);
        first.warm_budget.store(warm.unwrap_or(limit / 8), Relaxed);
        let data = Data::create(&geometry)?;
        Ok(Self::leaked(meta, data))
    }

    fn leaked(meta: Meta, data: Data) -> &'static Self {
        Box::leak(Box::new(Self { meta, data, me: AtomicU32::new(0), holds: Mutex::default() }))
    }

    /// Its name.
    pub fn id(&self) -> ArenaId {
        self.meta.id()
    }

    fn slots(&self) -> Slots<'_> {
        Slots { meta: &self.meta, data: &self.data }
    }

    fn me(&self) -> Result<Tag, ArenaError> {
        Tag::from_bits(self.me.load(Relaxed)).ok_or(ArenaError::TableFull {
            what: "processes",
            capacity: self.meta.geometry().slots,
            way_out: "end some of the processes that share this arena",
        })
    }

    /// The processes of the arena, for locks that lie in it.
    pub fn owners(&self) -> Result<Viewer<'_>, ArenaError> {
        Ok(Viewer { slots: self.slots(), me: self.me()? })
    }

    fn heap(&self) -> Result<Heap<'_>, ArenaError> {
        Heap::lock(&self.meta, &self.data, self.me()?)
    }

    fn take_slot(&self) -> Result<(), ArenaError> {
        if let Some(tag) = self.slots().join()? {
            self.me.store(tag.bits(), Relaxed);
            return Ok(());
        }
        self.sweep_as_janitor()?;
        if let Some(tag) = self.slots().join()? {
            self.me.store(tag.bits(), Relaxed);
        }
        self.me().map(drop)
    }

    fn sweep_as_janitor(&self) -> Result<(), ArenaError> {
        LockByte(JANITOR).lock(self.meta.file())?;
        let swept = Heap::lock(&self.meta, &self.data, Tag::new(JANITOR, 0)).and_then(|heap| heap.sweep());
        LockByte(JANITOR).unlock(self.meta.file())?;
        swept.map(drop)
    }

    // --- fork ---

    pub(crate) fn prepare_fork(&'static self) -> (MutexGuard<'static, Holds>, Option<Cradle>) {
        let holds = locked(&self.holds);
        let cradle = self.slots().reserve_for_child().ok().flatten();
        if let Some(cradle) = &cradle {
            // The parent holds these blocks until the table is unlocked, so the bits need no heap lock.
            for held in holds.values() {
                self.meta.set_holder(held.id.index, cradle.tag.slot());
            }
        }
        (holds, cradle)
    }

    pub(crate) fn finish_fork(&self, cradle: Option<Cradle>) {
        // A child for which there was no slot has no tag: each of its calls says that the table is full.
        let tag = cradle.as_ref().and_then(|cradle| self.slots().move_in(cradle).ok());
        // Only now that the record lock is held may the transfer lock go.
        drop(cradle);
        self.me.store(tag.map_or(0, Tag::bits), Relaxed);
    }

    // --- allocate ---

    /// A block of `len` bytes with memory behind it.
    pub fn allocate(&'static self, len: u64) -> Result<(Block, Contents), ArenaError> {
        let size = extent_size(len)?;
        if let Some(id) = self.take_warm(len, size)? {
            return Ok((self.hold(id, len, false)?, Contents::Garbage));
        }
        let (id, promise) = self.take_fresh(len, size, false)?;
        let block = self.hold(id, len, false)?;
        if promise.bytes > 0 {
            // Outside of the lock: making pages takes a tenth of a second per GiB. The block exists already, so a death
            // here leaves garbage, not a leak.
            self.data.reserve(block.offset(), size).map_err(|error| Self::refused(error, len))?;
        }
        Ok((block, Contents::Zeros))
    }

    /// A block of `len` zeros with memory behind it. Its writable address is a multiple of 64 and stays the same in this
    /// process as long as the process holds the block.
    pub fn allocate_zeroed(&'static self, len: u64) -> Result<Block, ArenaError> {
        let (block, contents) = self.allocate(len)?;
        if contents == Contents::Garbage {
            block.zero();
        }
        Ok(block)
    }

    fn take_warm(&self, len: u64, size: u64) -> Result<Option<BlockId>, ArenaError> {
        let heap = self.heap()?;
        let Some(index) = heap.take(State::Warm, size)? else { return Ok(None) };
        heap.publish(index, len, 0).map(Some)
    }

    /// Takes a fresh extent after the budget check. Small ones have memory when this returns; for others it is
    /// promised, unless the block is a draft.
    fn take_fresh(&'static self, len: u64, size: u64, draft: bool) -> Result<(BlockId, Promise), ArenaError> {
        let small = !draft && size <= SMALL_COMMIT;
        let commit = match (draft, small) {
            (true, _) => 0,
            (_, true) => SMALL_COMMIT,
            _ => size,
        };
        let extent = if small { SMALL_COMMIT } else { size };
        loop {
            let heap = self.heap_with_budget(commit, len)?;
            let Some(index) = heap.take(State::Fresh, extent)? else {
                let largest = heap.largest(State::Fresh)?.map_or(0, |(_, size)| size);
                drop(heap);
                // Warm extents may lie between fresh ones: without them the addresses join.
                if self.give_back_some(u64::MAX)? == 0 {
                    return Err(self.no_addresses(len, largest));
                }
                continue;
            };
            if small {
                let offset = heap.entry(index)?.offset.load(Relaxed);
                if let Err(error) = self.data.reserve(offset, extent) {
                    heap.set_free(index, State::Fresh)?;
                    return Err(Self::refused(error, len));
                }
                heap.cut(index, size, State::Warm)?;
            }
            let promise = Promise::make(self, &heap, if small { 0 } else { commit });
            let id = if draft { heap.publish(index, 0, DRAFT)? } else { heap.publish(index, len, 0)? };
            return Ok((id, promise));
        }
    }

    fn no_addresses(&self, asked: u64, free: u64) -> ArenaError {
        let capacity = self.meta.geometry().capacity;
        ArenaError::OutOfMemory {
            asked,
            free,
            limit: format!("the arena's {capacity} bytes of addresses (largest free piece)"),
            way_out: "drop arrays that are not needed, or start with a larger ONECOPY_LIMIT",
        }
    }

    /// The heap, locked, at a moment when `bytes` may be committed; the dead and the warm are asked first.
    fn heap_with_budget(&self, bytes: u64, asked: u64) -> Result<Heap<'_>, ArenaError> {
        loop {
            let heap = self.heap()?;
            heap.sweep()?;
            let shortage: Shortage = match heap.check_budget(bytes) {
                Ok(()) => return Ok(heap),
                Err(shortage) => shortage,
            };
            let warm = heap.first().warm_bytes.load(Relaxed);
            drop(heap);
            if warm < shortage.deficit() || self.give_back_some(shortage.deficit())? == 0 {
                return Err(shortage.into_error(asked, warm));
            }
        }
    }

    fn refused(error: OsError, asked: u64) -> ArenaError {
        if !error.is_exhaustion() {
            return error.into();
        }
        ArenaError::OutOfMemory {
            asked,
            free: onecopy_os::headroom().bytes,
            limit: format!("what the system grants ({error})"),
            way_out: "end other programs, or allow more memory (overcommit, ulimit)",
        }
    }

    /// Gives up to about `bytes` of one warm extent back to the system; answers how many it were.
    fn give_back_some(&self, bytes: u64) -> Result<u64, ArenaError> {
        let Some((id, offset, len)) = self.heap()?.borrow_warm(bytes)? else { return Ok(0) };
        // Outside of the lock: freeing pages takes a tenth of a second per GiB.
        let punched = self.data.punch(offset, len);
        if punched.is_err() {
            let heap = self.heap()?;
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

    // --- look ---

    /// Takes away what dead processes held; answers how many (processes, blocks) it were.
    pub fn reap(&self) -> Result<(u32, u32), ArenaError> {
        let heap = self.heap()?;
        let swept = heap.sweep()?;
        Ok((swept.processes, swept.blocks + heap.collect()?))
    }

    /// Figures of this moment.
    pub fn stats(&self) -> Result<Stats, ArenaError> {
        Ok(self.heap()?.stats())
    }

    /// Checks all tables against each other.
    pub fn verify(&self) -> Result<(), ArenaError> {
        self.heap()?.verify()
    }

    /// Changes the limit, and with it the budget of warm memory; what is in use stays.
    pub fn set_limit(&self, limit: u64, warm: Option<u64>) -> Result<(), ArenaError> {
        let capacity = self.meta.geometry().capacity;
        if limit > capacity {
            return Err(ArenaError::OutOfMemory {
                asked: limit,
                free: capacity,
                limit: format!("the arena's {capacity} bytes of addresses"),
                way_out: "start the first process of the session with a larger ONECOPY_LIMIT",
            });
        }
        let heap = self.heap()?;
        heap.first().limit.store(limit, Relaxed);
        heap.first().warm_budget.store(warm.unwrap_or(limit / 8), Relaxed);
        drop(heap);
        self.trim(warm.unwrap_or(limit / 8)).map(drop)
    }

    /// Gives up this process's membership in good order: nothing it held stays. Only for a process that ends or never
    /// uses the arena again.
    pub fn leave(&self) -> Result<(), ArenaError> {
        let mut holds = locked(&self.holds);
        let Some(tag) = Tag::from_bits(self.me.load(Relaxed)) else { return Ok(()) };
        let heap = self.heap()?;
        for held in std::mem::take(&mut *holds).into_values() {
            heap.meta.clear_holder(held.id.index, tag.slot());
            heap.free_if_garbage(held.id.index)?;
        }
        heap.sweep()?;
        drop(heap);
        self.me.store(0, Relaxed);
        self.slots().leave(tag)
    }
}

/// Bytes that passed the budget check and have no memory behind them yet; taken back when dropped.
#[derive(Debug)]
struct Promise {
    arena: &'static Arena,
    bytes: u64,
}

impl Promise {
    fn make(arena: &'static Arena, heap: &Heap<'_>, bytes: u64) -> Self {
        add(&arena.meta.slot(heap.me.slot()).promised, bytes);
        Self { arena, bytes }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        // Under the lock, as threads of one process share the counter. Where it cannot be had the process has no slot
        // any more, and with it no promises.
        if let Ok(heap) = self.arena.heap() {
            subtract(&self.arena.meta.slot(heap.me.slot()).promised, self.bytes);
        }
    }
}

/// Bytes of the extent for a block of `len` bytes: whole pages where a page is little beside it.
fn extent_size(len: u64) -> Result<u64, ArenaError> {
    let grain = if len < SMALL_COMMIT { GRAIN } else { page_size() as u64 };
    len.max(1)
        .checked_next_multiple_of(grain)
        .filter(|&size| size <= 1 << 47)
        .ok_or_else(|| ArenaError::InvalidHandle(format!("{len} bytes are more than a process can address")))
}

#[cfg(test)]
mod tests;
