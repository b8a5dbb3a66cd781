//! Where fields and lines end: a bit for each byte of the block.

use std::arch::x86_64::{
    _mm512_loadu_si512, _mm512_maskz_mov_epi8, _mm512_movepi8_mask, _mm512_or_si512, _mm512_permutex2var_epi8,
    _mm512_set1_epi8, _mm512_setzero_si512, _mm512_test_epi8_mask,
};

use crate::block::PADDING;
use crate::dialect::{Dialect, is_space};

const GROUP: usize = 64;

const SEPARATOR: u8 = 1;
const LINE_END: u8 = 2;
/// Such a byte makes the block one for the index.
const ODD: u8 = 4;

/// What each byte of ASCII means.
pub(super) struct Classes {
    of: [u8; 128],
    /// Whether separators may not be neighbours: a run of them would be one.
    spaced: bool,
}

impl Classes {
    /// Nothing if a delimiter has several bytes, or is beyond ASCII.
    pub(super) fn new(dialect: &Dialect) -> Option<Self> {
        let mut of = [0; 128];
        match dialect.delimiter.as_deref() {
            None => (0..128).filter(|&byte| is_space(byte)).for_each(|byte| of[usize::from(byte)] = SEPARATOR),
            Some(&[byte @ ..128]) => of[usize::from(byte)] = SEPARATOR,
            Some(_) => return None,
        }
        of[usize::from(b'\n')] = SEPARATOR | LINE_END;
        let comments = dialect.comments.iter().map(|comment| comment[0]);
        for odd in comments.chain(dialect.quote).chain([b'\r', 0]).filter(u8::is_ascii) {
            of[usize::from(odd)] |= ODD;
        }
        Some(Self { of, spaced: dialect.delimiter.is_none() })
    }
}

/// The marks of a block.
#[derive(Default)]
pub(super) struct Marks {
    /// Of each 64 bytes: ends of fields, and those of them that end a line. Zeros behind the block.
    groups: Vec<[u64; 2]>,
    length: usize,
}

impl Marks {
    /// Bytes of the block.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Marks `padded`, which has [`PADDING`] bytes behind the block; the number of lines.
    ///
    /// Nothing if the block is not plain: not ASCII without NUL, with blank lines, quotes, comments or carriage
    /// returns, with runs of white space as delimiters, or without a line end at its end.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,popcnt")]
    pub(super) fn scan(&mut self, padded: &[u8], classes: &Classes) -> Option<usize> {
        let length = padded.len() - PADDING;
        self.length = length;
        self.groups.clear();
        self.groups.reserve(length.div_ceil(GROUP) + 2);
        let class = |class: u8| _mm512_set1_epi8(class.cast_signed());
        // SAFETY: 128 bytes are read of 128.
        let [low, high] = [0, 64].map(|at| unsafe { _mm512_loadu_si512(classes.of.as_ptr().add(at).cast()) });
        let (mut lines, mut blank, mut before) = (0, 0, 1);
        // All bytes together, of which the highest bit counts, and their classes.
        let (mut seen, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for (group, bytes) in padded[..length.div_ceil(GROUP) * GROUP].as_chunks::<GROUP>().0.iter().enumerate() {
            // SAFETY: 64 bytes are read of 64.
            let bytes = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
            // Only the low seven bits of a byte choose.
            let mut classes_of = _mm512_permutex2var_epi8(low, bytes, high);
            let left = length - group * GROUP;
            if left < GROUP {
                // What is behind the block has no class.
                classes_of = _mm512_maskz_mov_epi8((1 << left) - 1, classes_of);
                seen = _mm512_or_si512(seen, _mm512_maskz_mov_epi8((1 << left) - 1, bytes));
            } else {
                seen = _mm512_or_si512(seen, bytes);
            }
            let ends = _mm512_test_epi8_mask(classes_of, class(LINE_END));
            let separators = _mm512_test_epi8_mask(classes_of, class(SEPARATOR));
            odd = _mm512_or_si512(odd, classes_of);
            // A line end at the start, or behind another one, ends a blank line.
            let apart = if classes.spaced { separators } else { ends };
            blank |= apart & (apart << 1 | before);
            before = apart >> 63;
            lines += ends.count_ones() as usize;
            self.groups.push([separators, ends]);
        }
        self.groups.extend([[0; 2]; 2]);
        let odd = _mm512_test_epi8_mask(odd, class(ODD)) | _mm512_movepi8_mask(seen) | blank;
        (odd == 0 && (length == 0 || padded[length - 1] == b'\n')).then_some(lines)
    }

    /// The marks of the 64 bytes from `at` on, which lies in the block or just behind it.
    #[inline(always)]
    pub(super) fn window(&self, at: usize) -> [u64; 2] {
        let (group, shift) = (at / GROUP, at % GROUP);
        let (low, high) = (self.groups[group], self.groups[group + 1]);
        [0, 1].map(|i| low[i] >> shift | (high[i] << 1) << (63 - shift))
    }

    /// Tells `see` the number and the length of each field of the line at `at`; the answer is where the line ends.
    pub(super) fn fields(&self, at: usize, mut see: impl FnMut(usize, usize)) -> usize {
        let (mut start, mut from, mut field) = (at, at, 0);
        while from < self.length {
            let [separators, ends] = self.window(from);
            if separators == 0 {
                from += GROUP;
                continue;
            }
            let end = from + separators.trailing_zeros() as usize;
            see(field, end - start);
            if ends & separators & separators.wrapping_neg() != 0 {
                return end;
            }
            (start, from, field) = (end + 1, end + 1, field + 1);
        }
        self.length
    }
}
