//! References to blocks.

use std::ptr::NonNull;

use onecopy_os::{crash_point, expect_write};

use crate::layout::BlockEntry;

use super::{
    Access, Arena, ArenaError, BlockId, CHUNK, DRAFT, Held, Holds, Owned, ParcelId, PrivateCopy, Relaxed, SEALED,
    locked,
};

/// A reference of this process to a block, which lives at least as long.
#[derive(Debug)]
pub struct Block {
    arena: &'static Arena,
    id: BlockId,
    offset: u64,
    len: u64,
    sealed: bool,
}

impl Block {
    /// Whether this process has put huge pages behind most of it.
    pub fn is_in_huge_pages(&self) -> bool {
        self.arena.data.is_in_huge_pages(self.offset, self.len)
    }
}

impl Arena {
    /// Makes a reference to a block whose holder bit this process has set.
    pub(super) fn hold(&'static self, id: BlockId, len: u64, sealed: bool) -> Result<Block, ArenaError> {
        let offset = self.offset_of(self.meta.block(id.index)?, id, len)?;
        Ok(self.hold_in(&mut locked(&self.holds), id, offset, len, sealed))
    }

    /// Where a block of `len` bytes lies: inside the data area, whatever its entry says.
    fn offset_of(&self, entry: &BlockEntry, id: BlockId, len: u64) -> Result<u64, ArenaError> {
        let (offset, capacity) = (entry.offset.load(Relaxed), self.meta.geometry().capacity);
        if offset < capacity && len <= capacity - offset {
            Ok(offset)
        } else {
            Err(ArenaError::damaged(format!("block {} spans {offset} + {len} of {capacity}", id.index)))
        }
    }

    fn hold_in(&'static self, holds: &mut Holds, id: BlockId, offset: u64, len: u64, sealed: bool) -> Block {
        let held = holds.entry(offset).or_insert(Held { id, len, sealed, count: 0 });
        held.count += 1;
        Block { arena: self, id, offset, len, sealed }
    }

    /// The block in which an address lies, if this process holds it, with the offset inside it and the mapping.
    pub fn block_at(&'static self, address: usize) -> Option<(Block, u64, Access)> {
        let (position, access) = self.data.position_of(address)?;
        let mut holds = locked(&self.holds);
        let (&offset, held) = holds.range_mut(..=position).next_back()?;
        // One past the end counts: an empty view may point there.
        if position - offset > held.len {
            return None;
        }
        let (id, len, sealed) = (held.id, held.len, held.sealed);
        Some((self.hold_in(&mut holds, id, offset, len, sealed), position - offset, access))
    }

    /// Takes a reference to the block that a handle names. A parcel that is still in flight is received by it; without
    /// one the block must be held by somebody.
    pub fn receive(&'static self, id: BlockId, parcel: Option<ParcelId>) -> Result<Block, ArenaError> {
        // The table of holds first: while it is locked no other thread can drop this process's last reference.
        let mut holds = locked(&self.holds);
        self.meta.expect_change_of(id.index);
        if let Some(entry) = parcel.and_then(|parcel| self.meta.parcel(parcel.index).ok()) {
            expect_write(entry);
        }
        let heap = self.heap()?;
        let entry = heap.block(id)?;
        let (len, flags) = (entry.len.load(Relaxed), entry.flags.load(Relaxed));
        let offset = self.offset_of(entry, id, len)?;
        if flags & DRAFT != 0 {
            return Err(ArenaError::damaged(format!("block {} was sent unfinished", id.index)));
        }
        let sealed = flags & SEALED != 0;
        let parcel = match parcel {
            Some(parcel) if heap.parcel_is(parcel, id)? => Some(parcel),
            _ => None,
        };
        let life = heap.life(id.index)?;
        if parcel.is_none() && !life.is_needed() {
            return Err(ArenaError::Stale { block: id.index, generation: id.generation });
        }
        life.receive(heap.me.slot(), || match parcel {
            Some(parcel) => heap.unpost(parcel).map(drop),
            None => Ok(()),
        })?;
        drop(heap);
        Ok(self.hold_in(&mut holds, id, offset, len, sealed))
    }

