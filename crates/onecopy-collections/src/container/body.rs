//! Bodies as this process has them: blocks of the arena.

use std::ptr::NonNull;

use onecopy_arena::{Access, ArenaError, BlockId, Contents};

use super::view::{Geometry, Kind, Sizes, View};
use super::{ContainerError, damaged};
use crate::door::{AtomicU64, Block, Ordering::Relaxed, crash_point};

/// A body that this process has open. Its memory stays as long as this, also when the container has another by now.
#[derive(Debug)]
pub(crate) struct Body {
    block: Block,
    words: NonNull<AtomicU64>,
    len: usize,
    sizes: Sizes,
}

// SAFETY: the words are atomics that live as long as the block.
unsafe impl Send for Body {}
// SAFETY: as above.
unsafe impl Sync for Body {}

impl Body {
    /// The body in a block.
    pub(crate) fn over(block: Block, kind: Kind) -> Result<Self, ArenaError> {
        let words = Words::of(&block)?;
        let sizes = View::over(words.get(), kind).ok_or_else(|| damaged("a container's body is none"))?.sizes();
        Ok(Self { words: words.first, len: words.len, sizes, block })
    }

    /// A new body in a block of its own, which lies in `owner`.
    pub(crate) fn make(owner: &Block, kind: Kind, geometry: Geometry) -> Result<Self, ContainerError> {
        let bytes = geometry.words(kind).and_then(|words| words.checked_mul(8)).ok_or(ContainerError::TooLarge)?;
        let (block, contents) = owner.arena().allocate(bytes as u64)?;
        crash_point!("body.allocated");
        let words = Words::of(&block)?;
        if contents == Contents::Garbage {
            words.get().iter().take(geometry.zeros(kind)).for_each(|word| word.store(0, Relaxed));
        }
        let view = View::make(words.get(), kind, geometry);
        let view = view.ok_or_else(|| damaged("a new block is shorter than was asked for"))?;
        view.set_parcel(block.post_owned(owner)?);
        crash_point!("body.posted");
        let sizes = view.sizes();
        Ok(Self { words: words.first, len: words.len, sizes, block })
    }

    /// Its contents.
    #[inline]
    pub(crate) fn view(&self) -> View<'_> {
        // SAFETY: the block has as many aligned words (checked by `Words::of`) and lives as long as `self`; atomics are
        // whatever other processes store there.
        View::new(unsafe { std::slice::from_raw_parts(self.words.as_ptr(), self.len) }, self.sizes)
    }

    pub(crate) fn name(&self) -> u64 {
        name_of(self.block.id())
    }
}

/// The words of a block.
struct Words<'a> {
    first: NonNull<AtomicU64>,
    len: usize,
    _block: &'a Block,
}

impl<'a> Words<'a> {
    fn of(block: &'a Block) -> Result<Self, ArenaError> {
        let first = block.address(Access::ReadWrite).map(NonNull::cast::<AtomicU64>);
        let first = first.filter(|first| first.is_aligned()).ok_or_else(|| damaged("a container's body is sealed"))?;
        Ok(Self { first, len: block.len() as usize / 8, _block: block })
    }

    fn get(&self) -> &'a [AtomicU64] {
        // SAFETY: the block has as many aligned words and lives as long as `'a`; atomics are whatever other processes
        // store there.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

/// A block as one word, so that one store says which is the body.
pub(crate) fn name_of(id: BlockId) -> u64 {
    u64::from(id.generation) << 32 | u64::from(id.index)
}

pub(crate) fn id_of(name: u64) -> BlockId {
    BlockId { index: name as u32, generation: (name >> 32) as u32 }
}
