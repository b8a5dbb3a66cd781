//! The check sum of HDF5's filter 3, four bytes behind a chunk.
//!
//! The bytes are taken as big-endian words of 16 bits, an odd one padded with a zero. The lower half of the result is
//! the sum of the words, the upper half the sum of all sums up to each word, both modulo 65535, where a sum that is not
//! zero itself has the representative 65535 instead of 0.
//!
//! Word by word, each addition would wait for the one before. So rows of `LANES` words are summed up lane by lane,
//! which the compiler turns into vector instructions, and the lanes are put together for each block of rows.

const LANES: usize = 32;
/// A lane's sum of sums over so many rows stays below 2^32.
const ROWS: usize = 360;
const MODULUS: u64 = 0xFFFF;

/// Bytes of a stored check sum, little-endian.
pub(crate) const LEN: usize = 4;

pub(crate) fn fletcher32(bytes: &[u8]) -> u32 {
    let mut sums = Sums::default();
    let rows = bytes.chunks_exact(2 * LANES);
    let rest = rows.remainder();
    for block in bytes[..bytes.len() - rest.len()].chunks(2 * LANES * ROWS) {
        sums.add_block(block);
    }
    for word in rest.chunks(2) {
        sums.add(u64::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])));
    }
    (reduce(sums.second) as u32) << 16 | reduce(sums.first) as u32
}

/// The sum of the words, and the sum of all sums up to each word.
#[derive(Default)]
struct Sums {
    first: u64,
    second: u64,
}

impl Sums {
    fn add(&mut self, word: u64) {
        self.first += word;
        self.second += self.first;
    }

    /// Adds whole rows, at most `ROWS`.
    fn add_block(&mut self, block: &[u8]) {
        let (mut sum, mut sums) = ([0u32; LANES], [0u32; LANES]);
        for row in block.chunks_exact(2 * LANES) {
            for lane in 0..LANES {
                sum[lane] += u32::from(u16::from_be_bytes([row[2 * lane], row[2 * lane + 1]]));
                sums[lane] += sum[lane];
            }
        }
        // Of `words` words, word `i` counts `words - i` times in the sum of sums. In lane `l` of row `r` that is
        // `LANES * (rows - r) - l`, and the lane's own sum of sums has it `rows - r` times.
        let words = (block.len() / 2) as u64;
        self.second += words * self.first;
        for (lane, (sum, sums)) in sum.into_iter().zip(sums).enumerate() {
            self.first += u64::from(sum);
            self.second += LANES as u64 * u64::from(sums) - lane as u64 * u64::from(sum);
        }
        (self.first, self.second) = (reduce(self.first), reduce(self.second));
    }
}

/// Whether `stored` is the check sum of `bytes`. Releases of HDF5 before 1.6.3 stored it with the bytes of each half
/// exchanged.
pub(crate) fn matches(bytes: &[u8], stored: [u8; LEN]) -> bool {
    let [a, b, c, d] = stored;
    let sum = fletcher32(bytes).to_le_bytes();
    sum == stored || sum == [b, a, d, c]
}

fn reduce(sum: u64) -> u64 {
    if sum == 0 { 0 } else { (sum - 1) % MODULUS + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_sums() {
        assert_eq!(fletcher32(b""), 0);
        assert_eq!(fletcher32(&[0; 9]), 0);
        assert_eq!(fletcher32(&[0xFF; 8]), 0xFFFF_FFFF);
    }

    proptest! {
        #[test]
        fn equals_the_definition(
            bytes in proptest::collection::vec(any::<u8>(), 0..3000), repeat in prop_oneof![Just(1usize), Just(200)],
        ) {
            let bytes = bytes.repeat(repeat);
            let words = bytes.chunks(2).map(|w| u128::from(w[0]) << 8 | w.get(1).map_or(0, |&b| u128::from(b)));
            let (mut first, mut second) = (0u128, 0u128);
            words.for_each(|word| { first += word; second += first; });
            let half = |sum: u128| if sum == 0 { 0 } else { ((sum - 1) % 65535 + 1) as u32 };
            prop_assert_eq!(fletcher32(&bytes), half(second) << 16 | half(first));
        }

        #[test]
        fn a_changed_bit_is_seen(mut bytes in proptest::collection::vec(any::<u8>(), 1..500), bit in 0usize..4000) {
            let stored = fletcher32(&bytes).to_le_bytes();
            prop_assert!(matches(&bytes, stored));
            prop_assert!(matches(&bytes, [stored[1], stored[0], stored[3], stored[2]]));
            let at = bit % (bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            prop_assert!(!matches(&bytes, stored));
        }
    }
}