    /// Takes a reference to a block that a process holds or that a parcel is of; no parcel is consumed. Containers give
    /// out the same value many times by it.
    pub fn get(&'static self, id: BlockId) -> Result<Block, ArenaError> {
        self.receive(id, None)
    }

    /// Whether anybody has a block, or will: a process that lives holds it, or a handle of it is in flight.
    ///
    /// ```
    /// # use onecopy_arena::{Arena, Options};
    /// let arena = Arena::create(Options { limit: Some(16 << 20), warm: None })?;
    /// let (block, _) = arena.allocate(64)?;
    /// let id = block.id();
    /// assert!(arena.is_needed(id)?);
    /// drop(block);
    /// assert!(!arena.is_needed(id)?);
    /// # Ok::<(), onecopy_arena::ArenaError>(())
    /// ```
    pub fn is_needed(&self, id: BlockId) -> Result<bool, ArenaError> {
        // Under the lock: a reference that passes from one process to another is always in one place or the other.
        Ok(self.heap()?.is_needed(id))
    }

    /// Empties a parcel that nobody will receive, and frees what it alone kept alive; answers whether it was still
    /// full.
    pub fn discard(&self, parcel: ParcelId) -> Result<bool, ArenaError> {
        let heap = self.heap()?;
        let block = heap.unpost(parcel)?;
        let freed = block.map_or(Ok(0), |block| heap.free_if_garbage(block.index));
        drop(heap);
        self.bound_warm(freed?);
        Ok(block.is_some())
    }

    fn drop_reference(&self, offset: u64) {
        let mut holds = locked(&self.holds);
        let Some(held) = holds.get_mut(&offset) else { return };
        held.count -= 1;
        if held.count > 0 {
            return;
        }
        let Some(held) = holds.remove(&offset) else { return };
        // Without a slot or with a damaged heap nothing can be freed; a destructor has nobody to tell, and the next
        // call that has reports it.
        let freed = self.let_go(held.id);
        drop(self.leave_if_done(holds));
        self.bound_warm(freed.unwrap_or(0));
    }

    /// Gives memory back after blocks have been freed, if more of it is warm than shall be. It is not lost where that
    /// fails: whoever is short of memory tries again.
    fn bound_warm(&self, freed: u32) {
        if freed > 0 {
            let _ = self.trim(self.meta.superblock().warm_budget.load(Relaxed));
        }
    }

    /// Clears this process's bit of a block; answers how many blocks that freed.
    fn let_go(&self, id: BlockId) -> Result<u32, ArenaError> {
        self.meta.expect_change_of(id.index);
        let heap = self.heap()?;
        heap.life(id.index)?.let_go(heap.me.slot());
        heap.free_if_garbage(id.index)
    }
}

