//! Eight numbers at a time, the steps of [`super::number`] on eight 64-bit lanes of AVX-512; and strings by its masks.
//!
//! All functions are for machines with AVX-512 only, and become part of one that is compiled for it.

#![expect(clippy::many_single_char_names, reason = "eight lanes have no better names")]

use std::arch::x86_64::{
    __m256i, __m512i, __mmask8, _bzhi_u64, _mm_mask_storeu_epi8, _mm_maskz_loadu_epi8, _mm_movepi8_mask,
    _mm_test_epi8_mask, _mm256_cmpgt_epu32_mask, _mm256_cmplt_epu32_mask, _mm256_loadu_si256, _mm256_set_epi32,
    _mm256_set1_epi32, _mm256_storeu_si256, _mm256_sub_epi32, _mm512_add_epi64, _mm512_and_si512, _mm512_andnot_si512,
    _mm512_castpd_si512, _mm512_castsi512_pd, _mm512_cmpeq_epi8_mask, _mm512_cmpeq_epi64_mask, _mm512_cmpgt_epi64_mask,
    _mm512_cmpgt_epu8_mask, _mm512_cvtepi64_epi32, _mm512_cvtepi64_pd, _mm512_cvtepu32_epi64, _mm512_div_pd,
    _mm512_loadu_pd, _mm512_madd_epi16, _mm512_maddubs_epi16, _mm512_mask_andnot_epi64, _mm512_mask_mov_epi64,
    _mm512_mask_storeu_epi8, _mm512_mask_sub_epi64, _mm512_mask_xor_epi64, _mm512_maskz_loadu_epi8,
    _mm512_maskz_mov_epi64, _mm512_movepi8_mask, _mm512_movm_epi8, _mm512_mul_epu32, _mm512_or_si512,
    _mm512_permutex2var_pd, _mm512_sad_epu8, _mm512_set_epi64, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_slli_epi64, _mm512_sllv_epi64, _mm512_srli_epi64, _mm512_storeu_pd,
    _mm512_storeu_si512, _mm512_sub_epi64, _mm512_test_epi8_mask, _mm512_xor_si512,
};

use super::number::{POINT, POWERS};

/// Eight fields; what is wrong with them is found out with the digits.
#[derive(Clone, Copy)]
pub(super) struct Oct<'a> {
    padded: &'a [u8],
    starts: __m256i,
    ends: __m256i,
    lengths: __m512i,
    /// Values of digits at the top of each lane; zeros below, and in place of a minus.
    words: __m512i,
    minus: __mmask8,
    /// Characters without a minus.
    digits: __m512i,
    /// Fields of more than eight characters.
    long: __mmask8,
}

impl<'a> Oct<'a> {
    /// The fields at `first[i] + column` in the lists of starts and ends; none if one of them is not there.
    ///
    /// Here and in [`texts`](Self::texts) eight loads are faster than one gather.
    #[inline(always)]
    pub(super) fn gather(
        padded: &'a [u8],
        (starts, ends): (&[u32], &[u32]),
        first: &[u32; 8],
        column: usize,
    ) -> Option<Self> {
        let listed = starts.len().min(ends.len());
        let [a, b, c, d, e, f, g, h] = first.map(|first| first as usize + column);
        let most = a.max(b).max(c.max(d)).max(e.max(f).max(g.max(h)));
        if most >= listed {
            return None;
        }
        let of = |list: &[u32]| {
            // SAFETY: all eight are below the length of the list.
            let at = |field: usize| unsafe { *list.get_unchecked(field) as i32 };
            // SAFETY: called where AVX-512 is, see the module.
            unsafe { _mm256_set_epi32(at(h), at(g), at(f), at(e), at(d), at(c), at(b), at(a)) }
        };
        Self::load(padded, of(starts), of(ends))
    }

    /// Eight fields in a row.
    #[inline(always)]
    pub(super) fn consecutive(padded: &'a [u8], starts: &[u32; 8], ends: &[u32; 8]) -> Option<Self> {
        // SAFETY: called where AVX-512 is, see the module; 32 bytes are read of 32.
        unsafe {
            let load = |list: &[u32; 8]| _mm256_loadu_si256(list.as_ptr().cast());
            Self::load(padded, load(starts), load(ends))
        }
    }

