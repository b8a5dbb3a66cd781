//! The slots of the numbers of a group of lines.

use super::assembly::Assembly;
use crate::convert::Cell;
use crate::layout::Scalar;
use crate::plan::{Plan, Target};

/// Bytes of a register, which all slots share.
pub(super) const BYTES: usize = 64;
/// A slot consists of words of so many digits.
pub(super) const WORD: usize = 4;
/// The words of the longest number: 16 characters.
const MOST_WORDS: usize = 4;
/// Words that a register holds, and so the most slots.
pub(super) const MOST_SLOTS: usize = BYTES / WORD;
/// Most fields of a group: their ends have to fit a small register.
pub(super) const MOST_FIELDS: usize = 16;

/// A column of the record.
pub(super) struct Column {
    pub(super) target: usize,
    /// Which field of the line.
    pub(super) field: usize,
    pub(super) cell: Cell,
    /// Of the element in the record.
    pub(super) offset: usize,
    /// The slot of a number; nothing for any other type.
    pub(super) slot: Option<Slot>,
}

/// The slot of a number in the register, in words.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) first: usize,
    pub(super) words: usize,
    float: bool,
}

/// The columns of a record, with slots as wide as the numbers have been so far.
pub(super) struct Columns {
    pub(super) list: Vec<Column>,
    /// Fields of a line.
    pub(super) fields: usize,
    /// Words of all slots of a line.
    pub(super) words: usize,
    /// Whether strings that are too long are cut.
    pub(super) truncate: bool,
}

impl Columns {
    /// Nothing if the lines are not for this way: too many fields, nothing to gain, or too special.
    pub(super) fn new(plan: &Plan) -> Option<Self> {
        // Nothing here tells a text that stands for a missing value from others.
        let has_missing = plan.targets.iter().any(Target::has_missing);
        if plan.lines || !plan.raw.is_empty() || has_missing || plan.columns > MOST_FIELDS {
            return None;
        }
        let column = |(i, target): (usize, &Target)| {
            let number = is_number(target.cell);
            let slot = number.map(|float| Slot { first: 0, words: 1, float });
            let field = target.column_of(plan.columns)?;
            Some(Column { target: i, field, cell: target.cell, offset: target.offset, slot })
        };
        let columns: Option<Vec<Column>> = plan.targets.iter().enumerate().map(column).collect();
        let mut columns = Self { list: columns?, fields: plan.columns, words: 0, truncate: plan.rules.truncate };
        columns.place();
        (columns.words > 0).then_some(columns)
    }

    /// Puts the slots of a line side by side.
    fn place(&mut self) {
        self.words = 0;
        for slot in self.list.iter_mut().filter_map(|column| column.slot.as_mut()) {
            slot.first = self.words;
            self.words += slot.words;
        }
    }

    /// Makes the slot of a field wide enough for a number of so many characters; whether it was too narrow.
    pub(super) fn fit(&mut self, field: usize, length: usize) -> bool {
        let words = length.div_ceil(WORD).min(MOST_WORDS);
        let mut wider = false;
        for column in self.list.iter_mut().filter(|column| column.field == field) {
            if let Some(slot) = column.slot.as_mut().filter(|slot| slot.words < words) {
                slot.words = words;
                wider = true;
            }
        }
        if wider {
            self.place();
        }
        wider
    }

    /// How many lines of that length make a group; zero if not even one does.
    pub(super) fn most_lines(&self, length: usize) -> usize {
        // Some are longer, and a group that does not fit costs more than a smaller one.
        let by_length = if length <= BYTES { (BYTES / (length + length / 8).max(1)).max(1) } else { 0 };
        by_length.min(MOST_SLOTS / self.words).min(MOST_FIELDS / self.fields)
    }

    /// The shape of groups of so many lines, whose records have so many bytes.
    pub(super) fn shape(&self, lines: usize, record_size: usize) -> Shape {
        let mut shape = Shape::empty(lines, self.fields, self.words);
        (shape.assembly, shape.rest) = Assembly::new(self, lines, record_size);
        for line in 0..lines {
            shape.line_ends |= 1 << ((line + 1) * self.fields - 1);
            for column in &self.list {
                if let Some(slot) = column.slot {
                    shape.add(slot, line * self.words, line * self.fields + column.field);
                }
            }
        }
        shape
    }
}

/// Whether the element is a number for which there is a way here, and whether it is a float.
fn is_number(cell: Cell) -> Option<bool> {
    match cell.scalar {
        _ if cell.big_endian => None,
        Scalar::F32 | Scalar::F64 => Some(true),
        Scalar::Bool
        | Scalar::I8
        | Scalar::I16
        | Scalar::I32
        | Scalar::I64
        | Scalar::U8
        | Scalar::U16
        | Scalar::U32
        | Scalar::U64 => Some(false),
        _ => None,
    }
}

/// What each byte of the register of slots stands for, in groups of `lines` lines. Masks have a bit for each byte.
#[derive(Clone)]
pub(super) struct Shape {
    pub(super) lines: usize,
    /// Fields of a line.
    pub(super) fields: usize,
    /// Words of a line.
    pub(super) words: usize,
    /// Which field of the group the byte belongs to.
    pub(super) field: [u8; BYTES],
    /// How far before the end of the field it is; further than any in bytes of no slot.
    pub(super) back: [u8; BYTES],
    /// First and last bytes of slots.
    pub(super) first: u64,
    pub(super) last: u64,
    /// The slots of floats, their first and their last bytes.
    pub(super) floats: u64,
    pub(super) first_of_floats: u64,
    pub(super) last_of_floats: u64,
    /// A bit for each word: the slots of integers.
    pub(super) integers: u16,
    /// Of the fields of the group: those that end a line.
    pub(super) line_ends: u64,
    /// Which columns are made at once, for whole records, if there are any; and the others.
    pub(super) assembly: Option<Assembly>,
    pub(super) rest: Vec<usize>,
}

impl Shape {
    fn empty(lines: usize, fields: usize, words: usize) -> Self {
        Self {
            lines,
            fields,
            words,
            field: [0; BYTES],
            back: [BYTES as u8; BYTES],
            first: 0,
            last: 0,
            floats: 0,
            first_of_floats: 0,
            last_of_floats: 0,
            integers: 0,
            line_ends: 0,
            assembly: None,
            rest: Vec::new(),
        }
    }

    /// Adds a slot of the line whose slots begin at `word`, for that field of the group.
    fn add(&mut self, slot: Slot, word: usize, field: usize) {
        let (first, length) = (WORD * (word + slot.first), WORD * slot.words);
        for i in 0..length {
            self.field[first + i] = field as u8;
            self.back[first + i] = (length - i) as u8;
            self.floats |= u64::from(slot.float) << (first + i);
        }
        let last = first + length - 1;
        self.first |= 1 << first;
        self.last |= 1 << last;
        self.first_of_floats |= u64::from(slot.float) << first;
        self.last_of_floats |= u64::from(slot.float) << last;
        if !slot.float {
            self.integers |= ((1 << slot.words) - 1) << (word + slot.first);
        }
    }
}
