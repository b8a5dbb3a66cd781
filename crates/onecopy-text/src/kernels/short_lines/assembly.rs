//! Which elements of records are made at once, and from where each of their bytes comes.

use std::ops::{Range, RangeInclusive};

use super::shape::{BYTES, Column, Columns, MOST_SLOTS, Slot, WORD};
use crate::layout::Scalar;

/// Floats of a group: a division of more doubles at a time takes longer than the rest.
pub(super) const MOST_FLOATS: usize = 4;
/// Words of a float, of which no more than seven digits are behind the point.
const FLOAT_WORDS: usize = 2;
/// Where the signs of integers are, behind these, and singles, behind doubles.
const SIGNS: usize = BYTES;
const SINGLES: usize = MOST_FLOATS * size_of::<f64>();
/// A byte of a mask.
const SET: u8 = 0xff;

/// How the records of a group of lines are put together. Of words there is a bit, or a number, for each.
#[derive(Clone)]
pub(super) struct Assembly {
    /// Last words of slots of two words or more, and of three.
    pub(super) pairs: u16,
    pub(super) triples: u16,
    /// What the integers in last words may be.
    pub(super) least: [i32; MOST_SLOTS],
    pub(super) most: [i32; MOST_SLOTS],
    /// Whether an integer has more bytes than a word.
    pub(super) has_wide: bool,
    pub(super) floats: Floats,
    /// The records, one part behind the other.
    pub(super) parts: Vec<Part>,
}

/// The floats of a group.
#[derive(Clone, Default)]
pub(super) struct Floats {
    pub(super) count: usize,
    /// Their last words, and the bytes of their slots.
    pub(super) words: [i32; MOST_SLOTS],
    pub(super) slots: [u64; MOST_FLOATS],
    pub(super) has_double: bool,
}

/// Some records that fit a register together. What there is for each of their bytes is a mask, or a number.
#[derive(Clone)]
pub(super) struct Part {
    /// Records of it.
    pub(super) lines: usize,
    /// Bytes of integers, and those of numbers.
    pub(super) integers: [u8; BYTES],
    pub(super) numbers: [u8; BYTES],
    /// Bits for bytes of strings, and for the first ones of those that may not be cut, at which stands how long they may be.
    pub(super) strings: u64,
    pub(super) first_of_strings: u64,
    pub(super) width: [u8; BYTES],
    /// Of an integer, which byte of the numbers, or of their signs; of a float, which byte of the doubles, or of the
    /// singles; of a string, which byte of its field.
    pub(super) source: [u8; BYTES],
    /// Which field of the group a string is.
    pub(super) field: [u8; BYTES],
}

/// What an element is made of.
enum Kind {
    /// The number in the slot, which has to be in a range.
    Integer(Slot, RangeInclusive<i32>),
    Float(Slot),
    String,
}

impl Assembly {
    /// For groups of so many lines, if there is something to make; and which columns are not made so.
    pub(super) fn new(columns: &Columns, lines: usize, record_size: usize) -> (Option<Self>, Vec<usize>) {
        let all = || 0..columns.list.len();
        if record_size > BYTES || overlap(&columns.list) {
            return (None, all().collect());
        }
        let floats = columns.list.iter().filter(|column| matches!(kind(column), Some(Kind::Float(_)))).count();
        let with_floats = lines * floats <= MOST_FLOATS;
        let chosen = |&column: &usize| match kind(&columns.list[column]) {
            Some(Kind::Float(_)) => with_floats,
            other => other.is_some(),
        };
        let (made, rest): (Vec<_>, Vec<_>) = all().partition(chosen);
        if made.is_empty() {
            return (None, rest);
        }
        let mut assembly = Self::empty(lines, record_size);
        assembly.floats.has_double = made.iter().any(|&made| columns.list[made].cell.scalar == Scalar::F64);
        for line in 0..lines {
            for &column in &made {
                assembly.add(&columns.list[column], columns, line, record_size);
            }
        }
        (Some(assembly), rest)
    }

