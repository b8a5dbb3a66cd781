//! Text files as records in blocks of the arena.

use std::io;
use std::sync::OnceLock;

use onecopy_arena::{Arena, ArenaError, Block, Draft};
use onecopy_text::{Expected, Options, Progress, ReadError, Schema, Sink, Source, Summary, read};

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

/// Reads the records of a text into a block, on `options.threads` threads.
///
/// The block is as long as the records; while it grows it takes only the memory that it needs. `stored` is the size of
/// the source in bytes as it is stored, which helps to guess how large the block will be where the text is compressed.
///
/// ```
/// use onecopy::text::{Layout, Options, Progress, Scalar, Source};
///
/// let layout = Layout::packed([("chr", Scalar::Bytes(5)), ("pos", Scalar::I32)]);
/// let source = Source::memory("calls.txt", b"chr1 258\nchr21 3\n");
/// let (block, summary) =
///     onecopy::load_text(onecopy::session()?, source, None, &layout.into(), &Options::default(), &Progress::new())?;
/// assert_eq!((block.len(), summary.records), (18, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_text(
    arena: &'static Arena,
    source: Source<'_>,
    stored: Option<u64>,
    schema: &Schema,
    options: &Options,
    progress: &Progress,
) -> Result<(Block, Summary), LoadError> {
    let sink = BlockSink { arena, stored, begun: OnceLock::new() };
    let summary = read(source, schema, options, &sink, progress)?;
    let block = match sink.begun.into_inner() {
        Some((draft, record)) => draft.finish(summary.records * record as u64)?,
        None => arena.allocate(0)?.0,
    };
    Ok((block, summary))
}

/// gzip and zstd files seldom hold more than this many times their size. One that does costs one more copy.
const LIKELY_EXPANSION: u64 = 12;
const LEAST_BOUND: u64 = 16 << 20;

struct BlockSink {
    arena: &'static Arena,
    stored: Option<u64>,
    /// The draft and the size of a record.
    begun: OnceLock<(Draft, usize)>,
}

impl Sink for BlockSink {
    fn begin(&self, expected: &Expected) -> io::Result<()> {
        let record = expected.record_size as u64;
        let guess = self.stored.unwrap_or(0).saturating_mul(LIKELY_EXPANSION).max(LEAST_BOUND);
        let bound = expected.at_most.map_or(guess, |records| records.saturating_mul(record));
        // A little more than the estimate: a recycled extent that is just too small would have to be left again.
        let likely = expected.estimate.map_or(bound, |records| records.saturating_mul(record) / 16 * 17);
        let draft = self.arena.draft(likely, bound).map_err(io::Error::other)?;
        let _ = self.begun.set((draft, expected.record_size));
        Ok(())
    }

    fn write(&self, first_record: u64, records: &[u8]) -> io::Result<()> {
        let Some((draft, record)) = self.begun.get() else {
            return Err(io::Error::other("records came before the reader said what to expect"));
        };
        draft.write_at(first_record * *record as u64, records).map_err(io::Error::other)
    }
}
