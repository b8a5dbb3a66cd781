//! Checked access to the metadata file. The only place that turns its bytes into typed references.
//!
//! Every type behind these references consists of atomics, so another process that writes at the same time is no data
//! race, whatever it writes.

use std::os::fd::RawFd;
use std::sync::atomic::Ordering::Relaxed;

use onecopy_os::{Mapping, MemoryFile, Protection, expect_write, random_u64};

use crate::ArenaError;
use crate::block_life::{Holders, Life};
use crate::door::AtomicU64;
use crate::layout::{
    ArenaId, BYTE_ORDER, BlockEntry, Geometry, MAGIC, META, NO_ROOT, NONE, ParcelEntry, SlotEntry, Superblock, VERSION,
};
use crate::place::Place;

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
    /// Carries this process's liveness lock, where there is no other descriptor for it: it is never closed while the arena
    /// is in use, and opened once.
    file: MemoryFile,
    /// Carries the liveness lock of an arena on disk. It is never mapped: a mapping would keep the lock alive.
    liveness: Option<MemoryFile>,
    geometry: Geometry,
    id: ArenaId,
}

impl Meta {
    /// A new metadata file with empty tables. The heap is not set up yet.
    pub(crate) fn create(place: Place<'_>, id: ArenaId, geometry: Geometry) -> Result<Self, ArenaError> {
        geometry.verify(geometry.metadata_size())?;
        let file = place.create(id, META, geometry.metadata_size())?;
        if file.is_on_disk() {
            // All of the tables at once: a touch has no way to say that the disk is full.
            file.reserve(0, geometry.metadata_size())?;
        }
        let mapping = Mapping::of(&file, Protection::ReadWrite)?;
        let liveness = liveness_of(&file)?;
        let meta = Self { mapping, file, liveness, geometry, id };
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
        let liveness = liveness_of(&file)?;
        Ok(Self { liveness, ..Self::map(file, Protection::ReadWrite)? })
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
        let magic = first.magic.load(std::sync::atomic::Ordering::Acquire);
        if magic == 0 {
            return Err(ArenaError::Unfinished);
        }
        if magic != MAGIC {
            let reversed = magic == MAGIC.swap_bytes();
            let what = if reversed { "it has the other byte order" } else { "the magic number is missing" };
            return Err(ArenaError::Foreign(what.into()));
        }
        let (version, order) = (first.version.load(Relaxed), first.byte_order.load(Relaxed));
        if version != VERSION {
            return Err(ArenaError::OtherVersion { found: version });
        }
        if order != BYTE_ORDER {
            return Err(ArenaError::Foreign(format!("its byte order is {order:#x} and not {BYTE_ORDER:#x}")));
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
        Ok(Self { mapping, file, liveness: None, geometry, id })
    }

    /// Gives an arena on disk that nobody has open another id if its files are not those that it was made in: a copy must
    /// not be taken for its original.
    pub(crate) fn settle(&mut self) -> Result<(), ArenaError> {
        let first = self.superblock();
        let (device, inode) = self.file.identity();
        if (first.home_device.load(Relaxed), first.home_inode.load(Relaxed)) == (device, inode) {
            return Ok(());
        }
        let id = ArenaId(random_u64()?);
        first.id.store(id.0, Relaxed);
        // Behind the id: a crash in between gives it one more.
        first.home_device.store(device, Relaxed);
        first.home_inode.store(inode, Relaxed);
        self.id = id;
        Ok(())
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

    /// The file with the liveness locks, open for them.
    pub(crate) fn liveness(&self) -> &MemoryFile {
        self.liveness.as_ref().unwrap_or(&self.file)
    }

    /// In a forked child: leaves the parent's liveness lock to the parent.
    pub(crate) fn part_from_parent(&self) -> Result<(), ArenaError> {
        Ok(self.liveness.as_ref().map_or(Ok(()), MemoryFile::part_from_parent)?)
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

    /// Asks for what a change of the references to a block touches besides the lock, before that is taken: another
    /// process may have written to all of it last.
    #[inline]
    pub(crate) fn expect_change_of(&self, index: u32) {
        expect_write(&raw const self.superblock().parcels_free);
        if let Ok(entry) = self.block(index) {
            expect_write(entry);
            expect_write(self.holders(index).as_ptr());
        }
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

fn liveness_of(file: &MemoryFile) -> Result<Option<MemoryFile>, ArenaError> {
    Ok(file.is_on_disk().then(|| file.again()).transpose()?)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn small() -> Geometry {
        Geometry { slots: 64, blocks: 64, parcels: 64, stripe: 1 << 20, capacity: 4 << 20 }
    }

    #[test]
    fn an_unfinished_or_foreign_file_is_refused() {
        let meta = Meta::create(Place::Memory, ArenaId(1), small()).unwrap();
        let reopen = || MemoryFile::open_of(std::process::id(), meta.descriptor()).unwrap();
        assert!(matches!(Meta::adopt(reopen()), Err(ArenaError::Unfinished)));
        meta.seal();
        assert_eq!(Meta::adopt(reopen()).unwrap().geometry(), &small());
        for damage in [
            |s: &Superblock| s.byte_order.store(0x0403_0201, Relaxed),
            |s: &Superblock| s.magic.store(MAGIC.swap_bytes(), Relaxed),
            |s: &Superblock| s.blocks.store(u32::MAX, Relaxed),
            |s: &Superblock| s.slots.store(0, Relaxed),
            |s: &Superblock| s.capacity.store(u64::MAX, Relaxed),
            |s: &Superblock| s.stripe.store(3, Relaxed),
        ] {
            let fresh = Meta::create(Place::Memory, ArenaId(1), small()).unwrap();
            fresh.seal();
            damage(fresh.superblock());
            let file = MemoryFile::open_of(std::process::id(), fresh.descriptor()).unwrap();
            assert!(matches!(Meta::adopt(file), Err(ArenaError::Foreign(_))));
        }
    }

    #[test]
    fn another_version_is_told_from_other_files() {
        let meta = Meta::create(Place::Memory, ArenaId(1), small()).unwrap();
        meta.seal();
        meta.superblock().version.store(99, Relaxed);
        let file = MemoryFile::open_of(std::process::id(), meta.descriptor()).unwrap();
        assert!(matches!(Meta::adopt(file), Err(ArenaError::OtherVersion { found: 99 })));
    }

    #[test]
    fn holder_bits_are_apart() {
        let meta = Meta::create(Place::Memory, ArenaId(1), small()).unwrap();
        meta.set_holder(3, 63);
        assert!(meta.is_held(3) && !meta.is_held(2) && !meta.is_held(4));
        meta.clear_holder(3, 62);
        assert!(meta.is_held(3));
        meta.clear_holder(3, 63);
        assert!(!meta.is_held(3));
    }
}
