//! A text of any length as a row of blocks: threads parse ahead of whoever takes them, by a few blocks and no further.

mod filling;
mod supply;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use onecopy_arena::{Arena, Block};
use onecopy_os::OsError;
use onecopy_text::{Options, Progress, Raw, Schema, Source};

use filling::{Alarm, Shared};
use supply::{Supplied, Supply};

use crate::in_order::read_into;
use crate::{Error, InOrder, LoadError, Next, Unfinished};

/// How often a wait asks whether to stop.
const TICK: Duration = Duration::from_millis(50);

const PAGE: u64 = 4096;

/// What the thread that takes blocks does while it waits for them. A closure that says whether to stop is enough for a
/// text that needs nothing else.
pub trait Meanwhile {
    /// Whether to wait no longer; asked every 50 ms, and after each of the others.
    fn stop(&mut self) -> bool;

    /// Makes the raw elements of the next records, in the order of the text. `InOrder` knows which they are.
    ///
    /// # Errors
    /// How many records were finished before one that cannot be: the text ends with an error there.
    fn finish(&mut self, batch: &mut Unfinished, elements: &InOrder) -> Result<(), usize> {
        let _ = (batch, elements);
        Err(0)
    }

    /// The next bytes of a text that is supplied; none of them at its end. `None` if they cannot be had: the text ends
    /// with an error there.
    fn supply(&mut self) -> Option<Vec<u8>> {
        None
    }
}

impl<F: FnMut() -> bool> Meanwhile for F {
    fn stop(&mut self) -> bool {
        self()
    }
}

/// How much of a text becomes a block. A number stands for so many records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockSize {
    /// So many records.
    Records(u64),
    /// As many records as fit into so many bytes, but at least one. How long a record is may be known only when the text
    /// is read. Where there is room for them, they fill whole pages of memory, so that blocks can be written one behind
    /// the other past the page cache.
    Bytes(u64),
}

impl BlockSize {
    /// Records of a block, if each has so many bytes.
    fn records(self, record_size: u64) -> u64 {
        let bytes = match self {
            Self::Records(records) => return records,
            Self::Bytes(bytes) => bytes,
        };
        let most = bytes / record_size.max(1);
        // A page is a power of two, of which a record has some factors.
        let filling_pages = PAGE >> record_size.trailing_zeros().min(PAGE.trailing_zeros());
        (most - most % filling_pages).max(most.min(filling_pages)).max(1)
    }
}

impl From<u64> for BlockSize {
    fn from(records: u64) -> Self {
        Self::Records(records)
    }
}

/// The records of a text, so many at a time, in the order of the text.
///
/// Memory is bounded by a few blocks, however long the text is. What is wrong with the text is told in its place: the
/// whole blocks before come first. A block can be kept, sent and dropped as any other.
///
/// ```
/// use onecopy::TextBlocks;
/// use onecopy::text::{Options, Scalar, Schema, Source};
///
/// let source = Source::stream("numbers", &b"1\n2\n3\n"[..]);
/// let rows = Schema::rows(Scalar::I32);
/// let blocks = TextBlocks::start(onecopy::session()?, source, rows, Options::default(), 2)?;
/// let lengths: Vec<u64> = std::iter::from_fn(|| blocks.take(&mut || false).unwrap()).map(|part| part.records).collect();
/// assert_eq!(lengths, [2, 1]);
/// # Ok::<(), onecopy::Error>(())
/// ```
pub struct TextBlocks {
    shared: Arc<Shared>,
    in_order: Option<Arc<InOrder>>,
    supply: Option<Arc<Supply>>,
    reader: Option<JoinHandle<()>>,
    /// Threads do not come along when a process forks.
    process: u32,
}

/// Some records of a text.
#[derive(Debug)]
pub struct Part {
    /// Their bytes.
    pub block: Block,
    /// For each of them the number of lines before it, if `options.lines` is set.
    pub lines: Option<Block>,
    /// How many they are.
    pub records: u64,
    /// Bytes of each.
    pub record_size: usize,
}

impl TextBlocks {
    /// Begins to read `source`, `size` at a time. Raw fields have to be made by whoever takes the blocks.
    pub fn start(
        arena: &'static Arena,
        source: Source<'static>,
        schema: Schema,
        options: Options,
        size: impl Into<BlockSize>,
    ) -> Result<Self, Error> {
        Self::begin(Shared::new(arena, size.into(), options.lines)?, source, None, schema, options)
    }

