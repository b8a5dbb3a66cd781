//! The segments of the ring: the end of the queue's own block at first, blocks of their own when it has grown.

use std::ptr::{NonNull, null_mut};
use std::sync::atomic::AtomicPtr;

use onecopy_arena::{ArenaError, BlockId, ParcelId};

use super::door::{AtomicU32, Block, Memory, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed, crash_point};
use super::record::Enclosed;

/// Units of the largest segment, 1 MiB: half of what a position can tell apart.
pub(super) const MOST_UNITS: u32 = 1 << 16;
/// A segment that this process has open.
#[derive(Debug)]
pub(super) struct Segment {
    block: Block,
    memory: Memory,
}

impl Segment {
    pub(super) fn over(block: Block) -> Result<Self, ArenaError> {
        let memory = Memory::of(&block).ok_or_else(|| damaged("a segment of the queue is too short or sealed"))?;
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

/// The segment that this process used last at one end of the queue. Only one thread at a time uses it, as it has the
/// lock of that end; it is replaced in one step, so that a fork in the meantime finds all of the one or of the other.
#[derive(Debug)]
pub(super) struct Last(AtomicPtr<Segment>);

impl Last {
    pub(super) const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// Its memory, if it is that of this block. It stays good until another segment is put here.
    #[inline]
    pub(super) fn memory_of(&self, block: BlockId) -> Option<Memory> {
        let segment = NonNull::new(self.0.load(Acquire))?;
        // SAFETY: the address came from a box in `put`, and whoever replaces it has the lock that the caller has.
        let segment = unsafe { segment.as_ref() };
        (segment.block.id() == block).then_some(segment.memory)
    }

    pub(super) fn put(&self, segment: Box<Segment>) {
        self.replace(Box::into_raw(segment));
    }

    fn replace(&self, segment: *mut Segment) {
        if let Some(before) = NonNull::new(self.0.swap(segment, AcqRel)) {
            // SAFETY: the address came from a box in `put`, and whoever swaps it out is the only one to have it.
            drop(unsafe { Box::from_raw(before.as_ptr()) });
        }
    }
}

impl Drop for Last {
    fn drop(&mut self) {
        self.replace(null_mut());
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
    #[cfg(all(test, loom))]
    pub(super) fn zeros() -> Self {
        let [number, index, generation, parcel, sequence] = [(); 5].map(|()| AtomicU32::new(0));
        Self { number, block: [index, generation], parcel: [parcel, sequence] }
    }

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
