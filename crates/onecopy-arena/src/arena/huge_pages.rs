//! Huge pages behind an arena in memory: fewer of the processor's page table entries for the same bytes.

use onecopy_os::{Machine, try_huge_page};

use super::{Arena, ArenaError, Draft, Relaxed, STEP};

/// Blocks that share a huge page are not smaller than this part of it.
const MOST_IN_ONE: u64 = 8;

/// What pages a block wants, besides what the process wants for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pages {
    Usual,
    /// It begins at a huge page.
    Huge,
}

impl Arena {
    /// Asks the kernel for huge pages where it heeds that (`shmem_enabled`), in the mappings of this process. It puts them
    /// in place as it finds time. Nothing for an arena on disk, which has the pages of its file system.
    pub fn advise_huge_pages(&self) {
        if !self.meta.file().is_on_disk() && Machine::this().heeds_huge_page_advice() {
            // A kernel that heeds it takes it; without it all works as well.
            let _ = self.data.advise_huge_pages();
        }
    }

    /// From here on this process puts huge pages behind what it allocates here, as it does so, as far as whole ones fit
    /// into a block and the system has them; an error where the kernel can do no such thing.
    ///
    /// That takes Linux 6.1, and several times as long as making the memory. What else this process has of the arena is as
    /// before, and so is what others make.
    pub fn insist_on_huge_pages(&self) -> Result<(), ArenaError> {
        if self.meta.file().is_on_disk() {
            return Err(ArenaError::NoHugePages("an arena on disk has the pages of its file system".into()));
        }
        match try_huge_page() {
            // Just now there is no piece of memory that is large enough; the kernel makes some in time.
            Err(error) if !error.is_for_now() => return Err(ArenaError::NoHugePages(error.to_string())),
            _ => self.huge_pages.store(true, Relaxed),
        }
        self.advise_huge_pages();
        Ok(())
    }

    /// As a [`draft`](Self::draft) of known length, in huge pages as far as the system has some.
    ///
    /// For memory that is used again and again, as they may take a while to find. A disk that is written to past the page
    /// cache takes more from them at a time.
    pub fn draft_in_huge_pages(&'static self, len: u64) -> Result<Draft, ArenaError> {
        let extent = self.extent_size_on(len, Pages::Huge)?;
        // Where there were none for the last one, there is no time to lose with another attempt.
        let page = self.data.huge_page_size().filter(|_| !self.no_huge_pages.load(Relaxed));
        let Some(page) = page.filter(|&page| extent >= page / MOST_IN_ONE) else { return self.draft(len, len) };
        if extent < page {
            return self.draft_in_part(len, extent, page);
        }
        let (block, _) = self.allocate_on(len, Pages::Huge, &mut || false)?;
        Ok(Draft::over(block, extent, Pages::Huge))
    }

    /// As [`draft_in_huge_pages`](Self::draft_in_huge_pages), of a block that is shorter than one: several share it.
    fn draft_in_part(&'static self, len: u64, extent: u64, page: u64) -> Result<Draft, ArenaError> {
        if let Some(id) = self.take_warm(len, extent)? {
            let block = self.hold(id, extent, false)?;
            if self.data.is_in_huge_pages(block.offset(), extent) {
                return Ok(Draft::over(block, extent, Pages::Usual));
            }
        }
        if 2 * extent > page {
            return self.draft(len, len);
        }
        let (block, _) = self.allocate_on(page, Pages::Huge, &mut || false)?;
        // The rest has memory, too, and is found by the next one.
        self.heap()?.shrink(block.id(), extent, extent, page)?;
        Ok(Draft::over(block, extent, Pages::Usual))
    }

    /// Bytes of the extent for a block: of whole huge pages, unless that would waste more than an eighth of it.
    pub(super) fn extent_size_on(&'static self, len: u64, pages: Pages) -> Result<u64, ArenaError> {
        let size = self.extent_size(len)?;
        let whole = match (pages, self.data.huge_page_size()) {
            (Pages::Huge, Some(huge)) => size.next_multiple_of(huge),
            _ => size,
        };
        Ok(if whole - size <= size / 8 { whole } else { size })
    }

