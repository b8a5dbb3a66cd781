//! Where handles are for, while a message is being made.
//!
//! Handles are made deep inside a pickler, which knows nothing of channels. So a queue opens an outbox for its thread
//! while it has a message made, and the parcels of all handles that are made meanwhile become its own.

use std::cell::RefCell;

use onecopy_arena::{ArenaError, Block, ParcelId};
use onecopy_collections::queue::Enclosed;

struct Outbox {
    owner: Block,
    enclosed: Vec<Enclosed>,
}

thread_local! {
    static OUTBOX: RefCell<Option<Outbox>> = const { RefCell::new(None) };
}

/// Posts a block: into the open outbox's owner if there is one, to nobody in particular otherwise, or where the owner is
/// in another arena.
pub(crate) fn post(block: &Block) -> Result<ParcelId, ArenaError> {
    OUTBOX.with_borrow_mut(|outbox| match outbox {
        Some(outbox) if std::ptr::eq(outbox.owner.arena(), block.arena()) => {
            let parcel = block.post_owned(&outbox.owner)?;
            outbox.enclosed.push(Enclosed { block: block.id(), parcel });
            Ok(parcel)
        }
        _ => block.post(),
    })
}

/// Does `work`; answers also what it posted into `owner`. An outbox that is open already is put aside meanwhile.
pub(crate) fn collect<T>(owner: &Block, work: impl FnOnce() -> T) -> (T, Vec<Enclosed>) {
    let before = OUTBOX.replace(Some(Outbox { owner: owner.clone(), enclosed: Vec::new() }));
    let mut reset = Reset(before);
    let done = work();
    let enclosed = OUTBOX.take().map_or_else(Vec::new, |outbox| outbox.enclosed);
    OUTBOX.set(reset.0.take());
    std::mem::forget(reset);
    (done, enclosed)
}

/// Puts the outbox of before back, also after a panic.
struct Reset(Option<Outbox>);

impl Drop for Reset {
    fn drop(&mut self) {
        OUTBOX.set(self.0.take());
    }
}
