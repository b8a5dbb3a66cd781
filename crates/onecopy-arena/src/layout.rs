//! Where everything lies in the metadata file. All of it is atomics: any of it may be changed by another process at any
//! time.

use onecopy_sync::{RobustMutex, Tag};
use std::fmt;

use crate::ArenaError;
use crate::door::{AtomicU32, AtomicU64};
use crate::parcel_word::ParcelWord;
use crate::slot_word::SlotWord;

/// First bytes of the file.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"onecopy\x01");
/// Version of the format.
pub(crate) const VERSION: u32 = 3;
/// Reads back reversed on a machine of the other byte order.
pub(crate) const BYTE_ORDER: u32 = 0x0102_0304;
/// Every extent starts and ends at a multiple of this: a cache line.
pub(crate) const GRAIN: u64 = 64;
/// No entry.
pub(crate) const NONE: u32 = u32::MAX;
/// An arena in which nothing has been published.
pub(crate) const NO_ROOT: u64 = u64::MAX;
/// Data files of an arena: filling fresh memory through one inode is serialised by its lock.
pub(crate) const DATA_FILES: usize = 2;
/// Size classes of free extents: four per power of two.
pub(crate) const CLASSES: usize = 4 * 48;
/// Smallest data area.
const LEAST_CAPACITY: u64 = 1 << 20;

/// A random name of an arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ArenaId(pub u64);

impl fmt::Display for ArenaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Parts of an arena's files' names: the metadata, and the data files in the order of their stripes.
pub(crate) const META: &str = "meta";
pub(crate) const DATA: [&str; DATA_FILES] = ["data-a", "data-b"];
const FILE_PREFIX: &str = "onecopy-";

/// The name of one of an arena's files, by which others find it in `/proc`.
pub(crate) fn file_name(id: ArenaId, part: &str) -> String {
    format!("{FILE_PREFIX}{id}-{part}")
}

/// The arena and the part that a file's name says.
pub(crate) fn parse_file_name(name: &str) -> Option<(ArenaId, &str)> {
    let (id, part) = name.strip_prefix(FILE_PREFIX)?.split_once('-')?;
    Some((ArenaId(u64::from_str_radix(id, 16).ok()?), part))
}

/// Sizes of an arena's tables, fixed when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Processes at a time.
    pub slots: u32,
    /// Directory entries: blocks and free extents.
    pub blocks: u32,
    /// Handles in flight at a time.
    pub parcels: u32,
    /// Bytes of a stripe of the data area; a power of two.
    pub stripe: u64,
    /// Bytes of the data area, a multiple of the stripe.
    pub capacity: u64,
}

/// Memory mappings a process may have is limited, and each costs a microsecond when joining.
const MOST_STRIPES: u64 = 128;
const LEAST_STRIPE: u64 = 64 << 20;

impl Geometry {
    /// The tables for an arena whose limit is `limit` bytes.
    pub fn for_limit(limit: u64) -> Self {
        Self::with_blocks_of(limit, 2048)
    }

    /// As [`for_limit`](Self::for_limit), on disk, where the tables take space from the start: they are made for larger
    /// blocks.
    pub(crate) fn on_disk(limit: u64) -> Self {
        Self::with_blocks_of(limit, 256 << 10)
    }

    fn with_blocks_of(limit: u64, bytes: u64) -> Self {
        let wanted = limit.saturating_mul(2).clamp(LEAST_CAPACITY, 1 << 46);
        let stripe = (wanted / MOST_STRIPES).next_power_of_two().max(LEAST_STRIPE.min(wanted.next_power_of_two() / 2));
        // Sparse, but address space all the same: a small arena gets small tables.
        let blocks = (wanted / bytes).clamp(1 << 12, 1 << 21).next_power_of_two() as u32;
        Self { slots: 512, blocks, parcels: blocks / 2, stripe, capacity: wanted.next_multiple_of(stripe) }
    }

    pub(crate) fn holder_words(&self) -> u32 {
        self.slots / 64
    }

    fn region_offsets(&self) -> [u64; 5] {
        let slots = 4096_u64.max(size_of::<Superblock>() as u64).next_multiple_of(4096);
        let directory = (slots + u64::from(self.slots) * size_of::<SlotEntry>() as u64).next_multiple_of(4096);
        let holders = directory + u64::from(self.blocks) * size_of::<BlockEntry>() as u64;
        let parcels = holders + u64::from(self.blocks) * u64::from(self.holder_words()) * 8;
        let end = parcels + u64::from(self.parcels) * size_of::<ParcelEntry>() as u64;
        [slots, directory, holders, parcels, end.next_multiple_of(4096)]
    }

    pub(crate) fn slots_at(&self) -> usize {
        self.region_offsets()[0] as usize
    }

    pub(crate) fn directory_at(&self) -> usize {
        self.region_offsets()[1] as usize
    }

    pub(crate) fn holders_at(&self) -> usize {
        self.region_offsets()[2] as usize
    }

    pub(crate) fn parcels_at(&self) -> usize {
        self.region_offsets()[3] as usize
    }

    /// Bytes of the metadata file.
    pub(crate) fn metadata_size(&self) -> u64 {
        self.region_offsets()[4]
    }

    /// Bytes of one data file.
    pub(crate) fn data_file_size(&self) -> u64 {
        (self.capacity / self.stripe).div_ceil(DATA_FILES as u64) * self.stripe
    }

