//! Arenas whose metadata anybody may have written, for the fuzzers. Compiled for them alone.

use std::path::Path;
use std::sync::atomic::AtomicU8;

use onecopy_os::{FileAccess, Mapping, MemoryFile, PrivateDirectory, Protection};

use crate::layout::{BlockEntry, Geometry, ParcelEntry, SlotEntry, Superblock};

use super::{Arena, ArenaError, Data, Meta, Options, Relaxed};

/// An arena that is unmapped with this value, unlike those that programs are members of.
#[derive(Debug)]
pub struct Specimen {
    arena: &'static Arena,
}

/// A new metadata file and what is in it.
#[derive(Debug)]
pub struct Draught {
    file: MemoryFile,
    mapping: Mapping,
}

fn bytes(mapping: &Mapping) -> &[AtomicU8] {
    // SAFETY: the mapping is readable and writable and lives as long as the slice; atomics may be shared with anybody.
    unsafe { std::slice::from_raw_parts(mapping.base().as_ptr().cast(), mapping.len()) }
}

impl Draught {
    /// A metadata file of `size` bytes that begins with those of a new arena.
    pub fn new(size: u64) -> Result<Self, ArenaError> {
        let template = Arena::make(Options { limit: Some(1 << 20), warm: None })?;
        let specimen = Specimen { arena: template };
        let file = MemoryFile::create("onecopy-meta", size.max(1))?;
        let mapping = Mapping::of(&file, Protection::ReadWrite)?;
        for (to, from) in bytes(&mapping).iter().zip(specimen.metadata()) {
            to.store(from.load(Relaxed), Relaxed);
        }
        Ok(Self { file, mapping })
    }

    /// Its bytes.
    pub fn metadata(&self) -> &[AtomicU8] {
        bytes(&self.mapping)
    }

    /// The size that the geometry in the file asks for.
    pub fn size_by_header(&self) -> u64 {
        let field = |at: usize, width: usize| {
            let value = |i: usize| self.metadata().get(at + i).map_or(0, |byte| u64::from(byte.load(Relaxed)));
            (0..width).fold(0, |number, i| number | value(i) << (8 * i))
        };
        let u32_at = |at| field(at, 4) as u32;
        Geometry {
            slots: u32_at(std::mem::offset_of!(Superblock, slots)),
            blocks: u32_at(std::mem::offset_of!(Superblock, blocks)),
            parcels: u32_at(std::mem::offset_of!(Superblock, parcels)),
            stripe: field(std::mem::offset_of!(Superblock, stripe), 8),
            capacity: field(std::mem::offset_of!(Superblock, capacity), 8),
        }
        .metadata_size()
    }

    /// Joins it, with data files of the size that it says.
    pub fn adopt(self) -> Result<Specimen, ArenaError> {
        let meta = Meta::adopt(self.file)?;
        let data = Data::create(crate::place::Place::Memory, meta.id(), meta.geometry())?;
        let specimen = Specimen { arena: Arena::leaked(meta, data) };
        free_own_lock(specimen.arena);
        specimen.arena.take_slot()?;
        free_own_lock(specimen.arena);
        Ok(specimen)
    }
}

impl Specimen {
    /// A new arena with `limit` bytes of memory.
    pub fn new(limit: u64) -> Result<Self, ArenaError> {
        Ok(Self { arena: Arena::make(Options { limit: Some(limit), warm: None })? })
    }

    /// The arena in a directory, as it is opened by its first process.
    pub fn open(path: &Path) -> Result<Self, ArenaError> {
        let directory = PrivateDirectory::existing(path)?.ok_or_else(|| ArenaError::NotThere(path.into()))?;
        let meta = Arena::meta_file(&directory, FileAccess::ReadWrite)?;
        Ok(Self { arena: Arena::open_in(&directory, meta)? })
    }

    /// The arena. Neither it nor blocks of it may be used when the specimen has been dropped.
    pub fn arena(&self) -> &'static Arena {
        self.arena
    }

    /// The bytes of the metadata.
    pub fn metadata(&self) -> &[AtomicU8] {
        self.arena.meta.bytes()
    }

    /// Where each table of the metadata starts, and how large an entry is: superblock, slots, directory, holders, parcels.
    pub fn tables(&self) -> [(usize, usize); 5] {
        let geometry = self.arena.meta.geometry();
        [
            (0, 256),
            (geometry.slots_at(), size_of::<SlotEntry>()),
            (geometry.directory_at(), size_of::<BlockEntry>()),
            (geometry.holders_at(), geometry.holder_words() as usize * 8),
            (geometry.parcels_at(), size_of::<ParcelEntry>()),
        ]
    }

    /// Writes into the metadata, as another process might.
    pub fn damage(&self, position: usize, value: u8) {
        self.metadata()[position % self.metadata().len()].store(value, Relaxed);
        free_own_lock(self.arena);
    }
}

/// A lock that says this very process holds it would be waited for: for another thread of it that there is not.
fn free_own_lock(arena: &Arena) {
    let lock = &arena.meta.superblock().heap_lock;
    if lock.owner().is_some_and(|owner| owner.bits() == arena.me.load(Relaxed)) {
        // SAFETY: the lock is one atomic word, and nothing holds it: this is the only thread that uses the arena.
        unsafe { &*std::ptr::from_ref(lock).cast::<std::sync::atomic::AtomicU32>() }.store(0, Relaxed);
    }
}

impl Drop for Specimen {
    fn drop(&mut self) {
        // SAFETY: `Arena::leaked` made it from a box, no registry knows it, and its users are told to have gone.
        drop(unsafe { Box::from_raw(std::ptr::from_ref(self.arena).cast_mut()) });
    }
}
