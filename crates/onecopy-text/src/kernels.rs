//! The fast way from text to elements: plain spellings, eight bytes at a time. What a kernel does not know it leaves to
//! [`Cell::convert`](crate::convert::Cell::convert), which knows everything; when it succeeds the bytes are the same.
//!
//! A run of equal columns is handled by one loop over rows and columns that is compiled for its type, so that nothing
//! has to be looked up per field.

#![allow(clippy::inline_always, reason = "a call per field costs more than the work")]

use crate::block::PADDING;
use crate::convert::Cell;
use crate::layout::Scalar;

/// Consecutive columns of the same type whose elements lie one behind the other in the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first column in the file.
    pub(crate) column: usize,
    /// The first target in the plan.
    pub(crate) target: usize,
    pub(crate) count: usize,
    pub(crate) cell: Cell,
    /// Offset of the first element in the record.
    pub(crate) offset: usize,
}

/// Rows with their fields found.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// The text with [`PADDING`] bytes behind it.
    pub(crate) padded: &'a [u8],
    /// First byte of each field.
    pub(crate) starts: &'a [u32],
    /// The byte behind each field.
    pub(crate) ends: &'a [u32],
    /// The first field of each row.
    pub(crate) first: &'a [u32],
}

/// Takes over a field: the row, the column within the run, the text, the place for the element. False ends the run.
pub(crate) trait Fallback: FnMut(usize, usize, &[u8], &mut [u8]) -> bool {}
impl<F: FnMut(usize, usize, &[u8], &mut [u8]) -> bool> Fallback for F {}

impl Run {
    /// Fills this run's part of `records`; returns the number of rows before the first one that `fallback` refused.
    pub(crate) fn fill(
        &self,
        rows: Rows<'_>,
        records: &mut [u8],
        record_size: usize,
        fallback: impl Fallback,
    ) -> usize {
        let job = Job { run: self, rows, records, record_size };
        match (self.cell.scalar, self.cell.big_endian) {
            (Scalar::Bool, _) => job.work(Bool, fallback),
            (Scalar::I8, _) => job.work(I8, fallback),
            (Scalar::U8, _) => job.work(U8, fallback),
            (Scalar::I16, false) => job.work(I16, fallback),
            (Scalar::U16, false) => job.work(U16, fallback),
            (Scalar::I32, false) => job.work(I32, fallback),
            (Scalar::U32, false) => job.work(U32, fallback),
            (Scalar::I64, false) => job.work(I64, fallback),
            (Scalar::U64, false) => job.work(U64, fallback),
            (Scalar::F32, false) => job.work(F32, fallback),
            (Scalar::F64, false) => job.work(F64, fallback),
            (Scalar::I32, true) => job.work(Swapped(I32), fallback),
            (Scalar::I64, true) => job.work(Swapped(I64), fallback),
            (Scalar::F32, true) => job.work(Swapped(F32), fallback),
            (Scalar::F64, true) => job.work(Swapped(F64), fallback),
            (Scalar::Bytes(width), _) => job.work(Bytes(width), fallback),
            (Scalar::Unicode(length), false) => job.work(Unicode(length), fallback),
            (scalar, _) => job.work(Unknown(scalar.size()), fallback),
        }
    }
}

struct Job<'a> {
    run: &'a Run,
    rows: Rows<'a>,
    records: &'a mut [u8],
    record_size: usize,
}

impl Job<'_> {
    #[inline(always)]
    fn work<K: Kernel>(self, kernel: K, mut fallback: impl Fallback) -> usize {
        let Rows { padded, starts, ends, first } = self.rows;
        let &Run { column, count, offset, .. } = self.run;
        let size = kernel.size();
        let records = self.records.chunks_exact_mut(self.record_size);
        for (row, (&first, record)) in first.iter().zip(records).enumerate() {
            let fields = first as usize + column..first as usize + column + count;
            let places = record[offset..offset + count * size].chunks_exact_mut(size);
            let bounds = starts[fields.clone()].iter().zip(&ends[fields]);
            for (i, ((&start, &end), place)) in bounds.zip(places).enumerate() {
                let (start, end) = (start as usize, end as usize);
                if !kernel.parse(padded, start, end, place) && !fallback(row, i, &padded[start..end], place) {
                    return row;
                }
            }
        }
        first.len()
    }
}

