//! The word of a parcel: how often its entry has been used, and who sent it.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use onecopy_sync::Tag;

use crate::door::{AtomicU64, crash_point};

/// Sequence number in the upper half; in the lower the tag of the sender, or zero where the parcel is empty.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct ParcelWord(AtomicU64);

fn pack(sequence: u32, sender: Option<Tag>) -> u64 {
    u64::from(sequence) << 32 | u64::from(sender.map_or(0, Tag::bits))
}

impl ParcelWord {
    pub(crate) fn sequence(&self) -> u32 {
        (self.0.load(Relaxed) >> 32) as u32
    }

    /// The tag of the sender; none where the parcel is empty.
    pub(crate) fn sender(&self) -> Option<Tag> {
        // SYNC POINT: acquire pairs with the releases below: who sees a parcel sees what is in it, and who sees that it
        // is empty sees the bit of the one that received it.
        Tag::from_bits(self.0.load(Acquire) as u32)
    }

    /// Whether it is the parcel of this sequence number, and full.
    pub(crate) fn is(&self, sequence: u32) -> bool {
        let word = self.0.load(Acquire);
        Tag::from_bits(word as u32).is_some() && (word >> 32) as u32 == sequence
    }

    /// Makes an empty parcel full, after what it is of has been written down; answers its sequence number.
    pub(crate) fn fill(&self, sender: Tag) -> u32 {
        let sequence = self.sequence();
        crash_point!("post.described");
        // SYNC POINT: with this store the parcel exists; `recovery` believes what is in it from now on.
        self.0.store(pack(sequence, Some(sender)), Release);
        crash_point!("post.full");
        sequence
    }

    /// Empties it, under its next sequence number.
    pub(crate) fn empty(&self) {
        // SYNC POINT: whoever receives has set its holder bit before this store.
        self.0.store(pack(self.sequence().wrapping_add(1), None), Release);
        crash_point!("unpost.empty");
    }

    /// Puts any word there, as damage would.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn damage(&self, change: impl FnOnce(&AtomicU64)) {
        change(&self.0);
    }

    #[cfg(all(test, loom))]
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }
}
