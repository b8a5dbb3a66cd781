//! An arena as a process sees it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use onecopy_os::{Bound, LockByte, Machine, crash_point, forked_unnoticed, page_size, random_u64};
use onecopy_sync::Tag;

use crate::ArenaError;
use crate::budget::Promise;
use crate::data::{Access, CHUNK, Data, PrivateCopy};
use crate::heap::{DRAFT, Heap, SEALED, State, add};
use crate::layout::{ArenaId, DATA_FILES, Geometry};
use crate::membership::{Held, Holds, locked};
use crate::meta::{BlockId, Meta};
use crate::parcels::{Owned, ParcelId};
use crate::place::Place;
use crate::slots::{Cradle, JANITOR, Roll, Slots, Viewer};
use crate::stats::{Details, Stats};

mod allocate;
mod block;
mod closing;
mod draft;
#[cfg(fuzzing)]
pub(crate) mod fuzzing;
mod huge_pages;
mod join;
mod leases;
mod on_disk;
mod root;

pub use block::Block;
use closing::Opened;
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

/// Budget is asked for, and memory made, in steps of this size.
const STEP: u64 = 64 << 20;

/// No process has more addresses than this.
const MOST_ADDRESSES: u64 = 1 << 47;

/// An arena smaller than this is no use as a default.
const LEAST_DEFAULT_LIMIT: u64 = 16 << 20;

/// An arena that this process is a member of. Members stay members until they end, so there is only `&'static Arena`.
#[derive(Debug)]
pub struct Arena {
    pub(crate) meta: Meta,
    data: Data,
    /// The tag of this process, zero when it has none.
    me: AtomicU32,
    holds: Mutex<Holds>,
    /// How often this process has opened it and not closed it again; an arena that it came by otherwise is never closed.
    opened: Mutex<Opened>,
    /// Whether this process puts huge pages behind the blocks that it makes.
    huge_pages: AtomicBool,
    /// Whether some could not be had.
    no_huge_pages: AtomicBool,
}