trait Kernel: Copy {
    /// Size of an element in bytes.
    fn size(self) -> usize;

    /// Writes the element if the text from `start` to `end` is plain; false leaves `place` undefined.
    fn parse(self, padded: &[u8], start: usize, end: usize, place: &mut [u8]) -> bool;
}

/// Types without a kernel.
#[derive(Clone, Copy)]
struct Unknown(usize);

impl Kernel for Unknown {
    fn size(self) -> usize {
        self.0
    }

    fn parse(self, _: &[u8], _: usize, _: usize, _: &mut [u8]) -> bool {
        false
    }
}

/// The opposite byte order.
#[derive(Clone, Copy)]
struct Swapped<K>(K);

impl<K: Kernel> Kernel for Swapped<K> {
    fn size(self) -> usize {
        self.0.size()
    }

    #[inline(always)]
    fn parse(self, padded: &[u8], start: usize, end: usize, place: &mut [u8]) -> bool {
        let known = self.0.parse(padded, start, end, place);
        place.reverse();
        known
    }
}

macro_rules! kernel {
    ($name:ident, $type:ty, |$padded:ident, $start:ident, $end:ident| $value:expr) => {
        #[derive(Clone, Copy)]
        struct $name;

        impl Kernel for $name {
            #[inline(always)]
            fn size(self) -> usize {
                size_of::<$type>()
            }

            #[inline(always)]
            fn parse(self, $padded: &[u8], $start: usize, $end: usize, place: &mut [u8]) -> bool {
                let value: Option<$type> = $value;
                value.map(|value| place.copy_from_slice(&value.to_le_bytes())).is_some()
            }
        }
    };
}

kernel!(Bool, u8, |text, start, end| integer(text, start, end).map(|value| u8::from(value != 0)));
kernel!(I8, i8, |text, start, end| integer(text, start, end).and_then(|value| value.try_into().ok()));
kernel!(U8, u8, |text, start, end| integer(text, start, end).and_then(|value| value.try_into().ok()));
kernel!(I16, i16, |text, start, end| integer(text, start, end).and_then(|value| value.try_into().ok()));
kernel!(U16, u16, |text, start, end| integer(text, start, end).and_then(|value| value.try_into().ok()));
kernel!(I32, i32, |text, start, end| integer(text, start, end).and_then(|value| value.try_into().ok()));
kernel!(U32, u32, |text, start, end| integer(text, start, end).and_then(|value| value.try_into().ok()));
kernel!(I64, i64, |text, start, end| integer(text, start, end));
kernel!(U64, u64, |text, start, end| integer(text, start, end).and_then(|value| value.try_into().ok()));
kernel!(F32, f32, |text, start, end| float(text, start, end).map(|value| value as f32));
kernel!(F64, f64, |text, start, end| float(text, start, end));

/// Eight bytes at `at`; there are always so many, for the sake of the padding.
#[inline(always)]
fn load8(padded: &[u8], at: usize) -> u64 {
    const { assert!(PADDING >= 16) };
    u64::from_le_bytes(*padded[at..].first_chunk().expect("padding behind the text"))
}

#[inline(always)]
fn load16(padded: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(*padded[at..].first_chunk().expect("padding behind the text"))
}

const ZEROS: u64 = 0x3030_3030_3030_3030;

/// The number whose digits are the bytes of `digits`, the first digit lowest, as values and not as characters; unused
/// bytes are zero and come first.
#[inline(always)]
fn digits8(digits: u64) -> Option<u64> {
    const MASK: u64 = 0x0000_00ff_0000_00ff;
    // A byte above 9 shows in its own upper half, or gets there when 6 is added.
    if (digits | digits.wrapping_add(0x0606_0606_0606_0606)) & 0xf0f0_f0f0_f0f0_f0f0 != 0 {
        return None;
    }
    // Neighbours are joined to pairs, pairs to fours, fours to the whole.
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8);
    let low = (pairs & MASK).wrapping_mul(100 + (1_000_000 << 32));
    let high = (pairs >> 16 & MASK).wrapping_mul(1 + (10_000 << 32));
    Some(low.wrapping_add(high) >> 32)
}

