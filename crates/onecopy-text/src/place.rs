//! Lines and bytes: where in the file a record or a field begins.

use crate::dialect::count_line_ends;
use crate::sink::RawField;

/// Counts the lines before one place after the other.
pub(crate) struct Lines {
    counted: usize,
    before: u64,
}

impl Lines {
    /// Begins with a text that has `before` lines before it.
    pub(crate) fn from(before: u64) -> Self {
        Self { counted: 0, before }
    }

    /// Lines before the one that begins at `start`, which is not before the place asked for last.
    pub(crate) fn before(&mut self, text: &[u8], start: u32) -> u64 {
        self.before += count_line_ends(&text[self.counted..start as usize]);
        self.counted = start as usize;
        self.before
    }
}

/// Line and byte in it, both from 1, of the place `at`; `before` lines are before the one that begins at `start`.
pub(crate) fn place_of(text: &[u8], at: usize, start: usize, before: u64) -> (u64, u64) {
    let line_start = memchr::memrchr2(b'\n', b'\r', &text[start..at]).map_or(start, |end| start + end + 1);
    (before + count_line_ends(&text[start..line_start]) + 1, (at - line_start) as u64 + 1)
}

/// Collects the raw fields of a batch.
pub(crate) struct RawTexts<'o> {
    pub(crate) fields: &'o mut Vec<RawField>,
    pub(crate) content: &'o mut Vec<u8>,
    /// Lines before each row of the batch.
    pub(crate) lines: &'o [u64],
    pub(crate) first_row: usize,
}

impl RawTexts<'_> {
    /// Takes the `content` of a field of `row`, which begins at `row_start`; the field itself begins at `at`.
    pub(crate) fn push(&mut self, text: &[u8], row: usize, row_start: usize, at: usize, column: usize, content: &[u8]) {
        self.content.extend_from_slice(content);
        let (line, byte) = place_of(text, at, row_start, self.lines[row - self.first_row]);
        self.fields.push(RawField { end: self.content.len(), column, line, byte });
    }
}
