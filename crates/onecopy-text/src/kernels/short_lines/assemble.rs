//! Whole records of a group of lines: their integers, short floats and strings, all in registers.
//!
//! A record is written at once, by instructions that say of each of its bytes where it comes from. What is not made here
//! is zero until `store` makes it, column by column.

use std::arch::x86_64::{
    __m128i, __m512i, _mm_cvtepi32_pd, _mm_div_pd, _mm_loadu_si128, _mm_set_pd, _mm256_castpd128_pd256,
    _mm256_castps_si256, _mm256_castps128_ps256, _mm256_castsi256_pd, _mm256_cvtepi32_epi64, _mm256_cvtepi32_pd,
    _mm256_cvtpd_ps, _mm256_div_pd, _mm256_set_pd, _mm256_slli_epi64, _mm256_xor_pd, _mm512_abs_epi32, _mm512_add_epi8,
    _mm512_castpd_si512, _mm512_castpd256_pd512, _mm512_castps_si512, _mm512_castps256_ps512, _mm512_castsi128_si512,
    _mm512_castsi512_si128, _mm512_cmpneq_epi32_mask, _mm512_inserti64x4, _mm512_loadu_si512, _mm512_mask_add_epi32,
    _mm512_mask_cmpgt_epi8_mask, _mm512_mask_cmpgt_epi32_mask, _mm512_mask_storeu_epi8, _mm512_maskz_permutexvar_epi8,
    _mm512_max_epi32, _mm512_min_epi32, _mm512_movm_epi8, _mm512_mullo_epi32, _mm512_permutex2var_epi8,
    _mm512_permutexvar_epi8, _mm512_permutexvar_epi32, _mm512_set1_epi32, _mm512_srai_epi32, _mm512_storeu_si512,
    _mm512_ternarylogic_epi64,
};

use super::super::number::POWERS;
use super::assembly::{Assembly, Floats, Part};
use super::numbers::{Group, register};
use super::shape::{BYTES, MOST_SLOTS, Shape};

/// Digits before the last eight with which every number fits 32 bits.
const MOST_HIGH: i32 = 20;

/// Makes the records of groups, as far as that is done here; the number of records before the first that has an element
/// for the exact rules.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn assemble(
    assembly: &Assembly,
    shape: &Shape,
    groups: &[Group],
    joined: &mut [Joined],
    padded: &[u8],
    records: &mut [u8],
    record_size: usize,
) -> usize {
    let mut refused = match (assembly.triples != 0, assembly.floats.count) {
        (false, 0) => join::<false, 0>(assembly, shape, groups, joined),
        (false, 1 | 2) => join::<false, 2>(assembly, shape, groups, joined),
        (false, _) => join::<false, 4>(assembly, shape, groups, joined),
        (true, 0) => join::<true, 0>(assembly, shape, groups, joined),
        (true, 1 | 2) => join::<true, 2>(assembly, shape, groups, joined),
        (true, _) => join::<true, 4>(assembly, shape, groups, joined),
    };
    for (number, part) in assembly.parts.iter().enumerate() {
        let first = number * part.lines;
        let records = &mut records[first * record_size..];
        let made = match (assembly.has_wide, assembly.floats.count > 0) {
            (false, false) => part_of::<false, false>(part, shape, groups, joined, padded, records, record_size),
            (false, true) => part_of::<false, true>(part, shape, groups, joined, padded, records, record_size),
            (true, false) => part_of::<true, false>(part, shape, groups, joined, padded, records, record_size),
            (true, true) => part_of::<true, true>(part, shape, groups, joined, padded, records, record_size),
        };
        refused = refused.min(first + made);
    }
    refused
}

/// What the words of a group are together.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Joined {
    /// The integers, each in the last word of its slot.
    integers: [i32; MOST_SLOTS],
    floats: [u8; BYTES],
}

pub(super) const NOTHING: Joined = Joined { integers: [0; MOST_SLOTS], floats: [0; BYTES] };

