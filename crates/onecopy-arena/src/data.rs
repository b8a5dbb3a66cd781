//! The data area: files in stripes, mapped twice. The only place that copies bytes in and out of it.

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

use onecopy_os::{Bound, FileAccess, Machine, Mapping, MemoryFile, OsError, Protection, huge_page_size, page_size};

use crate::ArenaError;
use crate::huge_pages::HugePages;
use crate::layout::{ArenaId, DATA, DATA_FILES, Geometry};
use crate::place::Place;

/// Which of the two mappings of the data area an address lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Stores fault.
    ReadOnly,
    /// Loads and stores.
    ReadWrite,
}

/// A piece that one thread copies before it takes the next: small enough for threads to share the work evenly, large
/// enough to make the sharing free.
pub const CHUNK: usize = 4 << 20;

/// Parts of a range as (start, len), by the file in which they lie.
pub type Shares = [Vec<(u64, u64)>; DATA_FILES];

/// The mapped data files.
#[derive(Debug)]
pub(crate) struct Data {
    files: [MemoryFile; DATA_FILES],
    writable: Mapping,
    readable: Mapping,
    stripe: u64,
    capacity: u64,
    /// None where a huge page does not fit into a file, or the file system makes the pages.
    huge_pages: Option<HugePages>,
}

/// One part of a range that lies in one file.
struct Piece {
    file: usize,
    in_file: u64,
    in_range: u64,
    len: u64,
}

impl Data {
    pub(crate) fn create(place: Place<'_>, id: ArenaId, geometry: &Geometry) -> Result<Self, ArenaError> {
        let [a, b] = DATA.map(|part| place.create(id, part, geometry.data_file_size()));
        let files = [a?, b?];
        if files[0].is_on_disk() {
            // Without these there would be no way to run out of space but a SIGBUS: better to know now.
            files[0].reserve(0, page_size() as u64)?;
            files[0].punch(0, page_size() as u64)?;
        }
        Self::map(files, geometry)
    }

    pub(crate) fn adopt(files: [MemoryFile; DATA_FILES], geometry: &Geometry) -> Result<Self, ArenaError> {
        Self::check_sizes(&files, geometry)?;
        Self::map(files, geometry)
    }

    pub(crate) fn check_sizes(files: &[MemoryFile; DATA_FILES], geometry: &Geometry) -> Result<(), ArenaError> {
        if files.iter().all(|file| file.size() == geometry.data_file_size()) {
            return Ok(());
        }
        Err(ArenaError::Foreign("a data file has another size than the superblock says".into()))
    }

    /// Whether these are its files.
    pub(crate) fn is_in(&self, files: &[MemoryFile; DATA_FILES]) -> bool {
        self.files.iter().zip(files).all(|(own, other)| own.identity() == other.identity())
    }

    fn map(files: [MemoryFile; DATA_FILES], geometry: &Geometry) -> Result<Self, ArenaError> {
        let map = |descriptors: [BorrowedFd<'_>; DATA_FILES], protection| -> Result<Mapping, OsError> {
            let capacity = geometry.capacity as usize;
            let mapping = match huge_page_size() {
                // As stripes are in their files, so that a huge page of the file can be one of the mapping.
                Some(size) if size <= geometry.stripe => Mapping::reserve_aligned(capacity, size as usize)?,
                _ => Mapping::reserve(capacity)?,
            };
            for piece in pieces(geometry.stripe, 0, geometry.capacity) {
                let file = descriptors[piece.file];
                mapping.place(piece.in_range as usize, file, piece.in_file, piece.len as usize, protection)?;
            }
            mapping.leave_out_of_core_dumps();
            Ok(mapping)
        };
        let writable = map(files.each_ref().map(AsFd::as_fd), Protection::ReadWrite)?;
        // Through descriptors that cannot write, so that no `mprotect` makes this mapping writable. Where there is no
        // /proc to have them from, the mapping itself has to do.
        let readers = files.each_ref().map(|file| file.reopen(FileAccess::Read));
        let readable = match &readers {
            [Ok(a), Ok(b)] => map([a.as_fd(), b.as_fd()], Protection::Read)?,
            _ => map(files.each_ref().map(AsFd::as_fd), Protection::Read)?,
        };
        let &Geometry { stripe, capacity, .. } = geometry;
        let size = huge_page_size().filter(|&size| size <= stripe && !files[0].is_on_disk());
        let huge_pages = size.map(|size| HugePages::new(capacity, size));
        Ok(Self { files, writable, readable, stripe, capacity, huge_pages })
    }

