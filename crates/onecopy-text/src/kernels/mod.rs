//! The fast way from text to elements: plain spellings, eight bytes at a time. What a kernel does not know it leaves to
//! [`Cell::convert`](crate::convert::Cell::convert), which knows everything; when it succeeds the bytes are the same.
//!
//! A run of equal columns is handled by one loop over rows and columns that is compiled for its type, so that nothing
//! has to be looked up per field.

#![allow(clippy::inline_always, reason = "a call per field costs more than the work")]

mod number;
#[cfg_attr(not(target_arch = "x86_64"), path = "no_quad.rs")]
mod quad;
mod string;

use std::ops::Range;

use number::{float, integer};
use quad::Quad;
use string::{Bytes, Unicode};

use crate::convert::Cell;
use crate::layout::Scalar;
#[cfg(target_arch = "x86_64")]
use crate::machine;

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
        let job = Job { run: self, rows, record_size, fallback };
        #[cfg(target_arch = "x86_64")]
        if machine::has_avx2() {
            // SAFETY: the machine has the instructions that the function is compiled for.
            return unsafe { job.dispatch_avx2(records) };
        }
        job.dispatch::<false>(records)
    }
}

struct Job<'a, F> {
    run: &'a Run,
    rows: Rows<'a>,
    record_size: usize,
    fallback: F,
}

impl<F: Fallback> Job<'_, F> {
    /// With 256 bits four numbers at a time are faster than one.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn dispatch_avx2(self, records: &mut [u8]) -> usize {
        self.dispatch::<true>(records)
    }

    #[inline(always)]
    fn dispatch<const QUADS: bool>(self, records: &mut [u8]) -> usize {
        match (self.run.cell.scalar, self.run.cell.big_endian) {
            (Scalar::Bool, _) => self.work::<_, QUADS>(Bool, records),
            (Scalar::I8, _) => self.work::<_, QUADS>(I8, records),
            (Scalar::U8, _) => self.work::<_, QUADS>(U8, records),
            (Scalar::I16, false) => self.work::<_, QUADS>(I16, records),
            (Scalar::U16, false) => self.work::<_, QUADS>(U16, records),
            (Scalar::I32, false) => self.work::<_, QUADS>(I32, records),
            (Scalar::U32, false) => self.work::<_, QUADS>(U32, records),
            (Scalar::I64, false) => self.work::<_, QUADS>(I64, records),
            (Scalar::U64, false) => self.work::<_, QUADS>(U64, records),
            (Scalar::F32, false) => self.work::<_, QUADS>(F32, records),
            (Scalar::F64, false) => self.work::<_, QUADS>(F64, records),
            (Scalar::I32, true) => self.work::<_, false>(Swapped(I32), records),
            (Scalar::I64, true) => self.work::<_, false>(Swapped(I64), records),
            (Scalar::F32, true) => self.work::<_, false>(Swapped(F32), records),
            (Scalar::F64, true) => self.work::<_, false>(Swapped(F64), records),
            (Scalar::Bytes(width), _) => self.work::<_, false>(Bytes(width), records),
            (Scalar::Unicode(length), false) => self.work::<_, false>(Unicode(length), records),
            (scalar, _) => self.work::<_, false>(Unknown(scalar.size()), records),
        }
    }

    #[inline(always)]
    fn work<K: Kernel, const QUADS: bool>(mut self, kernel: K, records: &mut [u8]) -> usize {
        let count = self.rows.first.len();
        if !QUADS || self.run.count >= 4 {
            return self.rows::<K, QUADS>(kernel, 0..count, records);
        }
        // Few columns: four rows at a time, column by column.
        let mut row = 0;
        for group in records.chunks_exact_mut(4 * self.record_size).take(count / 4) {
            if !self.four_rows(kernel, row, group) {
                let done = self.rows::<K, false>(kernel, row..row + 4, group);
                if done < row + 4 {
                    return done;
                }
            }
            row += 4;
        }
        self.rows::<K, false>(kernel, row..count, &mut records[row * self.record_size..])
    }

    /// Fills four rows; false if one of the fields is not plain.
    #[inline(always)]
    fn four_rows<K: Kernel>(&self, kernel: K, row: usize, records: &mut [u8]) -> bool {
        let Rows { padded, starts, ends, first } = self.rows;
        let first: &[u32; 4] = first[row..].first_chunk().expect("four rows are left");
        for i in 0..self.run.count {
            let field = |row: usize| first[row] as usize + self.run.column + i;
            let (a, b, c, d) = (field(0), field(1), field(2), field(3));
            let of = |bounds: &[u32]| [bounds[a], bounds[b], bounds[c], bounds[d]];
            let quad = Quad::load(padded, of(starts), of(ends));
            let Some(values) = kernel.four(quad) else { return false };
            let place = self.run.offset + i * kernel.size();
            for (record, value) in records.chunks_exact_mut(self.record_size).zip(values) {
                record[place..place + kernel.size()].copy_from_slice(value.as_ref());
            }
        }
        true
    }

    /// Fills the rows of `range`, the first of which is the first of `records`; returns the row that was refused, or
    /// the end of the range.
    #[inline(always)]
    fn rows<K: Kernel, const QUADS: bool>(&mut self, kernel: K, range: Range<usize>, records: &mut [u8]) -> usize {
        let Rows { padded, starts, ends, first } = self.rows;
        let &Run { column, count, offset, .. } = self.run;
        let size = kernel.size();
        for (row, record) in range.clone().zip(records.chunks_exact_mut(self.record_size)) {
            let fields = first[row] as usize + column..first[row] as usize + column + count;
            let (starts, ends) = (&starts[fields.clone()], &ends[fields]);
            let places = &mut record[offset..offset + count * size];
            let mut i = 0;
            while i < count {
                if QUADS && i + 4 <= count {
                    let of = |bounds: &[u32]| *bounds[i..].first_chunk().expect("four fields are left");
                    if let Some(values) = kernel.four(Quad::load(padded, of(starts), of(ends))) {
                        for (place, value) in places[i * size..].chunks_exact_mut(size).zip(values) {
                            place.copy_from_slice(value.as_ref());
                        }
                        i += 4;
                        continue;
                    }
                }
                let (start, end) = (starts[i] as usize, ends[i] as usize);
                let place = &mut places[i * size..(i + 1) * size];
                if !kernel.one(padded, start, end, place) && !(self.fallback)(row, i, &padded[start..end], place) {
                    return row;
                }
                i += 1;
            }
        }
        range.end
    }
}