/// Joins the words of groups, in which there are no more than so many floats; the number of records before the first
/// that has an integer out of its range.
///
/// This is apart from the rest as a division takes long, but not as long as to wait for it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
fn join<const TRIPLES: bool, const FLOATS: usize>(
    assembly: &Assembly,
    shape: &Shape,
    groups: &[Group],
    joined: &mut [Joined],
) -> usize {
    let mut refused = groups.len() * shape.lines;
    let [least, most] = [&assembly.least, &assembly.most].map(integers);
    let [ten_thousand, hundred_million] = [10_000, 100_000_000].map(|power| _mm512_set1_epi32(power));
    let (pairs, triples) = (assembly.pairs, assembly.triples);
    let floats = Quotients::<FLOATS>::new(&assembly.floats, shape);
    for (i, (group, joined)) in groups.iter().zip(joined).enumerate() {
        let [words, before] = [0, 1].map(|distance| integers(group.words_before(distance)));
        let mut values = _mm512_mask_add_epi32(words, pairs, words, _mm512_mullo_epi32(before, ten_thousand));
        let fitted = _mm512_max_epi32(_mm512_min_epi32(values, most), least);
        let mut unfit = _mm512_cmpneq_epi32_mask(values, fitted);
        if TRIPLES {
            let two_before = integers(group.words_before(2));
            let high = _mm512_mullo_epi32(two_before, hundred_million);
            values = _mm512_mask_add_epi32(values, triples, values, high);
            let most_high = _mm512_set1_epi32(MOST_HIGH);
            unfit |= _mm512_mask_cmpgt_epi32_mask(triples, _mm512_abs_epi32(two_before), most_high);
        }
        // SAFETY: 64 bytes are written to as many.
        unsafe { _mm512_storeu_si512(joined.integers.as_mut_ptr().cast(), values) };
        if FLOATS > 0 {
            let made = floats.of(group, values);
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(joined.floats.as_mut_ptr().cast(), made) };
        }
        if unfit != 0 {
            refused = refused.min(i * shape.lines + unfit.trailing_zeros() as usize / shape.words);
        }
    }
    refused
}

/// What makes up to so many floats of a group: doubles, if there are any, and singles behind them.
///
/// Each is the nearest one to the quotient of two exact numbers, the digits without the point and a power of ten.
struct Quotients<const COUNT: usize> {
    words: __m512i,
    slots: [u64; COUNT],
    has_double: bool,
    /// Masks of bytes: of all floats, of their last ones, and of the others.
    all: u64,
    last: u64,
    before_last: u64,
}

impl<const COUNT: usize> Quotients<COUNT> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(floats: &Floats, shape: &Shape) -> Self {
        let (all, last) = (shape.floats, shape.last_of_floats);
        let slots = std::array::from_fn(|float| floats.slots[float]);
        let (words, has_double) = (integers(&floats.words), floats.has_double);
        Self { words, slots, has_double, all, last, before_last: all & !last }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
    fn of(&self, group: &Group, values: __m512i) -> __m512i {
        // As many bits as there are bytes behind the point, of slots that have one: the difference of two bits is what lies
        // between them.
        let has_point = (((group.points & self.before_last) + self.before_last) | group.points) & self.last;
        let behind = has_point - group.points;
        let power = |float: usize| POWERS[(behind & self.slots[float]).count_ones() as usize % POWERS.len()];
        let few = |words_of| _mm512_castsi512_si128(_mm512_permutexvar_epi32(self.words, words_of));
        let digits = few(values);
        let mut doubles = if COUNT <= 2 {
            _mm256_castpd128_pd256(_mm_div_pd(_mm_cvtepi32_pd(digits), _mm_set_pd(power(1), power(0))))
        } else {
            let powers = _mm256_set_pd(power(3), power(2), power(1), power(0));
            _mm256_div_pd(_mm256_cvtepi32_pd(digits), powers)
        };
        if group.minus & self.all != 0 {
            let signs = _mm256_slli_epi64::<63>(_mm256_cvtepi32_epi64(few(_mm512_movm_epi8(group.minus))));
            doubles = _mm256_xor_pd(doubles, _mm256_castsi256_pd(signs));
        }
        let singles = _mm256_castps128_ps256(_mm256_cvtpd_ps(doubles));
        if self.has_double {
            let doubles = _mm512_castpd_si512(_mm512_castpd256_pd512(doubles));
            _mm512_inserti64x4::<1>(doubles, _mm256_castps_si256(singles))
        } else {
            _mm512_castps_si512(_mm512_castps256_ps512(singles))
        }
    }
}