    /// Limits on what may be put behind it, besides the arena's own: that of the disk, and those of the machine where it
    /// takes memory.
    pub(crate) fn bounds(&self) -> (Option<Bound>, Vec<Bound>) {
        let disk = self.files[0].is_on_disk().then(|| self.files[0].space().ok()).flatten();
        (disk, if self.files[0].takes_memory() { Machine::this().bounds() } else { Vec::new() })
    }

    /// What it means that space for `asked` bytes could not be had.
    pub(crate) fn refused(&self, error: OsError, asked: u64) -> ArenaError {
        match self.files[0].space() {
            Ok(bound) if self.files[0].is_on_disk() && error.is_full_disk() => ArenaError::out_of_memory(asked, bound),
            _ => ArenaError::refused(error, asked),
        }
    }

    /// Asks for huge pages behind all of it.
    pub(crate) fn advise_huge_pages(&self) -> Result<(), OsError> {
        self.writable.advise_huge_pages()?;
        self.readable.advise_huge_pages()
    }

    /// Bytes of a huge page, if there can be some here.
    pub(crate) fn huge_page_size(&self) -> Option<u64> {
        self.huge_pages.as_ref().map(HugePages::size)
    }

    /// Puts huge pages behind a range for whose memory there is room, as far as whole ones fit in; false if some could not
    /// be had: there may be no piece of memory that is large enough. Those keep their small ones, if they had any.
    pub(crate) fn make_huge_pages(&self, offset: u64, len: u64) -> bool {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.capacity));
        let Some(huge_pages) = &self.huge_pages else { return false };
        let runs: Vec<_> = huge_pages.missing(offset..offset + len).collect();
        runs.into_iter().all(|run| {
            // A huge page is made of small ones: of a single one as well, but not of none.
            let page = page_size() as u64;
            let first = run.clone().step_by(huge_pages.size() as usize).try_for_each(|at| self.reserve(at, page));
            let made =
                first.and_then(|()| self.writable.make_huge_pages(run.start as usize, (run.end - run.start) as usize));
            if made.is_ok() {
                huge_pages.note(run);
            }
            made.is_ok()
        })
    }

    /// Whether this process has put huge pages behind most of a range.
    pub(crate) fn is_in_huge_pages(&self, offset: u64, len: u64) -> bool {
        self.huge_pages.as_ref().is_some_and(|pages| pages.bytes_in(offset..offset + len) > len / 2)
    }

    /// Waits until all of it is on disk.
    pub(crate) fn sync(&self) -> Result<(), OsError> {
        self.files.iter().try_for_each(MemoryFile::sync)
    }

    /// The file that carries the transfer locks of forks. It must not be the metadata file: closing a descriptor of
    /// that would drop the liveness lock.
    pub(crate) fn lock_file(&self) -> &MemoryFile {
        &self.files[0]
    }

    #[cfg(all(test, not(loom)))]
    pub(crate) fn allocated(&self) -> u64 {
        self.files.iter().map(|file| file.allocated().unwrap()).sum()
    }

    pub(crate) fn files(&self) -> &[MemoryFile; DATA_FILES] {
        &self.files
    }

    fn mapping(&self, access: Access) -> &Mapping {
        match access {
            Access::ReadOnly => &self.readable,
            Access::ReadWrite => &self.writable,
        }
    }

    /// The address of a byte of the data area.
    pub(crate) fn address(&self, offset: u64, access: Access) -> NonNull<u8> {
        assert!(offset < self.capacity);
        // SAFETY: the offset lies inside the mapping (asserted), which is as long as the data area.
        unsafe { self.mapping(access).base().add(offset as usize) }
    }

    /// Offset of an address in the data area, and the mapping in which it lies.
    pub(crate) fn position_of(&self, address: usize) -> Option<(u64, Access)> {
        let within = |access| self.mapping(access).position_of(address).map(|at| (at as u64, access));
        within(Access::ReadWrite).or_else(|| within(Access::ReadOnly))
    }

    /// Puts memory behind a range.
    pub(crate) fn reserve(&self, offset: u64, len: u64) -> Result<(), OsError> {
        self.each_piece(offset, len, MemoryFile::reserve)
    }

    /// Takes the memory behind a page-aligned range away; it reads as zeros after.
    pub(crate) fn punch(&self, offset: u64, len: u64) -> Result<(), OsError> {
        if let Some(pages) = &self.huge_pages {
            pages.forget(offset..offset + len);
        }
        self.each_piece(offset, len, MemoryFile::punch)
    }

    fn each_piece(
        &self,
        offset: u64,
        len: u64,
        act: fn(&MemoryFile, u64, u64) -> Result<(), OsError>,
    ) -> Result<(), OsError> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.capacity));
        pieces(self.stripe, offset, len).try_for_each(|piece| act(&self.files[piece.file], piece.in_file, piece.len))
    }

    /// Writes through the files: makes pages without zeroing and without faults. For memory that is not there yet.
    pub(crate) fn write_through(&self, offset: u64, bytes: &[u8]) -> Result<(), OsError> {
        assert!(offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= self.capacity));
        let page = page_size() as u64;
        pieces(self.stripe, offset, bytes.len() as u64).try_for_each(|piece| {
            let part = &bytes[piece.in_range as usize..(piece.in_range + piece.len) as usize];
            let file = &self.files[piece.file];
            if file.is_on_disk() {
                // Whole pages: a file system with smaller blocks would leave holes in them, and a later store there has
                // no way to say that the disk is full.
                let (start, end) = (piece.in_file / page, (piece.in_file + piece.len).div_ceil(page));
                file.reserve(start * page, (end - start) * page)?;
            }
            match file.write_at(part, piece.in_file) {
                // A file size limit that was set after the files were made: it does not bind the mapping.
                Err(error) if error.is_file_size() => {
                    file.reserve(piece.in_file, piece.len)?;
                    self.copy_in(offset + piece.in_range, part);
                    Ok(())
                }
                written => written,
            }
        })
    }

    /// Copies a range into memory that is not there yet.
    pub(crate) fn move_through(&self, from: u64, to: u64, len: u64) -> Result<(), OsError> {
        assert!(from.checked_add(len).is_some_and(|end| end <= self.capacity));
        if len == 0 {
            return Ok(());
        }
        // SAFETY: the range lies inside the mapping (asserted) and belongs to a block that nobody else has been told
        // of; the bytes only pass through the kernel.
        let bytes = unsafe { std::slice::from_raw_parts(self.address(from, Access::ReadOnly).as_ptr(), len as usize) };
        self.write_through(to, bytes)
    }

    /// Copies into memory that is there already.
    pub(crate) fn copy_in(&self, offset: u64, bytes: &[u8]) {
        assert!(offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= self.capacity));
        if bytes.is_empty() {
            return;
        }
        let to = self.address(offset, Access::ReadWrite);
        // SAFETY: the destination is mapped (asserted), and no Rust reference is to it, as `lend` has bytes that nobody copies
        // meanwhile: a peer that stores there makes wrong bytes, not undefined behaviour of safe code. The source may lie in
        // the arena, hence `copy`, which allows overlap.
        unsafe { std::ptr::copy(bytes.as_ptr(), to.as_ptr(), bytes.len()) }
    }

    /// Lends memory that is there already to `make`, which nobody else is lent meanwhile.
    pub(crate) fn lend<T>(&self, offset: u64, len: usize, make: impl FnOnce(&mut [u8]) -> T) -> T {
        assert!(offset.checked_add(len as u64).is_some_and(|end| end <= self.capacity));
        if len == 0 {
            return make(&mut []);
        }
        let first = self.address(offset, Access::ReadWrite);
        // SAFETY: the bytes lie inside the mapping (asserted), which lives as long as `self`. They belong to a draft, of
        // which nobody has been told and whose leases do not overlap, so this is the only reference to them. A damaged peer
        // that stores there all the same makes wrong bytes, as in `copy_in`: nothing is decided by what is read there.
        make(unsafe { std::slice::from_raw_parts_mut(first.as_ptr(), len) })
    }

    /// Copies out of memory that is there already.
    pub(crate) fn copy_out(&self, offset: u64, into: &mut [u8]) {
        assert!(offset.checked_add(into.len() as u64).is_some_and(|end| end <= self.capacity));
        if into.is_empty() {
            return;
        }
        let from = self.address(offset, Access::ReadOnly);
        // SAFETY: as in `copy_in`, the other way round; the destination is a Rust slice and so does not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), into.as_mut_ptr(), into.len()) }
    }

    /// Zeroes memory that is there already.
    pub(crate) fn zero(&self, offset: u64, len: u64) {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.capacity));
        if len == 0 {
            return;
        }
        let to = self.address(offset, Access::ReadWrite);
        // SAFETY: as in `copy_in`.
        unsafe { std::ptr::write_bytes(to.as_ptr(), 0, len as usize) }
    }

    /// The cuts of `[offset, offset + len)` into (start, len) of at most `most` bytes, a list for each file: threads
    /// that keep to different files do not wait for each other's inode.
    pub(crate) fn shares(&self, offset: u64, len: u64, most: usize) -> Shares {
        let mut by_file = Shares::default();
        for piece in pieces(self.stripe, offset, len) {
            let mut at = piece.in_range;
            let end = piece.in_range + piece.len;
            while at < end {
                let part = (end - at).min(most as u64);
                by_file[piece.file].push((at, part));
                at += part;
            }
        }
        by_file
    }

    /// Maps the pages of a range privately.
    pub(crate) fn private_copy(&self, offset: u64, len: u64) -> Result<PrivateCopy, OsError> {
        let page = page_size() as u64;
        let start = offset / page * page;
        let end = (offset + len.max(1)).next_multiple_of(page).min(self.capacity);
        let mapping = Mapping::reserve((end - start) as usize)?;
        for piece in pieces(self.stripe, start, end - start) {
            let file = &self.files[piece.file];
            mapping.place(piece.in_range as usize, file, piece.in_file, piece.len as usize, Protection::CopyOnWrite)?;
        }
        mapping.leave_out_of_core_dumps();
        Ok(PrivateCopy { mapping, first: (offset - start) as usize })
    }
}

