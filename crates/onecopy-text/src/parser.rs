//! One block of whole lines to records: first the rows are located and counted, then, with their place in the file
//! known, parsed.

mod batches;

use std::io;
use std::ops::Range;

use batches::Output;

use crate::block::Block;
use crate::convert::Fault;
use crate::dialect::{Dialect, Tokens, after_line_end, count_line_ends};
use crate::error::{FieldError, FieldProblem, Location, ReadError, shorten};
use crate::index::{Index, LineEnd, Marks};
use crate::kernels::{Buffers, Rows, ShortLines};
use crate::layout::Padding;
use crate::place::{RawTexts, place_of};
use crate::plan::{Plan, Target};

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) records: u64,
    pub(crate) lines: u64,
    /// The first line that holds no record.
    pub(crate) blank: Option<Blank>,
}

/// A line that holds no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blank {
    /// Where it begins in the block.
    pub(crate) at: usize,
    /// Records of the block before it.
    pub(crate) records: u64,
}

/// A line that holds a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Row {
    /// As many fields as expected, the first of which is this one; for the kernels.
    Indexed(u32),
    /// Anything else: a range in `Parser::exact`.
    Exact(u32),
}

/// Parses blocks; keeps its buffers from block to block.
pub(crate) struct Parser<'a> {
    file: &'a str,
    dialect: &'a Dialect,
    plan: &'a Plan,
    marks: Option<Marks>,
    blank: Option<Blank>,
    short: Result<ShortLines, Buffers>,
    /// Whether the lines of the block are for `short`.
    is_short: bool,
    scratch: Scratch,
}

/// Buffers of a parser, which the parser of another text may have after it.
#[derive(Default)]
pub(crate) struct Scratch {
    index: Index,
    rows: Vec<Row>,
    /// Lines that need the exact rules.
    exact: Vec<Range<usize>>,
    first_fields: Vec<u32>,
    tokens: Tokens,
    /// Where the line of each row begins, if the lines are wanted.
    row_starts: Vec<u32>,
    short: Buffers,
    out: Output,
}

/// A wrong line: where in the block, which of its rows, and what about it.
struct Flaw {
    at: usize,
    row: usize,
    problem: Problem,
}

enum Problem {
    Field { target: usize, column: usize, text: Vec<u8>, fault: Fault },
    Columns { found: usize },
    NoSuchColumn { target: usize, found: usize },
}

/// Why parsing a block ended early.
pub(crate) enum Failure {
    /// The first record that there is not because of it.
    Text {
        error: ReadError,
        record: u64,
    },
    Sink(io::Error),
}

impl<'a> Parser<'a> {
    pub(crate) fn new(file: &'a str, dialect: &'a Dialect, plan: &'a Plan, mut scratch: Scratch) -> Self {
        let short = ShortLines::new(plan, dialect, std::mem::take(&mut scratch.short));
        Self { file, dialect, plan, marks: Marks::new(dialect), blank: None, short, is_short: false, scratch }
    }

    pub(crate) fn into_scratch(self) -> Scratch {
        let short = self.short.map_or_else(|buffers| buffers, ShortLines::into_buffers);
        Scratch { short, ..self.scratch }
    }

    /// Finds the lines of the block that hold records.
    pub(crate) fn locate(&mut self, block: &Block) -> Count {
        self.scratch.rows.clear();
        self.scratch.exact.clear();
        self.scratch.row_starts.clear();
        self.blank = None;
        let short = self.short.as_mut().ok().and_then(|short| short.begin(block.padded()));
        self.is_short = short.is_some();
        if let Some(lines) = short {
            return Count { records: lines as u64, lines: lines as u64, blank: None };
        }
        let text = block.text();
        let quote = self.dialect.quote.filter(|_| self.dialect.has_quote(text));
        // Behind an open quote at the end of the file a block ends without a line end.
        let is_whole = quote.is_none() || matches!(text.last(), Some(b'\n' | b'\r'));
        let indexed =
            self.marks.as_ref().is_some_and(|marks| is_whole && self.scratch.index.scan(block.padded(), marks, quote));
        if indexed {
            self.locate_indexed(text);
        } else {
            self.locate_exact(text);
        }
        let lines = match quote {
            None if indexed => self.scratch.index.lines().len() as u64,
            _ => count_line_ends(text),
        };
        if let (Some(quote), true) = (quote, indexed) {
            self.scratch.index.strip(text, quote);
        }
        Count { records: self.scratch.rows.len() as u64, lines, blank: self.blank }
    }

