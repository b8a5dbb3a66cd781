//! The block from which everything is found that lives without anybody holding it: the published names.

use super::{Arena, ArenaError, Block, BlockId, Relaxed};
use crate::heap::Heap;
use crate::layout::NO_ROOT;

impl Heap<'_> {
    /// The root, if there is one. What was stored by a process that died before it had posted the parcel is none.
    fn root(&self) -> Option<BlockId> {
        let word = self.first().root.load(Relaxed);
        let id = BlockId { index: word as u32, generation: (word >> 32) as u32 };
        (word != NO_ROOT && self.block(id).is_ok()).then_some(id)
    }
}

impl Arena {
    /// The root of this arena, if it has one.
    pub fn root(&'static self) -> Result<Option<Block>, ArenaError> {
        // In a statement of its own: `get` takes the heap lock itself.
        let id = self.heap()?.root();
        id.map(|id| self.get(id)).transpose()
    }

    /// Makes a block the root, which lives as long as the arena; answers false where there is one already.
    ///
    /// ```
    /// # use onecopy_arena::{Arena, Options};
    /// let arena = Arena::create(Options { limit: Some(16 << 20), warm: None })?;
    /// assert!(arena.root()?.is_none());
    /// let (block, _) = arena.allocate(64)?;
    /// assert!(arena.set_root(&block)?);
    /// let id = block.id();
    /// drop(block);
    /// assert_eq!(arena.root()?.map(|root| root.id()), Some(id));
    /// let (second, _) = arena.allocate(64)?;
    /// assert!(!arena.set_root(&second)?);
    /// # Ok::<(), onecopy_arena::ArenaError>(())
    /// ```
    pub fn set_root(&'static self, block: &Block) -> Result<bool, ArenaError> {
        if !std::ptr::eq(block.arena(), self) {
            let (own, other) = (self.id(), block.arena().id());
            return Err(ArenaError::InvalidHandle(format!("a block of arena {other} cannot be the root of {own}")));
        }
        let heap = self.heap()?;
        if heap.root().is_some() {
            return Ok(false);
        }
        // Before the parcel: a crash in between leaves the name of a block that is swept, and not a block without name.
        heap.first().root.store(block.id().word(), Relaxed);
        if let Err(error) = heap.post(block.id(), None) {
            heap.first().root.store(NO_ROOT, Relaxed);
            return Err(error);
        }
        Ok(true)
    }
}