/// Cuts a range where a stripe ends.
fn pieces(stripe: u64, offset: u64, len: u64) -> impl Iterator<Item = Piece> {
    let mut at = offset;
    let end = offset + len;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (number, inside) = (at / stripe, at % stripe);
        let part = (stripe - inside).min(end - at);
        let piece = Piece {
            file: (number % DATA_FILES as u64) as usize,
            in_file: number / DATA_FILES as u64 * stripe + inside,
            in_range: at - offset,
            len: part,
        };
        at += part;
        Some(piece)
    })
}

/// A private mapping of a block: shares its pages until they are written to.
#[derive(Debug)]
pub struct PrivateCopy {
    mapping: Mapping,
    first: usize,
}

impl PrivateCopy {
    /// Address of the block's first byte in the private mapping.
    pub fn address(&self) -> NonNull<u8> {
        // SAFETY: `first` is less than a page and the mapping has at least one.
        unsafe { self.mapping.base().add(self.first) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn geometry() -> Geometry {
        Geometry { slots: 64, blocks: 64, parcels: 64, stripe: 1 << 20, capacity: 4 << 20 }
    }

    fn read(data: &Data, offset: u64, len: usize, access: Access) -> Vec<u8> {
        // SAFETY: inside the data area, and nobody writes during the test.
        unsafe { std::slice::from_raw_parts(data.address(offset, access).as_ptr(), len) }.to_vec()
    }

    #[test]
    fn bytes_cross_stripes_through_every_door() {
        let data = Data::create(Place::Memory, ArenaId(1), &geometry()).unwrap();
        let bytes: Vec<u8> = (0..3 << 20).map(|i: u32| (i % 251) as u8).collect();
        data.write_through(12_345, &bytes).unwrap();
        assert_eq!(read(&data, 12_345, bytes.len(), Access::ReadOnly), bytes);
        data.copy_in(12_344, &bytes);
        assert_eq!(read(&data, 12_344, bytes.len(), Access::ReadWrite), bytes);
        let private = data.private_copy(12_344, bytes.len() as u64).unwrap();
        // SAFETY: the private mapping covers the range.
        let seen = unsafe { std::slice::from_raw_parts(private.address().as_ptr(), bytes.len()) };
        assert_eq!(seen, bytes);
        data.punch(0, 4 << 20).unwrap();
        assert!(read(&data, 0, 4 << 20, Access::ReadOnly).iter().all(|&b| b == 0));
    }

    #[test]
    fn shares_cover_the_range_once_and_stay_in_their_file() {
        let data =
            Data::create(Place::Memory, ArenaId(1), &Geometry { stripe: 16 << 20, capacity: 64 << 20, ..geometry() })
                .unwrap();
        let shares = data.shares(100, 60 << 20, CHUNK);
        for (file, list) in shares.iter().enumerate() {
            assert!(!list.is_empty() && list.iter().all(|(at, _)| (100 + at) / (16 << 20) % 2 == file as u64));
        }
        let mut all = shares.concat();
        all.sort_unstable();
        let end =
            all.into_iter().fold(0, |at, (start, len)| if start == at { at + len } else { panic!("a gap at {at}") });
        assert_eq!(end, 60 << 20);
    }

    #[test]
    fn an_address_is_found_in_its_mapping() {
        let data = Data::create(Place::Memory, ArenaId(1), &geometry()).unwrap();
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let address = data.address(777, access).as_ptr() as usize;
            assert_eq!(data.position_of(address), Some((777, access)));
        }
        assert_eq!(data.position_of(std::ptr::from_ref(&data) as usize), None);
    }
}
