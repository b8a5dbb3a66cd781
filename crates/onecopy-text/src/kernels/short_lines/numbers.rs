//! The digits of a group of lines, put into slots and joined to words of four digits.

use std::arch::x86_64::{
    __m512i, _mm_add_epi8, _mm_set_epi64x, _mm_slli_si128, _mm_storeu_si128, _mm512_castsi128_si512,
    _mm512_castsi512_si128, _mm512_cmpeq_epi8_mask, _mm512_cmpge_epi8_mask, _mm512_cmpgt_epu8_mask, _mm512_loadu_si512,
    _mm512_madd_epi16, _mm512_maddubs_epi16, _mm512_mask_add_epi8, _mm512_mask_cmpeq_epi8_mask,
    _mm512_mask_cmpeq_epi32_mask, _mm512_mask_cmpgt_epi8_mask, _mm512_mask_sub_epi8, _mm512_mask_sub_epi32,
    _mm512_maskz_compress_epi8, _mm512_maskz_permutexvar_epi8, _mm512_permutexvar_epi8, _mm512_set1_epi8,
    _mm512_set1_epi16, _mm512_set1_epi32, _mm512_setzero_si512, _mm512_storeu_si512, _mm512_sub_epi8, _mm512_xor_si512,
    _pdep_u64, _pext_u64,
};
use std::ops::Range;

use super::super::number::POINT;
use super::assemble::{Joined, NOTHING};
use super::marks::Marks;
use super::shape::{MOST_FIELDS, MOST_SLOTS, Shape};

/// Groups that are found before their elements are made: all of them fit the nearest cache.
pub(super) const ROUND: usize = 64;

/// What was found in some groups of lines.
pub(super) struct Found {
    groups: [Group; ROUND],
    joined: [Joined; ROUND],
    /// Behind the last of them.
    pub(super) end: usize,
}

/// Words in front of those of a group, so that each has two before it.
const LEAD: usize = 2;

/// A group of lines.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Group {
    /// Four digits of a slot each, behind [`LEAD`]; negative for an integer with a minus.
    words: [i32; LEAD + MOST_SLOTS],
    /// Masks of slots: the byte of a point, and all bytes of a slot whose number has a minus.
    pub(super) points: u64,
    pub(super) minus: u64,
    /// Where the first line begins.
    pub(super) at: usize,
    /// Of each field, behind `at`.
    pub(super) starts: [u8; MOST_FIELDS],
    pub(super) ends: [u8; MOST_FIELDS],
}

const EMPTY: Group = Group {
    words: [0; LEAD + MOST_SLOTS],
    points: 0,
    minus: 0,
    at: 0,
    starts: [0; MOST_FIELDS],
    ends: [0; MOST_FIELDS],
};

impl Group {
    /// A word.
    #[inline(always)]
    pub(super) fn word(&self, number: usize) -> i32 {
        self.words[LEAD + number % MOST_SLOTS]
    }

    /// For each word the one so many before it, up to two; nothing of use for the first ones.
    #[inline(always)]
    pub(super) fn words_before(&self, distance: usize) -> &[i32; MOST_SLOTS] {
        self.words[LEAD - distance..].first_chunk().expect("as many words are in front")
    }
}

impl Default for Found {
    fn default() -> Self {
        Self { groups: [EMPTY; ROUND], joined: [NOTHING; ROUND], end: 0 }
    }
}

/// The numbers of the bytes of a register.
const PLACES: [u8; 64] = {
    let mut places = [0; 64];
    let mut i = 0;
    while i < 64 {
        places[i] = i as u8;
        i += 1;
    }
    places
};

