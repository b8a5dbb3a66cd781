//! The lanes of x86-64: SSE2, which every such machine has, and AVX2 where it is found at run time.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_set1_epi8, _mm_sub_epi8,
    _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_set1_epi8, _mm256_sub_epi8,
};

use super::lanes::Lanes;
use super::{GROUP, Index, Marks};
use crate::machine;

/// Indexes with the best instructions of this machine.
pub(super) fn scan(index: &mut Index, padded: &[u8], marks: &Marks, quote: Option<u8>) -> bool {
    if machine::has_avx2() {
        // SAFETY: the machine has all features that the function is compiled for.
        unsafe { scan_avx2(index, padded, marks, quote) }
    } else {
        index.scan_with::<Sse2>(padded, marks, quote)
    }
}

/// Besides wider comparisons this gives the bit loops their instructions: `tzcnt`, `blsr`, `popcnt`.
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
fn scan_avx2(index: &mut Index, padded: &[u8], marks: &Marks, quote: Option<u8>) -> bool {
    index.scan_with::<Avx2>(padded, marks, quote)
}

macro_rules! lanes {
    ($name:ident, $vector:ty, $bytes:literal, $mask:ty, $load:ident, $movemask:ident, $equal:ident, $set:ident, $sub:ident, $min:ident) => {
        pub(super) struct $name([$vector; GROUP / $bytes]);

        impl $name {
            #[inline(always)]
            fn mask(&self, f: impl Fn($vector) -> $vector) -> u64 {
                self.0.iter().rev().fold(0, |mask, &lane| {
                    // SAFETY: a value of this type exists only where the machine has its instructions, see `load`.
                    let bits = unsafe { $movemask(f(lane)) } as $mask;
                    mask.wrapping_shl($bytes) | u64::from(bits)
                })
            }
        }

        impl Lanes for $name {
            /// Only where the machine has the instructions: [`scan`] sees to it.
            #[inline(always)]
            fn load(bytes: &[u8; GROUP]) -> Self {
                // SAFETY: the lanes lie within the 64 bytes, loads need no alignment, and `scan` has asked the machine.
                Self(std::array::from_fn(|i| unsafe { $load(bytes.as_ptr().add($bytes * i).cast()) }))
            }

            #[inline(always)]
            fn equal(&self, byte: u8) -> u64 {
                // SAFETY: as in `mask`.
                self.mask(|lane| unsafe { $equal(lane, $set(byte as i8)) })
            }

            #[inline(always)]
            fn within(&self, low: u8, high: u8) -> u64 {
                self.mask(|lane| {
                    // SAFETY: as in `mask`.
                    unsafe {
                        let above = $sub(lane, $set(low as i8));
                        $equal($min(above, $set((high - low) as i8)), above)
                    }
                })
            }

            #[inline(always)]
            fn non_ascii(&self) -> u64 {
                self.mask(|lane| lane)
            }
        }
    };
}

lanes!(
    Sse2,
    __m128i,
    16,
    u16,
    _mm_loadu_si128,
    _mm_movemask_epi8,
    _mm_cmpeq_epi8,
    _mm_set1_epi8,
    _mm_sub_epi8,
    _mm_min_epu8
);
lanes!(
    Avx2,
    __m256i,
    32,
    u32,
    _mm256_loadu_si256,
    _mm256_movemask_epi8,
    _mm256_cmpeq_epi8,
    _mm256_set1_epi8,
    _mm256_sub_epi8,
    _mm256_min_epu8
);