#[inline(always)]
fn digits16(digits: u128) -> Option<u64> {
    Some(digits8(digits as u64)? * 100_000_000 + digits8((digits >> 64) as u64)?)
}

/// Where the digits begin, whether there is a minus, and how many bytes there are behind it.
#[inline(always)]
fn sign(padded: &[u8], start: usize, end: usize) -> (usize, bool, usize) {
    let negative = padded[start] == b'-';
    let digits = start + usize::from(negative);
    (digits, negative, end.wrapping_sub(digits))
}

/// Up to 16 digits, perhaps with a minus.
#[inline(always)]
fn integer(padded: &[u8], start: usize, end: usize) -> Option<i64> {
    let (start, negative, length) = sign(padded, start, end);
    // The shift moves what does not belong to the field out at the top and zeros in below.
    let magnitude = match length {
        1..=8 => digits8((load8(padded, start) ^ ZEROS) << (64 - 8 * length))?,
        9..=16 => digits16((load16(padded, start) ^ (ZEROS as u128 * ((1 << 64) + 1))) << (128 - 8 * length))?,
        _ => return None,
    } as i64;
    Some(if negative { -magnitude } else { magnitude })
}

/// What a point is among digits that were made values by XOR with '0'.
const POINT: u8 = b'.' ^ b'0';

/// Every power of ten that a double holds exactly, as far as a fraction of 16 characters needs them.
const POWERS: [f64; 16] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Up to 16 characters of digits with at most one point, perhaps with a minus; others without any ado from `fast_float2`.
#[inline(always)]
fn float(padded: &[u8], start: usize, end: usize) -> Option<f64> {
    let (digits, negative, length) = sign(padded, start, end);
    let magnitude = match length {
        1..=8 => decimal8((load8(padded, digits) ^ ZEROS) << (64 - 8 * length), length)?,
        9..=16 => decimal16((load16(padded, digits) ^ (ZEROS as u128 * ((1 << 64) + 1))) << (128 - 8 * length))?,
        _ => return long_float(&padded[start..end]),
    };
    Some(if negative { -magnitude } else { magnitude })
}

/// The value of bytes as [`digits8`] takes them, with at most one point among them.
#[inline(always)]
fn decimal8(bytes: u64, length: usize) -> Option<f64> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let difference = bytes ^ (ONES * POINT as u64);
    // The highest bit of each byte that is the point; of bytes behind it perhaps too, which the digits then betray.
    let point = difference.wrapping_sub(ONES) & !difference & (ONES << 7);
    if point == 0 {
        return digits8(bytes).map(|value| value as f64);
    }
    if length == 1 {
        return None;
    }
    let bit = point.trailing_zeros() & !7;
    let before = bytes & ((1 << bit) - 1);
    let behind = bytes & (!0xff << bit);
    let fraction = 7 - bit as usize / 8;
    // At most 15 digits make the integer exact, and a quotient of exact numbers is rounded once: the nearest double.
    Some(digits8(before << 8 | behind)? as f64 / POWERS[fraction])
}

/// As [`decimal8`], for 9 to 16 bytes.
#[inline(always)]
fn decimal16(bytes: u128) -> Option<f64> {
    const ONES: u128 = u128::from_ne_bytes([1; 16]);
    let difference = bytes ^ (ONES * POINT as u128);
    let point = difference.wrapping_sub(ONES) & !difference & (ONES << 7);
    let (digits, fraction) = if point == 0 {
        (bytes, 0)
    } else {
        let bit = point.trailing_zeros() & !7;
        (((bytes & ((1 << bit) - 1)) << 8) | (bytes & (!0xff << bit)), 15 - bit as usize / 8)
    };
    let integer = digits16(digits)?;
    // Beyond this the conversion to double would round, and the division again.
    if integer > 1 << 53 {
        return None;
    }
    Some(integer as f64 / POWERS[fraction])
}

/// Fields with an exponent or many digits, as `numpy.savetxt` writes them.
#[inline(never)]
fn long_float(text: &[u8]) -> Option<f64> {
    // Spellings that differ between fast-float2 and numpy begin with none of these.
    if !matches!(text.first(), Some(b'0'..=b'9' | b'-' | b'.')) || !text.last()?.is_ascii_digit() {
        return None;
    }
    if text.starts_with(b"-+") || text.starts_with(b"--") {
        return None;
    }
    fast_float2::parse(text).ok()
}

