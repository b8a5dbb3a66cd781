//! Huge pages behind memory files and private memory: whether the kernel gives them when asked, and the asking.

use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use rustix::mm::MprotectFlags;

use super::memory::Machine;
use crate::{Mapping, MemoryFile, OsError, Protection};

impl Machine {
    /// What the kernel does about huge pages for shared memory: one of the words of `shmem_enabled`.
    pub fn shared_huge_pages(&self) -> Option<String> {
        self.chosen("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
    }

    /// Whether private memory has huge pages where it asks for them.
    pub fn gives_private_huge_pages(&self) -> bool {
        let mode = self.chosen("/sys/kernel/mm/transparent_hugepage/enabled");
        mode.is_some_and(|mode| matches!(mode.as_str(), "always" | "madvise"))
    }

    /// The word in brackets among those of a setting.
    fn chosen(&self, setting: &str) -> Option<String> {
        let words = self.read(setting).ok()?;
        let (word, _) = words.split_once('[')?.1.split_once(']')?;
        Some(word.to_owned())
    }

    /// Whether advice about huge pages has an effect on shared memory.
    pub fn heeds_huge_page_advice(&self) -> bool {
        self.shared_huge_pages().is_some_and(|mode| matches!(mode.as_str(), "advise" | "within_size" | "always"))
    }

    /// Bytes of a huge page, if the kernel has any.
    pub fn huge_page_size(&self) -> Option<u64> {
        let size = self.number("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")?;
        size.is_power_of_two().then_some(size)
    }
}

/// Bytes of a huge page of this machine.
pub fn huge_page_size() -> Option<u64> {
    static SIZE: OnceLock<Option<u64>> = OnceLock::new();
    *SIZE.get_or_init(|| Machine::this().huge_page_size())
}

impl Mapping {
    /// Asks the kernel to put huge pages behind the range as it finds time.
    pub fn advise_huge_pages(&self) -> Result<(), OsError> {
        self.advise(0, self.len(), libc::MADV_HUGEPAGE, "advise huge pages")
    }

    /// Puts huge pages behind a range of whole huge pages, all of which has memory. On failure some may be there.
    pub fn make_huge_pages(&self, at: usize, len: usize) -> Result<(), OsError> {
        self.advise(at, len, libc::MADV_COLLAPSE, "put huge pages behind shared memory")
    }

    fn advise(&self, at: usize, len: usize, advice: i32, action: &str) -> Result<(), OsError> {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len()), "the range lies outside of the reservation");
        // SAFETY: the range lies inside the reservation (asserted), which lives as long as `self`; neither advice changes a
        // byte or takes a mapping away.
        let answer = unsafe { libc::madvise(self.base().as_ptr().add(at).cast(), len, advice) };
        if answer == 0 { Ok(()) } else { Err(OsError::last(action)) }
    }
}

/// Private memory in huge pages, as far as the kernel has some.
#[derive(Debug)]
pub struct HugeBuffer(Mapping);

impl HugeBuffer {
    /// At least `len` zeros; `None` where the kernel gives private memory no huge pages, or no memory.
    pub fn new(len: usize) -> Option<Self> {
        let size = huge_page_size().filter(|_| Machine::this().gives_private_huge_pages())? as usize;
        let memory = Mapping::reserve_aligned(len.checked_next_multiple_of(size)?, size).ok()?;
        // SAFETY: the range is all of a reservation that nobody else knows of, in which nothing was placed.
        unsafe {
            let flags = MprotectFlags::READ | MprotectFlags::WRITE;
            rustix::mm::mprotect(memory.base().as_ptr().cast(), memory.len(), flags).ok()?;
        }
        // Refused, it is memory all the same.
        let _ = memory.advise_huge_pages();
        memory.leave_out_of_core_dumps();
        Some(Self(memory))
    }
}

impl Deref for HugeBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `new` made the whole range readable; it is this value's alone, so that nobody writes to it meanwhile.
        unsafe { std::slice::from_raw_parts(self.0.base().as_ptr(), self.0.len()) }
    }
}

