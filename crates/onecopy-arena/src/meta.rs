//! Checked access to the metadata file. The only place that turns its bytes into typed references.
//!
//! Every type behind these references consists of atomics, so another process that writes at the same time is no data
//! race, whatever it writes.

use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;

use onecopy_os::{Mapping, MemoryFile, Protection};

use crate::ArenaError;
use crate::block_life::{Holders, Life};
use crate::door::AtomicU64;
use crate::layout::{
    ArenaId, BYTE_ORDER, BlockEntry, Geometry, MAGIC, META, NO_ROOT, NONE, ParcelEntry, SlotEntry, Superblock, VERSION,
    file_name,
};

/// Names a block for good: its directory entry and the entry's generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockId {
    /// Directory entry.
    pub index: u32,
    /// Generation of the entry.
    pub generation: u32,
}

impl BlockId {
    /// Both in one word.
    pub(crate) fn word(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }
}

/// The metadata file, mapped.
#[derive(Debug)]
pub(crate) struct Meta {
    mapping: Mapping,
    /// Carries this process's liveness lock: it is never closed while the arena is in use, and opened once.
    file: MemoryFile,
    geometry: Geometry,
    id: ArenaId,
}

impl Meta {
    /// A new metadata file with empty tables. The heap is not set up yet.
    pub(crate) fn create(id: ArenaId, geometry: Geometry) -> Result<Self, ArenaError> {
        geometry.verify(geometry.metadata_size())?;
        let file = MemoryFile::create(&file_name(id, META), geometry.metadata_size())?;
        let mapping = Mapping::of(&file, Protection::ReadWrite)?;
        let meta = Self { mapping, file, geometry, id };
        let first = meta.superblock();
        first.version.store(VERSION, Relaxed);
        first.byte_order.store(BYTE_ORDER, Relaxed);
        first.id.store(id.0, Relaxed);
        first.slots.store(geometry.slots, Relaxed);
        first.blocks.store(geometry.blocks, Relaxed);
        first.parcels.store(geometry.parcels, Relaxed);
        first.stripe.store(geometry.stripe, Relaxed);
        first.capacity.store(geometry.capacity, Relaxed);
        first.entries_free.store(NONE, Relaxed);
        first.parcels_free.store(NONE, Relaxed);
        first.root.store(NO_ROOT, Relaxed);
        Ok(meta)
    }

    /// Says that the arena is complete: from now on others may join.
    pub(crate) fn seal(&self) {
        self.superblock().magic.store(MAGIC, std::sync::atomic::Ordering::Release);
    }

    /// Takes over a file that another process made; verifies all that later accesses rely on.
    pub(crate) fn adopt(file: MemoryFile) -> Result<Self, ArenaError> {
        Self::map(file, Protection::ReadWrite)
    }

    /// As [`adopt`](Self::adopt), for a process that only looks: a store into the tables would fault.
    pub(crate) fn look(file: MemoryFile) -> Result<Self, ArenaError> {
        Self::map(file, Protection::Read)
    }

    fn map(file: MemoryFile, protection: Protection) -> Result<Self, ArenaError> {
        if file.size() < size_of::<Superblock>() as u64 {
            return Err(ArenaError::Foreign(format!("{} bytes are too few", file.size())));
        }
        let mapping = Mapping::of(&file, protection)?;
        // SAFETY: the mapping is page-aligned and at least as large as the superblock (checked above), which is made of
        // atomics.
        #[expect(clippy::cast_ptr_alignment, reason = "a mapping starts at a page")]
        let first = unsafe { &*mapping.base().as_ptr().cast::<Superblock>() };
        if first.magic.load(std::sync::atomic::Ordering::Acquire) != MAGIC {
            return Err(ArenaError::Foreign("the magic number is missing".into()));
        }
        let (version, order) = (first.version.load(Relaxed), first.byte_order.load(Relaxed));
        if version != VERSION || order != BYTE_ORDER {
            return Err(ArenaError::Foreign(format!(
                "version {version}, byte order {order:#x}; this is version {VERSION}"
            )));
        }
        let geometry = Geometry {
            slots: first.slots.load(Relaxed),
            blocks: first.blocks.load(Relaxed),
            parcels: first.parcels.load(Relaxed),
            stripe: first.stripe.load(Relaxed),
            capacity: first.capacity.load(Relaxed),
        };
        geometry.verify(file.size())?;
        let id = ArenaId(first.id.load(Relaxed));
        Ok(Self { mapping, file, geometry, id })
    }

    pub(crate) fn id(&self) -> ArenaId {
        self.id
    }

    /// The geometry as verified when this process joined; never read again from shared memory.
    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(crate) fn file(&self) -> &MemoryFile {
        &self.file
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.file.number()
    }

    fn entry<T>(&self, table: usize, index: usize) -> &T {
        let at = table + index * size_of::<T>();
        debug_assert!(at + size_of::<T>() <= self.mapping.len());
        debug_assert!(at.is_multiple_of(align_of::<T>()));
        // SAFETY: the callers pass an index below the table's size; the verified geometry places the whole table,
        // aligned, inside the mapping, which lives as long as `self`. `T` is made of atomics.
        unsafe { &*self.mapping.base().as_ptr().add(at).cast::<T>() }
    }