    fn empty(lines: usize, record_size: usize) -> Self {
        let at_once = if lines * record_size <= BYTES { lines } else { 1 };
        let part = Part {
            lines: at_once,
            integers: [0; BYTES],
            numbers: [0; BYTES],
            strings: 0,
            first_of_strings: 0,
            width: [0; BYTES],
            source: [0; BYTES],
            field: [0; BYTES],
        };
        Self {
            pairs: 0,
            triples: 0,
            least: [i32::MIN; MOST_SLOTS],
            most: [i32::MAX; MOST_SLOTS],
            has_wide: false,
            floats: Floats::default(),
            parts: vec![part; lines / at_once],
        }
    }

    fn add(&mut self, column: &Column, columns: &Columns, line: usize, record_size: usize) {
        let Some(kind) = kind(column) else { return };
        let last_word = |slot: Slot| line * columns.words + slot.first + slot.words - 1;
        if let Some(slot) = column.slot {
            self.pairs |= u16::from(slot.words > 1) << last_word(slot);
            self.triples |= u16::from(slot.words > 2) << last_word(slot);
        }
        let at_once = self.parts[0].lines;
        let part = &mut self.parts[line / at_once];
        let first = line % at_once * record_size + column.offset;
        let size = column.cell.scalar.size();
        let bytes = first..first + size;
        let mut from = |sources: &mut dyn Iterator<Item = usize>| {
            part.source[bytes.clone()].iter_mut().zip(sources).for_each(|(place, source)| *place = source as u8);
        };
        match kind {
            Kind::Integer(slot, range) => {
                let word = last_word(slot);
                (self.least[word], self.most[word]) = range.into_inner();
                // Bytes that a word lacks are those of the sign.
                let number = WORD * word..WORD * (word + 1);
                from(&mut number.chain(std::iter::repeat(SIGNS + WORD * word)));
                self.has_wide |= size > WORD;
                part.integers[bytes.clone()].fill(SET);
                part.numbers[bytes].fill(SET);
            }
            Kind::Float(slot) => {
                let (word, words) = (last_word(slot), slot.words);
                let floats = &mut self.floats;
                let register = if size == size_of::<f64>() || !floats.has_double { 0 } else { SINGLES };
                from(&mut (register + size * floats.count..));
                floats.words[floats.count] = word as i32;
                floats.slots[floats.count] = !0 >> (BYTES - WORD * words) << (WORD * (word + 1 - words));
                floats.count += 1;
                part.numbers[bytes].fill(SET);
            }
            Kind::String => {
                from(&mut (0..));
                part.strings |= bits(&bytes);
                part.first_of_strings |= u64::from(!columns.truncate) << first;
                part.width[first] = size as u8;
                part.field[bytes].fill((line * columns.fields + column.field) as u8);
            }
        }
    }
}

/// A bit for each byte; there is at least one.
fn bits(bytes: &Range<usize>) -> u64 {
    !0 >> (BYTES - bytes.len()) << bytes.start
}

/// Whether elements of records of a register at most lie over each other: the last one then counts.
fn overlap(columns: &[Column]) -> bool {
    let mut taken = 0;
    columns.iter().filter(|column| column.cell.scalar.size() > 0).any(|column| {
        let bytes = bits(&(column.offset..column.offset + column.cell.scalar.size()));
        let overlaps = taken & bytes != 0;
        taken |= bytes;
        overlaps
    })
}

/// How a column is made; nothing for those that are left to `store`.
fn kind(column: &Column) -> Option<Kind> {
    let scalar = column.cell.scalar;
    let Some(slot) = column.slot else { return matches!(scalar, Scalar::Bytes(1..=BYTES)).then_some(Kind::String) };
    let within = |range| Some(Kind::Integer(slot, range));
    match scalar {
        Scalar::F32 | Scalar::F64 if slot.words <= FLOAT_WORDS => Some(Kind::Float(slot)),
        Scalar::I32 if slot.words <= 3 => within(i32::MIN..=i32::MAX),
        _ if slot.words > 2 => None,
        Scalar::I64 => within(i32::MIN..=i32::MAX),
        Scalar::U64 | Scalar::U32 => within(0..=i32::MAX),
        Scalar::I16 => within(i16::MIN.into()..=i16::MAX.into()),
        Scalar::U16 => within(0..=u16::MAX.into()),
        Scalar::I8 => within(i8::MIN.into()..=i8::MAX.into()),
        Scalar::U8 => within(0..=u8::MAX.into()),
        _ => None,
    }
}
