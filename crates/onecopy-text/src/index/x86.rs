//! The lanes of x86-64: SSE2, which every such machine has, AVX2 and AVX-512 where they are found at run time.

use std::arch::x86_64::{
    __m128i, __m256i, __m512i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_min_epu8, _mm_movemask_epi8, _mm_set1_epi8,
    _mm_sub_epi8, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_set1_epi8,
    _mm256_sub_epi8, _mm512_add_epi32, _mm512_castsi512_si128, _mm512_cmpeq_epi8_mask, _mm512_cmple_epu8_mask,
    _mm512_cvtepu8_epi32, _mm512_extracti32x4_epi32, _mm512_loadu_si512, _mm512_maskz_compress_epi8,
    _mm512_movepi8_mask, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_storeu_si512, _mm512_sub_epi8,
};

use super::lanes::Lanes;
use super::{GROUP, Index, Marks};
use crate::machine;

/// Indexes with the best instructions of this machine.
pub(super) fn scan(index: &mut Index, padded: &[u8], marks: &Marks, quote: Option<u8>) -> bool {
    if machine::has_avx512() {
        // SAFETY: the machine has all features that the function is compiled for.
        unsafe { scan_avx512(index, padded, marks, quote) }
    } else if machine::has_avx2() {
        // SAFETY: as above.
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

/// A comparison gives its mask at once, and positions of bits come out of one instruction.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,avx2,bmi1,bmi2,popcnt")]
fn scan_avx512(index: &mut Index, padded: &[u8], marks: &Marks, quote: Option<u8>) -> bool {
    index.scan_with::<Avx512>(padded, marks, quote)
}

/// All 64 bytes in one register.
pub(super) struct Avx512(__m512i);

impl Lanes for Avx512 {
    /// Only where the machine has the instructions: [`scan`] sees to it.
    #[inline(always)]
    fn load(bytes: &[u8; GROUP]) -> Self {
        // SAFETY: 64 bytes are read of 64; loads need no alignment, and `scan` has asked the machine.
        Self(unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) })
    }

    #[inline(always)]
    fn equal(&self, byte: u8) -> u64 {
        // SAFETY: a value of this type exists only where the machine has its instructions, see `load`.
        unsafe { _mm512_cmpeq_epi8_mask(self.0, _mm512_set1_epi8(byte as i8)) }
    }

    #[inline(always)]
    fn within(&self, low: u8, high: u8) -> u64 {
        // SAFETY: as in `equal`.
        unsafe {
            let above = _mm512_sub_epi8(self.0, _mm512_set1_epi8(low as i8));
            _mm512_cmple_epu8_mask(above, _mm512_set1_epi8((high - low) as i8))
        }
    }

    #[inline(always)]
    fn non_ascii(&self) -> u64 {
        // SAFETY: as in `equal`.
        unsafe { _mm512_movepi8_mask(self.0) }
    }

    #[inline(always)]
    fn flatten(mask: u64, base: u32, out: &mut [u32; GROUP]) -> usize {
        const POSITIONS: [u8; GROUP] = {
            let mut positions = [0; GROUP];
            let mut i = 0;
            while i < GROUP {
                positions[i] = i as u8;
                i += 1;
            }
            positions
        };
        let count = mask.count_ones() as usize;
        let (quarters, _) = out.as_chunks_mut::<16>();
        // SAFETY: 64 bytes are read of 64, and 64 written to 16 numbers of four bytes each; neither needs alignment.
        // Called, as all methods here, only where the machine has the instructions.
        unsafe {
            let bits = _mm512_maskz_compress_epi8(mask, _mm512_loadu_si512(POSITIONS.as_ptr().cast()));
            let base = _mm512_set1_epi32(base as i32);
            let store = |quarter: &mut [u32; 16], bytes: __m128i| {
                let positions = _mm512_add_epi32(_mm512_cvtepu8_epi32(bytes), base);
                _mm512_storeu_si512(quarter.as_mut_ptr().cast(), positions);
            };
            store(&mut quarters[0], _mm512_castsi512_si128(bits));
            if count > 16 {
                store(&mut quarters[1], _mm512_extracti32x4_epi32::<1>(bits));
                if count > 32 {
                    store(&mut quarters[2], _mm512_extracti32x4_epi32::<2>(bits));
                    store(&mut quarters[3], _mm512_extracti32x4_epi32::<3>(bits));
                }
            }
        }
        count
    }
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

/// Those that [`scan`] does not choose on this machine.
#[cfg(test)]
pub(super) fn lesser_scans() -> Vec<super::tests::Scan> {
    let mut scans: Vec<super::tests::Scan> = vec![Index::scan_with::<Sse2>];
    if machine::has_avx2() {
        // SAFETY: the machine has all features that the function is compiled for.
        scans.push(|index, padded, marks, quote| unsafe { scan_avx2(index, padded, marks, quote) });
    }
    scans
}
