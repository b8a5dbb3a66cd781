//! Which bytes are enclosed by quotes, by counting: a byte behind an odd number of quotes is inside.
//!
//! That is right as long as each quoted field begins and ends with its quotes. Where it does not, a quote may be a
//! character like any other, and the block is left to the exact rules.

use super::{Group, shift};

pub(super) struct Quotes {
    pub(super) byte: u8,
    /// All bits set if the next group begins inside.
    inside: u64,
    after_quote: u64,
    after_closing: u64,
    sound: bool,
    /// Masks of the current group.
    opening: u64,
    closing: u64,
}

impl Quotes {
    pub(super) fn new(byte: u8) -> Self {
        Self { byte, inside: 0, after_quote: 0, after_closing: 0, sound: true, opening: 0, closing: 0 }
    }

    /// The bytes of the next group that are not enclosed. Opening quotes are, closing quotes are not.
    #[inline(always)]
    pub(super) fn outside(&mut self, quotes: u64) -> u64 {
        let inside = prefix_xor(quotes) ^ self.inside;
        self.inside = ((inside as i64) >> 63) as u64;
        (self.opening, self.closing) = (quotes & inside, quotes & !inside);
        !inside
    }

    /// Looks whether the quotes of the group stand at both ends of fields; returns those that are doubled, which their
    /// line cannot keep.
    #[inline(always)]
    pub(super) fn check(&mut self, group: &Group, comments: u64) -> u64 {
        let quotes = self.opening | self.closing;
        let after_quote = shift(quotes, &mut self.after_quote);
        let opens_wrong = self.opening & !(group.after_separator | after_quote);
        let closes_wrong = shift(self.closing, &mut self.after_closing) & !(group.separators | quotes);
        // Quotes in a comment would have been counted.
        self.sound &= opens_wrong | closes_wrong | comments == 0;
        self.opening & after_quote
    }

    /// Whether all groups were as they should, and the last quote closed.
    pub(super) fn are_sound(&self) -> bool {
        self.sound && self.inside == 0
    }
}

/// Bit i of the result is the parity of the bits 0 to i.
#[inline(always)]
fn prefix_xor(mut mask: u64) -> u64 {
    for distance in [1, 2, 4, 8, 16, 32] {
        mask ^= mask << distance;
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_xor_is_a_running_parity() {
        assert_eq!(prefix_xor(0b1000_0100), 0b0111_1100);
        assert_eq!(prefix_xor(1), !0);
        assert_eq!(prefix_xor(1 << 63), 1 << 63);
    }
}
