//! A full check of the tables against the design's invariants. What it reads may be anything: it ends, and names what is
//! wrong.

use std::sync::atomic::Ordering::Relaxed;

use crate::ArenaError;
use crate::heap::Heap;
use crate::layout::{BYTE_ORDER, MAGIC, VERSION};

mod extents;
mod parcels;
mod slots;

impl Heap<'_> {
    /// Checks every table by itself and against the others. Where that fails the caches are rebuilt by the next that takes
    /// the lock, so what is still wrong then is wrong for good.
    pub(crate) fn verify(&self) -> Result<(), ArenaError> {
        let all = || {
            self.verify_superblock()?;
            self.verify_slots()?;
            let used = self.verify_extents()?;
            self.verify_holders(&used)?;
            self.verify_parcels(&used)
        };
        all().inspect_err(|_| self.first().disorder.store(1, Relaxed))
    }

    fn verify_superblock(&self) -> Result<(), ArenaError> {
        let (first, geometry) = (self.first(), self.meta.geometry());
        let sealed = first.magic.load(Relaxed);
        require(sealed == MAGIC, || format!("the magic number is {sealed:#x}"))?;
        let described = (
            (first.version.load(Relaxed), first.byte_order.load(Relaxed), first.id.load(Relaxed)),
            (first.slots.load(Relaxed), first.blocks.load(Relaxed), first.parcels.load(Relaxed)),
            (first.stripe.load(Relaxed), first.capacity.load(Relaxed)),
        );
        let known = (
            (VERSION, BYTE_ORDER, self.meta.id().0),
            (geometry.slots, geometry.blocks, geometry.parcels),
            (geometry.stripe, geometry.capacity),
        );
        require(described == known, || format!("the superblock says {described:?}, not {known:?}"))?;
        let limit = first.limit.load(Relaxed);
        require(limit <= geometry.capacity, || format!("a limit of {limit} bytes"))?;
        let owner = first.heap_lock.owner();
        require(owner == Some(self.me), || format!("the heap lock, taken by {:?}, names {owner:?}", self.me))
    }
}

fn require(holds: bool, what: impl FnOnce() -> String) -> Result<(), ArenaError> {
    if holds { Ok(()) } else { Err(ArenaError::damaged(what())) }
}

#[cfg(all(test, not(loom)))]
mod tests;
