//! Words of digits to elements in their records, a column at a time; and strings.

use std::slice;

use super::super::number::POWERS;
use super::super::string::{Bytes, Unicode};
use super::super::{Kernel, MaskedBytes, Unknown};
use super::assemble::assemble;
use super::numbers::{Found, Group};
use super::shape::{Column, Columns, MOST_FIELDS, Shape, Slot, WORD};
use crate::layout::Scalar;

/// Widest string that one register holds.
const MASKED: usize = 64;

/// Groups of lines, and the records that they become.
struct Job<'a> {
    groups: &'a [Group],
    shape: &'a Shape,
    padded: &'a [u8],
    records: &'a mut [u8],
    record_size: usize,
}

/// Makes `records` of the groups of `found`; the number of records before the first that has an element for the exact
/// rules. What `other` gets, see [`ShortLines::fill`](super::ShortLines::fill).
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt")]
pub(super) fn store(
    columns: &Columns,
    shape: &Shape,
    found: &mut Found,
    padded: &[u8],
    records: &mut [u8],
    record_size: usize,
    other: &mut impl FnMut(usize, &[u8], &mut [u8]) -> bool,
) -> usize {
    let count = records.len() / record_size;
    let (groups, joined) = found.groups(count / shape.lines);
    if groups.is_empty() {
        return 0;
    }
    let assembled = shape.assembly.as_ref();
    let assembled =
        assembled.map_or(count, |parts| assemble(parts, shape, groups, joined, padded, records, record_size));
    let mut job = Job { groups, shape, padded, records, record_size };
    let stored = shape.rest.iter().map(|&column| job.column(&columns.list[column], other)).min();
    stored.map_or(assembled, |stored| stored.min(assembled))
}