/// A register of 64 bytes.
#[inline(always)]
pub(super) fn register(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: called where AVX-512 is; 64 bytes are read of 64.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

impl Found {
    /// The first groups, and room for what they are together.
    pub(super) fn groups(&mut self, count: usize) -> (&[Group], &mut [Joined]) {
        (&self.groups[..count], &mut self.joined[..count])
    }

    /// Where a line of those groups is, without its line end.
    pub(super) fn line(&self, shape: &Shape, line: usize) -> Range<usize> {
        let (group, field) = (&self.groups[line / shape.lines], line % shape.lines * shape.fields);
        let place = |place: u8| group.at + usize::from(place);
        place(group.starts[field])..place(group.ends[field + shape.fields - 1])
    }

    /// Finds up to `most` groups, no more than [`ROUND`], from `at` on; the number of those before the first that is not plain.
    ///
    /// A group is plain if its lines have as many fields as they should, fit 64 bytes, and all numbers consist of digits
    /// that fit their slots, with a minus in front of them and, in floats, one point between, before or behind them.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx2,bmi1,bmi2,popcnt")]
    pub(super) fn numbers(&mut self, padded: &[u8], marks: &Marks, shape: &Shape, at: usize, most: usize) -> usize {
        let (places, fields, back) = (register(&PLACES), register(&shape.field), register(&shape.back));
        let (dash, zero) = (_mm512_set1_epi8(b'-' as i8), _mm512_set1_epi8(b'0' as i8));
        let (one, nine, point) = (_mm512_set1_epi8(1), _mm512_set1_epi8(9), _mm512_set1_epi8(POINT as i8));
        let (tens, hundreds) = (_mm512_set1_epi16(0x010a), _mm512_set1_epi32(0x0001_0064));
        let behind_separator = _mm_set_epi64x(0x0101_0101_0101_0101, 0x0101_0101_0101_0100);
        let last_line = 1 << (shape.lines - 1);
        let before_last = shape.floats & !shape.last_of_floats;
        let mut at = at;
        for (done, group) in self.groups[..most].iter_mut().enumerate() {
            let [separators, line_ends] = marks.window(at);
            let end = _pdep_u64(last_line, line_ends);
            let up_to_end = end ^ end.wrapping_sub(1);
            let separators = separators & up_to_end;
            let other_lines = _pext_u64(line_ends & up_to_end, separators) ^ shape.line_ends;
            let Some(text) = padded[at..].first_chunk().map(register) else { return done };

            let ends = _mm512_maskz_compress_epi8(separators, places);
            let few_ends = _mm512_castsi512_si128(ends);
            let few_starts = _mm_add_epi8(_mm_slli_si128::<1>(few_ends), behind_separator);
            let starts = _mm512_permutexvar_epi8(fields, _mm512_castsi128_si512(few_starts));
            // Of each byte of a slot: which byte of the text belongs there, if it is not before the digits.
            let source = _mm512_sub_epi8(_mm512_permutexvar_epi8(fields, ends), back);
            let first = _mm512_permutexvar_epi8(starts, text);
            let minus = _mm512_cmpeq_epi8_mask(first, dash);
            let starts = _mm512_mask_add_epi8(starts, minus, starts, one);
            let text = _mm512_xor_si512(text, zero);

            let digits = _mm512_maskz_permutexvar_epi8(_mm512_cmpge_epi8_mask(source, starts), source, text);
            let points = _mm512_mask_cmpeq_epi8_mask(shape.floats, digits, point);
            // What is up to the point moves up by one, over it. In each slot that has a point a carry gets to the last
            // byte; what lies between the first byte and the point is then a difference. Two points are left for one.
            let has_point = (((points & before_last) + before_last) | points) & shape.last_of_floats;
            let first_bytes = _pdep_u64(_pext_u64(has_point, shape.last_of_floats), shape.first_of_floats);
            let source_without = _mm512_mask_sub_epi8(source, (points << 1).wrapping_sub(first_bytes), source, one);
            let used = _mm512_cmpge_epi8_mask(source_without, starts);
            let digits = _mm512_maskz_permutexvar_epi8(used, source_without, text);

            let too_long = _mm512_mask_cmpgt_epi8_mask(shape.first, source, starts);
            let no_digit = shape.last & !used;
            if _mm512_cmpgt_epu8_mask(digits, nine) | too_long | no_digit | other_lines != 0 {
                self.end = at;
                return done;
            }
            let fours = _mm512_madd_epi16(_mm512_maddubs_epi16(digits, tens), hundreds);
            let negative = _mm512_mask_cmpeq_epi32_mask(shape.integers, first, dash);
            let words = _mm512_mask_sub_epi32(fours, negative, _mm512_setzero_si512(), fours);
            (group.points, group.minus, group.at) = (points, minus, at);
            // SAFETY: as many bytes are written as there are.
            unsafe {
                _mm512_storeu_si512(group.words[LEAD..].as_mut_ptr().cast(), words);
                _mm_storeu_si128(group.starts.as_mut_ptr().cast(), few_starts);
                _mm_storeu_si128(group.ends.as_mut_ptr().cast(), few_ends);
            }
            at += end.trailing_zeros() as usize + 1;
        }
        self.end = at;
        most
    }
}
