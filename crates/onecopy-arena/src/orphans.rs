//! Handles in flight that nobody may be waiting for any more.

use crate::ArenaError;
use crate::arena::Arena;

impl Arena {
    /// Drops the handles in flight whose sender is dead; answers how many (handles, blocks) it were.
    ///
    /// Bytes in a pipe hold nothing that can be counted, so nobody knows whether a handle will still be received. A sender
    /// may also have ended in good order: whoever receives its handle after this call gets an error that says that the
    /// handle is stale. Handles that lie in containers are not touched.
    pub fn reap_in_flight(&self) -> Result<(u32, u32), ArenaError> {
        let heap = self.heap()?;
        heap.sweep()?;
        let orphans: Vec<_> = heap.roll().orphans().collect();
        let (mut handles, mut blocks) = (0, 0);
        for index in orphans {
            if let Some(block) = heap.unpost_at(index)? {
                handles += 1;
                blocks += heap.free_if_garbage(block.index)?;
            }
        }
        Ok((handles, blocks))
    }
}