    /// The eight bytes at each position; none if they are not all there.
    #[inline(always)]
    fn texts(padded: &[u8], positions: __m256i) -> Option<__m512i> {
        let last = padded.len().min(i32::MAX as usize).checked_sub(8)?;
        // SAFETY: called where AVX-512 is, see the module; each position is at most `last`, so eight bytes can be read.
        unsafe {
            if _mm256_cmpgt_epu32_mask(positions, _mm256_set1_epi32(last as i32)) != 0 {
                return None;
            }
            let mut places = [0_u32; 8];
            _mm256_storeu_si256(places.as_mut_ptr().cast(), positions);
            let at = |place: u32| padded.as_ptr().add(place as usize).cast::<i64>().read_unaligned();
            let [a, b, c, d, e, f, g, h] = places;
            Some(_mm512_set_epi64(at(h), at(g), at(f), at(e), at(d), at(c), at(b), at(a)))
        }
    }

    #[inline(always)]
    fn load(padded: &'a [u8], starts: __m256i, ends: __m256i) -> Option<Self> {
        let text = Self::texts(padded, starts)?;
        // SAFETY: called where AVX-512 is, see the module; no memory is touched.
        unsafe {
            let lengths = _mm512_cvtepu32_epi64(_mm256_sub_epi32(ends, starts));
            let first_byte = _mm512_set1_epi64(0xff);
            let minus = _mm512_cmpeq_epi64_mask(_mm512_and_si512(text, first_byte), _mm512_set1_epi64(b'-'.into()));
            let values = _mm512_xor_si512(text, _mm512_set1_epi8(b'0' as i8));
            let values = _mm512_mask_andnot_epi64(values, minus, first_byte, values);
            // The shift moves what does not belong to the field out at the top and zeros in below; one by more bits
            // than there are, as for a long field, leaves zeros.
            let unused = _mm512_sub_epi64(_mm512_set1_epi64(64), _mm512_slli_epi64::<3>(lengths));
            Some(Self {
                padded,
                starts,
                ends,
                lengths,
                words: _mm512_sllv_epi64(values, unused),
                minus,
                digits: _mm512_mask_sub_epi64(lengths, minus, lengths, _mm512_set1_epi64(1)),
                long: _mm512_cmpgt_epi64_mask(lengths, _mm512_set1_epi64(8)),
            })
        }
    }

    /// Integers of up to eight characters.
    #[inline(always)]
    pub(super) fn integers(&self) -> Option<[i32; 8]> {
        if self.long != 0 {
            return None;
        }
        let values = Self::value_of(self.words, self.digits)?;
        let mut out = [0; 8];
        // SAFETY: as in `load`; 32 bytes are written to 32.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm512_cvtepi64_epi32(self.signed(values))) };
        Some(out)
    }

    /// Integers of up to sixteen characters.
    #[inline(always)]
    pub(super) fn long_integers(&self) -> Option<[i64; 8]> {
        let (high, low) = self.halves()?;
        let values = Self::value_of_both(high, low, self.digits)?;
        let mut out = [0; 8];
        // SAFETY: as in `load`; 64 bytes are written to 64.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), self.signed(values)) };
        Some(out)
    }

    /// The last eight characters as `words` has them, which of a short field are all; and before them those in front.
    #[inline(always)]
    fn halves(&self) -> Option<(__m512i, __m512i)> {
        // SAFETY: as in `load`.
        unsafe {
            let eight = _mm256_set1_epi32(8);
            let too_long = _mm512_cmpgt_epi64_mask(self.lengths, _mm512_set1_epi64(16));
            if _mm256_cmplt_epu32_mask(self.ends, eight) | too_long != 0 {
                return None;
            }
            let zeros = _mm512_set1_epi8(b'0' as i8);
            let last = _mm512_xor_si512(Self::texts(self.padded, _mm256_sub_epi32(self.ends, eight))?, zeros);
            let first = _mm512_xor_si512(Self::texts(self.padded, self.starts)?, zeros);
            let first = _mm512_mask_andnot_epi64(first, self.minus, _mm512_set1_epi64(0xff), first);
            let unused = _mm512_sub_epi64(_mm512_set1_epi64(128), _mm512_slli_epi64::<3>(self.lengths));
            Some((_mm512_sllv_epi64(first, unused), _mm512_mask_mov_epi64(self.words, self.long, last)))
        }
    }

