//! Arrays in a queue: a message is a handle, and refers to the block, which the queue keeps until the message is taken.

use onecopy_arena::Block;
use onecopy_collections::queue::{Batch, Enclosed};

use super::{Queue, ValueKind};
use crate::{ArrayHandle, BlockHandle, Error};

impl Queue {
    /// Adds an array to a batch that is for this queue: what `handle` says of its items, which lie in `block`.
    pub fn push_array(&self, batch: &mut Batch, block: &Block, mut handle: ArrayHandle) -> Result<(), Error> {
        let own = self.shared.block();
        let mut enclosed = Vec::new();
        if std::ptr::eq(block.arena(), own.arena()) {
            let parcel = block.post_owned(own)?;
            enclosed.push(Enclosed { block: block.id(), parcel });
            handle.block = BlockHandle::within(block, Some(parcel));
        } else {
            // A queue cannot keep a block of another arena, so the handle alone does, and says how to join that.
            let arena = block.arena().hint();
            handle.block = BlockHandle { arena, id: block.id(), parcel: Some(block.post()?) };
        }
        self.push_enclosing(batch, ValueKind::Array, &handle.encode(), enclosed)
    }
}

/// The block of an array that a message of a batch is the handle of, checked as by [`ArrayHandle::receive`].
pub fn array_in(batch: &Batch, handle: &ArrayHandle, itemsize: u64) -> Result<Block, Error> {
    found(batch.block(handle.block.id).cloned(), handle, itemsize)
}

/// The same for the only message of a batch, which gives up the block.
pub fn array_alone_in(batch: &mut Batch, handle: &ArrayHandle, itemsize: u64) -> Result<Block, Error> {
    found(batch.take_block(handle.block.id), handle, itemsize)
}

/// The block that came with a message, as that held it; received here if it lies in another arena than the queue.
fn found(came_with_it: Option<Block>, handle: &ArrayHandle, itemsize: u64) -> Result<Block, Error> {
    match came_with_it.filter(|block| block.arena().id() == handle.block.arena.id) {
        Some(block) => handle.accept(block, itemsize),
        None => handle.receive(itemsize),
    }
}