    /// Begins to read what whoever takes the blocks supplies, and messages call `name`.
    ///
    /// ```
    /// use onecopy::text::{Options, Scalar, Schema};
    /// use onecopy::{Meanwhile, TextBlocks};
    ///
    /// struct Numbers(std::ops::Range<u32>);
    ///
    /// impl Meanwhile for Numbers {
    ///     fn stop(&mut self) -> bool {
    ///         false
    ///     }
    ///     fn supply(&mut self) -> Option<Vec<u8>> {
    ///         Some(self.0.next().map_or_else(Vec::new, |number| format!("{number}\n").into()))
    ///     }
    /// }
    ///
    /// let rows = Schema::rows(Scalar::I32);
    /// let blocks = TextBlocks::start_supplied(onecopy::session()?, "numbers", rows, Options::default(), 2)?;
    /// let mut numbers = Numbers(0..3);
    /// let lengths: Vec<u64> = std::iter::from_fn(|| blocks.take(&mut numbers).unwrap()).map(|part| part.records).collect();
    /// assert_eq!(lengths, [2, 1]);
    /// # Ok::<(), onecopy::Error>(())
    /// ```
    pub fn start_supplied(
        arena: &'static Arena,
        name: &str,
        schema: Schema,
        options: Options,
        size: impl Into<BlockSize>,
    ) -> Result<Self, Error> {
        let shared = Shared::new(arena, size.into(), options.lines)?;
        let supply = Arc::new(Supply::new(Arc::clone(&shared.bell)));
        let source = Source::stream(name, Supplied(Arc::clone(&supply)));
        Self::begin(shared, source, Some(supply), schema, options)
    }

    fn begin(
        shared: Arc<Shared>,
        source: Source<'static>,
        supply: Option<Arc<Supply>>,
        schema: Schema,
        options: Options,
    ) -> Result<Self, Error> {
        let in_order = (options.raw != Raw::Nothing).then(|| Arc::new(InOrder::ringing(Arc::clone(&shared.bell))));
        let (inside, converted) = (Arc::clone(&shared), in_order.clone());
        let work = move || {
            let _alarm = Alarm(&inside);
            let outcome = read_into(&*inside, converted.as_deref(), source, &schema, &options, &inside.progress);
            inside.end(outcome.map_err(LoadError::from));
        };
        let reader = Builder::new().name("onecopy-blocks".into()).spawn(work);
        let reader = reader.map_err(|source| OsError { action: "start a thread that reads text".into(), source })?;
        Ok(Self { shared, in_order, supply, reader: Some(reader), process: std::process::id() })
    }

    /// The next records; none after the last. While it waits, `meanwhile` is asked every 50 ms whether to stop: the error
    /// is then [`LoadError::Interrupted`], and the next call goes on.
    pub fn take(&self, meanwhile: &mut dyn Meanwhile) -> Result<Option<Part>, LoadError> {
        if self.process != std::process::id() {
            return Err(LoadError::Forked);
        }
        loop {
            if let Some(outcome) = self.shared.look() {
                return outcome;
            }
            if !self.help(meanwhile) {
                self.shared.bell.wait(TICK);
            }
            if meanwhile.stop() {
                return Err(LoadError::Interrupted);
            }
        }
    }

    /// Does what only this thread can do; false if there is nothing of that kind.
    fn help(&self, meanwhile: &mut dyn Meanwhile) -> bool {
        if let Some(in_order) = &self.in_order
            && let Next::Batch(mut batch) = in_order.next(Duration::ZERO)
        {
            match meanwhile.finish(&mut batch, in_order) {
                Ok(()) => in_order.finish(batch),
                Err(records) => in_order.end_after(batch, records),
            }
            return true;
        }
        match &self.supply {
            Some(supply) if supply.is_hungry() => {
                meanwhile.supply().map_or_else(|| supply.refuse(), |piece| supply.give(piece));
                true
            }
            _ => false,
        }
    }

    /// The names that the header gives to the columns of the records; known when the first of them have been taken.
    pub fn names(&self) -> Option<Vec<String>> {
        self.shared.names()
    }

    /// Whether all of the text has been read, so that only blocks are left to take, if any.
    pub fn is_read(&self) -> bool {
        self.shared.is_read()
    }

    /// Bytes of the text, decompressed; known when the last of its records have been taken.
    pub fn text_bytes(&self) -> Option<u64> {
        self.shared.text_bytes()
    }

    /// How far the reading has come.
    pub fn progress(&self) -> &Progress {
        &self.shared.progress
    }
}

impl Drop for TextBlocks {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // The thread, and the lock that it may have held, are the parent's.
            std::mem::forget(self.reader.take());
            return;
        }
        self.shared.abandon();
        if let Some(in_order) = &self.in_order {
            in_order.refuse();
        }
        if let Some(supply) = &self.supply {
            supply.refuse();
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
