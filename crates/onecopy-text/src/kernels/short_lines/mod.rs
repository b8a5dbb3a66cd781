//! Short lines of plain numbers and strings: several whole lines at once, without an index (AVX-512).
//!
//! The text of a few lines is one register of 64 bytes. Of each byte of a second one, the *slots* of all numbers of these
//! lines side by side, it is known by the kind of line how far before the end of which field it is; so when the ends of
//! the fields are known, one instruction puts all digits into their places, and four more make numbers of them.
//!
//! | step | file |
//! |---|---|
//! | which bytes separate fields and lines, and whether the block is plain | `marks` |
//! | where the numbers of a group of lines have their slots, and how long numbers are | `shape` |
//! | the digits of a group of lines, to words of four digits | `numbers` |
//! | which bytes of a record come from where | `assembly` |
//! | words, and short strings, to whole records | `assemble` |
//! | to other elements in their records, column by column | `store` |
//!
//! Whatever is not plain here, a block, a line or a field, is left to the index and to the exact rules. Where that is
//! too often so, it is not tried for some blocks.

mod assemble;
mod assembly;
mod marks;
mod numbers;
mod shape;
mod store;
#[cfg(test)]
mod tests;

use std::ops::Range;

use marks::{Classes, Marks};
use numbers::{Found, ROUND};
use shape::{Columns, Shape};

use crate::dialect::Dialect;
use crate::machine;
use crate::plan::Plan;

/// A block of which more than one line in so many needs the exact rules was not worth it.
const WORTH: usize = 16;
/// Lines by which it is learned how long numbers are, before the first are read.
const LEARNED: usize = 16;
/// Most blocks in a row for which the index is used without another try.
const MOST_SKIPPED: u32 = 64;

/// What a reader keeps from text to text.
#[derive(Default)]
pub(crate) struct Buffers {
    marks: Marks,
    found: Box<Found>,
}

/// Reads the short lines of one text.
pub(crate) struct ShortLines {
    classes: Classes,
    columns: Columns,
    record_size: usize,
    /// Groups of several lines, and single lines.
    shapes: Option<[Shape; 2]>,
    buffers: Buffers,
    /// The next line of the block.
    at: usize,
    /// Lines of the block, and those of them that the exact rules got.
    lines: usize,
    exact: usize,
    /// Blocks for which it is not tried, now and when it fails the next time.
    skipped: u32,
    penalty: u32,
}

impl ShortLines {
    /// Nothing if the machine, the dialect or the columns are not for this way.
    pub(crate) fn new(plan: &Plan, dialect: &Dialect, buffers: Buffers) -> Result<Self, Buffers> {
        let parts = machine::has_avx512().then(|| Some((Classes::new(dialect)?, Columns::new(plan)?))).flatten();
        let Some((classes, columns)) = parts else { return Err(buffers) };
        Ok(Self {
            classes,
            columns,
            record_size: plan.record_size,
            shapes: None,
            buffers,
            at: 0,
            lines: 0,
            exact: 0,
            skipped: 0,
            penalty: 0,
        })
    }

    pub(crate) fn into_buffers(self) -> Buffers {
        self.buffers
    }

    /// Begins with a block of whole lines, `padded` as all are; the number of its lines, each of which is a record.
    ///
    /// Nothing if the block is for the index.
    pub(crate) fn begin(&mut self, padded: &[u8]) -> Option<usize> {
        if self.exact * WORTH > self.lines {
            self.put_off();
        } else if self.lines > 0 {
            self.penalty = 0;
        }
        (self.at, self.lines, self.exact) = (0, 0, 0);
        if self.skipped > 0 {
            self.skipped -= 1;
            return None;
        }
        // SAFETY: `new` has seen that the machine has the instructions.
        if let Some(lines) = unsafe { self.buffers.marks.scan(padded, &self.classes) } {
            self.lines = lines;
            if self.shapes.is_none() {
                self.learn();
            }
            self.choose_shapes();
            if self.shapes.is_some() {
                return Some(lines);
            }
            self.lines = 0;
        }
        self.put_off();
        None
    }

    fn put_off(&mut self) {
        self.penalty = (2 * self.penalty + 1).min(MOST_SKIPPED);
        self.skipped = self.penalty;
    }

    /// Chooses shapes for lines as long as those of the block are on average; none if they, or their numbers, are too
    /// long.
    fn choose_shapes(&mut self) {
        let average = self.buffers.marks.length().div_ceil(self.lines.max(1));
        let most = self.columns.most_lines(average);
        let is_as_before = |[group, _]: &[Shape; 2]| group.lines == most && group.words == self.columns.words;
        if self.shapes.as_ref().is_some_and(is_as_before) {
            return;
        }
        self.shapes = (most > 0).then(|| [most, 1].map(|lines| self.columns.shape(lines, self.record_size)));
    }

    /// Makes the slots as wide as the numbers of the first lines of the block are.
    fn learn(&mut self) {
        let mut at = 0;
        for _ in 0..self.lines.min(LEARNED) {
            let fit = |field, length| _ = self.columns.fit(field, length);
            at = self.buffers.marks.fields(at, fit) + 1;
        }
    }

    /// Fills `records` from the next lines of the block; the number of those before the first line that is not plain.
    ///
    /// `other` gets the texts that are strings in other than plain ASCII, or of types that nothing here knows: the
    /// target, the text and the place of the element. Where it answers false the line counts as not plain.
    pub(crate) fn fill(
        &mut self,
        padded: &[u8],
        records: &mut [u8],
        mut other: impl FnMut(usize, &[u8], &mut [u8]) -> bool,
    ) -> usize {
        let Some([group, single]) = &self.shapes else { return 0 };
        let (size, rows) = (self.record_size, records.len() / self.record_size);
        let Buffers { marks, found } = &mut self.buffers;
        let (mut done, mut one_by_one) = (0, false);
        while done < rows {
            let shape = if one_by_one || rows - done < group.lines { single } else { group };
            let most = ((rows - done) / shape.lines).min(if one_by_one { group.lines } else { ROUND });
            // SAFETY: `new` has seen that the machine has the instructions.
            let groups = unsafe { found.numbers(padded, marks, shape, self.at, most) };
            let records = &mut records[done * size..(done + groups * shape.lines) * size];
            // SAFETY: as above.
            let stored = unsafe { store::store(&self.columns, shape, found, padded, records, size, &mut other) };
            done += stored;
            if stored < groups * shape.lines {
                self.at = found.line(shape, stored).start;
                return done;
            }
            self.at = found.end;
            if groups < most && shape.lines == 1 {
                return done;
            }
            // Of a group that is not plain some lines may be.
            one_by_one = groups < most;
        }
        done
    }

    /// Passes over the next line, which the exact rules take; where it is without its line end.
    pub(crate) fn pass(&mut self) -> Range<usize> {
        let mut wider = false;
        let end = self.buffers.marks.fields(self.at, |field, length| wider |= self.columns.fit(field, length));
        if wider {
            self.choose_shapes();
        }
        self.exact += 1;
        let start = std::mem::replace(&mut self.at, end + 1);
        start..end
    }
}
