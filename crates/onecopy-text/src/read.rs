//! The read itself: threads that take portions of the text, join their lines, and parse them into the sink.
//!
//! Two things go from portion to portion in the order of the file, each by a [`Relay`]: the start of a line that was
//! cut, and the number of records and lines so far. Everything else happens at the same time.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::block::{Block, MAX_LINE};
use crate::dialect::{Dialect, count_line_ends};
use crate::error::ReadError;
use crate::layout::Schema;
use crate::options::Options;
use crate::parser::{Failure, Parser, Scratch};
use crate::plan::Plan;
use crate::preamble::Preamble;
use crate::progress::Progress;
use crate::relay::{Relay, Stop};
use crate::sink::{Expected, Sink};
use crate::source::{Feed, Portion, Source, TextSize};

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records given to the sink. Zero is no error here: the text was empty, or all of it skipped or comment.
    pub records: u64,
    /// Elements of each record.
    pub columns: usize,
    /// The names of these columns in the header line.
    pub names: Option<Vec<String>>,
    /// The first line, from 1, that was passed over because it held no record, if `max_rows` was given: such lines do not
    /// count towards it.
    pub blank_line: Option<u64>,
    /// Bytes taken from the source.
    pub bytes_in: u64,
    /// Bytes of text, after decompression.
    pub bytes_text: u64,
}

/// Reads the records of `source` into `sink`, on all cores.
///
/// Memory is bounded by a constant per thread and the longest line, besides what the sink keeps.
///
/// # Errors
/// The first error in the order of the file, see [`ReadError`]; the sink may then have got some records.
///
/// ```
/// use onecopy_text::{Layout, MemorySink, Options, Progress, Scalar, Source, read};
///
/// let layout = Layout::packed([("chr", Scalar::Bytes(5)), ("pos", Scalar::I32)]);
/// let sink = MemorySink::new();
/// let source = Source::memory("calls.txt", b"# calls\nchr1 258\nchr21 3\n");
/// let summary = read(source, &layout.into(), &Options::default(), &sink, &Progress::new())?;
/// assert_eq!(summary.records, 2);
/// assert_eq!(sink.into_bytes(), b"chr1\0\x02\x01\0\0chr21\x03\0\0\0");
/// # Ok::<(), onecopy_text::ReadError>(())
/// ```
pub fn read(
    source: Source<'_>,
    schema: &Schema,
    options: &Options,
    sink: &impl Sink,
    progress: &Progress,
) -> Result<Summary, ReadError> {
    options.validate()?;
    let file = source.name.clone();
    let feed = source.open(options.block_size.min(MAX_LINE), progress)?;
    let dialect = Dialect::new(options);
    // The first buffer comes back before the threads take theirs.
    let Buffers { mut block, scratch } = BUFFERS.take();
    let preamble = Preamble::read(&file, &*feed, &dialect, options, &mut block);
    BUFFERS.set(Buffers { block, scratch });
    let mut preamble = preamble?;
    if preamble.first_length == 0
        && let Some(error) = preamble.error
    {
        return Err(error);
    }
    let plan = Plan::new(&file, options, schema, &preamble.first)?;
    let size = feed.text_size();
    let names = preamble.first.names.as_ref().map(|names| plan.select(names));
    let expected = Expected { names: names.clone(), ..expected(&plan, options, &preamble, size) };
    sink.begin(&expected).map_err(ReadError::Sink)?;
    let rest = std::mem::take(&mut preamble.rest);
    let skipped = Total {
        lines: preamble.lines,
        bytes_text: preamble.bytes,
        blank_line: options.max_rows.filter(|&most| most > 0).and(preamble.blank),
        ..Total::default()
    };
    let job = Job {
        file: &file,
        feed: &*feed,
        dialect: &dialect,
        plan: &plan,
        sink,
        progress,
        max_rows: options.max_rows.unwrap_or(u64::MAX),
        carry: Relay::new(preamble.portions, Vec::new()),
        count: Relay::new(preamble.portions, skipped),
        stop: Stop::new(),
        failure: Mutex::new(None),
    };
    let helpers = if preamble.finished || preamble.error.is_some() { 0 } else { threads(options, size) - 1 };
    // What the preamble has read of the records counts as a portion in front of those that the feed still has.
    let outcome = preamble.error.map_or(Ok(()), Err);
    let first = Portion { ticket: preamble.portions, last: preamble.finished, bytes_in: preamble.bytes_in, outcome };
    job.run(helpers, first, &rest);
    let total = job.finish()?;
    Ok(Summary {
        records: total.records,
        columns: plan.targets.len(),
        names,
        blank_line: total.blank_line,
        bytes_in: total.bytes_in,
        bytes_text: total.bytes_text,
    })
}

