//! The memory of the ring: the end of the queue's own block at first, blocks of their own when it has grown.

use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering::AcqRel, Ordering::Relaxed};

use onecopy_arena::{Access, ArenaError, Block, BlockId, ParcelId};
use onecopy_os::crash_point;

use super::record::{Enclosed, HEADER, Header, UNIT};

/// Units of the largest segment, 1 MiB: half of what a position can tell apart.
pub(super) const MOST_UNITS: u32 = 1 << 16;
/// Units of the smallest segment.
const LEAST_UNITS: u32 = 1 << 6;

/// Memory of a ring, whose length in units is a power of two.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    first: NonNull<u8>,
    units: u32,
}

// SAFETY: an address that is good as long as the block that it was made for; what lies there is copied in and out by
// whoever holds the lock of that end of the queue, in this process as in others.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Finds out how much of `len` bytes a ring can use; none where they are too few.
    ///
    /// # Safety
    ///
    /// `first` is the address of `len` writable bytes, aligned to 16, that live as long as this is used.
    pub unsafe fn new(first: NonNull<u8>, len: u64) -> Option<Self> {
        let units = u32::try_from(len / UNIT as u64).unwrap_or(u32::MAX).min(MOST_UNITS);
        let units = (units >= LEAST_UNITS).then(|| 1 << units.ilog2())?;
        first.cast::<[u64; 2]>().is_aligned().then_some(Self { first, units })
    }

    pub(super) fn units(self) -> u32 {
        self.units
    }

    /// Units from a position to the end of the memory.
    pub(super) fn to_end(self, position: u32) -> u32 {
        self.units - (position & (self.units - 1))
    }

    fn at(self, position: u32, bytes: usize) -> Option<NonNull<u8>> {
        let start = (position & (self.units - 1)) as usize * UNIT;
        let fits = start + bytes <= self.units as usize * UNIT;
        // SAFETY: the start lies inside the memory, as its unit is less than their number.
        fits.then(|| unsafe { self.first.add(start) })
    }

    /// The header at a position, if it is one.
    #[inline]
    pub(super) fn header(self, position: u32) -> Option<Header> {
        let at = self.at(position, HEADER)?;
        // SAFETY: eight bytes inside the memory, aligned to 16; volatile, so that what is checked is what is used.
        Header::unpack(u64::from_le(unsafe { at.cast::<u64>().read_volatile() }))
    }

    /// Copies a record in; answers whether there was room before the end of the memory.
    #[inline]
    #[must_use]
    pub(super) fn write(self, position: u32, record: &[u8]) -> bool {
        let Some(at) = self.at(position, record.len()) else { return false };
        // SAFETY: the bytes lie inside the memory (checked), and a slice of this process's does not overlap with it.
        unsafe { record.as_ptr().copy_to_nonoverlapping(at.as_ptr(), record.len()) };
        true
    }

    /// Appends a record to `bytes`, with the header that was checked; answers whether it lay inside the memory.
    #[inline]
    #[must_use]
    pub(super) fn read(self, position: u32, header: Header, bytes: &mut Vec<u8>) -> bool {
        let len = header.units() as usize * UNIT;
        let Some(at) = self.at(position, len) else { return false };
        let start = bytes.len();
        bytes.reserve(len);
        // SAFETY: the bytes lie inside the memory (checked), room for them was reserved, and they are all written to
        // before the length says so.
        unsafe {
            bytes.as_mut_ptr().add(start).copy_from_nonoverlapping(at.as_ptr(), len);
            bytes.set_len(start + len);
        }
        bytes[start..start + HEADER].copy_from_slice(&header.pack().to_le_bytes());
        true
    }
}

/// A segment that this process has open.
#[derive(Debug)]
pub(super) struct Segment {
    block: Block,
    memory: Memory,
}

impl Segment {
    pub(super) fn over(block: Block) -> Result<Self, ArenaError> {
        let first = block.address(Access::ReadWrite);
        // SAFETY: the address is of as many bytes as the block has, and the block lives as long as the segment.
        let memory = first.and_then(|first| unsafe { Memory::new(first, block.len()) });
        let memory = memory.ok_or_else(|| damaged("a segment of the queue is too short or sealed"))?;
        Ok(Self { block, memory })
    }

    pub(super) fn memory(&self) -> Memory {
        self.memory
    }

    pub(super) fn block(&self) -> &Block {
        &self.block
    }
}

pub(super) fn damaged(what: &str) -> ArenaError {
    ArenaError::Damaged(what.into())
}

/// The segment that this process used last at one end of the queue. Taken out while it is used, so that a fork in the
/// meantime finds nothing or all of it; and only by one thread at a time, as it has the lock of that end.
#[derive(Debug)]
pub(super) struct Last(AtomicPtr<Segment>);

impl Last {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    pub(super) fn take(&self) -> Option<Box<Segment>> {
        let segment = NonNull::new(self.0.swap(null_mut(), AcqRel))?;
        // SAFETY: the address came from a box in `put`, and whoever swaps it out is the only one to have it.
        Some(unsafe { Box::from_raw(segment.as_ptr()) })
    }

    pub(super) fn put(&self, segment: Box<Segment>) {
        let before = self.0.swap(Box::into_raw(segment), AcqRel);
        if let Some(before) = NonNull::new(before) {
            // SAFETY: as in `take`.
            drop(unsafe { Box::from_raw(before.as_ptr()) });
        }
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// Says in shared memory which block a segment is.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Name {
    number: AtomicU32,
    block: [AtomicU32; 2],
    parcel: [AtomicU32; 2],
}

/// Index of a block that is none: the segment is the end of the queue's own block.
const HOME: u32 = u32::MAX;

impl Name {
    /// The name of a segment, none if this is another's; a segment has no block if it is the queue's own.
    #[expect(clippy::option_option, reason = "no name, and the name of a segment that is no block, are two things")]
    pub(super) fn get(&self, number: u32) -> Option<Option<Enclosed>> {
        let [index, generation] = [&self.block[0], &self.block[1]].map(|word| word.load(Relaxed));
        let [parcel, sequence] = [&self.parcel[0], &self.parcel[1]].map(|word| word.load(Relaxed));
        let block = BlockId { index, generation };
        let name = (index != HOME).then_some(Enclosed { block, parcel: ParcelId { index: parcel, sequence } });
        (self.number.load(Relaxed) == number).then_some(name)
    }

    pub(super) fn set(&self, number: u32, name: Option<Enclosed>) {
        let none =
            Enclosed { block: BlockId { index: HOME, generation: 0 }, parcel: ParcelId { index: 0, sequence: 0 } };
        let Enclosed { block, parcel } = name.unwrap_or(none);
        self.block[0].store(block.index, Relaxed);
        self.block[1].store(block.generation, Relaxed);
        crash_point!("queue.segment.half-named");
        self.parcel[0].store(parcel.index, Relaxed);
        self.parcel[1].store(parcel.sequence, Relaxed);
        self.number.store(number, Relaxed);
    }
}
