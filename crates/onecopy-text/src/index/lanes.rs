//! What the index asks of 64 bytes.

use super::GROUP;

/// 64 bytes; each answer is a mask whose bit i is about byte i.
pub(super) trait Lanes {
    fn load(bytes: &[u8; GROUP]) -> Self;
    /// Bytes that are `byte`.
    fn equal(&self, byte: u8) -> u64;
    /// ASCII bytes from `low` to `high`.
    fn within(&self, low: u8, high: u8) -> u64;
    /// Bytes from 0x80 on.
    fn non_ascii(&self) -> u64;

    /// Writes `base` plus the position of each bit of `mask` to `out`, and rubbish behind; returns the number of bits.
    ///
    /// Eight at a time whether there are eight or not: a branch per bit would be mispredicted for each group.
    #[inline(always)]
    fn flatten(mut mask: u64, base: u32, out: &mut [u32; GROUP]) -> usize {
        let count = mask.count_ones() as usize;
        for eight in out.chunks_exact_mut(8).take(count.div_ceil(8)) {
            for slot in eight {
                *slot = base + mask.trailing_zeros();
                mask &= mask.wrapping_sub(1);
            }
        }
        count
    }
}