impl DerefMut for HugeBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `new` made it writable too.
        unsafe { std::slice::from_raw_parts_mut(self.0.base().as_ptr(), self.0.len()) }
    }
}

impl OsError {
    /// Whether it may work another time: memory that is short, in use, or in small pieces.
    pub fn is_for_now(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::ENOMEM | libc::EAGAIN | libc::EBUSY))
    }
}

/// Tries whether the kernel puts a huge page behind shared memory.
pub fn try_huge_page() -> Result<(), OsError> {
    let none = || OsError::new("put huge pages behind shared memory", std::io::ErrorKind::Unsupported);
    let size = huge_page_size().ok_or_else(none)?;
    let file = MemoryFile::create("onecopy-huge-page", size)?;
    let mapping = Mapping::reserve_aligned(size as usize, size as usize)?;
    mapping.place(0, &file, 0, size as usize, Protection::ReadWrite)?;
    file.reserve(0, size)?;
    mapping.make_huge_pages(0, size as usize)
}

#[cfg(test)]
mod tests {
    use super::super::memory::tests::Fabricated;
    use super::*;

    const MODES: &str = "sys/kernel/mm/transparent_hugepage/shmem_enabled";

    #[test]
    fn advice_is_heeded_in_the_modes_that_say_so() {
        for (mode, heeded) in
            [("always", true), ("within_size", true), ("advise", true), ("never", false), ("deny", false)]
        {
            let files = Fabricated::new(&[(MODES, &format!("other [{mode}] another\n"))]);
            assert_eq!(files.machine().shared_huge_pages().as_deref(), Some(mode));
            assert_eq!(files.machine().heeds_huge_page_advice(), heeded, "{mode}");
        }
        for text in ["", "always never", "a ] b [", "[unfinished"] {
            let files = Fabricated::new(&[(MODES, text)]);
            assert!(!files.machine().heeds_huge_page_advice(), "{text}");
        }
        assert!(!Fabricated::new(&[("proc/uptime", "1")]).machine().heeds_huge_page_advice());
    }

    #[test]
    fn private_memory_has_huge_pages_in_the_modes_that_say_so() {
        for (mode, given) in [("always", true), ("madvise", true), ("never", false)] {
            let setting = "sys/kernel/mm/transparent_hugepage/enabled";
            let files = Fabricated::new(&[(setting, &format!("other [{mode}] another\n"))]);
            assert_eq!(files.machine().gives_private_huge_pages(), given, "{mode}");
        }
        assert!(!Fabricated::new(&[("proc/uptime", "1")]).machine().gives_private_huge_pages());
    }

    #[test]
    fn a_buffer_is_memory_that_begins_at_a_huge_page() {
        let Some(mut buffer) = HugeBuffer::new(3 << 20) else {
            assert!(!Machine::this().gives_private_huge_pages());
            return;
        };
        let size = huge_page_size().unwrap() as usize;
        assert_eq!((buffer.as_ptr().addr() % size, buffer.len()), (0, (3_usize << 20).next_multiple_of(size)));
        assert!(buffer.iter().all(|&byte| byte == 0));
        buffer.fill(7);
        assert!(buffer.iter().all(|&byte| byte == 7));
        assert!(HugeBuffer::new(usize::MAX).is_none());
        assert!(HugeBuffer::new(1 << 60).is_none());
    }

    #[test]
    fn a_size_that_is_none_is_ignored() {
        for (text, size) in [("2097152\n", Some(2 << 20)), ("0\n", None), ("3000\n", None), ("x\n", None)] {
            let files = Fabricated::new(&[("sys/kernel/mm/transparent_hugepage/hpage_pmd_size", text)]);
            assert_eq!(files.machine().huge_page_size(), size);
        }
    }

    #[test]
    fn an_aligned_reservation_is_as_long_as_asked_for() {
        for len in [4096, 3 << 20, 64 << 20] {
            let mapping = Mapping::reserve_aligned(len, 2 << 20).unwrap();
            assert_eq!((mapping.base().as_ptr() as usize % (2 << 20), mapping.len()), (0, len));
        }
    }
}
