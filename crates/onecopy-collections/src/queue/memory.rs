//! Where the records of a segment lie.

use std::ptr::NonNull;

use onecopy_arena::{Access, Block};
use onecopy_os::expect_write;

use super::record::{HEADER, Header, UNIT};
use super::segment::MOST_UNITS;

/// Units of the smallest segment.
const LEAST_UNITS: u32 = 1 << 6;

/// Where the lines of the cache begin that a producer of short messages writes to after the next, in units.
const WRITTEN_NEXT: [u32; 2] = [8, 12];

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

    /// That of a segment which is a block of its own.
    pub(super) fn of(block: &Block) -> Option<Self> {
        // SAFETY: the address is of as many bytes as the block has, and whoever uses this keeps the block.
        block.address(Access::ReadWrite).and_then(|first| unsafe { Self::new(first, block.len()) })
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

    /// Asks for the memory a little behind a position, to write to it soon: consumers read it when it was last in use, and
    /// to get it back takes longer than to write a message.
    #[inline]
    pub(super) fn expect_write(self, position: u32) {
        for ahead in WRITTEN_NEXT {
            if let Some(at) = self.at(position.wrapping_add(ahead), 1) {
                expect_write(at.as_ptr());
            }
        }
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