impl Job<'_> {
    /// Fills a column; the first record whose element is for the exact rules, or the number of records.
    #[inline(always)]
    fn column(&mut self, column: &Column, other: &mut impl FnMut(usize, &[u8], &mut [u8]) -> bool) -> usize {
        let Some(slot) = column.slot else { return self.text(column, other) };
        match column.cell.scalar {
            Scalar::Bool => self.integers(column, slot, |value| Some([u8::from(value != 0)])),
            Scalar::I8 => self.integers(column, slot, |value| i8::try_from(value).ok().map(i8::to_le_bytes)),
            Scalar::U8 => self.integers(column, slot, |value| u8::try_from(value).ok().map(u8::to_le_bytes)),
            Scalar::I16 => self.integers(column, slot, |value| i16::try_from(value).ok().map(i16::to_le_bytes)),
            Scalar::U16 => self.integers(column, slot, |value| u16::try_from(value).ok().map(u16::to_le_bytes)),
            Scalar::I32 => self.integers(column, slot, |value| i32::try_from(value).ok().map(i32::to_le_bytes)),
            Scalar::U32 => self.integers(column, slot, |value| u32::try_from(value).ok().map(u32::to_le_bytes)),
            Scalar::I64 => self.integers(column, slot, |value| Some(value.to_le_bytes())),
            Scalar::U64 => self.integers(column, slot, |value| u64::try_from(value).ok().map(u64::to_le_bytes)),
            Scalar::F32 => self.floats(column, slot, |value| (value as f32).to_le_bytes()),
            Scalar::F64 => self.floats(column, slot, f64::to_le_bytes),
            _ => 0,
        }
    }

    #[inline(always)]
    fn integers<const N: usize>(
        &mut self,
        column: &Column,
        slot: Slot,
        narrow: impl Fn(i64) -> Option<[u8; N]>,
    ) -> usize {
        match slot.words {
            1 => self.numbers(column, slot, |group, word| narrow(value::<1>(group, word))),
            2 => self.numbers(column, slot, |group, word| narrow(value::<2>(group, word))),
            3 => self.numbers(column, slot, |group, word| narrow(value::<3>(group, word))),
            _ => self.numbers(column, slot, |group, word| narrow(value::<4>(group, word))),
        }
    }

    #[inline(always)]
    fn floats<const N: usize>(&mut self, column: &Column, slot: Slot, narrow: impl Fn(f64) -> [u8; N]) -> usize {
        match slot.words {
            1 => self.numbers(column, slot, |group, word| Some(narrow(float::<1>(group, word)))),
            2 => self.numbers(column, slot, |group, word| Some(narrow(float::<2>(group, word)))),
            3 => self.numbers(column, slot, |group, word| Some(narrow(float::<3>(group, word)))),
            _ => self.numbers(column, slot, |group, word| Some(narrow(float::<4>(group, word)))),
        }
    }

    /// Fills a column of numbers; `make` gets the group and the first word of the slot.
    #[inline(always)]
    fn numbers<const N: usize>(
        &mut self,
        column: &Column,
        slot: Slot,
        make: impl Fn(&Group, usize) -> Option<[u8; N]>,
    ) -> usize {
        let words = self.shape.words;
        self.each(column.offset, N, |group, line, place| {
            let number = make(group, line * words + slot.first);
            // SAFETY: the place is one of N bytes.
            number.map(|bytes| unsafe { place.cast::<[u8; N]>().write(bytes) }).is_some()
        })
    }

    /// Fills a column of any other type.
    #[inline(always)]
    fn text(&mut self, column: &Column, other: &mut impl FnMut(usize, &[u8], &mut [u8]) -> bool) -> usize {
        let is_little = !column.cell.big_endian;
        match column.cell.scalar {
            Scalar::Bytes(width @ ..=MASKED) => self.strings(column, MaskedBytes(width), other),
            Scalar::Bytes(width) => self.strings(column, Bytes(width), other),
            Scalar::Unicode(length) if is_little => self.strings(column, Unicode(length), other),
            scalar => self.strings(column, Unknown(scalar.size()), other),
        }
    }

    #[inline(always)]
    fn strings<K: Kernel>(
        &mut self,
        column: &Column,
        kernel: K,
        other: &mut impl FnMut(usize, &[u8], &mut [u8]) -> bool,
    ) -> usize {
        let (padded, fields, size) = (self.padded, self.shape.fields, kernel.size());
        self.each(column.offset, size, |group, line, place| {
            let field = (line * fields + column.field) % MOST_FIELDS;
            let (start, end) = (group.at + usize::from(group.starts[field]), group.at + usize::from(group.ends[field]));
            // SAFETY: the place is one of so many bytes, in records that nothing else refers to meanwhile.
            let place = unsafe { slice::from_raw_parts_mut(place, size) };
            kernel.one(padded, start, end, place) || other(column.target, &padded[start..end], place)
        })
    }

    /// Has `fill` make the elements of a column: the group, the line in it, the place of the `size` bytes of the element.
    /// False ends it for that line of the groups; the answer is the first record of which it was false, or the number of
    /// records.
    #[inline(always)]
    fn each(&mut self, offset: usize, size: usize, mut fill: impl FnMut(&Group, usize, *mut u8) -> bool) -> usize {
        let (groups, lines) = (self.groups, self.shape.lines);
        let stride = lines * self.record_size;
        assert!(offset + size <= self.record_size && groups.len() * stride <= self.records.len());
        let mut first_refused = groups.len() * lines;
        for line in 0..lines {
            let places = self.records[line * self.record_size + offset..].as_mut_ptr();
            for (i, group) in groups.iter().enumerate() {
                // SAFETY: the element lies within its record, and that within the records.
                if !fill(group, line, unsafe { places.add(i * stride) }) {
                    first_refused = first_refused.min(i * lines + line);
                    break;
                }
            }
        }
        first_refused
    }
}

/// The integer in the slot of so many words.
#[inline(always)]
fn value<const WORDS: usize>(group: &Group, first: usize) -> i64 {
    let word = |i: usize| i64::from(group.word(first + i));
    (0..WORDS).fold(0, |value, i| 10_000 * value + word(i))
}

/// The float in the slot.
///
/// It is the nearest double, as only one thing is rounded: the quotient of two exact numbers, as beside a point there is
/// room for at most 15 digits; or without a point the integer.
#[inline(always)]
fn float<const WORDS: usize>(group: &Group, first: usize) -> f64 {
    let length = WORD * WORDS;
    let in_slot = |mask: u64| mask >> (WORD * first) & ((1 << length) - 1);
    let points = in_slot(group.points);
    let behind = if points == 0 { 0 } else { length - 1 - points.trailing_zeros() as usize };
    let magnitude = value::<WORDS>(group, first) as f64 / POWERS[behind];
    let sign = in_slot(group.minus) << 63;
    f64::from_bits(magnitude.to_bits() ^ sign)
}