    /// Refuses a geometry that would let an index leave the file or an offset leave the data area.
    pub(crate) fn verify(&self, metadata_size: u64) -> Result<(), ArenaError> {
        let sound = self.slots.is_multiple_of(64)
            && (64..Tag::SLOT_LIMIT).contains(&self.slots)
            && (16..=1 << 26).contains(&self.blocks)
            && (16..=1 << 26).contains(&self.parcels)
            && self.stripe.is_power_of_two()
            && self.stripe >= 4096
            && self.capacity >= LEAST_CAPACITY
            && self.capacity <= 1 << 47
            && self.capacity.is_multiple_of(self.stripe)
            // Each is a mapping.
            && self.capacity / self.stripe <= 2 * MOST_STRIPES
            && self.metadata_size() == metadata_size;
        if sound { Ok(()) } else { Err(ArenaError::Foreign(format!("impossible geometry {self:?}"))) }
    }
}

/// The first page.
#[repr(C)]
pub(crate) struct Superblock {
    pub(crate) magic: AtomicU64,
    pub(crate) version: AtomicU32,
    pub(crate) byte_order: AtomicU32,
    pub(crate) id: AtomicU64,
    pub(crate) slots: AtomicU32,
    pub(crate) blocks: AtomicU32,
    pub(crate) parcels: AtomicU32,
    /// Protects everything below and all extents and parcels.
    pub(crate) heap_lock: RobustMutex,
    pub(crate) stripe: AtomicU64,
    pub(crate) capacity: AtomicU64,
    /// Bytes of memory that may be behind the data area.
    pub(crate) limit: AtomicU64,
    /// Bytes of free extents that may stay warm.
    pub(crate) warm_budget: AtomicU64,
    pub(crate) used_bytes: AtomicU64,
    pub(crate) warm_bytes: AtomicU64,
    pub(crate) used_blocks: AtomicU32,
    /// Entries at and above this index have never been in use.
    pub(crate) entries_touched: AtomicU32,
    /// Head of the list of unused entries below.
    pub(crate) entries_free: AtomicU32,
    pub(crate) parcels_touched: AtomicU32,
    pub(crate) parcels_free: AtomicU32,
    pub(crate) parcels_full: AtomicU32,
    /// The block by which the published names are found: generation in the upper half, entry in the lower.
    pub(crate) root: AtomicU64,
    /// Heads of the lists of warm, then of fresh extents, per size class.
    pub(crate) bins: [[AtomicU32; CLASSES]; 2],
    /// Not zero: the caches are to be rebuilt before anything else is done.
    pub(crate) disorder: AtomicU32,
    /// Device and inode of this file when it was made; on disk, another file is a copy of the arena.
    pub(crate) home_device: AtomicU64,
    pub(crate) home_inode: AtomicU64,
}

/// A process.
#[repr(C, align(64))]
pub(crate) struct SlotEntry {
    /// Generation in the upper half, [`SlotState`](crate::slot_word::SlotState) in the lower.
    pub(crate) word: SlotWord,
    pub(crate) start_time: AtomicU64,
    /// Bytes that this process may still commit from past budget checks.
    pub(crate) promised: AtomicU64,
    pub(crate) pid: AtomicU32,
}

/// An extent of the data area.
#[repr(C, align(64))]
pub(crate) struct BlockEntry {
    pub(crate) state: AtomicU32,
    pub(crate) generation: AtomicU32,
    pub(crate) offset: AtomicU64,
    pub(crate) size: AtomicU64,
    /// Bytes that were asked for; at most `size`.
    pub(crate) len: AtomicU64,
    pub(crate) flags: AtomicU32,
    /// Cache: full parcels of this block.
    pub(crate) parcels: AtomicU32,
    /// Cache: the first of the parcels that lie in this block.
    pub(crate) owned: AtomicU32,
    /// Neighbours in address order.
    pub(crate) before: AtomicU32,
    pub(crate) after: AtomicU32,
    /// Neighbours in a bin, or in the list of unused entries.
    pub(crate) bin_previous: AtomicU32,
    pub(crate) bin_next: AtomicU32,
}

/// A reference to a block from no process: a handle in flight, or one that lies in another block.
#[repr(C, align(32))]
pub(crate) struct ParcelEntry {
    pub(crate) word: ParcelWord,
    pub(crate) block: AtomicU32,
    pub(crate) generation: AtomicU32,
    /// The block that the parcel lies in; `NONE` while it is in a channel that the arena knows nothing of.
    pub(crate) owner: AtomicU32,
    pub(crate) owner_generation: AtomicU32,
    /// Cache: neighbours among the parcels of the owner, or in the list of empty parcels.
    pub(crate) previous: AtomicU32,
    pub(crate) next: AtomicU32,
}

/// The atomics of models are larger.
#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Superblock>() <= 4096);
    assert!(size_of::<SlotEntry>() == 64);
    assert!(size_of::<BlockEntry>() == 64);
    assert!(size_of::<ParcelEntry>() == 32);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_whose_it_is() {
        let id = ArenaId(0xfeed);
        assert_eq!(parse_file_name(&file_name(id, DATA[1])), Some((id, "data-b")));
        for other in ["onecopy-meta", "onecopy-xyz-meta", "other-1-meta", ""] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
    }

    #[test]
    fn every_limit_gives_a_sound_geometry() {
        for shift in 12..46 {
            for limit in [1_u64 << shift, (1 << shift) + 12_345] {
                for geometry in [Geometry::for_limit(limit), Geometry::on_disk(limit)] {
                    geometry.verify(geometry.metadata_size()).unwrap();
                    assert!(geometry.capacity >= limit.min(1 << 46), "{geometry:?}");
                    assert!(geometry.capacity / geometry.stripe <= 2 * MOST_STRIPES, "{geometry:?}");
                }
            }
        }
    }
}