impl Arena {
    /// Makes an arena that this process is the only member of.
    pub(crate) fn make(options: Options) -> Result<&'static Self, ArenaError> {
        let arena = match options.limit {
            Some(limit) => Self::lay_out(limit, options.warm),
            None => Self::lay_out_what_fits(Machine::this().physical_limit() / 5 * 4, options.warm),
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
            ArenaError::Os(error) => ArenaError::refused(error, asked.unwrap_or(LEAST_DEFAULT_LIMIT)),
            other => other,
        }
    }

    fn lay_out(limit: u64, warm: Option<u64>) -> Result<&'static Self, ArenaError> {
        Ok(Box::leak(Box::new(Self::lay_out_in(Place::Memory, Geometry::for_limit(limit), limit, warm)?)))
    }

    fn lay_out_in(place: Place<'_>, geometry: Geometry, limit: u64, warm: Option<u64>) -> Result<Self, ArenaError> {
        let meta = Meta::create(place, ArenaId(random_u64()?), geometry)?;
        let first = meta.superblock();
        first.limit.store(limit.min(geometry.capacity), Relaxed);
        first.warm_budget.store(warm.unwrap_or(limit / 8), Relaxed);
        let data = Data::create(place, meta.id(), &geometry)?;
        Ok(Self::over(meta, data))
    }

    fn over(meta: Meta, data: Data) -> Self {
        Self {
            meta,
            data,
            me: AtomicU32::new(0),
            holds: Mutex::default(),
            opened: Mutex::default(),
            huge_pages: AtomicBool::new(false),
            no_huge_pages: AtomicBool::new(false),
        }
    }

    fn leaked(meta: Meta, data: Data) -> &'static Self {
        Box::leak(Box::new(Self::over(meta, data)))
    }

    /// Its name.
    pub fn id(&self) -> ArenaId {
        self.meta.id()
    }

    fn slots(&self) -> Slots<'_> {
        Slots { meta: &self.meta, data: &self.data }
    }

    /// The tag of this process, by which locks in the arena know it.
    #[inline]
    pub fn me(&self) -> Result<Tag, ArenaError> {
        if forked_unnoticed() {
            // The slot is the parent's, whose end would take it away under this process.
            return Err(ArenaError::ForkedUnnoticed);
        }
        // Every lock asks for this, so what comes after the first look is out of the way.
        Tag::from_bits(self.me.load(Relaxed)).ok_or_else(|| self.why_no_member())
    }

    #[cold]
    fn why_no_member(&self) -> ArenaError {
        if locked(&self.opened).is_closed() {
            return ArenaError::Closed;
        }
        ArenaError::TableFull {
            what: "processes",
            // One slot is the janitor's.
            capacity: self.meta.geometry().slots - 1,
            way_out: "end some of the processes that share this arena",
        }
    }

    /// The processes of the arena, for locks that lie in it.
    pub fn owners(&self) -> Result<Viewer<'_>, ArenaError> {
        Ok(Viewer { slots: self.slots(), me: self.me()? })
    }

    pub(crate) fn heap(&self) -> Result<Heap<'_>, ArenaError> {
        Heap::lock(&self.meta, &self.data, self.me()?)
    }

    /// Whether this process is a member; not after [`leave`](Self::leave), nor in a child for which there was no slot.
    pub fn is_member(&self) -> bool {
        self.me.load(Relaxed) != 0
    }

    /// Becomes a member again after [`leave`](Self::leave); nothing for a member.
    pub fn rejoin(&self) -> Result<(), ArenaError> {
        if self.is_member() { Ok(()) } else { self.take_slot() }
    }

    /// The tables as this process sees them, member or not.
    pub(crate) fn roll(&self) -> Roll<'_> {
        let own = Tag::from_bits(self.me.load(Relaxed)).map_or(JANITOR, Tag::slot);
        Roll { meta: &self.meta, lock_file: self.data.lock_file(), own }
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
        LockByte(JANITOR).lock(self.meta.liveness())?;
        crash_point!("janitor.locked");
        // Another generation each time: a janitor that died with the heap lock must not be taken for this one.
        let me = Tag::new(JANITOR, random_u64()? as u32);
        let swept = Heap::lock(&self.meta, &self.data, me).and_then(|heap| heap.sweep());
        LockByte(JANITOR).unlock(self.meta.liveness())?;
        swept.map(drop)
    }

    // --- fork ---

    pub(crate) fn prepare_fork(&'static self) -> (MutexGuard<'static, Holds>, Option<Cradle>) {
        let holds = locked(&self.holds);
        let reserve = || self.slots().reserve_for_child().ok().flatten();
        let reserve_or_sweep = || {
            reserve().or_else(|| {
                self.heap().and_then(|heap| heap.sweep()).ok()?;
                reserve()
            })
        };
        // Without a slot of its own this process may hold nothing that a child could inherit.
        let cradle = self.me().ok().and_then(|_| reserve_or_sweep());
        if let Some(cradle) = &cradle {
            // The parent holds these blocks until the table is unlocked, so the bits need no heap lock.
            for held in holds.values() {
                self.meta.set_holder(held.id.index, cradle.tag.slot());
                crash_point!("fork.held");
            }
            crash_point!("fork.ready");
        }
        (holds, cradle)
    }

    pub(crate) fn finish_fork(&self, cradle: Option<Cradle>) {
        // Where that fails (no /proc), the parent seems to live as long as this child does, which must not be a member.
        let parted = self.meta.part_from_parent();
        let cradle = cradle.filter(|_| parted.is_ok());
        // A child for which there was no slot has no tag: each of its calls says that the table is full.
        let tag = cradle.as_ref().and_then(|cradle| self.slots().move_in(cradle).ok());
        // Only now that the record lock is held may the transfer lock go.
        drop(cradle);
        crash_point!("fork.child.alone");
        self.me.store(tag.map_or(0, Tag::bits), Relaxed);
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
        Ok(self.heap()?.roll().stats())
    }

    /// What there is in detail.
    pub fn details(&self) -> Result<Details, ArenaError> {
        Ok(self.heap()?.roll().details())
    }

    /// How much more may be committed, and what sets that bound.
    pub fn headroom(&self) -> Result<Bound, ArenaError> {
        Ok(self.heap()?.headroom())
    }

    /// Checks all tables against each other.
    pub fn verify(&self) -> Result<(), ArenaError> {
        self.heap()?.verify()
    }

    /// Changes the limit, and with it the budget of warm memory; what is in use stays.
    pub fn set_limit(&self, limit: u64, warm: Option<u64>) -> Result<(), ArenaError> {
        let capacity = self.meta.geometry().capacity;
        if limit > capacity {
            return Err(self.no_addresses(limit, capacity));
        }
        let heap = self.heap()?;
        heap.first().limit.store(limit, Relaxed);
        crash_point!("limit.stored");
        heap.first().warm_budget.store(warm.unwrap_or(limit / 8), Relaxed);
        drop(heap);
        self.trim(warm.unwrap_or(limit / 8)).map(drop)
    }

    /// Gives up this process's membership in good order: nothing it held stays. Only for a process that ends or never
    /// uses the arena again.
    pub fn leave(&self) -> Result<(), ArenaError> {
        self.leave_with(&mut locked(&self.holds))
    }

    fn leave_with(&self, holds: &mut Holds) -> Result<(), ArenaError> {
        let Some(tag) = Tag::from_bits(self.me.load(Relaxed)) else { return Ok(()) };
        let heap = self.heap()?;
        for held in std::mem::take(holds).into_values() {
            heap.meta.clear_holder(held.id.index, tag.slot());
            crash_point!("leave.cleared");
            heap.free_if_garbage(held.id.index)?;
        }
        heap.sweep()?;
        drop(heap);
        crash_point!("leave.empty");
        self.me.store(0, Relaxed);
        self.slots().leave(tag)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
