//! How the records of a block get to the sink: made in its memory, or collected for it.

use std::io;
use std::ops::Range;

use super::{Failure, Flaw, Parser};
use crate::block::Block;
use crate::place::{Lines, RawTexts};
use crate::plan::Plan;
use crate::sink::{Batch, RawField, Sink};

/// Bytes of records that are collected before the sink gets them: they should still be in the cache.
const BATCH: usize = 64 << 10;

/// What one batch has for the sink.
#[derive(Default)]
pub(super) struct Output {
    records: Vec<u8>,
    lines: Vec<u64>,
    raw: Vec<RawField>,
    raw_text: Vec<u8>,
}

impl Output {
    /// The first `whole` records, of which the first one is the record `first_record`.
    fn batch(&self, plan: &Plan, first_record: u64, whole: usize) -> Batch<'_> {
        let raw = &self.raw[..whole * plan.raw.len()];
        Batch {
            first_record,
            records: &self.records[..whole * plan.record_size],
            lines: if plan.lines { &self.lines[..whole] } else { &[] },
            raw,
            raw_text: &self.raw_text[..raw.last().map_or(0, |field| field.end)],
        }
    }
}

/// Rows that are records now, and what is wrong with the one behind them.
struct Made {
    rows: usize,
    flaw: Option<Flaw>,
}

impl Made {
    /// Of some rows. What stands before a flaw is whole, and who reads in parts shall have it.
    fn of(rows: &Range<usize>, parsed: Result<(), Flaw>) -> Self {
        let flaw = parsed.err();
        Self { rows: flaw.as_ref().map_or(rows.len(), |flaw| flaw.row - rows.start), flaw }
    }
}

impl Parser<'_> {
    /// Parses the first `count` rows that [`locate`](Self::locate) found in `block`; `first_record` and `lines_before`
    /// are the records and lines of the file before the block.
    pub(crate) fn parse(
        &mut self,
        block: &Block,
        count: usize,
        first_record: u64,
        lines_before: u64,
        sink: &impl Sink,
    ) -> Result<(), Failure> {
        let record_size = self.plan.record_size;
        let per_batch = (BATCH / record_size.max(1)).max(1);
        let mut out = std::mem::take(&mut self.scratch.out);
        let mut lines = Lines::from(lines_before);
        let (mut first, mut outcome) = (0, Ok(()));
        while first < count && outcome.is_ok() {
            let rows = first..first + per_batch.min(count - first);
            let made = match self.fill(block, rows.clone(), first_record, sink) {
                Ok(None) => self.collect(block, rows, &mut out, &mut lines, first_record, sink),
                Ok(Some(made)) => Ok(made),
                Err(error) => Err(error),
            };
            outcome = match made {
                Ok(Made { rows, flaw: None }) => {
                    first += rows;
                    Ok(())
                }
                Ok(Made { flaw: Some(flaw), .. }) => {
                    let record = first_record + flaw.row as u64;
                    let error = self.explain(block.text(), flaw, first_record, lines_before);
                    Err(Failure::Text { error, record })
                }
                Err(error) => Err(Failure::Sink(error)),
            };
        }
        self.scratch.out = out;
        outcome
    }

    /// Parses rows straight into memory of the sink, if it has some: as many as fit there.
    fn fill(
        &mut self,
        block: &Block,
        rows: Range<usize>,
        first_record: u64,
        sink: &impl Sink,
    ) -> io::Result<Option<Made>> {
        let plan = self.plan;
        if plan.record_size == 0 || plan.lines {
            return Ok(None);
        }
        let mut made = None;
        let mut make = |records: &mut [u8]| {
            let fitting = rows.start..rows.start + records.len() / plan.record_size;
            let (mut fields, mut content) = (Vec::new(), Vec::new());
            let mut texts = RawTexts { fields: &mut fields, content: &mut content, lines: &[], first_row: rows.start };
            let parsed = self.parse_batch(block, fitting.clone(), records, &mut texts);
            made.insert(Made::of(&fitting, parsed)).rows
        };
        sink.fill(first_record + rows.start as u64, rows.len(), &mut make)?;
        // Where there is room for none, they have to be collected.
        Ok(made.filter(|made| made.rows > 0 || made.flaw.is_some()))
    }

    /// Parses rows into `out`, and has the sink take them from there.
    fn collect(
        &mut self,
        block: &Block,
        rows: Range<usize>,
        out: &mut Output,
        before: &mut Lines,
        first_record: u64,
        sink: &impl Sink,
    ) -> io::Result<Made> {
        let (plan, size) = (self.plan, rows.len() * self.plan.record_size);
        out.records.resize(out.records.len().max(size), 0);
        out.lines.clear();
        if plan.lines {
            let starts = &self.scratch.row_starts[rows.clone()];
            out.lines.extend(starts.iter().map(|&start| before.before(block.text(), start)));
        }
        let Output { records, lines, raw, raw_text } = &mut *out;
        raw.clear();
        raw_text.clear();
        let mut texts = RawTexts { fields: raw, content: raw_text, lines, first_row: rows.start };
        let parsed = self.parse_batch(block, rows.clone(), &mut records[..size], &mut texts);
        let made = Made::of(&rows, parsed);
        sink.write(&out.batch(plan, first_record + rows.start as u64, made.rows))?;
        Ok(made)
    }
}