    fn locate_indexed(&mut self, text: &[u8]) {
        let delimited = self.dialect.delimiter.is_some();
        let (starts, ends) = (self.scratch.index.starts(), self.scratch.index.ends());
        let is_blank = |fields: Range<usize>| match fields.len() {
            0 => true,
            1 if delimited => starts[fields.start] == ends[fields.start],
            _ => false,
        };
        let mut special = self.scratch.index.special().iter().copied().peekable();
        let mut first_field = 0;
        let mut line_before: Option<&LineEnd> = None;
        for line in self.scratch.index.lines() {
            let fields = first_field as usize..line.fields as usize;
            let is_special = special.next_if(|&at| at < line.at).is_some();
            while special.next_if(|&at| at < line.at).is_some() {}
            let line_start = || line_before.map_or(0, |before| after_line_end(text, before.at as usize));
            if fields.len() == self.plan.columns && !is_special && !is_blank(fields.clone()) {
                self.scratch.rows.push(Row::Indexed(first_field));
                if self.plan.lines {
                    self.scratch.row_starts.push(line_start() as u32);
                }
            } else {
                let line_start = line_start();
                let range = line_start..line.at as usize;
                let blank = is_blank(fields) && !is_special;
                if !blank {
                    self.dialect.tokenize(&text[range.clone()], 0, &mut self.scratch.tokens);
                }
                if blank || self.scratch.tokens.is_blank() {
                    note_blank(&mut self.blank, line_start, self.scratch.rows.len());
                } else {
                    self.scratch.rows.push(Row::Exact(self.scratch.exact.len() as u32));
                    self.scratch.exact.push(range);
                    self.scratch.row_starts.push(line_start as u32);
                }
            }
            first_field = line.fields;
            line_before = Some(line);
        }
    }

    fn locate_exact(&mut self, text: &[u8]) {
        let mut start = 0;
        while start < text.len() {
            let next = self.dialect.tokenize(text, start, &mut self.scratch.tokens);
            if self.scratch.tokens.is_blank() {
                note_blank(&mut self.blank, start, self.scratch.rows.len());
            } else {
                self.scratch.rows.push(Row::Exact(self.scratch.exact.len() as u32));
                self.scratch.exact.push(start..next);
                self.scratch.row_starts.push(start as u32);
            }
            start = next;
        }
    }

    fn parse_batch(
        &mut self,
        block: &Block,
        batch: Range<usize>,
        records: &mut [u8],
        texts: &mut RawTexts<'_>,
    ) -> Result<(), Flaw> {
        let record_size = self.plan.record_size;
        if self.plan.padding == Padding::Zeros {
            // Whatever was there may have been records of another layout.
            records.fill(0);
        }
        let (mut row, mut rest) = (batch.start, records);
        if self.is_short {
            return self.parse_short(block, batch, rest, texts);
        }
        while row < batch.end {
            let indexed = |row: &Row| matches!(row, Row::Indexed(_));
            let length = self.scratch.rows[row..batch.end].iter().take_while(|row| indexed(row)).count();
            let (out, behind) = rest.split_at_mut(length.max(1) * record_size);
            if length > 0 {
                self.parse_indexed(block, row..row + length, out, texts)?;
            } else {
                self.parse_exact(block.text(), row, out, texts)?;
            }
            row += length.max(1);
            rest = behind;
        }
        Ok(())
    }

