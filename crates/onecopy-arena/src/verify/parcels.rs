//! That the parcels agree with the blocks that they are of and lie in, and that each is in exactly one chain or list.

use std::sync::atomic::Ordering::Relaxed;

use super::require;
use crate::ArenaError;
use crate::heap::Heap;
use crate::layout::NONE;
use crate::meta::BlockId;
use crate::parcels::{block_of, owner_of, sender_of};

impl Heap<'_> {
    /// Checks the parcels against their blocks and owners, and that each is in exactly one chain.
    pub(super) fn verify_parcels(&self, used: &[u32]) -> Result<(), ArenaError> {
        let first = self.first();
        let touched = first.parcels_touched.load(Relaxed);
        require(touched <= self.meta.geometry().parcels, || format!("{touched} parcels have been in use"))?;
        let entries = first.entries_touched.load(Relaxed).min(self.meta.geometry().blocks) as usize;
        let (mut of, mut within, mut full) = (vec![0_u32; entries], vec![0_u32; entries], 0);
        for index in 0..touched {
            let entry = self.meta.parcel(index)?;
            let Some(sender) = sender_of(entry) else { continue };
            require(sender.slot() < self.meta.geometry().slots, || format!("parcel {index} was sent by {sender:?}"))?;
            full += 1;
            let count = |counts: &mut [u32], block: BlockId| {
                let place = self.block(block).ok().and_then(|_| counts.get_mut(block.index as usize));
                let gone = || ArenaError::damaged(format!("parcel {index} refers to {block:?}, which is gone"));
                place.ok_or_else(gone).map(|count| *count += 1)
            };
            count(&mut of, block_of(entry))?;
            owner_of(entry).map_or(Ok(()), |owner| count(&mut within, owner))?;
        }
        let counted = first.parcels_full.load(Relaxed);
        require(counted == full, || format!("{counted} parcels are counted as full, {full} are"))?;
        for &index in used {
            let counted = self.entry(index)?.parcels.load(Relaxed);
            let by_parcels = of[index as usize];
            require(counted == by_parcels, || {
                format!("block {index} counts {counted} parcels, there are {by_parcels}")
            })?;
            self.verify_chain(index, within[index as usize])?;
        }
        self.verify_empty_parcels(touched - full)
    }

    fn verify_chain(&self, owner: u32, expected: u32) -> Result<(), ArenaError> {
        let (mut next, mut before, mut length) = (self.entry(owner)?.owned.load(Relaxed), NONE, 0);
        while next != NONE {
            let entry = self.chained(next, owner)?;
            require(entry.previous.load(Relaxed) == before, || format!("parcel {next} has the wrong neighbour"))?;
            length += 1;
            require(length <= expected, || format!("the parcels in block {owner} run in a circle"))?;
            before = next;
            next = entry.next.load(Relaxed);
        }
        require(length == expected, || format!("block {owner} lists {length} parcels, in it lie {expected}"))
    }

    fn verify_empty_parcels(&self, expected: u32) -> Result<(), ArenaError> {
        let (mut next, mut length) = (self.first().parcels_free.load(Relaxed), 0);
        while next != NONE {
            let entry = self.meta.parcel(next).map_err(|_| ArenaError::damaged("the list of empty parcels"))?;
            require(sender_of(entry).is_none(), || format!("full parcel {next} is listed as empty"))?;
            length += 1;
            require(length <= expected, || "the list of empty parcels runs in a circle".to_owned())?;
            next = entry.next.load(Relaxed);
        }
        require(length == expected, || format!("{expected} parcels are empty, {length} are listed"))
    }
}
