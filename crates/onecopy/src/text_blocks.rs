//! A text of any length as a row of blocks: threads parse ahead of whoever takes them, by a few blocks and no further.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use onecopy_arena::{Arena, Block, Draft};
use onecopy_os::OsError;
use onecopy_text::{Batch, Expected, Options, Progress, Schema, Sink, Source, Summary, read};

use crate::tables::write_lines;
use crate::{Error, LoadError};

/// Blocks that may be under way at a time: one that is taken, and others that are filled meanwhile.
const AHEAD: u64 = 3;

/// How often a wait asks whether to stop.
const TICK: Duration = Duration::from_millis(50);

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

struct Shared {
    arena: &'static Arena,
    records: u64,
    with_lines: bool,
    progress: Progress,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    record_size: usize,
    /// Number of the block at the front.
    first: u64,
    filling: VecDeque<Filling>,
    end: Option<Result<Summary, LoadError>>,
    /// Nobody takes any more.
    abandoned: bool,
    /// What is wrong with the text is before this record.
    wanted: Option<u64>,
}

struct Filling {
    drafts: Arc<Drafts>,
    written: u64,
}

struct Drafts {
    records: Draft,
    lines: Option<Draft>,
}

impl TextBlocks {
    /// Begins to read `source`, `records` at a time.
    pub fn start(
        arena: &'static Arena,
        source: Source<'static>,
        schema: Schema,
        options: Options,
        records: u64,
    ) -> Result<Self, Error> {
        if records == 0 {
            return Err(Error::Shape("blocks of 0 records have no end; give at least 1".into()));
        }
        let shared = Arc::new(Shared {
            arena,
            records,
            with_lines: options.lines,
            progress: Progress::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let inside = Arc::clone(&shared);
        let work = move || {
            let _alarm = Alarm(&inside);
            let outcome = read(source, &schema, &options, &*inside, &inside.progress);
            inside.lock().end = Some(outcome.map_err(LoadError::from));
        };
        let reader = Builder::new().name("onecopy-blocks".into()).spawn(work);
        let reader = reader.map_err(|source| OsError { action: "start a thread that reads text".into(), source })?;
        Ok(Self { shared, reader: Some(reader), process: std::process::id() })
    }

    /// The next records; none after the last. While it waits it asks every 50 ms whether to stop: the error is then
    /// [`LoadError::Interrupted`], and the next call goes on.
    pub fn take(&self, stop: &mut dyn FnMut() -> bool) -> Result<Option<Part>, LoadError> {
        if self.process != std::process::id() {
            return Err(LoadError::Forked);
        }
        let mut state = self.shared.lock();
        loop {
            let full = state.whole(self.shared.records);
            if state.filling.front().is_some_and(|front| front.written == full) || state.is_at_the_last() {
                return self.shared.finish_front(state).map(Some);
            }
            if state.end.is_some() {
                // Told once; after that there is nothing more, also not what has been read behind an error.
                state.filling.clear();
                let end = state.end.replace(Ok(Summary::default()));
                return end.unwrap_or_else(|| Ok(Summary::default())).map(|_| None);
            }
            let waited = self.shared.changed.wait_timeout(state, TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if stop() {
                return Err(LoadError::Interrupted);
            }
        }
    }

    /// How far the reading has come.
    pub fn progress(&self) -> &Progress {
        &self.shared.progress
    }
}

impl State {
    /// Bytes of a block that is not the last.
    fn whole(&self, records: u64) -> u64 {
        records * self.record_size as u64
    }

    /// Whether all has been read, and the block at the front is what is left.
    fn is_at_the_last(&self) -> bool {
        matches!(self.end, Some(Ok(_))) && self.filling.front().is_some_and(|front| front.written > 0)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish_front(&self, mut state: MutexGuard<'_, State>) -> Result<Part, LoadError> {
        let record_size = state.record_size;
        let front = state.filling.pop_front().expect("looked at by the caller");
        state.first += 1;
        drop(state);
        self.changed.notify_all();
        let mut drafts = front.drafts;
        // Whoever wrote the last record may be about to let go of it.
        let drafts = loop {
            match Arc::try_unwrap(drafts) {
                Ok(drafts) => break drafts,
                Err(shared) => drafts = shared,
            }
            std::thread::yield_now();
        };
        let records = front.written / record_size.max(1) as u64;
        let lines = drafts.lines.map(|lines| lines.finish(records * size_of::<u64>() as u64)).transpose()?;
        Ok(Part { block: drafts.records.finish(front.written)?, lines, records, record_size })
    }

    /// The drafts of a block; waits until it may be begun. None if its records from `record` on are not wanted.
    fn drafts_of(&self, number: u64, record: u64) -> io::Result<Option<Arc<Drafts>>> {
        let mut state = self.lock();
        let is_wanted = |state: &State| state.wanted.is_none_or(|end| record < end);
        while number >= state.first + AHEAD && !state.abandoned && is_wanted(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.abandoned {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if !is_wanted(&state) {
            return Ok(None);
        }
        let place = (number - state.first) as usize;
        while state.filling.len() <= place {
            let size = state.whole(self.records);
            let records = self.arena.draft(size, size).map_err(io::Error::other)?;
            let lines = self.with_lines.then(|| {
                let size = self.records * size_of::<u64>() as u64;
                self.arena.draft(size, size).map_err(io::Error::other)
            });
            let drafts = Arc::new(Drafts { records, lines: lines.transpose()? });
            state.filling.push_back(Filling { drafts, written: 0 });
        }
        Ok(Some(Arc::clone(&state.filling[place].drafts)))
    }

    fn note_written(&self, number: u64, bytes: usize) {
        let mut state = self.lock();
        let place = (number - state.first) as usize;
        state.filling[place].written += bytes as u64;
        let full = state.filling[place].written == state.whole(self.records);
        drop(state);
        if full {
            self.changed.notify_all();
        }
    }
}

impl Sink for Shared {
    fn begin(&self, expected: &Expected) -> io::Result<()> {
        self.lock().record_size = expected.record_size;
        Ok(())
    }

    fn write(&self, batch: &Batch<'_>) -> io::Result<()> {
        let record_size = self.lock().record_size;
        let (mut records, mut lines, mut at) = (batch.records, batch.lines, batch.first_record);
        while !records.is_empty() {
            let (number, inside) = (at / self.records, at % self.records);
            let count = (self.records - inside).min((records.len() / record_size) as u64);
            let (now, rest) = records.split_at(count as usize * record_size);
            let Some(drafts) = self.drafts_of(number, at)? else { return Ok(()) };
            if let Some(draft) = &drafts.lines {
                let (now, rest) = lines.split_at(count as usize);
                write_lines(draft, inside, now)?;
                lines = rest;
            }
            drafts.records.write_at(inside * record_size as u64, now).map_err(io::Error::other)?;
            drop(drafts);
            self.note_written(number, now.len());
            (records, at) = (rest, at + count);
        }
        Ok(())
    }

    fn end_before(&self, record: u64) {
        let mut state = self.lock();
        state.wanted = Some(state.wanted.map_or(record, |end| end.min(record)));
        drop(state);
        self.changed.notify_all();
    }
}

/// Wakes who waits when the reader ends, also by a panic.
struct Alarm<'a>(&'a Shared);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.end.is_none() {
            state.end = Some(Err(LoadError::Panicked));
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

impl Drop for TextBlocks {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // The thread, and the lock that it may have held, are the parent's.
            std::mem::forget(self.reader.take());
            return;
        }
        self.shared.progress.cancel();
        self.shared.lock().abandoned = true;
        self.shared.changed.notify_all();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use onecopy_arena::Options as ArenaOptions;
    use onecopy_text::Scalar;
    use proptest::prelude::*;

    use super::*;

    fn arena() -> &'static Arena {
        Arena::create(ArenaOptions { limit: Some(64 << 20), warm: Some(0) }).unwrap()
    }

    fn numbers(count: u64) -> String {
        (0..count).fold(String::new(), |mut text, n| {
            writeln!(text, "{n}").unwrap();
            text
        })
    }

    fn start(arena: &'static Arena, text: String, threads: usize, records: u64) -> TextBlocks {
        let source = Source::stream("test.txt", io::Cursor::new(text));
        let options = Options { threads, block_size: 100, ..Options::default() };
        TextBlocks::start(arena, source, Schema::rows(Scalar::U64), options, records).unwrap()
    }

    fn next(blocks: &TextBlocks) -> Result<Option<Vec<u64>>, LoadError> {
        let part = blocks.take(&mut || false)?;
        Ok(part.map(|part| {
            assert_eq!(part.block.len(), part.records * part.record_size as u64);
            let bytes = part.block.read_at(0, part.block.len()).unwrap();
            bytes.chunks_exact(8).map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap())).collect()
        }))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn parts_are_whole_and_in_order(count in 0_u64..3000, records in 1_u64..700, threads in 1_usize..4) {
            let blocks = start(arena(), numbers(count), threads, records);
            let parts: Vec<_> = std::iter::from_fn(|| next(&blocks).unwrap()).collect();
            prop_assert!(parts.iter().rev().skip(1).all(|part| part.len() as u64 == records));
            prop_assert_eq!(parts.concat(), (0..count).collect::<Vec<_>>());
            prop_assert!(next(&blocks).unwrap().is_none());
        }
    }

    #[test]
    fn an_error_comes_in_its_place_and_once() {
        let blocks = start(arena(), numbers(250) + "x\n" + &numbers(500), 3, 100);
        assert_eq!(next(&blocks).unwrap().unwrap().len(), 100);
        assert_eq!(next(&blocks).unwrap().unwrap().len(), 100);
        assert!(next(&blocks).unwrap_err().to_string().starts_with("test.txt:251:1: could not convert string 'x'"));
        assert!(next(&blocks).unwrap().is_none());
    }

    #[test]
    fn a_write_behind_a_flaw_does_not_wait_for_blocks_that_never_come() {
        let blocks = start(arena(), String::new(), 1, 10);
        while blocks.shared.lock().end.is_none() {
            std::thread::yield_now();
        }
        blocks.shared.lock().record_size = 8;
        let batch = Batch { first_record: 10 * (AHEAD + 2), records: &[0; 8], lines: &[], raw: &[], raw_text: &[] };
        let (done, wait) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| done.send(blocks.shared.write(&batch)).unwrap());
            assert!(wait.recv_timeout(Duration::from_millis(20)).is_err(), "it is too far ahead");
            blocks.shared.end_before(15);
            let written = wait.recv_timeout(Duration::from_secs(60));
            blocks.shared.lock().abandoned = true;
            blocks.shared.changed.notify_all();
            written.expect("it returns").unwrap();
        });
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let arena = arena();
        let blocks = start(arena, numbers(200_000), 2, 1000);
        for _ in 0..100 {
            next(&blocks).unwrap().unwrap();
            let used = arena.stats().unwrap().used_bytes;
            assert!(used <= (AHEAD + 1) * 8000 + 4096, "{used}");
        }
        drop(blocks);
        assert_eq!(arena.stats().unwrap().blocks, 0);
    }

    #[test]
    fn a_wait_can_be_given_up_and_taken_up_again() {
        let (reader, mut writer) = io::pipe().unwrap();
        let source = Source::stream("pipe", reader);
        let options = Options { threads: 1, ..Options::default() };
        let blocks = TextBlocks::start(arena(), source, Schema::rows(Scalar::U64), options, 1).unwrap();
        assert!(matches!(blocks.take(&mut || true), Err(LoadError::Interrupted)));
        io::Write::write_all(&mut writer, b"7\n").unwrap();
        drop(writer);
        assert_eq!(next(&blocks).unwrap().unwrap(), [7]);
        assert!(next(&blocks).unwrap().is_none());
    }

    #[test]
    fn more_than_there_is_memory_for_is_the_arenas_error() {
        let blocks = start(arena(), numbers(10), 1, 1 << 40);
        assert!(matches!(next(&blocks), Err(LoadError::Arena(onecopy_arena::ArenaError::OutOfMemory { .. }))));
    }
}