    fn parse_short(
        &mut self,
        block: &Block,
        rows: Range<usize>,
        records: &mut [u8],
        texts: &mut RawTexts<'_>,
    ) -> Result<(), Flaw> {
        let (plan, record_size) = (self.plan, self.plan.record_size);
        let mut row = rows.start;
        while row < rows.end {
            let Ok(short) = &mut self.short else { break };
            let rest = &mut records[(row - rows.start) * record_size..];
            let other = |target: usize, text: &[u8], place: &mut [u8]| {
                convert(plan, &plan.targets[target], text, place).is_ok()
            };
            let done = short.fill(block.padded(), rest, other);
            row += done;
            if row < rows.end {
                let line = short.pass();
                let record = &mut rest[done * record_size..(done + 1) * record_size];
                self.parse_line(block.text(), line, row, record, texts)?;
                row += 1;
            }
        }
        Ok(())
    }

    fn parse_indexed(
        &mut self,
        block: &Block,
        rows: Range<usize>,
        out: &mut [u8],
        texts: &mut RawTexts<'_>,
    ) -> Result<(), Flaw> {
        let plan = self.plan;
        let first_row = rows.start;
        self.scratch.first_fields.clear();
        self.scratch.first_fields.extend(self.scratch.rows[rows].iter().map(|row| match row {
            Row::Indexed(field) | Row::Exact(field) => *field,
        }));
        let (starts, ends) = (self.scratch.index.starts(), self.scratch.index.ends());
        let mut rows = Rows { padded: block.padded(), starts, ends, first: &self.scratch.first_fields };
        let field_start = |field: usize| {
            let start = starts[field] as usize;
            start - usize::from(self.dialect.quote.is_some_and(|quote| block.text()[..start].ends_with(&[quote])))
        };
        let mut flaw = None;
        for run in &plan.runs {
            // Only an earlier row can still hold the first flaw.
            let done = run.fill(rows, out, plan.record_size, |row, i, text, place| {
                let outcome = convert(plan, &plan.targets[run.target + i], text, place);
                outcome.is_ok() || {
                    let at = field_start(rows.first[row] as usize + run.column + i);
                    let (row, column) = (first_row + row, run.column + i);
                    flaw = outcome.err().map(|fault| Flaw::field(at, row, run.target + i, column, text, fault));
                    false
                }
            });
            rows.first = &rows.first[..done];
        }
        for run in &plan.runs {
            fill_missing(plan, run, rows, out);
        }
        if !plan.raw.is_empty() {
            for (row, &first) in rows.first.iter().enumerate() {
                let row = first_row + row;
                let row_start = self.scratch.row_starts[row] as usize;
                for raw in &plan.raw {
                    let Some(column) = plan.targets[raw.element].column_of(plan.columns) else { continue };
                    let field = first as usize + column;
                    let content = &block.text()[starts[field] as usize..ends[field] as usize];
                    texts.push(block.text(), row, row_start, field_start(field), column, content);
                }
            }
        }
        flaw.map_or(Ok(()), Err)
    }

    fn parse_exact(
        &mut self,
        text: &[u8],
        row: usize,
        record: &mut [u8],
        texts: &mut RawTexts<'_>,
    ) -> Result<(), Flaw> {
        let (Row::Indexed(i) | Row::Exact(i)) = self.scratch.rows[row];
        let line = self.scratch.exact[i as usize].clone();
        self.parse_line(text, line, row, record, texts)
    }