trait Kernel: Copy {
    /// The bytes of an element.
    type Bytes: AsRef<[u8]>;

    /// Size of an element in bytes.
    fn size(self) -> usize;

    /// Writes the element if the text from `start` to `end` is plain; false leaves `place` undefined.
    fn one(self, padded: &[u8], start: usize, end: usize, place: &mut [u8]) -> bool;

    /// Four elements if the text of each is plain.
    fn four(self, _: Quad) -> Option<[Self::Bytes; 4]> {
        None
    }
}

/// Types without a kernel.
#[derive(Clone, Copy)]
struct Unknown(usize);

impl Kernel for Unknown {
    type Bytes = [u8; 0];

    fn size(self) -> usize {
        self.0
    }

    fn one(self, _: &[u8], _: usize, _: usize, _: &mut [u8]) -> bool {
        false
    }
}

/// The opposite byte order.
#[derive(Clone, Copy)]
struct Swapped<K>(K);

impl<K: Kernel> Kernel for Swapped<K> {
    type Bytes = K::Bytes;

    fn size(self) -> usize {
        self.0.size()
    }

    #[inline(always)]
    fn one(self, padded: &[u8], start: usize, end: usize, place: &mut [u8]) -> bool {
        let known = self.0.one(padded, start, end, place);
        place.reverse();
        known
    }
}

/// A kernel for a type of number: how the general number, one or four of them, becomes this one.
macro_rules! kernel {
    ($name:ident, $type:ty, $general:ty, $one:ident, $four:ident, $narrow:expr) => {
        #[derive(Clone, Copy)]
        struct $name;

        impl $name {
            #[inline(always)]
            fn bytes(value: $general) -> Option<[u8; size_of::<$type>()]> {
                let narrow: fn($general) -> Option<$type> = $narrow;
                narrow(value).map(<$type>::to_le_bytes)
            }
        }

        impl Kernel for $name {
            type Bytes = [u8; size_of::<$type>()];

            #[inline(always)]
            fn size(self) -> usize {
                size_of::<$type>()
            }

            #[inline(always)]
            fn one(self, padded: &[u8], start: usize, end: usize, place: &mut [u8]) -> bool {
                let bytes = $one(padded, start, end).and_then(Self::bytes);
                bytes.map(|bytes| place.copy_from_slice(&bytes)).is_some()
            }

            #[inline(always)]
            fn four(self, quad: Quad) -> Option<[Self::Bytes; 4]> {
                let [a, b, c, d] = quad.$four()?;
                let bytes = |value| Self::bytes(<$general>::from(value));
                Some([bytes(a)?, bytes(b)?, bytes(c)?, bytes(d)?])
            }
        }
    };
}

