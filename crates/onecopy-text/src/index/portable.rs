//! The lanes of any machine: eight bytes in a 64-bit integer.

use super::GROUP;
use super::lanes::Lanes;

/// Eight bytes in each 64-bit integer.
pub(super) struct Portable([u64; 8]);

const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const HIGH: u64 = !LOW;

const fn splat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

impl Portable {
    /// Collects the highest bit of each byte of `f(word)`.
    fn mask(&self, f: impl Fn(u64) -> u64) -> u64 {
        // The product brings bit 8·i to bit 56 + i; no two terms meet.
        let collect = |word: u64| ((f(word) & HIGH) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        self.0.iter().rev().fold(0, |mask, &word| mask << 8 | collect(word))
    }
}

impl Lanes for Portable {
    fn load(bytes: &[u8; GROUP]) -> Self {
        let mut words = [0; 8];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self(words)
    }

    fn equal(&self, byte: u8) -> u64 {
        self.mask(|word| {
            let difference = word ^ splat(byte);
            !(((difference & LOW) + LOW) | difference)
        })
    }

    fn within(&self, low: u8, high: u8) -> u64 {
        self.mask(|word| {
            let low_bits = word & LOW;
            (low_bits + splat(0x80 - low)) & !(low_bits + splat(0x7f - high)) & !word
        })
    }

    fn non_ascii(&self) -> u64 {
        self.mask(|word| word)
    }
}
