//! Text files as records in blocks of the arena.

use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use onecopy_arena::{Arena, ArenaError, Block, Draft};
use onecopy_text::{Batch, Expected, Options, Progress, ReadError, Schema, Sink, Source, Summary};

use crate::InOrder;
use crate::in_order::read_into;

/// Failure to load text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Of the text.
    #[error(transparent)]
    Read(ReadError),
    /// Of the arena that takes the records.
    #[error(transparent)]
    Arena(#[from] ArenaError),
    /// The caller wanted to wait no longer. Nothing is lost.
    #[error("interrupted while waiting for the next records of a text; take again to go on")]
    Interrupted,
    /// The threads that read are in the process that forked this one.
    #[error("the text is being read by the parent of this process; begin anew here")]
    Forked,
    /// The thread that reads has ended by an error of this library.
    #[error("the thread that reads the text has ended early; this is an error of onecopy: please report it")]
    Panicked,
}

impl From<ReadError> for LoadError {
    fn from(error: ReadError) -> Self {
        match error {
            // The sink reports the arena's errors through `io::Error`; here they come out again as what they are.
            ReadError::Sink(error) => match error.downcast::<ArenaError>() {
                Ok(error) => Self::Arena(error),
                Err(error) => Self::Read(ReadError::Sink(error)),
            },
            other => Self::Read(other),
        }
    }
}

/// What a text became.
#[derive(Debug)]
pub struct LoadedText {
    /// The records.
    pub records: Block,
    /// For each record the number of lines before it, if `options.lines` is set.
    pub lines: Option<Block>,
    /// What the reader says.
    pub summary: Summary,
}

/// Reads the records of a text into a block, on `options.threads` threads.
///
/// The block is as long as the records; while it grows it takes only the memory that it needs. `stored` is the size of
/// the source in bytes as it is stored, which helps to guess how large the block will be where the text is compressed.
/// Records with raw fields go through `in_order`, where another thread has to finish them.
///
/// ```
/// use onecopy::text::{Layout, Options, Progress, Scalar, Source};
///
/// let layout = Layout::packed([("chr", Scalar::Bytes(5)), ("pos", Scalar::I32)]);
/// let source = Source::memory("calls.txt", b"chr1 258\nchr21 3\n");
/// let (schema, options, progress) = (layout.into(), Options::default(), Progress::new());
/// let loaded = onecopy::load_text(onecopy::session()?, source, None, &schema, &options, &progress, None)?;
/// assert_eq!((loaded.records.len(), loaded.summary.records), (18, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_text(
    arena: &'static Arena,
    source: Source<'_>,
    stored: Option<u64>,
    schema: &Schema,
    options: &Options,
    progress: &Progress,
    in_order: Option<&InOrder>,
) -> Result<LoadedText, LoadError> {
    let sink =
        BlockSink { arena, stored, with_lines: options.lines, alone: options.threads == 1, begun: OnceLock::new() };
    let summary = read_into(&sink, in_order, source, schema, options, progress)?;
    let (records, lines) = match sink.begun.into_inner() {
        Some(Begun { records, record_size, lines }) => {
            let lines = lines.map(|lines| lines.finish(arena, summary.records * LINE)).transpose()?;
            (records.finish(arena, summary.records * record_size as u64)?, lines)
        }
        None => (arena.allocate(0)?.0, None),
    };
    Ok(LoadedText { records, lines, summary })
}

/// gzip and zstd files seldom hold more than this many times their size. One that does costs one more copy.
const LIKELY_EXPANSION: u64 = 12;
const LEAST_BOUND: u64 = 16 << 20;
/// Bytes of the number of a line.
const LINE: u64 = size_of::<u64>() as u64;

struct BlockSink {
    arena: &'static Arena,
    stored: Option<u64>,
    with_lines: bool,
    /// One thread reads; perhaps others read other texts meanwhile.
    alone: bool,
    begun: OnceLock<Begun>,
}

struct Begun {
    records: Growing,
    record_size: usize,
    lines: Option<Growing>,
}

/// Bytes of which there will be more, until they are a block.
enum Growing {
    Draft(Draft),
    /// Few bytes, held back until their number is known. Drafts side by side set aside more than they need and leave
    /// gaps between their blocks, so that these, when they are freed, are too short for the next drafts.
    Held(Mutex<Vec<u8>>),
}

/// Bytes that are held back at most: the copy is in the cache.
const MOST_HELD: u64 = 1 << 20;

impl Growing {
    fn write_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Draft(draft) => draft.write_at(position, bytes).map_err(io::Error::other),
            Self::Held(held) => {
                let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
                let (start, end) = (position as usize, position as usize + bytes.len());
                if held.len() == start {
                    held.extend_from_slice(bytes);
                } else {
                    let len = held.len().max(end);
                    held.resize(len, 0);
                    held[start..end].copy_from_slice(bytes);
                }
                Ok(())
            }
        }
    }

    fn finish(self, arena: &'static Arena, len: u64) -> Result<Block, ArenaError> {
        match self {
            Self::Draft(draft) => draft.finish(len),
            Self::Held(held) => {
                let held = held.into_inner().unwrap_or_else(PoisonError::into_inner);
                let draft = arena.draft(len, len)?;
                draft.write_at(0, &held[..len as usize])?;
                draft.finish(len)
            }
        }
    }
}

impl BlockSink {
    fn growing(&self, expected: &Expected, size: u64) -> io::Result<Growing> {
        let guess = self.stored.unwrap_or(0).saturating_mul(LIKELY_EXPANSION).max(LEAST_BOUND);
        let bound = expected.at_most.map_or(guess, |records| records.saturating_mul(size));
        // A little more than the estimate: a recycled extent that is just too small would have to be left again.
        let likely = expected.estimate.map_or(bound, |records| records.saturating_mul(size) / 16 * 17);
        if self.alone && likely <= MOST_HELD {
            return Ok(Growing::Held(Mutex::new(Vec::with_capacity(likely as usize))));
        }
        self.arena.draft(likely, bound).map(Growing::Draft).map_err(io::Error::other)
    }
}

impl Sink for BlockSink {
    fn begin(&self, expected: &Expected) -> io::Result<()> {
        let records = self.growing(expected, expected.record_size as u64)?;
        let lines = self.with_lines.then(|| self.growing(expected, LINE)).transpose()?;
        let _ = self.begun.set(Begun { records, record_size: expected.record_size, lines });
        Ok(())
    }

    fn write(&self, batch: &Batch<'_>) -> io::Result<()> {
        let Some(Begun { records, record_size, lines }) = self.begun.get() else {
            return Err(io::Error::other("records came before the reader said what to expect"));
        };
        if let Some(lines) = lines {
            lines.write_at(batch.first_record * LINE, &bytes_of(batch.lines))?;
        }
        records.write_at(batch.first_record * *record_size as u64, batch.records)
    }
}

/// Puts the lines of records, the first of which is the record `first`, into a draft.
pub(crate) fn write_lines(draft: &Draft, first: u64, lines: &[u64]) -> io::Result<()> {
    draft.write_at(first * LINE, &bytes_of(lines)).map_err(io::Error::other)
}

fn bytes_of(lines: &[u64]) -> Vec<u8> {
    lines.iter().flat_map(|line| line.to_ne_bytes()).collect()
}