/// Writes so many bytes of a register; with `more`, where there is room for all of them, also others that are written
/// over later.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn put(record: __m512i, records: &mut [u8], bytes: usize, more: bool) {
    if let Some(place) = records.first_chunk_mut::<BYTES>()
        && more
    {
        // SAFETY: 64 bytes are written to as many.
        unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), record) };
    } else {
        let place = &mut records[..bytes];
        let mask = !0 >> (BYTES - bytes);
        // SAFETY: the mask has a bit for each byte of the place, and no more.
        unsafe { _mm512_mask_storeu_epi8(place.as_mut_ptr().cast(), mask, record) };
    }
}

/// Makes a part of the records of all groups; the number of records, with those of other parts, before the first string
/// that is too long, or of all.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn part_of<const WIDE: bool, const FLOATS: bool>(
    part: &Part,
    shape: &Shape,
    groups: &[Group],
    joined: &[Joined],
    padded: &[u8],
    records: &mut [u8],
    record_size: usize,
) -> usize {
    let [sources, integers_of, numbers_of] = [&part.source, &part.integers, &part.numbers].map(register);
    let [fields, widths] = [&part.field, &part.width].map(register);
    let (strings, first_of_strings) = (part.strings, part.first_of_strings);
    // With others between them, the records behind must stay as they are.
    let (bytes, is_whole) = (part.lines * record_size, part.lines == shape.lines);
    let stride = shape.lines * record_size;
    for (i, (group, joined)) in groups.iter().zip(joined).enumerate() {
        let values = integers(&joined.integers);
        let mut numbers = if WIDE {
            _mm512_permutex2var_epi8(values, sources, _mm512_srai_epi32::<31>(values))
        } else {
            _mm512_permutexvar_epi8(sources, values)
        };
        if FLOATS {
            let floats = _mm512_permutexvar_epi8(sources, register(&joined.floats));
            numbers = _mm512_ternarylogic_epi64::<CHOOSE>(integers_of, numbers, floats);
        }
        let starts = _mm512_permutexvar_epi8(fields, places(&group.starts));
        let ends = _mm512_permutexvar_epi8(fields, places(&group.ends));
        let bytes_of = _mm512_add_epi8(starts, sources);
        let valid = _mm512_mask_cmpgt_epi8_mask(strings, ends, bytes_of);
        let text = register(padded[group.at..].first_chunk().expect("padding behind the text"));
        let texts = _mm512_maskz_permutexvar_epi8(valid, bytes_of, text);
        let record = _mm512_ternarylogic_epi64::<AND_OR>(numbers, numbers_of, texts);
        put(record, &mut records[i * stride..], bytes, is_whole);
        let too_long = _mm512_mask_cmpgt_epi8_mask(first_of_strings, ends, _mm512_add_epi8(starts, widths));
        if too_long != 0 {
            return i * shape.lines + too_long.trailing_zeros() as usize / record_size;
        }
    }
    groups.len() * shape.lines
}

/// By bits of the first: the second, or the third.
const CHOOSE: i32 = 0xca;
/// What the first two have in common, and the third.
const AND_OR: i32 = 0xea;

#[inline(always)]
fn integers(of: &[i32; 16]) -> __m512i {
    // SAFETY: called where AVX-512 is; 64 bytes are read of 64.
    unsafe { _mm512_loadu_si512(of.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn places(of: &[u8; 16]) -> __m512i {
    // SAFETY: 16 bytes are read of 16.
    let few: __m128i = unsafe { _mm_loadu_si128(of.as_ptr().cast()) };
    _mm512_castsi128_si512(few)
}
