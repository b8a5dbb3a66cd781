//! Four numbers at a time, the steps of [`super::number`] on four 64-bit lanes of AVX2.
//!
//! All functions are for machines with AVX2 only, and become part of one that is compiled for it.

use std::arch::x86_64::{
    __m256i, _mm_set_epi32, _mm_sub_epi32, _mm256_add_epi8, _mm256_add_epi64, _mm256_and_si256, _mm256_andnot_si256,
    _mm256_blendv_epi8, _mm256_castpd_si256, _mm256_castps256_ps128, _mm256_castsi256_si128, _mm256_cmpeq_epi8,
    _mm256_cmpeq_epi64, _mm256_cvtepi32_pd, _mm256_cvtepu32_epi64, _mm256_cvtps_pd, _mm256_div_pd, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_epu32, _mm256_or_si256, _mm256_permutevar8x32_epi32, _mm256_permutevar8x32_ps,
    _mm256_sad_epu8, _mm256_set_epi32, _mm256_set_epi64x, _mm256_set_ps, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_slli_epi64, _mm256_sllv_epi64,
    _mm256_srli_epi64, _mm256_storeu_si256, _mm256_sub_epi64, _mm256_testz_si256, _mm256_xor_si256,
};

use super::number::{POINT, load8};

/// Four fields; what is wrong with them is found out with the digits.
#[derive(Clone, Copy)]
pub(super) struct Quad {
    /// Values of digits at the top of each lane; zeros below, and in place of a minus.
    words: __m256i,
    /// All bits set for a minus.
    minus: __m256i,
    /// Characters without a minus, less one.
    digits_less_one: __m256i,
    /// Not zero for fields of more than eight characters.
    too_long: __m256i,
}

impl Quad {
    #[inline(always)]
    pub(super) fn load(padded: &[u8], starts: [u32; 4], ends: [u32; 4]) -> Self {
        // Written out: the methods of arrays are calls that leave the values in memory.
        let [a, b, c, d] = starts;
        let load = |start: u32| load8(padded, start as usize) as i64;
        let (a, b, c, d) = (load(a), load(b), load(c), load(d));
        let vector = |[a, b, c, d]: [u32; 4]| {
            // SAFETY: SSE2 is part of x86-64.
            unsafe { _mm_set_epi32(d as i32, c as i32, b as i32, a as i32) }
        };
        // SAFETY: called where AVX2 is, see the module; no memory is touched.
        unsafe {
            let text = _mm256_set_epi64x(d, c, b, a);
            let lengths = _mm256_cvtepu32_epi64(_mm_sub_epi32(vector(ends), vector(starts)));
            let first_byte = _mm256_set1_epi64x(0xff);
            let minus = _mm256_cmpeq_epi64(_mm256_and_si256(text, first_byte), _mm256_set1_epi64x(i64::from(b'-')));
            let values = _mm256_xor_si256(text, _mm256_set1_epi8(b'0' as i8));
            let values = _mm256_andnot_si256(_mm256_and_si256(minus, first_byte), values);
            // The shift moves what does not belong to the field out at the top and zeros in below.
            let unused = _mm256_sub_epi64(_mm256_set1_epi64x(64), _mm256_slli_epi64::<3>(lengths));
            let minus_one = _mm256_set1_epi64x(-1);
            let to_eight = _mm256_add_epi64(lengths, _mm256_set1_epi64x(7));
            Self {
                words: _mm256_sllv_epi64(values, unused),
                minus,
                digits_less_one: _mm256_add_epi64(_mm256_add_epi64(lengths, minus), minus_one),
                too_long: _mm256_andnot_si256(_mm256_set1_epi64x(15), to_eight),
            }
        }
    }

    #[inline(always)]
    pub(super) fn integers(self) -> Option<[i32; 4]> {
        let values = self.digits(self.words, self.digits_less_one)?;
        // SAFETY: as in `load`.
        let signed = unsafe { _mm256_sub_epi64(_mm256_xor_si256(values, self.minus), self.minus) };
        let [a, b, c, d] = lanes(signed);
        Some([a as i32, b as i32, c as i32, d as i32])
    }