impl Block {
    /// Its arena.
    pub fn arena(&self) -> &'static Arena {
        self.arena
    }

    /// Its name in the arena.
    pub fn id(&self) -> BlockId {
        self.id
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Says where a draft that became this block ends.
    pub(super) fn shorten(&mut self, len: u64) {
        if let Some(held) = locked(&self.arena.holds).get_mut(&self.offset) {
            held.len = len;
        }
        self.len = len;
    }

    /// Bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether this process has no other reference to the block.
    pub fn is_only_reference(&self) -> bool {
        locked(&self.arena.holds).get(&self.offset).is_some_and(|held| held.count == 1)
    }

    /// Whether it is handed out read-only for ever.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The address of its first byte. Sealed blocks have none in the writable mapping.
    pub fn address(&self, access: Access) -> Option<NonNull<u8>> {
        (access == Access::ReadOnly || !self.sealed).then(|| self.arena.data.address(self.offset, access))
    }

    /// From now on the block is read-only, for everybody who does not have a writable address yet.
    pub fn seal(&mut self) -> Result<(), ArenaError> {
        let heap = self.arena.heap()?;
        let flags = &heap.block(self.id)?.flags;
        flags.store(flags.load(Relaxed) | SEALED, Relaxed);
        crash_point!("seal.flagged");
        drop(heap);
        if let Some(held) = locked(&self.arena.holds).get_mut(&self.offset) {
            held.sealed = true;
        }
        self.sealed = true;
        Ok(())
    }

    /// The `len` bytes from `position` on, as they are now; none where the block has fewer.
    pub fn read_at(&self, position: u64, len: u64) -> Option<Vec<u8>> {
        position.checked_add(len).filter(|&end| end <= self.len)?;
        let mut bytes = vec![0; len as usize];
        self.arena.data.copy_out(self.offset + position, &mut bytes);
        Some(bytes)
    }

    /// Zeroes the whole block.
    pub fn zero(&self) {
        self.arena.data.zero(self.offset, self.len);
    }

    /// As [`zero`](Self::zero), but asks every few MiB whether to stop; the error is then [`ArenaError::Interrupted`].
    pub fn zero_interruptibly(&self, stop: &mut dyn FnMut() -> bool) -> Result<(), ArenaError> {
        for (start, len) in self.arena.data.shares(self.offset, self.len, CHUNK).concat() {
            if stop() {
                return Err(ArenaError::Interrupted);
            }
            self.arena.data.zero(self.offset + start, len);
        }
        Ok(())
    }

    /// A private, writable view of the block's bytes as they are now; pages that are not written to stay shared.
    pub fn private_copy(&self) -> Result<PrivateCopy, ArenaError> {
        self.arena.data.private_copy(self.offset, self.len).map_err(|error| self.arena.data.refused(error, self.len))
    }

    /// Sends a handle: the block lives until the parcel is received or discarded.
    pub fn post(&self) -> Result<ParcelId, ArenaError> {
        self.arena.heap()?.post(self.id, None)
    }

    /// Puts a handle into another block, such as a queue's or a dictionary's: this one lives until the parcel is
    /// received or discarded, or until the other is freed.
    ///
    /// Should this process die before it has written down the parcel in `owner`, the parcel stays with `owner`.
    /// Whoever repairs that finds it by [`owned`](Self::owned).
    ///
    /// ```
    /// # use onecopy_arena::{Arena, Options};
    /// let arena = Arena::create(Options { limit: Some(16 << 20), warm: None })?;
    /// let (container, _) = arena.allocate(64)?;
    /// let (value, _) = arena.allocate(1000)?;
    /// let (id, parcel) = (value.id(), value.post_owned(&container)?);
    /// drop(value); // the container keeps it
    /// assert_eq!(arena.get(id)?.len(), 1000); // as often as one likes
    /// assert_eq!(arena.stats()?.blocks, 2);
    /// drop(container);
    /// assert_eq!(arena.stats()?.blocks, 0); // both are gone
    /// assert!(!arena.discard(parcel)?);
    /// # Ok::<(), onecopy_arena::ArenaError>(())
    /// ```
    pub fn post_owned(&self, owner: &Self) -> Result<ParcelId, ArenaError> {
        if !std::ptr::eq(self.arena, owner.arena) {
            let (own, other) = (self.arena.id(), owner.arena.id());
            let reason = format!("a block of arena {own} cannot lie in one of arena {other}; copy it there");
            return Err(ArenaError::InvalidHandle(reason));
        }
        self.arena.meta.expect_change_of(self.id.index);
        self.arena.meta.expect_change_of(owner.id.index);
        self.arena.heap()?.post(self.id, Some(owner.id))
    }

    /// The parcels that lie in this block, newest first. A container that finds one which it does not know, and whose
    /// sender is dead, discards it.
    pub fn owned(&self) -> Result<Vec<Owned>, ArenaError> {
        self.arena.heap()?.owned(self.id)
    }
}

impl Clone for Block {
    fn clone(&self) -> Self {
        let mut holds = locked(&self.arena.holds);
        self.arena.hold_in(&mut holds, self.id, self.offset, self.len, self.sealed)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.arena.drop_reference(self.offset);
    }
}
