//! Where an end of the queue stands, in one word that one store changes.

use super::door::{AtomicU64, Ordering};

const SEGMENT_BITS: u32 = 15;
const UNIT_BITS: u32 = 17;

/// How far an end of the queue has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Number of the segment, modulo 2¹⁵.
    pub(super) segment: u32,
    /// Units of memory since the start of the segment, modulo 2¹⁷: twice the largest segment, so that a full ring is
    /// told from an empty one.
    pub(super) units: u32,
    /// Messages since the queue was made, modulo 2³².
    pub(super) count: u32,
}

impl Position {
    fn pack(self) -> u64 {
        u64::from(self.segment) << (32 + UNIT_BITS) | u64::from(self.units) << 32 | u64::from(self.count)
    }

    fn unpack(word: u64) -> Self {
        let units = (word >> 32) as u32 & ((1 << UNIT_BITS) - 1);
        Self { segment: (word >> (32 + UNIT_BITS)) as u32, units, count: word as u32 }
    }

    pub(super) fn load(word: &AtomicU64, ordering: Ordering) -> Self {
        Self::unpack(word.load(ordering))
    }

    pub(super) fn store(self, word: &AtomicU64, ordering: Ordering) {
        word.store(self.pack(), ordering);
    }

    /// The start of the segment after this one.
    pub(super) fn next_segment(self) -> Self {
        Self { segment: Self::number_after(self.segment), units: 0, ..self }
    }

    pub(super) fn number_after(segment: u32) -> u32 {
        (segment + 1) & ((1 << SEGMENT_BITS) - 1)
    }

    pub(super) fn advance(&mut self, units: u32) {
        self.units = self.units.wrapping_add(units) & ((1 << UNIT_BITS) - 1);
    }

    /// Units from `start` to here in the same segment.
    pub(super) fn units_since(self, start: u32) -> u32 {
        self.units.wrapping_sub(start) & ((1 << UNIT_BITS) - 1)
    }

    /// Messages between the two.
    pub(super) fn messages_since(self, other: Self) -> u32 {
        self.count.wrapping_sub(other.count)
    }

    /// Whether so many segments lie between the two that one more could be taken for none.
    pub(super) fn is_far_from(self, other: Self) -> bool {
        self.segment.wrapping_sub(other.segment) & ((1 << SEGMENT_BITS) - 1) >= (1 << SEGMENT_BITS) - 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_word_is_a_position(word: u64) {
            prop_assert_eq!(Position::unpack(word).pack(), word);
        }

        #[test]
        fn distances_survive_the_wrap(start in 0_u32..1 << 17, units in 0_u32..1 << 16, count: u32, more in 0_u32..9999) {
            let from = Position { segment: 0, units: start, count };
            let mut to = Position { count: count.wrapping_add(more), ..from };
            to.advance(units);
            prop_assert_eq!((to.units_since(from.units), to.messages_since(from)), (units, more));
        }
    }
}