/// ASCII without NUL that fits the width.
#[derive(Clone, Copy)]
struct Bytes(usize);

impl Kernel for Bytes {
    #[inline(always)]
    fn size(self) -> usize {
        self.0
    }

    #[inline(always)]
    fn parse(self, padded: &[u8], start: usize, end: usize, place: &mut [u8]) -> bool {
        const ONES: u128 = u128::from_ne_bytes([1; 16]);
        let length = end - start;
        if length > place.len() {
            return false;
        }
        if length > 16 {
            let (head, tail) = place.split_at_mut(length);
            head.copy_from_slice(&padded[start..end]);
            tail.fill(0);
            return head.iter().all(|byte| matches!(byte, 1..=127));
        }
        let field = u128::MAX.checked_shr(128 - 8 * length as u32).unwrap_or(0);
        let bytes = load16(padded, start) & field;
        place_string(bytes, place);
        // ASCII has no highest bit; adding 0x7f sets it for all but NUL, and never carries.
        bytes & (ONES << 7) == 0 && (bytes + ONES * 0x7f) & (ONES << 7) == field & (ONES << 7)
    }
}

/// Stores `bytes` and zeros behind it into exactly `place`, which is long enough for what is not zero.
///
/// Two stores that overlap cover any width between two powers of two.
#[inline(always)]
fn place_string(bytes: u128, place: &mut [u8]) {
    // The end comes from a shift: to load it from memory would wait for the store of both halves.
    let end = |size: usize| bytes >> (8 * (place.len() - size));
    match place.len() {
        16.. => {
            let (head, tail) = place.split_at_mut(16);
            head.copy_from_slice(&bytes.to_le_bytes());
            tail.fill(0);
        }
        8..16 => overlap((bytes as u64).to_le_bytes(), (end(8) as u64).to_le_bytes(), place),
        4..8 => overlap((bytes as u32).to_le_bytes(), (end(4) as u32).to_le_bytes(), place),
        2..4 => overlap((bytes as u16).to_le_bytes(), (end(2) as u16).to_le_bytes(), place),
        _ => place.fill(bytes as u8),
    }
}

/// Stores `head` at the start and `tail` at the end.
#[inline(always)]
fn overlap<const N: usize>(head: [u8; N], tail: [u8; N], place: &mut [u8]) {
    let end = place.len() - N;
    place[..N].copy_from_slice(&head);
    place[end..].copy_from_slice(&tail);
}

/// ASCII without NUL that fits the length.
#[derive(Clone, Copy)]
struct Unicode(usize);

impl Kernel for Unicode {
    #[inline(always)]
    fn size(self) -> usize {
        4 * self.0
    }

