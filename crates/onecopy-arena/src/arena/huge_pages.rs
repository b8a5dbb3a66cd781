//! Huge pages behind an arena in memory: fewer of the processor's page table entries for the same bytes.

use onecopy_os::{Machine, try_huge_page};

use super::{Arena, ArenaError, Relaxed, STEP};

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

    /// Puts huge pages behind a range that has memory, if this process wants that.
    pub(super) fn make_huge_pages(
        &self,
        offset: u64,
        len: u64,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<(), ArenaError> {
        if !self.huge_pages.load(Relaxed) {
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
            self.data.make_huge_pages(at, next - at);
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
