//! The fast way from text to elements: plain spellings, eight bytes at a time. What a kernel does not know it leaves to
//! [`Cell::convert`](crate::convert::Cell::convert), which knows everything; when it succeeds the bytes are the same.
//!
//! A run of equal columns is handled by one loop over rows and columns that is compiled for its type, so that nothing
//! has to be looked up per field.

#![allow(clippy::inline_always, reason = "a call per field costs more than the work")]

mod number;
#[cfg_attr(not(target_arch = "x86_64"), path = "no_oct.rs")]
mod oct;
#[cfg_attr(not(target_arch = "x86_64"), path = "no_quad.rs")]
mod quad;
#[cfg_attr(not(target_arch = "x86_64"), path = "no_short_lines.rs")]
mod short_lines;
mod string;

use std::ops::Range;

use number::{float, integer};
use oct::Oct;
use quad::Quad;
pub(crate) use short_lines::{Buffers, ShortLines};
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
        if machine::has_avx512() {
            // SAFETY: the machine has the instructions that the function is compiled for.
            return unsafe { job.dispatch_avx512(records) };
        } else if machine::has_avx2() {
            // SAFETY: as above.
            return unsafe { job.dispatch_avx2(records) };
        }
        job.dispatch::<ONE>(records)
    }
}

/// How many elements are made at once: without special instructions, with AVX2, with AVX-512.
const ONE: usize = 1;
const FOUR: usize = 4;
const EIGHT: usize = 8;

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
        self.dispatch::<FOUR>(records)
    }

    /// With 512 bits it is eight, and a mask makes one instruction of a short string.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi1,bmi2,lzcnt,popcnt")]
    fn dispatch_avx512(self, records: &mut [u8]) -> usize {
        self.dispatch::<EIGHT>(records)
    }

    #[inline(always)]
    fn dispatch<const AT_ONCE: usize>(self, records: &mut [u8]) -> usize {
        match (self.run.cell.scalar, self.run.cell.big_endian) {
            (Scalar::Bool, _) => self.work::<_, AT_ONCE>(Bool, records),
            (Scalar::I8, _) => self.work::<_, AT_ONCE>(I8, records),
            (Scalar::U8, _) => self.work::<_, AT_ONCE>(U8, records),
            (Scalar::I16, false) => self.work::<_, AT_ONCE>(I16, records),
            (Scalar::U16, false) => self.work::<_, AT_ONCE>(U16, records),
            (Scalar::I32, false) => self.work::<_, AT_ONCE>(I32, records),
            (Scalar::U32, false) => self.work::<_, AT_ONCE>(U32, records),
            (Scalar::I64, false) => self.work::<_, AT_ONCE>(I64, records),
            (Scalar::U64, false) => self.work::<_, AT_ONCE>(U64, records),
            (Scalar::F32, false) => self.work::<_, AT_ONCE>(F32, records),
            (Scalar::F64, false) => self.work::<_, AT_ONCE>(F64, records),
            (Scalar::I32, true) => self.work::<_, ONE>(Swapped(I32), records),
            (Scalar::I64, true) => self.work::<_, ONE>(Swapped(I64), records),
            (Scalar::F32, true) => self.work::<_, ONE>(Swapped(F32), records),
            (Scalar::F64, true) => self.work::<_, ONE>(Swapped(F64), records),
            (Scalar::Bytes(width @ ..=64), _) if AT_ONCE == EIGHT => self.work::<_, ONE>(MaskedBytes(width), records),
            (Scalar::Bytes(width), _) => self.work::<_, ONE>(Bytes(width), records),
            (Scalar::Unicode(length), false) => self.work::<_, ONE>(Unicode(length), records),
            (scalar, _) => self.work::<_, ONE>(Unknown(scalar.size()), records),
        }
    }

    #[inline(always)]
    fn work<K: Kernel, const AT_ONCE: usize>(mut self, kernel: K, records: &mut [u8]) -> usize {
        let count = self.rows.first.len();
        if AT_ONCE == ONE || self.run.count >= FOUR {
            return self.rows::<K, AT_ONCE>(kernel, 0..count, records);
        }
        // Few columns: several rows at a time, column by column.
        let mut row = 0;
        for group in records.chunks_exact_mut(AT_ONCE * self.record_size).take(count / AT_ONCE) {
            let filled = match AT_ONCE {
                EIGHT => self.eight_rows(kernel, row, group),
                _ => self.four_rows(kernel, row, group),
            };
            if !filled {
                let done = self.rows::<K, ONE>(kernel, row..row + AT_ONCE, group);
                if done < row + AT_ONCE {
                    return done;
                }
            }
            row += AT_ONCE;
        }
        self.rows::<K, ONE>(kernel, row..count, &mut records[row * self.record_size..])
    }

    /// Fills eight rows; false if one of the fields is not plain.
    #[inline(always)]
    fn eight_rows<K: Kernel>(&self, kernel: K, row: usize, records: &mut [u8]) -> bool {
        let Rows { padded, starts, ends, first } = self.rows;
        let first: &[u32; EIGHT] = first[row..].first_chunk().expect("eight rows are left");
        for i in 0..self.run.count {
            let oct = Oct::gather(padded, (starts, ends), first, self.run.column + i);
            let Some(values) = oct.and_then(|oct| kernel.eight(&oct)) else { return false };
            self.store(kernel, i, records, &values);
        }
        true
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
            self.store(kernel, i, records, &values);
        }
        true
    }

    /// Puts values into one column of as many records.
    #[inline(always)]
    fn store<K: Kernel>(&self, kernel: K, column: usize, records: &mut [u8], values: &[K::Bytes]) {
        let place = self.run.offset + column * kernel.size();
        for (record, value) in records.chunks_exact_mut(self.record_size).zip(values) {
            record[place..place + kernel.size()].copy_from_slice(value.as_ref());
        }
    }

    /// Fills the rows of `range`, the first of which is the first of `records`; returns the row that was refused, or
    /// the end of the range.
    #[inline(always)]
    fn rows<K: Kernel, const AT_ONCE: usize>(&mut self, kernel: K, range: Range<usize>, records: &mut [u8]) -> usize {
        let Rows { padded, starts, ends, first } = self.rows;
        let &Run { column, count, offset, .. } = self.run;
        let size = kernel.size();
        for (row, record) in range.clone().zip(records.chunks_exact_mut(self.record_size)) {
            let fields = first[row] as usize + column..first[row] as usize + column + count;
            let (starts, ends) = (&starts[fields.clone()], &ends[fields]);
            let places = &mut record[offset..offset + count * size];
            let mut i = 0;
            while i < count {
                let wide = match AT_ONCE {
                    EIGHT => {
                        let fields = starts[i..].first_chunk().zip(ends[i..].first_chunk());
                        let oct = fields.and_then(|(starts, ends)| Oct::consecutive(padded, starts, ends));
                        oct.and_then(|oct| kernel.eight(&oct)).map(|values| put(&values, &mut places[i * size..], size))
                    }
                    FOUR => {
                        let fields = starts[i..].first_chunk().zip(ends[i..].first_chunk());
                        let quad = fields.map(|(starts, ends)| Quad::load(padded, *starts, *ends));
                        quad.and_then(|quad| kernel.four(quad))
                            .map(|values| put(&values, &mut places[i * size..], size))
                    }
                    _ => None,
                };
                if wide.is_some() {
                    i += AT_ONCE;
                    continue;
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

/// Puts values one behind the other.
#[inline(always)]
fn put<T: AsRef<[u8]>>(values: &[T], places: &mut [u8], size: usize) {
    for (place, value) in places.chunks_exact_mut(size).zip(values) {
        place.copy_from_slice(value.as_ref());
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
    fn four(self, _: Quad) -> Option<[Self::Bytes; FOUR]> {
        None
    }

    /// As [`four`](Self::four), eight.
    fn eight(self, _: &Oct<'_>) -> Option<[Self::Bytes; EIGHT]> {
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

/// `S` of up to 64 bytes, with AVX-512.
#[derive(Clone, Copy)]
struct MaskedBytes(usize);

impl Kernel for MaskedBytes {
    type Bytes = [u8; 0];

    #[inline(always)]
    fn size(self) -> usize {
        self.0
    }

    #[inline(always)]
    fn one(self, padded: &[u8], start: usize, end: usize, place: &mut [u8]) -> bool {
        oct::string(&padded[start..end], place)
    }
}

/// A kernel for a type of number: how the general number, one or several of them, becomes this one.
macro_rules! kernel {
    ($name:ident, $type:ty, $general:ty, $one:ident, $several:ident, $long:ident, $narrow:expr) => {
        #[derive(Clone, Copy)]
        struct $name;

        impl $name {
            #[inline(always)]
            fn bytes(value: $general) -> Option<[u8; size_of::<$type>()]> {
                let narrow: fn($general) -> Option<$type> = $narrow;
                narrow(value).map(<$type>::to_le_bytes)
            }

            #[inline(always)]
            fn all<T: Copy + Into<$general>, const N: usize>(values: [T; N]) -> Option<[[u8; size_of::<$type>()]; N]> {
                let mut all = [[0; size_of::<$type>()]; N];
                for (bytes, value) in all.iter_mut().zip(values) {
                    *bytes = Self::bytes(value.into())?;
                }
                Some(all)
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
            fn four(self, quad: Quad) -> Option<[Self::Bytes; FOUR]> {
                Self::all(quad.$several()?)
            }

            #[inline(always)]
            fn eight(self, oct: &Oct<'_>) -> Option<[Self::Bytes; EIGHT]> {
                match oct.$several() {
                    Some(values) => Self::all(values),
                    None => Self::all(oct.$long()?),
                }
            }
        }
    };
}

kernel!(Bool, u8, i64, integer, integers, long_integers, |value| Some(u8::from(value != 0)));
kernel!(I8, i8, i64, integer, integers, long_integers, |value| value.try_into().ok());
kernel!(U8, u8, i64, integer, integers, long_integers, |value| value.try_into().ok());
kernel!(I16, i16, i64, integer, integers, long_integers, |value| value.try_into().ok());
kernel!(U16, u16, i64, integer, integers, long_integers, |value| value.try_into().ok());
kernel!(I32, i32, i64, integer, integers, long_integers, |value| value.try_into().ok());
kernel!(U32, u32, i64, integer, integers, long_integers, |value| value.try_into().ok());
kernel!(I64, i64, i64, integer, integers, long_integers, Some);
kernel!(U64, u64, i64, integer, integers, long_integers, |value| value.try_into().ok());
kernel!(F32, f32, f64, float, floats, long_floats, |value| Some(value as f32));
kernel!(F64, f64, f64, float, floats, long_floats, Some);

#[cfg(test)]
mod tests;