kernel!(Bool, u8, i64, integer, integers, |value| Some(u8::from(value != 0)));
kernel!(I8, i8, i64, integer, integers, |value| value.try_into().ok());
kernel!(U8, u8, i64, integer, integers, |value| value.try_into().ok());
kernel!(I16, i16, i64, integer, integers, |value| value.try_into().ok());
kernel!(U16, u16, i64, integer, integers, |value| value.try_into().ok());
kernel!(I32, i32, i64, integer, integers, |value| value.try_into().ok());
kernel!(U32, u32, i64, integer, integers, |value| value.try_into().ok());
kernel!(I64, i64, i64, integer, integers, Some);
kernel!(U64, u64, i64, integer, integers, |value| value.try_into().ok());
kernel!(F32, f32, f64, float, floats, |value| Some(value as f32));
kernel!(F64, f64, f64, float, floats, Some);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::PADDING;
    use crate::convert::Rules;
    use crate::options::Encoding;
    use proptest::prelude::*;

    const RULES: Rules = Rules { encoding: Encoding::Utf8, truncate: false };

    /// What the kernel of the type makes of `text`, between bytes that do not belong to it; `None` if it passes.
    ///
    /// One by one, in groups of four rows and of four columns, and beside others: it must always be the same.
    fn kernel(cell: Cell, text: &str, around: &str) -> Option<Vec<u8>> {
        let alone = fill(cell, &[vec![text]], around, false).remove(0).remove(0);
        let (rows, wide, mixed) = (vec![vec![text]; 9], vec![vec![text; 9]; 2], vec!["7", text, "7"]);
        for quads in [false, true] {
            for same in [fill(cell, &rows, around, quads), fill(cell, &wide, around, quads)] {
                assert!(same.iter().flatten().all(|element| *element == alone), "{cell:?} {text:?}");
            }
            for mixed in [vec![mixed.clone(); 5], vec![mixed.repeat(3)]] {
                let elements = fill(cell, &mixed, around, quads);
                let mut elements = elements.iter().flatten().skip(1).step_by(3);
                assert!(elements.all(|element| *element == alone), "{cell:?} {text:?}");
            }
        }
        alone
    }

    /// The elements of the rows of `texts`, `None` where the fallback was asked.
    fn fill(cell: Cell, texts: &[Vec<&str>], around: &str, quads: bool) -> Vec<Vec<Option<Vec<u8>>>> {
        let (mut padded, mut starts, mut ends) = (around.to_owned(), Vec::new(), Vec::new());
        for text in texts.iter().flatten() {
            starts.push(padded.len() as u32);
            padded.push_str(text);
            ends.push(padded.len() as u32);
            padded.push_str(around);
        }
        padded.push_str(&"9".repeat(PADDING));
        let (size, count) = (cell.scalar.size(), texts[0].len());
        let first: Vec<u32> = (0..texts.len()).map(|row| (row * count) as u32).collect();
        let rows = Rows { padded: padded.as_bytes(), starts: &starts, ends: &ends, first: &first };
        let run = Run { column: 0, target: 0, count, cell, offset: 1 };
        let record_size = count * size + 2;
        let mut records = vec![0xaa; texts.len() * record_size];
        let mut asked = vec![vec![false; count]; texts.len()];
        let fallback = |row: usize, column: usize, text: &[u8], place: &mut [u8]| {
            assert_eq!((text, place.len()), (texts[row][column].as_bytes(), size));
            asked[row][column] = true;
            true
        };
        let done = if quads {
            run.fill(rows, &mut records, record_size, fallback)
        } else {
            Job { run: &run, rows, record_size, fallback }.dispatch::<false>(&mut records)
        };
        assert_eq!(done, texts.len());
        let row = |(record, asked): (&[u8], Vec<bool>)| {
            assert_eq!((record[0], record[record_size - 1]), (0xaa, 0xaa), "a kernel wrote beyond its field");
            let elements = record[1..].chunks_exact(size).map(<[u8]>::to_vec);
            elements.zip(asked).map(|(element, asked)| (!asked).then_some(element)).collect()
        };
        records.chunks_exact(record_size).zip(asked).map(row).collect()
    }

    #[test]
    fn the_row_of_the_first_refusal_is_told() {
        let cell = Cell { scalar: Scalar::I32, big_endian: false };
        for bad in 0..9 {
            let text: Vec<u8> = (0..9).map(|row| if row == bad { b'x' } else { b'1' }).chain([b' '; PADDING]).collect();
            let (starts, ends): (Vec<u32>, Vec<u32>) = ((0..9).collect(), (1..10).collect());
            let rows = Rows { padded: &text, starts: &starts, ends: &ends, first: &starts };
            let run = Run { column: 0, target: 0, count: 1, cell, offset: 0 };
            assert_eq!(run.fill(rows, &mut [0; 36], 4, |row, _, _, _| row != bad), bad);
            assert_eq!(run.fill(rows, &mut [0; 36], 4, |_, _, _, _| true), 9);
        }
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
