//! Names of lock owners.

/// Bits of a tag that hold the slot.
const SLOT_BITS: u32 = 10;
/// Bits of a tag that hold the generation; one bit of a lock word is left for "somebody waits".
const GENERATION_BITS: u32 = 21;

/// A process, as locks know it: its slot and the generation of that slot. Never zero, and 31 bits wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag(u32);

impl Tag {
    /// One more than the largest slot that a tag can name.
    pub const SLOT_LIMIT: u32 = (1 << SLOT_BITS) - 1;

    /// The tag of `slot` in its `generation`; of a generation the low 21 bits count.
    pub fn new(slot: u32, generation: u32) -> Self {
        assert!(slot < Self::SLOT_LIMIT, "slot {slot} does not fit into a lock word");
        Self(Self::truncate(generation) << SLOT_BITS | (slot + 1))
    }

    /// The tag in a word, or none where the word names nobody.
    pub fn from_bits(bits: u32) -> Option<Self> {
        (bits & Self::SLOT_LIMIT != 0).then_some(Self(bits))
    }

    /// The word form.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The slot.
    pub fn slot(self) -> u32 {
        (self.0 & Self::SLOT_LIMIT) - 1
    }

    /// The generation, as far as the tag holds it.
    pub fn generation(self) -> u32 {
        Self::truncate(self.0 >> SLOT_BITS)
    }

    /// The part of a generation that a tag holds.
    pub fn truncate(generation: u32) -> u32 {
        generation & ((1 << GENERATION_BITS) - 1)
    }
}

/// Who takes locks, and whether those that hold them are alive.
pub trait Owners {
    /// The tag of this process.
    fn me(&self) -> Tag;
    /// Whether the process that had this tag still lives. Asked only of tags that a taker waits for.
    fn is_alive(&self, tag: Tag) -> bool;

    /// Whether the tag is that of a living process, this one or another.
    fn lives(&self, tag: Tag) -> bool {
        tag == self.me() || self.is_alive(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_keeps_slot_and_generation() {
        for (slot, generation) in [(0, 0), (Tag::SLOT_LIMIT - 1, (1 << 21) - 1), (511, 77)] {
            let tag = Tag::new(slot, generation);
            assert_eq!((tag.slot(), tag.generation()), (slot, generation));
            assert_eq!(Tag::from_bits(tag.bits()), Some(tag));
            assert_eq!(tag.bits() >> 31, 0);
        }
        assert_eq!(Tag::from_bits(0), None);
    }
}