    /// All of it, for the fuzzers.
    #[cfg(fuzzing)]
    pub(crate) fn bytes(&self) -> &[std::sync::atomic::AtomicU8] {
        // SAFETY: the mapping is readable and writable and lives as long as `self`; atomics may be shared with anybody.
        unsafe { std::slice::from_raw_parts(self.mapping.base().as_ptr().cast(), self.mapping.len()) }
    }

    pub(crate) fn superblock(&self) -> &Superblock {
        self.entry(0, 0)
    }

    /// The slot at `index`, which must be below the number of slots.
    pub(crate) fn slot(&self, index: u32) -> &SlotEntry {
        assert!(index < self.geometry.slots);
        self.entry(self.geometry.slots_at(), index as usize)
    }

    /// The directory entry at an index that came from shared memory or from a handle.
    pub(crate) fn block(&self, index: u32) -> Result<&BlockEntry, ArenaError> {
        if index >= self.geometry.blocks {
            return Err(ArenaError::InvalidHandle(format!("block {index} of {}", self.geometry.blocks)));
        }
        Ok(self.entry(self.geometry.directory_at(), index as usize))
    }

    /// The holder bits of the block at `index`, which must be below the number of blocks.
    pub(crate) fn holders(&self, index: u32) -> &[AtomicU64] {
        assert!(index < self.geometry.blocks);
        let words = self.geometry.holder_words() as usize;
        let first: &AtomicU64 = self.entry(self.geometry.holders_at(), index as usize * words);
        // SAFETY: the table has `words` atomics for each block, `first` is the first of this block's, and the index is
        // in range (asserted).
        unsafe { std::slice::from_raw_parts(first, words) }
    }

    /// All tables as words, to be damaged.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping starts at a page, lives as long as `self`, and is used as atomics only.
        unsafe { std::slice::from_raw_parts(self.mapping.base().as_ptr().cast(), self.mapping.len() / 8) }
    }

    /// The parcel at an index that came from shared memory or from a handle.
    pub(crate) fn parcel(&self, index: u32) -> Result<&ParcelEntry, ArenaError> {
        if index >= self.geometry.parcels {
            return Err(ArenaError::InvalidHandle(format!("parcel {index} of {}", self.geometry.parcels)));
        }
        Ok(self.entry(self.geometry.parcels_at(), index as usize))
    }

    /// The words that decide about the block at `index`, whose entry this is.
    pub(crate) fn life<'a>(&'a self, index: u32, entry: &'a BlockEntry) -> Life<'a> {
        let BlockEntry { state, generation, parcels, .. } = entry;
        Life { state, generation, parcels, holders: Holders(self.holders(index)) }
    }

    pub(crate) fn set_holder(&self, block: u32, slot: u32) {
        Holders(self.holders(block)).set(slot);
    }

    pub(crate) fn clear_holder(&self, block: u32, slot: u32) {
        Holders(self.holders(block)).clear(slot);
    }

    pub(crate) fn holds(&self, block: u32, slot: u32) -> bool {
        Holders(self.holders(block)).has(slot)
    }

    pub(crate) fn is_held(&self, block: u32) -> bool {
        Holders(self.holders(block)).are_some()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn small() -> Geometry {
        Geometry { slots: 64, blocks: 64, parcels: 64, stripe: 1 << 20, capacity: 4 << 20 }
    }

    #[test]
    fn an_unfinished_or_foreign_file_is_refused() {
        let meta = Meta::create(ArenaId(1), small()).unwrap();
        let reopen = || MemoryFile::open_of(std::process::id(), meta.descriptor()).unwrap();
        assert!(matches!(Meta::adopt(reopen()), Err(ArenaError::Foreign(_))));
        meta.seal();
        assert_eq!(Meta::adopt(reopen()).unwrap().geometry(), &small());
        for damage in [
            |s: &Superblock| s.version.store(99, Relaxed),
            |s: &Superblock| s.blocks.store(u32::MAX, Relaxed),
            |s: &Superblock| s.slots.store(0, Relaxed),
            |s: &Superblock| s.capacity.store(u64::MAX, Relaxed),
            |s: &Superblock| s.stripe.store(3, Relaxed),
        ] {
            let fresh = Meta::create(ArenaId(1), small()).unwrap();
            fresh.seal();
            damage(fresh.superblock());
            let file = MemoryFile::open_of(std::process::id(), fresh.descriptor()).unwrap();
            assert!(matches!(Meta::adopt(file), Err(ArenaError::Foreign(_))));
        }
    }

    #[test]
    fn holder_bits_are_apart() {
        let meta = Meta::create(ArenaId(1), small()).unwrap();
        meta.set_holder(3, 63);
        assert!(meta.is_held(3) && !meta.is_held(2) && !meta.is_held(4));
        meta.clear_holder(3, 62);
        assert!(meta.is_held(3));
        meta.clear_holder(3, 63);
        assert!(!meta.is_held(3));
    }
}