/// Threads worth starting: each should have at least two blocks to do.
fn threads(options: &Options, size: TextSize) -> usize {
    let wanted = match options.threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    match size {
        TextSize::Exact(size) | TextSize::Guess(size) => {
            let blocks = usize::try_from(size).unwrap_or(usize::MAX) / options.block_size;
            wanted.min(blocks / 2).max(1)
        }
        TextSize::Unknown => wanted,
    }
}

fn expected(plan: &Plan, options: &Options, preamble: &Preamble, size: TextSize) -> Expected {
    let max_rows = options.max_rows.unwrap_or(u64::MAX);
    let limit = |records: u64| Some(records.min(max_rows));
    let record_size = plan.record_size;
    if preamble.first_length == 0 {
        return Expected { record_size, at_most: Some(0), estimate: Some(0), names: None, raw: Vec::new() };
    }
    let raw = plan.raw.clone();
    match size {
        TextSize::Exact(size) => {
            // The end of the last line may be missing.
            let bytes = size.saturating_sub(preamble.bytes) + 1;
            let shortest = plan.shortest_line(options.delimiter.is_none()) as u64;
            let at_most = limit(bytes / shortest);
            let estimate = limit(bytes / preamble.first_length as u64 + 1).min(at_most);
            Expected { record_size, at_most, estimate, names: None, raw }
        }
        _ => Expected { record_size, at_most: options.max_rows, estimate: None, names: None, raw },
    }
}

/// What a thread needs for its work, whatever the text.
#[derive(Default)]
struct Buffers {
    block: Block,
    scratch: Scratch,
}

/// Buffers are kept for the next text if this one was not of huge lines.
const MOST_KEPT: usize = 1 << 20;

thread_local! {
    /// Those of the text before: fresh memory for each of many small texts costs more than to parse them.
    static BUFFERS: Cell<Buffers> = Cell::default();
}

/// What all threads share.
struct Job<'a, S> {
    file: &'a str,
    feed: &'a dyn Feed,
    dialect: &'a Dialect,
    plan: &'a Plan,
    sink: &'a S,
    progress: &'a Progress,
    max_rows: u64,
    /// The start of a line whose end is in the next portion.
    carry: Relay<Vec<u8>>,
    count: Relay<Total>,
    stop: Stop,
    /// The failure of the lowest ticket so far.
    failure: Mutex<Option<(u64, ReadError)>>,
}

/// Sums over the portions so far.
#[derive(Debug, Default)]
struct Total {
    records: u64,
    lines: u64,
    bytes_in: u64,
    bytes_text: u64,
    blank_line: Option<u64>,
    /// Whether `max_rows` was reached.
    enough: bool,
}