    #[inline(always)]
    fn parse(self, padded: &[u8], start: usize, end: usize, place: &mut [u8]) -> bool {
        let text = &padded[start..end];
        if text.len() > self.0 {
            return false;
        }
        let (head, tail) = place.split_at_mut(4 * text.len());
        for (slot, &byte) in head.as_chunks_mut().0.iter_mut().zip(text) {
            *slot = u32::from(byte).to_le_bytes();
        }
        tail.fill(0);
        text.iter().all(|byte| matches!(byte, 1..=127))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::Rules;
    use crate::options::Encoding;
    use proptest::prelude::*;

    const RULES: Rules = Rules { encoding: Encoding::Utf8, truncate: false };

    /// What the kernel of the type makes of `text`, between bytes that do not belong to it; `None` if it passes.
    fn kernel(cell: Cell, text: &str, around: &str) -> Option<Vec<u8>> {
        let padded = format!("{around}{text}{around}{}", "9".repeat(PADDING));
        let (start, end) = (around.len() as u32, (around.len() + text.len()) as u32);
        let rows = Rows { padded: padded.as_bytes(), starts: &[start], ends: &[end], first: &[0] };
        let size = cell.scalar.size();
        let run = Run { column: 0, target: 0, count: 1, cell, offset: 1 };
        let mut record = vec![0xaa; size + 2];
        let mut passed = false;
        let done = run.fill(rows, &mut record, size + 2, |row, column, field, place| {
            assert_eq!((row, column, field, place.len()), (0, 0, text.as_bytes(), size));
            passed = true;
            false
        });
        assert_eq!(done, usize::from(!passed));
        assert_eq!((record[0], record[size + 1]), (0xaa, 0xaa), "a kernel wrote beyond its field");
        (!passed).then(|| record[1..=size].to_vec())
    }

    fn scalars() -> Vec<Scalar> {
        use Scalar::*;
        let mut all = vec![Bool, I8, I16, I32, I64, U8, U16, U32, U64, F16, F32, F64, C64, C128, TimeDelta];
        all.extend((1..=40).map(Bytes));
        all.extend((1..=5).map(Unicode));
        all
    }

    fn check(text: &str) {
        for scalar in scalars() {
            for (big_endian, around) in [(false, "\t"), (true, "\n"), (false, "7"), (false, ".")] {
                let cell = Cell { scalar, big_endian };
                let mut exact = vec![0; scalar.size()];
                let outcome = cell.convert(text.as_bytes(), RULES, &mut exact);
                if let Some(fast) = kernel(cell, text, around) {
                    assert_eq!((outcome, fast), (Ok(()), exact), "{cell:?} {text:?}");
                }
            }
        }
    }

    #[test]
    fn kernels_know_the_common_spellings() {
        let known = |scalar, text: &str| kernel(Cell { scalar, big_endian: false }, text, "\t").is_some();
        for text in ["0", "-7", "12345678", "-12345678", "123456789", "1234567890123456", "-9999999999999999"] {
            assert!(known(Scalar::I64, text), "{text}");
        }
        for text in ["0", "-7.25", ".5", "5.", "123456.7", "-1234567.8", "1234567.12345678", "1.000000000000000000e+00"]
        {
            assert!(known(Scalar::F64, text), "{text}");
            assert!(known(Scalar::F32, text), "{text}");
        }
        assert!(
            known(Scalar::Bytes(10), "chr21")
                && known(Scalar::Bytes(10), "")
                && known(Scalar::Bytes(30), &"x".repeat(30))
        );
        assert!(known(Scalar::Unicode(5), "chr21"));
    }

    #[test]
    fn kernels_pass_what_needs_the_rules() {
        let passes = |scalar, text: &str| kernel(Cell { scalar, big_endian: false }, text, "1").is_none();
        for text in ["", "-", "+1", "--1", " 1", "1 ", "1.0", "1e3", "/", ":", "1/", "12345678:", "\u{b2}"] {
            assert!(passes(Scalar::I64, text), "{text}");
        }
        for text in ["", "-", ".", "-.", "..", "1.2.3", "1.2345678.", "nan", "-inf", "1 ", "1,5", "9007199254740993"] {
            assert!(passes(Scalar::F64, text), "{text}");
        }
        for text in ["abcd", "a\0b", "\0", "é"] {
            assert!(passes(Scalar::Bytes(3), text), "{text}");
            assert!(passes(Scalar::Unicode(3), text), "{text}");
        }
        assert!(
            passes(Scalar::I8, "128")
                && passes(Scalar::U8, "-1")
                && passes(Scalar::Bytes(40), &format!("{}é", "x".repeat(20)))
        );
    }

    proptest! {
        #[test]
        fn kernels_agree_with_the_rules_on_numbers(text in "-?[0-9]{0,10}[.]?[0-9]{0,10}(e-?[0-9]{1,3})?") {
            check(&text);
        }

        #[test]
        fn kernels_agree_with_the_rules_on_integers(text in "[+-]?[0-9]{0,21}") {
            check(&text);
        }

        #[test]
        fn kernels_agree_with_the_rules_on_anything(text in "[ -9;A-Zé\0]{0,20}") {
            check(&text);
        }

        #[test]
        fn doubles_survive(value in any::<f64>().prop_filter("finite", |v| v.is_finite()), digits in 0..9usize) {
            check(&value.to_string());
            check(&format!("{value:e}"));
            check(&format!("{:.digits$}", value % 1e6));
        }
    }
}
