//! Where handles are for, while a value is being made.
//!
//! Handles are made deep inside a pickler, which knows nothing of channels. So a queue opens an outbox for its thread
//! while it has a message made, and the parcels of all handles that are made meanwhile become its own. A container that
//! has an item made gets the blocks themselves: it makes parcels when it is locked, and its handles are received as often
//! as somebody looks at the item, so no parcel is named in them.

use std::cell::RefCell;

use onecopy_arena::{ArenaError, Block, ParcelId};
use onecopy_collections::queue::Enclosed;

enum Outbox {
    Queue { owner: Block, enclosed: Vec<Enclosed> },
    Container { owner: Block, blocks: Vec<Block> },
}

thread_local! {
    static OUTBOX: RefCell<Option<Outbox>> = const { RefCell::new(None) };
}

/// Posts a block: into the open outbox's owner if there is one, to nobody in particular otherwise, or where the owner is
/// in another arena. There is no parcel yet for what goes into a container.
pub(crate) fn post(block: &Block) -> Result<Option<ParcelId>, ArenaError> {
    OUTBOX.with_borrow_mut(|outbox| match outbox {
        Some(Outbox::Queue { owner, enclosed }) if std::ptr::eq(owner.arena(), block.arena()) => {
            let parcel = block.post_owned(owner)?;
            enclosed.push(Enclosed { block: block.id(), parcel });
            Ok(Some(parcel))
        }
        Some(Outbox::Container { owner, .. }) if !std::ptr::eq(owner.arena(), block.arena()) => {
            let (own, other) = (block.arena().id(), owner.arena().id());
            let reason = format!("what lies in arena {own} cannot lie in a container of arena {other}; copy it there");
            Err(ArenaError::InvalidHandle(reason))
        }
        Some(Outbox::Container { blocks, .. }) => {
            blocks.push(block.clone());
            Ok(None)
        }
        _ => block.post().map(Some),
    })
}

/// Does `work`; answers also what it posted into a queue. An outbox that is open already is put aside meanwhile.
pub(crate) fn collect<T>(owner: &Block, work: impl FnOnce() -> T) -> (T, Vec<Enclosed>) {
    match open(Outbox::Queue { owner: owner.clone(), enclosed: Vec::new() }, work) {
        (done, Some(Outbox::Queue { enclosed, .. })) => (done, enclosed),
        (done, _) => (done, Vec::new()),
    }
}

/// Does `work`; answers also the blocks of which it made handles, for a container.
pub(crate) fn collect_blocks<T>(owner: &Block, work: impl FnOnce() -> T) -> (T, Vec<Block>) {
    match open(Outbox::Container { owner: owner.clone(), blocks: Vec::new() }, work) {
        (done, Some(Outbox::Container { blocks, .. })) => (done, blocks),
        (done, _) => (done, Vec::new()),
    }
}

fn open<T>(outbox: Outbox, work: impl FnOnce() -> T) -> (T, Option<Outbox>) {
    let before = OUTBOX.replace(Some(outbox));
    let mut reset = Reset(before);
    let done = work();
    let outbox = OUTBOX.take();
    OUTBOX.set(reset.0.take());
    std::mem::forget(reset);
    (done, outbox)
}

/// Puts the outbox of before back, also after a panic.
struct Reset(Option<Outbox>);

impl Drop for Reset {
    fn drop(&mut self) {
        OUTBOX.set(self.0.take());
    }
}