impl<S: Sink> Job<'_, S> {
    fn run(&self, helpers: usize, first: Portion, rest: &[u8]) {
        thread::scope(|scope| {
            let start = |_| {
                // Fewer threads than wanted are slower and nothing worse.
                thread::Builder::new().name("onecopy-text".into()).spawn_scoped(scope, || self.work(None)).ok()
            };
            let started: Vec<_> = (0..helpers).filter_map(start).collect();
            self.work(Some((first, rest)));
            for helper in started {
                helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            }
        });
    }

    /// Takes portions until there are no more, or no more are wanted.
    fn work(&self, first: Option<(Portion, &[u8])>) {
        let _alarm = Alarm(self);
        let Buffers { mut block, scratch } = BUFFERS.take();
        let mut parser = Parser::new(self.file, self.dialect, self.plan, scratch);
        self.work_with(&mut parser, &mut block, first);
        if block.capacity() <= MOST_KEPT {
            BUFFERS.set(Buffers { block, scratch: parser.into_scratch() });
        }
    }

    fn work_with(&self, parser: &mut Parser<'_>, block: &mut Block, first: Option<(Portion, &[u8])>) {
        if let Some((portion, text)) = first {
            block.clear();
            block.push(text);
            let last = portion.last || portion.outcome.is_err();
            self.process(parser, block, portion);
            if last {
                return;
            }
        }
        while !self.stop.is_set() {
            if self.progress.is_cancelled() {
                return self.fail(0, 0, ReadError::Cancelled);
            }
            // The first portion was put in front, so tickets move up by one.
            let Some(portion) = self.feed.next(block) else { return };
            self.process(parser, block, Portion { ticket: portion.ticket + 1, ..portion });
        }
    }

    fn process(&self, parser: &mut Parser<'_>, block: &mut Block, portion: Portion) {
        let Portion { ticket, last, bytes_in, outcome } = portion;
        let bytes_text = block.text().len() as u64;
        let Some(mut carry) = self.carry.turn(ticket, &self.stop) else { return };
        block.join(&mut carry, last && outcome.is_ok(), self.dialect);
        let too_long = carry.len() > MAX_LINE;
        drop(carry);

        let found = parser.locate(block);
        let Some(mut total) = self.count.turn(ticket, &self.stop) else { return };
        let (first_record, lines_before) = (total.records, total.lines);
        let records = found.records.min(self.max_rows - first_record);
        if self.max_rows < u64::MAX && total.blank_line.is_none() {
            let before_the_last = found.blank.filter(|blank| first_record + blank.records < self.max_rows);
            total.blank_line =
                before_the_last.map(|blank| lines_before + count_line_ends(&block.text()[..blank.at]) + 1);
        }
        total.records += records;
        total.lines += found.lines;
        total.bytes_in += bytes_in;
        total.bytes_text += bytes_text;
        let enough = total.records == self.max_rows;
        if enough {
            // Before the turn ends, so that no later ticket gets as far as to fail.
            total.enough = true;
            self.stop.from(ticket + 1);
        }
        drop(total);
        if enough {
            self.wake();
        }

        match parser.parse(block, records as usize, first_record, lines_before, self.sink) {
            Ok(()) => self.progress.add_records(records),
            Err(Failure::Text { error, record }) => return self.fail(ticket, record, error),
            Err(Failure::Sink(error)) => return self.fail(ticket, first_record, ReadError::Sink(error)),
        }
        let behind = first_record + records;
        match outcome {
            _ if enough => {}
            Err(error) => self.fail(ticket, behind, error),
            Ok(()) if too_long => {
                let line = lines_before + found.lines + 1;
                self.fail(ticket, behind, ReadError::LineTooLong { file: self.file.into(), line, limit: MAX_LINE });
            }
            Ok(()) => {}
        }
    }

    /// Records the failure, after which no record from `record` on is of use, and lets only earlier tickets go on: they
    /// may hold an earlier one.
    fn fail(&self, ticket: u64, record: u64, error: ReadError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.as_ref().is_none_or(|(earlier, _)| ticket < *earlier) {
            *failure = Some((ticket, error));
        }
        drop(failure);
        self.stop.from(ticket + 1);
        self.wake();
        self.sink.end_before(record);
    }

    fn wake(&self) {
        self.carry.wake();
        self.count.wake();
    }

    fn finish(self) -> Result<Total, ReadError> {
        let total = self.count.into_inner();
        let failure = self.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, error)) = failure {
            return Err(error);
        }
        if !total.enough {
            self.feed.finish()?;
        }
        Ok(total)
    }
}

/// Stops the other threads when this one panics, so that they do not wait for its ticket.
struct Alarm<'a, 'j, S: Sink>(&'a Job<'j, S>);

impl<S: Sink> Drop for Alarm<'_, '_, S> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop.from(0);
            self.0.wake();
            self.0.sink.end_before(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Scalar;
    use crate::sample::Sample;
    use crate::sink::MemorySink;

    /// Late failures of early tickets cannot be staged with threads, so the tickets are played by hand.
    #[test]
    fn the_failure_of_the_lowest_ticket_wins_and_lower_tickets_go_on() {
        let options = Options::default();
        let (dialect, sink, progress) = (Dialect::new(&options), MemorySink::new(), Progress::new());
        let feed = Sample::read(Source::memory("test.txt", b"1\n")).unwrap();
        let preamble = Preamble::read("test.txt", &feed, &dialect, &options, &mut Block::default()).unwrap();
        let plan = Plan::new("test.txt", &options, &Schema::rows(Scalar::I8), &preamble.first).unwrap();
        sink.begin(&expected(&plan, &options, &preamble, TextSize::Unknown)).unwrap();
        let job = Job {
            file: "test.txt",
            feed: &feed,
            dialect: &dialect,
            plan: &plan,
            sink: &sink,
            progress: &progress,
            max_rows: u64::MAX,
            carry: Relay::new(0, Vec::new()),
            count: Relay::new(0, Total::default()),
            stop: Stop::new(),
            failure: Mutex::new(None),
        };
        let process = |ticket, text: &[u8]| {
            let mut block = Block::default();
            block.clear();
            block.push(text);
            let portion = Portion { ticket, last: false, bytes_in: 0, outcome: Ok(()) };
            job.process(&mut Parser::new("test.txt", &dialect, &plan, Scratch::default()), &mut block, portion);
        };
        process(0, b"1\n");
        job.fail(5, 9, ReadError::Options { message: "later".into() });
        process(1, b"2\nx\n");
        job.fail(7, 9, ReadError::Options { message: "latest".into() });
        process(2, b"y\n");
        let message = job.finish().unwrap_err().to_string();
        assert!(
            message.starts_with("test.txt:3:1: could not convert string 'x' to int8 at row 2, column 1;"),
            "{message}"
        );
        assert_eq!(sink.into_bytes(), [1, 2]);
    }
}
