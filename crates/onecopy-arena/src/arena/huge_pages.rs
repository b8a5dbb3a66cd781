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
