//! The check sum of HDF5's filter 3, four bytes behind a chunk.
//!
//! The bytes are taken as big-endian words of 16 bits, an odd one padded with a zero. The lower half of the result is
//! the sum of the words, the upper half the sum of all sums up to each word, both modulo 65535, where a sum that is not
//! zero itself has the representative 65535 instead of 0.

/// So many words are summed up before the sums are reduced: with fewer than 2^21, the second one stays below 2^64.
const WORDS: usize = 1 << 16;
const MODULUS: u64 = 0xFFFF;

/// Bytes of a stored check sum, little-endian.
pub(crate) const LEN: usize = 4;

pub(crate) fn fletcher32(bytes: &[u8]) -> u32 {
    let (mut first, mut second) = (0u64, 0u64);
    for block in bytes.chunks(2 * WORDS) {
        let words = block.chunks_exact(2);
        let odd = words.remainder().first().copied();
        for word in words {
            first += u64::from(u16::from_be_bytes([word[0], word[1]]));
            second += first;
        }
        if let Some(byte) = odd {
            first += u64::from(byte) << 8;
            second += first;
        }
        (first, second) = (reduce(first), reduce(second));
    }
    (second as u32) << 16 | first as u32
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