    /// Puts huge pages behind a range for whose memory there is room, if this process or the block wants that.
    pub(super) fn make_huge_pages(
        &self,
        offset: u64,
        len: u64,
        pages: Pages,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<(), ArenaError> {
        if pages == Pages::Usual && !self.huge_pages.load(Relaxed) {
            return Ok(());
        }
        // In steps that end where huge pages do, as a whole one takes its time.
        let end = offset + len;
        let mut at = offset;
        while at < end {
            if stop() {
                return Err(ArenaError::Interrupted);
            }
            let next = (at / STEP * STEP + STEP).min(end);
            if !self.data.make_huge_pages(at, next - at) {
                self.no_huge_pages.store(true, Relaxed);
            }
            at = next;
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::Options;

    const OPTIONS: Options = Options { limit: Some(64 << 20), warm: None };

    #[test]
    fn there_are_none_on_disk_and_the_arena_works_without() {
        let path = std::env::temp_dir().join(format!("onecopy-huge-pages-{:x}", onecopy_os::random_u64().unwrap()));
        let arena = Arena::open_path(&path, OPTIONS, Some(true)).unwrap();
        let refused = arena.insist_on_huge_pages().unwrap_err();
        assert!(matches!(&refused, ArenaError::NoHugePages(reason) if reason.contains("file system")), "{refused}");
        assert!(arena.allocate_zeroed(8 << 20).is_ok());
        arena.close().unwrap();
        std::fs::remove_dir_all(path).unwrap();
    }

    /// An arena with huge pages, if the system has some just now.
    fn arena() -> Option<(&'static Arena, u64)> {
        let arena = Arena::create(OPTIONS).unwrap();
        let size = onecopy_os::huge_page_size().filter(|&size| size <= 4 << 20)?;
        try_huge_page().is_ok().then_some((arena, size))
    }

    #[test]
    fn memory_that_is_used_again_is_in_huge_pages_and_stays_where_it_is() {
        let Some((arena, size)) = arena() else { return };
        // In front of it, so that the next free byte is none at which a huge page begins.
        let small = arena.allocate_zeroed(5000).unwrap();
        let before = arena.stats().unwrap().used_bytes;
        let len = 2 * size - 5000;
        let mut places = Vec::new();
        for byte in 1..4 {
            let draft = arena.draft_in_huge_pages(len).unwrap();
            draft.write_at(0, &vec![byte; len as usize]).unwrap();
            let block = draft.finish(len).unwrap();
            let mut found = vec![0; len as usize];
            arena.data.copy_out(block.offset(), &mut found);
            assert!(found.iter().all(|&found| found == byte));
            assert_eq!(
                (block.len(), block.offset() % size, arena.stats().unwrap().used_bytes),
                (len, 0, before + 2 * size)
            );
            assert!(block.is_in_huge_pages() && !small.is_in_huge_pages());
            places.push(block.offset());
            arena.verify().unwrap();
        }
        assert!(places.iter().all(|&place| place == places[0]), "{places:?}");
        arena.trim(0).unwrap();
        assert!(!arena.data.is_in_huge_pages(places[0], len));
        assert_eq!(arena.stats().unwrap().used_bytes, before);
        arena.verify().unwrap();
    }

    #[test]
    fn a_block_a_little_shorter_than_a_huge_page_has_one() {
        let Some((arena, size)) = arena() else { return };
        for (len, expected) in [(size - size / 16, true), (size - size / 4, false)] {
            let draft = arena.draft_in_huge_pages(len).unwrap();
            draft.write_at(0, &vec![1; len as usize]).unwrap();
            assert_eq!(draft.finish(len).unwrap().is_in_huge_pages(), expected, "{len} of {size} bytes");
            arena.trim(0).unwrap();
        }
        arena.verify().unwrap();
    }

    #[test]
    fn blocks_shorter_than_a_huge_page_share_one() {
        let Some((arena, size)) = arena() else { return };
        // Free memory in small pages, which would do for any other block.
        let other = arena.allocate_zeroed(4 * size).unwrap();
        drop((arena.allocate_zeroed(2 * size).unwrap(), other));
        for (len, sharing) in [(size / 2, 2), (size / 2 - 9000, 2), (size / 8, 8), (size / 16, 1)] {
            let used = arena.stats().unwrap().used_bytes;
            let drafts: Vec<_> = (0..sharing).map(|_| arena.draft_in_huge_pages(len).unwrap()).collect();
            let blocks: Vec<_> = drafts
                .into_iter()
                .map(|draft| {
                    draft.write_at(0, &vec![1; len as usize]).unwrap();
                    draft.finish(len).unwrap()
                })
                .collect();
            let page = blocks[0].offset() / size;
            for block in &blocks {
                assert_eq!((block.len(), block.offset() / size), (len, page), "{len} of {size} bytes");
                assert_eq!(block.is_in_huge_pages(), sharing > 1, "{len} of {size} bytes");
            }
            let more = arena.stats().unwrap().used_bytes - used;
            assert!(more < sharing * len + sharing * 4096, "{more} bytes for {sharing} blocks of {len}");
            arena.verify().unwrap();
            drop(blocks);
            arena.trim(0).unwrap();
        }
        arena.verify().unwrap();
    }

    #[test]
    fn what_is_left_in_front_of_a_huge_page_is_used() {
        let Some((arena, size)) = arena() else { return };
        let small = arena.allocate_zeroed(100_000).unwrap();
        let block = arena.draft_in_huge_pages(size).unwrap();
        let between = arena.allocate_zeroed(size / 2).unwrap();
        assert!(small.offset() < between.offset() && between.offset() < size);
        arena.verify().unwrap();
        drop(block);
        arena.verify().unwrap();
    }

    #[test]
    fn a_draft_that_ends_early_keeps_no_more_than_it_needs() {
        let Some((arena, size)) = arena() else { return };
        let draft = arena.draft_in_huge_pages(4 * size).unwrap();
        draft.write_at(0, &[7; 3000]).unwrap();
        let block = draft.finish(3000).unwrap();
        assert!(arena.stats().unwrap().used_bytes <= 4096);
        drop(block);
        arena.verify().unwrap();
        arena.trim(0).unwrap();
        // Less than a huge page, or more than an arena has: as any other.
        let draft = arena.draft_in_huge_pages(5000).unwrap();
        draft.write_at(0, &[7; 5000]).unwrap();
        assert!(!draft.finish(5000).unwrap().is_in_huge_pages());
        assert!(matches!(arena.draft_in_huge_pages(1 << 40), Err(ArenaError::OutOfMemory { .. })));
        let nearly_all = arena.draft_in_huge_pages((64 << 20) - size / 2).unwrap();
        drop(nearly_all);
        arena.verify().unwrap();
    }

    #[test]
    fn a_draft_keeps_what_was_written_and_takes_no_more() {
        let arena = Arena::create(OPTIONS).unwrap();
        if let Err(error) = arena.insist_on_huge_pages() {
            // A kernel without them says so, and how to go on.
            assert!(error.to_string().contains("leave hugepages=True out"), "{error}");
            return;
        }
        let bytes: Vec<u8> = (0..9_000_001_u32).map(|i| (i % 251) as u8).collect();
        let draft = arena.draft(bytes.len() as u64, 20 << 20).unwrap();
        draft.write_at(0, &bytes).unwrap();
        let block = draft.finish(bytes.len() as u64).unwrap();
        let mut found = vec![0; bytes.len()];
        arena.data.copy_out(block.offset(), &mut found);
        assert!(found == bytes);
        assert_eq!(arena.data.allocated(), bytes.len().next_multiple_of(onecopy_os::page_size()) as u64);
        arena.verify().unwrap();
    }
}
