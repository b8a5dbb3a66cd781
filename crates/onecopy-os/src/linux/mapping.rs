//! Address space: one reservation in which files are placed.

use std::os::fd::AsFd;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags};

use crate::{MemoryFile, OsError};

/// What a mapping may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Loads only; a store faults.
    Read,
    /// Loads and stores.
    ReadWrite,
    /// Loads and stores on private pages: what is stored stays in this process.
    CopyOnWrite,
}

/// A range of address space that this value owns.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is an address range; who may touch which byte when is decided by those that dereference it.
unsafe impl Send for Mapping {}
// SAFETY: as above; the methods of `Mapping` itself do not touch the mapped bytes.
unsafe impl Sync for Mapping {}

/// Bytes in a page.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

impl Mapping {
    /// Reserves `len` bytes of addresses with nothing behind them.
    pub fn reserve(len: usize) -> Result<Self, OsError> {
        // SAFETY: the kernel chooses the place, so no existing mapping is touched.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }
        .map_err(|e| OsError::new(format!("reserve {len} bytes of address space"), e))?;
        let base = NonNull::new(base.cast()).expect("mmap never answers null");
        Ok(Self { base, len })
    }

    /// As [`reserve`](Self::reserve), from an address that is a multiple of `alignment`, a power of two of whole pages.
    pub fn reserve_aligned(len: usize, alignment: usize) -> Result<Self, OsError> {
        let len = len.next_multiple_of(page_size());
        let mut mapping = Self::reserve(len.saturating_add(alignment))?;
        let lead = mapping.base.as_ptr().align_offset(alignment);
        // SAFETY: both ranges are whole pages of this value's own reservation outside of what it owns from here on; the
        // new base lies inside of it.
        unsafe {
            let base = mapping.base.add(lead);
            let _ = rustix::mm::munmap(mapping.base.as_ptr().cast(), lead);
            let _ = rustix::mm::munmap(base.as_ptr().add(len).cast(), alignment - lead);
            mapping.base = base;
        }
        mapping.len = len;
        Ok(mapping)
    }

    /// Reserves addresses for a whole file and maps it.
    pub fn of(file: &MemoryFile, protection: Protection) -> Result<Self, OsError> {
        let mapping = Self::reserve(file.size() as usize)?;
        mapping.place(0, file, 0, file.size() as usize, protection)?;
        mapping.leave_out_of_core_dumps();
        Ok(mapping)
    }

    /// A core dump of every peer must not carry the data. Once for all that has been placed: a call for each piece would
    /// cost as much as placing it.
    pub fn leave_out_of_core_dumps(&self) {
        // SAFETY: advice about addresses of this value's own reservation, which changes no byte.
        // A failure only makes dumps larger.
        let _ = unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.len, Advice::LinuxDontDump) };
    }

    /// Maps `len` bytes of `file` from `offset` at `at` bytes into this range.
    ///
    /// What is mapped from a descriptor for reading only, nobody can make writable later.
    pub fn place(
        &self,
        at: usize,
        file: impl AsFd,
        offset: u64,
        len: usize,
        protection: Protection,
    ) -> Result<(), OsError> {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "the place lies outside of the reservation");
        let (prot, flags) = match protection {
            Protection::Read => (ProtFlags::READ, MapFlags::SHARED),
            Protection::ReadWrite => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED),
            Protection::CopyOnWrite => (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE),
        };
        // SAFETY: MAP_FIXED replaces only addresses inside this value's own reservation (asserted above).
        unsafe {
            let address = self.base.as_ptr().add(at);
            let flags = flags | MapFlags::FIXED | MapFlags::NORESERVE;
            rustix::mm::mmap(address.cast(), len, prot, flags, file, offset)
                .map_err(|e| OsError::new(format!("map {len} bytes of a memory file"), e))?;
        }
        Ok(())
    }

    /// First address.
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes of address space.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the range has no bytes; never, as the kernel refuses such a mapping.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Position of an address in this range, if it lies inside.
    pub fn position_of(&self, address: usize) -> Option<usize> {
        address.checked_sub(self.base.as_ptr() as usize).filter(|&at| at < self.len)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was reserved by this value and everything in it was placed by it.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_files_lie_back_to_back() {
        let page = page_size();
        let (a, b) = (MemoryFile::create("a", page as u64).unwrap(), MemoryFile::create("b", page as u64).unwrap());
        a.write_at(&vec![1; page], 0).unwrap();
        b.write_at(&vec![2; page], 0).unwrap();
        let mapping = Mapping::reserve(2 * page).unwrap();
        mapping.place(0, &a, 0, page, Protection::Read).unwrap();
        mapping.place(page, &b, 0, page, Protection::Read).unwrap();
        // SAFETY: both pages are mapped readable and nobody writes them.
        let bytes = unsafe { std::slice::from_raw_parts(mapping.base().as_ptr(), 2 * page) };
        assert_eq!((bytes[page - 1], bytes[page]), (1, 2));
    }

    #[test]
    fn private_stores_stay_private() {
        let file = MemoryFile::create("a", 4096).unwrap();
        let shared = Mapping::of(&file, Protection::Read).unwrap();
        let private = Mapping::of(&file, Protection::CopyOnWrite).unwrap();
        // SAFETY: both mappings are one page long and only this thread uses them.
        unsafe {
            private.base().as_ptr().write_volatile(7);
            assert_eq!(private.base().as_ptr().read_volatile(), 7);
            assert_eq!(shared.base().as_ptr().read_volatile(), 0);
        }
    }
}