    /// Parses the line by the exact rules.
    fn parse_line(
        &mut self,
        text: &[u8],
        line: Range<usize>,
        row: usize,
        record: &mut [u8],
        texts: &mut RawTexts<'_>,
    ) -> Result<(), Flaw> {
        self.dialect.tokenize(&text[..line.end], line.start, &mut self.scratch.tokens);
        let found = self.scratch.tokens.len();
        let line_end = self.scratch.tokens.end();
        if self.plan.exact && found != self.plan.columns {
            let at = if found < self.plan.columns { line_end } else { self.scratch.tokens.start(self.plan.columns) };
            return Err(Flaw { at, row, problem: Problem::Columns { found } });
        }
        for (i, target) in self.plan.targets.iter().enumerate() {
            let Some(column) = target.column_of(found) else {
                return Err(Flaw { at: line_end, row, problem: Problem::NoSuchColumn { target: i, found } });
            };
            let field = self.scratch.tokens.get(column);
            if target.raw {
                texts.push(text, row, line.start, self.scratch.tokens.start(column), column, field);
                continue;
            }
            convert(self.plan, target, field, target.place(record))
                .map_err(|fault| Flaw::field(self.scratch.tokens.start(column), row, i, column, field, fault))?;
        }
        Ok(())
    }

    fn explain(&self, text: &[u8], flaw: Flaw, first_record: u64, lines_before: u64) -> ReadError {
        let (line, column) = place_of(text, flaw.at, 0, lines_before);
        let at = Location { file: self.file.into(), line, column };
        let before = first_record + flaw.row as u64;
        // As in numpy: columns are counted from 1, and rows from 0 where a field is wrong, else from 1.
        let (row, expected) = (before + 1, self.plan.columns);
        match flaw.problem {
            Problem::Columns { found } if self.plan.by_dtype => ReadError::ColumnsOfDType { at, row, expected, found },
            Problem::Columns { found } => ReadError::ColumnsChanged { at, row, expected, found },
            Problem::NoSuchColumn { target, found } => {
                ReadError::NoSuchColumn { at, row, column: self.plan.targets[target].column, found }
            }
            Problem::Field { target, column, text, fault } => {
                let target = &self.plan.targets[target];
                let Target { id, cell, .. } = target;
                let problem = match fault {
                    Fault::Bad => match target.unfit_for(&text, self.plan.rules) {
                        Some(fill) => FieldProblem::Missing { fill: fill.into() },
                        None => FieldProblem::Malformed,
                    },
                    Fault::Overflow => FieldProblem::Overflow { range: cell.range() },
                    Fault::TooLong { length, width } => FieldProblem::TooLong { length, width },
                    Fault::Utf8 => FieldProblem::InvalidUtf8,
                    Fault::NotLatin1(character) => FieldProblem::NotLatin1 { character },
                    Fault::Nul => FieldProblem::Nul,
                };
                let (field, text, expected) = (id.clone(), shorten(&text), cell.scalar);
                let column = column as u64 + 1;
                ReadError::Field(Box::new(FieldError { at, row: before, column, field, text, expected, problem }))
            }
        }
    }
}

impl Flaw {
    fn field(at: usize, row: usize, target: usize, column: usize, text: &[u8], fault: Fault) -> Self {
        Self { at, row, problem: Problem::Field { target, column, text: text.to_vec(), fault } }
    }
}

fn note_blank(first: &mut Option<Blank>, at: usize, records: usize) {
    first.get_or_insert(Blank { at, records: records as u64 });
}

/// A field in all its spellings, missing values included.
#[cold]
fn convert(plan: &Plan, target: &Target, text: &[u8], place: &mut [u8]) -> Result<(), Fault> {
    match target.fill_for(text, plan.rules) {
        Some(fill) => place.copy_from_slice(fill),
        None => target.cell.convert(text, plan.rules, place)?,
    }
    Ok(())
}

/// Replaces what a kernel took for a number, for example -9999.
fn fill_missing(plan: &Plan, run: &crate::kernels::Run, rows: Rows<'_>, out: &mut [u8]) {
    for i in 0..run.count {
        let target = &plan.targets[run.target + i];
        if !target.has_missing() {
            continue;
        }
        for (&first, record) in rows.first.iter().zip(out.chunks_exact_mut(plan.record_size)) {
            let field = first as usize + run.column + i;
            let text = &rows.padded[rows.starts[field] as usize..rows.ends[field] as usize];
            if let Some(fill) = target.fill_for(text, plan.rules) {
                target.place(record).copy_from_slice(fill);
            }
        }
    }
}