    #[inline(always)]
    pub(super) fn floats(self) -> Option<[f64; 4]> {
        // SAFETY: as in `load`.
        let (digits, count, behind) = unsafe {
            let points = _mm256_cmpeq_epi8(self.words, _mm256_set1_epi8(POINT as i8));
            let none = _mm256_setzero_si256();
            let no_point = _mm256_cmpeq_epi64(points, none);
            // The lowest bit of the first point, less one: all bits before it. A second point is no digit.
            let first = _mm256_and_si256(points, _mm256_sub_epi64(none, points));
            let before = _mm256_add_epi64(first, _mm256_set1_epi64x(-1));
            let up_to_point = _mm256_or_si256(_mm256_slli_epi64::<8>(before), _mm256_set1_epi64x(0xff));
            let moved = _mm256_slli_epi64::<8>(_mm256_and_si256(self.words, before));
            let joined = _mm256_or_si256(moved, _mm256_andnot_si256(up_to_point, self.words));
            let digits = _mm256_blendv_epi8(joined, self.words, no_point);
            let count = _mm256_add_epi64(
                self.digits_less_one,
                _mm256_add_epi64(_mm256_set1_epi64x(-1), _mm256_and_si256(no_point, _mm256_set1_epi64x(1))),
            );
            (digits, count, _mm256_andnot_si256(up_to_point, _mm256_set1_epi8(1)))
        };
        let values = self.digits(digits, count)?;
        // SAFETY: as in `load`.
        let floats = unsafe {
            // Eight digits fit 32 bits, and powers of ten up to the eighth fit a single precision float.
            let low_halves = _mm256_set_epi32(6, 4, 2, 0, 6, 4, 2, 0);
            let pack = |lanes| _mm256_permutevar8x32_epi32(lanes, low_halves);
            let values = _mm256_cvtepi32_pd(_mm256_castsi256_si128(pack(values)));
            let powers = _mm256_set_ps(1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1e0);
            let fraction = _mm256_sad_epu8(behind, _mm256_setzero_si256());
            let powers = _mm256_cvtps_pd(_mm256_castps256_ps128(_mm256_permutevar8x32_ps(powers, pack(fraction))));
            let signs = _mm256_slli_epi64::<63>(self.minus);
            _mm256_xor_si256(_mm256_castpd_si256(_mm256_div_pd(values, powers)), signs)
        };
        let [a, b, c, d] = lanes(floats);
        let float = |bits: i64| f64::from_bits(bits as u64);
        Some([float(a), float(b), float(c), float(d)])
    }

    /// The numbers whose digits are the bytes of `words`; `less_one` is one less than the number of digits.
    #[inline(always)]
    fn digits(self, words: __m256i, less_one: __m256i) -> Option<__m256i> {
        // SAFETY: as in `load`.
        unsafe {
            let not_digit = _mm256_or_si256(words, _mm256_add_epi8(words, _mm256_set1_epi8(6)));
            let not_digit = _mm256_and_si256(not_digit, _mm256_set1_epi8(0xf0u8 as i8));
            let no_digit = _mm256_andnot_si256(_mm256_set1_epi64x(7), less_one);
            let bad = _mm256_or_si256(_mm256_or_si256(not_digit, no_digit), self.too_long);
            if _mm256_testz_si256(bad, bad) == 0 {
                return None;
            }
            let pairs = _mm256_maddubs_epi16(words, _mm256_set1_epi16(0x010a));
            let fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x0001_0064));
            let high = _mm256_mul_epu32(fours, _mm256_set1_epi64x(10_000));
            Some(_mm256_add_epi64(high, _mm256_srli_epi64::<32>(fours)))
        }
    }
}

#[inline(always)]
fn lanes(vector: __m256i) -> [i64; 4] {
    let mut lanes = [0; 4];
    // SAFETY: 32 bytes are written to an array of 32 bytes; the store needs no alignment. As to AVX, as in `load`.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), vector) };
    lanes
}