    #[inline(always)]
    fn value_of_both(high: __m512i, low: __m512i, count: __m512i) -> Option<__m512i> {
        let (high, low) = (Self::value_of(high, count)?, Self::value_of(low, count)?);
        // SAFETY: as in `load`.
        Some(unsafe { _mm512_add_epi64(_mm512_mul_epu32(high, _mm512_set1_epi64(100_000_000)), low) })
    }

    /// Numbers of up to eight characters with at most one point.
    #[inline(always)]
    pub(super) fn floats(&self) -> Option<[f64; 8]> {
        if self.long != 0 {
            return None;
        }
        // SAFETY: as in `load`.
        unsafe {
            let point = Point::find(self.words);
            let digits = _mm512_mask_mov_epi64(point.taken_out(self.words), point.absent, self.words);
            let values = Self::value_of(digits, point.digits_of(self.digits))?;
            Some(self.quotients(values, point.behind()))
        }
    }

    /// Numbers of up to sixteen characters with at most one point; of digits as many as a double holds.
    #[inline(always)]
    pub(super) fn long_floats(&self) -> Option<[f64; 8]> {
        let (high, low) = self.halves()?;
        // SAFETY: as in `load`.
        unsafe {
            let (in_high, in_low) = (Point::find(high), Point::find(low));
            // A point in the low half lets what is before it move up, and the last of the high half with it.
            let moved_low = _mm512_or_si512(in_low.taken_out(low), _mm512_srli_epi64::<56>(high));
            let moved_high = _mm512_mask_mov_epi64(in_high.taken_out(high), in_high.absent, high);
            let joined_high = _mm512_mask_mov_epi64(_mm512_slli_epi64::<8>(high), in_low.absent, moved_high);
            let joined_low = _mm512_mask_mov_epi64(moved_low, in_low.absent, low);
            // Where there are two, one is left, and is no digit.
            let count = in_low.digits_of(in_high.digits_of(self.digits));
            let values = Self::value_of_both(joined_high, joined_low, count)?;
            if _mm512_cmpgt_epi64_mask(values, _mm512_set1_epi64(1 << 53)) != 0 {
                return None;
            }
            let eight = _mm512_maskz_mov_epi64(!in_high.absent, _mm512_set1_epi64(8));
            let behind = _mm512_add_epi64(_mm512_add_epi64(in_high.behind(), eight), in_low.behind());
            Some(self.quotients(values, behind))
        }
    }

    /// The values with their signs, divided by ten to the power of `behind`, which is at most 15.
    #[inline(always)]
    fn quotients(&self, values: __m512i, behind: __m512i) -> [f64; 8] {
        let mut out = [0.0; 8];
        // SAFETY: as in `load`; 128 bytes are read of 128, and 64 written to 64.
        unsafe {
            let (low, high) = (_mm512_loadu_pd(POWERS.as_ptr()), _mm512_loadu_pd(POWERS.as_ptr().add(8)));
            let powers = _mm512_permutex2var_pd(low, behind, high);
            let bits = _mm512_castpd_si512(_mm512_div_pd(_mm512_cvtepi64_pd(values), powers));
            let bits = _mm512_mask_xor_epi64(bits, self.minus, bits, _mm512_set1_epi64(i64::MIN));
            _mm512_storeu_pd(out.as_mut_ptr(), _mm512_castsi512_pd(bits));
        }
        out
    }

    #[inline(always)]
    fn signed(&self, values: __m512i) -> __m512i {
        // SAFETY: as in `load`.
        unsafe { _mm512_mask_sub_epi64(values, self.minus, _mm512_setzero_si512(), values) }
    }

