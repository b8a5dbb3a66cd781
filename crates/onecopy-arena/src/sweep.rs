//! Takes away what dead processes held.

use std::sync::atomic::Ordering::Relaxed;

use onecopy_os::crash_point;

use crate::ArenaError;
use crate::heap::{Heap, State, state_of};
use crate::slot_word::{SlotState, state_of as slot_state_of};
use crate::slots::{JANITOR, Slots};

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) processes: u32,
    pub(crate) blocks: u32,
}

impl Heap<'_> {
    /// Takes the slots, bits and promises of the dead away and frees every block that nobody holds and that is not in
    /// flight.
    pub(crate) fn sweep(&self) -> Result<Swept, ArenaError> {
        let slots = Slots { meta: self.meta, data: self.data };
        let mut dead = vec![0_u64; self.meta.geometry().holder_words() as usize];
        let mut swept = Swept::default();
        for slot in JANITOR + 1..self.meta.geometry().slots {
            let entry = self.meta.slot(slot);
            let word = entry.word.load();
            if slot_state_of(word) == SlotState::Free || slots.occupant_lives(slot, word, self.me.slot()) {
                continue;
            }
            if entry.word.reap(word) {
                crash_point!("sweep.reaping");
                dead[slot as usize / 64] |= 1 << (slot % 64);
                swept.processes += 1;
            }
        }
        if swept.processes == 0 {
            return Ok(swept);
        }
        swept.blocks = self.forget(&dead)?;
        crash_point!("sweep.forgotten");
        for slot in (0..self.meta.geometry().slots).filter(|slot| dead[*slot as usize / 64] & 1 << (slot % 64) != 0) {
            let entry = self.meta.slot(slot);
            entry.promised.store(0, Relaxed);
            crash_point!("sweep.unpromised");
            entry.word.vacate();
            crash_point!("sweep.vacated");
        }
        Ok(swept)
    }

    /// Clears the holder bits of the dead and frees what is garbage then.
    pub(crate) fn forget(&self, dead: &[u64]) -> Result<u32, ArenaError> {
        let mut freed = 0;
        for index in 0..self.first().entries_touched.load(Relaxed).min(self.meta.geometry().blocks) {
            if state_of(self.entry(index)?) != State::Used {
                continue;
            }
            self.life(index)?.holders.forget(dead);
            freed += self.free_if_garbage(index)?;
        }
        Ok(freed)
    }
}