    /// The numbers whose digits are the bytes of `words`, of which each must have `count`, at least one.
    #[inline(always)]
    fn value_of(words: __m512i, count: __m512i) -> Option<__m512i> {
        // SAFETY: as in `load`.
        unsafe {
            let not_digit = _mm512_cmpgt_epu8_mask(words, _mm512_set1_epi8(9));
            let no_digit = _mm512_cmpgt_epi64_mask(_mm512_set1_epi64(1), count);
            if not_digit | u64::from(no_digit) != 0 {
                return None;
            }
            let pairs = _mm512_maddubs_epi16(words, _mm512_set1_epi16(0x010a));
            let fours = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x0001_0064));
            let high = _mm512_mul_epu32(fours, _mm512_set1_epi64(10_000));
            Some(_mm512_add_epi64(high, _mm512_srli_epi64::<32>(fours)))
        }
    }
}

/// The first point among the eight characters of each lane.
#[derive(Clone, Copy)]
struct Point {
    /// Lanes without one.
    absent: __mmask8,
    /// All bits before it.
    before: __m512i,
    /// All bits before it and its own.
    up_to: __m512i,
}

impl Point {
    #[inline(always)]
    fn find(words: __m512i) -> Self {
        // SAFETY: as in `Oct::load`.
        unsafe {
            let none = _mm512_setzero_si512();
            let points = _mm512_movm_epi8(_mm512_cmpeq_epi8_mask(words, _mm512_set1_epi8(POINT as i8)));
            // The lowest bit of the first point, less one.
            let first = _mm512_and_si512(points, _mm512_sub_epi64(none, points));
            let before = _mm512_add_epi64(first, _mm512_set1_epi64(-1));
            let up_to = _mm512_or_si512(_mm512_slli_epi64::<8>(before), _mm512_set1_epi64(0xff));
            Self { absent: _mm512_cmpeq_epi64_mask(points, none), before, up_to }
        }
    }

    /// The characters without the point: those before it move up by one.
    #[inline(always)]
    fn taken_out(self, words: __m512i) -> __m512i {
        // SAFETY: as in `Oct::load`.
        unsafe {
            let moved = _mm512_slli_epi64::<8>(_mm512_and_si512(words, self.before));
            _mm512_or_si512(moved, _mm512_andnot_si512(self.up_to, words))
        }
    }

    /// How many of `characters` are left without the point.
    #[inline(always)]
    fn digits_of(self, characters: __m512i) -> __m512i {
        // SAFETY: as in `Oct::load`.
        unsafe { _mm512_mask_sub_epi64(characters, !self.absent, characters, _mm512_set1_epi64(1)) }
    }

    /// How many characters stand behind it.
    #[inline(always)]
    fn behind(self) -> __m512i {
        // SAFETY: as in `Oct::load`.
        unsafe { _mm512_sad_epu8(_mm512_andnot_si512(self.up_to, _mm512_set1_epi8(1)), _mm512_setzero_si512()) }
    }
}

/// Copies ASCII without NUL into a place of up to 64 bytes, and zeros behind it; false if the text is anything else, or
/// longer than the place.
#[inline(always)]
pub(super) fn string(text: &[u8], place: &mut [u8]) -> bool {
    let (length, width) = (text.len(), place.len());
    if length > width {
        return false;
    }
    // SAFETY: called where AVX-512 is, see the module. The masks let no byte be read behind the text, which is no longer
    // than the place, and none be written behind the place, whose width is that of the register at most.
    unsafe {
        let (read, written) = (_bzhi_u64(u64::MAX, length as u32), _bzhi_u64(u64::MAX, width as u32));
        if width <= 16 {
            let (read, written) = (read as u16, written as u16);
            let bytes = _mm_maskz_loadu_epi8(read, text.as_ptr().cast());
            _mm_mask_storeu_epi8(place.as_mut_ptr().cast(), written, bytes);
            return _mm_movepi8_mask(bytes) == 0 && _mm_test_epi8_mask(bytes, bytes) == read;
        }
        assert!(width <= 64);
        let bytes = _mm512_maskz_loadu_epi8(read, text.as_ptr().cast());
        _mm512_mask_storeu_epi8(place.as_mut_ptr().cast(), written, bytes);
        _mm512_movepi8_mask(bytes) == 0 && _mm512_test_epi8_mask(bytes, bytes) == read
    }
}
